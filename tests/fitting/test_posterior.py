import builtins

import numpy as np
import pytest
import xarray as xr

from gzlib.errors import UserError
from gzlib.fitting.comparison import posterior
from gzlib.fitting.fits import fit_curves

SIZES = np.geomspace(300, 1e5, 9)


def curve(sd=0.005, seeds=3):
    rng = np.random.default_rng(4)
    mean = 0.3 + 0.3 * (SIZES / 5e3) ** -0.5
    loss = mean[:, None] * np.exp(sd * rng.standard_normal((SIZES.size, seeds)))
    return xr.DataArray(loss, dims=("n_train", "seed"), coords={"n_train": SIZES})


@pytest.mark.slow
def test_posterior_agrees_with_the_profiles():
    pytest.importorskip("emcee")
    fit, drawn = fit_curves(curve(), draws=0), posterior(curve(), steps=6000, seed=1)
    # about 45 autocorrelation times make 2000 steps: three times as many decide 'converged' on any machine
    assert bool(drawn["converged"]) and 0.2 < float(drawn["acceptance"]) < 0.9
    for name in ("E", "A", "alpha"):
        own = drawn.sel(parameter=name)
        low, high = float(fit[f"{name}_low"]), float(fit[f"{name}_high"])
        assert float(own["low"]) == pytest.approx(low, abs=0.12 * (high - low)), name
        assert float(own["high"]) == pytest.approx(high, abs=0.12 * (high - low)), name
    assert float(drawn["draw_sd"].median()) == pytest.approx(float(fit["run_sd"]), rel=0.1)
    first, again = (posterior(curve(), steps=300, seed=1) for _ in range(2))
    np.testing.assert_array_equal(again["draw_values"], first["draw_values"])
    assert not bool(first["converged"])


@pytest.mark.slow
def test_prior_narrows_the_posterior_of_the_floor():
    pytest.importorskip("emcee")
    free, held = (posterior(curve(sd=0.02), steps=1000, **prior) for prior in ({}, {"floor": 0.3, "floor_sd": 0.003}))
    width = (held["high"] - held["low"]) / (free["high"] - free["low"])
    assert float(width.sel(parameter="E")) < 0.6 and float(width.sel(parameter="alpha")) < 0.8
    assert float(held["value"].sel(parameter="E")) == pytest.approx(0.3, abs=0.005)


def test_posterior_says_what_it_cannot_sample():
    pytest.importorskip("emcee")
    with pytest.raises(UserError, match="one curve"):
        posterior(curve().expand_dims(question=["a"]))
    with pytest.raises(UserError, match="nothing to sample"):
        posterior(curve().isel(n_train=[0, 1]))
    with pytest.raises(UserError, match="floor_sd"):
        posterior(curve(), floor=0.3)


def test_missing_package_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "emcee":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match="emcee"):
        posterior(curve())
