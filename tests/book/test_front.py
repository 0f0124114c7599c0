"""The front page: what it says of the book, its card, and its chart."""

import importlib.util
import io
import json
import re
import shutil
import subprocess

import numpy as np
import PIL.Image
import pytest
import yaml

from gzlib import __version__, paths
from gzlib.book.chapters import edition, load_variables, write_includes
from gzlib.book.html import markup
from gzlib.errors import UserError
from gzlib.study import seen
from gzlib.study.forecasts import page_source

ROOT = paths.ROOT
BOOK = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))["book"]
CITED = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
INDEX = (ROOT / "index.qmd").read_text(encoding="utf-8")


def test_title_page_and_citation_agree():
    assert BOOK["author"] == " and ".join(author["name"] for author in CITED["authors"])
    assert str(BOOK["date"]) == str(CITED["date-released"]) and CITED["version"] == __version__
    assert load_variables(ROOT)["paper"] == edition(ROOT)["paper"]
    for name in ("version", "date", "license", "authors", "title", "year"):
        assert f"paper.{name} >}}" in INDEX, name


def test_a_citation_file_that_lacks_something_is_one_sentence(tmp_path):
    assert edition(tmp_path) == {}
    for text in ("title: x\n", "- a\n", "a: [", "title: x\nversion: 1\nlicense: y\ndate-released: soon\nauthors: []\n"):
        (tmp_path / "CITATION.cff").write_text(text)
        with pytest.raises(UserError, match=r"CITATION.cff does not state .*; correct it\."):
            edition(tmp_path)


