import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from gzlib.errors import UserError
from gzlib.fitting import ensemble
from gzlib.fitting.ensemble import MEMBERS, Pilot, look_ahead
from gzlib.fitting.fits import fit_curves
from gzlib.fitting.forecasting import (
    clean_curve,
    extrapolate,
    find_origins,
    forecast,
    read_prior,
    spot_checkpoints,
    stack_members,
)
from gzlib.fitting.laws import LAWS, Law, Parameter
from gzlib.fitting.planner import (
    compare_options,
    judge_forecast,
    labels_needed,
    load_forecast,
    next_run,
    store_forecast,
)

SIZES = np.array([300, 1000, 3000, 10000, 30000, 100000.0])


def value(array):
    return np.asarray(array).item()


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
    assert ahead.attrs["calibrated"] and ahead.attrs["n_origins"] == 36


def test_band_knows_when_the_law_is_wrong():
    widths = []
    for bend in (0.0, 0.06):
        mean, loss = study(bend=bend, sd=0.003)
        ahead = forecast(loss, 2e5)
        widths.append(float(np.log(ahead.upper / ahead.lower).median()))
        assert np.mean((ahead.lower.values <= mean(2e5)) & (mean(2e5) <= ahead.upper.values)) >= 0.8
    assert widths[1] > 1.3 * widths[0]


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
    with pytest.raises(UserError, match="no curves"):
        extrapolate([], [])


def test_extrapolate_agrees_with_the_labelled_forecast():
    _, loss = study(n=3)
    curves = [(SIZES, np.exp(np.log(loss[i]).mean("seed").values)) for i in range(3)]
    results, info = extrapolate(curves, [np.array([2e5])] * 3, levels=(0.95,))
    ahead = forecast(loss, 2e5)
    np.testing.assert_allclose(
        [np.exp(result.log_median[0]) for result in results], ahead["loss"].values[:, 0], rtol=0.01
    )
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
            "reachable": ("encoder", [0.9, 0.8, 0.1]),
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


def test_origins_never_see_beyond_their_end():
    rng = np.random.default_rng(0)
    dense = np.log(np.sort(rng.uniform(1, 1000, 60)))
    for log_x, fewest in ((dense, 6), (np.log(SIZES), 3)):
        found = find_origins(log_x)
        assert found and all(kept >= fewest and ahead.min() >= kept for kept, ahead, _ in found)
    assert [kept for kept, _, _ in find_origins(np.log(SIZES))] == [3, 4, 5]
    assert all(log_x <= dense[kept - 1] + np.log(2) + 1e-6 for kept, a, _ in find_origins(dense) for log_x in dense[a])


def test_members_give_back_a_clean_law():
    x = np.geomspace(1, 1000, 30)
    pilot = Pilot(np.log(x), np.log(0.2 + 0.5 * x**-0.5), np.ones(30))
    said = look_ahead([pilot], [np.log([2000.0])])[0]
    weights = stack_members(np.zeros((0, len(MEMBERS))), np.zeros(0), read_prior(), np.ones(len(MEMBERS), bool))
    assert np.exp(weights[0] @ said.mean)[0] == pytest.approx(0.2 + 0.5 * 2000**-0.5, rel=6e-3)


def test_members_that_were_right_get_the_weight():
    errors = np.full((4, len(MEMBERS)), 0.02)
    errors[:, 7] = 0.005
    errors[:, 8] = 0.006
    weights = stack_members(errors, np.full(4, 50.0), read_prior(), np.ones(len(MEMBERS), bool))
    assert weights.sum(axis=1) == pytest.approx([1, 1]) and weights[0].argmax() == 7 and weights[0, 9] < 0.1


def test_a_band_does_not_depend_on_what_else_is_asked():
    _, loss = study(n=3)
    one, many = forecast(loss, 2e5), forecast(loss, [2e5, 1e6, 1e8])
    for key in ("loss", "lower", "upper"):
        np.testing.assert_allclose(one[key], many[key].sel(n_train=[2e5]))


def test_strangers_do_not_spoil_a_band():
    rng = np.random.default_rng(1)
    _, loss = study(n=1, sd=0.003)
    noise = 1 + 0.4 * rng.uniform(-1, 1, (11, len(SIZES), 3))
    strangers = xr.DataArray(noise, dims=loss.dims, coords={"n_train": SIZES})
    alone, among = forecast(loss, 4e5), forecast(xr.concat([loss, strangers], "question"), 4e5).isel(question=[0])
    width = [float(np.log(band.upper / band.lower)[0, 0]) for band in (alone, among)]
    assert width[1] < 2 * width[0]


