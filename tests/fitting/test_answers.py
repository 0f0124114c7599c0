"""The front door: one call for each question, whatever the data come as; answers in words, tables, figures, files."""

import json
import re
import subprocess
import sys
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import gzlib as gz
from gzlib.cli import main
from gzlib.errors import UserError
from gzlib.fitting import answers, report
from gzlib.fitting.laws import LAWS, Law, Parameter

SIZES = np.array([250, 500, 1000, 2000, 4000, 8000])


PILOT = "n_train,loss\n250,.9\n500,.7\n1000,.5\n2000,.4\n"


def losses(floor=0.1, *, sd=0.01, runs=3, seed=0):
    noise = sd * np.random.default_rng(seed).standard_normal((SIZES.size, runs))
    return (floor + 0.4 * (SIZES / 1000) ** -0.5)[:, None] * np.exp(noise)


@pytest.fixture
def file(tmp_path):
    rows = [
        {"encoder": name, "n_train": n, "seed": s, "error": y}
        for name, floor in (("small", 0.3), ("large", 0.05))
        for n, of_size in zip(SIZES, losses(floor, seed=int(100 * floor)), strict=True)
        for s, y in enumerate(of_size)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "pilot.csv", index=False)
    return tmp_path / "pilot.csv"


@pytest.mark.slow
def test_the_same_curve_in_any_form_is_the_same_fit(tmp_path):
    y = losses()
    array = xr.DataArray(y, dims=("n_train", "seed"), coords={"n_train": SIZES})
    frame = array.to_series().rename("loss").reset_index()
    expected = gz.fit(array, draws=0).interval("alpha")
    assert float(expected.low) < 0.5 < float(expected.high)
    for given in (
        (SIZES, y),
        (list(SIZES), y.tolist()),
        (frame, None),
        ({"n": frame["n_train"], "loss": frame["loss"]}, None),
        (MappingProxyType({"n": frame["n_train"], "loss": frame["loss"]}), None),
        (pd.DataFrame(y, index=SIZES, columns=["seed0", "seed1", "seed2"]), None),
        (array.to_dataset(name="loss"), None),
        (array.rename(n_train="n", seed="fold"), None),
    ):
        names = {"x": "n", "replicate": "fold"} if isinstance(given[0], xr.DataArray) else {}
        xr.testing.assert_allclose(gz.fit(*given, draws=0, **names).interval("alpha"), expected, rtol=1e-6)
    assert np.isfinite(gz.fit(pd.Series(y[:, 0], index=SIZES), draws=0).results["alpha"])
    for wrong, message in (
        ((np.ones(3),), "has no sizes"),
        (([100, 200, 400],), "has no sizes"),
        ((range(100, 400, 100),), "has no sizes"),
        ((4,), "cannot be read from 4"),
        (("curves.csv", np.ones(3)), "must be arrays of numbers"),
        ((SIZES, np.ones(3)), "one size for each loss"),
        ((array.drop_vars("n_train"),), "name the dimension"),
        ((array.to_dataset(name="y"),), "no variable 'loss'"),
        ((SIZES, 1 - y), "rises with n_train"),
    ):
        with pytest.raises(UserError, match=message):
            gz.fit(*wrong)


def test_a_fit_carries_law_data_and_weights_and_survives_a_file(file, tmp_path):
    fit = gz.fit(file, draws=100)
    assert fit.law is LAWS["power-offset"] and fit.data.dims == ("curve", "n_train", "seed")
    assert bool((fit.weights == 3).all()) and fit.weights.dims == ("curve", "n_train")
    band = fit.predict([16000, 32000])
    assert list(band) == ["loss", "lower", "upper"] and band.loss.dims == ("curve", "n_train")
    assert not {str(name) for name in band} & set(dir(xr.Dataset))
    truth = 0.3 + 0.4 * 16**-0.5
    assert float(band.lower.sel(curve="small")[0]) < truth < float(band.upper.sel(curve="small")[0])
    narrow, wide = (fit.interval("alpha", level=level) for level in (0.5, 0.95))
    assert bool((wide.low < narrow.low).all() and (narrow.high < wide.high).all())
    assert set(fit.next_run(64000).candidate.values) == {*SIZES, 16000, 32000, 64000}
    fit.save(tmp_path / "fit.json")
    again = gz.load_fit(tmp_path / "fit.json")
    xr.testing.assert_allclose(again.predict([16000]), fit.predict([16000]))
    xr.testing.assert_equal(again.data, fit.data)
    xr.testing.assert_allclose(again.interval("E", level=0.5), fit.interval("E", level=0.5))
    assert str(again) == str(fit) and again.law is fit.law
    text = (tmp_path / "fit.json").read_text()
    (tmp_path / "fit.json").write_text(text.replace('"power-offset"', '"power"'))
    for name in ("fit.json", "none.json", "pilot.csv"):
        with pytest.raises(UserError, match=name):
            gz.load_fit(tmp_path / name)
    with pytest.raises(UserError, match="no parameter 'gamma'"):
        fit.interval("gamma")


