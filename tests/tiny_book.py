"""A book of two chapters and an appendix that executes in seconds, for the tests of the build and of the preview."""

import shutil
from pathlib import Path

import nbformat.v4 as v4

from gzlib.book.chapters import write_notebook

ROOT = Path(__file__).resolve().parent.parent
_LIBRARY = ["__init__.py", "__init__.pyi", "paths.py", "errors.py", "files.py", "identity.py", "trace.py"]

_QUARTO = """\
project:
  type: book
  output-dir: _book
  resources: ["chapters/*.ipynb"]
book:
  title: A Tiny Book
  subtitle: in two chapters
  chapters: [index.qmd, chapters/01-first.ipynb, chapters/02-second.ipynb, references.qmd]
  appendices: [chapters/90-notes.ipynb]
bibliography: references.bib
number-sections: true
format:
  html: {code-fold: true, toc: true}
execute: {enabled: false}
"""

_BIB = """\
@article{walmsley2024, title={Scaling Laws for Galaxy Images}, author={Walmsley, Mike and others}, year={2024}}
"""

_INDEX = """\
# Welcome {.unnumbered}

See @sec-first, @fig-line and [the second chapter](chapters/02-second.ipynb#sec-detail).
The sum is {{< var first.total >}}. In code, `{{{< var first.total >}}}` stays.

::: {.callout-note title="How to read"}
Numbers come *from results*.
:::
"""

_TOY = '''\
"""A stand-in for training: counts, and stores what it counted."""

import json

from gzlib import paths, trace


def count(n):
    """Sum of the first n numbers, from the store if it is there."""
    key = f"sum{n:04d}"
    file = paths.run_folder(key) / "run.json"
    if not file.exists():
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"key": key, "total": sum(range(n))}), encoding="utf-8")
    trace.note("run", key=key)
    return json.loads(file.read_text(encoding="utf-8"))["total"]
'''

_FRONT = "---\nother-links:\n  - {text: Notebook, icon: journal-code, href: %s}\n---"


def _code(text, *tags):
    return v4.new_code_cell(text.strip("\n"), metadata={"tags": list(tags)} if tags else {})


def _chapter(file, *cells):
    return v4.new_notebook(cells=[v4.new_raw_cell(_FRONT % file), *cells])


def _first():
    return _chapter(
        "01-first.ipynb",
        v4.new_markdown_cell("# First steps {#sec-first}\n\nHere we count, as @walmsley2024 did not."),
        _code(
            'preset = "laptop"  # how large\nn = 5  # how many numbers\nscale = 1.0  # factor, no unit\n'
            "sizes = [1, 2]  # list of sizes",
            "parameters",
        ),
        _code(
            "from gzlib import publish\nfrom gzlib.fitting.toy import count\n\n"
            'total = count(n)\npublish(total=f"{total}")\nprint("one")\nprint("two")'
        ),
        v4.new_markdown_cell(
            "## A table {#sec-table}\n\n@tbl-sums has the sums; their formula is\n\n"
            "$$\ns = \\frac{n(n-1)}{2}\n$$ {#eq-sum}\n"
        ),
        _code(
            "#| label: tbl-sums\n#| tbl-cap: 'Sums: of the first $n$ numbers.'\n"
            "from IPython.display import Markdown\n\n"
            'Markdown(f"| n | sum |\\n|--:|--:|\\n| {n} | {total} |")'
        ),
    )


def _second():
    return _chapter(
        "02-second.ipynb",
        v4.new_markdown_cell("# Second steps {#sec-second}\n\nAfter @sec-first and @eq-sum [@walmsley2024]."),
        _code('preset = "laptop"  # how large\nwidth = 2.0  # line width, points', "parameters"),
        v4.new_markdown_cell("## Detail {#sec-detail}\n\nThe line of @fig-line; see also [first](01-first.ipynb)."),
        _code(
            "#| label: fig-line\n#| fig-cap: A line, compare @tbl-sums.\n#| fig-alt: 'A \"straight\" line.'\n"
            "import matplotlib.pyplot as plt\n\n"
            "figure, axes = plt.subplots(figsize=(3, 2))\naxes.plot([0, 1], linewidth=width);"
        ),
    )


def _notes():
    return _chapter(
        "90-notes.ipynb",
        v4.new_markdown_cell("# Notes {#sec-notes}\n\nPrinted below, for @fig-line."),
        _code('preset = "laptop"  # how large', "parameters"),
        _code("#| echo: false\nprint(preset)"),
    )


def make(folder, *, library=True):
    """Write the project, not yet executed, into a new folder; returns the folder."""
    folder = Path(folder)
    (folder / "chapters").mkdir(parents=True)
    for name, text in {
        "_quarto.yml": _QUARTO,
        "index.qmd": _INDEX,
        "references.qmd": "# References {.unnumbered}\n\n::: {#refs}\n:::\n",
        "references.bib": _BIB,
    }.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    shutil.copytree(ROOT / "styles", folder / "styles")
    for name, notebook in {"01-first": _first(), "02-second": _second(), "90-notes": _notes()}.items():
        write_notebook(notebook, folder / "chapters" / f"{name}.ipynb")
    for name in _LIBRARY if library else []:
        (folder / "gzlib" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "gzlib" / name, folder / "gzlib" / name)
    if library:
        (folder / "gzlib" / "fitting").mkdir()
        (folder / "gzlib" / "fitting" / "__init__.py").write_text("")
        (folder / "gzlib" / "fitting" / "toy.py").write_text(_TOY, encoding="utf-8", newline="\n")
    return folder
