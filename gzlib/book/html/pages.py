"""From ``_quarto.yml`` and the executed notebooks to a folder of pages that opens without a server."""

import json
import os
import posixpath
import queue
import re
import shutil
import threading
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from gzlib import paths
from gzlib.book.chapters import book_config, book_inputs, load_variables, without_collecting
from gzlib.book.html import markup, pandoc
from gzlib.errors import UserError
from gzlib.files import check_replaceable, replace_folder, spare_folder

PAGES = "the book's pages"  # that a folder is replaced for


@dataclass
class _Page:
    path: str
    href: str
    front: dict
    doc: dict
    pictures: dict
    numbering: markup.Numbering
    source: str = ""  # Markdown, its variables filled in
    cited: Collection[str] = ()  # keys of the bibliography

    def entry(self):
        _level, _, number, title = self.numbering.headings[0]
        return {
            "href": self.href,
            "title": pandoc.text(title),
            "number": number,
            "appendix": self.numbering.appendix,
        }


@without_collecting()
def preview(project=None, out=None, *, experiment=None, only=None):
    """Render the executed chapters with pandoc.

    Parameters
    ----------
    project : Path, optional
        Root of the project.
    out : Path, optional
        Folder to (re)place; by default the ``output-dir`` of ``_quarto.yml``.
    experiment : Path, optional
        Folder of an experiment, whose notebooks and ``_variables.yml`` take the place of the project's.
    only : list of str, optional
        Pages to render, by their path in ``_quarto.yml``; numbers stay those of the whole book.

    Returns
    -------
    Path
        The first page.

    Raises
    ------
    UserError
        If ``out`` may not be replaced (:func:`gzlib.files.check_replaceable`), a chapter has not been executed, or
        anything named does not exist: a link, a label, a citation, a variable. All of them are listed, and the old
        pages stay.
    """
    project = Path(project or paths.project()).resolve()
    config = book_config(project)
    default = project / config["project"].get("output-dir", "_book")
    keep = (project, paths.ROOT)
    out = check_replaceable(Path(out or default), PAGES, keep=keep)
    home = Path(experiment) if experiment else project

    def find(path):
        return next((root / path for root in (home, project) if (root / path).is_file()), None)

    problems: list[str] = []
    pages = _load(project, config, find, load_variables(home), only, problems)
    rendered = [page for page in pages if only is None or page.path in only]
    with spare_folder(out) as spare:
        fresh = spare / "pages"
        _write_pages(fresh, rendered, pages, project, config, f"Experiment {home.name}" if experiment else "", problems)
        _copy_resources(fresh, project, config, find, {page.path for page in rendered})
        problems += complete(fresh, find)
        if problems:
            raise UserError("The pages name what does not exist: " + "; ".join(dict.fromkeys(problems)) + ".")
        replace_folder(fresh, out, PAGES, keep=keep)
    return out / rendered[0].href


