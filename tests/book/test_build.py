"""Building: what is stale runs, what is fresh does not, and nothing is ever half-written."""

import base64
import io
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import nbformat.v4 as v4
import papermill
import pytest
import tiny_book
from PIL import Image, PngImagePlugin

from gzlib import paths
from gzlib.book import builder, chapters
from gzlib.book.builder import build, is_fresh
from gzlib.book.chapters import book_inputs, cell_options, read_notebook, replace_file, write_notebook
from gzlib.book.execute import fingerprint, normalise, refusals, strip_png
from gzlib.errors import UserError
from gzlib.trace import publish

pytestmark = pytest.mark.slow


def quiet(line):
    pass


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    project = tiny_book.make(tmp_path_factory.mktemp("book") / "project")
    build(project=project, say=quiet)
    return project


@pytest.fixture
def project(executed, tmp_path):
    return Path(shutil.copytree(executed, tmp_path / "project"))


def chapter_bytes(project):
    files = [*sorted((project / "chapters").iterdir()), project / "_variables.yml"]
    return {file.name: file.read_bytes() for file in files}


def edit(project, old, new, chapter="01-first"):
    path = project / "chapters" / f"{chapter}.ipynb"
    notebook = read_notebook(path)
    found = [cell for cell in notebook.cells if old in cell.source]
    assert found, old
    for cell in found:
        cell.source = cell.source.replace(old, new)
    write_notebook(notebook, path)


def stale(project):
    """Names of the chapters that a build would run."""
    pages = [page for page in book_inputs(project) if page.is_notebook]
    notebooks = {page: read_notebook(project / page.path) for page in pages}
    return [page.stem for page, notebook in notebooks.items() if not is_fresh(notebook, page.path, project=project)]


def test_a_built_chapter_holds_its_results_and_what_they_follow_from(executed):
    notebook = read_notebook(executed / "chapters" / "01-first.ipynb")
    own = notebook.metadata["gzlib"]
    assert own["runs"] == ["sum0005"] and own["variables"] == {"total": "10"}
    assert own["parameters"] == {"preset": "laptop", "n": 5, "scale": 1.0, "sizes": [1, 2]}
    assert sorted(notebook.metadata) == ["gzlib", "kernelspec"]
    assert [cell["id"] for cell in notebook.cells] == [
        "front-matter", "sec-first", "parameters", "parameters-code", "sec-table", "tbl-sums",
    ]  # fmt: skip
    assert [output.text for output in notebook.cells[3].outputs] == ["one\ntwo\n"]
    assert chapters.load_variables(executed) == {"first": {"total": "10"}}


def test_a_second_build_runs_nothing_and_a_forced_one_changes_nothing(project):
    before = chapter_bytes(project)
    lines = []
    assert build(project=project, say=lines.append).fresh == ["01-first", "02-second", "90-notes"]
    assert lines == ["fresh 01-first", "fresh 02-second", "fresh 90-notes"]
    assert build(project=project, force=True, say=quiet).ran == ["01-first", "02-second", "90-notes"]
    assert chapter_bytes(project) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [("Here we count", "We count"), ("Sums: of", "All sums: of"), ("# how many numbers", "# how many")],
)
def test_prose_captions_and_comments_leave_a_chapter_fresh(project, old, new):
    edit(project, old, new)
    assert stale(project) == []


def test_code_helpers_parameters_and_runs_make_it_stale(project):
    edit(project, "width = 2.0", "width = 3.0", "02-second")
    assert stale(project) == ["02-second"]
    edit(project, "width = 3.0", "width = 2.0", "02-second")
    run = project / "data" / "runs" / "sum0005" / "run.json"
    run.write_text(run.read_text().replace("10", "11"))
    assert stale(project) == ["01-first"]
    run.write_text(run.read_text().replace("11", "10"))
    assert stale(project) == []
    toy = project / "gzlib" / "fitting" / "toy.py"
    toy.write_text(toy.read_text().replace("range(n)", "range(n + 0)"))
    assert stale(project) == ["01-first"]


MEETING = """import time
from pathlib import Path

Path({mine!r}).touch()
deadline = time.monotonic() + 120
while not Path({other!r}).exists():
    assert time.monotonic() < deadline
    time.sleep(0.05)
"""


