"""Label budgets: how many labels reach a target loss, which option is cheapest, which run to make next; and forecasts
stored before the outcome exists, with a hash that shows any later change, beside what was measured.
"""

import json
import numbers
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

import numpy as np
import numpy.typing as npt
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy.special import ndtr, ndtri

from gzlib.errors import UserError
from gzlib.files import FilePath, read_checked, replace_file
from gzlib.fitting.curves import Floor, check_labelled, flattened, unflattened
from gzlib.fitting.ensemble import MAX_POINTS, SIGMA, Pilot, draw_laws, look_ahead, noise_prior
from gzlib.fitting.forecasting import (
    extrapolate_pilots,
    forecast,
    is_replicated,
    judge_origins,
    mistrust,
    read_pilots,
    read_prior,
    share_noise,
    stack_members,
)
from gzlib.fitting.laws import LawLike, get_law
from gzlib.fitting.optimise import log_gradient
from gzlib.identity import content_hash

Cost = Callable[[np.ndarray], npt.ArrayLike]  # of a run of each of the sizes (sizes,)

MAX_FACTOR = 1000.0  # labels beyond this multiple of the largest pilot are not forecast
GRID = 241
SAFE = 0.95  # probability with which a safe number of labels is enough
EVEN = 0.5  # a target that is reached with a lower probability is out of reach
RISKS = (EVEN, 0.2, 0.05)
LEADS = np.concatenate([[0.0], np.geomspace(0.01, np.log(MAX_FACTOR), 80)])  # ln(size / last size) of an arrival
KNOTS = LEADS[::4]  # between them, the forecast's median is straight
TOGETHER = 50  # curves whose laws are drawn together
SPREAD = (0.1, 0.2, 0.6)  # of ln(lead) about draws and members: see ``Arrival.below``; from benchmarks/planning.py
SPREAD_DOF = 4  # has a distribution function in closed form, see ``_student``
MOST_SCATTER = 1.0
HALVINGS = 36  # of an interval of ln(distance): to 1e-9 of it
CERTAIN = 0.999
RUNG, MOST_RUNGS = 0.02, 250  # steps of ln(loss) at which harder targets are kept from needing fewer labels
STAY = 0.2  # weight of laws and members where they are, as the forecast's median may level off too early
REPLICATED = 0.25  # share of ``SPREAD`` that laws need where replicates tell the noise


def planning_grid(sizes: npt.ArrayLike, max_factor: float = MAX_FACTOR) -> np.ndarray:
    """Sizes at which a plan looks at its forecast: those measured, and even steps in ln x to ``max_factor`` times."""
    sizes = np.asarray(sizes, float)
    return np.union1d(sizes, np.geomspace(sizes.min(), sizes.max() * max_factor, GRID))


def check_target(target: object) -> None:
    """Refuse a target loss that is none.

    Raises
    ------
    UserError
    """
    number = isinstance(target, numbers.Real) and not isinstance(target, bool)
    if not (number and 0 < float(cast(float, target)) < np.inf):
        raise UserError(f"The target loss is {target!r}: give a positive number below the losses of the pilot.")


