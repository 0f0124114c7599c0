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
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from gzlib.errors import UserError
from gzlib.files import FilePath
from gzlib.fitting.curves import geometric_mean, like_accuracy, log_of, to_array
from gzlib.fitting.headings import (
    PERCENT,
    Blocks,
    Table,
    as_runs,
    best_value,
    check_unit,
    is_number,
    is_rate,
    kind_of,
    refuse_jumps,
    refuse_mixed,
)

BY_CHANCE = 0.2  # rise of ln(loss) of an array, which no header calls a loss, that noise alone may bring
TableSource = FilePath | bytes | IO[Any] | pd.DataFrame | pd.Series  # what a table of runs is read from


class Fitted(Protocol):
    """A ``Fit``, of which the curves are taken."""

    @property
    def data(self) -> xr.DataArray: ...


# what learning curves may be given as: also a dict of columns, or sizes
AnyCurves = Fitted | TableSource | xr.DataArray | xr.Dataset | Mapping[str, Any] | Sequence[Any] | np.ndarray
Line = tuple[int, str]  # its number and its text
Row = tuple[int, list[str]]  # the number of the line in which it ends, and its cells

MOST_BYTES = 2**28
DELIMITERS = ("\t", ";", "|", "&", ",", None)  # None: blanks
COMMENTS = ("#", "%", "//")
NOT_TEXT = {b"PK\x03\x04": "a workbook or archive", b"\x1f\x8b": "compressed", b"%PDF": "a PDF"}
NOT_TEXT |= {b"SIMPLE  =": "a FITS file", b"\x89HDF": "HDF5 or netCDF", b"\x93NUMPY": "a NumPy array"}
NOT_TEXT |= {b"CDF\x01": "netCDF", b"CDF\x02": "netCDF", b"<?xml": "XML, such as a VOTable"}
PAGE = re.compile(rb"\s*<(!doctype|html|table)", re.IGNORECASE)
LATEX = re.compile(r"\\(begin|end|hline|toprule|midrule|bottomrule|cline)\b.*")


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

    Text (``.csv``, ``.tsv``, ``.txt``, Markdown; commas, semicolons, tabs, bars or blanks; decimal commas; thousands
    separators; comment lines; a byte order mark), ``.json``, ``.jsonl`` and ``.parquet`` files, DataFrames and Series.
    Long tables have one row for each run; wide ones a column for each curve or seed, or for each size. JSON is a list
    of runs (nested settings and metrics are laid side by side), columns, pandas' own, or curves by name.

    Columns are found by their usual names: the size by ``n_train``, ``n``, ``samples``, ``train_size``,
    ``Seen Examples`` and the like; the loss by ``loss``, ``error``, ``test_error``, ``rmse``, ...; ``accuracy``,
    ``auc``, ``f1`` and others that rise become 1 minus their value (100 minus, in percent); runs by ``seed``,
    ``run``, ``fold``; curves by ``curve``, ``model``, ``encoder``, ``task``, ``dataset``, ... A column of another name
    that distinguishes curves becomes one of their labels. A row that is the mean of several runs, which ``n_runs`` (or
    ``n_seeds``, ``repeats``) counts and ``loss_std`` (or ``sd``, ``sem``) tells the spread of, is taken as so many runs
    (:func:`gzlib.fitting.curves.runs_like`). Rows with ``Training`` 0 are held out of fits. Blocks of text
    between two blank lines, as gnuplot's data sets, or below a comment are curves if they hold the same sizes.

    Parameters
    ----------
    source : path ("-" for standard input)
        Text with line breaks, an open file, DataFrame (also of polars or Arrow) or Series (its index the sizes)
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
    """Cells as they are, from a file, text, DataFrame or Series: a Table."""
    convert = getattr(source, "to_pandas", None)  # of polars, Arrow
    source = convert() if convert is not None else source
    if isinstance(source, pd.DataFrame | pd.Series):
        return _from_frame(source)
    if isinstance(source, bytes) or hasattr(source, "read"):
        content = source if isinstance(source, bytes) else source.read()
        return _from_bytes("the file", content.encode() if isinstance(content, str) else content)
    if isinstance(source, str) and "\n" in source.strip():
        return _from_bytes("the text", source.encode())
    if not isinstance(source, str | os.PathLike):
        raise UserError(f"Learning curves cannot be read from {source!r:.40}: give a file or a DataFrame.")
    return _from_file(source)


