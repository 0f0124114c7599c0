"""Contact sheets and ladders: every question climbs from few to many, and figures of pictures stay small."""

import io

import numpy as np
import pytest
from PIL import Image

from gzlib import sky
from gzlib.data.schema import load_schema
from gzlib.errors import UserError
from gzlib.study import figures, sheets
from gzlib.study.sheets import _rungs, ladders, telling_answer


@pytest.mark.parametrize("campaign", sky.CAMPAIGNS)
def test_every_question_of_every_campaign_has_a_ladder_that_climbs(campaign):
    found = ladders(campaign, seed=0, steps=6, galaxies=1200)
    assert list(found) == [telling_answer(question) for question in load_schema(campaign).questions]
    for name, (numbers, chance) in found.items():
        assert len(numbers) == len(chance) == len(set(numbers.tolist())) <= 6, name
        assert (np.diff(chance) > 0).all(), name
    for base in ("smooth-or-featured", "disk-edge-on", "bar", "how-rounded"):
        _, chance = found[telling_answer(load_schema(campaign)[f"{base}-{campaign}"])]
        assert chance[0] < 0.2 and chance[-1] > 0.75, base


def test_a_ladders_chances_are_the_truth_of_the_simulated_galaxies():
    numbers, chance = ladders("dr5", ["merging-dr5_merger"], seed=4, steps=5, galaxies=600)["merging-dr5_merger"]
    truth = sky.simulate("dr5", numbers, seed=4, size=8).truth["merging-dr5_merger_probability"]
    np.testing.assert_array_equal(truth, chance)


def test_ladders_leave_spoilt_pictures_out_unless_they_are_the_question():
    _, (numbers, _) = ladders("cd", ["bar-cd_strong"], seed=0, galaxies=1200).popitem()
    truth = sky.simulate("cd", numbers, seed=0, size=8).truth
    assert truth[["visible_fault", "visible_star_target"]].to_numpy().max() < 0.2
    _, (numbers, _) = ladders("cd", ["artifact-cd_satellite"], seed=0, galaxies=1200).popitem()
    assert sky.simulate("cd", numbers[-1:], seed=0, size=8).truth["visible_trail"].item() > 0.2


def test_rungs_are_even_distinct_and_no_more_than_there_are():
    value = np.random.default_rng(0).uniform(size=500)
    np.testing.assert_allclose(value[_rungs(value, 5)], np.linspace(value.min(), value.max(), 5), atol=0.02)
    crowded = np.array([0.0, 0.01, 0.02, 0.03, 1.0])
    assert sorted(set(_rungs(crowded, 4))) == sorted(_rungs(crowded, 4))
    assert _rungs(np.array([0.5, 0.1]), 8) == [1, 0]


@pytest.mark.parametrize(
    ("campaign", "answers", "words"),
    [("gz3", None, "Unknown campaign 'gz3'"), ("gz2", ["spiral"], "no answer 'spiral'")],
)
def test_unknown_campaigns_and_answers_are_refused(campaign, answers, words):
    with pytest.raises(UserError, match=words):
        ladders(campaign, answers, seed=0)


def test_a_block_of_ladders_has_every_question_of_the_campaign():
    block = sheets.simulated_ladders("candels", steps=3, size=16)
    assert len(block) == len(load_schema("candels").questions) and "bar:\nyes" in block
    for pictures, chance in block.values():
        assert pictures.shape == (len(chance), 16, 16, 3)


def test_figures_of_pictures_are_small_and_leave_no_figure_open():
    import matplotlib.pyplot as plt

    noisy = np.random.default_rng(0).integers(0, 60, (12, 32, 32, 3), dtype=np.uint8)
    strip = (noisy[:8], np.linspace(0, 1, 8))
    empty = (noisy[:0], np.zeros(0))
    before = plt.get_fignums()
    for figure in (
        sheets.campaign_sheets(dict.fromkeys("abcdefgh", noisy)),
        sheets.vote_ladders([{f"question {i}": strip for i in range(10)} | {"never asked": empty}]),
        sheets.vote_ladders([{"one": strip}, {"one": strip, "two": strip}], titles=["left", "right"]),
    ):
        jpeg = sheets.as_jpeg(figure)
        picture = Image.open(io.BytesIO(jpeg.data))
        assert jpeg.format == "jpeg" and picture.format == "JPEG" and len(jpeg.data) < 400_000
        assert picture.width == 1672 and jpeg.width == 836
    assert plt.get_fignums() == before


