import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import t as student

from gzlib.errors import UserError
from gzlib.fitting.claims import judge_forecast, load_forecast, store_forecast
from gzlib.fitting.ensemble import MEMBERS, find_origins, fit_members, member_weights, predict_members
from gzlib.fitting.fits import fit_curves
from gzlib.fitting.forecasting import clean_curve, error_quantiles, extrapolate, fit_scale, forecast, weighted_quantile
from gzlib.fitting.planner import compare_options, labels_needed, next_run

SIZES = np.array([300, 1000, 3000, 10000, 30000, 100000.0])


def study(n=12, sd=0.01, seed=0, sizes=SIZES, bend=0.0):
    rng = np.random.default_rng(seed)
    E, A, alpha = rng.uniform(0.1, 0.4, n), rng.uniform(0.1, 0.4, n), rng.uniform(0.25, 0.6, n)

    def mean(x):
        curve = E[:, None] + A[:, None] * (np.atleast_1d(x) / 1e4) ** -alpha[:, None]
        return curve * np.exp(bend * np.sin(0.8 * np.log(np.atleast_1d(x))))

    loss = mean(sizes)[..., None] * np.exp(sd * rng.standard_normal((n, len(sizes), 3)))
    return mean, xr.DataArray(loss, dims=("question", "n_train", "seed"), coords={"n_train": sizes})


def test_forecast_hits_the_truth_inside_its_band():
    mean, loss = study()
    ahead = forecast(loss, [2e5, 1e6])
    truth = mean([2e5, 1e6])
    assert ahead["loss"].dims == ("question", "n_train") and bool(ahead.forecasted.all())
    assert np.sqrt(np.mean(np.log(ahead["loss"].values / truth) ** 2)) < 0.03
    inside = (ahead.lower.values <= truth) & (truth <= ahead.upper.values)
    assert inside.mean() >= 0.9
    assert bool((np.log(ahead.upper / ahead.lower).diff("n_train") > 0).all())
    assert ahead.attrs["calibrated"] and ahead.attrs["n_origins"] == 24


def test_band_knows_when_the_law_is_wrong():
    widths = []
    for bend in (0.0, 0.06):
        mean, loss = study(bend=bend, sd=0.003)
        ahead = forecast(loss, 2e5)
        widths.append(float(np.log(ahead.upper / ahead.lower).median()))
        assert np.mean((ahead.lower.values <= mean(2e5)) & (mean(2e5) <= ahead.upper.values)) >= 0.8
    assert widths[1] > 2 * widths[0]


def test_new_run_band_is_wider_than_the_mean_band():
    _, loss = study()
    mean, new = forecast(loss, 2e5), forecast(loss, 2e5, kind="new_run")
    assert bool((new.upper > mean.upper).all()) and bool((new.lower < mean.lower).all())
    np.testing.assert_allclose(new["loss"], mean["loss"])


def test_curves_without_enough_sizes_stay_in_the_result_as_nan():
    _, loss = study(n=4)
    loss[1, 2:] = np.nan
    ahead = forecast(loss, 2e5)
    assert list(ahead.forecasted.values) == [True, False, True, True]
    assert np.isnan(ahead["loss"][1, 0]) and bool(ahead["loss"][[0, 2, 3]].notnull().all())
    with pytest.raises(UserError, match="No curve has 3 sizes"):
        forecast(loss.isel(question=[1]), 2e5)


def test_forecast_does_not_depend_on_units_or_order():
    _, loss = study(n=5)
    base = forecast(loss, 3e5)
    shuffled = forecast(loss.isel(n_train=[3, 0, 5, 1, 4, 2]), 3e5)
    scaled = forecast((loss * 7.0).assign_coords(n_train=loss.n_train * 10), 3e6)
    np.testing.assert_allclose(shuffled["loss"], base["loss"], rtol=1e-6)
    np.testing.assert_allclose(scaled["loss"], 7 * base["loss"], rtol=2e-4)
    np.testing.assert_allclose(scaled.upper / scaled.lower, base.upper / base.lower, rtol=2e-3)


def test_forecast_refuses_bad_input_in_one_sentence():
    _, loss = study(n=2)
    with pytest.raises(UserError, match="positive"):
        forecast(loss, -1)
    with pytest.raises(UserError, match="'both'"):
        forecast(loss, 1e6, kind="both")
    with pytest.raises(UserError, match="curve a: the loss 0.0"):
        clean_curve([1, 2, 3], [1, 0, 1], name="curve a")
    with pytest.raises(UserError, match="2 distinct sizes"):
        clean_curve([1, 2, 2], [1, 1, 1])


