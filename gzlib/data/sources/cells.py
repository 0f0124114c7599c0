"""A user's table, CSV or parquet, as typed columns: what each holds over all its rows, and its values exactly.

A CSV has no types and a parquet file's are whatever its writer had, so a column's kind is found by looking at every
cell. Everything stays in Arrow's arrays: pandas would turn an index into no column, and blanks into fractions.
"""

import csv
import io
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from gzlib.errors import UserError

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
MOST_VALUES = 100  # distinct values of a column that are remembered; one with more holds no classes
HEADER_BYTES = 1 << 20
BLOCK_BYTES = 4 << 20
# Words that mean "no number" in a column whose other cells are numbers. In a column of text they are words.
NO_NUMBER = ("na", "n/a", "nan", "-nan", "null", "none", "<na>", "#n/a", "--", "-")
WHOLE, NUMBER = r"^[+-]?\d+$", r"(?i)^[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|inf|infinity)$"
DECIMAL_COMMA = r"^[+-]?\d*,\d+$"
THOUSANDS = r"^[+-]?[1-9]\d{0,2}(,\d{3})+$"  # 1,234,567; 1,234 may be either of the two
EXPONENT = r"^[+-]?\d(\.\d+)?[eE]\+\d{2,}$"  # as Excel and pandas write a long number: 5.88E+17
INDEX = re.compile(r"__index_level_\d+__|Unnamed: \d+(_level_\d+)?|")  # an index that pandas wrote as a column


@dataclass
class Facts:
    """What one column holds over all rows of one file or several.

    Attributes
    ----------
    kind : {"int64", "float64", "string", "empty", "other"}
        ``empty`` has no value at all; ``other`` are lists, structs, dates, numbers beyond 64 bits.
    type : str
        As the file calls it, for messages.
    n, missing : int
        Rows, and how many of them hold nothing: null, blank, NaN, or a word such as NA among numbers.
    values : set or None
        The distinct values; None if there are more than :data:`MOST_VALUES`.
    low, high : float or None
        Of numbers.
    whole : bool
        Whether all numbers are whole, however they are written.
    word : (int, str) or None
        The first cell, with its row counted from 1, that keeps a column of text from being one of numbers.
    exponent : (int, str) or None
        The first cell that is a long number in exponential notation.
    any_number, most_numbers, all_numbers, any_point : bool
        Of a column of text: whether cells that are not :data:`NO_NUMBER` are numbers, some with a decimal point.
    comma, commas : bool
        Whether commas are read as decimal points; whether some cells are numbers but for commas, and all others are
        numbers.
    boolean : bool
        Whether all cells are true or false.
    """

    kind: str = "empty"
    type: str = ""
    n: int = 0
    missing: int = 0
    values: set[Any] | None = field(default_factory=set)
    low: float | None = None
    high: float | None = None
    whole: bool = True
    word: tuple[int, str] | None = None
    exponent: tuple[int, str] | None = None
    any_number: bool = False
    most_numbers: bool = False
    all_numbers: bool = True
    any_point: bool = False
    comma: bool = False
    commas: bool = False
    boolean: bool = False

    @property
    def is_number(self) -> bool:
        return self.kind in ("int64", "float64")

    @property
    def holds_no_word(self) -> bool:
        """Whether a column of text has no cell but blanks and words for "no number"."""
        return self.kind == "string" and self.word is None and not self.any_number


