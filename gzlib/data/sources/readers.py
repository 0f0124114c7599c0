"""Tables of galaxies, with embedded images or with the paths of image files, and folders of images without a table."""

import json
import os
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from gzlib.data.images import SUFFIXES, Unusable
from gzlib.data.schema import available_schemas, load_schema
from gzlib.data.sources.base import Batch, Picture, Source, shares
from gzlib.data.sources.cells import MOST_VALUES, Facts, Table, as_numbers, is_boolean, type_kind
from gzlib.data.sources.columns import (
    IMAGE_COLUMNS,
    ROLES,
    TEXT_COLUMNS,
    Columns,
    as_words,
    is_derived,
    read_splits,
    refuse_unknown_splits,
    sort_columns,
    split_of_name,
    table_to_batch,
    vote_columns,
)
from gzlib.errors import UserError, some_of

PARQUET_ROWS = 256  # a batch: some 10 to 30 MB of 424 px JPEGs
CATALOGUE_ROWS = 1024
ZOONIVERSE = ("classification_id", "subject_data", "subject_ids", "annotations", "locations")


def table_source(
    files: list[Path],
    name: str,
    *,
    root: Path,
    text: str,
    from_hub: bool = False,
    schema: str | None = None,
    labels: list[str] | None = None,
    dataset_name: str | None = None,
) -> Source:
    """One table in one file or several, CSV or parquet.

    Ids stand in ``id_str``. Images stand in ``image`` ({bytes, path}, bytes, or the path of a file inside ``root``), or
    in files named by ``file_loc``, or by ``filename`` (``file_name``), below ``subfolder`` if there is such a column.
    A file whose name begins with ``train``, ``val`` or ``test`` holds that split; a column ``split`` overrules it.
    Classes that only a ``ClassLabel`` feature names get their ``label_name``.

    Parameters
    ----------
    files : list of Path
    name : str
        Of the source, and of galaxies whose table gives no ``dataset_name``.
    root : Path
        The folder that the source is.
    from_hub : bool
        A stranger's table: no file outside ``root`` is opened.
    schema, labels
        See :func:`gzlib.data.sources.registry.open_source`.

    Raises
    ------
    UserError
        If a file is not a table, lacks a column, or differs from the others.
    """
    names = _known_names(schema)
    tables = [Table(file, names) for file in files]
    _refuse_other_columns(tables)
    first = tables[0]
    image_column = _image_column(first, text)
    bare = schema is None and labels == []  # for prediction: whatever else the table holds is not looked at
    tree, votes = ("", set()) if bare else vote_columns(list(first.types), schema)
    used = [c for c in first.types if c != image_column and (c in (labels or []) or not is_derived(c, tree))]
    roles = [role for role in ROLES if not (bare and role in ("ra", "dec", "split"))]
    used = [c for c in used if c in roles] if bare else used
    facts = _facts(tables, used, votes)
    class_names = [] if bare else next(filter(None, map(_class_names, tables)), [])
    if class_names and "label_name" not in facts and "label" in facts and facts["label"].is_number:
        facts["label_name"] = Facts(kind="string", type="text", n=facts["label"].n, values=set(class_names))
    else:
        class_names = []
    columns = sort_columns(facts, text, schema=schema, labels=labels)
    splits = [split_of_name(file.name) or split_of_name(file.parent.name) for file in files]
    wanted_columns = [c for c in first.types if c in roles or c in votes or c in columns.labels]
    find = partial(_images, column=image_column, root=root, from_hub=from_hub)

    def batches(size: int, limit: int | None) -> Iterator[Batch]:
        counts = [table.n_rows for table in tables]
        for table, split, n in zip(tables, splits, counts if limit is None else shares(limit, counts), strict=True):
            rows = CATALOGUE_ROWS if image_column != "image" else PARQUET_ROWS
            yield from _read(table, n, rows, wanted_columns, columns, class_names, find, dataset_name or name, split)

    notes = [*columns.notes, f"images of '{text}': column '{image_column}'"]
    if first.index:
        notes.append(f"an index of pandas in '{text}', not used: {', '.join(first.index)}")
    if masked := [f"{column} ({mask})" for column, mask in first.masks.items() if column in wanted_columns]:
        notes.append(f"columns of '{text}' whose masked values are read as blanks: {', '.join(masked)}")
    return Source(
        name,
        text,
        columns.schema,
        columns.labels,
        sum(table.n_rows for table in tables),
        batches,
        has_published_split=any(splits) or "split" in facts,
        notes=tuple(notes),
        check_split=partial(_check_split, tables, splits, text),
        positions=partial(_positions, tables, facts) if {"ra", "dec"} <= set(facts) else None,
        files=partial(_files, tables, image_column, root, from_hub),
    )


