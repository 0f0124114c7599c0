"""Writing files so that a crash leaves the old one or the new one, never a part."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from gzlib.errors import UserError


class NotWritten(UserError):
    """A file could not be written: no space, no right, or a read-only place; whatever was there before is untouched."""


def not_written(path: Path, error: OSError) -> NotWritten:
    """The sentence for an operating system's refusal."""
    reason = error.strerror or str(error)
    return NotWritten(f"'{path}' could not be written ({reason}); free space, change rights or choose another folder.")


def write_whole(path: Path, write: Callable[[BinaryIO], None]):
    """Let ``write`` fill a temporary file in the same folder, then put it in the file's place in one step.

    Raises
    ------
    NotWritten
        If the operating system refuses; the file's old content stays.
    """
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        _remove(temporary)
        if isinstance(error, OSError):
            raise not_written(path, error) from None
        raise


def _remove(path: Path):
    try:
        path.unlink(missing_ok=True)
    except OSError:  # a read-only place: there is nothing to remove, and the first error is the one to tell
        pass


def replace_file(path: Path, text: str) -> bool:
    """Put ``text`` in a file in one step; an equal file is not touched. True if the file changed."""
    path, content = Path(path), text.encode()
    if path.is_file() and path.read_bytes() == content:
        return False
    write_whole(path, lambda file: file.write(content))
    return True
