"""Contact sheets and ladders: every question climbs from few to many, and figures of pictures stay small."""

import io

import numpy as np
import pytest
from PIL import Image

from gzlib import sky
from gzlib.data.schema import load_schema
from gzlib.errors import UserError
from gzlib.study import sheets
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