def side_by_side(project, tmp_path, second=""):
    """Have each of two chapters wait until the other one runs."""
    files = {"mine": str(tmp_path / "a"), "other": str(tmp_path / "b")}
    edit(project, 'print("one")', MEETING.format(**files) + 'print("one")')
    meeting = MEETING.format(mine=files["other"], other=files["mine"])
    edit(project, "import matplotlib", meeting + second + "import matplotlib", "02-second")


def test_chapters_that_need_not_wait_run_side_by_side(project, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "cores", lambda: 2)
    side_by_side(project, tmp_path)
    assert build(project=project, say=quiet).ran == ["01-first", "02-second"] and stale(project) == []


def test_a_chapter_that_fails_beside_another_leaves_that_one_its_results(project, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "cores", lambda: 2)
    side_by_side(project, tmp_path, second="1 / 0\n")
    before = chapter_bytes(project)
    with pytest.raises(UserError, match="02-second.ipynb, cell .* failed: ZeroDivisionError"):
        build(project=project, say=quiet)
    assert stale(project) == ["02-second"]
    assert chapter_bytes(project)["02-second.ipynb"] == before["02-second.ipynb"]


def test_a_chapter_that_is_new_or_reads_every_run_waits_for_those_before_it(project):
    pages = [page for page in book_inputs(project) if page.is_notebook]
    notebooks = {page: read_notebook(project / page.path) for page in pages}
    first, second, notes = pages
    assert builder._batches(notebooks) == [[first, second, notes]]
    notebooks[second].metadata["gzlib"]["every_run"] = True
    assert builder._batches(notebooks) == [[first], [second], [notes]]
    del notebooks[first].metadata["gzlib"], notebooks[second].metadata["gzlib"]["every_run"]
    assert builder._batches(notebooks) == [[first], [second, notes]]


def test_lost_outputs_make_a_chapter_stale(project):
    path = project / "chapters" / "02-second.ipynb"
    notebook = read_notebook(path)
    notebook.cells[-1].outputs = []
    write_notebook(notebook, path)
    assert stale(project) == ["02-second"]


def test_a_chapter_saved_by_jupyter_is_brought_back_to_normal(project):
    before = chapter_bytes(project)
    path = project / "chapters" / "01-first.ipynb"
    notebook = read_notebook(path)
    notebook.metadata["language_info"] = {"name": "python", "version": "3.14.0"}
    notebook.cells[3].execution_count = 7
    notebook.cells[3].metadata["execution"] = {"iopub.status.busy": "2026-01-01"}
    write_notebook(notebook, path)
    assert chapter_bytes(project) != before
    build(project=project, say=quiet)
    assert chapter_bytes(project) == before


def test_an_experiment_leaves_the_chapters_alone(project, monkeypatch, tmp_path):
    before = chapter_bytes(project)
    (tmp_path / "here.txt").write_text("7")
    edit(project, 'print("one")', 'import os\n\nprint(os.path.exists("here.txt"))')
    committed = chapter_bytes(project)
    monkeypatch.chdir(tmp_path)
    built = build(preset="smoke", parameters={"n": "6"}, only="01", project=project, say=quiet)
    folder = built.page.parents[2]
    assert folder.parent == project / "experiments" and re.fullmatch(r"smoke-n-6-[0-9a-f]{6}", folder.name)
    assert built.ran == ["01-first"] and built.page == folder / "book" / "chapters" / "01-first.html"
    assert chapter_bytes(project) == committed != before
    assert not (project / "data" / "runs" / "sum0006").exists() and (folder / "runs" / "sum0006" / "run.json").exists()
    notebook = read_notebook(folder / "chapters" / "01-first.ipynb")
    assert notebook.cells[2].source.startswith("preset = 'smoke'  # how large\nn = 6  # how many numbers\n")
    assert "injected" not in str(notebook)
    assert notebook.cells[3].outputs[0].text.startswith("True"), "relative paths mean those of the caller"
    page = built.page.read_text()
    assert f"Experiment {folder.name}" in page and "15</td>" in page
    assert chapters.load_variables(folder) == {"first": {"total": "15"}}


