"""A law of a user's own, never registered: every function that takes fits uses the law itself, not its name."""

import numpy as np
import pytest
import xarray as xr

from gzlib.fitting import (
    LAWS,
    Law,
    Parameter,
    compare_laws,
    describe_design,
    fit_curves,
    fit_surface,
    next_run,
    posterior,
    predict,
    predict_surface,
)

N = np.array([100, 200, 400, 800, 1600, 3200.0])
TRUE = {"A": 0.5, "k": 2.0}


def logarithmic(x, A, k):
    return A * np.log1p(k / x)


@pytest.fixture(params=["logarithmic", "power-offset"])
def law(request):
    """Under a name of its own, and under the name of a law that is registered."""
    return Law(
        request.param,
        "A ln(1 + k/x)",
        "made for this test",
        logarithmic,
        {"A": Parameter(1e-12, np.inf, "loss", "amplitude"), "k": Parameter(1e-6, 1e6, "x_ref", "size of the bend")},
        ("A",),
        {"k": np.geomspace(0.01, 100, 13)},
    )


@pytest.fixture
def loss():
    noise = 0.005 * np.random.default_rng(0).standard_normal((3, N.size))
    values = logarithmic(N / 500, **TRUE) * np.exp(noise)
    return xr.DataArray(values, dims=("seed", "n_train"), coords={"seed": range(3), "n_train": N})


def test_fits_carry_their_law_through_prediction_and_planning(law, loss):
    fits = fit_curves(loss, law=law, draws=200)
    assert fits.attrs["law"] is law and str(fits.attrs["law"]) == law.name
    new = np.array([25.0, 12_800])
    band = predict(fits, new)
    np.testing.assert_allclose(band["loss"], logarithmic(new / 500, **TRUE), rtol=0.02)
    assert bool((band["lower"] < band["loss"]).all() and (band["loss"] < band["upper"]).all())

    step = 1e-4  # the advice follows from the law's own gradient, here by differences
    advice = next_run(fits, 12_800, N)
    best = np.array([fits["A"].item(), fits["k"].item()])
    x = 12_800 / fits.attrs["x_ref"]
    slope = [
        (np.log(logarithmic(x, *(best * (1 + step * unit)))) - np.log(logarithmic(x, *(best * (1 - step * unit)))))
        / (2 * step * value)
        for unit, value in zip(np.eye(2), best, strict=True)
    ]
    assert advice["sd_before"].item() == pytest.approx(np.sqrt(slope @ fits["covariance"].values @ slope), rel=1e-3)


def test_design_comparison_and_posterior_take_the_law_itself(law, loss):
    assert describe_design(loss, law=law).verdict == "identified"
    ranked = compare_laws(loss, ["power", law])
    assert list(ranked.law.values) == ["power", law.name] and ranked.delta.values[1] == 0 < ranked.delta.values[0]
    drawn = posterior(loss, law=law, steps=1500, seed=1)
    fitted = fit_curves(loss, law=law, draws=0)
    assert drawn["value"].sel(parameter="k").item() == pytest.approx(fitted["k"].item(), rel=0.05)


def test_fits_read_from_a_file_find_a_registered_law_by_its_name(loss, tmp_path):
    fits = fit_curves(loss, law="power-offset", draws=50)
    fits.assign_attrs(law=fits.attrs["law"].name).to_netcdf(tmp_path / "fits.nc", engine="h5netcdf")
    again = xr.load_dataset(tmp_path / "fits.nc", engine="h5netcdf")
    xr.testing.assert_allclose(predict(again, [6400.0]), predict(fits, [6400.0]))


def test_a_surface_carries_its_law():
    law = Law(
        "chinchilla",
        "A / ln(1 + N) + B / ln(1 + D)",
        "made for this test",
        lambda N, D, A, B: A / np.log1p(N) + B / np.log1p(D),
        {"A": Parameter(1e-12, np.inf, "loss", ""), "B": Parameter(1e-12, np.inf, "loss", "")},
        ("A", "B"),
        {},
        ("N", "D"),
    )
    size, data = (values.ravel() for values in np.meshgrid(np.geomspace(1, 100, 5), np.geomspace(1, 1000, 5)))
    fit = fit_surface(law.function(size, data, 0.3, 0.7), {"N": size, "D": data}, law=law, refs={"N": 1, "D": 1})
    assert fit.attrs["law"] is law is not LAWS["chinchilla"]
    new = predict_surface(fit, {"N": np.array(500.0), "D": np.array(1e4)})["loss"]
    assert new.item() == pytest.approx(0.3 / np.log1p(500) + 0.7 / np.log1p(1e4), rel=1e-6)
