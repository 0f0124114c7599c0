import numpy as np
import pytest
from scipy.stats import multinomial

from gzlib.data.floor import dirichlet_fit, vote_floor
from gzlib.errors import UserError


def votes(n=1500, alpha=(0.8, 1.5, 0.4), low=15, high=45, seed=0):
    rng = np.random.default_rng(seed)
    probability = np.maximum(rng.dirichlet(alpha, n), 1e-12)
    probability /= probability.sum(axis=1, keepdims=True)
    total = rng.integers(low, high, n)
    return probability, rng.multinomial(total, probability)


def test_dirichlet_is_recovered_from_counts():
    _, counts = votes(4000)
    np.testing.assert_allclose(dirichlet_fit(counts), [0.8, 1.5, 0.4], rtol=0.1)


def test_floor_is_the_loss_of_a_predictor_that_knows_the_truth():
    probability, counts = votes()
    perfect = -multinomial.logpmf(counts, counts.sum(axis=1), probability)
    floor, stderr = vote_floor(counts)
    assert floor == pytest.approx(perfect.mean(), abs=4 * (stderr + perfect.std() / np.sqrt(len(perfect))))
    plug_in = -multinomial.logpmf(counts, counts.sum(axis=1), counts / counts.sum(axis=1, keepdims=True)).mean()
    assert plug_in < floor - 10 * stderr  # predicting the votes themselves would look better than the truth


def test_galaxies_that_were_not_asked_count_nothing():
    _, counts = votes(200)
    padded = np.concatenate([counts, np.zeros((50, 3), int)])
    assert vote_floor(padded) == vote_floor(counts)


@pytest.mark.parametrize("counts", [[[1, -1]], [[0.5, 1]], [1, 2]])
def test_counts_that_are_no_votes_are_refused(counts):
    with pytest.raises(UserError, match="whole, non-negative"):
        vote_floor(counts)
    with pytest.raises(UserError, match="No galaxy"):
        vote_floor(np.zeros((3, 2)))