def test_first_answers_and_fractions_are_those_of_the_votes():
    schema = load_schema("gz2")
    votes = np.zeros((3, len(schema.label_cols)), int)
    first, edge = schema["smooth-or-featured-gz2"], schema["disk-edge-on-gz2"]
    votes[:, first.columns] = [[1, 8, 1], [30, 10, 0], [0, 0, 4]]
    votes[0, edge.columns] = [2, 6]
    assert sheets.first_answers(schema, votes) == ["featured 0.80", "smooth 0.75", "artifact 1.00"]
    found = sheets.answer_fractions(schema, votes, campaign="gz2", least=5)
    assert found["smooth-or-featured-gz2: smooth"].tolist() == [0.1, 0.75]
    assert found["disk-edge-on-gz2: yes"].tolist() == [0.25] and len(found) == len(schema.questions)
    assert sheets.answer_fractions(schema, votes, campaign="dr5", least=5) == {}


def test_neighbours_are_those_whose_features_point_the_same_way():
    angle = np.radians([0, 2, 90, 93, 180, 5])
    features = np.column_stack([np.cos(angle), np.sin(angle)]) * np.array([1, 9, 1, 2, 3, 1])[:, None]
    assert sheets.nearest(features, 2).tolist() == [[1, 5], [0, 5], [3, 5], [2, 4], [3, 2], [1, 0]]
    classes = ["a", "a", "b", "b", "c", "a"]
    said = sheets.neighbour_words(classes, {"these": sheets.nearest(features, 1)})
    assert "Of the 1 nearest neighbours of each of 6 galaxies, 83 % with these are of its own class" in said
    assert said.endswith("by chance it would be 27 %.")  # (3 * 2 + 2 * 1 + 1 * 0) / (6 * 5)


def test_weights_that_learned_galaxies_put_alike_ones_together():
    images, classes = sheets.task_galaxies("galaxy10", 120, size=32)
    assert images.shape == (120, 32, 32, 3) and len(set(classes)) == 10
    features = {name: sheets.encoded(images, "resnet_w24", name) for name in ("random", "sky")}
    for values in features.values():
        assert values.shape == (120, 192)
        np.testing.assert_allclose(values.mean(0), 0, atol=1e-4)
    of = np.array(classes)
    own = {name: np.mean(of[sheets.nearest(values, 5)] == of[:, None]) for name, values in features.items()}
    assert own["sky"] > own["random"] + 0.1
    first, second = sheets.principal(features["sky"]).T
    assert abs(first @ second) < 1e-2 * (first @ first) and first.var() > second.var()
    assert "The two components hold" in sheets.principal_words(features)
    picture = Image.open(
        io.BytesIO(sheets.as_jpeg(sheets.neighbour_sheet(images, classes, sheets.nearest(features["sky"], 5))).data)
    )
    assert picture.width > picture.height / 2


REPORT = {
    "rows": [
        {"task": task, "arm": arm, "error": error, "few": {}}
        for task, errors in (("gz2_five_classes", (0.3, 0.1)), ("decals_rings", (0.2, 0.25)))
        for arm, error in zip(("ImageNet", "ImageNet + galaxies"), errors, strict=True)
    ]
}


def test_pairs_of_real_tasks():
    pairs = sheets.transfer_slopes(REPORT, sheets.finetuned_table(REPORT))
    assert list(pairs) == ["linear probes, all labels"]
    assert pairs["linear probes, all labels"].to_numpy().tolist() == [[0.3, 0.1], [0.2, 0.25]]
    assert sheets.slopes_words(pairs) == "Errors fall on 1 of 2 tasks (linear probes, all labels)."
    axes = figures.slopes(pairs, y="test error").axes
    assert [line.get_ydata().tolist() for line in axes[0].lines] == [[0.3, 0.1], [0.2, 0.25]]


def test_a_probe_of_features_that_tell_the_classes_is_right_and_sure():
    generator = np.random.default_rng(0)
    classes = generator.choice(["a", "b", "c"], 300).tolist()
    telling = np.eye(3)[np.unique(classes, return_inverse=True)[1]] * 6 + generator.standard_normal((300, 3))
    found = {"noise": generator.standard_normal((300, 3)), "what tells them": telling}
    found = {name: sheets.probe_reliability(values.astype(np.float32), classes, 150) for name, values in found.items()}
    assert found["what tells them"]["error"] < 0.02 and found["noise"]["error"] > 0.5
    for one in found.values():
        assert sum(bin["n"] for bin in one["bins"]) == 150 and one["calibration_error"] < 0.15
    said = sheets.reliability_words(found)
    assert (
        said.startswith("With noise the probe is right for") and "; with what tells them the probe is right for" in said
    )
    drawn = figures.reliability({name: one["bins"] for name, one in found.items()})
    shown = drawn.axes[1].collections[0].get_offsets()[:, 1].tolist()
    assert shown == [one["accuracy"] for one in found["what tells them"]["bins"]]


def test_intervals_of_shares_are_wilsons():
    low, high = figures._binomial(np.array([0.5, 1.0, 0.0]), np.array([40, 90, 10]))
    np.testing.assert_allclose(low, [0.3520, 0.9591, 0.0], atol=2e-4)  # statsmodels' proportion_confint(..., "wilson")
    np.testing.assert_allclose(high, [0.6480, 1.0, 0.2775], atol=2e-4)
