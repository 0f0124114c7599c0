"""Data sets of the hub, from one that is served here: the protocol, the cache, and what is refused."""

import pytest
from huggingface_hub import constants
from local_hub import serving
from rehearsal import CAMPAIGNS, SHARDS, summary_class, write_shards

from gzlib import sky
from gzlib.data import curate, open_survey, read_report
from gzlib.data.schema import load_schema
from gzlib.errors import UserError


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder of data sets that programs find as they find the hub."""
    with serving(tmp_path / "hub") as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield tmp_path / "hub" / "datasets"


@pytest.mark.slow
def test_galaxies_come_from_the_hub_as_it_publishes_them(hub, own_store, monkeypatch):
    write_shards(112, hub / "someone" / "gz_evo" / "data", jpeg_side=48, least=1)
    names = sorted(file.name for file in (hub / "someone" / "gz_evo" / "data").iterdir())
    assert len(names) == sum(SHARDS.values()) == 37 and names[0] == "test-00000-of-00007.parquet"
    folder = curate("hub:someone/gz_evo", size=32, split="source", progress=False)
    report, survey = read_report(folder), open_survey(folder)
    assert report["counts"]["galaxies"] == 112 and report["counts"]["rejected"] == 0
    assert report["counts"]["splits"]["test"] == round(112 * 141_760 / 805_600)
    assert set(survey.attrs["schema"].split("+")) == set(CAMPAIGNS)
    assert report["labels"] == {"summary": "string"}  # fractions and totals are computed from votes, and no labels
    assert {part["simulated"] for part in report["parts"]} == {False}
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    again = curate("hub:someone/gz_evo", size=16, split="source", progress=False)  # what was downloaded needs no hub
    assert read_report(again)["counts"] == report["counts"]
    with pytest.raises(UserError, match="could not be reached for data set 'someone/other'"):
        curate("hub:someone/other", size=16, progress=False)


def test_what_the_hub_does_not_have(hub, own_store):
    hub.mkdir(parents=True)
    with pytest.raises(UserError, match="'someone/none'"):
        curate("hub:someone/none", size=16, progress=False)


@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_a_summary_follows_the_votes(campaign):
    schema, votes = load_schema(campaign), sky.simulate(campaign, range(60), seed=3, size=16).votes
    found = summary_class(votes, schema)
    first = schema.questions[0]
    smooth = votes[:, first.columns.start] > votes[:, first.columns].sum(1) / 2
    assert set(found[smooth]) <= {"", "smooth_round", "smooth_cigar"}
    assert "" in found or len(set(found)) > 1
    assert not set(found[~smooth]) & {"smooth_round", "smooth_cigar"}


@pytest.mark.long
def test_the_real_survey_rehearsed(tmp_path):
    """2,000 simulated galaxies as the hub's shards, through every command, each a program of its own."""
    from rehearsal import rehearse

    steps = {step["step"]: step for step in rehearse(2_000, tmp_path)}
    assert list(steps) == ["draw", "download", "curate", "train", "fit"]
    assert steps["curate"]["kept"] == 2_000
    assert len(steps["train"]["losses"]) == 4
    assert steps["fit"]["curve"]["verdict"]
    assert all(step["peak_bytes"] > 0 for name, step in steps.items() if name != "draw")
