"""The comparison of times with Zoobot: how rows come from runs, and runs of a few dozen galaxies."""

import argparse

import harness
import numpy as np
import pandas as pd
import pytest
import time_to_loss as bench
import torch
from PIL import Image

from gzlib.config import study_recipe
from gzlib.errors import UserError
from gzlib.models.heads import concentrations
from gzlib.training.loop import validation_steps

TINY = bench.Setting(("test_efficientnet",), galaxies=80, jpeg_side=64, size=32, epochs=1, cap=1, batch=16)
BESIDE = {"processor": 10.0, "seconds": 40.0}  # a quarter of a core
ABOUT = {"baseline": 12.0, "setting": bench.FULL}


def run(*losses, each: float, why: str = "end") -> dict:
    """A run that took ``each`` second for each of its validations, after 100 galaxies each."""
    points = [
        {"processor": each * i, "seconds": 4 * each * i, "loss": loss, "examples": 100 * i}
        for i, loss in enumerate(losses, start=1)
    ]
    return {"points": points, "n_train": 100, "why": why} | {k: points[-1][k] for k in ("processor", "seconds")}


def compared(recipe: str, target: float, ours: dict, theirs: dict) -> dict:
    return bench.comparison(recipe, "some_encoder", target, ours, theirs, BESIDE, **ABOUT)


def test_time_to_the_loss_has_curation_in_it():
    theirs, ours = run(9, 8, 7, 8, each=30, why="patience"), run(9.5, 7, 6, each=5)
    row = compared("own", 7, ours, theirs)
    assert row["value"] == pytest.approx(90 / (10 + 2 * 5)) and row["ok"] and row["clock"] == "processor"
    assert row["times"]["gzlib"]["processor"] == 20 and row["per_galaxy"] == {"gzlib": 0.05, "zoobot": 0.3}
    assert "Zoobot 90 s (epoch 3 of 4), gzlib 20 s (epoch 2; 10 s of it to curate)" in row["detail"]
    assert "a galaxy shown takes 300.0 and 50.0 ms" in row["detail"]
    assert "Zoobot's patience ended" in row["detail"]
    # To the losses on Zoobot's way: 9 and 8 were first reached by our second validation.
    assert [(one["loss"], one["ratio"]) for one in row["along"]] == [(9, 1.5), (8, 3.0), (7, 4.5)]


def test_a_slower_tool_is_said_to_be_slower_and_one_that_never_gets_there_too():
    row = compared("same", 8, run(9, 8, each=50), run(9, 8, each=30))
    assert row["value"] == pytest.approx(60 / 110) and row["ok"] is False
    never = compared("own", 7, run(9, 8, each=5), run(9, 7, each=30))
    assert never["value"] == 0 and never["ok"] is False and never["times"]["gzlib"] is None
    assert "gzlib never, its lowest is 8.000" in never["detail"]
    assert never["along"][-1]["ratio"] is None
    assert bench.smallest("own", [row, never])["value"] == 0
    absent = {"value": None, "encoder": "other"}
    good = compared("own", 7, run(7, each=1), run(7, each=90, why="patience"))
    assert good["ok"] is True
    assert compared("own", 7, run(7, each=1), run(7, each=90))["ok"] is None  # Zoobot was stopped, and might go lower
    idle = compared("same", 11.95, run(11.9, each=1), run(11.95, each=90))
    assert idle["ok"] is None and "mean votes gives 12.000, so that nothing had been learned" in idle["detail"]
    assert bench.smallest("own", [good, absent])["ok"] is None and bench.smallest("own", [absent])["value"] is None
    assert bench.smallest("own", [never, absent])["ok"] is False


def test_what_is_not_started_in_time_is_not_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "need", lambda *_: None)
    folder = tmp_path / f"{TINY.galaxies}-{TINY.jpeg_side}-{TINY.size}"
    folder.mkdir()
    (folder / "curation.json").write_text("{}")
    rows = list(bench.rows(setting=TINY, results=tmp_path, minutes=-1))
    assert [row["value"] for row in rows] == [None] * 4 and all(row["ok"] is None for row in rows)
    assert "'zoobot-same-test_efficientnet-1' was not run" in rows[0]["detail"]


