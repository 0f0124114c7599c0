"""Where things lie: absolute folders, so that no code depends on the working directory."""

import os
from pathlib import Path

# GZLIB_HOME moves the whole project, so that tests and experiments can work on a copy.
ROOT = Path(os.environ.get("GZLIB_HOME") or Path(__file__).resolve().parent.parent)

CHAPTERS = ROOT / "chapters"
DATA = ROOT / "data"
SCHEMAS = DATA / "schema"
COMMITTED_RUNS = DATA / "runs"  # one folder a run; run.json is committed, weights are not
# An experiment writes its runs and pictures to folders of its own, so that it never touches the committed study.
RUNS = Path(os.environ.get("GZLIB_RUNS") or COMMITTED_RUNS)
SURVEYS = Path(os.environ.get("GZLIB_SURVEYS") or DATA / "surveys")  # made or downloaded, never committed
EXPERIMENTS = ROOT / "experiments"
BOOK = ROOT / "_book"


def run_folder(key: str) -> Path:
    """Folder of a run: where it lies (an experiment's own store first, then the committed one), else where it goes."""
    for root in (RUNS, COMMITTED_RUNS):
        if (root / key / "run.json").is_file():
            return root / key
    return RUNS / key