def labels_needed(
    loss: xr.DataArray,
    target: float,
    *,
    x: str = "n_train",
    replicate: str = "seed",
    level: float = 0.95,
    max_factor: float = MAX_FACTOR,
    kind: str = "mean",
    law: LawLike | None = None,
    floor: Floor | None = None,
    floor_sd: Floor | None = None,
    checkpoints: bool | None = None,
    risks: Sequence[float] = RISKS,
) -> xr.Dataset:
    """Training size at which each curve reaches a target loss.

    All numbers of labels are quantiles of one distribution: where the curve reaches the target *if it can be reached at
    all*, as the posterior over laws and the members of the forecasting ensemble have it, spread as far as the outcomes
    of public curves were (``benchmarks/planning.py``). How probable that is stands beside them. Where the median of
    ``forecast`` is at the target, half of all that may happen has arrived: near there, and a little later, for so
    public curves came (``SPREAD``), lies ``labels`` if the target is certain to be reached, and before where it is not.

    Parameters
    ----------
    loss : DataArray with dims (..., x, replicate)
        The pilot.
    target : float
        Positive.
    level
        Coverage of the interval of sizes.
    max_factor
        Sizes are searched up to this multiple of the largest; where no measured mean is at the target yet, from the
        curve's largest measured size on.
    kind : str
        Whether the average over many runs is to be at the target ("mean") or one run ("new_run").
    law, floor, floor_sd, checkpoints
        See ``forecast``.
    risks : list of float, optional
        Probabilities of missing the target for which numbers of labels are named; empty for none.

    Returns
    -------
    Dataset over the remaining dims: ``labels`` (median), ``labels_low`` and ``labels_high`` (ends of the interval),
    ``labels_safe`` (enough with a probability of ``SAFE``), ``labels_by_risk`` (..., risk), enough but for that
    probability; each infinite beyond ``max_factor``. ``reachable``, the probability that the target can be reached
    within ``MAX_FACTOR``; where it is below one half, ``labels`` is infinite. ``status``: "already reached" (by a
    measured mean, and rather not by luck: ``labels`` is where the measured means cross the target, the other numbers
    are within the pilot as far as the noise of its runs lets them be, else forecast), "forecast", "out of reach"
    (``labels`` is infinite) or "no forecast" (too few sizes); ``note``, what a forecast rests on.
    """
    check_labelled(loss, "gz.plan takes curves of any kind")
    if bad := [risk for risk in risks if not 0 < risk < 1]:
        raise UserError(f"The risk {bad[0]:g} is not a probability: give numbers between 0 and 1, such as 0.05.")
    check_target(target)
    if not 1 < max_factor < np.inf:
        raise UserError(f"max_factor is {max_factor}; give a number above 1, the largest size that is looked at.")
    sizes = loss[x].values.astype(float)
    known: dict[str, Any] = {"x": x, "replicate": replicate, "law": law, "floor": floor, "floor_sd": floor_sd}
    ahead = forecast(loss, sizes.max(), level=level, kind=kind, checkpoints=checkpoints, **known)
    found = read_pilots(loss, **known)
    rest = [dim for dim in ahead["loss"].dims if dim != x]
    tail = 0.5 * (1 - level)
    enough = np.array([EVEN, tail, 1 - tail, SAFE, *(1 - np.asarray(risks, float))])
    labels, reachable = np.full((found.count, len(enough)), np.nan), np.full(found.count, np.nan)
    log_target, log_size = float(np.log(target)), np.log(found.log_mean[x].values)
    log_mean = flattened(found.log_mean, rest, x)
    reached = np.nanmin(log_mean, axis=1, initial=np.inf) <= log_target
    for k in np.flatnonzero(reached):
        there = np.isfinite(log_mean[k])
        labels[k, 0], reachable[k] = np.exp(_first_below(log_size[there], log_mean[k, there], log_target)), 1.0
    for i, pilot, descent in zip(found.usable, found.pilots, find_descents(found.pilots), strict=True):
        arrived, chance = find_arrival(pilot, descent, log_target, enough, kind=kind)
        size = np.exp(np.minimum(arrived, 700))
        labels[i] = np.where(size <= max_factor * sizes.max(), size, np.inf)  # what nothing reaches is NaN, so infinite
        reachable[i] = chance
        reached[i] &= bool(arrived[0] <= pilot.log_x[-1])
    labels[:, 0] = np.where(reachable < EVEN, np.inf, labels[:, 0])
    status = np.where(np.isfinite(labels[:, 0]), "forecast", "out of reach")
    status = np.where(np.isin(np.arange(found.count), found.usable), status, "no forecast")
    status = np.where(reached, "already reached", status)
    names = ("labels", "labels_low", "labels_high", "labels_safe")
    columns: dict[str, np.ndarray] = {name: labels[:, k] for k, name in enumerate(names)}
    columns |= {"reachable": reachable, "status": status, "note": flattened(ahead["status"], rest)}
    coords: dict[Hashable, Any] = {}
    if len(risks):
        columns["labels_by_risk"] = labels[:, len(names) :]
        coords["risk"] = np.asarray(risks, float)
    attrs = {"target": float(target), "level": level, "x": x, "calibrated": ahead.attrs["calibrated"]}
    return unflattened(columns, ahead, rest, tails={"labels_by_risk": ["risk"]}, coords=coords, attrs=attrs)


