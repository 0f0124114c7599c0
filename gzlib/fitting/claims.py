"""Claims and what decides them: tests of whether the loss falls and size helps, with encoders as units; and forecasts
stored before the outcome exists, with a hash that shows any later change, beside what was measured.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy import stats
from scipy.optimize import brentq

from gzlib.errors import UserError
from gzlib.files import read_checked, replace_file


def slope_test(loss, x, *, replicate="seed", level=0.95):
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
    log_loss = np.log(runs)
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


def holm(p):
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


def false_discovery(p):
    """p-values adjusted so that those below a level have a false discovery rate of it (Benjamini & Hochberg 1995).

    ``p`` is an array or DataArray of any shape; NaN (not tested) stays NaN and does not count as a test.
    """
    values = np.asarray(p, float)
    adjusted = np.full(values.shape, np.nan)
    tested = np.isfinite(values)
    if tested.any():
        adjusted[tested] = stats.false_discovery_control(values[tested], method="bh")
    return p.copy(data=adjusted) if isinstance(p, xr.DataArray) else adjusted


def encoder_effect(excess, *, parameters, family=None, x="n_train", encoder="encoder", replicate="seed", level=0.95):
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
        cells = np.log(excess.where(excess > 0))
    cells = cells.mean(replicate) if replicate in cells.dims else cells
    cells = cells if x in cells.dims else cells.expand_dims({x: [0]})

    def one(values):
        return _line_of_encoders(values, np.log10(sizes), names, level)

    columns = ["slope", "stderr", "low", "high", "inner_low", "inner_high", "p", "dof", "encoders"]
    found = xr.apply_ufunc(
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


def size_verdict(effect, *, bound, level=0.95):
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
    words = xr.where(helps, "helps", "undecided")
    words = xr.where(small, "helps by less", words)
    return xr.where(effect.p.notnull(), words, "not tested")


def random_effects(value, stderr, *, level=0.95):
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
    value, stderr = (np.asarray(v, float).ravel() for v in (value, stderr))
    known = np.isfinite(value) & np.isfinite(stderr) & (stderr > 0)
    value, variance, n = value[known], stderr[known] ** 2, int(known.sum())
    names = ("mean", "low", "high", "spread", "spread_low", "spread_high", "p_alike")
    if n < 2:
        return dict.fromkeys(names, np.nan) | {"estimates": n}

    def pooled(between):
        weight = 1 / (variance + between)
        mean = (weight * value).sum() / weight.sum()
        return weight, mean, (weight * (value - mean) ** 2).sum()

    weight, _, q = pooled(0.0)
    between = max(0.0, (q - (n - 1)) / (weight.sum() - (weight**2).sum() / weight.sum()))
    weight, mean, left = pooled(between)
    half = stats.t.ppf(0.5 * (1 + level), n - 1) * np.sqrt(left / (n - 1) / weight.sum())

    def end(probability):
        """The spread at which so large a Q would be met with this probability."""
        target = stats.chi2.ppf(probability, n - 1)
        if q <= target:
            return 0.0
        most = np.var(value) * n + variance.max()
        while pooled(most)[2] > target:
            most *= 4
        return np.sqrt(brentq(lambda between: pooled(between)[2] - target, 0.0, most))

    tail = 0.5 * (1 - level)
    numbers = mean, mean - half, mean + half, np.sqrt(between), end(1 - tail), end(tail), stats.chi2.sf(q, n - 1)
    return dict(zip(names, map(float, numbers), strict=True)) | {"estimates": n}


FORMAT = 1


def store_forecast(path, forecast, *, question, data_key, date, **more):
    """Write a forecast once.

    Parameters
    ----------
    path
        File to make; an existing file is never replaced.
    forecast : Dataset from ``forecast``
    question : str
        What will be measured, in one sentence.
    data_key : str
        Hash or run keys of the data that the forecast was made from.
    date : str
        ISO date on which the forecast is made.
    more
        Further entries of the content, such as the keys of the runs that will tell; what JSON can hold.

    Returns
    -------
    str, the SHA-256 of the content: publish it to prove the date.
    """
    path = Path(path)
    if path.exists():
        raise UserError(f"{path} holds a forecast already: a stored forecast is not replaced, choose another name.")
    x = forecast.attrs["x"]
    stacked = forecast[["loss", "lower", "upper", "lead"]].rename(loss="median")  # the name that files have
    dims = list(stacked["median"].dims)
    rows = [
        {dim: _plain(value) for dim, value in zip(dims, labels, strict=True)}
        | {key: _plain(stacked[key].transpose(*dims).values[index]) for key in ("median", "lower", "upper", "lead")}
        for index, labels in _cells(stacked, dims)
    ]
    content = {
        "format": FORMAT,
        "question": question,
        "data_key": data_key,
        "date": date,
        "x": x,
        "dims": dims,
        "level": float(forecast.attrs["level"]),
        "kind": forecast.attrs["kind"],
        "rows": rows,
    } | more
    digest = _digest(content)
    text = json.dumps(content | {"sha256": digest}, indent=1, allow_nan=False) + "\n"
    replace_file(path, text)
    return digest


Number = Annotated[float, Field(allow_inf_nan=False)]


class _Row(BaseModel):
    """One forecast; the coordinates of its dimensions come with it."""

    model_config = ConfigDict(extra="allow")
    median: Number | None
    lower: Number | None
    upper: Number | None
    lead: Number | None = None


class _Forecast(BaseModel):
    """What a stored forecast holds, as far as the code relies on it."""

    model_config = ConfigDict(extra="allow")
    format: Literal[1]
    sha256: str
    question: str
    data_key: str
    date: str
    x: str
    dims: list[str]
    level: Annotated[float, Field(gt=0, lt=1)]
    kind: str
    rows: list[_Row]

    @model_validator(mode="after")
    def _labelled(self):
        for number, row in enumerate(self.rows):
            for dim in self.dims:
                value = (row.model_extra or {}).get(dim)
                if isinstance(value, bool) or not isinstance(value, str | int | float):
                    raise ValueError(f"'rows.{number}.{dim}' is {value!r}: it must be a text or a number")
        return self


def load_forecast(path):
    """The content of a stored forecast.

    Raises
    ------
    UserError
        If it was changed since, or is not a forecast.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"There is no stored forecast '{path}': store one with store_forecast.")
    content = read_checked(path, _Forecast, what="a stored forecast", cure="restore it from git")
    digest = content.pop("sha256")
    if digest != _digest(content):
        raise UserError(
            f"'{path}' was changed after it was stored: its content does not match its sha256; restore it from git."
        )
    return content


