"""How long the book takes: all chapters again from committed runs, and all chapters from nothing at preset smoke."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import row

from gzlib import paths

REPLAY, SMOKE = 120, 300  # goals in seconds, on 2 cores


def rows():
    with tempfile.TemporaryDirectory(prefix="gzlib-bench-") as scratch:
        copy = Path(scratch) / "project"
        subprocess.run(["git", "clone", "--quiet", paths.ROOT, copy], check=True)
        replay = seconds(copy, "--force")
        smoke = seconds(copy, "--preset", "smoke", "--force")
    detail = f"{os.cpu_count()} cores"
    return [
        row("build.replay_seconds", replay, "s", goal=f"<= {REPLAY}", ok=replay <= REPLAY, detail=detail),
        row("build.smoke_seconds", smoke, "s", goal=f"<= {SMOKE}", ok=smoke <= SMOKE, detail=detail),
    ]


def seconds(copy: Path, *arguments: str) -> float:
    start = time.monotonic()
    environment = os.environ | {"GZLIB_HOME": str(copy), "PYTHONPATH": str(copy)}
    command = [sys.executable, "-m", "gzlib", "build", *arguments]
    subprocess.run(command, cwd=copy, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - start
