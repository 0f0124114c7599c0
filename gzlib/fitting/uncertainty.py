"""Intervals from the fit itself: covariance, profile likelihood and one-sided limits, for many curves at once."""

import numpy as np
from scipy import stats

from gzlib.fitting.batch import batch_fit, law_bounds, log_gradient

BISECTIONS = 30
EXPANSIONS = 40


def covariance(law, variables, parameters, *, weights, variance=1.0, held=()):
    """Covariance of the parameters of each fit: variance * (J' W J)^-1 with J the gradient of ln(loss).

    A parameter at a bound or in ``held`` is known: its row and column are NaN. ``parameters`` (fits, parameters);
    ``weights`` (fits, points); ``variance`` scalar or (fits,). Returns (fits, parameters, parameters).
    """
    low, high = law_bounds(law)
    with np.errstate(all="ignore"):
        jacobian = log_gradient(law, variables, parameters) * weights[:, :, None]
    out = np.full((len(parameters),) + 2 * (len(law.names),), np.nan)
    known = (parameters <= low) | (parameters >= high) | np.isin(law.names, held)
    for i, (matrix, at_bound) in enumerate(zip(jacobian, known, strict=True)):
        index = np.flatnonzero(~at_bound)
        normal = matrix[:, index].T @ matrix[:, index]
        size = np.sqrt(np.diag(normal))
        if not np.all(np.isfinite(normal)) or np.any(size == 0):
            continue
        scaled = normal / np.outer(size, size)
        if np.linalg.cond(scaled) < 1e13:
            out[np.ix_([i], index, index)] = np.linalg.inv(scaled) / np.outer(size, size)
    return out * np.reshape(variance, (-1, 1, 1))


def profile_cost(law, variables, y, best, name, value, *, weights, held=()):
    """Lowest cost of each curve with parameter ``name`` held at ``value`` (fits,), and the other parameters there."""
    start = best.copy()
    start[:, law.names.index(name)] = value
    result = batch_fit(law, variables, y, start, weights=weights, held=(name, *held))
    return result.cost, result.parameters


def profile_limits(law, variables, y, best, best_cost, name, *, weights, rise, step, held=()):
    """Where the profile of a parameter has risen by ``rise`` above the optimum, on either side.

    Parameters
    ----------
    law, variables, y, weights : as for ``batch_fit``, y (fits, points)
    best : array (fits, parameters), the optimum; best_cost (fits,), its cost
    name : the parameter
    rise : array (fits,), in units of the cost: half of chi-square's threshold times the variance factor
    step : array (fits,), a first guess of the half-width
    held : names of further parameters that stay where they are

    Returns
    -------
    low, high : arrays (fits,). A limit equals the parameter's bound where the profile never rises enough.
    """
    j = law.names.index(name)
    bounds = [bound[j] for bound in law_bounds(law)]
    centre = best[:, j]
    step = np.where(np.isfinite(step) & (step > 0), step, 0.1 * (np.abs(centre) + 1e-3))
    limits = []
    for sign, bound in zip((-1, 1), bounds, strict=True):
        inside, outside = centre.copy(), np.clip(centre + sign * step, *bounds)
        start, open_ended = best.copy(), np.zeros(len(y), bool)
        width = step.copy()
        searching = np.ones(len(y), bool)
        for _ in range(EXPANSIONS):
            cost, parameters = profile_cost(law, variables, y, start, name, outside, weights=weights, held=held)
            crossed = cost - best_cost >= rise
            open_ended |= searching & ~crossed & (outside == bound)
            searching &= ~crossed & ~open_ended
            if not searching.any():
                break
            inside = np.where(searching, outside, inside)
            start = np.where(searching[:, None], parameters, start)
            width = np.where(searching, 2 * width, width)
            outside = np.where(searching, np.clip(outside + sign * width, *bounds), outside)
        open_ended |= searching
        for _ in range(BISECTIONS):
            middle = 0.5 * (inside + outside)
            cost, parameters = profile_cost(law, variables, y, start, name, middle, weights=weights, held=held)
            crossed = cost - best_cost >= rise
            start = np.where(crossed[:, None], start, parameters)
            inside, outside = np.where(crossed, inside, middle), np.where(crossed, middle, outside)
            if np.all(np.abs(outside - inside) <= 1e-7 * (np.abs(middle) + 1e-12)):
                break
        limits.append(np.where(open_ended, bound, 0.5 * (inside + outside)))
    return limits[0], limits[1]


def rise_of(level, *, dof, variance=1.0, one_sided=False):
    """Rise of the cost (half the sum of squares) at the ends of an interval: variance * t^2 / 2.

    ``dof`` are those that the variance was estimated with (infinite if it is known: then t^2 is chi-square's
    quantile). ``level`` is the two-sided coverage, or the one-sided with ``one_sided=True``.
    """
    quantile = level if one_sided else 0.5 * (1 + level)
    return 0.5 * variance * student_quantile(quantile, dof) ** 2


def student_quantile(quantile, dof):
    """Quantile of Student's t; NaN without degrees of freedom, the normal's for infinitely many."""
    dof = np.asarray(dof, float)
    with np.errstate(invalid="ignore"):
        return np.where(dof > 0, stats.t.ppf(quantile, np.where(dof > 0, np.minimum(dof, 1e9), 1.0)), np.nan)
