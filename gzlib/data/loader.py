"""Batches from pictures that stay on the device as bytes."""

from collections.abc import Iterator

import numpy as np
import torch

from gzlib.data.augment import Augment, random_view, to_float
from gzlib.data.seeds import mix
from gzlib.errors import UserError


class Loader:
    """All pictures and labels of one split on the device; views are made batch by batch.

    Memory needed on the device: ``3 * side**2`` bytes a galaxy (1.2 GB for 100,000 at 64 px) and 4 bytes a label.

    Parameters
    ----------
    images : (n, y, x, 3) uint8
        May be memory-mapped; only the ``index`` rows are read.
    labels : (n, ...) array
        Row for row with ``images``.
    index : (m,) int
        The galaxies of this split or subset.
    batch_size : int
    seed : int
        Of the order and of the views.
    augment : Augment, optional
        None for the plain centred view.
    """

    def __init__(self, images, labels, index, *, batch_size, seed=0, augment: Augment | None = None, device="cpu"):
        if len(index) == 0:
            raise UserError("A loader needs at least one galaxy; the split or subset asked for is empty.")
        order = np.argsort(index, kind="stable")  # a memory map is read fastest front to back
        rows = np.empty((len(index), *images.shape[1:]), np.uint8)
        rows[order] = images[np.asarray(index)[order]]
        self.images = torch.from_numpy(rows).permute(0, 3, 1, 2).to(device)
        self.labels = torch.from_numpy(np.ascontiguousarray(labels[index])).to(device)
        self.index = np.asarray(index)
        self.batch_size, self.seed, self.augment = min(batch_size, len(index)), seed, augment
        self._orders = {}

    def __len__(self) -> int:
        return len(self.index)

    def rows(self, step: int) -> torch.Tensor:
        """Which of its galaxies training step ``step`` uses, (batch_size,): a function of the seed and the step alone.

        Epochs follow one another without a gap: a batch may hold the end of one and the start of the next, so no
        galaxy is dropped however small the training set.
        """
        n, start = len(self), step * self.batch_size
        first, last = start // n, (start + self.batch_size - 1) // n
        joined = torch.cat([self._order(epoch) for epoch in range(first, last + 1)])
        return joined[start - first * n :][: self.batch_size]

    def _order(self, epoch: int) -> torch.Tensor:
        if epoch not in self._orders:
            self._orders = {
                e: order for e, order in self._orders.items() if e == epoch - 1
            }  # a batch spans two at most
            generator = torch.Generator().manual_seed(mix(self.seed, epoch))
            self._orders[epoch] = torch.randperm(len(self), generator=generator)
        return self._orders[epoch]

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures (batch, 3, s, s) float32 in 0..1 and labels of training step ``step``."""
        rows = self.rows(step).to(self.images.device)
        generator = torch.Generator().manual_seed(mix(self.seed, step, 1))
        images = self.images[rows]
        view = to_float(images) if self.augment is None else random_view(images, self.augment, generator=generator)
        return view, self.labels[rows]

    def plain(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Every galaxy once, in order, in its plain centred view; the last batch may be smaller."""
        size = max(self.batch_size, 256)
        for start in range(0, len(self), size):
            yield to_float(self.images[start : start + size]), self.labels[start : start + size]
