"""Pages as pandoc reads and writes them: notebooks to Markdown, pandoc's syntax tree, and the sections of its HTML."""

import base64
import json
import re
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pypandoc
import yaml

from gzlib.book.chapters import cell_options, read_notebook
from gzlib.book.execute import refusals
from gzlib.errors import UserError

# A wide page keeps pandoc from giving the columns of a table fixed shares of the width.
_READ = ["--columns=10000"]
_WRITE = ["--mathml", "--wrap=none"]


def read(markdown):
    """Markdown to ``{"meta": ..., "blocks": [...]}``."""
    text = pypandoc.convert_text(markdown, "json", "markdown", extra_args=_READ, verify_format=False)
    return json.loads(text)


def cite(doc, bibliography, *, nocite=()):
    """Set citations and append the list of references, a Div called ``refs``.

    Parameters
    ----------
    doc : dict
    bibliography : list of Path
    nocite : iterable of str
        Keys that are listed though this page does not cite them.
    """
    listed = [_citation(key) for key in nocite]
    doc["meta"] = {
        "bibliography": {"t": "MetaList", "c": [{"t": "MetaString", "c": str(file)} for file in bibliography]},
        "link-citations": {"t": "MetaBool", "c": True},
        "nocite": {"t": "MetaInlines", "c": [{"t": "Cite", "c": [listed, []]}] if listed else []},
    }
    text = pypandoc.convert_text(
        json.dumps(doc), "json", "json", extra_args=["--citeproc", *_READ], verify_format=False
    )
    return json.loads(text)


def _citation(key):
    mode = {"t": "NormalCitation"}
    return {
        "citationId": key,
        "citationPrefix": [],
        "citationSuffix": [],
        "citationMode": mode,
        "citationNoteNum": 0,
        "citationHash": 0,
    }


def html(doc, filters=()):
    """A document to HTML, through Lua filters; math becomes MathML, which needs no script."""
    text = json.dumps({**doc, "blocks": _nameless_outputs(doc["blocks"]), "meta": {}})
    extra = [*_WRITE, *(f"--lua-filter={file}" for file in filters)]
    content = pypandoc.convert_text(text, "html", "json", extra_args=extra, verify_format=False)
    return content.replace('<pre data-printed="">', '<pre class="output">')


def _nameless_outputs(blocks):
    """Blocks in which what code printed has a mark in place of its class.

    To pandoc the class names a language, which it looks for in all of its definitions; that takes half a second.
    """
    changed = []
    for block in blocks:
        if block["t"] == "Div":
            block = {"t": "Div", "c": [block["c"][0], _nameless_outputs(block["c"][1])]}
        elif block["t"] == "CodeBlock" and block["c"][0] == attributes(classes=["output"]):
            block = {"t": "CodeBlock", "c": [attributes(pairs=[("printed", "")]), block["c"][1]]}
        changed.append(block)
    return changed


def change(node, function):
    """Rebuild a tree from the leaves up.

    ``function(kind, content)`` returns None to keep a node, a node to replace it, or a list of nodes to put there.
    """
    if isinstance(node, list):
        result = []
        for item in node:
            new = change(item, function) if isinstance(item, (list, dict)) else item
            if isinstance(new, list) and isinstance(item, dict):
                result.extend(new)
            else:
                result.append(new)
        return result
    if not isinstance(node, dict):
        return node
    node = {key: change(value, function) if isinstance(value, (list, dict)) else value for key, value in node.items()}
    new = function(node["t"], node.get("c")) if "t" in node else None
    return node if new is None else new


def each(node, kind):
    """Yield the content of every node of a kind."""
    if isinstance(node, list):
        for item in node:
            yield from each(item, kind)
    elif isinstance(node, dict):
        if node.get("t") == kind:
            yield node.get("c")
        yield from each(node.get("c"), kind)


def text(node):
    """The words of a tree, for titles and menus."""
    words = []

    def collect(item):
        if isinstance(item, list):
            for part in item:
                collect(part)
        elif isinstance(item, dict):
            kind = item.get("t")
            if kind in ("Space", "SoftBreak"):
                words.append(" ")
            elif kind == "Str":
                words.append(item["c"])
            elif kind in ("Code", "Math"):
                words.append(item["c"][1])
            elif kind not in ("Note", "RawInline"):
                collect(item.get("c"))

    collect(node)
    return "".join(words)


