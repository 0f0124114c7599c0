"""What Quarto is told, since Quarto itself may not be here to complain."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_book
import yaml

from gzlib.book.builder import build
from gzlib.book.chapters import book_config, book_inputs
from gzlib.errors import UserError

ROOT = tiny_book.ROOT
CONFIG = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))


def listed():
    return CONFIG["book"]["chapters"] + CONFIG["book"]["appendices"]


def test_the_book_lists_exactly_the_chapters_there_are():
    notebooks = sorted(path for path in listed() if path.endswith(".ipynb"))
    assert notebooks == sorted(f"chapters/{file.name}" for file in (ROOT / "chapters").glob("*.ipynb"))
    assert listed()[0] == "index.qmd" and CONFIG["book"]["chapters"][-1] == "references.qmd"
    assert not any(path.startswith("./") for path in listed())  # breaks cross-references in Quarto


def test_quarto_executes_nothing_and_offers_what_the_preview_offers():
    html = CONFIG["format"]["html"]
    assert CONFIG["execute"] == {"enabled": False} and CONFIG["project"]["type"] == "book"
    assert html["code-fold"] and html["code-tools"] and html["lightbox"] and html["respect-user-color-scheme"]
    assert "chapters/*.ipynb" in CONFIG["project"]["resources"] and CONFIG["number-sections"]
    assert CONFIG["quarto-required"] == ">=1.7" and CONFIG["book"]["page-navigation"]


def test_every_file_that_quarto_needs_is_there():
    themes = [name for names in CONFIG["format"]["html"]["theme"].values() for name in names if name.endswith(".scss")]
    for name in [*themes, CONFIG["bibliography"], CONFIG["project"]["pre-render"], "references.qmd"]:
        assert (ROOT / name).is_file(), name
    assert "#refs" in (ROOT / "references.qmd").read_text(encoding="utf-8")


def test_theme_files_have_quartos_sections_and_only_defined_variables():
    for name in ("light", "dark"):
        text = (ROOT / "styles" / f"{name}.scss").read_text(encoding="utf-8")
        defaults, rules = re.fullmatch(
            r"/\*-- scss:defaults --\*/(.*)/\*-- scss:rules --\*/(.*)", text, re.DOTALL
        ).groups()
        assert set(re.findall(r"\$[\w-]+", rules)) <= set(re.findall(r"^\$[\w-]+", defaults, re.MULTILINE))


def test_the_article_is_a_profile_that_leaves_the_book_alone():
    article = book_config(ROOT, profile="article")
    assert set(CONFIG["format"]) == {"html"}  # Quarto 1.7 sets no book with Typst, and would refuse all of it
    assert article["project"]["type"] == "default" and article["project"]["render"] == ["article.qmd"]
    assert article["article"] == [path for path in listed() if re.match(r"chapters/0[1-5]", path)]
    text = (ROOT / "article.qmd").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---\n")[1])
    assert {name: front[name] for name in ("title", "author", "date")} == {
        name: CONFIG["book"][name] for name in ("title", "author", "date")
    }
    assert (
        "{{< include _article/text.md >}}" in text
        and (ROOT / article["format"]["typst"]["include-in-header"]).is_file()
    )
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert {"/_article/", f"/{article['project']['output-dir']}/"} <= set(ignored)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tiny_book.make(tmp_path_factory.mktemp("quarto") / "project")
    shutil.copytree(ROOT / "gzlib" / "book", folder / "gzlib" / "book", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "gzlib" / "config.py", folder / "gzlib")
    shutil.copy(ROOT / "prerender.py", folder)
    build(project=folder, only=["01", "90"], say=lambda line: None)
    return folder


def prerender(project, *inputs, profile=""):
    """As Quarto does it: in the project's folder, absolute paths of the inputs in a variable."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("QUARTO_", "PYTHONPATH"))}
    if inputs:
        environment["QUARTO_PROJECT_INPUT_FILES"] = "\n".join(str(project / path) for path in inputs)
    environment |= {"QUARTO_PROFILE": profile} if profile else {}
    command = [sys.executable, "prerender.py"]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_before_rendering_only_the_asked_chapters_are_built(project):
    asked = prerender(project, "chapters/01-first.ipynb", "index.qmd")
    assert (asked.returncode, asked.stdout, asked.stderr) == (0, "fresh 01-first\n", "")
    assert prerender(project, "index.qmd").stdout == ""
    assert prerender(project).stdout.startswith("fresh 01-first\nrun   02-second\ndone  02-second")
    assert prerender(project).stdout == "fresh 01-first\nfresh 02-second\nfresh 90-notes\n"


@pytest.mark.slow
def test_before_the_article_its_chapters_are_built_and_written_as_one_text(project):
    (project / "_quarto-article.yml").write_text("article: [chapters/01-first.ipynb]\n")
    written = prerender(project, "article.qmd", profile="article")
    assert (written.returncode, written.stdout, written.stderr) == (0, "fresh 01-first\n", "")
    assert (project / "_article" / "text.md").read_text().startswith("# First steps {#sec-first}")


@pytest.mark.slow
def test_a_refusal_stops_quarto_with_one_sentence(project):
    chapter = project / "chapters" / "01-first.ipynb"
    before = chapter.read_bytes()
    chapter.write_bytes(before.replace(b"tbl-cap", b"tbl-top"))
    refused = prerender(project)
    chapter.write_bytes(before)
    assert refused.returncode == 1 and "needs a line '#| tbl-cap: ...'" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.slow
def test_a_python_without_the_dependencies_is_named(project):
    command = [sys.executable, "-S", "-I", "prerender.py"]
    result = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and "set QUARTO_PYTHON to the Python that gzlib runs in" in result.stderr


def test_a_missing_or_broken_configuration_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"_quarto.yml does not exist: run this in a checkout"):
        book_config(tmp_path)
    (Path(tmp_path) / "_quarto.yml").write_text("book: [")
    with pytest.raises(UserError, match=r"_quarto.yml is not valid YAML"):
        book_config(tmp_path)
    (Path(tmp_path) / "_quarto.yml").write_text("book: {chapters: [index.qmd]}")
    with pytest.raises(UserError, match=r"lists index.qmd, which does not exist"):
        book_inputs(tmp_path)