def test_experiments_with_other_parameters_never_share_a_folder(project):
    almost_the_same = [{"sizes": list(range(60))}, {"sizes": [*range(59), 9]}]
    pages = [build(parameters=p, only="01", project=project, say=quiet).page for p in almost_the_same]
    assert pages[0].parents[2] != pages[1].parents[2]
    build(name="mine", parameters={"n": "6"}, only="01", project=project, say=quiet)
    with pytest.raises(UserError, match="Experiment 'mine' has other parameters"):
        build(name="mine", parameters={"n": "7"}, only="01", project=project, say=quiet)
    folder = build(name="mine", parameters={"n": "6"}, only="01", project=project, say=quiet).page.parents[2]
    build(name="mine", parameters={"n": "7"}, only="first", force=True, project=project, say=quiet)
    assert [file.name for file in (folder / "runs").iterdir()] == ["sum0007"]
    assert chapters.load_variables(folder)["first"]["total"] == "21"


@pytest.mark.parametrize(
    "place", ["notes.txt", "runs/sum0006/notes.txt", "runs/notes", "book/notes.txt", "chapters/a.py"]
)
def test_a_forced_experiment_deletes_nothing_of_the_users(project, place):
    folder = build(name="mine", parameters={"n": "6"}, only="01", project=project, say=quiet).page.parents[2]
    (folder / place).write_text("years of work")
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    with pytest.raises(UserError, match=re.escape(f"holds '{place}'")):
        build(name="mine", parameters={"n": "7"}, only="01", force=True, project=project, say=quiet)
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


def test_an_experiments_pages_hold_numbers_of_its_own_study_only(project):
    """Not even of a chapter that has none of the experiment's parameters: its numbers are another study's."""
    edit(project, "The line of", "With {{< var first.total >}}, the line of", "02-second")
    page = build(parameters={"width": "3.0"}, only="02", project=project, say=quiet).page
    assert "With [not in this experiment], the line of" in page.read_text()
    page = build(preset="smoke", only="02", project=project, say=quiet).page
    assert "With [not in this experiment], the line of" in page.read_text()
    build(preset="smoke", only="01", project=project, say=quiet)
    page = build(preset="smoke", only="02", project=project, say=quiet).page
    assert "With 10, the line of" in page.read_text()  # of the experiment's own first chapter


def test_the_committed_preset_is_no_experiment(project):
    assert build(preset="laptop", project=project, say=quiet).fresh == ["01-first", "02-second", "90-notes"]
    assert not (project / "experiments").exists()


NO_NAMES = ("../up", "/up", "up/x", "a\0b", "", ".", "..", ".git", "a b", "a\n", "n" * 300, "\\up", "C:up")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"parameters": {"siezs": "[1]"}},
            "Unknown parameter siezs: did you mean sizes\\? The parameters are n, preset",
        ),
        ({"parameters": {"n": "many"}}, "Parameter n must be a whole number, such as 5; 'many' is not"),
        ({"parameters": {"n": 2.5}}, "must be a whole number"),
        ({"parameters": {"n": True}}, "must be a whole number"),
        ({"parameters": {"sizes": "[1, 'a']"}}, "Parameter sizes must be a list of whole numbers, such as \\[1, 2\\]"),
        ({"preset": "small"}, "Unknown preset small: choose one of smoke, laptop, paper"),
        ({"only": "07"}, "unknown chapter '07'; available: 01-first, 02-second, 90-notes"),
        *(({"name": name}, "is not a name for an experiment: use letters") for name in NO_NAMES),
    ],
)
def test_bad_requests_are_refused_before_anything_runs(project, monkeypatch, arguments, message):
    monkeypatch.setattr("gzlib.book.builder._run", None)
    with pytest.raises(UserError, match=message):
        build(project=project, say=quiet, **arguments)
    assert not (project / "experiments").exists()


PARAMETERS = """\
n = 5  # how many
x = 1.0  # factor
name = "a"  # name
flag = False  # whether
sizes = [1]  # list of sizes
rates = [0.1]  # list of rates
count: int = None  # how many; None for all
source: str = None  # where from; None for here
encoders: list[str] = None  # which; None for all
seeds: list[int] = None  # one run each; None for the usual
tasks: dict[str, list[str]] = None  # name to where and what; None for the usual
"""


