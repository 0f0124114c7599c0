"""The chapters as files: which there are, how they are read and replaced, their parameters, and their numbers in prose.

Chapters publish numbers, ``_variables.yml`` keeps them, pages and the README show them.
"""

import ast
import contextlib
import datetime
import difflib
import gc
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import GenericAlias
from typing import Any, get_args, get_origin

import yaml

from gzlib import paths
from gzlib.errors import UserError
from gzlib.files import replace_file
from gzlib.trace import note


@dataclass(frozen=True)
class Input:
    """One page of the book as ``_quarto.yml`` lists it; ``path`` is relative to the project, with ``/``."""

    path: str
    appendix: bool = False

    @property
    def is_notebook(self):
        return self.path.endswith(".ipynb")

    @property
    def stem(self):
        return Path(self.path).stem


def book_config(project, profile=None):
    """``_quarto.yml`` as a dictionary, or that of one of its profiles alone.

    Raises
    ------
    UserError
        If the file is missing or is not YAML.
    """
    file = Path(project) / (f"_quarto-{profile}.yml" if profile else "_quarto.yml")
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{file} does not exist: run this in a checkout of the project.") from None
    except yaml.YAMLError as error:
        raise UserError(f"{file} is not valid YAML: {_one_line(error)}.") from error


def book_inputs(project):
    """The book's pages in reading order, appendices last, as a list of :class:`Input`."""
    book = book_config(project)["book"]
    inputs = [Input(path) for path in _flatten(book["chapters"])]
    inputs += [Input(path, appendix=True) for path in _flatten(book.get("appendices", []))]
    for page in inputs:
        if not (Path(project) / page.path).is_file():
            raise UserError(f"_quarto.yml lists {page.path}, which does not exist: create it or take it off the list.")
    return inputs


def _flatten(entries):
    for entry in entries:
        if isinstance(entry, str):
            yield entry
        elif "chapters" in entry:  # a part
            yield from _flatten(entry["chapters"])
        else:
            yield entry["file"]


@contextlib.contextmanager
def without_collecting():
    """Look for no cycles of dead objects meanwhile: syntax trees and pages have none, and looking takes as long again.

    What nothing refers to is still freed at once.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _nbformat():
    """The library; the first time, jsonschema is not let build a grammar of web addresses, for checks not made here."""
    grammar = "rfc3987_syntax"  # takes more than a second
    if "nbformat" not in sys.modules and grammar not in sys.modules:
        sys.modules[grammar] = None  # type: ignore[assignment]  # as if it were not installed
        try:
            import nbformat
        finally:
            sys.modules.pop(grammar, None)
    import nbformat

    return nbformat


def read_notebook(path):
    """A notebook in format 4.5 (``nbformat.NotebookNode``), its text with ``\\n`` line ends."""
    path, nbformat = Path(path), _nbformat()
    try:
        notebook = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} is not a readable notebook ({_one_line(error)}): restore it from git or repair it."
        ) from error
    notebook.nbformat_minor = 5
    for cell in notebook.cells:
        cell.source = cell.source.replace("\r\n", "\n")
    return notebook


def write_notebook(notebook, path):
    """Write a notebook so that the same content always gives the same bytes. Returns True if the file changed."""
    return replace_file(path, _nbformat().writes(notebook).rstrip("\n") + "\n")


# A book has hundreds of such cells, each read several times; libyaml is what most installations of PyYAML have.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def cell_options(cell):
    """A code cell's ``#|`` lines as a dictionary, and its code without them.

    Raises
    ------
    UserError
        If the lines are not YAML.
    """
    lines = cell.source.split("\n")
    count = next((i for i, line in enumerate(lines) if not line.startswith("#|")), len(lines))
    text = "\n".join(line[2:].removeprefix(" ") for line in lines[:count])
    try:
        options = yaml.load(text, _LOADER) or {}
    except yaml.YAMLError as error:
        raise UserError(
            f"the option lines of cell {cell.get('id')} are not valid YAML ({_one_line(error)}): "
            "put text that contains ': ' or '#' in quotation marks."
        ) from error
    if not isinstance(options, dict):
        raise UserError(f"the option lines of cell {cell.get('id')} must read '#| name: value', not {text!r}.")
    return options, "\n".join(lines[count:]).strip("\n")


def where(page, cell):
    """How messages name a code cell: by its label, if it has one."""
    return f"{page}, cell {cell_options(cell)[0].get('label') or cell.get('id')}"


def _one_line(error):
    return " ".join(str(error).split()).rstrip(".")[:300]


TAG = "parameters"


def parameters_cell(notebook, page):
    """The one code cell tagged ``parameters``.

    Raises
    ------
    UserError
        If there is none, or more than one.
    """
    tagged = [cell for cell in notebook.cells if cell.cell_type == "code" and TAG in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise UserError(
            f"{page} has {len(tagged)} code cells tagged '{TAG}'; it must have exactly one (cell metadata: tags)."
        )
    return tagged[0]


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: ``name = value  # meaning``, or ``name: kind = None  # meaning``.

    ``kind`` is the type that a value must have, such as ``int`` or ``list[str]``; None is one more value where it is
    the default.
    """

    value: object
    kind: object
    meaning: str


