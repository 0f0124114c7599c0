"""What one GPU does: every figure of the speed benchmarks that needs one, in the order of their worth.

    PYTHONPATH=. python benchmarks/gpu.py --out FOLDER --seconds 170

First how fast it trains each encoder of preset ``paper`` at 224 px, with the preset's own recipe and batches, and the
memory that this takes; then what ``growth``, ``step``, ``loss``, ``loader`` and ``rehearsal`` have of a GPU. Each
figure is written as it comes, so that the program can be cut off at any moment; of several calls with one folder, a
later one makes what is missing. The files of the folder belong into ``data/benchmarks``, where chapter 91 and
``sweep --dry-run`` find them.

It needs no network, no weights and no survey. ``--device cpu --tiny`` fills the same fields with small networks.
"""

import argparse
import gc
import json
import math
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import growth
import loss
import numpy as np
import step
import torch
from harness import machine, row, span, stored_file
from loader import CASES, PICTURES
from loader import on_gpu as loader_on_gpu
from loss import union_votes
from roofline import choose, device, offers, side_by_side, synchronise
from torch import nn

from gzlib.config import Recipe
from gzlib.data.loader import Loader
from gzlib.data.schema import load_schema
from gzlib.errors import UserError
from gzlib.files import replace_file
from gzlib.models.encoders import (
    TRAINING_FACTOR,
    build_encoder,
    count_parameters,
    forward_flops,
    placed,
    timm_arguments,
)
from gzlib.models.heads import DirichletHead, GalaxyModel
from gzlib.study.presets import PAPER_ENCODERS, paper_recipe, planned_splits
from gzlib.training.distributed import autocast
from gzlib.training.loop import adamw, fit
from gzlib.training.loss import VoteLoss

SIDE, IMAGES = 224, 512  # px; random images, used several times in a batch
REHEARSED, PASS = "resnet_w12", 663_840  # encoder of rehearsal.py, whose packages no GPU needs; the whole survey's
STEPS = 3  # of each encoder of preset 'paper', before any is timed
MEASURED = 1.0  # seconds for the rate of one encoder
SPARE = 8.0  # seconds that a figure may take: none is started with less left
SHARE = 0.4  # of the time that the other benchmarks take on a CPU
# The encoders that take most of a study's hours first.
ORDER = sorted(PAPER_ENCODERS, key=lambda name: PAPER_ENCODERS[name][0])

Figure = tuple[str, str, Callable[[], dict | list[dict]]]


def figures(*, tiny: bool) -> Iterator[Figure]:
    """Each figure's benchmark, its name, and the function that measures it."""
    schema = load_schema("paper")
    side, few = (32, 4) if tiny else (SIDE, 0)
    for name in ("convnext_atto", "resnet18") if tiny else ORDER:
        yield "paper", f"paper.{name}", lambda name=name: paper_encoder(name, side=side, batch=few)

    encoders = ("resnet_w6", "convnext_w10") if tiny else growth.ENCODERS
    for name in ("bytes", "matrix", "arithmetic"):
        found = f"growth.offers.{name}"
        yield "growth", found, lambda name=name, found=found: row(found, offers()[name], "1/s", axis="offers")
    for name in encoders:
        yield "growth", f"growth.encoder.{name}", lambda name=name: growth.encoder(name, growth.SIDE)

    def gpu_loss():
        votes = union_votes("paper", loss.BATCH)
        return loss.on_gpu(schema, 1 + 100 * torch.rand(votes.shape), votes)

    large, batch = ("convnext_w10", 8) if tiny else ("convnext_nano", 128)
    yield "step", "step.mfu", lambda: step.utilisation(large, batch)
    yield "loss", "loss.gpu_seconds", gpu_loss
    yield "rehearsal", "rehearsal.train.gpu", lambda: rehearsed(side, (1, 3) if tiny else (50, 250))
    for suffix, pixels, _, repeats in CASES:
        images = Random(PICTURES, min(pixels, side))
        index = np.tile(np.arange(PICTURES), 3 if tiny else repeats)
        name = f"loader.gpu{suffix}"
        yield "loader", name, partial(on_loader, name, images, index)
    for pixels in (32, 48) if tiny else growth.SIDES:
        yield "growth", f"growth.side.{pixels}", lambda pixels=pixels: growth.picture(pixels)
    for n in (1_000,) if tiny else growth.GALAXIES[:3]:
        yield "growth", f"growth.galaxies.{n}", lambda n=n: growth.galaxies(n)
    whole, batch, steps = ("resnet_w6", 8, 2) if tiny else ("resnet_w24", 1024, 60)
    yield "step", f"step.efficiency.{whole}", lambda: step.efficiency(whole, batch, steps=steps)
    if not tiny:
        yield "growth", "growth.galaxies.1000000", lambda: growth.galaxies(growth.GALAXIES[3])


