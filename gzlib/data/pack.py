"""Images decoded and resized, and a curated survey's arrays and tables written piece by piece."""

import hashlib
import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

GREY_OR_PALETTE = ("L", "P", "1")  # becoming RGB loses nothing
BANDS = 3


class Unusable(Exception):
    """A picture that cannot be used: ``reason`` is counted, ``detail`` says what was found."""

    def __init__(self, reason: str, detail: str):
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def load_picture(picture: bytes | Path | None, size: int) -> tuple[np.ndarray, bytes]:
    """Decode a picture and resize it to (size, size, 3) uint8; also its sha256 over the encoded bytes.

    Grey pictures are repeated in three bands. Nothing is cropped, stretched or enlarged: a picture that is not square,
    has other bands, or is smaller than ``size`` is refused. The resampling is Lanczos; a JPEG much larger than needed
    is first scaled by its own decoder to no less than twice the size, which is as faithful and twice as fast.

    Raises
    ------
    Unusable
        With the reason and what was found.
    """
    raw = _raw_bytes(picture)
    digest = hashlib.sha256(raw).digest()
    try:
        with Image.open(io.BytesIO(raw)) as image:
            _refuse_shape(image, size)
            image.draft(None, (2 * size, 2 * size))
            image.load()
            rgb = image if image.mode == "RGB" else image.convert("RGB")
            if rgb.size != (size, size):
                rgb = rgb.resize((size, size), Image.Resampling.LANCZOS)
            return np.asarray(rgb), digest
    except UnidentifiedImageError:
        raise Unusable("unreadable picture", f"{len(raw)} bytes in no format that Pillow knows") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Unusable("unreadable picture", str(error)[:200]) from None


def _raw_bytes(picture: bytes | Path | None) -> bytes:
    if isinstance(picture, bytes):
        return picture
    if picture is None:
        raise Unusable("missing picture", "the table names no picture")
    try:
        return Path(picture).read_bytes()
    except OSError as error:
        raise Unusable("missing picture", f"{Path(picture).name}: {error.strerror or error}") from None


def _refuse_shape(image: Image.Image, size: int):
    width, height = image.size
    if image.mode != "RGB" and image.mode not in GREY_OR_PALETTE:
        raise Unusable("wrong shape", f"{image.mode}: {len(image.getbands())} band(s) instead of {BANDS} of 8 bits")
    if width != height:
        raise Unusable("wrong shape", f"{width} x {height} px is not square")
    if width < size:
        raise Unusable("wrong shape", f"{width} px is smaller than the survey's {size} px")


ARROW = {"int64": pa.int64(), "float64": pa.float64(), "string": pa.string()}
ROWS_PER_GROUP = 16384


class PictureFile:
    """``images.npy``, (galaxy, y, x, band) uint8, growing along its first axis.

    NumPy pads a header so that the first axis can grow without moving the data; the true length is written last.
    """

    def __init__(self, path: Path, size: int):
        self.file, self.shape, self.n = open(path, "wb"), (size, size, 3), 0
        self._write_header()
        self.data_start = self.file.tell()

    def append(self, images: np.ndarray):
        self.file.write(np.ascontiguousarray(images, np.uint8).data)
        self.n += len(images)

    def __enter__(self):
        return self

    def __exit__(self, failure, *_):
        with self.file:
            if failure is None:
                self.file.seek(0)
                self._write_header()
                if self.file.tell() != self.data_start:
                    raise RuntimeError("the header of images.npy outgrew its padding")
                self.file.flush()
                os.fsync(self.file.fileno())

    def _write_header(self):
        header = {"descr": "|u1", "fortran_order": False, "shape": (self.n, *self.shape)}
        np.lib.format.write_array_header_1_0(self.file, header)


class TableFile:
    """A parquet file written in row groups, none if no table is appended."""

    def __init__(self, path: Path, schema: pa.Schema):
        self.path, self.schema, self.writer = path, schema, None
        self.waiting: list[pa.Table] = []

    def append(self, table: pa.Table):
        self.waiting.append(table)
        if sum(len(t) for t in self.waiting) >= ROWS_PER_GROUP:
            self._write()

    def __enter__(self):
        return self

    def __exit__(self, failure, *_):
        if failure is None and self.waiting:
            self._write()
        if self.writer is not None:
            self.writer.close()

    def _write(self):
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


def catalog_table(catalog: pd.DataFrame, splits: list[str], votes: np.ndarray, labels: pd.DataFrame, schema: pa.Schema):
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
