"""The fingerprint changes with what makes results, with nothing else, and is the same everywhere."""

import ast
import gc
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import lazy_loader
import nbformat.v4 as v4
import pytest

from gzlib import data, paths
from gzlib.book import execute
from gzlib.book.chapters import without_collecting
from gzlib.book.execute import fingerprint, imported_modules
from gzlib.errors import NotWritten, UserError
from gzlib.identity import canonical_json, canonical_tree

HELPER = '''"""What it is for."""
from gzlib.deep import inner


def double(x: float = 1.0) -> float:
    """Twice as much."""
    return 2 * inner.same(x)
'''

# Every kind of syntax whose tree is written differently by some supported Python.
TRICKY = r'''
import gzlib.helper as h

async def f(a, /, b: int = 2, *, c=None, **rest):
    """Docstring."""
    x = f"{a!r:>{b}} and {c=} {{}} " f"{b:.3f}" "tail" f""
    y = u"text" + "\N{GREEK SMALL LETTER ALPHA}\x00"
    z = (1.5e300, -0.0, 3j, b"\xff", ..., None, True, 10**20, 0x1F)
    async with a as p, b as q:
        return [i async for i in p if i][::2], lambda *k: k

class C:
    """Docstring."""
'''
GOLDEN = "51c40c8d2eecd797baaabd0b181493fcf29d102025adacf480a7d695046d1c51"


@pytest.fixture
def project(tmp_path):
    files = {
        "__init__.py": "",
        "helper.py": HELPER,
        "unused.py": "value = 1\n",
        "deep/__init__.py": "",
        "deep/inner.py": "from . import beside\n\n\ndef same(x):\n    from ..late import value\n\n    return x\n",
        "deep/beside.py": "value = 1\n",
        "late.py": "value = 1\n",
    }
    for name, text in files.items():
        path = tmp_path / "gzlib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, newline="\n")
    run = tmp_path / "data" / "runs" / "abc" / "run.json"
    run.parent.mkdir(parents=True)
    run.write_text('{"loss": 0.5, "key": "abc"}')
    return tmp_path


def notebook(*sources):
    return v4.new_notebook(cells=[v4.new_markdown_cell("# Title"), *(v4.new_code_cell(s) for s in sources)])


SOURCE = "#| label: fig-a\n#| fig-cap: A caption.\nfrom gzlib import helper\n\nn = 3  # how many\nhelper.double(n)"


def of(project, source=SOURCE, **kwargs):
    return fingerprint(notebook(source), "page", project=project, runs=["abc"], **kwargs)


@pytest.mark.parametrize(
    "source",
    [
        SOURCE.replace("A caption.", "Another caption."),
        SOURCE.replace("how many", "how many galaxies"),
        SOURCE.replace("n = 3", "n   =   (3)"),
        SOURCE.replace("\n", "\r\n"),
        SOURCE + "\n\n\n# the end\n",
    ],
)
def test_a_chapter_stays_fresh_when_only_its_appearance_changes(project, source):
    assert of(project, source) == of(project)


@pytest.mark.parametrize(
    "source",
    [SOURCE.replace("n = 3", "n = 4"), SOURCE.replace("n = 3", "n = 3.0"), SOURCE + ";", SOURCE + "\nprint(n)"],
)
def test_code_and_parameters_count(project, source):
    assert of(project, source) != of(project)


def test_cell_borders_count_but_prose_and_comment_cells_do_not(project):
    one = fingerprint(notebook("a = 1\nb = 2"), "page", project=project)
    assert fingerprint(notebook("a = 1", "b = 2"), "page", project=project) != one
    assert fingerprint(notebook("# only a comment", "a = 1\nb = 2"), "page", project=project) == one


@pytest.mark.parametrize("module", ["helper.py", "deep/__init__.py", "deep/inner.py", "deep/beside.py", "late.py"])
def test_an_edit_of_any_imported_module_counts(project, module):
    before = of(project)
    with open(project / "gzlib" / module, "a") as file:
        file.write("more = 1\n")
    assert of(project) != before