class _TextScan:
    """Counts what the cells of a text column look like; the kind follows from all of them."""

    def __init__(self, type_name: str) -> None:
        self.facts = Facts(type=type_name)
        self.blank = self.no_number = self.whole = self.number = self.comma = self.boolean = 0
        self.decimal = self.grouped = 0  # cells in which a comma can't be the one of thousands, or not a decimal one
        self.low, self.high, self.longest = np.inf, -np.inf, 0
        self.comma_low, self.comma_high, self.comma_whole = np.inf, -np.inf, True  # with commas as decimal points

    def add(self, array: pa.Array) -> None:
        facts, cells = self.facts, pc.utf8_trim_whitespace(plain_text(array))
        blank = pc.or_kleene(pc.is_null(cells), pc.equal(cells, "")).fill_null(True)
        lower = pc.utf8_lower(cells)
        no_number = pc.is_in(lower, pa.array(NO_NUMBER)).fill_null(False)
        boolean = pc.is_in(lower, pa.array(("true", "false"))).fill_null(False)
        number = pc.match_substring_regex(cells, NUMBER).fill_null(False)
        whole = pc.match_substring_regex(cells, WHOLE).fill_null(False)
        decimal = pc.match_substring_regex(cells, DECIMAL_COMMA).fill_null(False)
        grouped = pc.match_substring_regex(cells, THOUSANDS).fill_null(False)
        comma = pc.or_(decimal, grouped)
        word = pc.invert(pc.or_(pc.or_(blank, no_number), number))
        if facts.word is None:
            facts.word = _first(cells, word, facts.n)
        if facts.exponent is None:
            facts.exponent = _first(cells, pc.match_substring_regex(cells, EXPONENT).fill_null(False), facts.n)
        counts = [("blank", blank), ("no_number", no_number), ("number", number), ("whole", whole), ("comma", comma)]
        counts += [("decimal", pc.and_not(decimal, grouped)), ("grouped", pc.and_not(grouped, decimal))]
        for name, mask in [*counts, ("boolean", boolean)]:
            setattr(self, name, getattr(self, name) + (pc.sum(mask).as_py() or 0))
        facts.n += len(cells)
        if (numbers := _parsed(cells.filter(number))).size:
            self.low, self.high = min(self.low, numbers.min()), max(self.high, numbers.max())
            facts.whole &= bool((numbers == np.rint(numbers)).all())
            facts.any_point |= self.number > self.whole
        if (numbers := _parsed(pc.replace_substring(cells.filter(comma), ",", "."))).size:
            known = numbers[np.isfinite(numbers)]  # 1,234,567 has no such reading
            self.comma_low = min(self.comma_low, known.min(initial=np.inf))
            self.comma_high = max(self.comma_high, known.max(initial=-np.inf))
            self.comma_whole &= bool((known == np.rint(known)).all())
        self.longest = max(self.longest, pc.max(pc.utf8_length(cells.filter(whole))).as_py() or 0)
        _remember(facts, cells.filter(pc.invert(blank)))

    @property
    def has_decimal_commas(self) -> bool:
        return self.decimal > 0 and not self.grouped

    def finish(self, decimal_commas: bool) -> Facts:
        """The facts; ``decimal_commas`` says whether commas may be decimal points in this column."""
        facts, words = self.facts, self.facts.n - self.blank - self.no_number
        facts.any_number, facts.all_numbers = self.number > 0, self.number == words
        facts.most_numbers = self.number > words / 2
        facts.commas = self.comma > 0 and self.number + self.comma == words
        facts.comma = facts.commas and decimal_commas and not self.grouped
        if self.blank == facts.n:
            facts.kind = "empty"
        elif words and facts.all_numbers:
            facts.kind = "int64" if self.whole == words else "float64"
            facts.low, facts.high = float(self.low), float(self.high)
            if facts.kind == "int64" and self.longest > 18 and max(-self.low, self.high) >= 2**63:
                facts.kind, facts.type = "other", "whole numbers beyond 64 bits"
        elif words and facts.comma:
            facts.kind, facts.whole = "float64", facts.whole and self.comma_whole
            facts.low, facts.high = float(min(self.low, self.comma_low)), float(max(self.high, self.comma_high))
        elif words and self.boolean == words:
            facts.kind, facts.low, facts.high, facts.boolean = "int64", 0.0, 1.0, True
        else:
            facts.kind = "string"
        facts.missing = self.blank + (self.no_number if facts.is_number else 0)
        if facts.is_number and facts.values is not None:
            found = pa.array([v for v in facts.values if v.lower() not in NO_NUMBER], pa.string())
            facts.values = set(as_numbers(found, facts).tolist())
            facts.low, facts.high = (min(facts.values), max(facts.values)) if facts.values else (None, None)
        return facts


def _first(cells: pa.Array, mask: pa.Array, before: int) -> tuple[int, str] | None:
    place = pc.index(mask, True).as_py()
    return None if place < 0 else (before + place + 1, cells[place].as_py())


def _remember(facts: Facts, values: pa.Array) -> None:
    if facts.values is not None:
        facts.values.update(pc.unique(values).to_pylist())
        facts.values = facts.values if len(facts.values) <= MOST_VALUES else None


