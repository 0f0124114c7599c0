"""The frame around a page, and the one palette that both renderers use."""

import re
from html import escape

from gzlib.errors import UserError

_DEFINITION = re.compile(r"^\$([\w-]+):\s*(.+?)\s*(?:!default)?;", re.MULTILINE)


def palette(file):
    """The ``$name: value;`` definitions of a Quarto theme file."""
    try:
        return dict(_DEFINITION.findall(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{file} is missing: restore it from git, it holds the colours of the book.") from None


def stylesheet(styles):
    """The preview's whole style sheet: light by default, dark where the system or the reader asks for it."""
    light, dark = (_variables(palette(styles / f"{name}.scss")) for name in ("light", "dark"))
    return (
        f":root {{ color-scheme: light; {light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root:not([data-theme=light]) {{ color-scheme: dark; {dark} }} }}\n"
        f":root[data-theme=dark] {{ color-scheme: dark; {dark} }}\n"
        + (styles / "preview.css").read_text(encoding="utf-8")
    )


def _variables(colours):
    return " ".join(f"--{name}: {value};" for name, value in colours.items())


# Before the first paint, so that a reader who chose a theme sees no flash of the other one.
_EARLY = "try{const t=localStorage.getItem('theme');if(t)document.documentElement.dataset.theme=t}catch{}"
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Cg fill='none' "
    "stroke='%232f5d9f' stroke-width='3' stroke-linecap='round'%3E%3Cpath d='M16 16c6-8 13 0 8 8'/%3E"
    "%3Cpath d='M16 16c-6 8-13 0-8-8'/%3E%3C/g%3E%3Ccircle cx='16' cy='16' r='4' fill='%232f5d9f'/%3E%3C/svg%3E"
)


def frame(*, body, book, note, page, pages, toc, actions):
    """One complete HTML page.

    Parameters
    ----------
    body : str
        The page's content, HTML.
    book : dict
        ``title``, ``subtitle``, ``author``, ``date`` as in ``_quarto.yml``.
    note : str
        A word under the book's title, such as the name of an experiment; may be empty.
    page : dict
        ``href``, ``title`` (plain text), ``number``.
    pages : list of dict
        All rendered pages in order, with ``appendix`` besides.
    toc : list
        ``(level, id, HTML)`` of the sections.
    actions : list
        ``(text, href)`` shown under the title.
    """
    up = "../" * page["href"].count("/")
    place = pages.index(page)
    title = page["title"] if page["href"] != "index.html" else book["title"]
    if title != book["title"]:
        title = f"{title} – {book['title']}"
    contents = _contents(toc)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="{_ICON}">
<link rel="stylesheet" href="{up}assets/book.css">
<script>{_EARLY}</script>
<script src="{up}assets/book.js" defer></script>
</head>
<body>
<a class="skip" href="#content">Skip to content</a>
<header class="bar">
<button class="menu" aria-label="Menu" aria-expanded="false" aria-controls="sidebar">☰</button>
<a class="brand" href="{up}{pages[0]["href"]}">{escape(book["title"])}</a>
<button class="theme" aria-label="Switch between light and dark">◐</button>
</header>
<nav id="sidebar" aria-label="Chapters">
{f'<p class="note">{escape(note)}</p>' if note else ""}
{_menu(pages, page, up)}
</nav>
<main id="content">
<article>
{_title_block(book) if page["href"] == "index.html" else ""}
{_with_actions(body, actions)}
</article>
{_neighbours(pages, place, up)}
</main>
<aside class="toc" aria-label="On this page">{contents}</aside>
<dialog class="lightbox" aria-label="Enlarged figure"></dialog>
</body>
</html>
"""


def _menu(pages, current, up):
    parts, appendix = ["<ol>"], False
    for page in pages:
        if page["appendix"] and not appendix:
            parts.append('</ol><p class="part">Appendices</p><ol>')
            appendix = True
        here = ' aria-current="page"' if page is current else ""
        parts.append(f'<li><a href="{up}{page["href"]}"{here}>{_entry(page)}</a></li>')
    return "\n".join([*parts, "</ol>"])


def _entry(page):
    number = f'<span class="number">{page["number"]}</span> ' if page["number"] else ""
    return number + escape(page["title"])


def _title_block(book):
    authors = book.get("author") or []
    names = [
        a if isinstance(a, str) else a.get("name", "") for a in (authors if isinstance(authors, list) else [authors])
    ]
    lines = [f'<p class="book-title">{escape(book["title"])}</p>']
    lines += [f'<p class="subtitle">{escape(str(book["subtitle"]))}</p>'] if book.get("subtitle") else []
    byline = [", ".join(names), str(book.get("date") or "")]
    lines += [f'<p class="byline">{escape(" · ".join(filter(None, byline)))}</p>'] if any(byline) else []
    return f'<div class="title-block">{"".join(lines)}</div>'


def _with_actions(body, actions):
    if not actions:
        return body
    links = "".join(f'<a href="{escape(href)}" download>{escape(text)}</a>' for text, href in actions)
    head, end, rest = body.partition("</h1>")
    return f'{head}{end}\n<p class="actions">{links}</p>{rest}'


def _contents(toc):
    if not toc:
        return ""
    items = "".join(
        f'<li class="level{level}"><a href="#{escape(ident)}">{html}</a></li>' for level, ident, html in toc
    )
    return f"<p>On this page</p><ul>{items}</ul>"


def _neighbours(pages, place, up):
    before = pages[place - 1] if place else None
    after = pages[place + 1] if place + 1 < len(pages) else None
    links = [
        f'<a class="{name}" rel="{name}" href="{up}{page["href"]}"><span>{word}</span>{_entry(page)}</a>'
        for name, word, page in (("prev", "Previous", before), ("next", "Next", after))
        if page
    ]
    return f'<nav class="neighbours" aria-label="Previous and next page">{"".join(links)}</nav>'
