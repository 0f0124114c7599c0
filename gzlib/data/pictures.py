"""One picture: encoded bytes in, a square of the survey's size out, or the reason why not."""

import hashlib
import io
from pathlib import Path

import numpy as np
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