def test_a_law_of_ones_own_is_saved_by_its_name(tmp_path):
    law = Law(
        "inverse", "A / x + B", "made for this test", lambda x, A, B: A / x + B,
        {"A": Parameter(1e-9, np.inf, "loss", ""), "B": Parameter(1e-9, np.inf, "loss", "")}, ("A", "B"), {},
    )  # fmt: skip
    fit = gz.fit(SIZES, 0.2 + 100 / SIZES * np.array([1, 1.01, 0.99, 1, 1.01, 0.99]), law=law, draws=20)
    assert "A / x + B with A = " in str(fit)
    fit.save(tmp_path / "own.json")
    xr.testing.assert_allclose(gz.load_fit(tmp_path / "own.json", law=law).predict(500), fit.predict(500))
    with pytest.raises(UserError, match="'inverse'"):
        gz.load_fit(tmp_path / "own.json")


def test_a_floor_and_other_options_reach_the_fit_and_its_file(file, tmp_path):
    fit = gz.fit(file, floor=xr.DataArray([0.05, 0.3], dims="curve", coords={"curve": ["large", "small"]}), draws=0)
    np.testing.assert_allclose(fit.results["E"], [0.05, 0.3])
    fit.save(tmp_path / "fit.json")
    xr.testing.assert_allclose(
        gz.load_fit(tmp_path / "fit.json").interval("alpha", level=0.5), fit.interval("alpha", level=0.5)
    )


@pytest.mark.slow
def test_plans_tell_what_is_reached_what_is_near_and_what_is_below_the_floor(file):
    needed = gz.plan(file, 0.13)
    assert needed.status.values.tolist() == ["forecast", "below the floor"]
    labels = 1000 * (0.4 / 0.08) ** 2
    one = needed.sel(curve="large")
    assert float(one.labels_low) < labels < float(one.labels_high)
    told = gz.sentences(needed)
    assert told[0].startswith("large: about ") and "labels reach 0.13 (95 %: " in told[0]
    assert told[1].startswith("small: 0.13 is not reached by more labels alone: the fitted floor is 0.")
    assert "reached already" in gz.sentences(gz.plan(file, 0.6))[0]
    by_law = gz.plan(file, 0.13, law="power-offset").sel(curve="large")
    assert float(by_law.labels_low) < labels < float(by_law.labels_high)


def test_forecasts_trust_a_law_only_when_told_to(file):
    ahead, by_law = (gz.forecast(file, [16000, 64000], law=law) for law in (None, "power-offset"))
    truth = 0.05 + 0.4 * np.array([16, 64]) ** -0.5
    for band in (ahead, by_law):
        one = band.sel(curve="large")
        assert bool(((one.lower < truth) & (truth < one.upper)).all())
        assert "large: about 0.1" in gz.sentences(band)[0]


def test_many_curves_of_different_sizes_are_fitted_in_parts(monkeypatch):
    rng = np.random.default_rng(0)
    frames = []
    for i in range(5):
        n = (SIZES * rng.uniform(0.8, 1.25)).astype(int)
        frames.append(pd.DataFrame({"curve": f"c{i}", "n": n, "loss": 0.1 + 0.4 * (n / 1000) ** -0.5}))
        frames[-1]["loss"] *= np.exp(0.01 * rng.standard_normal(len(n)))
    whole = gz.fit(pd.concat(frames), draws=0)
    monkeypatch.setattr(answers, "TOGETHER", 2)
    parts = gz.fit(pd.concat(frames), draws=0)
    for name in ("E", "A", "alpha", "alpha_low", "E_upper"):
        np.testing.assert_allclose(parts.results[name], whole.results[name], rtol=1e-4)
    assert parts.results["verdict"].values.tolist() == whole.results["verdict"].values.tolist()


