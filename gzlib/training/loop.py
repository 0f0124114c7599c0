"""The optimizer of a training run, and its learning rate from step to step."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn

from gzlib.config import USUAL, Conduct, Recipe
from gzlib.data.loader import Loader, mix, open_loader
from gzlib.errors import NotWritten, UserError
from gzlib.progress import silent, telling
from gzlib.training import distributed
from gzlib.training.checkpoint import (
    Present,
    Running,
    ScheduleFree,
    leave,
    load_checkpoint,
    save_checkpoint,
    seed_torch,
    stop_requests,
)
from gzlib.training.distributed import Pace, autocast

WORTH_A_CHECKPOINT = 5.0  # seconds of training, at its end


def adamw(model: nn.Module, recipe: Recipe, *, device: torch.device) -> torch.optim.Optimizer:
    """AdamW over a model's parameters, in one kernel where torch has it, or the recipe's relative of it."""
    groups = parameter_groups(model, recipe)
    if recipe.optimizer == "schedule-free":
        from schedulefree import AdamWScheduleFree  # few recipes need it

        optimiser = AdamWScheduleFree(groups, lr=recipe.learning_rate)
        optimiser.train()
        return optimiser
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=device.type in ("cpu", "cuda") or None)


def learning_rate(recipe: Recipe, step: int, last: int) -> float:
    """Learning rate of step ``step`` (from 0) of ``last``: up along a line, then down along a cosine or flat."""
    warm = max(1, round(recipe.warmup_examples / (recipe.batch_size * recipe.accumulate) or recipe.warmup * last))
    if step < warm:
        return recipe.learning_rate * ((step + 1) / warm)
    if recipe.schedule == "constant":
        return recipe.learning_rate
    return recipe.learning_rate * (0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, last - warm))))


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict]:
    """No weight decay on biases and norms; with layer decay, a rate that falls from the head to the stem."""
    if recipe.layer_decay == 1.0:
        return param_groups_weight_decay(model, recipe.weight_decay)
    # By the layers that the network names, else in the order of its layers.
    encoder, head = (cast(Any, part) for part in (model.encoder, model.head))
    groups = param_groups_layer_decay(encoder.network, recipe.weight_decay, layer_decay=recipe.layer_decay)
    return groups + param_groups_weight_decay(head, recipe.weight_decay)


class NonFiniteLoss(UserError):
    """The loss became infinite or not a number.

    Attributes
    ----------
    details : dict
        ``step``, ``learning_rate``, ``loss``, ``gradient_norm`` (as words: JSON has none for NaN) and the ``ids`` of
        the batch's galaxies.
    """

    def __init__(self, message: str, **details):
        super().__init__(message)
        self.details = details


@dataclass
class History:
    """What :func:`fit` saw: one entry for each validation, and the sums behind the next training loss.

    ``limit`` is the most galaxies that the recipe shows.
    """

    examples: list[int] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    loss_sum: float = 0.0
    loss_steps: int = 0
    limit: int = 0

    @property
    def best(self) -> int:
        return self.val_loss.index(min(self.val_loss))

    def spent(self, patience: int, warmup: int = 0) -> bool:
        """Whether none of the last ``patience`` validations, those of the warm-up not counted, improved the loss."""
        if not (patience and self.val_loss):
            return False
        since = max(self.best, sum(seen <= warmup for seen in self.examples) - 1)
        return len(self.val_loss) - 1 - since >= patience

    def as_metrics(self) -> dict:
        """What a run's record says of it: ``history`` (a list for each validation) and ``end``.

        ``end`` has ``examples`` (galaxies seen in all), ``best`` (when the weights that were kept had been reached) and
        ``why`` the run ended: ``patience`` or ``ceiling`` (all that the recipe allows).
        """
        seen = self.examples[-1]
        why = "ceiling" if seen >= self.limit else "patience"
        end = {"examples": seen, "best": self.examples[self.best], "why": why}
        return {"history": {k: getattr(self, k) for k in ("examples", "train_loss", "val_loss")}, "end": end}


def validation_steps(recipe: Recipe, last: int, batch: int, galaxies: int) -> set[int]:
    """After which steps a run of ``last`` steps of ``batch`` galaxies, of ``galaxies`` in all, is validated."""
    if not recipe.spacing:
        every = max(1, math.ceil(last / recipe.evaluations))
        return {*range(every, last, every), last}
    steps, step = set(), galaxies / batch  # whatever ``last`` is: a longer run begins like a shorter one
    while step < last:
        steps.add(math.ceil(step))
        step = max(step * (1 + recipe.spacing), step + 1)
    return {*steps, last}


def _non_finite(step: int, learning_rate: float, loss: float, norm: float, ids: list) -> NonFiniteLoss:
    return NonFiniteLoss(
        f"The loss is {loss}, its gradient's norm {norm}, at step {step} (learning rate {learning_rate:.3g}); lower the"
        f" learning rate or look at the galaxies of this batch: {', '.join(map(str, ids))}.",
        step=step,
        learning_rate=learning_rate,
        loss=str(loss),
        gradient_norm=str(norm),
        ids=ids,
    )


def train_loader(images, labels, index, *, recipe: Recipe, seed: int, device: torch.device) -> Loader:
    """A loader whose batch is a whole step of the optimizer, of which it gives this process's part."""
    return open_loader(
        images,
        labels,
        index,
        batch_size=recipe.batch_size * recipe.accumulate,
        seed=mix(seed, "views"),
        augment=recipe.augment,
        device=device,
        rank=distributed.rank(),
        world=distributed.world(),
    )


