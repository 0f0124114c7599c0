"""A curated survey: its folder, its splits, and the `xarray.Dataset` that it opens as."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import xarray as xr
from pydantic import BaseModel, Field

from gzlib.data.schema import load_schema
from gzlib.errors import NotWritten, UserError
from gzlib.files import FilePath, misfit, read_checked, replace_file
from gzlib.identity import content_hash, file_hash

VERIFIED = "verified.json"  # states of files that were compared with their checksums
SPLITS = ("train", "val", "test")
TEST, VAL = 0.2, 0.1  # of all galaxies; the rest trains
VAL_OF_REST = 0.2  # of the galaxies outside a published test set, as Galaxy Zoo Evo's baselines do
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
}


def hash_fraction(id_str: str, salt: str = "") -> float:
    """A number in [0, 1) that depends on the id (and salt) alone: the leading 60 bits of its sha256."""
    return int(hashlib.sha256((salt + id_str).encode()).hexdigest()[:15], 16) / 16**15


def assign_split(id_str: str, published: str, mode: str) -> str:
    """``train``, ``val`` or ``test`` for one galaxy.

    With mode ``hash`` 70 / 10 / 20 % by the hash of the id. With ``source`` a galaxy that its authors test or validate
    on stays there, and the hash gives 20 % of the others to ``val``; with ``published`` all stay where they are, and
    one without a side trains.
    """
    fraction = hash_fraction(id_str)
    if mode == "hash":
        return "test" if fraction < TEST else "val" if fraction < TEST + VAL else "train"
    side = SPLIT_WORDS.get(published.strip().lower(), "")
    if side in ("test", "val"):
        return side
    if mode == "published":
        return "train"
    return "val" if fraction < VAL_OF_REST else "train"


def seeded_order(ids: np.ndarray, seed: int) -> np.ndarray:
    """(n,) int64: indices of the ids in an order that depends on each id and the seed alone.

    Adding galaxies keeps the order of those already there, so training subsets of a survey that grew keep theirs.
    """
    salt = f"{seed}:".encode()
    keys = [hashlib.blake2b(salt + str(i).encode(), digest_size=16).digest() for i in ids]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


def is_survey(folder: Path) -> bool:
    """Whether a folder is a complete curated survey: its report is written last."""
    return (folder / "survey.json").is_file()


class _Counts(BaseModel):
    galaxies: int
    splits: dict[str, int] = {}


class _AnyReport(BaseModel):
    """What the code relies on in a ``survey.json`` of any version; what else it holds is for reading."""

    fingerprint: str
    source: str
    counts: _Counts
    sha256: dict[str, str]


class _Report(_AnyReport):
    """The same of this version's, which has ``parts``."""

    parameters: dict[str, Any]
    simulated: bool
    parts: list[dict[str, Any]]
    tree: str = Field(alias="schema")
    labels: dict[str, str]


def read_report(folder: Path) -> dict[str, Any]:
    """A survey's ``survey.json``.

    Raises
    ------
    UserError
        If there is none, or it is damaged.
    """
    if not is_survey(folder):
        raise UserError(
            f"'{folder}' is not a curated survey (it has no survey.json); make one with"
            " `python -m gzlib curate SOURCE --out DIR --size 64`."
        )
    file, cure = folder / "survey.json", "delete the folder and curate again"
    report = read_checked(file, _AnyReport, what="the report of a curated survey", cure=cure)
    if "parts" in report and (problem := misfit(report, _Report)):
        raise UserError(f"'{file}' is not the report of a curated survey ({problem}); {cure}.")
    return report


def tree_hash(schema: str) -> str | None:
    """Hash of the content of a decision tree, by the name that :func:`load_schema` takes; None for "" (no votes)."""
    return content_hash(load_schema(schema).records()) if schema else None


def is_current(report: dict[str, Any], folder: Path) -> bool:
    """Whether a survey was curated by this version, with the decision tree that its votes still follow."""
    return "parts" in report and report.get("tree_sha256") == tree_hash(_schema(report, folder))


def _schema(report: dict[str, Any], folder: Path) -> str:
    """What names a survey's decision tree to :func:`load_schema`: its own copy of a user's file, or campaigns."""
    return str(folder / report["tree"]) if "tree" in report else report["schema"]


def describe_galaxies(parts: Sequence[Mapping[str, Any]]) -> str:
    """What a survey's galaxies are, for captions: ``simulated galaxies``, ``galaxies of PATH``, or both.

    Parameters
    ----------
    parts : sequence of dict
        ``source`` and ``simulated`` of each part, as a survey's and a run's records have them.
    """
    real = list(dict.fromkeys(part["source"] for part in parts if not part["simulated"]))
    words = ["simulated galaxies"] if len(parts) > len([p for p in parts if not p["simulated"]]) else []
    words += [f"galaxies of {', '.join(real)}"] if real else []
    return " and ".join(words)


