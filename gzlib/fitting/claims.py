"""Claims and what decides them: tests of whether the loss falls, whether a power law describes how, compared with other
laws on the runs themselves, and whether size helps, with encoders as units.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy import stats
from scipy.optimize import brentq

from gzlib.errors import UserError
from gzlib.fitting.comparison import information
from gzlib.fitting.curves import log_of
from gzlib.fitting.laws import LAWS, Law, Parameter, Values
from gzlib.fitting.optimise import batch_fit, log_gradient, log_loss

P = TypeVar("P", np.ndarray, xr.DataArray)  # p-values


def slope_test(loss: xr.DataArray, x: str, *, replicate: str = "seed", level: float = 0.95) -> xr.Dataset:
    """Straight line of ln(loss) on ln(size) through the runs of every curve, and whether it falls.

    Runs are the independent unit. Where the curve bends, the bend counts as noise, which makes the test cautious.

    Parameters
    ----------
    loss : DataArray with dims (..., x, replicate)
        Positive, NaN where a run is missing; ``replicate`` may be absent.
    x : dimension whose coordinate holds the sizes
    level
        Coverage of the interval.

    Returns
    -------
    Dataset over the remaining dims: ``slope`` (negative where the loss falls), ``low`` and ``high`` (t interval),
    ``p`` (two-sided p-value of no slope) and ``dof``; NaN with fewer than 3 runs or a single size.

    Raises
    ------
    UserError
        If the sizes are not positive.
    """
    sizes = loss[x].values.astype(float)
    if not np.all(sizes > 0):
        raise UserError(f"The sizes along {x!r} must be positive: {sizes.min()} is not.")
    runs = loss if replicate in loss.dims else loss.expand_dims({replicate: [0]})
    log_loss = log_of(runs)
    log_size = xr.DataArray(np.log(sizes), dims=x, coords={x: loss[x]}).where(log_loss.notnull())
    over = [x, replicate]
    count = log_loss.count(over)
    away = log_size - log_size.mean(over)
    spread = (away**2).sum(over)
    dof = count - 2
    usable = (dof > 0) & (spread > 1e-12)
    spread, dof = spread.where(usable), dof.where(usable)
    slope = (away * log_loss).sum(over) / spread
    residual = log_loss - log_loss.mean(over) - slope * away
    stderr = np.sqrt((residual**2).sum(over) / dof / spread)
    half = stderr * xr.apply_ufunc(stats.t.ppf, 0.5 * (1 + level), dof)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * xr.apply_ufunc(stats.t.sf, np.abs(slope) / stderr, dof)
    return xr.Dataset({"slope": slope, "low": slope - half, "high": slope + half, "p": p, "dof": dof})


def holm(p: P) -> P:
    """p-values adjusted for the number of tests (Holm 1979): compare them with the level of the whole family.

    ``p`` is an array or DataArray of any shape; NaN (not tested) stays NaN and does not count as a test.
    """
    values = np.asarray(p, float)
    adjusted = np.full(values.shape, np.nan)
    tested = np.isfinite(values)
    order = np.argsort(values[tested])
    steps = values[tested][order] * np.arange(len(order), 0, -1)
    ranked = np.empty(len(order))
    ranked[order] = np.minimum(np.maximum.accumulate(steps), 1)
    adjusted[tested] = ranked
    return p.copy(data=adjusted) if isinstance(p, xr.DataArray) else adjusted


def false_discovery(p: P) -> P:
    """p-values adjusted so that those below a level have a false discovery rate of it (Benjamini & Hochberg 1995).

    ``p`` is an array or DataArray of any shape; NaN (not tested) stays NaN and does not count as a test.
    """
    values = np.asarray(p, float)
    adjusted = np.full(values.shape, np.nan)
    tested = np.isfinite(values)
    if tested.any():
        adjusted[tested] = stats.false_discovery_control(values[tested], method="bh")
    return p.copy(data=adjusted) if isinstance(p, xr.DataArray) else adjusted


def encoder_effect(
    excess: xr.DataArray,
    *,
    parameters: xr.DataArray,
    family: xr.DataArray | None = None,
    x: str = "n_train",
    encoder: str = "encoder",
    replicate: str = "seed",
    level: float = 0.95,
) -> xr.Dataset:
    """How ln(excess loss) changes when an encoder has ten times the parameters, with encoders as the units.

    Seeds and training sets of one encoder are not independent evidence on size: what makes an encoder better than its
    neighbours stays the same in all of them. So each encoder counts once. Its own level is what remains when the
    training sets' levels are taken out (least squares on the means over seeds, additive in both); a straight line of
    these levels on log10(parameters), parallel in all families, has as many degrees of freedom as there are encoders
    less the families and the slope. For a complete design that is the mixed model with a random effect of each encoder
    (Pinheiro & Bates 2000, chapter 1).

    Parameters
    ----------
    excess : DataArray with dims (..., encoder, x, replicate), positive, NaN where a run is missing
        Loss above that of a perfect predictor; ``x`` and ``replicate`` may be absent.
    parameters : DataArray over ``encoder``
        Positive.
    family : DataArray over ``encoder``, optional
        Names; one family if left out.
    level : float
        Coverage of ``low`` to ``high``; ``inner_low`` to ``inner_high``, for a test of equivalence, leave out twice as
        much.

    Returns
    -------
    Dataset over the remaining dims
        ``slope`` (negative where size helps), ``stderr``, ``low``, ``high``, ``inner_low``, ``inner_high``, ``p``
        (two-sided, of no effect), ``dof`` and ``encoders`` (how many counted); NaN where fewer than one degree of
        freedom is left.

    Raises
    ------
    UserError
        If a number of parameters is not positive.
    """
    sizes = np.asarray(parameters.sel({encoder: excess[encoder]}), float)
    if not np.all(sizes > 0):
        raise UserError(f"Parameters must be above zero: {sizes.min():g} is not.")
    names = np.zeros(len(sizes)) if family is None else np.asarray(family.sel({encoder: excess[encoder]}))
    with np.errstate(invalid="ignore", divide="ignore"):
        cells = log_of(excess.where(excess > 0))
    cells = cells.mean(replicate) if replicate in cells.dims else cells
    cells = cells if x in cells.dims else cells.expand_dims({x: [0]})

    def one(values: np.ndarray) -> np.ndarray:
        return _line_of_encoders(values, np.log10(sizes), names, level)

    columns = ["slope", "stderr", "low", "high", "inner_low", "inner_high", "p", "dof", "encoders"]
    found: xr.DataArray = xr.apply_ufunc(
        one, cells, input_core_dims=[[encoder, x]], output_core_dims=[["number"]], vectorize=True
    ).assign_coords(number=columns)
    return found.to_dataset("number")


def _line_of_encoders(cells: np.ndarray, log_size: np.ndarray, family: np.ndarray, level: float) -> np.ndarray:
    """The numbers of :func:`encoder_effect` for the (encoders, sizes) cells of one curve."""
    known = np.isfinite(cells)
    rows, columns = known.any(1), known.any(0)
    cells, known, log_size, family = cells[np.ix_(rows, columns)], known[rows][:, columns], log_size[rows], family[rows]
    nothing = np.full(9, np.nan)
    kinds = np.unique(family)
    dof = len(cells) - len(kinds) - 1
    nothing[-1] = len(cells)
    if dof < 1 or np.ptp(log_size) < 1e-9:
        return nothing
    encoder_of, set_of = np.nonzero(known)
    design = np.hstack([np.eye(len(cells))[encoder_of], np.eye(cells.shape[1])[set_of][:, 1:]])
    level_of = np.linalg.lstsq(design, cells[known], rcond=None)[0][: len(cells)]
    line = np.column_stack([*((family == kind) * 1.0 for kind in kinds), log_size])
    solution, _, rank, _ = np.linalg.lstsq(line, level_of, rcond=None)
    if rank < line.shape[1]:  # no family has two sizes
        return nothing
    residual = level_of - line @ solution
    stderr = np.sqrt(residual @ residual / dof * np.linalg.inv(line.T @ line)[-1, -1])
    slope = solution[-1]
    outer, inner = (stats.t.ppf(q, dof) * stderr for q in (0.5 * (1 + level), level))
    p = 2 * stats.t.sf(abs(slope) / stderr, dof) if stderr > 0 else float(slope == 0)
    return np.array(
        [slope, stderr, slope - outer, slope + outer, slope - inner, slope + inner, p, dof, len(cells)], float
    )


def size_verdict(effect: xr.Dataset, *, bound: float, level: float = 0.95) -> xr.DataArray:
    """What :func:`encoder_effect` says of each question: ``helps``, ``helps by less``, ``undecided`` or ``not tested``.

    ``helps``: the slope is negative and its p-value, adjusted over all questions (:func:`false_discovery`), is below
    ``1 - level``.
    ``helps by less``: the inner interval lies within ``bound`` (a change of the excess, for ten times the parameters)
    on both sides of no effect. What is both, a sure but small gain, counts as ``helps by less``.
    """
    edge = np.log1p(bound)
    adjusted = false_discovery(effect.p)
    small = (effect.inner_low > -edge) & (effect.inner_high < edge)
    helps = (effect.slope < 0) & (adjusted < 1 - level)
    words: xr.DataArray = xr.where(helps, "helps", "undecided")
    words = xr.where(small, "helps by less", words)
    words = xr.where(effect.p.notnull(), words, "not tested")
    return words


def random_effects(value: npt.ArrayLike, stderr: npt.ArrayLike, *, level: float = 0.95) -> dict[str, float]:
    """One mean for estimates that differ by more than their errors (DerSimonian & Laird 1986).

    The interval of the mean is Hartung's and Knapp's (2001), that of the spread by the Q profile (Viechtbauer 2007).

    Parameters
    ----------
    value, stderr : arrays (estimates,)
        Those that are NaN are left out.

    Returns
    -------
    dict
        ``mean``, ``low``, ``high``, ``spread`` (standard deviation between estimates beyond their errors),
        ``spread_low``, ``spread_high``, ``p_alike`` (of no spread) and ``estimates``; NaN with fewer than two.
    """
    values, errors = (np.asarray(v, float).ravel() for v in (value, stderr))
    known = np.isfinite(values) & np.isfinite(errors) & (errors > 0)
    values, variance, n = values[known], errors[known] ** 2, int(known.sum())
    names = ("mean", "low", "high", "spread", "spread_low", "spread_high", "p_alike")
    if n < 2:
        return dict.fromkeys(names, np.nan) | {"estimates": n}

    def pooled(between: float) -> tuple[np.ndarray, float, float]:
        weight = 1 / (variance + between)
        mean = (weight * values).sum() / weight.sum()
        return weight, mean, (weight * (values - mean) ** 2).sum()

    weight, _, q = pooled(0.0)
    between = max(0.0, (q - (n - 1)) / (weight.sum() - (weight**2).sum() / weight.sum()))
    weight, mean, left = pooled(between)
    half = stats.t.ppf(0.5 * (1 + level), n - 1) * np.sqrt(left / (n - 1) / weight.sum())

    def end(probability: float) -> float:
        """The spread at which so large a Q would be met with this probability."""
        target = stats.chi2.ppf(probability, n - 1)
        if q <= target:
            return 0.0
        most = np.var(values) * n + variance.max()
        while pooled(most)[2] > target:
            most *= 4
        return float(np.sqrt(brentq(lambda between: pooled(between)[2] - target, 0.0, most)))

    tail = 0.5 * (1 - level)
    numbers = mean, mean - half, mean + half, np.sqrt(between), end(1 - tail), end(tail), stats.chi2.sf(q, n - 1)
    return dict(zip(names, map(float, numbers), strict=True)) | {"estimates": n}


LEFT_OUT = 2  # largest sizes that a held-out test leaves out
TIED = 2.0  # difference of AICc up to which two laws describe a curve alike
MISFIT = 0.01  # below which a misfit is as good as none, as a part of the loss
BOOTSTRAP, TRIES = 500, 50

_FREE = Parameter(1e-12, np.inf, "loss", "")
_RATE = Parameter(0, np.inf, "1", "")


def _logarithmic(x: Values, A: Values, B: Values) -> Values:
    return np.maximum(A - B * np.log(x), 1e-12)


def _exponential(x: Values, E: Values, A: Values, k: Values) -> Values:
    return E + A * np.exp(-k * x)


def _once_broken(x: Values, A: Values, alpha: Values, change: Values, d: Values) -> Values:
    return A * x**-alpha * np.exp(-change * np.maximum(np.log(x / d), 0))


_ANY = Parameter(-5, 5, "1", "")
LOGARITHMIC = Law("logarithmic", "A - B ln x", "", _logarithmic, {"A": _FREE, "B": _RATE}, (), {}, min_sizes=2)
EXPONENTIAL = Law(
    "exponential", "E + A exp(-k x)", "", _exponential,
    {"E": LAWS["power-offset"].parameters["E"], "A": _FREE, "k": _RATE}, (), {},
)  # fmt: skip
BROKEN = Law(
    "broken", "A x^-alpha up to d, then steeper or flatter", "", _once_broken,
    {"A": _FREE, "alpha": _ANY, "change": _ANY, "d": _FREE}, (), {}, min_sizes=4,
)  # fmt: skip
# Laws of the excess by the names that tables use; the first two are the power law.
EXCESS_LAWS = {
    "power law": LAWS["power"],
    "power law and offset": LAWS["power-offset"],
    "logarithmic": LOGARITHMIC,
    "exponential": EXPONENTIAL,
    "broken once": BROKEN,
}
POWER_LAWS = tuple(EXCESS_LAWS)[:2]


@dataclass(frozen=True)
class Curves:
    """The runs of several curves that have the same sizes and as many runs at each, such as one encoder's questions.

    Attributes
    ----------
    size : (sizes,)
        Training galaxies over their geometric mean.
    runs : (curves, sizes, seeds)
        ln(excess), NaN where a run is missing.
    """

    size: np.ndarray
    runs: np.ndarray

    @cached_property
    def there(self) -> np.ndarray:
        """(sizes, seeds): which runs there are."""
        there: np.ndarray = np.isfinite(self.runs[0])
        return there

    @cached_property
    def count(self) -> np.ndarray:
        """(sizes,): runs."""
        count: np.ndarray = self.there.sum(1)
        return count

    @cached_property
    def mean(self) -> np.ndarray:
        """(curves, sizes): of ln(excess)."""
        mean: np.ndarray = np.nanmean(self.runs, axis=2)
        return mean

    def fit(self, law: Law) -> "Fitted | None":
        """A law's least squares in ln(excess) over the runs; None where it has more parameters than there are sizes."""
        if len(self.size) < len(law.names):
            return None
        y = np.exp(self.mean)
        start = np.array([_starts(law, self.size, row, self.count) for row in y])  # (curves, starts, parameters)
        each = start.shape[1]
        found = batch_fit(
            law, [self.size], np.repeat(y, each, 0), start.reshape(-1, start.shape[2]), weights=np.sqrt(self.count)
        )
        best = np.argmin(np.nan_to_num(found.cost, nan=np.inf).reshape(-1, each), axis=1)
        parameters = found.parameters.reshape(start.shape)[np.arange(len(best)), best]
        residual = (self.runs - log_loss(law, [self.size], parameters)[:, :, None])[:, self.there]
        aicc = np.array([information(row, len(law.names))[0] for row in residual])
        return Fitted(law, parameters, residual, aicc)

    def part(self, rows: slice) -> "Curves":
        """Some of their sizes."""
        return Curves(self.size[rows], self.runs[:, rows])