def test_unused_modules_comments_docstrings_and_line_ends_do_not_count(project):
    before = of(project)
    (project / "gzlib" / "unused.py").write_text("value = 2\n")
    text = HELPER.replace("Twice as much.", "Two times.").replace("What it is for.", "Why.") + "# a comment\n"
    (project / "gzlib" / "helper.py").write_bytes(text.replace("\n", "\r\n").encode())
    assert of(project) == before


def test_the_content_of_runs_counts_and_their_spelling_does_not(project):
    before = of(project)
    run = project / "data" / "runs" / "abc" / "run.json"
    run.write_text('{\r\n "key": "abc",\r\n "loss": 0.5}')
    assert of(project) == before
    run.write_text('{"loss": 0.6, "key": "abc"}')
    changed = of(project)
    assert changed != before
    run.unlink()
    assert of(project) not in (before, changed)


def test_a_new_run_concerns_only_chapters_that_read_the_whole_store(project):
    part, whole = of(project), of(project, every_run=True)
    shutil.copytree(project / "data" / "runs" / "abc", project / "data" / "runs" / "def")
    assert of(project) == part
    assert of(project, every_run=True) != whole


def test_runs_are_looked_up_in_the_folders_given(project, tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(project / "data" / "runs", mine)
    assert of(project, run_folders=[tmp_path / "none", mine]) == of(project)
    (mine / "abc" / "run.json").write_text("{}")
    assert of(project, run_folders=[mine, project / "data" / "runs"]) != of(project)


def test_imports_are_followed_by_reading(project):
    found = imported_modules([ast.parse("import gzlib.helper, numpy")], project / "gzlib")
    assert list(found) == [
        "gzlib", "gzlib.deep", "gzlib.deep.beside", "gzlib.deep.inner", "gzlib.helper", "gzlib.late",
    ]  # fmt: skip


def test_a_name_from_a_public_page_stands_for_the_module_that_defines_it(project):
    """A chapter that takes one function of a package depends on its module, and on no other of the package."""
    package = project / "gzlib"
    (package / "__init__.pyi").write_text("from .room import double as double  # twice\n")
    (package / "room").mkdir()
    for name, text in {
        "__init__.py": "",
        "__init__.pyi": "from . import late as late  # a module\nfrom .one import double as double  # twice\n"
        "from .two import other as other  # other\n",
        "one.py": "def double(x):\n    return 2 * x\n",
        "two.py": "other = 1\n",
        "late.py": "value = 1\n",
    }.items():
        (package / "room" / name).write_text(text)

    def modules(code):
        return list(imported_modules([ast.parse(code)], package))

    assert modules("from gzlib.room import double") == modules("from gzlib import double") == ["gzlib.room.one"]
    assert modules("from gzlib.room import late") == ["gzlib.room.late"]
    everything = ["gzlib.room.late", "gzlib.room.one", "gzlib.room.two"]
    assert modules("from gzlib import room") == modules("import gzlib.room") == everything
    assert modules("import gzlib") == ["gzlib.room.one"]  # what the page names
    before = of(project, "from gzlib import double")
    (package / "room" / "two.py").write_text("other = 2\n")
    assert of(project, "from gzlib import double") == before
    (package / "room" / "data").mkdir()
    (package / "room" / "data" / "table.json").write_text("{}")
    assert of(project, "from gzlib import double") != before  # a data file beside the module


def test_code_that_is_not_python_is_refused(project):
    with pytest.raises(UserError, match="page, cell .* line 2: '!pip list' is not plain Python"):
        of(project, "a = 1\n!pip list")


def golden(project):
    cells = [SimpleNamespace(cell_type="code", source=s, get=lambda _: "id") for s in (TRICKY, SOURCE)]
    return fingerprint(SimpleNamespace(cells=cells), "page", project=project, runs=["abc", "gone"])


def test_golden_value(project):
    """A change here makes every committed chapter stale: it must be meant."""
    assert golden(project) == GOLDEN


def other_pythons():
    names = [f"python3.{minor}" for minor in range(11, 15) if minor != sys.version_info.minor]
    found = [path for name in names if (path := shutil.which(name))]
    # A version manager's stand-in may be on the path without its Python.
    return [path for path in found if subprocess.run([path, "-V"], capture_output=True, check=False).returncode == 0]


OTHERS = other_pythons()


@pytest.mark.slow
@pytest.mark.skipif(not OTHERS, reason="no other supported Python on the path")
@pytest.mark.parametrize("python", OTHERS)
def test_other_pythons_agree(project, python):
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); sys.path.append(sys.argv[4])\n"
        "from types import SimpleNamespace as N\n"
        "from gzlib.book.execute import fingerprint\n"
        "cells = [N(cell_type='code', source=s, get=lambda _: 'id') for s in json.loads(sys.argv[3])]\n"
        "print(fingerprint(N(cells=cells), 'page', project=sys.argv[2], runs=['abc', 'gone']))"
    )
    root = Path(__file__).resolve().parents[2]
    command = [python, "-B", "-c", code, str(root), str(project), json.dumps([TRICKY, SOURCE])]
    command.append(str(Path(lazy_loader.__file__).parents[1]))
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == GOLDEN


