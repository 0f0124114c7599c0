"""Random views of whole batches, on the device that holds them, by one interpolation."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F


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
    """

    rotate: bool = True
    zoom: tuple[float, float] = (1.0, 1.2)
    shift: float = 0.05
    flip: bool = True


def to_float(images: torch.Tensor) -> torch.Tensor:
    """uint8 pictures to float32 in 0..1: the plain centred view of validation and test."""
    return images.float().div_(255)


def random_view(images: torch.Tensor, augment: Augment, *, generator: torch.Generator) -> torch.Tensor:
    """One random view of each picture.

    Parameters
    ----------
    images : (n, 3, s, s) uint8
    augment : Augment
    generator : torch.Generator
        On the CPU, so that every device draws the same views.

    Returns
    -------
    (n, 3, s, s) float32 in 0..1. Places outside the picture show its mirror image, as sky mostly looks like sky.
    """
    n = len(images)
    draw = torch.rand(5, n, generator=generator)
    angle = draw[0] * (2 * math.pi) if augment.rotate else torch.zeros(n)
    low, high = augment.zoom
    scale = 1 / (low * (high / low) ** draw[1])  # grid units per output pixel: the inverse of the magnification
    mirror = 1 - 2 * (draw[2] < 0.5).float() if augment.flip else torch.ones(n)
    shift = (draw[3:] * 2 - 1) * 2 * augment.shift  # affine_grid's axes run from -1 to 1
    cos, sin = angle.cos() * scale, angle.sin() * scale
    rows = [torch.stack([cos * mirror, -sin, shift[0]], 1), torch.stack([sin * mirror, cos, shift[1]], 1)]
    theta = torch.stack(rows, 1).to(images.device)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    view = F.grid_sample(to_float(images), grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return view.contiguous(memory_format=torch.channels_last)
