"""The house's rules: how many rooms there are, what their public faces show, and which way imports go."""

import ast
import importlib.util
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

from gzlib import paths

PACKAGE = paths.ROOT / "gzlib"
MODULES = sorted(file for file in PACKAGE.rglob("*.py") if file.name != "__init__.py")
PAGES = sorted(PACKAGE.rglob("__init__.pyi"))
CHAPTERS = sorted((paths.ROOT / "chapters").glob("*.ipynb"))
BASE = {"errors", "files", "identity"}  # what an installation for fitting alone has
ROOMS = {"data", "sky", "models", "training", "fitting", "study", "book"}
MAY_IMPORT = {
    "fitting": set(),
    "data": set(),
    "sky": {"data"},
    "models": {"data"},
    "training": {"models", "data"},
    "study": {"training", "fitting", "models", "data", "sky"},
    "book": {"data"},
}


def dotted(file: Path) -> str:
    return ".".join(("gzlib", *file.relative_to(PACKAGE).parent.parts))


def named(page: Path) -> dict[str, str]:
    """Names of a public page, and the module that each comes from ("" for the package itself)."""
    nodes = [node for node in ast.parse(page.read_text()).body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: node.module or "" for node in nodes for alias in node.names}


def test_the_house_has_few_rooms_and_no_two_of_one_name():
    assert len(MODULES) <= 80
    assert [name for name, n in Counter(file.name for file in MODULES).items() if n > 1] == []


def slow_marks(file: Path) -> tuple[int, int]:
    """How many test functions of a module ``-m "not slow"`` leaves out, and how many it has."""
    nodes = ast.parse(file.read_text()).body
    whole = any(isinstance(n, ast.Assign) and "mark.slow" in ast.unparse(n) for n in nodes)
    tests = [n for n in nodes if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")]
    marks = (" ".join(map(ast.unparse, test.decorator_list)) for test in tests)
    slow = [whole or re.search(r"^pytest\.mark\.(slow|long)\b| pytest\.mark\.(slow|long)\b", text) for text in marks]
    return sum(map(bool, slow)), len(tests)


@pytest.mark.parametrize("room", [*sorted(ROOMS), "."])
def test_quick_tests_cover_every_package(room):
    """Most of a package's tests are quick, but for what trains and what builds books."""
    counts = {file.name: slow_marks(file) for file in (paths.ROOT / "tests" / room).glob("test_*.py")}
    slow, total = (sum(part) for part in zip(*counts.values(), strict=True))
    assert slow > 0 or room not in ("training", "book")
    assert total - slow >= total * (0.3 if room in ("training", "book") else 0.5), counts
    assert sum(slow < total for slow, total in counts.values()) >= 4


def test_every_package_has_a_public_page():
    """But for the command line: what it offers are commands, which `gzlib --help` lists."""
    assert {page.parent for page in PAGES} | {PACKAGE / "cli"} == {f.parent for f in PACKAGE.rglob("__init__.py")}


@pytest.mark.parametrize("page", PAGES, ids=dotted)
def test_a_public_page_has_one_line_a_name_that_says_what_it_is(page):
    for line in page.read_text().splitlines():
        if line.startswith("from"):
            assert re.fullmatch(r"from \.[\w.]* import (\w+) as \1  # \w.*", line), line
    package = importlib.import_module(dotted(page))
    assert sorted(package.__all__) == sorted(named(page))
    for name, origin in named(page).items():
        # A name that is also a module of the package would become that module once somebody imports it.
        is_module = (page.parent / f"{name}.py").exists() or (page.parent / name).is_dir()
        assert getattr(package, name) is not None and is_module == (origin == ""), name


@pytest.mark.parametrize("file", CHAPTERS, ids=lambda file: file.stem)
def test_chapters_import_from_public_pages_only(file):
    pages = {dotted(page): named(page) for page in PAGES}
    for cell in nbformat.read(file, as_version=4).cells:
        for node in ast.walk(ast.parse(cell.source)) if cell.cell_type == "code" else ():
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "gzlib":
                names = {alias.name for alias in node.names}
                assert names <= pages[node.module].keys() | ROOMS, (cell.id, names)
            assert not (isinstance(node, ast.Import) and any(a.name.startswith("gzlib") for a in node.names)), cell.id


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_go_one_way(room):
    for file in (PACKAGE / room).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "gzlib":
                names = [node.module.split(".")[1]] if "." in node.module else [alias.name for alias in node.names]
                for name in names:
                    assert name in {room, *MAY_IMPORT[room]} or name not in ROOMS, (file.name, node.module)
                    assert room != "fitting" or name in BASE | {"fitting"}, (file.name, node.module)


PROGRAMS = sorted([*(paths.ROOT / "benchmarks").glob("*.py"), *(paths.ROOT / "examples").glob("*.py")])


def names_that_are_gone(source: str) -> list[str]:
    """What a program takes from gzlib that it does not have, by its text: nothing of it is run."""
    tree, held, gone = ast.parse(source), {}, []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "gzlib":
                    module = importlib.import_module(alias.name)
                    held[alias.asname or "gzlib"] = module if alias.asname else importlib.import_module("gzlib")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gzlib":
            module = importlib.import_module(node.module)
            for alias in node.names:
                value = getattr(module, alias.name, None)
                if (
                    value is None
                    and hasattr(module, "__path__")
                    and importlib.util.find_spec(f"{node.module}.{alias.name}")
                ):
                    value = importlib.import_module(f"{node.module}.{alias.name}")
                if value is None:
                    gone.append(f"{node.module}.{alias.name}")
                elif isinstance(value, type | ModuleType):  # of which attributes are taken
                    held[alias.asname or alias.name] = value
    own = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    own |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in held.keys() - own:
            value = held[node.value.id]
            fields_ = getattr(value, "__annotations__", {}) if isinstance(value, type) else {}
            if not hasattr(value, node.attr) and node.attr not in fields_ and isinstance(node.ctx, ast.Load):
                gone.append(f"{value.__name__}.{node.attr}")
    return gone


def test_a_name_that_is_gone_is_found():
    program = """
import gzlib as gz
from gzlib import paths, sky
from gzlib.sky.telescopes import Telescope, Moffat
gz.fit, gz.fits, paths.ROOT, paths.ROOTS, sky.simulate, Telescope.name, Telescope.moffat
"""
    expected = ["gzlib.sky.telescopes.Moffat", "gzlib.fits", "gzlib.paths.ROOTS", "Telescope.moffat"]
    assert names_that_are_gone(program) == expected


@pytest.mark.parametrize("file", PROGRAMS, ids=lambda file: file.stem)
def test_benchmarks_and_examples_take_names_that_there_are(file):
    """Many need packages that are not installed here, or hours: a class that is renamed would be missed at once."""
    assert names_that_are_gone(file.read_text()) == []


@pytest.mark.parametrize("name", ["gzlib", "gzlib.config", "gzlib.cli", "gzlib.fitting", "gzlib.data", "gzlib.sky"])
def test_importing_a_package_loads_no_torch(name):
    code = f"import sys, {name}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_fit_needs_nothing_but_the_base_installation():
    code = """
import sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in "torch timm pyarrow PIL matplotlib papermill yaml filelock psutil".split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NotInstalled())
import gzlib as gz, gzlib.fitting as f
for name in f.__all__:
    getattr(f, name)
assert gz.fit_curves is f.fit_curves
from gzlib.cli import main
sys.exit(main(["curate", "sim:10"]) != 2)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "pip install 'gzlib[train]'" in done.stderr