def _known_names(schema: str | None) -> tuple[str, ...]:
    """Roles and vote columns, of the decision tree named or of all, so that capitals and underscores are forgiven."""
    trees = available_schemas() if schema is None else [schema] if schema else []
    return (*ROLES, *dict.fromkeys(col for name in trees for col in load_schema(name).label_cols))


class _Feature(BaseModel):
    names: list[str] = []


class _Footer(BaseModel):
    """What the ``datasets`` library writes into a parquet file, as far as it is needed here."""

    info: dict[str, dict[str, Any]] = {}


def _class_names(table: Table) -> list[str]:
    """Names of the classes of ``label``, where the ``datasets`` library wrote them."""
    try:
        footer = _Footer.model_validate(json.loads(table.metadata.get(b"huggingface", b"{}")))
        feature = footer.info.get("features", {}).get("label", {})
        return _Feature.model_validate(feature).names
    except (ValidationError, ValueError, RecursionError):
        return []  # not written by that library: there are no names to be had


def _refuse_other_columns(tables: list[Table]) -> None:
    first = tables[0]
    for table in tables:
        if odd := sorted(set(table.types) ^ set(first.types)):
            raise UserError(f"'{table.path}' and '{first.path}' differ in column '{odd[0]}'; give each its own folder.")
    if "id_str" not in first.types:
        if len([column for column in ZOONIVERSE if column in first.types]) > 1:
            raise UserError(
                f"'{first.path}' is a Zooniverse export, one row a classification or subject: count the votes for each"
                " subject (panoptes_aggregation does), and write one row a galaxy with id_str, file_loc and the counts."
            )
        if (name := next(iter(first.types), "")).startswith("#"):  # ECSV, or names as TOPCAT and numpy write them
            raise UserError(
                f"'{first.path}' begins with '{name[:40]}', where the names of the columns must stand: remove the"
                " comments above the names, and a '#' before them."
            )
        raise UserError(
            f"'{first.path}' has no column 'id_str' with an id for each galaxy; it has {', '.join(first.types)}."
        )


def _image_column(table: Table, text: str) -> str:
    column = next((name for name in IMAGE_COLUMNS if name in table.types), None)
    if column is None:
        raise UserError(
            f"'{table.path}' names no images: it has no column 'image' (embedded) or 'file_loc' (paths of files), nor"
            f" 'filename'; it has {', '.join(table.types)}."
        )
    kind, arrow = type_kind(table.types[column]), table.types[column]
    if column == "image" and pa.types.is_struct(arrow):
        names = [arrow.field(i).name for i in range(arrow.num_fields)]
        if not {"bytes", "path"} & set(names):
            raise UserError(f"Column 'image' of '{text}' has fields {', '.join(names)} instead of 'bytes', 'path'.")
    elif kind not in ("string", "binary", "empty"):  # astropy writes the text of a FITS table to parquet as bytes
        wanted = "paths of images as text" if column != "image" else "encoded images, as bytes or {bytes, path}"
        raise UserError(f"Column '{column}' of '{text}' holds {arrow}; it must hold {wanted}.")
    return column


