import numpy as np
import pytest
import torch

from gzlib.config import Augment
from gzlib.data import loader as mapped
from gzlib.data.loader import Loader, MappedLoader, free_bytes, open_loader, resident_bytes


@pytest.fixture
def survey(tmp_path):
    """300 random pictures of 8 px, memory-mapped as a survey's are, and their labels."""
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (300, 8, 8, 3), np.uint8))
    return np.load(tmp_path / "images.npy", mmap_mode="r"), np.arange(300)


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("options", [{}, {"augment": Augment(erase=2)}, {"augment": Augment(), "rank": 1, "world": 3}])
def test_same_batches_as_the_resident_loader(survey, options):
    index = np.random.default_rng(1).permutation(300)[:50]
    options = options | {"batch_size": 16, "seed": 3}
    resident, lazy = Loader(*survey, index, **options), MappedLoader(*survey, index, **options)
    for step in (0, 1, 2, 3, 4, 5, 40, 39, 3):  # on, and after a jump as a resumed run makes it
        assert same(resident.batch(step), lazy.batch(step)), step


def test_same_plain_views_as_the_resident_loader(survey):
    resident, lazy = (kind(*survey, np.arange(299, -1, -1), batch_size=16) for kind in (Loader, MappedLoader))
    for _ in range(2):
        pairs = list(zip(resident.plain(), lazy.plain(), strict=True))
        assert len(pairs) == 2
        assert all(same(*pair) for pair in pairs)
    one, other = MappedLoader(*survey, np.arange(9), batch_size=300).plain(), lazy.plain()
    assert len(next(one)[1]) == 9 and len(next(other)[1]) == 256


def test_pictures_are_read_ahead_and_no_further(survey):
    loader = MappedLoader(*survey, np.arange(300), batch_size=10)
    read = []
    plain_read = loader._read
    loader._read = lambda rows: read.append(rows) or plain_read(rows)
    loader.batch(0)
    loader._readers.shutdown()
    assert len(read) == mapped.AHEAD + 1
    np.testing.assert_array_equal(np.concatenate(sorted(read, key=lambda r: r[0])).size, 10 * (mapped.AHEAD + 1))


def test_a_reader_s_error_reaches_the_training_loop(survey):
    loader = MappedLoader(*survey, np.arange(300), batch_size=10)

    def broken(rows):
        raise OSError("the disk is gone")

    loader._read = broken
    with pytest.raises(OSError, match="disk is gone"):
        loader.batch(0)


def test_what_fits_half_of_the_free_memory_is_resident(survey, monkeypatch):
    images, labels = survey
    need = resident_bytes(images, np.arange(100))
    assert need == 100 * 8 * 8 * 3
    kind = lambda **kw: type(open_loader(images, labels, np.arange(100), batch_size=4, **kw))  # noqa: E731
    assert kind() is Loader
    monkeypatch.setattr(mapped, "free_bytes", lambda device: 2 * need)
    assert kind() is Loader
    monkeypatch.setattr(mapped, "free_bytes", lambda device: 2 * need - 2)
    assert kind() is MappedLoader
    assert kind(memory=need) is Loader
    assert free_bytes("cpu") > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
def test_same_batches_on_a_gpu(survey):
    options = {"batch_size": 16, "augment": Augment()}
    there = MappedLoader(*survey, np.arange(300), device="cuda", **options)
    here = Loader(*survey, np.arange(300), **options)
    for step in range(8):
        (a, k), (b, m) = there.batch(step), here.batch(step)
        assert torch.equal(k.cpu(), m)
        assert (a.cpu() - b).abs().max() < 1e-4
