"""Starting values by variable projection: a grid over the nonlinear parameters, the linear ones solved exactly.

The residual that the linear solve minimises is (f - y)/y, the first order of ln f - ln y, so a start is already
close to the optimum of the logarithmic fit.
"""

import itertools

import numpy as np

MAX_SUBSETS = 8  # 2**3: no law here has more than three linear parameters


def nonnegative_least_squares(columns, target, *, weights=None):
    """Exact non-negative least squares for many small problems at once, by trying every set of active columns.

    Parameters
    ----------
    columns : array (..., points, k), k <= 3
    target : array broadcastable to (..., points)
    weights : array broadcastable to (..., points), multiplying the residuals

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


def project(law, variables, y, *, weights=None, fixed=None):
    """Every point of the law's start grid with its linear parameters solved.

    Parameters
    ----------
    law : Law with at least one linear parameter
    variables : sequence of arrays (points,), one for each of ``law.variables``
    y : array (points,), positive losses
    weights : array (points,), multiplying the residuals in ln(loss)
    fixed : dict of parameters held at a value

    Returns
    -------
    parameters, array (grid points, parameters) in the order of ``law.names``, and their cost (grid points,).
    """
    fixed = fixed or {}
    nonlinear = {
        name: np.atleast_1d(fixed.get(name, law.grid.get(name))) for name in law.names if name not in law.linear
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

    def evaluate(**linear):
        loss = law.function(*variables, **values, **{name: 0.0 for name in law.linear} | linear)
        return np.broadcast_to(loss, (size, len(y)))

    columns = np.stack([evaluate(**{name: 1.0}) / y for name in free], axis=-1) if free else None
    target = 1 - (evaluate(**held) / y if held else np.zeros((size, len(y))))
    weights = np.ones(len(y)) if weights is None else weights
    if free:
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


def _saturating_grid(variables, y, weights, fixed):
    # For given E, L0 and a the law is a straight line in ln x: ln(y - E) - a ln(L0 - y) = ln A - alpha ln x.
    log_x = np.log(variables[0])
    mesh = np.meshgrid(
        np.array([0, 0.3, 0.6, 0.8, 0.9, 0.97]) * y.min(),
        np.array([1.001, 1.02, 1.1, 1.5, 3.0]) * y.max(),
        [0.0, 0.25, 0.5, 1.0, 2.0],
        indexing="ij",
    )
    low, top, a = (part.reshape(-1, 1) for part in mesh)
    low, top, a = (
        np.full_like(part, fixed[name]) if name in fixed else part for name, part in (("E", low), ("L0", top), ("a", a))
    )
    line = np.log(np.maximum(y - low, 1e-12)) - a * np.log(np.maximum(top - y, 1e-12))
    centre = np.average(log_x, weights=weights**2)
    spread = np.average((log_x - centre) ** 2, weights=weights**2)
    slope = np.average((log_x - centre) * line, weights=weights**2, axis=-1) / max(spread, 1e-300)
    level = np.average(line, weights=weights**2, axis=-1)
    alpha = np.clip(-slope, 0.0, 5.0)
    amplitude = np.exp(np.clip(level + alpha * centre, -600, 600))
    return np.stack([low[:, 0], top[:, 0], amplitude, a[:, 0], alpha], axis=-1)


def _bounded_grid(variables, y, weights, fixed):
    # For given E and L0, (y - E)/(L0 - y) = A N^-alpha + B D^-beta is linear in A and B.
    rows = []
    exponents = [0.15, 0.3, 0.5, 0.8]
    for low, top, alpha, beta in itertools.product([0, 0.5, 0.8, 0.95], [1.05, 1.5, 4.0], exponents, exponents):
        low, top = fixed.get("E", low * y.min()), fixed.get("L0", top * y.max())
        alpha, beta = fixed.get("alpha", alpha), fixed.get("beta", beta)
        odds = (y - low) / np.maximum(top - y, 1e-12)
        columns = np.stack([variables[0] ** -alpha / odds, variables[1] ** -beta / odds], axis=-1)
        (by_size, by_data), _ = nonnegative_least_squares(columns, np.ones(len(y)), weights=weights)
        rows.append([low, top, by_size, alpha, by_data, beta])
    return np.array(rows)


_SPECIAL = {"saturating": _saturating_grid, "bounded": _bounded_grid}


def starting_points(law, variables, y, *, weights=None, fixed=None, count=4):
    """The best ``count`` starts that differ in their nonlinear parameters, best first.

    Returns an array (at most count, parameters) in the order of ``law.names``; arguments as for ``project``.
    """
    weights = np.ones(len(y)) if weights is None else np.asarray(weights, float)
    if law.name in _SPECIAL:
        parameters = _SPECIAL[law.name](variables, y, weights, fixed or {})
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
