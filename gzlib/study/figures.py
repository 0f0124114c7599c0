"""The book's figures: one function each, labelled arrays in, a matplotlib figure out."""

import io
import re
from typing import Any

import matplotlib as mpl
import matplotlib.patheffects
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from IPython import get_ipython
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from matplotlib.ticker import LogFormatter, NullFormatter
from scipy.optimize import isotonic_regression

from gzlib.data.survey import label_values
from gzlib.training.card import label_words

# Okabe & Ito's palette, which colour-blind readers distinguish; its order is fixed, so that a thing keeps its colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# Families of encoders, by the first word of a name: marker, and colours from narrow to wide.
_FAMILIES = {
    "resnet": ("o", ("#1f0c48", "#4b1d91", "#8c1d9a", "#c51f6f", "#e4512b", "#cf8700", "#8f8a00"), (4, 64)),
    "convnext": ("s", ("#0072B2", "#56B4E9"), (10, 32)),
    "vit": ("^", ("#00684C", "#2FB088"), (64, 128)),
    "tinynet": ("D", ("#000000",), (1, 1)),
    "tf": ("v", ("#7A7A7A",), (1, 1)),
}
_DESIGNS = {"tf": "efficientnet"}  # where the first word of a name is not the design's
# Starting weights, each with its colour and marker wherever it is drawn.
_STARTS = {
    "random": {"color": "#7A7A7A", "marker": "v"},
    "galaxies": {"color": "#009E73", "marker": "^"},
    "ImageNet": {"color": COLOURS[0], "marker": "o"},
    "ImageNet + galaxies": {"color": COLOURS[1], "marker": "s"},
}
STYLE: dict[Any, Any] = {
    "figure.dpi": 110,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.size": 9,  # points, at the width of a page's column; nothing is smaller
    "axes.titlesize": "medium",
    "figure.labelsize": "medium",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "lines.markersize": 4,
    "svg.hashsalt": "gzlib",  # the same names of parts each time that a figure is drawn
}
PICTURE_DPI = 220  # of figures that are made of images: two dots a pixel of the page
LARGEST_SVG = 500_000  # bytes; a chart of many thousand points is smaller as an image
NIGHT, STARLIGHT = "#0b0e13", "#e8eaed"  # ground and words of figures made of galaxies, on any page


def use_style():
    """Set the book's matplotlib style; every chapter calls it once.

    In a notebook, charts are stored as SVG, sharp at any size, and figures made of images as PNG of double density.
    """
    mpl.rcParams.update(STYLE)
    mpl.rcParams["axes.prop_cycle"] = cycler(color=COLOURS)
    if (shell := get_ipython()) is not None and hasattr(shell, "kernel"):
        plt.switch_backend(mpl.get_backend())  # sets formats of its own: now, not when the first figure is drawn
        for formatter in shell.display_formatter.formatters.values():
            formatter.pop(Figure, None)
        shell.display_formatter.mimebundle_formatter.for_type(Figure, as_bundle)


def as_bundle(figure: Figure, include=None, exclude=None) -> tuple[dict, dict]:
    """What a notebook stores of a figure, drawn once: :func:`as_svg`, else :func:`as_png`."""
    if (chart := as_svg(figure)) is not None:
        return {"image/svg+xml": chart}, {}
    image, size = as_png(figure)
    return {"image/png": image}, {"image/png": size}


def as_svg(figure: Figure) -> str | None:
    """A chart as SVG without a date; None for a figure that is better stored as an image."""
    if any(axis.images for axis in figure.axes):
        return None
    plain = dict.fromkeys(["Date", "Creator", "Format", "Type"])
    file = io.StringIO()
    figure.savefig(file, format="svg", bbox_inches="tight", metadata=plain)
    # A hundredth of a point is finer than any screen; what scales letters stays as it is.
    chart = re.sub(r' (?:d|x|y)="[^"]*"', lambda match: re.sub(r"(\.\d\d)\d+", r"\1", match[0]), file.getvalue())
    chart = re.sub(r"\n +<", "\n<", chart)
    return chart if len(chart) <= LARGEST_SVG else None


