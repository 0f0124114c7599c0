"""What several test modules share."""

import os
import sys
from pathlib import Path

import pytest

# Tiny networks gain nothing from threads, and threads that wait for one another crawl on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GZLIB_WORKERS", "1")  # a helper of a sweep takes longer to start than a test's runs take

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # last, so that none hides a package

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

    for name in ("STORE", "BOOK_RUNS", "SURVEYS"):
        monkeypatch.setattr(paths, name, tmp_path / name.lower())
    return tmp_path


@pytest.fixture(scope="module")
def surveys(tmp_path_factory):
    """A folder of curated surveys that a module's tests share; pictures are slow to make, runs are not."""
    return tmp_path_factory.mktemp("surveys")


@pytest.fixture
def store(own_store, surveys, monkeypatch):
    """A run store of the test's own beside the surveys of its module."""
    from gzlib import paths

    monkeypatch.setattr(paths, "SURVEYS", surveys)
    return own_store


@pytest.fixture
def book_style():
    """Figures in the book's style, without a screen, and closed at the end."""
    import matplotlib
    import matplotlib.pyplot as plt

    from gzlib.study import figures

    matplotlib.use("agg")
    figures.use_style()
    yield
    plt.close("all")
