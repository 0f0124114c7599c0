"""The chapters as files: which there are, how they are read, and how they are replaced without ever being broken."""

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
