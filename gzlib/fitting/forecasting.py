"""Forecasts at larger sizes with bands that keep their promise: an ensemble of shapes, judged on rolling origins.

Where a curve is taken to have ended earlier, what follows is a forecast whose error is known. Such rolling origins, of
the curve itself and of others that were given with it and are like it, say which members of the ensemble to trust and
how wrong the result is; where there are few, a prior takes their place that was learned from public curves
(``forecast_prior.json``, made by ``benchmarks/forecast_prior.py``). The variance of ln(loss) at a new size is a sum of
what is known beforehand: noise, the spread of the parameters, the disagreement of shapes and members, and a drift that
grows with the distance and with the slope. Its scale is updated by the origins; quantiles are Student's, with few
degrees of freedom for few points. Nothing depends on which other sizes are asked for.

The noise is that between runs of one size where there are several, and falls with size as they say: seeds differ more
on few galaxies than on many. Where curves have replicates, or few sizes, laws speak as well: beyond the last size the
band is then that of a mixture of posterior draws of six kinds of law, at the noise that replicates show, and of the
ensemble's band, which has the probability that no law holds (more of it where the laws miss the means by more than the
noise).
"""

import json
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.special import softmax, stdtrit
from scipy.stats import f as f_distribution
from scipy.stats import norm

from gzlib.errors import UserError
from gzlib.fitting.curves import Floor, flattened, new_sizes, noise_of_runs, summarise_replicates, unflattened
from gzlib.fitting.ensemble import (
    MAX_POINTS,
    MEMBERS,
    SIGMA,
    Ahead,
    Draws,
    Pilot,
    draw_laws,
    likeness_of_noise,
    look_ahead,
    mixture_quantiles,
    noise_evidence,
    noise_prior,
)
from gzlib.fitting.laws import LawLike, get_law

MIN_POINTS = 3
LEVELS = (0.5, 0.8, 0.95)
MIN_KEPT = 6  # points of a dense curve that a pretended end must leave
MIN_KEPT_SPARSE = 3
LEAD = 2.0  # of the pretended ends of a dense curve
STEPS, STEP = 5, np.sqrt(2.0)
MAX_SPARSE = 6  # pretended ends of a curve with few points
MAX_AHEAD = 8  # points that a pretended end is judged by
TEMPERATURE = 0.03  # relative excess error that costs a member a factor e
DOUBT = 0.3  # the same, for members whose disagreement widens the band
WORST = 5.0  # relative error beyond which a member is not distinguished
REFERENCE = 200  # curves that others may learn from: keeps time and memory linear in the number of curves
SCORED = 60  # of their origins, those that also say how wide a band has to be
COMPANY = 3.0  # other curves' origins, by likeness and importance, that make half of what company does
LITTLE = 0.02  # likeness times importance below which another curve's origin is left out
BLOCK = 500  # curves that are forecast together
LIKENESS = 2.0  # difference of the logarithms of two curves' noise that makes one count 0.6 times for the other
BEST = 0.1  # quantile of the members' errors that relative ones refer to: the best of many is luck
FEW = 8  # sizes of a curve without replicates up to which laws have a say in its band
MISTRUST = (0.35, 0.02)  # probability that no law holds: without and with replicates, whose noise a law has to meet
UNLIKELY = 0.05  # chance of a misfit below which laws are mistrusted more
TOGETHER = 50  # curves whose laws are drawn together
FLOOR = 1e-12
DRIFTING = slice(4, 7)  # of what the variance is a sum of
TESTED = np.log(8.0)  # farthest ln(size / last size) of known truths with replicates
OUTLIER = 25.0  # squared standardised error beyond which an origin says no more


@dataclass(frozen=True)
class Extrapolation:
    """Forecast of one curve: ``log_median``, ``log_sd`` (sizes,) and ``band`` (levels, 2, sizes) of ln(loss)."""

    log_median: np.ndarray
    log_sd: np.ndarray
    band: np.ndarray
    n_origins: int

    @property
    def half_width(self) -> np.ndarray:
        """Half the width of the band, (levels, sizes)."""
        width: np.ndarray = self.band[:, 1] - self.band[:, 0]
        return 0.5 * width


@dataclass(frozen=True)
class Prior:
    """What public curves say.

    ``members`` (members,), relative errors; ``variance`` multiplies noise, parameters, the disagreement of shapes and
    trusted members, that of doubted ones, slope^2 distance^2, slope^2 distance and distance^2. ``curves`` is how many
    origins the prior of the members counts as, ``scale`` how many that of the variance counts as, ``own`` and
    ``others`` the weights in it of the curve's own origins and of other curves'; ``company`` is how much less, in
    ln(variance), a curve among many like it is off. ``dof`` are the degrees of freedom of
    a long curve, ``dof_points`` those for each point beyond two, ``dof_least`` for two.
    """

    members: np.ndarray
    variance: np.ndarray
    curves: float
    scale: float
    others: float
    own: float
    company: float
    dof: float
    dof_points: float
    dof_least: float


