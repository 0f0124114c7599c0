"""The run store: one folder a run, named by what defines it; ``run.json`` is written last."""

import hashlib
import json
import math
import platform
import re
import subprocess
from pathlib import Path

import timm
import torch

from gzlib import paths, trace
from gzlib.errors import UserError
from gzlib.files import replace_file
from gzlib.training.config import FinetuneConfig, PretrainConfig, config_dict

# Raised by hand when the same configuration comes to mean another training.
RECIPE_VERSION = 1

FIELDS = {"key", "kind", "config", "survey", "metrics", "provenance"}


def canonical_json(value) -> str:
    """One spelling for one content: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def run_key(kind: str, config: PretrainConfig | FinetuneConfig, survey_fingerprint: str) -> str:
    """16 hexadecimal digits that stand for the whole configuration, the survey, and the meaning of training."""
    identity = [kind, config_dict(config), survey_fingerprint, RECIPE_VERSION]
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:16]


def read_run(key: str) -> dict | None:
    """The record of a finished run, or None.

    Raises
    ------
    UserError
        If the file is damaged, or something else than a record of this run.
    """
    file = paths.run_folder(key) / "run.json"
    if not file.is_file():
        return None
    trace.note("run", key=key)
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"'{file}' is damaged ({error}); restore it, or delete it to make the run again.") from None
    if not isinstance(record, dict) or not record.keys() >= FIELDS or record["key"] != key:
        raise UserError(f"'{file}' is not the record of run '{key}'; restore it, or delete it to make the run again.")
    return record


def write_run(record: dict):
    """Store a finished run. Its weights must lie beside it already: the record is what makes a run complete."""
    text = json.dumps(_finite(record), indent=1, sort_keys=True, allow_nan=False) + "\n"
    replace_file(paths.RUNS / record["key"] / "run.json", text)
    trace.note("run", key=record["key"])


def _finite(value):
    """Floats with seven digits, NaN as null: what differs below that is not a result."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value


def provenance(device: torch.device, seconds: float, *, processes: int = 1) -> dict:
    """Where and with what a run was made: recorded, never part of its key."""
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=paths.ROOT, capture_output=True, text=True, check=False)
    cuda = device.type == "cuda"
    record = {
        "git": git.stdout.strip() or None,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "timm": timm.__version__,
        "device": torch.cuda.get_device_name(device) if cuda else _processor(),
        "seconds": seconds,
    }
    if processes > 1:
        record["processes"] = processes
    if cuda:
        record["peak_memory_bytes"] = torch.cuda.max_memory_allocated(device)
    return record


def _processor() -> str:
    """``CPU (MODEL), 2 threads``, without the model where the system does not tell it."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    name = model[1].strip() if model else platform.processor()
    threads = torch.get_num_threads()
    return f"CPU{f' ({name})' if name else ''}, {threads} thread{'s' * (threads != 1)}"


def stored_records(kind: str | None = None) -> list[dict]:
    """Every finished run of a kind (``pretrain``, ``finetune``; None for all), in the order of their keys.

    Within an experiment these are the experiment's own runs.
    """
    trace.note("runs")
    records = [read_run(file.parent.name) for file in sorted(paths.RUNS.glob("*/run.json"))]
    return [r for r in records if kind is None or r["kind"] == kind]
