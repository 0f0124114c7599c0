"""The preview: everything named on a page exists, and what does not exist is named."""

import hashlib
import json
import os
import re
import shutil
import signal
import threading
import urllib.request
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import nbformat.v4 as v4
import pytest
import tiny_book

from gzlib.book import builder
from gzlib.book.builder import build, serve
from gzlib.book.chapters import read_notebook, write_notebook
from gzlib.book.html import markup
from gzlib.book.html import pages as style
from gzlib.book.html.pages import preview
from gzlib.errors import UserError
from gzlib.files import MARKER, mark_folder, replace_folder

pytestmark = pytest.mark.slow


def quiet(line):
    pass


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tiny_book.make(tmp_path_factory.mktemp("preview") / "project")
    build(project=folder, say=quiet)
    return folder


@pytest.fixture(scope="module")
def book(project):
    return preview(project).parent


@pytest.fixture
def copy(project, tmp_path):
    return Path(shutil.copytree(project, tmp_path / "project", ignore=shutil.ignore_patterns("_book")))


def page(book, name):
    return (book / name).read_text(encoding="utf-8")


def add(project, *cells, chapter="02-second"):
    path = project / "chapters" / f"{chapter}.ipynb"
    notebook = read_notebook(path)
    notebook.cells += cells
    write_notebook(notebook, path)


def rendered(project, *cells):
    add(project, *cells)
    return page(preview(project).parent, "chapters/02-second.html")