@cache
def read_prior() -> Prior:
    """The committed prior."""
    content = json.loads(Path(__file__).with_name("forecast_prior.json").read_text(encoding="utf-8"))["prior"]
    fields: dict[str, Any] = {key: np.array(v) if isinstance(v, list) else v for key, v in content.items()}
    return Prior(**fields)


@dataclass(frozen=True)
class _Origin:
    """One pretended end: what the members said, the ln(loss) measured, how recent it is, the members' rms errors."""

    ahead: Ahead
    truth: np.ndarray
    importance: float
    errors: np.ndarray


def clean_curve(x: npt.ArrayLike, y: npt.ArrayLike, *, name: str = "curve") -> tuple[np.ndarray, np.ndarray]:
    """Sizes ascending, losses of one size averaged in ln; raises UserError on values that no law can meet."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    if x.shape != y.shape or x.ndim != 1:
        raise UserError(f"{name}: {x.size} sizes and {y.size} losses; give one loss for each size.")
    for label, values in (("size", x), ("loss", y)):
        bad = ~(np.isfinite(values) & (values > 0))
        if bad.any():
            raise UserError(
                f"{name}: the {label} {values[np.argmax(bad)]} is not positive and finite; remove or correct it."
            )
    distinct, index = np.unique(x, return_inverse=True)
    if len(distinct) < MIN_POINTS:
        raise UserError(f"{name}: {len(distinct)} distinct sizes; a forecast needs at least {MIN_POINTS}.")
    count = np.bincount(index)
    return distinct, np.exp(np.bincount(index, weights=np.log(y)) / count)


def find_origins(log_x: np.ndarray) -> list[tuple[int, np.ndarray, float]]:
    """Pretended ends of one curve: list of (points kept, indices of the points to forecast, importance).

    A curve with dense points is cut at 2 * sqrt(2)^k times below its end and judged as far as twice the cut; one with
    few points is cut before each of its last sizes and judged on all that follow. Recent ends resemble the real one
    most: importance is the inverse of how far back an end lies.
    """
    back = log_x[-1] - log_x
    lead = max(min(np.log(LEAD), 0.5 * back[0]), np.log(1.2))  # no further than half the decades that are there
    found = []
    for k in range(STEPS):
        cut = lead + k * np.log(STEP)
        kept = int(np.sum(back >= cut - 1e-9))
        if kept < MIN_KEPT:
            break
        ahead = np.flatnonzero((np.arange(len(log_x)) >= kept) & (log_x <= log_x[kept - 1] + lead + 1e-9))
        if len(ahead):
            found.append((kept, ahead, np.exp(-cut)))
    if not found:
        for kept in range(MIN_KEPT_SPARSE, len(log_x))[-MAX_SPARSE:]:
            found.append((kept, np.arange(kept, len(log_x)), np.exp(-back[kept - 1])))
    thin = [np.unique(np.linspace(0, len(a) - 1, min(len(a), MAX_AHEAD)).round().astype(int)) for _, a, _ in found]
    return [(kept, ahead[chosen], share) for (kept, ahead, share), chosen in zip(found, thin, strict=True)]


def judge_origins(pilots: Sequence[Pilot]) -> list[list[_Origin]]:
    """Rolling origins of every curve: list of lists of _Origin."""
    places = [(i, *found) for i, pilot in enumerate(pilots) for found in find_origins(pilot.log_x)]
    ahead = look_ahead(
        [pilots[i].until(kept) for i, kept, _, _ in places], [pilots[i].log_x[a] for i, _, a, _ in places]
    )
    out: list[list[_Origin]] = [[] for _ in pilots]
    for (i, _, where, share), said in zip(places, ahead, strict=True):
        truth = pilots[i].log_y[where]
        out[i].append(_Origin(said, truth, share, np.sqrt(np.mean((said.mean - truth) ** 2, axis=1))))
    return out


def stack_members(errors: np.ndarray, shares: np.ndarray, prior: Prior, possible: np.ndarray) -> np.ndarray:
    """Weights of the members from the origins' errors and the prior's: (2, members), trusting and doubting ones.

    Parameters
    ----------
    errors : array (origins, members)
        Root mean square errors in ln(loss)
    shares : array (origins,)
        How much each counts.
    prior : Prior
    possible
        Boolean array (members,)
    """
    relative = prior.members if len(prior.members) == len(possible) else np.ones(len(possible))
    count = np.sum(shares)
    if count > 0:
        mean = shares @ np.nan_to_num(errors) / count
        best = max(np.quantile(mean[possible], BEST), FLOOR)
        relative = (count * np.minimum(mean / best, WORST) + prior.curves * relative) / (count + prior.curves)
    relative = np.where(possible, relative, np.inf)
    weights: np.ndarray = np.exp(-(relative - relative.min()) / np.array([[TEMPERATURE], [DOUBT]]))
    shares_of_all: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
    return shares_of_all


def expect(ahead: Ahead, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ln(loss) that the ensemble expects, and what its variance is a sum of: arrays (sizes,), (sizes, 7)."""
    used = slice(None) if weights[0].all() else weights[0] > 0  # a member that is ruled out is NaN
    w, doubt = weights[:, used]
    mean = w @ ahead.mean[used]
    lead = np.maximum(ahead.lead, 0.0)
    slope = w @ ahead.slope[used]
    parts = [
        np.broadcast_to(w @ ahead.noise[used], mean.shape),
        w @ ahead.within[used],
        np.maximum(w @ ahead.square[used] - mean**2, 0.0),
        np.maximum(doubt @ ahead.square[used] - 2 * mean * (doubt @ ahead.mean[used]) + mean**2, 0.0),
        slope**2 * lead**2,
        slope**2 * lead,
        lead**2,
    ]
    return mean, np.stack(parts, axis=1)


