"""Checkpoints: the whole state of a training run, written so that a cut leaves the old one or the new one."""

import pickle
from pathlib import Path

import torch

from gzlib.errors import UserError
from gzlib.files import write_whole


def save_checkpoint(path: Path, model, optimiser, *, step: int, best: dict | None, history: dict):
    """Write the state before ``step``. No random state is needed: each step seeds its own."""
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "best": best}
    try:
        write_whole(path, lambda file: torch.save({**state, "history": history}, file))
    except OSError as error:
        sentence = f"The checkpoint '{path}' could not be written ({error.strerror}); free space or change rights."
        raise UserError(sentence) from None


def load_checkpoint(path: Path, device: torch.device) -> dict | None:
    """The stored state, or None where there is none.

    Raises
    ------
    UserError
        If the file is truncated or no checkpoint of this program.
    """
    if not path.is_file():
        return None
    try:
        stored = torch.load(path, map_location=device, weights_only=True)
        if {"model", "optimiser", "step", "best", "history"} <= set(stored):
            return stored
    except (RuntimeError, EOFError, pickle.UnpicklingError, TypeError, KeyError):
        pass
    raise UserError(f"'{path}' is no checkpoint of this program or was cut short; delete it to start the run afresh.")
