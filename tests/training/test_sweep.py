"""Sweeps that are killed, that meet each other, a full disk, a read-only or a damaged store."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gzlib import paths
from gzlib.config import Conduct, FinetuneConfig, PretrainConfig, Recipe, SurveySpec
from gzlib.data.curation import make_survey
from gzlib.errors import Busy, NotWritten, UserError
from gzlib.files import held, is_held, replace_file
from gzlib.training import runs, sweeps
from gzlib.training.runs import key_of, run
from gzlib.training.store import stored_records
from gzlib.training.sweeps import Tally, sweep

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).parents[1] / "crash_program.py"
KEPT = {"run.json", "weights.safetensors", "progress.jsonl"}
quiet = lambda line: None  # noqa: E731


@pytest.fixture(scope="module")
def crashes(tmp_path_factory):
    """Where the program of dying sweeps worked, and what it found."""
    folder = tmp_path_factory.mktemp("crashes")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, PROGRAM, folder, "sweeps"]
    done = subprocess.run(command, cwd=paths.ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def results(store: Path) -> dict:
    """Metrics and weights of every run of a store, which holds nothing else."""
    found = {}
    for folder in store.iterdir():
        names = {file.name for file in folder.iterdir()}
        assert KEPT >= names >= {"run.json", "weights.safetensors"}
        metrics = json.loads((folder / "run.json").read_text())["metrics"]
        found[folder.name] = metrics, (folder / "weights.safetensors").read_bytes()
    return found


def test_a_sweep_killed_at_ten_random_moments_comes_to_the_same_results(crashes):
    folder, found = crashes
    assert found["at_random"] == {"ends": [-9] * 10, "last": 0}
    whole = results(folder / "at_random" / "whole")
    assert len(whole) == 30
    assert results(folder / "at_random" / "cut") == whole  # bit for bit


def test_a_run_killed_anywhere_in_its_storing_loses_nothing(crashes):
    folder, found = crashes
    moments = len(found["everywhere"]["ends"])
    assert moments > 20
    assert found["everywhere"] == {"ends": [-9] * moments, "last": 0}
    whole = results(folder / "everywhere" / "whole")
    for moment in range(1, moments + 1):
        assert results(folder / "everywhere" / f"cut-{moment}") == whole


def test_two_sweeps_at_once_make_each_run_once(crashes):
    folder, found = crashes
    assert found["two"] == {"ends": [0, 0]}
    trained = (folder / "two" / "trained").read_text().split()
    made = results(folder / "two" / "whole")
    assert sorted(trained) == sorted(made)
    assert len(made) == 12


@pytest.fixture
def jobs(store):
    """Three short runs on a store of the test's own."""
    recipe = Recipe(examples=64, batch_size=32, evaluations=1)
    survey = SurveySpec("sim:gz2:160", size=32)
    return [(PretrainConfig("convnext_w4", 60, seed=seed, recipe=recipe), survey) for seed in range(3)]


def refuse(monkeypatch, number: int, *, only: str = ""):
    """An operating system that refuses to open files (with this in their names) for writing."""
    real, low = open, os.open

    def refusing(file, mode="r", *args, **kwargs):
        if "w" in mode and only in str(file):
            raise OSError(number, os.strerror(number))
        return real(file, mode, *args, **kwargs)

    def refusing_low(file, flags, *args, **kwargs):
        if flags & (os.O_WRONLY | os.O_RDWR) and only in str(file):
            raise OSError(number, os.strerror(number))
        return low(file, flags, *args, **kwargs)

    monkeypatch.setattr("builtins.open", refusing)
    monkeypatch.setattr(os, "open", refusing_low)


def test_a_full_disk_stops_a_sweep_with_one_sentence_and_costs_nothing(jobs, monkeypatch):
    first = run(*jobs[0], conduct=Conduct(report=quiet))
    lines = []
    with monkeypatch.context() as full:
        refuse(full, errno.ENOSPC, only=".weights.safetensors.tmp")
        with pytest.raises(NotWritten, match=r"weights.safetensors' could not be written \(No space left") as caught:
            sweep(jobs, conduct=Conduct(report=lines.append))
    assert "\n" not in str(caught.value)
    assert stored_records() == [first]
    assert not any("[3/3]" in line for line in lines)  # the next run would have met the same
    assert len(sweep(jobs, conduct=Conduct(report=quiet))) == 3
    assert set(results(paths.STORE)) == {key_of(*job) for job in jobs}


def test_a_read_only_store_is_told_before_anything_is_trained(jobs, monkeypatch):
    monkeypatch.setattr(runs, "_train", None)

    def read_only(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as locked:
        locked.setattr(os, "mkdir", read_only)
        locked.setattr(Path, "mkdir", read_only)
        with pytest.raises(NotWritten, match="Read-only file system"):
            sweep(jobs, conduct=Conduct(report=quiet))
    assert not paths.STORE.exists()


def test_an_old_file_survives_a_write_that_fails(tmp_path, monkeypatch):
    file = tmp_path / "a.json"
    assert replace_file(file, "old")
    assert not replace_file(file, "old")
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", lambda number: (_ for _ in ()).throw(OSError(errno.EDQUOT, "Disk quota exceeded")))
        with pytest.raises(NotWritten, match="Disk quota exceeded"):
            replace_file(file, "new")
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"key": "abc", "kind": "pre', "is damaged"),
        ("\x00" * 40, "is damaged"),
        ("[1, 2]", "is not the record of run"),
        ('{"epoch": 3, "loss": 0.2}', "is not the record of run"),
    ],
)
def test_a_damaged_or_foreign_record_costs_only_itself(jobs, content, sentence):
    key, lines = key_of(*jobs[1]), []
    file = paths.STORE / key / "run.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    records = sweep(jobs, conduct=Conduct(report=lines.append))
    assert [record["config"]["seed"] for record in records] == [0, 2]
    assert any(sentence in line and "delete it" in line for line in lines)
    assert file.read_text() == content  # it is the user's to judge
    with pytest.raises(UserError, match=sentence):
        stored_records()


