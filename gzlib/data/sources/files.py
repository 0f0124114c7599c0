"""A catalogue with a column of picture paths: ``id_str``, ``file_loc`` and labels, as CSV or parquet."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gzlib.data.sources.base import Batch, Source
from gzlib.data.sources.columns import arrow_kind, column_kind, sort_columns, table_to_batch
from gzlib.errors import UserError

ROWS = 1024
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
                for record in parquet.iter_batches(batch_size=ROWS):
                    yield record.to_pandas()
        else:
            with pd.read_csv(file, dtype=TEXT, chunksize=ROWS, low_memory=False) as reader:
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
