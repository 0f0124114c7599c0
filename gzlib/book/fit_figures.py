"""The figures of fits and forecasts: one function each, labelled arrays in, a matplotlib figure out."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr

from gzlib.book.figures import COLOURS, MARKERS, log_axes

ROW, MARK = 0.2, 0.065  # least height of a row of a dot plot, and height for each mark in it [inch]


def dodged_intervals(panels: dict[str, xr.Dataset], *, row: str, hue: str):
    """Estimates with intervals as dot plots side by side, a row for each ``row`` and a mark for each ``hue`` in it.

    Parameters
    ----------
    panels : dict
        Axis label to a Dataset with ``estimate``, ``low`` and ``high`` over (row, hue); NaN is left out.
    """
    first = next(iter(panels.values()))
    rows, hues = first[row].values, first[hue].values
    height = max(ROW, MARK * len(hues))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(7.8, height * len(rows) + 1.1), sharey=True, squeeze=False, layout="constrained"
    )
    step = 0.7 / max(len(hues), 2)
    for axis, (label, values) in zip(axes.flat, panels.items(), strict=True):
        for i, name in enumerate(hues):
            one = values.sel({hue: name}).transpose(row)
            place = np.arange(len(rows)) + (i - (len(hues) - 1) / 2) * step
            errors = np.abs(np.stack([one.estimate - one.low, one.high - one.estimate]))
            axis.errorbar(
                one.estimate, place, xerr=errors, fmt=MARKERS[i], color=COLOURS[i], elinewidth=1, ms=3, label=str(name)
            )
        for i in range(0, len(rows), 2):
            axis.axhspan(i - 0.5, i + 0.5, color="0.5", alpha=0.08, linewidth=0)
        axis.set_xlabel(label)
        axis.set_xlim(left=min(0, axis.get_xlim()[0]))
        axis.grid(axis="y", visible=False)
    axes[0, 0].set_yticks(range(len(rows)), rows, fontsize=7)
    axes[0, 0].set_ylim(len(rows) - 0.5, -0.5)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=8)
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
    figure, (plane, money) = plt.subplots(1, 2, figsize=(7.8, 3.6), layout="constrained")
    mean = loss.mean("seed")
    N = np.array([n_params[e] for e in loss.encoder.values], float)
    D = loss.n_train.values.astype(float)
    if fitted is not None:
        x, y = np.geomspace(D[0] * 0.8, D[-1] * 4, 80), np.geomspace(N.min() * 0.8, N.max() * 1.25, 60)
        lines = plane.contour(x, y, fitted(y[:, None], x[None, :]), levels=9, colors="0.45", linewidths=0.8)
        plane.clabel(lines, fmt="%.3g", fontsize=7)
        plane.axvspan(D[-1], x[-1], color="0.5", alpha=0.1, linewidth=0)
    shown = plane.scatter(*np.meshgrid(D, N), c=mean.transpose("encoder", "n_train"), cmap="viridis_r", s=34, zorder=3)
    figure.colorbar(shown, ax=plane, label="measured loss [nats]", pad=0.02)
    for i, name in enumerate(loss.encoder.values):
        flops = cost(N[i], D)
        money.plot(flops, mean.sel(encoder=name), MARKERS[i], color=COLOURS[i], label=str(name))
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
    money.legend(fontsize=7)
    return figure


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
        figsize=(7.8, 1.35 * len(columns) + 0.155 * len(values) + 0.5),
        sharex=True,
        height_ratios=ratios,
        layout="constrained",
    )
    place = np.arange(len(ordered))
    laws = list(dict.fromkeys(fits[choices[0]]))
    for axis, (column, label) in zip(axes, columns.items(), strict=False):
        for i, law in enumerate(laws):
            at = (ordered[choices[0]] == law).to_numpy()
            axis.plot(place[at], ordered[column][at], ".", ms=3.5, color=COLOURS[i], label=law)
        axis.set_ylabel(label, fontsize=8)
        axis.tick_params(labelsize=7)
    axes[0].legend(fontsize=7, ncols=len(laws), loc="lower center", bbox_to_anchor=(0.5, 1.0), markerscale=2)
    board = axes[-1]
    for height, (choice, value) in enumerate(values):
        at = (ordered[choice] == value).to_numpy()
        board.plot(place[at], np.full(at.sum(), height), "|", ms=4, color=COLOURS[choices.index(choice) % 2 * 6])
    board.set_yticks(range(len(values)), [f"{choice}: {value}" for choice, value in values], fontsize=6.5)
    board.set_ylim(len(values) - 0.5, -0.5)
    board.grid(visible=False)
    board.set_xlabel(f"fits, sorted by {next(iter(columns.values()))}", fontsize=8)
    return figure


def forecast_and_outcome(pilots: dict[str, xr.DataArray], rows: pd.DataFrame):
    """Registered forecasts with their bands, the pilots that they were made from, and what came of them.

    Parameters
    ----------
    pilots : dict of curve name to mean losses of the pilot (n_train)
    rows : DataFrame with ``name``, ``n_train``, ``forecast``, ``lower``, ``upper`` and ``outcome`` (NaN: not yet)
    """
    figure, axis = plt.subplots(figsize=(6.4, 3.9), layout="constrained")
    for i, (name, part) in enumerate(rows.groupby("name", sort=False)):
        colour, place = COLOURS[i % len(COLOURS)], part.n_train * 1.05**i  # side by side, not one over the other
        if name in pilots:
            curve = pilots[name].dropna("n_train")
            axis.plot(curve.n_train, curve, MARKERS[i % len(MARKERS)], color=colour, label=f"{name}, pilot")
        errors = np.abs(np.stack([part.forecast - part.lower, part.upper - part.forecast]))
        axis.errorbar(place, part.forecast, errors, fmt="_", ms=10, color=colour, capsize=4, label="forecast")
        if part.outcome.notna().any():
            axis.plot(place, part.outcome, "*", ms=9, mec="black", mfc=colour, label="outcome", zorder=4)
    sizes = {float(n) for curve in pilots.values() for n in curve.n_train.values} | set(rows.n_train)
    log_axes(axis, ticks=sorted(sizes), x="training galaxies", y="test loss per galaxy [nats]")
    axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