def article(project=None, *, out="_article"):
    """Write the chapters that ``_quarto-article.yml`` names as one text, which Quarto sets as a PDF.

    The text is Quarto's Markdown without code: figures and tables keep their labels, so that Quarto numbers them; what
    is only in the book is named by its number there; charts come in the size that they were drawn in, or the column's.

    Parameters
    ----------
    project : Path, optional
        Root of the project.
    out : str
        The folder that is (re)placed, in the project: ``text.md`` and the images.

    Returns
    -------
    Path
        The text.

    Raises
    ------
    UserError
        As :func:`preview`.
    """
    project = Path(project or paths.project()).resolve()
    config, chosen = book_config(project), book_config(project, profile="article")["article"]
    problems: list[str] = []

    def find(path):
        return project / path if (project / path).is_file() else None

    pages = _load(project, config, find, load_variables(project), set(chosen), problems)
    labels = _labels(pages, problems)
    if problems:
        raise UserError("The pages name what does not exist: " + "; ".join(dict.fromkeys(problems)) + ".")
    folder = check_replaceable(project / out, PAGES, keep=(project, paths.ROOT))
    with spare_folder(folder) as scratch:
        fresh, parts = scratch / "pages", []
        fresh.mkdir()
        for page in pages:
            if page.path in chosen:
                parts.append(markup.article_part(page.source, page.path, set(chosen), labels, page.pictures, out))
                for name, picture in page.pictures.items():
                    (fresh / name).parent.mkdir(exist_ok=True)
                    (fresh / name).write_bytes(picture)
        (fresh / "text.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
        replace_folder(fresh, folder, PAGES, keep=(project, paths.ROOT))
    return folder / "text.md"


def _load(project, config, find, published, only, problems):
    """Read and number all pages; those that are not rendered only lend their numbers."""
    html = config.get("format", {}).get("html") or {}
    inputs = book_inputs(project)
    sources = []

    def texts():
        for page in inputs:
            sources.append(_source(page, config, html, find, published, only, problems))
            yield sources[-1][0]

    docs = _side_by_side(pandoc.read, texts())
    pages, chapters, appendices = [], 0, 0
    for page, (markdown, front, pictures), doc in zip(inputs, sources, docs, strict=True):
        doc["blocks"] = _with_title(doc["blocks"], front.get("title") or page.stem.capitalize())
        (_, classes, _), number = doc["blocks"][0]["c"][1], ""
        if config.get("number-sections", html.get("number-sections", True)) and "unnumbered" not in classes:
            chapters, appendices = chapters + (not page.appendix), appendices + page.appendix
            number = chr(ord("A") + appendices - 1) if page.appendix else str(chapters)
        numbering = markup.Numbering(number, page.appendix, depth=html.get("number-depth", 6))
        doc["blocks"] = markup.number(markup.callouts(doc["blocks"]), numbering)
        href = posixpath.splitext(page.path)[0] + ".html"
        pages.append(_Page(page.path, href, front, doc, pictures, numbering, markdown))
    return pages


def _source(page, config, html, find, published, only, problems):
    """A page as :func:`gzlib.book.html.pandoc.page_source` gives it, its variables filled in."""
    wanted = only is None or page.path in only

    def prose(text, front):
        return markup.fill(
            text,
            variables=published,
            meta=config | front,
            problems=problems if wanted else [],
            page=page.path,
            find=lambda name: find(posixpath.join(posixpath.dirname(page.path), name)),
        )

    return pandoc.page_source(
        find(page.path),
        page.path,
        fold=html.get("code-fold", False),
        echo=config.get("execute", {}).get("echo", True),
        prose=prose,
        complete=wanted,
    )


def _side_by_side(function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """``map`` for what runs in pandoc, which works on an item while the next is made here.

    Its threads end with the program, so that a signal need not wait for them.
    """
    waiting: queue.SimpleQueue[tuple[Future[Any], Any] | None] = queue.SimpleQueue()

    def work() -> None:
        while (job := waiting.get()) is not None:
            future, item = job
            try:
                future.set_result(function(item))
            except BaseException as error:  # it is raised where the result is asked for
                future.set_exception(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(os.cpu_count() or 1)]
    for thread in threads:
        thread.start()
    results: list[Future[Any]] = []
    try:
        for item in items:
            results.append(Future())
            waiting.put((results[-1], item))
        return [future.result() for future in results]
    finally:
        for _ in threads:
            waiting.put(None)


def _with_title(blocks, title):
    """A page starts with its title; one that is only in the front matter is put there."""
    for place, block in enumerate(blocks):
        if block["t"] == "Header" and block["c"][0] == 1:
            return [block, *blocks[:place], *blocks[place + 1 :]]
    return [{"t": "Header", "c": [1, pandoc.attributes("title"), pandoc.string(title)]}, *blocks]


def _write_pages(folder, rendered, pages, project, config, note, problems):
    labels = _labels(pages, problems)
    hrefs = {page.path: page.href for page in rendered}
    files = config.get("bibliography", [])
    files = [project / file for file in ([files] if isinstance(files, str) else files)]
    references = next((page for page in rendered if markup.is_references(page.doc["blocks"])), None)
    cited, known = set(), markup.known_keys(files)
    entries = [page.entry() for page in rendered]
    ordered = sorted(rendered, key=lambda page: page is references)  # the references list what the others cite

    def resolved():
        for page in ordered:
            up = posixpath.dirname(page.href) or "."

            def target(path, label, up=up):
                return f"{posixpath.relpath(hrefs[path], up)}#{label}" if path in hrefs else None

            blocks = markup.resolve(page.doc["blocks"], labels, target, problems, page.path)
            page.doc["blocks"] = _page_links(blocks, page, hrefs, {page.path for page in pages})
            page.cited = markup.cited_keys(page.doc["blocks"])
            problems.extend(f"{page.path}: @{key} is not in the bibliography" for key in sorted(page.cited - known))
            cited.update(page.cited & known)
            yield page

    filters = [project / name for name in config.get("filters", []) if name.endswith(".lua")]

    def body(page):
        if files and (page is references or page.cited):
            page.doc = pandoc.cite(page.doc, files, nocite=sorted(cited) if page is references else ())
            if references and page is not references:
                up = posixpath.dirname(page.href) or "."
                page.doc["blocks"] = markup.refer_to(page.doc["blocks"], posixpath.relpath(references.href, up))
        content = pandoc.html(page.doc, filters)
        return content, pandoc.sections(content)

    found = dict[str, Any]()
    for page, (content, parts) in zip(ordered, _side_by_side(body, resolved()), strict=True):
        found[page.href] = parts
        entry = entries[rendered.index(page)]
        _write_page(folder / page.href, page, _page_html(page, content, entry, entries, config, note))
    assets = folder / "assets"
    assets.mkdir(parents=True)
    (assets / "book.css").write_text(stylesheet(project / "styles"), encoding="utf-8")
    (assets / "book.js").write_text(script(project / "styles"), encoding="utf-8")
    (assets / "search.js").write_text(search_script(project / "styles"), encoding="utf-8")
    (assets / "search-index.js").write_text(search_index(entries, found), encoding="utf-8")


def _labels(pages, problems):
    """Label to (page, name, number), of the whole book; one that appears twice is a problem."""
    labels: dict[str, Any] = {}
    for page in pages:
        for label, name, number in page.numbering.labels:
            if label in labels:
                problems.append(f"{page.path}: the label {label} is taken already, in {labels[label][0]}")
            labels[label] = (page.path, name, number)
    return labels


def _write_page(file, page, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content, encoding="utf-8")
    for name, picture in page.pictures.items():
        (file.parent / name).parent.mkdir(exist_ok=True)
        (file.parent / name).write_bytes(picture)


def _page_html(page, body, entry, entries, config, note):
    depth = (config.get("format", {}).get("html") or {}).get("toc-depth", 3)
    sections = [heading for heading in page.numbering.headings[1:] if heading[0] <= depth]
    toc = [
        (level, ident, (f'<span class="number">{number}</span> ' if number else "") + escape(pandoc.text(title)))
        for level, ident, number, title in sections
    ]
    actions = [(other["text"], other["href"]) for other in page.front.get("other-links", [])]
    return frame(
        body=body,
        book=config["book"],
        note=note,
        page=entry,
        pages=entries,
        toc=toc,
        actions=actions,
    )


def _page_links(blocks, page, hrefs, known):
    """Links to sources of the book lead to their pages; where that page is not rendered, the words stay."""
    here = posixpath.dirname(page.path)

    def relink(kind, content):
        if kind != "Link" or re.match(r"[\w+.-]+:", content[2][0]):
            return None
        own, inlines, (target, title) = content
        path, hash_, anchor = target.partition("#")
        source = path.lstrip("/") if path.startswith("/") else posixpath.normpath(posixpath.join(here, path))
        if path and source in known:
            if source not in hrefs:
                return pandoc.span(inlines)
            return {
                "t": "Link",
                "c": [own, inlines, [posixpath.relpath(hrefs[source], here or ".") + hash_ + anchor, title]],
            }
        return None

    return pandoc.change(blocks, relink)


def _copy_resources(folder, project, config, find, rendered):
    for pattern in config["project"].get("resources", []):
        for file in sorted(project.glob(pattern)):
            path = file.relative_to(project).as_posix()
            if path.endswith(".ipynb") and path not in rendered:
                continue
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(find(path), folder / path)


class _Rendered(HTMLParser):
    def __init__(self, content):
        super().__init__()
        self.ids, self.targets, self.mute = set(), [], []
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            elif name in ("href", "src") and value:
                self.targets.append(value)
        if tag == "img" and not dict(attrs).get("alt"):
            self.mute.append(dict(attrs).get("src"))


def complete(folder, find):
    """Copy the files that pages point to, and list the links that lead nowhere and images without a text.

    Parameters
    ----------
    folder : Path
        The rendered pages.
    find : callable
        ``find(path)`` gives the project's file for a path relative to the pages' root, or None.

    Returns
    -------
    list of str
        One phrase for each broken link or image without alternative text.
    """
    pages = {
        file.relative_to(folder).as_posix(): _Rendered(file.read_text(encoding="utf-8"))
        for file in sorted(folder.rglob("*.html"))
    }
    broken = []
    for name, page in pages.items():
        broken += [f"{name}: the image {picture} has no alternative text" for picture in page.mute]
        for target in dict.fromkeys(page.targets):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            path = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(parts.path)))
            path = path if parts.path else name
            anchor = unquote(parts.fragment)
            found = path in pages or (folder / path).is_file() or _fetch(path, folder, find)
            if not found or (anchor and path in pages and anchor not in pages[path].ids):
                broken.append(f"{name}: {target} leads nowhere")
    return broken


