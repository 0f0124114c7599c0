"""Images as people have them: the formats that are read, with their values, and those that are not opened."""

import datetime
import io
import os
import struct
import subprocess
import sys
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fault_inputs import (
    HOSTILE,
    READERS,
    N,
    catalogue,
    encoded,
    fits_header,
    one_sentence,
    opened,
    rows,
    saved,
    write_table,
)
from PIL import Image
from survey_inputs import jpeg

from gzlib.data import open_survey, read_report
from gzlib.data.images import Unusable, load_image
from gzlib.errors import UserError

pytestmark = pytest.mark.usefixtures("own_store")


# Images: what is in one file.
def grey_to(mode):
    """An opaque image with known pixels in that mode, and its RGB."""
    pixels = np.random.default_rng(3).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    grey = pixels[..., 0]
    if mode == "RGBA":
        return Image.fromarray(np.dstack([pixels, np.full((24, 24), 255, np.uint8)])), pixels
    if mode == "LA":
        return Image.fromarray(np.dstack([grey, np.full((24, 24), 255, np.uint8)])), np.dstack([grey] * 3)
    if mode == "L":
        return Image.fromarray(grey), np.dstack([grey] * 3)
    if mode == "1":
        return Image.fromarray(grey > 127), np.dstack([np.where(grey > 127, 255, 0)] * 3)
    if mode == "P":
        image = Image.fromarray(grey // 4 * 4).convert("P")
        return image, np.asarray(image.convert("RGB"))
    if mode == "I;16":
        deep = np.random.default_rng(4).integers(0, 65536, (24, 24), dtype=np.uint16)
        return Image.fromarray(deep), np.dstack([np.rint(deep / 257)] * 3)
    return Image.fromarray(pixels), pixels


GOOD = [
    *(("PNG", mode) for mode in ("RGB", "RGBA", "L", "LA", "1", "P", "I;16")),
    *(("TIFF", mode) for mode in ("RGB", "RGBA", "L", "LA", "1", "P", "I;16")),
    *(("WEBP", mode) for mode in ("RGB", "RGBA")),
    *(("GIF", mode) for mode in ("L", "P")),
]


@pytest.mark.fault("images: known formats", "read")
@pytest.mark.parametrize(("kind", "mode"), GOOD)
def test_a_lossless_image_keeps_its_values(kind, mode):
    image, expected = grey_to(mode)
    loaded = load_image(saved(image, kind, **({"lossless": True} if kind == "WEBP" else {})), 24)
    np.testing.assert_array_equal(loaded.pixels, expected)
    assert loaded.conversion == ("16" if mode == "I;16" else "")


@pytest.mark.fault("images: known formats", "read")
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_keeps_its_values_nearly(mode):
    y, x = np.mgrid[:24, :24] * 8
    image = Image.fromarray(np.dstack([y, x, x // 2 + y // 2]).astype(np.uint8)).convert(mode)
    expected = np.asarray(image.convert("RGB")).astype(float)
    assert np.abs(load_image(saved(image, "JPEG", quality=98), 24).pixels - expected).max() < 12


TURNED = {
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: np.rot90(p, -1),
}


@pytest.mark.fault("images: turned by their EXIF data", "read")
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG"])
@pytest.mark.parametrize("orientation", TURNED)
def test_an_image_stands_as_a_viewer_shows_it(kind, orientation):
    pixels = np.dstack(
        [np.kron(np.random.default_rng(3).integers(0, 256, (3, 3), dtype=np.uint8), np.ones((8, 8)))] * 3
    )
    exif = Image.Exif()
    exif[0x112] = orientation
    how = {"WEBP": {"lossless": True}, "JPEG": {"quality": 98}}.get(kind, {})
    loaded = load_image(saved(Image.fromarray(pixels.astype(np.uint8)), kind, exif=exif.tobytes(), **how), 24)
    assert np.abs(loaded.pixels - TURNED[orientation](pixels)).max() < (12 if kind == "JPEG" else 1)


@pytest.mark.fault("images: turned by their EXIF data", "read")
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_damaged_exif_data_turn_nothing(kind):
    image = (
        encoded("L", kind) if kind == "WEBP" else encoded("L", kind, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12")
    )
    assert load_image(image, 24).pixels.shape == (24, 24, 3)


@pytest.mark.fault("images: known formats", "read")
@pytest.mark.parametrize(("dtype", "white_is_zero"), [("<u2", False), ("<u2", True), (">u2", False)])
def test_a_16_bit_tiff_keeps_its_values_in_every_writing(dtype, white_is_zero):
    deep = np.random.default_rng(4).integers(0, 65536, (24, 24), dtype=np.uint16)
    data = (65535 - deep if white_is_zero else deep).astype(dtype).tobytes()
    order = dtype[0]
    tags = [
        (256, 24),
        (257, 24),
        (258, 16),
        (259, 1),
        (262, 0 if white_is_zero else 1),
        (273, 110),
        (277, 1),
        (278, 24),
    ]
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags)
    start = b"II*\0" if order == "<" else b"MM\0*"
    head = start + struct.pack(f"{order}IH", 8, len(tags)) + entries + struct.pack(f"{order}I", 0)
    pixels = load_image(head + data, 24).pixels
    assert len(head) == 110 and np.array_equal(pixels[..., 0], np.rint(deep / 257))


@pytest.mark.parametrize(("brightest", "conversion"), [(4095, "12"), (4096, "16"), (65535, "16")])
def test_an_image_of_12_bits_in_a_file_of_16_is_told_apart(brightest, conversion):
    """Its stars came out at 15 of 255 without a word."""
    deep = np.linspace(0, brightest, 24 * 24).astype(np.uint16).reshape(24, 24)
    loaded = load_image(saved(Image.fromarray(deep), "PNG"), 24)
    assert loaded.conversion == conversion and loaded.pixels.max() == round(brightest / 257)


def fits_of(values, **header):
    fits = pytest.importorskip("astropy.io.fits", reason="the extra `fits` is not installed")
    hdu, file = fits.PrimaryHDU(values), io.BytesIO()
    hdu.header.update(header)
    hdu.writeto(file)
    return file.getvalue()


@pytest.mark.fault("images: FITS", "read")
@pytest.mark.parametrize("kind", ["uint8", "int16", "int32", "float32", "float64"])
def test_a_fits_image_is_stretched_and_stands_upright(kind):
    y, x = np.mgrid[:24, :24]
    values = (100 + 3000 * np.exp(-((x - 12) ** 2 + (y - 4) ** 2) / 8)).astype(float)  # near row 0, which is below
    if kind == "uint8":
        values = values / 4000 * 255
    loaded = load_image(fits_of(values.astype(kind)), 24)
    rows, columns = np.unravel_index(loaded.pixels[..., 0].astype(int).argmax(), (24, 24))
    assert loaded.conversion == "FITS" and abs(rows - 19) <= 1 and abs(columns - 12) <= 1
    np.testing.assert_array_equal(loaded.pixels[..., 0], loaded.pixels[..., 2])
    assert loaded.pixels.max() > 190 and loaded.pixels.min() < 30
    if kind == "uint8":
        np.testing.assert_array_equal(loaded.pixels[::-1, :, 0], values.astype(np.uint8))


@pytest.mark.fault("images: FITS", "read")
def test_a_fits_cube_gives_colours_and_nan_is_dark():
    y, x = np.mgrid[:24, :24].astype(np.float32)
    cube = np.stack([y, x, y + x])
    cube[:, 0, 0] = np.nan
    as_it_is, reversed_bands = load_image(fits_of(cube), 24).pixels, load_image(fits_of(cube, BANDS="grz"), 24).pixels
    np.testing.assert_array_equal(as_it_is, reversed_bands[..., ::-1])
    assert (as_it_is[-1, 0] == 0).all() and as_it_is[0, 0, 0] > as_it_is[0, 0, 1]


def plain_fits(values, *cards):
    """A FITS file with exactly these cards, of numbers as they are stored."""
    kinds = {"uint8": 8, "int16": 16}
    sides = [f"NAXIS{i}  = {side}" for i, side in enumerate(values.shape[::-1], 1)]
    start = fits_header(
        "SIMPLE  = T", f"BITPIX  = {kinds[values.dtype.name]}", f"NAXIS   = {values.ndim}", *sides, *cards
    )
    data = values.astype(values.dtype.newbyteorder(">")).tobytes()
    return start + data + b"\0" * (-len(data) % 2880)


@pytest.mark.fault("images: FITS", "read")
@pytest.mark.parametrize("cards", [(), ("BSCALE  = 1.0", "BZERO   = 0.0"), ("BLANK   = 255",)], ids=str)
def test_an_8_bit_fits_image_stays_as_it_is(cards):
    values = np.random.default_rng(0).integers(0, 256, (24, 24), dtype=np.uint8)
    expected = np.where(values == 255, 0, values) if cards == ("BLANK   = 255",) else values
    np.testing.assert_array_equal(load_image(plain_fits(values, *cards), 24).pixels[::-1, :, 1], expected)


@pytest.mark.fault("images: FITS", "read")
@pytest.mark.parametrize(
    ("kind", "cards"),
    [
        ("uint8", ("BZERO   = -128",)),
        ("uint8", ("BSCALE  = 0.5", "BZERO   = 10.0")),
        ("int16", ("BSCALE  = 0.1", "BZERO   = 100.0")),
        ("int16", ("BZERO   = 32768",)),
        ("int16", ("BLANK   = -32768",)),
    ],
    ids=str,
)
def test_a_scaled_fits_image_is_stretched_from_its_values(kind, cards):
    stored = np.random.default_rng(0).integers(0, 200, (24, 24)).astype(kind)
    plain = load_image(fits_of(stored.astype(np.float32)), 24).pixels
    blank = cards == ("BLANK   = -32768",)
    if blank:
        stored[0, 0] = -32768
    found = load_image(plain_fits(stored, *cards), 24).pixels
    np.testing.assert_allclose(
        found[:-1].astype(int), plain[:-1], atol=1 if not blank else 3
    )  # the stretch is relative
    assert not blank or found[-1, 0, 0] == 0


@pytest.mark.fault("images: FITS", "galaxies rejected")
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros((24, 24), np.float32), "blank image"),
        (np.full((24, 24), np.nan, np.float32), "blank image"),
        (np.full((24, 24), 7, np.int16), "blank image"),
        (np.ones((5, 24, 24), np.float32), "wrong shape"),
        (np.ones(24, np.float32), "unreadable image"),
        (np.random.default_rng(0).random((24, 30)).astype(np.float32), "wrong shape"),
    ],
    ids=["zeros", "nan", "constant", "five-planes", "a-spectrum", "oblong"],
)
def test_a_fits_image_that_shows_nothing_is_rejected(values, reason):
    with pytest.raises(Unusable) as unusable:
        load_image(fits_of(values), 24)
    assert unusable.value.reason == reason


@pytest.mark.fault("images: FITS", "galaxies rejected")
@pytest.mark.parametrize("what", ["bands-last", "table"])
def test_a_fits_file_of_another_kind_is_told_as_what_it_is(what):
    fits = pytest.importorskip("astropy.io.fits", reason="the extra `fits` is not installed")
    file, hdu = io.BytesIO(), fits.PrimaryHDU(np.random.default_rng(0).random((24, 24, 3), np.float32))
    if what == "table":
        hdu = fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns([fits.Column("id", "K", array=[1])])])
    hdu.writeto(file)
    with pytest.raises(Unusable) as unusable:
        load_image(file.getvalue(), 24, "pad")
    assert unusable.value.detail.startswith("a FITS cube of 24 planes" if what == "bands-last" else "a FITS table")
    with pytest.raises(Unusable) as unusable:
        load_image(file.getvalue(), 24)
    assert "--aspect" not in unusable.value.detail  # which would not help


