"""Checkpoints, and stopping: the whole state of a run, written when time is up or a signal asks."""

import hashlib
import io
import os
import pickle
import signal
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from gzlib.errors import Stopped, UserError, handling
from gzlib.files import write_whole

SEAL = b"\ngzlib checkpoint, SHA-256 "  # before 64 hexadecimal digits, which end the file


class _Hashed:
    """A file that is hashed while it is written."""

    def __init__(self, file):
        self.file, self.hash = file, hashlib.sha256()

    def write(self, data) -> int:
        self.hash.update(data)
        return self.file.write(data)

    def flush(self):
        self.file.flush()


def previous_of(path: Path) -> Path:
    """Where the checkpoint before the present one is kept."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def save_checkpoint(
    path: Path, model, optimiser, *, key: str, step: int, best: dict | None, history: dict, averaged=None
):
    """Write the state before ``step``, with a checksum; the checkpoint before it is kept beside it.

    No random state is needed: each step seeds its own.

    Parameters
    ----------
    averaged : Module, optional
        Beside the model, where its weights are averaged.
    key : str
        Of the run, so that no other run takes the state for its own.

    Raises
    ------
    gzlib.files.NotWritten
        If the disk is full or may not be written; an earlier checkpoint stays.
    """
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "best": best}
    state["averaged"] = averaged and averaged.state_dict()

    def write(file):
        hashed = _Hashed(file)
        try:
            torch.save({**state, "history": history, "key": key}, hashed)
            file.write(SEAL + hashed.hash.hexdigest().encode())
        except RuntimeError as error:  # closing its archive, torch hides why the disk refused
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        _keep_previous(path)

    write_whole(path, write)


def _keep_previous(path: Path):
    spare, previous = path.with_name(f".{path.name}.previous.tmp-{os.getpid()}"), previous_of(path)
    with suppress(FileNotFoundError):  # the first one
        try:
            os.link(path, spare)
            os.replace(spare, previous)
        except FileNotFoundError:
            raise
        except OSError:  # a file system without links
            os.replace(path, previous)


def load_checkpoint(
    path: Path, model, optimiser, *, key: str, report: Callable[[str], None], averaged=None
) -> dict | None:
    """Put a stored state into the model, the optimiser and the averaged weights where there are any.

    A file that is damaged or truncated is as good as none, since training from an earlier state gives the same result:
    the checkpoint before it is taken, or the run starts from scratch, and a line says so. One that belongs to another
    run is not touched.

    Returns
    -------
    dict with ``step``, ``best`` and ``history``; None where there is nothing to go on from.

    Raises
    ------
    UserError
        If the checkpoint belongs to another run or holds another model.
    """
    device = next(model.parameters()).device
    for file in (path, previous_of(path)):
        if not file.is_file():
            continue
        if (stored := _read(file, device)) is None:
            instead = "going on from the one before it" if file == path and previous_of(path).is_file() else ""
            report(f"The checkpoint '{file}' is damaged or truncated; {instead or 'restarting from scratch'}.")
            continue
        if not isinstance(stored, dict) or not {"model", "optimiser", "step", "best", "history", "key"} <= set(stored):
            raise UserError(f"'{file}' is not a checkpoint of this program; delete it to start from scratch.")
        if stored["key"] != key:
            raise UserError(f"'{file}' is the checkpoint of run '{stored['key']}', not of '{key}'; delete or move it.")
        try:
            model.load_state_dict(stored["model"])
            optimiser.load_state_dict(stored["optimiser"])
            if averaged:
                averaged.load_state_dict(stored["averaged"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"'{file}' holds another model than this run's; delete it to start from scratch.") from None
        return stored
    return None


def _read(file: Path, device: torch.device):
    """What a checkpoint holds; None if it is not as it was written."""
    try:
        content = file.read_bytes()
        body, seal, digest = content[: -len(SEAL) - 64], content[-len(SEAL) - 64 : -64], content[-64:]
        if seal != SEAL or hashlib.sha256(body).hexdigest().encode() != digest:
            return None
        return torch.load(io.BytesIO(body), map_location=device, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError):
        return None


@contextmanager
def stop_requests():
    """Collect SIGTERM, SIGINT and SIGHUP instead of dying of them: yields the list of the signals that came.

    A second SIGINT is a KeyboardInterrupt at once. Outside the main thread, where Python allows no handlers, the list
    stays empty. The handlers that were there before come back at the end.
    """
    requests = []

    def note(number, frame):
        if number == signal.SIGINT and number in requests:
            raise KeyboardInterrupt
        requests.append(number)

    with handling(note):
        yield requests


def leave(requests: list[int]):
    """End the program as the first signal asks: KeyboardInterrupt for SIGINT, Stopped for any other."""
    raise KeyboardInterrupt if requests[:1] == [signal.SIGINT] else Stopped