@pytest.fixture
def known():
    cell = v4.new_code_cell(PARAMETERS.strip(), metadata={"tags": ["parameters"]})
    return chapters.stated_parameters(v4.new_notebook(cells=[cell]), "page")


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("n", "6", 6),
        ("n", "1e3", 1000),
        ("x", "2", 2.0),
        ("name", "7", "7"),
        ("flag", "true", True),
        ("sizes", "(2, 3)", [2, 3]),
        ("rates", "[1, 0.5]", [1.0, 0.5]),
        ("count", "9", 9),
        ("count", "none", None),
        ("source", "7", "7"),
        ("source", "None", None),
        ("encoders", "['resnet_w8', 'resnet_w16']", ["resnet_w8", "resnet_w16"]),
        ("encoders", "[resnet_w8, resnet_w16]", ["resnet_w8", "resnet_w16"]),
        ("encoders", ("resnet_w8",), ["resnet_w8"]),
        ("seeds", "[1e3, 2]", [1000, 2]),
        ("seeds", "3, 4", [3, 4]),
        ("tasks", "{'rings': ('a.csv', 'ring')}", {"rings": ["a.csv", "ring"]}),
        ("tasks", "{rings: [a.csv, ring]}", {"rings": ["a.csv", "ring"]}),
    ],
)
def test_values_take_the_type_of_the_parameter(known, name, given, value):
    assert repr(chapters.check_overrides({name: given}, known)) == repr({name: value})  # 1 is not 1.0 here


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("encoders", "resnet_w8", "must be a list of texts, such as ['resnet_w8'], or None; 'resnet_w8' is not"),
        ("encoders", "[1, 2]", "must be a list of texts, such as ['name'], or None; '[1, 2]' is not"),
        ("encoders", "[]", "Parameter encoders is empty; give a list of texts that holds something"),
        ("encoders", {"a": 1}, "must be a list of texts"),
        ("seeds", "3", "must be a list of whole numbers, such as [3], or None; '3' is not"),
        ("seeds", "[0.5]", "must be a list of whole numbers, such as [1], or None; '[0.5]' is not"),
        ("seeds", "[True]", "must be a list of whole numbers"),
        ("seeds", "[[1]]", "must be a list of whole numbers"),
        ("count", "many", "must be a whole number, such as 1, or None; 'many' is not"),
        ("count", "[64]", "must be a whole number"),
        ("source", 7, "Parameter source must be text, such as 'name', or None; 7 is not"),
        ("tasks", "['a.csv', 'ring']", "must be a dictionary of text to a list of texts, such as {'name': ['name']}"),
        ("tasks", "{'rings': 'a.csv'}", "must be a dictionary of text to a list of texts"),
        ("tasks", "{}", "Parameter tasks is empty"),
        ("n", "None", "must be a whole number, such as 5; 'None' is not"),
        ("n", "1.5", "must be a whole number"),
        ("flag", "1", "must be True or False"),
    ],
)
def test_values_of_another_type_are_refused(known, name, given, message):
    with pytest.raises(UserError) as refused:
        chapters.check_overrides({name: given}, known)
    assert message in str(refused.value)


@pytest.mark.parametrize("kind", ["", ": banana", ": list[banana]", ": list[int, int]", ": 'str'", ": str | None"])
def test_a_parameter_without_a_default_needs_a_type(kind):
    cell = v4.new_code_cell(f"n{kind} = None  # how many", metadata={"tags": ["parameters"]})
    with pytest.raises(UserError, match="n is None by default, so its type must stand beside it"):
        chapters.read_parameters(v4.new_notebook(cells=[cell]), "page")


def test_a_list_of_all_parameters_is_stale_once_one_of_them_changes(project):
    rows = chapters.list_parameters(project)
    assert rows[0] == {"parameter": "preset", "default": "'laptop'", "meaning": "how large", "chapters": "01, 02, 90"}
    assert [row["parameter"] for row in rows] == ["preset", "n", "scale", "sizes", "width"]
    notebook = read_notebook(project / "chapters" / "90-notes.ipynb")
    before = fingerprint(notebook, "90", project=project, every_parameter=True)
    edit(project, "how many numbers", "the list's length", "01-first")
    assert fingerprint(notebook, "90", project=project, every_parameter=True) != before
    assert chapters.list_parameters(project)[1]["meaning"] == "the list’s length"


