"""Sweeps on Dask's workers: one that dies, stores that are not shared, schedulers that are not there."""

import importlib.util
import logging
import os
import signal
import socket
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, replace

import pytest

from gzlib import paths
from gzlib.config import Conduct, FinetuneConfig, PretrainConfig, Recipe, SurveySpec, config_dict
from gzlib.errors import UserError
from gzlib.files import held
from gzlib.training import cluster
from gzlib.training.cluster import local_workers, own_gpus, sweep_on, work
from gzlib.training.runs import LOCK, key_of
from gzlib.training.sweeps import sweep

pytestmark = pytest.mark.slow

SURVEY = SurveySpec("sim:gz2:160", size=32)
quiet = lambda line: None  # noqa: E731


@pytest.fixture
def store(own_store, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return own_store


def jobs(seeds, *, examples=64):
    recipe = Recipe(examples=examples, batch_size=32, evaluations=1)
    return [(PretrainConfig("convnext_w4", 60, seed=seed, recipe=recipe), SURVEY) for seed in seeds]


def results(records):
    return {record["key"]: record["metrics"] for record in records}


def kill_a_worker_at_work():
    """Wait until some process has signed the lock of a run, then kill that process; its number."""
    while True:
        for lock in paths.STORE.glob("*/.lock"):
            words = lock.read_text().split()
            if len(words) > 1 and (lock.parent / "checkpoint.pt").exists():
                os.kill(int(words[1]), signal.SIGKILL)
                return int(words[1])
        time.sleep(0.01)


@pytest.mark.usefixtures("one_thread")
def test_a_worker_killed_in_mid_run_costs_nothing(store, monkeypatch):
    pytest.importorskip("distributed")
    listed = jobs(range(4), examples=960)
    pretrained = key_of(*listed[0])
    probe = FinetuneConfig("galaxy10", "convnext_w4", 60, weights=pretrained, recipe=Recipe(examples=32))
    listed.append((probe, SurveySpec("sim:galaxy10:160", size=32)))
    killed, lines = [], []
    killer = threading.Thread(target=lambda: killed.append(kill_a_worker_at_work()), daemon=True)
    killer.start()
    records = sweep_on("local:2", listed, conduct=Conduct(report=lines.append, checkpoint_seconds=0))
    killer.join()
    assert killed != [os.getpid()]
    assert [record["key"] for record in records] == [key_of(*job) for job in listed]
    assert lines[-1].endswith("(5 of 5 runs done)")
    assert not list(paths.STORE.rglob("checkpoint.pt")) + list(paths.STORE.rglob(".lock"))
    monkeypatch.setattr(paths, "STORE", store / "undisturbed")
    assert results(sweep(listed, conduct=Conduct(report=quiet))) == results(records)


def test_by_address_with_a_store_of_its_own(store, monkeypatch):
    """Records and weights come back; a run that another sweep makes is waited for; a failure costs only itself."""
    distributed = pytest.importorskip("distributed")
    elsewhere, listed, lines = store / "elsewhere", jobs(range(2)), []
    listed.insert(1, (replace(listed[0][0], n_train=500), SURVEY))
    keys = [key_of(*job) for job in listed]
    environment = {"GZLIB_STORE": str(elsewhere), "GZLIB_SURVEYS": str(paths.SURVEYS), "OMP_NUM_THREADS": "1"}
    options = {"n_workers": 1, "threads_per_worker": 1, "memory_limit": 0, "dashboard_address": None}
    lock = held(elsewhere / keys[0] / LOCK, "Run")
    lock.__enter__()

    def report(line):
        lines.append(line)
        if "failed" in line:  # by then the first run has been asked for, and put off
            lock.__exit__(None, None, None)

    with distributed.LocalCluster(**options, env=environment, silence_logs=logging.ERROR) as running:
        records = sweep_on(running.scheduler_address, listed, bring_weights=True, conduct=Conduct(report=report))
    assert [record["key"] for record in records] == [keys[0], keys[2]]
    assert any(f"{keys[1]} failed: " in line and "500" in line for line in lines)
    assert "1 of 3 runs failed" in lines[-1]
    for key in (keys[0], keys[2]):
        for name in ("run.json", "weights.safetensors"):
            assert (paths.STORE / key / name).read_bytes() == (elsewhere / key / name).read_bytes()
    assert not (paths.STORE / keys[1]).exists()
    assert (elsewhere / keys[1] / "failed.json").exists()


@pytest.mark.usefixtures("one_thread")
def test_each_of_two_workers_has_its_gpu_and_their_runs_are_those_of_one_process(store, monkeypatch):
    """A stub in place of two GPUs: processes are told of one each, and find that the machine has none."""
    pytest.importorskip("distributed")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    recipe = Recipe(examples=96, batch_size=32, evaluations=1)
    listed = [*jobs([0]), (PretrainConfig("resnet_w4", 60, recipe=recipe), SURVEY)]
    told, connected = [], cluster._connected

    @contextmanager
    def asking(*args):
        with connected(*args) as client:
            client.wait_for_workers(2)
            told.append(client.run(lambda: os.environ.get("CUDA_VISIBLE_DEVICES")))
            yield client

    with monkeypatch.context() as two:
        two.setattr(cluster, "_connected", asking)
        two.setattr("torch.cuda.device_count", lambda: 2)
        records = sweep_on("local:2", listed, conduct=Conduct(report=quiet))
    assert sorted(told[0].values()) == ["0", "1"]
    shared = paths.STORE
    monkeypatch.setattr(paths, "STORE", store / "undisturbed")
    assert results(sweep(listed, workers=1, conduct=Conduct(report=quiet))) == results(records)
    for key in (key_of(*job) for job in listed):
        one, other = (folder / key / "weights.safetensors" for folder in (shared, paths.STORE))
        assert one.read_bytes() == other.read_bytes()


def test_gpus_are_those_that_are_visible_and_none_where_one_was_named(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert own_gpus("auto") == own_gpus("cuda") == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-5f,7")
    assert own_gpus("auto") == ["3", "GPU-5f"]  # of three names two are there
    assert own_gpus("cpu") == own_gpus("cuda:1") == []


def test_a_worker_of_another_version_is_told(store, monkeypatch):
    pytest.importorskip("distributed")
    config, survey = jobs([0])[0]
    answer = work("pretrain", config_dict(config), asdict(survey), "0" * 16, {"device": "cpu"})
    assert "another version" in answer["error"]
    assert not answer["stop"]


def test_schedulers_that_are_not_there_and_dask_that_is_not_installed(store, monkeypatch):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        closed = f"tcp://127.0.0.1:{listening.getsockname()[1]}"
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.2)
    if importlib.util.find_spec("distributed"):
        for address in (closed, "nonsense"):
            with pytest.raises(UserError, match=f"No Dask scheduler answers at '{address}'"):
                sweep_on(address, jobs([0]), conduct=Conduct(report=quiet))
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match=r"pip install 'gzlib\[cluster\]'"):
        sweep_on("local:2", jobs([0]), conduct=Conduct(report=quiet))
    for address in ("local:many", "local:0", "local:-1", "local:nan", "local:²", "local:"):
        with pytest.raises(UserError, match="such as local:4"):
            local_workers(address)
        with pytest.raises(UserError, match="such as local:4"):  # with nothing to make, too
            sweep_on(address, [], conduct=Conduct(report=quiet))
    assert local_workers("local:3") == 3
    assert local_workers("local") >= 1
    assert local_workers("local", gpus=4) == 4 and local_workers("local:3", gpus=4) == 3


def test_nothing_is_started_where_all_runs_are_there(store, monkeypatch):
    records = sweep(jobs([0]), conduct=Conduct(report=quiet))
    monkeypatch.setattr(cluster, "_connected", None)
    assert sweep_on("local:2", jobs([0]), conduct=Conduct(report=quiet)) == records
    (paths.STORE / records[0]["key"] / "run.json").write_text("{")
    lines = []
    assert sweep_on("local:2", jobs([0]), conduct=Conduct(report=lines.append)) == []
    assert "is damaged" in lines[0]
