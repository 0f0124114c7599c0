import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gzlib.config import Augment
from gzlib.data import loader as augmentation
from gzlib.data.loader import random_view, to_float
from gzlib.errors import UserError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_pictures(n, side):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, 3, side, side), np.uint8))


def picture_with_a_corner(side=32):
    image = torch.zeros(1, 3, side, side, dtype=torch.uint8)
    image[:, :, 4:10, 4:10] = 255
    return image


def test_no_augmentation_changes_nothing():
    image = picture_with_a_corner()
    still = Augment(rotate=False, zoom=(1.0, 1.0), shift=0.0, flip=False)
    view = random_view(image, still, generator=seeded())
    np.testing.assert_allclose(view, to_float(image), atol=1e-6)


def test_handedness_survives_unless_flips_are_allowed():
    """A comma-shaped picture, rotated at will, never matches its mirror image better than itself."""
    image = torch.zeros(1, 3, 33, 33, dtype=torch.uint8)
    image[..., 8:25, 14:19] = 255
    image[..., 8:12, 19:25] = 255
    keep = Augment(rotate=True, zoom=(1.0, 1.0), shift=0.0, flip=False)
    generator = seeded()
    own = handedness(to_float(image)) > 0
    views = [random_view(torch.rot90(image, a, (2, 3)), keep, generator=generator) for a in range(8)]
    assert all((handedness(view) > 0) == own for view in views)
    flips = Augment(rotate=True, zoom=(1.0, 1.0), shift=0.0, flip=True)
    signs = {handedness(random_view(image, flips, generator=generator)) > 0 for _ in range(20)}
    assert signs == {True, False}


def handedness(view) -> float:
    """Sign of a mixed third moment about the centre of light, which a mirror reverses and a rotation keeps."""
    light = view[0, 0].double()
    y, x = torch.meshgrid(torch.arange(33.0), torch.arange(33.0), indexing="ij")
    x, y = x - (light * x).sum() / light.sum(), y - (light * y).sum() / light.sum()
    second = ((light * (x + 1j * y) ** 2).sum(), (light * (x + 1j * y) * (x**2 + y**2)).sum())
    return float((second[0].conj() * second[1] ** 2).imag)


def test_zoom_magnifies_and_shift_moves():
    image = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    image[:, :, 12:20, 12:20] = 255
    draw = lambda **kwargs: random_view(  # noqa: E731
        image,
        Augment(**{"rotate": False, "flip": False, "zoom": (1.0, 1.0), "shift": 0.0, **kwargs}),
        generator=seeded(1),
    )
    assert draw(zoom=(1.5, 1.5)).mean() / draw().mean() == pytest.approx(2.25, rel=0.1)
    moved = draw(shift=0.1)
    assert moved.mean() == pytest.approx(draw().mean().item(), rel=0.02)
    assert (moved - draw()).abs().max() > 0.1


@pytest.mark.parametrize(("n", "side"), [(70, 64), (3, 224), (1, 7)])
def test_interpolation_is_that_of_torch_whatever_the_chunks(n, side):
    images = random_pictures(n, side)
    maps = augmentation._draw_maps(n, Augment(), seeded())
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    expected = F.grid_sample(to_float(images), grid, padding_mode="reflection", align_corners=False)
    view = random_view(images, Augment(), generator=seeded())
    assert view.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(view, expected, atol=1e-4)  # places agree to 1e-6 of the side


def test_part_of_a_batch_has_the_views_of_the_whole():
    images, augment = random_pictures(9, 16), Augment(erase=3)
    whole = random_view(images, augment, generator=seeded())
    part = random_view(images[2:7], augment, generator=seeded(), of=9, part=slice(2, 7))
    assert torch.equal(part, whole[2:7])


def test_erasing_makes_small_rectangles_black_and_changes_nothing_else():
    white = torch.full((200, 3, 64, 64), 255, dtype=torch.uint8)
    erased = random_view(white, Augment(erase=1), generator=seeded())[:, 0] == 0
    area = erased.sum((1, 2)) / 64**2
    assert area.min() > 0.0015 and area.max() < 0.009
    for hole in erased[:20]:
        y, x = hole.nonzero(as_tuple=True)
        assert hole[y.min() : y.max() + 1, x.min() : x.max() + 1].all()  # one full rectangle
        assert 0.3 < (y.max() - y.min() + 1) / (x.max() - x.min() + 1) < 3.4  # 1:2 to 2:1, in whole pixels
    assert erased.any(0).float().mean() > 0.3  # anywhere in the frame
    images = random_pictures(8, 32)
    with_holes, without = (random_view(images, Augment(erase=k), generator=seeded()) for k in (5, 0))
    changed = with_holes != without
    assert changed.any() and (with_holes[changed] == 0).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [({"zoom": (1.2, 1.0)}, "zoom"), ({"zoom": (0, 1)}, "zoom"), ({"shift": 2.0}, "shift"), ({"erase": -1}, "erase")],
)
def test_impossible_views_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        Augment(**values)
