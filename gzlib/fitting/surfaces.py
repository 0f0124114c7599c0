"""Laws of two or three sizes, L(N, D) and beyond: fit, prediction, and the best split of a compute budget."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from gzlib.errors import UserError
from gzlib.fitting.curves import NOT_IDENTIFIED, judge_design, like_accuracy
from gzlib.fitting.fits import fit_law
from gzlib.fitting.headings import numbers
from gzlib.fitting.intervals import LARGEST_LOG, MOST_LEVERAGE, WEBB, leverages
from gzlib.fitting.laws import Law, LawLike, get_law
from gzlib.fitting.optimise import Sizes, batch_fit, log_loss
from gzlib.fitting.reading import TableSource, read_table

Flops = Callable[[np.ndarray, np.ndarray], np.ndarray]  # what training a model of N parameters on D galaxies costs

REWEIGHTINGS = 12
BOOTSTRAPS = ("wild", "residual")


def fit_surface(
    loss: npt.ArrayLike,
    sizes: Mapping[str, npt.ArrayLike],
    *,
    law: LawLike = "chinchilla",
    refs: Mapping[str, float] | None = None,
    noise: str = "gaussian",
    scale: float | None = None,
    weights: npt.ArrayLike | None = None,
    fixed: Mapping[str, float] | None = None,
    draws: int = 300,
    kind: str = "wild",
    level: float = 0.95,
    seed: int = 0,
    check_design: bool = True,
) -> xr.Dataset:
    """Fit a law of several sizes to one run a point.

    Parameters
    ----------
    loss : array or DataArray (run,)
        Positive.
    sizes : dict of arrays (run,)
        One for each of the law's variables, such as {"N": ..., "D": ...}.
    law : str or Law
    refs : dict of reference sizes that divide the sizes
        Default: the geometric mean of each. With 1 for each the parameters are the textbook's.
    noise, scale, weights, fixed
        As for ``fit_law``.
    draws
        Bootstrap draws (0 for none); each is a refit with the same noise model ("student-t" excepted)
    kind
        "wild", each run's residual times a random weight, right where noise depends on the sizes, or "residual",
        residuals exchanged between runs, sharper where noise is alike everywhere.
    level
        Coverage of the percentile intervals.
    seed : int
        Of the bootstrap.
    check_design
        Refuse designs that cannot identify the law.

    Returns
    -------
    Dataset with ``value``, ``stderr`` (covariance), ``low``, ``high`` (bootstrap) over ``parameter``, ``draw_values``
    (draw, parameter), ``cost``, ``n_runs``, ``success``, ``message``, ``verdict``, ``reason``, ``starts_agree``.

    Raises
    ------
    UserError
        If a size is missing, the design cannot identify the law, or no start led to an optimum.
    """
    law = get_law(law)
    if kind not in BOOTSTRAPS:
        raise UserError(f"unknown bootstrap of surfaces {kind!r}; available: {', '.join(BOOTSTRAPS)}.")
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
    if result.aborted:
        raise UserError(f"No optimum of {law.formula} was found in {result.nfev} evaluations.")
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
        heaviness = np.ones(len(y)) if weights is None else weights
        held = tuple(fixed or {})
        rng = np.random.default_rng(seed)
        losses = _redrawn(law, scaled, y, best, heaviness, held, kind, draws, rng)
        delta = ((1e-3 if weights is None else 1.0) if scale is None else scale) if noise == "huber" else None
        drawn = _refitted(law, scaled, losses, best, heaviness, delta, held)
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
            "bootstrap": kind,
            **{f"{name}_ref": ref for name, ref in refs.items()},
        },
    )


def _redrawn(
    law: Law,
    variables: Sizes,
    y: np.ndarray,
    best: np.ndarray,
    weights: np.ndarray,
    held: tuple[str, ...],
    kind: str,
    draws: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Synthetic losses (draws, runs): the fit times the exponential of redrawn residuals.

    A residual is smaller than the noise that it came from, by its leverage h: 1/sqrt(1 - h) restores its variance, and
    1/(1 - h) in the wild bootstrap, where no other run makes up for it (HC2 and HC3, MacKinnon and White 1985). The
    variance is itself estimated, so each draw is scaled by its chi-square, which gives the bands Student's tails.
    """
    fitted = log_loss(law, variables, best[None])[0]
    kept = np.maximum(1 - leverages(law, variables, best[None], weights[None], held)[0], MOST_LEVERAGE)
    residual = weights * (np.log(y) - fitted) / (kept if kind == "wild" else np.sqrt(kept))
    n, dof = len(y), max(len(y) - len(law.names) + len(held), 1)
    if kind == "wild":
        noise = residual * rng.choice(WEBB, size=(draws, n))
    else:
        noise = rng.choice(residual - residual.mean(), size=(draws, n))
    noise = noise * np.sqrt(dof / rng.chisquare(dof, size=(draws, 1)))
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.where(weights > 0, noise / weights, 0.0)
    losses: np.ndarray = np.exp(np.clip(fitted + shift, -LARGEST_LOG, LARGEST_LOG))
    return losses