def _facts(tables: list[Table], columns: list[str], votes: set[str]) -> dict[str, Facts]:
    """Facts about columns over all files; numbers of votes in parquet are checked when they are read."""
    whole: dict[str, Facts] = {}
    for table in tables:
        kinds = {column: type_kind(table.types[column]) for column in columns}
        typed = () if table.is_csv else (c for c in votes if not is_boolean(table.types[c]))
        known = {c for c in typed if kinds.get(c) in ("int64", "float64")}
        scanned = table.scan([column for column in columns if column not in known])
        for column in columns:
            these = scanned.get(column) or Facts(kind=kinds[column], type=str(table.types[column]), values=None)
            digits = column == "id_str" and kinds[column] == "int64"
            if column in TEXT_COLUMNS and these.kind != "empty" and (kinds[column] in ("string", "binary") or digits):
                no_text = kinds[column] == "binary" and these.kind == "other"
                these = these if no_text else replace(these, kind="string")
            if column not in whole:
                whole[column] = these
                continue
            both = _merged(whole[column], these, any_numbers=column in votes or column in ("ra", "dec"))
            if both is None:
                raise UserError(
                    f"'{table.path}' and '{tables[0].path}' disagree about column '{column}':"
                    f" {_said(these)} and {_said(whole[column])}; write both alike."
                )
            whole[column] = both
    return whole


def _merged(facts: Facts, other: Facts, *, any_numbers: bool) -> Facts | None:
    """Facts about two files together; None where they disagree: text and numbers, or classes and fractions.

    ``any_numbers`` is for columns that hold no classes: whole numbers in one file agree with fractions in another.
    """
    if "empty" in (facts.kind, other.kind):
        return _summed(facts, other, other.kind if facts.kind == "empty" else facts.kind)
    if facts.is_number and other.is_number:
        mixed = facts.kind != other.kind and not (any_numbers or (facts.whole and other.whole))
        return None if mixed else _summed(facts, other, facts.kind if facts.kind == other.kind else "float64")
    for words, numbers in ((facts, other), (other, facts)):
        if numbers.is_number and words.holds_no_word:  # nothing but NA and the like
            return _summed(numbers, replace(words, values=set(), missing=words.n), numbers.kind)
    return _summed(facts, other, facts.kind) if facts.kind == other.kind else None


def _summed(facts: Facts, other: Facts, kind: str) -> Facts:
    values = None if facts.values is None or other.values is None else facts.values | other.values
    ends = [v for f in (facts, other) for v in (f.low, f.high) if v is not None]
    return Facts(
        kind=kind,
        type=facts.type,
        n=facts.n + other.n,
        missing=facts.missing + other.missing,
        values=values if values is None or len(values) <= MOST_VALUES else None,
        low=min(ends, default=None),
        high=max(ends, default=None),
        whole=facts.whole and other.whole,
        word=facts.word or other.word,
        exponent=facts.exponent or other.exponent,
        any_number=facts.any_number or other.any_number,
        most_numbers=facts.most_numbers or other.most_numbers,
        all_numbers=facts.all_numbers and other.all_numbers,
        any_point=facts.any_point or other.any_point,
        comma=facts.comma or other.comma,
        commas=facts.commas or other.commas,
        boolean=facts.boolean and other.boolean,
    )


def _said(found: Facts) -> str:
    words = {"int64": "whole numbers", "float64": "fractions", "string": "text"}
    return words.get(found.kind, found.type)


def _read(
    table: Table, n: int, rows: int, wanted: list[str], columns: Columns, class_names: list[str],
    find: Callable[[pa.RecordBatch], list[Picture]], dataset_name: str, split: str,
) -> Iterator[Batch]:  # fmt: skip
    """Yield batches of the first ``n`` rows."""
    for record in table.slices(wanted, rows) if n else ():
        record = record.slice(0, n)
        try:
            if class_names:
                record = record.append_column("label_name", _named(record["label"], class_names))
            pictures = find(record)
            yield table_to_batch(record, columns, pictures, dataset_name=dataset_name, file_split=split)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise UserError(f"'{table.path}' holds a cell that cannot be read: {error}.") from None
        n -= len(record)
        if n == 0:
            return


