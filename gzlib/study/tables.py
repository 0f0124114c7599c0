"""Tables of the chapters: what the stored benchmarks measured, words for counts, and strangers' words in pages."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from tabulate import tabulate

from gzlib import paths
from gzlib.errors import UserError
from gzlib.sky import sky_identity
from gzlib.trace import input_files
from gzlib.training import stored_records
from gzlib.training.card import words


def in_words(yes, noun):
    """What a count says: ``yes``, an array of bools, one for each thing that ``noun`` (plural) names.

    "yes: all 20 questions", "no: none of 20 questions", "in part: 8 of 20 questions".
    """
    yes = np.asarray(yes, bool).reshape(-1)
    if not yes.size:
        return f"not tested: there are no {noun}"
    count = int(yes.sum())
    if count == yes.size:
        return f"yes: all {count} {noun}"
    return f"no: none of {yes.size} {noun}" if not count else f"in part: {count} of {yes.size} {noun}"


def note_table(text: str) -> str:
    """A sentence as a table of one cell: what a numbered table shows when there is nothing to tabulate."""
    return f"|   |\n|:--|\n| {text} |"


def markdown_table(frame: pd.DataFrame, *, index: bool = True, **options) -> str:
    """A table as Markdown, in which every text, the headings' too, is shown as it is (:func:`words`).

    Parameters
    ----------
    frame : DataFrame
    index : bool
        Whether the index makes the first columns.
    **options
        Of ``tabulate``: ``floatfmt``, ``intfmt``, ``disable_numparse``, ...
    """
    heads, columns = list(frame.columns), [list(frame.iloc[:, place]) for place in range(frame.shape[1])]
    if index:
        heads = ["" if name is None else name for name in frame.index.names] + heads
        columns = [list(frame.index.get_level_values(i)) for i in range(frame.index.nlevels)] + columns
    texts = [i for i, column in enumerate(columns) if column and all(isinstance(v, str) for v in column)]
    if options.get("disable_numparse") is not True:  # a name such as 007 is no number
        options["disable_numparse"] = sorted({*texts, *(options.get("disable_numparse") or ())})
    rows = [[words(value) if isinstance(value, str) else value for value in row] for row in zip(*columns, strict=True)]
    return tabulate(rows, [words(name) for name in heads], tablefmt="pipe", **options)


COLUMNS = ["name", "value", "unit", "goal", "ok", "detail"]


def measured(name: str, columns=COLUMNS, *, part: str | None = None) -> pd.DataFrame:
    """Rows of ``data/benchmarks/<name>.json`` as a table; empty if the file is not there.

    Parameters
    ----------
    columns : list of str
        By default those of every benchmark that ``gzlib bench`` lists.
    part : str, optional
        Only the rows whose ``part`` is this.

    Raises
    ------
    UserError
        If the file holds no rows of that form.
    """
    files = input_files(f"data/benchmarks/{name}.json")
    if not files:
        return pd.DataFrame(columns=columns)
    try:
        content = json.loads(files[0].read_text(encoding="utf-8"))
        rows = content["rows"] if isinstance(content, dict) else content
        rows = [[row[column] for column in columns] for row in rows if part is None or row["part"] == part]
        return pd.DataFrame(rows, columns=columns)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"data/benchmarks/{name}.json does not hold the rows of a benchmark ({type(error).__name__}: {error}): "
            f"make it again with `benchmarks/{name}.py`."
        ) from error


_SURVEYS = {"gz2": "GZ2", "decals": "DECaLS", "sdss": "SDSS, never looked at"}


def reports(name: str) -> list[dict]:
    """Records of ``data/benchmarks/<name>.json``.

    Raises
    ------
    UserError
        If the report is not there.
    """
    files = input_files(f"data/benchmarks/{name}.json")
    if not files:
        raise UserError(
            f"data/benchmarks/{name}.json is missing; run `python benchmarks/{name}.py --write` to make it."
        )
    try:
        rows = json.loads(files[0].read_text(encoding="utf-8"))
        if not isinstance(rows, list) or any(not isinstance(row["detail"], dict) or "value" not in row for row in rows):
            raise TypeError("no list of rows with 'value' and 'detail'")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"data/benchmarks/{name}.json does not hold the rows of a report ({type(error).__name__}: {error}); restore"
            f" it from git, or make it again with `benchmarks/{name}.py --write`."
        ) from None
    return rows


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


def pictures_table() -> pd.DataFrame:
    """AUC of a classifier that tells two sets of pictures apart, one row for each pair, one column for each view.

    The rows of simulated pictures come first, then those of the sky's version before this one and, as yardsticks, real
    pictures against real ones. ``fresh encoder`` is by an encoder with which no constant of the sky was set.
    """
    now, before, yardsticks = {}, {}, {}
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
        (now if this else before)[pair] = row
        if this:
            half = detail["auc_real_half_against_half"]
            yardsticks[f"{_SURVEYS[survey]}: real, one half against the other"] = {"full": half}
    return pd.DataFrame.from_dict(now | before | yardsticks, orient="index").rename_axis("pictures")


_MEASURES = {
    "neighbours": "neighbours",
    "neighbour_width": "their width [px]",
    "neighbour_axis_ratio": "their axis ratio",
    "core_width": "width of the core [px]",
    "axis_ratio": "axis ratio",
    "asymmetry": "asymmetry",
    "colour": "red minus blue",
    "detail_2_4": "structure of 2 to 4 px",
    "sky_detail_2_4": "noise of 2 to 4 px",
}


def structure_table() -> pd.DataFrame:
    """Medians of what 128 px pictures show, real and simulated, by this version of the sky and the one before."""
    rows = {}
    for record in reports("sky_realism"):
        if record["name"].startswith("sky.structure."):
            survey = _SURVEYS[record["name"].rsplit(".", 1)[1]]
            version = "simulated" if record["detail"]["sky"] == sky_identity() else "version before"
            for measure, words in _MEASURES.items():
                found = record["detail"]["measures"][measure]
                rows.setdefault((survey, words), {})["real"] = found["real"][0]
                rows[survey, words][version] = found["simulated"][0]
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["survey", "measure"])


def transfer_table() -> pd.DataFrame:
    """Errors of linear probes on real classes, one row for each real set and start of the encoder.

    Without a report there is one row of "not measured": that benchmark takes an hour of a processor for each sky.
    """
    rows = {}
    for record in reports("sky_transfer") if input_files("data/benchmarks/sky_transfer.json") else []:
        detail = record["detail"]
        if "imagenet" in detail:
            rows[record["name"].removeprefix("sky.transfer.").replace("_", " "), detail["start"]] = {
                "ImageNet": detail["imagenet"],
                "sky": detail["sky"],
                "both joined": detail["joined"],
                "errors removed": record["value"],
                "standard error": detail["standard_error"],
                "version": "this" if detail.get("sky") == sky_identity() else "before",
            }
    rows = rows or {("all", "any"): {"errors removed": "not measured"}}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["real set", "start"])


def transfer_words(table: pd.DataFrame) -> str:
    """The outcome of :func:`transfer_table` as a sentence."""
    starts = table.index.get_level_values("start")
    if "imagenet" not in starts:
        return "For the present version of the sky this has not been measured."
    measured = table[starts == "imagenet"]
    removed = measured["errors removed"]
    before = (
        " This was measured with the sky's version before this one." if "before" in set(measured["version"]) else ""
    )
    return (
        f"With ImageNet's features and those from ImageNet and the sky joined, {100 * removed.mean():.0f} % of"
        f" ImageNet's errors vanish, on average over the {len(removed)} sets.{before}"
    )


def listed_runs() -> list[dict]:
    """The runs that the book lists: those of the store that the build names, else the book's own."""
    return stored_records(store=None if "GZLIB_STORE" in os.environ else paths.BOOK_RUNS)


