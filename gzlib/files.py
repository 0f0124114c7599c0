"""Files that are whole or absent, and locks that end with their holder, however it ends."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from gzlib.errors import Busy, NotWritten


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
    with suppress(OSError):  # a read-only place: there is nothing to remove, and the first error is the one to tell
        path.unlink(missing_ok=True)


def replace_file(path: Path, text: str) -> bool:
    """Put ``text`` in a file in one step; an equal file is not touched. True if the file changed."""
    path, content = Path(path), text.encode()
    if path.is_file() and path.read_bytes() == content:
        return False
    write_whole(path, lambda file: file.write(content))
    return True


POLL_SECONDS = 0.5


@contextmanager
def held(path: Path, what: str, *, wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold a lock file while the block runs; the file is gone afterwards.

    The lock is the kernel's (``flock``; on NFS from version 4 the server keeps it), not the file's existence: what a
    killed process leaves behind locks nothing, and the next holder removes it.

    Parameters
    ----------
    path : Path
        The lock file; its folder is made.
    what : str
        What is locked, for the sentence.
    wait : callable, optional
        Wait for the other process, and say so once through this; without it, give up at once.

    Raises
    ------
    Busy
        If another process (or thread) holds the lock and ``wait`` is not given.
    NotWritten
        If the lock file cannot be made.
    """
    from filelock import FileLock  # only whoever locks needs the package

    lock = FileLock(path, blocking=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _acquire(lock, path, what, wait)
    except OSError as error:
        raise not_written(path, error) from None
    try:
        _sign(path)
        yield
    finally:
        with suppress(OSError):  # first removed, then freed: nobody can take a lock whose file is about to go
            path.unlink()
        lock.release()


def _acquire(lock, path: Path, what: str, wait: Callable[[str], None] | None):
    from filelock import Timeout

    told = False
    while True:
        try:
            lock.acquire()
            return
        except Timeout:
            holder = _holder(path)
        if wait is None:
            raise Busy(f"{what} is being made by {holder}.")
        if not told:
            wait(f"{what} is being made by {holder}; waiting for it")
            told = True
        time.sleep(POLL_SECONDS)


def _sign(path: Path):
    try:
        path.write_text(f"process {os.getpid()} on {socket.gethostname()}")
    except PermissionError:  # Windows lets nobody write to a locked file
        pass
    except OSError as error:
        raise not_written(path, error) from None


def is_held(path: Path) -> bool:
    """Whether some process holds the lock now."""
    from filelock import FileLock, Timeout

    if not path.is_file():
        return False
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except (Timeout, OSError):
        return True
    lock.release()
    return False


def _holder(path: Path) -> str:
    try:
        return path.read_text() or "another process"
    except OSError:
        return "another process"
