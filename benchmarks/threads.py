"""What another busy program costs a run: with all threads, with the threads given up, and with one from the start.

Side by side on this machine, first alone and then next to programs that keep one core busy. OpenMP's threads wait for
each other spinning, so that two of them on one free core do a hundredth of the work of one.
"""

import os
import subprocess
import sys
import time
from contextlib import contextmanager

import torch
from harness import row
from step import study

import gzlib.training.loop as loop
from gzlib.config import Recipe
from gzlib.paths import cores
from gzlib.training.distributed import Pace

ENCODER, SIDE, BATCH = "resnet_w8", 32, 64
SECONDS = 12.0  # of each measurement; the threads are given up within three
GOAL = 0.75


class Stubborn(Pace):
    """Keeps its threads whatever happens."""

    def step(self):
        pass


@contextmanager
def busy(programs: int):
    """Other programs that compute without a pause."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(programs)]
    try:
        yield
    finally:
        for program in started:
            program.kill()
            program.wait()


def rate(threads: int, pace: type[Pace]) -> float:
    """Galaxies a second in the second half of a run of so many seconds."""
    torch.set_num_threads(threads)
    model, loss_of, loader = study(ENCODER, BATCH, side=SIDE)
    few = type(loader)(loader.images[:1].permute(0, 2, 3, 1).numpy(), loader.labels[:1].numpy(), [0], batch_size=1)
    moments, start = [], time.perf_counter()

    class Over(Exception):
        pass

    def stop_in_time(prediction, labels):
        moments.append(time.perf_counter() - start)
        if moments[-1] > SECONDS:
            raise Over
        return loss_of(prediction, labels)

    recipe = Recipe(examples=10**8, batch_size=BATCH, evaluations=1, learning_rate=1e-4)
    kept, loop.Pace = loop.Pace, pace
    try:
        loop.fit(model, stop_in_time, loader, few, recipe=recipe, seed=0, device=torch.device("cpu"))
    except Over:
        pass
    finally:
        loop.Pace = kept
        torch.set_num_threads(threads)
    late = [m for m in moments if m > SECONDS / 2]
    return BATCH * (len(late) - 1) / (late[-1] - late[0]) if len(late) > 1 else BATCH / SECONDS


def rows():
    if cores() < 2:
        return [row("threads.beside", None, "of one thread", detail="needs two cores or more")]
    before, every = torch.get_num_threads(), cores()
    try:
        alone = {n: rate(n, Pace) for n in (1, every)}
        with busy(1):
            single, kept, given_up = rate(1, Pace), rate(every, Stubborn), rate(every, Pace)
    finally:
        torch.set_num_threads(before)
    what = f"{ENCODER}, {SIDE} px, batches of {BATCH}, {os.cpu_count()} cores"
    shown = f"{what}; galaxies/s alone: 1 thread {alone[1]:,.0f}, {every} threads {alone[every]:,.0f}"
    beside = f"beside one busy program: 1 thread {single:,.0f}, {every} threads {kept:,.0f}, given up {given_up:,.0f}"
    return [
        row("threads.alone", alone[every] / alone[1], "of one thread", detail=shown),
        row("threads.kept", kept / single, "of one thread", detail=beside),
        row(
            "threads.given_up",
            given_up / single,
            "of one thread",
            goal=f">= {GOAL}",
            ok=given_up / single >= GOAL,
            detail=beside,
        ),
    ]
