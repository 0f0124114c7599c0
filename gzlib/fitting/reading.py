"""Learning curves as people have them: text files, tables and arrays, brought to one table of runs.

Nothing is guessed in silence: what was turned, recognised or left out is said in ``attrs["notes"]`` of the table, and
where two readings are possible the file is refused with the option that decides.
"""

import csv
import json
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from gzlib.errors import UserError
from gzlib.files import FilePath
from gzlib.fitting.curves import to_array
from gzlib.fitting.headings import Table, as_runs, is_number, kind_of

TableSource = FilePath | pd.DataFrame | pd.Series  # what a table of runs is read from
# what learning curves may be given as: also a dict of columns, or sizes
AnyCurves = TableSource | xr.DataArray | xr.Dataset | Mapping[str, Any] | Sequence[Any] | np.ndarray
Line = tuple[int, str]  # its number and its text
Row = tuple[int, list[str]]  # the number of the line in which it ends, and its cells

MOST_BYTES = 2**28
DELIMITERS = ("\t", ";", "|", ",", None)  # None: blanks
COMMENTS = ("#", "%", "//")
NOT_TEXT = {b"PK\x03\x04": "a workbook or archive", b"\x1f\x8b": "compressed", b"%PDF": "a PDF"}


def read_curves(
    source: TableSource,
    *,
    size: str | None = None,
    loss: str | None = None,
    accuracy: str | None = None,
    seed: str | None = None,
    curve: str | Iterable[str] | None = None,
    ignore: str | Iterable[str] = (),
) -> pd.DataFrame:
    """Read and check learning curves.

    Text (``.csv``, ``.tsv``, ``.txt``; commas, semicolons, tabs, bars or blanks; decimal commas; thousands separators;
    comment lines; a byte order mark), ``.json``, ``.jsonl`` and ``.parquet`` files, DataFrames and Series. Long tables
    have one row for each run; wide ones a column for each curve or seed, or for each size.

    Columns are found by their usual names: the size by ``n_train``, ``n``, ``samples``, ``train_size``,
    ``Seen Examples`` and the like; the loss by ``loss``, ``error``, ``test_error``, ``rmse``, ...; ``accuracy``,
    ``auc``, ``f1`` and others that rise become 1 minus their value (100 minus, in percent); runs by ``seed``,
    ``run``, ``fold``; curves by ``curve``, ``model``, ``encoder``, ``task``, ``dataset``, ... A column of another name
    that distinguishes curves becomes one of their labels. Rows with ``Training`` 0 are held out of fits.

    Parameters
    ----------
    source : path ("-" for standard input)
        DataFrame or Series (its index the sizes)
    size, loss, accuracy, seed : str, optional
        Names of columns, where they cannot be found or the wrong one would be taken; ``accuracy`` names a metric that
        rises.
    curve : str or list of str, optional
        The columns that distinguish curves.
    ignore : str or list of str
        Columns that say nothing about the curves.

    Returns
    -------
    DataFrame
        Columns ``n_train``, ``loss`` (float, positive), ``training`` (bool, True where absent), ``seed`` (counted where
        absent), ``curve`` (str, the labels joined by " / ") and the labels themselves. ``attrs["notes"]`` is a list of
        sentences about how the source was read, ``attrs["metric"]`` what the loss is.

    Raises
    ------
    UserError
        If the source cannot be read, has two readings, or a value is not a positive number (with its line).
    """
    return as_runs(read_table(source), size, loss, accuracy, seed, _listed(curve), _listed(ignore))


def _listed(names: str | Iterable[str] | None) -> list[str]:
    return [names] if isinstance(names, str) else list(names or [])


def read_table(source: TableSource) -> Table:
    """Cells as they are, from a file, DataFrame or Series: a Table."""
    if isinstance(source, pd.DataFrame | pd.Series):
        return _from_frame(source)
    if not isinstance(source, str | os.PathLike):
        raise UserError(f"Learning curves cannot be read from {source!r:.40}: give a file or a DataFrame.")
    return _from_file(source)


def _from_frame(source: pd.DataFrame | pd.Series) -> Table:
    frame = source.to_frame("loss" if source.name is None else source.name) if isinstance(source, pd.Series) else source
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    elif (
        not isinstance(frame.index, pd.RangeIndex)
        and pd.api.types.is_numeric_dtype(frame.index)
        and not any(kind_of(column)[0] == "size" for column in frame)
    ):
        frame = frame.rename_axis("n_train").reset_index()
    frame = frame.rename(columns=str)
    return Table("the table", frame, [f"row {i}" for i in range(len(frame))])


def _from_file(source: FilePath) -> Table:
    path = Path(source)
    content = _bytes_of(source)
    suffix = path.suffix.lower()
    if content[:4] == b"PAR1" or suffix in (".parquet", ".pq"):
        return _from_parquet(path)
    for start, what in NOT_TEXT.items():
        if content.startswith(start):
            raise UserError(f"{source} is {what}, not text: save the curves as CSV.")
    text, notes = _decoded(source, content)
    if suffix in (".json", ".jsonl", ".ndjson"):
        return _from_json(source, text, notes)
    return _from_text(source, text, notes)


