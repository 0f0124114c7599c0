"""How far long work has come: tqdm's bars on a terminal and in notebooks, plain lines in files.

A training run also writes ``progress.jsonl`` for programs, and a log for TensorBoard where asked for. The logger is off
unless asked for, and nothing is imported before.
"""

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Self, TextIO

from tqdm import TqdmWarning, tqdm
from tqdm.auto import tqdm as auto_tqdm

from gzlib import trace
from gzlib.errors import UserError

REDRAW_EVERY = 0.2  # seconds, on a terminal
LINE_EVERY = 15.0  # seconds, elsewhere


def in_notebook() -> bool:
    """Whether this is a user's open notebook. A build runs chapters in a kernel too, but passes on what they say."""
    return "ipykernel" in sys.modules and trace.VARIABLE not in os.environ


def _bar(stream: TextIO, **options: Any) -> tqdm:
    """A bar of tqdm's: the notebook's own kind where that can be drawn, else text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)  # without ipywidgets a notebook shows text
        return (auto_tqdm if in_notebook() else tqdm)(file=stream, leave=False, dynamic_ncols=True, **options)


class Live:
    """One line that tells how things stand, and lasting lines above it: none in a notebook, which keeps what it prints.

    Parameters
    ----------
    stream : text file, optional
        Standard error if left out.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream: TextIO = stream or sys.stderr
        self.in_notebook = in_notebook()
        self.on_terminal = self.stream.isatty() or self.in_notebook
        self.last = -float("inf")
        self.bar: tqdm | None = None

    def show(self, text: str) -> None:
        """Replace the line on a terminal and in a notebook; elsewhere print it now and then."""
        if time.monotonic() - self.last < (REDRAW_EVERY if self.on_terminal else LINE_EVERY):
            return
        self.last = time.monotonic()
        if not self.on_terminal:
            print(text, file=self.stream, flush=True)
            return
        if self.bar is None:
            self.bar = _bar(self.stream, total=0, bar_format="{desc}")
        self.bar.set_description_str(text)

    def line(self, text: str) -> None:
        """A line that stays; the live line moves below it."""
        if self.in_notebook:
            return
        if self.bar is None:
            print(text, file=self.stream, flush=True)
        else:
            self.bar.write(text, file=self.stream)

    def close(self) -> None:
        """Take the live line away."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


class Progress:
    """``with Progress("curating", total, "galaxies") as p: p.update(256)``; silent if ``show`` is false."""

    def __init__(self, what: str, total: int, unit: str, show: bool = True) -> None:
        self.what, self.total, self.unit, self.done = what, total, unit, 0
        self.live = Live() if show else None
        self.start = time.monotonic()
        self.bar: tqdm | None = None
        if self.live and self.live.on_terminal:
            self.bar = _bar(self.live.stream, total=total, desc=what, unit=f" {unit}", mininterval=REDRAW_EVERY)
        elif self.live:
            self.live.last = self.start  # what is done within seconds needs no line before its last

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()
        if self.live and failure is None:
            self.live.line(self._text())

    def update(self, n: int) -> None:
        """So many more are done."""
        self.done += n
        if self.bar is not None:
            self.bar.update(n)
        elif self.live:
            self.live.show(self._text())

    def _text(self) -> str:
        rate = self.done / max(time.monotonic() - self.start, 1e-9)
        text = f"{self.what}: {self.done:,} of {self.total:,} {self.unit}, {rate:,.0f}/s"
        if self.done < self.total:
            text += f", {duration((self.total - self.done) / rate) if rate else '?'} left"
        return text


def duration(seconds: float) -> str:
    """In words: '40 s', '3 min 20 s', '2 h 5 min'."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


VARIABLE = "GZLIB_LOG"  # the environment variable that asks for a logger where nothing else does
LOGGERS = ("tensorboard",)


def logger_name(name: str | None) -> str | None:
    """The logger asked for by name, else by the environment; None for none.

    Raises
    ------
    UserError
        If there is no such logger.
    """
    name = name or os.environ.get(VARIABLE) or None
    if name is not None and name not in LOGGERS:
        raise UserError(f"Unknown logger '{name}'; use {' or '.join(map(repr, LOGGERS))}, or none.")
    return name


Log = Callable[[int, dict[str, float]], None]  # takes the galaxies seen, and values by name
Say = Callable[[str], object]  # takes a line


def open_logger(name: str, folder: Path) -> tuple[Log, Callable[[], None]]:
    """Start a logger that writes below a run's folder.

    Parameters
    ----------
    name : {"tensorboard"}
    folder : Path
        Event files go to ``folder / name``; a resumed run continues in the same place.

    Returns
    -------
    log : callable
        (galaxies seen, values by name) -> None.
    close : callable

    Raises
    ------
    UserError
        If the logger is unknown or its package is not installed.
    """
    logger_name(name)
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("The logger 'tensorboard' needs a package: pip install tensorboard.") from None
    writer = SummaryWriter(str(folder / name))

    def log(examples: int, values: dict[str, float]) -> None:
        for what, value in values.items():
            writer.add_scalar(what, value, examples)

    return log, writer.close


