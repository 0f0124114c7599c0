"""Stored measurements: what ``data/benchmarks`` holds, as tables for the chapters."""

import json

import pandas as pd

from gzlib.book.inputs import input_files
from gzlib.errors import UserError

COLUMNS = ["name", "value", "unit", "goal", "ok", "detail"]


def measured(name: str, columns=COLUMNS, *, part: str | None = None) -> pd.DataFrame:
    """Rows of ``data/benchmarks/<name>.json`` as a table; empty if the file is not there.

    Parameters
    ----------
    columns : list of str
        By default those of ``gzlib.bench.row``.
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
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"data/benchmarks/{name}.json does not hold the rows of a benchmark ({type(error).__name__}: {error}): "
            f"make it again with `python -m gzlib bench {name}`."
        ) from error
