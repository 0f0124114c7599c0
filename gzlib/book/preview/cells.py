"""A page's source as one Markdown text: prose, folded code, and stored outputs; pictures are handed over beside it."""

import base64
import re
from html import escape
from pathlib import Path

import yaml

from gzlib.book.chapters import cell_options, read_notebook
from gzlib.book.normalise import refusals
from gzlib.errors import UserError

_FRONT = re.compile(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)
_PICTURES = {"image/png": "png", "image/jpeg": "jpg", "image/svg+xml": "svg"}


def page_source(file, page, *, fold, echo, prose, complete=True):
    """Read a notebook or ``.qmd`` file.

    Parameters
    ----------
    file : Path
    page : str
        The page's path in the book, for messages and for the folder of its pictures.
    fold : bool or "show"
        ``code-fold`` of the book.
    echo : bool
        ``echo`` of the book.
    prose : callable
        Applied to Markdown that an author wrote (not to outputs), with the page's front matter: shortcodes.
    complete : bool
        Refuse a notebook that has not been executed to its end.

    Returns
    -------
    markdown : str
    front : dict
        Front matter.
    pictures : dict
        File name, relative to the page, to content.

    Raises
    ------
    UserError
        If a notebook has not been executed completely.
    """
    if not page.endswith(".ipynb"):
        text = file.read_text(encoding="utf-8").replace("\r\n", "\n")
        front, text = _front_matter(text, page)
        return prose(text, front), front, {}
    notebook = read_notebook(file)
    if complete and (problems := refusals(notebook, page)):
        raise UserError("; ".join(problems) + "; run `python -m gzlib build` first.")
    cells = list(notebook.cells)
    front = {}
    if cells and cells[0].cell_type == "raw":
        front, _ = _front_matter(cells.pop(0).source, page)
    pictures, parts = {}, []
    folder = f"{Path(page).stem}_files"
    for cell in cells:
        if cell.cell_type == "markdown":
            parts.append(prose(cell.source, front))
        elif cell.cell_type == "code":
            parts.append(_code_cell(cell, fold, echo, folder, pictures, lambda text: prose(text, front)))
        else:
            parts.append(_raw_html(cell.source))
    return "\n\n".join(part for part in parts if part), front, pictures


def _front_matter(text, page):
    match = _FRONT.match(text)
    if not match:
        return {}, text
    try:
        return yaml.safe_load(match.group(1)) or {}, text[match.end() :]
    except yaml.YAMLError as error:
        raise UserError(f"The front matter of {page} is not valid YAML: {' '.join(str(error).split())}.") from error


def _code_cell(cell, fold, echo, folder, pictures, prose):
    options, code = cell_options(cell)
    if options.get("include") is False:
        return ""
    parts = []
    if options.get("echo", echo) and code:
        parts.append(_code(code, options.get("code-fold", fold), options.get("code-summary", "Code")))
    if options.get("output", True) is not False:
        label = str(options.get("label", ""))
        shown, numbered = _outputs(cell, options, label, folder, pictures)
        parts += shown
        if numbered:
            caption = prose(str(options.get(f"{label[:3]}-cap", "")).strip())
            parts.append(f"::::: {{#{label}}}\n" + "\n\n".join([*numbered, caption]) + "\n:::::")
    return "\n\n".join(parts)


def _outputs(cell, options, label, folder, pictures):
    """Outputs that stand by themselves, and those that are the numbered figure or table."""
    shown, numbered = [], []
    for index, output in enumerate(cell.outputs):
        if output.output_type == "stream":
            as_is = options.get("output") == "asis"
            shown.append(output.text if as_is else _fenced(output.text.rstrip("\n"), ".output"))
            continue
        target = numbered if label.startswith(("fig-", "tbl-")) else shown
        data = output.data
        picture = next((kind for kind in _PICTURES if kind in data), None)
        if picture:
            name = f"{folder}/{label or cell['id']}{f'-{index}' if index else ''}.{_PICTURES[picture]}"
            content = data[picture]
            pictures[name] = content.encode() if picture.endswith("xml") else base64.b64decode(content)
            target.append(_picture(name, str(options.get("fig-alt", "")), output.metadata.get(picture, {})))
        elif "text/html" in data:
            target.append(_raw_html(data["text/html"]))
        elif "text/markdown" in data:
            target.append(data["text/markdown"])
        elif "text/latex" in data:
            target.append(data["text/latex"])
        else:
            shown.append(_fenced(data.get("text/plain", ""), ".output"))
    return shown, numbered


def _picture(name, alt, size):
    alt = " ".join(alt.split()).replace("\\", "\\\\").replace('"', '\\"')
    width = f' width="{size["width"]}"' if "width" in size else ""
    return f'![]({name}){{alt="{alt}"{width}}}'


def _code(code, fold, summary):
    block = _fenced(code, ".python")
    if not fold:
        return block
    opened = " open" if fold == "show" else ""
    start = _raw_html(f'<details class="code"{opened}><summary>{escape(summary)}</summary>')
    return "\n\n".join([start, block, _raw_html("</details>")])


def _fenced(content, kind):
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", content)), default=0))
    return f"{fence} {{{kind}}}\n{content}\n{fence}"


def _raw_html(content):
    return _fenced(content, "=html")