ARRAYS = ("images.npy", "catalog.parquet", "truth.parquet")  # files whose content a survey's checksums cover


def file_states(folder: Path) -> dict[str, list[int]]:
    """Size and time of change of each of a survey's files."""
    found = {name: (folder / name).stat() for name in ARRAYS if (folder / name).is_file()}
    return {name: [status.st_size, status.st_mtime_ns] for name, status in found.items()}


def verify_survey(folder: FilePath) -> dict[str, Any]:
    """Compare every byte of a curated survey with its checksums; its report.

    Raises
    ------
    UserError
        If a file is missing or was changed.
    """
    folder = Path(folder)
    report = read_report(folder)
    for name, expected in report["sha256"].items():
        file = folder / ("images.npy" if name == "pixels" else name)
        try:
            actual = _pixel_hash(file) if name == "pixels" else file_hash(file)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"Survey '{folder}' is damaged ({error}); curate it again with --force.") from None
        if actual != expected:
            raise UserError(
                f"Survey '{folder}' is damaged: {file.name} is not what was curated (its SHA-256 differs); curate it"
                " again with --force."
            )
    with suppress(OSError, NotWritten):  # a read-only place: it is verified again next time
        replace_file(folder / VERIFIED, json.dumps(file_states(folder)))
    return report


def _pixel_hash(file: Path) -> str:
    images, pixels = np.load(file, mmap_mode="r", allow_pickle=False), hashlib.sha256()
    for start in range(0, len(images), 4096):
        pixels.update(np.ascontiguousarray(images[start : start + 4096]).data)
    return pixels.hexdigest()


def _verify_changed(folder: Path, report: dict[str, Any]) -> None:
    """Verify a survey whose files have another size or time than when they were made or verified last."""
    now = file_states(folder)
    if now == report.get("files"):
        return
    try:
        verified = json.loads((folder / VERIFIED).read_text())
    except (OSError, ValueError):
        verified = None
    if now != verified:
        verify_survey(folder)


WHO_AND_WHERE = ("id_str", "dataset_name", "ra", "dec", "split")


def open_survey(folder: FilePath) -> xr.Dataset:
    """Open a curated survey; the images stay on the disk until they are indexed.

    Parameters
    ----------
    folder : path
        As :func:`gzlib.data.curation.curate` returns it.

    Returns
    -------
    xarray.Dataset
        ``images`` (galaxy, y, x, band) uint8, memory-mapped; ``votes`` (galaxy, answer) int32 if the survey has a
        decision tree; other labels on ``galaxy``. Coordinates ``id_str``, ``dataset_name``, ``ra``, ``dec`` [deg, NaN
        if unknown] and ``split`` on ``galaxy``, ``answer`` (label columns) and ``band``. Attributes ``fingerprint``,
        ``schema`` ("" if none), ``source``, ``simulated`` (0 or 1, whether all galaxies are) and ``kind`` (what they
        are, in words).

    Raises
    ------
    UserError
        If the folder is not a curated survey or its files do not fit together.
    """
    folder = Path(folder)
    report = read_report(folder)
    try:
        images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
        table = pq.read_table(folder / "catalog.parquet")
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"Survey '{folder}' is damaged ({error}); delete it and curate again.") from None
    if not len(images) == len(table) == report["counts"]["galaxies"]:
        raise UserError(
            f"Survey '{folder}' is damaged: {len(images)} images, {len(table)} catalogue rows,"
            f" {report['counts']['galaxies']} reported galaxies; delete it and curate again."
        )
    if not is_current(report, folder):
        raise UserError(
            f"Survey '{folder}' was curated by an earlier version, or with another decision tree"
            f" '{report['schema']}' than there is now; curate it again."
        )
    _verify_changed(folder, report)
    coords: dict[str, Any] = {name: ("galaxy", _values(table, name)) for name in WHO_AND_WHERE}
    coords["band"] = ["red", "green", "blue"]
    variables: dict[str, Any] = {"images": (("galaxy", "y", "x", "band"), images)}
    if report["schema"]:
        answers = load_schema(_schema(report, folder)).label_cols
        votes = np.empty((len(table), len(answers)), np.int32)
        for position, answer in enumerate(answers):
            votes[:, position] = _values(table, answer)
        variables["votes"] = (("galaxy", "answer"), votes)
        coords["answer"] = answers
    for column in report["labels"]:
        variables[column] = ("galaxy", _values(table, column))
    attrs = {name: report[name] for name in ("fingerprint", "source")} | {"schema": _schema(report, folder)}
    attrs |= {"simulated": int(report["simulated"]), "kind": describe_galaxies(report["parts"])}
    attrs["not_used"] = "; ".join(note for note in report.get("notes", []) if note.startswith("columns of "))
    return xr.Dataset(variables, coords, attrs)


