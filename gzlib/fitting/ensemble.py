"""An ensemble of curve shapes for extrapolation: what each of its members says of a curve beyond its last size.

A member weighs the points of a curve (recent ones more, or by a drift of the law that grows with the distance from
the last size) and holds a prior on the curve's shape. Shapes have one number that is not fitted, on a grid: the
exponent of an offset law, or the level of a shifted one. For each shape the level and the slope at the last size are
fitted to ln(loss) by Gauss-Newton steps, with a prior on the slope, for many curves at once; shapes are then averaged
by their posterior probability. So a member costs next to nothing once the shapes are fitted, and is defined for two
points as well as for two hundred.

The second half draws from the posterior over whole laws (offset, logarithm, power, shifted, broken, and flat at first)
and the noise: what a few sizes say where one of those laws holds. Its bands are sharp and Bayesian; that no law may
hold is the ensemble's part of ``mixture_quantiles``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
from scipy.special import digamma, logsumexp, polygamma, softmax, stdtr, stdtrit
from scipy.stats import norm, qmc
from scipy.stats import t as student

from gzlib.fitting.laws import Law, LawLike, get_law
from gzlib.fitting.optimise import batch_fit, log_gradient, log_loss, starting_points

EXPONENTS = np.geomspace(0.06, 4, 17)  # of E + A x^-alpha; E may be negative: then the curve bends downwards
BENDS = np.array([0.03, 0.1, 0.3, 1.0, 3.0])  # g of A (1/x + g)^alpha, in units of the last size
OFFSET, LOGARITHM, POWER, SHIFTED = range(4)
FAMILY = np.array([OFFSET] * len(EXPONENTS) + [LOGARITHM, POWER] + [SHIFTED] * len(BENDS))
SHAPE = np.concatenate([EXPONENTS, [0.0, 0.0], BENDS])
RECENCIES = np.array([0.25, 0.35, 0.5, 0.75, 1.0, 2.0, np.inf])  # in ln x
DRIFTS = np.array([0.3, 1.0, 3.0, 10.0, 30.0, 100.0])  # scale of the law's drift over the noise of one run
WEIGHTINGS = len(RECENCIES) + len(DRIFTS)
SLOPE = (-1.7, 1.3)  # prior of ln(slope) at the last size: centre and width
NOISE = (0.005, 1.0)  # prior of the noise of ln(loss): scale, and the number of points that it counts as
DRIFT_WIDTH = 0.7  # of the prior of ln(drift)
LOWEST = 0.05  # of the last loss: no shape falls below
STEPS = 6
MAX_POINTS = 30  # denser curves are averaged in bins, finest at the end
BIN_POWER = 1.5
BLOCK = 600  # points of curves that are fitted together: keeps the temporaries small


@dataclass(frozen=True)
class Pilot:
    """One curve: ``log_x`` ascending, ``log_y`` the mean ln(loss) of ``runs`` runs (sizes,).

    ``seed_variance`` of ln(loss) between runs of the last size and its degrees of freedom ``seed_dof`` (0 where
    unknown); ``floor``, a known irreducible loss and its standard error, or None; ``law``, the only one to use, or
    None; ``fall``, the exponent with which that variance falls from size to size.
    """

    log_x: np.ndarray
    log_y: np.ndarray
    runs: np.ndarray
    seed_variance: float = 0.0
    seed_dof: float = 0.0
    floor: tuple[float, float] | None = None
    law: LawLike | None = None
    fall: float = 0.0

    @property
    def precision(self) -> np.ndarray:
        """How many runs of the last size tell as much as those of each size, (sizes,)."""
        counted: np.ndarray = self.runs * np.exp(self.fall * (self.log_x - self.log_x[-1]))
        return counted

    def until(self, end: int) -> "Pilot":
        """The curve as if it had ended before its ``end``-th size."""
        noisier = np.exp(self.fall * (self.log_x[-1] - self.log_x[end - 1]))
        return replace(
            self,
            log_x=self.log_x[:end],
            log_y=self.log_y[:end],
            runs=self.runs[:end],
            seed_variance=self.seed_variance * noisier,
        )


@dataclass(frozen=True)
class Member:
    """Weightings that a member averages over, log prior of the shapes (shapes,) and of ln(drift) (centre or None)."""

    weightings: tuple[int, ...]
    shapes: np.ndarray
    drift: float | None = None


def _prior(family: int, centre: float | None = None, width: float | None = None) -> np.ndarray:
    values = np.full(len(FAMILY), -np.inf)
    own = family == FAMILY
    values[own] = 0.0 if centre is None else -0.5 * (np.log(SHAPE[own] / centre) / width) ** 2
    return values


def _members() -> tuple[Member, ...]:
    out = []
    exponents = ((None, None), (0.2, 0.3), (0.35, 0.15), (0.5, 0.15), (0.7, 0.15), (1.0, 0.3), (0.5, 0.7))
    for i in range(len(RECENCIES)):
        out += [Member((i,), _prior(OFFSET, *prior)) for prior in exponents]
        out += [Member((i,), _prior(SHIFTED, *prior)) for prior in ((None, None), (1.0, 0.6), (0.1, 0.6))]
        if RECENCIES[i] in (0.35, np.inf):
            out.append(Member((i,), _prior(POWER)))
        if RECENCIES[i] in (0.75, np.inf):
            out.append(Member((i,), _prior(LOGARITHM)))
    drifting = tuple(range(len(RECENCIES), WEIGHTINGS))
    out += [Member(drifting, _prior(OFFSET, c, 0.6), drift) for c in (0.5, 1.0, 2.0) for drift in (-3.0, -2.0, -1.0)]
    out += [Member(drifting, _prior(SHIFTED), drift) for drift in (-2.0, -1.0)]
    return tuple(out)


MEMBERS = _members()


@dataclass(frozen=True)
class Ahead:
    """What the members say of one curve at some sizes, in ln(loss).

    ``mean``, ``within`` (variance of the shapes' parameters) and ``square`` (mean square over shapes), arrays (members,
    sizes); ``noise`` (variance of one run about the curve) and ``slope`` (fall of ln(loss) with ln x at the last size),
    arrays (members,); ``lead`` (sizes,), ln(size / last size); ``points``, how many the curve has.
    """

    mean: np.ndarray
    within: np.ndarray
    square: np.ndarray
    noise: np.ndarray
    slope: np.ndarray
    lead: np.ndarray
    points: float


def pad(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Stack curves of different length: sizes in units of each curve's last, losses, presence; and the last sizes."""
    n = max(len(x) for x, _ in curves)
    x = np.ones((len(curves), n))
    y = np.ones((len(curves), n))
    present = np.zeros((len(curves), n), bool)
    last = np.array([np.max(x) for x, _ in curves], float)
    for i, (sizes, losses) in enumerate(curves):
        x[i, : len(sizes)], y[i, : len(sizes)], present[i, : len(sizes)] = sizes / last[i], losses, True
    return x, y, present, last