@pytest.mark.parametrize(
    ("y", "reason"),
    [
        ([0.5] * 6, "the same at every size"),
        ([0.5, 0.4, 0.33, 0.31, 0.36, 0.45], "falls and rises again"),
        ([0.5, 0.48, 0.47, 0.46, 0.455, 0.45], None),
    ],
)
def test_curves_that_no_law_describes_say_so(y, reason):
    fit = gz.fit(SIZES, y, draws=0)
    if reason is None:
        assert bool(fit.results["success"])
    else:
        assert fit.results["verdict"] == "not identified" and np.isnan(fit.results["alpha"])
        assert reason in str(fit)


@pytest.mark.parametrize(
    ("value", "low", "high", "shown"),
    [
        (0.24123, 0.2294, 0.2531, ("0.241", "0.229", "0.254")),
        (0.5, 0.2, 1.71, ("0.5", "0.20", "1.8")),
        (0.24, 0.0131, 4.51, ("0.24", "0.013", "5")),
        (0.5, 0.0, 1.71, ("0.5", "0.0", "1.8")),
        (0.3, 0.2, 0.4, ("0.30", "0.20", "0.40")),
        (1234.0, 1100.0, 1400.0, ("1,230", "1,100", "1,400")),
        (0.5, np.nan, np.nan, ("0.5", "-", "-")),
        (0.512, 0.49, np.inf, ("0.512", "0.490", "no limit")),
        (-0.0001, -0.1, 0.1, ("0.00", "-0.10", "0.10")),
    ],
)
def test_numbers_have_as_many_digits_as_their_band_justifies(value, low, high, shown):
    assert report.with_band(value, low, high) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [(9123, "9,000"), (1234, "1,200"), (277178.9, "280,000"), (38000, "40,000"), (7.3, "7.3"), (1.73, "1.7")],
)
def test_labels_are_counted_in_round_numbers(number, shown):
    assert report.count(number) == shown


def test_a_band_of_labels_is_rounded_outwards():
    assert report._counts(9123.0, 6400.0, 38000.0) == ("9,000", "6,000", "40,000")


def test_surfaces_come_from_files_frames_and_arrays(tmp_path):
    N, D = (part.ravel() for part in np.meshgrid(np.geomspace(1e6, 1e8, 4), np.geomspace(1e3, 1e6, 5)))
    loss = LAWS["chinchilla"].function(N / 1e7, D / 3e4, 0.3, 0.2, 0.4, 0.3, 0.3)
    runs = pd.DataFrame({"n_params": N, "n_train": D, "test_loss": loss})
    runs.to_csv(tmp_path / "runs.csv", index=False)
    array = xr.DataArray(
        loss.reshape(5, 4), dims=("n_train", "encoder"), coords={"n_train": D[::4], "n_params": ("encoder", N[:4])}
    )
    for fit in (
        gz.surface(tmp_path / "runs.csv", draws=0),
        gz.surface(runs.rename(columns={"n_params": "size"}), columns={"N": "size"}, draws=0),
        gz.surface(array, draws=0),
        gz.surface(loss, {"N": N, "D": D}, draws=0),
    ):
        assert float(fit.value.sel(parameter="alpha")) == pytest.approx(0.4, abs=1e-3)
    with pytest.raises(UserError, match="no column for D"):
        gz.surface(runs.drop(columns="n_train"))


@pytest.mark.slow
def test_figures_and_pages_stand_alone(file, tmp_path):
    fit = gz.fit(file, draws=50)
    for name, start in (("a.svg", b"<?xml"), ("a.png", b"\x89PNG"), ("a.html", b"<!DOCTYPE html>")):
        assert fit.plot(tmp_path / name, at=[16000]) == tmp_path / name
        assert (tmp_path / name).read_bytes().startswith(start)
    page = (tmp_path / "a.html").read_text()
    assert "large: loss = " in page and "<svg" in page and "<table" in page and "<script" not in page
    assert "<link" not in page and "src=" not in page
    fit.plot(tmp_path / "b.svg", at=[16000])
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    with pytest.raises(UserError, match=r"\.svg, \.png"):
        fit.plot(tmp_path / "a.xyz")
    assert fit.plot().axes[0].get_xscale() == "log"


