"""SIGTERM, SIGINT and SIGHUP in every phase of a command: heard at once, status 75, and the state is kept.

Each phase is slowed down, so that it lasts for minutes if the signal is not heard, and says when it has begun.
"""

import os
import signal
import subprocess
import sys
import time

import pytest
import tiny_book
from warm import Warm

from gzlib import paths
from gzlib.training.checkpoint import SEAL

pytestmark = pytest.mark.slow

SECONDS = 5.0  # by the wall clock, as a user waits; longer where other programs share the processor
SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
SLOW = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the tests with it ignored

def begin():
    print("begun", flush=True)

def slow(function):
    def slowly(*args, **kwargs):
        begin()
        for _ in range(3000):
            time.sleep(0.02)
        return function(*args, **kwargs)
    return slowly

def endless(batches):
    def plain(self):
        begin()
        while True:
            for batch in batches(self):
                time.sleep(0.02)
                yield batch
    return plain

def main(*arguments):
    from gzlib.cli import main
    sys.exit(main(list(arguments)))
"""
PRETRAIN = (
    'main("pretrain", "--survey", "sim:gz2:160", "--size", "32", "--encoder", "resnet_w4", "--examples", "{}",'
    ' "--batch-size", "32", "--set", "recipe.evaluations=1")'
)
PHASES = {
    # phase: (program, whether a checkpoint is to be found)
    "training": (
        "import gzlib.progress as m; step = m.Telling.step\n"
        "def told(self, n, *rest):\n    step(self, n, *rest)\n    n == 3 and begin()\nm.Telling.step = told\n"
        + PRETRAIN.format(10**9),
        True,
    ),
    "validation": (
        "from gzlib.data.loader import Loader; Loader.plain = endless(Loader.plain)\n" + PRETRAIN.format(320),
        True,
    ),
    "test": (
        "import gzlib.training.loop as l, gzlib.training.pretraining as p; l.WORTH_A_CHECKPOINT = 0\n"
        "p.question_losses = slow(p.question_losses)\n" + PRETRAIN.format(320),
        True,
    ),
    "probing": (
        "import gzlib.training.probes as p; p._logistic = slow(p._logistic)\n"
        'main("finetune", "--survey", "sim:galaxy10:160", "--size", "32", "--encoder", "resnet_w4",'
        ' "--weights", "random", "--n-train", "60")',
        False,
    ),
    "features": (
        "from gzlib.data.loader import Loader; Loader.plain = endless(Loader.plain)\n"
        'main("finetune", "--survey", "sim:galaxy10:160", "--size", "32", "--encoder", "resnet_w4",'
        ' "--weights", "random", "--n-train", "60")',
        False,
    ),
    "curation": (
        "import gzlib.data.curation as c; assemble = c.assemble\n"
        "def begun(*args):\n    begin()\n    return assemble(*args)\nc.assemble = begun\n"
        'main("curate", "sim:200000", "--size", "64", "--out", "survey")',
        False,
    ),
    "predict": (
        "import os, gzlib.training.predict as p; from gzlib.cli import main as command\n"
        "place = os.environ['GZLIB_SURVEYS']; model = os.path.join(place, 'a-model')\n"
        "if not os.path.exists(model):\n"
        "    small = ['--size', '32', '--encoder', 'resnet_w4', '--examples', '64', '--set', 'recipe.evaluations=1']\n"
        "    command(['pretrain', '--survey', 'sim:gz2:160', *small, '--store', place + '/runs', '--out', model])\n"
        "p._outputs = slow(p._outputs)\n"
        'main("predict", model, "sim:gz2:160", "--out", "pages/p.csv")',
        False,
    ),
    "rendering": (
        "import gzlib.book.html.pandoc as p; p.html = slow(p.html)\nmain('preview', '--out', 'pages')",
        False,
    ),
    "building": ("main('build', '--name', 'x')", False),
    "building side by side": ("from gzlib import paths; paths.cores = lambda: 2\nmain('build')", False),
}


@pytest.fixture(scope="module")
def warm():
    with Warm() as process:
        yield process


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A book whose first chapter says when it has begun, and then computes for minutes."""
    folder = tiny_book.make(tmp_path_factory.mktemp("stopping") / "project", library=False)
    return folder


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("phase", PHASES)
def test_a_signal_is_heard_in_every_phase(tmp_path, warm, project, surveys, phase, number):
    program, has_checkpoint = PHASES[phase]
    places = {"GZLIB_STORE": tmp_path / "runs", "GZLIB_SURVEYS": surveys, "PYTHONPATH": paths.PACKAGE.parent}
    if phase.startswith("building") or phase == "rendering":
        prepare(project, phase)
        places["GZLIB_HOME"] = project
    with warm.start(SLOW + program, tmp_path, places) as stopped:
        stopped.wait_for("begun", stopped.err if phase.startswith("building") else stopped.out)
        time.sleep(0.3)
        began = time.monotonic()
        stopped.signal(number)
        status = stopped.end()
        seconds = time.monotonic() - began
    told = stopped.err.read_text()
    assert status == 75, told
    assert "stopped; finished work is kept" in told and "Traceback" not in told
    busy = os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else 1.0
    assert seconds < SECONDS * min(max(1.0, busy), 4.0)
    found = list((tmp_path / "runs").glob("*/checkpoint.pt"))
    assert len(found) == has_checkpoint and all(SEAL in file.read_bytes() for file in found)
    assert not list(tmp_path.rglob("run.json")) and not list(tmp_path.rglob(".lock"))
    assert not (tmp_path / "survey").exists() and (phase == "predict" or not (tmp_path / "pages").exists())
    assert not list(tmp_path.glob(".pages.tmp-*")) and not list(tmp_path.rglob("p.csv"))


