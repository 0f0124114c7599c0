"""The run store: what it holds for each test galaxy, what it exports, and what it refuses to touch."""

import base64
import copy
import gc
import json
import math
import re
import shutil
import zlib

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from gzlib import paths
from gzlib.cli import main
from gzlib.config import FinetuneConfig, PretrainConfig, Recipe, SurveySpec
from gzlib.data import make_survey, open_survey
from gzlib.errors import Busy, UserError
from gzlib.files import held
from gzlib.models.weights import load_encoder
from gzlib.training import (
    export_runs,
    find_key,
    per_galaxy,
    read_run,
    remove_runs,
    rerun,
    run,
    runs_listing,
    runs_table,
    stored_records,
    unfinished_runs,
)
from gzlib.training.store import LOCK, pack_per_galaxy, write_run

RECIPE = Recipe(examples=64, batch_size=32, evaluations=1)
SURVEY, TASK = SurveySpec("sim:gz2:160", size=32), SurveySpec("sim:galaxy10:120", size=32)


@pytest.fixture(scope="module")
def trained(surveys, tmp_path_factory):
    """A store with one run of each kind, and their records by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "SURVEYS", surveys)
        for name in ("STORE", "BOOK_RUNS"):
            patch.setattr(paths, name, tmp_path_factory.mktemp(name.lower()))
        return paths.STORE, _train()


@pytest.fixture
def made(store, trained):
    """The records by name, their runs in a store of the test's own."""
    shutil.copytree(trained[0], paths.STORE)
    return copy.deepcopy(trained[1])


def _train():
    runs = {"pretrain": run(PretrainConfig("resnet_w4", 60, recipe=RECIPE), SURVEY)}
    runs["probe"] = run(FinetuneConfig("galaxy10", "resnet_w4", 60, recipe=RECIPE), TASK)
    rings = SurveySpec("sim:rings:120", size=32)
    runs["rings"] = run(FinetuneConfig("rings", "resnet_w4", 60, label="ring_fraction", recipe=RECIPE), rings)
    return runs


@pytest.mark.parametrize("n", [1, 7, 8, 1000])
def test_values_of_test_galaxies_survive_packing(n):
    rng = np.random.default_rng(n)
    loss, right = rng.uniform(0, 60, n), rng.random(n) < 0.3
    tiny, huge = 1e-60 * loss, 1e60 * loss  # squared errors of fluxes and masses
    for values, what in ((loss, "loss"), (right, "right"), (tiny, "squared_error"), (huge, "squared_error")):
        record = json.loads(json.dumps({"key": "a", "test": pack_per_galaxy(values, what=what)}))
        unpacked = per_galaxy(record)
        assert len(unpacked) == n
        np.testing.assert_allclose(unpacked, values, rtol=1e-3, atol=1e-4 * values.max())
    with pytest.raises(UserError, match="without a value for each test galaxy"):
        per_galaxy({"key": "a", "test": None})


def test_a_run_holds_its_test_galaxies_one_by_one(made):
    n_test = int((open_survey(make_survey(SURVEY)).split == "test").sum())
    loss = per_galaxy(made["pretrain"])
    assert len(loss) == n_test and loss.mean() == pytest.approx(made["pretrain"]["metrics"]["loss"], rel=1e-3)
    right = per_galaxy(made["probe"])
    assert right.dtype == bool and 1 - right.mean() == pytest.approx(made["probe"]["metrics"]["error"], abs=1e-6)
    squared = per_galaxy(made["rings"])
    assert squared.mean() ** 0.5 == pytest.approx(made["rings"]["metrics"]["error"], rel=1e-3)


def test_a_run_says_when_it_was_made_and_of_what(made):
    record = made["pretrain"]
    assert pd.Timestamp(record["provenance"]["started"]) <= pd.Timestamp.now("UTC")
    assert record["survey"]["parts"] == [{"source": "sim:gz2:160", "simulated": True}]
    assert record["weights"] is None


def test_runs_are_exported_with_all_their_settings(made, tmp_path):
    records = stored_records()
    export_runs(records, tmp_path / "runs.csv")
    export_runs(records, tmp_path / "runs.nc")
    table = pd.read_csv(tmp_path / "runs.csv", index_col="key")
    assert len(table) == 3 and table["recipe.augment.flip"].all() and set(table.kind) == {"pretrain", "finetune"}
    key = made["pretrain"]["key"]
    assert table.loc[key, "loss"] == pytest.approx(made["pretrain"]["metrics"]["loss"])
    with xr.open_dataset(tmp_path / "runs.nc", engine="h5netcdf") as data:
        one = data.sel(run=key)
        assert float(one["loss"]) == pytest.approx(made["pretrain"]["metrics"]["loss"])
        assert str(one["encoder"].values) == "resnet_w4" and float(one["n_train"]) == 60
        assert float(one["question.smooth-or-featured-gz2"]) > 0
        assert set(data.data_vars) == set(table.columns)
    with pytest.raises(UserError, match=r"\.csv or \.nc"):
        export_runs(records, tmp_path / "runs.xlsx")
    with pytest.raises(UserError, match="no such runs"):
        export_runs([], tmp_path / "none.csv")