@pytest.mark.slow
def test_names_of_curves_are_no_formulas_in_figures(tmp_path, capsys, recwarn):
    names = ["$5_$", "_hidden", "\u6a21\u578b"]
    rows = [(name, n, loss + 0.1 * i) for i, name in enumerate(names) for n, loss in zip(STEPS, FALLING, strict=True)]
    pd.DataFrame(rows, columns=["model", "n", "loss $x_$"]).to_csv(tmp_path / "cost_$5_$10.csv", index=False)
    for ending in (".svg", ".png"):
        assert main(["fit", str(tmp_path / "cost_$5_$10.csv"), "--plot", str(tmp_path / f"a{ending}")]) == 0
        told = capsys.readouterr().err
        assert ("the font of" in told) == (ending == ".png") and "Glyph" not in told
    drawn = (tmp_path / "a.svg").read_text()
    assert all(f">{name}</text>" in drawn for name in ["$5_$", " _hidden", names[2], "loss $x_$", "cost_$5_$10.csv"])
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


@pytest.mark.slow
def test_the_command_line_answers_in_sentences_tables_json_and_csv(file, tmp_path, capsys):
    def said(*arguments, status=0):
        assert main(list(map(str, arguments))) == status
        captured = capsys.readouterr()
        return captured.err if status else captured.out

    text = said("fit", file, "--at", 16000, 32000)
    assert "large: loss = " in text and "| alpha" in text and "large: about 0.1" in text
    text = said("plan", file, "--target", 0.13, "--cost", 0.5, "--plot", tmp_path / "plan.html")
    assert "labels reach 0.13" in text and "the labels cost about" in text and "one more run, at 16,000" in text
    assert "labels reach 0.13" in (tmp_path / "plan.html").read_text()
    assert "50 % sure" in text and " with 80 %, by " in text and "reached at all" not in text  # a chance of over 99 %
    content = json.loads(said("plan", file, "--target", 0.13, "--risk", 0.25, 0.1, "--json"))
    large = content["curves"][0]
    assert large["largest"] < large["labels_risk_0.25"] < large["labels_risk_0.1"] and 0.5 < large["reachable"] <= 1
    assert "risk 5 is not a probability" in said("plan", file, "--target", 0.13, "--risk", 5, status=2)
    content = json.loads(said("forecast", file, "--target", 0.13, "--json"))
    large, small = content["curves"]
    assert large["status"] == "forecast" and small["labels"] is None and small["status"] == "below the floor"
    assert {"labels", "labels_low", "labels_high", "no_limit", "largest", "best_loss"} <= large.keys()
    assert content["target"] == 0.13 and content["level"] == 0.95 and content["calibrated"] is True
    content = json.loads(said("fit", file, "--json", "--law", "power", "--level", 0.5))
    assert content["law"] == "power" and content["curves"][0]["verdict"] == "identified"
    rows = pd.read_csv(tmp_path / "pilot.csv")
    assert "| 16,000 |" in said("forecast", file, "--at", 16000)
    table = said("forecast", file, "--at", 16000, "--csv")
    assert table.splitlines()[0] == "curve,size,loss,lower,upper" and len(table.splitlines()) == 3
    assert said("forecast", file, "--at", "16k", "--csv") == table
    assert "--at 'k' is not a number" in said("forecast", file, "--at", "k", status=2)
    rows.assign(error=1 - rows["error"]).rename(columns={"error": "accuracy"}).to_csv(file, index=False)
    assert "note: accuracy rises" in said("plan", file, "--target", 0.13)
    assert "for accuracy 0.98 give the target 0.02" in said("forecast", file, "--target", 0.98, status=2)
    assert "--at SIZE" in said("forecast", file, status=2)
    assert "--level 95" in said("fit", file, "--level", 95, status=2)
    assert "unknown law 'cubic'" in said("fit", file, "--law", "cubic", status=2)
    assert "no column 'n'" in said("fit", file, "--size-column", "n", status=2)


