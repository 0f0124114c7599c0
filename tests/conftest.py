"""What several test modules share."""

import os
from pathlib import Path

import pytest

# Tiny networks gain nothing from threads, and threads that wait for one another crawl on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def real_data() -> Path:
    """Folder with real galaxies, votes and curves, which is no part of the project."""
    if not REAL.is_dir():
        pytest.skip(
            f"needs real galaxies in {REAL.relative_to(REAL.parents[1])} beside the project; they are not shipped"
        )
    return REAL


@pytest.fixture
def own_store(tmp_path, monkeypatch):
    """A run store and a survey store of the test's own."""
    from gzlib import paths

    for name in ("RUNS", "COMMITTED_RUNS", "SURVEYS"):
        monkeypatch.setattr(paths, name, tmp_path / name.lower())
    return tmp_path