@pytest.mark.slow
def test_the_card_is_what_its_command_draws():
    spec = importlib.util.spec_from_file_location("card", ROOT / ".ci" / "card.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    stored = (ROOT / BOOK["image"]).read_bytes()
    images = [
        np.asarray(PIL.Image.open(io.BytesIO(content)).convert("RGB"), int) for content in (module.card(), stored)
    ]
    assert images[0].shape == (630, 1200, 3) and len(stored) < 400_000
    assert np.abs(images[0] - images[1]).mean() < 1, "the card is of another edition; run: make card"


def test_a_page_includes_what_a_cell_shows(tmp_path):
    import nbformat

    shown = nbformat.v4.new_output("display_data", {"text/markdown": "three *words*"})
    cell = nbformat.v4.new_code_cell("#| label: headline\n1", outputs=[shown])
    page = tmp_path / "index.qmd"
    (tmp_path / "_abstract.qmd").write_text("{{< var a.n >}} of {{< var b >}}")
    page.write_text("{{< include _abstract.qmd >}}. a {{< include _headline.qmd >}} b {{< include _other.qmd >}}")
    write_includes(tmp_path, {"04": nbformat.v4.new_notebook(cells=[cell])}, [page])
    assert {file.name for file in tmp_path.glob("_*.qmd")} == {"_abstract.qmd", "_headline.qmd"}

    def find(path):
        return tmp_path / path if (tmp_path / path).is_file() else None

    problems: list[str] = []
    text = markup.fill(
        page.read_text(), variables={"a": {"n": "3"}}, meta={}, problems=problems, page="index.qmd", find=find
    )
    assert text == "3 of {{< var b >}}. a three *words*\n b {{< include _other.qmd >}}"
    assert problems == [
        "index.qmd: {{< var b >}} is not defined",
        "index.qmd: {{< include _other.qmd >}} is not defined",
    ]


def test_the_abstract_is_five_sentences_with_the_results_of_real_galaxies_first():
    source = (ROOT / "_abstract.qmd").read_text(encoding="utf-8")
    problems: list[str] = []
    text = markup.fill(source, variables=load_variables(ROOT), meta={}, problems=problems, page="_abstract.qmd")
    assert not problems and len(re.findall(r"(?<!et al)[.?](?=\s)", text)) == 5
    assert text.index(load_variables(ROOT)["finetuning"]["real"]) < text.index("On **simulated galaxies**")
    assert not re.search(r"\d \d?\.\d|\d+ %", source.replace("31 %", ""))  # every result is a variable
    for page in ("index.qmd", "article.qmd"):
        assert "{{< include _abstract.qmd >}}" in (ROOT / page).read_text(encoding="utf-8")


def views(transfer):
    import xarray as xr

    n = [100, 200, 400]
    loss = xr.DataArray(
        [[[3.0, 3.2], [2.5, 2.6], [2.2, np.nan]]],
        {"encoder": ["resnet_w8"], "n_train": n},
        ["encoder", "n_train", "seed"],
    )
    curve = loss.mean("seed").interp(n_train=[100, 400]).assign_coords(n_train=[100.0, 800.0])
    band = xr.Dataset({"loss": curve, "lower": curve * 0.9, "upper": curve * 1.1})
    panel = seen.headline_panel(transfer, loss, band, kind="simulated galaxies", level=0.95)
    assert not re.search(r"\n\s*\n", panel)  # Markdown would end the block there
    data = re.search(r'<script type="application/json" class="data">(.*?)</script>', panel, re.DOTALL)[1]
    return panel, json.loads(data)["views"]


def test_the_chart_shows_real_galaxies_first_and_marks_where_no_run_is():
    few = {"25": [0.4, 0.5], "50": [0.3, 0.2]}
    rows = [{"task": "gz2_five_classes", "arm": arm, "error": 0.2, "few": few, "balanced_accuracy": 0.5}
            for arm in ("ImageNet", "ImageNet + galaxies")]  # fmt: skip
    panel, (real, simulated) = views({"rows": rows, "means": []})
    assert (
        real["name"] == "Real galaxies: five classes, GZ2" and real["unit"] == "\u00a0%" and real["ticks"] == [25, 50]
    )
    assert real["curves"][0]["line"] == [[25, 45.0, 40.0, 50.0], [50, 25.0, 20.0, 30.0]]
    assert "Real galaxies: five classes, GZ2, with 50 labels." in panel and "<td>25.0</td>" in panel
    assert simulated["measured"] == simulated["curves"][0]["measured"] == 400 and simulated["ticks"][-1] == 800
    assert len(simulated["curves"][0]["points"]) == 5 and "simulated galaxies" in simulated["note"]
    panel, (only,) = views({})
    assert only["name"].startswith("Simulated galaxies") and "Simulated galaxies" in panel


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed: the page's sentences were not read")
def test_a_curve_beyond_its_own_runs_is_called_a_forecast(tmp_path):
    def curve(name, measured, end):
        line = [[100, 3.0, 2.9, 3.1], [102400, end, end - 0.1, end + 0.1]]
        return {"name": name, "line": line, "points": [[100, 3.0], [measured, 2.5]], "measured": measured}

    view = {"x": "galaxies", "unit": "\u00a0nats", "digits": 2, "range": "95\u00a0% band", "compare": False}
    view |= {"measured": 25600, "ticks": [100, 102400], "curves": [curve("long", 25600, 2.0), curve("short", 800, 1.9)]}
    script = f"{page_source('headline.js')}\nconst view = {json.dumps(view)};\n"
    script += (
        "console.log(JSON.stringify([800, 25600, 102400, 51234].map((n) => sentence(view, n, reading(view, n)))));"
    )
    (tmp_path / "read.js").write_text(script, encoding="utf-8")
    done = subprocess.run(["node", tmp_path / "read.js"], capture_output=True, text=True, check=True)
    both, one, none, between = json.loads(done.stdout)
    assert both.startswith("With 800 galaxies, short comes lowest, with 2.") and "forecast" not in both
    assert one.startswith("With 25,600 galaxies, long comes lowest of those that were measured up to there, with 2.")
    assert "short is forecast to come lower" in one and one.endswith("it was measured up to 800 only.")
    assert none.startswith("With 102,000 galaxies, short is forecast lowest, with 1.90\u00a0nats (95\u00a0% band: 1.80")
    assert "measured up to 800 only. That is beyond the largest training set, 25,600" in none
    assert between.startswith("With 51,000 galaxies")
