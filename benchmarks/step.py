"""A training step with loading and augmentation, against the same step on one batch that stays on the device.

Then what precision, memory format, optimizer and compiler are worth on this machine: the defaults of
:mod:`gzlib.training` are what these rows say.
"""

import contextlib
import logging

import numpy as np
import torch
from harness import row
from loss import union_votes
from roofline import device, offers, on_gpu_only, reached, side_by_side
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gzlib.config import Augment, Recipe
from gzlib.data.loader import Loader
from gzlib.data.schema import load_schema
from gzlib.models.encoders import TRAINING_FACTOR, build_encoder, count_parameters
from gzlib.models.heads import DirichletHead, GalaxyModel
from gzlib.training.distributed import autocast
from gzlib.training.loop import fit
from gzlib.training.loss import VoteLoss

ENCODERS = ("resnet_w6", "resnet_w12", "resnet_w24", "convnext_w10")  # preset laptop's
VARIED = ("resnet_w12", "convnext_w10")
GALAXIES, SIDE, BATCH, STEPS, GOAL = 8192, 64, 64, 120, 0.95


def rows():
    if torch.cuda.is_available():
        return [*efficiency("resnet_w24", 1024), utilisation("convnext_nano", 128)]
    out = [r for name in ENCODERS for r in efficiency(name, BATCH)]
    each = [r for r in out if r["name"].startswith("step.efficiency")]
    bare, whole = (sum(r[k] for r in each) for k in ("bare_seconds", "seconds"))
    worst = min(each, key=lambda r: r["value"])
    shown = row(
        "step.efficiency",
        bare / whole,
        "of the bare step",
        goal=f">= {GOAL}",
        ok=bare / whole >= GOAL,
        detail=f"a step with each of the {len(each)} encoders of preset laptop;"
        f" least {worst['value']:.3f}, {worst['detail']}",
    )
    out = [shown, *out, *(r for name in VARIED for r in variants(name))]
    return [*out, on_gpu_only("step.mfu", "of the matrix rate", lambda: utilisation("convnext_nano", 128))]


def study(encoder: str, batch: int, side: int = SIDE, galaxies: int = GALAXIES):
    """Model, loss and loader as pretraining has them, on so many random images with simulated votes."""
    schema = load_schema("paper")
    votes = union_votes("paper", 512)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (galaxies, side, side, 3), np.uint8)
    labels = votes.numpy()[rng.integers(0, len(votes), galaxies)]
    loader = Loader(images, labels, np.arange(galaxies), batch_size=batch, augment=Augment(), device=device())
    torch.manual_seed(0)
    built = build_encoder(encoder)
    model = GalaxyModel(built, DirichletHead(built.num_features, len(schema.label_cols)))
    model = model.to(device(), memory_format=torch.channels_last)
    return model, VoteLoss(schema, device=device()), loader


def bare_step(model, loss_of, images, labels, *, precision=None, fused=True):
    """One training step on given tensors, as a function without arguments."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05, fused=fused)
    model.train()

    def step():
        with precision or autocast(device()):
            prediction = model(images)
        loss_of(prediction.float(), labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.3)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def efficiency(encoder: str, batch: int, *, steps: int = STEPS) -> list[dict]:
    """Time of the bare step over the time of a step of :func:`gzlib.training.loop.fit`, and the step's own limit."""
    model, loss_of, loader = study(encoder, batch)
    few = Loader(np.zeros((1, SIDE, SIDE, 3), np.uint8), loader.labels[:1].cpu().numpy(), [0], batch_size=1)
    few.images, few.labels = few.images.to(device()), few.labels.to(device())
    recipe = Recipe(examples=steps * batch, batch_size=batch, evaluations=1, learning_rate=1e-4)
    step = bare_step(model, loss_of, *loader.batch(0))

    def bare():
        for _ in range(steps):
            step()

    def whole():
        fit(model, loss_of, loader, few, recipe=recipe, seed=0, device=device())

    taken = side_by_side({"bare": bare, "whole": whole}, rounds=3, seconds=1)
    seconds = taken["whole"] / steps
    threads = f", {torch.get_num_threads()} threads" if device().type == "cpu" else ""
    detail = f"{encoder}, {SIDE} px, batches of {batch}: {batch / seconds:,.0f} galaxies/s{threads}"
    operations, moved = needs(model, loss_of, *loader.batch(0))
    return [
        row(
            f"step.efficiency.{encoder}",
            taken["bare"] / taken["whole"],
            "of the bare step",
            detail=detail,
            seconds=seconds,
            bare_seconds=taken["bare"] / steps,
        ),
        reached(f"step.{encoder}", seconds, moved=moved, operations=operations, kind="matrix", what="a step"),
    ]


def needs(model, loss_of, images, labels) -> tuple[float, float]:
    """Operations of a step (a multiply-add is two), and its least traffic in bytes.

    Traffic: images read; activations kept for the backward pass written once and read once; of each parameter the
    value read twice, its gradient written and read, and AdamW's reading and writing of value and two moments.
    """
    kept = 0

    def count(tensor):
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    counter = FlopCounterMode(display=False)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda t: t), counter, autocast(device()):
        loss = loss_of(model(images).float(), labels)
    with counter:
        loss.backward()
    model.zero_grad(set_to_none=True)
    parameters = 4 * count_parameters(model)
    return counter.get_total_flops(), images.numel() * 4 + 2 * kept + (2 + 2 + 6) * parameters


def variants(encoder: str) -> list[dict]:
    """Galaxies a second with one thing changed, over those with the defaults."""
    bf16 = torch.autocast("cpu", torch.bfloat16)
    tasks = {
        "default": {},
        "bf16": {"precision": bf16},
        "plain_adamw": {"fused": False},
        "contiguous": {},
        "compile": {},
    }
    steps, missed = {}, {}
    for name, options in tasks.items():
        model, loss_of, loader = study(encoder, BATCH)
        images, labels = loader.batch(0)
        if name == "contiguous":
            model, images = model.to(memory_format=torch.contiguous_format), images.contiguous()
        if name == "compile":
            logging.getLogger("torch._inductor").setLevel(logging.CRITICAL)
            model = torch.compile(model)
        steps[name] = bare_step(model, loss_of, images, labels, **options)
        try:
            steps[name]()
        except Exception as error:  # no compiler, or no kernel for this processor: that is the finding
            missed[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"
            del steps[name]
    with contextlib.redirect_stderr(None):
        taken = side_by_side(steps, rounds=4, seconds=1)
    out = []
    for name in list(tasks)[1:]:
        value = taken["default"] / taken[name] if name in taken else None
        detail = missed.get(name) or f"{encoder}: {BATCH / taken[name]:,.0f} against {BATCH / taken['default']:,.0f}/s"
        out.append(row(f"step.{name}.{encoder}", value, "x the default", detail=detail))
    return out


def utilisation(encoder: str, batch: int) -> dict:
    """Model FLOP utilisation: operations of forward and backward over what the measured matrix rate would allow."""
    model, loss_of, loader = study(encoder, batch)
    images, labels = loader.batch(0)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(images)
    seconds = side_by_side({"step": bare_step(model, loss_of, images, labels)})["step"]
    value = TRAINING_FACTOR * counter.get_total_flops() / seconds / offers()["matrix"]
    return row("step.mfu", value, "of the matrix rate", detail=f"{encoder}, {SIDE} px, batches of {batch}")