def _refitted(
    law: Law,
    variables: Sizes,
    losses: np.ndarray,
    best: np.ndarray,
    weights: np.ndarray,
    delta: float | None,
    held: tuple[str, ...],
) -> np.ndarray:
    """Fits of many synthetic copies; Huber's loss by iterated reweighting."""
    parameters, robust = np.tile(best, (len(losses), 1)), np.ones_like(losses)
    for _ in range(1 if delta is None else REWEIGHTINGS):
        if delta is not None:
            residual = np.abs(log_loss(law, variables, parameters) - np.log(losses)) * weights
            robust = np.sqrt(np.minimum(1.0, delta / np.maximum(residual, 1e-12)))
        parameters = batch_fit(law, variables, losses, parameters, weights=weights * robust, held=held).parameters
    return parameters


def predict_surface(
    fit: xr.Dataset, sizes: Mapping[str, npt.ArrayLike | xr.DataArray], *, level: float = 0.95
) -> xr.Dataset:
    """Loss of a fitted surface at new sizes, with the bootstrap band of the mean.

    Parameters
    ----------
    fit : Dataset from ``fit_surface``
    sizes : dict of arrays or DataArrays that broadcast together

    Returns
    -------
    Dataset ``loss`` (and ``lower``, ``upper`` with draws) over the broadcast dims.
    """
    law = get_law(fit.attrs["law"])
    arrays = [xr.DataArray(sizes[name]) / fit.attrs[f"{name}_ref"] for name in law.variables]
    out = {"loss": law.function(*arrays, *(fit["value"].sel(parameter=name, drop=True) for name in law.names))}
    if "draw_values" in fit:
        drawn = law.function(*arrays, *(fit["draw_values"].sel(parameter=name, drop=True) for name in law.names))
        ends = drawn.quantile([0.5 * (1 - level), 0.5 * (1 + level)], dim="draw")
        out |= {"lower": ends.isel(quantile=0, drop=True), "upper": ends.isel(quantile=1, drop=True)}
    return xr.Dataset(out)