def stated_parameters(notebook, page):
    """The parameters of a chapter by name, in the order of the cell: a dictionary of :class:`Parameter`.

    Raises
    ------
    UserError
        If a line is anything but ``name = literal  # unit and meaning``, with a type where the literal is None.
    """
    cell, found = parameters_cell(notebook, page), {}
    for name, (statement, default, annotation) in _assignments(cell, page).items():
        value = ast.literal_eval(default)
        kind = _kind_of(value) if value is not None else _annotated(annotation)
        meaning = cell.source.split("\n")[statement.lineno - 1].encode()[statement.end_col_offset :].decode()
        found[name] = Parameter(value, kind, meaning.strip().removeprefix("#").strip())
    return found


def read_parameters(notebook, page):
    """Parameter values by name, in the order of the cell; errors as :func:`stated_parameters`."""
    return {name: parameter.value for name, parameter in stated_parameters(notebook, page).items()}


def list_parameters(project=None):
    """What each parameter of the book means: one row for each name, default and meaning, in reading order.

    In an executing chapter this is noted, so that a parameter that changes in another chapter makes it stale.

    Parameters
    ----------
    project : Path, optional
        Root of another checkout.

    Returns
    -------
    list of dict
        ``parameter``, ``default`` (as it stands in the cell), ``meaning``, and ``chapters``, the numbers of those that
        have it.
    """
    note("parameters")
    project, rows = Path(project or paths.project()), dict[Any, list]()
    for page in book_inputs(project):
        if page.is_notebook:
            for name, one in stated_parameters(read_notebook(project / page.path), page.path).items():
                rows.setdefault((name, repr(one.value), one.meaning), []).append(page.stem.split("-")[0])
    return [  # a comment has the typewriter's apostrophe, a page has the printed one
        {"parameter": name, "default": default, "meaning": re.sub(r"(?<=\w)'(?=s\b)", "’", meaning)}
        | {"chapters": ", ".join(chapters)}
        for (name, default, meaning), chapters in rows.items()
    ]


def override(notebook, values, page):
    """Write new values into the parameters cell; comments stay.

    The cell itself is changed, rather than a second one injected, so that a reader sees the values that were used.
    """
    cell = parameters_cell(notebook, page)
    statements = _assignments(cell, page)
    lines = cell.source.split("\n")
    for name, value in values.items():
        _, node, _ = statements[name]
        line = lines[node.lineno - 1].encode()
        lines[node.lineno - 1] = (line[: node.col_offset] + repr(value).encode() + line[node.end_col_offset :]).decode()
    cell.source = "\n".join(lines)


def _assignments(cell, page):
    """Statement, value and annotation of each name of a parameters cell, each on a line of its own."""

    def refuse(line):
        return UserError(
            f"{page}: the parameters cell may hold only lines 'name = literal  # unit and meaning', not {line!r}."
        )

    try:
        statements = ast.parse(cell.source).body
    except SyntaxError as error:
        raise refuse((error.text or "").strip()) from None
    lines = cell.source.split("\n")
    found: dict[str, tuple[ast.stmt, ast.expr, ast.expr | None]] = {}
    for statement in statements:
        line = lines[statement.lineno - 1].encode()
        target: ast.expr | None = None
        annotation, default = None, None
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            (target,), default = statement.targets, statement.value
        elif isinstance(statement, ast.AnnAssign):
            target, annotation, default = statement.target, statement.annotation, statement.value
        comment = line[statement.end_col_offset :].decode().strip() if statement.lineno == statement.end_lineno else ""
        if not isinstance(target, ast.Name) or default is None or not comment.startswith("#"):
            raise refuse(line.decode())
        try:
            value = ast.literal_eval(default)
        except ValueError:
            raise refuse(line.decode()) from None
        if value is None and _annotated(annotation) is None:
            raise UserError(
                f"{page}: parameter {target.id} is None by default, so its type must stand beside it: "
                f"'{target.id}: list[str] = None  # unit and meaning' (or int, float, str, bool, dict[str, ...])."
            )
        if value is not None and annotation is not None:  # the value says it
            raise refuse(line.decode())
        found[target.id] = statement, default, annotation
    return found


_PLAIN: dict[str, Any] = {kind.__name__: kind for kind in (bool, int, float, str, list, dict)}