def test_papermill_reads_the_same_parameters(known, tmp_path):
    cell = v4.new_code_cell(PARAMETERS.strip(), metadata={"tags": ["parameters"]})
    chapters.write_notebook(
        v4.new_notebook(
            cells=[cell], metadata={"kernelspec": {"name": "python3", "language": "python", "display_name": "x"}}
        ),
        tmp_path / "a.ipynb",
    )
    found = papermill.inspect_notebook(str(tmp_path / "a.ipynb"))
    assert {name: one["help"] for name, one in found.items()} == {name: one.meaning for name, one in known.items()}
    assert found["encoders"]["inferred_type_name"] == "list[str]" and found["encoders"]["default"] == "None"


@pytest.mark.parametrize("line", ["n = 5", "n = int(5)  # how many", "n = m = 5  # how many", "n: int = 5  # how many"])
def test_parameters_are_commented_literals(line):
    cell = v4.new_code_cell(line, metadata={"tags": ["parameters"]})
    with pytest.raises(UserError, match="may hold only lines 'name = literal  # unit and meaning'"):
        chapters.read_parameters(v4.new_notebook(cells=[cell]), "page")


def test_the_parameters_cell_must_be_there_once():
    with pytest.raises(UserError, match="page has 0 code cells tagged 'parameters'"):
        chapters.read_parameters(v4.new_notebook(), "page")


def test_overriding_keeps_comments_and_other_lines():
    cell = v4.new_code_cell("größe = 'é'  # ä: a = b\nn = 5  # n", metadata={"tags": ["parameters"]})
    chapters.override(v4.new_notebook(cells=[cell]), {"größe": "x'y", "n": -1}, "page")
    assert cell.source == 'größe = "x\'y"  # ä: a = b\nn = -1  # n'


@pytest.mark.parametrize("line", ["#| fig-alt: 'A \"straight\" line.'\n", "#| fig-cap: A line, compare @tbl-sums.\n"])
def test_a_figure_without_caption_or_alternative_text_is_refused(project, line):
    edit(project, line, "", "02-second")
    with pytest.raises(UserError, match="02-second.ipynb, cell fig-line: fig-line needs a line '#| fig-"):
        build(project=project, say=quiet)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0", "cell parameters-code failed: ZeroDivisionError: division by zero"),
        ("import os\nos._exit(1)", "01-first.ipynb: the kernel died while it ran"),
        (
            "import matplotlib.pyplot as plt\nplt.plot([1]);",
            "cell parameters-code: an image needs '#| label: fig-...' with caption and alternative text",
        ),
        ("print(object())", "cell parameters-code: the output shows a memory address \\(at 0x"),
        ("from gzlib import paths\nprint(paths.ROOT)", "cell parameters-code: the output shows a path of this machine"),
    ],
)
def test_what_must_not_be_stored_is_refused_and_the_chapter_kept(project, code, message):
    edit(project, 'print("one")', code)
    before = chapter_bytes(project)
    with pytest.raises(UserError, match=message):
        build(project=project, only="01", say=quiet)
    assert chapter_bytes(project) == before


def test_a_kernel_that_dies_before_it_answers_is_one_sentence(project, monkeypatch):
    """As where the system ends it for want of memory."""
    before = chapter_bytes(project)
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(UserError, match=r"01-first.ipynb: the kernel died while it ran, possibly out of memory"):
        build(project=project, only="01", force=True, say=quiet)
    assert chapter_bytes(project) == before


def test_prose_that_names_an_unknown_variable_is_refused(project):
    edit(project, "Printed below", "Printed {{< var first.toal >}} below", "90-notes")
    with pytest.raises(UserError, match=r"first.toal \(in chapters/90-notes.ipynb\)"):
        build(project=project, say=quiet)


def test_only_text_and_numbers_are_published():
    publish(a="1", b=2, c=0.5)
    with pytest.raises(UserError, match=r"publish\(d=...\) takes text or a number, not \[1\]"):
        publish(d=[1])


def test_a_killed_build_leaves_the_chapters_intact(project, tmp_path):
    edit(
        project,
        'print("one")',
        f'import time\n\nopen("{tmp_path / "reached"}", "w").close()\ntime.sleep(60)\nprint("one")',
    )
    before = chapter_bytes(project)
    code = f"from gzlib.book.builder import build; build(project={str(project)!r})"
    environment = {**os.environ, "PYTHONPATH": str(tiny_book.ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, env=environment)
    deadline = time.monotonic() + 60
    while not (tmp_path / "reached").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / "reached").exists(), "the chapter was not running when it was killed"
    assert chapter_bytes(project) == before
    edit(project, "time.sleep(60)\n", "")
    assert build(project=project, say=quiet).ran == ["01-first"]


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "file"
    assert replace_file(file, "old\n") and not replace_file(file, "old\n")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(UserError, match="no"):
        replace_file(file, "new\n")
    assert [f.name for f in tmp_path.iterdir()] == ["file"] and file.read_text() == "old\n"


