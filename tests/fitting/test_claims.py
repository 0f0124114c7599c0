import numpy as np
import pytest
import xarray as xr
from scipy import stats

from gzlib.errors import UserError
from gzlib.fitting.compare import holm, slope_test
from gzlib.study.tables import in_words


def curves(slopes, *, noise=0.01, seed=0, sizes=(100, 200, 400, 800)):
    rng = np.random.default_rng(seed)
    sizes = np.array(sizes, float)
    log_loss = -np.asarray(slopes)[:, None, None] * np.log(sizes)[None, :, None]
    values = np.exp(log_loss + noise * rng.standard_normal((len(slopes), len(sizes), 3)))
    return xr.DataArray(
        values,
        dims=("question", "n_train", "seed"),
        coords={"question": [f"q{i}" for i in range(len(slopes))], "n_train": sizes, "seed": [0, 1, 2]},
    )


def test_slope_is_that_of_an_ordinary_regression_over_runs():
    loss = curves([0.2, 0.0])
    loss[1, 2, 1] = np.nan  # a run that is missing is left out
    found = slope_test(loss, "n_train")
    for i in range(2):
        one = np.log(loss[i])
        size = np.log(loss.n_train).broadcast_like(one)
        keep = np.isfinite(one.values)
        expected = stats.linregress(size.values[keep], one.values[keep])
        assert float(found.slope[i]) == pytest.approx(expected.slope)
        assert float(found.p[i]) == pytest.approx(expected.pvalue)
        assert float(found.high[i] - found.slope[i]) == pytest.approx(
            expected.stderr * stats.t.ppf(0.975, keep.sum() - 2)
        )


def test_interval_holds_the_truth_as_often_as_it_says():
    inside = slope_test(curves([0.1] * 600), "n_train", level=0.9)
    share = float(((inside.low <= -0.1) & (inside.high >= -0.1)).mean())
    assert 0.86 < share < 0.94


def test_too_few_runs_are_not_tested_and_sizes_must_be_positive():
    loss = curves([0.1]).isel(n_train=[0])
    assert np.isnan(slope_test(loss, "n_train").p).all()
    two = curves([0.1]).isel(n_train=[0, 1], seed=0, drop=True)
    assert np.isnan(slope_test(two, "n_train").slope).all()
    with pytest.raises(UserError, match="must be positive"):
        slope_test(curves([0.1]).assign_coords(n_train=[0.0, 1.0, 2.0, 3.0]), "n_train")


def test_holm_of_a_known_case_keeps_order_and_leaves_untested_out():
    p = xr.DataArray([0.01, 0.04, np.nan, 0.03], dims="q")
    adjusted = holm(p)
    np.testing.assert_allclose(adjusted, [0.03, 0.06, np.nan, 0.06])
    assert isinstance(adjusted, xr.DataArray)
    assert holm(np.array([0.9, 0.8])).max() == 1
    assert holm(np.array([])).size == 0


def test_holm_holds_the_level_of_the_family():
    rng = np.random.default_rng(1)
    false_alarms = [(holm(rng.uniform(size=20)) < 0.05).any() for _ in range(1000)]
    assert np.mean(false_alarms) < 0.07


def test_outcome_in_words():
    assert in_words([True, True], "questions") == "yes: all 2 questions"
    assert in_words([True, False], "questions") == "in part: 1 of 2 questions"
    assert in_words(np.zeros((2, 2), bool), "curves") == "no: none of 4 curves"
    assert in_words([], "tasks") == "not tested: there are no tasks"
