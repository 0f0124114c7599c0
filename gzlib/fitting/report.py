"""Answers as people read them: sentences, tables with as many digits as the bands justify, figures and pages."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from gzlib.errors import UserError, tell
from gzlib.files import FilePath, replace_file
from gzlib.fitting.curves import check_labelled
from gzlib.fitting.headings import PERCENT
from gzlib.fitting.planner import EVEN
from gzlib.fitting.reading import as_array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gzlib.fitting.answers import Fit

Result: TypeAlias = "Fit | xr.Dataset"  # of fit; of forecast, plan, compare and surface
Band = tuple[str, str, str]  # a value, and the ends of its band
Rounding = Callable[[float], float]

MOST_SENTENCES = 20  # curves that are told one by one
MOST_COLOURS = 10
NO_LIMIT = "no limit"
LEAST_CHANCE = 0.05  # of a target's being reached, below which labels are not told
SURE = 0.99  # chance of a target's being reached above which there is no "if"
WIDE, WIDEST = 3.0, 1000.0  # ratios of a band's ends between which each is rounded for itself
MOST_DECIMALS, MOST_DIGITS = 6, 12  # beyond which numbers are written as 2.6e-10


def decimals_for(*ends: float) -> int | None:
    """Decimals that keep two digits of an interval's half-width if it begins with 1 or 2, else one; None if open."""
    low, high = (float(end) for end in ends)
    half = 0.5 * (high - low)
    if not (np.isfinite(half) and half > 0):
        return None
    step = int(np.floor(np.log10(half)))
    return -step + (1 if half / 10.0**step < 3 else 0)


def with_band(value: float, low: float, high: float) -> Band:
    """A value and the ends of its band as texts; the ends are rounded outwards, so that the band keeps its promise."""
    if low > 0 and WIDE * low < high < WIDEST * low:  # a band in ln(loss), whose middle is not that of its ends
        return _significant(value, np.round), _significant(low, np.floor), _significant(high, np.ceil)
    decimals = decimals_for(low, high)
    if decimals is None:
        finite = [abs(v) for v in (value - low, high - value) if np.isfinite(v) and v > 0]
        decimals = decimals_for(0, 2 * min(finite)) if finite else None
    if decimals is None:
        short = ["-" if np.isnan(v) else (NO_LIMIT if np.isinf(v) else f"{v:.3g}") for v in (value, low, high)]
        return short[0], short[1], short[2]
    unit = 10.0**-decimals

    def text(number: float) -> str:
        if not np.isfinite(number):
            return "-" if np.isnan(number) else NO_LIMIT
        return _written(number * unit + 0.0, decimals)  # + 0.0: never "-0"

    def rounded(number: float, way: Rounding) -> float:
        return way(number / unit) if np.isfinite(number) else number

    # a hair of tolerance, so that 0.3 is not rounded outwards to 0.31
    return (
        text(rounded(value, np.round)),
        text(rounded(low, lambda v: np.floor(v + 1e-9))),
        text(rounded(high, lambda v: np.ceil(v - 1e-9))),
    )


def _written(number: float, decimals: int) -> str:
    """A number rounded to so many decimals, as text."""
    if number and (decimals > MOST_DECIMALS or abs(number) >= 10.0**MOST_DIGITS):
        return f"{number:.{max(decimals + int(np.floor(np.log10(abs(number)))), 0)}e}"
    return (
        f"{number:,.{max(decimals, 0)}f}"
        if number
        else "0"
        if decimals > MOST_DECIMALS
        else f"{0:.{max(decimals, 0)}f}"
    )


def size_text(size: float) -> str:
    """A size, which may be a fraction or far beyond all data."""
    if not np.isfinite(size) or abs(size) >= 10.0**MOST_DIGITS:
        return f"{size:.3g}"
    return f"{size:,.0f}" if size >= 1000 or size == round(size) else f"{size:.4g}"


def _significant(number: float, way: Rounding) -> str:
    """One digit, two if it begins with 1 or 2."""
    step = np.floor(np.log10(number))
    decimals = int((number / 10.0**step < 3) - step)
    return _written(way(number * 10.0**decimals) * 10.0**-decimals, decimals)


