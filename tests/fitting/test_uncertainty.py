from dataclasses import replace

import numpy as np
import pytest

from gzlib.errors import UserError
from gzlib.fitting.fits import fit_law
from gzlib.fitting.intervals import BOOTSTRAPS, bootstrap, covariance, profile_limits, rise_of, student_quantile
from gzlib.fitting.laws import LAWS
from gzlib.fitting.optimise import batch_fit, log_gradient, log_loss

LAW = LAWS["power-offset"]
X = np.geomspace(0.03, 30, 8)
TRUTH = np.array([0.3, 0.3, 0.4])


def curves(n, sd, seed=0, truth=TRUTH):
    noise = sd * np.random.default_rng(seed).standard_normal((n, X.size))
    return LAW.function(X, *truth) * np.exp(noise)


def fitted(y, **options):
    return batch_fit(LAW, [X], y, np.tile(TRUTH, (len(y), 1)), **options)


def test_covariance_is_lmfit_s():
    y = curves(1, 0.01)
    result = fit_law(LAW, X, y[0])
    theta = np.array([[result.best_values[name] for name in LAW.names]])
    ours = covariance(LAW, [X], theta, weights=np.ones((1, X.size)), variance=result.redchi)[0]
    np.testing.assert_allclose(np.sqrt(np.diag(ours)), [result.params[name].stderr for name in LAW.names], rtol=1e-3)


def test_covariance_of_a_parameter_on_its_bound_is_not_given():
    matrix = covariance(LAW, [X], np.array([[0.0, 0.3, 0.4]]), weights=np.ones((1, X.size)))[0]
    assert np.all(np.isnan(matrix[0])) and np.all(np.isfinite(matrix[1:, 1:]))


@pytest.mark.parametrize("name", LAW.names)
def test_profile_limits_raise_the_cost_by_the_threshold(name):
    y = curves(20, 0.01)
    best = fitted(y)
    rise = np.full(len(y), rise_of(0.95, dof=np.inf, variance=1e-4))
    low, high = profile_limits(
        LAW, [X], y, best.parameters, best.cost, name, weights=np.ones(y.shape), rise=rise, step=np.full(len(y), 0.02)
    )
    j = LAW.names.index(name)
    assert np.all(low < best.parameters[:, j]) and np.all(best.parameters[:, j] < high)
    for limit in (low, high):
        start = best.parameters.copy()
        start[:, j] = limit
        cost = fitted(y, held=()).cost * 0 + batch_fit(LAW, [X], y, start, held=(name,)).cost
        inside = limit > 0  # a limit on the bound has not risen enough
        np.testing.assert_allclose((cost - best.cost)[inside], rise[inside], rtol=1e-3)


def test_profile_of_the_exponent_covers_the_truth():
    y = curves(1000, 0.02, seed=3)
    best = fitted(y)
    low, high = profile_limits(
        LAW,
        [X],
        y,
        best.parameters,
        best.cost,
        "alpha",
        weights=np.ones(y.shape),
        rise=np.full(len(y), rise_of(0.9, dof=np.inf, variance=4e-4)),
        step=np.full(len(y), 0.05),
    )
    coverage = np.mean((low <= 0.4) & (high >= 0.4))
    assert 0.87 < coverage < 0.93  # three binomial standard errors


def test_thresholds_are_chi_square_and_student():
    assert rise_of(0.95, dof=np.inf) == pytest.approx(3.8415 / 2, rel=1e-3)
    assert rise_of(0.95, dof=np.inf, one_sided=True) == pytest.approx(1.6449**2 / 2, rel=1e-3)
    assert student_quantile(0.975, 3) == pytest.approx(3.1824, rel=1e-4)
    assert np.isnan(student_quantile(0.975, 0))


@pytest.mark.parametrize("kind", BOOTSTRAPS)
def test_bootstrap_spread_is_the_spread_of_refitted_experiments(kind):
    y = curves(300, 0.01, seed=1)
    best = fitted(y)
    ones = np.ones(y.shape)
    dof = np.full(len(y), X.size - 3.0)
    draws, variances, converged = bootstrap(
        LAW, [X], y, best.parameters, weights=ones, variance=2 * best.cost / dof, dof=dof, draws=60, kind=kind, seed=4
    )
    assert draws.shape == (300, 60, 3) and converged.mean() > 0.99 and np.all(variances > 0)
    across_experiments = best.parameters[:, 2].std()
    within_bootstrap = np.sqrt(np.mean(draws[:, :, 2].var(axis=1)))
    most = 2.5 if kind == "wild" else 1.8  # the variance is drawn, too: heavier tails
    assert 0.9 < within_bootstrap / across_experiments < most
    again = bootstrap(
        LAW, [X], y, best.parameters, weights=ones, variance=2 * best.cost / dof, dof=dof, draws=60, kind=kind, seed=4
    )[0]
    np.testing.assert_array_equal(draws, again)


