"""Many small fits at once, and the starting values that they need.

Levenberg-Marquardt in ln(loss), vectorised over curves, draws and profile points, with the objective and bounds of
``gzlib.fitting.fits`` (tested against it): a fit costs microseconds, so bootstraps, profiles and rolling origins need
no approximation. Starting values come from variable projection: a grid over the nonlinear parameters, the linear ones
solved exactly. The residual that the linear solve minimises is (f - y)/y, the first order of ln f - ln y, so a start
is already close to the optimum of the logarithmic fit.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from gzlib.fitting.laws import Law

Sizes = Sequence[np.ndarray]  # for each of a law's variables the sizes, (points,) or (fits, points)

CHUNK = 8192  # fits advanced together: keeps the temporaries inside the processor's cache
TINY = 1e-300  # losses below count as this much, so that their logarithm is finite


@dataclass(frozen=True)
class BatchResult:
    """``parameters`` (fits, parameters), ``cost`` (fits,) = half the weighted sum of squares, ``converged`` (fits,)."""

    parameters: np.ndarray
    cost: np.ndarray
    converged: np.ndarray


def law_bounds(law: Law) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds of the law's parameters, two arrays (parameters,)."""
    return (
        np.array([p.minimum for p in law.parameters.values()]),
        np.array([p.maximum for p in law.parameters.values()]),
    )


def log_loss(law: Law, variables: Sizes, parameters: np.ndarray) -> np.ndarray:
    """ln(loss) of each row of ``parameters`` (fits, parameters) at ``variables``: array (fits, points).

    At an infinite size it is ln E, of a law that has E. So a prior on ln E is one more observation, which every
    interval counts as it counts a run.
    """
    ends, sizes = _apart(variables)
    columns = {name: parameters[:, [j]] for j, name in enumerate(law.names)}
    values: np.ndarray = np.log(np.maximum(law.function(*sizes, **columns), TINY))
    return values if ends is None else np.where(ends, np.log(np.maximum(columns["E"], TINY)), values)


def _apart(variables: Sizes) -> tuple[np.ndarray | None, Sizes]:
    """Which sizes are infinite, None if none is, and the sizes with any others in their place."""
    ends = np.isinf(variables[0])
    return (ends, [np.where(ends, 1.0, variables[0])]) if ends.any() else (None, variables)


def log_gradient(law: Law, variables: Sizes, parameters: np.ndarray) -> np.ndarray:
    """d ln(loss) / d parameters, array (fits, points, parameters): analytic where the law has it, else differences."""
    if law.gradient is not None:
        ends, sizes = _apart(variables)
        parts = list(np.broadcast_arrays(*law.gradient(*sizes, *(parameters[:, [j]] for j in range(len(law.names))))))
        if ends is not None:
            of_e = 1 / np.maximum(parameters[:, [law.names.index("E")]], TINY)
            parts = [np.where(ends, of_e if name == "E" else 0, v) for name, v in zip(law.names, parts, strict=True)]
        return np.stack(parts, axis=-1)
    centre = log_loss(law, variables, parameters)
    upper = law_bounds(law)[1]
    columns = []
    for j in range(parameters.shape[1]):
        step = 1e-7 * (np.abs(parameters[:, j]) + 1e-3)
        step = np.where(parameters[:, j] + step > upper[j], -step, step)
        shifted = parameters.copy()
        shifted[:, j] += step
        columns.append((log_loss(law, variables, shifted) - centre) / step[:, None])
    return np.stack(columns, axis=-1)


def batch_fit(
    law: Law,
    variables: Sizes,
    y: np.ndarray,
    start: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    held: Collection[str] = (),
    lower: np.ndarray | None = None,
    upper: np.ndarray | None = None,
    max_steps: int = 80,
    tolerance: float = 1e-10,
) -> BatchResult:
    """Least squares of weights * (ln f - ln y) for many curves over the same or over different sizes.

    Parameters
    ----------
    law : Law
    variables : sequence of arrays (points,) or (fits, points)
    y : array (fits, points)
        Positive; give absent points any positive value and weight zero.
    start : array (fits, parameters)
    weights : array broadcastable to (fits, points)
    held : names of parameters that stay at their start
    lower, upper : arrays (parameters,)
        Replacing the law's bounds.

    Returns
    -------
    BatchResult
    """
    low, high = law_bounds(law)
    low, high = (low if lower is None else lower), (high if upper is None else upper)
    weights = np.broadcast_to(1.0 if weights is None else weights, y.shape)
    free = np.array([name not in held for name in law.names])
    pieces = []
    with np.errstate(all="ignore"):  # trial steps may overflow: such steps are not accepted
        for first in range(0, len(y), CHUNK):
            part = slice(first, first + CHUNK)
            sizes = [v[part] if np.ndim(v) == 2 else v for v in variables]
            pieces.append(
                _descend(
                    law,
                    sizes,
                    np.log(y[part]),
                    np.array(start[part], float),
                    weights[part],
                    free,
                    low,
                    high,
                    max_steps,
                    tolerance,
                )
            )
    parameters, cost, converged = (np.concatenate(part) for part in zip(*pieces, strict=True))
    return BatchResult(parameters, cost, converged & np.isfinite(cost))


