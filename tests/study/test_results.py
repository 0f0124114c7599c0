"""Tables and words of the chapters: from runs and fits whose outcome is known."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from gzlib.fitting import CHOICES, encoder_effect, fit_curves, holm, size_verdict
from gzlib.study import StudyRuns, cost, pretraining_study, results

SIZES = [250, 500, 1000, 2000, 4000]
PARAMETERS = {"resnet_w4": 10_000, "resnet_w8": 40_000, "resnet_w16": 160_000, "convnext_w8": 60_000}
QUESTIONS = ("smooth-or-featured-gz2", "bar-gz2")


def law(n_params, n, seed, floor=1.0):
    rng = np.random.default_rng([n_params, n, seed])
    loss = floor + 0.5 * (n_params / 1e4) ** -0.2 + 2 * (n / 250) ** -0.4
    return loss * np.exp(0.004 * rng.standard_normal())


def record(encoder, n, seed, floor=True):
    loss = law(PARAMETERS[encoder], n, seed)
    return {
        "key": f"{encoder}-{n}-{seed}",
        "config": {"encoder": encoder, "n_train": n, "seed": seed},
        "metrics": {
            "loss": loss,
            "baseline": 9.0,
            "n_params": PARAMETERS[encoder],
            "questions": {name: loss / 2 for name in QUESTIONS},
            "floor": {"loss": 1.0, "questions": dict.fromkeys(QUESTIONS, 0.5)} if floor else None,
            "history": {"examples": [1], "val_loss": [loss]},
            "schema": "gz2",
        },
        "provenance": {"seconds": 3.6 * n},
        "survey": {"source": "sim:5000", "parts": ["sim:5000"]},
    }


@pytest.fixture(scope="module")
def runs():
    return StudyRuns([record(e, n, s) for n in reversed(SIZES) for e in sorted(PARAMETERS) for s in (1, 0)])


def test_runs_are_ordered_by_the_size_of_the_encoder(runs):
    assert list(runs.n_params) == ["resnet_w4", "resnet_w8", "convnext_w8", "resnet_w16"]
    assert runs.loss.dims == ("encoder", "n_train", "seed") and runs.loss.encoder.values.tolist() == list(runs.n_params)
    assert float(runs.loss.sel(encoder="resnet_w8", n_train=500, seed=1)) == law(40_000, 500, 1)
    assert runs.questions["question"].values.tolist() == list(QUESTIONS) and runs.floors.values.tolist() == [0.5, 0.5]
    assert runs.family == ["resnet_w4", "resnet_w8", "resnet_w16"] and runs.floor == 1.0
    assert runs.families.values.tolist() == ["resnet", "resnet", "convnext", "resnet"]
    assert runs.parameters.sel(encoder="convnext_w8") == 60_000 and float(runs.baseline.mean()) == 9.0
    assert runs.hours_per_galaxy["resnet_w4"] == pytest.approx(1e-3)
    assert list(runs.histories(1)) == ["250 training galaxies", "4,000 training galaxies"]
    assert list(runs.histories(0)["250 training galaxies"]) == sorted(PARAMETERS)
    grid = runs.grid(["resnet_w4"])
    assert len(grid) == 10 and set(grid.N) == {10_000.0} and list(grid) == ["N", "D", "loss"]
    assert runs.schema["bar-gz2"].campaign == "gz2"


def test_without_a_known_floor_there_is_none():
    runs = StudyRuns([record("resnet_w4", 250, 0, floor=False)])
    assert runs.floor is None and runs.floors is None


def test_fits_are_shown_with_intervals_that_hold_the_estimates(runs):
    fits = fit_curves(runs.loss)
    table = results.fits_table(fits)
    assert list(table) == ["E", "A", "α", "p of the misfit", "verdict"]
    for text in table[["E", "A", "α"]].to_numpy().ravel():
        value, low, high = (
            float(word) for word in text.strip(")").replace(" (", " to ").replace("\u00a0", " ").split(" to ")
        )
        assert low <= value <= high
    shown = results.exponents({"E = 0": fits})
    assert list(shown) == ["exponent α with E = 0"] and set(shown["exponent α with E = 0"]) == {
        "estimate",
        "low",
        "high",
    }


def ended(encoder, n, seed, best, last, loss, why="patience", patience=2):
    one = record(encoder, n, seed)
    steps = sorted({n * best // 2, n * best, n * last})
    values = [3.0, 1.0, 2.0][: len(steps)]
    one["metrics"] |= {"loss": loss, "history": {"examples": steps, "val_loss": values}}
    one["metrics"] |= {"end": {"best": n * best, "examples": n * last, "why": why}}
    one["config"]["recipe"] = {"patience": patience, "warmup_examples": 0}
    return one


def test_a_run_that_ended_early_and_far_above_its_sister_is_named_and_kept():
    made = StudyRuns(
        [
            ended("resnet_w4", 500, 0, 100, 130, 2.0),
            ended("resnet_w4", 500, 1, 20, 26, 2.3),
            ended("resnet_w4", 500, 2, 20, 26, 2.01),  # early, but no worse
            ended("resnet_w4", 1000, 0, 900, 1000, 1.9, why="epochs"),
        ]
    )
    ends = results.endings(made)
    assert ends.early.tolist() == [False, True, False, False] and ends.best.tolist() == [100, 20, 20, 900]
    said = results.early_words(ends)
    assert said.startswith("Of the 3 runs that were repeated with another seed, 1 ended")
    assert "resnet_w4 with 500 galaxies, seed 1: 2.30 nats after 26 epochs, where another seed came to 2.00" in said
    assert results.ended_words(ends) == (
        "3 of 4 runs ended because their validation loss no longer fell; 1 ended by its epochs."
    )
    assert results.early_words(ends[ends.n_train == 1000]).startswith("No encoder has two seeds")


def test_a_history_played_again_with_less_patience_tells_what_waiting_brought():
    one = ended("resnet_w4", 500, 0, 100, 130, 2.0)
    one["metrics"]["history"] = {"examples": [1, 2, 3, 4, 5, 6], "val_loss": [5.0, 4.0, 4.1, 3.5, 3.6, 3.7]}
    two = ended("resnet_w8", 500, 0, 100, 130, 2.0)
    two["metrics"]["history"] = {"examples": [1, 2, 3, 4], "val_loss": [5.0, 4.0, 4.1, 4.2]}
    table = results.waiting(StudyRuns([one, two, ended("resnet_w4", 1000, 0, 10, 13, 1.5)]))
    assert table["runs"].tolist() == [2, 1] and table["went on"].tolist() == [1, 0]
    assert table["gain"].tolist() == pytest.approx([0.25, 0]) and table["of a doubling"][0] == pytest.approx(0.5)
    assert results.waiting(StudyRuns([record("resnet_w4", 500, 0)])).empty


def test_the_design_says_what_is_there_and_what_is_not():
    study = pretraining_study("smoke")
    made = StudyRuns([record("resnet_w4", n, 0) for n in (75, 150)])
    table = results.design_table(study, made)
    assert table.loc["resnet_w4"].tolist() == ["10,000", "1 of 2", "1 of 2", "0 of 2", "0 of 2"]
    assert table.loc["resnet_w8"].tolist() == ["–", *["0 of 2"] * 4]
    assert results.counting_words(made) == "all test galaxies count alike"
    assert results.weighting_words(made) == "" and results.baseline_words(made).startswith("Predicting the mean")
    assert results.ending_words(study).startswith("The number of galaxies shown is fixed")
    assert "grew by 32 %" in results.ending_words(pretraining_study("study"))


def failing(success, p):
    coords = {"question": ["a", "b"], "encoder": ["x", "y"]}
    array = lambda values, dtype: xr.DataArray(np.array(values, dtype), coords, ["question", "encoder"])  # noqa: E731
    message = [["", ""], ["too few", ""]]
    return xr.Dataset(
        {"success": array(success, bool), "message": array(message, object), "lack_of_fit_p": array(p, float)}
    )


def test_failures_name_each_fit_and_each_curve_that_the_law_misses():
    fits = {
        "law": failing([[1, 1], [0, 1]], [[0.9, 1e-4], [np.nan, 0.5]]),
        "other": failing([[1, 1], [1, 1]], [[1, 1], [1, 1]]),
    }
    found = results.failures(fits, holm(fits["law"]["lack_of_fit_p"]), level=0.95)
    assert found.values.tolist() == [
        ["law", "b", "x", "too few"],
        ["law", "a", "y", "misses the means by more than the seeds' noise (p = 0.0003)"],
    ]
    assert results.failures({"other": fits["other"]}, holm(fits["other"]["lack_of_fit_p"]), level=0.95).empty
    assert results.described(fits["law"], level=0.95, noun="curves") == "in part: 2 of 4 curves"
    untested = fits["law"].assign(lack_of_fit_p=fits["law"]["lack_of_fit_p"] * np.nan)
    assert results.described(untested, level=0.95, noun="curves") == "not tested: one seed shows no noise"


def test_effects_are_sorted_and_adjusted(runs):
    above = runs.questions - runs.floors
    effect = encoder_effect(above.isel(n_train=slice(-2, None)), parameters=runs.parameters, family=runs.families)
    table = results.effect_table(effect, size_verdict(effect, bound=0.05))
    assert list(table) == ["question", "effect", "low", "high", "p", "more parameters"]
    assert table.effect.is_monotonic_increasing and (table.low <= table.effect).all() and (table.effect < 0).all()


def test_a_surface_is_told_in_words_or_why_there_is_none(runs):
    grid = runs.grid(runs.family)
    fits, refusal = cost.surfaces(grid, runs.floor, level=0.95)
    table = cost.surface_table(fits)
    assert not refusal and table.fit.unique().tolist() == ["E fitted", "E at the floor"]
    held = table[(table.fit == "E at the floor") & (table.parameter == "E")]
    assert held[["value", "verdict"]].values.tolist() == [["1.00", "held"]]
    assert "3 encoder sizes over 1.2 decades are a small design" in cost.surface_words(table, grid, "")
    vague = table.assign(verdict=["known to a factor 4" if name in ("A", "α") else "held" for name in table.parameter])
    assert "the runs leave A and α known no better than" in cost.surface_words(vague, grid, "")
    laws, best = cost.surface_laws(grid, level=0.95)
    assert laws["ΔAICc"].min() == 0 and len(laws) == 4 and laws.law.str.startswith("$").all()
    study = pretraining_study("smoke", encoders=runs.family)
    price = cost.training_cost(study, runs)
    assert price(160_000, 1000) > price(10_000, 1000) and price(10_000, 4000) == pytest.approx(2 * price(10_000, 1000))
    fitted, frontier = cost.best_split(best, grid, price)
    assert fitted(np.array([[1e4], [1.6e5]]), np.array([[250.0, 4000.0]])).shape == (2, 2)
    assert frontier.loss.values[-1] < frontier.loss.values[0]
    none, refusal = cost.surfaces(grid[grid.N < 2e4], None, level=0.95)
    assert none == {} and refusal
    assert cost.surface_words(cost.surface_table(none), grid, refusal).startswith("The design cannot tell: ")


def test_each_choice_of_the_atlas_has_a_row():
    laws = {"A n^-α": (0.03, np.nan), "E + A n^-α": (0.15, 17.6)}
    rows = [
        {"law": law, "alpha": alpha, "E": E, "forecast": 20.5 + alpha} | dict.fromkeys(CHOICES[1:], "one")
        for law, (alpha, E) in laws.items()
    ]
    table = results.atlas_table(pd.DataFrame(rows))
    assert list(table) == ["choice", "value", "α", "forecast", "fitted E"]
    assert table[table.choice == "law"].iloc[:, 1:].values.tolist() == [
        ["A n^-α", "0.030 (0.030\u00a0to\u00a00.030)", "20.53 (20.53\u00a0to\u00a020.53)", "–"],
        [
            "E + A n^-α",
            "0.150 (0.150\u00a0to\u00a00.150)",
            "20.65 (20.65\u00a0to\u00a020.65)",
            "17.60 (17.60\u00a0to\u00a017.60)",
        ],
    ]
    assert len(table) == 1 + len(CHOICES)


def test_extrapolation_is_judged_on_sets_that_were_left_out(runs):
    table = results.held_out_table(runs.loss.isel(encoder=[0]), level=0.95)
    assert table["extrapolated by"].tolist() == ["2 ×"]
    assert table["power law"][0] < 0.05 < table["last value"][0] and table["within the band"][0].endswith(" of 1")
    assert 0 < table["width of the band"][0] < 1


@pytest.fixture(scope="module")
def errors():
    """Galaxies remove a tenth of the errors; probes are as good as full finetuning on one of two tasks."""
    coords = {"task": ["a", "b"], "mode": ["linear", "full"], "start": ["ImageNet", "ImageNet + galaxies"]}
    coords |= {"n_train": [100, 200, 400], "seed": [0, 1, 2]}
    array = xr.DataArray(np.ones([len(values) for values in coords.values()]), coords)
    array = array * xr.DataArray([0.4, 0.3, 0.2], {"n_train": coords["n_train"]})
    array = array * xr.DataArray([1, 0.9], {"start": coords["start"]})
    array = array * xr.DataArray([[1, 1], [1.5, 1]], {"task": ["a", "b"], "mode": ["linear", "full"]})
    noise = np.random.default_rng(0).normal(1, 1e-3, array.shape)
    array = array * xr.DataArray(noise, array.coords)
    return array.where(~((array.task == "b") & (array.n_train == 400)))


def test_reductions_are_of_the_largest_number_of_labels_that_a_task_has(errors):
    table = results.reduction_table(errors)
    assert table[["mode", "task", "labels"]].values.tolist() == [
        ["linear", "a", 400], ["linear", "b", 200], ["full", "a", 400], ["full", "b", 200],
    ]  # fmt: skip
    assert table["reduction"].tolist() == pytest.approx([10] * 4, abs=0.3) and (table["±"] < 0.3).all()
    assert results.pretraining_claim(table).startswith("yes: all 2 tasks; mean reduction 10 %, p\u00a0=\u00a0")
    assert results.pretraining_claim(table[table.task == "a"]) == "yes: all 1 tasks; mean reduction 10 %, one task"
    assert results.probe_claim(errors) == "in part: 3 of 5 comparisons shown to be at most 5 % worse"
    assert results.probe_claim(errors.isel(seed=[0])) == "not tested: one seed shows no noise"


def test_pretraining_is_worth_labels_up_to_those_that_were_tried(errors):
    table = results.labels_worth(errors)
    assert table.labels.tolist() == [200, 200] and table.error.tolist() == pytest.approx([0.27, 0.405], abs=0.01)
    assert 230 < float(table["labels from ImageNet"][0]) < 250 and table["labels from ImageNet"][1] == "> 200"


def test_a_ladder_on_real_galaxies_is_told_with_its_law(tmp_path, monkeypatch):
    from gzlib import paths

    (tmp_path / "data" / "benchmarks").mkdir(parents=True)
    file = tmp_path / "data" / "benchmarks" / "real_points.json"
    rows = [
        {"galaxies": g, "n_train": n, "seed": s, "loss": (0.3 + 5 * n**-0.5) * (1 + 0.004 * s), "error": n**-0.3}
        | {"baseline_error": 0.5, "n_test": 661, "n_classes": 6}
        for g in ("real", "simulated")
        for n in (75, 150, 300, 600, 1200, 2400)
        for s in (0, 1, 2)
    ]
    file.write_text(json.dumps({"runs": rows}))
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    loss = results.real_points()
    assert dict(loss.sizes) == {"galaxies": 2, "n_train": 6, "seed": 3}
    table = results.real_table(loss)
    assert table.loc[300, "real: error"] == pytest.approx(100 * 300**-0.3)
    told = results.real_words(loss, 0.95)
    assert told.count("with an exponent of 0.5") == 2 and told.count("within the band") == 2
    assert "on 6 classes: loss 0.88 to 0.40 nats from 75 to 2,400 galaxies" in results.real_short(loss)
    file.unlink()
    assert results.real_points() is None and results.real_short(None) == "not measured"


def test_the_worst_distance_of_a_forecast_is_named():
    held = ["97 of 100", "80 of 100", "95 of 100"]
    table = pd.DataFrame({"extrapolated by": ["2 ×", "4 ×", "8 ×"], "within the band": held})
    told = results.held_words(table, level=0.95)
    assert "97 of 100 by 2 ×, 80 of 100 by 4 ×, 95 of 100 by 8 ×" in told
    assert told.endswith("The fewest, 80 %, by 4 ×, are short of what the band promises.")
    assert results.held_words(table[::2], level=0.95).endswith("95 %, by 8 ×, are at or above what the band promises.")


def test_the_outcome_of_one_run_is_held_to_the_band_of_one_run():
    sizes = 500 * 2.0 ** np.arange(6)
    noise = 0.05 * np.random.default_rng(0).standard_normal((6, 3))
    curve = xr.DataArray(
        (0.2 + (sizes / 500) ** -0.4)[:, None] * np.exp(noise), {"n_train": sizes}, ("n_train", "seed")
    )
    widths = {}
    for runs in (1, 3):
        own = curve.where((curve.n_train < sizes[-1]) | (xr.DataArray(np.arange(3), dims="seed") < runs))
        widths[runs] = results.held_out_table(own, level=0.95, fitted=False)["width of the band"].iloc[0]
    assert widths[1] > 1.2 * widths[3]


def test_devices_are_counted_and_several_runs_have_several_ends():
    moved = {"provenance": {"device": "a GPU, its end on a CPU"}}
    once = [moved, {"provenance": {"device": "a CPU"}}, {"provenance": {"device": "a CPU"}}]
    assert results.device_words(once) == "2 on a CPU; 1 on a GPU&#44; its end on a CPU"
    assert results.device_words([moved, moved]) == "2 on a GPU&#44; their ends on a CPU"


def atlas_file(folder, exponents, *, noise=0.0, lost=()):
    """``recipe-atlas.json`` of recipes with known exponents above a floor of 18; the study's with three seeds."""
    rng, cells = np.random.default_rng(0), []
    for recipe, exponent in exponents.items():
        for seed in range(3 if recipe == "study" else 1):
            for n in (500, 2000, 8000):
                loss = 18 + 9 * (n / 500) ** -exponent * np.exp(noise * rng.standard_normal())
                found = {"loss": None if (recipe, n) in lost else loss, "floor": 18.0}
                cells.append({"candidate": recipe, "seed": seed, "n_train": n} | found)
    file = folder / "data" / "benchmarks" / "recipe-atlas.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"cells": cells}))


