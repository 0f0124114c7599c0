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


STILL = {"rotate": False, "zoom": (1.0, 1.0), "shift": 0.0, "flip": False}


@pytest.mark.parametrize("name", ["colour", "background", "noise", "blur"])
def test_what_tells_telescopes_apart_varies_and_stays_an_image(name):
    images = random_pictures(12, 24)
    value = {"blur": 2.0}.get(name, 0.3)
    plain = random_view(images, Augment(**STILL), generator=seeded())
    varied = random_view(images, Augment(**STILL, **{name: value}), generator=seeded())
    assert varied.min() >= 0 and varied.max() <= 1 and varied.shape == plain.shape
    assert varied.is_contiguous(memory_format=torch.channels_last)
    change = (varied - plain).abs().mean((1, 2, 3))
    assert change.max() > 2 * change.min() > 0  # each image by an amount of its own
    whole = Augment(colour=0.3, background=0.1, noise=0.05, blur=1.0, erase=2)
    part = random_view(images[2:7], whole, generator=seeded(), of=12, part=slice(2, 7))
    np.testing.assert_allclose(part, random_view(images, whole, generator=seeded())[2:7], atol=1e-5)


def test_each_variation_does_what_it_says():
    images = torch.full((400, 3, 16, 16), 128, dtype=torch.uint8)
    images[:, 0] = 160
    plain = to_float(images)

    def draw(**values):
        return random_view(images, Augment(**STILL, **values), generator=seeded())

    offset = (draw(background=0.1) - plain).mean((1, 2, 3))
    assert 0.09 < offset.max() <= 0.1001 and -0.1001 <= offset.min() < -0.09
    spread = draw(noise=0.1).std((2, 3)).mean(1)
    assert spread.max() == pytest.approx(0.1, rel=0.1) and spread.min() < 0.01
    gain = draw(colour=0.2)[:, 1:].mean((2, 3)) / plain[:, 1:].mean((2, 3))
    assert 1.1 < gain.max() < 1.3 and 0.7 < gain.min() < 0.9
    point = torch.zeros((200, 3, 33, 33), dtype=torch.uint8)
    point[:, :, 16, 16] = 255
    view = random_view(point, Augment(**STILL, blur=2.0), generator=seeded())[:, 0]
    np.testing.assert_allclose(view.sum((1, 2)), 1, atol=1e-3)  # light is spread, not lost
    r2 = ((torch.arange(33) - 16) ** 2).float()
    width = ((view.sum(1) @ r2).clamp(min=0)) ** 0.5
    assert 1.8 < width.max() < 2.05 and width.min() < 0.2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"zoom": (1.2, 1.0)}, "zoom"),
        ({"zoom": (0, 1)}, "zoom"),
        ({"shift": 2.0}, "shift"),
        ({"erase": -1}, "erase"),
        ({"noise": -0.1}, "noise"),
        ({"blur": float("nan")}, "blur"),
        ({"colour": 1.5}, "colour"),
    ],
)
def test_impossible_views_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        Augment(**values)