def fit(
    model: nn.Module,
    loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    train: Loader,
    val: Loader,
    *,
    recipe: Recipe,
    seed: int,
    device: torch.device,
    ids: np.ndarray | None = None,
    checkpoint: Path | None = None,
    key: str = "",
    conduct: Conduct = USUAL,
) -> History:
    """Train a model in place and leave it with the weights of its best validation loss.

    Every step draws from a seed of its own, made of ``seed`` and the step, so that a run that was cut off goes on
    from its checkpoint exactly as if nothing had happened. In several processes (:mod:`gzlib.training.distributed`)
    the first one writes and talks, and all of them take every decision together.

    Parameters
    ----------
    model : Module
        (n, 3, s, s) float32 in 0..1 -> predictions.
    loss_of : callable
        (predictions float32, labels) -> scalar, the mean over galaxies.
    train : Loader
        See :func:`train_loader`.
    val : Loader
        The same in every process.
    recipe : Recipe
    seed : int
    device : torch.device
    ids : (survey,) array, optional
        Name of each row of the survey, for messages; row numbers if left out.
    checkpoint : Path, optional
        Where the state is kept; read first if it is there, written at the times that ``conduct`` says and when the
        program is told to stop. ``progress.jsonl`` lies beside it.
    key : str
        Of the run; a checkpoint of another one is refused.
    conduct : Conduct
        How it is carried out: its ``report``, if any, takes a line at each validation, ``live`` one at each step.
        ``device`` stands in the place of its device.

    Raises
    ------
    NonFiniteLoss
        With the step, the learning rate and the galaxies of the batch.
    gzlib.training.checkpoint.Stopped, KeyboardInterrupt
        After SIGTERM, SIGHUP or SIGINT, once the checkpoint is written.
    UserError
        If the checkpoint is another run's.
    """
    if not distributed.is_main():
        conduct = replace(conduct, report=None, live=None, log=None)
    report = conduct.report or silent
    if recipe.gradient_checkpointing:
        _checkpoint_gradients(model)
    network: Callable[..., Any] = distributed.replicated(model, device)
    if conduct.compile:
        network = torch.compile(network, options={"fallback_random": True})  # dropout draws as it would uncompiled
    optimiser = adamw(model, recipe, device=device)
    watched: ScheduleFree | Running | Present
    if recipe.optimizer == "schedule-free":
        watched = ScheduleFree(model, optimiser, train, recipe=recipe, seed=seed, device=device)
    else:
        watched = Running(model, recipe.average) if recipe.average else Present(model)
    parameters = [p for p in model.parameters() if p.requires_grad]
    last = max(1, math.ceil(recipe.most_examples(len(train)) / train.batch_size))
    validations = validation_steps(recipe, last, train.batch_size, len(train))
    history, best, first = History(limit=last * train.batch_size), None, 0
    stored = checkpoint and load_checkpoint(
        checkpoint, model, optimiser, averaged=watched.average, key=key, report=report
    )
    if stored:
        history, best, first = History(**stored["history"]), stored["best"], stored["step"]
    if distributed.share(first) != first:
        raise UserError(f"The processes of this run see different checkpoints at '{checkpoint}'; share the run store.")
    saved, loss_sum = time.monotonic(), torch.tensor(history.loss_sum, device=device)
    rate_at = partial(learning_rate, recipe, last=last)
    model.train()
    captured, capturable = None, _capturable(recipe, device) and not conduct.compile
    unread: deque[tuple[int, torch.Tensor]] = deque()  # steps and their results that the device may still be computing

    def read(keep: int):
        """Hear of all steps but the latest ``keep``: to wait for the latest would leave a GPU without work."""
        while len(unread) > keep:
            step, result = unread.popleft()
            loss, norm = result.tolist()
            if not (math.isfinite(loss) and math.isfinite(norm)):
                rows = train.index[train.rows(step).numpy()]
                raise _non_finite(step, rate_at(step), loss, norm, (rows if ids is None else ids[rows]).tolist())
            tell.step(step, loss, rate_at(step))

    def save(step: int):
        history.loss_sum = loss_sum.item()
        try:
            if checkpoint and distributed.is_main():
                state = {"step": step, "best": best, "history": vars(history), "averaged": watched.average}
                save_checkpoint(checkpoint, model, optimiser, key=key, **cast(Any, state))
        except NotWritten as error:
            report(f"{error} If the run is cut off now, it continues from an earlier checkpoint or its start.")

    folder = checkpoint.parent if checkpoint and distributed.is_main() else None
    stopping: AbstractContextManager[list] = stop_requests() if checkpoint else nullcontext([])
    with (
        stopping as stops,
        telling(last, train.batch_size, folder=folder, report=report, live=conduct.live, log=conduct.log) as tell,
        closing(Pace(device, report)) as pace,
    ):
        for step in range(first, last + 1):
            validate = history.loss_steps > 0 and step in validations
            read(keep=0 if validate else 1)
            if validate:
                watched.make()
                val_loss = evaluate(
                    watched.module, loss_of, val, device=device, precision=recipe.precision, stops=stops
                )
                model.train()
            # A validation that a stop stopped early is made again when the run goes on.
            if validate and val_loss is not None:
                if not math.isfinite(val_loss):
                    what = f"The validation loss is {val_loss} after {step} steps; lower the learning rate."
                    raise NonFiniteLoss(what, step=step, learning_rate=rate_at(step - 1), loss=str(val_loss))
                history.examples.append(step * train.batch_size)
                history.train_loss.append(loss_sum.item() / history.loss_steps)
                history.val_loss.append(val_loss)
                history.loss_steps = 0
                loss_sum.zero_()
                if history.best == len(history.val_loss) - 1:
                    best = {k: v.detach().clone() for k, v in watched.module.state_dict().items()}
                tell.validation(step, history.train_loss[-1], val_loss, rate_at(step - 1))
            finished = step == last or history.spent(recipe.patience, recipe.warmup_examples)
            due = checkpoint is not None and time.monotonic() - saved >= conduct.checkpoint_seconds
            due, stop = distributed.anywhere(due, bool(stops))
            if finished:  # the test that follows may be interrupted, too
                due = checkpoint is not None and time.monotonic() - saved > WORTH_A_CHECKPOINT
            if stop or due:
                read(keep=0)  # no ruined weights in a checkpoint
                save(step)
                saved = time.monotonic()
            if stop:
                report(f"Stopped after {step} of {last} steps; started again, the run continues from here.")
                leave(distributed.share(stops))
            if finished:
                break

            for group in optimiser.param_groups:
                group["lr"] = rate_at(step) * group.get("lr_scale", 1.0)
            if captured is None and capturable:
                batch = train.batch(step)
                captured = Captured.of(network, loss_of, batch, recipe=recipe, device=device, report=report)
                capturable = captured is not None
            own = [distributed.rank()] if distributed.rank() else []
            seed_torch(mix(seed, "step", step, *own), device)  # dropout and stochastic depth
            if captured:
                loss, norm = captured(*train.batch(step))
                optimiser.step()
            else:
                loss = _gradients(network, loss_of, train, step, recipe=recipe, seed=seed, device=device)
                norm = nn.utils.clip_grad_norm_(parameters, recipe.clip)
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
            watched.after_step(step)
            loss_sum += loss
            history.loss_steps += 1
            unread.append((step, torch.stack([loss, norm])))
            pace.step()

    assert best is not None  # the last step is validated
    model.load_state_dict(best)
    return history


