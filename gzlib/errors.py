"""The exceptions that a user is meant to read: one sentence that says what is wrong, where, and what to do.

The sentences for errors of the machine, too; and the exception that a signal raises, which asks a program to stop.
"""

import errno
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn


class UserError(ValueError):
    """Bad input or a missing resource.

    The command line prints the sentence and exits with status 2; a notebook shows it as it is.
    """


class NotWritten(UserError):
    """A file could not be written: no space, no right, or a read-only place; whatever was there before is untouched."""


class Busy(UserError):
    """Another process holds a lock; the message says which."""


def some_of(names: Sequence[str], most: int = 4) -> str:
    """The first few of many names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


# What the libraries say instead of a MemoryError: torch and oneDNN, Arrow, Python's threads, the loader.
_NO_MEMORY = re.compile(
    r"out of memory|not enough memory|can.t allocate memory|failed to map segment|start new thread|launch worker thread"
    r"|cannot allocate memory|could not create a (primitive|memory)",
    re.IGNORECASE,
)


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that there was too little memory, in whichever library that happened."""
    return isinstance(error, MemoryError) or bool(_NO_MEMORY.search(str(error)))


# Which modules, one of which a command may miss, each extra of the package brings.
EXTRAS = {
    "train": "torch torchvision timm tqdm pyarrow PIL safetensors psutil filelock huggingface_hub h5netcdf h5py"
    " pydantic",
    "fits": "astropy",
    "book": "papermill nbformat nbclient nbconvert jupyter_client ipykernel pypandoc yaml IPython",
    "plot": "matplotlib",
    "cluster": "dask distributed",
    "mcmc": "emcee",
    "onnx": "onnx onnxruntime",
    "bench": "zoobot galaxy_datasets lightning pytorch_lightning",
}
EXTRA_OF = {module: extra for extra, modules in EXTRAS.items() for module in modules.split()}


def sentence(error: Exception) -> str | None:
    """What there is to say of an error that a user can do something about; None of others.

    Those are bad input, a module that an extra brings, a disk that is full or read-only, and too little memory.
    """
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRA_OF:
        return f"needs {error.name}; install it with: pip install 'gzlib[{EXTRA_OF[error.name]}]'"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        from gzlib.files import not_written  # which raises errors of this module

        return str(not_written(Path(error.filename or "a temporary file"), error))
    if not lacks_memory(error):
        return None
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    return (
        f"there is too little memory ({said}); close other programs, or choose smaller images, batches or encoders."
        " Finished work is kept, and the same command resumes."
    )


def tell(line: str) -> None:
    """Write a line on standard error; of the processes that torchrun started, the first one does."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ["RANK"] == "0":
        print(line, file=sys.stderr)


# EX_TEMPFAIL of sysexits.h, 'try again later': the same command resumes from the checkpoint. A batch system can tell it
# from 143, the status of a program that SIGTERM killed before it could keep anything. torchrun itself leaves with 1 in
# either case.
EXIT_STATUS = 75
# A shell that closes sends SIGHUP, which Windows does not have.
STOP_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]


class Stopped(SystemExit):
    """Raised after SIGTERM or SIGHUP; the program exits with status 75 unless the caller catches it."""

    def __init__(self) -> None:
        super().__init__(EXIT_STATUS)


@contextmanager
def handling(
    handler: Callable[[int, FrameType | None], object], numbers: Sequence[signal.Signals] = STOP_SIGNALS
) -> Iterator[None]:
    """Have a function handle signals while the block runs, except those that are ignored already (``nohup``).

    Outside the main thread, where Python allows no handlers, nothing changes.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            # None means a handler that Python cannot put back.
            if signal.getsignal(number) not in (None, signal.SIG_IGN):
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def stop_at_once(number: int, frame: FrameType | None) -> NoReturn:
    """A handler that ends what the program is doing; what it cleans up then is not disturbed by a second signal.

    Raises
    ------
    KeyboardInterrupt
        For SIGINT.
    Stopped
        For any other.
    """
    for other in STOP_SIGNALS:
        if other != signal.SIGINT and signal.getsignal(other) is stop_at_once:
            signal.signal(other, lambda number, frame: None)
    raise KeyboardInterrupt if number == signal.SIGINT else Stopped
