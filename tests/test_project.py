"""The project's own files agree with one another."""

import json
import re
import shutil
import subprocess
import tomllib

import pytest
import yaml

from gzlib import __version__, paths
from gzlib.training.store import Record

PYPROJECT = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())


def test_environment_installs_the_package_and_adds_only_python_and_quarto():
    environment = yaml.safe_load((paths.ROOT / "environment.yml").read_text())
    conda = [d for d in environment["dependencies"] if isinstance(d, str)]
    (pip,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    assert {re.split("[>=<]", d)[0] for d in conda} == {"python", "quarto", "pip"}
    assert f"python{PYPROJECT['project']['requires-python']}" in conda
    (line,) = pip
    extras = re.fullmatch(r"--editable \.\[(.*)\]", line)[1].split(",")
    assert set(extras) <= set(PYPROJECT["project"]["optional-dependencies"])
    quarto_extra = PYPROJECT["project"]["optional-dependencies"]["quarto"][0]
    assert next(d for d in conda if d.startswith("quarto")) == quarto_extra.replace("quarto-cli", "quarto")


def test_lock_holds_every_dependency_but_no_quarto():
    lock = (paths.ROOT / "requirements.lock").read_text()
    pinned = {line.split("==")[0] for line in lock.splitlines() if "==" in line}
    wanted = PYPROJECT["project"]["dependencies"] + PYPROJECT["project"]["optional-dependencies"]["test"]
    assert {re.split("[>=<]", d)[0] for d in wanted} <= pinned
    assert "quarto-cli" not in pinned  # its build downloads a program
    assert "://" not in lock
    pins = re.split(r"\n(?=\S)", lock.strip())
    assert all("--hash=sha256:" in pin for pin in pins)  # what is installed is what was looked at


def test_every_locked_package_is_listed_with_its_licence():
    """If this fails, run `make third-party`."""
    pinned = re.findall(r"^([\w.-]+)==([^\s;]+)", (paths.ROOT / "requirements.lock").read_text(), re.M)
    listed = (paths.ROOT / "THIRD-PARTY.md").read_text()
    text = {line.split("|")[1].strip(): line for line in listed.splitlines() if line.startswith("| ")}
    for name, version in pinned:
        assert version in text[re.sub(r"[-_.]+", "-", name).lower()], name


def test_the_bench_extra_brings_what_benchmarks_ask_for():
    """Where a package is missing they name the extra; Zoobot brings Lightning with an extra of its own only."""
    extras = PYPROJECT["project"]["optional-dependencies"]
    brought = {re.split(r"[\[>=<; ]", line)[0].replace("-", "_") for line in [*extras["bench"], *extras["train"]]}
    asked = set()
    for file in (paths.ROOT / "benchmarks").glob("*.py"):
        for names in re.findall(r"\bneed\(\(([^)]*)\)", file.read_text()):
            asked |= set(re.findall(r"\w+", names))
    assert {"zoobot", "galaxy_datasets"} <= asked <= brought | {"lightning", "omegaconf"}
    assert any(line.startswith("zoobot[pytorch]") for line in extras["bench"])


def test_versions_agree():
    citation = yaml.safe_load((paths.ROOT / "CITATION.cff").read_text())
    assert __version__ == PYPROJECT["project"]["version"] == citation["version"]
    assert citation["references"][0]["identifiers"][0]["value"] == "arXiv:2404.02973"


def test_readme_is_short_and_names_the_two_commands():
    lines = (paths.ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 120
    assert "make paper" in "\n".join(lines)
    assert "make test" in "\n".join(lines)


def recipe_of(target: str) -> list[str]:
    """The commands of a target of the Makefile, as make would run them where everything is set up."""
    done = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "--always-make", "--old-file=.venv/.ready", target],
        cwd=paths.ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [line.strip() for line in done.stdout.splitlines()]


needs_make = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")


@needs_make
def test_the_check_is_of_the_whole_project_and_ci_makes_it():
    """Without options, ruff looks at all files and mypy at the packages that pyproject.toml names."""
    commands = [line.removeprefix(".venv/bin/") for line in recipe_of("check")]
    assert commands[:3] == ["ruff check .", "ruff format --check .", "mypy"]
    tool = PYPROJECT["tool"]
    assert tool["mypy"]["packages"] == ["gzlib"] and not {"exclude", "files", "follow_imports"} & tool["mypy"].keys()
    assert tool["ruff"]["extend-exclude"] == ["chapters"] and not {"exclude", "include"} & tool["ruff"].keys()
    unseen = [name for one in tool["mypy"]["overrides"] if one.get("ignore_errors") for name in one["module"]]
    assert all(name.startswith("gzlib.sky.") for name in unseen)
    script = [line.strip() for line in (paths.ROOT / ".ci" / "run").read_text().splitlines()]
    assert "set -euo pipefail" in script and {"make check", "make test"} <= set(script)
    workflow = yaml.safe_load((paths.ROOT / ".github" / "workflows" / "check.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert {"make check", "make test"} <= {step.get("run") for step in steps}
    assert not any(step.get("continue-on-error") for step in steps)


@needs_make
def test_cleaning_leaves_results_alone(tmp_path):
    """Runs, experiments, surveys and forecasts cost hours or cannot be made again."""
    shutil.copy(paths.ROOT / "Makefile", tmp_path)
    made = [".venv/bin/python", "_book/index.html", "_preview/index.html", ".ruff_cache/x", "dist/gzlib.whl"]
    kept = [f"{name}/a/b.json" for name in ("runs", "experiments", "surveys", "data/runs", "data/surveys", "figures")]
    kept += [f"{name}/a/b.json" for name in ("data/forecasts", "data/benchmarks", "my-survey", "rings", "chapters")]
    for name in [*made, *kept]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    subprocess.run(["make", "clean"], cwd=tmp_path, capture_output=True, check=True)
    left = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert left == {"Makefile", *kept}


def test_committed_runs_are_whole():
    tracked = subprocess.run(
        ["git", "ls-files", "data/runs"], cwd=paths.ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout, or no runs are committed")
    for name in tracked:
        assert name == "data/runs/README.md" or name.endswith("/run.json")
        if name.endswith("run.json"):
            record = json.loads((paths.ROOT / name).read_text())
            assert record["key"] == name.split("/")[2]
            assert record.keys() == Record.model_fields.keys()
            sources = [record["survey"]["source"], *(part["source"] for part in record["survey"]["parts"])]
            paths_named = [s for s in sources if "/" in s and s != "examples/galaxies"]  # that of chapter 06
            assert not paths_named, "a committed run names a path of somebody's machine"
            assert '"/' not in (paths.ROOT / name).read_text(), name  # nor does any other text begin with a root