class _NumberScan:
    def __init__(self, type_name: str, kind: str, boolean: bool) -> None:
        self.facts = Facts(kind=kind, type=type_name, boolean=boolean)

    def add(self, array: pa.Array) -> None:
        facts = self.facts
        facts.n += len(array)
        known = array.drop_null()
        if pa.types.is_boolean(array.type):
            known = known.cast(pa.int64())
        if pa.types.is_decimal(array.type):
            known = known.cast(pa.float64())
        if facts.kind == "float64":
            known = known.cast(pa.float64()).filter(pc.invert(pc.is_nan(known.cast(pa.float64()))))
        facts.missing += len(array) - len(known)
        if not len(known):
            return
        ends = pc.min_max(known).as_py()
        facts.low = min(ends["min"], ends["min"] if facts.low is None else facts.low)
        facts.high = max(ends["max"], ends["max"] if facts.high is None else facts.high)
        if facts.kind == "float64":
            facts.whole &= bool(pc.all(pc.equal(known, pc.round(known))).as_py())
        _remember(facts, known)

    def finish(self) -> Facts:
        facts = self.facts
        if facts.kind == "int64" and facts.high is not None and facts.high >= 2**63:
            facts.kind, facts.type = "other", "whole numbers beyond 64 bits"
        elif facts.missing == facts.n:
            facts.kind = "empty"
        return facts


class _OtherScan:
    def __init__(self, type_name: str, kind: str) -> None:
        self.facts = Facts(kind=kind, type=type_name, values=None)

    def add(self, array: pa.Array) -> None:
        self.facts.n += len(array)
        self.facts.missing += array.null_count

    def finish(self) -> Facts:
        return self.facts