def on_loader(name: str, images: "Random", index: np.ndarray) -> dict:
    """Augmented images a second of random images."""
    return loader_on_gpu(name, images.side, images(), index)


class Random:
    """So many random images, (n, side, side, 3) uint8, drawn when they are asked for."""

    def __init__(self, n: int, side: int):
        self.n, self.side = n, side

    def __call__(self) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 256, (self.n, self.side, self.side, 3), np.uint8)


def paper_encoder(name: str, *, side: int = SIDE, batch: int = 0) -> dict:
    """Images a second of training one encoder as preset ``paper`` does, and the most memory held.

    Parameters
    ----------
    batch : int
        Images in one pass through the network, of which several make a step; that of the preset where 0. Where the
        memory is too small, half as many are tried, and the row says so.
    """
    recipe = paper_recipe(name, planned_splits("hub:mwalmsley/gz_evo")["train"])
    asked = batch or recipe.batch_size
    recipe = replace(recipe, batch_size=asked, accumulate=2 if batch else recipe.accumulate)
    while True:
        try:
            return _trained(name, side, recipe, asked)
        except torch.OutOfMemoryError:
            if recipe.batch_size == 1:
                raise
        release()
        recipe = replace(recipe, batch_size=recipe.batch_size // 2, accumulate=2 * recipe.accumulate)


def _trained(name: str, side: int, recipe: Recipe, asked: int) -> dict:
    here, gpu = device(), device().type == "cuda"
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    torch.manual_seed(0)
    encoder = random_encoder(name, side, recipe.drop_path)
    votes = union_votes("paper", 64 if side < SIDE else loss.BATCH).numpy()
    model = placed(GalaxyModel(encoder, DirichletHead(encoder.num_features, votes.shape[1], dropout=0.5)), here)
    model.train()
    loss_of, optimiser = VoteLoss(load_schema("paper"), device=here), adamw(model, recipe, device=here)
    whole = recipe.batch_size * recipe.accumulate
    images = Random(min(IMAGES, whole), side)()
    index = np.arange(whole) % len(images)
    loader = Loader(
        images, np.resize(votes, (len(images), votes.shape[1])), index, batch_size=whole, augment=recipe.augment,
        device=here,
    )  # fmt: skip
    views, labels = loader.batch(0)
    parts = list(zip(views.tensor_split(recipe.accumulate), labels.tensor_split(recipe.accumulate), strict=True))

    def one_pass(i: int = 0) -> torch.Tensor:
        some, theirs = parts[i % len(parts)]
        with autocast(here, recipe.precision):
            prediction = model(some)
        value = loss_of(prediction.float(), theirs)
        (value / len(parts)).backward()
        return value.detach()

    def update() -> torch.Tensor:
        norm = nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimiser.step()
        return norm

    losses = []
    for i in range(STEPS):
        losses += [one_pass(i), update()]
        optimiser.zero_grad(set_to_none=True)
    found = torch.stack([value.float() for value in losses]).tolist()
    finite = all(map(math.isfinite, found)) and all(bool(p.isfinite().all()) for p in model.parameters())
    passing = seconds_of(one_pass, MEASURED if gpu else 0.0)
    updating = seconds_of(update, 0.05 if gpu else 0.0)
    peak = torch.cuda.max_memory_allocated() if gpu else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    viewing = seconds_of(lambda: loader.batch(1), 0.05 if gpu else 0.0)
    seconds = (viewing + recipe.accumulate * passing + updating) / whole
    flops, n_params = TRAINING_FACTOR * forward_flops(name, side), count_parameters(encoder)
    halved = f" (the preset's {asked} did not fit)" if recipe.batch_size < asked else ""
    detail = (
        f"{1 / seconds:,.0f} images/s at {side} px: {recipe.accumulate} passes of {recipe.batch_size}{halved} and one"
        f" update; {'bfloat16' if gpu else 'float32'}, channels last; at most {peak / 1e9:.3g} GB;"
        f" {flops / seconds / 1e12:.3g} T operations/s; {STEPS} steps {'finite' if finite else 'NOT FINITE'}"
    )
    return row(
        f"paper.{name}", seconds, "s/picture", ok=finite, goal="finite", detail=detail, axis="paper", encoder=name,
        side=side, batch=recipe.batch_size, asked=asked, step=whole, n_params=n_params, flops=flops, peak_bytes=peak,
        pass_seconds=passing, update_seconds=updating, view_seconds=viewing, losses=found[::2],
    )  # fmt: skip


def random_encoder(name: str, side: int, drop_path: float):
    """The encoder, its weights drawn on the device, which takes a large one seconds less than the processor."""
    timm_arguments(name, side)  # remembered: on this device it could not be determined
    try:
        with torch.device(device()):
            return build_encoder(name, size=side, drop_path=drop_path)
    except (RuntimeError, TypeError, ValueError):  # some networks make arrays of numpy from tensors as they are built
        return build_encoder(name, size=side, drop_path=drop_path)


def seconds_of(call: Callable[[], object], least: float) -> float:
    """Seconds of one call, the mean of two or more in a row that take at least so long together."""
    call()
    synchronise()
    calls, start = 0, time.perf_counter()
    while calls < 2 or time.perf_counter() - start < least:
        call()
        calls += 1
        if calls % 2 == 0:  # what the processor asks for ahead of the GPU is not done yet
            synchronise()
    synchronise()
    return (time.perf_counter() - start) / calls


def rehearsed(side: int, steps: tuple[int, int]) -> dict:
    """The rehearsal's training on a GPU: images a second of whole steps, and hours of a pass over the real survey.

    Of runs of two lengths, so that what a run needs for its start does not count.
    """
    most = Recipe(examples=64 * steps[1], evaluations=1, learning_rate=1e-3)
    model, loss_of, loader = step.study(REHEARSED, most.batch_size, side=side, galaxies=64 * min(16, steps[1]))
    few = Loader(np.zeros((2, side, side, 3), np.uint8), loader.labels[:2].cpu().numpy(), [0, 1], batch_size=2)
    few.images, few.labels = few.images.to(device()), few.labels.to(device())

    def train(n: int):
        fit(model, loss_of, loader, few, recipe=replace(most, examples=64 * n), seed=0, device=device())

    taken = side_by_side({n: lambda n=n: train(n) for n in steps}, rounds=2, seconds=0.0)
    seconds = (taken[steps[1]] - taken[steps[0]]) / (64 * (steps[1] - steps[0]))
    detail = f"{REHEARSED}, {side} px; one pass over {PASS:,} galaxies in {PASS * seconds / 3600:.2g} h"
    return row("rehearsal.train.gpu", 1 / seconds, "images/s", detail=detail, axis="gpu", encoder=REHEARSED, side=side)


def release():
    """Give back the memory of what is no longer used."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class Kept:
    """The files of a folder, one a benchmark, each written again with every figure."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.machine = folder, machine()
        self.rows: dict[str, list[dict]] = {}

    def file(self, what: str) -> Path:
        """The file of a benchmark, named as ``bench --store`` would."""
        return self.folder / (stored_file(what).name if device().type == "cuda" else f"{what}-cpu.json")

    def has(self, what: str, name: str) -> bool:
        """Whether an earlier call has measured a figure."""
        if what not in self.rows:
            self.rows[what] = []
            with suppress(OSError, ValueError, KeyError):
                self.rows[what] = json.loads(self.file(what).read_text())["rows"]
        return any(one["name"] == name and one["value"] is not None for one in self.rows[what])

    def add(self, what: str, found: list[dict]):
        """Keep figures, in place of those of the same names."""
        names = {one["name"] for one in found}
        self.rows[what] = [one for one in self.rows[what] if one["name"] not in names] + found
        record = {"benchmark": what, "machine": self.machine, "rows": self.rows[what]}
        replace_file(self.file(what), json.dumps(record, indent=1) + "\n")


def measure(out: Path, *, seconds: float, tiny: bool = False) -> list[str]:
    """Measure every figure that is not in the folder yet; the names of those that there was no time for."""
    began, kept, left = time.monotonic(), Kept(out), []
    for what, name, make in figures(tiny=tiny):
        passed = time.monotonic() - began
        if kept.has(what, name):
            continue
        if passed > seconds - SPARE:
            left.append(name)
            continue
        try:
            found = make()
        except Exception as error:  # one figure that cannot be had must not cost the others
            first = (str(error).splitlines() or [""])[0][:200]
            found = row(name, None, "", detail=f"failed: {type(error).__name__}: {first}")
        found = found if isinstance(found, list) else [found]
        kept.add(what, found)
        for one in found:
            print(f"{time.monotonic() - began:6.1f} s  {one['name']:32} {one['detail']}", flush=True)
        release()
    return left


def main(words: list[str] | None = None) -> int:
    """The command line; 1 if something is left to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the JSON files")
    parser.add_argument("--seconds", type=span, default=170.0, help="start no figure that would not end within them")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="every field, with small networks: a rehearsal")
    given = parser.parse_args(words)
    if given.device == "cuda" and not torch.cuda.is_available():
        raise UserError("There is no CUDA GPU here; --device cpu --tiny shows what would be measured.")
    choose(given.device, share=0.01 if given.tiny else SHARE)
    try:
        left = measure(given.out, seconds=given.seconds, tiny=given.tiny)
    finally:
        choose(None)
    if left:
        print(f"No time was left for {', '.join(left)}; the same command makes them.")
    return int(bool(left))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as refusal:
        sys.exit(str(refusal))
