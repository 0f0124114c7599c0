"""What studies cost, and how to spend a budget: seconds and hours from ``data/benchmarks``, and the loss as a surface
over encoders and training sets, with the best split of compute between them.
"""

import json
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.ticker import NullLocator

from gzlib.errors import UserError
from gzlib.fitting import LAWS, compute_frontier, fit_surface, information, predict_surface
from gzlib.models.encoders import TRAINING_FACTOR, forward_flops
from gzlib.study.figures import COLOURS
from gzlib.study.presets import PlannedStudy, PretrainingStudy, pretraining_study
from gzlib.study.results import GREEK, StudyRuns
from gzlib.study.tables import formula, intervals, number
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


def in_words(value: float) -> str:
    """A number with three figures for a page, or "not measured"."""
    if np.isnan(value):
        return NOT_MEASURED
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 1000 else number(value, ".3g")


def speed_table(records: dict[str, dict]) -> pd.DataFrame:
    """The speed benchmarks beside their goals; names are code."""
    rows = [row for name in ("loader", "loss", "step") if name in records for row in records[name]["rows"]]
    return pd.DataFrame(
        {
            "benchmark": f"`{row['name']}`",
            "value": NOT_MEASURED if row["value"] is None else f"{number(row['value'], '.3g')} {row['unit']}".strip(),
            "goal": row["goal"] or "",
            "detail": row["detail"],
        }
        for row in rows
    )


def galaxies_table(record: dict) -> pd.DataFrame:
    """Memory, time until the first batch, and rate of loading surveys of many galaxies."""
    rows = rows_along(record, "galaxies")
    return pd.DataFrame(
        {
            "galaxies": rows["galaxies"],
            "where": rows["resident"].map({True: "in memory", False: "memory-mapped"}),
            "memory": rows["bytes"] / 1e9,
            "open": rows["opened_seconds"],
            "rate": rows["value"],
        }
    )


def encoders_table(record: dict, other: dict | None, *, hours: float) -> pd.DataFrame:
    """What training each encoder costs on one device, and how much of it fits into some hours on it and on another."""
    rows = rows_along(record, "encoder").sort_values("n_params")
    side = int(rows["side"].iloc[0])
    shown = {f"in {hours:g} h": record, f"on one H100, {hours:g} h": other}
    fits = {
        where: [in_words(most_examples(one, name, side, hours=hours)) for name in rows["encoder"]]
        for where, one in shown.items()
    }
    table = {
        "encoder": rows["encoder"],
        "parameters": rows["n_params"] / 1e6,
        "operations": rows["flops"] / 1e9,
        "time": 1e3 * rows["value"],
        "rate": rows["flops"] / rows["value"] / 1e9,
    }
    return pd.DataFrame(table | fits)


def day_table(presets: list[str], record: dict, other: dict | None, *, hours: float) -> pd.DataFrame:
    """How long the pretraining studies of presets take, and the longest run of the largest of that shape."""
    rows = []
    for name in dict.fromkeys(presets):
        jobs = pretraining_study(name).jobs()
        shown = sum(config.recipe.most_examples(config.n_train) for config, _ in jobs)
        row = {"preset": name, "runs": len(jobs), "pictures shown": shown}
        for where, one in (("this device", record), ("one H100", other)):
            row[f"hours, {where}"] = in_words(study_hours(one, jobs))
            row[f"longest run in {hours:g} h, {where}"] = in_words(largest_study(one, jobs, hours=hours))
        rows.append(row)
    return pd.DataFrame(rows)


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


def surfaces(grid: pd.DataFrame, floor: float | None, *, level: float) -> tuple[dict[str, xr.Dataset], str]:
    """Hoffmann's surface with E fitted and, where it is known, with E at the floor; or why there is none."""
    held = {"E fitted": None} | ({} if floor is None else {"E at the floor": {"E": floor}})
    try:
        sizes = {"N": grid.N, "D": grid.D}
        return {name: fit_surface(grid.loss, sizes, fixed=fixed, level=level) for name, fixed in held.items()}, ""
    except UserError as error:
        return {}, str(error)


def surface_table(fits: dict[str, xr.Dataset]) -> pd.DataFrame:
    """Parameters of the surfaces with their intervals, and in words how well the runs know each."""
    rows = []
    for label, fit in fits.items():
        for name, value, low, high in fit[["value", "low", "high"]].to_dataframe().itertuples():
            shown = number(value, ".2f") if low == high else intervals(value, low, high)[0]
            rows.append([label, GREEK.get(name, name), shown, _known(value, low, high)])
    return pd.DataFrame(rows, columns=["fit", "parameter", "value", "verdict"])