def count(number: float, way: Rounding = np.round, *, precise: bool = False, least: int = 1) -> str:
    """A number of labels: one digit, two below ten or from 1 or 2 on (one more where its band is ``precise``).

    ``least`` digits are told, as of the number beside it.
    """
    if not np.isfinite(number):
        return "-" if np.isnan(number) else NO_LIMIT
    step = np.floor(np.log10(number)) if number else 0.0
    digits = max(_digits(number, precise), least)
    unit = 10.0 ** (step + 1 - digits)
    rounded = way(round(number / unit, 9)) * unit  # a hair of tolerance: 0.3 / 0.1 is below 3
    return f"{rounded:,.0f}" if 10 <= number < 10.0**MOST_DIGITS else f"{rounded:.{digits}g}"


def _digits(number: float, precise: bool) -> int:
    """How many digits of a number of labels are told."""
    begins = number / 10.0 ** np.floor(np.log10(number)) if number else 0.0
    return 1 + bool(begins < 3 or number < 10) + precise


def _is_precise(low: float, high: float) -> bool:
    return bool(np.isfinite(high) and low > 0 and high / low < 1.5)


def _counts(labels: float, low: float, high: float) -> Band:
    precise = _is_precise(low, high)
    return (
        count(labels, precise=precise),
        count(low, np.floor, precise=precise),
        count(high, np.ceil, precise=precise),
    )


def _counts_by_risk(one: xr.Dataset) -> dict[float, str]:
    """Numbers of labels of one curve by the risk of missing the target, with as many digits as ``labels`` has."""
    labels, low, high = (float(one[key]) for key in ("labels", "labels_low", "labels_high"))
    precise = _is_precise(low, high)
    least = _digits(labels, precise) if np.isfinite(labels) else 1
    found = zip(one["risk"].values, map(float, one["labels_by_risk"].values), strict=True)
    return {risk: count(number, precise=precise, least=least) for risk, number in found}


def _curves(dataset: xr.Dataset, like: str) -> Iterator[tuple[str, xr.Dataset]]:
    """(name, part) of each curve of a result; ``like`` names a variable with the curves' dimensions."""
    dims = [dim for dim in dataset[like].dims if dim not in (dataset.attrs.get("x"), "law")]
    for index in np.ndindex(*(dataset.sizes[dim] for dim in dims)):
        one = dataset.isel(dict(zip(dims, index, strict=True)))
        labels = [str(one[dim].item()) if dim in one.coords else str(i) for dim, i in zip(dims, index, strict=True)]
        yield " / ".join(labels) or "the curve", one


def _percent(level: float) -> str:
    return f"{100 * level:.12g} %"


def sentences(result: Result) -> list[str]:
    """What a result says, one sentence a curve.

    Parameters
    ----------
    result : Fit
        Or Dataset of ``forecast``, ``plan``, ``compare`` or ``surface``.
    """
    if not isinstance(result, xr.Dataset):
        check_labelled(
            getattr(result, "results", result), "give a Fit, or what forecast, plan or compare returns", xr.Dataset
        )
        return [_fit_sentence(name, one, result) for name, one in _curves(result.results, "verdict")]
    if "labels" in result:
        return [_plan_sentence(name, one, result.attrs) for name, one in _curves(result, "labels")]
    if "parameter" in result.dims and "formula" in result.attrs:
        return [_surface_sentence(result)]
    if "aicc" in result:
        return [_law_sentence(name, one) for name, one in _curves(result, "aicc")]
    if "loss" not in result:
        raise UserError("This Dataset says nothing: give a Fit, or what forecast, plan, compare or surface returns.")
    return [text for name, one in _curves(result, "loss") for text in _forecast_sentences(name, one, result.attrs)]