def test_f_strings_are_cut_alike_by_all_versions():
    whole = ast.JoinedStr([ast.Constant("ab"), ast.Constant(""), ast.Constant("c")])
    assert canonical_tree(whole) == canonical_tree(ast.JoinedStr([ast.Constant("abc")]))
    assert canonical_tree(ast.JoinedStr([ast.Constant("")])) == canonical_tree(ast.JoinedStr([]))


def test_the_fingerprint_of_a_simulated_survey_is_kept_for_as_long_as_no_file_of_the_package_changes(
    tmp_path, monkeypatch
):
    made = []

    def survey_fingerprint(spec):
        made.append(spec.source)
        if spec.source == "sim:gone:3":
            raise UserError("no such campaign.")
        return f"{spec.source} at {spec.size}"

    def of(*sources):
        made.clear()
        return execute._survey_hashes([{"source": source, "size": 16} for source in sources], tmp_path / "surveys")

    monkeypatch.setattr(data, "survey_fingerprint", survey_fingerprint)
    first = of("sim:10", "sim:gone:3", "other:3", "sim:10,other:3")
    assert list(first.values()) == [
        "sim:10 at 16",
        "unknown: no such campaign.",
        "other:3 at 16",
        "sim:10,other:3 at 16",
    ]
    assert of("sim:10", "sim:20", "sim:gone:3", "other:3", "sim:10,other:3") == {
        **first,
        canonical_json({"source": "sim:20", "size": 16}): "sim:20 at 16",
    }
    assert made == ["sim:20", "sim:gone:3", "other:3", "sim:10,other:3"]
    assert of("sim:10") and of("sim:20") and made == []
    (tmp_path / "surveys" / execute.KEPT).write_text("[")
    assert of("sim:10") and made == ["sim:10"]
    monkeypatch.setattr(execute, "_package_hash", lambda: "another")
    assert of("sim:10") and made == ["sim:10"]
    assert of("sim:10") and made == []
    own_tree = [{"source": "sim:10", "schema": "tree.json", "size": 16}]  # the user may change it
    assert execute._survey_hashes(own_tree, tmp_path / "surveys")
    assert execute._survey_hashes(own_tree, tmp_path / "surveys") and made == ["sim:10", "sim:10"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sim:40").mkdir()  # a folder of the user's, whatever it is called
    assert of("sim:40") and made and of("sim:40") and made == ["sim:40"]
    monkeypatch.setattr(execute, "replace_file", refuse)
    assert list(of("sim:30").values()) == ["sim:30 at 16"]


def refuse(path, text):
    raise NotWritten("no space.")


def test_every_file_of_the_package_counts_for_a_kept_fingerprint(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "PACKAGE", tmp_path)
    hashes = set()
    for name in ("sky/galaxies.py", "sky/calibration/gz2.json", "identity.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("one")
        hashes.add(execute._package_hash())
    (tmp_path / "identity.py").write_text("two")
    hashes.add(execute._package_hash())
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "identity.pyc").write_text("compiled")
    assert len(hashes) == 4 and execute._package_hash() in hashes


def test_nothing_looks_for_cycles_while_trees_are_read():
    with without_collecting():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(UserError), without_collecting():
        raise UserError("stops.")
    assert gc.isenabled()