@contextmanager
def batch_norm_explained(galaxies: int) -> Iterator[None]:
    """One sentence where batch norm meets a single value, as of one galaxy that has shrunk to one pixel."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            f"Batch norm cannot learn from {galaxies} galaxy a batch at this image size: use a batch size of 2 or more"
            " (--batch-size), more labels if there is one to train on, or an encoder without batch norm, such as a"
            " ConvNeXt."
        ) from None


def _checkpoint_gradients(model: nn.Module):
    """Have the encoder compute its activations again on the way back.

    Raises
    ------
    UserError
        If the architecture cannot.
    """
    encoder = cast(Any, model.encoder)
    try:
        encoder.network.set_grad_checkpointing(True)
    except (AssertionError, AttributeError):
        raise UserError(
            f"Encoder '{encoder.name}' has no gradient checkpointing; use recipe.gradient_checkpointing=false."
        ) from None


def _mixed(images, labels, loss_of, alpha: float, *, seed: int, step: int):
    """Images each blended with another of the batch, and the loss with both labels; all drawn from seed and step."""
    draw = np.random.default_rng(mix(seed, "mixup", step, distributed.rank()))
    share = float(draw.beta(alpha, alpha))
    other = torch.from_numpy(draw.permutation(len(images))).to(images.device)
    both = torch.stack([labels, labels[other]], 1)

    def blended(prediction: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
        return share * loss_of(prediction, pairs[:, 0]) + (1 - share) * loss_of(prediction, pairs[:, 1])

    return images.lerp(images[other], 1 - share), both, blended


WARM_UP = 3  # steps before a capture, in which libraries choose their kernels


def _capturable(recipe: Recipe, device: torch.device) -> bool:
    """Whether every step does the same to tensors of the same shapes."""
    varied = recipe.mixup or recipe.accumulate > 1 or recipe.gradient_checkpointing
    return device.type == "cuda" and distributed.world() == 1 and not varied


class Captured:
    """A step's way there and back, with the gradient's clipping, as one CUDA graph.

    A small network's step is some hundred kernels of microseconds, and to start each of them takes the processor
    longer than the GPU needs to run it; a graph starts them all at once. The gradients are the same, dropout included,
    and stay where the graph writes them.

    Parameters
    ----------
    batch : (images, labels)
        Of the shapes that all batches have.
    """

    def __init__(self, network, loss_of, batch: tuple, *, recipe: Recipe, device: torch.device):
        self.images, self.labels = (part.clone() for part in batch)
        parameters = [p for p in network.parameters() if p.requires_grad]
        buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]  # batch norms count what they see

        def make():
            for p in parameters:
                p.grad = None  # of the graph, each gradient is then a tensor of its own that every replay writes again
            with autocast(device, recipe.precision, keep=False):
                prediction = network(self.images)
            loss = loss_of(prediction.float(), self.labels)
            loss.backward()
            return loss.detach(), nn.utils.clip_grad_norm_(parameters, recipe.clip)

        aside = torch.cuda.Stream(device)
        aside.wait_stream(torch.cuda.current_stream(device))
        try:
            with torch.cuda.stream(aside):
                for _ in range(WARM_UP):
                    make()
            torch.cuda.current_stream(device).wait_stream(aside)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.loss, self.norm = make()
        finally:
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)

    @classmethod
    def of(cls, network, loss_of, batch: tuple, *, report: Callable[[str], None], **how) -> "Captured | None":
        """The captured step, or None where the network or its loss does something that no graph can hold."""
        try:
            return cls(network, loss_of, batch, **how)
        except RuntimeError as error:
            report(f"Steps are not captured as a CUDA graph ({str(error).splitlines()[0]}).")
            network.zero_grad(set_to_none=True)
            return None

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and norm of the gradient of a batch; both are overwritten by the next one."""
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.graph.replay()
        return self.loss, self.norm


