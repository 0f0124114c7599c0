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
from gzlib.book.chapters import book_inputs, cell_options, stated_parameters
from gzlib.book.html.pages import preview

CHAPTERS = {file.stem: nbformat.read(file, as_version=4) for file in sorted((paths.ROOT / "chapters").glob("*.ipynb"))}
LINES = 15  # of a code cell, its options among them
NUMBERS = ("01", "02", "03", "04", "05", "06", "90", "91", "92", "93")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The project's own files elsewhere, with all chapters built at preset smoke."""
    home = tmp_path_factory.mktemp("project")
    for name in (
        "chapters",
        "gzlib",
        "reference",
        "styles",
        "figures",
        "examples",
        "data/benchmarks",
        "data/forecasts",
        "data/plans",
    ):
        if (paths.ROOT / name).is_dir():
            shutil.copytree(paths.ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (
        "_quarto.yml",
        "index.qmd",
        "references.qmd",
        "limits.qmd",
        "glossary.qmd",
        "references.bib",
        "_variables.yml",
    ):
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


@pytest.mark.slow
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


@pytest.mark.slow
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


def code_cells():
    return [(stem, cell) for stem, nb in CHAPTERS.items() for cell in nb.cells if cell.cell_type == "code"]


def test_code_cells_are_short():
    """What is not the point of the paragraph is a function of `gzlib.study`."""
    long = {(stem, cell.id): lines for stem, cell in code_cells() if (lines := len(cell.source.splitlines())) > LINES}
    assert not long
    wide = [(stem, cell.id) for stem, cell in code_cells() for line in code_of(cell) if len(line) > 130]
    assert not wide


def code_of(cell):
    return [line for line in cell.source.splitlines() if not line.startswith("#|")]


def test_every_table_escapes_its_words():
    """`markdown_table` of `gzlib.study` shows texts as they are; pandas' own tables let them become markup."""
    for stem, cell in code_cells():
        assert not re.search(r"to_markdown|to_html|to_latex|tabulate", cell.source), (stem, cell.id)


def test_code_that_is_folded_says_what_it_does():
    for stem, cell in code_cells():
        options, _ = cell_options(cell)
        if options.get("echo", True):
            summary = options.get("code-summary")
            assert summary and summary != "Code" and 5 < len(summary) <= 80, (stem, cell.id, summary)


def test_every_label_is_there_once_and_every_reference_leads_to_one():
    labels, used = [], set()
    pages = {stem: "\n\n".join(cell.source for cell in nb.cells) for stem, nb in CHAPTERS.items()}
    pages |= {file.stem: file.read_text(encoding="utf-8") for file in paths.ROOT.glob("*.qmd")}
    for text in pages.values():
        labels += re.findall(r"\{#((?:sec|fig|tbl|eq)-[\w-]+)|^#\| label: (\S+)", text, re.MULTILINE)
        used |= set(re.findall(r"(?<![\w.])@((?:sec|fig|tbl|eq)-[\w-]*\w)", text))
    labels = [one or other for one, other in labels]
    assert len(labels) == len(set(labels))
    assert used - set(labels) == set()


def test_parameters_of_one_name_mean_the_same_everywhere():
    stated = {}
    for stem, notebook in CHAPTERS.items():
        for name, parameter in stated_parameters(notebook, stem).items():
            assert stated.setdefault(name, parameter) == parameter, (stem, name)


def test_one_table_lists_the_parameters_of_all_chapters():
    shown = [
        output.data["text/markdown"]
        for _, cell in code_cells()
        if cell_options(cell)[0].get("label") == "tbl-all-parameters"
        for output in cell.outputs
    ]
    names = {name for stem, notebook in CHAPTERS.items() for name in stated_parameters(notebook, stem)}
    assert set(re.findall(r"^\| (\w+) +\|", shown[0], re.MULTILINE)) - {"parameter"} == names


@pytest.mark.slow
def test_committed_chapters_follow_from_the_committed_code_and_runs():
    """If this fails, run `python -m gzlib build` and commit what it changes."""
    for file in sorted((paths.ROOT / "chapters").glob("*.ipynb")):
        notebook = nbformat.read(file, as_version=4)
        assert is_fresh(notebook, f"chapters/{file.name}", project=paths.ROOT), file.name


@pytest.mark.slow
def test_the_committed_book_renders_and_every_link_and_picture_is_there(tmp_path):
    page = preview(paths.ROOT, tmp_path / "book")
    pages = sorted(page.parent.rglob("*.html"))
    assert len(pages) == len(book_inputs(paths.ROOT))
    for file in pages:
        text = file.read_text(encoding="utf-8")
        for target in re.findall(r'(?:href|src)="([^"#:]+)(?:#[^"]*)?"', text):
            assert (file.parent / target).exists(), (file.name, target)
        for picture in re.findall(r"<img[^>]*>", text):
            assert re.search(r'alt="[^"]{20,}', picture), (file.name, picture[:200])
