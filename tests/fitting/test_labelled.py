import numpy as np
import pytest
import xarray as xr

from gzlib.errors import UserError
from gzlib.fitting.curves import (
    describe_design,
    judge_design,
    noise_of_runs,
    recency_weights,
    run_weights,
    summarise_replicates,
)
from gzlib.fitting.fits import fit_curves
from gzlib.fitting.intervals import predict

SIZES = np.geomspace(1e3, 1e6, 7)


def curves(n_questions=6, n_seeds=3, sd=0.01, seed=0, offset=0.3):
    rng = np.random.default_rng(seed)
    mean = offset + 0.3 * (SIZES / 3e4) ** -0.4
    loss = mean[None, None, :, None] * np.exp(sd * rng.standard_normal((2, n_questions, SIZES.size, n_seeds)))
    return xr.DataArray(
        loss,
        dims=("encoder", "question", "n_train", "seed"),
        coords={"encoder": ["a", "b"], "n_train": SIZES, "question": [f"q{i}" for i in range(n_questions)]},
    )


def test_result_keeps_labels_and_recovers_the_truth():
    fits = fit_curves(curves(), x_ref=3e4)
    assert fits.alpha.dims == ("encoder", "question") and list(fits.question.values) == [f"q{i}" for i in range(6)]
    assert bool(fits.success.all()) and set(fits.verdict.values.ravel()) == {"identified"}
    for name, true in [("E", 0.3), ("A", 0.3), ("alpha", 0.4)]:
        assert float(fits[name].mean()) == pytest.approx(true, abs=0.02)
        assert bool((fits[f"{name}_low"] < fits[name]).all()) and bool((fits[name] < fits[f"{name}_high"]).all())
    assert bool((fits.alpha_without_E < fits.alpha).all())
    assert fits.attrs["x_ref"] == 3e4
    assert float(fits.run_sd.mean()) == pytest.approx(0.01, rel=0.2)


def test_missing_runs_are_refused_or_fitted_but_never_dropped():
    loss = curves()
    loss[0, 0, 2:] = np.nan
    loss[0, 1] = np.nan
    loss[1, 2, 3, 1] = np.nan
    fits = fit_curves(loss)
    assert not bool(fits.success[0, 0]) and "2 distinct values" in str(fits.reason[0, 0].item())
    assert str(fits.message[0, 1].item()).startswith("refused: no runs")
    assert np.isnan(fits.alpha[0, 0].item()) and fits.verdict[0, 0] == "not identified"
    assert int(fits.n_runs[1, 2]) == 20 and bool(fits.success[1, 2])
    assert int(fits.success.sum()) == 10


def test_pure_power_law_gives_a_one_sided_limit():
    fits = fit_curves(curves(offset=0.0, sd=0.02), draws=0)
    one_sided = fits.verdict == "E one-sided only"
    assert float(one_sided.mean()) > 0.7
    assert bool((fits.E_low.where(one_sided, 0) == 0).all()) and bool((fits.E_upper > 0).all())
    assert bool(((fits.alpha_low <= 0.4) & (fits.alpha_high >= 0.4)).mean() > 0.7)


def test_single_runs_take_their_noise_from_the_residuals():
    loss = curves().isel(seed=0, drop=True)
    fits = fit_curves(loss, draws=50)
    assert bool(np.isnan(fits.lack_of_fit_p).all()) and bool((fits.dof == 4).all())
    assert bool(fits.alpha_low.notnull().all())
    repeated = fit_curves(curves(n_seeds=3), draws=0)
    width, narrow = ((f.alpha_high - f.alpha_low).median().item() for f in (fits, repeated))
    assert narrow < width


def test_lack_of_fit_is_seen_and_widens_the_errors():
    loss = curves(sd=0.002)
    bent = loss * xr.where(loss.n_train == SIZES[3], 1.05, 1.0)
    straight, crooked = fit_curves(loss, draws=0), fit_curves(bent, draws=0)
    assert float(crooked.lack_of_fit_p.max()) < 1e-3 and float(straight.lack_of_fit_p.median()) > 0.05
    assert bool((crooked.alpha_stderr > 3 * straight.alpha_stderr).all())


def test_bands_widen_with_the_lead_and_with_run_noise():
    fits = fit_curves(curves())
    x_new = [1e6, 1e7, 1e8]
    mean, new = predict(fits, x_new), predict(fits, x_new, kind="new_run")
    assert mean["loss"].dims == ("encoder", "question", "n_train")
    width = np.log(mean.upper / mean.lower)
    assert bool((width.diff("n_train") > 0).all())
    assert bool((np.log(new.upper / new.lower) > width).all())
    assert bool((mean.lower < mean["loss"]).all()) and bool((mean["loss"] < mean.upper).all())
    np.testing.assert_allclose(mean.lower, predict(fits, x_new).lower)