def test_short_single_curve_says_that_it_is_not_calibrated():
    _, loss = study(n=1, sizes=SIZES[:4])
    ahead = forecast(loss, 1e5)
    assert not ahead.attrs["calibrated"] and bool((ahead.upper > ahead.lower).all())


def test_origins_never_see_beyond_their_end():
    rng = np.random.default_rng(0)
    dense = (np.sort(rng.uniform(1, 1000, 60)), rng.uniform(0.5, 1, 60))
    sparse = (SIZES, np.linspace(1, 0.5, 6))
    origins = find_origins([dense, sparse], np.array([2.0, 10.0]))
    assert {origin.curve for origin in origins} == {0, 1}
    for origin in origins:
        assert origin.kept[0].max() < origin.ahead[0].min()
        lead = 2.0 if origin.curve == 0 else np.inf
        assert origin.ahead[0].max() <= origin.kept[0].max() * lead * (1 + 1e-6)
    assert [len(origin.kept[0]) for origin in origins if origin.curve == 1] == [4, 5]


def test_ensemble_gives_weight_to_what_was_right():
    errors = np.array([[0.01, 0.02, 0.011], [0.01, 0.03, 0.011]])
    weights = member_weights(errors, np.ones(2))
    assert weights.sum() == pytest.approx(1) and weights[0] > weights[2] > 100 * weights[1]


def test_members_recover_a_clean_law():
    x = np.geomspace(1, 1000, 30)
    curve = (x, 0.2 + 0.5 * x**-0.5)
    fitted, last = fit_members(MEMBERS, [curve])
    logs = predict_members(MEMBERS, fitted, last, 0, np.array([2000.0]))
    plain = [k for k, member in enumerate(MEMBERS) if member.law == "power-offset" and member.prior is None]
    np.testing.assert_allclose(np.exp(logs[plain, 0]), 0.2 + 0.5 * 2000**-0.5, rtol=1e-4)


def test_too_short_a_curve_takes_the_others_median():
    curve = (np.array([1.0, 2, 4, 8]), np.array([1.0, 0.8, 0.7, 0.65]))
    fitted, last = fit_members(MEMBERS, [curve])
    logs = predict_members(MEMBERS, fitted, last, 0, np.array([16.0]))
    assert np.all(np.isfinite(logs))


def test_scale_model_finds_which_feature_drives_the_error():
    rng = np.random.default_rng(0)
    features = rng.uniform(0.1, 1, (4000, 3)) ** 2
    errors = np.sqrt(4 * features[:, 1]) * rng.standard_t(4, 4000)
    coefficients = fit_scale(features, errors, np.full(4000, 1 / 4000))
    assert coefficients[1] == pytest.approx(4, rel=0.15) and coefficients[[0, 2]].max() < 0.4


def test_quantiles_of_many_curves_hold_at_the_worst_rank():
    rng = np.random.default_rng(1)
    standardised = np.abs(np.concatenate([rng.standard_normal(2000), 3 * rng.standard_normal(2000)]))
    curve, rank = np.tile(np.repeat(np.arange(40), 50), 2), np.repeat([0, 1], 2000)
    half = error_quantiles(standardised, np.ones(4000), np.ones(4000), curve, rank, [0.5, 0.95])
    assert half[1] == pytest.approx(3 * 2.1, rel=0.15) and half[0] == pytest.approx(3 * 0.68, rel=0.15)
    assert weighted_quantile(np.array([3.0, 1, 2]), 0.5, np.array([1.0, 1, 1])) == 2


def test_quantiles_of_few_curves_pool_the_ends_and_allow_for_their_number():
    rng = np.random.default_rng(2)
    z, curve, rank = np.abs(rng.standard_normal(50)), np.repeat(np.arange(10), 5), np.tile(np.arange(5), 10)
    alike = error_quantiles(z, np.ones(50), np.ones(50), curve, rank, [0.5, 0.95])
    assert alike[1] >= student.ppf(0.975, 51) * np.sqrt(np.mean(z**2)) * (1 - 1e-9)
    late = error_quantiles(z, np.ones(50), np.where(rank == 0, 1.0, 1e-6), curve, rank, [0.95])
    assert late[0] >= z[rank == 0].max() * (1 - 1e-9)  # ten ends: the level of a 95 % band is raised to the largest
    one = error_quantiles(np.full(4, 0.01), np.ones(4), np.ones(4), np.zeros(4, int), np.arange(4), [0.95])
    assert one[0] == pytest.approx(student.ppf(0.975, 2))  # one curve: its scale counts as at least one


def test_extrapolate_agrees_with_the_labelled_forecast():
    _, loss = study(n=3)
    curves = [(SIZES, np.exp(np.log(loss[i]).mean("seed").values)) for i in range(3)]
    results, info = extrapolate(curves, [np.array([2e5])] * 3, levels=(0.95,))
    ahead = forecast(loss, 2e5)
    np.testing.assert_allclose([np.exp(result.log_median[0]) for result in results], ahead["loss"].values[:, 0])
    assert info["weights"].sum() == pytest.approx(1)


