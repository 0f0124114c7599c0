"""Pandoc and its syntax tree: reading, writing, and changing nodes. Node types are pandoc's own."""

import json

import pypandoc

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


def html(doc):
    """A document to HTML; math becomes MathML, which needs no script."""
    return pypandoc.convert_text(
        json.dumps({**doc, "meta": {}}), "html", "json", extra_args=_WRITE, verify_format=False
    )


def change(node, function):
    """Rebuild a tree from the leaves up.

    ``function(kind, content)`` returns None to keep a node, a node to replace it, or a list of nodes to put there.
    """
    if isinstance(node, list):
        result = []
        for item in node:
            new = change(item, function)
            if isinstance(new, list) and isinstance(item, dict):
                result.extend(new)
            else:
                result.append(new)
        return result
    if not isinstance(node, dict):
        return node
    node = {key: change(value, function) for key, value in node.items()}
    new = function(node["t"], node.get("c")) if "t" in node else None
    return node if new is None else new


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
