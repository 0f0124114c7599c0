"""One fit of one law to one curve, through lmfit: starts by variable projection, several polished, best kept."""

import numpy as np

from gzlib.errors import UserError
from gzlib.fitting.batch import batch_fit, law_bounds
from gzlib.fitting.laws import get_law
from gzlib.fitting.starts import starting_points

NOISES = ("gaussian", "huber", "student-t")
TOLERANCE = 1e-12
STUDENT_DOF = 4.0
SCALE_ROUNDS = 4
EVALUATIONS = 200  # of the law in lmfit, for each free parameter and one


def check_points(law, variables, y, weights):
    """Raise UserError unless sizes and losses are positive, finite, of one length and enough for the law."""
    if len(variables) != len(law.variables):
        raise UserError(
            f"The law {law.name} needs the sizes {', '.join(law.variables)}, but {len(variables)} were given."
        )
    for name, values in [*zip(law.variables, variables, strict=True), ("loss", y)]:
        if values.shape != y.shape or values.ndim != 1:
            raise UserError(
                f"{name} has shape {values.shape} and loss {y.shape}: give one-dimensional arrays of one length."
            )
        bad = ~(np.isfinite(values) & (values > 0))
        if bad.any():
            where = int(np.argmax(bad))
            raise UserError(
                f"{name} is {values[where]} at point {where}: sizes and losses must be positive and finite."
            )
    if weights is not None and (weights.shape != y.shape or not np.all(np.isfinite(weights) & (weights >= 0))):
        raise UserError("weights must be finite, not negative and one for each loss: check the seeds they come from.")


def fit_law(
    law,
    variables,
    loss,
    *,
    weights=None,
    noise="gaussian",
    scale=None,
    fixed=None,
    bounds=None,
    starts=4,
    transform="log",
    scale_covar=None,
):
    """Fit one law to one curve.

    Parameters
    ----------
    law : str or Law
    variables : array (points,), or a sequence of such arrays for a law of several sizes
    loss : array (points,), positive
    weights : array (points,), optional
        1/sigma of ln(loss) for each point (of the loss itself with ``transform="none"``).
    noise : "gaussian", "huber" or "student-t"
        Distribution of the weighted residuals. Huber sums (never averages) the residuals' losses, so that
        convergence does not depend on the number of points; Student-t has 4 degrees of freedom.
    scale : float, optional
        Residual at which "huber" turns from quadratic to linear, or the scale of "student-t", in units of the
        weighted residual. Default: 1 with weights, else 1e-3 (Huber, as arXiv:2203.15556) or 1.48 times the median
        absolute residual, iterated (Student-t).
    fixed : dict of parameter values that are held, such as a computed floor ``{"E": 0.12}``
    bounds : dict of parameter: (minimum, maximum), replacing the law's own
    starts : int, how many starting points are polished
    transform : "log" for residuals of ln(loss), "none" for residuals of the loss
    scale_covar : bool, optional
        Whether to rescale the covariance by reduced chi-square; default: only when there are no weights.

    Returns
    -------
    lmfit.model.ModelResult
        With ``starts_agree`` added: False if another optimum lies within 1 of the best chi-square (weighted
        fits) or within 1 % of it (unweighted).

    Raises
    ------
    UserError
        If sizes or losses are not positive and finite, or the points are fewer than the free parameters.
    """
    law = get_law(law)
    if noise not in NOISES:
        raise UserError(f"No noise model is called {noise!r}: choose one of {', '.join(NOISES)}.")
    several = isinstance(variables, (list, tuple)) and len(variables) and np.ndim(variables[0])
    variables = [np.asarray(v, float) for v in (variables if several else [variables])]
    y = np.asarray(loss, float)
    weights = None if weights is None else np.asarray(weights, float)
    check_points(law, variables, y, weights)
    free = len(law.names) - len(fixed or {})
    if len(y) < free:
        raise UserError(
            f"{len(y)} points cannot fix the {free} free parameters of {law.formula}: add sizes or hold one."
        )
    model = law.model(transform=transform)
    target = np.log(y) if transform == "log" else y
    scale_covar = weights is None if scale_covar is None else scale_covar
    if noise == "student-t" and scale is None and weights is None:
        scale = _robust_scale(law, variables, y, fixed=fixed, bounds=bounds, starts=starts, transform=transform)
    scale = (1e-3 if noise == "huber" and weights is None else 1.0) if scale is None else scale
    robust = {
        "gaussian": {},
        "huber": {"loss": "huber", "f_scale": scale},
        "student-t": {"loss": _student_t, "f_scale": scale},
    }[noise]

    def polish(values, held):
        params = model.make_params()
        for name, value in zip(law.names, values, strict=True):
            low, high = (bounds or {}).get(name, (law.parameters[name].minimum, law.parameters[name].maximum))
            inside = np.clip(value, low + 1e-9 * (abs(low) + 1), high) if name not in held else held[name]
            params[name].set(
                value=float(inside),
                vary=name not in held,
                min=-np.inf if name in held else low,
                max=np.inf if name in held else high,
            )
        return model.fit(
            target,
            params,
            weights=weights,
            method="least_squares",
            scale_covar=scale_covar,
            max_nfev=EVALUATIONS * (free + 1),
            fit_kws={"x_scale": "jac", "ftol": TOLERANCE, "xtol": TOLERANCE, "gtol": TOLERANCE} | robust,
            **dict(zip(law.variables, variables, strict=True)),
        )

    held = dict(fixed or {})
    candidates = starting_points(law, variables, y, weights=weights, fixed=fixed, count=starts)
    if transform == "log":
        candidates = _descend_first(law, variables, y, candidates, weights, held, bounds)
    with np.errstate(all="ignore"):  # trial steps may overflow; the result is checked below
        results = sorted((polish(values, held) for values in candidates), key=_cost)
        best = results[0]
        if "E" in law.names and "E" not in held and best.params["E"].value < 1e-3 * y.min():
            # The trust region stays strictly inside the bounds and creeps towards E = 0: try the bound itself.
            on_bound = polish([best.params[name].value for name in law.names], held | {"E": 0.0})
            if _cost(on_bound) <= _cost(best) * (1 + 1e-9) + 1e-300:
                best = on_bound
    if best.aborted or not np.all(np.isfinite([*best.best_values.values(), _cost(best)])):
        best.success, best.message = False, f"no optimum after {best.nfev} evaluations of {law.formula}"
    near = 0.5 if weights is not None else 0.01 * _cost(best)
    best.starts_agree = not any(_apart(best, other) and _cost(other) < _cost(best) + near for other in results)
    return best