def _fit_sentence(name: str, one: xr.Dataset, fit: Fit) -> str:
    level, law = _percent(fit.level), fit.law
    if not bool(one["success"]):
        return f"{name}: {one['verdict'].item()}: {one['reason'].item()}"
    shown = {p: with_band(*(float(one[key]) for key in (p, f"{p}_low", f"{p}_high"))) for p in law.names}
    if law.name in ("power", "power-offset"):
        reference = f"(n / {size_text(fit.results.attrs['x_ref'])})^-{shown['alpha'][0]}"
        floor = f"{shown['E'][0]} + " if "E" in shown else ""
        text = f"{name}: loss = {floor}{shown['A'][0]} {reference}; exponent {_band(shown['alpha'], level)}"
        if "E" in shown and float(one["E_low"]) > 0:
            text += f", floor {_band(shown['E'], level)}"
        elif "E" in shown and np.isfinite(one["E_upper"]):
            text += f", floor below {with_band(float(one['E']), 0, float(one['E_upper']))[2]}"
    else:
        text = f"{name}: loss = {law.formula} with " + ", ".join(f"{p} = {_band(shown[p], level)}" for p in law.names)
    return f"{text}; {one['verdict'].item()}: {one['reason'].item()}"


def _surface_sentence(fitted: xr.Dataset) -> str:
    level, attrs = _percent(fitted.attrs["level"]), fitted.attrs
    ends = [fitted[key] if key in fitted else fitted["value"] * np.nan for key in ("low", "high")]  # none without draws
    values = zip(fitted["parameter"].values, *(part.values for part in (fitted["value"], *ends)), strict=True)
    told = ", ".join(f"{name} = {_band(with_band(*map(float, band)), level)}" for name, *band in values)
    sizes = ", ".join(f"{name} in units of {size_text(attrs[f'{name}_ref'])}" for name in attrs["law"].variables)
    return f"loss = {attrs['formula']}, {sizes}: {told}; {fitted['verdict'].item()}: {fitted['reason'].item()}"


def _band(shown: Band, level: str) -> str:
    value, low, high = shown
    return value if low == high == "-" else f"{value} ({level}: {low} to {high})"


def _plan_sentence(name: str, one: xr.Dataset, attrs: Mapping[Any, Any]) -> str:
    target, level, status = f"{attrs['target']:g}", _percent(attrs["level"]), str(one["status"].item())
    labels, low, high = (float(one[key]) for key in ("labels", "labels_low", "labels_high"))
    largest, best = float(one["largest"]), float(one["best_loss"])
    floor = float(one["E"])
    if status == "no forecast":
        return f"{name}: no forecast: too few sizes (at least 3 are needed)"
    if status == "already reached":
        text = f"{name}: {target} is reached already (best: {best:.3g}, at sizes up to {size_text(largest)})"
        if high > largest and (clause := _risk_clause(one, size_text(largest * attrs["max_factor"]))):
            text += f", though by so little that it may be chance{clause}"
        return text
    shown = with_band(floor, float(one["E_low"]), float(one["E_upper"]))[0]
    higher = floor > attrs["target"] and shown != target
    above = f"the fitted floor is {shown}{', above the target' if higher else ''}"
    if status == "below the floor":
        return f"{name}: {target} is not reached by more labels alone: {above}"
    chance, (text, least, most) = float(one["reachable"]), _counts(labels, low, high)
    reached = f"if it can be reached at all (chance: {chance_text(chance)})"
    limit = size_text(largest * attrs["max_factor"])
    if not np.isfinite(labels):
        beyond = f"not within {limit} labels"
        tail = f"; {above}" if floor > 0 else ""
        if chance < LEAST_CHANCE:
            return f"{name}: {target} is out of reach, {beyond}{tail}"
        earliest = f", not before {least}" if np.isfinite(low) else ""
        likely = "likely out of reach" if chance < EVEN else f"out of reach, {beyond}"
        return f"{name}: {target} is {likely}; {reached}{earliest}{_risk_clause(one, limit)}{tail}"
    span = f"at least {least}" if np.isinf(high) else f"{least} to {most}"
    far = f", {labels / largest:,.0f} times the largest size measured" if labels > 10 * largest else ""
    doubt = "" if chance > SURE else f", {reached}"
    tail = f"; {above}" if higher else ""
    return f"{name}: about {text} labels reach {target} ({level}: {span}){far}{doubt}{_risk_clause(one, limit)}{tail}"