@pytest.mark.parametrize("kind", [None, "pretrain", "finetune"])
def test_a_csv_is_what_pandas_writes(kind, tmp_path):
    """Of the book's runs, some of which have gaps in columns of whole numbers, fractions and words."""
    records = stored_records(kind, store=paths.project() / "data" / "runs")
    export_runs(records, tmp_path / "runs.csv")
    table = pd.DataFrame(runs_table(records)).set_index("key")
    assert table.dtypes.map(str).nunique() > 2
    assert (tmp_path / "runs.csv").read_bytes() == table.to_csv(lineterminator="\n").encode()


def test_a_listing_needs_no_other_column_than_it_shows():
    records = stored_records(store=paths.project() / "data" / "runs")[:40]
    rows = runs_table(records)
    names = ["key", "kind", "task", "mode", "encoder", "weights", "source", "n_train", "seed"]
    table = pd.DataFrame([{name: row[name] for name in names} for row in rows])
    table["result"] = [row["loss"] if row["kind"] == "pretrain" else row["error"] for row in rows]
    table["started"] = [row["started"] or "" for row in rows]
    words = [i for i, name in enumerate(table) if name not in ("n_train", "seed", "result")]
    assert runs_listing(records) == table.to_markdown(index=False, floatfmt=".4f", intfmt=",", disable_numparse=words)


def test_reading_a_store_leaves_the_search_for_garbage_as_it_was(own_store):
    for switch in (gc.disable, gc.enable):
        switch()
        try:
            assert stored_records() == [] and gc.isenabled() == (switch is gc.enable)
        finally:
            gc.enable()


def test_runs_are_listed_shown_and_removed_from_the_command_line(made, capsys, tmp_path):
    capsys.readouterr()
    assert main(["runs", "ls"]) == 0
    assert capsys.readouterr().out.count("resnet_w4") == 3
    assert main(["runs", "ls", "--kind", "finetune", "--where", "task=rings", "-q"]) == 0
    assert capsys.readouterr().out.split() == [made["rings"]["key"]]
    assert main(["runs", "ls", "--where", "colour=red"]) == 2
    assert "runs have no 'colour'" in capsys.readouterr().err
    assert main(["runs", "show", made["rings"]["key"]]) == 0
    assert json.loads(capsys.readouterr().out) == made["rings"]
    assert main(["runs", "show", "abc"]) == 2
    (tmp_path / "other").mkdir()
    assert main(["runs", "--store", str(tmp_path / "other"), "ls"]) == 0
    assert "no runs in" in capsys.readouterr().out


def test_only_runs_of_the_users_store_are_removed(made, monkeypatch):
    keys = [record["key"] for record in made.values()]
    (paths.STORE / "run.json").write_text("{}")  # a stray file must not make the store itself a run
    for wrong in (["abc"], [keys[0], "../outside"], [".."], ["."], [""], [keys[0][:8]], ["0" * 16]):
        with pytest.raises(UserError, match="There is no run"):
            remove_runs(wrong)
    assert len(stored_records()) == 3
    (paths.STORE / ("f" * 16)).mkdir()
    (paths.STORE / ("f" * 16) / "failed.json").write_text("{}")
    assert unfinished_runs() == ["f" * 16]
    remove_runs([*keys[:2], keys[0], "f" * 16])
    assert unfinished_runs() == []
    assert [record["key"] for record in stored_records()] == [keys[2]]
    monkeypatch.setattr(paths, "BOOK_RUNS", paths.STORE)
    with pytest.raises(UserError, match="the book's own runs"):
        remove_runs(keys[2:])


@pytest.mark.parametrize("place", ["notes.md", "tensorboard/notes.md", "weights.safetensors.mine"])
def test_a_run_is_not_removed_with_a_file_of_the_users(made, place):
    keys = [record["key"] for record in made.values()]
    note = paths.STORE / keys[1] / place
    note.parent.mkdir(exist_ok=True)
    note.write_text("years of work")
    with pytest.raises(UserError, match=re.escape(f"holds '{place}'")):
        remove_runs(keys)
    assert note.is_file() and len(stored_records()) == 3


def test_a_run_that_is_being_made_is_not_removed(made):
    key = made["rings"]["key"]
    with held(paths.STORE / key / LOCK, "It"), pytest.raises(Busy, match=f"Run {key} is being made"):
        remove_runs([key])
    assert len(stored_records()) == 3


