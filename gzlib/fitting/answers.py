"""The front door of the analysis: fit, forecast, plan and compare learning curves of any kind, in one call each.

Data come as a file, a DataFrame, a labelled array or plain numbers; a ``Fit`` carries its law, data and weights.

>>> import numpy as np
>>> import gzlib as gz
>>> sizes = np.array([250, 500, 1000, 2000, 4000, 8000])
>>> errors = 0.1 + 0.4 * (sizes / 1000) ** -0.5 * np.array([1.01, 0.99, 1.0, 1.01, 0.99, 1.0])
>>> fit = gz.fit(sizes, errors)
>>> print(fit)
the curve: loss = 0.10 + 0.33 (n / 1,414)^-0.51; exponent 0.51 (95 %: 0.45 to 0.56),
floor 0.10 (95 %: 0.06 to 0.14); identified: 6 distinct sizes over 1.5 decades
>>> fit.predict([16000, 32000]).loss.values.round(2).tolist()
[0.2, 0.17]
>>> fit.interval("E", level=0.5).low.item() > 0.06
True
>>> fit.next_run(32000).best.item()
32000.0
>>> fit.save("pilot.json")  # doctest: +SKIP
>>> figure = fit.plot("pilot.html", at=[16000, 32000])  # doctest: +SKIP

Forecasts and plans do not trust one law; their bands are calibrated on the curves themselves:

>>> ahead = gz.forecast((sizes, errors), [16000, 32000])
>>> bool((ahead.lower < ahead.loss).all() and (ahead.loss < ahead.upper).all())
True
>>> for target in (0.3, 0.2, 0.05):
...     print(*gz.sentences(gz.plan((sizes, errors), target)))  # doctest: +ELLIPSIS
the curve: 0.3 is reached already (best: 0.241, at sizes up to 8,000)
the curve: about ... labels reach 0.2 (95 %: ...
the curve: 0.05 is not reached by more labels alone: the fitted floor is 0.103, above the target
>>> print(*gz.sentences(gz.compare(sizes, errors, laws=["power", "power-offset"])))  # doctest: +ELLIPSIS
the curve: power describes it best (AICc: power-offset ... behind)

Runs of several model sizes are a surface:

>>> N, D = (part.ravel() for part in np.meshgrid([1e6, 1e7, 1e8, 1e9], np.geomspace(1e3, 1e6, 5)))
>>> loss = 0.3 + 0.2 * (N / 1e7) ** -0.4 + 0.3 * (D / 3e4) ** -0.3
>>> fitted = gz.surface(loss, {"N": N, "D": D}, draws=0)
>>> fitted["value"].sel(parameter=["alpha", "beta"]).values.round(3).tolist()
[0.4, 0.3]
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from gzlib.errors import UserError
from gzlib.files import FilePath, replace_file
from gzlib.fitting.comparison import compare_laws
from gzlib.fitting.curves import NOT_IDENTIFIED, geometric_mean, new_sizes, recency_weights, summarise_replicates
from gzlib.fitting.fits import fit_curves
from gzlib.fitting.forecasting import forecast as forecast_array
from gzlib.fitting.intervals import predict
from gzlib.fitting.laws import Law, LawLike, get_law
from gzlib.fitting.planner import Cost, check_target, labels_needed, next_run
from gzlib.fitting.reading import AnyCurves, as_array
from gzlib.identity import content_hash

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOGETHER = 32  # curves that are fitted at once: sizes that differ from curve to curve widen the arrays of all


class Fit:
    """A law fitted to learning curves, with all that it came from.

    Attributes
    ----------
    law : Law
    data : DataArray (..., x, replicate)
        The losses.
    weights : DataArray (..., x)
        What the mean of each size weighs against one run.
    results : Dataset of ``fit_curves``
        Parameters, intervals, verdicts.
    notes : list of str
        How the data were read.
    """

    def __init__(self, data: xr.DataArray, results: xr.Dataset, options: dict[str, Any]) -> None:
        self.data, self.results, self.options = data, results, options
        self.law = results.attrs["law"]
        self.notes = list(data.attrs.get("notes", []))
        n_runs = summarise_replicates(data, replicate=self.replicate, x=self.x)["n_runs"]
        recency = recency_weights(data[self.x].values, scale=options.get("recency", np.inf)) ** 2
        self.weights = n_runs * xr.DataArray(recency, dims=self.x)

    @property
    def x(self) -> str:
        x: str = self.results.attrs["x"]
        return x

    @property
    def replicate(self) -> str:
        replicate: str = self.options["replicate"]
        return replicate

    @property
    def level(self) -> float:
        level: float = self.results.attrs["level"]
        return level

    def __str__(self) -> str:
        from gzlib.fitting.report import sentences

        return "\n".join([*sentences(self), *(f"note: {note}" for note in self.notes)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table().to_html(index=False)

    def table(self, *, rounded: bool = True) -> pd.DataFrame:
        """One row a curve: parameters with their intervals, verdict and reason, as a DataFrame."""
        from gzlib.fitting.report import fit_rows

        return fit_rows(self, rounded=rounded)

    def predict(self, at: npt.ArrayLike, *, level: float | None = None, kind: str = "mean") -> xr.Dataset:
        """Loss at sizes ``at`` if the law holds: Dataset ``loss``, ``lower``, ``upper``, see ``predict``."""
        band = predict(self.results, at, level=level or self.level, kind=kind)
        return band.assign_attrs(x=self.x)

    def interval(self, parameter: str, *, level: float | None = None) -> xr.Dataset:
        """Value and profile-likelihood interval of a parameter: Dataset ``value``, ``low``, ``high``.

        Raises
        ------
        UserError
            If the law has no such parameter.
        """
        if parameter not in self.law.names:
            raise UserError(f"{self.law.name} has no parameter {parameter!r}: it has {', '.join(self.law.names)}.")
        results = self.results
        if level is not None and level != self.level:
            results = _fitted(self.data, self.options | {"level": level, "draws": 0})
        columns = {"value": parameter, "low": f"{parameter}_low", "high": f"{parameter}_high"}
        return xr.Dataset({key: results[name] for key, name in columns.items()}).assign_attrs(level=level or self.level)

    def forecast(self, at: npt.ArrayLike, *, level: float | None = None, kind: str = "mean") -> xr.Dataset:
        """Loss at larger sizes with a calibrated band, which does not trust the law; see ``gzlib.fitting.forecast``."""
        return forecast(self.data, at, x=self.x, replicate=self.replicate, level=level or self.level, kind=kind)

    def next_run(self, at: float, candidates: npt.ArrayLike | None = None, *, cost: Cost | None = None) -> xr.Dataset:
        """Which size to run next to know the loss at size ``at`` best; see ``gzlib.fitting.next_run``.

        ``candidates`` are by default the sizes measured and the doublings from the largest up to ``at``.
        """
        if candidates is None:
            sizes = self.data[self.x].values.astype(float)
            steps = max(int(np.log2(max(at / sizes.max(), 1.0))), 0)
            candidates = np.union1d(sizes, sizes.max() * 2.0 ** np.arange(steps + 1))
        return next_run(self.results, at, candidates, cost=cost)

    def plot(
        self, file: FilePath | None = None, *, at: npt.ArrayLike = (), title: str | None = None
    ) -> "Figure | Path":
        """Runs, law and band on logarithmic axes; see ``gzlib.fitting.report.plot``."""
        from gzlib.fitting.report import plot

        return plot(self, file, at=at, title=title)

    def save(self, file: FilePath) -> None:
        """Write data, options and results as JSON; ``load_fit`` reads it."""
        save_fit(self, file)


def fit(
    data: AnyCurves,
    losses: npt.ArrayLike | None = None,
    *,
    law: LawLike = "power-offset",
    level: float = 0.95,
    x: str = "n_train",
    replicate: str = "seed",
    draws: int = 500,
    seed: int = 0,
    **options: Any,
) -> Fit:
    """Fit a law to one or many learning curves.

    Parameters
    ----------
    data : path, DataFrame, Series, DataArray, Dataset, dict or array
        A file, a table, labelled losses, columns by name, or the sizes of one curve.
    losses : array (sizes,) or (sizes, runs)
        Where ``data`` are sizes.
    law : str or Law of one size
    level : float
        Coverage of the intervals.
    x, replicate : str
        Dimensions of the sizes and of repeated runs, for labelled arrays.
    draws, seed
        Of the bootstrap.
    options
        ``floor``, ``floor_sd``, ``fixed``, ``noise``, ``recency``, ``evaluation_sd`` as for ``fit_curves``; ``size``,
        ``loss``, ``accuracy``, ``seed_column``, ``curve``, ``ignore`` to name columns, as for ``read_curves``.

    Returns
    -------
    Fit

    Raises
    ------
    UserError
        If the data cannot be read; a curve that no law describes is in the result, with the reason.
    """
    columns = _columns_of(options)
    array = as_array(data, losses, x=x, replicate=replicate, **columns)
    options |= {"law": get_law(law), "level": level, "x": x, "replicate": replicate, "draws": draws, "seed": seed}
    return Fit(array, _fitted(array, options), options)


def _columns_of(options: dict[str, Any]) -> dict[str, Any]:
    """Take the names of columns out of the options."""
    named: dict[str, Any] = {
        key: options.pop(key) for key in ("size", "loss", "accuracy", "curve", "ignore") if key in options
    }
    if "seed_column" in options:
        named["seed"] = options.pop("seed_column")
    return named


def _fitted(loss: xr.DataArray, options: dict[str, Any]) -> xr.Dataset:
    """Results of ``fit_curves``, a bounded number of curves at a time; curves that no law describes are refused."""
    x = options["x"]
    sizes = loss[x].values.astype(float)
    options = options | {"x_ref": options.get("x_ref") or float(np.exp(np.log(sizes[sizes > 0]).mean()))}
    if "curve" in loss.dims and loss.sizes["curve"] > TOGETHER and not {"floor", "evaluation_sd"} & set(options):
        parts = [
            fit_curves(loss.isel(curve=slice(i, i + TOGETHER)).dropna(x, how="all"), **options)
            for i in range(0, loss.sizes["curve"], TOGETHER)
        ]
        return xr.concat(parts, "curve", combine_attrs="override").assign_attrs(x_max=float(sizes.max()))
    return fit_curves(loss, **options)


def forecast(
    data: AnyCurves,
    at: npt.ArrayLike,
    losses: npt.ArrayLike | None = None,
    *,
    law: LawLike | None = None,
    level: float = 0.95,
    kind: str = "mean",
    x: str = "n_train",
    replicate: str = "seed",
    **options: Any,
) -> xr.Dataset:
    """Loss at larger sizes, with a band that has been calibrated on the curves themselves.

    Parameters
    ----------
    data, losses, x, replicate
        As for ``fit``; curves of one study are best forecast together.
    at : float or array (sizes,)
    law : str or Law, optional
        The only law to use; default: the calibrated ensemble of ``gzlib.fitting.forecasting``.
    level : float
        Coverage of the band.
    kind
        "mean", the average over many runs, or "new_run", one run.
    options
        Names of columns, as for ``fit``; ``floor``, ``floor_sd``, ``checkpoints`` as for the array's forecast.

    Returns
    -------
    Dataset with ``loss``, ``lower``, ``upper`` over (..., x); NaN for a curve with too few sizes.
    """
    columns = _columns_of(options)
    array = as_array(data, losses, x=x, replicate=replicate, **columns)
    at = new_sizes(at)
    return forecast_array(array, at, x=x, replicate=replicate, level=level, kind=kind, law=law, **options)


def plan(
    data: AnyCurves,
    target: float,
    losses: npt.ArrayLike | None = None,
    *,
    law: LawLike | None = None,
    level: float = 0.95,
    kind: str = "mean",
    x: str = "n_train",
    replicate: str = "seed",
    max_factor: float = 1000.0,
    **options: Any,
) -> xr.Dataset:
    """Training size at which each curve reaches a target loss, and whether it ever will.

    Parameters
    ----------
    data, losses, x, replicate
        As for ``fit``.
    target : float
        In the unit of the loss (of 1 - accuracy, where the data are accuracies)
    law : str or Law, optional
        Trust this law; default: the calibrated ensemble.
    level : float
        Coverage of the band.
    kind
        "mean" or "new_run".
    max_factor
        Sizes are searched up to this multiple of the largest.
    options
        Names of columns, as for ``fit``; others go to ``labels_needed``.

    Returns
    -------
    Dataset of ``labels_needed`` (``labels``, ``labels_low``, ``labels_high``, ``labels_by_risk``, ``reachable``,
    ``status``) with ``largest`` and ``best_loss`` (of the data) and the fitted floor ``E``, ``E_low``, ``E_upper``
    (one-sided), NaN where no floor is identified. ``status`` is "below the floor" where a target out of reach lies
    below the interval of the fitted floor.

    Raises
    ------
    UserError
        If the target is not a positive number, or an accuracy where errors are fitted.
    """
    columns = _columns_of(options)
    array = as_array(data, losses, x=x, replicate=replicate, **columns)
    check_target(target)
    _check_target(array, target, x, replicate)
    options |= {} if law is None else {"law": law}
    needed = labels_needed(
        array, target, x=x, replicate=replicate, level=level, kind=kind, max_factor=max_factor, **options
    )
    rest = list(needed["status"].dims)
    mean = geometric_mean(array, replicate).transpose(*rest, x)
    floors = _fitted(
        array, {"law": get_law("power-offset"), "level": level, "x": x, "replicate": replicate, "draws": 0}
    )
    known = floors["success"] & (floors["verdict"] != NOT_IDENTIFIED)
    out = needed.assign(
        {"largest": mean[x].where(mean.notnull()).max(x), "best_loss": mean.min(x)}
        | {name: floors[name].where(known) for name in ("E", "E_low", "E_upper")}
    )
    below = known & (floors["E_low"] > target) & (out["best_loss"] > target)
    status = xr.where(below & (out["status"] == "out of reach"), "below the floor", out["status"])
    return out.assign(status=status.astype(str)).assign_attrs(
        needed.attrs | {"metric": array.attrs["metric"], "max_factor": max_factor}
    )


def _check_target(array: xr.DataArray, target: float, x: str, replicate: str) -> None:
    """Refuse an accuracy as the target of errors: every curve seems to be there already, and none is."""
    turned = re.fullmatch(r"(100|1) - (.+)", array.attrs["metric"])
    if not turned:
        return
    top, name = float(turned[1]), turned[2]
    mean = array.mean(replicate) if replicate in array.dims else array
    best, worst = float(mean.min(x).max()), float(mean.max())
    if top - target < best <= target or top - target < worst <= target:
        share = target / 100 if top == 1 < target <= 100 else target  # an accuracy in percent
        cure = (
            f"for {name} {share:g} give the target {top - share:.6g}" if share < top else f"give one below {best:.3g}"
        )
        raise UserError(
            f"Every curve is below the target {target:g} already, for it is one of {array.attrs['metric']}: {cure}."
        )


def compare(
    data: AnyCurves,
    losses: npt.ArrayLike | None = None,
    *,
    laws: Iterable[LawLike] = ("power", "power-offset", "shifted-power"),
    x: str = "n_train",
    replicate: str = "seed",
    scatter: str = "alike",
    **columns: Any,
) -> xr.Dataset:
    """Which law describes each curve: information criteria that count the runs; see ``gzlib.fitting.compare_laws``.

    ``data``, ``losses`` and the names of columns as for ``fit``, ``scatter`` as for ``gzlib.fitting.fit_curves``.
    """
    array = as_array(data, losses, x=x, replicate=replicate, **_columns_of(columns))
    return compare_laws(array, laws, x=x, replicate=replicate, scatter=scatter)


FORMAT = 1
KINDS = {"f": float, "i": int, "b": bool, "U": str}


def save_fit(fit: Fit, file: FilePath) -> None:
    """Write a fit as JSON: its law's name, options, data and results, with a hash that shows any later change."""
    options = {key: value for key, value in fit.options.items() if key != "law"}
    arrays = {key: xr.DataArray(v) for key, v in options.items() if isinstance(v, xr.DataArray | np.ndarray)}
    content = {
        "format": FORMAT,
        "law": fit.law.name,
        "options": {key: _finite(value) for key, value in options.items() if key not in arrays},
        "arrays": _packed(arrays),
        "notes": fit.notes,
        "metric": fit.data.attrs.get("metric", "loss"),
        "data": _packed({"loss": fit.data.variable, **fit.data.coords}),
        "results": _packed(fit.results.variables),
        "attrs": {key: _finite(value) for key, value in fit.results.attrs.items() if key != "law"},
    }
    replace_file(Path(file), json.dumps(content | {"sha256": content_hash(content)}, allow_nan=False) + "\n")