def type_kind(kind: pa.DataType) -> str:
    """``int64``, ``float64``, ``string``, ``binary``, ``empty`` or ``other``, from a parquet column's type alone."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return "int64"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "float64"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "string"
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return "binary"
    return "empty" if pa.types.is_null(kind) else "other"


class Table:
    """One file of rows.

    Attributes
    ----------
    path : Path
    types : dict of str to DataType
        Columns in the file's order, without an index of pandas; names without outer blanks, those of ``roles`` in
        their own spelling (``RA`` is ``ra``, and ``BAR_GZ2_YES`` is ``bar-gz2_yes``).
    index : list of str
        Columns that are an index of pandas.
    masks : dict of str to str
        Column to the column beside it, ``NAME.mask``, with which astropy marks in parquet what is not known. Such
        cells are read as blanks.
    metadata : dict of bytes to bytes
        Of a parquet file's footer.
    rows : int or None
        None for a CSV that was not scanned yet.

    Raises
    ------
    UserError
        If the file is not a table, or a name appears twice.
    """

    def __init__(self, path: Path, roles: tuple[str, ...]) -> None:
        self.path, self.is_csv = path, path.suffix.lower() in (".csv", ".tsv")
        self.rows: int | None = None
        refuse_irregular(path)
        if self.is_csv:
            self.separator, raw = _csv_header(path)
            arrow = pa.schema([(name, pa.string()) for name in raw])
        else:
            arrow, self.rows = _footer(path)
            self.separator = ""
        self.metadata = arrow.metadata or {}
        self._raw: dict[str, str] = {}
        self.index: list[str] = []
        self.types: dict[str, pa.DataType] = {}
        exact = {name.strip() for name in arrow.names}
        spelling = {plain_name(role): role for role in roles}
        for column in arrow:
            name = column.name.strip()
            if INDEX.fullmatch(name):
                self.index.append(name or "(without a name)")
                continue
            role = spelling.get(plain_name(name), name)
            name = role if name not in roles and role not in exact else name
            if name in self.types:
                raise UserError(f"'{path}' has two columns '{name}'; rename or remove one.")
            self._raw[name], self.types[name] = column.name, column.type
        self.masks: dict[str, str] = {}
        for name in list(self.types):
            beside = next((n for n in self.types if not self.is_csv and n == f"{self._raw[name].strip()}.mask"), None)
            if beside and is_boolean(self.types[beside]):
                self.masks[name] = beside
        for beside in self.masks.values():
            del self.types[beside]

    def slices(self, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """The rows in order, at most ``rows`` at a time; of parquet one row group at most is in memory."""
        raw = [self._raw[name] for name in columns]
        try:
            if self.is_csv:
                options = pacsv.ConvertOptions(
                    column_types=dict.fromkeys(self._raw.values(), pa.string()), strings_can_be_null=False
                )
                options.include_columns = raw
                parse = pacsv.ParseOptions(delimiter=self.separator, newlines_in_values=True)
                reading = pacsv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False)
                with pacsv.open_csv(self.path, reading, parse, options) as reader:
                    for record in reader:
                        for start in range(0, len(record), rows):
                            yield record.slice(start, rows).rename_columns(columns)
            else:
                masks = [self._raw[self.masks[name]] for name in columns if name in self.masks]
                with pq.ParquetFile(self.path, buffer_size=1 << 20, pre_buffer=False) as parquet:
                    for record in parquet.iter_batches(batch_size=rows, columns=[*raw, *masks]):
                        yield self._unmasked(record, columns)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, UnicodeDecodeError) as error:
            raise UserError(_not_readable(self.path, error)) from None
        except KeyError:  # Arrow reads other names in the first line
            raise UserError(f"'{self.path}': the names of the columns in its first line are damaged.") from None

    def _unmasked(self, record: pa.RecordBatch, columns: list[str]) -> pa.RecordBatch:
        """These columns of a slice, with nulls where their masks are true."""
        arrays = [record[self._raw[name]] for name in columns]
        for i, name in enumerate(columns):
            if name in self.masks:
                masked = record[self._raw[self.masks[name]]].fill_null(False)
                arrays[i] = pc.if_else(masked, pa.scalar(None, arrays[i].type), arrays[i])
        return pa.RecordBatch.from_arrays(arrays, names=columns)

    @property
    def n_rows(self) -> int:
        """How many rows there are; of a CSV known once it was scanned."""
        if self.rows is None:
            raise RuntimeError(f"'{self.path}' was not scanned yet")
        return self.rows

    def scan(self, columns: list[str]) -> dict[str, Facts]:
        """Facts about these columns, from all rows; a CSV's rows are counted on the way."""
        scans: dict[str, _TextScan | _NumberScan | _OtherScan] = {}
        for name in columns:
            kind, type_name = type_kind(self.types[name]), "text" if self.is_csv else str(self.types[name])
            if kind in ("string", "binary"):
                scans[name] = _TextScan(type_name)
            elif kind in ("int64", "float64"):
                scans[name] = _NumberScan(type_name, kind, is_boolean(self.types[name]))
            else:
                scans[name] = _OtherScan(type_name, kind)
        rows = 0
        looked_at = [name for name, scan in scans.items() if self.is_csv or not isinstance(scan, _OtherScan)]
        for record in self.slices(looked_at, 1 << 16) if looked_at else ():
            rows += len(record)
            for name, array in zip(looked_at, record.columns, strict=True):
                decoded = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
                try:
                    scans[name].add(decoded)
                except pa.ArrowInvalid:  # bytes that are not text
                    scans[name] = _OtherScan(type_name=str(decoded.type), kind="other")
        if self.is_csv:
            self.rows = rows
        n_rows = self.n_rows
        for scan in scans.values():
            if scan.facts.kind == "empty" and not scan.facts.n:  # of the null type, whose cells were not scanned
                scan.facts.n = scan.facts.missing = n_rows
        # 1,234 is 1.234 where another cell of the file says so, or it is a position, which is never that large.
        text = {name: scan for name, scan in scans.items() if isinstance(scan, _TextScan)}
        commas = self.is_csv and self.separator != ","
        sure = commas and any(scan.has_decimal_commas for scan in text.values())
        found = {name: scan.finish() for name, scan in scans.items() if not isinstance(scan, _TextScan)}
        found |= {name: scan.finish(sure or (commas and name in ("ra", "dec"))) for name, scan in text.items()}
        return {name: found[name] for name in scans}


def is_boolean(kind: pa.DataType) -> bool:
    """Whether a parquet column holds true and false."""
    return bool(pa.types.is_boolean(kind.value_type if pa.types.is_dictionary(kind) else kind))


def plain_name(name: str) -> str:
    """A column's name as databases, spreadsheets and TOPCAT may change it.

    It has no capitals, no mark but ``_`` and no unit of degrees: ``RA [deg]`` is ``ra``.
    """
    name = re.sub(r"\s*[(\[]\s*(?:deg(?:rees?)?|°)\s*[)\]]$", "", name.lower())
    return re.sub(r"[-\s.]+", "_", name)