@dataclass(frozen=True)
class _Scored:
    """Origins side by side, so that one product judges them all: what the members said, the truths, sizes of each."""

    ahead: Ahead
    truth: np.ndarray
    sizes: np.ndarray


def _side_by_side(origins: Sequence[_Origin]) -> _Scored | None:
    """None of no origins."""
    if not origins:
        return None
    sizes = np.array([len(origin.truth) for origin in origins])
    aheads = [origin.ahead for origin in origins]
    joined = {
        name: np.concatenate([getattr(ahead, name) for ahead in aheads], axis=-1)
        for name in ("mean", "within", "square", "lead")
    }
    each = {
        name: np.repeat(np.stack([getattr(ahead, name) for ahead in aheads], axis=1), sizes, axis=1)
        for name in ("noise", "slope")
    }
    return _Scored(Ahead(**joined, **each, points=0.0), np.concatenate([origin.truth for origin in origins]), sizes)


def _standardised(scored: _Scored | None, weights: np.ndarray, prior: Prior) -> np.ndarray:
    """Mean square of each origin's standardised errors, (origins,); outliers count little."""
    if scored is None:
        return np.zeros(0)
    mean, parts = expect(scored.ahead, weights)
    squares = np.minimum((mean - scored.truth) ** 2 / (parts @ prior.variance + FLOOR), OUTLIER)
    means: np.ndarray = np.add.reduceat(squares, np.cumsum(scored.sizes) - scored.sizes) / scored.sizes
    return means


def degrees_of_freedom(points: float, prior: Prior) -> float:
    """Of a band's Student quantile, for a curve of so many points (and further runs)."""
    return 1 / (1 / prior.dof + 1 / (prior.dof_least + prior.dof_points * max(points - 2, 0)))


def _likeness(noise: float, other: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * (np.log(noise / other) / LIKENESS) ** 2)


@dataclass(frozen=True)
class _Reference:
    """Origins that other curves learn from: their curve, its noise, importance and errors, as arrays; and themselves.

    ``scored`` are those, few and evenly chosen, that the scale of a band is learned from, and ``judged`` what they say.
    """

    curve: np.ndarray
    noise: np.ndarray
    importance: np.ndarray
    errors: np.ndarray
    scored: np.ndarray
    judged: _Scored | None


def _reference(pilots: Sequence[Pilot], chosen: np.ndarray, known: Sequence[list[_Origin]]) -> _Reference:
    noise = [np.nanmean(said.noise) for said in look_ahead(pilots, [pilot.log_x[-1:] for pilot in pilots])]
    found = [(i, n, o) for i, n, own in zip(chosen, noise, known, strict=True) for o in own]
    width = len(found[0][2].errors) if found else len(MEMBERS)
    scored = np.unique(np.linspace(0, max(len(found) - 1, 0), min(len(found), SCORED)).round().astype(int))
    return _Reference(
        np.array([i for i, _, _ in found], int),
        np.array([n for _, n, _ in found], float),
        np.array([o.importance for _, _, o in found], float),
        np.array([o.errors for _, _, o in found], float).reshape(-1, width),
        scored,
        _side_by_side([found[k][2] for k in scored]),
    )