def as_png(figure: Figure) -> tuple[bytes, dict]:
    """A figure as PNG, with the width at which a page shows it."""
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight", dpi=PICTURE_DPI, facecolor=figure.get_facecolor())
    width = int.from_bytes(file.getvalue()[16:20], "big")  # of a PNG's header
    return file.getvalue(), {"width": width // 2}


def encoder_style(name: str) -> dict:
    """``color`` and ``marker`` of an encoder, by its name alone, so that it has them in every figure.

    The marker tells the family, the colour its width; of families that are not known, both come from the name.
    """
    family, _, rest = name.partition("_")
    if family not in _FAMILIES:
        number = sum(name.encode())
        return {"color": COLOURS[number % len(COLOURS)], "marker": ("P", "X", "*", "h")[number % 4]}
    marker, colours, (narrow, wide) = _FAMILIES[family]
    width, place = (int(rest[1:]) if rest[:1] == "w" and rest[1:].isdigit() else narrow), 0.0
    if wide > narrow:
        place = float(np.clip(np.log(max(width, 1) / narrow) / np.log(wide / narrow), 0, 1))
    steps = mpl.colors.LinearSegmentedColormap.from_list(family, list(colours) * (1 if len(colours) > 1 else 2))
    return {"color": mpl.colors.to_hex(steps(place)), "marker": marker}


def _styles(names, hue: str) -> list[dict]:
    """Style of each of some things: the own one of an encoder or of starting weights, else the next of the palette."""
    if hue == "encoder":
        return [encoder_style(str(name)) for name in names]
    own = _STARTS if hue == "start" else {}
    return [own.get(str(name)) or {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
            for i, name in enumerate(names)]  # fmt: skip


def start_colour(name: str) -> str:
    """The colour of starting weights, as every figure draws them; of others the palette's last."""
    return _STARTS.get(name, {"color": COLOURS[-1]})["color"]


def family_of(encoder: str) -> str:
    """The design that an encoder belongs to: the first word of its name."""
    return encoder.partition("_")[0]


def _by_family(encoders) -> list[str]:
    """The same names with those of one family together, families in one order in all figures."""
    names = [str(name) for name in encoders]
    families = list(dict.fromkeys([*_FAMILIES, *map(family_of, names)]))
    return sorted(names, key=lambda name: families.index(family_of(name)))


def contact_sheet(images: np.ndarray, titles: list[str], *, columns: int = 8):
    """Images, (n, y, x, 3) uint8, in a grid with a short line above each, on the night sky."""
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(columns * 0.95, rows * 1.13), squeeze=False, facecolor=NIGHT)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        axis.imshow(image, interpolation="nearest")
        axis.set_title(label_words(title), pad=2.5, color=STARLIGHT)
    figure.tight_layout(pad=0.3, w_pad=0.1)
    return figure


def vote_fractions(fractions: dict[str, np.ndarray], *, columns: int = 3):
    """Histograms of vote fractions, one small panel for each answer."""
    rows = -(-len(fractions) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(7.6, 1.7 * rows), sharex=True, squeeze=False, layout="constrained"
    )
    _switch_off(axes, len(fractions))
    for axis, (name, values) in zip(axes.flat, fractions.items(), strict=False):
        axis.hist(values, bins=np.linspace(0, 1, 21), weights=np.full(len(values), 1 / max(len(values), 1)))
        axis.set_title(label_words(name))
    figure.supxlabel("fraction of a galaxy’s votes")
    figure.supylabel("fraction of galaxies")
    return figure


def predicted_fractions(predictions: pd.DataFrame, survey: xr.Dataset, answer: str):
    """Expected against observed fractions of one answer's votes, with the intervals of 50 and 95 %.

    Parameters
    ----------
    predictions : DataFrame
        A saved model's, row for row with ``survey``.
    answer : str
        Its column, such as ``bar_yes``.
    """
    observed = label_values(survey, f"{answer}_fraction")
    figure, axis = plt.subplots(figsize=(4.6, 4.2))
    axis.plot([0, 1], [0, 1], color="grey", lw=1)
    for level, width in (("95", 0.5), ("50", 1.6)):
        low, high = (predictions[f"{answer}_fraction_{side}{level}"] for side in ("low", "high"))
        axis.vlines(observed, low, high, lw=width, color=COLOURS[0], alpha=0.35)
    axis.plot(observed, predictions[f"{answer}_fraction"], "o", color=COLOURS[0])
    axis.set_xlabel(f"observed fraction of {label_words(answer)}")
    axis.set_ylabel("expected fraction")
    figure.tight_layout()
    return figure


def question_bars(values: pd.Series, *, label: str):
    """Horizontal bars, one for each question, in the given order from the top."""
    figure, axis = plt.subplots(figsize=(6.8, 0.22 * len(values) + 0.7))
    axis.barh(range(len(values)), values, height=0.7)
    axis.set_yticks(range(len(values)), map(label_words, values.index))
    axis.invert_yaxis()
    axis.set_xlabel(label)
    axis.xaxis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:,g}"))
    axis.grid(axis="y", visible=False)
    axis.margins(y=0.02)
    figure.tight_layout()
    return figure


SIDE_BY_SIDE = 7  # encoders up to which one panel shows all