def string(words):
    """Plain text as inline nodes."""
    parts = [{"t": "Str", "c": word} for word in words.split(" ")]
    return [node for part in parts for node in ({"t": "Space"}, part)][1:]


def attributes(ident="", classes=(), pairs=()):
    return [ident, list(classes), [list(pair) for pair in pairs]]


def span(inlines, *classes, ident=""):
    return {"t": "Span", "c": [attributes(ident, classes), inlines]}


def div(blocks, *classes, ident=""):
    return {"t": "Div", "c": [attributes(ident, classes), blocks]}


def raw(markup):
    return {"t": "RawBlock", "c": ["html", markup]}


def link(inlines, target, *classes):
    return {"t": "Link", "c": [attributes("", classes), inlines, [target, ""]]}


_FRONT = re.compile(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)
_PICTURES = {"image/png": "png", "image/jpeg": "jpg", "image/svg+xml": "svg"}


def page_source(file, page, *, fold, echo, prose, complete=True):
    """Read a notebook or ``.qmd`` file.

    Parameters
    ----------
    file : Path
    page : str
        The page's path in the book, for messages and for the folder of its images.
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
    pictures: dict[str, bytes] = {}
    parts: list[str] = []
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
    shown: list[str] = []
    numbered: list[str] = []
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


_HEADINGS = frozenset(f"h{level}" for level in range(1, 7))
_SILENT = frozenset(("annotation", "button", "option", "script", "style", "template"))  # not words of the page
_INLINE = frozenset(
    ("a", "abbr", "b", "code", "em", "i", "kbd", "mark", "math", "small", "span", "strong", "sub", "sup", "u")
)
_SCRIPTS = {"mfrac": "/", "msub": "_", "msup": "^", "msubsup": "_^", "munder": "_", "mover": "^", "munderover": "_^"}
_EMPTY = frozenset(("br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"))


class _Sections(HTMLParser):
    """Collects the words of each section, and of each entry of a glossary.

    Of mathematics it takes what is shown, with ``^``, ``_`` and ``/`` between the parts.
    """

    def __init__(self, content):
        super().__init__()
        self.found: list[tuple[str, list[str], list[str]]] = [("", [], [])]  # anchor, title, text
        self.silent, self.title = 0, False
        self.open: list[list[Any]] = []  # tag, and how many parts it has had
        self.feed(content)
        self.close()

    def handle_starttag(self, tag, attrs):
        if self.open:
            parent = self.open[-1]
            if 0 < parent[1] <= len(marks := _SCRIPTS.get(parent[0], "")):
                self.handle_data(marks[parent[1] - 1])
            parent[1] += 1
        if tag in _EMPTY or tag == "mspace":
            self.handle_data(" ")
        if tag in _EMPTY:
            return
        named = bool(self.open) and self.open[-1][0] == "dt" and dict(attrs).get("id")  # a word that is explained
        self.open.append([tag, 0])
        self.silent += tag in _SILENT
        if tag in _HEADINGS or named:
            self.found.append((dict(attrs).get("id") or "", [], []))
            self.title = True
        elif tag not in _INLINE and not self._in_math():
            self.handle_data(" ")

    def handle_endtag(self, tag):
        if not any(tag == one for one, _ in self.open):
            return
        while self.open:
            closed, _ = self.open.pop()
            self.silent -= closed in _SILENT
            if closed == tag:
                break
        self.title = self.title and tag != "dt" and tag not in _HEADINGS
        if tag not in _INLINE and not self._in_math():
            self.handle_data(" ")

    def _in_math(self):
        return any(tag == "math" for tag, _ in self.open)

    def handle_data(self, data):
        if self.silent:
            return
        _, title, text = self.found[-1]
        words = title if self.title else text
        if self._in_math() and words and words[-1][-1:].isalnum() and data[:1].isalnum():
            words.append(" ")  # a product
        words.append(data)


def sections(content):
    """``(anchor, title, text)`` of each section of a page's HTML, for the search; empty ones are left out.

    The entries of a list of definitions whose terms have an id are sections, too.

    What stands before the first heading has no anchor and no title; a heading without an id leads to the one before.
    """
    result: list[tuple[str, str, str]] = []
    anchor = ""
    for ident, *parts in _Sections(content).found:
        title, text = (" ".join("".join(part).split()) for part in parts)
        anchor = ident or anchor
        if title or text:
            result.append((anchor, title, text))
    return result
