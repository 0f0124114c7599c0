"""No text of the project uses a phrase of ``.ci/phrases.toml``: documents, docstrings, comments, messages, chapters."""

import ast
import io
import json
import re
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from gzlib import paths

ROOT = paths.ROOT
CONTENT = tomllib.loads((ROOT / ".ci/phrases.toml").read_text(encoding="utf-8"))
PHRASES = {
    re.compile(rf"(?<![\w`{{./-])(?:{phrase})(?![\w`(}}])(?! : )", re.I): cure
    for phrase, cure in CONTENT["phrases"].items()
}
PROGRAMS = [*ROOT.glob("gzlib/**/*.py"), *ROOT.glob("gzlib/**/*.pyi"), *ROOT.glob("benchmarks/*.py")]
PROGRAMS += [*ROOT.glob("examples/*.py"), ROOT / "prerender.py"]
TEXTS = [
    file
    for pattern in ("*.md", "*.qmd", "data/*.md", "gzlib/**/*.md", "examples/*.toml")
    for file in ROOT.glob(pattern)
]
CHAPTERS = list(ROOT.glob("chapters/*.ipynb"))
MADE = {"THIRD-PARTY.md"}  # licences' names, by a program


def of_program(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each string and comment."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:  # not a name
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def of_chapter(source: str) -> Iterator[tuple[str, str]]:
    """Cell and text of each Markdown cell, and of the strings and comments of each code cell."""
    for cell in json.loads(source)["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            text = "\n".join(part for _, part in of_program(text))
        yield cell.get("id", ""), text


def texts(file: Path) -> Iterator[tuple]:
    source = file.read_text(encoding="utf-8")
    if file.suffix in (".py", ".pyi"):
        return of_program(source)
    return of_chapter(source) if file.suffix == ".ipynb" else iter(enumerate(source.split("\n"), 1))


def hits(file: Path) -> list[str]:
    name = file.relative_to(ROOT).as_posix()
    return [
        f"{name}:{place}: '{found[0]}' in '{text[max(0, found.start() - 40) : found.end() + 30]!r}': write {cure}"
        for place, text in texts(file)
        for phrase, cure in PHRASES.items()
        for found in phrase.finditer(text)
    ]


def test_the_list_is_long_and_each_phrase_has_something_to_write_instead():
    assert len(PHRASES) >= 40 and all(PHRASES.values())
    assert [bool(phrase.search("We mend it: no law is called x.")) for phrase in PHRASES].count(True) == 2


@pytest.mark.parametrize("kind", ["programs", "documents", "chapters"])
def test_no_text_uses_a_phrase_of_the_list(kind):
    files = {"programs": PROGRAMS, "documents": TEXTS, "chapters": CHAPTERS}[kind]
    searched = [file for file in files if file.name not in MADE]
    pending = tuple(CONTENT["pending"])
    found = [
        hit for file in searched if not file.relative_to(ROOT).as_posix().startswith(pending) for hit in hits(file)
    ]
    assert not found, "\n".join(sorted(found))
