"""Words that come from data are shown letter by letter, whatever they are: no name makes markup or fails a build."""

import json
import re
import unicodedata
from html.parser import HTMLParser

import nbformat.v4 as v4
import pandas as pd
import pytest
import tiny_book
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gzlib.book.builder import build
from gzlib.book.chapters import read_notebook, write_notebook
from gzlib.book.html import pandoc
from gzlib.study.tables import markdown_table, words
from gzlib.trace import inert
from gzlib.training.card import label_words, one_line

HOSTILE = [
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    "<!-- <b>",
    "</td></tr></table><h1>end",
    "<https://example.org>",
    "https://example.org",
    "someone@example.org",
    "[a link](javascript:alert(1))",
    "![an image](nowhere.png)",
    "[a][b]",
    "[b]: nowhere.html",
    "[^1]",
    "^[a note]",
    "[words]{.class onclick=alert(1)}",
    "`code`{=html}",
    "```{=html}",
    "{{< var first.total >}}",
    "{{< include /etc/passwd >}}",
    "{{{< x >}}}",
    "{{% x %}}",
    "@fig-line",
    "@walmsley2024",
    "a | b || c",
    "|---|",
    "`",
    "``` ~~~",
    "*a* _b_ **c** ~~d~~ ~e~ ^f^",
    "# heading",
    "- item",
    "1. item",
    "(1) item",
    "(@) example",
    "> quote",
    ": definition",
    "::: {.callout-note}",
    "---",
    "a -- b --- c ... 'd' \"e\"",
    "Mr. Nobody",
    "$x^2$ and $$y$$ \\(z\\)",
    "\\textbf{x} \\",
    "&lt;b&gt; &amp; &#60;",
    "<?php ?> <![CDATA[x]]>",
    ":smile: ==mark==",
    "007",
    "1e5",
    "nan",
    "_hidden",
    "at 0xdeadbeef01",
    "a\nb\r\n\n\nc\td",
    "a\0b\x1b[31m\x7f",
    "\ud800",
    "\u202eevil\u202c \u2066x\u2069 \u200f",
    "שלום עולם",
    "مجرة | <b>",
    "🌌👩\u200d🚀",
    "e\u0301\u0327",
    "\ufeff\ufffe\U0010ffff",
    "n" * 300,
    "*" * 300,
    "<" * 300,
    "",
    " ",
]


class Cells(HTMLParser):
    """The text of each table cell, and every element."""

    def __init__(self, page):
        super().__init__()
        self.cells, self.elements, self.inside = [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        if self.inside and tag not in ("td", "th"):
            self.cells[-1] += f"<{tag}>"  # none may be there
        if tag in ("td", "th"):
            self.cells.append("")
            self.inside = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.cells[-1] += data


def shown(name):
    return re.sub("[\u2068\u2069]", "", one_line(name))


def unframed(cells):
    return [re.sub("[\u2068\u2069]", "", cell) for cell in cells]


def rendered(markdown):
    return pandoc.html(pandoc.read(markdown))


def texts(listed):
    return pd.Index(listed, dtype=object)  # takes half a surrogate pair, as JSON may hold


names = st.one_of(
    st.text(max_size=40),
    st.text("<>&|`*_[](){}!#$\\@^~:;=\"'-+.,/?% \nabx01é", max_size=30),
    st.lists(st.sampled_from(HOSTILE), min_size=2, max_size=3).map("".join),
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(names, min_size=1, max_size=40))
@example(HOSTILE)
def test_a_table_shows_every_name_as_it_is(listed):
    page = Cells(rendered(markdown_table(pd.DataFrame({"name": texts(listed), "n": 1.5}), index=False)))
    assert unframed(page.cells) == ["name", "n", *(text for name in listed for text in (shown(name), "1.5"))]
    columns = pd.DataFrame(
        [[1] * len(listed) + [2]], columns=texts([*listed, "n"]), index=texts(listed[:1]).rename(listed[-1])
    )
    page = Cells(rendered(markdown_table(columns)))
    heads = [shown(name) for name in [listed[-1], *listed, "n"]]
    assert unframed(page.cells) == [*heads, shown(listed[0]), *["1"] * len(listed), "2"]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(names, min_size=1, max_size=40))
@example(HOSTILE)
def test_prose_shows_every_name_as_it_is(listed):
    """At the beginning of a paragraph and within one."""
    page = rendered("\n\n".join(f"{words(name)}\n\nIt is {words(name)}, that." for name in listed))
    expected = [
        text for name in listed for text in ([shown(name)] if shown(name) else []) + [f"It is {shown(name)}, that."]
    ]
    found = re.findall(r"<p>(.*?)</p>", page, re.DOTALL)
    assert not re.search(r"<(?!/?p>)", page)
    parsed = Cells("".join(f"<td>{text}</td>" for text in found)).cells
    assert unframed(parsed) == expected


