"""A chapter's parameters: one tagged cell of commented literals, which an experiment may override."""

import ast
import contextlib
import difflib

from gzlib.errors import UserError

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