def judge_forecast(path, outcome):
    """Compare a stored forecast with what was measured.

    Parameters
    ----------
    path
        Stored forecast.
    outcome : DataArray with (a subset of) the forecast's coordinates
        Averaged over runs as the forecast's kind says.

    Returns
    -------
    list of dict rows: the labels, ``forecast``, ``lower``, ``upper``, ``outcome`` (None where not measured), ``inside``
    and ``log_error`` = ln(forecast / outcome).
    """
    content = load_forecast(path)
    rows = []
    for row in content["rows"]:
        labels = {dim: row[dim] for dim in content["dims"]}
        try:
            measured = float(outcome.sel({dim: value for dim, value in labels.items() if dim in outcome.dims}))
        except KeyError:
            measured = np.nan
        known = np.isfinite(measured) and row["median"] is not None
        rows.append(
            labels
            | {
                "forecast": row["median"],
                "lower": row["lower"],
                "upper": row["upper"],
                "outcome": measured if np.isfinite(measured) else None,
                "inside": bool(row["lower"] <= measured <= row["upper"]) if known else None,
                "log_error": float(np.log(row["median"] / measured)) if known else None,
            }
        )
    return rows


def _cells(dataset, dims):
    shape = tuple(dataset.sizes[dim] for dim in dims)
    for index in np.ndindex(shape):
        yield (
            index,
            [dataset[dim].values[i] if dim in dataset.coords else i for dim, i in zip(dims, index, strict=True)],
        )


def _plain(value):
    """A JSON value; numbers that are not finite become null."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _digest(content):
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
