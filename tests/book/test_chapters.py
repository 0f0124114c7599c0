"""Every chapter, from nothing, at the smallest preset, in a copy of the project."""

import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest

from gzlib import paths
from gzlib.book.builder import is_fresh
from gzlib.book.html.pages import preview

NUMBERS = ("01", "02", "03", "04", "06", "90", "91", "93")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The project's own files elsewhere, with all chapters built at preset smoke."""
    home = tmp_path_factory.mktemp("project")
    for name in ("chapters", "gzlib", "styles", "figures", "data/benchmarks", "data/forecasts"):
        if (paths.ROOT / name).is_dir():
            shutil.copytree(paths.ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("_quarto.yml", "index.qmd", "references.qmd", "references.bib", "_variables.yml"):
        shutil.copy(paths.ROOT / name, home / name)
    environment = os.environ | {"GZLIB_HOME": str(home), "PYTHONPATH": str(home)}
    shutil.copy(paths.ROOT / "data" / "faults.json", home / "data" / "faults.json")
    command = [sys.executable, "-m", "gzlib", "build", "--preset", "smoke", "--force"]
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return home


def experiment(copy):
    (folder,) = (copy / "experiments").iterdir()
    return folder


@pytest.mark.parametrize("number", NUMBERS)
def test_chapter_runs_from_nothing(copy, number):
    (file,) = (experiment(copy) / "chapters").glob(f"{number}-*.ipynb")
    notebook = nbformat.read(file, as_version=4)
    outputs = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    assert outputs
    assert not [o for o in outputs if o.output_type == "error"]
    page = (experiment(copy) / "book" / "chapters" / f"{file.stem}.html").read_text(encoding="utf-8")
    assert "simulated galaxies" in page or number in ("90", "93")
    assert not re.search(r"\{\{<|\bnan\b.*nats", page)


def test_an_experiment_leaves_the_chapters_alone(copy):
    for file in (paths.ROOT / "chapters").glob("*.ipynb"):
        assert (copy / "chapters" / file.name).read_bytes() == file.read_bytes()
    assert not (copy / "data" / "runs").exists()


def test_every_number_of_results_in_prose_is_a_variable():
    """Prose may quote the paper's published 31 % and 840,000 galaxies; what was measured here comes from runs."""
    for file in sorted((paths.ROOT / "chapters").glob("*.ipynb")):
        for cell in nbformat.read(file, as_version=4).cells:
            if cell.cell_type == "markdown":
                typed = re.findall(r"\d+\.\d+|±\s*\d", re.sub(r"\{\{<.*?>\}\}|`[^`]*`", "", cell.source))
                assert not typed, (file.name, cell.id, typed)


def test_committed_chapters_follow_from_the_committed_code_and_runs():
    """If this fails, run `python -m gzlib build` and commit what it changes."""
    for file in sorted((paths.ROOT / "chapters").glob("*.ipynb")):
        notebook = nbformat.read(file, as_version=4)
        assert is_fresh(notebook, f"chapters/{file.name}", project=paths.ROOT), file.name


def test_the_committed_book_renders_and_every_link_and_picture_is_there(tmp_path):
    page = preview(paths.ROOT, tmp_path / "book")
    pages = sorted(page.parent.rglob("*.html"))
    assert len(pages) == 10
    for file in pages:
        text = file.read_text(encoding="utf-8")
        for target in re.findall(r'(?:href|src)="([^"#:]+)(?:#[^"]*)?"', text):
            assert (file.parent / target).exists(), (file.name, target)
        for picture in re.findall(r"<img[^>]*>", text):
            assert re.search(r'alt="[^"]{20,}', picture), (file.name, picture[:200])