def compute_frontier(
    fit: xr.Dataset,
    budgets: npt.ArrayLike,
    flops: Flops,
    *,
    n_params: tuple[float, float],
    points: int = 400,
    level: float = 0.95,
) -> xr.Dataset:
    """Best model size for each compute budget, on a grid of sizes.

    Parameters
    ----------
    fit : Dataset from ``fit_surface`` of a law of N and D
    budgets : array (budgets,)
        In the unit of ``flops``.
    flops : function(N, D) -> cost
        Rising with D, of arrays (N,) and (budgets, N); for images measure it, 6 N D holds for language models only.
    n_params : (smallest, largest) model size considered
    level : float
        Coverage of the bands, from the fit's bootstrap draws.

    Returns
    -------
    Dataset over ``budget``: ``N``, ``D``, ``loss``, ``bracketed`` (False if the optimum is an end of the range), and
    with draws the ends of their bands, ``N_low``, ``N_high``, ``D_low``, ``D_high``, ``loss_lower``, ``loss_upper``.
    """
    law = get_law(fit.attrs["law"])
    budgets = np.atleast_1d(np.asarray(budgets, float))
    fewest, most = n_params
    N = np.geomspace(fewest, most, points)
    D = _affordable(flops, N, budgets)
    sizes = {"N": np.broadcast_to(N, D.shape) / fit.attrs["N_ref"], "D": D / fit.attrs["D_ref"]}
    row = np.arange(len(budgets))

    def optimum(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(all="ignore"):  # a draw may be far out
            loss = law.function(*(sizes[name] for name in law.variables), *parameters)
        best = np.argmin(np.where(np.isfinite(loss), loss, np.inf), axis=1)
        return best, loss[row, best]

    best, loss = optimum(fit["value"].values)
    out = {"N": N[best], "D": D[row, best], "loss": loss, "bracketed": (best > 0) & (best < points - 1)}
    if "draw_values" in fit:
        drawn = [optimum(parameters) for parameters in fit["draw_values"].values]
        where = np.array([index for index, _ in drawn])
        ends = [0.5 * (1 - level), 0.5 * (1 + level)]
        for name, values in (("N", N[where]), ("D", D[row, where])):
            out[f"{name}_low"], out[f"{name}_high"] = np.quantile(values, ends, axis=0)
        out["loss_lower"], out["loss_upper"] = np.quantile([loss for _, loss in drawn], ends, axis=0)
    return xr.Dataset({name: ("budget", values) for name, values in out.items()}, coords={"budget": budgets})


def _affordable(flops: Flops, N: np.ndarray, budgets: np.ndarray) -> np.ndarray:
    """Training size (budgets, N) that uses up each budget: bisection in ln D."""
    low, high = np.full((len(budgets), len(N)), -30.0), np.full((len(budgets), len(N)), 80.0)
    for _ in range(60):
        middle = 0.5 * (low + high)
        within = flops(N[None, :], np.exp(middle)) <= budgets[:, None]
        low, high = np.where(within, middle, low), np.where(within, high, middle)
    sizes: np.ndarray = np.exp(0.5 * (low + high))
    return sizes


USUAL = {
    "N": ("n", "n_params", "params", "num_params", "parameters", "n_parameters", "model_size", "non_embedding_params"),
    "D": (
        "d",
        "n_train",
        "tokens",
        "n_tokens",
        "train_tokens",
        "training_tokens",
        "samples",
        "n_samples",
        "seen_examples",
    ),
    "U": ("u", "unique", "unique_tokens", "n_unique"),
    "epochs": ("epochs", "n_epochs"),
    "loss": ("loss", "test_loss", "final_loss", "val_loss", "error", "test_error"),
}


def surface(
    data: TableSource | xr.DataArray | npt.ArrayLike,
    sizes: Mapping[str, npt.ArrayLike] | None = None,
    *,
    law: LawLike = "chinchilla",
    columns: Mapping[str, str] | None = None,
    **options: Any,
) -> xr.Dataset:
    """Fit a law of several sizes to runs of any kind: a file, a DataFrame, a labelled array or plain numbers.

    Parameters
    ----------
    data : path or DataFrame with a column for the loss and each size
        DataArray whose coordinates hold the sizes; or the losses (run,), with their sizes.
    sizes : dict of arrays (run,)
        For losses.
    law : str or Law of several sizes
    columns
        Dict such as {"N": "width", "D": "n_train", "loss": "error"}, where the usual names are not those.
    options
        As for ``fit_surface``.

    Returns
    -------
    Dataset of ``fit_surface``; ``predict_surface`` and ``compute_frontier`` take it.

    Raises
    ------
    UserError
        If a column is missing or holds something other than positive numbers, the losses rise as accuracies do, or the
        design cannot identify the law.
    """
    law = get_law(law)
    if sizes is not None:
        if isinstance(data, str | os.PathLike | pd.DataFrame):
            raise UserError("With sizes the losses are numbers, one for each run: a file or table holds its own sizes.")
        losses: Any = data
        _refuse_rising("The losses", losses, sizes)
        return fit_surface(losses, sizes, law=law, **options)
    columns = dict(columns or {})
    if isinstance(data, xr.DataArray):
        names = [str(name) for name in data.coords]
        found = {variable: _column(variable, names, columns, "The array") for variable in law.variables}
        broadcast = xr.broadcast(data, *(data[name] for name in found.values()))
        flat = [array.values.astype(float).reshape(-1) for array in broadcast]
        of_array = dict(zip(law.variables, flat[1:], strict=True))
        _refuse_rising("The losses of the array", flat[0], of_array)
        return fit_surface(flat[0], of_array, law=law, **options)
    if not isinstance(data, str | os.PathLike | pd.DataFrame | pd.Series):
        raise UserError("Losses alone have no sizes: give them too, as in surface(losses, {'N': ..., 'D': ...}).")
    table = read_table(data)
    found = {name: _column(name, [*map(str, table.frame)], columns, table.name) for name in (*law.variables, "loss")}
    values = {name: numbers(table, column, name != "loss") for name, column in found.items()}
    for name, column in values.items():
        bad = ~(np.isnan(column) | ((column > 0) & np.isfinite(column)))
        if bad.any():
            i = int(np.argmax(bad))
            raise UserError(f"{table.name}, {table.places[i]}: {found[name]} is {column[i]:g}; it must be positive.")
    loss = values.pop("loss")
    _refuse_rising(f"{table.name}: {found['loss']}", loss, values)
    return fit_surface(loss, values, law=law, **options)


def _refuse_rising(what: str, losses: npt.ArrayLike, sizes: Mapping[str, npt.ArrayLike]) -> None:
    """Raise UserError where losses rise with each size as accuracies do, with the other sizes held."""
    values = {name: np.asarray(size, float) for name, size in sizes.items()}
    y = np.asarray(losses, float)
    if y.ndim != 1 or any(size.shape != y.shape for size in values.values()) or not np.all(y[np.isfinite(y)] > 0):
        return  # which the fit refuses
    runs = pd.DataFrame(values).assign(log=np.log(y)).dropna()
    for name in values:
        others = [other for other in values if other != name]
        mean = runs.groupby([*others, name])["log"].mean()
        parts = [part.to_numpy() for _, part in mean.groupby(level=others) if len(part) > 1]
        if not parts or sum(map(like_accuracy, parts)) <= len(parts) / 2:
            return
    top = 100 if np.nanmax(y) > 1.5 else 1
    raise UserError(f"{what} rise with {' and '.join(values)} as accuracies do: give {top} minus each of them.")


def _column(variable: str, names: Sequence[str], columns: Mapping[str, str], where: str) -> str:
    if variable in columns:
        if columns[variable] not in names:
            raise UserError(f"{where} has no column {columns[variable]!r} (found: {', '.join(names)}).")
        return columns[variable]
    if variable in names:
        return variable
    plain = {name.strip().lower().replace(" ", "_"): name for name in names}
    known = [plain[usual] for usual in USUAL.get(variable, ()) if usual in plain]
    if len(known) == 1 or (known and variable == "loss"):  # those of the loss stand in order of preference
        return known[0]
    if known:
        raise UserError(
            f"{where}: {known[0]!r} and {known[1]!r} could each be {variable}: say which, as in"
            f" columns={{{variable!r}: {known[0]!r}}}."
        )
    if not names:
        raise UserError(f"{where} has nothing that holds the sizes: give it a coordinate for {variable}.")
    raise UserError(
        f"{where} has no column for {variable} (found: {', '.join(names)}): name it, as in"
        f" columns={{{variable!r}: 'NAME'}}."
    )