def test_labels_needed_brackets_the_true_size():
    bracketed = []
    for seed in range(8):
        mean, loss = study(n=1, sd=0.005, seed=seed)
        needed = labels_needed(loss, float(mean(4e5)[0, 0]))
        low, middle, high = (float(needed[key][0]) for key in ("labels_low", "labels", "labels_high"))
        assert low < middle < high and str(needed.status[0].item()) == "forecast"
        bracketed.append(low < 4e5 < high)
    assert sum(bracketed) >= 7  # of eight bands of 95 %


def test_labels_needed_says_when_the_target_is_met_or_out_of_reach():
    _, loss = study(n=2)
    easy = labels_needed(loss, float(loss.max()))
    assert set(easy.status.values) == {"already reached"}
    hard = labels_needed(loss, 1e-3)
    assert set(hard.status.values) == {"out of reach"} and bool(np.isinf(hard.labels).all())
    with pytest.raises(UserError, match="target loss is -1"):
        labels_needed(loss, -1)


def test_options_are_ranked_by_cost_with_the_unreachable_last():
    needed = xr.Dataset(
        {
            "labels": ("encoder", [1000.0, 400, np.inf]),
            "labels_low": ("encoder", [800.0, 300, 500]),
            "labels_high": ("encoder", [2000.0, 900, np.inf]),
            "status": ("encoder", ["forecast", "forecast", "out of reach"]),
        },
        coords={"encoder": ["small", "large", "tiny"]},
    )
    rows = compare_options(
        needed,
        cost_per_label=0.1,
        cost_per_gpu_hour=3,
        owned_labels=100,
        gpu_hours=lambda option, n: n / 10 if option["encoder"] == "large" else 0,
    )
    assert [row["encoder"] for row in rows] == ["small", "large", "tiny"]
    assert rows[0]["cost"] == pytest.approx(90) and rows[1]["cost"] == pytest.approx(30 + 120)
    assert rows[1]["cost_low"] == pytest.approx(20 + 90) and np.isinf(rows[2]["cost"])


def test_next_run_prefers_the_far_end_and_agrees_with_a_refit():
    _, loss = study(n=3, sd=0.01)
    fits = fit_curves(loss, draws=0)
    plan = next_run(fits, 1e6, [300, 3000, 3e4, 3e5])
    assert bool((plan.best == 3e5).all()) and bool((plan.shrink > 0).all()) and bool((plan.shrink < 1).all())
    cheap = next_run(fits, 1e6, [300, 3000, 3e4, 3e5], cost=lambda n: n**2)
    assert bool((cheap.best < 3e5).all())
    known = next_run(fits, 1e5, [1e5])
    assert bool((known.sd_after < known.sd_before).all())


def test_stored_forecast_is_sealed_and_judged(tmp_path):
    mean, loss = study(n=3)
    ahead = forecast(loss, [2e5])
    path = tmp_path / "forecasts" / "first.json"
    digest = store_forecast(path, ahead, question="loss at 200000 labels", data_key="abc", date="2026-01-02")
    content = load_forecast(path)
    assert content["date"] == "2026-01-02" and len(content["rows"]) == 3 and len(digest) == 64
    outcome = xr.DataArray(mean([2e5]), dims=("question", "n_train"), coords={"n_train": [2e5], "question": [0, 1, 2]})
    rows = judge_forecast(path, outcome)
    assert sum(row["inside"] for row in rows) >= 2 and all(abs(row["log_error"]) < 0.1 for row in rows)
    unmeasured = judge_forecast(path, outcome.isel(question=[0]))
    assert unmeasured[2]["outcome"] is None and unmeasured[2]["inside"] is None
    with pytest.raises(UserError, match="already"):
        store_forecast(path, ahead, question="again", data_key="abc", date="2026-01-03")
    changed = json.loads(path.read_text())
    changed["rows"][0]["upper"] *= 1.1
    path.write_text(json.dumps(changed))
    with pytest.raises(UserError, match="changed after"):
        load_forecast(path)
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(UserError, match="not a stored forecast"):
        load_forecast(tmp_path / "other.json")
    assert [file.name for file in path.parent.iterdir()] == ["first.json"]


def test_one_bare_curve_is_forecast_too():
    _, loss = study(n=1)
    bare = loss.isel(question=0, seed=0, drop=True)
    ahead = forecast(bare, [2e5])
    assert ahead["loss"].dims == ("n_train",) and float(ahead["loss"][0]) > 0
    assert isinstance(ahead.to_dataframe(), pd.DataFrame)
