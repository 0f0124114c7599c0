"""How cost grows: with the number of galaxies, the size of the images and the size of the encoder.

The appendix "What a study costs" is made from these rows: ``python -m gzlib bench growth --store``.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from harness import row
from roofline import device, offers, side_by_side
from step import bare_step

from gzlib.config import Augment
from gzlib.data.loader import Loader, MappedLoader, free_bytes, open_loader, resident_bytes
from gzlib.data.schema import load_schema
from gzlib.models.encoders import TRAINING_FACTOR, build_encoder, count_parameters, forward_flops
from gzlib.models.heads import DirichletHead, GalaxyModel
from gzlib.training.loss import VoteLoss

GALAXIES = (1_000, 10_000, 100_000, 1_000_000)
SIDES = (32, 64, 96, 128, 160, 224)
REFERENCE = "resnet_w12"
# From 0.05M to 200M parameters.
ENCODERS = (
    *("resnet_w6", "resnet_w12", "resnet_w24", "convnext_w10", "convnext_w20", "convnext_atto"),
    *("convnext_pico", "convnext_nano", "convnext_tiny", "convnext_base", "convnext_large"),
)
SIDE = 64
READ_ON_CPU = 100_000  # galaxies that a CPU's loader really reads in here; a million would take the time of all else


def rows():
    rates = {name: row(f"growth.offers.{name}", value, "1/s", axis="offers") for name, value in offers().items()}
    return [
        *rates.values(),
        *(galaxies(n) for n in GALAXIES),
        *(picture(side) for side in SIDES),
        *(encoder(name, SIDE) for name in ENCODERS),
    ]


def galaxies(n: int) -> dict:
    """Seconds to open a loader of n galaxies, and images a second from it."""
    with tempfile.TemporaryDirectory(prefix="gzlib-bench-") as scratch:
        held = min(n, READ_ON_CPU)
        images = np.lib.format.open_memmap(Path(scratch) / "i.npy", "w+", np.uint8, (held, SIDE, SIDE, 3))
        block = np.random.default_rng(0).integers(0, 256, (1000, SIDE, SIDE, 3), np.uint8)
        for start in range(0, held, len(block)):
            images[start : start + len(block)] = block[: held - start]
        index = np.arange(n) % held
        options = {"batch_size": 64, "augment": Augment(), "device": device()}
        start = time.perf_counter()
        kind = MappedLoader if n > held else open_loader
        loader = kind(images, np.zeros(held, np.int64), index, **options)
        loader.batch(0)
        opened = time.perf_counter() - start
        steps = iter(range(1, 10**9))
        seconds = side_by_side({"batch": lambda: loader.batch(next(steps))}, rounds=2, seconds=0.7)["batch"]
    resident = not isinstance(loader, MappedLoader)
    need, free = resident_bytes(images, index), free_bytes(device())
    how = "resident" if resident else f"memory-mapped, {held:,} images used {n // held} times"
    return row(
        f"growth.galaxies.{n}",
        64 / seconds,
        "pictures/s",
        axis="galaxies",
        galaxies=n,
        resident=resident,
        bytes=need,
        opened_seconds=opened,
        detail=f"{how}; {need / 1e9:.3g} GB of {free / 1e9:.3g} GB free; opened in {opened:.2f} s",
    )


def picture(side: int) -> dict:
    """Seconds a image of a training step of the reference encoder, and of the view alone."""
    batch = max(8, 64 * 64**2 // side**2)
    images = np.random.default_rng(0).integers(0, 256, (8 * batch, side, side, 3), np.uint8)
    votes = np.zeros((len(images), 1), np.int32)
    loader = Loader(images, votes, np.arange(len(images)), batch_size=batch, augment=Augment(), device=device())
    view = side_by_side({"view": lambda: loader.batch(0)}, rounds=2, seconds=0.5)["view"] / batch
    seconds, flops = step_seconds(REFERENCE, side, batch)
    return row(
        f"growth.side.{side}",
        seconds + view,
        "s/picture",
        axis="side",
        side=side,
        encoder=REFERENCE,
        view_seconds=view,
        flops=flops,
        detail=f"{REFERENCE}; the view alone {view * 1e6:.3g} us",
    )


def encoder(name: str, side: int) -> dict:
    """Seconds a image of a training step, and the operations that it needs."""
    batch = 512 if device().type == "cuda" else 32
    seconds, flops = step_seconds(name, side, batch)
    n_params = count_parameters(build_encoder(name))
    return row(
        f"growth.encoder.{name}",
        seconds,
        "s/picture",
        axis="encoder",
        encoder=name,
        side=side,
        batch=batch,
        n_params=n_params,
        flops=flops,
        detail=f"{n_params / 1e6:.3g}M parameters, {flops / seconds / 1e9:.3g} G operations/s",
    )


def step_seconds(name: str, side: int, batch: int) -> tuple[float, float]:
    """Seconds and operations a image of one training step on a batch that stays on the device."""
    schema = load_schema("paper")
    built = build_encoder(name)
    model = GalaxyModel(built, DirichletHead(built.num_features, len(schema.label_cols)))
    model = model.to(device(), memory_format=torch.channels_last)
    images = torch.rand(batch, 3, side, side, device=device()).contiguous(memory_format=torch.channels_last)
    votes = torch.zeros(batch, len(schema.label_cols), dtype=torch.int32, device=device())
    votes[:, :40] = 1
    step = bare_step(model, VoteLoss(schema, device=device()), images, votes)
    seconds = side_by_side({"step": step}, rounds=3, seconds=0.3)["step"] / batch
    return seconds, TRAINING_FACTOR * forward_flops(name, side)