def _known(value: float, low: float, high: float) -> str:
    if low == high:
        return "held"
    if low < 0.02 * value or value <= 0:
        return "at most " + number(high, ".3g")
    return "determined" if high < 2 * low else f"known to a factor {high / low:,.{0 if high > 10 * low else 1}f}"


def surface_words(table: pd.DataFrame, grid: pd.DataFrame, refusal: str) -> str:
    """What the runs determine of the surface with E fitted, as a sentence."""
    if refusal:
        return f"The design cannot tell: {refusal}".replace("^", r"\^")
    weak = table[(table.fit == "E fitted") & ~table.verdict.isin(["determined", "held"])]
    known = f"leave {', '.join(weak.parameter)} known no better than to a factor of two" if len(weak) else ""
    return (
        f"{grid.N.nunique()} encoder sizes over {np.log10(grid.N.max() / grid.N.min()):.1f} decades are a small design:"
        f" with E fitted, the runs {known or 'determine every parameter'}."
    )


def surface_laws(grid: pd.DataFrame, *, level: float) -> tuple[pd.DataFrame, xr.Dataset | None]:
    """Four laws of two sizes on the same runs, and the fit with the lowest corrected Akaike criterion."""
    rows, best = [], (np.inf, None)
    for law in ("chinchilla", "kaplan", "skaling", "bounded"):
        shown = formula(LAWS[law].formula)
        try:
            fit = fit_surface(grid.loss, {"N": grid.N, "D": grid.D}, law=law, level=level)
        except UserError as error:
            rows.append([shown, np.nan, np.nan, str(error)])
            continue
        at = {"N": xr.DataArray(grid.N), "D": xr.DataArray(grid.D)}
        residual = np.log(predict_surface(fit, at)["loss"] / grid.loss)
        aicc, _ = information(residual, len(LAWS[law].names), log_loss=np.log(grid.loss))
        best = min(best, (aicc, fit), key=lambda pair: pair[0])
        message = "converged" if fit.success else str(fit.message.item())
        rows.append([shown, float(np.sqrt((residual**2).mean())), aicc, message])
    table = pd.DataFrame(rows, columns=["law", "rms", "ΔAICc", "fit"])
    table["ΔAICc"] -= table["ΔAICc"].min()
    return table, best[1]


def training_cost(study: PretrainingStudy | PlannedStudy, runs: StudyRuns) -> Callable:
    """Floating-point operations of training as a function of parameters ``N`` and training galaxies ``D``.

    Operations of a forward pass are counted for each encoder of the family and interpolated between them; a training
    step is taken for three of them. The galaxies shown are those of the study's rule, or, where a run ends when it
    gets no better, a power law of ``N`` and ``D`` through those that the runs were shown.
    """
    flops = [forward_flops(name, study.survey.size) for name in runs.family]
    known = np.log([runs.n_params[name] for name in runs.family]), np.log(flops)
    if isinstance(study, PlannedStudy):
        seen = [
            (1.0, np.log(runs.n_params[r["config"]["encoder"]]), np.log(r["config"]["n_train"]),
             np.log(r["metrics"]["history"]["examples"][-1]))
            for r in runs.records if r["config"]["encoder"] in runs.family
        ]  # fmt: skip
        *rows, shown = np.array(seen).T
        at, by_size, by_data = np.linalg.lstsq(np.transpose(rows), shown, rcond=None)[0]
    else:
        at_thousand, by_data, _ = study.examples
        at, by_size = np.log(at_thousand) - by_data * np.log(1000), 0.0

    def cost(N, D):
        operations = np.exp(np.interp(np.log(N), *known))
        return TRAINING_FACTOR * operations * np.exp(at + by_size * np.log(N) + by_data * np.log(D))

    return cost


def best_split(fit: xr.Dataset, grid: pd.DataFrame, cost: Callable) -> tuple[Callable, xr.Dataset]:
    """The loss of a fitted surface as a function of ``N`` and ``D``, and its best split of each compute budget."""
    ends = float(cost(grid.N.min(), grid.D.min())), float(cost(grid.N.max(), grid.D.max()))
    frontier = compute_frontier(fit, np.geomspace(*ends, 80), cost, n_params=(grid.N.min(), grid.N.max()))

    def fitted(N, D):
        N, D = (xr.DataArray(values, dims=("y", "x")) for values in np.broadcast_arrays(N, D))
        return predict_surface(fit.drop_vars("draw_values"), {"N": N, "D": D})["loss"].values

    return fitted, frontier
