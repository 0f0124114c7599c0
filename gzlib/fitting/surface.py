"""Laws of two or three sizes, L(N, D) and beyond: fit, prediction, and the best split of a compute budget."""

import numpy as np
import xarray as xr

from gzlib.errors import UserError
from gzlib.fitting.curves import NOT_IDENTIFIED, judge_design
from gzlib.fitting.fits import fit_law
from gzlib.fitting.laws import get_law
from gzlib.fitting.optimise import batch_fit

REWEIGHTINGS = 12


def fit_surface(
    loss,
    sizes,
    *,
    law="chinchilla",
    refs=None,
    noise="gaussian",
    scale=None,
    weights=None,
    fixed=None,
    draws=300,
    level=0.95,
    seed=0,
    check_design=True,
):
    """Fit a law of several sizes to one run a point.

    Parameters
    ----------
    loss : array or DataArray (run,), positive
    sizes : dict of arrays (run,), one for each of the law's variables, such as {"N": ..., "D": ...}
    law : str or Law
    refs : dict of reference sizes that divide the sizes; default: the geometric mean of each. With 1 for each the
        parameters are the textbook's
    noise, scale, weights, fixed : as for ``fit_law``
    draws : bootstrap draws over runs (0 for none); each is a refit with the same noise model ("student-t" excepted)
    level : coverage of the percentile intervals
    seed : int, of the bootstrap
    check_design : refuse designs that cannot identify the law

    Returns
    -------
    Dataset with ``value``, ``stderr`` (covariance), ``low``, ``high`` (bootstrap) over ``parameter``, ``draw_values``
    (draw, parameter), ``cost``, ``n_runs``, ``success``, ``message``, ``verdict``, ``reason``, ``starts_agree``.

    Raises
    ------
    UserError
        If a size is missing or the design cannot identify the law.
    """
    law = get_law(law)
    missing = [name for name in law.variables if name not in sizes]
    if missing:
        raise UserError(f"The law {law.name} needs the size {missing[0]!r}: give {', '.join(law.variables)}.")
    variables = [np.asarray(sizes[name], float) for name in law.variables]
    y = np.asarray(loss, float)
    keep = np.isfinite(y) & np.all([np.isfinite(v) for v in variables], axis=0)
    variables, y = [v[keep] for v in variables], y[keep]
    weights = None if weights is None else np.asarray(weights, float)[keep]
    refs = {
        name: (1.0 if name == "epochs" else float(np.exp(np.log(v).mean()))) if refs is None else float(refs[name])
        for name, v in zip(law.variables, variables, strict=True)
    }
    design = judge_design(variables, law)
    if check_design and design["verdict"] == NOT_IDENTIFIED:
        raise UserError(f"These {len(y)} runs cannot identify {law.formula}: {design['reason']}.")
    scaled = [v / refs[name] for name, v in zip(law.variables, variables, strict=True)]
    result = fit_law(law, scaled, y, noise=noise, scale=scale, weights=weights, fixed=fixed)
    best = np.array([result.best_values[name] for name in law.names])
    stderr = np.array(
        [np.nan if result.params[name].stderr is None else result.params[name].stderr for name in law.names]
    )
    data = {
        "value": ("parameter", best),
        "stderr": ("parameter", stderr),
        "cost": float(result.cost),
        "n_runs": len(y),
        "success": bool(result.success),
        "message": str(result.message),
        "verdict": design["verdict"],
        "reason": design["reason"],
        "starts_agree": bool(result.starts_agree),
    }
    if draws:
        delta = (1e-3 if weights is None else 1.0) if scale is None else scale
        drawn = _bootstrap_runs(
            law, scaled, y, best, weights, delta if noise == "huber" else None, tuple(fixed or {}), draws, seed
        )
        tail = 0.5 * (1 - level)
        data |= {
            "draw_values": (("draw", "parameter"), drawn),
            "low": ("parameter", np.quantile(drawn, tail, axis=0)),
            "high": ("parameter", np.quantile(drawn, 1 - tail, axis=0)),
        }
    return xr.Dataset(
        data,
        coords={"parameter": list(law.names)},
        attrs={
            "law": law,
            "formula": law.formula,
            "noise": noise,
            "level": level,
            **{f"{name}_ref": ref for name, ref in refs.items()},
        },
    )