@dataclass(frozen=True)
class Fitted:
    """A law's ``parameters`` (curves, parameters), the ``residual`` (curves, runs) and ``aicc`` (curves,)."""

    law: Law
    parameters: np.ndarray
    residual: np.ndarray
    aicc: np.ndarray

    @property
    def free(self) -> np.ndarray:
        """(curves, parameters): those that do not lie at a bound of zero."""
        return self.parameters > 0

    def jacobian(self, size: np.ndarray) -> np.ndarray:
        """(curves, sizes, parameters): of ln(excess); zero for a parameter at its bound."""
        return np.where(self.free[:, None], log_gradient(self.law, [size], self.parameters), 0.0)

    def at(self, size: np.ndarray) -> np.ndarray:
        """(curves, sizes): ln(excess)."""
        return log_loss(self.law, [size], self.parameters)


def _line(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Level at x = 0 and slope of a straight line by weighted least squares."""
    design = np.stack([np.ones_like(x), x], 1)
    root = np.sqrt(weights)
    level_and_slope: np.ndarray = np.linalg.lstsq(design * root[:, None], y * root, rcond=None)[0]
    return level_and_slope


def _starts(law: Law, x: np.ndarray, y: np.ndarray, count: np.ndarray) -> list[list[float]]:
    """Parameters to begin a fit from; each law is a straight line once some of them are chosen."""
    log_x = np.log(x)
    level, slope = _line(log_x, np.log(y), count)
    if law is EXCESS_LAWS["power law"]:
        return [[np.exp(level), np.clip(-slope, 0, 5)]]
    if law is LOGARITHMIC:
        level, slope = _line(log_x, y, count / y**2)
        return [[max(level, 1e-9), max(-slope, 0)]]
    if law is BROKEN:
        inner = np.sqrt(x[1:-2] * x[2:-1]) if len(x) > 4 else x[1:-1]
        found = []
        for d in np.concatenate([x[1:-1], inner]):
            design = np.stack([np.ones_like(x), -log_x, -np.maximum(log_x - np.log(d), 0)], 1)
            root = np.sqrt(count)
            at, alpha, change = np.linalg.lstsq(design * root[:, None], np.log(y) * root, rcond=None)[0]
            found.append([np.exp(at), np.clip(alpha, -5, 5), np.clip(change, -5, 5), d])
        return found
    starts = []
    for offset in np.array([0.0, 0.3, 0.6, 0.85, 0.97]) * y.min():
        level, slope = _line(log_x if law is EXCESS_LAWS["power law and offset"] else x, np.log(y - offset), count)
        starts.append([offset, np.exp(np.clip(level, -50, 50)), np.clip(-slope, 0, 5)])
    return starts


def verdict_of_laws(aicc: dict[str, float]) -> str:
    """``best``, ``tied`` or ``beaten``: the power law, with and without offset, among the laws tried; else ``""``."""
    power = min(aicc[name] for name in POWER_LAWS)
    other = min((value for name, value in aicc.items() if name not in POWER_LAWS), default=np.inf)
    if not np.isfinite(power):
        return ""
    return "best" if power < other - TIED else "tied" if power <= other + TIED else "beaten"


def misfit(
    curves: Curves, fitted: Fitted, floors: np.ndarray, scatter: np.ndarray, dof: np.ndarray, *, seed: int = 0
) -> np.ndarray:
    """Misfit of a power law as a part of the loss: the estimate, its upper 95 % end, and that test's power.

    The misfit is the root mean square over sizes of (law - mean of the runs) / mean of the runs, in losses, less what
    the seeds' scatter is expected to give. Its upper end is the basic bootstrap's: means are drawn again with the
    seeds' scatter (itself drawn, as ``dof`` degrees of freedom know it), and the law is fitted again, linearised
    about its optimum.

    Parameters
    ----------
    curves, fitted : Curves, Fitted
    floors : (curves,)
        Losses of a perfect predictor.
    scatter, dof : (curves,)
        Of ln(excess) of a run about the mean of its size, and the degrees of freedom that it was estimated with.

    Returns
    -------
    estimate, upper, power : (curves,)
        Parts of the loss; and how often the upper end would lie below :data:`MISFIT` if the law held exactly. NaN
        where no size has two runs, so that the scatter is unknown.
    """
    rng, out = np.random.default_rng(seed), np.full((3, len(curves.runs)), np.nan)
    excess, jacobian, root = np.exp(curves.mean), fitted.jacobian(curves.size), np.sqrt(curves.count)
    part = excess / (floors[:, None] + excess)  # from ln(excess) to ln(loss)
    hat = jacobian @ np.linalg.pinv(jacobian * root[:, None]) * root
    leave = part[:, :, None] * (np.eye(len(root)) - hat)  # what a fit leaves of noise
    missed = part * (curves.mean - fitted.at(curves.size))
    for i in np.flatnonzero(dof > 0):
        drawn = scatter[i] * np.sqrt(dof[i] / rng.chisquare(dof[i], (BOOTSTRAP, 1)))
        again = drawn * rng.standard_normal((BOOTSTRAP, len(root))) / root @ leave[i].T
        tries = scatter[i] * rng.standard_normal((TRIES, len(root))) / root @ leave[i].T
        seen = np.vstack([missed[i], tries])
        noise = scatter[i] ** 2 * (leave[i] ** 2 @ (1 / curves.count)).mean()
        squares = (seen**2).mean(1)
        # mean((seen + again)^2) over sizes, without an array of all sums
        redrawn = squares[:, None] + 2 * seen @ again.T / len(root) + (again**2).mean(1)
        upper = squares - noise - np.quantile(redrawn - noise - squares[:, None], 0.05, axis=1)
        best = max(squares[0] - noise, 0.0)
        out[:, i] = np.sqrt(best), np.sqrt(max(upper[0], best)), (upper[1:] < MISFIT**2).mean()
    return out


def held_out(curves: Curves) -> np.ndarray:
    """Which runs at the two largest sizes lie in the 95 % band of the power law fitted without them: (curves, runs).

    The offset is free, also where it comes out as zero: a law chosen on so few sizes would hide what they do not know,
    and its band then holds as little as half of the runs (``benchmarks/claims.py``). The band is of single runs, by the
    fit's own scatter. No runs where fewer than three sizes are left, or no more runs than parameters.
    """
    early, late = curves.part(slice(None, -LEFT_OUT)), curves.part(slice(-LEFT_OUT, None))
    law = EXCESS_LAWS[POWER_LAWS[1]]
    fit, dof = early.fit(law), early.count.sum() - len(law.names)
    if fit is None or dof < 1:
        return np.zeros((len(curves.runs), 0), bool)
    near, ahead = (log_gradient(law, [part.size], fit.parameters) for part in (early, late))
    known = np.linalg.pinv(np.swapaxes(near, 1, 2) @ (early.count[:, None] * near))
    sd = np.sqrt((fit.residual**2).sum(1) / dof)
    half = (stats.t.ppf(0.975, dof) * sd)[:, None] * np.sqrt(1 + np.einsum("cij,cjk,cik->ci", ahead, known, ahead))
    inside: np.ndarray = np.abs(late.runs - fit.at(late.size)[:, :, None]) <= half[:, :, None]
    return inside[:, late.there]
