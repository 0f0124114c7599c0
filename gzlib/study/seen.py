"""What there is to see: a sentence for each figure, from its numbers, and the interactive chart of the front page."""

import json
from html import escape
from pathlib import Path

import numpy as np
import xarray as xr

from gzlib.study.figures import COLOURS, encoder_style
from gzlib.study.forecasts import Panel
from gzlib.study.sheets import REAL_TASKS, transfer_curves
from gzlib.study.tables import number
from gzlib.trace import input_files

_DIGITS = 5  # of embedded numbers, so that the same runs give the same bytes


def headline_panel(transfer: dict, loss: xr.DataArray, band: xr.Dataset, *, kind: str, level: float) -> Panel:
    """The front page's chart: errors against galaxies, read off at a number that the reader drags.

    Real galaxies come first: errors of linear probes with and without further pretraining. Then the test loss of the
    encoders, with the fitted law and its band.

    Parameters
    ----------
    transfer : dict
        As :func:`gzlib.study.sheets.transfer_report` gives it; may be empty.
    loss : DataArray (encoder, n_train, seed)
    band : Dataset (encoder, n_train)
        ``loss``, ``lower`` and ``upper`` of the fitted laws.
    kind : str
        What ``loss`` was measured on, such as "simulated galaxies".
    level : float
        Coverage of the band.

    Returns
    -------
    Panel
    """
    views = [*_real_views(transfer), _law_view(loss, band, kind, level)]
    first = views[0]
    rows = [(curve["name"], *_at(curve["line"], first["start"])) for curve in first["curves"]]
    form = f".{first['digits']}f"
    parts = {
        "ID": "headline",
        "WHAT": escape(first["what"]),
        "VALUE": escape(first["y"]),
        "ANSWER": escape(f"{first['name']}, with {first['start']:,.0f} {first['x']}."),
        "ROWS": "\n".join(
            f'<tr><th scope="row">{escape(name)}</th><td>{number(value, form)}</td>'
            f"<td>{number(low, form)} to {number(high, form)}</td></tr>"
            for name, value, low, high in sorted(rows, key=lambda row: row[1])
        ),
        "NOTE": escape(first["note"]),
        # In a script element, '</' would end it and '<!--' would hide what follows.
        "DATA": json.dumps({"views": views}, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        "SCRIPT": _source("headline.js")
        + '\nconst root = document.getElementById("headline");'
        + '\npage(root, JSON.parse(root.querySelector(".data").textContent));',
    }
    page = _source("headline.html")
    for name, text in parts.items():
        page = page.replace(f"@{name}@", text)
    return Panel("\n".join(line for line in page.splitlines() if line.strip()))


def _real_views(transfer: dict) -> list[dict]:
    """One view for each task of real galaxies that was measured with several numbers of labels."""
    if not transfer:
        return []
    views, curves = [], transfer_curves(transfer)
    classes = {REAL_TASKS[row["task"]] for row in transfer["rows"] if row.get("balanced_accuracy") is not None}
    for task in curves["task"].values:
        share = task in classes  # of galaxies in the wrong class, else a root mean square
        one = curves.sel(task=task).dropna("n_train", how="all") * (100 if share else 1)
        lines = []
        for colour, start in zip(COLOURS, one["start"].values, strict=False):
            runs = one.sel(start=start).transpose("n_train", "seed")
            ends = np.stack([runs.mean("seed"), runs.min("seed"), runs.max("seed")], axis=1)
            line = [[int(n), *map(_rounded, row)] for n, row in zip(runs.n_train.values, ends, strict=True)]
            lines.append({"name": str(start), "colour": colour, "line": line, "points": _points(runs)})
        n = [int(v) for v in one.n_train.values]
        views.append(
            {"name": f"Real galaxies: {task}", "x": "labels", "what": "features from", "compare": True}
            | {"y": "galaxies in the wrong class [%]" if share else "root mean square error"}
            | {"unit": " %" if share else "", "digits": 1 if share else 3}
            | {"range": "range", "measured": n[-1], "ticks": n, "start": n[len(n) // 2]}
            | {"note": _REAL_NOTE, "curves": lines}
        )
    return views


_REAL_NOTE = (
    "Measured on real galaxies: linear probes on features of ImageNet, and of ImageNet and further pretraining on"
    " simulated galaxies. Points are five draws of the labels, the range is theirs; between measured numbers, values"
    " are interpolated."
)


def _law_view(loss: xr.DataArray, band: xr.Dataset, kind: str, level: float) -> dict:
    lines = []
    for encoder in band.encoder.values:
        fitted = band.sel(encoder=encoder)
        ends = np.stack([fitted[name] for name in ("loss", "lower", "upper")], axis=1)
        line = [[_rounded(n), *map(_rounded, row)] for n, row in zip(fitted.n_train.values, ends, strict=True)]
        runs = loss.sel(encoder=encoder).transpose("n_train", "seed")
        runs = runs.where(runs.n_train >= line[0][0] * 0.999).dropna("n_train", how="all")
        style = encoder_style(str(encoder))
        lines.append({"name": str(encoder), "colour": style["color"], "line": line, "points": _points(runs)})
    largest, far = float(loss.n_train.max()), float(band.n_train.max())
    ticks = [float(band.n_train.min())]
    while ticks[-1] * 2 <= far * 1.001:
        ticks.append(ticks[-1] * 2)
    title = kind[0].upper() + kind[1:]
    return {
        "name": f"{title}: test loss of each encoder", "x": "training galaxies", "y": "test loss [nats]",
        "unit": " nats",
        "what": "encoder", "compare": False, "digits": 2, "range": f"{100 * level:g} % band", "measured": largest,
        "ticks": [round(tick) for tick in ticks], "start": largest, "curves": lines,
        "note": f"Measured on {kind}: points are runs, lines fitted power laws with the {100 * level:g} % band of their"
        " mean; in the shaded part there are no runs.",
    }  # fmt: skip


def _points(runs: xr.DataArray) -> list[list[float]]:
    sizes = np.repeat(runs.n_train.values, runs.sizes["seed"])
    return [[int(n), _rounded(v)] for n, v in zip(sizes, runs.values.ravel(), strict=True) if np.isfinite(v)]


def _at(line: list[list[float]], n: float) -> tuple[float, float, float]:
    table = np.asarray(line, float)
    value, low, high = (
        float(np.exp(np.interp(np.log(n), np.log(table[:, 0]), np.log(table[:, i])))) for i in (1, 2, 3)
    )
    return value, low, high


def _rounded(value) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _source(name: str) -> str:
    """A file beside this one; noted, so that changing it makes the chapter stale."""
    input_files(f"gzlib/study/{name}")
    return Path(__file__).with_name(name).read_text(encoding="utf-8").rstrip("\n")