def load_fit(file: FilePath, *, law: Law | None = None) -> Fit:
    """A fit as ``Fit.save`` wrote it.

    Parameters
    ----------
    file : path
    law : Law, optional
        The law, if it was one of your own: a file holds its name only.

    Raises
    ------
    UserError
        If the file is not a fit, was changed since, or its law is not known.
    """
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
        if content.pop("sha256") != content_hash(content) or content["format"] != FORMAT:
            raise UserError(f"'{file}' was changed after it was saved: its content does not match its sha256.")
        law = get_law(content["law"] if law is None else law)
        if law.name != content["law"]:
            raise UserError(f"'{file}' holds a fit of the law {content['law']!r}, not of {law.name!r}.")
        results = _unpacked(content["results"]).assign_attrs(_read(content["attrs"]) | {"law": law})
        data = _unpacked(content["data"])["loss"]
        data = data.assign_attrs(notes=content["notes"], metric=content["metric"])
        arrays = {str(name): array for name, array in _unpacked(content["arrays"]).items()}
        return Fit(data, results, _read(content["options"]) | arrays | {"law": law})
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"'{file}' is not a stored fit ({error}); save one with fit.save(file).") from error


def _finite(value: Any) -> Any:
    """What JSON can hold: an infinite number as a text."""
    value = value.item() if isinstance(value, np.generic) else value
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


def _read(values: dict[str, Any]) -> dict[str, Any]:
    return {key: float(value) if value in ("inf", "-inf", "nan") else value for key, value in values.items()}


def _packed(variables: Mapping[Any, xr.Variable | xr.DataArray]) -> dict[str, dict[str, Any]]:
    return {str(name): _packed_array(variable) for name, variable in variables.items()}


def _packed_array(array: xr.Variable | xr.DataArray) -> dict[str, Any]:
    values = array.values.astype(str) if array.dtype.kind == "O" else array.values
    plain: np.ndarray = values
    if values.dtype.kind == "f":
        plain = values.astype(object)
        plain[~np.isfinite(values)] = None
    return {"dims": list(map(str, array.dims)), "kind": values.dtype.kind, "values": plain.tolist()}


def _unpacked(arrays: dict[str, dict[str, Any]]) -> xr.Dataset:
    out: dict[str, Any] = {n: (a["dims"], np.array(a["values"], KINDS[a["kind"]])) for n, a in arrays.items()}
    coords = {name for name, (dims, _) in out.items() if dims == [name]}
    return xr.Dataset({n: v for n, v in out.items() if n not in coords}, coords={n: out[n] for n in coords})
