"""One image: opened if it is one of the known formats, checked, and resized to a survey's pixels."""

import hashlib
import io
import os
import stat
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION, TiffImageFile

from gzlib.errors import UserError

# Pillow knows some forty formats and starts other programs for a few; only these are tried.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".gif", ".fits", ".fit", ".fits.fz", ".fit.fz")
NO_FORMAT = "in none of the formats PNG, JPEG, WebP, TIFF, GIF, FITS"
ASPECTS = ("pad", "crop")
MAX_BYTES = 128 << 20
MAX_PIXELS = 25_000_000  # 5,000 x 5,000; decoding one takes some 100 MB
LARGE_BYTES, LARGE_PIXELS = 8 << 20, 4_000_000  # beyond either, one image at a time is decoded
# An image shows nothing if in every band no more than this share of its pixels is off the median by more than 1 of 255.
BLANK_SHARE = 1 / 2000
SCALE_16 = 257.0  # 16-bit values 0 to 65,535 become 0 to 255
WHITE_IS_ZERO = 0  # as TIFF files call it; Pillow inverts the 8-bit ones itself
FITS_PERCENTILES, FITS_SOFTENING = (1.0, 99.8), 0.1
CONVERSIONS = {
    "16": "16-bit images: 0 to 65,535 becomes 0 to 255",
    "12": "16-bit images with no value above 4,095, read as the others, so that they are dark: if they hold 12 bits,"
    " multiply their values by 16 first",
    "FITS": f"FITS images: asinh stretch (a = {FITS_SOFTENING}) from percentile {FITS_PERCENTILES[0]:g} to"
    f" {FITS_PERCENTILES[1]:g} of each image, the last row on top; 8-bit ones as they are",
}

_one_large, _one_fits = threading.Lock(), threading.Lock()
# Pillow warns between one and two times its limit; here that is an error too. Set once, as threads share the filters.
warnings.simplefilter("error", Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", "Corrupt EXIF data")  # which are then not used


class Unusable(Exception):
    """An image that cannot be used: ``reason`` is counted, ``detail`` says what was found."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


class Frame(NamedTuple):
    """Which part of an image a survey keeps, and at how many pixels."""

    size: int  # side of the result [px]
    aspect: str | None = None  # what becomes of an image that is not square: refused, "pad" or "crop"
    central_fraction: float = 1.0  # of each side, which is kept

    @property
    def drawn(self) -> int:
        """Side at which a simulated image is drawn, so that its central ``size`` px are what is kept [px]."""
        return self.size + 2 * round((1 / self.central_fraction - 1) * self.size / 2)

    def centre(self, images: np.ndarray) -> np.ndarray:
        """The central ``size`` px of images (n, y, x, 3) that have ``drawn`` px."""
        margin = (images.shape[1] - self.size) // 2
        return images[:, margin : margin + self.size, margin : margin + self.size] if margin else images


def refuse_fraction(central_fraction: float) -> None:
    """Refuse what is no part of an image's side.

    Raises
    ------
    UserError
    """
    number = isinstance(central_fraction, int | float | np.number) and not isinstance(central_fraction, bool)
    if not (number and 0 < central_fraction <= 1):
        raise UserError(
            f"central_fraction={central_fraction!r} is no part of an image's side; give a number above 0, at most 1."
        )


class Loaded(NamedTuple):
    """An image at a survey's size."""

    pixels: np.ndarray  # (size, size, 3) uint8
    digest: bytes  # sha256 of the encoded bytes
    conversion: str  # key of CONVERSIONS, "" if it had 8 bits already


def load_image(
    image: bytes | Path | Unusable | None, size: int, aspect: str | None = None, central_fraction: float = 1.0
) -> Loaded:
    """Decode an image and resize it.

    Grey images are repeated in three bands; an alpha channel is dropped where it is opaque. 16-bit and FITS images
    become 8-bit as :data:`CONVERSIONS` states. Of animations and stacks the first image counts. An image whose EXIF
    data say that it is turned or mirrored is shown as any viewer shows it. Nothing is stretched or enlarged. The
    resampling is Lanczos; a JPEG much larger than needed is first scaled by its own decoder to no less than twice the
    size, which is as faithful and twice as fast.

    Parameters
    ----------
    image : bytes, path, None or Unusable
        Encoded, or a regular file; None and ``Unusable`` (a table's cell that names no image) are raised.
    size : int
        Side of the result [px].
    aspect : {None, "pad", "crop"}
        An image that is not square is refused, gets equal black margins, or keeps its central square.
    central_fraction : float
        How much of each side is kept, around the centre, of the square that ``aspect`` leaves; in (0, 1].

    Raises
    ------
    Unusable
        With the reason and what was found.
    """
    frame = Frame(size, aspect, central_fraction)
    if isinstance(image, Unusable):
        raise image
    if image is None:
        raise Unusable("missing image", "the table names no image")
    large = _bytes_of(image) > LARGE_BYTES
    with _one_large if large else nullcontext():
        raw = _raw_bytes(image)
        digest = hashlib.sha256(raw).digest()
        try:
            with _told():
                pixels, conversion = _decode(raw, frame, alone=large)
            return Loaded(pixels, digest, conversion)
        except UnidentifiedImageError:
            raise Unusable("unreadable image", _what_it_is(raw)) from None


@contextmanager
def _told() -> Iterator[None]:
    """What Pillow's decoders raise, as Unusable."""
    try:
        yield
    except UnidentifiedImageError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, OverflowError) as error:
        raise Unusable("unreadable image", str(error)[:200]) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Unusable("oversized image", f"more than {MAX_PIXELS:,} pixels") from None