def chance_text(chance: float, none: str = "-") -> str:
    """A probability that a target can be reached; ``none`` where it is not known."""
    if np.isnan(chance):
        return none
    return f"over {100 * SURE:g} %" if chance > SURE else f"{100 * chance:.0f} %"


def _risk_clause(one: xr.Dataset, limit: str) -> str:
    """Labels by the risk of missing the target, for the end of a sentence; the median is told before."""
    if "labels_by_risk" not in one:
        return ""
    shown = [
        f"{f'not by {limit}' if text == NO_LIMIT else f'by {text}'} with {100 * (1 - risk):g} %"
        for risk, text in _counts_by_risk(one).items()
        if risk != EVEN
    ]
    return "; " + ", ".join(shown) if shown else ""


def _forecast_sentences(name: str, one: xr.Dataset, attrs: Mapping[Any, Any]) -> Iterator[str]:
    x, level = attrs["x"], _percent(attrs["level"])
    for i, size in enumerate(one[x].values):
        value, low, high = (float(one[key][i]) for key in ("loss", "lower", "upper"))
        if np.isnan(value):
            yield f"{name}: no forecast at {size_text(size)}: too few sizes (at least 3 are needed)"
        else:
            text, least, most = with_band(value, low, high)
            yield f"{name}: about {text} at {size_text(size)} ({level}: {least} to {most})"


def _law_sentence(name: str, one: xr.Dataset) -> str:
    if not np.isfinite(one["aicc"]).any():
        return f"{name}: too few runs to compare laws"
    order = np.argsort(one["aicc"].values)
    best, rest = one["law"].values[order[0]], order[1:]
    others = ", ".join(
        f"{one['law'].values[k]} {float(one['delta'][k]):.1f} behind" for k in rest if np.isfinite(one["aicc"][k])
    )
    near = [one["law"].values[k] for k in rest if float(one["delta"][k]) < 2]
    verdict = f"{best} describes it best" if not near else f"{best} and {' and '.join(near)} describe it alike"
    if not others and one.sizes["law"] > 1:
        return f"{name}: too few runs to compare laws: {best} alone leaves some to judge it by"
    return f"{name}: {verdict} (AICc: {others})" if others else f"{name}: {verdict}"


def fit_rows(fit: Fit, *, rounded: bool = True) -> pd.DataFrame:
    """A DataFrame with a row for each curve of a ``Fit``."""
    rows = []
    for name, one in _curves(fit.results, "verdict"):
        row: dict[str, Any] = {"curve": name}
        for p in fit.law.names:
            numbers = [float(one[key]) for key in (p, f"{p}_low", f"{p}_high")]
            row |= dict(zip((p, f"{p}_low", f"{p}_high"), with_band(*numbers) if rounded else numbers, strict=True))
        row |= {"n_sizes": int(one["n_sizes"]), "n_runs": int(one["n_runs"])}
        rows.append(row | {key: str(one[key].item()) for key in ("verdict", "reason")})
    return pd.DataFrame(rows)


def plan_rows(needed: xr.Dataset, *, rounded: bool = True) -> pd.DataFrame:
    """A DataFrame with a row for each curve of ``plan``'s result; ``floor`` is the fitted one."""
    rows = []
    for name, one in _curves(needed, "labels"):
        numbers = [float(one[key]) for key in ("labels", "labels_low", "labels_high")]
        if rounded and _hopeless(one):  # as in the sentences, which tell no labels then
            numbers = [np.inf] * 3
        shown = [text.replace(NO_LIMIT, "out of reach") for text in _counts(*numbers)[:2]] + [_counts(*numbers)[2]]
        row: dict[str, Any] = {"curve": name}
        row |= dict(zip(("labels", "labels_low", "labels_high"), shown if rounded else numbers, strict=True))
        largest, best, floor = (float(one[key]) for key in ("largest", "best_loss", "E"))
        if rounded:
            row |= {"largest": size_text(largest), "best_loss": f"{best:.4g}"}
            row["floor"] = with_band(floor, float(one["E_low"]), float(one["E_upper"]))[0]
        else:
            row |= {"largest": largest, "best_loss": best, "floor": floor}
        rows.append(row | _risk_columns(one, rounded) | {"status": str(one["status"].item())})
    return pd.DataFrame(rows)


