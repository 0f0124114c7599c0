"""How far long work has come: a bar on a terminal, plain lines elsewhere."""

import sys
import time

from tqdm import tqdm

LINE_EVERY = 15.0  # seconds


class Progress:
    """``with Progress("curating", total, "galaxies") as p: p.update(256)``; silent if ``show`` is false."""

    def __init__(self, what: str, total: int, unit: str, show: bool = True):
        self.what, self.total, self.unit, self.done = what, total, unit, 0
        self.start = self.last_line = time.monotonic()
        on_terminal = show and sys.stderr.isatty()
        self.bar = tqdm(desc=what, total=total, unit=f" {unit}", leave=True) if on_terminal else None
        self.lines = show and not on_terminal

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.bar is not None:
            self.bar.close()
        elif exception[0] is None:
            self._line()

    def update(self, n: int):
        self.done += n
        if self.bar is not None:
            self.bar.update(n)
        elif time.monotonic() - self.last_line > LINE_EVERY:
            self._line()

    def _line(self):
        if self.lines:
            self.last_line = time.monotonic()
            rate = self.done / max(self.last_line - self.start, 1e-9)
            print(f"{self.what}: {self.done:,} of {self.total:,} {self.unit}, {rate:,.0f}/s", file=sys.stderr)
