"""Galaxies a second of the study's encoders on one thread: as the runs before it were made, and as its own are.

Before: float32, 64 px. Now: the precision and the size of the study's recipe. Validation is left out of both.
Each encoder's two ways take turns, so that a busy moment of the machine does not fall on one of them.
"""

import time

import torch
from harness import row
from step import study

from gzlib.config import Recipe
from gzlib.data.loader import Loader
from gzlib.study import study_recipe
from gzlib.training.loop import fit

ENCODERS = ("resnet_w4", "resnet_w8", "resnet_w16", "resnet_w28", "resnet_w44", "convnext_w8", "convnext_w16")
BEFORE, NOW = 64, 48  # px
STEPS, ROUNDS, GOAL = 8, 4, 1.5


def training(encoder: str, recipe: Recipe, side: int):
    """So many steps of training as a function without arguments; seconds of the processor a galaxy are returned."""
    model, loss_of, loader = study(encoder, recipe.batch_size, side=side)
    few = Loader(loader.images[:8].permute(0, 2, 3, 1).numpy(), loader.labels[:8].numpy(), range(8), batch_size=8)

    def work() -> float:
        used = time.process_time()
        fit(model, loss_of, loader, few, recipe=recipe, seed=0, device=torch.device("cpu"))
        return (time.process_time() - used) / (STEPS * recipe.batch_size)

    return work


def encoder_row(encoder: str) -> dict:
    short = {"examples": STEPS * 64, "learning_rate": 1e-4}
    own = study_recipe(encoder, 1_000)
    now = Recipe(**short, evaluations=1, precision=own.precision, dropout=own.dropout, drop_path=own.drop_path)
    ways = {
        "before": training(encoder, Recipe(evaluations=1, **short), BEFORE),
        "precision": training(encoder, now, BEFORE),
        "now": training(encoder, now, NOW),
    }
    rounds = [{name: work() for name, work in ways.items()} for _ in range(1 + ROUNDS)]  # the first one warms up
    taken = {name: min(one[name] for one in rounds[1:]) for name in ways}
    rates = {name: 1 / seconds for name, seconds in taken.items()}
    detail = (
        f"{rates['before']:,.0f}/s in float32 at {BEFORE} px, {rates['precision']:,.0f}/s in {own.precision},"
        f" {rates['now']:,.0f}/s at {NOW} px"
    )
    return row(
        f"throughput.{encoder}", rates["now"] / rates["before"], "x before", detail=detail, seconds=taken, rates=rates
    )


def rows():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        each = [encoder_row(name) for name in ENCODERS]
    finally:
        torch.set_num_threads(threads)
    before, now = (sum(r["seconds"][way] for r in each) for way in ("before", "now"))
    detail = f"as many galaxies shown to each of {len(each)} encoders; one thread, processor time"
    whole = row("throughput", before / now, "x before", goal=f">= {GOAL}", ok=before / now >= GOAL, detail=detail)
    return [whole, *each]