@dataclass(frozen=True)
class Arrival:
    """Where a curve reaches a target, as each draw from the posterior over laws and each member of the ensemble has it.

    ``log_lead`` of those that reach it within ``MAX_FACTOR``: ln of the distance ln(size / last size); ``scatter``, its
    standard deviation from the noise of one run; ``weight``, how much each counts, in all the probability that the
    target is reached; ``width``, what the spread learned from public curves is multiplied by.
    """

    log_lead: np.ndarray
    scatter: np.ndarray
    weight: np.ndarray
    width: np.ndarray

    @property
    def chance(self) -> float:
        """Probability that the target is reached."""
        return min(float(self.weight.sum()), 1.0)

    def below(
        self, log_lead: npt.ArrayLike, spread: tuple[float, float, float] = SPREAD, *, kind: str = "mean"
    ) -> np.ndarray:
        """Probability that it is reached by ``log_lead`` (...), if it is at all.

        What laws and members say is spread by a Student's t in ln(distance). ``spread`` has its shift; its width times
        the root of the distance, for a law is off that drifts; and its width over ``scatter``. Of a ``kind`` "new_run"
        the run's own scatter comes to it.
        """
        shift, own = spread[0] * self.width, spread[1] * self.width
        noise = np.hypot(spread[2] * self.width, float(kind == "new_run"))
        scale = np.hypot(own * np.exp(-0.5 * self.log_lead), noise * self.scatter)
        off = (np.asarray(log_lead)[..., None] - shift - self.log_lead) / scale
        share: np.ndarray = _student(off) @ self.weight / self.weight.sum()
        return share

    def lead(
        self, probability: npt.ArrayLike, spread: tuple[float, float, float] = SPREAD, *, kind: str = "mean"
    ) -> np.ndarray:
        """Distances by which it is reached with these probabilities, if it is at all; NaN where nothing reaches it."""
        wanted = np.asarray(probability, float)
        if not self.weight.sum() > 0:
            return np.full(wanted.shape, np.nan)
        low = np.full(wanted.shape, self.log_lead.min() - 30)
        high = np.full(wanted.shape, self.log_lead.max() + 30)
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            short = self.below(middle, spread, kind=kind) < wanted
            low, high = np.where(short, middle, low), np.where(short, high, middle)
        out: np.ndarray = np.exp(high)
        return out


def _student(t: np.ndarray) -> np.ndarray:
    """Distribution function of Student's t with four degrees of freedom; ten times as fast as scipy's of any number."""
    tail = 1 / np.sqrt(1 + 0.25 * t * t)
    share: np.ndarray = 0.5 + 0.25 * t * tail * (1 + 0.5 * tail * tail)
    return share