@given(names)
def test_words_are_one_line_that_can_be_stored(name):
    for text in (words(name), label_words(name)):
        text.encode("utf-8")
        assert "\n" not in text and not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text)
        assert not text.startswith("_")
    assert inert(words(name)) == words(name)


@pytest.mark.slow
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(names, min_size=1, max_size=40))
@example(HOSTILE)
def test_figures_show_every_name(listed):
    import warnings

    import matplotlib
    import matplotlib.pyplot as plt

    matplotlib.use("agg")
    figure, axis = plt.subplots(figsize=(2, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glyphs that the font lacks
        for name in listed:
            axis.plot([0, 1], label=label_words(name))
        axis.set_title(label_words(listed[0]))
        legend = axis.legend()
        figure.canvas.draw()
    assert len(legend.get_texts()) == sum(bool(label_words(name)) for name in listed)
    plt.close(figure)


CHAPTER = """
import json
import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown
from gzlib import publish
from gzlib.study import label_words, markdown_table, words

names = json.loads(open("names.json").read())
publish(**{f"name{i}": words(name) for i, name in enumerate(names)})
"""


@pytest.mark.slow
def test_no_name_fails_a_build_or_adds_an_element(tmp_path, monkeypatch):
    """The same chapter with harmless and with hostile names: its pages have the same elements."""
    found = {}
    monkeypatch.chdir(tmp_path)
    for what, names in {"harmless": [f"name {i}" for i in range(len(HOSTILE))], "hostile": HOSTILE}.items():
        project = tiny_book.make(tmp_path / what, library=False)
        first = read_notebook(project / "chapters" / "01-first.ipynb")
        first.cells[3].source = "from gzlib import publish\n\ntotal = 10\npublish(total=total)"
        write_notebook(first, project / "chapters" / "01-first.ipynb")
        path = project / "chapters" / "02-second.ipynb"
        notebook = read_notebook(path)
        uses = "\n\n".join(f"Here is {{{{< var second.name{i} >}}}}." for i in range(len(names)))
        notebook.cells += [
            v4.new_code_cell(CHAPTER.strip()),
            v4.new_code_cell(
                "#| label: tbl-names\n#| tbl-cap: 'Names, such as {{< var second.name0 >}}.'\n"
                'Markdown(markdown_table(pd.DataFrame({"name": pd.Series(names, dtype=object), names[0]: 1.0})))'
            ),
            v4.new_code_cell(
                "#| label: fig-names\n#| fig-cap: A figure.\n#| fig-alt: Lines.\n"
                "figure, axes = plt.subplots()\nfor name in names[:8]:\n"
                "    axes.plot([0, 1], label=label_words(name))\naxes.legend();"
            ),
            v4.new_code_cell(
                'Markdown("Shown without care: " + ", ".join(n for n in names if n[:1] in "<{[!")[:1500])'
            ),
            v4.new_code_cell("print(*(ascii(n) for n in names if '0x' not in n))"),
            v4.new_markdown_cell(uses),
        ]
        write_notebook(notebook, path)
        (tmp_path / "names.json").write_text(json.dumps(names))
        built = build(preset="laptop", name="x", project=project, say=lambda line: None)
        page = Cells((built.page.parent / "02-second.html").read_text(encoding="utf-8"))
        found[what] = [element for element in page.elements if element[0] not in ("em", "strong", "sup", "sub", "del")]
        if what == "hostile":
            assert set(map(shown, HOSTILE)) <= set(unframed(page.cells))
    assert found["hostile"] == found["harmless"]


@pytest.mark.parametrize("name", [name for name in HOSTILE if name[:1] in list("<{[!")])
def test_what_a_chapter_shows_without_care_is_inert(name):
    """Names in Markdown that nobody escaped become no element, no link and no shortcode."""
    text = inert(name)
    page = Cells(rendered(text))
    assert {tag for tag, _ in page.elements} <= {"p", "span", "sup", "em", "code"}
    assert not any(attribute.startswith("on") for _, attributes in page.elements for attribute in attributes)
    assert "{{<" not in text


def test_a_raw_block_by_itself_is_wanted():
    block = "```{=html}\n<div>panel</div>\n```"
    assert inert(block) == block
    assert inert(f"{block}\n\n<b>") != f"{block}\n\n<b>"
    assert inert("p < 0.05, a <= b, `x`, $y_1$ *z*") == "p < 0.05, a <= b, `x`, $y_1$ *z*"