def _fetch(path, folder, find):
    source = None if path.startswith((os.pardir, "/")) else find(path)
    if source is None:
        return False
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, folder / path)
    return True


# The frame around a page, and the one palette that both renderers use.
_DEFINITION = re.compile(r"^\$([\w-]+):\s*(.+?)\s*(?:!default)?;", re.MULTILINE)


def palette(file):
    """The colours among the ``$name: value;`` definitions of a Quarto theme file."""
    try:
        found = _DEFINITION.findall(file.read_text(encoding="utf-8"))
        return {name: value for name, value in found if name != "web-font-path"}
    except FileNotFoundError:
        raise UserError(f"{file} is missing: restore it from git, it holds the colours of the book.") from None


def stylesheet(styles):
    """The preview's style sheet: light by default and on paper, dark where the system or the reader asks for it."""
    light, dark = (
        f"color-scheme: {name}; {_variables(palette(styles / f'{name}.scss'))}" for name in ("light", "dark")
    )
    return (
        f":root {{ {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root:not([data-theme=light]) {{ {dark} }} }}\n"
        f"@media screen {{ :root[data-theme=dark] {{ {dark} }} }}\n"
        + (styles / "preview.css").read_text(encoding="utf-8")
        + _shared(styles)[0]
    )


def script(styles):
    """The preview's whole script: its own, and what Quarto's pages have, too."""
    return (styles / "preview.js").read_text(encoding="utf-8") + _shared(styles)[1]


