import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_laws import TRUTHS, sizes_for

from gzlib.errors import UserError
from gzlib.fitting.fits import fit_law
from gzlib.fitting.laws import LAWS
from gzlib.fitting.optimise import batch_fit, nonnegative_least_squares

X = np.geomspace(0.03, 30, 9)
TRUE = {"E": 0.2, "A": 0.4, "alpha": 0.35}


def noisy(sd, seed=0):
    return LAWS["power-offset"].function(X, **TRUE) * np.exp(sd * np.random.default_rng(seed).standard_normal(X.size))


@pytest.mark.parametrize("name", LAWS)
def test_recovers_the_parameters_of_every_law_without_noise(name):
    law = LAWS[name]
    sizes = sizes_for(law)
    result = fit_law(law, sizes, law.function(*sizes, **TRUTHS[name]))
    assert result.success
    for key, true in TRUTHS[name].items():
        assert result.best_values[key] == pytest.approx(true, rel=1e-4), key


@pytest.mark.parametrize("noise", ["gaussian", "huber", "student-t"])
def test_noise_models_agree_on_clean_data_and_resist_outliers(noise):
    y = noisy(0.002)
    clean = fit_law("power-offset", X, y, noise=noise)
    assert clean.best_values["alpha"] == pytest.approx(TRUE["alpha"], abs=0.02)
    spoiled = y.copy()
    spoiled[4] *= 1.3
    error = abs(fit_law("power-offset", X, spoiled, noise=noise).best_values["alpha"] - TRUE["alpha"])
    assert error > 0.03 if noise == "gaussian" else error < 0.02


def test_huber_cost_is_the_sum_over_points():
    y = noisy(0.05)
    once = fit_law("power-offset", X, y, noise="huber", scale=0.01)
    twice = fit_law("power-offset", np.tile(X, 2), np.tile(y, 2), noise="huber", scale=0.01)
    assert twice.cost == pytest.approx(2 * once.cost, rel=1e-8)


@settings(max_examples=15, deadline=None)
@given(st.floats(-12, 12), st.floats(-9, 9), st.integers(0, 1000), st.permutations(range(X.size)))
def test_invariant_to_units_and_order(log_x_unit, log_y_unit, seed, order):
    y = noisy(0.01, seed)
    base = fit_law("power-offset", X, y)
    order = list(order)
    x_unit, y_unit = np.exp(log_x_unit), np.exp(log_y_unit)
    other = fit_law("power-offset", (X * x_unit / x_unit)[order], (y * y_unit)[order])
    assert other.best_values["alpha"] == pytest.approx(base.best_values["alpha"], rel=1e-5)
    assert other.best_values["E"] == pytest.approx(base.best_values["E"] * y_unit, rel=1e-4, abs=1e-6 * y_unit)
    assert other.cost == pytest.approx(base.cost, rel=1e-6)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_exponent_and_offset_do_not_depend_on_the_unit_of_x(unit):
    y = noisy(0.01)
    base, other = fit_law("power-offset", X, y), fit_law("power-offset", X * unit, y)
    assert other.best_values["alpha"] == pytest.approx(base.best_values["alpha"], rel=1e-4)
    assert other.best_values["E"] == pytest.approx(base.best_values["E"], rel=1e-4)


def test_duplicated_points_keep_the_optimum():
    y = noisy(0.01)
    base, other = fit_law("power-offset", X, y), fit_law("power-offset", np.repeat(X, 3), np.repeat(y, 3))
    for key in TRUE:
        assert other.best_values[key] == pytest.approx(base.best_values[key], rel=1e-5)


def test_offset_of_a_pure_power_law_ends_on_its_bound():
    y = 0.4 * X**-0.3 * np.exp(np.where(np.arange(X.size) > 6, -0.02, 0.0))  # bends down: the best offset is negative
    result = fit_law("power-offset", X, y)
    plain = fit_law("power", X, y)
    assert result.best_values["E"] == 0
    assert result.best_values["alpha"] == pytest.approx(plain.best_values["alpha"], rel=1e-6)


def test_fixed_floor_is_kept_exactly():
    result = fit_law("power-offset", X, noisy(0.01), fixed={"E": 0.2})
    assert result.best_values["E"] == 0.2 and not result.params["E"].vary
    assert result.best_values["alpha"] == pytest.approx(TRUE["alpha"], abs=0.02)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(1e-6, 1e6), min_size=4, max_size=9), st.integers(0, 100))
def test_arbitrary_losses_never_give_nan_in_silence(losses, seed):
    x = np.random.default_rng(seed).uniform(0.1, 100, len(losses))
    result = fit_law("power-offset", x, losses)
    finite = np.all(np.isfinite(list(result.best_values.values()))) and np.all(np.isfinite(result.best_fit))
    assert finite or not result.success


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([np.nan, np.inf, -1.0, 0.0, 1.0]), min_size=5, max_size=8))
def test_values_that_no_law_can_meet_are_refused(losses):
    bad = [value for value in losses if not (np.isfinite(value) and value > 0)]
    if bad:
        with pytest.raises(UserError, match="loss is .* at point"):
            fit_law("power-offset", X[: len(losses)], losses)
    else:
        assert fit_law("power-offset", X[: len(losses)], losses).success


def test_too_few_points_and_wrong_shapes_are_refused():
    with pytest.raises(UserError, match="2 points cannot fix the 3 free parameters"):
        fit_law("power-offset", X[:2], X[:2])
    with pytest.raises(UserError, match="one length"):
        fit_law("power-offset", X, X[:4])
    with pytest.raises(UserError, match="needs the sizes N, D"):
        fit_law("chinchilla", X, X)
    with pytest.raises(UserError, match="weights"):
        fit_law("power", X, X, weights=np.full(X.size, np.nan))


def test_nonnegative_solve_meets_the_optimality_conditions():
    rng = np.random.default_rng(1)
    columns, target = rng.normal(size=(200, 7, 3)), rng.normal(size=(200, 7))
    solved, cost = nonnegative_least_squares(columns, target)
    residual = target - np.einsum("gnk,gk->gn", columns, solved)
    pull = np.einsum("gnk,gn->gk", columns, residual)
    assert np.all(solved >= 0) and np.all(pull < 1e-9) and np.all(np.abs(pull * solved) < 1e-9)
    np.testing.assert_allclose(cost, np.sum(residual**2, axis=1), atol=1e-10)


@pytest.mark.parametrize("name", ["power", "power-offset", "shifted-power", "chinchilla", "skaling"])
def test_batch_fit_finds_the_optimum_of_lmfit(name):
    law = LAWS[name]
    sizes = sizes_for(law)
    rng = np.random.default_rng(2)
    y = law.function(*sizes, **TRUTHS[name]) * np.exp(0.02 * rng.standard_normal((3, sizes[0].size)))
    start = np.tile([TRUTHS[name][key] for key in law.names], (3, 1))
    result = batch_fit(law, sizes, y, start, max_steps=400)
    for i in range(3):
        assert 2 * result.cost[i] <= fit_law(law, sizes, y[i]).chisqr * (1 + 1e-5)