def test_predict_explains_what_it_cannot_do():
    fits = fit_curves(curves(n_questions=1), draws=0)
    with pytest.raises(UserError, match="draws"):
        predict(fits, 1e6)
    fits = fit_curves(curves(n_questions=1), draws=20)
    with pytest.raises(UserError, match="'median'"):
        predict(fits, 1e6, kind="median")
    with pytest.raises(UserError, match="positive"):
        predict(fits, -1.0)


def test_bad_losses_are_named_with_their_place():
    loss = curves()
    loss[1, 2, 3, 0] = -0.5
    with pytest.raises(UserError, match=r"encoder=b, question=q2, n_train=.*-0.5"):
        fit_curves(loss)
    with pytest.raises(UserError, match="'size' is not one of them"):
        summarise_replicates(loss, x="size")
    with pytest.raises(UserError, match="coordinate"):
        fit_curves(loss.drop_vars("n_train"))


def test_seed_variance_is_pooled_over_sizes():
    loss = curves(n_questions=300, sd=0.03)
    summary = summarise_replicates(loss)
    assert bool((summary.seed_dof == 14).all())
    assert float((summary.seed_sd**2).mean()) == pytest.approx(0.03**2, rel=0.03)


def test_weights_follow_runs_and_are_capped():
    weights = run_weights([1, 4], 0.1)
    assert weights[1] / weights[0] == pytest.approx(2)
    weights = run_weights([1, 1], 0.0, evaluation_sd=[0.1, 1e-6], max_ratio=10)
    assert weights[1] / weights[0] == pytest.approx(10)
    faded = recency_weights(np.array([1.0, np.e]), scale=1.0)
    assert faded[0] ** 2 == pytest.approx(np.exp(-1)) and faded[1] == 1
    assert np.all(recency_weights(SIZES, scale=np.inf) == 1)


@pytest.mark.parametrize(
    ("sizes", "verdict", "reason"),
    [
        ([1, 10, 100, 1000], "identified", "4 distinct sizes over 3.0 decades"),
        ([1, 1, 1, 10], "not identified", "2 distinct values"),
        ([1, 1.2, 1.4, 1.6], "not identified", "0.20 decades"),
        ([1, 2, 4, 6], "E one-sided only", "the sizes span only 0.78 decades"),
    ],
)
def test_designs_are_judged_with_a_reason(sizes, verdict, reason):
    judged = judge_design(np.array(sizes, float), "power-offset")
    assert judged["verdict"] == verdict and reason in judged["reason"]


def test_sizes_that_rise_together_are_not_identified():
    N = np.geomspace(1, 1e3, 12)
    judged = judge_design([N, N * 1.01 ** np.arange(12)], "chinchilla")
    assert judged["verdict"] == "not identified" and "cannot be distinguished" in judged["reason"]
    grid = [part.ravel() for part in np.meshgrid(np.geomspace(1, 100, 4), np.geomspace(1, 1e3, 4))]
    assert judge_design(grid, "chinchilla")["verdict"] == "identified"


def test_describe_design_is_labelled_like_the_fits():
    loss = curves()
    loss[0, 0, 2:] = np.nan
    design = describe_design(loss)
    assert design.verdict.dims == ("encoder", "question")
    assert design.verdict[0, 0] == "not identified" and design.verdict[1, 1] == "identified"
    assert int(design.n_runs[0, 0]) == 6 and float(design.max_leverage[1, 1]) < 1


def test_known_floor_is_held_and_sharpens_the_exponent():
    loss = curves()
    floor = xr.DataArray([0.3] * 6, dims="question", coords={"question": loss.question})
    free, held = fit_curves(loss), fit_curves(loss, floor=floor)
    assert bool((held.E == 0.3).all()) and bool(held.E_low.isnull().all())
    assert bool((held.alpha_high - held.alpha_low < 0.5 * (free.alpha_high - free.alpha_low)).all())
    assert bool((held.draw_values.sel(parameter="E") == 0.3).all())
    assert set(held.verdict.values.ravel()) == {"identified"}
    two_sizes = fit_curves(loss.isel(n_train=[0, 6]), floor=0.3, draws=0)
    assert bool(two_sizes.success.all()) and float(two_sizes.alpha.mean()) == pytest.approx(0.4, abs=0.02)
    with pytest.raises(UserError, match="no irreducible loss E"):
        fit_curves(loss, law="power", floor=0.1)
    with pytest.raises(UserError, match="at least zero"):
        fit_curves(loss, floor=-0.1)