def _gradients(
    network, loss_of, train: Loader, step: int, *, recipe: Recipe, device: torch.device, seed: int = 0
) -> torch.Tensor:
    """Add up the gradients of the mean loss over a whole step, batch by batch; the loss itself is returned."""
    images, labels = train.batch(step)
    if recipe.mixup:
        images, labels, loss_of = _mixed(images, labels, loss_of, recipe.mixup, seed=seed, step=step)
    processes = distributed.world()
    batches = min(recipe.accumulate, train.batch_size // processes)  # of few galaxies, no batch is empty
    loss_in_all = torch.zeros((), device=device)
    pairs = zip(images.tensor_split(batches), labels.tensor_split(batches), strict=True)
    for i, (some, their_labels) in enumerate(pairs, start=1):
        wait = processes > 1 and i < batches  # gradients travel between processes once a step
        with network.no_sync() if wait else nullcontext():
            with autocast(device, recipe.precision), batch_norm_explained(len(some)):
                prediction = network(some)
            # A mean over these galaxies becomes their share of the mean over the step's.
            loss = loss_of(prediction.float(), their_labels) * (len(some) / train.batch_size)
            (loss * processes).backward()  # several processes take the mean of their gradients, not the sum
        loss_in_all += loss.detach()
    return distributed.total(loss_in_all)


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loss_of: Callable,
    loader: Loader,
    *,
    device: torch.device,
    precision: str = "auto",
    stops: list[int] | tuple = (),
) -> float | None:
    """Mean loss over all galaxies of a loader, plain views, model in evaluation mode; each process takes its share.

    None where a signal comes meanwhile, in any process, into ``stops``.
    """
    model.eval()
    total = torch.zeros((), dtype=torch.float64)
    for i, (images, labels) in enumerate(loader.plain()):
        if distributed.anywhere(bool(stops))[0]:
            return None
        if i % distributed.world() == distributed.rank():
            with autocast(device, precision):
                prediction = model(images)
            total += loss_of(prediction.float(), labels).item() * len(labels)
    return distributed.total(total).item() / len(loader)
