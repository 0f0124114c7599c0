"""When is a stored chapter still true? Its fingerprint covers everything that its outputs were made from.

Hashed are the syntax trees of the chapter's code (the parameters among it) and of every ``gzlib`` module that it
imports, directly or through others; the data files that lie with those modules; the content of the runs that it read;
and what the simulated surveys that it names hold by now. Prose, captions, comments, docstrings, type annotations of
functions, formatting and line ends are not: editing them must not cost a training run.

A name that is imported from a package's public page (``__init__.pyi``) stands for the module that defines it: a
chapter that takes one function of a package does not depend on the others.
"""

import ast
import json
from functools import lru_cache
from pathlib import Path

from gzlib import paths
from gzlib.book.chapters import list_parameters
from gzlib.config import SurveySpec
from gzlib.errors import UserError
from gzlib.identity import canonical_json, canonical_tree, code_hash, content_hash, text_hash
from gzlib.trace import hash_files


def fingerprint(
    notebook, page, *, project, runs=(), every_run=False, every_parameter=False, run_folders=None, files=(), surveys=()
):
    """Fingerprint of a chapter, equal on every supported Python and operating system.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
    page : str
        The chapter's name in messages.
    project : Path
        Root of the project, whose ``gzlib`` is followed.
    runs : iterable of str
        Keys of the runs that the chapter read.
    every_run : bool
        The chapter read the whole store, so that a new run concerns it too.
    every_parameter : bool
        The chapter lists the parameters of all chapters.
    run_folders : list of Path, optional
        Where runs are looked up, first match wins; by default the project's ``data/runs``.
    files : iterable of str
        Patterns of the other files that the chapter read, see :func:`gzlib.trace.input_files`.
    surveys : iterable of dict
        Specifications of the surveys of generated galaxies that the chapter used or whose runs it read.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    UserError
        If a code cell is not plain Python.
    """
    trees = [(cell, _cell_tree(cell, page)) for cell in notebook.cells if cell.cell_type == "code"]
    modules = imported_modules([tree for _, tree in trees], package_folder(project))
    folders = [Path(folder) for folder in run_folders or [Path(project) / "data" / "runs"]]
    keys = set(runs)
    if every_run:
        keys |= {file.parent.name for folder in folders for file in folder.glob("*/run.json")}
    content = {
        # A trailing semicolon is not syntax, yet it hides a cell's last value.
        "code": [[canonical_tree(tree), cell.source.rstrip().endswith(";")] for cell, tree in trees if tree.body],
        "modules": {name: code_hash(path) for name, path in modules.items()},
        "data": {
            path.relative_to(package_folder(project)).as_posix(): _data_hash(path) for path in data_files(modules)
        },
        "runs": {key: _run_hash(key, folders) for key in keys},
    }
    if every_parameter:
        content["parameters"] = list_parameters(project)
    if files:
        content["files"] = hash_files(Path(project), files)
    if surveys:
        content["surveys"] = {canonical_json(spec): _survey_hash(spec) for spec in surveys}
    return content_hash(content)


def package_folder(project):
    """The ``gzlib`` that chapters of this project import: the project's own, or else the one that is running."""
    own = Path(project) / "gzlib"
    return own if own.is_dir() else paths.PACKAGE


def data_files(modules):
    """Files that lie with modules: all of a folder that is not a package, beside one of the modules; sorted."""
    folders = {
        folder
        for parent in {path.parent for path in modules.values()}
        for folder in parent.iterdir()
        if folder.is_dir() and not (folder / "__init__.py").is_file() and not folder.name.startswith(("_", "."))
    }
    return sorted(file for folder in folders for file in folder.rglob("*") if file.is_file())


def _cell_tree(cell, page):
    try:
        tree = ast.parse(cell.source)
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise UserError(
            f"{page}, cell {cell.get('id')}, line {error.lineno}: {line!r} is not plain Python ({error.msg}); "
            "magics and '!' commands do not belong in a chapter."
        ) from None
    # A cell's leading string is shown as output, so it is not a docstring.
    return ast.Interactive(body=tree.body)


def imported_modules(trees, package):
    """Modules of the package that the trees import, and those that these import, and so on.

    Imports are found by reading, not by running. A package's ``__init__`` comes with each module in it, unless the
    package has a public page: then only the modules of the names that are imported.

    Returns
    -------
    dict
        Dotted module name to file, sorted by name.
    """
    found: dict[str, Path] = {}
    waiting: list[tuple[ast.AST, list[str]]] = [(tree, []) for tree in trees]
    while waiting:
        tree, inside = waiting.pop()
        for name in _imports(tree, inside, package):
            for depth in range(1, name.count(".") + 2):
                module = ".".join(name.split(".")[:depth])
                path = _module_file(module, package)
                if path and module not in found and not _page_file(path).is_file():
                    found[module] = path
                    parts = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
                    waiting.append((_tree(path.read_bytes()), parts))
    return dict(sorted(found.items()))


def _imports(tree, inside, package):
    """Dotted names of the package that a tree may import; a name taken from a module counts as a module, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names, base = [alias.name for alias in node.names], ""
        elif isinstance(node, ast.ImportFrom):
            base = inside[: len(inside) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        if base.split(".")[0] == package.name:
            yield base
        for name in names:
            if name.split(".")[0] == package.name:
                yield from _defining(name, package)


def _defining(name, package):
    """Where a public page says that a name comes from; of a whole package, where all its names come from."""
    parent, _, last = name.rpartition(".")
    # A page that names one of its own modules leads to itself.
    while parent and (page := _page(parent, package)).get(last, name) != name:
        name = page[last]
        parent, _, last = name.rpartition(".")
    yield name
    for origin in _page(name, package).values():
        yield from _defining(origin, package)


def _page(module, package) -> dict[str, str]:
    """What a package's public page names: name to dotted origin; empty if it has none."""
    path = _module_file(module, package)
    return _read_page(_page_file(path).read_bytes(), module) if path and _page_file(path).is_file() else {}


@lru_cache(maxsize=64)
def _read_page(source: bytes, package_name: str) -> dict[str, str]:
    named: dict[str, str] = {}
    for node in _tree(source).body:
        if isinstance(node, ast.ImportFrom):
            origin = ".".join(filter(None, [package_name, node.module]))
            named |= {alias.name: f"{origin}.{alias.name}" for alias in node.names}
    return named


def _page_file(path: Path) -> Path:
    return path.with_suffix(".pyi") if path.name == "__init__.py" else path / "no page"


def _module_file(module, package):
    path = package.parent.joinpath(*module.split("."))
    candidates = (path / "__init__.py", path.with_name(path.name + ".py"))
    return next((file for file in candidates if file.is_file()), None)


@lru_cache(maxsize=512)
def _tree(source):
    return ast.parse(source)


def _data_hash(path):
    """Of a JSON file its content counts, of any other its text."""
    return content_hash(json.loads(path.read_bytes())) if path.suffix == ".json" else text_hash(path)


def _survey_hash(spec):
    """The survey's fingerprint as this code would make it."""
    from gzlib.data import survey_fingerprint  # needs the extra `train`, which rendering executed chapters does without

    try:
        return survey_fingerprint(SurveySpec(**spec))
    except (TypeError, UserError) as error:  # another version's specification, or a source that is gone
        return f"unknown: {error}"


def _run_hash(key, folders):
    file = next((folder / key / "run.json" for folder in folders if (folder / key / "run.json").is_file()), None)
    return content_hash(json.loads(file.read_bytes())) if file else "missing"
