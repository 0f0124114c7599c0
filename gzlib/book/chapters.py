"""The chapters as files: which there are, how they are read and replaced, and their parameters."""

import ast
import contextlib
import difflib
from dataclasses import dataclass
from pathlib import Path

import yaml

from gzlib.errors import UserError
from gzlib.files import replace_file


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


def book_config(project):
    """``_quarto.yml`` as a dictionary.

    Raises
    ------
    UserError
        If the file is missing or is not YAML.
    """
    file = Path(project) / "_quarto.yml"
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


def read_notebook(path):
    """A notebook in format 4.5 (``nbformat.NotebookNode``), its text with ``\\n`` line ends."""
    import nbformat

    path = Path(path)
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
    import nbformat

    return replace_file(path, nbformat.writes(notebook).rstrip("\n") + "\n")


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
        options = yaml.safe_load(text) or {}
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


def read_parameters(notebook, page):
    """Parameter values by name, in the order of the cell.

    Raises
    ------
    UserError
        If a line is anything but ``name = literal  # unit and meaning``.
    """
    return {name: ast.literal_eval(node) for name, node in _assignments(parameters_cell(notebook, page), page).items()}


def override(notebook, values, page):
    """Write new values into the parameters cell; comments stay.

    The cell itself is changed, rather than a second one injected, so that a reader sees the values that were used.
    """
    cell = parameters_cell(notebook, page)
    nodes = _assignments(cell, page)
    lines = cell.source.split("\n")
    for name, value in values.items():
        node = nodes[name]
        line = lines[node.lineno - 1].encode()
        lines[node.lineno - 1] = (line[: node.col_offset] + repr(value).encode() + line[node.end_col_offset :]).decode()
    cell.source = "\n".join(lines)


def _assignments(cell, page):
    def refuse(line):
        return UserError(
            f"{page}: the parameters cell may hold only lines 'name = literal  # unit and meaning', not {line!r}."
        )

    try:
        statements = ast.parse(cell.source).body
    except SyntaxError as error:
        raise refuse((error.text or "").strip()) from None
    lines = cell.source.split("\n")
    nodes = {}
    for statement in statements:
        line = lines[statement.lineno - 1].encode()
        target = statement.targets[0] if isinstance(statement, ast.Assign) and len(statement.targets) == 1 else None
        comment = line[statement.end_col_offset :].decode().strip() if statement.lineno == statement.end_lineno else ""
        if not isinstance(target, ast.Name) or not comment.startswith("#"):
            raise refuse(line.decode())
        try:
            ast.literal_eval(statement.value)
        except ValueError:
            raise refuse(line.decode()) from None
        nodes[target.id] = statement.value
    return nodes


def check_overrides(given, known):
    """Turn the values that a user gave into values of the parameters' own types.

    Parameters
    ----------
    given : dict
        Name to value; a string is read as a Python literal unless the parameter is itself a string.
    known : dict
        Name to default value, of every chapter that is to run.

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


def _convert(name, value, default):
    original = value
    if isinstance(value, str) and not isinstance(default, str):
        with contextlib.suppress(ValueError, SyntaxError):  # else it stays a string, which the check below judges
            value = ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(value.lower(), value))
    if isinstance(default, float) and _fits(value, 0):
        value = float(value)
    if isinstance(default, list | tuple) and isinstance(value, list | tuple):
        value = type(default)(value)
    if not _fits(value, default):
        raise UserError(f"Parameter {name} must be {_kind(default)}, such as {default!r}; {original!r} is not.")
    return value


def _fits(value, default):
    if default is None:
        return True
    if isinstance(default, list | tuple) and default and isinstance(value, list | tuple):
        return all(_fits(item, default[0]) or (isinstance(default[0], float) and _fits(item, 0)) for item in value)
    if isinstance(value, bool) != isinstance(default, bool):
        return False
    return isinstance(value, type(default))


def _kind(default):
    names = {bool: "True or False", int: "a whole number", float: "a number", str: "text", dict: "a dictionary"}
    if isinstance(default, list | tuple) and default:
        inner = {int: "whole numbers", float: "numbers", str: "texts"}.get(type(default[0]), "values")
        return f"a {type(default).__name__} of {inner}"
    return names.get(type(default), f"a {type(default).__name__}")