def prepare_array(pixels: np.ndarray, frame: Frame) -> np.ndarray:
    """(size, size, 3) uint8 of an image that is decoded already, (y, x, 3) or (y, x) uint8; see :func:`load_image`.

    Raises
    ------
    Unusable
    """
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise Unusable("wrong shape", f"{pixels.shape} {pixels.dtype} instead of (y, x, 3) uint8")
    _refuse_size(pixels.shape[1], pixels.shape[0], frame)
    return _resized([Image.fromarray(pixels).convert("RGB")], frame)


def prepare_image(image: Image.Image, frame: Frame) -> np.ndarray:
    """(size, size, 3) uint8 of an image that Pillow holds, which stays as it is; see :func:`load_image`.

    Raises
    ------
    Unusable
    """
    with _told():
        _refuse_size(*image.size, frame)
        own = image.copy()
        own.format = image.format
        return _resized([_upright(own)], frame)


def load_all(
    images: Sequence[bytes | Path | Unusable | None] | np.ndarray,
    rows: list[int],
    frame: Frame,
    pool: Executor,
) -> list[Loaded | Unusable]:
    """What :func:`load_image` makes of some of the images, in threads: Pillow releases the interpreter."""

    def load(row: int) -> Loaded | Unusable:
        try:
            return load_image(images[row], *frame)
        except Unusable as unusable:
            return unusable

    return list(pool.map(load, rows))


def _bytes_of(image: bytes | Path) -> int:
    """How many bytes there are to read; refuses whatever is not a regular file before it is opened."""
    if isinstance(image, bytes):
        n_bytes = len(image)
    else:
        try:
            status = os.stat(image)
        except (OSError, ValueError) as error:  # a path with a null byte in it is a ValueError
            raise Unusable("missing image", f"{_full(image)}: {getattr(error, 'strerror', None) or error}") from None
        if not stat.S_ISREG(status.st_mode):
            raise Unusable("missing image", f"{_full(image)}: not a regular file")
        n_bytes = status.st_size
    if n_bytes > MAX_BYTES:
        raise Unusable("oversized image", f"{n_bytes:,} bytes; at most {MAX_BYTES:,} are read")
    return n_bytes


def _raw_bytes(image: bytes | Path) -> bytes:
    if isinstance(image, bytes):
        return image
    try:
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with open(os.open(image, flags), "rb") as file:  # never waits, should the path be a named pipe by now
            return file.read(MAX_BYTES)
    except OSError as error:
        raise Unusable("missing image", f"{_full(image)}: {error.strerror or error}") from None


def _full(path: Path) -> str:
    """A path as it was looked up, so that anyone who expected it elsewhere sees where that was."""
    return os.path.abspath(path)


