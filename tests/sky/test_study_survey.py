"""The survey of the study: all campaigns, divided as the paper's, with a published split."""

import numpy as np
import pytest

from gzlib import open_source, sky
from gzlib.data import curate, open_survey
from gzlib.errors import UserError
from gzlib.sky.source import STUDY_SHARES, _blocks


@pytest.mark.parametrize("n", [500, 16_000, 64_000])
def test_training_galaxies_divide_as_the_paper_s_and_the_others_equally(n):
    blocks = _blocks("study", n, list(sky.CAMPAIGNS))
    count = {side: {part: c for part, _, c, s in blocks if s == side} for side in ("train", "val", "test")}
    assert sum(count["train"].values()) == n
    share = np.array(list(STUDY_SHARES.values())) / sum(STUDY_SHARES.values())
    np.testing.assert_allclose([count["train"][part] / n for part in STUDY_SHARES], share, atol=1.5 / n)
    assert set(count["val"].values()) == {1_000} and set(count["test"].values()) == {2_000}


def test_training_sets_that_grow_never_reach_the_galaxies_that_are_held_back():
    blocks = _blocks("study", 1_000_000, list(sky.CAMPAIGNS))
    ends = [first + count for _, first, count, side in blocks if side == "train"]
    assert max(ends) < min(first for _, first, _, side in blocks if side == "val")


@pytest.mark.slow
def test_the_published_split_is_kept(monkeypatch, tmp_path):
    monkeypatch.setattr("gzlib.sky.source.STUDY_HELD", {"val": (3, 10_000_000), "test": (5, 20_000_000)})
    source = open_source("sim:study:200")
    assert source.has_published_split and source.galaxies == 200 + 8 * 8
    data = open_survey(curate("sim:study:200", out=tmp_path / "survey", size=16, split="published", progress=False))
    sides, campaigns = data["split"].values, data["dataset_name"].values
    assert {side: int((sides == side).sum()) for side in ("train", "val", "test")} == {
        "train": 200,
        "val": 24,
        "test": 40,
    }
    assert len(set(campaigns[sides == "test"])) == 8
    assert len(set(data["id_str"].values)) == 264


def test_a_study_without_a_number_is_refused():
    with pytest.raises(UserError, match="sim:study:16000"):
        open_source("sim:study")
