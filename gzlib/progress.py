"""How far long work has come: a line that rewrites itself on a terminal, plain lines elsewhere, none in notebooks."""

import os
import shutil
import sys
import time

from gzlib import trace

REDRAW_EVERY = 0.2  # seconds, on a terminal
LINE_EVERY = 15.0  # seconds, elsewhere
BAR = 20  # characters


def in_notebook() -> bool:
    """Whether this is somebody's open notebook. A build runs chapters in a kernel too, but passes on what they say."""
    return "ipykernel" in sys.modules and trace.VARIABLE not in os.environ


class Live:
    """One line that tells how things stand, and lasting lines above it.

    Parameters
    ----------
    stream : text file, optional
        Standard error if left out.
    """

    def __init__(self, stream=None):
        self.stream, self.shown, self.last = stream or sys.stderr, "", -float("inf")
        self.on_terminal, self.quiet = self.stream.isatty(), in_notebook()

    def show(self, text: str):
        """Replace the line on a terminal; elsewhere print it now and then."""
        pause = REDRAW_EVERY if self.on_terminal else LINE_EVERY
        if self.quiet or time.monotonic() - self.last < pause:
            return
        self.last = time.monotonic()
        if self.on_terminal:
            self._rewrite(text)
        else:
            print(text, file=self.stream, flush=True)

    def line(self, text: str):
        """A line that stays; the live line moves below it."""
        if self.quiet:
            return
        shown = self.shown
        self.close()
        print(text, file=self.stream, flush=True)
        if shown:
            self._rewrite(shown)

    def close(self):
        """Take the live line away."""
        if self.shown:
            self._rewrite("")

    def _rewrite(self, text: str):
        self.shown = text[: shutil.get_terminal_size().columns - 1]  # a longer line would wrap and pile up
        print(f"\r\x1b[K{self.shown}", end="", file=self.stream, flush=True)


class Progress:
    """``with Progress("curating", total, "galaxies") as p: p.update(256)``; silent if ``show`` is false."""

    def __init__(self, what: str, total: int, unit: str, show: bool = True):
        self.what, self.total, self.unit, self.done = what, total, unit, 0
        self.live = Live() if show else None
        self.start = time.monotonic()
        if self.live and not self.live.on_terminal:
            self.live.last = self.start  # what is done within seconds needs no line before its last

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.live:
            self.live.close()
            if exception[0] is None:
                self.live.line(self._text())

    def update(self, n: int):
        self.done += n
        if self.live:
            self.live.show(self._text())

    def _text(self) -> str:
        rate = self.done / max(time.monotonic() - self.start, 1e-9)
        text = f"{self.what}: {self.done:,} of {self.total:,} {self.unit}, {rate:,.0f}/s"
        if self.done < self.total:
            text += f", {duration((self.total - self.done) / rate) if rate else '?'} left"
        if self.live.on_terminal:
            full = BAR * self.done // max(self.total, 1)
            text = f"[{'#' * full}{'.' * (BAR - full)}] {text}"
        return text


def duration(seconds: float) -> str:
    """In words: '40 s', '3 min 20 s', '2 h 5 min'."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
