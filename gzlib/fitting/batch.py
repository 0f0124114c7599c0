"""Many small fits at once: Levenberg-Marquardt in ln(loss), vectorised over curves, draws and profile points.

Same objective and bounds as ``gzlib.fitting.fit`` (tested against it); a fit costs microseconds, so bootstraps,
profiles and rolling origins need no approximation.
"""

from dataclasses import dataclass

import numpy as np

CHUNK = 8192  # fits advanced together: keeps the temporaries inside the processor's cache
PRIOR_FLOOR = 1e-3  # a parameter below counts as this much in its logarithmic prior


@dataclass(frozen=True)
class BatchResult:
    """``parameters`` (fits, parameters), ``cost`` (fits,) = half the weighted sum of squares, ``converged`` (fits,)."""

    parameters: np.ndarray
    cost: np.ndarray
    converged: np.ndarray


def law_bounds(law):
    """Lower and upper bounds of the law's parameters, two arrays (parameters,)."""
    return (
        np.array([p.minimum for p in law.parameters.values()]),
        np.array([p.maximum for p in law.parameters.values()]),
    )


def log_loss(law, variables, parameters):
    """ln(loss) of each row of ``parameters`` (fits, parameters) at ``variables``: array (fits, points)."""
    columns = {name: parameters[:, [j]] for j, name in enumerate(law.names)}
    return np.log(np.maximum(law.function(*variables, **columns), 1e-300))


def log_gradient(law, variables, parameters):
    """d ln(loss) / d parameters, array (fits, points, parameters): analytic where the law has it, else differences."""
    if law.gradient is not None:
        parts = law.gradient(*variables, *(parameters[:, [j]] for j in range(len(law.names))))
        return np.stack(np.broadcast_arrays(*parts), axis=-1)
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


@dataclass(frozen=True)
class LogPrior:
    """Normal prior on ln(parameter) of each fit: one more residual, noise * (ln parameter - ln centre) / width.

    ``noise`` (fits,) is the sd of a residual of weight one, so that the prior counts as information does.
    """

    name: str
    centre: float
    width: float
    noise: np.ndarray


def batch_fit(
    law,
    variables,
    y,
    start,
    *,
    weights=None,
    held=(),
    lower=None,
    upper=None,
    prior=None,
    max_steps=80,
    tolerance=1e-10,
):
    """Least squares of weights * (ln f - ln y) for many curves over the same or over different sizes.

    Parameters
    ----------
    law : Law
    variables : sequence of arrays (points,) or (fits, points)
    y : array (fits, points), positive; give absent points any positive value and weight zero
    start : array (fits, parameters)
    weights : array broadcastable to (fits, points)
    held : names of parameters that stay at their start
    lower, upper : arrays (parameters,), replacing the law's bounds
    prior : LogPrior, optional; its term is part of the cost

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
            noise = None if prior is None else prior.noise[part] / prior.width
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
                    prior,
                    noise,
                    max_steps,
                    tolerance,
                )
            )
    parameters, cost, converged = (np.concatenate(part) for part in zip(*pieces, strict=True))
    return BatchResult(parameters, cost, converged & np.isfinite(cost))


def _descend(law, variables, log_y, theta, weights, free, low, high, prior, pull, max_steps, tolerance):
    def cost_of(rows, sizes, parameters):
        residual = weights[rows] * (log_loss(law, sizes, parameters) - log_y[rows])
        total = np.sum(residual**2, axis=1)
        if prior is not None:
            total = total + _prior_residual(law, prior, pull[rows], parameters) ** 2
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
        if prior is not None:
            j = law.names.index(prior.name)
            gradient = pull[active] / np.maximum(here[:, j], PRIOR_FLOOR)
            slope[:, j] += gradient * _prior_residual(law, prior, pull[active], here)
            normal[:, j, j] += gradient**2
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


def _prior_residual(law, prior, pull, parameters):
    value = np.maximum(parameters[:, law.names.index(prior.name)], PRIOR_FLOOR)
    return pull * (np.log(value) - np.log(prior.centre))