def half_transparent():
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 4), dtype=np.uint8)
    return Image.fromarray(pixels)


def with_transparent_colour():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 8, (24, 24), dtype=np.uint8)).convert("P")
    image.info["transparency"] = int(np.asarray(image)[0, 0])
    return image


one_spot = np.zeros((64, 64, 3), np.uint8)
one_spot[5, 5] = 9
BAD = {
    "black": (lambda: saved(Image.new("RGB", (24, 24)), "PNG"), "blank image"),
    "black-jpeg": (lambda: saved(Image.new("RGB", (24, 24)), "JPEG"), "blank image"),
    "white": (lambda: saved(Image.new("L", (24, 24), 255), "PNG"), "blank image"),
    "one-colour": (lambda: saved(Image.new("RGB", (24, 24), (20, 40, 200)), "PNG"), "blank image"),
    "opaque-black": (lambda: saved(Image.new("RGBA", (24, 24), (0, 0, 0, 255)), "PNG"), "blank image"),
    "one-spot": (lambda: saved(Image.fromarray(one_spot), "PNG"), "blank image"),
    "dark-16-bit": (lambda: saved(Image.fromarray(np.full((24, 24), 90, np.uint16)), "PNG"), "blank image"),
    "transparent": (lambda: saved(half_transparent(), "PNG"), "transparent image"),
    "transparent-tiff": (lambda: saved(half_transparent(), "TIFF"), "transparent image"),
    "transparent-colour": (lambda: saved(with_transparent_colour(), "GIF", transparency=3), "transparent image"),
    "cmyk": (lambda: encoded("CMYK", "JPEG"), "wrong shape"),
    "float-tiff": (
        lambda: saved(Image.fromarray(np.random.default_rng(0).random((24, 24), np.float32)), "TIFF"),
        "wrong shape",
    ),
    "whole-32-bit-tiff": (
        lambda: saved(Image.fromarray(np.arange(576, dtype=np.int32).reshape(24, 24)), "TIFF"),
        "wrong shape",
    ),
    "oblong": (lambda: saved(Image.linear_gradient("L").crop((0, 0, 24, 30)), "PNG"), "wrong shape"),
    "small": (lambda: jpeg(0, side=12), "wrong shape"),
}  # fmt: skip