def _named(labels: pa.Array, class_names: list[str]) -> pa.Array:
    known = dict(enumerate(class_names))
    return pa.array([known.get(label, "") for label in labels.to_pylist()], pa.string())


def _images(record: pa.RecordBatch, *, column: str, root: Path, from_hub: bool) -> list[Picture]:
    """What each row names as its image: bytes, a path, None, or why the cell can't be used."""
    cells = record[column]
    inside = None
    if from_hub or column == "image":
        # The hub's client keeps files in its cache, beside the folder of links to them that is the data set.
        cached = from_hub and root.resolve().parent.name == "snapshots"
        inside = os.path.realpath(root.resolve().parents[1] if cached else root)
    if column != "image":
        paths = _paths(record, column)
        if column != "file_loc" and "subfolder" in record.schema.names:
            folders = _paths(record, "subfolder")
            paths = [os.path.join(folder, path) if path else "" for folder, path in zip(folders, paths, strict=True)]
        return [_file(path, root, inside) for path in paths]
    if type_kind(cells.type) == "string":
        return [_file(path, root, inside) for path in as_words(cells)]
    found: list[Picture] = []
    for cell in cells.to_pylist():
        path = cell.get("path") if isinstance(cell, dict) else None
        raw = cell.get("bytes") if isinstance(cell, dict) else cell
        if raw is not None and not isinstance(raw, bytes):
            raise UserError(f"Column 'image' holds {cells.type}; its field 'bytes' must hold encoded images.")
        found.append(raw if raw or not path else _file(str(path), root, inside))
    return found


def _paths(record: pa.RecordBatch, column: str) -> list[str]:
    try:
        return as_words(record[column])
    except pa.ArrowInvalid:
        raise UserError(
            f"Column '{column}' holds bytes that are not text; write the paths of images in UTF-8."
        ) from None


def _file(path: str, root: Path, inside: str | None) -> Path | Unusable | None:
    """The image file that a cell names; relative paths start at the table's folder."""
    if not path:
        return None
    if "\0" in path:
        return Unusable("missing image", "its path holds a null character")
    if path.startswith(("http://", "https://")):
        return Unusable("missing image", f"'{path}' is an address: download the images and name their files")
    slashes = path.replace("\\", "/")  # Windows writes the other ones, and macOS its letters in two parts
    forms = dict.fromkeys((path, slashes, *(unicodedata.normalize(form, slashes) for form in ("NFC", "NFD"))))
    candidates = [base / name for name in forms for base in (root, root / "images", root / "data")]
    allowed = candidates if inside is None else [c for c in candidates if _lies_in(c, root, inside)]
    found = next((candidate for candidate in allowed if os.path.lexists(candidate)), None)
    if found is None and candidates[0] not in allowed:
        return Unusable("missing image", f"'{path}' lies outside the table's folder, where no image is opened")
    return found or candidates[0]


def _lies_in(path: Path, root: Path, inside: str) -> bool:
    """Whether a path stays in the folder ``root`` as it is written, and in ``inside`` once its links are followed."""
    written = Path(os.path.normpath(path)).is_relative_to(os.path.normpath(root))
    return written and Path(os.path.realpath(path)).is_relative_to(inside)


def _files(tables: list[Table], column: str, root: Path, from_hub: bool) -> Iterator[Path]:
    """The files that the tables name, so that a change of one is noticed; embedded images change with their table."""
    if column == "image" and not any(_may_name_files(table) for table in tables):
        return
    wanted = [c for c in (column, "subfolder") if c in tables[0].types]
    for table in tables:
        for record in table.slices(wanted, CATALOGUE_ROWS):
            found = _images(record, column=column, root=root, from_hub=from_hub)
            yield from (picture for picture in found if isinstance(picture, Path))