PROVENANCE = (
    "key", "kind", "what", "mode", "encoder", "weights", "n", "seed", "result", "survey", "seconds", "device", "torch",
    "timm", "python", "git",
)  # fmt: skip


def provenance(records: list[dict]) -> pd.DataFrame:
    """One row a run, for the chapter that lists them all: what it was, its result, where and with what it was made.

    ``what`` is the task of a downstream run, else the survey; ``result`` the test loss of a pretraining run, the test
    error of a downstream one; ``survey`` and ``git`` begin the fingerprint and the commit.
    """
    rows = []
    for record in records:
        config, made = record["config"], record["provenance"]
        row = {"key": record["key"], "kind": record["kind"], "n": config["n_train"]}
        row |= {name: config.get(name, "") for name in ("mode", "encoder", "weights", "seed")}
        row |= {name: made.get(name) or "" for name in ("device", "torch", "timm", "python")}
        row["seconds"] = made["seconds"]
        row["what"] = config.get("task", record["survey"]["source"])
        row["result"] = record["metrics"]["loss" if record["kind"] == "pretrain" else "error"]
        rows.append(row | {"survey": record["survey"]["fingerprint"][:8], "git": (made.get("git") or "")[:7]})
    return pd.DataFrame(rows, columns=list(PROVENANCE))


FAULTS = "data/faults.json"  # what the tests marked `fault` found, by kind of input and outcome


def fault_table() -> pd.DataFrame:
    """Inputs as people have them: kind, outcome, and how many cases there are and passed.

    A project without tests, as a copy of the book's pages is, shows the results as they are stored.

    Raises
    ------
    UserError
        If there are no stored results, or they are not of the tests that there are now.
    """
    tests = input_files("tests/**/*fault*.py")  # whoever changes them makes the table stale
    if not (files := input_files(FAULTS)):
        raise UserError(f"'{FAULTS}' is missing; run: python -m pytest -m fault --faults {FAULTS}")
    stored = pd.DataFrame(json.loads(files[0].read_text(encoding="utf-8")))
    if not tests:
        return stored
    columns = ["kind", "outcome", "cases"]
    found = pd.DataFrame(collected_faults(), columns=[*columns, "passed", "skipped"])
    if stored[columns].values.tolist() != found[columns].values.tolist():
        raise UserError(
            f"'{FAULTS}' is not of the tests that there are now; run: python -m pytest -m fault --faults {FAULTS}"
        )
    return stored


def collected_faults() -> list[dict]:
    """What the marks of the tests say, without running a test."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "faults.json"
        command = [sys.executable, "-m", "pytest", "-m", "fault", "--collect-only", "-q", "--faults", str(file)]
        done = subprocess.run(command, cwd=paths.project(), capture_output=True, text=True, check=False)
        if done.returncode or not file.is_file():
            lines = (done.stderr or done.stdout).strip().splitlines()
            raise UserError(f"The tests could not be collected ({lines[-1] if lines else 'no reason given'}).")
        return json.loads(file.read_text(encoding="utf-8"))
