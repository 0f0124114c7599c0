"""The API reference: made from the docstrings, up to date, and from docstrings that tools can parse."""

import doctest
import importlib
import importlib.util
import logging
import re

import pytest

from gzlib import paths
from gzlib.book.chapters import book_inputs

FOLDER = paths.ROOT / "reference"


@pytest.fixture(scope="module")
def reference():
    spec = importlib.util.spec_from_file_location("reference", paths.ROOT / ".ci" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Reference()


@pytest.mark.slow
def test_the_pages_are_those_of_the_docstrings(reference):
    """If this fails, run `make reference`."""
    pages = reference.pages()
    assert {file.name for file in FOLDER.glob("*.qmd")} == set(pages)
    for name, content in pages.items():
        assert (FOLDER / name).read_text(encoding="utf-8") == content, f"{name} is stale: run `make reference`"
    assert {f"reference/{name}" for name in pages} <= {page.path for page in book_inputs(paths.ROOT)}


def test_quotes_of_types_stay_as_they_are_typed(reference):
    page = (FOLDER / "gzlib.qmd").read_text(encoding="utf-8")
    assert r"**`mode`** : _\{\"linear\", \"full\"\}_" in page


def test_names_that_a_docstring_tells_in_one_are_told_in_one():
    page = (FOLDER / "models.qmd").read_text(encoding="utf-8")
    assert "**`mean`**, **`spread`** : _float_\n:   Of the training labels" in page
    page = (FOLDER / "fitting.qmd").read_text(encoding="utf-8")  # types that differ stand in the signature
    assert "**`data`**, **`losses`**, **`x`**, **`replicate`**\n:   As for `fit`; curves of one study" in page
    for file in FOLDER.glob("*.qmd"):
        for section in file.read_text(encoding="utf-8").split("\n## "):
            told = [one for one in re.findall(r"^\*\*`.+\n:   (.+)", section, re.M) if not one.startswith("See")]
            assert len(told) == len(set(told)), (file.name, section[:40])


def test_links_lead_to_sections_that_there_are():
    pages = {file.name: file.read_text(encoding="utf-8") for file in FOLDER.glob("*.qmd")}
    labels = {name: set(re.findall(r"\{#([\w-]+)\}", text)) for name, text in pages.items()}
    for name, text in pages.items():
        for page, label in re.findall(r"\]\(([\w.]*)#([\w-]+)\)", text):
            assert label in labels[page or name], (name, page, label)


def test_docstrings_of_public_names_can_be_parsed(reference, caplog):
    """No parameter that the signature lacks, and no section that is cut by a wrong indent."""
    griffe_log = logging.getLogger("griffe")
    griffe_log.setLevel(logging.WARNING)
    try:
        for path in reference.page_of:
            found = reference.find(path)
            assert found.docstring or found.is_attribute, f"{path} has no docstring"
            if found.docstring:
                assert found.docstring.value.split("\n")[0].strip(), path
                found.docstring.parse("numpy")
    finally:
        griffe_log.setLevel(logging.ERROR)
    wrong = [r.getMessage() for r in caplog.records if "No type or annotation" not in r.getMessage()]
    assert not wrong, "\n".join(wrong)


EXAMPLES = sorted(
    ".".join(file.relative_to(paths.ROOT).with_suffix("").parts)
    for file in (paths.ROOT / "gzlib").rglob("*.py")
    if re.search(r"^\s+>>> ", file.read_text(encoding="utf-8"), re.M)
)


@pytest.mark.parametrize("module", EXAMPLES)
def test_examples_in_docstrings_give_what_they_say(module):
    found = doctest.testmod(
        importlib.import_module(module), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert found.attempted and not found.failed
