"""Tables of the sky's benchmarks: made from committed reports, and missed loudly when a report is missing."""

import json

import pytest

from gzlib import paths
from gzlib.errors import UserError
from gzlib.sky import sky_identity
from gzlib.study import sheets


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)

    def write(name, records):
        folder = tmp_path / "data" / "benchmarks"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(records))

    return write


def test_votes_table_has_a_row_for_each_question(project):
    detail = {"mean_gap": 0.01, "entropy": [0.4, 0.5], "votes_reaching": [4.5, 4.6], "galaxies_compared": [900, 1234]}
    project("sky_votes", [{"name": "votes.bar-gz2", "value": 0.02, "detail": detail}])
    table = sheets.votes_table()
    assert table.loc["bar-gz2"].tolist() == [0.01, 0.02, 0.4, 0.5, 4.5, 4.6, "1,234"]


def test_pictures_table_shows_every_view_and_the_yardstick(project):
    detail = {"auc": {"full": 0.9, "grey_blurred": 0.8}, "auc_real_half_against_half": 0.51}
    detail |= {"sky": sky_identity(), "auc_fresh_encoder": [0.8, 0.86]}
    structure = {measure: {"real": [2.0, 1, 3], "simulated": [2.5, 1, 4]} for measure in sheets._MEASURES}
    project(
        "sky_realism",
        [
            {"name": "sky.realism.gz2.matched", "value": 0.9, "detail": detail},
            {"name": "sky.structure.gz2", "value": 0.7, "detail": {"sky": sky_identity(), "measures": structure}},
            {"name": "sky.realism.yardstick", "value": 0.97, "detail": {"size": 64}},
            {"name": "sky.realism.gz2.matched", "value": 0.95, "detail": detail | {"sky": "another"}},
        ],
    )
    table = sheets.pictures_table()
    assert table.loc["GZ2: real against simulated (matched)"].to_dict() == {
        "full": 0.9,
        "grey blurred": 0.8,
        "fresh encoder": 0.83,
    }
    assert "GZ2: real against simulated (matched; version before)" in table.index
    assert table["full"].tolist() == [0.9, 0.9, 0.51, 0.97]
    assert table["grey blurred"].isna().sum() == 2
    found = sheets.structure_table()
    assert found.loc[("GZ2", "neighbours")].tolist() == [2.0, 2.5] and list(found.columns) == ["real", "simulated"]


def test_transfer_table_keeps_both_starts_and_leaves_the_mean_out(project):
    detail = {"imagenet": 0.3, "sky": 0.25, "joined": 0.2, "standard_error": 0.05}
    project(
        "sky_transfer",
        [
            {"name": "sky.transfer.decals_rings", "value": 0.33, "detail": detail | {"start": "imagenet"}},
            {"name": "sky.transfer.decals_rings", "value": 0.1, "detail": detail | {"start": "random"}},
            {"name": "sky.transfer", "value": 0.33, "detail": {"start": "imagenet"}},
        ],
    )
    table = sheets.transfer_table()
    assert table.xs("imagenet", level="start")["errors removed"].tolist() == [0.33] and len(table) == 2
    words = sheets.transfer_words(table)
    assert "33 % of ImageNet's errors vanish, on average over the 1 sets" in words and "version before" in words


def test_a_transfer_that_was_not_measured_says_so(project):
    table = sheets.transfer_table()
    assert table["errors removed"].tolist() == ["not measured"]
    assert "not been measured" in sheets.transfer_words(table)


def test_a_missing_report_names_the_command_that_makes_it(project):
    with pytest.raises(UserError, match=r"sky_votes.json is missing; run `python benchmarks/sky_votes.py --write`"):
        sheets.votes_table()
