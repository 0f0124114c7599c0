import numpy as np
import pandas as pd
import pytest
import xarray as xr
from test_laws import TRUTHS, sizes_for

from gzlib.errors import UserError
from gzlib.fitting import fits
from gzlib.fitting.laws import LAWS
from gzlib.fitting.report import sentences
from gzlib.fitting.surfaces import fit_surface, predict_surface, surface

SURFACES = ("chinchilla", "kaplan", "skaling", "bounded", "data-constrained")


def test_every_law_of_several_sizes_is_tested():
    assert set(SURFACES) == {name for name, law in LAWS.items() if len(law.variables) > 1}


@pytest.mark.parametrize("name", SURFACES)
def test_noisy_surface_is_recovered(name):
    law = LAWS[name]
    sizes = dict(zip(law.variables, sizes_for(law), strict=True))
    ahead = {key: np.array([value.max() * 3]) for key, value in sizes.items()}
    truth, goal = law.function(**sizes, **TRUTHS[name]), float(law.function(**ahead, **TRUTHS[name])[0])
    inside = []
    for seed in range(4):
        y = truth * np.exp(0.01 * np.random.default_rng(seed).standard_normal(truth.size))
        fit = fit_surface(y, sizes, law=law, refs=dict.fromkeys(sizes, 1.0), draws=60, level=0.99)
        assert bool(fit["success"])
        assert 2 * float(fit["cost"]) <= np.sum(np.log(y / truth) ** 2)  # the optimum is no worse than the truth
        band = predict_surface(fit, ahead, level=0.99)
        assert float(band["loss"][0]) == pytest.approx(goal, rel=0.03)
        inside.append(float(band["lower"][0]) <= goal <= float(band["upper"][0]))
    assert sum(inside) >= 3


def test_data_constrained_law_tells_epochs_from_galaxies():
    law = LAWS["data-constrained"]
    sizes = dict(zip(law.variables, sizes_for(law), strict=True))
    y = law.function(**sizes, **TRUTHS[law.name]) * np.exp(0.003 * np.random.default_rng(0).standard_normal(75))
    fit = fit_surface(y, sizes, law=law, refs=dict.fromkeys(sizes, 1.0), draws=0)
    found = dict(zip(fit["parameter"].values, fit["value"].values, strict=True))
    assert found["R"] == pytest.approx(5.0, rel=0.2) and found["beta"] == pytest.approx(0.3, abs=0.03)
    more = {"N": 1.0, "U": np.array([1.0, 4.0, 1.0]), "epochs": np.array([1.0, 1.0, 4.0])}
    once, galaxies, epochs = predict_surface(fit, more)["loss"].values
    assert galaxies < epochs < once  # four times the galaxies beat four times the epochs


def test_losses_and_sizes_that_do_not_belong_together_are_refused():
    losses = np.linspace(1, 0.5, 9)
    for given, message in (
        (("runs.csv", {"N": losses, "D": losses}), "a file or table holds its own sizes"),
        ((losses,), "Losses alone have no sizes"),
        ((xr.DataArray(losses),), "The array has nothing that holds the sizes"),
    ):
        with pytest.raises(UserError, match=message):
            surface(*given)


def test_a_fit_without_an_optimum_says_so(monkeypatch):
    monkeypatch.setattr(fits, "EVALUATIONS", 0.2)
    law = LAWS["kaplan"]
    sizes = dict(zip(law.variables, sizes_for(law), strict=True))
    loss = law.function(**sizes, **TRUTHS["kaplan"])
    with pytest.raises(UserError, match=r"^No optimum of E \+ A .* was found in \d+ evaluations\.$"):
        fit_surface(loss, sizes, law="kaplan", draws=0)


def test_two_columns_that_could_be_one_size_are_refused():
    table = pd.DataFrame({"n": [1.0], "params": [2.0], "tokens": [3.0], "loss": [1.0]})
    with pytest.raises(UserError, match=r"'n' and 'params' could each be N: say which, as in columns={'N': 'n'}"):
        surface(table)
    with pytest.raises(UserError, match="no column for loss .*columns={'loss': 'NAME'}"):
        surface(table.rename(columns={"loss": "accuracy"}), columns={"N": "params"})


@pytest.fixture
def grid():
    N, D = (size.ravel() for size in np.meshgrid([1e6, 3e6, 1e7], [100.0, 400.0, 1600.0, 6400.0]))
    return pd.DataFrame({"N": N, "D": D, "loss": 0.1 + (N / 1e3) ** -0.3 + (D / 10) ** -0.4})


@pytest.mark.parametrize("top", [1, 100])
def test_accuracies_are_no_losses_of_a_surface(grid, top):
    rising = grid.assign(accuracy=top * (1 - grid["loss"])).drop(columns="loss")
    with pytest.raises(UserError, match=f"accuracy rise with N and D as accuracies do: give {top} minus each"):
        surface(rising, columns={"loss": "accuracy"}, draws=0)
    with pytest.raises(UserError, match="as accuracies do"):
        surface(rising["accuracy"].to_numpy(), {"N": grid["N"], "D": grid["D"]}, draws=0)


def test_a_surface_is_told_in_a_sentence(grid):
    noisy = grid.assign(loss=grid["loss"] * np.exp(0.001 * np.random.default_rng(0).standard_normal(len(grid))))
    fitted = surface(noisy, refs={"N": 1e3, "D": 10.0}, draws=60)
    (told,) = sentences(fitted)
    assert told.startswith("loss = E + A N^-alpha + B D^-beta, N in units of 1,000, D in units of 10: E = ")
    assert f"beta = {float(fitted['value'].sel(parameter='beta')):.3f} (95 %: " in told
    assert told.endswith("; identified: 3 distinct sizes over 1.0 decades")
    assert "%" not in sentences(surface(noisy, draws=0))[0]
    with pytest.raises(UserError, match="says nothing: give a Fit"):
        sentences(fitted[["cost"]].drop_attrs())
