"""Checkpoints: the whole state of a training run, written so that a cut leaves the old one or the new one."""

import pickle
from collections.abc import Callable
from pathlib import Path

import torch

from gzlib.errors import UserError
from gzlib.files import write_whole


def save_checkpoint(path: Path, model, optimiser, *, key: str, step: int, best: dict | None, history: dict):
    """Write the state before ``step``. No random state is needed: each step seeds its own.

    Parameters
    ----------
    key : str
        Of the run, so that no other run takes the state for its own.

    Raises
    ------
    gzlib.files.NotWritten
        If the disk is full or may not be written; an earlier checkpoint stays.
    """
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "best": best}

    def write(file):
        try:
            torch.save({**state, "history": history, "key": key}, file)
        except RuntimeError as error:  # closing its archive, torch hides why the disk refused
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise

    write_whole(path, write)


def load_checkpoint(path: Path, model, optimiser, *, key: str, report: Callable[[str], None]) -> dict | None:
    """Put a stored state into the model and the optimiser.

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
    except (RuntimeError, ValueError):
        raise UserError(f"'{path}' holds another model than this run's; delete it to start the run anew.") from None
    return stored
