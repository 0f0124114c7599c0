"""Batches from pictures too many for the device: read from the memory-mapped survey ahead of their use."""

from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import psutil
import torch

from gzlib.data.augment import to_float
from gzlib.data.loader import Loader

# Share of the free memory that resident pictures may take; the rest is for the model, its activations, other loaders.
RESIDENT_SHARE = 0.5
# How many batches are read ahead, and by how many threads: while one waits for the disk, another copies.
AHEAD, READERS = 4, 2


class MappedLoader(Loader):
    """A :class:`~gzlib.data.loader.Loader` whose pictures stay on the disk: the same batches, bit for bit.

    Threads of its own read the bytes of the next batches while this one is used, into page-locked memory if they go to
    a GPU, where they are copied without waiting. Only this process's part of a batch is read. Memory needed:
    ``AHEAD + 1`` batches of bytes, and the labels on the device.
    """

    def hold(self, images):
        """Keep the memory map; nothing is read yet."""
        self._images = np.asarray(images)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="gzlib-reader")
        self._coming: OrderedDict[int, tuple[torch.Tensor, Future]] = OrderedDict()

    def fetch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The bytes of a batch, from those read ahead if the steps are asked for in their order."""
        wanted = range(step, step + AHEAD + 1)
        for late in [s for s in self._coming if s not in wanted]:
            self._coming.pop(late)[1].cancel()
        for s in wanted:
            if s not in self._coming:
                rows = self.rows(s)[self.part]
                self._coming[s] = rows, self._read_later(rows.numpy())
        rows, bytes_of = self._coming.pop(step)
        return self._to_device(bytes_of.result()), self.labels[rows.to(self.device)]

    def plain(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """As the resident loader's, reading ahead."""
        parts = self.plain_rows()
        every = np.arange(len(self))
        coming = [self._read_later(every[rows]) for rows in parts[:AHEAD]]
        for position, rows in enumerate(parts):
            if position + AHEAD < len(parts):
                coming.append(self._read_later(every[parts[position + AHEAD]]))
            yield to_float(self._to_device(coming.pop(0).result())), self.labels[rows]

    def _read_later(self, rows: np.ndarray) -> Future:
        return self._readers.submit(self._read, rows)

    def _read(self, rows: np.ndarray) -> torch.Tensor:
        shape = (len(rows), *self._images.shape[1:])
        pictures = torch.empty(shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        # 'clip' lets numpy write straight into the batch and let other threads run; the rows are all in range.
        np.take(self._images, self.index[rows], axis=0, out=pictures.numpy(), mode="clip")
        return pictures

    def _to_device(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.to(self.device, non_blocking=True).permute(0, 3, 1, 2)


def resident_bytes(images, index) -> int:
    """Bytes that the pictures of a split take on a device."""
    return len(index) * int(np.prod(images.shape[1:]))


def free_bytes(device: str | torch.device) -> int:
    """Memory that is free on a GPU, or in the host for any other device (MPS shares the host's)."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def open_loader(images, labels, index, *, device="cpu", memory: int | None = None, **options) -> Loader:
    """The loader that fits this machine: resident if it can be, memory-mapped if it must.

    The rule: the pictures stay on the device if their ``len(index) * y * x * 3`` bytes are at most half
    (``RESIDENT_SHARE``) of the memory that is free there now; else they are read from the memory map as needed. Both
    give the same batches, so which one it was is no part of a run's configuration.

    Parameters
    ----------
    images, labels, index
        As :class:`~gzlib.data.loader.Loader` takes them.
    memory : int, optional
        Bytes that may be taken; by default found by the rule.
    options
        Passed to the loader.
    """
    memory = RESIDENT_SHARE * free_bytes(device) if memory is None else memory
    kind = Loader if resident_bytes(images, index) <= memory else MappedLoader
    return kind(images, labels, index, device=device, **options)
