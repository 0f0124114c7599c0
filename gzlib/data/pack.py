"""A survey while it is built: its folder, its arrays and tables piece by piece, and what is done so far."""

import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from gzlib.data.images import Frame
from gzlib.data.sources.base import Source
from gzlib.data.survey import ARRAYS, VERIFIED, is_survey, read_report
from gzlib.errors import NotWritten, UserError
from gzlib.files import check_replaceable, held, not_written, replace_file
from gzlib.progress import duration

if TYPE_CHECKING:
    import hashlib

ARROW = {"int64": pa.int64(), "float64": pa.float64(), "string": pa.string()}
ROWS_PER_GROUP = 4096  # of a survey's tables; so many rows are held, of which each is some kB until it is written
STATE = "state.json"  # what a survey that is being built is made of
ANNOUNCED, SAMPLE = 10_000, 256  # generated galaxies from which on the time is told first, and how many are timed
BYTES_PER_ROW = 400  # of a catalogue with 88 questions, compressed


class ImageFile:
    """``images.npy``, (galaxy, y, x, band) uint8, growing along its first axis; what already exists can be kept.

    NumPy pads a header so that the first axis can grow without moving the data; the true length is written last.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.file, self.shape, self.n = open(path, "r+b" if path.exists() else "w+b"), (size, size, 3), 0
        self._write_header()
        self.data_start = self.file.tell()

    def again(self, n: int, crc: int) -> np.ndarray | None:
        """The next ``n`` images of an earlier attempt, which stay; None if they are not what they were then."""
        place = self.file.tell()
        images = np.fromfile(self.file, np.uint8, n * int(np.prod(self.shape)))
        if images.size != n * np.prod(self.shape) or zlib.crc32(images.data) != crc:
            self.file.seek(place)
            return None
        self.n += n
        return images.reshape(n, *self.shape)

    def append(self, images: np.ndarray) -> None:
        self.file.write(np.ascontiguousarray(images, np.uint8).data)
        self.file.flush()
        self.n += len(images)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        with self.file:
            if failure is None:
                self.file.truncate()
                self.file.seek(0)
                self._write_header()
                if self.file.tell() != self.data_start:
                    raise RuntimeError("the header of images.npy outgrew its padding")
                self.file.flush()
                os.fsync(self.file.fileno())

    def _write_header(self) -> None:
        header = {"descr": "|u1", "fortran_order": False, "shape": (self.n, *self.shape)}
        np.lib.format.write_array_header_1_0(self.file, header)


class Decoded(BaseModel):
    """What a batch of files gave: hashes, problems by row, conversions, and how many images entered the survey."""

    digests: list[str | None]
    problems: dict[int, tuple[str, str]]
    conversions: list[str]
    images: int
    crc: int


class Journal:
    """One line a batch that has been decoded, so that a curation that was interrupted need not decode it again."""

    def __init__(self, path: Path) -> None:
        self.file = open(path, "r+b" if path.exists() else "w+b")

    def again(self, images: ImageFile) -> tuple[Decoded, np.ndarray] | None:
        """The next batch of an earlier attempt with its images; None if there are no more, or either is damaged."""
        place, line = self.file.tell(), self.file.readline()
        try:
            decoded = Decoded.model_validate_json(line)
            ready = images.again(decoded.images, decoded.crc)
        except ValidationError:
            ready = None
        if ready is None:
            self.file.seek(place)
            return None
        return decoded, ready

    def add(
        self,
        digests: list[bytes | None],
        problems: dict[int, tuple[str, str]],
        conversions: set[str],
        images: np.ndarray,
    ) -> None:
        decoded = Decoded(
            digests=[digest.hex() if digest else None for digest in digests],
            problems=problems,
            conversions=sorted(conversions),
            images=len(images),
            crc=zlib.crc32(images.data),
        )
        self.file.truncate()
        self.file.write(decoded.model_dump_json().encode() + b"\n")
        self.file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


class TableFile:
    """A parquet file written in row groups, none if no table is appended."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.schema = path, schema
        self.writer: pq.ParquetWriter | None = None
        self.waiting: list[pa.Table] = []

    def append(self, table: pa.Table) -> None:
        self.waiting.append(table)
        if sum(len(t) for t in self.waiting) >= ROWS_PER_GROUP:
            self._write()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure is None and self.waiting:
            self._write()
        if self.writer is not None:
            self.writer.close()

    def _write(self) -> None:
        if self.writer is None:
            self.writer = pq.ParquetWriter(self.path, self.schema, compression="zstd")
        self.writer.write_table(pa.concat_tables(self.waiting), row_group_size=ROWS_PER_GROUP)
        self.waiting = []


def arrow_schema(kinds: dict[str, str]) -> pa.Schema:
    """Parquet columns for a table whose columns are ``int64``, ``float64`` or ``string``."""
    return pa.schema([pa.field(column, ARROW[kind]) for column, kind in kinds.items()])


def catalog_schema(label_cols: list[str], labels: dict[str, str]) -> pa.Schema:
    """Columns of ``catalog.parquet``: who and where, the split, votes as int32, then other labels."""
    text = [pa.field(name, pa.string()) for name in ("id_str", "dataset_name")]
    place = [pa.field(name, pa.float64()) for name in ("ra", "dec")]
    votes = [pa.field(col, pa.int32()) for col in label_cols]
    return pa.schema([*text, *place, pa.field("split", pa.string()), *votes, *arrow_schema(labels)])