def _may_name_files(table: Table) -> bool:
    """Whether cells of ``image`` may hold a path without bytes, as the footer's counts tell; a footer may have none."""
    if table.is_csv or type_kind(table.types["image"]) == "string":
        return True
    if not pa.types.is_struct(table.types["image"]):
        return False
    metadata = pq.read_metadata(table.path)
    chunks = (
        metadata.row_group(i).column(j) for i in range(metadata.num_row_groups) for j in range(metadata.num_columns)
    )
    counts = [chunk.statistics for chunk in chunks if chunk.path_in_schema.strip() == "image.bytes"]
    return not counts or any(found is None or not found.has_null_count or found.null_count for found in counts)


def _check_split(tables: list[Table], splits: list[str], text: str) -> None:
    """Refuse unknown words in the column ``split``, or files whose names say nothing."""
    for table, split in zip(tables, splits, strict=True):
        if "split" not in table.types:
            if not split:
                raise UserError(f"The name of '{table.path}' says no split; call it train-*, val-* or test-*.")
            continue
        if type_kind(table.types["split"]) not in ("string", "binary"):
            raise UserError(f"Column 'split' of '{text}' holds {table.types['split']}; write train, val or test.")
        for record in table.slices(["split"], CATALOGUE_ROWS):
            refuse_unknown_splits(read_splits(record["split"], split), text)


def _positions(tables: list[Table], facts: dict[str, Facts]) -> tuple[np.ndarray, np.ndarray]:
    records = [record for table in tables for record in table.slices(["ra", "dec"], 1 << 16)]
    ra, dec = (
        np.concatenate([np.zeros(0), *(as_numbers(record[axis], facts[axis]) for record in records)])
        for axis in ("ra", "dec")
    )
    return ra, dec


def image_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """The images below a folder, sorted, and the files that are none; hidden ones (macOS writes some) do not count."""
    images: list[Path] = []
    others: list[Path] = []
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:  # a link to a folder above it, or a second one
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if not name.startswith("."):
                (images if name.lower().endswith(SUFFIXES) else others).append(Path(place, name))
    return sorted(images), sorted(others)


def folder_source(
    folder: Path,
    name: str,
    *,
    text: str,
    schema: str | None = None,
    labels: list[str] | None = None,
    dataset_name: str | None = None,
) -> Source:
    """A folder of images without a table, for prediction; a galaxy's id is its file's path without the suffix.

    Raises
    ------
    UserError
        If there are no images, or votes or labels are asked for.
    """
    images, others = image_files(folder)
    if not images:
        raise UserError(
            f"Folder '{text}' holds neither parquet files (*.parquet, data/*.parquet), nor a catalog.csv, nor images"
            f" ({', '.join(SUFFIXES)})."
        )
    if schema or labels:
        raise UserError(f"Folder '{text}' has no table, so it has no votes and no labels; add a catalog.csv.")
    whole = [path.relative_to(folder).as_posix() for path in images]
    short = [name[: -len(next(s for s in SUFFIXES if name.lower().endswith(s)))] for name in whole]
    twice = {i for i, n in zip(*np.unique(short, return_counts=True), strict=True) if n > 1}
    ids = [long if brief in twice else brief for brief, long in zip(short, whole, strict=True)]

    def batches(size: int, limit: int | None) -> Iterator[Batch]:
        for start in range(0, min(len(ids), limit or len(ids)), CATALOGUE_ROWS):
            stop = min(start + CATALOGUE_ROWS, limit or len(ids), len(ids))
            catalog = pd.DataFrame({"id_str": ids[start:stop], "dataset_name": dataset_name or name}, dtype=object)
            catalog = catalog.assign(ra=np.nan, dec=np.nan, published_split="")
            n = stop - start
            yield Batch(catalog, np.zeros((n, 0)), pd.DataFrame(index=range(n)), list(images[start:stop]))

    notes = [f"'{text}' has no table: {len(images):,} images without labels, for prediction"]
    if others:
        kinds = {file.suffix.lower(): file.name for file in reversed(others)}  # one of each, as some may show galaxies
        notes.append(f"files of '{text}' that are not images: {len(others):,}, e.g. {some_of(sorted(kinds.values()))}")
    return Source(name, text, "", {}, len(ids), batches, notes=tuple(notes), files=lambda: iter(images))