def _annotated(node):
    """The type that an annotation such as ``dict[str, list[str]]`` names, or None."""
    if isinstance(node, ast.Name):
        return _PLAIN.get(node.id)
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in ("list", "dict"):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        kinds = tuple(map(_annotated, inner))
        if None not in kinds and len(kinds) == (1 if node.value.id == "list" else 2):
            return _PLAIN[node.value.id][kinds]
    return None


def _kind_of(value):
    if isinstance(value, list | tuple) and value:
        first = _kind_of(value[0])
        return GenericAlias(list, (first,)) if isinstance(value, list) else GenericAlias(tuple, (first, ...))
    return type(value)


def check_overrides(given, known):
    """Turn the values that a user gave into values of the parameters' own types.

    Parameters
    ----------
    given : dict
        Name to value; a string is read as a Python literal, or as YAML's list or mapping, unless the parameter is
        itself a string.
    known : dict
        Name to :class:`Parameter`, of every chapter that is to run.

    Raises
    ------
    UserError
        For an unknown name (naming the known ones and the closest) or a value of the wrong type.
    """
    unknown = [name for name in given if name not in known]
    if unknown:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UserError(f"Unknown parameter {unknown[0]}: {hint}The parameters are {', '.join(sorted(known))}.")
    return {name: _convert(name, value, known[name]) for name, value in given.items()}


def _convert(name, value, parameter):
    kind, optional = parameter.kind, parameter.value is None
    origin, inner = get_origin(kind) or kind, get_args(kind)
    read = value
    if isinstance(value, str) and (origin is not str or (optional and value.lower() == "none")):
        with contextlib.suppress(ValueError, SyntaxError):  # else it stays a string, which the check below judges
            read = ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(value.lower(), value))
        if isinstance(read, str) and origin in (list, tuple, dict):
            with contextlib.suppress(yaml.YAMLError):
                read = yaml.safe_load(read)
    if read is None and optional:
        return None
    if isinstance(read, list | tuple | dict) and not read and (optional or parameter.value):
        raise UserError(f"Parameter {name} is empty; give {_in_words(kind)} that holds something.")
    try:
        return _conform(read, kind)
    except TypeError:
        pass
    example = _example(kind) if optional else parameter.value
    if origin in (list, tuple) and inner:
        with contextlib.suppress(TypeError):
            example = origin([_conform(read, inner[0])])  # it lacks its brackets alone
    ending = ", or None" if optional else ""
    raise UserError(f"Parameter {name} must be {_in_words(kind)}, such as {example!r}{ending}; {value!r} is not.")


def _conform(value, kind):
    """The value as one of this type; TypeError if it is of another."""
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if origin is int and isinstance(value, float) and value.is_integer():
        return int(value)  # 1e3
    if origin in (list, tuple) and isinstance(value, list | tuple):
        return origin(_conform(item, inner[0]) if inner else item for item in value)
    if not isinstance(value, origin) or isinstance(value, bool) != (origin is bool):
        raise TypeError
    if origin is dict and inner:
        return {_conform(key, inner[0]): _conform(item, inner[1]) for key, item in value.items()}
    return value


_WORDS = {
    bool: ("True or False", "truth values"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("text", "texts"),
    list: ("a list", "lists"),
    tuple: ("a tuple", "tuples"),
    dict: ("a dictionary", "dictionaries"),
}


def _in_words(kind, many=False):
    origin, inner = get_origin(kind) or kind, get_args(kind)
    words = _WORDS.get(origin, (f"a {origin.__name__}", f"{origin.__name__}s"))[many]
    if origin is dict and inner:
        return f"{words} of {_in_words(inner[0])} to {_in_words(inner[1])}"
    return f"{words} of {_in_words(inner[0], many=True)}" if inner else words


def _example(kind):
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if inner:
        return {"name": _example(inner[1])} if origin is dict else [_example(inner[0])]
    return {bool: True, int: 1, float: 0.5, str: "name"}.get(origin, origin())


VARIABLES_FILE = "_variables.yml"
_HEADER = "# Written by `python -m gzlib build` from what the chapters publish; do not edit.\n"
_USE = re.compile(r"\{\{<\s*var\s+([^\s>]+)\s*>\}\}")


def chapter_name(stem):
    """``02-pretraining`` is ``pretraining`` in prose."""
    return re.sub(r"^\d+-", "", stem)


def collect_variables(notebooks):
    """All published values, from executed notebooks.

    Parameters
    ----------
    notebooks : dict
        File stem to notebook.

    Returns
    -------
    dict
        ``{chapter: {name: text}}``
    """
    values = {chapter_name(stem): nb.metadata.get("gzlib", {}).get("variables", {}) for stem, nb in notebooks.items()}
    return {chapter: dict(named) for chapter, named in values.items() if named}


def write_variables(values, folder):
    """Write ``_variables.yml`` in a folder, in one fixed order."""
    text = yaml.safe_dump(values, sort_keys=True, allow_unicode=True, width=10_000) if values else "{}\n"
    return replace_file(Path(folder) / VARIABLES_FILE, _HEADER + text)


def load_variables(folder):
    """``_variables.yml`` of a folder; empty if it does not exist."""
    file = Path(folder) / VARIABLES_FILE
    return (yaml.safe_load(file.read_text(encoding="utf-8")) or {}) if file.exists() else {}


def edition(project):
    """What ``CITATION.cff`` says of the book, as variables ``paper.NAME`` for its prose; empty without the file."""
    file = Path(project) / "CITATION.cff"
    if not file.is_file():
        return {}
    try:
        cited = yaml.safe_load(file.read_text(encoding="utf-8"))
        names = [one.get("name") or f"{one['given-names']} {one['family-names']}" for one in cited["authors"]]
        released = datetime.date.fromisoformat(str(cited["date-released"]))
        facts = {name: str(cited[name]) for name in ("title", "version", "license")}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{file} does not state title, version, license, date-released and authors as the Citation File Format has"
            f" them ({type(error).__name__}: {' '.join(str(error).split())}); correct it."
        ) from error
    dates = {"date": f"{released.day} {released:%B %Y}", "year": f"{released:%Y}"}
    return {"paper": {**facts, **dates, "authors": " and ".join(names)}}


