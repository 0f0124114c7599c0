"""Every citation has an entry, and every entry is cited and can be found by its reader."""

import re

import nbformat

from gzlib import paths

ENTRY = re.compile(r"^@\w+\{([^,\s]+),\n(.*?)^\}", re.MULTILINE | re.DOTALL)
CITATION = re.compile(r"(?<![\w.])@([a-z]+[0-9]{4}[a-z0-9]*)")  # cross-references have no year
BIBLIOGRAPHY = (paths.ROOT / "references.bib").read_text(encoding="utf-8")
ENTRIES = dict(ENTRY.findall(BIBLIOGRAPHY))


def cited():
    """Where each key is cited: key to the set of page names."""
    prose = {page.name: page.read_text(encoding="utf-8") for page in paths.ROOT.glob("*.qmd")}
    for chapter in (paths.ROOT / "chapters").glob("*.ipynb"):
        cells = nbformat.read(chapter, as_version=4).cells
        # Code cells too: captions stand in their option lines.
        prose[chapter.name] = "\n\n".join(cell.source for cell in cells)
    pages = {}
    for name, text in prose.items():
        for key in CITATION.findall(text):
            pages.setdefault(key, set()).add(name)
    return pages


def test_every_citation_has_an_entry_and_every_entry_is_cited():
    pages = cited()
    assert "walmsley2024scaling" in pages  # the pattern finds citations at all
    assert {key: names for key, names in pages.items() if key not in ENTRIES} == {}
    assert set(ENTRIES) - set(pages) == set()


def test_the_bibliography_is_read_whole_and_has_no_key_twice():
    keys = re.findall(r"^@\w+\{([^,]+),", BIBLIOGRAPHY, re.MULTILINE)
    assert sorted(keys) == sorted(ENTRIES)


def test_every_entry_says_who_what_when_and_where_to_find_it():
    for key, fields in ENTRIES.items():
        named = set(re.findall(r"^  (\w+) = \{", fields, re.MULTILINE))
        assert {"title", "author", "year"} <= named, key
        assert named & {"doi", "url", "eprint"}, key
        (year,) = re.findall(r"^  year = \{(\d{4})\}", fields, re.MULTILINE)
        assert year in key, key


def test_an_arxiv_number_is_the_same_wherever_an_entry_gives_it():
    for key, fields in ENTRIES.items():
        assert len(set(re.findall(r"\b\d{4}\.\d{4,5}\b(?!\d)", re.sub(r"doi = .*", "", fields)))) <= 1, key