@pytest.mark.parametrize("key", ["../up", "/up", "a/b", "a\0b", "", "..", ".hidden", "a\n", "k" * 300])
def test_a_key_is_no_path(own_store, key):
    with pytest.raises(UserError, match="is not a name for a run"):
        read_run(key)
    with pytest.raises(UserError, match="Unknown weights|no file or folder of weights|holds no weights"):
        load_encoder("resnet_w4", key)
    for act in (find_key, rerun, lambda key: remove_runs([key])):
        with pytest.raises(UserError, match="There is no run"):
            act(key)


def test_a_key_may_be_given_by_its_first_digits(made):
    key = made["rings"]["key"]
    assert find_key(key) == find_key(key[:12]) == key
    for text in ("", "xyz"):
        with pytest.raises(UserError, match="There is no run"):
            find_key(text)
    twin = "".join([key[:-1], "0" if key[-1] != "0" else "1"])
    shutil.copytree(paths.STORE / key, paths.STORE / twin)
    with pytest.raises(UserError, match=f"2 runs have keys that begin with '{key[:12]}' .{min(key, twin)}, "):
        find_key(key[:12])
    (paths.STORE / ("f" * 16) / "run.json").mkdir(parents=True)
    for text in ("f" * 16, "\u200fx" * 100):
        with pytest.raises(UserError, match="There is no run") as error:
            find_key(text)
        assert len(str(error.value)) < 400 + 2 * len(str(paths.STORE)) and "\u200f" not in str(error.value)
    (paths.STORE / ("f" * 16) / "run.json").rmdir()
    (paths.STORE / ("f" * 16)).rmdir()
    shutil.rmtree(paths.STORE / twin)


def at(path, value):
    """Put a value somewhere in a record; ``...`` takes away what is there."""

    def change(record):
        record = copy.deepcopy(record)
        *outer, last = path.split(".")
        place = record
        for name in outer:
            place = place[int(name) if isinstance(place, list) else name]
        if value is ...:
            del place[last]
        else:
            place[last] = value
        return json.dumps(record)

    return change