def _descend(
    law: Law,
    variables: Sizes,
    log_y: np.ndarray,
    theta: np.ndarray,
    weights: np.ndarray,
    free: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    max_steps: int,
    tolerance: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    def cost_of(rows: np.ndarray | slice, sizes: Sizes, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        residual = weights[rows] * (log_loss(law, sizes, parameters) - log_y[rows])
        total = np.sum(residual**2, axis=1)
        return residual, np.where(np.isfinite(total), 0.5 * total, np.inf)

    theta = np.where(free, np.clip(theta, low, high), theta)
    cost = cost_of(slice(None), variables, theta)[1]
    damping = np.full(len(theta), 1e-3)
    converged = np.zeros(len(theta), bool)
    active = np.arange(len(theta))
    identity = np.eye(len(low))
    for _ in range(max_steps):
        sizes = [v[active] if np.ndim(v) == 2 else v for v in variables]
        here, w = theta[active], weights[active]
        jacobian = log_gradient(law, sizes, here) * w[:, :, None]
        residual, _ = cost_of(active, sizes, here)
        slope = np.matmul(jacobian.transpose(0, 2, 1), residual[:, :, None])[..., 0]
        normal = np.matmul(jacobian.transpose(0, 2, 1), jacobian)
        # A parameter at its bound whose descent direction points outward is held for this step.
        moving = free & ~((here <= low) & (slope > 0)) & ~((here >= high) & (slope < 0))
        slope = np.where(moving, slope, 0.0)
        normal = normal * (moving[:, :, None] & moving[:, None, :])
        diagonal = np.maximum(np.einsum("bpp->bp", normal), 1e-14)
        scaled = normal + (damping[active][:, None] * diagonal + np.where(moving, 0.0, 1.0))[:, :, None] * identity
        scaled = np.where(np.isfinite(scaled), scaled, identity)
        step = -np.linalg.solve(scaled, np.where(np.isfinite(slope), slope, 0.0)[..., None])[..., 0]
        trial = np.where(free, np.clip(here + step, low, high), here)
        trial_cost = cost_of(active, sizes, trial)[1]
        better = trial_cost <= cost[active]
        gain = cost[active] - trial_cost
        moved = np.max(np.abs(trial - here) / (np.abs(here) + 1e-6), axis=1)
        theta[active] = np.where(better[:, None], trial, here)
        done = better & (gain <= tolerance * (cost[active] + 1e-30)) & (moved < 1e-5)
        cost[active] = np.where(better, trial_cost, cost[active])
        damping[active] = np.clip(np.where(better, damping[active] / 5, damping[active] * 4), 1e-12, 1e12)
        done |= (moved < 1e-12) | (damping[active] >= 1e12)
        converged[active] = done
        active = active[~done]
        if active.size == 0:
            break
    return theta, cost, converged


MAX_SUBSETS = 8  # 2**3: no law here has more than three linear parameters


def nonnegative_least_squares(
    columns: np.ndarray, target: np.ndarray, *, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Exact non-negative least squares for many small problems at once, by trying every set of active columns.

    Parameters
    ----------
    columns : array (..., points, k)
        K <= 3.
    target : array broadcastable to (..., points)
    weights : array broadcastable to (..., points)
        Multiplying the residuals.

    Returns
    -------
    coefficients (..., k) >= 0 and the weighted residual sum of squares (...).
    """
    k = columns.shape[-1]
    if 2**k > MAX_SUBSETS:
        raise ValueError(f"at most 3 linear parameters, not {k}")
    if weights is not None:
        columns, target = columns * weights[..., None], target * weights
    norm = np.sqrt(np.einsum("...nk,...nk->...k", columns, columns))
    norm = np.where(norm > 0, norm, 1.0)
    columns = columns / norm[..., None, :]
    gram = np.einsum("...nj,...nk->...jk", columns, columns)
    moment = np.einsum("...nk,...n->...k", columns, target)
    total = np.einsum("...n,...n->...", target, target)
    free = np.linalg.solve(gram + 1e-13 * np.eye(k), moment[..., None])[..., 0]
    if np.all(free >= 0):  # the free optimum is the constrained one: no set of active columns to search
        return free / norm, np.maximum(total - np.einsum("...k,...k->...", free, moment), 0)
    best_gain = np.zeros(moment.shape[:-1])
    best = np.zeros(moment.shape)
    for size in range(1, k + 1):
        for subset in itertools.combinations(range(k), size):
            index = list(subset)
            matrix = gram[..., index, :][..., :, index] + 1e-13 * np.eye(size)
            solution = np.linalg.solve(matrix, moment[..., index, None])[..., 0]
            gain = np.einsum("...k,...k->...", solution, moment[..., index])
            better = np.all(solution >= 0, axis=-1) & (gain > best_gain)
            best_gain = np.where(better, gain, best_gain)
            full = np.zeros(moment.shape)
            full[..., index] = solution
            best = np.where(better[..., None], full, best)
    return best / norm, np.maximum(total - best_gain, 0)


def project(
    law: Law,
    variables: Sizes,
    y: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    fixed: Mapping[str, float] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Every point of the law's start grid with its linear parameters solved.

    Parameters
    ----------
    law : Law with at least one linear parameter
    variables : sequence of arrays (points,)
        One for each of ``law.variables``.
    y : array (points,)
        Positive losses.
    weights : array (points,)
        Multiplying the residuals in ln(loss)
    fixed : dict of parameters held at a value

    Returns
    -------
    parameters, array (grid points, parameters) in the order of ``law.names``, and their cost (grid points,).
    """
    fixed = fixed or {}
    nonlinear = {
        name: np.atleast_1d(fixed[name] if name in fixed else law.grid[name])
        for name in law.names
        if name not in law.linear
    }
    mesh = np.meshgrid(*nonlinear.values(), indexing="ij")
    values = {name: grid.reshape(-1, 1) for name, grid in zip(nonlinear, mesh, strict=True)}
    for name in law.log_sized:  # positions lie inside the range of the data, whatever its units
        if name not in fixed:
            low, high = np.log(variables[0].min()), np.log(variables[0].max())
            values[name] = np.exp(low + (high - low) * np.interp(np.log(values[name]), np.log([0.1, 3]), [0.15, 0.95]))
    size = mesh[0].size if mesh else 1
    free = [name for name in law.linear if name not in fixed]
    held = {name: fixed[name] for name in law.linear if name in fixed}

    def evaluate(**linear: float) -> np.ndarray:
        loss = law.function(*variables, **values, **{name: 0.0 for name in law.linear} | linear)
        return np.broadcast_to(loss, (size, len(y)))

    target = 1 - (evaluate(**held) / y if held else np.zeros((size, len(y))))
    weights = np.ones(len(y)) if weights is None else weights
    if free:
        columns = np.stack([evaluate(**{name: 1.0}) / y for name in free], axis=-1)
        solved, cost = nonnegative_least_squares(columns, target, weights=np.broadcast_to(weights, target.shape))
    else:
        solved, cost = np.zeros((size, 0)), np.sum((weights * target) ** 2, axis=-1)
    parameters = np.empty((size, len(law.names)))
    for j, name in enumerate(law.names):
        if name in free:
            parameters[:, j] = solved[:, free.index(name)]
        else:
            parameters[:, j] = fixed[name] if name in fixed else values[name][:, 0]
    return parameters, cost


def starting_points(
    law: Law,
    variables: Sizes,
    y: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    fixed: Mapping[str, float] | None = None,
    count: int = 4,
) -> np.ndarray:
    """The best ``count`` starts that differ in their nonlinear parameters, best first.

    Returns an array (at most count, parameters) in the order of ``law.names``; arguments as for ``project``.
    """
    weights = np.ones(len(y)) if weights is None else np.asarray(weights, float)
    if law.starts is not None:
        parameters = law.starts(variables, y, weights, fixed or {})
        with np.errstate(all="ignore"):
            loss = law.function(*variables, **{name: parameters[:, [j]] for j, name in enumerate(law.names)})
            cost = np.sum((weights * (loss / y - 1)) ** 2, axis=-1)
        cost = np.where(np.isfinite(cost), cost, np.inf)
    else:
        parameters, cost = project(law, variables, y, weights=weights, fixed=fixed)
    order = np.argsort(cost, kind="stable")
    chosen = [order[0]]
    moving = [j for j, name in enumerate(law.names) if name not in law.linear and name not in (fixed or {})]
    scale = np.ptp(parameters[:, moving], axis=0) + 1e-12
    for i in order[1:]:
        if len(chosen) == count or not np.isfinite(cost[i]):
            break
        apart = np.abs(parameters[i, moving] - parameters[chosen][:, moving]) / scale
        if np.all(apart.max(axis=-1) > 0.12):
            chosen.append(i)
    return parameters[chosen]