def _cost(result):
    """The minimised cost (half the sum of squares, or of the robust losses); infinite where lmfit gave up."""
    return np.inf if result.aborted else float(result.cost)


def _descend_first(law, variables, y, candidates, weights, held, bounds):
    """Bring the starts to their Gaussian optima, so that lmfit only polishes; drop those that arrive together."""
    low, high = law_bounds(law)
    for name, (minimum, maximum) in (bounds or {}).items():
        low[law.names.index(name)], high[law.names.index(name)] = minimum, maximum
    reached = batch_fit(
        law,
        variables,
        np.tile(y, (len(candidates), 1)),
        candidates,
        weights=weights,
        held=tuple(held),
        lower=low,
        upper=high,
        max_steps=300,
    )
    order = np.argsort(np.where(np.isfinite(reached.cost), reached.cost, np.inf), kind="stable")
    best_cost = reached.cost[order[0]]
    chosen = [order[0]]
    for i in order[1:]:
        apart = np.abs(reached.parameters[i] - reached.parameters[chosen]) / (np.abs(reached.parameters[chosen]) + 1e-6)
        if reached.cost[i] < 2 * best_cost + 1 and np.all(apart.max(axis=1) > 1e-3):
            chosen.append(i)
    return reached.parameters[chosen]


def _robust_scale(law, variables, y, **options):
    """Scale of the residuals by alternating the Student-t fit with the median absolute residual."""
    residual = fit_law(law, variables, y, **options).residual
    for _ in range(SCALE_ROUNDS):
        scale = 1.4826 * max(float(np.median(np.abs(residual))), 1e-9)
        residual = fit_law(law, variables, y, noise="student-t", scale=scale, **options).residual
    return scale


def _student_t(z):
    """scipy's robust-loss convention: rho(z) of z = (residual/scale)^2 with its first two derivatives."""
    nu = STUDENT_DOF
    return np.stack([(nu + 1) * np.log1p(z / nu), (nu + 1) / (nu + z), -(nu + 1) / (nu + z) ** 2])


def _apart(best, other):
    # Two polished starts are different optima if their predictions, not only their parameters, differ.
    difference = np.max(np.abs(best.best_fit - other.best_fit))
    return difference > 1e-4 * (np.ptp(best.best_fit) + 1e-12)