@dataclass(frozen=True)
class Descent:
    """How a curve goes on after its last size, as each draw from the posterior over laws and each member has it.

    ``mean`` (curves, ``LEADS``): ln(loss); ``variance`` (curves,), of one run; ``weight`` (curves,), in all one;
    ``width`` (curves,), see ``Arrival``; ``floor``, what is known of the irreducible loss.
    """

    mean: np.ndarray
    variance: np.ndarray
    weight: np.ndarray
    width: np.ndarray
    floor: tuple[float, float] | None

    def arrival(self, log_target: float) -> Arrival:
        """When it reaches a target ln(loss)."""
        lead, slope = _crossings(self.mean, log_target)
        possible = self.floor is None or log_target > np.log(max(self.floor[0], 1e-300))
        reached = np.isfinite(lead) & possible
        lead, slope = np.maximum(lead[reached], LEADS[1]), np.maximum(slope[reached], 1e-3)
        scatter = np.minimum(np.sqrt(self.variance[reached]) / (slope * lead), MOST_SCATTER)
        return Arrival(np.log(lead), scatter, self.weight[reached], self.width[reached])

    def leads(self, log_targets: npt.ArrayLike, probabilities: npt.ArrayLike, *, kind: str = "mean") -> np.ndarray:
        """``Arrival.lead``, and no less than an easier target needs: (targets, probabilities), NaN if nothing arrives.

        A target that is nearly out of reach is reached by steep descents alone, and they reach it early: of those, a
        harder target could seem to need fewer labels. Easier targets are looked at each ``RUNG`` of ln(loss) from the
        last size down; the number lies between those of the two next to it.
        """
        targets = np.atleast_1d(np.asarray(log_targets, float))
        own = np.stack([self.arrival(target).lead(probabilities, kind=kind) for target in targets])
        start = float(self.weight @ self.mean[:, 0])
        rungs = start - RUNG * np.arange(1, MOST_RUNGS)
        wanted = targets[np.isfinite(own).all(axis=1)]
        rungs = rungs[: np.sum(rungs >= wanted.min(initial=np.inf)) + 1]  # one below the hardest
        certain = int(np.sum([self.arrival(rung).chance > CERTAIN for rung in rungs]))
        rungs = rungs[max(certain - 1, 0) :]  # before, each descent arrives, and later than at the rung above
        least = np.zeros((len(rungs) + 1, own.shape[1]))
        for k, rung in enumerate(rungs):
            easier = self.arrival(rung).lead(probabilities, kind=kind)
            least[k + 1] = np.where(np.isnan(easier), np.inf, np.maximum(least[k], easier))
        above = np.sum(rungs[None] >= targets[:, None], axis=1)
        most = np.append(least[1:], np.full((1, own.shape[1]), np.inf), axis=0)
        bounded: np.ndarray = np.where(np.isnan(own), own, np.clip(own, least[above], most[above]))
        return bounded


def find_arrival(
    pilot: Pilot, descent: Descent, log_target: float, probabilities: npt.ArrayLike, *, kind: str = "mean"
) -> tuple[np.ndarray, float]:
    """ln(size) by which a curve reaches a target with these probabilities, if it does at all; and how probable that is.

    Where no measured mean is at the target, as :meth:`Descent.leads` has it. Else the target is reached within the
    pilot with some probability: up to it the measured means, each moved as far as its noise may have moved it, say
    where they cross the target; beyond it those of the descents go on that are above the target at the last size. NaN
    where nothing arrives.
    """
    wanted, last = np.asarray(probabilities, float), pilot.log_x[-1]
    if pilot.log_y.min() > log_target:
        return last + descent.leads(log_target, wanted, kind=kind)[0], descent.arrival(log_target).chance
    start, variance, one_run = descent.mean[:, 0], descent.variance, kind == "new_run"
    there = ndtr((log_target - start) / np.sqrt(variance)) if one_run else (start <= log_target).astype(float)
    later = replace(descent, weight=descent.weight * (1 - there)).arrival(log_target)
    now, then = float(descent.weight @ there), float(later.weight.sum())
    share = wanted * (now + then)
    off = ndtri(wanted)[:, None] * noise_of_means(pilot, descent) * np.sqrt(1 + one_run * pilot.runs)
    within = np.array([_first_below(pilot.log_x, pilot.log_y + moved, log_target) for moved in off])
    beyond = last + later.lead(np.clip((share - now) / max(then, 1e-12), 1e-9, 1 - 1e-9), kind=kind)
    return np.where(share <= now, np.minimum(within, last), beyond), min(round(now + then, 12), 1.0)


