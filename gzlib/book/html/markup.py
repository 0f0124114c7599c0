"""Quarto's markup: callouts, citations, cross-references and shortcodes."""

import json
import re
from dataclasses import dataclass, field
from functools import lru_cache
from html import escape
from typing import Any

import pypandoc

from gzlib.book.chapters import lookup
from gzlib.book.html import pandoc
from gzlib.book.html.pandoc import attributes, change, div, link, raw, span, string, text
from gzlib.errors import UserError

_SHORTCODE = re.compile(r"\{\{\{<(?P<escaped>.*?)>\}\}\}|\{\{<\s*(?P<kind>[\w-]+)\s*(?P<name>[^>]*?)\s*>\}\}")


def fill(markdown, *, variables, meta, problems, page, find=lambda path: None):
    """Replace shortcodes; what cannot be replaced is added to ``problems`` and stays as it is.

    Parameters
    ----------
    markdown : str
    variables : dict
        As in ``_variables.yml``.
    meta : dict
        The page's front matter over the book's configuration.
    problems : list of str
    page : str
        For messages.
    find : callable
        ``find(path)`` gives a file that the page includes, or None.
    """

    def replacement(match):
        kind, name = match["kind"], match["name"]
        if kind == "include" and (file := find(name)):
            return _SHORTCODE.sub(replacement, file.read_text(encoding="utf-8"))
        if kind is None:
            return "{{<" + match["escaped"] + ">}}"
        if kind == "pagebreak":
            return ""
        value = lookup(name, {"var": variables, "meta": meta}.get(kind, {}))
        if value is None:
            known = kind in ("var", "meta", "include")
            problems.append(f"{page}: {match[0]} " + ("is not defined" if known else "is not a shortcode here"))
            return match[0]
        return value

    return _SHORTCODE.sub(replacement, markdown)


_KINDS = ("note", "tip", "important", "warning", "caution")


def callouts(blocks):
    """``::: {.callout-note title="..."}`` becomes a titled box, one that opens on a click if it has ``collapse``."""

    def box(kind, content):
        if kind != "Div":
            return None
        (ident, classes, pairs), body = content
        found = next((name for name in _KINDS if f"callout-{name}" in classes), None)
        if not found:
            return None
        options = dict(pairs)
        if "title" in options:
            title = string(options["title"])
        elif body and body[0]["t"] == "Header":
            title, body = body[0]["c"][2], body[1:]
        else:
            title = string(found.capitalize())
        title = div([{"t": "Plain", "c": title}], "callout-title")
        body = div(body, "callout-body")
        collapse = options.get("collapse")
        if collapse is None:
            return div([title, body], "callout", f"callout-{found}", ident=ident)
        opened = "" if collapse == "true" else " open"
        name = f' id="{escape(ident)}"' if ident else ""
        start = f'<details class="callout callout-{found}"{name}{opened}><summary>'
        return [raw(start), title, raw("</summary>"), body, raw("</details>")]

    return change(blocks, box)


def known_keys(files):
    """Every key that the bibliography files define."""
    return frozenset().union(*(_keys(file) for file in files))


@lru_cache(maxsize=8)
def _keys(file):
    try:
        items = pypandoc.convert_file(str(file), "csljson", format="bibtex", verify_format=False)
    except RuntimeError as error:
        raise UserError(f"{file} cannot be read as BibTeX: {' '.join(str(error).split())}") from error
    return frozenset(item["id"] for item in json.loads(items))


def cited_keys(blocks):
    """Keys that a page cites."""
    return {citation["citationId"] for citations, _ in pandoc.each(blocks, "Cite") for citation in citations}


def is_references(blocks):
    """Whether a page is where the references are to stand: it has a Div called ``refs``."""
    return any(map(_is_refs, blocks))


def refer_to(blocks, page):
    """Drop a page's own list of references and let its citations lead to that of another page."""

    def redirect(kind, content):
        if kind == "Link" and content[2][0].startswith("#ref-"):
            return {"t": "Link", "c": [*content[:2], [page + content[2][0], content[2][1]]]}
        return None

    return pandoc.change([block for block in blocks if not _is_refs(block)], redirect)


def _is_refs(block):
    return block["t"] == "Div" and block["c"][0][0] == "refs"


