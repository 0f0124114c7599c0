"""What this machine offers, measured beside what it is asked to do; shared by the speed benchmarks."""

import time
from functools import cache

import torch
from harness import row

# The device that is measured, where it is not the best one here, and the share of the usual time that is taken for it.
_CHOSEN: dict = {"device": None, "share": 1.0}


def choose(where: str | None, *, share: float = 1.0):
    """Measure on this device, the best one here if None, and for so much of the usual time."""
    _CHOSEN.update(device=where and torch.device(where), share=share)


def side_by_side(tasks: dict, *, rounds: int = 4, seconds: float = 1.0) -> dict[str, float]:
    """Seconds a call of each task: the best of several rounds, in which the tasks take turns.

    Taking turns keeps a busy moment of the machine from falling on one of them alone.
    """
    if _CHOSEN["share"] < 1:
        rounds, seconds = min(rounds, 2), seconds * _CHOSEN["share"]
    best = dict.fromkeys(tasks, float("inf"))
    for task in tasks.values():  # caches, thread pools, kernels chosen on first use
        task()
        synchronise()
    for _ in range(rounds):
        for name, task in tasks.items():
            calls, start = 0, time.perf_counter()
            while calls == 0 or time.perf_counter() - start < seconds:
                task()
                calls += 1
            synchronise()
            best[name] = min(best[name], (time.perf_counter() - start) / calls)
    return best


def synchronise():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def device() -> torch.device:
    return _CHOSEN["device"] or torch.device("cuda" if torch.cuda.is_available() else "cpu")


@cache
def offers() -> dict[str, float]:
    """Bytes/s of memory; operations/s of matrix products and of arithmetic in the cache; all threads, float32.

    On a GPU, ``matrix`` is of bfloat16, in which it trains.
    """
    here = device()
    a = torch.ones(1 << 26, device=here)
    b = torch.empty_like(a)
    n = 8192 if here.type == "cuda" else 1536
    square = torch.randn(n, n, device=here, dtype=torch.bfloat16 if here.type == "cuda" else torch.float32)
    small = torch.rand(1 << (24 if here.type == "cuda" else 15), device=here)
    other = small.clone()
    tasks = {
        "bytes": lambda: b.copy_(a),
        "matrix": lambda: square @ square,
        "arithmetic": lambda: small.addcmul_(small, other),
    }
    taken = side_by_side(tasks, rounds=3, seconds=0.3)
    return {
        "bytes": 2 * a.numel() * 4 / taken["bytes"],
        "matrix": 2 * n**3 / taken["matrix"],
        "arithmetic": 2 * small.numel() / taken["arithmetic"],
    }


def reached(name: str, seconds: float, *, moved: float, operations: float, kind: str = "arithmetic", what: str):
    """A row that says which share of the device's own limit a task of ``seconds`` reaches.

    Parameters
    ----------
    moved, operations : float
        Bytes and operations that the task cannot do without.
    kind : {"arithmetic", "matrix"}
        Which of the device's two rates the operations run at.
    what : str
        Of what the bytes and operations are, e.g. "a image".
    """
    rates = offers()
    by_bytes, by_operations = moved / rates["bytes"], operations / rates[kind]
    limit = max(by_bytes, by_operations)
    detail = (
        f"{what}: {moved:.3g} bytes at {rates['bytes'] / 1e9:.3g} GB/s = {by_bytes * 1e6:.3g} us,"
        f" {operations:.3g} operations at {rates[kind] / 1e9:.4g} G/s ({kind}) = {by_operations * 1e6:.3g} us;"
        f" taken {seconds * 1e6:.4g} us; limited by {'memory' if by_bytes > by_operations else kind}"
    )
    return row(f"{name}.roofline", limit / seconds, "of the limit", detail=detail)


def on_gpu_only(name: str, unit: str, measure):
    """The row of ``measure()`` where there is a GPU; where there is none, one that says so."""
    if torch.cuda.is_available():
        return measure()
    return row(name, None, unit, detail="needs a CUDA GPU; there is none here")
