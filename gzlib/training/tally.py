"""How far a sweep has come: done, running, failed, time left."""

import time

from gzlib.data.progress import duration
from gzlib.training.config import FinetuneConfig, PretrainConfig


class Tally:
    """Counts of a sweep's runs.

    Parameters
    ----------
    left : dict of str to (config, survey)
        The runs still to be made, by their keys.
    total : int
        All runs, with those that are there already.
    """

    def __init__(self, left: dict, *, total: int):
        self.cost = {key: _cost(config) for key, (config, _) in left.items()}
        self.total, self.ended, self.failed, self.running = total, set(), set(), 0
        self.started = time.monotonic()

    def end(self, key: str, *, failed: bool = False):
        """A run has ended."""
        if key in self.cost:
            self.ended.add(key)
        if failed:
            self.failed.add(key)

    def time_left(self) -> str:
        """``, about 3 min left``, guessed from the galaxies still to be shown; nothing before a run has ended."""
        shown = sum(self.cost[key] for key in self.ended)
        left = sum(self.cost.values()) - shown
        if not (shown and left):
            return ""
        return f", about {duration((time.monotonic() - self.started) * left / shown)} left"

    def line(self) -> str:
        """``12 of 30 runs done, 2 running, 1 failed, about 3 min left``."""
        done = self.total - len(self.cost.keys() - self.ended | self.failed)
        parts = [f"{done} of {self.total} runs done"]
        parts += [f"{self.running} running"] if self.running else []
        parts += [f"{len(self.failed)} failed"] if self.failed else []
        return ", ".join(parts) + self.time_left()


def _cost(config: PretrainConfig | FinetuneConfig) -> int:
    """Galaxies that a run shows to its network; a linear probe sees each label once."""
    return config.n_train if getattr(config, "mode", "full") == "linear" else config.recipe.examples