def test_wall_time_counts_where_a_program_had_a_processor_to_itself():
    alone = {"processor": 10.0, "seconds": 10.0}
    theirs, ours = (run(9, 8, each=each) | {"seconds": 2 * each} for each in (30, 5))
    theirs["points"] = [point | {"seconds": point["processor"]} for point in theirs["points"]]
    ours["points"] = [point | {"seconds": point["processor"] + 10} for point in ours["points"]]
    row = bench.comparison("same", "some_encoder", 8, ours, theirs, alone, **ABOUT)
    assert row["clock"] == "seconds" and row["value"] == pytest.approx(60 / 30)
    assert "other jobs" not in row["detail"]


def test_each_galaxy_is_another_and_is_drawn_once(tmp_path):
    catalog = bench.draw(2 * bench.BLOCK - 3, tmp_path, jpeg_side=32)
    table = pd.read_csv(catalog, dtype={"id_str": str})
    assert table.id_str.is_unique and len(table) == 97
    assert table.split.value_counts().to_dict() == {"train": 78, "val": 9, "test": 10}
    images = [np.asarray(Image.open(file)) for file in table.file_loc]
    assert images[0].shape == (32, 32, 3) and len({image.tobytes() for image in images}) == 97
    written = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.jpg")}
    (tmp_path / f"galaxies-{bench.BLOCK:06d}.csv").unlink()
    assert bench.draw(2 * bench.BLOCK - 3, tmp_path, jpeg_side=32) == catalog
    again = {int(file.stem.split("-")[-1]) for file, before in written.items() if file.stat().st_mtime_ns != before}
    assert again == set(range(bench.BLOCK, 97))  # the block whose table was missing


def test_the_mean_votes_are_what_a_network_starts_from(tmp_path):
    table = pd.read_csv(bench.draw(80, tmp_path, jpeg_side=32))
    schema = bench.load_schema("gz2")
    train, val = (table.loc[table.split == side, schema.label_cols] for side in ("train", "val"))
    linear = torch.nn.Linear(4, len(schema.label_cols))
    bench.start_at_mean(linear, table[table.split == "train"], schema)
    predicted = concentrations(linear(torch.zeros(len(val), 4))).detach()
    expected = bench.vote_loss([predicted], [torch.from_numpy(val.to_numpy()).float()], schema)
    assert bench.mean_votes_loss(table) == pytest.approx(expected, rel=0.01) and len(train) == 64


def test_without_zoobot_the_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs zoobot, galaxy_datasets, lightning, not installed here"):
        next(bench.rows(results=tmp_path))


@pytest.mark.parametrize("recipe", ["same", pytest.param("own", marks=pytest.mark.long)])
def test_both_tools_train_on_the_same_galaxies(recipe, tmp_path):
    pytest.importorskip("zoobot", reason="Zoobot is not installed here (the extra 'bench')")
    made = bench.Runs(TINY, tmp_path)
    row = made.compare(recipe, "test_efficientnet")
    ours, theirs = row["runs"]["gzlib"], row["runs"]["zoobot"]
    assert ours["n_train"] == theirs["n_train"] and made.curation["galaxies"] == TINY.galaxies
    assert {point["galaxies"] for one in (ours, theirs) for point in one["points"]} == {8}
    assert [point["examples"] for point in theirs["points"]] == [64]  # four batches of 16
    if recipe == "own":  # whose validations are those of the recipe that the command comes to
        rule = study_recipe("test_efficientnet", ours["n_train"])
        steps = sorted(validation_steps(rule, 10**4, rule.batch_size, ours["n_train"]))
        assert [point["examples"] for point in ours["points"]] == [
            step * rule.batch_size for step in steps[: len(ours["points"])]
        ]
    assert row["value"] > 0 and row["target"] >= min(point["loss"] for point in theirs["points"])
    before = sorted((file.name, file.stat().st_mtime_ns) for file in made.folder.glob("*.json"))
    assert bench.Runs(TINY, tmp_path).compare(recipe, "test_efficientnet") == row  # nothing is run again
    assert sorted((file.name, file.stat().st_mtime_ns) for file in made.folder.glob("*.json")) == before


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "ten"])
def test_a_length_of_time_is_a_number(text):
    with pytest.raises((argparse.ArgumentTypeError, ValueError)):
        harness.span(text)
    assert harness.span("2.5") == 2.5