@pytest.mark.slow
def test_a_reader_with_enough_ends_a_fit_in_silence(file):
    command = f"{sys.executable} -m gzlib fit {file} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("large: loss") and done.stderr == ""


def test_a_pilot_of_a_model_and_of_a_function():
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    X = rng.standard_normal((900, 8))
    y = X @ rng.standard_normal(8) + 0.5 * rng.standard_normal(900)
    pilot = gz.learning_curve(linear.Ridge(alpha=0.1), [20, 40, 80, 160, 320], seeds=3, data=(X, y))
    assert pilot.dims == ("n_train", "seed") and pilot.shape == (5, 3)
    assert 0.45 < float(pilot.mean("seed")[-1]) < float(pilot.mean("seed")[0])
    assert float(gz.fit(pilot, draws=0).results["E"]) == pytest.approx(0.5, abs=0.06)
    again = gz.learning_curve(linear.Ridge(alpha=0.1), [20, 40, 80, 160, 320], seeds=3, data=(pd.DataFrame(X), y))
    np.testing.assert_allclose(again, pilot)
    labels = np.where(y > 0, "yes", "no")
    wrong = gz.learning_curve(
        linear.LogisticRegression(), [40, 320], seeds=[7], data=(X, labels), test=(X[:300], labels[:300])
    )
    assert 0 < float(wrong[1, 0]) < float(wrong[0, 0]) < 0.5
    curve = gz.learning_curve(lambda size, seed: 1 / size, [10, 20], seeds=[3, 4], x="n", replicate="run")
    assert curve.dims == ("n", "run") and curve.values.tolist() == [[0.1, 0.1], [0.05, 0.05]]
    for model, options, message in (
        (linear.Ridge(), {}, "needs data"),
        (linear.Ridge(), {"data": (X[:20], y[:20])}, "15 training examples"),
        (linear.LogisticRegression(), {"data": (X, np.where(np.arange(900) < 899, "a", "b"))}, "seed 0 failed"),
        (lambda size, seed: 0.0, {}, "is 0: a curve needs positive"),
        (3, {}, "must have fit and predict"),
    ):
        with pytest.raises(UserError, match=message):
            gz.learning_curve(model, [10, 20], seeds=1, **options)


@pytest.mark.fault("curves: shapes that no law describes", "read")
@pytest.mark.parametrize(("target", "status"), [(0.2, "out of reach|no forecast"), (0.5, "already reached")])
def test_a_plan_for_curves_that_no_law_describes(target, status):
    """Constant at every size: there is no fitted floor, and the plan says what it can."""
    needed = gz.plan((SIZES, np.full(len(SIZES), 0.5)), target)
    assert np.isnan(needed["E_upper"]) and re.fullmatch(status, str(needed["status"].item()))
    assert "nan" not in gz.sentences(needed)[0]


def test_groups_of_curves_go_together_where_one_has_no_fit(monkeypatch):
    monkeypatch.setattr(answers, "TOGETHER", 2)
    y = np.concatenate([np.tile(losses()[:, 0], (3, 1)), np.full((3, len(SIZES)), 0.5)])
    array = xr.DataArray(y, {"curve": list("abcdef"), "n_train": SIZES}, ("curve", "n_train"))
    fit = gz.fit(array, draws=0)
    assert fit.results["success"].values.tolist() == [True] * 3 + [False] * 3
    assert "say" in str(fit) and np.isnan(fit.results["alpha_without_E"][3:]).all()


def test_a_known_floor_can_be_printed():
    """Also one above the losses, which leaves nothing to fit."""
    assert "exponent 0.5" in str(gz.fit(SIZES, losses(sd=0.001), floor=0.1, draws=0))
    assert str(gz.fit(SIZES, losses(), floor=0.9, draws=0))