def _hopeless(one: xr.Dataset) -> bool:
    """Whether a target is so unlikely to be reached that numbers of labels would mislead."""
    return str(one["status"].item()) == "below the floor" or float(one.get("reachable", np.nan)) < LEAST_CHANCE


def _risk_columns(one: xr.Dataset, rounded: bool) -> dict[str, Any]:
    """Labels of one curve by the risk of missing the target, and the chance that it can be reached."""
    if "labels_by_risk" not in one:
        return {}
    chance = float(one["reachable"])
    if not rounded:
        found = zip(one["risk"].values, map(float, one["labels_by_risk"].values), strict=True)
        return {f"labels_risk_{risk:g}": labels for risk, labels in found} | {"reachable": chance}
    texts = _counts_by_risk(one)
    if _hopeless(one):
        texts = dict.fromkeys(texts, NO_LIMIT)
    shown = {f"{100 * (1 - risk):g} % sure": text.replace(NO_LIMIT, "out of reach") for risk, text in texts.items()}
    return shown | {"reachable": chance_text(chance)}


def forecast_rows(ahead: xr.Dataset, *, rounded: bool = True) -> pd.DataFrame:
    """A DataFrame with a row for each curve and size of ``forecast``'s result."""
    rows = []
    for name, one in _curves(ahead, "loss"):
        for i, size in enumerate(one[ahead.attrs["x"]].values):
            numbers = [float(one[key][i]) for key in ("loss", "lower", "upper")]
            shown = with_band(*numbers) if rounded else numbers
            row = {"curve": name, "size": size_text(size) if rounded else float(size)}
            rows.append(row | dict(zip(("loss", "lower", "upper"), shown, strict=True)))
    return pd.DataFrame(rows)


def rows_of(result: Result, *, rounded: bool = True) -> pd.DataFrame:
    """The table of any result."""
    if not isinstance(result, xr.Dataset):
        return fit_rows(result, rounded=rounded)
    if "labels" in result:
        return plan_rows(result, rounded=rounded)
    if "aicc" in result:
        rows = [
            {"curve": name, "law": str(law)} | {key: float(one[key][k]) for key in ("aicc", "delta", "weight", "bic")}
            for name, one in _curves(result, "aicc")
            for k, law in enumerate(one["law"].values)
        ]
        return pd.DataFrame(rows).round(2 if rounded else 12)
    return forecast_rows(result, rounded=rounded)


def as_json(results: Mapping[str, Result], about: Mapping[str, Any]) -> str:
    """JSON of several results by name, unrounded; null is what does not exist, and ``no_limit`` an open band.

    Parameters
    ----------
    results : dict of Fit or Dataset
    about : dict that goes first
    """
    content = dict(about)
    for name, result in results.items():
        content[name] = []
        for row in rows_of(result, rounded=False).to_dict("records"):
            plain = {key: _plain(value) for key, value in row.items()}
            content[name].append(plain | ({"no_limit": row["labels_high"] == np.inf} if "labels_high" in row else {}))
    return json.dumps(content, indent=1, allow_nan=False)


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value


def as_text(results: Iterable[Result], advice: Sequence[str], notes: Iterable[str]) -> str:
    """Sentences, then a table for each result; advice and notes last."""
    parts = []
    for result in results:
        told = sentences(result)
        parts.append("\n".join(told[:MOST_SENTENCES]))
        if len(told) > MOST_SENTENCES:
            parts[-1] += f"\n... {len(told) - MOST_SENTENCES} more in the table"
        rows = rows_of(result).astype(str).map(lambda cell: cell.replace("|", r"\|"))  # in the name of a curve
        parts.append(rows.to_markdown(index=False, disable_numparse=True))
    rest = ["\n".join(advice[:MOST_SENTENCES]), "\n".join(f"note: {note}" for note in notes)]
    return "\n\n".join(part for part in (*parts, *rest) if part)


