"""Whether a long sweep stays flat, and a large store quick.

Two thousand tiny runs in one process: memory, open files and temporary files after each tenth. Then a store of 20,000
records, listed and exported by the command line.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import psutil
import torch
from harness import need, row

from gzlib import paths
from gzlib.config import Conduct, PretrainConfig, Recipe, SurveySpec
from gzlib.data.curation import make_survey
from gzlib.identity import content_hash
from gzlib.training.sweeps import sweep

RUNS, RECORDS = 2_000, 20_000
GROWTH, SECONDS = 1.05, 5.0
SURVEY = SurveySpec("sim:400", size=32)
RECIPE = Recipe(examples=64, batch_size=32, evaluations=1, learning_rate=1e-3)


def state(temporary: Path) -> dict:
    """What this process holds at the moment."""
    process = psutil.Process()
    return {
        "memory": process.memory_info().rss / 1e6,
        "files": process.num_fds(),
        "temporary": len(list(temporary.iterdir())),
        "threads": process.num_threads(),
    }


def haul(runs: int = RUNS) -> list[dict]:
    """A sweep of so many runs, and what the process holds after each tenth."""
    torch.set_num_threads(1)
    before = tempfile.tempdir
    held = paths.STORE, paths.SURVEYS
    with tempfile.TemporaryDirectory() as folder:
        aside = Path(folder) / "tmp"
        aside.mkdir()
        paths.STORE, paths.SURVEYS, tempfile.tempdir = Path(folder) / "runs", Path(folder) / "surveys", str(aside)
        try:
            make_survey(SURVEY, progress=False)
            found = []
            for part in np.array_split(np.arange(runs), 10):
                jobs = [(PretrainConfig("resnet_w4", 64, seed=int(seed), recipe=RECIPE), SURVEY) for seed in part]
                made = sweep(jobs, workers=1, conduct=Conduct(report=lambda line: None))
                found.append(state(aside) | {"runs": int(part[-1]) + 1, "complete": len(made)})
        finally:
            (paths.STORE, paths.SURVEYS), tempfile.tempdir = held, before
    first, last = found[0], found[-1]
    grown = last["memory"] / first["memory"]
    told = f"{first['memory']:.0f} to {last['memory']:.0f} MB from run {first['runs']:,} to {last['runs']:,}"
    complete = sum(part["complete"] for part in found)
    return [
        row("long_haul.memory", grown, "", goal=f"<= {GROWTH}", ok=grown <= GROWTH, detail=told, tenths=found),
        row("long_haul.files", last["files"] - first["files"], "", goal="0", ok=last["files"] <= first["files"]),
        row("long_haul.temporary", last["temporary"], "", goal="0", ok=last["temporary"] == 0),
        row("long_haul.runs", complete, "", goal=f"{runs}", ok=complete == runs),
    ]


def listed(records: int = RECORDS) -> list[dict]:
    """Seconds of processor time that the command line takes with so many records, start of Python included."""
    out = []
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "runs"
        known = [file.read_text() for file in sorted((paths.project() / "data" / "runs").glob("*/run.json"))[:200]]
        for i in range(records):
            content = json.loads(known[i % len(known)])
            content["key"] = content_hash(["long haul", i])[:16]
            (store / content["key"]).mkdir(parents=True)
            (store / content["key"] / "run.json").write_text(json.dumps(content))
        for name, words in {"ls": ["ls"], "export": ["export", str(Path(folder) / "all.csv")]}.items():
            command = [sys.executable, "-m", "gzlib", "runs", "--store", str(store), *words]
            began = os.times()
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            now = os.times()
            seconds = now.children_user + now.children_system - began.children_user - began.children_system
            ok = done.returncode == 0 and seconds <= SECONDS
            detail = f"{records:,} records" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]
            out.append(row(f"long_haul.{name}", seconds, "s", goal=f"<= {SECONDS:g}", ok=ok, detail=detail))
        shutil.rmtree(store)
    return out


def rows() -> list[dict]:
    """Figures of both."""
    need(("psutil",), "what a process holds")
    return listed() + haul()