def test_a_broken_notebook_is_named(project):
    (project / "chapters" / "01-first.ipynb").write_text("{")
    with pytest.raises(UserError, match="01-first.ipynb is not a readable notebook"):
        build(project=project, say=quiet)


def test_png_pixels_stay_and_dates_go():
    picture, info = Image.new("RGB", (3, 2), "red"), PngImagePlugin.PngInfo()
    info.add_text("Software", "Matplotlib 3")
    plain, dated = io.BytesIO(), io.BytesIO()
    picture.save(plain, "png")
    picture.save(dated, "png", pnginfo=info)
    assert dated.getvalue() != plain.getvalue() and strip_png(dated.getvalue()) == plain.getvalue()
    (width,) = struct.unpack(">I", strip_png(dated.getvalue())[16:20])
    assert width == 3


def test_normal_notebooks_keep_results_only():
    png = io.BytesIO()
    Image.new("RGB", (1, 1)).save(png, "png")
    outputs = [
        v4.new_output("stream", name="stdout", text="a\n"),
        v4.new_output("stream", name="stderr", text="50%\n"),
        v4.new_output("stream", name="stdout", text="b\n"),
        v4.new_output(
            "execute_result",
            {"image/png": base64.encodebytes(png.getvalue()).decode(), "text/plain": "<Figure>"},
            execution_count=3,
        ),
    ]
    cells = [
        v4.new_code_cell("#| label: fig-a\nplot()", outputs=outputs, execution_count=3),
        v4.new_markdown_cell("Text."),
        v4.new_markdown_cell("More.", id="chosen"),
    ]
    notebook = v4.new_notebook(cells=cells, metadata={"papermill": {}, "gzlib": {"fingerprint": "f"}})
    normalise(notebook)
    assert notebook.metadata["gzlib"] == {"fingerprint": "f"} and "papermill" not in notebook.metadata
    assert [cell["id"] for cell in notebook.cells] == ["fig-a", "fig-a-markdown", "chosen"]
    text, picture = notebook.cells[0].outputs
    assert text.text == "a\nb\n" and list(picture.data) == ["image/png"] and "\n" not in picture.data["image/png"]
    once = str(notebook)
    normalise(notebook)
    assert str(notebook) == once
    notebook.cells[0].outputs = []
    assert refusals(notebook, "page") == ["page, cell fig-a: fig-a has no output"]


def test_option_lines_are_yaml():
    options, code = cell_options(v4.new_code_cell("#| label: fig-a\n#| fig-cap: |\n#|   One\n#|   two\n\nplot()"))
    assert options == {"label": "fig-a", "fig-cap": "One\ntwo"} and code == "plot()"
    with pytest.raises(UserError, match="cell fig: b are not valid YAML|option lines of cell"):
        cell_options(v4.new_code_cell("#| fig-cap: a: b"))


def test_reading_a_notebook_builds_no_grammar_of_web_addresses():
    """A second of each command, for checks of formats that no notebook asks for."""
    code = "import sys; from gzlib.book.chapters import read_notebook; read_notebook(sys.argv[1]);"
    code += "print('jsonschema' in sys.modules, 'rfc3987_syntax' in sys.modules)"
    command = [sys.executable, "-c", code, str(paths.ROOT / "chapters" / "01-data.ipynb")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == ["True", "False"]


def test_a_relative_folder_of_surveys_is_the_same_one_in_chapters(tmp_path):
    """A kernel works in the folder of its chapter, where the words of the variable would name another folder."""
    code = "from gzlib.book.execute import _surveys; print(_surveys('/elsewhere'))"
    for given, expected in ({"GZLIB_SURVEYS": "mine"}, tmp_path / "mine"), ({}, Path("/elsewhere/data/surveys")):
        own = {name: value for name, value in os.environ.items() if name != "GZLIB_SURVEYS"} | given
        own["PYTHONPATH"] = str(paths.PACKAGE.parent)
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=own, capture_output=True, check=True)
        assert Path(done.stdout.decode().strip()) == expected