def test_a_run_that_another_process_makes_is_left_for_last_and_waited_for(jobs, monkeypatch):
    lines, key = [], key_of(*jobs[0])
    monkeypatch.setattr("gzlib.files.POLL_SECONDS", 0.01)
    lock = held(paths.STORE / key / runs.LOCK, f"Run {key}")
    lock.__enter__()
    with pytest.raises(Busy, match=f"Run {key} is being made by process {os.getpid()} on"):
        run(*jobs[0], wait=False)

    def report(line):
        lines.append(line)
        if "waiting for it" in line:
            lock.__exit__(None, None, None)

    probe = FinetuneConfig("galaxy10", "convnext_w4", 60, weights=key)  # has to wait with it
    records = sweep([*jobs, (probe, SurveySpec("sim:galaxy10:160", size=32))], conduct=Conduct(report=report))
    assert [record["kind"] for record in records] == ["pretrain"] * 3 + ["finetune"]
    assert sum("left for the end" in line for line in lines) == 2
    assert not list(paths.STORE.glob("*/.lock"))


def test_what_a_killed_process_left_locks_nothing_and_goes(jobs):
    folder = paths.STORE / key_of(*jobs[0])
    folder.mkdir(parents=True)
    (folder / ".lock").write_text("process 1 on another machine, long dead")
    assert not is_held(folder / ".lock")
    run(*jobs[0], conduct=Conduct(report=quiet))
    for name in (".lock", "checkpoint.pt", "failed.json", ".run.json.tmp-77"):
        (folder / name).write_text("left over")
    run(*jobs[0], conduct=Conduct(report=quiet))
    assert set(results(paths.STORE)) == {folder.name}


def test_what_cannot_be_tidied_away_costs_no_run(jobs):
    folder = paths.STORE / key_of(*jobs[0])
    for name in ("failed.json", ".run.json.tmp-77"):
        (folder / name / "within").mkdir(parents=True)
    for _ in range(2):  # made, then read
        assert run(*jobs[0], conduct=Conduct(report=quiet))["key"] == folder.name
    assert (folder / "failed.json" / "within").is_dir()


def test_a_checkpoint_of_weights_that_are_made_again_stays(jobs):
    folder = paths.STORE / run(*jobs[0], conduct=Conduct(report=quiet))["key"]
    (folder / "weights.safetensors").unlink()
    (folder / "checkpoint.pt").write_text("half way")
    run(*jobs[0], conduct=Conduct(report=quiet))
    assert (folder / "checkpoint.pt").exists()


def test_locks_exclude_threads_and_are_told_from_files(tmp_path):
    path = tmp_path / "deep" / "a.lock"
    with held(path, "It"):
        assert is_held(path)
        with pytest.raises(Busy), held(path, "It"):
            pass
    assert not path.exists()
    assert not is_held(path)


def test_the_tally_counts_and_guesses():
    recipe = Recipe(examples=100)
    left = {f"{i}": (PretrainConfig("convnext_w4", 60, seed=i, recipe=recipe), None) for i in range(4)}
    tally = Tally(left, total=6)
    assert tally.line() == "2 of 6 runs done"
    tally.started -= 30
    tally.end("0")
    tally.end("1", failed=True)
    tally.end("present before")
    tally.running = 2
    assert tally.line() == "3 of 6 runs done, 2 running, 1 failed, about 30 s left"


def test_a_sweep_makes_no_run_of_another_survey_than_it_was_planned_for(store, monkeypatch):
    """Where somebody puts another survey into the folder that its plan names."""
    folder, said = store / "sky", []
    shutil.copytree(make_survey(SurveySpec("sim:gz2:160", size=32)), folder)
    named, recipe, run = SurveySpec(str(folder), size=32), Recipe(examples=32, batch_size=32, evaluations=1), sweeps.run

    def disturbed(*args, **kwargs):
        record = run(*args, **kwargs)
        shutil.rmtree(folder)
        shutil.copytree(make_survey(SurveySpec("sim:gz2:160", size=32, seed=5)), folder)
        return record

    monkeypatch.setattr(sweeps, "run", disturbed)
    jobs = [(PretrainConfig("resnet_w4", 60, seed=seed, recipe=recipe), named) for seed in range(3)]
    records = sweep(jobs, workers=1, conduct=Conduct(report=said.append))
    assert len(records) == 1 and len(list(paths.STORE.glob("*/run.json"))) == 1
    assert sum("has changed since run" in line for line in said) == 2 and "2 of 3 runs failed" in said[-1]


def test_a_helping_sweep_keeps_to_the_keys_that_were_planned(store):
    """A helper starts later than the sweep that it helps: meanwhile the survey may have changed."""
    folder, said = store / "sky", []
    shutil.copytree(make_survey(SurveySpec("sim:gz2:160", size=32)), folder)
    job = PretrainConfig("resnet_w4", 60), SurveySpec(str(folder), size=32)
    planned = [key_of(*job)]
    shutil.rmtree(folder)
    shutil.copytree(make_survey(SurveySpec("sim:gz2:160", size=32, seed=5)), folder)
    assert not sweep([job], workers=1, conduct=Conduct(report=said.append), planned=planned)
    assert any("has changed since run" in line for line in said) and not list(paths.STORE.glob("*/run.json"))
