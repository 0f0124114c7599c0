"""A curated survey: its folder, its splits, and the `xarray.Dataset` that it opens as."""

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet as pq
import xarray as xr

from gzlib.data.schema import load_schema
from gzlib.errors import UserError
from gzlib.identity import content_hash

SPLITS = ("train", "val", "test")
TEST, VAL = 0.2, 0.1  # of all galaxies; the rest trains
VAL_OF_REST = 0.2  # of the galaxies outside a published test set, as Galaxy Zoo Evo's baselines do
PUBLISHED = {"train": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}


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
    side = PUBLISHED.get(published.lower(), "")
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


def read_report(folder: Path) -> dict:
    """A survey's ``survey.json``.

    Raises
    ------
    UserError
        If there is none, or it is damaged.
    """
    if not is_survey(folder):
        raise UserError(
            f"'{folder}' is no curated survey (it has no survey.json); make one with"
            " `python -m gzlib curate SOURCE --out DIR --size 64`."
        )
    try:
        return json.loads((folder / "survey.json").read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"Survey '{folder}' has a damaged survey.json ({error}); delete it and curate again.") from None


def tree_hash(schema: str) -> str | None:
    """Hash of the content of a decision tree, by the name that :func:`load_schema` takes; None for "" (no votes)."""
    return content_hash(load_schema(schema).records()) if schema else None


def is_current(report: dict) -> bool:
    """Whether a survey was curated by this version, with the decision tree that its votes still follow."""
    return "parts" in report and report.get("tree_sha256") == tree_hash(report["schema"])


def describe_galaxies(parts: list[dict]) -> str:
    """What a survey's galaxies are, for captions: ``simulated galaxies``, ``galaxies of PATH``, or both.

    Parameters
    ----------
    parts : list of dict
        ``source`` and ``simulated`` of each part, as a survey's and a run's records have them.
    """
    real = list(dict.fromkeys(part["source"] for part in parts if not part["simulated"]))
    words = ["simulated galaxies"] if len(parts) > len([p for p in parts if not p["simulated"]]) else []
    words += [f"galaxies of {', '.join(real)}"] if real else []
    return " and ".join(words)


def refuse_foreign(folder: Path, text: str, parameters: dict):
    """Refuse a folder that holds anything but an older survey from the same source with the same parameters."""
    if not folder.exists():
        return
    if not is_survey(folder):
        if not folder.is_dir() or any(folder.iterdir()):
            raise UserError(f"'{folder}' holds something else than a curated survey; choose another folder.")
        return
    report = read_report(folder)
    if report["source"] != text or report["parameters"] != parameters:
        raise UserError(
            f"'{folder}' holds another survey (of '{report['source']}', {report['parameters']['size']} px);"
            " delete it or choose another folder."
        )


@contextmanager
def building_place(folder: Path, is_current: Callable[[], bool]) -> Iterator[Path]:
    """A folder to build a survey in; on success it becomes ``folder``, on failure it vanishes.

    Two processes that build the same survey do not disturb each other: the one that ends later keeps the other's.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _clean_up(folder)
    place = _beside(folder, "building")
    place.mkdir()
    try:
        yield place
        if not is_current():
            _replace(place, folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f".{folder.name}.{what}-{socket.gethostname()}-{os.getpid()}")


def _replace(place: Path, folder: Path):
    old = _beside(folder, "old")
    if folder.exists():
        os.replace(folder, old)
    os.replace(place, folder)
    shutil.rmtree(old, ignore_errors=True)


def _clean_up(folder: Path):
    """Remove what processes of this machine left behind when they were killed."""
    start = f".{folder.name}."
    for leftover in folder.parent.glob(f"{start}*-{socket.gethostname()}-*"):
        pid = leftover.name.rsplit("-", 1)[-1]
        ours = leftover.name.startswith(start) and pid.isdigit()
        if ours and (int(pid) == os.getpid() or not psutil.pid_exists(int(pid))):
            shutil.rmtree(leftover, ignore_errors=True)


WHO_AND_WHERE = ("id_str", "dataset_name", "ra", "dec", "split")


def open_survey(folder) -> xr.Dataset:
    """Open a curated survey; the pictures stay on the disk until they are indexed.

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
        If the folder is no curated survey or its files do not fit together.
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
            f"Survey '{folder}' is damaged: {len(images)} pictures, {len(table)} catalogue rows,"
            f" {report['counts']['galaxies']} reported galaxies; delete it and curate again."
        )
    if not is_current(report):
        raise UserError(
            f"Survey '{folder}' was curated by an earlier version, or with another decision tree"
            f" '{report['schema']}' than there is now; curate it again."
        )
    coords = {name: ("galaxy", _values(table, name)) for name in WHO_AND_WHERE}
    coords["band"] = ["red", "green", "blue"]
    variables = {"images": (("galaxy", "y", "x", "band"), images)}
    if report["schema"]:
        answers = load_schema(report["schema"]).label_cols
        votes = np.empty((len(table), len(answers)), np.int32)
        for position, answer in enumerate(answers):
            votes[:, position] = _values(table, answer)
        variables["votes"] = (("galaxy", "answer"), votes)
        coords["answer"] = answers
    for column in report["labels"]:
        variables[column] = ("galaxy", _values(table, column))
    attrs = {name: report[name] for name in ("fingerprint", "schema", "source")}
    attrs |= {"simulated": int(report["simulated"]), "kind": describe_galaxies(report["parts"])}
    return xr.Dataset(variables, coords, attrs)


def _values(table, column: str) -> np.ndarray:
    values = table.column(column).to_numpy()
    return values.astype(str) if values.dtype == object else values


def open_truth(folder) -> pd.DataFrame:
    """What the galaxies of a simulated survey really are, row for row with the survey.

    Raises
    ------
    UserError
        If the survey is real.
    """
    path = Path(folder) / "truth.parquet"
    if not read_report(Path(folder))["simulated"]:
        raise UserError(f"Survey '{folder}' holds real galaxies: nobody knows the truth about them.")
    return pd.read_parquet(path)


def training_subset(survey: xr.Dataset, n: int, *, seed: int) -> np.ndarray:
    """Indices of ``n`` training galaxies: the beginning of one seeded permutation of the ``train`` split.

    A smaller subset is part of every larger one with the same seed; the permutation sorts by a hash of id and seed.

    Returns
    -------
    (n,) int64

    Raises
    ------
    UserError
        If the survey has fewer training galaxies.
    """
    train = np.flatnonzero(survey["split"].values == "train")
    if not 0 < n <= len(train):
        raise UserError(
            f"{n} training galaxies are wanted, but the survey of '{survey.attrs['source']}' has {len(train)};"
            " choose fewer or curate more."
        )
    return train[seeded_order(survey["id_str"].values[train], seed)[:n]]
