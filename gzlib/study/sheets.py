"""How surveys look and how real the sky is: sheets, ladders of votes, tables that compare; a small catalogue."""

import io
import json
import os
import textwrap
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import xarray as xr
from IPython.display import Image
from matplotlib.patheffects import withStroke
from scipy import stats
from scipy.special import softmax

from gzlib import paths
from gzlib.data import Question, Schema, load_schema
from gzlib.data.loader import to_float
from gzlib.errors import UserError
from gzlib.models import load_encoder
from gzlib.sky import CAMPAIGNS, look, simulate, simulate_task, sky_identity, volunteers
from gzlib.study.figures import NIGHT, PICTURE_DPI, STARLIGHT
from gzlib.study.tables import REAL_TASKS, markdown_table, number, reports, share
from gzlib.trace import input_files
from gzlib.training.card import label_words
from gzlib.training.loss import reliability
from gzlib.training.probes import fit_probe

EXAMPLE = "examples/galaxies"  # made by ``.ci/example.py``


def campaign_sheets(images: dict[str, np.ndarray], *, columns: int = 6, across: int = 2):
    """One contact sheet for each title, ``across`` of them beside each other.

    Parameters
    ----------
    images : dict
        Title to images, (n, size, size, 3) uint8, the same n for all.
    columns : int
        Images in a row of one sheet.
    """
    down = -(-len(images) // across)
    rows = -(-max(len(pictures) for pictures in images.values()) // columns)
    width = 7.6
    height = down * (width / across / columns * rows + 0.24)
    figure, axes = plt.subplots(down, across, figsize=(width, height), squeeze=False, facecolor=NIGHT)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (title, pictures) in zip(axes.flat, images.items(), strict=False):
        axis.imshow(contact_sheet(pictures, columns), interpolation="antialiased")
        axis.set_title(label_words(title), pad=3, color=STARLIGHT)
    figure.subplots_adjust(0.004, 0.004, 0.996, 1 - 0.22 / height, wspace=0.015, hspace=0.24 * down / height * 1.1)
    return figure


def vote_ladders(blocks: list[dict[str, tuple[np.ndarray, np.ndarray]]], *, titles: list[str] | None = None):
    """Rows of images, the chance of the answer written into each image; one block of rows beside the other.

    Parameters
    ----------
    blocks : list of dict
        For each block: row title to (images (steps, size, size, 3) uint8, chance (steps,)). Rows may differ in
        length; an empty one says so.
    titles : list of str, optional
        One above each block.
    """
    steps = max(len(chance) for block in blocks for _, chance in block.values())
    down, label, width = max(map(len, blocks)), 1.5, 7.6 / len(blocks)
    side, head = (width - label) / steps, 0.22 if titles else 0.0
    height = down * side * 1.03 + head
    figure = plt.figure(figsize=(7.6, height), facecolor=NIGHT)
    for place, block in enumerate(blocks):
        left = (place * width + label) / 7.6
        for row, (title, (pictures, chance)) in enumerate(block.items()):
            bottom = 1 - (head + (row + 1) * side * 1.03) / height
            axis = figure.add_axes((left, bottom, steps * side / 7.6, side / height))
            axis.set_axis_off()
            words: dict[str, Any] = {"transform": axis.transAxes, "va": "center", "color": STARLIGHT}
            axis.text(-0.01, 0.5, title, ha="right", **words)
            if not len(chance):
                axis.text(0.01, 0.5, "too few galaxies are asked", **words)
                continue
            size = pictures.shape[1]
            axis.imshow(contact_sheet(pictures, steps), interpolation="antialiased", aspect="auto")
            for step, value in enumerate(chance):
                shown = axis.text((step + 0.04) * size, 0.04 * size, f"{value:.2f}", color="white", va="top")
                shown.set_path_effects([withStroke(linewidth=2, foreground=NIGHT)])
        if titles:
            figure.text(left, 1 - 0.16 / height, titles[place], color=STARLIGHT)
    return figure


def simulated_ladders(campaign: str, *, steps: int, size: int = 56) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """One block for :func:`vote_ladders`: every question of a campaign, images cut to their central two thirds."""
    rows, margin = {}, size // 4
    for name, (numbers, chance) in ladders(campaign, seed=0, steps=steps, galaxies=2000).items():
        question, answer = name.rsplit("_", 1)
        words = f"{question.rsplit('-', 1)[0]}:".replace("-", " ")
        title = f"{textwrap.fill(words, 19)}\n{answer.replace('-', ' ')}"
        pictures = simulate(campaign, numbers, seed=0, size=size + 2 * margin).images
        rows[title] = pictures[:, margin:-margin, margin:-margin], chance
    return rows


def as_jpeg(figure, *, quality: int = 60) -> Image:
    """A figure as a JPEG image for the notebook, and the figure closed: noise makes a PNG of galaxies large."""
    buffer, width = io.BytesIO(), round(PICTURE_DPI / 2 * figure.get_figwidth())
    figure.savefig(buffer, format="jpeg", dpi=PICTURE_DPI, facecolor=NIGHT, pil_kwargs={"quality": quality})
    plt.close(figure)
    return Image(data=buffer.getvalue(), format="jpeg", width=width)


# Of each question, the answer whose ladder shows most: the one that says that something is there, or the extreme one.
_TELLING = (
    "_yes", "_featured-or-disk", "_features", "_strong", "_dominant", "_cigar", "_cigar-shaped", "_loose", "_2",
    "_merger", "_round", "_rounded", "_star",
)  # fmt: skip


def contact_sheet(images: np.ndarray, columns: int = 10) -> np.ndarray:
    """(rows * size, columns * size, 3) uint8: images (n, size, size, 3) row by row; empty places stay black."""
    if columns < 1 or images.ndim != 4:
        raise UserError(
            f"A contact sheet needs images (n, size, size, 3) and at least one column, not {images.shape}"
            f" and {columns} columns."
        )
    n, size = len(images), images.shape[1]
    rows = -(-n // columns)
    sheet = np.zeros((rows * columns, *images.shape[1:]), images.dtype)
    sheet[:n] = images
    return sheet.reshape(rows, columns, size, size, 3).swapaxes(1, 2).reshape(rows * size, columns * size, 3)


def telling_answer(question: Question) -> str:
    """The answer (a label column) that :func:`ladders` climbs for a question unless told otherwise."""
    answer = next((name for name in _TELLING if name in question.answers), question.answers[0])
    return f"{question.name}{answer}"


def ladders(
    campaign: str, label_cols: list[str] | None = None, *, seed: int, steps: int = 8, galaxies: int = 3000
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each answer, galaxies whose true chance of it climbs evenly from the lowest to the highest.

    Only galaxies of which at least 15 per cent of volunteers are asked the question take part, spoilt images aside
    (unless the answer is about them), so that the answer and not an empty branch is what is seen. No galaxy stands on
    one ladder twice.

    Parameters
    ----------
    campaign : str
        One of the campaigns of the simulated sky.
    label_cols : list of str, optional
        Answers; by default :func:`telling_answer` of each question.
    galaxies : int
        How many galaxies of the survey to choose from.

    Returns
    -------
    dict
        Answer to (``numbers``, ``chance``), (steps,) each: galaxy numbers in climbing order, and the share of all
        volunteers that would give the answer if asked, between 0 and 1. Fewer than ``steps`` if not enough galaxies
        are asked the question.

    Raises
    ------
    UserError
        If there is no such campaign, or the campaign has no such answer.
    """
    if campaign not in CAMPAIGNS:
        raise UserError(f"Unknown campaign '{campaign}'; choose one of {', '.join(CAMPAIGNS)}.")
    schema = load_schema(campaign)
    label_cols = [telling_answer(question) for question in schema.questions] if label_cols is None else label_cols
    if unknown := [name for name in label_cols if name not in schema.label_cols]:
        raise UserError(f"Campaign '{campaign}' has no answer '{unknown[0]}'; it has {', '.join(schema.label_cols)}.")
    _, seen = look(campaign, np.arange(galaxies), seed=seed)
    by_kind = volunteers.kind_probabilities(schema, seen)
    chance = volunteers.answer_probabilities(schema, by_kind)
    reach = volunteers.reach_probabilities(schema, by_kind)
    clean = (seen["fault"] < 0.2) & (seen["star_target"] == 0)
    found = {}
    for name in label_cols:
        column = schema.label_cols.index(name)
        base = schema.questions[schema.question_of_answer[column]].name.rsplit("-", 1)[0]
        about_faults = base in ("artifact", "problem") or name.endswith(("_artifact", "_problem"))
        asked = reach[:, schema.question_of_answer[column]] > 0.15
        rows = np.flatnonzero(asked & (clean | about_faults))
        numbers = rows[_rungs(chance[rows, column], steps)]
        found[name] = numbers, chance[numbers, column]
    return found


def ladder(campaign: str, label_col: str, *, seed: int, steps: int = 10, galaxies: int = 3000) -> np.ndarray:
    """(steps,) galaxy numbers of one answer's ladder; parameters and errors as :func:`ladders`."""
    return ladders(campaign, [label_col], seed=seed, steps=steps, galaxies=galaxies)[label_col][0]


def _rungs(value: np.ndarray, steps: int) -> list[int]:
    """Places of the values nearest to ``steps`` even steps from the least to the greatest, none taken twice."""
    if len(value) <= steps:
        return np.argsort(value).tolist()
    chosen: list[int] = []
    for wanted in np.linspace(value.min(), value.max(), steps):
        distance = np.abs(value - wanted)
        distance[chosen] = np.inf
        chosen.append(int(distance.argmin()))
    return sorted(chosen, key=lambda place: value[place])


def first_answers(schema: Schema, votes: np.ndarray) -> list[str]:
    """For each galaxy, votes (n, answers), the most frequent answer to its campaign's first question, and its share."""
    totals, titles = schema.question_totals(votes), []
    for own, asked in zip(votes, totals, strict=True):
        question = next(q for q, n in zip(schema.questions, asked, strict=True) if n and q.asked_after is None)
        share = own[question.columns] / own[question.columns].sum()
        answer = question.answers[share.argmax()].lstrip("_").removesuffix("-or-disk")
        titles.append(f"{answer} {share.max():.2f}")
    return titles


def answer_fractions(schema: Schema, votes: np.ndarray, *, campaign: str, least: int) -> dict[str, np.ndarray]:
    """Fractions of the first answer of each question of a campaign, over galaxies with at least so many votes on it.

    Returns
    -------
    dict
        "question: answer" to (galaxies,) fractions.
    """
    totals, fractions = schema.question_totals(votes), {}
    for place, question in enumerate(schema.questions):
        if question.campaign == campaign:
            enough = totals[:, place] >= least
            title = question.label_cols[0].replace("_", ": ")
            fractions[title] = votes[enough, question.columns.start] / totals[enough, place]
    return fractions


_SURVEYS = {"gz2": "GZ2", "decals": "DECaLS", "sdss": "SDSS, never looked at"}


def votes_table() -> pd.DataFrame:
    """One row for each question with real votes: how far simulated votes lie from the half held out."""
    rows = {}
    for record in reports("sky_votes"):
        detail = record["detail"]
        rows[record["name"].removeprefix("votes.")] = {
            "gap of means": detail["mean_gap"],
            "Wasserstein": record["value"],
            "entropy, simulated": detail["entropy"][0],
            "real": detail["entropy"][1],
            "votes, simulated": detail["votes_reaching"][0],
            "real ": detail["votes_reaching"][1],  # two columns of one heading: the space keeps them apart
            "real galaxies": f"{detail['galaxies_compared'][1]:,}",
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("question")


def pictures_table(*, before: bool = False) -> pd.DataFrame:
    """AUC of a classifier that tells two sets of images apart, one row for each pair, one column for each view.

    The rows of simulated images come first, then, if ``before``, those of the sky's version before this one and, as
    yardsticks, real images against real ones. ``fresh encoder`` is by an encoder with
    which no constant of the sky was set.
    """
    now: dict[str, dict[str, float]] = {}
    earlier: dict[str, dict[str, float]] = {}
    yardsticks: dict[str, dict[str, float]] = {}
    for record in reports("sky_realism"):
        kind, name = record["name"].removeprefix("sky.").split(".", 1)
        detail = record["detail"]
        if kind != "realism":
            continue
        if "auc" not in detail:
            yardsticks["real GZ2 against real DECaLS"] = {"full": record["value"]}
            continue
        survey, choice = name.split(".")
        this = detail["sky"] == sky_identity()
        row = {view.replace("_", " "): auc for view, auc in detail["auc"].items()}
        row["fresh encoder"] = round(float(np.mean(detail["auc_fresh_encoder"])), 3)
        pair = f"{_SURVEYS[survey]}: real against simulated ({choice}{'' if this else '; version before'})"
        (now if this else earlier)[pair] = row
        if this:
            half = detail["auc_real_half_against_half"]
            yardsticks[f"{_SURVEYS[survey]}: real, one half against the other"] = {"full": half}
    rows = now | (earlier if before else {}) | yardsticks
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("images")


_MEASURES = {
    "neighbours": "neighbours per image",
    "neighbour_width": "their width [px]",
    "neighbour_axis_ratio": "their axis ratio",
    "core_width": "width of the core [px]",
    "axis_ratio": "axis ratio",
    "asymmetry": "asymmetry",
    "colour": "red minus blue",
    "detail_2_4": "structure of 2 to 4 px",
    "sky_detail_2_4": "noise of 2 to 4 px [grey levels]",
}


def structure_table(*, before: bool = False) -> pd.DataFrame:
    """Medians of what 128 px images show, real and simulated, as texts with the same decimals in a row.

    With ``before`` there is a column of the sky's version before this one.
    """
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for record in reports("sky_realism"):
        if record["name"].startswith("sky.structure."):
            survey = _SURVEYS[record["name"].rsplit(".", 1)[1]]
            version = "simulated" if record["detail"]["sky"] == sky_identity() else "version before"
            for measure, words in _MEASURES.items():
                found = record["detail"]["measures"][measure]
                rows.setdefault((survey, words), {})["real"] = found["real"][0]
                rows[survey, words][version] = found["simulated"][0]
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(["survey", "measure"])
    if not before:
        table = table.drop(columns="version before", errors="ignore")
    decimals = (2 - np.floor(np.log10(table.abs().max(axis=1)))).clip(0, 3).astype(int)
    return table.apply(lambda row: row.map(lambda value: number(value, f".{decimals[row.name]}f")), axis=1)


_DRAWS = 2000  # of a bootstrap


def transfer_report() -> dict:
    """What ``benchmarks/transfer.py`` measured on real galaxies; empty where it is missing.

    Raises
    ------
    UserError
        If the file does not hold it.
    """
    files = input_files("data/benchmarks/transfer.json")
    if not files:
        return {}
    try:
        report = json.loads(files[0].read_text(encoding="utf-8"))
        _ = [(row["task"], row["arm"], float(row["error"]), row["few"]) for row in report["rows"]]
        _ = [float(row[name]) for row in report["means"] for name in ("reduction", "low", "high")]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"data/benchmarks/transfer.json does not hold a comparison ({type(error).__name__}: {error}); restore it"
            " from git, or make it again with `benchmarks/transfer.py compare --write`."
        ) from None
    return report


def transfer_table(report: dict) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Linear probes with all labels on real galaxies.

    Returns
    -------
    errors : DataFrame
        One row a kind of features, one column a task.
    gains : DataFrame
        From ImageNet to ImageNet + galaxies: the share of errors that is gone, with its interval, and two scores; one
        row a task.
    """
    errors: dict[str, dict[str, float]] = {}
    gains = []
    for task, name in REAL_TASKS.items():
        found = {row["arm"]: row for row in report["rows"] if row["task"] == task}
        if found:
            before, after = found["ImageNet"], found["ImageNet + galaxies"]
            order = [arm for arm in ("random", "galaxies", "ImageNet") if arm in found]
            order += [arm for arm in found if arm not in order]
            errors[f"{name} ({before['galaxies']:,})"] = {arm: found[arm]["error"] for arm in order}
            about = {"task": name, "errors removed": 100 * after["reduction"], "95 % interval": _interval(after)}
            scores = [[row.get(key) for row in (before, after)] for key in ("balanced_accuracy", "auc")]
            both = ["–" if None in pair else f"{pair[0]:.2f} to {pair[1]:.2f}" for pair in scores]
            gains.append(about | {"balanced accuracy": both[0], "AUC": both[1]})
    return pd.DataFrame(errors).rename_axis("features from").reset_index(), pd.DataFrame(gains)


def transfer_means(report: dict) -> pd.DataFrame:
    """Mean share of ImageNet's errors that is gone, over the tasks of the mean."""
    rows = []
    for row in report["means"]:
        inner = _interval({"low": row["low_these_tasks"], "high": row["high_these_tasks"]})
        rows.append([row["arm"], 100 * row["reduction"], _interval(row), inner])
    return pd.DataFrame(rows, columns=["features from", "errors removed", "over tasks like these", "on these tasks"])


def _interval(row: dict) -> str:
    return f"{100 * row['low']:.0f} to {100 * row['high']:.0f}".replace("-", "−")


def transfer_curves(report: dict) -> xr.DataArray:
    """Errors against labels, (task, start, n_train, seed), of the tasks and features that were measured with fewer."""
    return _label_curves([row for row in report["rows"] if row["few"]])


def size_curves(report: dict) -> xr.DataArray | None:
    """Errors against labels after galaxies, (task, encoder, n_train, seed), of encoders of several sizes."""
    rows = []
    for encoder in report.get("sizes") or []:
        after = [row for row in encoder["rows"] if row["arm"] != "ImageNet"]
        rows += [row | {"arm": _ENCODERS[encoder["encoder"]]} for row in after]
    return _label_curves(rows).rename(start="encoder") if rows else None


def size_table(report: dict) -> pd.DataFrame:
    """What galaxies add to encoders of several sizes, and what size adds; empty where it was not measured.

    Shares of errors [%] that are gone, means over the tasks of the mean, with their 95 % intervals over galaxies.
    """
    rows = []
    for encoder in report.get("sizes") or []:
        shares = {"by galaxies": encoder["galaxies"]}
        for arm, found in encoder.get("larger", {}).items():
            shares["by size, ImageNet" if arm == "ImageNet" else "by size, ImageNet + galaxies"] = found
        row = {"encoder": _ENCODERS[encoder["encoder"]], "parameters": encoder["parameters"] / 1e6}
        rows.append(row | {name: _share_gone(found) for name, found in shares.items()})
    return pd.DataFrame(rows).fillna("–")


def size_words(report: dict) -> str:
    """Whether larger encoders make fewer errors downstream, as a sentence, by intervals over galaxies."""
    said = []
    for encoder in (report.get("sizes") or [])[1:]:
        before, after = (_size_outcome(found) for found in encoder["larger"].values())
        said.append(f"{_ENCODERS[encoder['encoder']]} {before} with ImageNet's features and {after} after galaxies")
    if not said:
        return "Whether a larger encoder does better was not measured."
    return (
        f"Against EfficientNet-Lite0, and over the galaxies of these tasks alone, {'; '.join(said)}."
        f"{_size_labels_words(report['sizes'])} Each encoder saw galaxies once: the intervals do not hold how another"
        " training would turn out."
    )


def _size_labels_words(encoders: list[dict]) -> str:
    """How many labels galaxies save each encoder, as a sentence, where all were measured with fewer labels."""
    if not all(row["few"] for encoder in encoders for row in encoder["rows"]):
        return ""
    said = []
    for encoder in encoders:
        arms = ("ImageNet" if row["arm"] == "ImageNet" else "ImageNet + galaxies" for row in encoder["rows"])
        rows = [row | {"arm": arm} for row, arm in zip(encoder["rows"], arms, strict=True)]
        _, (mean, low, high) = labels_multiplier(_label_curves(rows))
        said.append(f"{_ENCODERS[encoder['encoder']]} {mean:.2f} times as many ({low:.2f} to {high:.2f})")
    tasks = len({row["task"] for row in encoders[0]["rows"]})
    return (
        " For the error reached after galaxies with half of the most labels, each needs with ImageNet's features, on"
        f" average over {tasks} task{'' if tasks == 1 else 's'} at least {', '.join(said[:-1])} and {said[-1]}."
    )


_ENCODERS = {f"tf_efficientnet_lite{i}": f"EfficientNet-Lite{i}" for i in range(3)}


def _on_these(found: dict) -> dict:
    return {"reduction": found["reduction"], "low": found["low_these_tasks"], "high": found["high_these_tasks"]}


def _share_gone(found: dict) -> str:
    return f"{_signed(found)} ({_interval(_on_these(found))})"


def _size_outcome(found: dict) -> str:
    row, ends = _on_these(found), f"{_interval(_on_these(found))} %"
    if row["low"] > 0:
        return f"makes {100 * row['reduction']:.0f} % fewer errors ({ends})"
    if row["high"] < 0:
        return f"makes {_more(row, 'errors ')}"
    return f"is not shown to differ (share of the errors gone: {_signed(row)} %, {ends})"


def _label_curves(rows: list[dict]) -> xr.DataArray:
    sizes = sorted({int(n) for row in rows for n in row["few"]})
    tasks, starts = ([*dict.fromkeys(row[name] for row in rows)] for name in ("task", "arm"))
    draws = max(len(errors) for row in rows for errors in row["few"].values())
    values = np.full((len(tasks), len(starts), len(sizes), draws), np.nan)
    for row in rows:
        for n, errors in row["few"].items():
            values[tasks.index(row["task"]), starts.index(row["arm"]), sizes.index(int(n)), : len(errors)] = errors
    coords = {"task": [REAL_TASKS[t] for t in tasks], "start": starts, "n_train": sizes, "seed": range(draws)}
    return xr.DataArray(values, coords, ["task", "start", "n_train", "seed"])


def transfer_slopes(report: dict, finetuned: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Errors from ImageNet and from ImageNet + galaxies, a row for each real task, for :func:`figures.slopes`."""
    ends = ["ImageNet", "ImageNet + galaxies"]
    error = {(row["task"], row["arm"]): row["error"] for row in report["rows"]}
    rows = {name: [error[task, end] for end in ends] for task, name in REAL_TASKS.items() if (task, ends[0]) in error}
    panels = {"linear probes, all labels": pd.DataFrame.from_dict(rows, "index", columns=ends)}
    if len(finetuned):
        panels["full finetuning, fewer labels"] = finetuned.dropna(subset=ends).set_index("task")[ends]
    return panels


def slopes_words(panels: dict[str, pd.DataFrame]) -> str:
    """On how many tasks errors fall from the first end to the second, by panel."""
    said = [f"{share(table.iloc[:, 1] < table.iloc[:, 0])} tasks ({name})" for name, table in panels.items()]
    return f"Errors fall on {' and on '.join(said)}."


def task_galaxies(task: str, galaxies: int, size: int = 64) -> tuple[np.ndarray, list[str]]:
    """Images (n, size, size, 3) of the first galaxies of a simulated task, and the name of each one's class."""
    drawn = simulate_task(task, np.arange(galaxies), seed=0, size=size)
    names = pd.DataFrame(drawn.labels)["label_name"]
    return drawn.images, names.str.replace("_", " ").tolist()


def encoded(images: np.ndarray, encoder: str, weights: str) -> np.ndarray:
    """Features of images, (n, num_features), each with mean 0 and deviation 1 over the images."""
    torch.manual_seed(0)  # of random weights
    network = load_encoder(encoder, weights, size=images.shape[1]).eval()
    with torch.inference_mode():
        parts = [network(to_float(torch.from_numpy(part).permute(0, 3, 1, 2))) for part in np.array_split(images, 8)]
    found = torch.cat(parts).numpy()
    return (found - found.mean(0)) / np.maximum(found.std(0), 1e-6)


def principal(features: np.ndarray) -> np.ndarray:
    """The first two principal components of standardised features, (n, 2)."""
    left, scale, _ = np.linalg.svd(features, full_matrices=False)
    return left[:, :2] * scale[:2]


def principal_words(features: dict[str, np.ndarray]) -> str:
    """How much of the scatter of standardised features the first two components hold, by the weights."""
    held = {name: principal(values).var(0).sum() / values.var(0).sum() for name, values in features.items()}
    said = " and ".join(f"{100 * share:.0f} % with {name}" for name, share in held.items())
    return f"The two components hold {said} of the variance of all features."


def nearest(features: np.ndarray, neighbours: int) -> np.ndarray:
    """Of each galaxy the others whose features have the most similar direction, nearest first, (n, neighbours)."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    likeness = unit @ unit.T
    np.fill_diagonal(likeness, -np.inf)
    return np.argsort(-likeness, axis=1, kind="stable")[:, :neighbours]


def neighbour_sheet(images: np.ndarray, classes: list[str], found: np.ndarray):
    """A row for one galaxy of each class: the galaxy, then its neighbours (of ``found``), those of its class framed."""
    queries = [classes.index(name) for name in sorted(set(classes))]
    widths = [2.0, 1, 0.15, *[1] * found.shape[1]]  # name, galaxy, a gap, neighbours
    figure, axes = plt.subplots(
        len(queries), len(widths), figsize=(0.87 * sum(widths), 0.87 * len(queries)), facecolor=NIGHT, squeeze=False,
        width_ratios=widths,
    )  # fmt: skip
    for row, query in zip(axes, queries, strict=True):
        row[0].text(1, 0.5, textwrap.fill(label_words(classes[query]), 17), color=STARLIGHT, ha="right", va="center")
        for axis, galaxy in zip(row[[1, *range(3, len(widths))]], [query, *found[query]], strict=True):
            axis.imshow(images[galaxy], interpolation="antialiased")
            if galaxy != query and classes[galaxy] == classes[query]:
                side = images.shape[1] - 1
                axis.plot([0, side, side, 0, 0], [0, 0, side, side, 0], color=STARLIGHT, linewidth=2.5)
        for axis in row:
            axis.set_axis_off()
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.99, 0.05, 0.05)
    return figure


def probe_reliability(features: np.ndarray, classes: list[str], tested: int) -> dict[str, Any]:
    """What a linear probe that learned from all but the first ``tested`` galaxies says of these.

    Returns
    -------
    dict
        ``bins`` of :func:`gzlib.training.loss.reliability`, ``calibration_error`` and ``error``, the share of galaxies
        in the wrong class.
    """
    labels = np.unique(classes, return_inverse=True)[1]
    predict, _ = fit_probe(features[tested:], labels[tested:], n_classes=int(labels.max()) + 1, seed=0)
    said = softmax(predict(features[:tested]).numpy(), axis=1)
    bins, calibration_error = reliability(said, labels[:tested])
    return {"bins": bins, "calibration_error": calibration_error, "error": (said.argmax(1) != labels[:tested]).mean()}


def reliability_words(found: dict[str, dict[str, Any]]) -> str:
    """How often probes are right, and how far what they say of themselves is off, by the weights of the encoder."""
    said = [
        f"with {name} the probe is right for {100 * (1 - one['error']):.0f} % of the galaxies, and what it says of"
        f" itself is off by {100 * one['calibration_error']:.0f} percentage points on average"
        for name, one in found.items()
    ]
    return f"{'; '.join(said)}.".capitalize()


def neighbour_words(classes: list[str], found: dict[str, np.ndarray]) -> str:
    """How many neighbours are of the galaxy's own class, by the weights of the encoder, and by chance."""
    of = np.array(classes)
    own = [f"{100 * np.mean(of[near] == of[:, None]):.0f} % with {name}" for name, near in found.items()]
    chance = np.mean([(np.sum(of == name) - 1) / (len(of) - 1) for name in of])
    n = next(iter(found.values())).shape[1]
    return (
        f"Of the {n} nearest neighbours of each of {len(of):,} galaxies, {' and '.join(own)} are of its own class; by"
        f" chance it would be {100 * chance:.0f} %."
    )


def labels_multiplier(curves: xr.DataArray) -> tuple[pd.DataFrame, tuple[float, float, float]]:
    """How many times the labels ImageNet needs for what ImageNet + galaxies reaches with half of the largest number.

    Returns
    -------
    table : DataFrame
        One row a task: ``labels``, ``error``, ``multiplier`` (a lower bound where ``reached`` is false).
    mean, low, high : float
        Over tasks, lower bounds taken as they are; the interval by a bootstrap over tasks and draws of labels.
    """

    def of(curve: xr.DataArray) -> tuple[int, float, float, bool]:
        mean = curve.mean("seed").dropna("n_train", how="any")
        sizes, half = mean.n_train.values, mean.sizes["n_train"] - 2
        target = float(mean.sel(start="ImageNet + galaxies").isel(n_train=half))
        imagenet = np.minimum.accumulate(mean.sel(start="ImageNet").values)  # more labels do no harm, but for noise
        needed = np.exp(np.interp(-target, -imagenet, np.log(sizes)))
        return int(sizes[half]), target, float(needed / sizes[half]), bool(target >= imagenet[-1])

    tasks = curves.task.values
    table = pd.DataFrame(
        [of(curves.sel(task=task)) for task in tasks], tasks, ["labels", "error", "multiplier", "reached"]
    )
    rng, means = np.random.default_rng(0), []
    for _ in range(_DRAWS // 4):
        found = []
        for task in rng.choice(tasks, len(tasks)):
            curve = curves.sel(task=task)
            found.append(of(curve.isel(seed=rng.integers(0, curve.sizes["seed"], curve.sizes["seed"])))[2])
        means.append(np.mean(found))
    low, high = np.quantile(means, [0.025, 0.975])
    return table.rename_axis("task"), (float(table["multiplier"].mean()), float(low), float(high))


def multiplier_table(table: pd.DataFrame) -> str:
    """The first result of :func:`labels_multiplier` as Markdown."""
    times = [
        f"{'' if reached else '≥ '}{value:.1f}"
        for value, reached in zip(*(table[c] for c in ("multiplier", "reached")), strict=True)
    ]
    return markdown_table(table[["labels", "error"]].assign(**{"times the labels": times}), floatfmt=".3f", intfmt=",")


def labels_words(multiplier: tuple[float, float, float]) -> str:
    """The second result of :func:`labels_multiplier` as a sentence, by the rule that was written before."""
    mean, low, high = multiplier
    outcome = "supported" if low > 1 else "undecided" if high > 1 else "refuted"
    return (
        f"On average over the tasks it needs {mean:.2f} times as many (95 % interval {low:.2f} to {high:.2f}; a lower"
        f" bound where a task gives no more). That pretraining on galaxies saves labels is {outcome}."
    )


def transfer_failures(report: dict) -> str:
    """Where features after simulated galaxies are no better than ImageNet's, as a sentence: tasks and intervals."""
    said = []
    for arm, name in {"ImageNet + galaxies": "ImageNet + galaxies", "galaxies": "galaxies alone"}.items():
        rows = [row for row in report.get("rows", ()) if row["arm"] == arm and row["low"] <= 0]
        if rows:
            of = [(*REAL_TASKS[row["task"]].split(", "), _interval(row)) for row in rows]
            said.append(f"{name} on {', '.join(f'{task} ({survey}: {ends} %)' for task, survey, ends in of)}")
    return f"Not shown to be better than ImageNet, by the share of errors removed: {'; '.join(said)}." if said else ""


def joined_words(report: dict) -> str:
    """How many of ImageNet's errors features joined with ImageNet's own remove, as a sentence."""
    from_ = {"ImageNet's weights": "ImageNet and ImageNet + galaxies, joined"}
    from_["random weights"] = "ImageNet and galaxies, joined"
    found = {row["arm"]: row for row in report.get("means", ())}
    said = [
        f"of a network that learned galaxies from {start} remove {100 * found[arm]['reduction']:.0f} % of the errors"
        f" ({_interval(found[arm])} %)"
        for start, arm in from_.items()
        if arm in found
    ]
    return f"Joined with ImageNet's own features, those {', and those '.join(said)}." if said else ""


EQUAL = 0.1  # rules.toml: a ratio of errors from 1 - EQUAL to 1 + EQUAL counts as equal
LEAST_DRAWS = 3


def full_table(report: dict) -> pd.DataFrame:
    """Linear probes against full finetuning on real galaxies, from ImageNet + galaxies and the same labels.

    Returns
    -------
    DataFrame
        One row a task that was measured: ``labels`` (the numbers of them that count), ``draws`` of labels, the mean
        errors ``linear`` and ``full``, their ``ratio`` (geometric mean over draws) with its 90 % interval ``low`` to
        ``high`` by Student's t over draws, and ``outcome`` by the rule in ``data/plans/rules.toml``.
    """
    rows = []
    for row in report.get("rows", ()):
        about, both, ratio = _paired(row.get("few", {}), row.get("full", {}))
        if row["arm"] != "ImageNet + galaxies" or not about["labels"]:
            continue
        draws = about["draws"]
        error = ratio.std(ddof=1) / np.sqrt(draws)
        ends = {level: ratio.mean() + error * stats.t.ppf([0.5 - level / 2, 0.5 + level / 2], draws - 1)
                for level in (0.9, 0.95)}  # fmt: skip
        low, high = np.exp(ends[0.9])
        apart = "better" if ends[0.95][1] < 0 else "worse" if ends[0.95][0] > 0 else "undecided"
        outcome = "equal" if low >= 1 - EQUAL and high <= 1 + EQUAL else apart
        rows.append(
            {"task": REAL_TASKS[row["task"]]}
            | about
            | dict(zip(("linear", "full"), both, strict=True))
            | {"ratio": float(np.exp(ratio.mean())), "low": low, "high": high, "outcome": outcome}
        )
    return pd.DataFrame(rows)


def _paired(first: dict[str, list], second: dict[str, list]) -> tuple[dict, np.ndarray, np.ndarray]:
    """Errors of two by number of labels, over the draws that both have: ``labels`` and ``draws``, means, ln(ratio)s.

    Means are over labels and draws, (2,); the ratios of the first's errors to the second's over labels, (draws,).
    """
    pairs = {n: (first[n], errors) for n, errors in second.items() if n in first}
    pairs = {n: pair for n, pair in pairs.items() if min(map(len, pair)) >= LEAST_DRAWS}
    if not pairs:
        return {"labels": "", "draws": 0}, np.full(2, np.nan), np.zeros(0)
    draws = min(len(errors) for pair in pairs.values() for errors in pair)
    both = np.array([[errors[:draws] for errors in pair] for pair in pairs.values()])  # (labels, 2, draws)
    about = {"labels": ", ".join(f"{int(n):,}" for n in pairs), "draws": draws}
    with np.errstate(divide="ignore"):  # of a draw without an error
        return about, both.mean(axis=(0, 2)), np.log(both[:, 0] / both[:, 1]).mean(axis=0)


def full_words(table: pd.DataFrame) -> str:
    """The result of :func:`full_table` as a sentence, by the rule that was written before."""
    if table.empty:
        return "On real galaxies this has not been measured."
    ratio = float(np.exp(np.log(table.ratio).mean()))
    return (
        f"On real galaxies a probe's error is {ratio:.2f} times that of full finetuning (geometric mean over"
        f" {len(table)} tasks); it is {full_short(table)}."
    )


def full_short(table: pd.DataFrame) -> str:
    """The same for a table of findings."""
    if table.empty:
        return "not measured"
    decided = table[table.outcome != "undecided"]
    good = decided.outcome.isin(["equal", "better"]).sum()
    said = "undecided" if decided.empty else "supported" if good >= 0.5 * len(decided) else "refuted"
    open_ = len(table) - len(decided)
    return f"as good or better on {good} of {len(decided)} decided tasks ({open_} of {len(table)} undecided): {said}"


def finetuned_table(report: dict) -> pd.DataFrame:
    """Full finetuning on real galaxies: errors from ImageNet that are gone from ImageNet + galaxies, same labels.

    Returns
    -------
    DataFrame
        One row a task that was measured from both, and a last one for their mean: ``labels``, ``draws`` of labels, mean
        errors ``ImageNet`` and ``ImageNet + galaxies``, the share of the errors ``removed`` (geometric mean over
        numbers of labels, mean over draws) with its 95 % interval ``low`` to ``high`` by Student's t over draws, which
        is not one over other tasks.
    """
    arms: dict[str, dict] = {"ImageNet": {}, "ImageNet + galaxies": {}}
    for row in report.get("rows", ()):
        if row["arm"] in arms and row.get("full"):
            arms[row["arm"]][row["task"]] = row["full"]
    rows, gone = [], []
    for task, start in arms["ImageNet"].items():
        about, both, ratio = _paired(start, arms["ImageNet + galaxies"].get(task, {}))
        if about["labels"]:
            gone.append(1 - np.exp(-ratio))
            row = {"task": REAL_TASKS[task]} | about | dict(zip(arms, both, strict=True))
            rows.append(row | _over_draws(gone[-1]))
    if len(rows) > 1:
        draws = min(map(len, gone))
        mean = _over_draws(np.mean([own[:draws] for own in gone], axis=0))
        rows.append({"task": f"mean of {len(rows)} tasks", "draws": draws} | mean)
    return pd.DataFrame(rows)


def _over_draws(values: np.ndarray) -> dict:
    half = values.std(ddof=1) / np.sqrt(len(values)) * stats.t.ppf(0.975, len(values) - 1)
    return {"removed": float(values.mean()), "low": float(values.mean() - half), "high": float(values.mean() + half)}


def finetuned_shown(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`finetuned_table` as a page shows it, shares in percent."""
    if table.empty:
        return table
    out = table.drop(columns=["removed", "low", "high"])
    out["errors removed"] = 100 * table.removed
    out["95 % interval"] = [_interval(dict(row)) for _, row in table.iterrows()]
    return out


def finetuned_words(table: pd.DataFrame) -> str:
    """The result of :func:`finetuned_table` as a sentence."""
    if table.empty:
        return "How the two do when all weights are trained has not been measured on real galaxies."
    row = dict(table.iloc[-1])
    return (
        f"With all weights trained, networks that saw galaxies after ImageNet make {100 * row['removed']:.0f} % fewer"
        f" errors than those that did not ({row['task']}, 95 % interval over draws of the labels {_interval(row)} %)."
    )


def finetuned_short(table: pd.DataFrame) -> str:
    """The same for a table of findings."""
    row = dict(table.iloc[-1]) if len(table) else None
    return "not measured" if row is None else f"{100 * row['removed']:.0f} % ({_interval(row)} %)"


def transfer_short(report: dict) -> str:
    """The headline on real galaxies for a table: the mean reduction, its interval, and the outcome by the rule."""
    row = next(row for row in report["means"] if row["arm"] == "ImageNet + galaxies")
    said = f"{100 * row['reduction']:.0f} % ({_interval(row)} %, {len(report['in_mean'])} tasks): {_outcome(row)}"
    return "; ".join([said, *(f"{name}: {_signed(row)} % ({_interval(row)} %)" for name, row in _exceptions(report))])


def _outcome(row: dict) -> str:
    return "supported" if row["low"] > 0 else "refuted" if row["high"] < 0 else "undecided"


def _exceptions(report: dict) -> list[tuple[str, dict]]:
    """Tasks on which further pretraining on galaxies is not shown to help ImageNet, those outside of the mean, too."""
    rows = [row for row in report["rows"] if row["arm"] == "ImageNet + galaxies" and row["low"] <= 0]
    return [("{} ({})".format(*REAL_TASKS[row["task"]].split(", ")), row) for row in rows]


def _signed(row: dict) -> str:
    return f"{100 * row['reduction']:.0f}".replace("-", "−")


def transfer_words(report: dict) -> str:
    """The headline on real galaxies as a sentence, by the rule that was written before (``data/plans/rules.toml``).

    A task on which the networks are worse, or not shown to be better, is named with it.
    """
    if not report:
        return "On real galaxies this has not been measured."
    row = next(row for row in report["means"] if row["arm"] == "ImageNet + galaxies")
    tasks = len(report["in_mean"])
    but = " and ".join(_exception(*one, report["in_mean"]) for one in _exceptions(report))
    return (
        f"On {tasks} sets of real galaxies, networks pretrained on ImageNet and then on simulated galaxies make"
        f" {100 * row['reduction']:.0f} % fewer errors than on ImageNet alone (linear probes; 95 % interval over tasks"
        f" {_interval(row)} %; the paper: 31 %): {_outcome(row)}{f', though {but}' if but else ''}."
    )


def _exception(name: str, row: dict, in_mean: list[str]) -> str:
    where = f"on {name}" if row["task"] in in_mean else f"on a further set, {name},"
    if row["high"] >= 0:
        return f"{where} undecided ({_interval(row)} %)"
    return f"{where} they make {_more(row)}"


def _more(row: dict, what: str = "") -> str:
    """How many errors more a row makes that removes fewer than none."""
    ends = {"low": -row["high"], "high": -row["low"]}
    return f"{-100 * row['reduction']:.0f} % more {what}({_interval(ends)} %)"


def example_catalogue() -> tuple[str, str]:
    """The committed catalogue of 360 simulated galaxies: a table with classes and votes, image files, a decision tree.

    Returns
    -------
    catalogue, tree : str
        Paths of the folder and of the tree's file, from where the chapter runs.
    """
    input_files(f"{EXAMPLE}/*.*")
    input_files(f"{EXAMPLE}/images/*")
    folder = Path(os.path.relpath(paths.project() / EXAMPLE)).as_posix()
    return folder, f"{folder}/tree.json"