def _from_frame(source: pd.DataFrame | pd.Series) -> Table:
    frame = source.to_frame("loss" if source.name is None else source.name) if isinstance(source, pd.Series) else source
    if isinstance(frame.columns, pd.MultiIndex):  # as groupby(...).agg leaves it
        frame = frame.set_axis(["_".join(filter(None, map(str, names))) for names in frame.columns], axis=1)
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    elif (
        not isinstance(frame.index, pd.RangeIndex)
        and all(is_number(str(size)) for size in frame.index)
        and not any(kind_of(column)[0] == "size" for column in frame)
    ):
        frame = frame.rename_axis("n_train").reset_index()
    frame = frame.rename(columns=str).reset_index(drop=True)  # of a table that was sorted or filtered
    return Table("the table", frame, [f"row {i}" for i in range(len(frame))])


def _from_file(source: FilePath) -> Table:
    content = _bytes_of(source)
    suffix = Path(source).suffix.lower()
    if suffix in (".parquet", ".pq"):
        return _from_parquet(source, content)
    return _from_bytes(source, content, is_json=suffix in (".json", ".jsonl", ".ndjson"))


def _from_bytes(source: FilePath, content: bytes, *, is_json: bool = False) -> Table:
    """A table from text of any kind or parquet, whatever the ending of the file's name says."""
    if content[:4] == b"PAR1":
        return _from_parquet(source, content)
    for start, what in NOT_TEXT.items():
        if content.startswith(start):
            raise UserError(f"{source} is {what}, not text: save the curves as CSV.")
    if PAGE.match(content):
        raise UserError(f"{source} is a web page, not a table: save the curves as CSV.")
    text, notes = _decoded(source, content)
    if text.lstrip()[:1] in ("[", "{") or (is_json and "\n" not in text.strip()):
        return _from_json(source, text, notes)
    return _from_text(source, text, notes)


def _bytes_of(source: FilePath) -> bytes:
    try:
        if str(source) == "-":
            return sys.stdin.buffer.read(MOST_BYTES)
        if not str(source):
            raise UserError("The name of the file is blank: give the path of a file of learning curves.")
        path = Path(source)
        passed_by_shell = str(path).startswith(("/dev/fd/", "/proc/self/fd/", "/dev/stdin"))
        if not (stat.S_ISREG(path.stat().st_mode) or path.is_dir() or passed_by_shell):
            raise UserError(f"{source} is not a regular file: give a file of learning curves.")
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
    except UserError:
        raise
    except FileNotFoundError as error:
        if str(source).startswith(("http://", "https://", "http:/", "https:/")):
            raise UserError(f"{source} is an address, not a file: download it, and give its path.") from error
        raise UserError(
            f"There is no file {source}: give the path of a CSV file with the columns n_train and loss."
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"{str(source)[:200]} cannot be read ({reason}): give a file with the columns n_train and loss."
        ) from error
    if len(content) > MOST_BYTES:
        raise UserError(f"{source} is larger than {MOST_BYTES >> 20} MiB: is it a file of learning curves?")
    return content


def _decoded(source: FilePath, content: bytes) -> tuple[str, list[str]]:
    """The text, whatever program saved it, and what to say about that."""
    marks = [(b"\xff\xfe\0\0", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"", "utf-8-sig")]
    two = max(content[:64:2].count(0), content[1:64:2].count(0)) > min(len(content), 64) // 3  # bytes a letter
    if two and not content.startswith((b"\xff\xfe", b"\xfe\xff")):
        marks.insert(2, (b"", "utf-16-be" if content[0] == 0 else "utf-16-le"))
    for mark, encoding in marks:
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
    return text.removesuffix("\x1a"), []


def _from_parquet(source: FilePath, content: bytes) -> Table:
    try:
        frame = pd.read_parquet(BytesIO(content))
    except ImportError as error:
        raise UserError(f"Reading {source} needs pyarrow (pip install pyarrow); or save the curves as CSV.") from error
    except Exception as error:  # pyarrow's own kinds, which the base installation does not know
        raise UserError(f"{source} cannot be read as parquet ({str(error).strip().splitlines()[0]}).") from error
    for beside in [f"{name}.mask" for name in frame if f"{name}.mask" in frame]:  # as astropy marks what is not known
        if pd.api.types.is_bool_dtype(frame[beside]):
            name = beside.removesuffix(".mask")
            frame[name] = frame[name].mask(frame.pop(beside))
    table = _from_frame(frame)
    table.name = str(source)
    return table