def prepare(project, phase):
    """Executed chapters for the preview; for the build, one that lasts."""
    from gzlib.book.builder import build
    from gzlib.book.chapters import read_notebook, write_notebook

    places = [project / "chapters" / f"{name}.ipynb" for name in ("01-first", "02-second")]
    lasting = (
        'import sys, time\n\nprint("begun", file=sys.stderr, flush=True)\nfor _ in range(3000):\n    time.sleep(0.02)'
    )
    quick = 'from gzlib import publish\n\ntotal = 10\npublish(total="10")'

    def fill(path, source):
        notebook = read_notebook(path)
        code = next(cell for cell in notebook.cells if cell.cell_type == "code" and not cell.metadata.get("tags"))
        code.source = source
        write_notebook(notebook, path)

    if phase != "building":  # they have been built before
        for path in places:
            fill(path, quick)
        build(project=project, say=lambda line: None)
    if phase != "rendering":
        for path in places:
            fill(path, lasting)


def test_a_program_that_fails_or_is_left_disturbs_no_other(warm, tmp_path):
    with (
        pytest.raises(AssertionError, match="no such thing"),
        warm.start("raise SystemExit('no such thing')", tmp_path, {}) as failing,
    ):
        failing.wait_for("begun", failing.out)
    with warm.start("import time; time.sleep(60)", tmp_path, {}):
        pass
    with warm.start("import os; print(os.getpid()); raise SystemExit(7)", tmp_path, {}) as last:
        assert last.end() == 7 and int(last.out.read_text()) > 1


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_that_somebody_wants_unheard_stays_unheard(number):
    """As under nohup."""
    code = (
        "import os, signal, sys; from gzlib.errors import handling, stop_at_once\n"
        f"signal.signal({int(number)}, signal.SIG_IGN)\n"
        f"with handling(stop_at_once):\n    os.kill(os.getpid(), {int(number)})\nsys.exit(5)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 5


def test_a_second_signal_does_not_disturb_what_the_first_one_ends():
    code = (
        "import os, signal, sys; from gzlib.errors import handling, stop_at_once\n"
        "with handling(stop_at_once):\n    try:\n        os.kill(os.getpid(), signal.SIGTERM)\n    finally:\n"
        "        os.kill(os.getpid(), signal.SIGHUP)\n        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        print('cleaned up', flush=True)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (75, "cleaned up\n")


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_after_the_stop_was_told_changes_neither_status_nor_message(number):
    """The interpreter ends for a second or so, in which an impatient user presses Ctrl-C again."""
    code = (
        "import atexit, os, signal, sys; from gzlib import __main__ as program\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell ignores it in what it starts with &
        f"again = lambda *a: os.kill(os.getpid(), {int(number)})\n"
        "tell = program.tell\n"
        "program.tell = lambda line: (again(), tell(line))\n"
        "program._answer, sys.argv = again, ['gzlib']\n"
        "atexit.register(again)\n"
        "sys.exit(program.main())"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    said = "gzlib: stopped; finished work is kept, and the same command resumes from its checkpoint\n"
    assert (done.returncode, done.stderr) == (75, said)
