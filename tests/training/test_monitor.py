"""What long work says: to programs, to a terminal, to a pipe, and nothing to a notebook."""

import io
import json
import sys
import types

import pytest

from gzlib import progress
from gzlib.errors import UserError
from gzlib.progress import Live, Progress, duration, logger_name, open_logger, silent, telling


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test turns."""
    now = types.SimpleNamespace(time=100.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now.time)
    return now


def follow(folder, **kwargs):
    options = {"folder": folder, "report": silent, "live": None, "log": None} | kwargs
    return telling(10, 32, **options)


def entries(folder):
    return [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]


def test_progress_file(tmp_path, clock):
    lines, states = [], []
    with follow(tmp_path / "run", report=lines.append, live=states.append) as tell:
        for step, loss in enumerate((4.0, 2.0, 1.5, 1.0)):
            clock.time += 1000 if step == 0 else 4  # the first step does not count: it may have compiled the model
            tell.step(step, loss, 0.01)
        tell.validation(4, 1.9, 1.5, 0.02)
        tell.step(4, 9.0, 0.01)
    _, first, second, last = entries(tmp_path / "run")
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "step": 3,
        "examples": 96,
        "examples_in_all": 320,
        "train_loss": 2.5,
        "val_loss": None,
        "learning_rate": 0.01,
        "galaxies_per_second": 8.0,
        "seconds_left": 28.0,
    }
    assert (second["train_loss"], second["val_loss"], second["learning_rate"]) == (1.9, 1.5, 0.02)
    assert (last["step"], last["train_loss"], last["val_loss"]) == (5, 9.0, None)  # written at the end of the stretch
    assert lines == ["      128 galaxies seen  train 1.9000  val 1.5000  8/s  24 s left"]
    assert states[0] == "       32 galaxies seen  train 4.0000  0/s  ? left"
    assert states[-1] == "      160 galaxies seen  train 9.0000  val 1.5000  11/s  15 s left"


def test_progress_goes_on_after_a_torn_line(tmp_path):
    (tmp_path / "progress.jsonl").write_text('{"step": 1}\n{"st')
    with follow(tmp_path) as tell:
        tell.validation(6, 1.0, 1.0, 0.1)
    lines = (tmp_path / "progress.jsonl").read_text().splitlines()
    assert lines[:2] == ['{"step": 1}', '{"st']
    assert json.loads(lines[2])["step"] == 6


def test_progress_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "progress.jsonl").mkdir()
    lines = []
    with follow(tmp_path, report=lines.append) as tell:
        tell.validation(1, 1.0, 1.0, 0.1)
        tell.validation(2, 1.0, 1.0, 0.1)
    assert len([line for line in lines if "training continues without it" in line]) == 1


def test_live_line_on_a_terminal(clock):
    terminal = Terminal()
    live = Live(terminal)
    live.show("0123456789abc")
    live.show("too soon")
    live.line("stays")
    live.close()
    shown = terminal.getvalue()
    assert "0123456789abc" in shown and "too soon" not in shown
    assert [line.strip() for line in shown.replace("\r", "\n").split("\n") if "stays" in line] == ["stays"]
    assert shown.rstrip(" ").endswith("\r")  # nothing of the live line is left


def test_live_line_elsewhere(clock):
    pipe = io.StringIO()
    live = Live(pipe)
    for text in ("first", "too soon", "later"):
        live.show(text)
        clock.time += 10
    live.line("stays")
    live.close()
    assert pipe.getvalue() == "first\nlater\nstays\n"


def test_a_notebook_gets_a_bar_and_no_lines_but_a_build_passes_them_on(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.delenv("GZLIB_TRACE", raising=False)
    monkeypatch.setattr(progress, "auto_tqdm", progress.tqdm)  # as where ipywidgets are missing
    stream = io.StringIO()
    Live(stream).line("unheard")
    assert stream.getvalue() == ""
    live = Live(stream)
    live.show("how things stand")
    live.close()
    assert "how things stand" in stream.getvalue()
    monkeypatch.setenv("GZLIB_TRACE", "somewhere")
    Live(passed_on := io.StringIO()).line("heard")
    assert passed_on.getvalue() == "heard\n"


def test_bar(clock, monkeypatch):
    monkeypatch.setattr(progress, "REDRAW_EVERY", 0)
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        monkeypatch.setattr(sys, "stderr", stream)
        with Progress("curating", 40, "galaxies") as bar:
            for _ in range(2):
                clock.time += 2
                bar.update(20)
    shown = terminal.getvalue().split("\r")
    assert any(text.startswith("curating") and "20/40" in text and "galaxies" in text for text in shown)
    assert shown[-1] == "curating: 40 of 40 galaxies, 10/s\n"
    assert pipe.getvalue() == "curating: 40 of 40 galaxies, 10/s\n"
    monkeypatch.setattr(sys, "stderr", quiet := io.StringIO())
    with pytest.raises(ValueError, match="x"), Progress("curating", 40, "galaxies"):
        raise ValueError("x")
    with Progress("curating", 40, "galaxies", show=False) as bar:
        bar.update(40)
    assert quiet.getvalue() == ""


def test_durations_in_words():
    assert [duration(seconds) for seconds in (40.2, 200, 7500)] == ["40 s", "3 min 20 s", "2 h 5 min"]


def test_logger_is_asked_for_by_name_or_environment(monkeypatch):
    monkeypatch.delenv("GZLIB_LOG", raising=False)
    assert logger_name(None) is None
    monkeypatch.setenv("GZLIB_LOG", "tensorboard")
    assert logger_name(None) == "tensorboard"
    with pytest.raises(UserError, match="Unknown logger 'paper'; use 'tensorboard'"):
        logger_name("paper")


def test_logger_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match="pip install tensorboard"):
        open_logger("tensorboard", tmp_path)
    with follow(tmp_path):  # nothing is imported unless asked for
        pass


def test_logger_gets_the_curves(tmp_path, monkeypatch):
    written = []

    class SummaryWriter:
        def __init__(self, folder):
            written.append(folder)

        def add_scalar(self, name, value, examples):
            written.append((name, value, examples))

        def close(self):
            written.append("closed")

    stub = types.ModuleType("torch.utils.tensorboard")
    stub.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stub)
    with follow(tmp_path, log="tensorboard") as tell:
        tell.validation(3, 1.9, 1.5, 0.02)
    assert written[0] == str(tmp_path / "tensorboard")
    assert {("train_loss", 1.9, 96), ("val_loss", 1.5, 96), ("learning_rate", 0.02, 96)} <= set(written)
    assert written[-1] == "closed"
