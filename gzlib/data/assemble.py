"""Check a source's galaxies batch by batch and write those that pass."""

import hashlib
import json
import os
from collections import Counter
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa

from gzlib.data.checks import LabelCheck, Problem, Rejects, vote_problems
from gzlib.data.duplicates import SAME_PLACE_ARCSEC, Seen
from gzlib.data.pack import PictureFile, TableFile, arrow_schema, catalog_schema, catalog_table
from gzlib.data.pictures import Unusable, load_picture
from gzlib.data.progress import Progress
from gzlib.data.schema import Schema, load_schema
from gzlib.data.sources.base import Batch, Source, with_columns
from gzlib.data.splits import SPLITS, assign_split
from gzlib.errors import UserError

CURATION = 1  # raised by hand when the same input gives another survey


def fingerprint_start(source: Source, size: int, limit: int | None, split: str):
    """Hash over a survey's parameters and its simulated galaxies' identity; real galaxies are added one by one.

    Simulated pixels may differ by 1/255 between machines, and decoders differ, so no decoded pixel is hashed.
    """
    start = {"curation": CURATION, "size": size, "split": split, "schema": source.schema, "simulated": source.identity}
    if source.identity:
        start["galaxies"] = min(source.galaxies, limit or source.galaxies)
    return hashlib.sha256(json.dumps(start, sort_keys=True).encode())


def assemble(source: Source, place: Path, parameters: dict, progress: bool) -> dict:
    """Write a survey's arrays and tables into the folder ``place``; return what its report says of them.

    A batch is in memory at a time, beside :class:`~gzlib.data.duplicates.Seen`.

    Raises
    ------
    UserError
        If no galaxy passes.
    """
    size, limit, mode = parameters["size"], parameters["limit"], parameters["split"]
    schema = load_schema(source.schema) if source.schema else None
    columns = catalog_schema(schema.label_cols if schema else [], source.labels)
    truth_kinds = source.truth_kinds() if source.simulated else {}
    fingerprint, pixels = fingerprint_start(source, size, limit, mode), hashlib.sha256()
    rejects, seen, label_check = Rejects(), Seen(), LabelCheck(source.labels)
    splits, data_sets = Counter(), Counter()
    total = min(source.galaxies, limit or source.galaxies)
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        PictureFile(place / "images.npy", size) as pictures,
        TableFile(place / "catalog.parquet", columns) as catalog,
        TableFile(place / "truth.parquet", arrow_schema(truth_kinds)) as truth,
        Progress(f"curating {source.name}", total, "galaxies", progress) as bar,
    ):
        for batch in source.batches(size, limit):
            simulated = isinstance(batch.pictures, np.ndarray)
            problems = {} if simulated else _label_problems(batch, schema, parameters["vote_slack"], label_check)
            images, digests = _load_all(batch, size, problems, pool)
            rows, sides = _admit(batch, digests, problems, seen, rejects, mode)
            bar.update(len(batch.catalog))
            if not rows:
                continue
            kept = images[rows] if simulated else np.stack([images[row] for row in rows])
            table = catalog_table(batch.catalog.iloc[rows], sides, batch.votes[rows], batch.labels.iloc[rows], columns)
            pictures.append(kept)
            catalog.append(table)
            pixels.update(kept.data)
            splits.update(sides)
            data_sets.update(table["dataset_name"].to_pylist())
            if source.simulated:
                known = with_columns(batch.truth.iloc[rows], truth_kinds)
                truth.append(pa.Table.from_pandas(known, truth.schema, preserve_index=False).replace_schema_metadata())
            if not simulated:
                _hash_galaxies(fingerprint, table, [digests[row] for row in rows])
    if not pictures.n:
        raise UserError(_nothing_left(source, rejects))
    return {
        "fingerprint": fingerprint.hexdigest(),
        "simulated": source.simulated,
        "schema": source.schema,
        "labels": source.labels,
        "counts": {
            "galaxies": pictures.n,
            "splits": {side: splits[side] for side in SPLITS},
            "data_sets": dict(data_sets),
            "rejected": sum(rejects.counts.values()),
        },
        "sky_pairs": {
            "within_arcsec": SAME_PLACE_ARCSEC,
            "between_data_sets": seen.sky_pairs,
            "of_which_one_in_test": seen.straddling_pairs,
        },
        "notes": list(source.notes),
        "sha256": {"pixels": pixels.hexdigest(), "catalog.parquet": _file_hash(place / "catalog.parquet")},
        "rejected": {"reasons": dict(rejects.counts), "examples": rejects.examples},
    }


def _label_problems(batch: Batch, schema: Schema | None, slack: int, label_check: LabelCheck) -> dict[int, Problem]:
    problems = vote_problems(batch.votes, schema, slack) if schema else {}
    return label_check.problems(batch.labels) | problems


def _load_all(batch: Batch, size: int, problems: dict[int, Problem], pool: Executor):
    """Decode a batch's pictures in threads (Pillow lets go of the interpreter); failures join ``problems``."""
    images, digests = [None] * len(batch.catalog), [None] * len(batch.catalog)
    if isinstance(batch.pictures, np.ndarray):
        return batch.pictures, digests

    def load(row: int):
        try:
            return load_picture(batch.pictures[row], size)
        except Unusable as unusable:
            return unusable

    rows = [row for row in range(len(batch.catalog)) if row not in problems]
    for row, result in zip(rows, pool.map(load, rows), strict=True):
        if isinstance(result, Unusable):
            problems[row] = result.reason, result.detail
        else:
            images[row], digests[row] = result
    return images, digests


def _admit(batch: Batch, digests: list, problems: dict[int, Problem], seen: Seen, rejects: Rejects, mode: str):
    """Rows that enter the survey and their splits, in order; of two galaxies that are one, the earlier enters.

    Simulated galaxies are what they were asked to be: nothing but their ids is checked.
    """
    simulated, rows, sides = isinstance(batch.pictures, np.ndarray), [], []
    places = zip(*(batch.catalog[c] for c in ("id_str", "dataset_name", "ra", "dec", "published_split")), strict=True)
    for row, (id_str, dataset_name, ra, dec, published) in enumerate(places):
        problem = problems.get(row)
        if problem is None and not id_str:
            problem = "missing id", f"the picture's row has no id_str (data set '{dataset_name}')"
        if problem is None:
            place = (np.nan, np.nan) if simulated else (ra, dec)
            problem = seen.duplicate(id_str, digests[row], dataset_name, *place)
        if problem is not None:
            rejects.add(id_str, problem)
            continue
        side = assign_split(id_str, published, mode)
        seen.add(id_str, digests[row], dataset_name, ra, dec, side)
        rows.append(row)
        sides.append(side)
    return rows, sides


def _hash_galaxies(fingerprint, table, digests: list[bytes]):
    """Add real galaxies: everything in the catalogue, and their encoded pictures."""
    for record, digest in zip(table.to_pylist(), digests, strict=True):
        fingerprint.update(digest)
        fingerprint.update(json.dumps(list(record.values())).encode())


def _file_hash(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _nothing_left(source: Source, rejects: Rejects) -> str:
    if not rejects.counts:
        return f"'{source.text}' holds no galaxies."
    reasons = ", ".join(f"{reason} ({n})" for reason, n in rejects.counts.most_common(3))
    first = rejects.examples[0]
    return (
        f"Every galaxy of '{source.text}' was rejected: {reasons}; the first is '{first['id_str']}': {first['detail']}."
    )
