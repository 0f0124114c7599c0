"""Tables of galaxies: parquet with embedded images, and catalogues with the paths of image files."""

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gzlib.data.sources.base import Batch, Source, shares
from gzlib.data.sources.columns import DERIVED, Columns, arrow_kind, column_kind, sort_columns, table_to_batch
from gzlib.errors import UserError

PARQUET_ROWS = 256  # a batch: some 10 to 30 MB of 424 px JPEGs


def parquet_source(files: list[Path], name: str, *, text, schema=None, labels=None, dataset_name=None) -> Source:
    """Parquet with an ``image`` column ({bytes, path} or bytes), ``id_str``, and votes or class labels.

    A file called ``test-*`` holds its authors' test galaxies, ``train-*`` and ``validation-*`` the others; a column
    ``split`` overrules the file's name. Classes that only a ``ClassLabel`` feature names get their ``label_name``.

    Raises
    ------
    UserError
        If a file is no parquet, lacks ``image`` or ``id_str``, or differs from the others in its columns.
    """
    kinds, class_names, rows = None, [], []
    for file in files:
        arrow, n_rows = _footer(file)
        for needed in ("image", "id_str"):
            if needed not in arrow.names:
                raise UserError(f"'{file}' has no column '{needed}', so it is not Galaxy Zoo Evo parquet.")
        these = {column.name: arrow_kind(column.type) for column in arrow}
        if kinds is not None and set(these) != set(kinds):
            odd = sorted(set(these) ^ set(kinds))[0]
            raise UserError(f"'{file}' and '{files[0]}' differ in column '{odd}'; give each a folder of its own.")
        kinds = kinds or these
        class_names = class_names or _class_names(arrow)
        rows.append(n_rows)
    if class_names and "label_name" not in kinds:
        kinds["label_name"] = "string"
    columns = sort_columns(kinds, text, schema=schema, labels=labels)
    splits = [_split_of_file(file) for file in files]

    def batches(size: int, limit: int | None) -> Iterator[Batch]:
        wanted = rows if limit is None else shares(limit, rows)
        for file, split, n in zip(files, splits, wanted, strict=True):
            yield from _read(file, n, columns, class_names, dataset_name or name, split)

    published = any(splits) or "split" in kinds
    return Source(
        name,
        text,
        columns.schema,
        columns.labels,
        sum(rows),
        batches,
        has_published_split=published,
        notes=columns.notes,
    )


def _footer(file: Path) -> tuple[pa.Schema, int]:
    try:
        with pq.ParquetFile(file) as parquet:
            return parquet.schema_arrow, parquet.metadata.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"'{file}' cannot be read as parquet: {error}.") from None


def _class_names(arrow: pa.Schema) -> list[str]:
    """Class names that the ``datasets`` library wrote into the file's footer, [] if there are none."""
    features = json.loads((arrow.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return features.get("label", {}).get("names", [])


def _split_of_file(file: Path) -> str:
    start = file.name.split("-")[0]
    return {"train": "train", "test": "test", "validation": "val", "val": "val"}.get(start, "")


def _read(file: Path, n: int, columns: Columns, class_names: list[str], dataset_name: str, split: str):
    """Yield batches of the first ``n`` rows; at most one of the file's row groups is in memory."""
    if n == 0:
        return
    with pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False) as parquet:
        names = [c for c in parquet.schema_arrow.names if c in columns.labels or not c.endswith(DERIVED)]
        for record in parquet.iter_batches(batch_size=PARQUET_ROWS, columns=names):
            record = record.slice(0, n)
            table = record.drop_columns(["image"]).to_pandas()
            if class_names and "label_name" in columns.labels and "label_name" not in table:
                known = dict(enumerate(class_names))
                table["label_name"] = table["label"].map(known).fillna("")
            pictures = [_picture(cell) for cell in record.column("image").to_pylist()]
            yield table_to_batch(table, columns, pictures, dataset_name=dataset_name, published_split=split)
            n -= len(record)
            if n == 0:
                return


def _picture(cell) -> bytes | None:
    return cell.get("bytes") if isinstance(cell, dict) else cell


CATALOGUE_ROWS = 1024
TEXT = {"id_str": str, "file_loc": str, "dataset_name": str, "split": str, "label_name": str, "summary": str}


def catalogue_source(file: Path, name: str, *, text: str, schema=None, labels=None, dataset_name=None) -> Source:
    """A catalogue of galaxies whose pictures are files; relative paths start at the catalogue's folder.

    Raises
    ------
    UserError
        If the catalogue cannot be read, lacks ``id_str`` or ``file_loc``, or holds no labels.
    """
    kinds, rows = _kinds(file)
    for needed in ("id_str", "file_loc"):
        if needed not in kinds:
            raise UserError(f"Catalogue '{file}' has no column '{needed}'; it has {', '.join(kinds)}.")
    if kinds["file_loc"] != "string":
        raise UserError(f"Column 'file_loc' of catalogue '{file}' must hold the paths of pictures as text.")
    columns = sort_columns(kinds, text, schema=schema, labels=labels)

    def batches(size: int, limit: int | None) -> Iterator[Batch]:
        left = rows if limit is None else limit
        for table in _tables(file):
            table = table.head(left)
            pictures = [None if pd.isna(loc) else file.parent / loc for loc in table["file_loc"]]
            if len(table):
                yield table_to_batch(table, columns, pictures, dataset_name=dataset_name or name, published_split="")
            left -= len(table)
            if left == 0:
                return

    published = "split" in kinds
    return Source(
        name, text, columns.schema, columns.labels, rows, batches, has_published_split=published, notes=columns.notes
    )


def _tables(file: Path) -> Iterator[pd.DataFrame]:
    """The catalogue in slices, so that its length does not matter."""
    try:
        if file.suffix == ".parquet":
            with pq.ParquetFile(file) as parquet:
                for record in parquet.iter_batches(batch_size=CATALOGUE_ROWS):
                    yield record.to_pandas()
        else:
            with pd.read_csv(file, dtype=TEXT, chunksize=CATALOGUE_ROWS, low_memory=False) as reader:
                yield from reader
    except (pa.ArrowInvalid, pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"Catalogue '{file}' cannot be read: {error}.") from None


def _kinds(file: Path) -> tuple[dict[str, str], int]:
    """Kind of each column over the whole catalogue (a CSV column may hold its first fraction in the last row)."""
    if file.suffix == ".parquet":
        with pq.ParquetFile(file) as parquet:
            return {c.name: arrow_kind(c.type) for c in parquet.schema_arrow}, parquet.metadata.num_rows
    kinds, rows = {}, 0
    for table in _tables(file):
        rows += len(table)
        for column in table:
            kinds.setdefault(column, set()).add(column_kind(table[column]))
    order = ("string", "float64", "int64")
    return {column: next(kind for kind in order if kind in seen) for column, seen in kinds.items()}, rows
