"""Sweeps in several processes: they share the work, come to the same results, and leave nobody behind."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest
import torch

from gzlib import paths
from gzlib.config import Conduct, PretrainConfig, Recipe, SurveySpec
from gzlib.errors import UserError
from gzlib.training import distributed as workers
from gzlib.training import sweeps
from gzlib.training.runs import run
from gzlib.training.sweeps import sweep

pytestmark = pytest.mark.slow

SURVEY = SurveySpec("sim:gz2:160", size=32)
quiet = lambda line: None  # noqa: E731


def jobs(n, *, examples):
    recipe = Recipe(examples=examples, batch_size=32, evaluations=1)
    return [(PretrainConfig("resnet_w4", 60, seed=seed, recipe=recipe), SURVEY) for seed in range(n)]


def helpers_of(pid: int) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(pid).children():
        with suppress(psutil.NoSuchProcess):  # one that has just ended is a zombie, which has no command line
            found += [child] if "gzlib.training.distributed" in child.cmdline() else []
    return found


def until(condition, *, seconds=60):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def test_a_helper_takes_its_share_and_the_results_are_those_of_one_process(store, monkeypatch):
    listed, seen = jobs(3, examples=32 * 200), []
    assert len(sweep(jobs(1, examples=32), conduct=Conduct(report=quiet))) == 1  # the survey is there
    threads = torch.get_num_threads()
    started = []

    def patient(config, survey, **conduct):
        """The second run begins once the helper has one, however long it takes to start."""
        if len(started) == 1:
            until(lambda: len(list(paths.STORE.glob("*/progress.jsonl"))) > 2)  # of the survey's run and of the first
        started.append(config)
        return run(config, survey, **conduct)

    monkeypatch.setattr(sweeps, "run", patient)
    records = sweep(listed, workers=2, conduct=Conduct(report=seen.append))
    assert torch.get_num_threads() == threads and not helpers_of(os.getpid())
    trained = sum("galaxies seen" in line for line in seen)  # each of this process's runs is validated once
    assert 1 <= trained < len(listed)
    monkeypatch.setattr(paths, "STORE", store / "one")
    torch.set_num_threads(1)  # as in a shared sweep: more threads add up in another order
    try:
        alone = sweep(listed, workers=1, conduct=Conduct(report=quiet))
    finally:
        torch.set_num_threads(threads)
    assert [r["metrics"] for r in records] == [r["metrics"] for r in alone]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_helpers_end_with_the_sweep_that_asked_for_them(store, how):
    sweep(jobs(1, examples=32), conduct=Conduct(report=quiet))
    code = f"""
from gzlib.config import PretrainConfig, Recipe, SurveySpec
from gzlib.training import sweep
recipe = Recipe(examples=10**7, batch_size=32, evaluations=1)
sweep([(PretrainConfig("resnet_w4", 60, seed=seed, recipe=recipe), {SURVEY!r}) for seed in range(2)], workers=2)
"""
    places = {"GZLIB_STORE": str(paths.STORE), "GZLIB_SURVEYS": str(paths.SURVEYS)}
    sweeping = subprocess.Popen([sys.executable, "-c", code], env=os.environ | places, stderr=subprocess.DEVNULL)
    try:
        helper = until(lambda: helpers_of(sweeping.pid))[0]
        until(lambda: len(list(paths.STORE.glob("*/progress.jsonl"))) == 3)  # both are training now
        sweeping.send_signal(how)
        sweeping.wait(30)
        helper.wait(30)
    finally:  # else it would train on for hours after a failure
        sweeping.kill()
        sweeping.wait(30)
    kept = 2 if how == signal.SIGTERM else 1  # the killed one wrote none, its helper did
    assert len(list(paths.STORE.glob("*/checkpoint.pt"))) == kept


def test_as_many_workers_as_cores_but_not_more_than_runs(monkeypatch):
    monkeypatch.delenv(workers.VARIABLE)
    monkeypatch.setattr(paths, "cores", lambda: 4)
    assert [workers.worker_count(runs, device="cpu") for runs in (0, 1, 3, 9)] == [1, 1, 3, 4]
    monkeypatch.setattr(workers, "choose_device", lambda name: torch.device("cuda"))
    assert workers.worker_count(9, device="auto") == 1
    monkeypatch.setenv(workers.VARIABLE, "2")
    assert workers.worker_count(9, device="auto") == 2
    for text in ("many", "0", "-1", "nan", "²"):
        monkeypatch.setenv(workers.VARIABLE, text)
        with pytest.raises(UserError, match=f"GZLIB_WORKERS must be a number of processes, 1 or more, not '{text}'"):
            workers.worker_count(9, device="cpu")


def test_a_run_whose_threads_wait_for_others_gives_them_up(monkeypatch):
    clock = {"wall": 0.0, "used": 0.0}
    monkeypatch.setattr(workers.time, "perf_counter", lambda: clock["wall"])
    monkeypatch.setattr(workers.time, "process_time", lambda: clock["used"])
    set_to, said = [], []
    monkeypatch.setattr(workers.torch, "get_num_threads", lambda: (set_to or [2])[-1])
    monkeypatch.setattr(workers.torch, "set_num_threads", set_to.append)

    def seconds(n, share):
        for _ in range(n * 10):
            clock["wall"] += 0.1
            clock["used"] += 0.1 * 2 * share
            pace.step()

    pace = workers.Pace(torch.device("cpu"), said.append)
    seconds(5, 0.95)
    seconds(1, 0.4)  # a checkpoint
    seconds(5, 0.95)
    assert set_to == said == []
    seconds(3, 0.66)
    seconds(5, 0.5)  # with one thread: nothing more to give up
    assert set_to == [1]
    assert said == ["Other programs are busy: the run continues with one thread instead of 2."]
    pace.close()
    assert set_to == [1, 2]