def noise_of_means(pilot: Pilot, descent: Descent) -> np.ndarray:
    """Standard deviation of each measured mean ln(loss), (sizes,), from the noise of its runs."""
    sd: np.ndarray = np.sqrt(descent.weight @ descent.variance / pilot.precision)
    return sd


def find_descents(pilots: Sequence[Pilot]) -> list[Descent]:
    """How each pilot's curve goes on.

    Draws from laws and members of the ensemble say how far curves may part; all are moved in ln(loss), so that half of
    them lie on each side of the median of ``forecast``. Laws and members count alike, as on public curves; where
    replicates tell noise from misfit, as in ``forecast``: the posterior of the laws is right but for a stated doubt,
    and spread by ``REPLICATED`` of what public curves need. So narrow a spread misses the truth where a law that the
    pilot allows holds and the forecast is off, so that there ``STAY`` of the weight is not moved.
    """
    out: list[Descent] = []
    drawn: dict[int, tuple[np.ndarray, ...]] = {}
    free = [i for i, pilot in enumerate(pilots) if pilot.law is None]
    noise = share_noise(pilots)
    for length in {min(len(pilots[i].log_x), MAX_POINTS) for i in free}:
        alike = [i for i in free if min(len(pilots[i].log_x), MAX_POINTS) == length]
        for first in range(0, len(alike), TOGETHER):
            chosen = alike[first : first + TOGETHER]
            own = [pilots[i] for i in chosen]
            alone = noise_prior(own, np.zeros((1, len(SIGMA))), np.zeros((len(own), 1)))
            dof, scale = np.array(
                [noise.get(i, known) for i, known in zip(chosen, zip(*alone, strict=True), strict=True)]
            ).T
            found = draw_laws(own, np.tile(LEADS, (len(own), 1)), (dof, scale))
            variance = (found.squares + found.scale[:, None]) / found.dof[:, None]
            doubt = mistrust(own, found)
            for k, (i, (at, share)) in enumerate(zip(chosen, found.even(), strict=True)):
                sure, wide = (1 - doubt[k], REPLICATED) if is_replicated(pilots[i]) else (0.5, 1.0)
                drawn[i] = (found.mean[k, at], variance[k, at], sure * share, np.full(len(at), wide))
    prior = read_prior()
    judged = judge_origins(pilots)
    ahead = look_ahead(pilots, [pilot.log_x[-1] + LEADS for pilot in pilots])
    lines = extrapolate_pilots(pilots, [pilot.log_x[-1] + KNOTS for pilot in pilots], levels=[EVEN])
    for i, (said, own_origins) in enumerate(zip(ahead, judged, strict=True)):
        possible = np.isfinite(said.mean).all(axis=1)
        errors = np.array([origin.errors for origin in own_origins]).reshape(-1, len(possible))
        importance = np.array([origin.importance for origin in own_origins])
        weights = stack_members(errors, importance, prior, possible)[1][possible]
        left = 1 - (drawn[i][2].sum() if i in drawn else 0.0)
        members = (said.mean[possible], said.noise[possible], left * weights, np.ones(int(possible.sum())))
        parts: list[tuple[np.ndarray, ...]] = [members, *([drawn[i]] if i in drawn else [])]
        mean, variance, weight, width = (np.concatenate(values) for values in zip(*parts, strict=True))
        line = np.interp(LEADS, KNOTS, lines[i].log_median)
        moved = np.minimum.accumulate(mean + line - _median(mean, weight), axis=1)
        stay = STAY * is_replicated(pilots[i])
        mean, weight = np.concatenate([moved, mean]), np.concatenate([(1 - stay) * weight, stay * weight])
        out.append(Descent(mean, np.tile(variance, 2), weight, np.tile(width, 2), pilots[i].floor))
    return out


