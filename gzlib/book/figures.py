"""The book's figures: one function each, labelled arrays in, a matplotlib figure out."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.ticker import LogFormatter, NullFormatter

# Okabe & Ito's palette, told apart by colour-blind readers; order fixed so that a thing keeps its colour in the book.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLE = {
    "figure.dpi": 110,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "lines.markersize": 4,
}


def use_style():
    """Set the book's matplotlib style; every chapter calls it once."""
    mpl.rcParams.update(STYLE)
    mpl.rcParams["axes.prop_cycle"] = mpl.cycler(color=COLOURS)


def contact_sheet(images: np.ndarray, titles: list[str], *, columns: int = 8):
    """Pictures, (n, y, x, 3) uint8, in a grid with a short line above each."""
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(columns * 0.95, rows * 1.12), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        axis.imshow(image, interpolation="nearest")
        axis.set_title(title, fontsize=6.5, pad=2)
    figure.tight_layout(pad=0.3)
    return figure


def vote_fractions(fractions: dict[str, np.ndarray], *, columns: int = 4):
    """Histograms of vote fractions, one small panel for each answer."""
    rows = -(-len(fractions) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(7.6, 1.55 * rows), sharex=True, squeeze=False)
    for axis in axes.flat[len(fractions) :]:
        axis.set_axis_off()
    for axis, (name, values) in zip(axes.flat, fractions.items(), strict=False):
        axis.hist(values, bins=np.linspace(0, 1, 21), weights=np.full(len(values), 1 / max(len(values), 1)))
        axis.set_title(name, fontsize=7)
        axis.tick_params(labelsize=7)
    figure.supxlabel("fraction of a galaxy's votes", fontsize=8)
    figure.supylabel("fraction of galaxies", fontsize=8)
    figure.tight_layout(pad=0.5)
    return figure


def question_bars(values: pd.Series, *, label: str):
    """Horizontal bars, one for each question, in the given order from the top."""
    figure, axis = plt.subplots(figsize=(6.4, 0.22 * len(values) + 0.7))
    axis.barh(range(len(values)), values, height=0.7)
    axis.set_yticks(range(len(values)), values.index, fontsize=7)
    axis.invert_yaxis()
    axis.set_xlabel(label)
    axis.grid(axis="y", visible=False)
    figure.tight_layout()
    return figure


def learning_curves(
    loss: xr.DataArray, *, hue: str, band: xr.Dataset | None = None, floor: float | None = None, **text
):
    """Mean over seeds with the range of the seeds, against training galaxies, one colour for each ``hue``.

    Parameters
    ----------
    loss : DataArray (hue, n_train, seed)
    band : Dataset (hue, n_train), optional
        ``median``, ``lower`` and ``upper`` of a fitted law.
    floor : float, optional
        A loss that nothing can be below.
    text : x, y
        Axis labels.
    """
    figure, axis = plt.subplots(figsize=(6.0, 3.9))
    _draw_curves(axis, loss, hue, band)
    if floor is not None:
        axis.axhline(floor, color="0.4", linestyle=":", linewidth=1)
        axis.annotate(
            "perfect predictor",
            (0.99, floor),
            xycoords=("axes fraction", "data"),
            fontsize=7,
            color="0.4",
            ha="right",
            va="bottom",
        )
    ticks = list(loss.n_train.values)
    while band is not None and ticks[-1] * 2 <= float(band.n_train.max()) * 1.001:
        ticks.append(ticks[-1] * 2)
    log_axes(axis, ticks=ticks, **text)
    axis.legend(fontsize=8)
    figure.tight_layout()
    return figure


