import numpy as np
import pytest
import xarray as xr

from gzlib.fitting.comparison import CHOICES, FLOOR_LAW, choice_ranges, sensitivity
from gzlib.fitting.fits import fit_curves


@pytest.fixture(scope="module")
def curve():
    sizes = np.array([250, 500, 1000, 2000, 4000, 8000.0])
    rng = np.random.default_rng(0)
    loss = (1 + 2 * (sizes / 1000) ** -0.4)[:, None] * np.exp(0.003 * rng.standard_normal((6, 3)))
    return xr.DataArray(loss, dims=("n_train", "seed"), coords={"n_train": sizes, "seed": [0, 1, 2]})


@pytest.fixture(scope="module")
def atlas(curve):
    return sensitivity(curve, floor=1.0, factor=4, most_dropped=1)


@pytest.mark.slow
def test_every_combination_is_there_once(atlas):
    assert not atlas.duplicated(list(CHOICES)).any()
    assert len(atlas) == 4 * 3 * 3 * 2 * 4  # laws, noises, weights, cuts, seeds
    assert atlas.reason.eq("").all()


@pytest.mark.slow
def test_one_fit_of_the_atlas_is_the_same_fit_made_alone(atlas, curve):
    alone = fit_curves(curve.isel(n_train=slice(1, None), seed=[0, 2]), law="power-offset", draws=0)
    row = atlas.query(
        "law == 'E + A n^-α' and noise == 'Gaussian' and weights == 'all sizes alike'"
        " and sizes == 'without the smallest' and seeds == 'without 1'"
    )
    assert float(row.alpha.iloc[0]) == pytest.approx(float(alone.alpha), rel=1e-4)
    assert float(row.E.iloc[0]) == pytest.approx(float(alone.E), rel=1e-4)


def test_the_true_law_forecasts_the_truth_and_a_held_floor_stays(atlas):
    truth = 1 + 2 * 32**-0.4
    held = atlas[atlas.law == FLOOR_LAW]
    assert (held.E == 1.0).all()
    assert held.forecast.median() == pytest.approx(truth, rel=0.01)
    assert atlas[atlas.law == "A n^-α"].forecast.median() < truth * 0.98  # a straight line misses the floor


def test_ranges_of_a_choice_cover_its_fits(atlas):
    table = choice_ranges(atlas, "forecast")
    assert table.loc[("law", FLOOR_LAW), "fits"] == (atlas.law == FLOOR_LAW).sum()
    assert (table.low <= table["median"]).all() and (table["median"] <= table.high).all()
    no_law = choice_ranges(atlas[atlas.law == "A n^-α"], "E")
    assert no_law["fits"].eq(0).all() and no_law["median"].isna().all()


@pytest.mark.slow
def test_short_curves_are_cut_only_as_far_as_a_law_allows(curve):
    short = sensitivity(curve.isel(n_train=slice(0, 4), seed=[0]), most_dropped=1)
    assert set(short.query("law == 'A n^-α'").sizes) == {"all", "without the smallest"}
    assert set(short.query("law == 'E + A n^-α'").sizes) == {"all"}
    assert set(short.seeds) == {"all"}


def test_a_refused_fit_is_a_row_with_its_reason(curve):
    narrow = sensitivity(curve.isel(n_train=[4, 5]))
    refused = narrow[narrow.forecast.isna()]
    assert len(refused) and refused.reason.str.startswith("refused").all()
