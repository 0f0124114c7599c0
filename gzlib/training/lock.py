"""One process at a time: locks that the operating system frees when their holder dies, however it dies."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from gzlib.errors import UserError
from gzlib.files import not_written

POLL_SECONDS = 0.5


class Busy(UserError):
    """Another process holds the lock; the message says which."""


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


def _acquire(lock: FileLock, path: Path, what: str, wait: Callable[[str], None] | None):
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
