"""When is a stored chapter still true? Its fingerprint covers everything that its outputs were made from.

Hashed are the syntax trees of the chapter's code (the parameters among it) and of every ``gzlib`` module that it
imports, directly or through others, and the content of the runs that it read. Prose, captions, comments, docstrings,
formatting and line ends are not: editing them must not cost a training run. The trees are written out by
:func:`canonical`, because ``ast.dump`` differs between Python versions.
"""

import ast
import hashlib
import json
from functools import lru_cache
from pathlib import Path

import gzlib
from gzlib.book.inputs import hash_files
from gzlib.errors import UserError

# Fields that only some Python versions have, or that carry no meaning.
_SKIPPED = {"type_params", "type_comment", "type_ignores", "kind", "ctx"}
_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def fingerprint(notebook, page, *, project, runs=(), every_run=False, run_folders=None, files=()):
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
    run_folders : list of Path, optional
        Where runs are looked up, first match wins; by default the project's ``data/runs``.
    files : iterable of str
        Patterns of the other files that the chapter read, see :mod:`gzlib.book.inputs`.

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
        # A trailing semicolon is no syntax, yet it hides a cell's last value.
        "code": [[canonical(tree), cell.source.rstrip().endswith(";")] for cell, tree in trees if tree.body],
        "modules": {name: _module_hash(path.read_bytes()) for name, path in modules.items()},
        "runs": {key: _run_hash(key, folders) for key in keys},
    }
    if files:
        content["files"] = hash_files(Path(project), files)
    return _hash(content)


def package_folder(project):
    """The ``gzlib`` that chapters of this project import: the project's own, or else the one that is running."""
    own = Path(project) / "gzlib"
    return own if own.is_dir() else Path(gzlib.__file__).parent


def canonical(node):
    """A syntax tree as nested lists of plain values: no positions, no docstrings, nothing version-specific."""
    if isinstance(node, ast.AST):
        fields = [
            [name, canonical(value)]
            for name, value in _fields(node)
            if name not in _SKIPPED and value is not None and value != []
        ]
        return [type(node).__name__, *fields]
    if isinstance(node, list):
        return [canonical(item) for item in node]
    if isinstance(node, bytes):
        return ["bytes", node.hex()]
    return [type(node).__name__, repr(node)] if not isinstance(node, str) else ["str", node]


def _fields(node):
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(node, _WITH_DOCSTRING) and _is_text(value):
            value = value[1:]
        elif name == "values" and isinstance(node, ast.JoinedStr):
            # Python 3.12 cuts the literal parts of an f-string differently than 3.11.
            value = _merge_texts(value)
        yield name, value


def _is_text(body):
    first = body[0] if body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def _merge_texts(parts):
    merged = []
    for part in parts:
        if isinstance(part, ast.Constant) and merged and isinstance(merged[-1], ast.Constant):
            merged[-1] = ast.Constant(merged[-1].value + part.value)
        elif not (isinstance(part, ast.Constant) and part.value == ""):
            merged.append(part)
    return merged


def _cell_tree(cell, page):
    try:
        tree = ast.parse(cell.source)
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise UserError(
            f"{page}, cell {cell.get('id')}, line {error.lineno}: {line!r} is not plain Python ({error.msg}); "
            "magics and '!' commands do not belong in a chapter."
        ) from None
    # A cell's leading string is shown as output, so it is no docstring.
    return ast.Interactive(body=tree.body)


def imported_modules(trees, package):
    """Modules of the package that the trees import, and those that these import, and so on.

    Imports are found by reading, not by running; a package's ``__init__`` comes with each module in it.

    Returns
    -------
    dict
        Dotted module name to file, sorted by name.
    """
    found, waiting = {}, [(tree, []) for tree in trees]
    while waiting:
        tree, inside = waiting.pop()
        for name in _imports(tree, inside, package.name):
            for depth in range(1, name.count(".") + 2):
                module = ".".join(name.split(".")[:depth])
                path = _module_file(module, package)
                if path and module not in found:
                    found[module] = path
                    parts = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
                    waiting.append((_tree(path.read_bytes()), parts))
    return dict(sorted(found.items()))


def _imports(tree, inside, top):
    """Dotted names below ``top`` that a tree may import; a name taken from a module counts as a module, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = inside[: len(inside) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == top)


def _module_file(module, package):
    path = package.parent.joinpath(*module.split("."))
    candidates = (path / "__init__.py", path.with_name(path.name + ".py"))
    return next((file for file in candidates if file.is_file()), None)


@lru_cache(maxsize=512)
def _tree(source):
    return ast.parse(source)


@lru_cache(maxsize=512)
def _module_hash(source):
    return _hash(canonical(_tree(source)))


def _run_hash(key, folders):
    file = next((folder / key / "run.json" for folder in folders if (folder / key / "run.json").is_file()), None)
    return _hash(json.loads(file.read_bytes())) if file else "missing"


def _hash(content):
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