def catalog_table(
    catalog: pd.DataFrame, splits: list[str], votes: np.ndarray, labels: pd.DataFrame, schema: pa.Schema
) -> pa.Table:
    """One batch of accepted galaxies as a table of ``catalog.parquet``."""
    columns = [pa.array(catalog[name].tolist(), pa.string()) for name in ("id_str", "dataset_name")]
    columns += [pa.array(catalog[name].to_numpy(dtype=float)) for name in ("ra", "dec")]
    columns.append(pa.array(splits, pa.string()))
    columns += [pa.array(np.ascontiguousarray(votes[:, i], np.int32)) for i in range(votes.shape[1])]
    for field in list(schema)[len(columns) :]:
        values = labels[field.name]
        if field.type == pa.string():
            columns.append(pa.array(["" if pd.isna(v) else str(v) for v in values], pa.string()))
        else:
            columns.append(pa.array(values.to_numpy(dtype=field.type.to_pandas_dtype())))
    return pa.Table.from_arrays(columns, schema=schema)


def hash_galaxies(fingerprint: "hashlib._Hash", table: pa.Table, digests: list[bytes]) -> None:
    """Add real galaxies: everything in the catalogue, and their encoded images."""
    for record, digest in zip(table.to_pylist(), digests, strict=True):
        fingerprint.update(digest)
        fingerprint.update(json.dumps(list(record.values())).encode())


def refuse_foreign(folder: Path, is_same: Callable[[dict[str, Any]], bool]) -> None:
    """Refuse a folder that holds anything but an older survey that is the same by its report."""
    if not folder.exists():
        return
    if not is_survey(folder):
        if not folder.is_dir() or any(folder.iterdir()):
            raise UserError(f"'{folder}' holds something else than a curated survey; choose another folder.")
        return
    report = read_report(folder)
    if not is_same(report):
        raise UserError(
            f"'{folder}' holds another survey (of '{report['source']}', {report['parameters']['size']} px);"
            " delete it or choose another folder."
        )


class TooManyRejected(UserError):
    """More galaxies were rejected than a sound table has."""


def _is_own(folder: Path, name: str) -> bool:
    """Whether a curation wrote a file of a survey's folder; whatever else lies there is a user's."""
    return name in (*ARRAYS, VERIFIED, STATE, "survey.json", "rejected.csv", "tree.json")


@contextmanager
def building_place(
    folder: Path, state: dict[str, Any] | None, tell: Callable[[str], None] | None = None
) -> Iterator[Path]:
    """A folder to build a survey in; on success it becomes ``folder``.

    Of an interrupted curation it stays, and is given again for the same ``state``; bad input empties it. A second
    process that builds the same survey waits for the first one.

    Parameters
    ----------
    state : dict or None
        What the survey is made of; None for what can't be resumed.
    tell : callable, optional
        Takes the sentence that another process is waited for.

    Raises
    ------
    NotWritten
        If the operating system refuses; what was built so far stays.
    """
    place, old = (folder.with_name(f".{folder.name}.{what}") for what in ("partial", "old"))
    with held(folder.with_name(f".{folder.name}.lock"), f"Survey '{folder}'", wait=tell or (lambda _: None)):
        try:
            if old.exists() and not folder.exists():
                os.replace(old, folder)  # a process was killed between the two steps of replacing it
            check_replaceable(folder, "a survey", own=_is_own)
            shutil.rmtree(old, ignore_errors=True)
            content = None if state is None else json.dumps(state, sort_keys=True)
            if content is None or not (place / STATE).is_file() or (place / STATE).read_bytes() != content.encode():
                shutil.rmtree(place, ignore_errors=True)
            place.mkdir(exist_ok=True)
            if content is not None:
                replace_file(place / STATE, content)
            yield place
            if is_survey(place):
                if folder.exists():
                    check_replaceable(folder, "a survey", own=_is_own)  # a file may have been put there meanwhile
                    os.replace(folder, old)
                os.replace(place, folder)
                shutil.rmtree(old, ignore_errors=True)
            else:
                shutil.rmtree(place, ignore_errors=True)
        except (TooManyRejected, NotWritten):
            raise
        except UserError:
            shutil.rmtree(place, ignore_errors=True)
            raise
        except OSError as error:
            raise not_written(folder, error) from None


def refuse_full_disk(
    source: Source, place: Path, frame: Frame, limit: int | None, tell: Callable[[str], None] | None
) -> None:
    """Refuse what does not fit on the disk; say how large a generated survey becomes, and how long that takes."""
    total = min(source.galaxies, limit or source.galaxies)
    needed, free = total * (frame.size**2 * 3 + BYTES_PER_ROW), shutil.disk_usage(place).free
    if needed > free:
        raise NotWritten(
            f"A survey of {total:,} galaxies at {frame.size} px takes {needed / 1e9:,.1f} GB, and '{place.parent}' has"
            f" {free / 1e9:,.1f} GB free; choose fewer galaxies, a smaller size or another folder."
        )
    if not (tell and source.simulated and total >= ANNOUNCED):
        return
    seconds = 0.0
    for _ in range(2):  # the first one loads libraries
        began = time.monotonic()
        sample = sum(len(batch.catalog) for batch in source.framed(frame, SAMPLE))
        seconds = time.monotonic() - began
    took = duration(seconds * total / sample)
    tell(f"{source.text}: {total:,} galaxies at {frame.size} px take {needed / 1e9:,.1f} GB and about {took}")