def learning_curves(
    loss: xr.DataArray,
    *,
    hue: str,
    band: xr.Dataset | None = None,
    floor: float | None = None,
    target: float | None = None,
    **text,
):
    """A point for each run against training galaxies, one colour for each ``hue``; a line joins the means over seeds.

    Of many encoders those of the largest family have a panel of their own.

    Parameters
    ----------
    loss : DataArray (hue, n_train, seed)
    band : Dataset (hue, n_train), optional
        ``loss``, ``lower`` and ``upper`` of a fitted law, or of a forecast that begins at the largest size.
    floor : float, optional
        A loss that nothing can be below.
    target : float, optional
        A loss that is asked for.
    text : x, y
        Axis labels.
    """
    groups = _panels([str(name) for name in loss[hue].values]) if hue == "encoder" else {"": list(loss[hue].values)}
    size = (6.2, 4.1) if len(groups) == 1 else (7.6, 4.0)
    figure, axes = plt.subplots(1, len(groups), figsize=size, sharex=True, sharey=True, squeeze=False)
    ticks = list(loss.n_train.values)
    while band is not None and ticks[-1] * 2 <= float(band.n_train.max()) * 1.001:
        ticks.append(ticks[-1] * 2)
    for axis, (title, names) in zip(axes.flat, groups.items(), strict=True):
        _draw_curves(axis, loss.sel({hue: names}), hue, band)
        axis.set_title(label_words(title))
        for level, word, side in ((floor, "perfect predictor", 0.99), (target, "target", 0.01)):
            if level is not None:
                axis.axhline(level, color="0.4", linestyle=":", linewidth=1)
                axis.annotate(word, (side, level), xycoords=("axes fraction", "data"), color="0.35",
                              ha="right" if side > 0.5 else "left", va="bottom")  # fmt: skip
        log_axes(axis, ticks=ticks, most=MOST_TICKS if len(groups) == 1 else 5, **text)
    for axis in axes.flat[1:]:
        axis.set_ylabel("")
    figure.tight_layout()
    for axis in axes.flat:
        if len(groups) == 1:
            name_lines(axis)
        else:  # curves come down from the left: the corner below them is free
            low = 0 if floor is None else 0.13
            axis.legend(loc="lower left", bbox_to_anchor=(0, low), markerscale=1.5, labelspacing=0.25,
                        handletextpad=0.1, borderaxespad=0.2)  # fmt: skip
    return figure


def _panels(encoders: list[str]) -> dict[str, list[str]]:
    """Encoders by panel, with its title: all in one, or of many the largest family in the first."""
    families = [family_of(name) for name in encoders]
    largest = max(families, key=families.count)
    own = [name for name in encoders if family_of(name) == largest]
    if len(encoders) <= SIDE_BY_SIDE or len(own) == len(encoders):
        return {"": encoders}
    return {_DESIGNS.get(largest, largest): own, "other designs": [name for name in encoders if name not in own]}


def name_lines(axis):
    """Names beside the right ends of the lines that carry them; or a legend where lines end far from there."""
    handles, labels = axis.get_legend_handles_labels()
    ends: dict = {}
    for line in sorted(axis.lines, key=lambda line: line.get_linestyle() == "None"):
        points = np.column_stack([line.get_xdata(), line.get_ydata()]).astype(float)
        points = points[np.isfinite(points).all(axis=1)]
        colour, end = line.get_color(), points[points[:, 0].argmax()] if len(points) else None
        if end is not None and (colour not in ends or end[0] > ends[colour][0]):
            ends[colour] = end
    colours = [handle.get_color() for handle in handles]
    own = [(axis.transScale + axis.transLimits).transform(ends[colour]) for colour in colours if colour in ends]
    if len(own) < len(labels) or len(set(colours)) < len(labels) or any(x < 0.85 for x, _ in own):
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        return
    _name_in_margin(axis, {label: (ends[colour], colour) for label, colour in zip(labels, colours, strict=True)})


def _name_in_margin(axis, ends: dict):
    """Names to the right of an axis, each with a thin line to a point: name to (point, colour)."""
    step = 12.5 / (72 * axis.figure.get_figheight() * axis.get_position().height)  # a line of text, of the axis
    points = [(axis.transScale + axis.transLimits).transform(point)[1] for point, _ in ends.values()]
    for (name, (point, colour)), height in zip(ends.items(), _apart(points, step), strict=True):
        leader = {"arrowstyle": "-", "color": colour, "linewidth": 1, "shrinkA": 1, "shrinkB": 3, "relpos": (0, 0.5)}
        axis.annotate(name, point, (1.04, height), textcoords="axes fraction", va="center",
                      annotation_clip=False, arrowprops=leader)  # fmt: skip


def _apart(values, step: float) -> np.ndarray:
    """The same values moved as little as it takes to lie at least ``step`` from one another, in their order."""
    order = np.argsort(values, kind="stable")
    steps, placed = step * np.arange(len(order)), np.empty(len(order))
    placed[order] = isotonic_regression(np.asarray(values)[order] - steps).x + steps
    return placed