@pytest.mark.fault("curves: losses in any unit", "read")
@pytest.mark.parametrize("unit", [1e-20, 1e-9, 1e-6, 1e6, 1e9, 1e20])
def test_the_unit_of_the_loss_changes_no_exponent(unit):
    one, other = (gz.fit(SIZES, losses() * factor, draws=0) for factor in (1, unit))
    for name in ("alpha", "alpha_low", "alpha_high"):
        assert float(other.results[name]) == pytest.approx(float(one.results[name]), rel=1e-4)
    assert float(other.results["E_upper"]) == pytest.approx(float(one.results["E_upper"]) * unit, rel=1e-4)
    assert len(str(other)) < 250
    ranks = [gz.compare(SIZES, losses() * factor)["delta"].values for factor in (1, unit)]
    np.testing.assert_allclose(*ranks, atol=1e-3)


@pytest.mark.fault("options of fits and plans", "refused in one sentence")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda y: gz.fit(SIZES, y, level=95), "between 0 and 1, such as 0.95, not 95"),
        (lambda y: gz.fit(SIZES, y, level=1.0), "not 1.0"),
        (lambda y: gz.fit(SIZES, y, level=np.nan), "not nan"),
        (lambda y: gz.fit(SIZES, y, level="95%"), "not 95%"),
        (lambda y: gz.fit(SIZES, y).interval("alpha", level=50), "not 50"),
        (lambda y: gz.fit(SIZES, y).predict(9000, level=50), "not 50"),
        (lambda y: gz.fit(SIZES, y, draws=-1), "draws=-1"),
        (lambda y: gz.compare(SIZES, y, laws=[]), "one law or more"),
        (lambda y: gz.compare(SIZES, y, laws="powr"), "unknown law 'powr'"),
    ],
)
def test_options_of_fits_that_make_no_sense(call, message):
    with pytest.raises(UserError, match=message):
        call(losses())


@pytest.mark.fault("options of fits and plans", "refused in one sentence")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cost", "-1"], "--cost -1: give what one label costs"),
        (["--cost", "nan"], "--cost nan"),
        (["--owned", "-5"], "--owned -5: give the number of labels"),
        (["--level", "95"], "--level 95: give a coverage between 0 and 1"),
        (["--size-column", "n_trian"], "did you mean 'n_train'"),
        (["--plot", "x.xyz"], "choose one of these endings"),
    ],
)
def test_options_of_the_command_line_that_make_no_sense(file, capsys, options, message):
    assert main(["plan", str(file), "--target", "0.2", *options]) == 2
    assert message in capsys.readouterr().err


def test_sizes_are_shown_as_they_are():
    small = gz.fit(np.array([0.1, 0.2, 0.4, 0.8]), losses()[:4, 0], draws=0)
    assert "(n / 0.2828)^" in str(small)
    assert [report.size_text(size) for size in (2.5, 1414.2, 2e6, 1e15)] == ["2.5", "1,414", "2,000,000", "1e+15"]
    assert report.with_band(2.58e-10, 2.33e-10, 2.74e-10) == ("2.58e-10", "2.33e-10", "2.74e-10")
    assert "no larger than the sizes measured" in report.answer("forecast", PILOT, at=[500])


@pytest.mark.slow
@pytest.mark.parametrize("module", ["answers", "curves"])
def test_examples_in_the_docstrings(module):
    import doctest
    import importlib

    found = doctest.testmod(
        importlib.import_module(f"gzlib.fitting.{module}"), optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert found.attempted > 2 and found.failed == 0


@pytest.mark.parametrize("sizes", [[], ["10k"], None, [0], [np.nan]])
def test_sizes_that_are_none_are_one_sentence(sizes):
    with pytest.raises(UserError, match="The new sizes are"):
        gz.forecast([250, 500, 1000, 2000], sizes, [0.5, 0.4, 0.33, 0.29])


@pytest.mark.parametrize(("target", "options"), [("0.2", {}), (None, {}), ([0.2], {}), (0.2, {"max_factor": 0})])
def test_targets_that_are_none_are_one_sentence(target, options):
    with pytest.raises(UserError, match=r"The target loss is|max_factor is"):
        gz.plan([250, 500, 1000, 2000], target, [0.5, 0.4, 0.33, 0.29], **options)


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        (["1k"], {}, "The sizes of a learning curve are numbers in a list"),
        (100, {}, "The sizes of a learning curve are numbers in a list"),
        ([100, np.inf], {}, "The size inf is not a number of training examples"),
        ([100.5], {}, "The size 100.5 is not a number of training examples"),
        ([0.1], {}, "The size 0.1 is not a number of training examples"),
        ([], {}, "at least one positive size"),
        ([10, 20], {"seeds": [0, 0]}, r"The seeds \[0, 0\] hold one twice"),
    ],
)
def test_a_pilot_of_sizes_that_cannot_be(sizes, options, message):
    with pytest.raises(UserError, match=message):
        gz.learning_curve(lambda size, seed: 1 / size, sizes, **options)