class Links(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.ids, self.targets, self.unnamed = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids += [attrs["id"]] if attrs.get("id") else []
        self.targets += [attrs[key] for key in ("href", "src") if attrs.get(key)]
        if tag == "img" and not attrs.get("alt"):
            self.unnamed.append(attrs.get("src"))


def test_filters_of_the_book_keep_numbers_and_units_together(copy):
    config = copy / "_quarto.yml"
    config.write_text(config.read_text() + "filters: [quarto, styles/units.lua]\n")
    shown = rendered(copy, v4.new_markdown_cell("By 39 % at 64 px, 2 × (4.5 nats), in 3 words and **5** %."))
    assert "By 39\u00a0% at 64\u00a0px, 2\u00a0× (4.5\u00a0nats), in 3 words" in shown


def test_the_article_is_one_text_without_code(copy):
    (copy / "_quarto-article.yml").write_text("article: [chapters/02-second.ipynb]\n")
    panel = v4.new_code_cell("1", outputs=[v4.new_output("display_data", {"text/markdown": "```{=html}\n<p>x\n```"})])
    add(copy, panel, v4.new_markdown_cell("And `@sec-first`."))
    text = style.article(copy).read_text()
    assert text.startswith("# Second steps {#sec-second}") and "matplotlib" not in text and "details" not in text
    assert "After Chapter 1 of the book and Equation 1.1 of the book [@walmsley2024]." in text
    assert "<p>" not in text and "this is a panel" in text and "And `@sec-first`." in text
    assert "The line of @fig-line;" in text and "compare Table 1.1 of the book." in text
    image = re.search(r'!\[\]\((.*)\)\{fig-alt="A .*line\." width=(.*)\}', text)
    assert (copy / image[1]).is_file() and image[2] == "85%"  # the toy's is no chart, but a PNG
    assert style.article(copy).is_file()  # again, in its place


def test_every_link_and_picture_resolves(book):
    """Independent of the preview's own check."""
    pages = {file: Links(file.read_text(encoding="utf-8")) for file in book.rglob("*.html")}
    assert len(pages) == 5
    for file, links in pages.items():
        assert len(links.ids) == len(set(links.ids)), file
        assert not links.unnamed
        for target in links.targets:
            if target.startswith("data:"):
                continue
            assert not re.match(r"[a-z]+:|/", target), f"{target} needs a server or the network"
            path, _, anchor = target.partition("#")
            found = (file.parent / unquote(path)).resolve() if path else file
            assert found.is_file(), (file, target)
            if anchor:
                assert anchor in pages[found].ids, (file, target)


def test_figures_tables_equations_and_sections_are_numbered_across_the_book(book):
    index = page(book, "index.html")
    assert '<a href="chapters/01-first.html#sec-first" class="crossref">Chapter\u00a01</a>' in index
    assert '<a href="chapters/02-second.html#fig-line" class="crossref">Figure\u00a02.1</a>' in index
    assert '<a href="chapters/02-second.html#sec-detail">the second chapter</a>' in index
    second = page(book, "chapters/02-second.html")
    assert '<a href="01-first.html#eq-sum" class="crossref">Equation\u00a01.1</a>' in second
    assert '<span class="caption-number">Figure 2.1: </span>A line, compare <a href="01-first.html#tbl-sums"' in second
    assert '<span class="header-section-number">2.1</span> Detail' in second
    assert 'src="02-second_files/fig-line.png" alt="A &quot;straight&quot; line."' in second
    first = page(book, "chapters/01-first.html")
    assert '<figure id="tbl-sums"' in first and '<span class="equation-number">(1.1)</span>' in first
    assert "<math" in first and "\\frac" not in re.sub(r"<annotation.*?</annotation>", "", first, flags=re.DOTALL)
    assert "Appendix A</span> Notes" in page(book, "chapters/90-notes.html")


def test_numbers_come_from_results(book):
    index = page(book, "index.html")
    assert "The sum is 10." in index and "<code>{{&lt; var first.total &gt;}}</code> stays" in index


def index_of(book):
    text = page(book, "assets/search-index.js")
    assert text.startswith("window.bookIndex = ") and text.isascii() and "<" not in text
    return json.loads(text.removeprefix("window.bookIndex = ").removesuffix(";\n"))


def test_the_search_knows_every_section(book, copy):
    index = index_of(book)
    assert index["pages"][1] == ["chapters/01-first.html", "1 First steps"]
    detail = next(section for section in index["sections"] if section[1] == "sec-detail")
    assert index["pages"][detail[0]][0] == "chapters/02-second.html" and detail[2] == "2.1 Detail"
    for place, anchor, _, _ in index["sections"]:
        assert not anchor or f'id="{anchor}"' in page(book, index["pages"][place][0])
    preview(copy, copy.parent / "again")
    assert page(copy.parent / "again", "assets/search-index.js") == page(book, "assets/search-index.js")
    add(
        copy,
        v4.new_markdown_cell("## More {#sec-more}\n\n`gzlib.fit.fit` & $\\frac{a}{b_1}\\,n^{-\\alpha}$ <b>bold</b>"),
        v4.new_code_cell("#| echo: true\nlabels_needed(3)", outputs=[v4.new_output("stream", text="<i>it</i>")]),
        v4.new_code_cell("1", outputs=[v4.new_output("display_data", {"text/html": "<script>no()</script><p>A<p>B"})]),
    )
    more = next(s for s in index_of(preview(copy).parent)["sections"] if s[1] == "sec-more")
    assert more[3] == "gzlib.fit.fit & a/b_1 n^−α bold Code labels_needed(3) <i>it</i> Code 1 A B"


def test_what_is_vendored_is_what_was_published():
    vendor, listed = tiny_book.ROOT / "styles" / "vendor", (tiny_book.ROOT / "THIRD-PARTY.md").read_text()
    for file in vendor.glob("*.js"):
        assert hashlib.sha256(file.read_bytes()).hexdigest() in listed
        assert "Permission is hereby granted" in file.with_suffix(".LICENSE.txt").read_text()
    assert "Luca Ongaro" in style.search_script(tiny_book.ROOT / "styles")[:200]


def test_citations_lead_to_the_references(book):
    assert 'href="../references.html#ref-walmsley2024"' in page(book, "chapters/02-second.html")
    assert 'id="refs"' not in page(book, "chapters/02-second.html")
    assert 'id="ref-walmsley2024"' in page(book, "references.html")


def test_code_is_folded_and_options_are_obeyed(book, copy):
    assert page(book, "chapters/01-first.html").count('<details class="code"><summary>Code</summary>') == 3
    notes = page(book, "chapters/90-notes.html")
    assert "<code>laptop</code>" in notes and "print" not in notes
    text = rendered(
        copy,
        v4.new_code_cell("#| include: false\nhidden = 'SECRET'"),
        v4.new_code_cell("#| output: false\nshown = 1", outputs=[v4.new_output("stream", text="SECRET")]),
        v4.new_code_cell("#| code-fold: show\n#| code-summary: Settings\nsettings = 1"),
        v4.new_code_cell("print('```')", outputs=[v4.new_output("stream", text="```\n<b>bold</b>\n")]),
        v4.new_code_cell(
            "table", outputs=[v4.new_output("display_data", {"text/html": "<table><tr><td>7</td></tr></table>"})]
        ),
    )
    assert "SECRET" not in text and "shown" in text
    assert '<details class="code" open><summary>Settings</summary>' in text
    assert '<pre class="output"><code>```\n&lt;b&gt;bold&lt;/b&gt;</code></pre>' in text and "<td>7</td>" in text
    blocks = re.findall(r'class="sourceCode" id="cb(\d+)"', text)
    assert int(blocks[-1]) == int(blocks[-2]) + 2  # what is printed counts among them, as it has no link of its own


def test_callouts_pictures_divs_and_raw_html(copy):
    shutil.copy(copy / "gzlib" / "__init__.py", copy / "chapters" / "extra file.txt")
    (copy / "chapters" / "sky.png").write_bytes(b"\x89PNG")
    text = rendered(
        copy,
        v4.new_markdown_cell(
            '::: {.callout-tip collapse="true"}\n## Faster\nOn a GPU.\n:::\n\n'
            '![The sky.](sky.png){#fig-sky fig-alt="Many galaxies."}\n\n'
            '::: {#fig-two}\n![](sky.png){fig-alt="One."}\n\nIn a div, like -@fig-sky [see @fig-sky].\n:::\n\n'
            "| a | b |\n|---|---|\n| 1 | 2 |\n\n: In Markdown. {#tbl-own}\n\n"
            "<span class='mine'>raw</span> [a file](extra%20file.txt) [away](https://example.org)"
        ),
    )
    assert '<details class="callout callout-tip" id="">' not in text
    assert '<details class="callout callout-tip"><summary>' in text and "Faster" in text
    assert '<img src="sky.png" alt="Many galaxies."' in text and "Figure 2.2: </span>The sky." in text
    assert 'Figure 2.3: </span>In a div, like <a href="02-second.html#fig-sky" class="crossref">2.2</a>' in text
    assert 'class="crossref">see\u00a02.2</a>' in text
    assert "Table 2.1: </span>In Markdown." in text and '<span class="mine">raw</span>' in text
    assert (copy / "_book" / "chapters" / "sky.png").exists()
    assert (copy / "_book" / "chapters" / "extra file.txt").exists()


def test_whatever_does_not_exist_is_listed_and_the_old_pages_stay(copy):
    before = page(preview(copy).parent, "chapters/02-second.html")
    add(
        copy,
        v4.new_markdown_cell(
            "@fig-none, [@nobody2020], {{< var first.none >}}, {{< fa star >}}, [gone](03-gone.ipynb), "
            "[part](01-first.ipynb#sec-none), <a href='nowhere.html'>raw</a>\n\n"
            "## Again {#sec-table}\n\n![](02-second.ipynb)"
        ),
    )
    with pytest.raises(UserError) as error:
        preview(copy)
    for phrase in (
        "@fig-none points to nothing",
        "@nobody2020 is not in the bibliography",
        "{{< var first.none >}} is not defined",
        "{{< fa star >}} is not a shortcode here",
        "03-gone.ipynb leads nowhere",
        "01-first.html#sec-none leads nowhere",
        "nowhere.html leads nowhere",
        "the label sec-table is taken already, in chapters/01-first.ipynb",
        "the image 02-second.ipynb has no alternative text",
    ):
        assert phrase in str(error.value)
    assert page(copy / "_book", "chapters/02-second.html") == before
    assert not list(copy.glob(".*.tmp-*"))


def test_a_chapter_without_results_is_refused(tmp_path):
    project = tiny_book.make(tmp_path / "project", library=False)
    with pytest.raises(UserError, match="cell tbl-sums: tbl-sums has no output; run `python -m gzlib build` first"):
        preview(project)


def test_one_page_keeps_its_numbers_and_needs_no_other(copy, tmp_path):
    first = preview(copy, tmp_path / "out", only=["chapters/02-second.ipynb"])
    assert first == tmp_path / "out" / "chapters" / "02-second.html"
    text = first.read_text(encoding="utf-8")
    assert "Figure 2.1" in text and "<span>Chapter\u00a01</span>" in text and "see also <span>first</span>" in text
    assert [file.name for file in (tmp_path / "out").rglob("*.ipynb")] == ["02-second.ipynb"]
    assert preview(copy, tmp_path / "out").name == "index.html"


def files_in(folder):
    return {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


OUTPUT_DIRS = (".", "..", "../..", "/", "chapters", "styles", "_book/../.", "link", "index.qmd", "./gzlib", "a\0b")


@pytest.mark.parametrize("way", ["output-dir", "--out"])
@pytest.mark.parametrize("place", OUTPUT_DIRS)
def test_pages_take_the_place_of_nothing_else(copy, way, place, monkeypatch):
    (copy / "link").symlink_to(copy / "chapters")
    (copy / ".git").mkdir()
    (copy / ".git" / "HEAD").write_text("years of work")
    monkeypatch.setattr(builder, "find_quarto", lambda: "quarto")  # which would empty the folder by itself
    if way == "output-dir":
        config = (copy / "_quarto.yml").read_text().replace("_book", json.dumps(place))
        (copy / "_quarto.yml").write_text(config)
    before = files_in(copy.parent)
    acts = [lambda: preview(copy), lambda: builder.render(copy)] if way == "output-dir" else []
    for act in acts or [lambda: preview(copy, copy / place)]:
        with pytest.raises(UserError, match="choose a") as refused:
            act()
        assert "\n" not in str(refused.value)
    assert files_in(copy.parent) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda out: (out / "thesis.txt").write_text("years of work"),
        lambda out: (out / "index.html").write_text("changed by hand"),
        lambda out: (out / "assets" / "notes").mkdir() or (out / "assets" / "notes" / "a.md").write_text("deep"),
        lambda out: (out / "photographs").symlink_to(out.parent),
        lambda out: os.mkfifo(out / "pipe"),
        lambda out: (out / MARKER).unlink(),
        lambda out: (out / MARKER).write_text("{}"),
        lambda out: (out / MARKER).write_text("[" * 100_000),
        lambda out: mark_folder(out, "an experiment"),
    ],
)
def test_pages_that_somebody_touched_are_not_replaced(copy, tmp_path, change):
    out = preview(copy, tmp_path / "out").parent
    change(out)
    before = files_in(out)
    with pytest.raises(UserError, match=r"which was not made or was changed since.* move it away, or choose"):
        preview(copy, out)
    assert files_in(out) == before


