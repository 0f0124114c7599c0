"""The planner as a panel in the book: plain HTML and JavaScript with the forecasts inside, no server, no other file."""

import json
from html import escape
from pathlib import Path

import numpy as np

from gzlib.errors import UserError
from gzlib.fitting.forecasting import forecast
from gzlib.fitting.planner import compare_options, labels_needed, planning_grid
from gzlib.trace import input_files

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
        curves = {"median": "loss", "lower": "lower", "upper": "upper"}
        curves = {key: [_rounded(v) for v in one[name].values] for key, name in curves.items()}
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
