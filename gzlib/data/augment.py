"""Random views of whole batches, on the device that holds them, by one interpolation."""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from gzlib.errors import UserError

# Share of the picture that one erased rectangle takes, and its height over width: Zoobot 2.9's default view.
ERASED_AREA, ERASED_SHAPE = (0.002, 0.007), (0.5, 2.0)
# On a CPU, pictures are interpolated a few at a time: so many bytes of float32 stay in a core's cache.
CACHED_BYTES = 3 << 19


@dataclass(frozen=True)
class Augment:
    """What a training view may do to a picture; part of a run's configuration.

    Attributes
    ----------
    rotate : bool
        Rotation by any angle.
    zoom : (float, float)
        Magnification, log-uniform.
    shift : float
        Largest shift along each axis, as a fraction of the picture's side.
    flip : bool
        Mirror images. Must be off where handedness is the label.
    erase : int
        How many small rectangles of each view are made black; Zoobot's default view has 5.
    """

    rotate: bool = True
    zoom: tuple[float, float] = (1.0, 1.2)
    shift: float = 0.05
    flip: bool = True
    erase: int = field(default=0, metadata={"later": True})  # not in the keys of runs that do without it

    def __post_init__(self):
        if not (len(self.zoom) == 2 and 0 < self.zoom[0] <= self.zoom[1]):
            raise UserError(f"Augment: 'zoom' must be two magnifications above zero, smaller first, not {self.zoom}.")
        if not 0 <= self.shift <= 1:
            raise UserError(f"Augment: 'shift' must be a fraction of the picture's side, 0 to 1, not {self.shift}.")
        if self.erase != int(self.erase) or self.erase < 0:
            raise UserError(f"Augment: 'erase' must be a number of rectangles, 0 or more, not {self.erase}.")


def to_float(images: torch.Tensor) -> torch.Tensor:
    """uint8 pictures to float32 in 0..1: the plain centred view of validation and test."""
    return images.float().div_(255)


def random_view(
    images: torch.Tensor,
    augment: Augment,
    *,
    generator: torch.Generator,
    of: int | None = None,
    part: slice = slice(None),
) -> torch.Tensor:
    """One random view of each picture.

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
    (n, 3, s, s) float32 in 0..1. Places outside the picture show its mirror image, as sky mostly looks like sky.
    """
    of = len(images) if of is None else of
    maps = _draw_maps(of, augment, generator)[part].to(images.device)
    view = _interpolate(images, maps)
    if augment.erase:
        view.masked_fill_(_holes(of, images.shape[-1], augment, generator)[part].to(images.device), 0)
    return view


def _draw_maps(n: int, augment: Augment, generator: torch.Generator) -> torch.Tensor:
    """Where each of n pictures is looked at: (n, 2, 3) affine, from the view's x and y, -1 to 1, to the picture's."""
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
    """Bilinear, all pictures at once on an accelerator, as many as its cache holds on a CPU."""
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
