import numpy as np
import pytest
import torch

from gzlib.data.augment import Augment, random_view, to_float
from gzlib.data.loader import Loader
from gzlib.errors import UserError


def numbered_pictures(n=10, side=8):
    """Picture i has brightness i everywhere, so that it can be told in any view."""
    images = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, side, side, 3))
    return np.ascontiguousarray(images), np.arange(n)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 10, 64])
def test_every_galaxy_is_seen_equally_often(batch_size):
    images, labels = numbered_pictures()
    index = np.array([7, 2, 5, 9])
    loader = Loader(images, labels, index, batch_size=batch_size)
    steps = 12 // loader.batch_size
    seen = torch.cat([loader.batch(step)[1] for step in range(steps)]).numpy()
    values, counts = np.unique(seen, return_counts=True)
    assert set(values) == set(index)
    assert counts.max() - counts.min() <= 1


def test_pictures_stay_with_their_labels():
    loader = Loader(*numbered_pictures(), np.array([8, 1, 3]), batch_size=2, augment=Augment())
    for step in range(6):
        images, labels = loader.batch(step)
        np.testing.assert_allclose(images.mean((1, 2, 3)) * 255, labels, atol=1e-3)
    images, labels = next(loader.plain())
    np.testing.assert_array_equal(labels, [8, 1, 3])


def test_a_step_is_a_function_of_seed_and_step():
    make = lambda seed: Loader(*numbered_pictures(50), np.arange(50), batch_size=8, seed=seed, augment=Augment())  # noqa: E731
    first, second = make(1), make(1)
    for step in (9, 2, 9):  # any order, as after a resume
        for a, b in zip(first.batch(step), second.batch(step), strict=True):
            assert torch.equal(a, b)
    assert not torch.equal(make(1).batch(0)[1], make(2).batch(0)[1])


def test_empty_split_is_refused():
    with pytest.raises(UserError, match="at least one galaxy"):
        Loader(*numbered_pictures(), np.array([], int), batch_size=2)


def picture_with_a_corner(side=32):
    image = torch.zeros(1, 3, side, side, dtype=torch.uint8)
    image[:, :, 4:10, 4:10] = 255
    return image


def test_no_augmentation_changes_nothing():
    image = picture_with_a_corner()
    still = Augment(rotate=False, zoom=(1.0, 1.0), shift=0.0, flip=False)
    view = random_view(image, still, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(view, to_float(image), atol=1e-6)


def test_handedness_survives_unless_flips_are_allowed():
    """A comma-shaped picture, rotated at will, never matches its mirror image better than itself."""
    image = torch.zeros(1, 3, 33, 33, dtype=torch.uint8)
    image[..., 8:25, 14:19] = 255
    image[..., 8:12, 19:25] = 255
    keep = Augment(rotate=True, zoom=(1.0, 1.0), shift=0.0, flip=False)
    generator = torch.Generator().manual_seed(0)
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
        generator=torch.Generator().manual_seed(1),
    )
    assert draw(zoom=(1.5, 1.5)).mean() / draw().mean() == pytest.approx(2.25, rel=0.1)
    moved = draw(shift=0.1)
    assert moved.mean() == pytest.approx(draw().mean().item(), rel=0.02)
    assert (moved - draw()).abs().max() > 0.1