def _extrapolate(
    pilots: Sequence[Pilot], log_new: Sequence[np.ndarray], levels: npt.ArrayLike, prior: Prior, *, one_run: bool
) -> tuple[list[Extrapolation], np.ndarray, int]:
    """List of Extrapolation of every curve, mean weights of the members, and the number of origins.

    The bands hold ``one_run``, or the mean of many.
    """
    levels = np.asarray(levels, float)
    chosen = np.unique(np.linspace(0, len(pilots) - 1, min(len(pilots), REFERENCE)).round().astype(int))
    judged = judge_origins([pilots[i] for i in chosen])
    shared = _reference([pilots[i] for i in chosen], chosen, judged)
    known = dict(zip(chosen.tolist(), judged, strict=True))
    few = share_noise(pilots)
    out: list[Extrapolation] = []
    total = np.zeros(1)  # over the curves, of the weights of however many members there are
    for first in range(0, len(pilots), BLOCK):
        part = range(first, min(first + BLOCK, len(pilots)))
        fresh = [i for i in part if i not in known]
        here = known | dict(zip(fresh, judge_origins([pilots[i] for i in fresh]), strict=True))
        inside = [bool(np.any(log_new[i] < pilots[i].log_x[-1])) for i in part]
        asked = [
            np.concatenate([log_new[i], pilots[i].log_x]) if back else log_new[i]
            for i, back in zip(part, inside, strict=True)
        ]
        ahead = look_ahead([pilots[i] for i in part], asked)
        for i, said, back in zip(part, ahead, inside, strict=True):
            forecast, weights = _combine(said, pilots[i], here[i], i, shared, levels, prior, one_run)
            out.append(_follow_data(forecast, pilots[i], log_new[i]) if back else forecast)
            total = total + weights
        _let_laws_speak(out, [i for i in part if i in few], few, pilots, log_new, levels, prior, one_run)
    return out, total / len(pilots), len(shared.errors)


def _combine(
    said: Ahead,
    pilot: Pilot,
    own: list[_Origin],
    place: int,
    shared: _Reference,
    levels: np.ndarray,
    prior: Prior,
    one_run: bool,
) -> tuple[Extrapolation, np.ndarray]:
    """Forecast of one curve from what the members say of it and the origins, its own and the others'."""
    alike = _likeness(np.nanmean(said.noise), shared.noise) * shared.importance * (shared.curve != place)
    importance = np.array([origin.importance for origin in own])
    errors = np.concatenate([[origin.errors for origin in own], shared.errors]) if own else shared.errors
    possible = np.isfinite(said.mean).all(axis=1)
    weights = stack_members(errors, np.concatenate([importance, alike]), prior, possible)
    near = alike[shared.scored] > LITTLE
    others = alike[shared.scored][near]
    shares = np.concatenate([prior.own * importance, prior.others * others])
    squares = [_standardised(_side_by_side(own), weights, prior), _standardised(shared.judged, weights, prior)[near]]
    company = np.sum(others)
    factor = (prior.scale + shares @ np.concatenate(squares)) / (prior.scale + np.sum(shares))
    factor *= np.exp(-prior.company * company / (company + COMPANY))
    mean, parts = expect(said, weights)
    variance = factor * parts * prior.variance
    if pilot.floor is not None:  # a known floor does not drift: only what is above it does
        above = np.maximum(1 - pilot.floor[0] / np.exp(np.stack([mean, np.full_like(mean, pilot.log_y[-1])])), 1e-3)
        variance[:, DRIFTING] *= np.minimum(above[0] / above[1], 1.0)[:, None] ** 2
    dof = degrees_of_freedom(said.points + pilot.seed_dof, prior)
    sd, sd_mean = (np.sqrt(v.sum(axis=1) + FLOOR) for v in (variance, variance[:, 1:]))
    half = stdtrit(dof, 0.5 * (1 + levels))[:, None] * (sd if one_run else sd_mean)
    return Extrapolation(mean, sd, np.stack([mean - half, mean + half], axis=1), len(own)), weights[0]