def bin_points(pilot: Pilot) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distance from the last size (at most 0), ln(loss) and precision, averaged in bins where there are many sizes."""
    lead, precision = pilot.log_x - pilot.log_x[-1], pilot.precision
    if len(lead) <= MAX_POINTS:
        return lead, pilot.log_y, precision
    bins = np.ceil(MAX_POINTS * (lead / lead[0]) ** (1 / BIN_POWER) - 1e-9).astype(int)
    index = np.unique(-bins, return_inverse=True)[1]
    runs = np.bincount(index, precision)
    lead, log_y = (np.bincount(index, precision * values) / runs for values in (lead, pilot.log_y))
    return lead, log_y, runs


def _basis(lead: np.ndarray) -> np.ndarray:
    """What multiplies the slope in each shape, (..., shapes, points), at ln(size/last size) ``lead`` (..., points)."""
    lead = lead[..., None, :]
    offset = np.expm1(np.minimum(-EXPONENTS[:, None] * lead, 700)) / EXPONENTS[:, None]
    shifted = (1 + BENDS[:, None]) * (np.logaddexp(-lead, np.log(BENDS)[:, None]) - np.log1p(BENDS)[:, None])
    return np.concatenate([offset, -lead, -lead, shifted], axis=-2)


_IN_LOSS = ((FAMILY == OFFSET) | (FAMILY == LOGARITHM))[:, None]  # linear in the loss; the others are in ln(loss)


def _shape(log_slope: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ln(loss) over its value at the last size, and its derivative by ln(slope)."""
    moved = np.exp(log_slope)[..., None] * basis
    loss = np.maximum(1 + moved, LOWEST)
    value = np.where(_IN_LOSS, np.log(loss), moved)
    return value, np.where(_IN_LOSS, np.where(loss > LOWEST, moved / loss, 0.0), moved)


