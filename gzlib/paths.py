"""Where things lie: absolute folders, so that no code depends on the working directory."""

import os
from pathlib import Path

# GZLIB_HOME moves the whole project, so that tests and experiments can work on a copy.
ROOT = Path(os.environ.get("GZLIB_HOME") or Path(__file__).resolve().parent.parent)

CHAPTERS = ROOT / "chapters"
DATA = ROOT / "data"
SCHEMAS = DATA / "schema"
RUNS = DATA / "runs"  # one folder a run; run.json is committed, weights are not
SURVEYS = DATA / "surveys"  # curated pictures: made or downloaded, never committed
EXPERIMENTS = ROOT / "experiments"
BOOK = ROOT / "_book"
