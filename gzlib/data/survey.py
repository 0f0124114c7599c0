"""A curated survey as an ``xarray.Dataset``, its truth, and nested training subsets."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import xarray as xr

from gzlib.data.place import read_report
from gzlib.data.schema import load_schema
from gzlib.data.splits import seeded_order
from gzlib.errors import UserError

WHO_AND_WHERE = ("id_str", "dataset_name", "ra", "dec", "split")


def open_survey(folder) -> xr.Dataset:
    """Open a curated survey; the pictures stay on the disk until they are indexed.

    Parameters
    ----------
    folder : path
        As :func:`gzlib.data.curate.curate` returns it.

    Returns
    -------
    xarray.Dataset
        ``images`` (galaxy, y, x, band) uint8, memory-mapped; ``votes`` (galaxy, answer) int32 if the survey has a
        decision tree; other labels on ``galaxy``. Coordinates ``id_str``, ``dataset_name``, ``ra``, ``dec`` [deg, NaN
        if unknown] and ``split`` on ``galaxy``, ``answer`` (label columns) and ``band``. Attributes ``fingerprint``,
        ``schema`` ("" if none), ``source`` and ``simulated`` (0 or 1).

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
    return xr.Dataset(variables, coords, attrs | {"simulated": int(report["simulated"])})


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