DAMAGED = [
    (lambda r: "", "is damaged (EOF while parsing"),
    (lambda r: "\0" * 40, "is damaged"),
    (lambda r: json.dumps(r)[:-20], "is damaged"),
    (lambda r: "[" * 100_000, "is damaged (it is nested too deeply)"),
    (lambda r: b"\xff\xfe\x00", "is damaged"),
    (lambda r: "9" * 10_000, "is damaged"),
    (lambda r: None, "is damaged"),
    (lambda r: "[]", "(not a JSON object)"),
    (lambda r: "null", "(not a JSON object)"),
    (at("config", []), "'config' is []"),
    (at("config", ...), "'config' is missing"),
    (at("config.encoder", 7), "'config.encoder' is 7: input should be a valid string"),
    (at("config.n_train", "60"), "'config.n_train' is '60'"),
    (at("config.n_train", -1), "'config.n_train' is -1"),
    (at("config.n_train", 1.5), "'config.n_train' is 1.5"),
    (at("config.n_train", True), "'config.n_train' is True"),
    (at("config.n_train", 10**30), "'config.n_train' is 1000"),
    (at("config.seed", None), "'config.seed' is None"),
    (at("config.recipe", "fast"), "'config.recipe' is 'fast'"),
    (at("config.mode", ...), "'config.mode' is missing"),
    (at("config.task", []), "'config.task' is []"),
    (at("survey", {}), "'survey.source' is missing"),
    (at("survey.parts", [1]), "'survey.parts.0' is 1"),
    (at("survey.parts.0.simulated", "yes"), "'survey.parts.0.simulated' is 'yes'"),
    (at("survey.fingerprint", 5), "'survey.fingerprint' is 5"),
    (at("survey.size", "32"), "'survey.size' is '32'"),
    (at("weights", []), "'weights' is []"),
    (at("weights", {"tag": "x"}), "'weights.sha256' is missing"),
    (at("metrics", None), "'metrics' is None"),
    (at("metrics.loss", "low"), "'metrics.loss' is 'low'"),
    (at("metrics.loss", None), "'metrics.loss' is None"),
    (at("metrics.loss", math.nan), "'metrics.loss' is nan"),
    (at("metrics.loss", -math.inf), "'metrics.loss' is -inf"),
    (at("metrics.error", None), "'metrics.error' is missing"),
    (at("metrics.questions", None), "'metrics.questions' is None"),
    (at("metrics.questions", {"a": "b"}), "'metrics.questions.a' is 'b'"),
    (at("metrics.history", {"examples": [1], "train_loss": [], "val_loss": []}), "its lists differ in length"),
    (at("metrics.floor", {"questions": {}}), "'metrics.floor.loss' is missing"),
    (at("kind", "other"), "'kind' is 'other': input should be 'pretrain' or 'finetune'"),
    (at("key", "0" * 16), "its key is '0000000000000000'"),
    (at("key", 0), "'key' is 0"),
    (at("test", ...), "'test' is missing"),
    (at("test", {"what": "wrong", "n": 1, "data": ""}), "'test.what' is 'wrong'"),
    (at("provenance.seconds", "long"), "'provenance.seconds' is 'long'"),
    (at("provenance.device", None), "'provenance.device' is None"),
    (at("provenance.git", 5), "'provenance.git' is 5"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("change", "problem"), DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_record_is_told_and_the_others_are_listed(made, capsys, tmp_path, change, problem):
    key = made["rings"]["key"]
    file = paths.STORE / key / "run.json"
    changed = change(made["rings"])
    file.unlink()
    if changed is None:
        file.mkdir()
    else:
        file.write_bytes(changed if isinstance(changed, bytes) else changed.encode())
    with pytest.raises(UserError, match=re.escape(problem)) as told:
        stored_records()
    assert "\n" not in str(told.value) and str(told.value).endswith("delete it to make the run again.")
    assert main(["runs", "ls", "-q"]) == 0
    told = capsys.readouterr()
    assert len(told.out.split()) == 2 and key not in told.out and problem in told.err
    assert main(["runs", "export", str(tmp_path / "runs.nc")]) == 0
    assert main(["runs", "rm", key]) == 0 and not (paths.STORE / key).exists()


@pytest.mark.parametrize(
    "change",
    [
        {"data": "not base64!"},
        {"data": ""},
        {"data": base64.b64encode(b"no zlib").decode()},
        {"data": base64.b64encode(zlib.compress(bytes(10**6))).decode()},  # more than is said
        {"n": 3},
        {"n": 10**15},
        {"what": "right"},
    ],
)
def test_damaged_values_of_test_galaxies_are_told(made, change):
    record = copy.deepcopy(made["pretrain"])
    record["test"] |= change
    with pytest.raises(UserError, match=f"test galax.*{record['key']}|{record['key']}.*test galaxies"):
        per_galaxy(record)


def test_a_run_whose_result_is_no_number_is_not_stored(made):
    record = copy.deepcopy(made["pretrain"]) | {"key": "0" * 16}
    record["metrics"]["loss"] = math.nan
    with pytest.raises(UserError, match=r"Run '0{16}' is not stored: 'metrics.loss' is None"):
        write_run(record)
    assert not (paths.STORE / ("0" * 16)).exists()


def test_an_export_needs_a_file_and_runs(made, tmp_path, capsys):
    (tmp_path / "folder.nc").mkdir()
    assert main(["runs", "export", str(tmp_path / "folder.nc")]) == 2
    assert "is a folder" in capsys.readouterr().err
    assert main(["runs", "export", str(tmp_path / "a.csv"), "--where", "encoder=nope"]) == 2
    assert "no such runs" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    for store, message in (("nowhere", "There is no folder"), ("file", "is a file")):
        assert main(["runs", "ls", "--store", str(tmp_path / store)]) == 2
        assert message in capsys.readouterr().err


def test_the_books_runs_are_read_and_never_written(made, monkeypatch, tmp_path):
    """A user's store lies before the book's: what is there is taken, what is made goes to the user's own."""
    monkeypatch.setattr(paths, "BOOK_RUNS", paths.STORE)
    monkeypatch.setattr(paths, "STORE", tmp_path / "own")
    before = sorted((file, file.stat().st_mtime_ns) for file in paths.BOOK_RUNS.rglob("*"))
    config = PretrainConfig("resnet_w4", 60, recipe=RECIPE)
    assert run(config, SURVEY) == made["pretrain"] and stored_records() == []
    (paths.BOOK_RUNS / made["pretrain"]["key"] / "weights.safetensors").rename(tmp_path / "elsewhere")
    again = run(config, SURVEY, need_weights=True)
    assert again["metrics"] == made["pretrain"]["metrics"]
    assert (paths.STORE / again["key"] / "weights.safetensors").read_bytes() == (tmp_path / "elsewhere").read_bytes()
    (tmp_path / "elsewhere").rename(paths.BOOK_RUNS / made["pretrain"]["key"] / "weights.safetensors")
    after = sorted((file, file.stat().st_mtime_ns) for file in paths.BOOK_RUNS.rglob("*"))
    assert [file for file, _ in after] == [file for file, _ in before]
    assert read_run(again["key"])["provenance"]["started"] == again["provenance"]["started"]


def test_a_table_of_runs_is_flat_and_names_its_columns(made):
    rows = runs_table(stored_records())
    assert all(
        row.keys() >= {"key", "kind", "encoder", "n_train", "recipe.examples", "source", "started"} for row in rows
    )
    assert not any(isinstance(value, dict) for row in rows for name, value in row.items() if name != "weights")