def _from_json(source: FilePath, text: str, notes: list[str]) -> Table:
    try:
        try:
            content = json.loads(text)
        except ValueError as error:
            lines = [line for line in text.splitlines() if line.strip()]
            if len(lines) < 2 or not lines[0].rstrip().endswith("}"):
                raise
            content = _json_lines(source, text, error)
        frame = _frame_of(content, notes)
    except UserError:
        raise
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise UserError(
            f"{source} cannot be read as JSON ({str(error)[:120]}): give a list of runs, or one run a line, each with"
            " n_train and loss."
        ) from error
    if frame.map(lambda cell: isinstance(cell, list | dict)).any(axis=None):
        raise UserError(f"{source} holds nested values: give a flat list of runs, each with n_train and loss.")
    return Table(str(source), frame, [f"run {i + 1}" for i in range(len(frame))], notes)


def _json_lines(source: FilePath, text: str, whole: ValueError) -> list[Any]:
    """One run a line; ``whole`` says why the whole text is not JSON, and is raised if its first line is not either."""
    runs: list[Any] = []
    for i, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            runs.append(json.loads(line))
        except ValueError as error:
            if not runs:
                raise whole from None
            raise UserError(f"{source}, line {i}, cannot be read as JSON ({error}): correct or remove it.") from None
    return runs


def _frame_of(content: Any, notes: list[str]) -> pd.DataFrame:
    """Runs as a table, from what JSON or Python's lists and dicts hold of them.

    Raises
    ------
    ValueError, TypeError
        If there is no such reading.
    """
    if isinstance(content, Mapping):
        content = {str(key): value for key, value in content.items()}
        runs = [key for key, value in content.items() if _is_runs(value)]
        if {"columns", "data"} <= content.keys():  # pandas, orient="split"
            return pd.DataFrame(content["data"], columns=list(map(str, content["columns"])), dtype=object)
        if len(runs) == 1 and not any(
            isinstance(v, list | dict) for k, v in content.items() if k not in [*runs, "schema"]
        ):
            return _frame_of(content[runs[0]], notes)  # {"name": ..., "runs": [...]}
        return _of_mapping(content)
    if not isinstance(content, Sequence) or isinstance(content, str) or not all(map(_is_row, content)):
        raise TypeError("it is not a list of runs")
    if not content or isinstance(content[0], Mapping):
        flat = pd.json_normalize([dict(run) for run in content])
        names = [str(name) for name in flat.columns]
        leaves = [name.rpartition(".")[2] for name in names]
        own = [leaf if leaves.count(leaf) == 1 else name for name, leaf in zip(names, leaves, strict=True)]
        return _exploded(flat.set_axis(own, axis=1).astype(object))
    rows = [list(row) for row in content]
    header = rows.pop(0) if all(isinstance(cell, str) and not is_number(cell) for cell in rows[0]) else None
    if header is None and len(rows) == 2 < len(rows[0]):  # sizes, then losses
        rows = [list(pair) for pair in zip(*rows, strict=True)]
    if header is None and ({len(row) for row in rows} != {2} or len(rows) == 2):
        raise ValueError("its lists have no names")
    if header is None:
        _refuse_swapped("The list of pairs", rows)
        notes.append("the first number of each pair is taken as n_train and the second as loss")
    return pd.DataFrame(rows, columns=header or ["n_train", "loss"], dtype=object)


def _is_row(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple)


def _is_runs(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(run, Mapping) for run in value)


def _of_mapping(content: dict[str, Any]) -> pd.DataFrame:
    """Runs as a table from columns by name, losses by size, or curves by name, in the shapes that these come in."""
    numbered = bool(content) and all(map(is_number, content))
    values = list(content.values())
    if numbered and not any(map(_is_row, values)):  # losses by size
        return pd.DataFrame({"n_train": list(content), "loss": values}, dtype=object)
    if content and all(isinstance(value, Mapping) for value in values):
        inner = [{str(key): cell for key, cell in value.items()} for value in values]
        if any(kind_of(column)[0] == "size" for column in content):  # pandas' own: cells by row, for each column
            return pd.DataFrame(dict(zip(content, inner, strict=True))).astype(object)
        if numbered:  # runs by row; or the metrics of each size
            has_size = any(kind_of(key)[0] == "size" for key in inner[0])
            return _exploded(
                pd.DataFrame([run if has_size else {"n_train": n} | run for n, run in zip(content, inner, strict=True)])
            )
        parts = {name: _of_mapping(value) for name, value in zip(content, inner, strict=True)}
    elif content and all(map(_is_runs, values)):
        parts = {name: pd.json_normalize([dict(run) for run in value]) for name, value in content.items()}
    elif not any(map(_is_row, values)):
        raise ValueError("it holds one value for each name")
    else:
        return _exploded(pd.DataFrame(content)) if not numbered else pd.DataFrame(content).astype(object)
    whole = pd.concat([part.assign(curve=name) for name, part in parts.items()], ignore_index=True)
    return whole.astype(object)