def refuse_irregular(path: Path) -> None:
    """Refuse pipes and devices, which may have no end."""
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError) as error:
        raise UserError(_not_readable(path, error)) from None
    if not regular:
        raise UserError(f"'{path}' is not a regular file; name a .csv, .tsv or .parquet file, or a folder.")


def _not_readable(path: Path, error: Exception) -> str:
    kind = "parquet" if path.suffix.lower() == ".parquet" else "a table"
    said = getattr(error, "strerror", None) or str(error).splitlines()[0][:300]
    hint = "; save it as UTF-8 (in Excel: 'CSV UTF-8')" if "utf8" in said.lower().replace("-", "") else ""
    return f"'{path}' cannot be read as {kind}: {said.rstrip('.')}{hint}."


def _csv_header(path: Path) -> tuple[str, list[str]]:
    """The separator and the names of a CSV's columns."""
    try:
        with open(path, "rb") as file:
            line = file.readline(HEADER_BYTES)
        if b"\r" in line.rstrip(b"\r\n"):  # lines of an old Macintosh, which Excel still writes
            line = line.partition(b"\r")[0]
        if line[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise UserError(f"'{path}' is UTF-16; save it as UTF-8 (in Excel: 'CSV UTF-8').")
        text = line.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(_not_readable(path, error)) from None
    if not text.strip():
        raise UserError(f"'{path}' cannot be read as a table: its first line, for the columns' names, is empty.")
    if len(line) == HEADER_BYTES:
        raise UserError(f"'{path}' cannot be read as a table: its first line has no end within {HEADER_BYTES:,} bytes.")
    separator = "\t" if path.suffix.lower() == ".tsv" else max(",;\t|", key=re.sub(r'"[^"]*"', "", text).count)
    if text.count('"') % 2:  # a name continues in the next line, as Excel writes one with a line break
        with open(path, encoding="utf-8-sig", errors="replace", newline="") as lines:
            text = lines.read(HEADER_BYTES)
    try:
        return separator, next(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except csv.Error as error:
        raise UserError(_not_readable(path, error)) from None


def _footer(path: Path) -> tuple[pa.Schema, int]:
    try:
        with pq.ParquetFile(path) as parquet:
            return parquet.schema_arrow, parquet.metadata.num_rows
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        with open(path, "rb") as file:
            if file.read(40).startswith(b"version https://git-lfs"):
                raise UserError(f"'{path}' is a Git LFS pointer; fetch the table with `git lfs pull`.") from None
        raise UserError(_not_readable(path, error)) from None


def plain_text(array: pa.Array) -> pa.Array:
    """A text, dictionary, number or binary column as ``string``; exact, with nulls kept.

    Of bytes, the zeros that fill a field of fixed length are no part of the text.

    Raises
    ------
    pyarrow.ArrowInvalid
        If bytes are not text in UTF-8.
    """
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    padded = type_kind(array.type) == "binary"
    if pa.types.is_fixed_size_binary(array.type):
        array = array.cast(pa.binary())
    text = array if pa.types.is_string(array.type) else array.cast(pa.string())
    return pc.utf8_rtrim(text, "\0") if padded else text


def as_numbers(array: pa.Array, facts: Facts) -> np.ndarray:
    """A column's numbers as float64, NaN where it holds none; ``facts`` say how it is written."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if not pa.types.is_string(array.type) and type_kind(array.type) != "string":
        number = array.cast(pa.int64()) if pa.types.is_boolean(array.type) else array
        return _floats(number)
    cells = pc.utf8_trim_whitespace(plain_text(array))
    if facts.comma:
        cells = pc.replace_substring(cells, ",", ".")
    return _parsed(true_as_one(cells))


def true_as_one(cells: pa.Array) -> pa.Array:
    lower = pc.utf8_lower(cells)
    return pc.if_else(pc.equal(lower, "true"), "1", pc.if_else(pc.equal(lower, "false"), "0", cells))


def _parsed(cells: pa.Array) -> np.ndarray:
    number = pc.match_substring_regex(cells, NUMBER)
    without_sign = pc.replace_substring_regex(cells, r"^\+", "")
    known = pc.if_else(number, without_sign, pa.scalar(None, pa.string()))
    return _floats(known)


def _floats(array: pa.Array) -> np.ndarray:
    values: np.ndarray = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return values
