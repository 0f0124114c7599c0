"""The state of a run: checkpoints, stopping, and the weights that are validated and kept.

A checkpoint is written when time is up or a signal asks. The weights that count are the present ones, or an average
that costs no decay of the rate.
"""

import hashlib
import io
import os
import pickle
import signal
from collections.abc import Callable
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import nn
from torch.optim.swa_utils import update_bn

from gzlib.config import Recipe
from gzlib.data.loader import Loader, mix
from gzlib.errors import Stopped, UserError, handling
from gzlib.files import write_whole
from gzlib.training.distributed import autocast

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
        hashed: Any = _Hashed(file)  # torch wants a whole file object and uses these two methods
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
    """Put a stored state into the model, the optimizer and the averaged weights where there are any.

    A file that is damaged or truncated is as good as none, since training from an earlier state gives the same result:
    the checkpoint before it is taken, or the run starts from scratch, and a line says so. One that belongs to another
    run is not touched.

    Returns
    -------
    dict with ``step``, ``best`` and ``history``; None where there is nothing to continue from.

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


NORM_BATCHES = 16  # from which batch norms learn the mean and variance that belong to averaged weights


class Present:
    """The present weights."""

    average: ModelEmaV3 | None = None  # what a checkpoint has to hold beside the model

    def __init__(self, model: nn.Module):
        self.module = model

    def after_step(self, step: int):
        """Step ``step`` (from 0) has been made."""

    def make(self):
        """Bring :attr:`module` up to date, before a validation."""


class Running(Present):
    """Their running average over a fixed share of the run, see ``Recipe.average``."""

    def __init__(self, model: nn.Module, average: float):
        self.model = model
        # A decay of s / (average + s) in step s.
        self.running = self.average = ModelEmaV3(
            model, decay=1.0, use_warmup=True, warmup_gamma=average, warmup_power=1.0
        )
        self.average, self.module = self.running, self.running.module

    def after_step(self, step: int):
        """Take the new weights in."""
        self.running.update(self.model, step + 1)


class ScheduleFree(Present):
    """The average that the schedule-free optimizer keeps between the weights at which it takes gradients.

    Its state is the optimizer's. Batch norms saw other weights: their statistics are taken again from training views.
    """

    def __init__(self, model: nn.Module, optimiser, train: Loader, *, recipe: Recipe, seed: int, device: torch.device):
        super().__init__(deepcopy(model))
        self.model, self.optimiser, self.train = model, optimiser, train
        self.precision, self.seed, self.device = recipe.precision, mix(seed, "norms"), device

    @torch.no_grad()
    def make(self):
        """Compute the average, and the statistics of its batch norms."""
        self.module.load_state_dict(self.model.state_dict())
        beta = self.optimiser.param_groups[0]["betas"][0]
        for averaged, present in zip(self.module.parameters(), self.model.parameters(), strict=True):
            if "z" in (state := self.optimiser.state.get(present, {})):  # what the optimizer's own eval() does
                averaged.copy_(present.lerp(state["z"], 1 - 1 / beta))
        if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.module.modules()):
            seed_torch(self.seed, self.device)  # stochastic depth
            with autocast(self.device, self.precision):
                update_bn((self.train.batch(step)[0] for step in range(NORM_BATCHES)), self.module.train())


def seed_torch(number: int, device: torch.device):
    """Seed the generator of a device, for dropout and stochastic depth."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(number)  # torch.manual_seed looks for GPUs every time, for 0.8 ms
    elif device.type == "cuda":
        torch.cuda.manual_seed(number)  # of this device alone
    else:
        torch.manual_seed(number)