def test_a_pilot_whose_run_returns_a_word():
    with pytest.raises(UserError, match="The loss with 10 training examples and seed 0 is 'x': give a number"):
        gz.learning_curve(lambda size, seed: "x", [10])


def test_labels_in_a_table_of_one_column_are_labels():
    linear = pytest.importorskip("sklearn.linear_model")
    X = np.random.default_rng(0).standard_normal((200, 3))
    y = X.sum(axis=1) + np.random.default_rng(1).standard_normal(200)
    flat = gz.learning_curve(linear.Ridge(), [20, 80], seeds=1, data=(X, y))
    for labels in (y[:, None], pd.DataFrame(y)):
        xr.testing.assert_equal(gz.learning_curve(linear.Ridge(), [20, 80], seeds=1, data=(X, labels)), flat)
        test = gz.learning_curve(linear.Ridge(), [20, 80], seeds=1, data=(X, y), test=(X, labels))
        xr.testing.assert_equal(test, gz.learning_curve(linear.Ridge(), [20, 80], seeds=1, data=(X, y), test=(X, y)))
    with pytest.raises(UserError, match="200 rows in X and 150 in y"):
        gz.learning_curve(linear.Ridge(), [20], data=(X, y[:150]))


FALLING = [0.9, 0.75, 0.65, 0.58, 0.53]
STEPS = [100, 200, 400, 800, 1600]


def test_numbers_of_labels_are_told_only_where_the_sentence_tells_them():
    needed = gz.plan(STEPS, 0.1, FALLING)
    assert "not reached by more labels alone" in gz.sentences(needed)[0]
    row = report.plan_rows(needed).iloc[0]
    assert list(row[["labels", "labels_low", "50 % sure", "95 % sure"]]) == ["out of reach"] * 4


@pytest.mark.parametrize(
    ("numbers", "by_risk", "wanted"),
    [
        ((69_400, 60_000, 88_000), [69_400, 74_200, 95_400], ["69,000", "74,000", "95,000"]),  # a narrow band
        ((23_400, 11_000, 52_000), [23_400, 34_300, 47_100], ["23,000", "34,000", "47,000"]),
        ((69_400, 30_000, 300_000), [69_400, 94_200, 214_000], ["70,000", "90,000", "210,000"]),
        ((2.34e12, 1.1e12, np.inf), [2.34e12, 4.21e12, 1.06e13], ["2.3e+12", "4.2e+12", "1.1e+13"]),
        ((np.inf, 30_000, np.inf), [np.inf, np.inf, np.inf], ["out of reach"] * 3),
        ((5.53, 3.21, np.inf), [5.53, 29.4, 0.3], ["5.5", "29", "0.3"]),
        ((412, 380, np.inf), [412, 634, np.inf], ["400", "600", "out of reach"]),
    ],
)
def test_labels_by_risk_have_the_digits_of_the_labels_beside_them(numbers, by_risk, wanted):
    needed = gz.plan(STEPS, 0.4, FALLING)
    needed = needed.assign(dict(zip(("labels", "labels_low", "labels_high"), numbers, strict=True)))
    needed = needed.assign(labels_by_risk=("risk", by_risk), reachable=0.9, status="forecast")
    row, told = report.plan_rows(needed).iloc[0], gz.sentences(needed)[0]
    assert list(row[["50 % sure", "80 % sure", "95 % sure"]]) == wanted and row["labels"] == wanted[0]
    for text, sure in zip(wanted[1:], (80, 95), strict=True):
        assert (f"by {text} with {sure} %" in told) == (text != "out of reach")


