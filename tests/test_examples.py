"""The examples for clusters: their files are sound, and a SLURM that is running here makes the runs of one process."""

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from gzlib import paths

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PLAN = """
[survey]
source = "sim:gz2:160"
size = 32
[recipe]
examples = 64
batch_size = 32
evaluations = 1
[[pretrain]]
encoder = "resnet_w4"
n_train = 60
seed = [0, 1]
"""


def test_the_page_names_every_example_and_the_job_is_whole():
    page = (EXAMPLES / "README.md").read_text()
    for file in EXAMPLES.iterdir():
        if file.suffix in (".sh", ".py", ".yaml"):
            assert file.name in page
    for script in EXAMPLES.glob("*.sh"):
        assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    claim, job = yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"][:4] == ["python", "-m", "gzlib", "sweep"]
    assert all(isinstance(word, str) for word in container["command"])
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    mounted = {volume["name"]: volume for volume in pod["volumes"]}
    assert mounted["shared"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert {mount["name"] for mount in container["volumeMounts"]} == set(mounted)
    stores = {one["name"]: one["value"] for one in container["env"]}
    assert stores["GZLIB_STORE"].startswith("/shared/") and stores["GZLIB_SURVEYS"].startswith("/shared/")


def test_the_catalogue_is_what_its_program_makes(tmp_path):
    """Its table to the last vote; the pixels of its images as near as another processor draws them."""
    spec = importlib.util.spec_from_file_location("example", paths.ROOT / ".ci" / "example.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.main(tmp_path)
    for name in ("catalog.csv", "tree.json"):
        assert (tmp_path / name).read_text() == (EXAMPLES / "galaxies" / name).read_text()
    table = pd.read_csv(EXAMPLES / "galaxies" / "catalog.csv")
    assert table["shape"].value_counts().to_dict() == dict.fromkeys(("smooth", "spiral", "disc"), 120)
    for file in table["file_loc"][::40]:
        made, kept = (np.asarray(Image.open(folder / file), int) for folder in (tmp_path, EXAMPLES / "galaxies"))
        assert np.abs(made - kept).mean() < 0.5, file


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder with a plan, where a SLURM answers."""
    if not shutil.which("sinfo") or subprocess.run(["sinfo"], capture_output=True, check=False).returncode:
        pytest.skip("no SLURM is running here (Debian's packages slurm-wlm and munge make one)")
    (tmp_path / "plan.toml").write_text(PLAN)
    own = {"GZLIB_SURVEYS": str(tmp_path / "surveys"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(paths.PACKAGE.parent)}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    return tmp_path


@pytest.mark.slow
def test_workers_that_slurm_refuses_are_not_waited_for(tmp_path):
    pytest.importorskip("dask_jobqueue")
    (tmp_path / "plan.toml").write_text(PLAN)
    (tmp_path / "sbatch").write_text(
        "#!/bin/sh\necho 'allocation failure: Invalid partition name specified' >&2\nexit 1\n"
    )
    (tmp_path / "sbatch").chmod(0o755)
    environment = os.environ | {
        "PYTHONPATH": str(paths.PACKAGE.parent),
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "GZLIB_STORE": str(tmp_path / "runs"),
        "GZLIB_SURVEYS": str(tmp_path / "surveys"),
    }
    command = [sys.executable, EXAMPLES / "slurm.py", "plan.toml"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "SLURM refuses workers like these" in done.stderr and "Invalid partition name" in done.stderr
    assert not (tmp_path / "runs").exists()


def weights(store):
    return {file.parent.name: file.read_bytes() for file in store.glob("*/weights.safetensors")}


def ended(job: str):
    """Wait for a job, which may have to wait for others."""
    while subprocess.run(["squeue", "-h", "-j", job], capture_output=True, text=True, check=False).stdout.strip():
        time.sleep(0.5)


@pytest.mark.long
def test_slurm_makes_the_runs_of_one_process(slurm, monkeypatch):
    submit = ["sbatch", "--parsable", "--time=10", f"--output={slurm}/%A-%a.out"]

    def made(name, command):
        monkeypatch.setenv("GZLIB_STORE", str(slurm / name))
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, cwd=slurm)
        assert done.returncode == 0, done.stderr
        if command[0] == "sbatch":
            ended(done.stdout.strip())
        return weights(slurm / name)

    alone = made("alone", [sys.executable, "-m", "gzlib", "sweep", "plan.toml", "--workers", "1"])
    assert len(alone) == 2
    few = ["--array=0-1", "--gres=none", "--cpus-per-task=1"]
    assert made("array", [*submit, *few, EXAMPLES / "slurm-array.sh", "plan.toml"]) == alone
    pytest.importorskip("dask_jobqueue")
    settings = 'slurm.WORKERS, slurm.GPUS, slurm.CORES, slurm.MEMORY, slurm.WALLTIME = 2, 0, 1, "1GB", "00:10:00"'
    program = f"import slurm; {settings}; slurm.main()"
    monkeypatch.setenv("PYTHONPATH", f"{EXAMPLES}:{paths.PACKAGE.parent}")
    assert made("dask", [sys.executable, "-c", program, "plan.toml"]) == alone
    monkeypatch.setenv("PROCESSES", "2")
    few = ["--nodes=1", "--gpus-per-node=0", "--cpus-per-task=2"]
    words = ["--survey", "sim:gz2:160", "--size", "32", "--encoder", "resnet_w4", "--n-train", "60", "--examples", "64"]
    assert len(made("one", [*submit, *few, EXAMPLES / "slurm-torchrun.sh", *words])) == 1