@pytest.mark.fault("images: nothing to see, or no pixels to trust", "galaxies rejected")
@pytest.mark.parametrize("name", BAD)
def test_an_image_that_shows_nothing_is_rejected(name):
    make, reason = BAD[name]
    with pytest.raises(Unusable) as unusable:
        load_image(make(), 24)
    assert unusable.value.reason == reason


@pytest.mark.fault("images: hostile or of no known format", "galaxies rejected")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_image_is_rejected(name):
    with pytest.raises(Unusable) as unusable:
        load_image(HOSTILE[name](), 24)
    assert unusable.value.reason in ("unreadable image", "oversized image") and len(unusable.value.detail) < 300


@pytest.mark.slow
def test_hostile_images_take_little_memory_and_time(tmp_path):
    """In a process of its own, whose memory nothing else has filled, eight at a time."""
    code = """
import resource, sys, time
sys.path[:0] = sys.argv[1:]
from concurrent.futures import ThreadPoolExecutor
from fault_inputs import HOSTILE
from gzlib.data.images import Unusable, load_image
images = {name: make() for name, make in HOSTILE.items()}
def load(name):
    began = time.monotonic()
    try:
        load_image(images[name], 24)
    except Unusable:
        pass
    return time.monotonic() - began
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with ThreadPoolExecutor(8) as pool:
    longest = max(pool.map(load, list(HOSTILE) * 3))
print(longest, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    done = subprocess.run([sys.executable, "-c", code, tests], capture_output=True, text=True, check=True)
    seconds, megabytes = map(float, done.stdout.split())
    assert seconds < 10 and megabytes < 300


@pytest.mark.parametrize("aspect", ["pad", "crop"])
@pytest.mark.parametrize(("height", "width"), [(40, 56), (56, 40), (48, 48)])
def test_the_centre_is_that_of_the_square(aspect, height, width):
    pixels = np.random.default_rng(0).integers(1, 256, (height, width, 3), dtype=np.uint8)
    side = max(height, width) if aspect == "pad" else min(height, width)
    square = load_image(saved(Image.fromarray(pixels), "PNG"), side, aspect).pixels
    box = (side / 4, side / 4, 3 * side / 4, 3 * side / 4)
    expected = np.asarray(Image.fromarray(square).resize((16, 16), Image.Resampling.LANCZOS, box))
    found = load_image(saved(Image.fromarray(pixels), "PNG"), 16, aspect, 0.5).pixels
    np.testing.assert_array_equal(found, expected)


def test_an_image_that_shows_nothing_at_its_centre_is_blank():
    pixels = np.random.default_rng(0).integers(1, 256, (64, 64, 3), dtype=np.uint8)
    pixels[8:56, 8:56] = 7
    image = saved(Image.fromarray(pixels), "PNG")
    assert load_image(image, 16).pixels.std() > 1
    with pytest.raises(Unusable, match="blank image"):
        load_image(image, 16, None, 0.75)


@pytest.mark.fault("images: not square", "read")
@pytest.mark.parametrize("aspect", ["pad", "crop"])
@pytest.mark.parametrize(("height", "width"), [(24, 40), (40, 24)])
def test_an_oblong_image_is_padded_or_cropped_as_asked(tmp_path, aspect, height, width):
    pixels = np.random.default_rng(0).integers(1, 256, (height, width, 3), dtype=np.uint8)
    side = 40 if aspect == "pad" else 24
    loaded = load_image(saved(Image.fromarray(pixels), "PNG"), side, aspect).pixels
    top, left = abs(height - side) // 2, abs(width - side) // 2
    if aspect == "pad":
        expected = np.zeros((side, side, 3), np.uint8)
        expected[top : top + height, left : left + width] = pixels
    else:
        expected = pixels[top : top + side, left : left + side]
    np.testing.assert_array_equal(loaded, expected)
    images = [saved(Image.fromarray(np.roll(pixels, i, axis=0)), "PNG") for i in range(N)]
    plain = opened(write_table(tmp_path / "sound", "csv", rows()), tmp_path / "plain")
    folder = opened(write_table(tmp_path / "in", "embedded", rows(), images), tmp_path / "out", aspect=aspect)
    report = read_report(folder)
    assert report["parameters"]["aspect"] == aspect and any(aspect in note for note in report["notes"])
    assert "aspect" not in read_report(plain)["parameters"]


# What a cell or a folder names as an image.
def pipe(path):
    os.mkfifo(path)


NO_FILES = {
    "missing": ("images/none.jpg", None, "No such file"),
    "named-pipe": ("pipe.jpg", pipe, "not a regular file"),
    "endless-device": ("zero.jpg", lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    "folder": ("images", None, "not a regular file"),
    "link-to-itself": ("loop.jpg", lambda path: path.symlink_to(path), "loop.jpg"),
    "too-long-a-name": ("x" * 400, None, "too long"),
    "blank": ("", None, "names no image"),
}


@pytest.mark.fault("images: no regular file", "galaxies rejected")
@pytest.mark.parametrize("name", NO_FILES)
@pytest.mark.parametrize("column", ["file_loc", "filename", "image"])
def test_what_is_no_regular_file_is_rejected_at_once(tmp_path, name, column):
    cell, make, said = NO_FILES[name]
    folder = catalogue(tmp_path / "in", [f"images/{i}.jpg" for i in range(5)] + [cell], column)
    if make:
        make(folder / cell)
    report = read_report(opened(folder, tmp_path / "out"))
    assert report["rejected"]["reasons"] == {"missing image": 1}
    detail = report["rejected"]["examples"][0]["detail"]
    assert said in detail or (column == "image" and "outside" in detail)
    if name == "missing":
        assert str(folder.resolve()) in detail  # the whole path that was tried


@pytest.mark.fault("images: no regular file", "galaxies rejected")
@pytest.mark.parametrize("column", ["file_loc", "image"])
def test_a_path_with_a_null_character_is_rejected(tmp_path, column):
    folder = catalogue(tmp_path / "in", [f"images/{i}.jpg" for i in range(6)], column)
    table = pa.table({"id_str": ["a", "b"], "label": [0, 1], column: ["images/0.jpg", "images/1\0.jpg"]})
    (folder / "catalog.csv").unlink()
    pq.write_table(table, folder / "catalog.parquet")
    report = read_report(opened(folder, tmp_path / "out"))
    assert report["rejected"]["reasons"] == {"missing image": 1}


def outside(tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "0.jpg").write_bytes(jpeg(77, side=24))
    return tmp_path / "secret" / "0.jpg"


@pytest.mark.fault("images: a path out of the table's folder", "galaxies rejected")
@pytest.mark.parametrize("way", ["absolute", "upwards", "by-a-link"])
@pytest.mark.parametrize("kind", ["text", "struct", "hub-text", "hub-struct", "hub-file_loc"])
def test_an_image_outside_the_folder_is_not_opened(tmp_path, hub, way, kind):
    secret, folder = outside(tmp_path), tmp_path / "in"
    (folder / "data").mkdir(parents=True)
    (folder / "0.jpg").write_bytes(jpeg(0, side=24))
    (folder / "link").symlink_to(secret.parent)
    path = {"absolute": str(secret), "upwards": "../secret/0.jpg", "by-a-link": "link/0.jpg"}[way]
    cells = ["0.jpg", path]
    if kind.endswith("struct"):
        cells = [{"bytes": None, "path": cell} for cell in cells]
    column = "file_loc" if kind.endswith("file_loc") else "image"
    pq.write_table(pa.table({"id_str": ["a", "b"], "label": [0, 1], column: cells}), folder / "data" / "train.parquet")
    hub(folder)
    report = read_report(opened("hub:owner/name" if kind.startswith("hub") else folder, tmp_path / "out"))
    assert report["rejected"]["reasons"] == {"missing image": 1} and report["counts"]["galaxies"] == 1
    assert "outside the table's folder" in report["rejected"]["examples"][0]["detail"]


@pytest.mark.fault("images: a path out of the table's folder", "read")
def test_a_local_catalogue_may_name_any_file(tmp_path):
    secret = outside(tmp_path)
    folder = catalogue(tmp_path / "in", ["images/0.jpg", str(secret), "../secret/0.jpg", "images/1.jpg"])
    report = read_report(opened(folder, tmp_path / "out"))
    assert report["counts"]["galaxies"] == 3 and report["rejected"]["reasons"] == {"duplicate image": 1}


@pytest.mark.fault("images: named, not embedded", "read")
@pytest.mark.parametrize("kind", ["struct", "text", "subfolder", "filename", "file_name", "bytes", "padded"])
def test_images_beside_the_table_are_found(tmp_path, kind):
    folder = catalogue(tmp_path / "in", [f"images/{i}.jpg" for i in range(4)])
    columns = {"id_str": list("abcd"), "label": [0, 1, 0, 1]}
    if kind == "struct":
        columns["image"] = [{"bytes": None, "path": f"images/{i}.jpg"} for i in range(4)]
    elif kind == "text":
        columns["image"] = [f"images/{i}.jpg" for i in range(4)]
    elif kind == "subfolder":
        columns |= {"subfolder": ["J00"] * 4, "filename": [f"{i}.jpg" for i in range(4)]}
        (folder / "images").rename(folder / "J00")
        (folder / "images").mkdir()
        (folder / "J00").rename(folder / "images" / "J00")
    elif kind in ("bytes", "padded"):  # paths, as astropy and numpy write the text of a FITS table
        cells = [f"images/{i}.jpg".encode() for i in range(4)]
        columns["file_loc"] = (
            pa.array(cells) if kind == "bytes" else pa.array([c.ljust(20, b"\0") for c in cells], pa.binary(20))
        )
    else:
        columns[kind] = [f"{i}.jpg" for i in range(4)]
    (folder / "catalog.csv").unlink()
    pq.write_table(pa.table(columns), folder / "catalog.parquet")
    survey = open_survey(opened(folder, tmp_path / "out"))
    expected = [load_image(jpeg(i, side=24), 16).pixels for i in range(4)]
    np.testing.assert_array_equal(survey.images, expected)
    assert set(survey.data_vars) == {"images", "label"}


@pytest.mark.fault("images: named, not embedded", "refused in one sentence")
@pytest.mark.parametrize(
    "cells",
    [
        pa.array([np.zeros((4, 4, 3), np.uint8).tolist()] * 2),
        pa.array([1, 2]),
        pa.array([0.5, 1.5]),
        pa.array([{"height": 3}] * 2),
        pa.array([{"bytes": [1, 2]}] * 2),
        pa.array([datetime.date(2020, 1, 1)] * 2),
    ],
    ids=["arrays", "integers", "fractions", "other-fields", "lists-of-bytes", "dates"],
)
def test_a_column_image_that_holds_no_images_is_refused(tmp_path, cells):
    pq.write_table(pa.table({"id_str": ["a", "b"], "label": [0, 1], "image": cells}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match="'image'") as error:
        opened(tmp_path / "x.parquet", tmp_path / "out")
    one_sentence(error)


@pytest.mark.fault("images: named, not embedded", "refused in one sentence")
def test_paths_that_are_no_text_are_refused(tmp_path):
    table = pa.table({"id_str": ["a", "b"], "label": [0, 1], "file_loc": [b"\xff0.jpg", b"\xff1.jpg"]})
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(UserError, match="'file_loc'.*UTF-8") as error:
        opened(tmp_path / "x.parquet", tmp_path / "out")
    one_sentence(error)


@pytest.mark.fault("a folder of images without a table", "read")
def test_a_folder_of_images_is_read_for_prediction(tmp_path):
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for i, name in enumerate(["b.jpg", "a.PNG", "sub/a.jpeg", "a.jpg"]):
        kind = "PNG" if name.endswith("PNG") else "JPEG"
        (folder / name).write_bytes(jpeg(i, side=24, kind=kind))
    for name in ("._b.jpg", ".DS_Store", "notes.txt", "sub/._a.jpeg"):
        (folder / name).write_bytes(b"x")
    survey = open_survey(made := opened(folder, tmp_path / "out"))
    assert sorted(survey.id_str.values) == ["a.PNG", "a.jpg", "b", "sub/a"] and list(survey.data_vars) == ["images"]
    notes = " ".join(read_report(made)["notes"])
    assert "no table" in notes and "notes.txt" in notes and "._b" not in notes


def test_a_compressed_fits_image_of_a_folder_is_not_passed_over(tmp_path):
    fits = pytest.importorskip("astropy.io.fits", reason="the extra `fits` is not installed")
    values = np.random.default_rng(0).random((24, 24), np.float32)
    (tmp_path / "in").mkdir()
    for name in ("a.fits.fz", "b.FIT.FZ"):
        fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(values)]).writeto(tmp_path / "in" / name)
        values = values.T
    assert open_survey(opened(tmp_path / "in", tmp_path / "out")).id_str.values.tolist() == ["a", "b"]


def test_links_to_folders_of_images_are_followed_once(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    for i, place in enumerate((folder, tmp_path / "elsewhere")):
        (place / f"{i}.jpg").write_bytes(jpeg(i, side=24))
    for link, place in (("linked", tmp_path / "elsewhere"), ("again", tmp_path / "elsewhere"), ("round", folder)):
        (folder / link).symlink_to(place, target_is_directory=True)
    assert sorted(open_survey(opened(folder, tmp_path / "out")).id_str.values) == ["0", "again/1"]


@pytest.mark.parametrize("name", ["catalog.fits", "Catalogue.xlsx", "catalog.csv.gz"])
def test_a_table_that_is_not_read_is_not_taken_for_no_table(tmp_path, name):
    for file in (tmp_path / "0.jpg", tmp_path / name):
        file.write_bytes(jpeg(0, side=24))
    with pytest.raises(UserError, match="is a table of a kind that is not read: save it as catalog.csv"):
        opened(tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("file", "cell"),
    [
        ("images/0.jpg", "images\\0.jpg"),
        (unicodedata.normalize("NFD", "é.jpg"), unicodedata.normalize("NFC", "é.jpg")),
        (unicodedata.normalize("NFC", "é.jpg"), unicodedata.normalize("NFD", "é.jpg")),
    ],
)
def test_paths_as_other_systems_write_them(tmp_path, file, cell):
    (tmp_path / "images").mkdir()
    (tmp_path / file).write_bytes(jpeg(0, side=24))
    (tmp_path / "catalog.csv").write_text(f"id_str,file_loc,label\na,{cell},1\n", encoding="utf-8")
    assert list(open_survey(opened(tmp_path, tmp_path / "out")).id_str.values) == ["a"]


def test_an_address_is_not_told_as_a_missing_file(tmp_path):
    (tmp_path / "catalog.csv").write_text("id_str,file_loc,label\na,https://example.org/0.jpg,1\n")
    with pytest.raises(UserError, match="'https://example.org/0.jpg' is an address: download the images"):
        opened(tmp_path, tmp_path / "out")


@pytest.mark.fault("a folder of images without a table", "refused in one sentence")
@pytest.mark.parametrize("options", [{}, {"schema": "gz2"}])
def test_a_folder_without_images_or_with_votes_asked_for_is_refused(tmp_path, options):
    (tmp_path / "in").mkdir()
    if options:
        (tmp_path / "in" / "0.jpg").write_bytes(jpeg(0))
    with pytest.raises(UserError, match="nor images|no table") as error:
        opened(tmp_path / "in", tmp_path / "out", **options)
    one_sentence(error)


@pytest.mark.fault("files of macOS", "read")
@pytest.mark.parametrize("reader", READERS)
def test_hidden_files_of_macos_are_no_tables(tmp_path, hub, reader):
    if reader == "hub":
        pytest.skip("the hub's files are listed by the hub")
    source = write_table(tmp_path / "in", reader, rows())
    for file in list((tmp_path / "in").rglob("*.*")):
        file.with_name(f"._{file.name}").write_bytes(b"Mac OS X")
    assert read_report(opened(source, tmp_path / "out"))["counts"]["galaxies"] == N


@pytest.mark.fault("a folder of images without a table", "refused in one sentence")
@pytest.mark.parametrize("name", ["metadata.csv", "mine.parquet", "labels.tsv"])
def test_a_table_of_another_name_beside_images_is_not_passed_over(tmp_path, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0.jpg").write_bytes(jpeg(0))
    (tmp_path / "in" / name).write_bytes(b"x")
    with pytest.raises(UserError, match=f"'{name}'|parquet") as error:
        opened(tmp_path / "in", tmp_path / "out")
    one_sentence(error)


@pytest.mark.fault("images: FITS", "read")
@pytest.mark.parametrize("named", ["a folder", "a table"])
def test_fits_files_are_curated_and_the_stretch_is_said(tmp_path, named):
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        (folder / f"{i}.fits").write_bytes(fits_of(rng.normal(100, 5, (24, 24)).astype(np.float32)))
    if named == "a table":
        lines = ["id_str,file_loc,label", *(f"{i},{i}.fits,{i % 2}" for i in range(6))]
        (folder / "catalog.csv").write_text("\n".join(lines))
    report = read_report(opened(folder, tmp_path / "out"))
    assert report["counts"]["galaxies"] == 6 and any("asinh stretch" in note for note in report["notes"])