def test_targets_in_the_other_unit(tmp_path):
    accuracy = pd.DataFrame({"n": STEPS, "acc": 1 - np.array(FALLING)})
    with pytest.raises(UserError, match=r"for acc 0.6 give the target 0.4\.$"):
        gz.plan(accuracy, 60)
    with pytest.raises(UserError, match=r"give one below 0.53\.$"):
        gz.plan(accuracy, 600)
    with pytest.raises(UserError, match=r"for acc 0.6 give the target 0.4\.$"):  # the column's own name says 1 - acc
        gz.plan(pd.DataFrame({"n": STEPS, "1 - acc": FALLING}), 0.6)
    assert gz.plan(pd.DataFrame({"n": STEPS, "error (1 - acc)": FALLING}), 0.6)["status"] == "already reached"
    with pytest.raises(UserError, match=r"for acc 0.92 give the target 0.08\.$"):  # some sizes have reached it, not all
        gz.plan(pd.DataFrame({"n": STEPS, "acc": 1 - np.array(FALLING) / 10}), 0.92)
    file = tmp_path / "a.csv"
    accuracy.assign(acc=100 * accuracy["acc"]).to_csv(file, index=False)
    assert "note: losses and target are in percent: 0.4 is 0.4 %" in report.answer("plan", file, target=0.4)
    assert "in percent" not in report.answer("plan", file, target=40)


def test_a_table_in_csv_loses_nothing(tmp_path, capsys):
    file = tmp_path / "a.csv"
    pd.DataFrame({"n": STEPS, "acc": 1 - np.array(FALLING)}).to_csv(file, index=False)
    assert main(["fit", str(file), "--csv"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("curve,") and "note: acc rises as models get better: fitted is 1 - acc" in shown.err
    assert main(["fit", str(file), "--csv", "--at", "3200"]) == 2
    assert "leave out --at here, and ask 'forecast'" in capsys.readouterr().err


def test_a_law_that_alone_can_be_judged_is_not_called_the_best():
    told = gz.sentences(gz.compare(STEPS, FALLING))[0]
    assert told == "the curve: too few runs to compare laws: power alone leaves some to judge it by"
    assert "describes it best" in gz.sentences(gz.compare(STEPS, FALLING, laws="power"))[0]


def test_a_bar_in_the_name_of_a_curve_begins_no_column(tmp_path):
    pd.DataFrame({"n": STEPS, "loss": FALLING, "model": "A|B"}).to_csv(tmp_path / "a.csv", index=False)
    told = report.answer("fit", tmp_path / "a.csv").splitlines()
    assert told[0].startswith("A|B: loss = ") and told[4].startswith(r"| A\|B ")
    assert told[2].count("|") == told[4].replace(r"\|", "").count("|")


def test_a_level_near_1_is_not_called_100_percent():
    assert "99.9999 %: " in gz.sentences(gz.fit(STEPS, FALLING, level=0.999999))[0]


def test_a_fit_is_planned_and_forecast_as_its_data_are():
    data = (np.array([100, 200, 400, 800]), np.array([0.5, 0.4, 0.33, 0.28]))
    fitted = gz.fit(*data, draws=0)
    assert gz.forecast(fitted, [3_200]).equals(gz.forecast(data, [3_200]))
    assert str(gz.plan(fitted, 0.25)) == str(gz.plan(data, 0.25))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda table: gz.labels_needed(table, 0.2), "not a DataFrame: gz.plan takes curves of any kind"),
        (lambda table: gz.labels_needed([1, 2], 0.2), "not a list: gz.plan"),
        (lambda table: gz.fit_curves(table), "not a DataFrame: gz.fit takes curves of any kind"),
        (lambda table: gz.predict(table, [1_000]), "not a DataFrame: a Fit has predict of its own"),
        (lambda table: gz.predict(gz.fit(table, draws=0), [1_000]), "not a Fit: a Fit has predict of its own"),
        (lambda table: gz.compare_options(table, cost_per_label=1), "not a DataFrame: give what gz.plan"),
        (lambda table: gz.sentences(table), "not a DataFrame: give a Fit, or what forecast"),
        (lambda table: gz.to_array(table), "call read_curves first"),
    ],
)
def test_data_of_another_kind_are_refused_with_what_takes_them(call, said):
    with pytest.raises(UserError, match=said):
        call(pd.DataFrame({"n_train": [100, 200, 400, 800], "loss": [0.5, 0.4, 0.33, 0.28]}))