def _median(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted median of each column of ``values`` (rows, columns)."""
    order = np.argsort(values, axis=0)
    enough = np.cumsum(weight[order], axis=0) >= 0.5 * weight.sum()
    middle: np.ndarray = np.take_along_axis(values, order, axis=0)[enough.argmax(axis=0), np.arange(values.shape[1])]
    return middle


def _crossings(mean: np.ndarray, log_target: float) -> tuple[np.ndarray, np.ndarray]:
    """Where curves of ln(loss), (curves, leads), first fall to the target, infinite if never, and how steeply there."""
    below = mean <= log_target
    k = np.clip(below.argmax(axis=1), 1, None)
    row = np.arange(len(mean))
    fall = np.maximum(mean[row, k - 1] - mean[row, k], 1e-12)
    step = LEADS[k] - LEADS[k - 1]
    lead = LEADS[k - 1] + step * np.clip((mean[row, k - 1] - log_target) / fall, 0, 1)
    return np.where(below.any(axis=1), lead, np.inf), fall / step


def _first_below(log_x: np.ndarray, log_y: np.ndarray, log_target: float) -> float:
    """ln(size) where a curve first falls to the target, on straight lines between its points; infinite if never."""
    below = np.flatnonzero(log_y <= log_target)
    if below.size == 0:
        return np.inf
    i = below[0]
    if i == 0:
        return float(log_x[0])
    share = (log_y[i - 1] - log_target) / (log_y[i - 1] - log_y[i])
    return float(log_x[i - 1] + share * (log_x[i] - log_x[i - 1]))


def compare_options(
    needed: xr.Dataset,
    *,
    cost_per_label: float,
    cost_per_gpu_hour: float = 0.0,
    gpu_hours: Callable[[dict[Hashable, Any], float], float] | None = None,
    owned_labels: float = 0,
) -> list[dict[Hashable, Any]]:
    """Cost of reaching the target with each option (encoder, pretraining, ...), cheapest first.

    Parameters
    ----------
    needed : Dataset from ``labels_needed``
    cost_per_label, cost_per_gpu_hour : float
        In one currency.
    gpu_hours
        Function(option labels dict, n_train array) -> hours of training; default none.
    owned_labels
        Labels that already exist and cost nothing.

    Returns
    -------
    list of dict: the option's labels, ``labels``, ``labels_low``, ``labels_high``, ``cost``, ``cost_low``,
    ``cost_high``, ``reachable``, ``status``; out of reach last.
    """
    check_labelled(needed, "give what gz.plan or gz.labels_needed returns", xr.Dataset)
    rows = []
    stacked = (
        needed.stack(option=list(needed["labels"].dims)) if needed["labels"].dims else needed.expand_dims("option")
    )
    for i in range(stacked.sizes["option"]):
        one = stacked.isel(option=i)
        option = {dim: one[dim].item() for dim in needed["labels"].dims}
        row = option | {"status": str(one["status"].item()), "reachable": float(one["reachable"])}
        for key, cost in (("labels", "cost"), ("labels_low", "cost_low"), ("labels_high", "cost_high")):
            labels = float(one[key])
            hours = 0.0 if gpu_hours is None or not np.isfinite(labels) else float(gpu_hours(option, labels))
            row[key] = labels
            row[cost] = max(labels - owned_labels, 0.0) * cost_per_label + hours * cost_per_gpu_hour
        rows.append(row)
    return sorted(rows, key=lambda row: (not np.isfinite(row["cost"]), row["cost"]))


def next_run(fits: xr.Dataset, x_target: float, candidates: npt.ArrayLike, *, cost: Cost | None = None) -> xr.Dataset:
    """How much one more run of each candidate size narrows the band at the target size.

    From the fit's information matrix: the variance of ln(loss) at the target before and after adding a run
    (D-optimal design's rank-one update). A floor at zero counts as known.

    Parameters
    ----------
    fits : Dataset from ``fit_curves``
    x_target : float
        The size whose loss is wanted.
    candidates : array (sizes,) of runs that could be made
    cost : function(sizes) -> cost of a run
        With it the best run is the one with the largest shrink for its cost.

    Returns
    -------
    Dataset over the dims of ``fits`` and ``candidate``: ``sd_before``, ``sd_after`` (of ln(loss) at the target),
    ``shrink`` (1 - after/before), ``value`` (shrink, for each unit of cost if given); ``best`` (...), the size to run.
    """
    law = get_law(fits.attrs["law"])
    candidates = np.atleast_1d(np.asarray(candidates, float))
    ref = fits.attrs["x_ref"]
    rest = list(fits["run_sd"].dims)
    parameters = np.stack([flattened(fits[name], rest) for name in law.names], axis=-1)
    matrices = flattened(fits["covariance"], rest, "parameter", "parameter_2")
    run_variance = flattened(fits["run_sd"], rest) ** 2
    before, after = np.full(len(parameters), np.nan), np.full((len(parameters), len(candidates)), np.nan)
    for i, (theta, matrix) in enumerate(zip(parameters, matrices, strict=True)):
        free = np.isfinite(np.diag(matrix))
        if not np.isfinite(theta).all() or not free.any():
            continue
        matrix = matrix[np.ix_(free, free)]
        goal = log_gradient(law, [np.array([x_target / ref])], theta[None])[0][:, free][0]
        added = log_gradient(law, [candidates / ref], theta[None])[0][:, free]
        before[i] = goal @ matrix @ goal
        spread = added @ matrix
        after[i] = before[i] - (spread @ goal) ** 2 / (run_variance[i] + np.einsum("cp,cp->c", spread, added))
    sd_before, sd_after = np.sqrt(before), np.sqrt(np.maximum(after, 0))
    shrink = 1 - sd_after / sd_before[:, None]
    value = shrink / np.asarray(cost(candidates), float) if cost is not None else shrink
    best = np.where(np.isfinite(sd_before), candidates[np.argmax(np.nan_to_num(value, nan=-np.inf), axis=1)], np.nan)
    both = {"sd_after": sd_after, "shrink": shrink, "value": value}
    tails = dict.fromkeys(both, ("candidate",))
    columns = {"sd_before": sd_before, **both, "best": best}
    return unflattened(columns, fits, rest, tails=tails, coords={"candidate": candidates})


FORMAT = 1


def store_forecast(
    path: FilePath, forecast: xr.Dataset, *, question: str, data_key: str, date: str, **more: Any
) -> str:
    """Write a forecast once.

    Parameters
    ----------
    path : file to make; an existing file is never replaced
    forecast : Dataset from ``forecast``; places without a forecast are left out
    question : str, what will be measured, in one sentence
    data_key : str, hash or run keys of the data that the forecast was made from
    date : str, ISO date on which the forecast is made
    more : further entries of the content, such as the keys of the runs that will tell; what JSON can hold

    Returns
    -------
    str, the SHA-256 of the content: publish it to prove the date.
    """
    place = Path(path)
    if place.exists():
        raise UserError(f"{place} holds a forecast already: a stored forecast is not replaced, choose another name.")
    x = forecast.attrs["x"]
    stacked = forecast[["loss", "lower", "upper", "lead"]].rename(loss="median")  # the name that files have
    dims = list(stacked["median"].dims)
    rows = [
        {dim: _plain(value) for dim, value in zip(dims, labels, strict=True)}
        | {key: _plain(stacked[key].transpose(*dims).values[index]) for key in ("median", "lower", "upper", "lead")}
        for index, labels in _cells(stacked, dims)
        if np.isfinite(stacked["median"].transpose(*dims).values[index])
    ]
    content = {
        "format": FORMAT,
        "question": question,
        "data_key": data_key,
        "date": date,
        "x": x,
        "dims": dims,
        "level": float(forecast.attrs["level"]),
        "kind": forecast.attrs["kind"],
        "rows": rows,
    } | more
    digest = content_hash(content)
    text = json.dumps(content | {"sha256": digest}, indent=1, allow_nan=False) + "\n"
    replace_file(place, text)
    return digest


Number = Annotated[float, Field(allow_inf_nan=False)]


class _Row(BaseModel):
    """One forecast; the coordinates of its dimensions come with it."""

    model_config = ConfigDict(extra="allow")
    median: Number | None
    lower: Number | None
    upper: Number | None
    lead: Number | None = None


class _Forecast(BaseModel):
    """What a stored forecast holds, as far as the code relies on it."""

    model_config = ConfigDict(extra="allow")
    format: Literal[1]
    sha256: str
    question: str
    data_key: str
    date: str
    x: str
    dims: list[str]
    level: Annotated[float, Field(gt=0, lt=1)]
    kind: str
    rows: list[_Row]

    @model_validator(mode="after")
    def _labelled(self) -> Self:
        for number, row in enumerate(self.rows):
            for dim in self.dims:
                value = (row.model_extra or {}).get(dim)
                if isinstance(value, bool) or not isinstance(value, str | int | float):
                    raise ValueError(f"'rows.{number}.{dim}' is {value!r}: it must be a text or a number")
        return self


def load_forecast(path: FilePath) -> dict[str, Any]:
    """The content of a stored forecast.

    Raises
    ------
    UserError
        If it was changed since, or is not a forecast.
    """
    place = Path(path)
    if not place.exists():
        raise UserError(f"There is no stored forecast '{place}': store one with store_forecast.")
    content = read_checked(place, _Forecast, what="a stored forecast", cure="restore it from git")
    digest = content.pop("sha256")
    if digest != content_hash(content):
        raise UserError(
            f"'{place}' was changed after it was stored: its content does not match its sha256; restore it from git."
        )
    return content


def judge_forecast(path: FilePath, outcome: xr.DataArray) -> list[dict[str, Any]]:
    """Compare a stored forecast with what was measured.

    Parameters
    ----------
    path : stored forecast
    outcome : DataArray with (a subset of) the forecast's coordinates, averaged over runs as the forecast's kind says

    Returns
    -------
    list of dict rows: the labels, ``forecast``, ``lower``, ``upper``, ``outcome`` (None where not measured), ``inside``
    and ``log_error`` = ln(forecast / outcome).
    """
    content = load_forecast(path)
    rows = []
    for row in content["rows"]:
        labels = {dim: row[dim] for dim in content["dims"]}
        try:
            measured = float(outcome.sel({dim: value for dim, value in labels.items() if dim in outcome.dims}))
        except KeyError:
            measured = np.nan
        known = np.isfinite(measured) and row["median"] is not None
        rows.append(
            labels
            | {
                "forecast": row["median"],
                "lower": row["lower"],
                "upper": row["upper"],
                "outcome": measured if np.isfinite(measured) else None,
                "inside": bool(row["lower"] <= measured <= row["upper"]) if known else None,
                "log_error": float(np.log(row["median"] / measured)) if known else None,
            }
        )
    return rows


def _cells(dataset: xr.Dataset, dims: list[Hashable]) -> Iterator[tuple[tuple[int, ...], list[Any]]]:
    shape = tuple(dataset.sizes[dim] for dim in dims)
    for index in np.ndindex(shape):
        yield (
            index,
            [dataset[dim].values[i] if dim in dataset.coords else i for dim, i in zip(dims, index, strict=True)],
        )


def _plain(value: Any) -> Any:
    """A JSON value; numbers that are not finite become null."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value