_CODE_FOLD = re.compile(r"^```+ \{=html\}\n<details class=\"code\".*?^</details>\n```+$", re.MULTILINE | re.DOTALL)
_PANEL = re.compile(r"^(```+) ?\{=html\}\n.*?^\1$", re.MULTILINE | re.DOTALL)
_IMAGE = re.compile(r'!\[\]\((?P<name>[^)]+)\)\{alt="(?P<alt>(?:[^"\\]|\\.)*)"[^}]*\}')
_REFERENCE = re.compile(r"(?<![\w`])@((?:fig|tbl|eq|sec)-[\w-]*\w)")
COLUMN = 470.0  # points: the width of the article's column


def article_part(markdown, page, chosen, labels, pictures, folder):
    """A chapter as a part of an article: no code, no panel, no reference out of it, images no wider than its column.

    Parameters
    ----------
    markdown : str
        As :func:`gzlib.book.html.pandoc.page_source` gives it.
    page : str
    chosen : set of str
        Pages of the article.
    labels : dict
        Label to (page, name, number) in the book.
    pictures : dict
        Image files of the page.
    folder : str
        Where they lie.
    """

    def reference(match):
        where, name, number = labels.get(match[1], (page, "", ""))
        if where in chosen:
            return match[0]
        return f"{name} {number} of the book" if number else "the book"

    def image(match):
        size = _width(pictures[match["name"]])
        width = "85%" if size is None else "100%" if size > COLUMN else f"{size:.0f}pt"  # sheets of galaxies are high
        return f'![]({folder}/{match["name"]}){{fig-alt="{match["alt"]}" width={width}}}'

    text = _PANEL.sub("*On the book's page, this is a panel to be worked with.*", _CODE_FOLD.sub("", markdown))
    text = _IMAGE.sub(image, text)
    fences = re.split(r"(^```.*?^```+$|`[^`\n]*`)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if i % 2 else _REFERENCE.sub(reference, part) for i, part in enumerate(fences))


def _width(picture):
    """Points that a chart is wide; None for what is not SVG."""
    found = re.search(rb'<svg[^>]*?\bwidth="([\d.]+)pt"', picture[:2000])
    return float(found[1]) if found else None


_NAMES = {"fig": "Figure", "tbl": "Table", "eq": "Equation", "sec": "Section"}
_LABEL = re.compile(r"(fig|tbl|eq|sec)-")
_EQUATION = re.compile(r"\{#(eq-[\w-]+)\}(.*)", re.DOTALL)


@dataclass
class Numbering:
    """What counting one page finds: where each label leads, and the headings for the page's table of contents."""

    chapter: str  # "2", "A", or "" on a page without number
    appendix: bool
    depth: int = 6
    labels: list = field(default_factory=list)  # (label, name, number)
    headings: list = field(default_factory=list)  # (level, id, number, title)
    counts: dict = field(default_factory=dict)
    sections: list = field(default_factory=lambda: [0] * 7)

    def next(self, label):
        kind = label.split("-")[0]
        self.counts[kind] = self.counts.get(kind, 0) + 1
        number = f"{self.chapter}.{self.counts[kind]}" if self.chapter else str(self.counts[kind])
        self.labels.append((label, _NAMES[kind], number))
        return number


def number(blocks, numbering):
    """Number everything on a page, in reading order; captions and headings show their numbers."""
    return [_number_block(block, numbering) for block in blocks]


def _number_block(block, numbering):
    kind, content = block["t"], block.get("c")
    if kind == "Header":
        return _header(content, numbering)
    if kind == "Figure":
        (ident, *_), (_, caption), body = content
        body = _hoist_alt(body)
        if _LABEL.match(ident):
            return _captioned(content[0], caption, body, numbering)
        return _figure(content[0], caption, body)
    if kind == "Table" and _LABEL.match(content[0][0]):
        own, (short, caption) = content[0], content[1]
        bare = {"t": "Table", "c": [attributes(), [short, []], *content[2:]]}
        return _captioned(own, caption, [bare], numbering)
    if kind == "Div":
        own, body = content
        if own[0].startswith(("fig-", "tbl-")):
            # As in Quarto, the last paragraph is the caption.
            caption = [body.pop()] if len(body) > 1 and body[-1]["t"] in ("Para", "Plain") else []
            return _captioned(own, caption, _hoist_alt(body), numbering)
        return {"t": "Div", "c": [own, number(body, numbering)]}
    if kind in ("Para", "Plain"):
        return {"t": kind, "c": _equations(content, numbering)}
    if kind == "BlockQuote":
        return {"t": kind, "c": number(content, numbering)}
    if kind == "BulletList":
        return {"t": kind, "c": [number(item, numbering) for item in content]}
    if kind == "OrderedList":
        return {"t": kind, "c": [content[0], [number(item, numbering) for item in content[1]]]}
    return block


def _header(content, numbering):
    level, (ident, classes, pairs), inlines = content
    counted = "unnumbered" not in classes and numbering.chapter and level <= numbering.depth
    own = ""
    if level == 1:
        own = numbering.chapter
    elif counted:
        numbering.sections[level] += 1
        numbering.sections[level + 1 :] = [0] * (6 - level)
        own = ".".join([numbering.chapter, *(str(n) for n in numbering.sections[2 : level + 1])])
    numbering.headings.append((level, ident, own, inlines))
    if ident.startswith("sec-"):
        name = ("Appendix" if numbering.appendix else "Chapter") if level == 1 else "Section"
        numbering.labels.append((ident, name, own) if own else (ident, "", text(inlines)))
    if own:
        shown = f"Appendix {own}" if level == 1 and numbering.appendix else own
        inlines = [span(string(shown), "header-section-number"), {"t": "Space"}, *inlines]
    return {"t": "Header", "c": [level, [ident, classes, pairs], inlines]}


def _captioned(own, caption, body, numbering):
    ident, classes, pairs = own
    title = string(f"{_NAMES[ident[:3]]} {numbering.next(ident)}: ")
    first, *rest = caption or [{"t": "Plain", "c": []}]
    caption = [{"t": "Plain", "c": [span(title, "caption-number"), *first["c"]]}, *rest]
    return _figure([ident, [*classes, "numbered", ident[:3]], pairs], caption, body)


def _figure(own, caption, body):
    return {"t": "Figure", "c": [own, [None, caption], body]}


def _hoist_alt(body):
    """``fig-alt`` on an image is its alternative text."""

    def rename(kind, content):
        if kind != "Image":
            return None
        (ident, classes, pairs), *rest = content
        pairs = [["alt" if key == "fig-alt" else key, value] for key, value in pairs]
        return {"t": "Image", "c": [[ident, classes, pairs], *rest]}

    return change(body, rename)


def _equations(inlines, numbering):
    """``$$...$$ {#eq-name}`` becomes one numbered display."""
    result: list[Any] = []
    for node in inlines:
        match = _EQUATION.match(node["c"]) if node["t"] == "Str" else None
        before = len(result)
        while before and result[before - 1]["t"] in ("Space", "SoftBreak"):
            before -= 1
        if not match or not before or result[before - 1]["t"] != "Math":
            result.append(node)
            continue
        shown = span(string(f"({numbering.next(match[1])})"), "equation-number")
        result[before - 1 :] = [span([result[before - 1], shown], "equation", ident=match[1])]
        if match[2]:
            result.append({"t": "Str", "c": match[2]})
    return result


def resolve(blocks, labels, target, problems, page):
    """Turn ``@fig-name`` and the like into links.

    Parameters
    ----------
    blocks : list
    labels : dict
        Label to (page path, name, number), of the whole book.
    target : callable
        ``target(page_path, label)`` gives the link, or None where that page is not rendered.
    problems : list of str
        Receives labels that do not exist.
    page : str
        For messages.
    """

    def reference(kind, content):
        if kind != "Cite" or not any(_LABEL.match(c["citationId"]) for c in content[0]):
            return None
        parts = []
        for citation in content[0]:
            label = citation["citationId"]
            if not _LABEL.match(label):  # "@fig-a [@paper]" is one citation to pandoc
                parts += [{"t": "Space"}, {"t": "Cite", "c": [[citation], []]}]
                continue
            if label not in labels:
                problems.append(f"{page}: @{label} points to nothing")
                continue
            where, name, own = labels[label]
            if citation["citationMode"]["t"] == "SuppressAuthor":
                name = ""
            shown = citation["citationPrefix"] or ([{"t": "Str", "c": name}] if name else [])
            shown = [*shown, {"t": "Str", "c": "\N{NO-BREAK SPACE}"}, *string(own)] if shown else string(own)
            href = target(where, label)
            parts += [{"t": "Str", "c": ","}, {"t": "Space"}] if parts else []
            parts.append(link(shown, href, "crossref") if href else span(shown))
            parts += citation["citationSuffix"]
        return parts

    return change(blocks, reference)