def small_multiples(
    loss: xr.DataArray, *, panel: str, hue: str, band=None, columns: int = 3, height: float = 1.8, **text
):
    """As :func:`learning_curves`, one small panel for each ``panel``."""
    names = [str(name) for name in loss[panel].values]
    rows = -(-len(names) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(7.6, height * rows + 0.6), sharex=True, squeeze=False, layout="constrained"
    )
    _switch_off(axes, len(names))
    for axis, name in zip(axes.flat, names, strict=False):
        inside = None if band is None else band.sel({panel: name})
        _draw_curves(axis, loss.sel({panel: name}).dropna("n_train", how="all"), hue, inside)
        measured = loss.n_train.values
        log_axes(axis, ticks=measured[[0, len(measured) // 2, -1]], plain_y=True)
        axis.set_title(label_words(name))
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 5), markerscale=1.5,
                  handletextpad=0.2)  # fmt: skip
    figure.supxlabel(text.get("x", ""))
    figure.supylabel(text.get("y", ""))
    return figure


def _switch_off(axes, used: int):
    """Hide the panels after the first ``used``; the lowest that is left in each column has its ticks' numbers."""
    columns = axes.shape[1]
    for place, axis in enumerate(axes.flat):
        if place >= used:
            axis.set_axis_off()
        elif place + columns >= used:
            axis.tick_params(labelbottom=True)


def _draw_curves(axis, loss, hue, band):
    names = _by_family(loss[hue].values) if hue == "encoder" else loss[hue].values
    for name, style in zip(names, _styles(names, hue), strict=True):
        curve = loss.sel({hue: name}).dropna("n_train", how="all").transpose("n_train", "seed")
        n, colour = curve.n_train.values, style["color"]
        if band is None or float(band.n_train.min()) > 0.99 * float(loss.n_train.max()):
            axis.plot(n, curve.mean("seed"), color=colour, linewidth=1, alpha=0.7)
        each, runs = np.repeat(n, curve.sizes["seed"]), curve.values.ravel()
        known = np.isfinite(runs)
        axis.plot(each[known], runs[known], linestyle="none", **style, ms=3.5, mew=0.3, mec="white",
                  label=label_words(name))  # fmt: skip
        if band is not None and name in band[hue].values:
            fitted = band.sel({hue: name})
            axis.plot(fitted.n_train, fitted["loss"], color=colour, linewidth=1)
            axis.fill_between(fitted.n_train, fitted.lower, fitted.upper, color=colour, alpha=0.15, linewidth=0)


MOST_TICKS = 9


def log_axes(axis, *, ticks=None, most: int = MOST_TICKS, x: str = "", y: str = "", plain_y: bool = False):
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    if ticks is not None:
        while len(ticks) > most:  # longer numbers would run into each other
            ticks = ticks[(len(ticks) - 1) % 2 :: 2]
        axis.set_xticks(ticks)
        axis.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    low, high = axis.get_ylim()
    if high / low < 8:  # less than a decade: say the numbers, not the powers of ten
        ticks = mpl.ticker.MaxNLocator(nbins=3 if plain_y else 6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        if high / low > 2.5:  # even steps would leave the lower half without a number
            for digits in ((1, 2, 4, 6), (1, 1.5, 2, 3, 4, 6, 8)):
                ticks = [m * 10.0**power for power in range(-9, 10) for m in digits]
                if sum(low <= t <= high for t in ticks) > 2:
                    break
        ticks = [t for t in ticks if low <= t <= high]
        axis.set_yticks(ticks)
        axis.yaxis.set_major_formatter(mpl.ticker.StrMethodFormatter(_alike(ticks)))
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.yaxis.set_minor_locator(mpl.ticker.NullLocator())
    else:
        axis.yaxis.set_major_formatter(LogFormatter())


def _alike(ticks) -> str:
    """The format that gives some numbers as many decimals as the one that needs most."""
    texts = [f"{tick:.3g}" for tick in ticks]
    most = max((len(text.partition(".")[2]) for text in texts), default=0)
    return "{x:.3g}" if any("e" in text for text in texts) else f"{{x:.{most}f}}"


def loss_against_size(loss: xr.DataArray, n_params: dict[str, int]):
    """Mean test loss against encoder parameters, for each family one line for each training-set size.

    Encoders of different families are never joined: there is no encoder between them.
    """
    figure, axis = plt.subplots(figsize=(6.2, 4.1))
    encoders = sorted(loss.encoder.values, key=lambda name: n_params[name])
    shades = plt.get_cmap("viridis")(np.linspace(0.0, 0.7, loss.sizes["n_train"]))
    ends = {}
    longest = max(map(family_of, encoders), key=list(map(family_of, encoders)).count)
    for colour, n in zip(shades, loss.n_train.values, strict=True):
        for family in dict.fromkeys(map(family_of, encoders)):
            alike = [e for e in encoders if family_of(e) == family]
            mean = loss.sel(n_train=n, encoder=alike).mean("seed").dropna("encoder")
            x, marker = [n_params[e] for e in mean.encoder.values], encoder_style(str(alike[0]))["marker"]
            axis.plot(x, mean, color=colour, linewidth=1, marker=marker)
            if len(x) and (family == longest or f"{n:,}" not in ends):
                ends[f"{n:,}"] = ((x[-1], float(mean[-1])), colour)
    log_axes(axis, x="encoder parameters", y="test loss per galaxy [nats]")
    axis.xaxis.set_major_formatter(mpl.ticker.LogFormatterMathtext())
    figure.tight_layout()
    _name_in_margin(axis, ends)
    axis.annotate("training galaxies", (1.04, 1.02), xycoords="axes fraction", va="bottom", annotation_clip=False)
    first = {family_of(e): encoder_style(e)["marker"] for e in _by_family(encoders)}
    marks = [
        mpl.lines.Line2D(
            [], [], color="0.3", linestyle="none", marker=marker, label=label_words(_DESIGNS.get(family, family))
        )
        for family, marker in first.items()
    ]
    axis.legend(
        handles=marks, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(marks), columnspacing=1.2, borderpad=0
    )
    return figure


def intervals(values: pd.DataFrame, *, label: str, group: str | None = None):
    """Estimates with intervals as a dot plot: columns ``estimate``, ``low``, ``high``; the index names the rows.

    ``group`` names a column that sets the colour.
    """
    figure, axis = plt.subplots(figsize=(6.4, 0.2 * len(values) + 0.9))
    groups = list(dict.fromkeys(values[group])) if group else [None]
    for i, name in enumerate(groups):
        rows = np.flatnonzero(values[group] == name) if group else np.arange(len(values))
        part = values.iloc[rows]
        errors = np.abs(np.stack([part.estimate - part.low, part.high - part.estimate]))
        axis.errorbar(
            part.estimate, rows, xerr=errors, fmt=MARKERS[i], color=COLOURS[i], elinewidth=1, label=label_words(name)
        )
    axis.set_yticks(range(len(values)), map(label_words, values.index))
    axis.invert_yaxis()
    axis.set_xlabel(label)
    if group:
        axis.legend()
    figure.tight_layout()
    return figure


def histories(panels: dict[str, dict[str, dict]]):
    """Validation loss against galaxies seen; ``panels`` maps a title to {label: history of a run}."""
    figure, axes = plt.subplots(1, len(panels), figsize=(7.4, 2.9), sharey=True, squeeze=False)
    for axis, (title, lines) in zip(axes.flat, panels.items(), strict=True):
        for label, history in lines.items():
            seen, loss, style = history["examples"], history["val_loss"], encoder_style(label)
            axis.plot(seen, loss, **style, linewidth=1, ms=2.5, label=label_words(label))
            axis.plot(seen[int(np.argmin(loss))], min(loss), **style, ms=7, mec="black", mew=0.6)
        axis.set_title(label_words(title))
        axis.set_xlabel("galaxies seen")
        if lines:
            axis.set_xscale("log")
    axes[0, 0].set_ylabel("validation loss [nats]")
    named = {text: handle for axis in axes.flat for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    axes[0, -1].legend(named.values(), named, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    return figure


def endings(table: pd.DataFrame):
    """Epochs at which runs had their best validation loss (point) and ended (end of the line), against galaxies.

    Parameters
    ----------
    table : DataFrame
        One row a run: ``encoder``, ``n_train``, ``best`` and ``epochs``, ``why`` it ended, and whether it is ``early``.
    """
    figure, axis = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    names = _by_family(sorted(set(table.encoder), key=lambda name: (len(name), name)))
    for i, name in enumerate(names):
        part, style = table[table.encoder == name], encoder_style(name)
        place = part.n_train * 1.05 ** (i - len(names) / 2)
        axis.vlines(place, part.best, part.epochs, color=style["color"], linewidth=1)
        axis.plot(place, part.best, linestyle="none", **style, label=label_words(name))
        capped = (part.why != "patience").to_numpy()
        axis.plot(place[capped], part.epochs[capped], "_", color=style["color"], ms=9)
        axis.plot(place[part.early], part.best[part.early], "o", mfc="none", mec="black", ms=11, mew=0.8)
    log_axes(axis, ticks=sorted(set(table.n_train)), x="training galaxies", y="epochs")
    axis.set_yticks([t for t in (5, 10, 20, 50, 100, 200, 500, 1000) if axis.get_ylim()[0] <= t <= axis.get_ylim()[1]])
    axis.yaxis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def by_campaign(values: xr.Dataset, campaigns: dict[str, str], *, label: str, columns: int = 2):
    """Estimates with intervals, a panel for each campaign with a row for each question and a mark for each encoder.

    Parameters
    ----------
    values : Dataset (question, encoder) or (question)
        ``estimate``, ``low`` and ``high``; NaN is left out.
    campaigns : dict
        Question to campaign.
    """
    questions = [str(name) for name in values["question"].values]
    groups = {c: [q for q in questions if campaigns[q] == c] for c in dict.fromkeys(campaigns[q] for q in questions)}
    columns = min(columns, len(groups))
    rows = -(-len(groups) // columns)
    counts = [len(names) for names in groups.values()]
    tall = [max(counts[i : i + columns]) for i in range(0, len(counts), columns)]
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(7.6, sum(0.25 * count + 0.45 for count in tall) + 0.7),
        sharex=True,
        squeeze=False,
        height_ratios=tall,  # a question has as much room in each panel
        layout="constrained",
    )
    encoders = _by_family(values.encoder.values) if "encoder" in values.dims else [None]
    _switch_off(axes, len(groups))
    for axis, (campaign, names) in zip(axes.flat, groups.items(), strict=False):
        for i, encoder in enumerate(encoders):
            one = values.sel(question=names) if encoder is None else values.sel(question=names, encoder=encoder)
            place = np.arange(len(names)) + (i - (len(encoders) - 1) / 2) * 0.7 / max(len(encoders), 2)
            style = {"color": COLOURS[0], "marker": "o"} if encoder is None else encoder_style(str(encoder))
            errors = np.abs(np.stack([one.estimate - one.low, one.high - one.estimate]))
            axis.errorbar(one.estimate, place, xerr=errors, linestyle="none", elinewidth=0.8, ms=2.5, **style,
                          label=None if encoder is None else label_words(encoder))  # fmt: skip
        axis.axvline(0, color="0.4", linewidth=0.8)
        short = [_two_lines(label_words(n.removesuffix(f"-{campaign}"))) for n in names]
        axis.set_yticks(range(len(names)), short, linespacing=0.85)
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.set_title(label_words(campaign), pad=3)
        axis.grid(axis="y", visible=False)
    figure.set_layout_engine("constrained", wspace=0.05, h_pad=0.08)
    figure.supxlabel(label)
    if encoders[0] is not None:
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return figure


def _two_lines(name: str, most: int = 22) -> str:
    """A long name with a break at the hyphen next to its middle, so that it takes no room from its panel."""
    hyphens = [i for i, letter in enumerate(name) if letter == "-"]
    if len(name) <= most or not hyphens:
        return name
    place = min(hyphens, key=lambda i: abs(i - len(name) / 2)) + 1
    return f"{name[:place]}\n{name[place:]}"


def scatter_by_campaign(
    across: xr.DataArray, up: xr.DataArray, verdicts: xr.DataArray, campaigns: dict[str, str], **text
):
    """One point for each question: marker by campaign, filled where its verdict is not ``undecided``."""
    figure, axis = plt.subplots(figsize=(6.2, 3.8), layout="constrained")
    of = [campaigns[str(name)] for name in across["question"].values]
    for i, campaign in enumerate(dict.fromkeys(of)):
        mine = np.array([name == campaign for name in of])
        colour, marker = COLOURS[i % len(COLOURS)], (*MARKERS, "*")[i % 8]
        decided = (verdicts.values != "undecided") & (verdicts.values != "not tested")
        for fill, rows in ((colour, mine & decided), ("none", mine & ~decided)):
            axis.plot(across.values[rows], up.values[rows], linestyle="none", marker=marker, mec=colour, mfc=fill, ms=5)
        axis.plot([], [], linestyle="none", marker=marker, mec=colour, mfc="none", label=label_words(campaign))
    axis.axhline(0, color="0.4", linewidth=0.8)
    axis.set_xlabel(text.get("x", ""))
    axis.set_ylabel(text.get("y", ""))
    if of:
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def linear_against_full(errors: pd.DataFrame):
    """Columns ``linear``, ``full``, ``start`` and ``task``, one row for each task and label count."""
    figure, axis = plt.subplots(figsize=(5.8, 4.2))
    tasks, starts = list(dict.fromkeys(errors.task)), list(dict.fromkeys(errors.start))
    colours = [style["color"] for style in _styles(starts, "start")]
    for (start, task), part in errors.groupby(["start", "task"], sort=False):
        colour, marker = colours[starts.index(start)], MARKERS[tasks.index(task)]
        axis.scatter(part.linear, part.full, s=26, color=colour, marker=marker)
    ends = [errors[["linear", "full"]].min().min() * 0.95, errors[["linear", "full"]].max().max() * 1.05]
    axis.plot(ends, ends, color="0.5", linewidth=1, zorder=0)
    axis.set_xlabel("test error, linear probe")
    axis.set_ylabel("test error, full finetuning")
    axis.set_aspect("equal")
    axis.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
    axis.yaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
    of_starts = [(colour, "s", name) for colour, name in zip(colours, starts, strict=True)]
    of_tasks = [("0.4", MARKERS[i], name) for i, name in enumerate(tasks)]
    for title, named in (("colour: weights", of_starts), ("marker: task", of_tasks)):
        handles = [
            mpl.lines.Line2D([], [], color=c, marker=m, linestyle="none", label=label_words(name))
            for c, m, name in named
        ]
        legend = axis.legend(handles=handles, title=title, loc="upper left", bbox_to_anchor=(1, 0.5), alignment="left")
        if named is of_starts:  # the next one would take its place
            legend.set_loc("lower left")
            axis.add_artist(legend).set_clip_on(False)
    figure.tight_layout()
    return figure


def slopes(panels: dict[str, pd.DataFrame], *, y: str):
    """Pairs joined by lines, one small panel for each table: a row for each line, a column for each of its two ends."""
    figure, axes = plt.subplots(1, len(panels), figsize=(0.4 + 3.8 * len(panels), 3.4), sharey=True, squeeze=False)
    for axis, (title, table) in zip(axes.flat, panels.items(), strict=True):
        axis.plot([0, 1], table.T.to_numpy(), color="0.6", zorder=1)
        for place, name in enumerate(table):
            axis.scatter([place] * len(table), table[name], s=30, zorder=2, **_styles([name], "start")[0])
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:g}"))
        axis.yaxis.set_minor_formatter(mpl.ticker.NullFormatter())
        axis.set_xticks([0, 1], [str(name).replace(" + ", " +\n") for name in table])
        axis.set_xlim(-0.15, 1.05)
        axis.set_title(label_words(title))
    axes.flat[0].set_ylabel(y)
    figure.tight_layout()
    figure.subplots_adjust(right=0.82, wspace=0.85)  # room for the names
    for axis, table in zip(axes.flat, panels.values(), strict=True):
        _name_in_margin(axis, {name: ((1, end), "0.6") for name, end in table.iloc[:, 1].items()})
    return figure


def reliability(bins: dict[str, list[dict]]):
    """How often the likeliest class is right, by how likely it is said to be, with 95 % intervals.

    Parameters
    ----------
    bins : dict of list
        By the title of a small panel, what :func:`gzlib.training.loss.reliability` returns.
    """
    figure, axes = plt.subplots(1, len(bins), figsize=(7.2, 3.6), sharey=True, squeeze=False, layout="constrained")
    for axis, (title, found) in zip(axes.flat, bins.items(), strict=True):
        said, right, n = (np.array([one[key] for one in found]) for key in ("confidence", "accuracy", "n"))
        axis.plot([0, 1], [0, 1], color="0.5", linewidth=1, zorder=0)
        axis.scatter(said, right, s=8 + 70 * n / n.max(), color=COLOURS[0])
        axis.vlines(said, *_binomial(right, n), color=COLOURS[0], linewidth=1)
        axis.set_title(label_words(title))
        axis.set_aspect("equal")
    figure.supxlabel("probability of the likeliest class, as predicted")
    axes.flat[0].set_ylabel("share that is right")
    return figure


def _binomial(share: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Ends of Wilson's 95 % intervals of shares, (2, bins)."""
    z = 1.96
    centre, half = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.stack([centre - half, centre + half]) / (1 + z**2 / n)


def projections(points: dict[str, np.ndarray], classes: list[str]):
    """Points (n, 2) in the plane, coloured by the class of each; a panel for each set of points."""
    figure, axes = plt.subplots(1, len(points), figsize=(7.6, 4.2), squeeze=False, layout="constrained")
    names = sorted(set(classes))
    colours = mpl.colormaps["tab10"].colors  # type: ignore[attr-defined]
    for axis, (title, places) in zip(axes.flat, points.items(), strict=True):
        for i, name in enumerate(names):
            some = places[[one == name for one in classes]]
            axis.scatter(*some.T, s=7, marker=MARKERS[i % len(MARKERS)], color=colours[i % 10], label=label_words(name))
        axis.set_title(label_words(title))
        axis.set_xticks([])
        axis.set_yticks([])
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, markerscale=2, handletextpad=0.1)
    return figure


def surface(loss: xr.DataArray, n_params: dict[str, int], cost, *, fitted=None, frontier: xr.Dataset | None = None):
    """Iso-loss contours over training and encoder size, and the loss against the compute of training.

    Parameters
    ----------
    loss : DataArray (encoder, n_train, seed)
    cost : function(N, D) -> floating-point operations of training
    fitted : function(N, D) -> loss, optional
        Of the fitted surface; without it only the measured means are shown.
    frontier : Dataset over ``budget`` with ``N``, ``D``, ``loss`` and ``bracketed``, optional
        The best split of each budget, drawn where it lies between the sizes tried.
    """
    figure, (plane, money) = plt.subplots(1, 2, figsize=(7.6, 3.6), layout="constrained")
    mean = loss.mean("seed")
    seen = mpl.colors.ListedColormap(mpl.colormaps["viridis_r"](np.linspace(0.28, 1, 256)))  # on white and after dark
    N = np.array([n_params[e] for e in loss.encoder.values], float)
    D = loss.n_train.values.astype(float)
    if fitted is not None:
        x, y = np.geomspace(D[0] * 0.8, D[-1] * 4, 80), np.geomspace(N.min() * 0.8, N.max() * 1.25, 60)
        lines = plane.contour(x, y, fitted(y[:, None], x[None, :]), levels=9, colors="0.45", linewidths=0.8)
        for text in plane.clabel(lines, fmt="%.3g", inline=False, colors="0.3"):
            text.set_path_effects([mpl.patheffects.withStroke(linewidth=2.5, foreground="white")])
            text.set_visible(x[0] * 1.5 < text.get_position()[0] < x[-1] / 1.5)  # whole within the panel
        plane.axvspan(D[-1], x[-1], color="0.5", alpha=0.1, linewidth=0)
    shown = plane.scatter(*np.meshgrid(D, N), c=mean.transpose("encoder", "n_train"), cmap=seen, s=34,
                          edgecolors="0.45", linewidths=0.6, zorder=3)  # fmt: skip
    figure.colorbar(shown, ax=plane, label="measured loss [nats]", pad=0.02)
    for i, name in enumerate(loss.encoder.values):
        flops = cost(N[i], D)
        money.plot(flops, mean.sel(encoder=name), **encoder_style(str(name)), linestyle="none", label=label_words(name))
    if frontier is not None:
        near = frontier.where(D[-1] * 4 >= frontier.D)
        inside = near.where(near.bracketed)
        plane.plot(inside.D, inside.N, color="black", linewidth=2)
        money.plot(near.budget, near.loss, color="black", linewidth=1, label="best split")
    log_axes(plane, ticks=D[[0, len(D) // 2, -1]], x="training galaxies", y="encoder parameters")
    plane.set_yticks(N, [f"{v:,.0f}" for v in N])
    plane.yaxis.set_minor_locator(mpl.ticker.NullLocator())
    log_axes(money, y="test loss per galaxy [nats]")
    money.set_xlabel("training compute [FLOP]")
    money.xaxis.set_major_formatter(mpl.ticker.LogFormatterMathtext())
    figure.set_layout_engine("constrained", wspace=0.05)
    figure.legend(*money.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def _formula(law: str) -> str:
    """A law in plain text, such as ``E + A n^-b``, as a formula; other words as they are."""
    if "^" not in law:
        return label_words(law)
    return "$" + re.sub(r"\^(-?\w+)", r"^{\1}", law).replace("α", r"\alpha").replace(" ", r"\,") + "$"


def specification_curve(fits: pd.DataFrame, choices: tuple[str, ...], columns: dict[str, str]):
    """All fits of a sensitivity atlas, sorted by the first of ``columns``; below, which choices each fit made.

    Parameters
    ----------
    fits : DataFrame with a column for each choice and each of ``columns``
    columns : dict of column to axis label
    """
    ordered = fits.dropna(subset=[next(iter(columns))]).sort_values(next(iter(columns)), kind="stable")
    values = [(choice, value) for choice in choices for value in dict.fromkeys(fits[choice])]
    ratios = [*[9] * len(columns), len(values)]
    figure, axes = plt.subplots(
        len(columns) + 1,
        1,
        figsize=(7.6, 1.35 * len(columns) + 0.18 * len(values) + 0.6),
        sharex=True,
        height_ratios=ratios,
        layout="constrained",
    )
    place = np.arange(len(ordered))
    laws = list(dict.fromkeys(fits[choices[0]]))
    for axis, (column, label) in zip(axes, columns.items(), strict=False):
        for i, law in enumerate(laws):
            at = (ordered[choices[0]] == law).to_numpy()
            axis.plot(place[at], ordered[column][at], ".", ms=3.5, color=COLOURS[i], label=_formula(law))
        axis.set_ylabel(label)
    axes[0].legend(ncols=len(laws), loc="lower center", bbox_to_anchor=(0.5, 1.0), markerscale=2)
    board = axes[-1]
    for height, (choice, value) in enumerate(values):
        at = (ordered[choice] == value).to_numpy()
        board.plot(place[at], np.full(at.sum(), height), "|", ms=4, color=COLOURS[choices.index(choice) % 2 * 6])
    board.set_yticks(range(len(values)), [f"{choice}: {_formula(str(value))}" for choice, value in values])
    board.set_ylim(len(values) - 0.5, -0.5)
    board.grid(visible=False)
    board.set_xlabel(f"fits, sorted by {next(iter(columns.values())).partition(' [')[0]}")
    return figure


def forecast_and_outcome(pilots: dict[str, xr.DataArray], rows: pd.DataFrame):
    """Registered forecasts with their bands, the pilots that they were made from, and what came of them.

    Parameters
    ----------
    pilots : dict of curve name to mean losses of the pilot (n_train)
    rows : DataFrame with ``name``, ``n_train``, ``forecast``, ``lower``, ``upper`` and ``outcome`` (NaN: not yet)
    """
    figure, axis = plt.subplots(figsize=(6.4, 4.6), layout="constrained")
    for i, (name, part) in enumerate(rows.groupby("name", sort=False)):
        style, place = encoder_style(str(name).partition(",")[0]), part.n_train * 1.05**i  # side by side
        colour = style["color"]
        if name in pilots:
            curve = pilots[str(name)].dropna("n_train")
            axis.plot(curve.n_train, curve, linestyle="none", **style, label=f"{label_words(name)}, pilot")
        errors = np.abs(np.stack([part.forecast - part.lower, part.upper - part.forecast]))
        axis.errorbar(place, part.forecast, errors, fmt="_", ms=10, color=colour, capsize=4)
        if part.outcome.notna().any():
            axis.plot(place, part.outcome, "*", ms=9, mec="black", mfc=colour, zorder=4)
    axis.errorbar([], [], [], fmt="_", ms=10, color="0.4", capsize=4, label="forecast")
    axis.plot([], [], "*", ms=9, mec="black", mfc="0.7", label="outcome")
    sizes = {float(n) for curve in pilots.values() for n in curve.n_train.values} | set(rows.n_train)
    log_axes(axis, ticks=sorted(sizes), x="training galaxies", y="test loss per galaxy [nats]")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncol=2)
    return figure
