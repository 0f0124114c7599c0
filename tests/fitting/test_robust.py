"""Strange curves give finite forecasts and fits, or one clear sentence; never NaN in silence."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from published_laws import predict_broken

from gzlib.errors import UserError
from gzlib.fitting.fits import fit_curves
from gzlib.fitting.forecasting import clean_curve, extrapolate
from gzlib.fitting.laws import LAWS

pytestmark = pytest.mark.slow

LOSSES = st.lists(st.floats(1e-6, 1e6), min_size=3, max_size=9)


@settings(max_examples=6, deadline=None)
@given(st.lists(LOSSES, min_size=1, max_size=3), st.integers(0, 10**6))
def test_forecasts_of_arbitrary_curves_are_finite(losses, seed):
    rng = np.random.default_rng(seed)
    curves = [clean_curve(np.cumsum(rng.uniform(0.1, 100, len(own))), own) for own in losses]
    found, _ = extrapolate(curves, [np.array([x[-1] * 2, x[-1] * 50]) for x, _ in curves])
    for result in found:
        assert np.all(np.isfinite(result.log_median)) and np.all(np.isfinite(result.half_width))
        assert np.all(result.half_width >= 0) and np.all(np.diff(result.half_width, axis=0) >= 0)


@settings(max_examples=15, deadline=None)
@given(LOSSES, st.sampled_from(["power", "power-offset", "shifted-power"]))
def test_fits_of_arbitrary_curves_are_finite_or_say_why(losses, law):
    loss = xr.DataArray(losses, dims="n_train", coords={"n_train": 100.0 * 2 ** np.arange(len(losses))})
    fit = fit_curves(loss, law=law, draws=20)
    values = np.array([float(fit[name]) for name in LAWS[law].names])
    if bool(fit["success"]):
        assert np.all(np.isfinite(values))
    else:
        assert np.all(np.isnan(values)) and fit["message"].item() != "converged"
    assert fit["verdict"].item() in ("identified", "E one-sided only", "not identified") and fit["reason"].item()


@pytest.mark.parametrize("kind", ["flat", "exact", "rising", "steps", "doubled"])
def test_forecasts_of_curves_without_noise(kind):
    x = np.geomspace(1, 100, 20)
    y = {
        "flat": np.full(20, 0.7177),
        "exact": 0.2 + 0.5 * x**-0.4,
        "rising": 0.2 + 0.01 * x**0.3,
        "steps": np.round(0.2 + 0.5 * x**-0.4, 1),
        "doubled": 0.2 + 0.5 * x**-0.4,
    }[kind]
    if kind == "doubled":
        x, y = np.tile(x, 4)[::-1], np.tile(y, 4)[::-1]
    curves = [clean_curve(x, scale * y) for scale in (1.0, 3.0, 0.5)]
    found, _ = extrapolate(curves, [np.array([200.0])] * 3, levels=(0.5, 0.95))
    ends = np.exp([result.log_median[0] for result in found])
    assert np.all(np.isfinite([result.half_width for result in found]))
    np.testing.assert_allclose(ends / ends[0], [1.0, 3.0, 0.5], rtol=1e-3)  # the unit of the loss does not matter
    if kind == "flat":
        assert ends[0] == pytest.approx(0.7177, rel=2e-3)  # a curve is expected to fall
    if kind in ("exact", "doubled"):
        assert ends[0] == pytest.approx(0.2 + 0.5 * 200**-0.4, rel=2e-3)


def test_broken_law_recovers_a_break_and_marks_what_is_too_short():
    x = np.geomspace(1e-2, 10, 40)
    truth = LAWS["broken-power"].function(np.array([20.0]), 0.1, 0.3, 0.1, 0.5, 0.5, 0.3)
    y = LAWS["broken-power"].function(x, 0.1, 0.3, 0.1, 0.5, 0.5, 0.3)
    found = predict_broken([(x, y), (x[:4], y[:4])], [np.array([20.0]), np.array([1.0, 2.0])])
    np.testing.assert_allclose(found[0], truth, rtol=1e-4)
    assert np.all(np.isnan(found[1])) and found[1].shape == (2,)
    assert np.all(np.isnan(predict_broken([(x[:4], y[:4])], [np.array([1.0])])[0]))


def test_clean_curve_refuses_what_is_no_loss():
    with pytest.raises(UserError, match="not positive"):
        clean_curve([1, 2, 3], [0.1, np.nan, 0.2])