def share_noise(pilots: Sequence[Pilot]) -> dict[int, tuple[float, float]]:
    """Curves whose few points a law may explain: dict of index to the prior of their noise, from curves like them.

    Only curves with replicates tell others: what the rest would say of noise holds only where their law does.
    """
    found = [i for i, pilot in enumerate(pilots) if _is_few(pilot)]
    telling = [i for i in found if is_replicated(pilots[i])]
    telling = telling[:: max(-(-len(telling) // REFERENCE), 1)]
    evidence = _by_length(pilots, telling, noise_evidence) if len(telling) > 1 else {}  # one tells itself nothing
    known = np.stack([evidence[i] for i in telling]) if evidence else np.zeros((1, len(SIGMA)))
    out: dict[int, Any] = {}
    for first in range(0, len(found), BLOCK):
        part = found[first : first + BLOCK]
        like = np.zeros((len(part), len(known)))
        if len(telling) > 1:
            here = evidence | _by_length(pilots, [i for i in part if i not in evidence], noise_evidence)
            own = np.stack([here[i] for i in part])
            like = likeness_of_noise(own, known, same=np.array(part)[:, None] == np.array(telling))
        priors = noise_prior([pilots[i] for i in part], known, like)
        out |= dict(zip(part, zip(*priors, strict=True), strict=True))
    return out


def _by_length(
    pilots: Sequence[Pilot], chosen: Sequence[int], function: Callable[[list[Pilot]], Iterable[Any]]
) -> dict[int, Any]:
    """``function`` of the pilots at ``chosen``, those with equally many points together: dict of index to result."""
    out: dict[int, Any] = {}
    for length in {min(len(pilots[i].log_x), MAX_POINTS) for i in chosen}:
        alike = [i for i in chosen if min(len(pilots[i].log_x), MAX_POINTS) == length]
        for first in range(0, len(alike), TOGETHER):
            part = alike[first : first + TOGETHER]
            out |= dict(zip(part, function([pilots[i] for i in part]), strict=True))
    return out


def is_replicated(pilot: Pilot) -> bool:
    """Whether repeated runs, as many as there are sizes and more, tell the noise of one."""
    return pilot.seed_dof >= len(pilot.log_x) and pilot.seed_variance > 0


def _is_few(pilot: Pilot) -> bool:
    """Whether laws are asked: replicates tell noise from misfit, and without them few sizes tell little else."""
    return pilot.law is None and (is_replicated(pilot) or len(pilot.log_x) <= FEW)


def _let_laws_speak(
    out: list[Extrapolation],
    chosen: list[int],
    noise: dict[int, tuple[float, float]],
    pilots: Sequence[Pilot],
    log_new: Sequence[np.ndarray],
    levels: np.ndarray,
    prior: Prior,
    one_run: bool,
) -> None:
    """Replace the bands beyond the last size of the ``chosen`` curves by mixtures of laws and of the ensemble's band.

    The forecast itself stays the ensemble's, which errs least on public curves and on those of the study; with
    replicates, where laws can be distinguished, as far as it lies within one standard deviation of the mixture. That
    was chosen on the study's curves and the truths of ``benchmarks/designs.py``. Beyond ``TESTED`` no truths were at
    hand, and the forecast comes the closer to the mixture's median, which planners rest on, the farther it looks.
    """
    ahead = {i: log_new[i] >= pilots[i].log_x[-1] for i in chosen}
    alike: dict[tuple[int, int], list[int]] = {}
    for i in chosen:
        if ahead[i].any():
            alike.setdefault((min(len(pilots[i].log_x), MAX_POINTS), int(ahead[i].sum())), []).append(i)
    ends = 0.5 * (1 + np.array([[-1], [1]]) * levels).T.reshape(-1)
    places = np.concatenate([norm.cdf([-1, 1]), ends])
    for own in alike.values():
        step = max(TOGETHER // max(int(ahead[own[0]].sum()) // 20, 1), 1)
        for first in range(0, len(own), step):
            part = own[first : first + step]
            leads = np.stack([log_new[i][ahead[i]] - pilots[i].log_x[-1] for i in part])
            drawn = draw_laws([pilots[i] for i in part], leads, tuple(np.array([noise[i] for i in part]).T))
            dofs = [degrees_of_freedom(len(pilots[i].log_x) + pilots[i].seed_dof, prior) for i in part]
            aside = [
                (out[i].log_median[ahead[i]], out[i].half_width[-1, ahead[i]] / stdtrit(dof, ends[-1]), dof)
                for i, dof in zip(part, dofs, strict=True)
            ]
            doubt = mistrust([pilots[i] for i in part], drawn)
            known = [k for k, i in enumerate(part) if is_replicated(pilots[i])]
            centre = [
                (out[part[k]].log_median[ahead[part[k]]], out[part[k]].log_sd[ahead[part[k]]], dofs[k]) for k in known
            ]
            inner = mixture_quantiles(drawn.of(known), norm.cdf([-1, 0, 1]), False, doubt[known], centre)
            likely = dict(zip(known, inner, strict=True))
            found = mixture_quantiles(drawn, places, one_run, doubt, aside)
            for k, i in enumerate(part):
                median = out[i].log_median[ahead[i]]
                if k in likely:
                    low, middle, high = likely[k]
                    trusted = 1 / (1 + np.maximum(leads[k] / TESTED - 1, 0) ** 2)
                    median = np.clip(median, middle - trusted * (middle - low), middle + trusted * (high - middle))
                out[i] = _replace_band(out[i], median, found[k], ahead[i])


def mistrust(pilots: Sequence[Pilot], drawn: Draws) -> np.ndarray:
    """Probability that none of the laws holds, more where they miss the means by more than the replicates' noise."""
    missed = np.sum(softmax(drawn.log_weight, axis=1) * drawn.squares, axis=1)
    out = []
    for pilot, squares in zip(pilots, missed, strict=True):
        share, free = MISTRUST[int(is_replicated(pilot))], len(pilot.log_x) - 1
        if pilot.seed_dof and pilot.seed_variance > 0:
            chance = f_distribution.sf(squares / free / pilot.seed_variance, free, pilot.seed_dof)
            share = share / (share + (1 - share) * min(chance / UNLIKELY, 1.0))
        out.append(share)
    return np.array(out)


def _replace_band(said: Extrapolation, log_median: np.ndarray, found: np.ndarray, ahead: np.ndarray) -> Extrapolation:
    median, sd, band = said.log_median.copy(), said.log_sd.copy(), said.band.copy()
    median[ahead] = log_median
    sd[ahead] = 0.5 * (found[1] - found[0])
    band[..., ahead] = found[2:].reshape(len(band), 2, -1)
    band[:, 0], band[:, 1] = np.minimum(band[:, 0], median), np.maximum(band[:, 1], median)
    return Extrapolation(median, sd, band, said.n_origins)


def _follow_data(forecast: Extrapolation, pilot: Pilot, log_new: np.ndarray) -> Extrapolation:
    """The forecast of ``log_new`` from one that also holds the measured sizes: it passes through them where it is off.

    The ensemble looks ahead and forgets early sizes. What it misses there by more than the noise is added back,
    between the measured sizes in proportion to ln x.
    """
    count = len(log_new)
    missed = pilot.log_y - forecast.log_median[count:]
    noise = pilot.seed_variance / pilot.precision if pilot.seed_dof else np.median(np.diff(missed, 2) ** 2) / 6
    missed = missed * missed**2 / (missed**2 + 2 * noise + FLOOR)
    correction = np.where(log_new < pilot.log_x[-1], np.interp(log_new, pilot.log_x, missed), 0.0)
    band = forecast.band[..., :count] + correction
    return Extrapolation(forecast.log_median[:count] + correction, forecast.log_sd[:count], band, forecast.n_origins)


def extrapolate(
    curves: Sequence[tuple[np.ndarray, np.ndarray]],
    x_new: Sequence[npt.ArrayLike],
    *,
    levels: Sequence[float] = LEVELS,
    law: LawLike | None = None,
) -> tuple[list[Extrapolation], dict[str, Any]]:
    """Forecast several related curves together; each learns from the rolling origins of those that are like it.

    Parameters
    ----------
    curves : list of (sizes, losses) as ``clean_curve`` returns them
    x_new : list of arrays
        The sizes to forecast of each curve.
    levels
        Coverage of the bands.
    law : str or Law
        The only one to use.

    Returns
    -------
    list of Extrapolation, and a dict: ``weights``, mean weights of the members; ``n_origins``; ``members``.
    """
    if not curves:
        raise UserError("There are no curves to forecast: give (sizes, losses) of at least one.")
    pilots = [Pilot(np.log(x), np.log(y), np.ones(len(x)), law=law) for x, y in curves]
    new = [np.log(np.asarray(sizes, float)) for sizes in x_new]
    out, weights, count = _extrapolate(pilots, new, levels, read_prior(), one_run=True)
    return out, {"weights": weights, "n_origins": count, "members": MEMBERS}


def extrapolate_pilots(
    pilots: Sequence[Pilot],
    log_new: Sequence[np.ndarray],
    *,
    levels: Sequence[float] = LEVELS,
    one_run: bool = False,
) -> list[Extrapolation]:
    """``forecast`` of every pilot at its ``log_new``, ln(size), with bands of the mean, or of one run."""
    if not pilots:
        return []
    return _extrapolate(pilots, log_new, levels, read_prior(), one_run=one_run)[0]


BANDS = ("mean", "new_run")
MIN_CHECKPOINTS = 12  # fewer evenly spaced sizes may well be runs of their own
MIN_SMOOTH = 16
EVEN = 0.05  # relative spread of the steps that counts as even
SMOOTH = 0.5  # correlation of neighbouring residuals from which points are not independent runs
CHECKPOINTS = "the points look like checkpoints of one run: the band holds for that run going on, not for separate runs"


def spot_checkpoints(x: np.ndarray, y: np.ndarray, runs: np.ndarray) -> bool:
    """Whether the points of one curve are likely checkpoints of one run rather than runs of their own.

    Without replicates, twelve sizes or more at even steps are, and sixteen or more whose residuals about a smooth
    curve are correlated from each to the next.

    Parameters
    ----------
    x, y : arrays (sizes,)
        Ascending sizes and their losses.
    runs : array (sizes,)
        Runs of each size.
    """
    if np.any(np.asarray(runs) > 1) or len(x) < MIN_CHECKPOINTS:
        return False
    steps = np.diff(x)
    if np.std(steps) < EVEN * np.mean(steps):
        return True
    if len(x) < MIN_SMOOTH:
        return False
    u = np.log(x)
    residual = np.log(y) - np.polyval(np.polyfit(u, np.log(y), 3), u)
    return bool(np.sum(residual[1:] * residual[:-1]) > SMOOTH * np.sum(residual**2))


@dataclass(frozen=True)
class Pilots:
    """Curves of a labelled array: the ``pilots`` of those with enough sizes, and which they are (``usable``).

    ``log_mean`` (..., x), the mean ln(loss) at ascending sizes; ``count``, how many curves the array has.
    """

    pilots: list[Pilot]
    usable: list[int]
    log_mean: xr.DataArray
    count: int


def read_pilots(
    loss: xr.DataArray,
    *,
    x: str,
    replicate: str,
    law: LawLike | None = None,
    floor: Floor | None = None,
    floor_sd: Floor | None = None,
) -> Pilots:
    """The curves of a labelled array as ``forecast`` takes them, whose arguments these are.

    Raises
    ------
    UserError
        If no curve has enough sizes, a loss is not positive and finite, or a floor is not below the losses.
    """
    summary = summarise_replicates(loss, replicate=replicate, x=x)
    rest = [dim for dim in summary["log_mean"].dims if dim != x]
    log_mean = summary["log_mean"].transpose(*rest, x).sortby(x)
    sizes = log_mean[x].values.astype(float)
    flat, runs = flattened(log_mean, rest, x), flattened(summary["n_runs"].sortby(x), rest, x)
    squares = flattened(summary["squares"].sortby(x), rest, x)
    floors = _floors(floor, floor_sd, summary, rest, np.exp(flat))
    usable = [i for i, row in enumerate(flat) if np.isfinite(row).sum() >= MIN_POINTS]
    if not usable:
        raise UserError(
            f"No curve has {MIN_POINTS} sizes with a run: a forecast needs at least {MIN_POINTS} along {x!r}."
        )
    seen = np.isfinite(flat)
    noise = noise_of_runs([(np.log(sizes[seen[i]]), squares[i][seen[i]], runs[i][seen[i]] - 1.0) for i in usable])
    pilots = [
        Pilot(
            np.log(sizes[seen[i]]),
            flat[i][seen[i]],
            runs[i][seen[i]].astype(float),
            variance,
            float((runs[i][seen[i]] - 1).sum()),
            floors[i],
            law,
            fall=fall,
        )
        for i, (fall, variance) in zip(usable, noise, strict=True)
    ]
    return Pilots(pilots, usable, log_mean, len(flat))


def forecast(
    loss: xr.DataArray,
    x_new: npt.ArrayLike,
    *,
    x: str = "n_train",
    replicate: str = "seed",
    level: float = 0.95,
    kind: str = "mean",
    law: LawLike | None = None,
    floor: Floor | None = None,
    floor_sd: Floor | None = None,
    checkpoints: bool | None = None,
) -> xr.Dataset:
    """Loss at larger sizes with a calibrated band, for every curve of a labelled array.

    Curves learn from each other's rolling origins as far as they are alike, so give curves of one study. The band
    holds parameter noise, run noise and the errors that the same procedure made at rolling origins in the data; where
    there are few, those that it made on public curves. With replicates, or at most 8 sizes, it is mixed with the
    posterior of six kinds of law. It does not depend on which other sizes are asked for.

    Parameters
    ----------
    loss : DataArray with dims (..., x, replicate)
        Positive, NaN where a run is missing.
    x_new : float or array (sizes,)
        In the units of ``x``.
    x, replicate : names of dimensions
    level : float
        Coverage of the band.
    kind
        "mean", the average over many runs, or "new_run", one run.
    law : str or Law of one size, optional
        The only law to use; default: an ensemble of offset, plain, shifted and logarithmic laws.
    floor, floor_sd : float or DataArray over (some of) the remaining dims, optional
        A known irreducible loss and its standard error (default: 1 % of the loss at the last size).
    checkpoints : bool, optional
        Whether the sizes of a curve are checkpoints of one run; default: recognised by ``spot_checkpoints``.

    Returns
    -------
    Dataset with ``loss``, ``lower``, ``upper``, ``log_sd`` over (..., x) and ``lead`` (new size over largest
    size). NaN for a curve with fewer than 3 sizes; ``forecasted`` (...) says which. ``origins`` (...), rolling origins
    inside the curve; ``checkpoints`` (...); ``status`` (...), in words, what the band rests on. Attributes:
    ``n_origins``, ``calibrated`` (False if no origin fits inside the data; the band is then the prior's).

    Raises
    ------
    UserError
        If no curve has enough sizes, ``x_new`` or a loss is not positive and finite, or a floor is not below the
        losses.
    """
    if kind not in BANDS:
        raise UserError(f"unknown band {kind!r}; available: {', '.join(BANDS)}.")
    if not 0 < level < 1:
        raise UserError(f"The level of a band is a share between 0 and 1, not {level}.")
    x_new = new_sizes(x_new)
    if law is not None and len(get_law(law).variables) != 1:
        raise UserError(f"{get_law(law).name} is a law of several sizes: forecast with a law of one.")
    found = read_pilots(loss, x=x, replicate=replicate, law=law, floor=floor, floor_sd=floor_sd)
    pilots, usable, log_mean = found.pilots, found.usable, found.log_mean
    rest = list(log_mean.dims[:-1])
    new = [np.log(x_new)] * len(pilots)
    results, _, n_origins = _extrapolate(pilots, new, (level,), read_prior(), one_run=kind == "new_run")
    keys = ("loss", "lower", "upper", "log_sd", "lead")
    columns: dict[str, np.ndarray] = {key: np.full((found.count, len(x_new)), np.nan) for key in keys}
    origins, spotted = np.zeros(found.count, int), np.zeros(found.count, bool)
    status = np.full(found.count, f"not forecast: fewer than {MIN_POINTS} sizes", object)
    for i, pilot, result in zip(usable, pilots, results, strict=True):
        lower, upper = result.band[0]
        spotted[i] = (
            spot_checkpoints(np.exp(pilot.log_x), np.exp(pilot.log_y), pilot.runs)
            if checkpoints is None
            else bool(checkpoints)
        )
        origins[i] = result.n_origins
        status[i] = _status(result, pilot, kind, spotted[i])
        known = pilot.floor
        least = -np.inf if known is None else np.log(max(known[0], 1e-300))
        values = (
            np.exp(np.maximum(result.log_median, least)),
            np.exp(np.maximum(lower, least)),
            np.exp(upper),
            result.log_sd,
            x_new / np.exp(pilot.log_x[-1]),
        )
        for key, value in zip(columns, values, strict=True):
            columns[key][i] = value
    tails = dict.fromkeys(columns, (x,))
    columns |= {"forecasted": np.isin(np.arange(found.count), usable), "origins": origins, "checkpoints": spotted}
    columns["status"] = status.astype(str)
    attrs = {"level": level, "kind": kind, "x": x, "n_origins": n_origins, "calibrated": bool(n_origins)}
    return unflattened(columns, log_mean, rest, tails=tails, coords={x: x_new}, attrs=attrs)


def _status(result: Extrapolation, pilot: Pilot, kind: str, spotted: bool) -> str:
    notes = [
        f"band from {result.n_origins} rolling origins of the curve and from public curves"
        if result.n_origins
        else "too few sizes for rolling origins: band from public curves alone"
    ]
    if _is_few(pilot):
        share = MISTRUST[int(is_replicated(pilot))]
        notes.append(
            f"mixed with the posterior of six kinds of law, none of which may hold ({100 * share:g} % or more)"
        )
    if kind == "new_run" and not pilot.seed_dof:
        notes.append("no replicates: the noise of a run is estimated from the scatter about the curve")
    if spotted:
        notes.append(CHECKPOINTS)
    return "; ".join(notes)


def _floors(
    floor: Floor | None, floor_sd: Floor | None, summary: xr.Dataset, rest: list[Hashable], losses: np.ndarray
) -> list[tuple[float, float] | None]:
    """(floor, standard error) of every curve, or None for each: checked against the losses (curves, sizes)."""
    if floor is None:
        if floor_sd is not None:
            raise UserError("floor_sd is the standard error of a floor: give the floor too.")
        return [None] * len(losses)
    like = xr.zeros_like(summary["seed_dof"], dtype=float)
    try:
        values, errors = (flattened(like + (0.0 if v is None else v), rest) for v in (floor, floor_sd))
    except ValueError as error:
        raise UserError(f"The floor does not fit the curves' dimensions {rest}: {error}.") from error
    if values.size != len(losses) or not np.all(
        np.isfinite(values) & (values >= 0) & np.isfinite(errors) & (errors >= 0)
    ):
        raise UserError("The floor and its standard error must be one finite loss of at least zero for each curve.")
    for value, row in zip(values, losses, strict=True):
        if np.isfinite(row).any() and value >= np.nanmax(row):
            raise UserError(f"The floor {value:g} is not below the losses, which are at most {np.nanmax(row):g}.")
    return list(zip(values, errors, strict=True))