def test_recipes_have_the_exponents_that_were_put_in(tmp_path, monkeypatch):
    monkeypatch.setattr("gzlib.paths.ROOT", tmp_path)
    exponents = {"study": 0.15, "twice the budget": 0.18, "other": 0.12, "lost": 0.1}
    assert not len(results.recipe_atlas()) and "Too few" in results.recipe_words(results.recipe_atlas())
    atlas_file(tmp_path, exponents, lost=[("lost", 8000)])
    atlas = results.recipe_atlas()
    assert atlas.recipe.tolist() == ["study", "study", "study", "twice the budget", "other", "lost"]
    known = atlas[atlas.recipe != "lost"]
    assert known.alpha.tolist() == pytest.approx([exponents[name] for name in known.recipe])
    assert known.forecast.tolist() == pytest.approx([18 + 9 * 128 ** -exponents[name] for name in known.recipe])
    assert atlas[atlas.recipe == "lost"].alpha.isna().all()
    told = results.recipe_words(atlas)
    assert "too few to split its variance" in told
    assert "Over 3 recipes" in told and "within 0.120 to 0.180 (0.150 with" in told
    assert "Twice the budget moves the exponent by +20 %" in told and told.endswith(
        "1 recipe was started and lacks a run."
    )


def test_variance_is_split_into_recipe_fit_and_seed(tmp_path, monkeypatch):
    monkeypatch.setattr("gzlib.paths.ROOT", tmp_path)
    alike = {name: 0.15 for name in ("study", *"abcdefghij")}
    atlas_file(tmp_path, alike, noise=0.02)
    spread = results.recipe_spread(results.recipe_atlas())
    assert spread.alpha["seed"] == pytest.approx(0.02 / np.log(4) / np.sqrt(2), rel=0.6)
    assert spread.alpha["recipe"] < 1.5 * spread.alpha["seed"]  # recipes that do not differ
    (tmp_path / "data" / "benchmarks" / "recipe-atlas.json").unlink()
    (tmp_path / "data" / "benchmarks").rmdir()
    atlas_file(tmp_path, alike | dict(zip("abcdefghij", np.linspace(0.1, 0.2, 10), strict=True)), noise=0.002)
    spread = results.recipe_spread(results.recipe_atlas())
    assert spread.alpha["recipe"] == pytest.approx(np.linspace(0.1, 0.2, 10).std(ddof=1), rel=0.15)
    assert re.search(
        r"Of its variance (9\d|100) % are the recipe's, \d % the", results.recipe_words(results.recipe_atlas())
    )
    assert spread["alpha share"]["recipe"] > 0.9 and spread["forecast share"].sum() == pytest.approx(1)