_LIBRARY = "minisearch-7.2.0"
_REFERENCE = "reference/"  # pages of the API, each with the name of a package as its title


def search_script(styles):
    """What a reader's first search loads: the library with its licence, and the preview's own part."""
    try:
        licence, library = (
            (styles / "vendor" / f"{_LIBRARY}{kind}").read_text(encoding="utf-8") for kind in (".LICENSE.txt", ".js")
        )
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is missing: restore it from git, the preview's search needs it.") from None
    library = re.sub(r"^//# sourceMappingURL=.*\n?", "", library, flags=re.MULTILINE)  # which is not here
    own = (styles / "search.js").read_text(encoding="utf-8")
    return f"/*! {_LIBRARY}\n{licence.strip()}\n*/\n{library}{own}"


def search_index(entries, found):
    """The text of all sections as a script, since a page that was opened as a file may load no data.

    Parameters
    ----------
    entries : list of dict
        All rendered pages in order, as :func:`frame` takes them.
    found : dict
        A page's ``href`` to its sections, as :func:`gzlib.book.html.pandoc.sections` gives them.

    Returns
    -------
    str
        ``pages`` are ``[href, title]``; ``sections`` are ``[page, anchor, title, text]``, and on pages of the
        API the full name of what is described. All of it is plain text, in which nothing is HTML.
    """
    pages, sections = [], []
    for place, entry in enumerate(entries):
        pages.append([entry["href"], f"{entry['number']} {entry['title']}".strip()])
        for anchor, title, text in found[entry["href"]]:
            one = [place, anchor, title or entry["title"], text]
            if entry["href"].startswith(_REFERENCE):
                own = title.split()[-1] if title else ""
                one.append(entry["title"] if own in ("", entry["title"]) else f"{entry['title']}.{own}")
            sections.append(one)
    data = json.dumps({"pages": pages, "sections": sections}, separators=(",", ":"))
    return f"window.bookIndex = {data.replace('<', chr(92) + 'u003c')};\n"