def test_pages_take_the_place_of_a_new_an_empty_and_their_own_folder(copy, tmp_path):
    (tmp_path / "empty").mkdir()
    for out in ("new/inner", "empty", "empty"):
        assert preview(copy, tmp_path / out).is_file()
    (tmp_path / "empty" / ".DS_Store").write_text("the system's")
    (tmp_path / "empty" / "no files").mkdir()
    assert preview(copy, tmp_path / "empty").is_file()
    assert not list(tmp_path.glob(".*.tmp-*"))


def test_a_file_that_comes_at_the_last_moment_stays(tmp_path, monkeypatch):
    old, fresh = tmp_path / "old", tmp_path / "fresh"
    for folder in (old, fresh):
        folder.mkdir()
        (folder / "page").write_text(folder.name)
        mark_folder(folder, "pages")
    rename = os.rename

    def late(source, target):
        monkeypatch.setattr(os, "rename", rename)
        (old / "note").write_text("just now")
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    with pytest.raises(UserError, match="'note'"):
        replace_folder(fresh, old, "pages")
    assert (old / "note").read_text() == "just now" and (old / "page").read_text() == "old"
    assert {file.name for file in tmp_path.iterdir()} == {"old", "fresh"}


def test_shortcodes():
    problems = []
    text = markup.fill(
        "{{<var a.b>}} {{< meta book.title >}} {{{< var a.b >}}} {{< pagebreak >}}{{< var a >}}",
        variables={"a": {"b": "1.5"}},
        meta={"book": {"title": "T"}},
        problems=problems,
        page="p",
    )
    assert text == "1.5 T {{< var a.b >}} {{< var a >}}"
    assert problems == ["p: {{< var a >}} is not defined"]