def _bytes_of(source: FilePath) -> bytes:
    try:
        if str(source) == "-":
            return sys.stdin.buffer.read(MOST_BYTES)
        path = Path(source)
        passed_by_shell = str(path).startswith(("/dev/fd/", "/proc/self/fd/", "/dev/stdin"))
        if not (stat.S_ISREG(path.stat().st_mode) or path.is_dir() or passed_by_shell):
            raise UserError(f"{source} is not a regular file: give a file of learning curves.")
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise UserError(
            f"There is no file {source}: give the path of a CSV file with the columns n_train and loss."
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"{source} cannot be read ({reason}): give a file with the columns n_train and loss."
        ) from error
    if len(content) > MOST_BYTES:
        raise UserError(f"{source} is larger than {MOST_BYTES >> 20} MiB: is it a file of learning curves?")
    return content


def _decoded(source: FilePath, content: bytes) -> tuple[str, list[str]]:
    """The text, whatever program saved it, and what to say about that."""
    for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"", "utf-8-sig")):
        if content.startswith(mark):
            try:
                text = content.decode(encoding)
                break
            except UnicodeDecodeError:
                continue
    else:
        text = content.decode("cp1252", errors="replace")
    if "\x00" in text:
        raise UserError(f"{source} cannot be read as CSV (it holds NUL bytes): give a text file.")
    return text, []


def _from_parquet(path: Path) -> Table:
    try:
        frame = pd.read_parquet(path)
    except ImportError as error:
        raise UserError(f"Reading {path} needs pyarrow (pip install pyarrow); or save the curves as CSV.") from error
    except Exception as error:  # pyarrow's own kinds, which the base installation does not know
        raise UserError(f"{path} cannot be read as parquet ({str(error).strip().splitlines()[0]}).") from error
    table = _from_frame(frame)
    table.name = str(path)
    return table


def _from_json(source: FilePath, text: str, notes: list[str]) -> Table:
    try:
        try:
            content = json.loads(text)
        except ValueError:
            content = [json.loads(line) for line in text.splitlines() if line.strip()]
        if isinstance(content, dict) and len(content) == 1 and isinstance(inner := next(iter(content.values())), list):
            content = inner  # {"runs": [...]}
        frame = pd.DataFrame(content)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{source} cannot be read as JSON ({error}): give a list of runs, or one run a line, each with n_train and"
            " loss."
        ) from error
    frame = frame.rename(columns=str).astype(object)
    if frame.map(lambda cell: isinstance(cell, list | dict)).any(axis=None):
        raise UserError(f"{source} holds nested values: give a flat list of runs, each with n_train and loss.")
    return Table(str(source), frame, [f"run {i + 1}" for i in range(len(frame))], notes)


def _from_text(source: FilePath, text: str, notes: list[str]) -> Table:
    lines = [(i + 1, line) for i, line in enumerate(re.split(r"\r\n|\r|\n", text)) if line.strip()]
    asked = None
    if lines and (directive := re.fullmatch(r"sep=(.)", lines[0][1].strip())):  # of Excel
        asked, lines = directive[1], lines[1:]
    comments = [(i, line) for i, line in lines if line.lstrip().startswith(COMMENTS)]
    lines = [(i, line) for i, line in lines if not line.lstrip().startswith(COMMENTS)]
    delimiter = asked or _delimiter([line for _, line in lines])
    rows = _split(lines, delimiter)
    if not rows:  # nor is there anything between delimiters
        raise UserError(f"{source} cannot be read as CSV (it is empty): give a file with the columns n_train and loss.")
    header, start = _header(source, rows, comments, delimiter, notes)
    width = len(header)
    while width and not header[width - 1]:
        width -= 1
    frame = []
    for line, cells in rows[start:]:
        while len(cells) > width and not cells[-1]:
            cells = cells[:-1]
        if len(cells) != width:
            raise UserError(
                f"{source}, line {line}: {_count(len(cells), 'cell')} where the header has {_count(width, 'column')}"
                f" ({', '.join(header[:width])}); correct the line, or quote numbers with a comma inside."
            )
        frame.append(cells)
    header = [name or ("index" if i == 0 else f"column {i + 1}") for i, name in enumerate(header[:width])]
    if twice := [name for name in header if header.count(name) > 1]:
        raise UserError(f"{source}: the column {twice[0]!r} appears twice; remove or rename one of them.")
    table = pd.DataFrame(frame, columns=header, dtype=object)
    return Table(str(source), table, [f"line {line}" for line, _ in rows[start:]], notes)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _split(lines: list[Line], delimiter: str | None) -> list[Row]:
    """(line, cells) of each row; the line is where the row ends."""
    if delimiter is None:
        return [(i, [cell.strip("\"'") for cell in line.split()]) for i, line in lines]
    seen = []

    def feed() -> Iterator[str]:
        for i, line in lines:
            seen.append(i)
            yield line.strip().strip("|") + "\n" if delimiter == "|" else line + "\n"

    rows = []
    try:
        for cells in csv.reader(feed(), delimiter=delimiter, skipinitialspace=True):
            cells = [cell.strip() for cell in cells]
            if any(cells) and not (delimiter == "|" and all(re.fullmatch(r":?-+:?", cell) for cell in cells)):
                rows.append((seen[-1], cells))
    except csv.Error as error:
        raise UserError(f"line {seen[-1]} cannot be read as CSV ({error}): correct it.") from error
    return rows