def _shared(styles):
    """Style and script that Quarto includes in its pages, from between their tags."""
    text = (styles / "reading.html").read_text(encoding="utf-8")
    parts = [re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL) for tag in ("style", "script")]
    return ["\n" + part[1].strip() + "\n" if part else "" for part in parts]


def _variables(colours):
    return " ".join(f"--{name}: {value};" for name, value in colours.items())


_LENS = (
    '<svg width="16" height="16" viewBox="0 0 16 16" fill="none" stroke="currentColor" stroke-width="2" '
    'stroke-linecap="round" aria-hidden="true"><circle cx="6.5" cy="6.5" r="4.8"/>'
    '<path d="M10.2 10.2 14.5 14.5"/></svg><kbd aria-hidden="true">/</kbd>'
)
# Before the first paint, so that a reader who chose a theme sees no flash of the other one.
_EARLY = "try{const t=localStorage.getItem('theme');if(t)document.documentElement.dataset.theme=t}catch{}"


def frame(*, body, book, note, page, pages, toc, actions):
    """One complete HTML page.

    Parameters
    ----------
    body : str
        The page's content, HTML.
    book : dict
        ``title``, ``subtitle``, ``author``, ``date``, ``description``, ``favicon``, ``image`` as in ``_quarto.yml``.
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
    icon = f'<link rel="icon" href="{up}{escape(book["favicon"])}">' if book.get("favicon") else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
{icon}
{_description(book, title, up)}
<link rel="stylesheet" href="{up}assets/book.css">
<script>{_EARLY}</script>
<script src="{up}assets/book.js" defer></script>
</head>
<body>
<a class="skip" href="#content">Skip to content</a>
<header class="bar">
<button class="menu" aria-label="Menu" aria-expanded="false" aria-controls="sidebar">☰</button>
<a class="brand" href="{up}{pages[0]["href"]}">{escape(book["title"])}</a>
<button class="find" aria-label="Search the book" aria-keyshortcuts="/ Control+K">{_LENS}</button>
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
<dialog class="search" aria-label="Search the book">
<form role="search"><label>Search <input type="search" autocomplete="off" spellcheck="false"></label>
<button type="button" class="close" aria-label="Close the search">✕</button></form>
<p role="status"></p>
<ol aria-label="Results"></ol>
</dialog>
</body>
</html>
"""


def _description(book, title, up):
    """What search engines and other pages show of this one."""
    facts = {"og:title": title, "og:site_name": book["title"], "og:description": book.get("description")}
    if book.get("image"):
        facts |= {"og:image": up + book["image"], "og:image:alt": book.get("image-alt")}
        facts["twitter:card"] = "summary_large_image"
    tags = [f'<meta property="{name}" content="{escape(str(text))}">' for name, text in facts.items() if text]
    if book.get("description"):
        tags.append(f'<meta name="description" content="{escape(book["description"])}">')
    return "\n".join(tags)


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