def contrast(one, other):
    """WCAG 2 contrast ratio of two hexadecimal colours."""

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        parts = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_both_themes_are_legible_and_name_the_same_colours():
    light, dark = (style.palette(tiny_book.ROOT / "styles" / f"{name}.scss") for name in ("light", "dark"))
    assert list(light) == list(dark)
    for theme in (light, dark):
        for name, colour in theme.items():
            if name.endswith(("-bg", "border-color", "chart-filter", "chart-blend", "night")):
                continue
            for background in ("body-bg", "code-block-bg", "sidebar-bg"):
                assert contrast(colour, theme[background]) >= 4.5, (name, background)
    css = (tiny_book.ROOT / "styles" / "preview.css").read_text()
    used, lengths = re.findall(r"var\(--([\w-]+)\)", css), re.findall(r"--([\w-]+): min\(", css)
    assert set(used) - {"accent", *lengths} <= set(light)


def test_render_falls_back_to_the_preview_and_ends_with_the_page(copy, monkeypatch):
    monkeypatch.setattr(builder, "find_quarto", lambda: None)
    lines = []
    monkeypatch.setattr(builder, "_install_quarto", None)  # not without being asked
    assert builder.render(copy, say=lines.append) == copy / "_book" / "index.html"
    assert len(lines) == 2 and lines[-1] == f"Open {copy / '_book' / 'index.html'}"


