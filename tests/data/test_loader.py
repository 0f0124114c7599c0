import numpy as np
import pytest
import torch

from gzlib.config import Augment
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


@pytest.mark.parametrize("world", [2, 3, 8])
def test_processes_share_the_batches_and_views_of_one(world):
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
    make = lambda **kw: Loader(images, np.arange(20), np.arange(1, 20), batch_size=8, augment=Augment(), **kw)  # noqa: E731
    parts = [make(rank=rank, world=world) for rank in range(world)]
    for step in (0, 2, 5):  # step 2 spans two epochs
        shared = [torch.cat(pieces) for pieces in zip(*(part.batch(step) for part in parts), strict=True)]
        for one, several in zip(make().batch(step), shared, strict=True):
            assert torch.equal(one, several)


def test_more_processes_than_galaxies_in_a_batch_are_refused():
    with pytest.raises(UserError, match="batch of 2 galaxies cannot be shared among 3"):
        Loader(*numbered_pictures(), np.arange(5), batch_size=2, rank=0, world=3)


def test_order_of_a_step_that_spans_epochs():
    """Three galaxies, batches of three after a first epoch of five: each epoch is one whole permutation."""
    loader = Loader(*numbered_pictures(), np.arange(5), batch_size=3)
    seen = torch.cat([loader.rows(step) for step in range(5)]).reshape(3, 5)
    np.testing.assert_array_equal(seen.sort(1)[0], np.tile(np.arange(5), (3, 1)))
    assert not torch.equal(seen[0], seen[1])


def test_empty_split_is_refused():
    with pytest.raises(UserError, match="at least one galaxy"):
        Loader(*numbered_pictures(), np.array([], int), batch_size=2)
