"""Tables and images with faults in them, in every layout that is read, for the tests of what then happens."""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from survey_inputs import gz2_votes, jpeg

from gzlib.data import curate
from gzlib.data.schema import load_schema

N = 12
TEXT = ("csv", "tsv", "semicolon")
PARQUET = ("parquet", "shards", "embedded", "hub")
READERS = (*TEXT, *PARQUET, "split files")


def rows(**columns) -> dict:
    """A sound table of N galaxies with a label in two classes, and what is put in place of or beside its columns."""
    sound = {"id_str": [f"J{i:04d}" for i in range(N)], "label": [i % 2 for i in range(N)]}
    return {name: values for name, values in (sound | columns).items() if values is not None}


def vote_rows(votes: np.ndarray | None = None, **columns) -> dict:
    votes = gz2_votes(N).astype(float) if votes is None else votes
    cols = load_schema("gz2").label_cols
    return rows(label=None) | {col: votes[:, i].tolist() for i, col in enumerate(cols)} | columns


def write_table(folder, reader: str, columns: dict, images: list | None = None):
    """Write a table in one of the layouts READERS; the folder to give to ``curate``.

    A value that is an Arrow array keeps its type in parquet. Embedded images are bytes, others files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    n = len(next(iter(columns.values())))
    images = [jpeg(i, side=24) for i in range(n)] if images is None else images
    columns = dict(columns)
    if reader in ("embedded", "hub"):
        columns.setdefault("image", [{"bytes": image, "path": None} for image in images])
    elif "file_loc" not in columns and "image" not in columns and "filename" not in columns:
        (folder / "images").mkdir(exist_ok=True)
        for i, image in enumerate(images):
            (folder / "images" / f"{i}.jpg").write_bytes(image)
        columns["file_loc"] = [f"images/{i}.jpg" for i in range(n)]
    if reader in TEXT:
        name, separator = {"csv": ("catalog.csv", ","), "tsv": ("catalog.tsv", "\t")}.get(reader, ("catalog.csv", ";"))
        (folder / name).write_text(as_csv(columns, separator), encoding="utf-8")
        return folder / name if reader == "tsv" else folder
    if reader == "split files":
        half = n // 2
        for name, part in (("train.csv", slice(half)), ("test.csv", slice(half, n))):
            (folder / name).write_text(as_csv({c: as_list(v)[part] for c, v in columns.items()}, ","))
        return folder
    table = pa.table({name: as_array(values) for name, values in columns.items()})
    if reader == "parquet":
        pq.write_table(table, folder / "catalog.parquet")
        return folder
    place = folder / "data"
    if reader == "shards":  # catalogue files in the hub's layout, images beside them
        place = folder
    place.mkdir(exist_ok=True)
    for i, part in enumerate((table.slice(0, n // 2), table.slice(n // 2))):
        pq.write_table(part, place / f"train-0000{i}-of-00002.parquet")
    return folder


def as_list(values) -> list:
    return values.to_pylist() if isinstance(values, pa.Array) else list(values)


def as_array(values) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values)


def as_csv(columns: dict, separator: str) -> str:
    lists = [as_list(values) for values in columns.values()]
    lines = [separator.join(columns)]
    lines += [separator.join(_cell(value, separator) for value in row) for row in zip(*lists, strict=True)]
    return "\n".join(lines) + "\n"


def _cell(value, separator: str) -> str:
    text = "" if value is None else str(value)
    return f'"{text}"' if separator in text else text


@dataclass(frozen=True)
class Fault:
    """One fault of a table.

    Attributes
    ----------
    kind : str
        For the table of chapter 93.
    name : str
        Of the test.
    columns : callable
        Gives the table.
    refused : str
        What the sentence says (a pattern), if the whole table is refused.
    rejected : dict
        Reasons and counts of galaxies that are rejected.
    holds : callable or None
        ``holds(survey)`` is true of what was made.
    readers : tuple of str
    options : dict
        Of ``curate``.
    """

    kind: str
    name: str
    columns: Callable[[], dict]
    refused: str = ""
    rejected: dict = field(default_factory=dict)
    holds: Callable | None = None
    readers: tuple[str, ...] = READERS
    options: dict = field(default_factory=dict)

    @property
    def outcome(self) -> str:
        return "refused in one sentence" if self.refused else "galaxies rejected" if self.rejected else "read"

    def cases(self) -> list:
        mark = pytest.mark.fault(self.kind, self.outcome)
        return [pytest.param(self, reader, id=f"{self.name}-{reader}", marks=mark) for reader in self.readers]


def encoded(mode: str, kind: str, *, side=24, seed=0, low=0, high=256, **options) -> bytes:
    """An image with random pixels in one of Pillow's modes and formats."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    shape = (side, side) if bands == 1 else (side, side, bands)
    pixels = np.random.default_rng(seed).integers(low, high, shape, dtype=np.uint8)
    return saved(Image.fromarray(pixels, mode) if mode != "1" else Image.fromarray(pixels > 127), kind, **options)


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_of(width: int, height: int, bits: int, colour: int, data: bytes) -> bytes:
    """A PNG whose header promises so many pixels, whatever its data hold."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = [png_chunk(b"IHDR", header), png_chunk(b"IDAT", zlib.compress(data, 9)), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def webp_of(width: int, height: int) -> bytes:
    """An extended WebP header with that canvas and nothing behind it."""
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + sizes
    return b"RIFF" + struct.pack("<I", len(body)) + body


def fits_card(text: str) -> bytes:
    return text.ljust(80).encode()


def fits_header(*cards: str) -> bytes:
    return b"".join(map(fits_card, (*cards, "END"))).ljust(2880, b" ")


def fits_of_side(side: int) -> bytes:
    """A FITS header that promises so many pixels, and no data."""
    return fits_header("SIMPLE  = T", "BITPIX  = 16", "NAXIS   = 2", f"NAXIS1  = {side}", f"NAXIS2  = {side}")


HOSTILE = {
    "1-bit PNG of 13,000 px": lambda: png_of(13_000, 13_000, 1, 0, (b"\0" * 1626) * 13_000),
    "RGB PNG of 30,000 px": lambda: png_of(30_000, 30_000, 8, 2, b"\0" * 100_000),
    "PNG of 2^31 - 1 px": lambda: png_of(2**31 - 1, 2**31 - 1, 8, 2, b""),
    "PNG of 0 px": lambda: png_of(0, 0, 8, 2, b""),
    "PNG with a bomb of text": lambda: (
        png_of(24, 24, 8, 2, b"\0" * 1800)[:33]
        + png_chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 300_000_000, 9))
        + png_of(24, 24, 8, 2, b"\0" * 1800)[33:]
    ),
    "PNG cut in the middle": lambda: encoded("RGB", "PNG")[:900],
    "WebP of 16,383 px": lambda: webp_of(16_383, 16_383),
    "WebP of 2^24 px": lambda: webp_of(2**24, 2**24),
    "WebP without a size": lambda: b"RIFF\x04\0\0\0WEBP",
    "GIF of 65,535 px": lambda: b"GIF89a\xff\xff\xff\xff\x80" + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0\x08\x01\0\0;",
    "GIF that ends in its header": lambda: encoded("P", "GIF")[:15],
    "TIFF of 60,000 px": lambda: tiff_of(60_000, 60_000),
    "TIFF of 0 bytes a strip": lambda: tiff_of(64, 64),
    "JPEG of 65,500 px": lambda: jpeg_of(65_500, 65_500),
    "JPEG of 0 px": lambda: jpeg_of(0, 24),
    "JPEG cut in the middle": lambda: jpeg(0)[:700],
    "FITS of 10^6 px": lambda: fits_of_side(1_000_000),
    "FITS without an image": lambda: fits_header("SIMPLE  = T", "BITPIX  = 8", "NAXIS   = 0"),
    "FITS cut in its header": lambda: b"SIMPLE  = T",
    "FITS cut in its data": lambda: fits_of_side(64),
    "EPS": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 24 24\n24 24 scale { } loop\n",
    "PDF": lambda: b"%PDF-1.7\n",
    "BMP": lambda: encoded("RGB", "BMP"),
    "PPM": lambda: encoded("RGB", "PPM"),
    "ICO": lambda: encoded("RGBA", "ICO"),
    "JPEG 2000": lambda: encoded("RGB", "JPEG2000"),
    "an HTML page": lambda: b"<!DOCTYPE html><html>404</html>",
    "a Git LFS pointer": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "an empty file": lambda: b"",
    "random bytes": lambda: np.random.default_rng(0).bytes(5000),
    "zeros": lambda: bytes(5000),
    "text": lambda: b"smooth",
}  # fmt: skip


def tiff_of(width: int, height: int) -> bytes:
    """A TIFF that promises so many grey pixels in one strip of no bytes."""
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (278, height), (279, 0)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG whose frame header promises so many pixels."""
    raw = bytearray(jpeg(0, side=24))
    frame = raw.index(b"\xff\xc0")
    raw[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(raw)


def opened(source, out, **options):
    """Curate a source, whatever share of it is rejected."""
    options = {"size": 16, "keep_going": True, "progress": False} | options
    return curate(str(source), out=out, **options)


def one_sentence(error) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 1200, text
    return text


def catalogue(folder, locations, column="file_loc", **others):
    images = [jpeg(i, side=24) for i in range(len(locations))]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        (folder / "images" / f"{i}.jpg").write_bytes(image)
    n = len(locations)
    columns = {"id_str": [f"J{i}" for i in range(n)], "label": [i % 2 for i in range(n)], column: locations, **others}
    (folder / "catalog.csv").write_text("\n".join(",".join(map(str, row)) for row in table_rows(columns)) + "\n")
    return folder


def table_rows(columns):
    return [columns, *zip(*columns.values(), strict=True)]