FILE = "progress.jsonl"
ENTRY_EVERY = 5.0  # seconds, between validations


class Telling:
    """Follows one stretch of a run, from its start or its checkpoint to its end or its interruption.

    Each entry of ``progress.jsonl`` has ``time`` (UTC), ``step``, ``examples`` (galaxies seen), ``examples_in_all``,
    ``train_loss`` (mean since the last validation), ``val_loss`` (null between validations), ``learning_rate``,
    ``galaxies_per_second`` (of this stretch without its first step, which sets things up; validation included) and
    ``seconds_left``. The file stays when the run is complete; git ignores it.

    Parameters
    ----------
    last : int
        Steps of the whole run.
    batch : int
        Galaxies a step.
    folder : Path, optional
        The run's; None writes nothing.
    report, live : callable
        Take a line that stays, at each validation, and the present state, at each step.
    log : callable, optional
        See :func:`gzlib.progress.open_logger`.
    """

    def __init__(
        self, last: int, batch: int, *, folder: Path | None, report: Say, live: Say | None, log: Log | None
    ) -> None:
        self.last, self.batch = last, batch
        self.file = folder / FILE if folder else None
        self.report, self.live, self.log = report, live, log
        self.start: float | None = None
        self.first, self.written = 0, time.monotonic()
        self.loss_sum, self.losses = 0.0, 0
        self.val_loss: float | None = None
        self.unwritten: dict[str, Any] | None = None

    def step(self, step: int, loss: float, learning_rate: float) -> None:
        """Training step ``step`` (from 0) had this loss."""
        if self.start is None:
            self.start, self.first = time.monotonic(), step + 1
        self.loss_sum, self.losses = self.loss_sum + loss, self.losses + 1
        entry = self._entry(step + 1, self.loss_sum / self.losses, learning_rate)
        if self.live:
            self.live(self._sentence(entry | {"val_loss": self.val_loss}))
        self.unwritten = entry
        if time.monotonic() - self.written > ENTRY_EVERY:
            self.close()

    def validation(self, step: int, train_loss: float, val_loss: float, learning_rate: float) -> None:
        """After ``step`` steps the model was validated."""
        self.loss_sum, self.losses, self.val_loss = 0.0, 0, val_loss
        entry = self._entry(step, train_loss, learning_rate) | {"val_loss": val_loss}
        self.report(self._sentence(entry))
        self._write(entry)
        if self.log:
            names = ("train_loss", "val_loss", "learning_rate", "galaxies_per_second")
            self.log(entry["examples"], {name: entry[name] for name in names})

    def close(self) -> None:
        """Write down the latest step, if it does not exist yet."""
        if self.unwritten:
            self._write(self.unwritten)

    def _entry(self, step: int, train_loss: float, learning_rate: float) -> dict[str, Any]:
        rate = 0.0
        if self.start is not None:
            rate = (step - self.first) * self.batch / max(time.monotonic() - self.start, 1e-9)
        return {
            "step": step,
            "examples": step * self.batch,
            "examples_in_all": self.last * self.batch,
            "train_loss": train_loss,
            "val_loss": None,
            "learning_rate": learning_rate,
            "galaxies_per_second": rate,
            "seconds_left": (self.last - step) * self.batch / rate if rate else None,
        }

    def _sentence(self, entry: dict[str, Any]) -> str:
        val = "" if entry["val_loss"] is None else f"  val {entry['val_loss']:.4f}"
        left = "?" if entry["seconds_left"] is None else duration(entry["seconds_left"])
        seen = f"{entry['examples']:>9,} galaxies seen  train {entry['train_loss']:.4f}"
        return f"{seen}{val}  {entry['galaxies_per_second']:,.0f}/s  {left} left"

    def _write(self, entry: dict[str, Any]) -> None:
        self.written, self.unwritten = time.monotonic(), None
        if self.file is None:
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with open(self.file, "a+b") as file:  # what a killed process left half-written keeps a line of its own
                torn = file.tell() and _last_byte(file) != b"\n"
                file.write(b"\n" * torn + json.dumps({"time": now} | entry).encode() + b"\n")
        except OSError as error:
            self.report(f"'{self.file}' could not be written ({error.strerror}); training continues without it.")
            self.file = None


@contextmanager
def telling(
    last: int, batch: int, *, folder: Path | None, report: Say, live: Say | None, log: str | None
) -> Iterator[Telling]:
    """A :class:`Telling` with the logger ``log`` opened and closed."""
    write, close = None, _nothing
    if folder and (name := logger_name(log)):
        write, close = open_logger(name, folder)
    tell = Telling(last, batch, folder=folder, report=report, live=live, log=write)
    try:
        yield tell
    finally:
        tell.close()
        close()


def _nothing() -> None:
    pass


def silent(*_: object) -> None:
    """Takes a line and says nothing."""


def _last_byte(file: BinaryIO) -> bytes:
    file.seek(-1, 2)
    return file.read(1)
