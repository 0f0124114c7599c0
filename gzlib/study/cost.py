"""What studies cost, from the benchmarks of ``data/benchmarks``: seconds, hours, and the most that fits in a day.

And what labels cost: the planner as a panel in the book, plain HTML and JavaScript with the forecasts inside.
"""

import json
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import NullLocator

from gzlib.errors import UserError
from gzlib.fitting.forecasting import forecast
from gzlib.fitting.planner import compare_options, labels_needed, planning_grid
from gzlib.models.encoders import TRAINING_FACTOR, forward_flops
from gzlib.study.figures import COLOURS
from gzlib.trace import input_files

NOT_MEASURED = "not measured"
SHOWN = ("growth", "loader", "loss", "step")  # the benchmarks that are about cost


def read_benchmarks() -> dict[str, dict]:
    """The stored speed benchmarks by their files' stems (``growth`` of the CPU, ``growth-h100`` of that GPU).

    Raises
    ------
    UserError
        If there is no ``growth`` among them.
    """
    files = [file for name in SHOWN for file in input_files(f"data/benchmarks/{name}*.json")]
    records = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}
    if "growth" not in records:
        raise UserError("data/benchmarks has no growth.json; measure it: python -m gzlib bench growth --store.")
    return records


def device_of(record: dict) -> str:
    """The device of a benchmark in words."""
    machine = record["machine"]
    return machine["gpu"] or f"{machine['processor']}, {machine['threads']} of {machine['cores']} cores"


def rows_along(record: dict | None, axis: str) -> pd.DataFrame:
    """The rows of a growth benchmark along one axis ("galaxies", "side", "encoder", "offers"); empty if none."""
    return pd.DataFrame([r for r in record["rows"] if r.get("axis") == axis] if record else [])


def seconds_a_picture(record: dict | None, encoder: str, side: int) -> float:
    """Seconds that training takes for one picture on the device of a growth benchmark; NaN if it was not measured.

    The measured time of that encoder, scaled with the pictures' area; of an encoder that was not measured, the time of
    the one that needs the most similar number of operations, scaled with the operations.

    Parameters
    ----------
    record : dict or None
        As :func:`read_benchmarks` gives it.
    encoder : str
    side : int
        Of the pictures [px].
    """
    measured = rows_along(record, "encoder")
    if measured.empty:
        return float("nan")
    if (known := measured["encoder"] == encoder).any():
        nearest = measured[known].iloc[0]
        return float(nearest["value"] * (side / nearest["side"]) ** 2)
    wanted = TRAINING_FACTOR * forward_flops(encoder, side)
    nearest = measured.loc[np.abs(np.log(measured["flops"] / wanted)).idxmin()]
    return float(nearest["value"] * wanted / nearest["flops"])


def study_hours(record: dict | None, jobs: list) -> float:
    """Hours that a study's pretraining runs take on the device of a growth benchmark; NaN if it was not measured.

    Parameters
    ----------
    jobs : list of (PretrainConfig, SurveySpec)
        Runs that take turns; validation, a few per cent, is left out.
    """
    cost = {(c.encoder, s.size): seconds_a_picture(record, c.encoder, s.size) for c, s in jobs}
    return sum(c.recipe.most_examples(c.n_train) * cost[c.encoder, s.size] for c, s in jobs) / 3600


def most_examples(record: dict | None, encoder: str, side: int, *, hours: float) -> float:
    """How many pictures can be shown to an encoder in so many hours; NaN if it was not measured."""
    return hours * 3600 / seconds_a_picture(record, encoder, side)


def largest_study(record: dict | None, jobs: list, *, hours: float) -> float:
    """Pictures shown in each run of the largest study of the shape of ``jobs`` that ends within ``hours``.

    All runs are made longer, or shorter, by one factor; the longest one's pictures are returned.
    """
    needed = study_hours(record, jobs)
    longest = max(c.recipe.most_examples(c.n_train) for c, _ in jobs)
    return longest * hours / needed


def in_words(value: float, form: str = ",.3g") -> str:
    """A number for a table, or "not measured"."""
    return NOT_MEASURED if np.isnan(value) else format(value, form)


def growth_figure(records: dict[str, dict]):
    """Seconds a picture against encoder size and picture size, pictures a second against galaxies; one colour a device.

    Parameters
    ----------
    records : dict
        Name of a device to its growth benchmark.
    """
    figure, axes = plt.subplots(1, 3, figsize=(8.2, 2.9))
    for axis in axes:
        axis.set(xscale="log", yscale="log")
    for colour, (name, record) in zip(COLOURS, records.items(), strict=False):
        encoders = rows_along(record, "encoder").sort_values("flops")
        for family, marker in (("resnet", "s"), ("convnext", "o")):
            some = encoders[encoders["encoder"].str.startswith(family)]
            axes[0].plot(some["n_params"], some["value"], marker + "-", color=colour, label=f"{family}, {name}")
        sides = rows_along(record, "side")
        axes[1].plot(sides["side"], sides["value"], "o-", color=colour, label=f"step, {name}")
        axes[1].plot(sides["side"], sides["view_seconds"], "o--", color=colour, label=f"of it the view, {name}")
        galaxies = rows_along(record, "galaxies")
        axes[2].plot(galaxies["galaxies"], galaxies["value"], "o-", color=colour, label=name)
        axes[1].set_xticks(sides["side"], sides["side"].astype(str), minor=False)
    axes[1].xaxis.set_minor_locator(NullLocator())
    labels = ("encoder parameters", "side of the pictures [px]", "galaxies in the survey")
    for axis, label in zip(axes, labels, strict=True):
        axis.set_xlabel(label)
        axis.legend(fontsize=6)
    axes[1].tick_params(axis="x", labelsize=7)
    axes[0].set_ylabel("seconds a picture")
    axes[2].set_ylabel("loaded pictures a second")
    axes[2].set_ylim(bottom=min(1000, axes[2].get_ylim()[0]))
    figure.tight_layout()
    return figure