def lookup(name, values):
    """The text of ``chapter.name``, or None."""
    for part in name.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return None if values is None or isinstance(values, dict) else str(values)


def refuse_unknown_variables(prose, values):
    """Refuse prose that names a variable that no chapter published.

    Parameters
    ----------
    prose : dict
        Page name to its Markdown text.
    values : dict
        As :func:`collect_variables` returns them.
    """
    missing = [
        f"{name} (in {page})"
        for page, text in prose.items()
        for name in dict.fromkeys(_USE.findall(text))
        if lookup(name, values) is None
    ]
    if missing:
        raise UserError(
            f"The prose names variables that no chapter publishes: {', '.join(missing)}; "
            "publish them in a code cell (gzlib.publish) or correct the name."
        )


START, END = "<!-- results: written by `python -m gzlib build` -->", "<!-- end of results -->"
RESULTS = "_results.md"  # what the README shows between the two, with variables
_FIGURE = re.compile(r"\(figures/([\w-]+)\.svg\)")


def write_results(project: Path, notebooks: dict, variables: dict):
    """Bring the README's table and the figures that it shows up to date with the executed chapters."""
    readme = project / "README.md"
    if not readme.is_file():
        return
    text = readme.read_text(encoding="utf-8")
    for name in dict.fromkeys(_FIGURE.findall(text)):
        image, file = _stored_chart(notebooks, f"fig-{name}"), project / "figures" / f"{name}.svg"
        if image is not None:
            replace_file(file, image)
    if START in text:
        if END not in text:
            raise UserError(f"README.md opens the results with '{START}' but does not close them with '{END}'.")
        before, rest = text.split(START, 1)
        after = rest.split(END, 1)[1]
        table = results_table((project / RESULTS).read_text(encoding="utf-8"), variables)
        replace_file(readme, f"{before}{START}\n{table}\n{END}{after}")


def results_table(template: str, variables: dict) -> str:
    """A Markdown table with its variables filled in; a row that lacks one says that it was not measured."""
    lines = []
    for line in template.strip().splitlines():
        if any(lookup(name, variables) is None for name in _USE.findall(line)):
            line = f"{line[: line.index('|', 1)]}| not measured |"
        lines.append(_USE.sub(lambda match: lookup(match[1], variables), line))
    return "\n".join(lines)


INCLUDE = re.compile(r"\{\{<\s*include\s+_([\w-]+)\.qmd\s*>\}\}")


def write_includes(project: Path, notebooks: dict, pages: list[Path]):
    """Bring the files that pages include up to date: ``_NAME.qmd`` is what the cell labelled ``NAME`` shows."""
    for page in pages:
        for name in dict.fromkeys(INCLUDE.findall(page.read_text(encoding="utf-8"))):
            shown = _stored(notebooks, name, "text/markdown")
            if shown is not None:
                replace_file(project / f"_{name}.qmd", f"{shown}\n")


def _stored_chart(notebooks: dict, label: str) -> bytes | None:
    chart = _stored(notebooks, label, "image/svg+xml")
    return None if chart is None else chart.encode()


def _stored(notebooks: dict, label: str, kind: str) -> str | None:
    """What the cell of that label shows, in one of its forms."""
    for notebook in notebooks.values():
        for cell in notebook.cells:
            if cell.cell_type == "code" and cell_options(cell)[0].get("label") == label:
                for output in cell.outputs:
                    if kind in output.get("data", {}):
                        return output.data[kind]
    return None
