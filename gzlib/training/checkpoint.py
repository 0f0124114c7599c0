"""Checkpoints, and stopping: the whole state of a run, written when time is up or a signal asks."""

import pickle
import signal
import threading
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import torch

from gzlib.errors import UserError
from gzlib.files import write_whole


def save_checkpoint(
    path: Path, model, optimiser, *, key: str, step: int, best: dict | None, history: dict, averaged=None
):
    """Write the state before ``step``. No random state is needed: each step seeds its own.

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
        try:
            torch.save({**state, "history": history, "key": key}, file)
        except RuntimeError as error:  # closing its archive, torch hides why the disk refused
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise

    write_whole(path, write)


def load_checkpoint(
    path: Path, model, optimiser, *, key: str, report: Callable[[str], None], averaged=None
) -> dict | None:
    """Put a stored state into the model, the optimiser and the averaged weights where there are any.

    A file that cannot be read is as good as none, since training from the start gives the same result: a line says so
    and the next checkpoint takes its place. One that belongs to another run is not touched.

    Returns
    -------
    dict with ``step``, ``best`` and ``history``; None where there is nothing to go on from.

    Raises
    ------
    UserError
        If the checkpoint belongs to another run or holds another model.
    """
    if not path.is_file():
        return None
    device = next(model.parameters()).device
    try:
        stored = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError):
        report(f"The checkpoint '{path}' is damaged or cut short; the run starts anew.")
        return None
    if not isinstance(stored, dict) or not {"model", "optimiser", "step", "best", "history", "key"} <= set(stored):
        raise UserError(f"'{path}' is no checkpoint of this program; delete it to start the run anew.")
    if stored["key"] != key:
        raise UserError(f"'{path}' is the checkpoint of run '{stored['key']}', not of '{key}'; delete it or move it.")
    try:
        model.load_state_dict(stored["model"])
        optimiser.load_state_dict(stored["optimiser"])
        if averaged:
            averaged.load_state_dict(stored["averaged"])
    except (RuntimeError, ValueError, KeyError):
        raise UserError(f"'{path}' holds another model than this run's; delete it to start the run anew.") from None
    return stored


# EX_TEMPFAIL of sysexits.h, 'try again later': the same command goes on from the checkpoint. A batch system can tell
# it from 143, the status of a program that SIGTERM killed before it could keep anything. torchrun
# itself leaves with 1 in either case.
EXIT_STATUS = 75


class Stopped(SystemExit):
    """Raised after SIGTERM, when the state is safe; the program exits with status 75 unless somebody catches it."""

    def __init__(self):
        super().__init__(EXIT_STATUS)


@contextmanager
def stop_requests():
    """Collect SIGTERM and SIGINT instead of dying of them: yields the list of the signals that came.

    A second SIGINT is a KeyboardInterrupt at once. Outside the main thread, where Python allows no handlers, the list
    stays empty. The handlers that were there before come back at the end.
    """
    requests = []

    def note(number, frame):
        if number == signal.SIGINT and number in requests:
            raise KeyboardInterrupt
        requests.append(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            # None means a handler that Python cannot put back; SIG_IGN, that somebody wants the signal unheard.
            if signal.getsignal(number) not in (None, signal.SIG_IGN):
                before[number] = signal.signal(number, note)
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave(requests: list[int]):
    """End the program as the first signal asks: Stopped for SIGTERM, KeyboardInterrupt for SIGINT."""
    raise KeyboardInterrupt if requests[:1] == [signal.SIGINT] else Stopped
