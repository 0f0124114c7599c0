"""Batches from pictures that stay on the device as bytes; :mod:`gzlib.data.mapped` has those too many for it."""

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
    rank, world : int
        Of several processes that train together, which one this is: it gets its contiguous part of every batch, with
        the very views that one process alone would show.
    """

    def __init__(
        self,
        images,
        labels,
        index,
        *,
        batch_size,
        seed=0,
        augment: Augment | None = None,
        device="cpu",
        rank: int = 0,
        world: int = 1,
    ):
        if len(index) == 0:
            raise UserError("A loader needs at least one galaxy; the split or subset asked for is empty.")
        self.index, self.device = np.asarray(index), torch.device(device)
        self.batch_size, self.seed, self.augment = min(batch_size, len(index)), seed, augment
        if self.batch_size < world:
            raise UserError(f"A batch of {self.batch_size} galaxies cannot be shared among {world} processes.")
        self.part = share(self.batch_size, rank, world)
        self._orders = {}
        self.labels = torch.from_numpy(np.ascontiguousarray(labels[self.index])).to(device)
        self.hold(images)

    def hold(self, images):
        """Copy the pictures of this split to the device."""
        rows = np.empty((len(self), *images.shape[1:]), np.uint8)
        order = np.argsort(self.index, kind="stable")  # a memory map is read fastest front to back
        for some in np.array_split(order, len(order) // 4096 + 1):  # not all of them twice in memory
            rows[some] = images[self.index[some]]
        self.images = torch.from_numpy(rows).permute(0, 3, 1, 2).to(self.device)

    def __len__(self) -> int:
        return len(self.index)

    def rows(self, step: int) -> torch.Tensor:
        """Which of its galaxies training step ``step`` uses, (batch_size,): a function of the seed and the step alone.

        Epochs follow one another without a gap: a batch may hold the end of one and the start of the next, so no
        galaxy is dropped however small the training set.
        """
        n, start = len(self), step * self.batch_size
        stop = start + self.batch_size
        epochs = range(start // n, (stop - 1) // n + 1)
        return torch.cat([self._order(e)[max(start - e * n, 0) : stop - e * n] for e in epochs])

    def _order(self, epoch: int) -> torch.Tensor:
        if epoch not in self._orders:
            self._orders = {
                e: order for e, order in self._orders.items() if e == epoch - 1
            }  # a batch spans two at most
            generator = torch.Generator().manual_seed(mix(self.seed, epoch))
            self._orders[epoch] = torch.randperm(len(self), generator=generator)
        return self._orders[epoch]

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures (part, 3, s, s) float32 in 0..1 and labels of this process's part of training step ``step``."""
        images, labels = self.fetch(step)
        if self.augment is None:
            return to_float(images), labels
        generator = torch.Generator().manual_seed(mix(self.seed, step, 1))
        view = random_view(images, self.augment, generator=generator, of=self.batch_size, part=self.part)
        return view, labels

    def fetch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The bytes behind :meth:`batch`: (part, 3, s, s) uint8, and the labels."""
        rows = self.rows(step)[self.part].to(self.device)
        return self.images[rows], self.labels[rows]

    def plain(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Every galaxy once, in order, in its plain centred view; the last batch may be smaller."""
        for rows in self.plain_rows():
            yield to_float(self.images[rows]), self.labels[rows]

    def plain_rows(self) -> list[slice]:
        """The parts that :meth:`plain` goes through."""
        size = max(self.batch_size, 256)
        return [slice(start, start + size) for start in range(0, len(self), size)]


def share(n: int, rank: int, world: int) -> slice:
    """The contiguous part of ``n`` things that process ``rank`` of ``world`` takes; parts differ by one at most."""
    return slice(n * rank // world, n * (rank + 1) // world)
