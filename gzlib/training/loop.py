"""The training loop, used by pretraining and by finetuning."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn

from gzlib.data.loader import Loader
from gzlib.data.seeds import mix
from gzlib.errors import UserError
from gzlib.training.checkpoint import load_checkpoint, save_checkpoint
from gzlib.training.config import Recipe
from gzlib.training.device import autocast


class NonFiniteLoss(UserError):
    """The loss became infinite or not a number; the message names the step and the galaxies."""


@dataclass
class History:
    """What :func:`fit` saw: one entry for each validation, and the sums behind the next training loss."""

    examples: list[int] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    seconds: float = 0.0
    loss_sum: float = 0.0
    loss_steps: int = 0

    @property
    def best(self) -> int:
        return self.val_loss.index(min(self.val_loss))


def fit(
    model: nn.Module,
    loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    train: Loader,
    val: Loader,
    *,
    recipe: Recipe,
    seed: int,
    device: torch.device,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 120.0,
    report: Callable[[str], None] = lambda line: None,
) -> History:
    """Train a model in place and leave it with the weights of its best validation loss.

    Every step draws from a seed of its own, made of ``seed`` and the step, so that a run that was cut off goes on
    from its checkpoint exactly as if nothing had happened.

    Parameters
    ----------
    model : Module
        (n, 3, s, s) float32 in 0..1 -> predictions.
    loss_of : callable
        (predictions, labels) -> scalar, the mean over galaxies.
    train, val : Loader
    recipe : Recipe
    seed : int
    device : torch.device
    checkpoint : Path, optional
        Where the state is kept; read first if it is there, written every ``checkpoint_seconds``.
    report : callable, optional
        Takes one line at each validation.

    Raises
    ------
    NonFiniteLoss
        With the step, the learning rate and the galaxies of the batch.
    """
    optimiser = torch.optim.AdamW(_parameter_groups(model, recipe), lr=recipe.learning_rate)
    last = max(1, math.ceil(recipe.examples / train.batch_size))
    every = max(1, math.ceil(last / recipe.evaluations))
    history, best, first = History(), None, 0
    if checkpoint is not None and (stored := load_checkpoint(checkpoint, device)) is not None:
        model.load_state_dict(stored["model"])
        optimiser.load_state_dict(stored["optimiser"])
        history, best, first = History(**stored["history"]), stored["best"], stored["step"]
    started, saved = time.monotonic() - history.seconds, time.monotonic()
    loss_sum = torch.tensor(history.loss_sum, device=device)

    for step in range(first, last + 1):
        if history.loss_steps and (step % every == 0 or step == last):
            val_loss = evaluate(model, loss_of, val, device=device)
            history.examples.append(step * train.batch_size)
            history.train_loss.append(loss_sum.item() / history.loss_steps)
            history.val_loss.append(val_loss)
            history.seconds = time.monotonic() - started
            history.loss_steps = 0
            loss_sum.zero_()
            if history.best == len(history.val_loss) - 1:
                best = {k: v.detach().clone() for k, v in model.state_dict().items()}
            rate = history.examples[-1] / max(history.seconds, 1e-9)
            report(
                f"{history.examples[-1]:>9,} galaxies seen  train {history.train_loss[-1]:.4f}  val {val_loss:.4f}"
                f"  {rate:,.0f}/s  {(last - step) * train.batch_size / rate:,.0f} s left"
            )
            if recipe.patience and len(history.val_loss) - 1 - history.best >= recipe.patience:
                break
        if step == last:
            break
        if checkpoint is not None and time.monotonic() - saved > checkpoint_seconds:
            history.seconds, saved = time.monotonic() - started, time.monotonic()
            history.loss_sum = loss_sum.item()
            save_checkpoint(checkpoint, model, optimiser, step=step, best=best, history=vars(history))

        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(recipe, step, last) * group.get("lr_scale", 1.0)
        torch.manual_seed(mix(seed, "step", step))  # dropout and stochastic depth
        model.train()
        images, labels = train.batch(step)
        with autocast(device):
            loss = loss_of(model(images), labels)
        if not torch.isfinite(loss):
            galaxies = train.index[train.rows(step).numpy()]
            raise NonFiniteLoss(
                f"The loss is {loss.item()} at step {step} (learning rate {optimiser.param_groups[0]['lr']:.3g});"
                f" rows of the survey in this batch: {galaxies.tolist()}. Lower the learning rate or look at them."
            )
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        loss_sum += loss.detach()
        history.loss_steps += 1

    model.load_state_dict(best)
    return history


@torch.no_grad()
def evaluate(model: nn.Module, loss_of: Callable, loader: Loader, *, device: torch.device) -> float:
    """Mean loss over all galaxies of a loader, plain views, model in evaluation mode."""
    model.eval()
    total = 0.0
    for images, labels in loader.plain():
        with autocast(device):
            total += loss_of(model(images), labels).item() * len(labels)
    return total / len(loader)


def _schedule(recipe: Recipe, step: int, last: int) -> float:
    warm = max(1, round(recipe.warmup * last))
    if step < warm:
        return (step + 1) / warm
    if recipe.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, last - warm)))


def _parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict]:
    """No weight decay on biases and norms; with layer decay, a rate that falls from the head to the stem."""
    if recipe.layer_decay == 1.0:
        return param_groups_weight_decay(model, recipe.weight_decay)
    network = model.encoder.network
    if not hasattr(network, "group_matcher"):
        raise UserError(f"Encoder '{model.encoder.name}' names no layer groups; use layer_decay=1.")
    groups = param_groups_layer_decay(network, recipe.weight_decay, layer_decay=recipe.layer_decay)
    return groups + param_groups_weight_decay(model.head, recipe.weight_decay)
