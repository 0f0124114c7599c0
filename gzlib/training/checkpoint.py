"""Checkpoints: the whole state of a training run, written so that a cut leaves the old one or the new one."""

import os
import pickle
from pathlib import Path

import torch

from gzlib.errors import UserError


def save_checkpoint(path: Path, model, optimiser, *, step: int, best: dict | None, history: dict):
    """Write the state before ``step``. No random state is needed: each step seeds its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "best": best}
    try:
        with open(temporary, "wb") as file:
            torch.save({**state, "history": history}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
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
