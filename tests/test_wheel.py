"""The package installs anywhere: from a wheel, in an empty folder, with what each part needs and no more."""

import json
import os
import shutil
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from gzlib import paths

pytestmark = pytest.mark.long
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("GZLIB", "PYTHON", "VIRTUAL_ENV"))}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel, built from a copy of nothing but what belongs into it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    shutil.copytree(paths.ROOT / "gzlib", source / "gzlib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(paths.ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", out, source]
    subprocess.run(command, check=True, env=CLEAN, stderr=subprocess.DEVNULL)
    (file,) = out.glob("*.whl")
    return file


def environment(folder: Path) -> Path:
    """A new virtual environment; its Python."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, env=CLEAN)
    return folder / "bin" / "python"


def gzlib(python: Path, here: Path, *arguments, status: int = 0) -> subprocess.CompletedProcess:
    command = [python.with_name("gzlib"), *map(str, arguments)]
    done = subprocess.run(command, cwd=here, env=CLEAN, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_the_wheel_holds_all_that_the_package_needs(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for file in (paths.ROOT / "gzlib").rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            assert file.relative_to(paths.ROOT).as_posix() in names, file


def test_fitting_and_forecasting_need_no_torch(wheel, tmp_path):
    python, here = environment(tmp_path / "venv"), tmp_path / "here"
    here.mkdir()
    install = [python, "-m", "pip", "install", "--quiet", wheel]
    if subprocess.run(install, env=CLEAN, stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("the package index can't be reached, so that a new environment stays empty")
    rows = [f"{n},{0.2 + 3 * n**-0.5 * (1 + 0.01 * s)},{s}" for n in (100, 200, 400, 800, 1600) for s in (-1, 0, 1)]
    (here / "curves.csv").write_text("\n".join(["n_train,loss,seed", *rows]) + "\n")
    answer = json.loads(gzlib(python, here, "forecast", "curves.csv", "--target", 0.25, "--json").stdout)
    assert 2000 < answer["curves"][0]["labels"] < 6000  # 0.05 = 3 / sqrt(n) at 3,600
    assert "alpha" in gzlib(python, here, "fit", "curves.csv").stdout
    assert "gzlib[plot]" in gzlib(python, here, "fit", "curves.csv", "--plot", "a.svg", status=2).stderr
    assert gzlib(python, here, "doctor").stdout
    for command in (["curate", "sim:10"], ["pretrain", "--survey", "sim:10"]):
        assert "pip install 'gzlib[train]'" in gzlib(python, here, *command, status=2).stderr
    assert "work in a clone" in gzlib(python, here, "bench", "list", status=2).stderr
    listed = subprocess.run([python, "-m", "pip", "list"], env=CLEAN, capture_output=True, text=True, check=True).stdout
    assert not {"torch", "jupyter", "matplotlib", "pyarrow"} & {line.split()[0] for line in listed.splitlines()}


def test_surveys_and_runs_from_an_empty_folder(wheel, tmp_path):
    """In an environment that sees the packages of this one, but not its gzlib."""
    python, here = environment(tmp_path / "venv"), tmp_path / "here"
    here.mkdir()
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], env=CLEAN, check=True)
    own = next((tmp_path / "venv").glob("lib/*/site-packages"))
    (own / "seen.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    show = [python, "-c", "import gzlib; print(gzlib.__file__)"]
    where = subprocess.run(show, cwd=here, env=CLEAN, capture_output=True, text=True, check=True).stdout
    assert str(own) in where
    made = gzlib(python, here, "curate", "sim:100", "--size", 32).stdout
    assert "100 galaxies" in made and str(here / "surveys") in made
    common = ["--size", 32, "--encoder", "resnet_w4", "--examples", 64, "--set", "recipe.evaluations=1"]
    key = gzlib(python, here, "pretrain", "--survey", "sim:100", *common).stdout.split()[1].rstrip(":")
    gzlib(python, here, "finetune", "--survey", "sim:rings:120", "--label", "ring_fraction", "--weights", key, *common)
    gzlib(python, here, "finetune", "--survey", "sim:galaxy10:120", "--mode", "full", "--weights", key, *common)
    listed = gzlib(python, here, "runs", "ls").stdout
    assert listed.count("resnet_w4") == 3 and key in listed
    assert json.loads(gzlib(python, here, "runs", "show", key).stdout)["provenance"]["git"] is None
    gzlib(python, here, "runs", "export", "runs.nc")
    gzlib(python, here, "runs", "export", "runs.csv")
    gzlib(python, here, "runs", "rm", key)
    assert gzlib(python, here, "runs", "ls").stdout.count("resnet_w4") == 2
    assert {file.name for file in here.iterdir()} == {"runs", "surveys", "runs.nc", "runs.csv"}
    made = [file.name for file in own.joinpath("gzlib").rglob("*") if file.suffix in (".npy", ".safetensors")]
    assert made == ["sky.safetensors"]  # the encoder that comes with the package, and nothing that was made