def test_fewer_data_make_a_wider_band():
    _, loss = study(n=1, sd=0.02, seed=3)
    widths = []
    for sizes, seeds in ((6, 3), (6, 1), (3, 1)):
        part = loss.isel(n_train=slice(0, sizes), seed=slice(0, seeds))
        ahead = forecast(part, 4 * SIZES[sizes - 1])
        widths.append(float(np.log(ahead.upper / ahead.lower)[0, 0]))
    assert widths[0] < widths[1] < widths[2]


def test_the_number_of_runs_at_a_size_counts():
    x = np.geomspace(100, 3200, 6)
    values = 0.2 + 0.5 * (x / 100) ** -0.4
    values[-1] *= 1.06
    ends = []
    for seeds in (1, 20):
        loss = np.full((1, 6, 20), np.nan)
        loss[..., 0] = values
        loss[0, -1, :seeds] = values[-1]
        curve = xr.DataArray(loss, dims=("question", "n_train", "seed"), coords={"n_train": x})
        ends.append(float(forecast(curve, 6400)["loss"][0, 0]))
    assert ends[1] > ends[0] * 1.005  # twenty runs that lie high say more than one


def test_a_new_run_without_replicates_has_its_noise_estimated_and_says_so():
    _, loss = study(n=1, sd=0.02)
    bare = loss.isel(seed=[0])
    mean, new = forecast(bare, 2e5), forecast(bare, 2e5, kind="new_run")
    assert value(np.log(new.upper / new.lower)) > value(np.log(mean.upper / mean.lower)) * 1.01
    assert "estimated from the scatter" in new.status.item() and "estimated" not in mean.status.item()


def test_a_known_floor_and_a_chosen_law_enter_the_forecast():
    mean, loss = study(n=1, sd=0.01, seed=5)
    E = value(mean(1e30)[0, 0])
    free, floored = forecast(loss, 1e7), forecast(loss, 1e7, floor=E, floor_sd=0.002)
    truth = value(mean(1e7)[0, 0])
    assert value(floored.lower) >= E * (1 - 1e-9) and abs(np.log(value(floored["loss"]) / truth)) < abs(
        np.log(value(free["loss"]) / truth)
    )
    assert value(floored.upper - floored.lower) < value(free.upper - free.lower)
    assert value(floored.lower) < truth < value(floored.upper)
    for law, bends in (("power", False), ("power-offset", True), ("shifted-power", True)):
        ahead = forecast(loss, [1e6, 1e9], law=law)["loss"][0].values
        falls = np.log(ahead[0] / ahead[1]) / np.log(1e3)
        assert (falls < 0.05) == bends, (law, falls)
    with pytest.raises(UserError, match="floor 9 is not below"):
        forecast(loss, 1e6, floor=9.0)


def test_a_law_of_a_users_own_is_forecast_with():
    law = Law(
        "logarithmic",
        "A ln(1 + k/x)",
        "made for this test",
        lambda x, A, k: A * np.log1p(k / x),
        {"A": Parameter(1e-12, np.inf, "loss", ""), "k": Parameter(1e-6, 1e6, "x_ref", "")},
        ("A",),
        {"k": np.geomspace(0.01, 100, 13)},
    )
    x = np.array([100, 200, 400, 800, 1600, 3200.0])
    values = law.function(x / 500, 0.5, 2.0) * np.exp(0.003 * np.random.default_rng(0).standard_normal((1, 6)))
    ahead = forecast(xr.DataArray(values, dims=("c", "n_train"), coords={"n_train": x}), 12_800, law=law)
    assert value(ahead["loss"]) == pytest.approx(law.function(12_800 / 500, 0.5, 2.0), rel=0.03)
    broken = forecast(xr.DataArray(values, dims=("c", "n_train"), coords={"n_train": x}), 12_800, law="broken-power")
    assert 0 < value(broken.lower) < value(broken.upper)
    with pytest.raises(UserError, match="several sizes"):
        forecast(xr.DataArray(values, dims=("c", "n_train"), coords={"n_train": x}), 1e5, law=LAWS["chinchilla"])