def _bootstrap_runs(law, variables, y, best, weights, delta, held, draws, seed):
    """Refits to runs drawn with replacement, as weights; Huber's loss by iterated reweighting."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(y), np.full(len(y), 1 / len(y)), size=draws)
    base = np.sqrt(counts) * (1.0 if weights is None else weights)
    losses, parameters, robust = np.tile(y, (draws, 1)), np.tile(best, (draws, 1)), np.ones((draws, len(y)))
    for _ in range(1 if delta is None else REWEIGHTINGS):
        if delta is not None:
            columns = {name: parameters[:, [j]] for j, name in enumerate(law.names)}
            residual = np.abs(np.log(law.function(*variables, **columns)) - np.log(y)) * (
                1.0 if weights is None else weights
            )
            robust = np.sqrt(np.minimum(1.0, delta / np.maximum(residual, 1e-12)))
        parameters = batch_fit(law, variables, losses, parameters, weights=base * robust, held=held).parameters
    return parameters


def predict_surface(fit, sizes, *, level=0.95):
    """Loss of a fitted surface at new sizes, with the bootstrap band of the mean.

    Parameters
    ----------
    fit : Dataset from ``fit_surface``
    sizes : dict of arrays or DataArrays that broadcast together

    Returns
    -------
    Dataset ``median`` (and ``lower``, ``upper`` with draws) over the broadcast dims.
    """
    law = get_law(fit.attrs["law"])
    arrays = [xr.DataArray(sizes[name]) / fit.attrs[f"{name}_ref"] for name in law.variables]
    out = {"median": law.function(*arrays, *(fit["value"].sel(parameter=name, drop=True) for name in law.names))}
    if "draw_values" in fit:
        drawn = law.function(*arrays, *(fit["draw_values"].sel(parameter=name, drop=True) for name in law.names))
        ends = drawn.quantile([0.5 * (1 - level), 0.5 * (1 + level)], dim="draw")
        out |= {"lower": ends.isel(quantile=0, drop=True), "upper": ends.isel(quantile=1, drop=True)}
    return xr.Dataset(out)


def compute_frontier(fit, budgets, flops, *, n_params, points=400):
    """Best model size for each compute budget, on a grid of sizes.

    Parameters
    ----------
    fit : Dataset from ``fit_surface`` of a law of N and D
    budgets : array (budgets,), in the unit of ``flops``
    flops : function(N, D) -> cost, rising with D, of arrays (N,) and (budgets, N); for images measure it, 6 N D holds
        for language models only
    n_params : (smallest, largest) model size considered

    Returns
    -------
    Dataset over ``budget``: ``N``, ``D``, ``loss``, ``bracketed`` (False if the optimum is an end of the range).
    """
    budgets = np.atleast_1d(np.asarray(budgets, float))
    N = np.geomspace(*n_params, points)
    D = _affordable(flops, N, budgets)
    loss = predict_surface(
        fit.drop_vars("draw_values", errors="ignore"),
        {
            "N": xr.DataArray(np.broadcast_to(N, D.shape), dims=("budget", "N")),
            "D": xr.DataArray(D, dims=("budget", "N")),
        },
    )["median"].values
    best = np.argmin(loss, axis=1)
    row = np.arange(len(budgets))
    return xr.Dataset(
        {
            "N": ("budget", N[best]),
            "D": ("budget", D[row, best]),
            "loss": ("budget", loss[row, best]),
            "bracketed": ("budget", (best > 0) & (best < points - 1)),
        },
        coords={"budget": budgets},
    )


def _affordable(flops, N, budgets):
    """Training size (budgets, N) that uses up each budget: bisection in ln D."""
    low, high = np.full((len(budgets), len(N)), -30.0), np.full((len(budgets), len(N)), 80.0)
    for _ in range(60):
        middle = 0.5 * (low + high)
        within = flops(N[None, :], np.exp(middle)) <= budgets[:, None]
        low, high = np.where(within, middle, low), np.where(within, high, middle)
    return np.exp(0.5 * (low + high))