def _whitening(lead: np.ndarray, runs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Square roots of the inverse covariances of the points, (curves, weightings, points, points), and their log dets.

    A point's noise is that of its runs, more by exp(distance / recency), or with a drift of the law added: an
    integrated random walk that starts at the last size.
    """
    curves, points = lead.shape
    out = np.zeros((curves, WEIGHTINGS, points, points))
    log_det = np.zeros((curves, WEIGHTINGS))
    diagonal = np.arange(points)
    out[:, : len(RECENCIES), diagonal, diagonal] = np.sqrt(runs[:, None] * np.exp(lead[:, None] / RECENCIES[:, None]))
    distance = -lead
    near = np.minimum(distance[:, :, None], distance[:, None])
    far = np.maximum(distance[:, :, None], distance[:, None])
    walk = (near**2 * (3 * far - near) / 6)[:, None] * DRIFTS[:, None, None] ** 2
    walk[..., diagonal, diagonal] += (1 / runs)[:, None]
    factor = np.linalg.cholesky(walk)
    out[:, len(RECENCIES) :] = np.linalg.inv(factor).swapaxes(-1, -2)
    log_det[:, len(RECENCIES) :] = -np.log(factor[..., diagonal, diagonal]).sum(axis=-1)
    return out, log_det


def _fit_shapes(
    lead: np.ndarray,
    log_y: np.ndarray,
    runs: np.ndarray,
    seed: Sequence[np.ndarray],
    floors: Sequence[tuple[float, float] | None],
) -> dict[str, np.ndarray]:
    """Level and slope of every shape under every weighting: a dict of arrays (curves, weightings, shapes[, ...])."""
    curves, points = lead.shape
    root, log_det = _whitening(lead, runs)
    basis = _basis(lead)[:, None]
    ones = root.sum(axis=2)
    norm = np.sum(ones**2, axis=-1)

    def centred(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        white = np.matmul(values, root)
        share = np.matmul(white, ones[..., None]) / norm[..., None, None]
        return white - share * ones[..., None, :], share[..., 0]

    losses = np.broadcast_to(log_y[:, None, None], (curves, WEIGHTINGS, 1, points))
    target, level_y = centred(losses)
    straight = centred(np.broadcast_to(-lead[:, None, None], losses.shape))[0]
    slope = np.sum(straight * target, axis=-1) / np.maximum(np.sum(straight**2, axis=-1), 1e-12)
    log_slope = np.broadcast_to(np.log(np.clip(slope, 3e-3, 2.0)), (curves, WEIGHTINGS, len(FAMILY))).copy()
    centre, width = SLOPE
    dof = np.zeros((curves, WEIGHTINGS)) + max(points - 2, 0)
    dof[:, : len(RECENCIES)] = np.maximum(np.exp(lead[:, None] / RECENCIES[:, None]).sum(axis=-1) - 2, 0)
    known, pull, wanted = _floor_pull(floors, level_y)
    noise = np.full((curves, WEIGHTINGS), NOISE[0] ** 2)
    for step in range(STEPS + 1):
        shape, gradient = _shape(log_slope, basis)
        white, level_shape = centred(shape)
        residual = target - white
        squares = np.sum(residual**2, axis=-1)
        white_gradient, level_gradient = centred(gradient)
        best = squares.min(axis=-1)
        noise = (NOISE[1] * NOISE[0] ** 2 + best + seed[0] * seed[1]) / (NOISE[1] + dof + seed[1])
        prior = (log_slope - centre) / width
        # a known floor E is one more observation, of 1 - slope/alpha = E / (loss at the last size)
        over = np.exp(log_slope[..., : len(EXPONENTS)]) / EXPONENTS
        missed = np.zeros_like(log_slope)
        missed[..., : len(EXPONENTS)] = pull * (1 - over - wanted)
        tilt = np.zeros_like(log_slope)
        tilt[..., : len(EXPONENTS)] = -pull * over
        information = np.sum(white_gradient**2, axis=-1) + noise[..., None] * (1 / width**2 + tilt**2)
        if step < STEPS:
            push = np.sum(white_gradient * residual, axis=-1) - noise[..., None] * (prior / width + tilt * missed)
            log_slope = np.clip(log_slope + np.clip(push / information, -1, 1), -8, 1.5)
    evidence = -0.5 * (prior**2 + missed**2 + np.log(information / noise[..., None]))
    evidence = np.where(known[:, None, None] & (FAMILY != OFFSET), -np.inf, evidence)
    return {
        "log_slope": log_slope,
        "level": level_y - level_shape,
        "squares": squares,
        "noise": noise,
        "information": information,
        "correlated": level_gradient,
        "norm": norm,
        "evidence": evidence,
        "log_det": log_det,
    }


def _floor_pull(
    floors: Sequence[tuple[float, float] | None], level_y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which curves have a known floor; 1 / its standard error and its value, in units of the loss at the last size."""
    known = np.array([floor is not None for floor in floors])
    value, error = (np.array([0.0 if floor is None else floor[i] for floor in floors]) for i in range(2))
    end = np.exp(level_y[..., 0])[..., None]
    share = value[:, None, None] / end
    return known, np.where(known[:, None, None], end / np.maximum(error[:, None, None], 0.01 * end), 0.0), share


def _average(fit: dict[str, np.ndarray], points: int) -> np.ndarray:
    """Posterior probability of weightings and shapes under every member, (curves, members, weightings, shapes)."""
    curves = len(fit["noise"])
    noise = fit["noise"][..., None]
    likely = -0.5 * fit["squares"] / noise + fit["evidence"]
    drifting = slice(len(RECENCIES), WEIGHTINGS)
    whole = likely[:, drifting] - 0.5 * (
        (points - 1 + NOISE[1]) * np.log(noise[:, drifting])
        + NOISE[1] * NOISE[0] ** 2 / noise[:, drifting]
        + np.log(fit["norm"][:, drifting])[..., None]
        - 2 * fit["log_det"][:, drifting][..., None]
    )
    scale = 0.5 * np.log(fit["noise"][:, drifting]) + np.log(DRIFTS)
    out = np.zeros((curves, len(MEMBERS), WEIGHTINGS, len(FAMILY)))
    for k, member in enumerate(MEMBERS):
        if member.drift is None:
            only = member.weightings[0]
            own, place = (likely[:, only] + member.shapes)[:, None], slice(only, only + 1)
        else:
            own = whole + member.shapes - 0.5 * (((scale - member.drift) / DRIFT_WIDTH) ** 2)[..., None]
            place = drifting
        top = own.max(axis=(1, 2), keepdims=True)
        own = np.exp(own - np.where(np.isfinite(top), top, 0.0))
        total = own.sum(axis=(1, 2), keepdims=True)
        out[:, k, place] = own / np.where(total > 0, total, 1.0)
    return out


def look_ahead(pilots: Sequence[Pilot], sizes: Sequence[np.ndarray]) -> list[Ahead]:
    """What the members say of every curve.

    Parameters
    ----------
    pilots : list of Pilot
        Alike in ``law``.
    sizes : list of arrays
        ln x of the sizes to forecast for each.

    Returns
    -------
    list of Ahead. A member that a known floor or a chosen law rules out is NaN.
    """
    law = get_law(pilots[0].law) if pilots and pilots[0].law is not None else None
    if law is not None and law.name not in _FAMILY_OF:
        return [_ahead_of_law(law, pilot, new) for pilot, new in zip(pilots, sizes, strict=True)]
    points = [bin_points(pilot) for pilot in pilots]
    found: dict[int, Ahead] = {}
    for length in {len(lead) for lead, _, _ in points}:
        rows = [i for i, (lead, _, _) in enumerate(points) if len(lead) == length]
        step = max(BLOCK // length, 1)
        for first in range(0, len(rows), step):
            part = rows[first : first + step]
            lead, log_y, runs = (np.stack([points[i][j] for i in part]) for j in range(3))
            seed = [np.array([[getattr(pilots[i], name)] for i in part]) for name in ("seed_variance", "seed_dof")]
            fit = _fit_shapes(lead, log_y, runs, seed, [pilots[i].floor for i in part])
            if law is not None:
                fit["evidence"] = np.where(_FAMILY_OF[law.name] == FAMILY, fit["evidence"], -np.inf)
                over = np.exp(fit["log_slope"]) > 1.001 * np.where(FAMILY == OFFSET, SHAPE, np.inf)
                fit["evidence"] = np.where(over, fit["evidence"] - 50.0, fit["evidence"])  # such a law has E >= 0
            share = _average(fit, length)
            for j, i in enumerate(part):
                found[i] = _ahead(fit, share, j, sizes[i] - pilots[i].log_x[-1], len(pilots[i].log_x))
    return [found[i] for i in range(len(pilots))]


_FAMILY_OF = {"power-offset": OFFSET, "power": POWER, "shifted-power": SHIFTED}


def _ahead(fit: dict[str, np.ndarray], share: np.ndarray, j: int, lead: np.ndarray, points: int) -> Ahead:
    shape, gradient = _shape(fit["log_slope"][j], _basis(lead))
    mean = (fit["level"][j][..., None] + shape).reshape(-1, len(lead))
    spread = (gradient - fit["correlated"][j][..., None]) ** 2 / fit["information"][j][..., None]
    within = (fit["noise"][j][:, None, None] * (1 / fit["norm"][j][:, None, None] + spread)).reshape(-1, len(lead))
    weights = share[j].reshape(len(MEMBERS), -1)
    void = weights.sum(axis=1) == 0
    slope = np.exp(fit["log_slope"][j]).reshape(-1)
    values = [weights @ mean, weights @ within, weights @ mean**2, share[j].sum(axis=2) @ fit["noise"][j]]
    mean, own, square, noise, steep = (
        np.where(void.reshape(-1, *[1] * (v.ndim - 1)), np.nan, v) for v in (*values, weights @ slope)
    )
    return Ahead(mean, own, square, noise, steep, lead, points)


def _ahead_of_law(law: Law, pilot: Pilot, log_new: np.ndarray) -> Ahead:
    """Members of a law of several numbers: the law itself, fitted under each recency."""
    lead, log_y, runs = bin_points(pilot)
    weights = np.sqrt(runs * np.exp(lead / RECENCIES[:, None]))
    held, x, y = {}, np.exp(lead), np.exp(log_y)
    if pilot.floor is not None and "E" in law.names:
        held = {"E": pilot.floor[0]}
    start = starting_points(law, [x], y, weights=weights[-1], fixed=held, count=1)
    found = batch_fit(
        law, [x], np.tile(y, (len(weights), 1)), np.repeat(start, len(weights), axis=0), weights=weights, held=[*held]
    )
    theta, free = found.parameters, [name not in held for name in law.names]
    dof = np.maximum(np.exp(lead / RECENCIES[:, None]).sum(axis=1) - sum(free), 0)
    noise = (NOISE[1] * NOISE[0] ** 2 + 2 * found.cost + pilot.seed_variance * pilot.seed_dof) / (
        NOISE[1] + dof + pilot.seed_dof
    )
    new = log_new - pilot.log_x[-1]
    with np.errstate(all="ignore"):
        inner = (log_gradient(law, [x], theta) * weights[..., None])[..., free]
        outer = log_gradient(law, [np.exp(new)], theta)[..., free]
        size = np.sqrt(np.sum(inner**2, axis=1, keepdims=True)) + 1e-300
        # a weak prior, of one run's noise over the whole range of a parameter, keeps what is not identified finite
        normal = np.matmul((inner / size).swapaxes(1, 2), inner / size) + 1e-4 * np.eye(sum(free))
        solved = np.linalg.solve(normal, (outer / size).swapaxes(1, 2))
        within = noise[:, None] * np.einsum("ksp,kps->ks", outer / size, solved)
        mean = log_loss(law, [np.exp(new)], theta)
        ends = log_loss(law, [np.exp(np.array([-0.05, 0.0]))], theta)
    return Ahead(
        mean, within, mean**2, noise, np.maximum((ends[:, 0] - ends[:, 1]) / 0.05, 1e-4), new, len(pilot.log_x)
    )


@dataclass(frozen=True)
class Family:
    """Laws of one form, in ln(loss) over its value at the last size.

    ``shape(p, lead, span)`` with the logarithms of the slopes first and, where there are ``cells``, one more number at
    the end: where a curve bends. A cell is a normal prior of it about one of ``cells`` (cells,), ``width`` wide, with
    prior probabilities ``shares`` (cells,); together they cover what is likely. ``steps`` are quasi-random draws of
    Student's t, (draws, numbers), and ``log_density`` (draws,) theirs.
    """

    shape: Callable[..., np.ndarray]
    weight: float
    cells: np.ndarray
    width: float
    shares: np.ndarray
    centre: tuple[float, ...]
    spread: tuple[float, ...]
    floor: Callable[..., np.ndarray] | None
    steps: np.ndarray
    log_density: np.ndarray


STEEP = (-1.7, 0.9)  # prior of the ln of a slope of ln(loss) in ln x
DRAW_DOF = 6.0  # of the t that posterior draws are proposed from
INFLATE = 1.1  # of its scale over the normal approximation's
SEARCH = 8  # Gauss-Newton steps to the centre of the proposal
BREAK = 0.3  # width of a break in ln x
NEGATIVE = (0.1, 0.3)  # probability that a floor is below zero, and how far in units of the last loss
LEAST = 0.02  # of the last loss: no law falls below
FLOOR_ERROR = 0.005  # least error of a known floor, in units of the last loss
EVEN = 256  # draws of equal weight that stand for a posterior: its quantiles are theirs to 1 / (2 EVEN)
ORDERED_AT = np.log(4.0)  # distance in ln(size) by whose losses they are evenly chosen


def _offset(p: np.ndarray, lead: np.ndarray, _: np.ndarray) -> np.ndarray:
    exponent = np.exp(p[..., 1:])
    return _ln(1 + np.exp(p[..., :1]) * np.expm1(np.minimum(-exponent * lead, 50)) / exponent)


def _rounded(p: np.ndarray, lead: np.ndarray, _: np.ndarray) -> np.ndarray:
    """An offset law in x + c: flat at first, then falling, then bending to its floor."""
    exponent, start = np.exp(p[..., 1:2]), p[..., 2:]
    fallen = np.logaddexp(lead, start) - np.log1p(np.exp(start))
    steep = np.exp(p[..., :1]) * (1 + np.exp(start))
    return _ln(1 + steep * np.expm1(np.minimum(-exponent * fallen, 50)) / exponent)


def _shifted(p: np.ndarray, lead: np.ndarray, _: np.ndarray) -> np.ndarray:
    level = p[..., 1:]
    both = 1 + np.exp(level)
    value: np.ndarray = np.exp(p[..., :1]) * both * (np.logaddexp(-lead, level) - np.log(both))
    return value


def _broken(p: np.ndarray, lead: np.ndarray, span: np.ndarray) -> np.ndarray:
    at = -p[..., 2:] * span[..., None]
    bend = BREAK * (np.logaddexp(0, (lead - at) / BREAK) - np.logaddexp(0, -at / BREAK))
    value: np.ndarray = -np.exp(p[..., :1]) * (lead - bend) - np.exp(p[..., 1:2]) * bend
    return value


def _ln(loss: np.ndarray) -> np.ndarray:
    value: np.ndarray = np.log(np.maximum(loss, LEAST))
    return value


def _family(
    shape: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    weight: float,
    cells: npt.ArrayLike = (),
    shares: np.ndarray | None = None,
    centre: tuple[float, ...] = (STEEP[0],),
    spread: tuple[float, ...] = (STEEP[1],),
    floor: Callable[[np.ndarray], np.ndarray] | None = None,
    draws: int = 16,
) -> Family:
    cells = np.asarray(cells, float)
    width = 0.75 * (cells[1] - cells[0]) if len(cells) else 0.0
    shares = np.ones(max(len(cells), 1)) if shares is None else shares
    numbers = len(centre) + bool(len(cells))
    even = (np.arange(draws)[:, None] + 0.5) / draws if numbers == 1 else qmc.Sobol(numbers, seed=3).random(draws)
    steps = student.ppf(even, DRAW_DOF)
    density = student.logpdf(steps, DRAW_DOF).sum(axis=1) + np.log(draws)
    return Family(shape, weight, cells, width, shares / shares.sum(), centre, spread, floor, steps, density)


EXPONENT = (np.log(0.45), 0.6)  # prior of ln(alpha) of an offset law
ROUNDED = (np.log(0.9), 0.6)  # of one that starts flat
_LN_ALPHA = np.linspace(np.log(0.1), np.log(1.6), 6)
_ABOVE = np.log(0.55)  # ln of the typical part of the last loss that is above the floor
FAMILIES = (
    _family(
        _offset,
        0.35,
        _LN_ALPHA,
        np.exp(-0.5 * ((_LN_ALPHA - EXPONENT[0]) / EXPONENT[1]) ** 2),
        (EXPONENT[0] + _ABOVE,),
        (0.85,),
        lambda p: 1 - np.exp(p[..., 0] - p[..., 1]),
        32,
    ),
    _family(lambda p, lead, _: _ln(1 - np.exp(p[..., :1]) * lead), 0.25),
    _family(lambda p, lead, _: -np.exp(p[..., :1]) * lead, 0.05),
    _family(_shifted, 0.05, np.linspace(np.log(0.05), np.log(3), 3)),
    _family(_broken, 0.15, np.linspace(0.1, 0.9, 7), None, (STEEP[0],) * 2, (STEEP[1],) * 2, None, 64),
    _family(
        _rounded,
        0.15,
        np.linspace(np.log(0.003), 0, 6),
        None,
        (ROUNDED[0] + _ABOVE, ROUNDED[0]),
        (0.85, ROUNDED[1]),
        lambda p: 1 - np.exp(p[..., 0] - p[..., 1]) * (1 + np.exp(p[..., 2])),
        32,
    ),
)
SIGMA = np.geomspace(5e-4, 0.4, 40)  # noise of ln(loss) of one run that curves share what they know of
LN_NOISE = (np.log(0.03), 0.9)  # its prior
TRUST = 0.7  # in what the other curves say of it
COMPANIONS = 8.0  # curves, by likeness, that say no more together
ALIKE = 1.0  # difference of ln(noise) that makes a curve count 0.6 times


def _log_prior(family: Family, p: np.ndarray) -> np.ndarray:
    """Log density of the numbers of a law, (..., numbers)."""
    value: np.ndarray = np.zeros(p.shape[:-1])
    first = 0
    if family.floor is not None:  # even in the floor's part of the last loss, not in the slope
        share = family.floor(p)
        below, far = NEGATIVE
        density = np.where(share >= 0, (1 - below) * (share < 0.95) / 0.95, 0.0)
        density = np.where(share < 0, below * np.exp(np.minimum(share, 0) / far) / far, density)
        value, first = np.log(np.maximum(density * (1 - share), 1e-300)), 1
    for k in range(first, len(family.centre)):
        value = value + norm.logpdf(p[..., k], family.centre[k], family.spread[k])
    if len(family.cells):
        near = norm.logpdf(p[..., -1], family.cells[:, None], family.width) + np.log(family.shares)[:, None]
        value = value + near
    return value


@dataclass(frozen=True)
class Draws:
    """Weighted draws from the posterior of one or more curves' laws.

    ``log_weight`` and ``squares`` (sum of squared residuals of the means), arrays (curves, draws); ``mean`` of ln(loss)
    (curves, draws, sizes); ``place`` (curves, draws), the same at ``ORDERED_AT``; ``runs`` (curves,), how many in all;
    ``dof`` and ``scale`` (curves,) of the noise beside ``squares``.
    """

    log_weight: np.ndarray
    squares: np.ndarray
    mean: np.ndarray
    place: np.ndarray
    runs: np.ndarray
    dof: np.ndarray
    scale: np.ndarray

    def of(self, curves: Sequence[int]) -> "Draws":
        """Those of some of the curves."""
        return Draws(*(getattr(self, field.name)[list(curves)] for field in fields(self)))

    def even(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of each curve, few draws that stand for all: those at even steps of the posterior, and their shares of it.

        The likeliest few would be too alike: a hundred of 912 have three quarters of the posterior, and not its tails.
        """
        order = np.argsort(self.place, axis=1)
        share = np.cumsum(np.take_along_axis(softmax(self.log_weight, axis=1), order, axis=1), axis=1)
        steps = (np.arange(EVEN) + 0.5) / EVEN
        found = (np.searchsorted(own / own[-1], steps) for own in share)
        chosen = (np.unique(at, return_counts=True) for at in found)
        return [(order[i, at], count / EVEN) for i, (at, count) in enumerate(chosen)]


def draw_laws(pilots: Sequence[Pilot], leads: np.ndarray, noise: tuple[np.ndarray, np.ndarray]) -> Draws:
    """Draws from the posterior over all families, for pilots with equally many sizes.

    The numbers of each law are found by Gauss-Newton steps in every cell, drawn from a t about the place found, and
    weighed by prior times likelihood over proposal. The level has a flat prior and the noise an inverse gamma one; both
    are integrated out.

    Parameters
    ----------
    pilots : list of Pilot
    leads : array (curves, sizes)
        ln(size / last size) of what is asked.
    noise : tuple of arrays (curves,)
        Degrees of freedom and scale of the prior of the noise of one run.
    """
    points = [bin_points(pilot) for pilot in pilots]
    lead, log_y, runs = (np.stack([own[j] for own in points]) for j in range(3))
    leads = np.column_stack([leads, np.full(len(leads), ORDERED_AT)])
    total = runs.sum(axis=1)
    dof, scale = lead.shape[1] - 1 + noise[0], noise[0] * noise[1] ** 2
    level = (log_y * runs).sum(axis=1) / total
    straight = lead - ((lead * runs).sum(axis=1) / total)[:, None]
    slope = -(log_y * straight * runs).sum(axis=1) / (straight**2 * runs).sum(axis=1)
    known = np.array([pilot.floor is not None for pilot in pilots])
    end = np.exp(log_y[:, -1])
    floor, error = (np.array([pilot.floor[k] if pilot.floor else 0.0 for pilot in pilots]) / end for k in range(2))
    pull = known / np.maximum(error, FLOOR_ERROR)
    steep = np.log(np.clip(slope, 0.02, 1.5))
    data = (lead, log_y - level[:, None], runs, total, dof, scale, steep, floor, pull)
    weights, squares, means = [], [], []
    for family in FAMILIES:
        p, root = _propose(family, data)
        p = p[:, :, None] + np.einsum("cbde,me->cbmd", root, family.steps)
        span = -lead[:, :1, None]
        shape = family.shape(p, lead[:, None, None], span)
        weight = runs[:, None, None] / total[:, None, None, None]
        middle = (shape * weight).sum(axis=-1)
        missed = (log_y - level[:, None])[:, None, None] - (shape - middle[..., None])
        squares.append((missed**2 * runs[:, None, None]).sum(axis=-1))
        density = family.log_density - np.log(np.abs(np.linalg.det(root)))[..., None]
        likely = -0.5 * dof[:, None, None] * np.log(squares[-1] + scale[:, None, None])
        if family.floor is None:  # such a law goes on falling
            likely = np.where(known[:, None, None], -np.inf, likely)
        else:
            last = np.exp(level[:, None, None] - middle) / end[:, None, None]
            off = pull[:, None, None] * (family.floor(p) * last - floor[:, None, None])
            likely = likely - 0.5 * off**2
        weights.append(likely + _log_prior(family, p) + np.log(family.weight) - density)
        ahead = family.shape(p, leads[:, None, None], span)
        means.append(ahead + (level[:, None, None] - middle)[..., None])
    count = len(pilots)
    log_weight, square = (
        np.concatenate([v.reshape(count, -1) for v in values], axis=1) for values in (weights, squares)
    )
    mean = np.concatenate([v.reshape(count, -1, leads.shape[1]) for v in means], axis=1)
    return Draws(log_weight, square, mean[..., :-1], mean[..., -1], total, dof, scale)


def _propose(family: Family, data: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Centre (curves, cells, numbers) and root of the covariance of the proposal in every cell."""
    lead, log_y, runs, total, dof, scale, log_slope, floor, pull = data
    cells = len(family.shares)
    centre = np.tile(family.centre, (cells, 1))
    spread = np.array(family.spread)
    if family.floor is not None and len(family.centre) == 1:
        centre[:, 0] = family.cells + _ABOVE  # the slope is the exponent times the part above the floor
        spread = np.array([0.6])
    if len(family.cells):
        centre, spread = np.column_stack([centre, family.cells]), np.append(spread, family.width)
    p = np.broadcast_to(centre, (len(lead), *centre.shape)).copy()
    slopes = 2 if family.shape is _broken else 1
    p[..., :slopes] = 0.5 * (p[..., :slopes] + log_slope[:, None, None])
    lead, span, runs = lead[:, None], -lead[:, :1], runs[:, None]

    def centred(values: np.ndarray) -> np.ndarray:
        about_mean: np.ndarray = values - (values * runs).sum(axis=-1, keepdims=True) / total[:, None, None]
        return about_mean

    for _ in range(SEARCH):
        shape = family.shape(p, lead, span)
        moved = []
        for k in range(p.shape[-1]):
            ahead = p.copy()
            ahead[..., k] += 1e-4
            moved.append(centred(family.shape(ahead, lead, span) - shape) / 1e-4)
        gradient = np.stack(moved, axis=-1)
        missed = log_y[:, None] - centred(shape)
        variance = ((missed**2 * runs).sum(axis=-1) + scale[:, None]) / dof[:, None]
        weighted = gradient * runs[..., None] / variance[..., None, None]
        normal = np.matmul(weighted.swapaxes(-1, -2), gradient) + np.diag(1 / spread**2)
        push = np.matmul(weighted.swapaxes(-1, -2), missed[..., None])[..., 0] - (p - centre) / spread**2
        if family.floor is not None and pull.any():  # a known floor is one more observation
            share = family.floor(p)
            tilt = np.stack([(family.floor(p + step) - share) / 1e-4 for step in 1e-4 * np.eye(p.shape[-1])], axis=-1)
            weight = pull[:, None, None] ** 2 * tilt
            normal = normal + weight[..., None] * tilt[..., None, :]
            push = push + weight * (floor[:, None] - share)[..., None]
        p += np.clip(np.linalg.solve(normal, push[..., None])[..., 0], -0.7, 0.7)
        p[..., :slopes] = np.clip(p[..., :slopes], -7, 1)
    return p, INFLATE * np.linalg.cholesky(np.linalg.inv(normal))


def noise_evidence(pilots: Sequence[Pilot]) -> np.ndarray:
    """ln of the likelihood of each noise in ``SIGMA``, all laws integrated out: (curves, noises)."""
    prior = noise_prior(pilots, np.zeros((1, len(SIGMA))), np.zeros((len(pilots), 1)))
    drawn = draw_laws(pilots, np.zeros((len(pilots), 1)), prior)
    at = drawn.log_weight + 0.5 * drawn.dof[:, None] * np.log(drawn.squares + drawn.scale[:, None])
    known = (drawn.dof - prior[0])[:, None, None]
    value = at[..., None] - known * np.log(SIGMA) - drawn.squares[..., None] / (2 * SIGMA**2)
    evidence: np.ndarray = logsumexp(value, axis=1) + _seed_evidence(pilots)
    return evidence


def _seed_evidence(pilots: Sequence[Pilot]) -> np.ndarray:
    dof, variance = np.array([(pilot.seed_dof, pilot.seed_variance) for pilot in pilots]).T[..., None]
    evidence: np.ndarray = -dof * (np.log(SIGMA) + variance / (2 * SIGMA**2))
    return evidence


def noise_prior(pilots: Sequence[Pilot], evidence: np.ndarray, likeness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is known of the noise of each curve beside its means: degrees of freedom and scale, arrays (curves,).

    Parameters
    ----------
    pilots : list of Pilot
        Whose replicates speak too.
    evidence : array (others, noises)
        From ``noise_evidence``.
    likeness : array (curves, others)
        How much each of the others counts; zero for the curve itself.
    """
    base = norm.logpdf(np.log(SIGMA), *LN_NOISE)
    count = likeness.sum(axis=1, keepdims=True)
    likeness = likeness * np.minimum(1, COMPANIONS / np.maximum(count, 1e-9))
    shared = base + likeness @ (evidence - evidence.max(axis=1, keepdims=True))
    shares = TRUST * softmax(shared, axis=1) + (1 - TRUST) * softmax(base)
    shares = softmax(np.log(shares) + _seed_evidence(pilots), axis=1)
    mean = shares @ (2 * np.log(SIGMA))
    spread = np.sum(shares * (2 * np.log(SIGMA) - mean[:, None]) ** 2, axis=1)
    grid = np.geomspace(0.3, 300, 400)  # an inverse gamma with this mean and variance of ln(variance)
    dof = np.interp(-spread, -polygamma(1, grid / 2), grid)
    return dof, np.sqrt(np.exp(mean + digamma(dof / 2)) * 2 / dof)


def likeness_of_noise(evidence: np.ndarray, others: np.ndarray, *, same: np.ndarray) -> np.ndarray:
    """How alike curves are in their noise, (curves, others), zero where ``same``."""
    own, other = (
        np.log(SIGMA)[np.argmax(values + norm.logpdf(np.log(SIGMA), *LN_NOISE), axis=1)]
        for values in (evidence, others)
    )
    likeness: np.ndarray = np.exp(-0.5 * ((own[:, None] - other) / ALIKE) ** 2) * ~same
    return likeness


def mixture_quantiles(
    drawn: Draws,
    probabilities: Sequence[float] | np.ndarray,
    one_run: bool,
    doubt: np.ndarray,
    aside: Sequence[tuple[np.ndarray, np.ndarray, float]],
) -> np.ndarray:
    """Quantiles of ln(loss) of draws mixed with a Student's t, (curves, probabilities, sizes).

    Parameters
    ----------
    drawn : Draws
    probabilities : array (probabilities,)
    one_run : bool
        With the noise of one run.
    doubt : array (curves,)
        Weight of the t.
    aside : list (curves,) of (centre (sizes,), scale (sizes,), degrees of freedom)
    """
    out = np.empty((len(drawn.mean), len(probabilities), drawn.mean.shape[2]))
    wanted = np.repeat(np.asarray(probabilities), drawn.mean.shape[2])
    for i, (chosen, share) in enumerate(drawn.even()):
        weight = (1 - doubt[i]) * share
        mean, (centre, wide, dof) = drawn.mean[i, chosen], aside[i]
        variance = (drawn.squares[i, chosen] + drawn.scale[i]) / drawn.dof[i]
        scale = np.sqrt(variance * (1 / drawn.runs[i] + one_run))[:, None]
        below_far = _between(stdtr(drawn.dof[i], _FAR))  # many times faster than stdtr, to 1e-5
        count = len(probabilities)  # all at once: columns of every probability's sizes
        mean, centre, wide = (np.tile(of_sizes, count) for of_sizes in (mean, centre, wide))
        # A quantile of a mixture lies between those of its parts.
        own, other = mean + scale * stdtrit(drawn.dof[i], wanted), centre + wide * stdtrit(dof, wanted)
        low, high = np.minimum(own.min(axis=0), other), np.maximum(own.max(axis=0), other)
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            below = weight @ below_far((middle - mean) / scale) + doubt[i] * stdtr(dof, (middle - centre) / wide)
            enough = below >= wanted
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        out[i] = (0.5 * (low + high)).reshape(count, -1)
    return out


def _between(table: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function given at ``_FAR``, straight between: as by ``np.interp``, which searches what this computes."""
    steps = np.diff(table) / np.diff(_FAR)
    last = len(_FAR) - 2

    def read(value: np.ndarray) -> np.ndarray:
        value = np.clip(value, _FAR[0], _FAR[-1])
        place = np.minimum((np.arcsinh(value) - _ENDS[0]) * ((last + 1) / (_ENDS[1] - _ENDS[0])), last).astype(np.intp)
        found: np.ndarray = table[place] + steps[place] * (value - _FAR[place])
        return found

    return read


BISECTIONS = 17
_ENDS = (-5.0, 5.0)
_FAR = np.sinh(np.linspace(*_ENDS, 801))
