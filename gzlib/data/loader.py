"""Batches of augmented views, from images on the device or read ahead from the disk."""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import psutil
import torch
import torch.nn.functional as F

from gzlib.config import Augment
from gzlib.errors import UserError


def mix(*parts: int | str) -> int:
    """A 63-bit seed from any integers and words, the same on every machine."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


# Share of the image that one erased rectangle takes, and its height over width: Zoobot 2.9's default view.
ERASED_AREA, ERASED_SHAPE = (0.002, 0.007), (0.5, 2.0)
# On a CPU, images are interpolated a few at a time: so many bytes of float32 stay in a core's cache.
CACHED_BYTES = 3 << 19


def to_float(images: torch.Tensor) -> torch.Tensor:
    """uint8 images to float32 in 0..1: the plain centred view of validation and test."""
    return images.float().div_(255)


def random_view(
    images: torch.Tensor,
    augment: Augment,
    *,
    generator: torch.Generator,
    of: int | None = None,
    part: slice = slice(None),
) -> torch.Tensor:
    """One random view of each image.

    Parameters
    ----------
    images : (n, 3, s, s) uint8
    augment : Augment
    generator : torch.Generator
        On the CPU, so that every device draws the same views.
    of : int, optional
        Size of the batch of which ``images`` are ``part``; their views are those that the whole batch would show.

    Returns
    -------
    (n, 3, s, s) float32 in 0..1. Places outside the image show its mirror image, as sky mostly looks like sky.
    """
    of = len(images) if of is None else of
    maps = _draw_maps(of, augment, generator)[part].to(images.device)
    view = _interpolate(images, maps)
    if augment.erase:
        view.masked_fill_(_holes(of, images.shape[-1], augment, generator)[part].to(images.device), 0)
    if augment.colour or augment.background or augment.noise or augment.blur:
        view = _another_telescope(view, augment, generator=generator, of=of, part=part)
    return view


def _draw_maps(n: int, augment: Augment, generator: torch.Generator) -> torch.Tensor:
    """Where each of n images is looked at: (n, 2, 3) affine, from the view's x and y, -1 to 1, to the image's."""
    draw = torch.rand(5, n, generator=generator)
    angle = draw[0] * (2 * math.pi) if augment.rotate else torch.zeros(n)
    low, high = augment.zoom
    scale = 1 / (low * (high / low) ** draw[1])  # grid units per output pixel: the inverse of the magnification
    mirror = 1 - 2 * (draw[2] < 0.5).float() if augment.flip else torch.ones(n)
    shift = (draw[3:] * 2 - 1) * 2 * augment.shift  # the axes run from -1 to 1
    cos, sin = angle.cos() * scale, angle.sin() * scale
    rows = [torch.stack([cos * mirror, -sin, shift[0]], 1), torch.stack([sin * mirror, cos, shift[1]], 1)]
    return torch.stack(rows, 1)


def _interpolate(images: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Bilinear, all images at once on an accelerator, as many as its cache holds on a CPU."""
    n, _, side, _ = images.shape
    view = torch.empty(images.shape, device=images.device, memory_format=torch.channels_last)
    few = max(1, CACHED_BYTES // (12 * side**2)) if images.device.type == "cpu" else n
    for start in range(0, n, few):
        here = slice(start, start + few)
        view[here] = F.grid_sample(
            to_float(images[here]), _grid(maps[here], side), padding_mode="reflection", align_corners=False
        )
    return view


def _grid(maps: torch.Tensor, side: int) -> torch.Tensor:
    """``F.affine_grid`` for squares, (n, side, side, 2), as sums of rows and columns: a fifth of its time."""
    places = (torch.arange(side, device=maps.device) * 2 + 1) / side - 1
    grid = torch.empty(len(maps), side, side, 2, device=maps.device)
    for axis in (0, 1):
        along_x = maps[:, axis, 0, None] * places + maps[:, axis, 2, None]
        along_y = maps[:, axis, 1, None] * places
        torch.add(along_x.unsqueeze(1), along_y.unsqueeze(2), out=grid[..., axis])
    return grid


def _holes(n: int, side: int, augment: Augment, generator: torch.Generator) -> torch.Tensor:
    """Which pixels of n views are erased, (n, 1, side, side) bool; drawn after everything else."""
    draw = torch.rand(4, n, augment.erase, generator=generator)
    area = (ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * draw[0]) * side**2
    shape = ERASED_SHAPE[0] * (ERASED_SHAPE[1] / ERASED_SHAPE[0]) ** draw[1]
    places = torch.arange(side)
    inside = []
    for length, at in (((area * shape).sqrt(), draw[2]), ((area / shape).sqrt(), draw[3])):
        length = length.round().clamp(min=1)
        first = (at * (side + 1 - length)).floor()
        inside.append((places >= first[..., None]) & (places < (first + length)[..., None]))
    return (inside[0][..., None] & inside[1][..., None, :]).any(1, keepdim=True)


def _another_telescope(
    view: torch.Tensor, augment: Augment, *, generator: torch.Generator, of: int, part: slice
) -> torch.Tensor:
    """Views (n, 3, s, s), 0..1, with blur, colours, sky level and noise altered at random; drawn after the geometry."""

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand((of, *shape, 1, 1), generator=generator)[part].to(view.device)

    width, saturation, gain, level, sd = draw(1), draw(1), draw(3), draw(1), draw(1)
    if augment.blur:
        view = _blurred(view, width * augment.blur)
    grey = view.mean(1, keepdim=True)
    view = grey + (1 + augment.colour * (2 * saturation - 1)) * (view - grey)
    view = view * (1 + 2 * augment.colour * (gain - 0.5)) + augment.background * (2 * level - 1)
    if augment.noise:
        noise = torch.randn((of, *view.shape[1:]), generator=generator)[part].to(view.device)
        view = view + augment.noise * sd * noise
    return view.clamp_(0, 1).contiguous(memory_format=torch.channels_last)


def _blurred(view: torch.Tensor, width: torch.Tensor) -> torch.Tensor:
    """Each view (n, 3, s, s) convolved with a round Gaussian of its own ``width`` (n, 1, 1, 1) [px]."""
    n, bands, side, _ = view.shape
    reach = min(max(1, math.ceil(3 * float(width.max()))), side - 1)
    offsets = torch.arange(-reach, reach + 1, device=view.device)
    kernel = torch.exp(-0.5 * (offsets / width.view(n, 1).clamp(min=1e-3)) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(bands, 0)
    flat = F.pad(view, (reach,) * 4, mode="reflect").reshape(1, n * bands, side + 2 * reach, side + 2 * reach)
    flat = F.conv2d(flat, kernel.view(n * bands, 1, 1, -1), groups=n * bands)
    return F.conv2d(flat, kernel.view(n * bands, 1, -1, 1), groups=n * bands).view(n, bands, side, side)


class Loader:
    """All images and labels of one split on the device; views are made batch by batch.

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
        images: np.ndarray,
        labels: np.ndarray,
        index: np.ndarray,
        *,
        batch_size: int,
        seed: int = 0,
        augment: Augment | None = None,
        device: str | torch.device = "cpu",
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if len(index) == 0:
            raise UserError("A loader needs at least one galaxy; the split or subset asked for is empty.")
        self.index, self.device = np.asarray(index), torch.device(device)
        self.batch_size, self.seed, self.augment = min(batch_size, len(index)), seed, augment
        if self.batch_size < world:
            raise UserError(f"A batch of {self.batch_size} galaxies cannot be shared among {world} processes.")
        self.part = share(self.batch_size, rank, world)
        self._orders: dict[int, torch.Tensor] = {}
        self.labels = torch.from_numpy(np.ascontiguousarray(labels[self.index])).to(device)
        self.hold(images)

    def hold(self, images: np.ndarray) -> None:
        """Copy the images of this split to the device."""
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
        """Images (part, 3, s, s) float32 in 0..1 and labels of this process's part of training step ``step``."""
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


# Share of the free memory that resident images may take; the rest is for the model, its activations, other loaders.
RESIDENT_SHARE = 0.5
# How many batches are read ahead, and by how many threads: while one waits for the disk, another copies.
AHEAD, READERS = 4, 2


class MappedLoader(Loader):
    """A :class:`~gzlib.data.loader.Loader` whose images stay on the disk: the same batches, bit for bit.

    Threads of its own read the bytes of the next batches while this one is used, into page-locked memory if they go to
    a GPU, where they are copied without waiting. Only this process's part of a batch is read. Memory needed:
    ``AHEAD + 1`` batches of bytes, and the labels on the device.
    """

    def hold(self, images: np.ndarray) -> None:
        """Keep the memory map; nothing is read yet."""
        self._images = np.asarray(images)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="gzlib-reader")
        self._coming: OrderedDict[int, tuple[torch.Tensor, Future[torch.Tensor]]] = OrderedDict()

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

    def _read_later(self, rows: np.ndarray) -> Future[torch.Tensor]:
        return self._readers.submit(self._read, rows)

    def _read(self, rows: np.ndarray) -> torch.Tensor:
        shape = (len(rows), *self._images.shape[1:])
        pictures = torch.empty(shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        # 'clip' lets numpy write straight into the batch and let other threads run; the rows are all in range.
        np.take(self._images, self.index[rows], axis=0, out=pictures.numpy(), mode="clip")
        return pictures

    def _to_device(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.to(self.device, non_blocking=True).permute(0, 3, 1, 2)


def resident_bytes(images: np.ndarray, index: np.ndarray) -> int:
    """Bytes that the images of a split take on a device."""
    return len(index) * int(np.prod(images.shape[1:]))


def free_bytes(device: str | torch.device) -> int:
    """Memory that is free on a GPU, or in the host for any other device (MPS shares the host's)."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)


def open_loader(
    images: np.ndarray,
    labels: np.ndarray,
    index: np.ndarray,
    *,
    device: str | torch.device = "cpu",
    memory: int | None = None,
    **options: Any,
) -> Loader:
    """The loader that fits this machine: resident if it can be, memory-mapped if it must.

    The rule: the images stay on the device if their ``len(index) * y * x * 3`` bytes are at most half
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
    most = RESIDENT_SHARE * free_bytes(device) if memory is None else memory
    kind = Loader if resident_bytes(images, index) <= most else MappedLoader
    return kind(images, labels, index, device=device, **options)