def test_checkpoints_of_one_run_are_recognised_and_said():
    rng = np.random.default_rng(2)
    even = np.arange(1, 21) * 500.0
    curve = 0.2 + 0.5 * even**-0.3
    assert spot_checkpoints(even, curve, np.ones(20)) and not spot_checkpoints(even, curve, np.full(20, 3))
    apart = np.geomspace(100, 1e5, 20)
    law = 0.2 + 3 * apart**-0.5
    assert not spot_checkpoints(apart, law * np.exp(0.02 * rng.standard_normal(20)), np.ones(20))
    wander = np.exp(0.02 * np.cumsum(rng.standard_normal(20)))
    assert spot_checkpoints(apart, law * wander, np.ones(20))
    assert not spot_checkpoints(SIZES, np.linspace(1, 0.5, 6), np.ones(6))
    loss = xr.DataArray(curve, dims="n_train", coords={"n_train": even})
    assert bool(forecast(loss, 2e4).checkpoints) and "checkpoints of one run" in forecast(loss, 2e4).status.item()
    assert "checkpoints" not in forecast(loss, 2e4, checkpoints=False).status.item()


def test_a_single_short_curve_says_that_its_band_is_the_priors():
    _, loss = study(n=1, sizes=SIZES[:3])
    ahead = forecast(loss, 1e5)
    assert not ahead.attrs["calibrated"] and bool((ahead.upper > ahead.lower).all())
    assert "public curves alone" in ahead.status.item()


def test_bands_of_few_sizes_hold_their_share_and_stay_narrow():
    mean, loss = study(n=40, sd=0.02, seed=7)
    ahead, truth = forecast(loss, [2e5, 8e5]), mean([2e5, 8e5])
    inside = (ahead.lower.values <= truth) & (truth <= ahead.upper.values)
    assert 0.88 <= inside.mean() <= 1.0
    assert float(np.log(ahead.upper / ahead.lower).median()) < 0.12


def test_nearly_exact_curves_with_replicates_are_continued_exactly():
    mean, loss = study(n=4, sd=0.0005, seed=2)
    ahead = forecast(loss, 4e5)
    np.testing.assert_allclose(ahead["loss"].values, mean(4e5), rtol=3e-3)
    assert float(np.log(ahead.upper / ahead.lower).max()) < 0.05


def test_a_law_that_misses_the_means_is_mistrusted():
    _, loss = study(n=3, sd=0.003)
    bent = loss * np.exp(0.05 * np.array([1, -1, 1, -1, 1, -1.0]))[:, None]
    widths = [float(np.log(band.upper / band.lower).median()) for band in (forecast(loss, 2e5), forecast(bent, 2e5))]
    assert widths[1] > 4 * widths[0]


def test_few_even_draws_stand_for_the_whole_posterior(monkeypatch):
    x = 1000 * 2.0 ** np.arange(5)
    pilots = [Pilot(np.log(x), np.log(0.3 + (x / 1000) ** -power), np.ones(5)) for power in (0.2, 0.5)]
    noise = ensemble.noise_prior(pilots, np.zeros((1, len(ensemble.SIGMA))), np.zeros((2, 1)))
    drawn = ensemble.draw_laws(pilots, np.tile(np.log([2.0, 8.0]), (2, 1)), noise)
    few = drawn.even()
    assert all(share.sum() == pytest.approx(1) and len(share) <= ensemble.EVEN for _, share in few)
    aside = [(np.zeros(2), np.ones(2), 4.0)] * 2
    wanted, rest = [0.025, 0.16, 0.5, 0.84, 0.975], (False, np.full(2, 0.02), aside)
    found = ensemble.mixture_quantiles(drawn, wanted, *rest)
    monkeypatch.setattr(ensemble, "EVEN", 100_000)
    whole = ensemble.mixture_quantiles(drawn, wanted, *rest)
    assert np.all(np.abs(found - whole) < 0.05 * (whole[:, -1:] - whole[:, :1]))


def test_a_table_is_read_as_numpy_reads_it():
    table = ensemble.stdtr(3.0, ensemble._FAR)
    ends = ensemble._FAR[[0, -1]]
    at = np.concatenate([np.linspace(-100, 100, 9999), ensemble._FAR, ends * 1.5, [np.inf, -np.inf]])
    np.testing.assert_allclose(ensemble._between(table)(at), np.interp(at, ensemble._FAR, table), rtol=1e-9)


def test_the_centre_with_replicates_is_near_what_laws_allow_and_does_not_depend_on_other_sizes():
    mean, loss = study(n=6, sd=0.003)
    far = forecast(loss, [4e5, 8e5])
    np.testing.assert_allclose(far["loss"].isel(n_train=1), forecast(loss, 8e5)["loss"].isel(n_train=0), rtol=1e-9)
    assert bool(((far["lower"] < far["loss"]) & (far["loss"] < far["upper"])).all())
    assert float(np.abs(np.log(far["loss"].isel(n_train=0) / mean(4e5)[:, 0])).mean()) < 0.02