def _exploded(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each run, of cells that hold a list of runs."""
    lists = [name for name in frame if frame[name].map(lambda cell: isinstance(cell, list | tuple)).all()]
    if len(frame) and lists and any(kind_of(name)[0] == "size" for name in frame if name not in lists):
        frame = frame.explode(lists, ignore_index=True)
    return frame.astype(object)


def _from_text(source: FilePath, text: str, notes: list[str]) -> Table:
    whole = [(i + 1, line) for i, line in enumerate(re.split(r"\r\n|\r|\n", text))]
    lines = [(i, line) for i, line in whole if line.strip()]
    asked = None
    if lines and (directive := re.fullmatch(r"sep=(.)", lines[0][1].strip())):  # of Excel
        asked, lines = directive[1], lines[1:]
    comments = [(i, line) for i, line in lines if line.lstrip().startswith(COMMENTS)]
    lines = [(i, line) for i, line in lines if not line.lstrip().startswith(COMMENTS)]
    lines = [(i, _without_remark(line)) for i, line in lines]
    if any(line.rstrip().endswith("\\\\") for _, line in lines):  # LaTeX
        bare = [
            (i, re.sub(r"\s*\\\\\s*(\\hline)?$", "", line.strip()))
            for i, line in lines
            if not LATEX.match(line.strip())
        ]
        lines = [(i, re.sub(r"(?<=\d)(\{,\}|\\,)(?=\d{3})", "", re.sub(r"\$", "", line))) for i, line in bare]
        lines = [(i, re.sub(r"(?<=\d)\\?%", "", line)) for i, line in lines]
        lines = [(i, re.sub(r"\\(?:text|math)(?:bf|it|rm)\{([^{}]*)\}", r"\1", line)) for i, line in lines]
    lines = _without_title(_ruled(source, lines, notes), notes) if asked is None else lines
    delimiter = asked or _delimiter([line for _, line in lines])
    rows = _split(lines, delimiter, source)
    if not rows:  # nor is there anything between delimiters
        raise UserError(f"{source} cannot be read as CSV (it is empty): give a file with the columns n_train and loss.")
    header, start = _header(source, rows, comments, delimiter, notes)
    if again := [line for line, cells in rows[start:] if cells == header]:  # files put one behind the other
        notes.append(f"line {again[0]} repeats the header: rows below it are taken as more rows of the same table")
        rows = rows[:start] + [(line, cells) for line, cells in rows[start:] if cells != header]
    width = len(header)
    while width and not header[width - 1]:
        width -= 1
    frame = []
    named = start == 1 and all(len(cells) == width + 1 and cells[-1] for _, cells in rows[1:]) and _counted(rows[1:])
    for line, cells in rows[start:]:
        cells = cells[1:] if named else cells  # numbers of rows, as R and pandas print them
        while len(cells) > width and not cells[-1]:
            cells = cells[:-1]
        if len(cells) != width:
            raise UserError(
                f"{source}, line {line}: {_count(len(cells), 'cell')} where the header has {_count(width, 'column')}"
                f" ({', '.join(header[:width])}); correct the line"
                + (", or quote numbers with a comma inside." if delimiter == "," else ".")
            )
        frame.append(cells)
    header = [name or ("index" if i == 0 else f"column {i + 1}") for i, name in enumerate(header[:width])]
    if twice := [name for name in header if header.count(name) > 1]:
        raise UserError(f"{source}: the column {twice[0]!r} appears twice; remove or rename one of them.")
    table = pd.DataFrame(frame, columns=header, dtype=object)
    blocks = _blocks([line for line, _ in rows[start:]], whole, header)
    return Table(str(source), table, [f"line {line}" for line, _ in rows[start:]], notes, blocks)


def _without_remark(line: str) -> str:
    """A row without a comment behind its last number, or behind the names of at least two columns."""
    row = re.fullmatch(r"(.*[\d%])\s+#\s.*", line) or re.fullmatch(r"(.*[^\s|][\t;,].*\w)\s+#\s[^\t;,]*", line)
    return row[1] if row and not {'"', "|"} & set(line) else line


BLANK = re.compile(r"[\s,;|]*")  # as spreadsheets save rows without anything, too


def _blocks(rows: list[int], lines: list[Line], header: list[str]) -> Blocks | None:
    """Parts of a table between blank lines: of two lines each, as gnuplot separates data sets, or else of one.

    Parameters
    ----------
    rows : list of int
        The line of each row.
    lines
        All of the text.
    header
        Names of the columns, which a comment may repeat above each part.
    """
    blank = [sum(bool(BLANK.fullmatch(line)) for _, line in lines[a : b - 1]) for a, b in pairwise(rows)]
    between = np.array(blank) - min(blank, default=0)  # a text may have a blank line behind each of its lines
    least = 2 if between.max(initial=0) > 1 else 1
    starts = [0, *(np.flatnonzero(between >= least) + 1)]
    if len(starts) < 2:
        return None
    above = [[line.strip(" \t#%/*,;|:") for _, line in lines[rows[i - 1] if i else 0 : rows[i] - 1]] for i in starts]
    repeated = {text for text in above[1] if all(text in texts for texts in above)}
    columns = BLANK.sub("", "".join(header))
    named = [
        [text for text in texts if text and text not in repeated and BLANK.sub("", text) != columns] for texts in above
    ]
    names = [texts[-1] for texts in named if texts]
    part = np.searchsorted(starts, np.arange(len(rows)), side="right") - 1
    is_named = len(names) == len(set(names)) == len(starts)
    return Blocks(part.tolist(), names if is_named else [], least == 2, [f"line {rows[i]}" for i in starts])


def _counted(rows: Sequence[Row]) -> bool:
    """Whether the first cells number the rows."""
    first = [cells[0] for _, cells in rows]
    return len(first) > 1 and any(first == [str(i + start) for i in range(len(first))] for start in (0, 1))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


NOWHERE = "the table"  # while the delimiter is looked for


def _refuse_open_quote(lines: list[Line], delimiter: str, source: FilePath) -> None:
    """A quote that is never closed would swallow all rows behind it."""
    texts = (line + "\n" for _, line in lines)
    reader, read = csv.reader(texts, delimiter=delimiter, skipinitialspace=True, strict=True), 0
    try:
        for _ in reader:
            read = reader.line_num
    except csv.Error as error:
        if "end of data" in str(error):
            first = lines[read][0]  # of the row that does not end
            raise UserError(f"{source}, line {first}: a quotation mark is never closed; close or remove it.") from None


RULE = re.compile(r"(?=.*[-=]{2})[\s|+:=-]+")  # between the header and the rows of a table in text


UNDERLINE = re.compile(r"\s*[-=]{3,}(\s+[-=]{3,})*\s*")  # of columns that blanks part


def _ruled(source: FilePath, lines: list[Line], notes: list[str]) -> list[Line]:
    """The rows of a table that is drawn with rules, as in Markdown, without the text around it; else all lines."""
    rules = [k for k, (_, line) in enumerate(lines) if RULE.fullmatch(line) and ("|" in line or "+" in line)]
    if not rules:
        return [(i, line) for i, line in lines if not UNDERLINE.fullmatch(line)]
    blocks: list[list[Line]] = []
    last = -1
    for i, line in lines:
        if "|" in line or RULE.fullmatch(line):
            blocks += [[]] if i != last + 1 else []
            blocks[-1].append((i, line))
            last = i
    blocks = [block for block in blocks if any(RULE.fullmatch(line) for _, line in block)]
    rows = [[(i, line) for i, line in block if not RULE.fullmatch(line)] for block in blocks]
    if len({re.sub(r"\s", "", block[0][1]) for block in rows if block}) > 1:
        raise UserError(f"{source} holds {len(rows)} tables (the second in line {rows[1][0][0]}): keep one of them.")
    kept = [line for block in rows for line in block]
    if len(lines) > sum(map(len, blocks)):
        notes.append(f"text around the table (lines {kept[0][0]} to {kept[-1][0]}) is left out")
    return [(i, re.sub(r"(?<![\w*])(\*\*?|`)([^*`|]+)\1", r"\2", line)) for i, line in kept]


def _without_title(lines: list[Line], notes: list[str]) -> list[Line]:
    """The lines from the header on, where a title with fewer cells is above it."""
    for k, (number, line) in enumerate(lines[:20]):
        if sum(before.count('"') for _, before in lines[:k]) % 2:
            continue  # within a cell that goes over several lines
        for delimiter in DELIMITERS:
            cells = [[cell for cell in row if cell] for _, row in _split(lines[: k + 1], delimiter)]
            own = cells[-1] if cells and len(_split([(number, line)], delimiter)) else []
            if len(own) > 1 and any(kind_of(cell)[0] == "size" for cell in own) and not any(map(is_number, own)):
                if k and all(len(row) < len(own) for row in cells[:-1]):
                    notes.append(f"line {lines[0][0]} is left out: the header is line {number}")
                    return lines[k:]
                return lines
    return lines


def _split(lines: list[Line], delimiter: str | None, source: FilePath = NOWHERE) -> list[Row]:
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
        if source != NOWHERE and any('"' in line for _, line in lines):
            _refuse_open_quote(lines, delimiter, source)
        for cells in csv.reader(feed(), delimiter=delimiter, skipinitialspace=True):
            cells = [re.sub(r"^'(.*)'$", r"\1", cell.strip()) for cell in cells]
            if any(cells) and not (delimiter == "|" and all(re.fullmatch(r":?-+:?", cell) for cell in cells)):
                rows.append((seen[-1], cells))
    except csv.Error as error:
        raise UserError(f"{source}, line {seen[-1]}, cannot be read as CSV ({error}): correct it.") from error
    return rows


def _delimiter(lines: list[str]) -> str | None:
    """The delimiter with which most lines have as many cells as the header, at least two."""
    best = 0.0
    chosen: str | None = ","
    sample = [(0, line) for line in lines[:200]]
    for delimiter in DELIMITERS:
        counts = []
        try:
            rows = _split(sample, delimiter)
        except UserError:  # which is told with its line, where the table is read
            continue
        for _, cells in rows:
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
    found = [next((names for _, names in _split([line], delimiter)), []) for line in reversed(before)]
    fit = [len(names) == len(cells) and not any(map(is_number, names)) for names in found]
    sized = [ok and any(kind_of(name)[0] == "size" for name in names) for ok, names in zip(fit, found, strict=True)]
    if any(sized) or any(fit[:1]):  # names of the columns, or else the last comment
        return found[sized.index(True) if any(sized) else 0], 0
    if len(cells) == 2:
        _refuse_swapped(source, [cells for _, cells in rows])
        notes.append("there is no header: the first column is taken as n_train and the second as loss")
        return ["n_train", "loss"], 0
    raise UserError(f"{source} has no header: name the columns in its first line, such as n_train and loss.")


def _refuse_swapped(source: FilePath, pairs: Sequence[Sequence[Any]]) -> None:
    """Refuse pairs without names of which only the second is always a whole number: sizes, behind their losses."""
    try:
        first, second = np.array([[float(str(cell).replace(",", ".")) for cell in pair] for pair in pairs]).T
    except ValueError:  # which is told with its line, where the numbers are read
        return
    if (second == np.rint(second)).all() and (first < second).all() and (first != np.rint(first)).any():
        raise UserError(
            f"{source} names no columns, and the second numbers may be the sizes: name them, such as loss and n_train."
        )


def as_array(
    data: AnyCurves, losses: npt.ArrayLike | None = None, *, x: str = "n_train", replicate: str = "seed", **columns: Any
) -> xr.DataArray:
    """Learning curves of any kind as a labelled array.

    Parameters
    ----------
    data : path
        DataFrame, Series, DataArray, Dataset with a loss, dict of columns or of losses by size, list of runs, (sizes,
        losses), or the sizes; or a ``Fit``, whose data they are.
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
    if isinstance(of_fit := getattr(data, "data", None), xr.DataArray):
        data = of_fit
    if isinstance(data, xr.Dataset):
        data = _losses_of(data)
    if isinstance(data, xr.DataArray):
        data = data.rename("accuracy") if columns.pop("accuracy", None) else data
        if named := [name for name, value in columns.items() if value]:
            raise UserError(f"{named[0]}= names a column of a table, and a labelled array has none: leave it out.")
        return _checked(data, x, replicate)
    notes: list[str] = []
    table: Any = data
    if losses is not None or _is_pair(data):
        table = _of_arrays(*(table if losses is None else (data, losses)))
    elif isinstance(data, Mapping | np.ndarray | Sequence) and not isinstance(data, str | bytes):
        table = _of_plain(data, notes)
    runs = read_curves(table, **columns)
    if not runs["training"].any():
        raise UserError(
            f"{runs.attrs['name']}: all of its runs are held out (training is 0): mark those to fit with training 1."
        )
    loss = to_array(runs).rename({"n_train": x, "seed": replicate})
    loss = loss.isel(curve=0, drop=True) if list(loss["curve"].values) == ["curve"] else loss
    return loss.assign_attrs(notes=notes + runs.attrs["notes"], metric=runs.attrs["metric"])


def _is_pair(data: Any) -> bool:
    """Whether it is (sizes, losses), and not two runs."""
    if not isinstance(data, tuple | list | np.ndarray) or len(data) != 2 or any(isinstance(v, Mapping) for v in data):
        return False
    if not all(hasattr(part, "__len__") for part in data):
        return False
    if isinstance(data, tuple) or len(data[0]) != 2:
        return True
    if isinstance(data, list) and all(isinstance(part, tuple) for part in data):  # [(250, .5), (500, .4)]
        return False
    raise UserError("Two pairs of numbers can be sizes and losses, or two runs: write (sizes, losses), a tuple.")


def _of_plain(data: Any, notes: list[str]) -> pd.DataFrame:
    """A table from a dict, a list of runs or of pairs."""
    plain = isinstance(data, Mapping) and any(isinstance(v, np.ndarray | pd.Series | pd.Index) for v in data.values())
    try:
        if plain:
            return pd.DataFrame(dict(data))
        data = data.tolist() if isinstance(data, np.ndarray) else data
        return _frame_of([*data.items()] if not data else data if isinstance(data, Mapping) else list(data), notes)
    except UserError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        what = "A dict" if isinstance(data, Mapping) else "A list or array alone"
        raise UserError(
            f"{what} of these values has no sizes and losses to read ({str(error)[:120]}): give both, as in"
            " fit(sizes, losses), or columns by name."
        ) from error


def _losses_of(data: xr.Dataset) -> xr.DataArray:
    """The variable of a Dataset that is the loss, by its name."""
    if "loss" in data:
        return data["loss"]
    for kind in ("loss", "rising", "negated"):
        found = [name for name in data if kind_of(name)[0] == kind]
        best = [name for name in found if kind_of(name)[1] == min(kind_of(other)[1] for other in found)]
        if len(best) == 1:
            return data[best[0]]
    raise UserError(
        f"The Dataset has no variable 'loss' (found: {', '.join(map(str, data))}): give it as data['NAME']."
    )


def _checked(data: xr.DataArray, x: str, replicate: str) -> xr.DataArray:
    """A labelled array with sizes that are numbers and losses that can be fitted; accuracies are turned, and said."""
    if x not in data.dims or x not in data.coords:
        raise UserError(
            f"The losses have the dimensions {', '.join(map(str, data.dims))}; {x!r} is not one with sizes: name"
            " the dimension of the sizes with x=, and give it a coordinate."
        )
    try:
        if "M" in data[x].dtype.kind or data.dtype.kind in "bcmM":
            raise TypeError(f"they are of the kind {data[x].dtype if data[x].dtype.kind == 'M' else data.dtype}")
        sizes, losses = data[x].astype(float), data.astype(float)
    except (TypeError, ValueError) as error:
        raise UserError(f"Sizes in {x!r} and losses must be numbers ({error}).") from error
    if not np.all(np.isfinite(sizes) & (sizes > 0)):
        bad = sizes.values[~(np.isfinite(sizes.values) & (sizes.values > 0))][0]
        raise UserError(f"The sizes in {x!r} must be positive and finite: {bad:g} is not.")
    if not losses.size:
        raise UserError("There are no losses: give one for each size.")
    values, twice = np.unique(sizes, return_counts=True)
    if twice.max() > 1:
        raise UserError(
            f"The size {values[twice.argmax()]:g} stands {twice.max()} times in {x!r}: give repeated runs a dimension"
            f" of their own, such as {replicate!r}."
        )
    notes, metric = list(data.attrs.get("notes", [])), data.attrs.get("metric", "loss")
    if sizes.dtype != data[x].dtype and data[x].dtype.kind not in "iu":
        losses = losses.assign_coords({x: sizes.values})
    kind = kind_of(data.name)[0] if "metric" not in data.attrs else None
    if kind == "logarithm":
        raise UserError(f"{data.name!r} holds logarithms by its name: give the losses themselves, or another name.")
    if kind in ("rising", "negated"):
        title, largest = str(data.name), float(losses.max())
        top = 0.0 if kind == "negated" else best_value("the array", largest, [title], title)
        losses, metric = (top - losses).round(12), f"{top:g} - {data.name}" if top else f"minus {data.name}"
        notes.append(f"{data.name} rises as models get better: fitted is {metric}")
        if kind == "rising" and not PERCENT.search(title):
            _refuse_jumps(top - losses, x, title)
            least = losses.min([dim for dim in (x, replicate) if dim in losses.dims])
            refuse_mixed("the array", title, least.to_series() if least.ndim else pd.Series([float(least)]), top)
    elif kind == "loss" and is_rate(str(data.name)) and not PERCENT.search(str(data.name)):
        _refuse_jumps(losses, x, str(data.name))
    bad = (losses.values <= 0) | np.isinf(losses.values)
    if bad.any():
        where = {str(dim): losses[dim].values[i] for dim, i in zip(losses.dims, np.argwhere(bad)[0], strict=True)}
        place = ", ".join(f"{dim}={value}" for dim, value in where.items())
        raise UserError(
            f"The loss at {place} is {losses.values[bad][0]:g}: power laws need positive, finite losses; leave that run"
            " out."
        )
    if not np.isnan(losses.values).all():
        check_unit(losses.values[~np.isnan(losses.values)], "The losses")
    if "metric" not in data.attrs and kind != "loss":  # what the caller names a loss is one
        mean = log_of(geometric_mean(losses, replicate).sortby(x)).transpose(..., x)
        flat = mean.values.reshape(-1, mean.sizes[x])
        rising = [row for row in flat if like_accuracy(row, least=BY_CHANCE)]
        if len(rising) > 0.5 * len(flat):
            known = np.isfinite(rising[0])
            ends = [f"{np.exp(rising[0][known][i]):.3g} at {mean[x].values[known][i]:g}" for i in (0, -1)]
            raise UserError(
                f"The loss rises with {x} ({', '.join(ends)}); is it an accuracy? Then name it so:"
                " data.rename('accuracy'); if not, data.rename('loss')."
            )
    return losses.assign_attrs(notes=notes, metric=metric)


def _refuse_jumps(values: xr.DataArray, x: str, shown: str) -> None:
    flat = values.transpose(..., x).values.reshape(-1, values.sizes[x])
    sizes, rows = np.meshgrid(values[x].values, np.arange(len(flat)))
    columns = {"curve": rows.ravel(), "n_train": sizes.ravel(), "loss": flat.ravel()}
    refuse_jumps("the array", shown, pd.DataFrame(columns))


def _of_arrays(sizes: Any, losses: Any) -> pd.DataFrame:
    try:
        sizes, losses = (_numbers(values) for values in (sizes, losses))
    except (TypeError, ValueError) as error:
        raise UserError(f"Sizes and losses must be arrays of numbers ({str(error)[:120]}).") from error
    if sizes.ndim != 1 or losses.ndim not in (1, 2) or len(losses) != len(sizes) or not losses.size:
        raise UserError(
            f"The sizes have the shape {sizes.shape} and the losses {losses.shape}: give one size for each loss, or a"
            " row of runs for each size."
        )
    runs = losses.reshape(len(sizes), -1)
    frame = pd.DataFrame({"n_train": np.repeat(sizes, runs.shape[1]), "loss": runs.ravel()}).dropna(subset="loss")
    if frame.empty:
        raise UserError("No loss is a number: give one for each size.")
    return frame


def _numbers(values: Any) -> np.ndarray:
    """An array of floats, NaN where one is masked."""
    array = np.ma.asarray(values) if isinstance(values, np.ma.MaskedArray) else np.asarray(values)
    if array.dtype.kind in "bcmM":
        raise TypeError(f"they are of the kind {array.dtype}")
    return np.ma.filled(array.astype(float), np.nan)