def small_multiples(
    loss: xr.DataArray, *, panel: str, hue: str, band=None, columns: int = 4, height: float = 1.7, **text
):
    """As :func:`learning_curves`, one small panel for each ``panel``."""
    names = [str(name) for name in loss[panel].values]
    rows = -(-len(names) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(7.8, height * rows + 0.5), sharex=True, squeeze=False)
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    for axis, name in zip(axes.flat, names, strict=False):
        inside = None if band is None else band.sel({panel: name})
        _draw_curves(axis, loss.sel({panel: name}).dropna(hue, how="all").dropna("n_train", how="all"), hue, inside)
        measured = loss.n_train.values
        log_axes(axis, ticks=measured[[0, len(measured) // 2, -1]], plain_y=True)
        axis.set_title(name, fontsize=7)
        axis.tick_params(labelsize=6.5, which="both")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.tight_layout(pad=0.6, rect=(0.02, 0.02, 1, 1 - 0.22 / (height * rows + 0.5)))
    figure.legend(handles, labels, loc="upper center", ncols=len(labels), fontsize=8)
    figure.supxlabel(text.get("x", ""), fontsize=8)
    figure.supylabel(text.get("y", ""), fontsize=8)
    return figure


def _draw_curves(axis, loss, hue, band):
    for i, name in enumerate(loss[hue].values):
        curve = loss.sel({hue: name}).dropna("n_train", how="all")
        n, mean = curve.n_train.values, curve.mean("seed")
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        spread = np.abs(np.stack([curve.min("seed") - mean, curve.max("seed") - mean]))
        line = "none" if band is not None else "-"
        axis.errorbar(n, mean, spread, color=colour, marker=marker, linestyle=line, elinewidth=1, label=str(name))
        if band is not None and name in band[hue].values:
            fitted = band.sel({hue: name})
            axis.plot(fitted.n_train, fitted["median"], color=colour, linewidth=1)
            axis.fill_between(fitted.n_train, fitted.lower, fitted.upper, color=colour, alpha=0.15, linewidth=0)


def log_axes(axis, *, ticks=None, x: str = "", y: str = "", plain_y: bool = False):
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    if ticks is not None:
        axis.set_xticks(ticks)
        axis.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    low, high = axis.get_ylim()
    if high / low < 8:  # less than a decade: say the numbers, not the powers of ten
        ticks = mpl.ticker.MaxNLocator(nbins=3 if plain_y else 6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        axis.set_yticks([t for t in ticks if low <= t <= high])
        axis.yaxis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:.3g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.yaxis.set_minor_locator(mpl.ticker.NullLocator())
    else:
        axis.yaxis.set_major_formatter(LogFormatter())


def loss_against_size(loss: xr.DataArray, n_params: dict[str, int]):
    """Mean test loss against encoder parameters, one line for each training-set size."""
    figure, axis = plt.subplots(figsize=(5.6, 3.6))
    encoders = sorted(loss.encoder.values, key=n_params.get)
    shades = plt.get_cmap("viridis")(np.linspace(0.05, 0.85, loss.sizes["n_train"]))
    for colour, n in zip(shades, loss.n_train.values, strict=True):
        mean = loss.sel(n_train=n, encoder=encoders).mean("seed")
        axis.plot([n_params[e] for e in encoders], mean, "o-", color=colour, label=f"{n:,}")
    log_axes(axis, ticks=sorted(n_params.values()), x="encoder parameters", y="test loss per galaxy")
    axis.legend(title="training galaxies", fontsize=7, title_fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
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
        axis.errorbar(part.estimate, rows, xerr=errors, fmt=MARKERS[i], color=COLOURS[i], elinewidth=1, label=name)
    axis.set_yticks(range(len(values)), values.index, fontsize=7)
    axis.invert_yaxis()
    axis.set_xlabel(label)
    if group:
        axis.legend(fontsize=7)
    figure.tight_layout()
    return figure


def histories(panels: dict[str, dict[str, dict]]):
    """Validation loss against galaxies seen; ``panels`` maps a title to {label: history of a run}."""
    figure, axes = plt.subplots(1, len(panels), figsize=(7.4, 2.9), sharey=True, squeeze=False)
    for axis, (title, lines) in zip(axes.flat, panels.items(), strict=True):
        for i, (label, history) in enumerate(lines.items()):
            axis.plot(history["examples"], history["val_loss"], color=COLOURS[i], marker=MARKERS[i], label=label)
        axis.set_title(title, fontsize=8)
        axis.set_xlabel("galaxies seen")
        axis.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes[0, 0].set_ylabel("validation loss [nats]")
    axes[0, 0].legend(fontsize=7)
    figure.tight_layout()
    return figure


def linear_against_full(errors: pd.DataFrame):
    """Columns ``linear``, ``full``, ``start`` and ``task``, one row for each task and label count."""
    figure, axis = plt.subplots(figsize=(5.4, 3.9))
    tasks = list(dict.fromkeys(errors.task))
    for (start, task), part in errors.groupby(["start", "task"], sort=False):
        starts = list(dict.fromkeys(errors.start))
        colour, marker = COLOURS[starts.index(start)], MARKERS[tasks.index(task)]
        axis.scatter(part.linear, part.full, s=26, color=colour, marker=marker)
    ends = [errors[["linear", "full"]].min().min() * 0.95, errors[["linear", "full"]].max().max() * 1.05]
    axis.plot(ends, ends, color="0.5", linewidth=1, zorder=0)
    axis.set_xlabel("test error, linear probe")
    axis.set_ylabel("test error, full finetuning")
    named = [(COLOURS[i], "o", name) for i, name in enumerate(dict.fromkeys(errors.start))]
    named += [("0.4", MARKERS[i], name) for i, name in enumerate(tasks)]
    handles = [mpl.lines.Line2D([], [], color=c, marker=m, linestyle="none", label=name) for c, m, name in named]
    axis.legend(handles=handles, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    return figure
