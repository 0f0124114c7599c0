"""What several test modules share."""

import json
import os
import sys
from pathlib import Path

import pytest

# Tiny networks gain nothing from threads, and threads that wait for one another crawl on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GZLIB_WORKERS", "1")  # a helper of a sweep takes longer to start than a test's runs take

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))  # last, so that none hides a package

FAULTS = pytest.StashKey[dict]()


@pytest.fixture
def one_thread():
    """Torch in one thread, where bits are compared: several threads add up in an order that no run repeats."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pytest_addoption(parser):
    parser.addoption("--faults", metavar="FILE", help="write how many tests marked `fault` there are, and passed")
    parser.addoption("--outcomes", metavar="FILE", help="enter there, as JSON, each test's outcome and the commit")


# Files of a minute or more: begun first, so that no process waits for another's at the end.
LONGEST = ("test_chapters", "test_cluster", "test_stopping", "test_accessibility", "test_workers", "test_saved")


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def pytest_itemcollected(item):
    """What is long is slow, too, so that ``-m "not slow"`` is the quick part of all."""
    if item.get_closest_marker("long"):
        item.add_marker("slow")


def pytest_collection_finish(session):
    """Count the marks by kind of input and outcome; chapter 93 shows the table."""
    session.config.stash[FAULTS] = counts = {}
    for item in session.items:
        if mark := item.get_closest_marker("fault"):
            kind, outcome = mark.args
            row = counts.setdefault((kind, outcome), {"kind": kind, "outcome": outcome, "cases": 0})
            row["cases"] += 1
            item.user_properties.append(("fault", (kind, outcome)))


def pytest_runtest_logreport(report):
    if report.when == "call" or report.skipped or report.failed:
        _OUTCOMES[report.nodeid] = {"outcome": report.outcome, "seconds": round(report.duration)}
    if report.when == "call" or report.skipped:
        _REPORTS.extend((key, report.outcome) for name, key in report.user_properties if name == "fault")


_REPORTS = []
_OUTCOMES = {}


def pytest_sessionfinish(session):
    if file := session.config.getoption("--faults"):
        _write_faults(session, Path(file))
    if file := session.config.getoption("--outcomes"):
        _write_outcomes(Path(file))


def _write_outcomes(file):
    """What ran is entered; the outcomes of other tests stay, each with the commit and packages that it ran with."""
    from harness import machine

    on = machine()
    known = json.loads(file.read_text()) if file.is_file() else {}
    known |= {test: found | on for test, found in _OUTCOMES.items()}
    file.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")


def _write_faults(session, file):
    rows = session.config.stash[FAULTS]
    for row in rows.values():
        row |= {"passed": 0, "skipped": 0}
    for key, outcome in _REPORTS:
        if outcome in ("passed", "skipped"):
            rows[key][outcome] += 1
    file.write_text(json.dumps([rows[key] for key in sorted(rows)], indent=1, ensure_ascii=False) + "\n")


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


@pytest.fixture
def hub(monkeypatch):
    """What is downloaded from the hub lies in a folder of the test's."""

    def downloads(folder):
        monkeypatch.setattr("gzlib.data.sources.registry.download", lambda *a: sorted((folder / "data").glob("*")))

    return downloads
