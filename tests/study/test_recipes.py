"""The study's recipe, and the benchmark that compares it with others."""

import json

import pytest
import recipe as benchmark

from gzlib.config import PretrainConfig, SurveySpec
from gzlib.study import study_recipe


def test_the_recipe_lets_a_run_find_its_own_end():
    for encoder in ("resnet_w4", "resnet_w44", "convnext_w16", "tf_efficientnet_lite0"):
        recipe = study_recipe(encoder, 1_000)
        assert recipe.schedule == "constant" and recipe.patience and recipe.spacing
        assert recipe.most_examples(2_000) == 2 * recipe.most_examples(1_000)


def test_few_galaxies_and_wide_encoders_are_regularised_most():
    galaxies = [study_recipe("resnet_w32", n) for n in (500, 1_000, 4_000, 64_000)]
    assert [recipe.dropout for recipe in galaxies] == [0.7, 0.7, 0.305, 0.058]
    assert [recipe.weight_decay for recipe in galaxies] == [0.3, 0.3, 0.15, 0.05]
    assert [study_recipe("resnet_w8", n).epochs for n in (500, 4_000, 16_000, 64_000)] == [1000, 500, 250, 125]
    widths = [study_recipe(f"resnet_w{width}", 1_000).drop_path for width in (4, 8, 16, 32, 44)]
    assert widths == [0.0, 0.0, 0.1, 0.2, 0.246]
    assert study_recipe("tf_efficientnet_lite0", 4_000).drop_path == 0.044


def test_the_atlas_has_many_recipes_at_three_sizes():
    cells = list(benchmark.atlas())
    assert len({cell.key for cell in cells}) == len(cells)
    for n in (500, 2_000, 8_000):
        assert sum(cell.config.n_train == n for cell in cells) >= 32


def test_convergence_changes_budget_and_rate_at_both_ends():
    cells = list(benchmark.convergence())
    assert {cell.config.n_train for cell in cells} == {500, 16_000}
    study = [c for c in cells if c.candidate == "study"]
    for cell in cells:
        own = next(
            s for s in study if (s.config.encoder, s.config.n_train) == (cell.config.encoder, cell.config.n_train)
        )
        ratio = cell.config.recipe.learning_rate / own.config.recipe.learning_rate
        longer = cell.config.recipe.patience / own.config.recipe.patience
        expected = {"half the rate": (0.5, 1), "twice the rate": (2, 1), "twice the budget": (1, 2), "study": (1, 1)}
        assert (ratio, longer) == expected[cell.candidate]


def test_a_comparison_goes_on_where_it_was_cut_off(tmp_path, monkeypatch):
    survey, made = SurveySpec("sim:gz2:160", size=32), []
    cells = [benchmark.Cell(f"seed {s}", PretrainConfig("resnet_w4", 60, seed=s), survey) for s in range(3)]

    def measure(cell):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(cell.key)
        return {"key": cell.key, "candidate": cell.candidate, "loss": 1.0, "epochs": 3.0, "seconds": 1.0}

    monkeypatch.setattr(benchmark, "STORE", tmp_path)
    monkeypatch.setattr(benchmark, "measure", measure)
    monkeypatch.setitem(benchmark.COMPARISONS, "few", lambda: iter(cells))
    with pytest.raises(KeyboardInterrupt):
        benchmark.carry_out("few")
    kept = json.loads((tmp_path / "recipe-few.json").read_text())
    assert [cell["key"] for cell in kept["cells"]] == made == [cell.key for cell in cells[:2]]
    made.clear()
    assert [result["candidate"] for result in benchmark.carry_out("few")] == ["seed 0", "seed 1", "seed 2"]
    assert made == [cells[2].key]
    assert len(benchmark.carry_out("few", only="seed 1")) == 1