def _what_it_is(raw: bytes) -> str:
    start = raw[:200].lstrip().lower()
    if not raw:
        return "an empty file"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer instead of the image; fetch it with `git lfs pull`"
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page instead of an image"
    if raw.startswith(b"\x1f\x8b"):
        return "compressed by gzip; decompress it with `gunzip`"
    return f"{len(raw):,} bytes {NO_FORMAT}"


def _decode(raw: bytes, frame: Frame, *, alone: bool) -> tuple[np.ndarray, str]:
    if raw.startswith(b"SIMPLE  ="):
        with _one_fits:
            return _resized(_fits_bands(raw, frame), frame), "FITS"
    if raw[:4] == b"RIFF" and raw[8:12] == b"WEBP":
        _refuse_size(*_webp_size(raw), frame)  # Pillow reserves the whole canvas before it tells its size
    with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
        _refuse_size(*image.size, frame)
        large = image.width * image.height > LARGE_PIXELS
        with _one_large if large and not alone else nullcontext():
            image.draft(None, (2 * frame.drawn, 2 * frame.drawn))
            image.load()
            ready = _upright(image)
            return _resized([ready], frame), _depth(ready)


def _depth(ready: Image.Image) -> str:
    """Key of ``CONVERSIONS`` of an image that :func:`_eight_bits` returned."""
    if ready.mode != "F":
        return ""
    return "12" if float(ready.getextrema()[1]) * SCALE_16 < 2**12 - 0.5 else "16"  # type: ignore[arg-type]


def _upright(image: Image.Image) -> Image.Image:
    ready = _eight_bits(image)
    with suppress(Exception):  # of metadata in any shape; the pixels stay as they are
        ImageOps.exif_transpose(ready, in_place=True)
    return ready