@pytest.mark.parametrize("kind", BOOTSTRAPS)
def test_bootstrap_band_keeps_its_promise_with_few_sizes(kind):
    x, true = np.geomspace(0.25, 8, 5), (0.2, 0.4, 0.5)
    y = LAW.function(x, *true) * np.exp(0.02 * np.random.default_rng(0).standard_normal((200, 5)))
    best = batch_fit(LAW, [x], y, np.tile(true, (200, 1)))
    dof = np.full(200, 2.0)
    draws, _, _ = bootstrap(
        LAW, [x], y, best.parameters, weights=np.ones(y.shape), variance=best.cost, dof=dof, draws=120, kind=kind
    )
    ahead = LAW.function(32.0, *np.moveaxis(draws, -1, 0))
    low, high = np.quantile(ahead, [0.025, 0.975], axis=1)
    held = np.mean((low <= LAW.function(32.0, *true)) & (LAW.function(32.0, *true) <= high))
    assert held > 0.88  # with residuals as they are it was .79, and .72 in the wild bootstrap


def test_bootstrap_leaves_absent_points_out():
    y = curves(3, 0.01)
    weights = np.ones(y.shape)
    weights[0, 2] = 0
    spoiled = y.copy()
    spoiled[0, 2] = 1.0
    best = fitted(spoiled, weights=weights)
    options = {
        "weights": weights,
        "variance": np.full(3, 1e-4),
        "dof": np.full(3, 5.0),
        "draws": 30,
        "kind": "residual",
    }
    draws, _, _ = bootstrap(LAW, [X], spoiled, best.parameters, **options)
    assert np.all(np.isfinite(draws)) and abs(np.median(draws[0, :, 2]) - 0.4) < 0.1


def test_unknown_bootstrap_is_refused():
    y = curves(1, 0.01)
    with pytest.raises(UserError, match="'jackknife'"):
        bootstrap(
            LAW,
            [X],
            y,
            TRUTH[None],
            weights=np.ones(y.shape),
            variance=np.ones(1),
            dof=np.ones(1),
            draws=2,
            kind="jackknife",
        )


def test_at_an_infinite_size_is_the_irreducible_loss_however_flat_the_law():
    flat, sizes = np.array([[0.3, 2.0, 1e-4], [0.5, 1.0, 0.4]]), [np.append(X, np.inf)]
    for law in (LAW, replace(LAW, name="own", gradient=None)):
        np.testing.assert_allclose(log_loss(law, sizes, flat)[:, -1], np.log([0.3, 0.5]), rtol=1e-12)
        found = log_gradient(law, sizes, flat)
        np.testing.assert_allclose(found[:, -1], [[1 / 0.3, 0, 0], [2, 0, 0]], rtol=1e-6)
        np.testing.assert_allclose(found[:, :-1], log_gradient(law, [X], flat), rtol=1e-12)


@pytest.mark.parametrize(("weight", "share"), [(1e-6, 0.0), (1e4, 1.0)])
def test_a_prior_pulls_the_irreducible_loss_as_far_as_the_noise_allows(weight, share):
    y = curves(200, 0.02, seed=2)
    free = fitted(y).parameters[:, 0]
    seen = np.column_stack([y, np.full(len(y), 0.25)])
    weights = np.append(np.ones(X.size), weight)
    pulled = batch_fit(LAW, [np.append(X, np.inf)], seen, np.tile(TRUTH, (len(y), 1)), weights=weights)
    np.testing.assert_allclose(pulled.parameters[:, 0], (1 - share) * free + share * 0.25, rtol=1e-3, atol=1e-6)


def test_batch_ignores_points_of_weight_zero():
    y = curves(5, 0.01)
    weights = np.ones(y.shape)
    weights[:, 3] = 0
    spoiled = y.copy()
    spoiled[:, 3] *= 3
    expected = batch_fit(LAW, [np.delete(X, 3)], np.delete(y, 3, axis=1), np.tile(TRUTH, (5, 1)))
    np.testing.assert_allclose(fitted(spoiled, weights=weights).parameters, expected.parameters, rtol=1e-5)