@pytest.mark.parametrize(("version", "good"), [("1.7.34", True), ("1.10.2", True), ("1.6.40", False), ("odd", False)])
def test_only_a_quarto_that_is_new_enough_counts(tmp_path, monkeypatch, version, good):
    quarto = tmp_path / "quarto"
    quarto.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo {version} && exit 0\nexit 3\n')
    quarto.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(builder.sys, "executable", str(tmp_path / "python"))
    assert (builder.find_quarto() == str(quarto)) == good
    if good:
        (tmp_path / "_quarto.yml").write_text("project: {type: book}\n")
        with pytest.raises(UserError, match="Quarto could not render the book"):
            builder.render(tmp_path, say=quiet)


def test_pages_that_quarto_made_are_marked_and_replaced(copy, tmp_path, monkeypatch):
    quarto = tmp_path / "quarto"
    quarto.write_text("#!/bin/sh\nmkdir -p _book && echo page > _book/index.html\n")
    quarto.chmod(0o755)
    monkeypatch.setattr(builder, "find_quarto", lambda: str(quarto))
    for _ in range(2):
        assert builder.render(copy, say=quiet) == copy / "_book" / "index.html"
    assert preview(copy) == copy / "_book" / "index.html"
    (copy / "_book" / "note.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"note\.txt"):
        builder.render(copy, say=quiet)


def test_the_article_is_set_by_quarto_alone(copy, tmp_path, monkeypatch):
    (copy / "_quarto-article.yml").write_text("project: {output-dir: _pdf}\narticle: []\n")
    monkeypatch.setattr(builder, "find_quarto", lambda: None)
    with pytest.raises(UserError, match=r"set by Quarto 1\.7 or newer, which is not here: get it with --install"):
        builder.render(copy, article=True, say=quiet)
    quarto = tmp_path / "quarto"
    quarto.write_text('#!/bin/sh\necho "$@" > asked\ntest ! -e fail\n')
    quarto.chmod(0o755)
    monkeypatch.setattr(builder, "find_quarto", lambda: str(quarto))
    said = []
    page = builder.render(copy, article=True, say=said.append)
    assert page == copy / "_pdf" / "article.pdf" and said == [f"Open {page}"]
    assert (copy / "asked").read_text() == "render article.qmd --profile article --to typst\n"
    (copy / "fail").touch()
    with pytest.raises(UserError, match="could not set the article"):
        builder.render(copy, article=True, say=quiet)


def test_a_failing_or_hanging_installation_of_quarto_is_given_up(tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nsleep 60\n")
    python.chmod(0o755)
    monkeypatch.setattr(builder.sys, "executable", str(python))
    monkeypatch.setattr(builder, "INSTALL_SECONDS", 0.2)
    builder._install_quarto()
    python.write_text("#!/bin/sh\nexit 1\n")
    builder._install_quarto()


def test_a_book_is_served_until_it_is_stopped(tmp_path):
    (tmp_path / "index.html").write_text("<p>the book")
    seen = []

    def visit(address):
        with urllib.request.urlopen(address) as answer:
            seen.append(answer.read())
        signal.raise_signal(signal.SIGINT)

    def later(address):
        threading.Timer(0.2, visit, [address]).start()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background ignores it
    try:
        serve(tmp_path / "index.html", open_page=later, say=seen.append)
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen[0].startswith("Serving http://127.0.0.1:") and seen[1] == b"<p>the book"
