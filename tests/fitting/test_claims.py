import numpy as np
import pytest
import xarray as xr
from scipy import stats

from gzlib.errors import UserError
from gzlib.fitting.claims import encoder_effect, false_discovery, holm, random_effects, size_verdict, slope_test
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


WIDTHS = xr.DataArray([1e4, 1e5, 1e6, 5e6, 2e5, 2e6], dims="encoder", coords={"encoder": [*"abcdef"]})
FAMILY = xr.DataArray([*"rrrrcc"], dims="encoder", coords={"encoder": [*"abcdef"]})


def study(rng, *, slope=0.0, scatter=0.02, seeds=0.02, questions=1, sizes=4):
    """(question, encoder, n_train, seed) excess losses with a random effect of each encoder on each question."""
    own = scatter * rng.standard_normal((questions, 6, 1, 1)) + slope * np.log10(WIDTHS.values)[:, None, None]
    fall = -0.3 * np.log(2.0) * np.arange(sizes)[:, None] + 0.4 * (FAMILY.values == "c")[:, None, None]
    values = np.exp(own + fall + seeds * rng.standard_normal((questions, 6, sizes, 2)))
    coords = {"encoder": WIDTHS.encoder, "n_train": 1000 * 2 ** np.arange(sizes), "seed": [0, 1]}
    return xr.DataArray(values, dims=["question", "encoder", "n_train", "seed"], coords=coords)


def test_an_effect_of_size_is_found_beside_families_and_training_sets():
    rng = np.random.default_rng(0)
    found = encoder_effect(study(rng, slope=-0.2, questions=40), parameters=WIDTHS, family=FAMILY)
    assert found.slope.mean() == pytest.approx(-0.2, abs=0.01) and (found.dof == 3).all()
    assert (found.encoders == 6).all() and (found.p < 0.05).mean() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("scatter", [0.01, 0.02, 0.04])
def test_encoders_that_merely_scatter_are_no_effect_of_size(scatter):
    """What took seeds for encoders found an effect in most of these."""
    rng = np.random.default_rng(1)
    found = encoder_effect(study(rng, scatter=scatter, questions=3000), parameters=WIDTHS, family=FAMILY)
    assert (found.p < 0.05).mean().item() == pytest.approx(0.05, abs=0.015)
    covered = (found.low < 0) & (found.high > 0)
    assert covered.mean().item() == pytest.approx(0.95, abs=0.015)


def test_missing_runs_leave_the_others_as_they_are():
    rng = np.random.default_rng(2)
    whole = study(rng, slope=-0.2, scatter=0.0, seeds=0.0)
    holes = whole.where(~((whole.encoder == "d") & (whole.n_train > 1000)))
    holes = holes.where(~((holes.encoder == "a") & (holes.seed == 1)))
    found = encoder_effect(holes, parameters=WIDTHS, family=FAMILY)
    assert found.slope.item() == pytest.approx(-0.2, abs=1e-9)


def test_too_few_encoders_are_not_tested():
    few = study(np.random.default_rng(3)).isel(encoder=[0, 1])
    found = encoder_effect(few, parameters=WIDTHS)
    assert np.isnan(found.slope).all() and (found.encoders == 2).all()
    assert (size_verdict(found, bound=0.02) == "not tested").all()
    alone = study(np.random.default_rng(3)).isel(encoder=[0, 4])  # two families of one encoder each
    assert np.isnan(encoder_effect(alone, parameters=WIDTHS, family=FAMILY).slope).all()
    with pytest.raises(UserError, match="above zero"):
        encoder_effect(few, parameters=WIDTHS * 0)


def test_verdicts_tell_a_gain_from_a_gain_too_small_to_matter():
    rng = np.random.default_rng(4)
    parts = [study(rng, slope=slope, scatter=scatter) for slope, scatter in ((-0.3, 0.02), (0.0, 0.001), (0.0, 0.5))]
    found = encoder_effect(xr.concat(parts, "question"), parameters=WIDTHS, family=FAMILY)
    assert size_verdict(found, bound=0.02).values.tolist() == ["helps", "helps by less", "undecided"]


def test_random_effects_give_mean_and_spread_back_and_cover_them():
    rng = np.random.default_rng(5)
    held, spread_held = [], []
    for _ in range(800):
        stderr = rng.uniform(0.01, 0.03, 7)
        value = 0.3 + 0.03 * rng.standard_normal(7) + stderr * rng.standard_normal(7)
        found = random_effects(value, stderr)
        held.append(found["low"] < 0.3 < found["high"])
        spread_held.append(found["spread_low"] <= 0.03 <= found["spread_high"])
    assert np.mean(held) == pytest.approx(0.95, abs=0.025) and np.mean(spread_held) == pytest.approx(0.95, abs=0.025)


def test_random_effects_of_equal_estimates_have_no_spread():
    found = random_effects([0.3, 0.3, 0.3, np.nan], [0.01, 0.02, 0.03, 0.01])
    assert found["mean"] == pytest.approx(0.3) and found["spread"] == 0 and found["estimates"] == 3
    assert np.isnan(random_effects([0.3], [0.1])["mean"])


def test_false_discoveries_are_counted_among_tests_alone():
    p = np.array([0.01, np.nan, 0.02, 0.03, 0.5])
    np.testing.assert_allclose(false_discovery(p), [0.04, np.nan, 0.04, 0.04, 0.5])
    assert np.isnan(false_discovery(np.array([np.nan]))).all()