def _delimiter(lines: list[str]) -> str | None:
    """The delimiter with which most lines have as many cells as the header, at least two."""
    best = 0.0
    chosen: str | None = ","
    sample = [(0, line) for line in lines[:200]]
    for delimiter in DELIMITERS:
        counts = []
        for _, cells in _split(sample, delimiter):
            while cells and not cells[-1]:
                cells = cells[:-1]
            counts.append(len(cells))
        share = np.mean(np.array(counts) == counts[0]) if counts and counts[0] > 1 else 0.0
        if share > best + 1e-9:
            best, chosen = share, delimiter
    return chosen


def _header(
    source: FilePath, rows: list[Row], comments: list[Line], delimiter: str | None, notes: list[str]
) -> tuple[list[str], int]:
    """Names of the columns and the first row of numbers; a header may hide in a comment, or be missing."""
    cells = rows[0][1]
    if not all(is_number(cell) for cell in cells if cell) or len(rows) == 1:
        return cells, 1
    before = [(i, line.lstrip().lstrip("#%/").strip()) for i, line in comments if i < rows[0][0]]
    if before:
        names: list[str] = next((cells for _, cells in _split(before[-1:], delimiter)), [])
        if len(names) == len(cells) and not any(is_number(name) for name in names):
            return names, 0
    if len(cells) == 2:
        notes.append("there is no header: the first column is taken as n_train and the second as loss")
        return ["n_train", "loss"], 0
    raise UserError(f"{source} has no header: name the columns in its first line, such as n_train and loss.")


def as_array(
    data: AnyCurves, losses: npt.ArrayLike | None = None, *, x: str = "n_train", replicate: str = "seed", **columns: Any
) -> xr.DataArray:
    """Learning curves of any kind as a labelled array.

    Parameters
    ----------
    data : path
        DataFrame, Series, DataArray, Dataset with a variable ``loss``, dict of columns, or the sizes.
    losses : array (sizes,) or (sizes, runs), optional
        The losses of one curve; ``data`` then holds its sizes.
    x, replicate : str
        Names of the dimensions of sizes and of repeated runs.
    columns
        As for ``read_curves``.

    Returns
    -------
    DataArray with dims (..., x, replicate), NaN where a run is missing; ``attrs`` ``notes`` and ``metric`` as those of
    ``read_curves``' table.

    Raises
    ------
    UserError
        If the data cannot be read, or the losses of most curves rise.
    """
    if isinstance(data, xr.Dataset):
        if "loss" not in data:
            raise UserError(f"The Dataset has no variable 'loss' (found: {', '.join(map(str, data))}): give one.")
        data = data["loss"]
    if isinstance(data, xr.DataArray):
        if x not in data.dims or x not in data.coords:
            raise UserError(
                f"The losses have the dimensions {', '.join(map(str, data.dims))}; {x!r} is not one with sizes: name"
                " the dimension of the sizes with x=, and give it a coordinate."
            )
        return data.astype(float).assign_attrs(
            notes=list(data.attrs.get("notes", [])), metric=data.attrs.get("metric", "loss")
        )
    if losses is not None:
        return _of_arrays(data, losses, x, replicate)
    if isinstance(data, tuple | list) and len(data) == 2:
        sizes, losses = data
        return _of_arrays(sizes, losses, x, replicate)
    if isinstance(data, np.ndarray | Sequence) and not isinstance(data, str):
        raise UserError("An array alone has no sizes: give sizes and losses, as in fit(sizes, losses).")
    runs = read_curves(pd.DataFrame(dict(data)) if isinstance(data, Mapping) else data, **columns)
    loss = to_array(runs).rename({"n_train": x, "seed": replicate})
    loss = loss.isel(curve=0, drop=True) if list(loss["curve"].values) == ["curve"] else loss
    return loss.assign_attrs(notes=runs.attrs["notes"], metric=runs.attrs["metric"])


def _of_arrays(sizes: Any, losses: Any, x: str, replicate: str) -> xr.DataArray:
    try:
        sizes, losses = np.asarray(sizes, float), np.asarray(losses, float)
    except (TypeError, ValueError) as error:
        raise UserError(f"Sizes and losses must be arrays of numbers ({error}).") from error
    if sizes.ndim != 1 or losses.ndim not in (1, 2) or len(losses) != len(sizes):
        raise UserError(
            f"The sizes have the shape {sizes.shape} and the losses {losses.shape}: give one size for each loss, or a"
            " row of runs for each size."
        )
    runs = losses.reshape(len(sizes), -1)
    frame = pd.DataFrame({"n_train": np.repeat(sizes, runs.shape[1]), "loss": runs.ravel()}).dropna(subset="loss")
    return as_array(frame, x=x, replicate=replicate)