def _webp_size(raw: bytes) -> tuple[int, int]:
    kind, data = raw[12:16], raw[20:30]
    if kind == b"VP8X" and len(data) == 10:
        return 1 + int.from_bytes(data[4:7], "little"), 1 + int.from_bytes(data[7:10], "little")
    if kind == b"VP8L" and len(data) >= 5:
        bits = int.from_bytes(data[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and len(data) == 10:
        return int.from_bytes(data[6:8], "little") & 0x3FFF, int.from_bytes(data[8:10], "little") & 0x3FFF
    raise Unusable("unreadable image", "a WebP file without a size")


def _refuse_size(width: int, height: int, frame: Frame) -> None:
    if width * height > MAX_PIXELS:
        raise Unusable("oversized image", f"{width:,} x {height:,} px; at most {MAX_PIXELS:,} pixels are decoded")
    if width != height and frame.aspect is None:
        raise Unusable("wrong shape", f"{width} x {height} px is not square; choose --aspect pad or --aspect crop")
    side = max(width, height) if frame.aspect == "pad" else min(width, height)
    if side * frame.central_fraction < frame.size:
        whole = frame.central_fraction == 1
        kept = f"{side} px" if whole else f"{side * frame.central_fraction:.4g} px, the centre of {side} px,"
        raise Unusable("wrong shape", f"{kept} is smaller than the survey's {frame.size} px")


def _eight_bits(image: Image.Image) -> Image.Image:
    """RGB with 8 bits a band, or mode F in 0..255 where the file has more than 8."""
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise Unusable("transparent image", "some of its pixels are transparent; save it without an alpha channel")
    elif image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        values = np.asarray(image).astype(np.float32)
        inverted = isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == WHITE_IS_ZERO
        ready = Image.fromarray((65535 - values if inverted else values) / np.float32(SCALE_16))
        ready.info = image.info
        return ready
    elif image.mode not in ("RGB", "L", "P", "1"):  # the last three become RGB without loss
        detail = f"{image.mode} instead of grey or RGB with 8 or 16 bits; save it as PNG, JPEG or FITS"
        raise Unusable("wrong shape", detail)
    return image if image.mode == "RGB" else image.convert("RGB")


def _resized(bands: list[Image.Image], frame: Frame) -> np.ndarray:
    """(size, size, 3) uint8 of one RGB image, or of one or three images in mode F."""
    shown = [_kept(band if band.mode == "RGB" else band.convert("L"), frame) for band in bands]
    if all(_is_blank(band.histogram()[start : start + 256]) for band in shown for start in range(0, 3 * 256, 256)):
        raise Unusable("blank image", "all pixels are alike, but for a few at most")
    made = []
    for band in bands:
        square = _square(band, frame.aspect)
        margin = (1 - frame.central_fraction) * square.width / 2  # on each side, in fractions of a pixel if need be
        if margin or square.width != frame.size:
            box = (margin, margin, square.width - margin, square.width - margin)
            square = square.resize((frame.size, frame.size), Image.Resampling.LANCZOS, box)
        values = np.asarray(square)
        made.append(values if band.mode == "RGB" else np.clip(np.rint(values), 0, 255).astype(np.uint8))
    if made[0].ndim == 3:
        return made[0]
    return np.stack(made * (3 // len(made)), axis=-1)


def _is_blank(histogram: list[int]) -> bool:
    """Whether the pixels of one band are alike; so is a band that an image does not have."""
    counts = np.array(histogram)
    total = counts.sum()
    if not total:
        return True
    median = int(np.searchsorted(counts.cumsum(), total / 2))
    return bool(total - counts[max(median - 1, 0) : median + 2].sum() <= total * BLANK_SHARE)


def _kept(image: Image.Image, frame: Frame) -> Image.Image:
    """The pixels of which at least a part is kept where the centre is; the whole image where all of it is."""
    if frame.central_fraction == 1:
        return image
    side = min(image.size) if frame.aspect == "crop" else max(image.size)
    x, y = (max(int((length - side * frame.central_fraction) / 2), 0) for length in image.size)
    return image.crop((x, y, image.width - x, image.height - y))


def _square(image: Image.Image, aspect: str | None) -> Image.Image:
    if image.width == image.height:
        return image
    side = max(image.size) if aspect == "pad" else min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))  # what lies outside is black


def _fits_bands(raw: bytes, frame: Frame) -> list[Image.Image]:
    """The first image of a FITS file as one or three images in mode F, 0..255."""
    from astropy.io import fits  # the extra `fits`

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # headers that astropy repairs; several at a time would mix up the filters
        try:
            with fits.open(io.BytesIO(raw), memmap=False) as hdus:
                hdu = next((h for h in hdus if h.is_image and len(h.shape) >= 2), None)
                if hdu is None:
                    table = any(isinstance(h, fits.BinTableHDU | fits.TableHDU) for h in hdus)
                    found = (
                        "a FITS table, which is read as .csv or .parquet" if table else "a FITS file without an image"
                    )
                    raise Unusable("unreadable image", found)
                planes = int(np.prod(hdu.shape[:-2]))
                if planes not in (1, 3):
                    raise Unusable("wrong shape", f"a FITS cube of {planes} planes instead of 1 or 3")
                _refuse_size(hdu.shape[-1], hdu.shape[-2], frame)
                scale, zero = (hdu.header.get(name, value) for name, value in (("BSCALE", 1), ("BZERO", 0)))
                eight_bits = hdu.header.get("BITPIX") == 8 and (scale, zero) == (1, 0)
                blue_first = str(hdu.header.get("BANDS", "")).strip().lower() in ("grz", "gri", "ugr", "riz")
                values = np.asarray(hdu.data, np.float32).reshape(planes, *hdu.shape[-2:])
        except Unusable:
            raise
        except Exception as error:  # a parser of files that anybody made: each fault has its own type
            raise Unusable("unreadable image", f"FITS: {error}"[:200]) from None
        values = np.nan_to_num(values) if eight_bits else _stretch(values)
    values = values[::-1] if planes == 3 and blue_first else values
    return [Image.fromarray(np.ascontiguousarray(plane[::-1])) for plane in values]  # FITS counts rows from below


def _stretch(values: np.ndarray) -> np.ndarray:
    from astropy.visualization import AsinhStretch, AsymmetricPercentileInterval

    known = values[np.isfinite(values)]
    low, high = AsymmetricPercentileInterval(*FITS_PERCENTILES).get_limits(known) if known.size else (0.0, 0.0)
    if not high > low:
        raise Unusable("blank image", "its values do not vary, or none is finite")
    scaled = np.nan_to_num((values - low) / (high - low), nan=0.0, posinf=1.0, neginf=0.0)
    shown: np.ndarray = AsinhStretch(FITS_SOFTENING)(np.clip(scaled, 0, 1)) * 255
    return shown.astype(np.float32)