MAX_FACTOR = 100.0  # the panel's axis ends at this multiple of the largest pilot
FIGURES = 7  # significant digits of the embedded numbers, so that the same forecast gives the same bytes


def planner_panel(
    loss,
    *,
    target,
    cost_per_label,
    cost_per_hour,
    hours_per_label,
    owned=0,
    level=0.95,
    unit="nats",
    option="encoder",
    x="n_train",
    ident="planner",
):
    """HTML of a panel that says how many labels each encoder needs for a target loss, and what they cost.

    The page computes what ``labels_needed`` and ``compare_options`` compute, from the forecasts embedded in it.

    Parameters
    ----------
    loss : DataArray (option, x, seed), the pilot
    target, cost_per_label, cost_per_hour, owned : float, what the controls start with
    hours_per_label : dict of option to hours of training for each training galaxy
    level : coverage of the bands
    unit : unit of the loss
    ident : the panel's id, unique on its page

    Returns
    -------
    str, without blank lines: Markdown would end an HTML block there.

    Raises
    ------
    UserError
        If an option has no training time, or the target or a price is negative or not finite.
    """
    names = [str(name) for name in loss[option].values]
    if absent := [name for name in names if name not in hours_per_label]:
        raise UserError(f"The panel needs the training hours of {absent[0]!r}: add it to hours_per_label.")
    choice = {"target": target, "label_price": cost_per_label, "hour_price": cost_per_hour, "owned": owned}
    for name, value in choice.items():
        if not (np.isfinite(value) and value >= 0):
            raise UserError(f"The panel's {name} is {value}: give a finite number of at least zero.")
    needed = labels_needed(loss, target, x=x, level=level, max_factor=MAX_FACTOR)
    rows = compare_options(
        needed,
        cost_per_label=cost_per_label,
        cost_per_gpu_hour=cost_per_hour,
        gpu_hours=lambda labels_of, labels: hours_per_label[str(labels_of[option])] * labels,
        owned_labels=owned,
    )
    data = panel_data(loss, hours_per_label, level=level, option=option, x=x)
    data |= {
        "unit": unit,
        "choice": {name: _rounded(value) for name, value in choice.items()},
        "shown": str(rows[0][option]),
    }
    parts = {
        "ID": ident,
        "UNIT": escape(unit),
        "LEVEL": data["level"],
        "ANSWER": escape(f"For a loss of {target:.4g} {unit}; prices as in the chapter's parameters."),
        "ROWS": "\n".join(_row(row, option) for row in rows),
        "NOTE": escape(
            f"Forecasts reach to {MAX_FACTOR:g} times the largest training set; 'no limit' means that the upper end of"
            " the band does not come down to the target before. Costs hold labels beyond those owned, and one training."
        ),
        # In a script element, '</' would end it and '<!--' would hide what follows.
        "DATA": json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        "SCRIPT": _page(ident, _source("panel.js")),
    }
    page = _source("panel.html")
    for name, text in parts.items():
        page = page.replace(f"@{name}@", text)
    return "\n".join(line for line in page.splitlines() if line.strip())


def panel_data(loss, hours_per_label, *, level=0.95, option="encoder", x="n_train"):
    """The forecasts that the page computes with: sizes, and for each option its curve, band and measured means."""
    sizes = loss[x].values.astype(float)
    grid = planning_grid(sizes, MAX_FACTOR)
    ahead = forecast(loss, grid, x=x, level=level)
    mean = np.exp(np.log(loss).mean("seed"))
    options = []
    for name in loss[option].values:
        one = ahead.sel({option: name})
        measured = mean.sel({option: name}).values
        points = [[n, _rounded(v)] for n, v in zip(sizes, measured, strict=True) if np.isfinite(v)]
        curves = {key: [_rounded(v) for v in one[key].values] for key in ("median", "lower", "upper")}
        options.append(
            {"name": str(name), "hours_per_label": _rounded(hours_per_label[str(name)])}
            | {"points": points, "last": int(np.searchsorted(grid, points[-1][0]))}
            | curves
        )
    return {"sizes": [_rounded(n) for n in grid], "level": f"{100 * level:g} %", "options": options}


def _rounded(value):
    return float(f"{value:.{FIGURES}g}") if np.isfinite(value) else None


def _source(name):
    """A file beside this one; noted, so that changing it makes the chapter stale."""
    input_files(f"gzlib/study/{name}")
    return Path(__file__).with_name(name).read_text(encoding="utf-8").rstrip("\n")


def _page(ident, script):
    start = f'const root = document.getElementById("{ident}");\n'
    return f'{script}\n{start}page(root, JSON.parse(root.querySelector(".data").textContent));'


def _row(row, option):
    band = f"{_count(row['labels_low'])} to {_count(row['labels_high'], 'no limit')}"
    cost_band = f"{_count(row['cost_low'])} to {_count(row['cost_high'], 'no limit')}"
    if not np.isfinite(row["labels_low"]):
        band = cost_band = "out of reach"
    cells = "".join(f"<td>{text}</td>" for text in (_count(row["labels"]), band, _count(row["cost"]), cost_band))
    return f'<tr><th scope="row">{escape(str(row[option]))}</th>{cells}</tr>'


def _count(value, endless="out of reach"):
    """A count with three digits, as the page shows it."""
    if not np.isfinite(value):
        return endless
    return f"{float(f'{value:.3g}') if value >= 1000 else value:,.0f}"