@pytest.mark.slow
def test_prior_on_the_floor_lies_between_free_and_held():
    loss = curves(sd=0.02)
    free, held = fit_curves(loss, draws=200), fit_curves(loss, floor=0.3, draws=0)
    loose, tight = (fit_curves(loss, floor=0.3, floor_sd=sd, draws=200) for sd in (100.0, 1e-5))
    np.testing.assert_allclose(loose.alpha, free.alpha, rtol=1e-3)
    np.testing.assert_allclose(tight.alpha, held.alpha, rtol=1e-3)
    np.testing.assert_allclose(loose.E_free, free.E, rtol=1e-6)
    between = fit_curves(loss, floor=0.3, floor_sd=0.01, draws=200)
    for near in (between.E - 0.3, between.E - between.E_free):
        assert bool((abs(near) <= abs(free.E - 0.3) + 1e-9).all())
    assert bool((between.alpha_stderr < free.alpha_stderr).all())
    assert bool((between.alpha_high - between.alpha_low < free.alpha_high - free.alpha_low).all())
    assert bool((between.draw_values[..., 2].std("draw") < free.draw_values[..., 2].std("draw")).all())
    assert bool((abs(between.floor_tension) < 3.5).all())
    far = fit_curves(loss, floor=0.9, floor_sd=0.01, draws=0)
    assert bool((far.floor_tension < -3).all())


def test_prior_on_the_floor_is_checked():
    loss = curves()
    with pytest.raises(UserError, match="give the floor too"):
        fit_curves(loss, floor_sd=0.1)
    with pytest.raises(UserError, match="positive floor and floor_sd"):
        fit_curves(loss, floor=0.3, floor_sd=0.0)
    with pytest.raises(UserError, match="Gaussian noise"):
        fit_curves(loss, floor=0.3, floor_sd=0.1, noise="huber")


@pytest.mark.parametrize("fall", [0.0, 1.0, 2.0])
def test_the_fall_of_noise_with_size_is_found_again(fall):
    rng = np.random.default_rng(1)
    log_x, dof = np.log(500.0 * 2 ** np.arange(8)), np.full(8, 20.0)
    variance = 1e-4 * np.exp(-fall * (log_x - log_x[-1]))
    ((found, last),) = noise_of_runs([(log_x, variance * rng.chisquare(dof), dof)])
    assert found == pytest.approx(fall, abs=0.25) and last == pytest.approx(1e-4, rel=0.5)


def test_few_seeds_say_little_of_how_noise_falls():
    log_x = np.log([500.0, 1000.0, 2000.0])
    assert noise_of_runs([(log_x, np.zeros(3), np.zeros(3))]) == [(0.0, 0.0)]
    assert noise_of_runs([(log_x, np.zeros(3), np.ones(3))]) == [(0.0, 0.0)]  # seeds that agree exactly
    ((one, last),) = noise_of_runs([(log_x, np.array([0.0, 4e-4, 0.0]), np.array([0.0, 2.0, 0.0]))])
    assert 0.1 < one < 0.6 and last < 2e-4


def test_curves_of_one_study_learn_from_each_other_how_their_noise_falls():
    rng = np.random.default_rng(2)
    log_x, dof = np.log(500.0 * 2 ** np.arange(5)), np.full(5, 2.0)
    for fall in (0.0, 1.5):
        variance = 1e-4 * np.exp(-fall * (log_x - log_x[-1]))
        study = [(log_x, variance * rng.chisquare(dof), dof) for _ in range(24)]
        alone = [noise_of_runs([curve])[0][0] for curve in study]
        together = [found for found, _ in noise_of_runs(study)]
        assert np.abs(np.subtract(together, fall)).mean() < 0.6 * np.abs(np.subtract(alone, fall)).mean()
    loud = (log_x, 1e-2 * dof * np.exp(-2.0 * (log_x - log_x[-1])), dof)
    steady = (log_x, 1e-4 * dof, dof)
    assert noise_of_runs([steady, *[loud] * 12])[0][0] < 0.7  # strangers are believed in part


def test_scatter_that_falls_with_size_makes_fits_sharper_and_intervals_honest():
    rng = np.random.default_rng(3)
    sizes = 500.0 * 2 ** np.arange(7)
    mean = 0.5 + 0.5 * (sizes / 500) ** -0.4
    sd = 0.04 * (sizes / 500) ** -0.6
    values = mean[:, None] * np.exp(sd[:, None] * rng.standard_normal((80, 7, 3)))
    many = xr.DataArray(values, dims=("curve", "n_train", "seed"), coords={"n_train": sizes})
    alike, falling = (fit_curves(many, scatter=scatter, draws=0) for scatter in ("alike", "falling"))
    error = [float(np.sqrt(((fits.alpha - 0.4) ** 2).mean())) for fits in (alike, falling)]
    assert error[1] < 0.8 * error[0]
    held = ((falling.alpha_low < 0.4) & (falling.alpha_high > 0.4)).mean()
    assert 0.88 <= held <= 1.0
    assert float(falling.run_sd.median()) == pytest.approx(sd[-1], rel=0.3) and falling.attrs["scatter"] == "falling"
    with pytest.raises(UserError, match="unknown scatter 'loud'; available: alike, falling"):
        fit_curves(many, scatter="loud")
    single = many.isel(seed=[0])  # nothing tells how it falls
    assert fit_curves(single, scatter="falling", draws=0).alpha.equals(fit_curves(single, draws=0).alpha)