def plot(
    fit: Fit,
    file: FilePath | None = None,
    *,
    at: npt.ArrayLike = (),
    target: float | None = None,
    title: str | None = None,
    told: Sequence[str] | None = None,
) -> Figure | Path:
    """Draw runs, law, band and forecasts on logarithmic axes.

    Parameters
    ----------
    fit : Fit
    file : path ``.svg``
        ``.png``, ``.pdf`` or ``.html`` (a page of its own, with sentences and table), optional.
    at
        Sizes to which the curves are continued, with the calibrated forecast's band there.
    target : float
        Optional, a loss drawn as a line.
    title : str, optional
    told : list of str
        The sentences of the page; default: the fit's.

    Returns
    -------
    matplotlib Figure, or the path written.

    Raises
    ------
    UserError
        If matplotlib is missing or the file's ending is not one of these.
    """
    suffix = Path(file).suffix.lower() if file else ".svg"
    if suffix not in (".svg", ".png", ".pdf", ".html"):
        raise UserError(f"{file}: figures are written as .svg, .png, .pdf or .html; choose one of these endings.")
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("Drawing needs matplotlib: pip install 'gzlib[plot]'.") from error
    # names of curves and metrics are a user's: $ in them begins no formula
    with rc_context({"svg.hashsalt": "gzlib", "svg.fonttype": "none", "text.parse_math": False}):
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axis = figure.subplots()
        _draw(axis, fit, np.atleast_1d(np.asarray(at, float)), target)
        axis.set_title(title or "")
        if file is None:
            return figure
        picture = io.BytesIO()
        kind = "svg" if suffix == ".html" else suffix[1:]
        with warnings.catch_warnings(record=True) as caught:
            warnings.filterwarnings("always", "Glyph")
            figure.savefig(picture, format=kind, dpi=200, metadata={"Date": None} if kind == "svg" else None)
    lacks = any("Glyph" in str(warning.message) for warning in caught)
    if lacks and kind != "svg":  # whose letters are those of the reader's fonts
        tell(f"note: the font of {file} lacks letters of the names: write .svg or .html instead")
    content = picture.getvalue()
    if suffix == ".html":
        content = _page(content.decode(), fit, told, title).encode()
    replace_file(Path(file), content)
    return Path(file)


def _draw(axis: Axes, fit: Fit, at: np.ndarray, target: float | None) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    sizes = fit.data[fit.x].values.astype(float)
    grid = np.geomspace(sizes.min(), max([sizes.max(), *at]), 120)
    band = fit.predict(grid) if "draw_values" in fit.results else None
    ahead = fit.forecast(np.sort(at)) if at.size else None
    rest = [dim for dim in fit.data.dims if dim not in (fit.x, fit.replicate)]
    flat = fit.data.transpose(*rest, ..., fit.x)
    names = [name for name, _ in _curves(fit.results, "verdict")]
    for i, index in enumerate(np.ndindex(*(fit.data.sizes[dim] for dim in rest))):
        where, colour = dict(zip(rest, index, strict=True)), f"C{i % MOST_COLOURS}"
        runs = flat.isel(where).values.reshape(-1, len(sizes))
        label = names[i] if len(names) <= MOST_COLOURS and names[i] != "the curve" else None
        label = f" {label}" if label and label.startswith("_") else label  # else the legend leaves it out
        axis.plot(np.tile(sizes, len(runs)), runs.ravel(), "o", ms=4, color=colour, label=label)
        if band is not None:
            one = band.isel(where)
            axis.plot(grid, one["loss"], color=colour, lw=1.2)
            axis.fill_between(grid, one["lower"], one["upper"], color=colour, alpha=0.15, lw=0)
        if ahead is not None:
            one = ahead.isel(where)
            value = one["loss"].values
            off = [value - one["lower"].values, one["upper"].values - value]
            told = f"forecast, {_percent(fit.level)}" if not i else None
            axis.errorbar(np.sort(at), value, off, fmt="s", ms=4, color=colour, mfc="white", capsize=3, label=told)
    if target:
        axis.axhline(target, color="0.4", lw=1, ls="--", label="target")
    axis.set(xscale="log", yscale="log", xlabel=fit.x, ylabel=fit.data.attrs.get("metric", "loss"))
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.set_major_formatter(lambda size, place: f"{size:,.0f}" if size >= 1 else f"{size:g}")
    axis.yaxis.set_major_formatter(lambda loss, place: f"{loss:g}")
    axis.grid(which="both", alpha=0.2)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize="small")


PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222 }}
svg {{ max-width: 100%; height: auto }} .table {{ overflow-x: auto }} table {{ border-collapse: collapse }}
th, td {{ padding: .2em .7em; border-bottom: 1px solid #ddd; text-align: left }}
</style></head><body><h1>{title}</h1>
{told}
{picture}
<div class="table">{table}</div>
{notes}
</body></html>
"""


def _page(picture: str, fit: Fit, told: Sequence[str] | None, title: str | None) -> str:
    return PAGE.format(
        title=escape(title or "Learning curves"),
        told="\n".join(f"<p>{escape(text)}</p>" for text in (sentences(fit) if told is None else told)),
        picture=picture[picture.index("<svg") :],
        table=fit_rows(fit).to_html(index=False, border=0),
        notes="\n".join(f"<p>Note: {escape(note)}.</p>" for note in fit.notes),
    )


def answer(
    question: str,
    source: FilePath,
    *,
    target: float | None = None,
    at: Sequence[float] = (),
    law: str | None = None,
    level: float = 0.95,
    file: FilePath | None = None,
    form: str = "text",
    cost: float | None = None,
    owned: float = 0,
    risks: Sequence[float] | None = None,
    **columns: Any,
) -> str:
    """The text with which the command line answers ``fit``, ``forecast`` and ``plan``.

    Parameters
    ----------
    question
        "fit", "forecast" or "plan".
    source : path
        "-" for standard input.
    target, at
        A loss to reach; sizes to forecast.
    law
        Name of a law; default: the offset power law for fits, the calibrated ensemble for forecasts.
    level : float
        Coverage.
    file : path of a figure to write, optional
    form
        "text", "json" or "csv".
    cost, owned
        Cost of one label, and labels that already exist, for plans.
    risks
        Probabilities of missing the target for which labels are named; default: those of ``labels_needed``.
    columns
        Names of columns, as for ``read_curves``.

    Raises
    ------
    UserError
        If the source, an option or their combination is wrong.
    """
    from gzlib.fitting import answers  # they tell what they found through this module

    if not 0 < level < 1:
        raise UserError(f"--level {level:g}: give a coverage between 0 and 1, such as 0.95.")
    if bad := [size for size in at if not (np.isfinite(size) and size > 0)]:
        raise UserError(f"--at {bad[0]:g}: give a positive size.")
    if cost is not None and not (np.isfinite(cost) and cost > 0):
        raise UserError(f"--cost {cost:g}: give what one label costs, a number above 0.")
    if not (np.isfinite(owned) and owned >= 0):
        raise UserError(f"--owned {owned:g}: give the number of labels that already exist, 0 or more.")
    if question == "forecast" and target is None and not len(at):
        raise UserError("A forecast needs --at SIZE (the loss there) or --target LOSS (the labels that reach it).")
    if form == "csv" and target is not None and len(at):
        raise UserError("CSV holds one table: give --target or --at, not both.")
    if form == "csv" and question == "fit" and len(at):
        raise UserError("CSV holds one table: leave out --at here, and ask 'forecast' for the losses there.")
    loss = as_array(source, **columns)
    metric = loss.attrs["metric"]
    if target is not None and target < 1 and (metric.startswith("100 - ") or PERCENT.search(metric)):
        loss.attrs["notes"] = [*loss.attrs["notes"], f"losses and target are in percent: {target:g} is {target:g} %"]
    about = {"metric": metric, "notes": loss.attrs["notes"], "level": level}
    results: dict[str, Any] = {}
    told: list[str] = []
    fit: Fit | None = None
    if question == "fit" or file:
        fit = answers.fit(loss, law=law or "power-offset", level=level, draws=500 if file else 0)
    if question == "fit" and fit is not None:
        results["curves"] = fit
        about |= {"law": fit.law.name, "formula": fit.law.formula, "x_ref": fit.results.attrs["x_ref"]}
    if target is not None:
        choice: dict[str, Any] = {} if risks is None else {"risks": risks}
        needed = answers.plan(loss, target, law=law, level=level, **choice)
        results["curves"] = needed
        about |= {"target": target, "calibrated": bool(needed.attrs["calibrated"])}
    if len(at):
        results["forecasts"] = answers.forecast(loss, np.sort(at), law=law, level=level)
        about.setdefault("calibrated", bool(results["forecasts"].attrs.get("calibrated", False)))
    if question == "plan":
        told = _advice(loss, results["curves"], cost, owned)
    if fit is not None and file:
        far = at if len(at) else _until(results.get("curves"), loss)
        words = [text for result in results.values() for text in sentences(result)] + told
        plot(fit, file, at=far, target=target, title=None if str(source) == "-" else Path(source).name, told=words)
    if form == "json":
        return as_json(results, about | ({"advice": told} if told else {}))
    if form == "csv":
        for note in loss.attrs["notes"]:  # beside the table, which has no room for them
            tell(f"note: {note}")
        return rows_of(next(iter(results.values())), rounded=False).to_csv(index=False).rstrip()
    notes = [
        *loss.attrs["notes"],
        *(["the band is that of the law: right if the law holds"] if law and results else []),
    ]
    if inside := [size for size in np.sort(at) if size <= float(loss["n_train"].max())]:
        shown = ", ".join(size_text(size) for size in inside[:5])
        notes.append(f"{shown}: no larger than the sizes measured; 'fit' says more there than a forecast")
    ahead = results.get("forecasts")
    if ahead is not None and "status" in ahead:
        notes += [f"{name}: {one['status'].item()}" for name, one in _curves(ahead, "status")][:MOST_SENTENCES]
    elif "calibrated" in about and not about["calibrated"] and law is None:
        notes.append("too few sizes to calibrate the band on these curves: take it as a guess")
    return as_text(results.values(), told, notes if question != "fit" else loss.attrs["notes"])


def _until(needed: Result | None, loss: xr.DataArray) -> np.ndarray | tuple[()]:
    """Sizes at which a figure shows the forecast: doublings up to what a plan asks for."""
    largest = float(loss["n_train"].max())
    if not isinstance(needed, xr.Dataset):
        return ()
    labels = needed["labels"].values
    labels = labels[np.isfinite(labels)]
    end = min(max(labels.max(initial=4 * largest), 2 * largest), 64 * largest)
    return largest * 2.0 ** np.arange(1, int(np.ceil(np.log2(end / largest))) + 1)


def _advice(loss: xr.DataArray, needed: xr.Dataset, cost: float | None, owned: float) -> list[str]:
    """Sentences about what labels cost and which run would tell most."""
    from gzlib.fitting import answers

    told = []
    fit = answers.fit(loss, draws=0, level=needed.attrs["level"])
    for name, one in _curves(needed, "labels"):
        labels = float(one["labels"])
        if str(one["status"].item()) != "forecast" or not np.isfinite(labels):
            continue
        if cost is not None:
            prices = [max(float(one[key]) - owned, 0.0) * cost for key in ("labels", "labels_low", "labels_high")]
            text, least, most = _counts(*prices)
            span = f"at least {least}" if np.isinf(prices[2]) else f"{least} to {most}"
            told.append(f"{name}: the labels cost about {text} ({_percent(needed.attrs['level'])}: {span})")
        where = {dim: one[dim].item() for dim in needed["labels"].dims}
        largest = float(one["largest"])
        step = fit.next_run(labels, [largest, 2 * largest, 4 * largest]).sel(where)
        if np.isfinite(step["best"]):
            gain = float(step["shrink"].sel(candidate=2 * largest))
            there = _counts(labels, float(one["labels_low"]), float(one["labels_high"]))[0]
            told.append(
                f"{name}: one more run, at {size_text(2 * largest)}, would narrow the fitted loss at {there} by"
                f" {100 * gain:.0f} %"
            )
    return told