def _values(table: pa.Table, column: str) -> np.ndarray:
    values: np.ndarray = table.column(column).to_numpy()
    return values.astype(str) if values.dtype == object else values


def open_truth(folder: FilePath) -> pd.DataFrame:
    """What the galaxies of a simulated survey really are, row for row with the survey.

    Raises
    ------
    UserError
        If the survey is real.
    """
    path = Path(folder) / "truth.parquet"
    if not read_report(Path(folder))["simulated"]:
        raise UserError(f"Survey '{folder}' holds real galaxies, whose true properties are unknown.")
    return pd.read_parquet(path)


def label_values(survey: xr.Dataset, column: str) -> np.ndarray:
    """(galaxies,) labels of a survey: a column, or ANSWER_fraction, the share of its question's votes that it has.

    Galaxies without a label hold NaN, or "" in a column of text; so does a fraction where the question was not asked.

    Raises
    ------
    UserError
        If there is no such column.
    """
    if column in survey and survey[column].dims == ("galaxy",):
        return survey[column].values
    answer = column.removesuffix("_fraction")
    if answer != column and "answer" in survey.coords and answer in survey.answer.values:
        schema = load_schema(survey.attrs["schema"])
        place = schema.label_cols.index(answer)
        question = schema.questions[schema.question_of_answer[place]]
        votes: np.ndarray = survey.votes.values
        with np.errstate(invalid="ignore"):
            share: np.ndarray = votes[:, place] / votes[:, question.columns].sum(axis=1).astype(float)
        return share
    known = [str(name) for name in survey.data_vars if survey[name].dims == ("galaxy",)]
    answers = [f"{answer}_fraction" for answer in survey.answer.values] if "votes" in survey else []
    if why := re.search(rf"[:,] {re.escape(column)} \((.*?)\)(?:, |;|$)", survey.attrs.get("not_used", "")):
        raise UserError(f"Column '{column}' of '{survey.attrs['source']}' is not a label: {why[1]}.")
    if column == "votes":
        raise UserError(
            f"The survey of '{survey.attrs['source']}' has no votes: its table has no vote columns of a known campaign."
            " Curate it with --schema and a JSON file of its decision tree, or choose a column with --label."
        )
    near = get_close_matches(column, [*known, *answers], 1)
    shown = [*known[:12], *answers[:1]]
    more = " and more" if len(known) + len(answers) > len(shown) else ""
    hint = f"did you mean '{near[0]}'" if near else f"it has {', '.join(shown) or 'none'}{more}"
    raise UserError(f"The survey has no label column '{column[:80]}' ({hint}).")


def labelled(survey: xr.Dataset, column: str) -> np.ndarray:
    """(galaxies,) bool: which galaxies have a label, see :func:`label_values`; of ``votes``, which have any."""
    if column == "votes" and "votes" in survey:
        return np.asarray(survey.votes.values.sum(axis=1) > 0)
    values = label_values(survey, column)
    return np.asarray(values != "" if values.dtype.kind in "UO" else ~np.isnan(values))


def training_subset(survey: xr.Dataset, n: int, *, seed: int, among: np.ndarray | None = None) -> np.ndarray:
    """Indices of ``n`` training galaxies: the beginning of one seeded permutation of the ``train`` split.

    A smaller subset is part of every larger one with the same seed; the permutation sorts by a hash of id and seed.

    Parameters
    ----------
    among : (galaxies,) bool, optional
        Which galaxies can be trained on, such as those with a label.

    Returns
    -------
    (n,) int64

    Raises
    ------
    UserError
        If the survey has fewer training galaxies.
    """
    train = np.flatnonzero((survey["split"].values == "train") & (True if among is None else among))
    if not len(train):
        what = "" if among is None or among.all() else " with a label"
        raise UserError(f"The survey of '{survey.attrs['source']}' has no training galaxies{what}; curate more.")
    if not 0 < n <= len(train):
        raise UserError(
            f"{n} training galaxies are wanted, but the survey of '{survey.attrs['source']}' has {len(train)}"
            f"{'' if among is None or among.all() else ' with a label'};"
            f" {'choose fewer or curate more' if n > 0 else 'choose 1 or more'}."
        )
    chosen: np.ndarray = train[seeded_order(survey["id_str"].values[train], seed)[:n]]
    return chosen
