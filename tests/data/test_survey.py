"""A curated survey opens as named arrays, lazily, and hands out nested training subsets."""

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from survey_inputs import gz2_table, stub_sky, write_evo

from gzlib import paths
from gzlib.config import SurveySpec
from gzlib.data.curation import curate, make_survey
from gzlib.data.schema import load_schema
from gzlib.data.survey import open_survey, open_truth, training_subset
from gzlib.errors import UserError
from gzlib.sky import source


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setattr(source, "sky", stub_sky())
    monkeypatch.setattr(paths, "SURVEYS", tmp_path / "surveys")
    return make_survey(SurveySpec("sim:gz2+dr5:60", size=16), progress=False)


def test_layout(folder):
    survey = open_survey(folder)
    assert dict(survey.sizes) == {"galaxy": 60, "y": 16, "x": 16, "band": 3, "answer": 64}
    assert survey.images.dtype == np.uint8 and survey.votes.dtype == np.int32
    assert list(survey.answer.values) == load_schema("gz2+dr5").label_cols
    assert {"id_str", "dataset_name", "ra", "dec", "split", "band"} <= set(survey.coords)
    assert survey.attrs["schema"] == "gz2+dr5" and survey.attrs["simulated"] == 1
    assert survey.attrs["source"] == "sim:gz2+dr5:60"
    assert set(survey.split.values) == {"train", "val", "test"}
    assert load_schema(survey.attrs["schema"]).name == "gz2+dr5"


def test_pictures_stay_on_the_disk(folder):
    images = open_survey(folder).images.variable._data
    array = images
    while not isinstance(array, np.memmap):
        array = array.base  # ends with an AttributeError if no memory map is behind it
    assert str(array.filename).endswith("images.npy") and not array.flags.writeable


def test_galaxies_keep_their_rows(folder):
    survey, truth = open_survey(folder), open_truth(folder)
    assert list(truth["id_str"]) == list(survey.id_str.values)
    np.testing.assert_array_equal(survey.images[:, 0, 0, 0], truth["index"] % 251)
    is_gz2 = survey.dataset_name.values == "sim-gz2"
    assert (truth["gz2_probability"].notna() == is_gz2).all() and (truth["dr5_probability"].isna() == is_gz2).all()
    asked = np.where(is_gz2, 0, 30)
    np.testing.assert_array_equal(survey.votes.values[np.arange(60), asked], truth["index"] % 7)


def test_real_survey_has_no_truth(tmp_path):
    real = curate(str(write_evo(tmp_path / "in", gz2_table(4))), out=tmp_path / "out", size=16, progress=False)
    with pytest.raises(UserError, match="true properties are unknown"):
        open_truth(real)


def test_what_is_no_survey_or_damaged_is_refused(folder, tmp_path):
    with pytest.raises(UserError, match="not a curated survey"):
        open_survey(tmp_path)
    report = json.loads((folder / "survey.json").read_text())
    (folder / "survey.json").write_text(json.dumps(report | {"counts": {"galaxies": 59}}))
    with pytest.raises(UserError, match="60 images, 60 catalogue rows, 59 reported"):
        open_survey(folder)
    (folder / "images.npy").write_bytes(b"")
    with pytest.raises(UserError, match="damaged"):
        open_survey(folder)
    (folder / "survey.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        open_survey(folder)


def toy_survey(ids):
    split = np.where(pd.Series(ids).str[-1].isin(list("01")), "test", "train")
    return xr.Dataset(coords={"id_str": ("galaxy", ids), "split": ("galaxy", split)}, attrs={"source": "toy"})


def test_training_subsets_are_nested_and_seeded():
    survey = toy_survey([f"t{i}" for i in range(200)])
    subsets = [training_subset(survey, n, seed=1) for n in (10, 50, 160)]
    for small, large in pairwise(subsets):
        np.testing.assert_array_equal(large[: len(small)], small)
    assert subsets[0].dtype == np.int64 and len(set(subsets[2])) == 160
    assert (survey.split.values[subsets[2]] == "train").all()
    assert set(training_subset(survey, 50, seed=2)) != set(subsets[1])
    for n in (161, 0):
        with pytest.raises(UserError, match=f"{n} training galaxies are wanted.*has 160"):
            training_subset(survey, n, seed=1)


def test_the_order_survives_growth_and_resorting():
    small = toy_survey([f"t{i}" for i in range(100)])
    large = toy_survey([f"t{i}" for i in range(300)][::-1])
    before = small.id_str.values[training_subset(small, 80, seed=5)]
    after = [i for i in large.id_str.values[training_subset(large, 240, seed=5)] if i in set(before)]
    assert list(before) == after
