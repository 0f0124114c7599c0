"""Quarto's callout boxes."""

from html import escape

from gzlib.book.preview.pandoc import change, div, raw, string

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
