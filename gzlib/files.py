"""Writing files so that a crash leaves the old one or the new one, never a part."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_whole(path: Path, write: Callable[[BinaryIO], None]):
    """Let ``write`` fill a temporary file in the same folder, then put it in the file's place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def replace_file(path: Path, text: str) -> bool:
    """Put ``text`` in a file in one step; an equal file is not touched. True if the file changed."""
    path, content = Path(path), text.encode()
    if path.is_file() and path.read_bytes() == content:
        return False
    write_whole(path, lambda file: file.write(content))
    return True
