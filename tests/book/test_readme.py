import re
import shlex
import shutil

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from gzlib import paths
from gzlib.__main__ import main
from gzlib.book.chapters import END, RESULTS, START, load_variables, results_table, write_results
from gzlib.errors import UserError

TEMPLATE = (paths.ROOT / RESULTS).read_text(encoding="utf-8")


def measured(template):
    """A value for every variable that the committed template names, so that a new one can't leave this behind."""
    values = {}
    for chapter, name in re.findall(r"var ([\w-]+)\.(\w+) ", template):
        values.setdefault(chapter, {})[name] = f"<{name}>"
    return values


VARIABLES = measured(TEMPLATE)


def chapter(label="fig-fits"):
    chart = {"image/svg+xml": "<svg/>"}
    cell = new_code_cell(f"#| label: {label}\nplot()", outputs=[new_output("display_data", chart)])
    return new_notebook(cells=[cell])


def test_table_and_figure_are_written_between_the_marks(tmp_path):
    (tmp_path / "README.md").write_text(f"before ![](figures/fits.svg)\n{START}\nold\n{END}\nafter\n")
    (tmp_path / RESULTS).write_text(TEMPLATE)
    write_results(tmp_path, {"04-power-laws": chapter()}, VARIABLES)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before") and text.endswith(f"{END}\nafter\n")
    assert "<galaxies>" in text and "not measured" not in text and "old" not in text
    assert (tmp_path / "figures" / "fits.svg").read_text() == "<svg/>"
    stamp = (tmp_path / "README.md").stat().st_mtime_ns
    write_results(tmp_path, {"04-power-laws": chapter()}, VARIABLES)
    assert (tmp_path / "README.md").stat().st_mtime_ns == stamp


def test_a_finding_without_a_run_says_so():
    table = results_table(TEMPLATE, {"power-laws": VARIABLES["power-laws"]})
    assert "| Linear or full | not measured |" in table
    assert len(table.splitlines()) == len(TEMPLATE.splitlines())


def test_unclosed_results_are_refused(tmp_path):
    (tmp_path / "README.md").write_text(START)
    with pytest.raises(UserError, match="does not close"):
        write_results(tmp_path, {}, VARIABLES)


def test_the_committed_readme_shows_the_committed_results():
    text = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    assert results_table(TEMPLATE, load_variables(paths.ROOT)) in text
    book = {f.stem: nbformat.read(f, as_version=4) for f in (paths.ROOT / "chapters").glob("*.ipynb")}
    stored = [
        output.data["image/svg+xml"]
        for cell in book["04-power-laws"].cells
        if cell.cell_type == "code" and "label: fig-fits" in cell.source
        for output in cell.outputs
        if "image/svg+xml" in output.get("data", {})
    ]
    assert stored[0] == (paths.ROOT / "figures" / "fits.svg").read_text()


@pytest.mark.slow
def test_the_block_of_python_works(store, tmp_path, monkeypatch, capsys):
    """As it stands, with 40 labels instead of 200 and 32 px, so that it takes seconds."""
    (block,) = re.findall(r"```python\n(.*?)```", (paths.ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    shutil.copytree(paths.ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    assert "200, label" in block and "size=64" in block
    names = {}
    exec(block.replace("200, label", "40, label").replace("size=64", "size=32"), names)
    assert len(names["table"]) == 360 and (tmp_path / "shapes" / "model.safetensors").is_file()
    assert "0.7" in capsys.readouterr().out


@pytest.mark.slow
def test_the_command_lines_on_the_examples_work(store, tmp_path, monkeypatch, capsys):
    """Those of the README that need nothing but the folder of examples, one after the other, at 32 px."""
    text = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^python -m gzlib ((?:curate|verify|finetune|fit|plan|predict|evaluate|export) .*)", text, re.M)
    lines = [re.split(r"\s+#", line)[0] for line in lines]
    assert [line.split()[0] for line in lines] == (
        ["curate", "verify", "finetune", "fit", "plan", "finetune", "predict", "evaluate", "export"]
    )
    shutil.copytree(paths.ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    for line in lines:
        assert main(shlex.split(line.replace("--size 64", "--size 32"))) == 0, line
    assert len(pd.read_csv("shapes.csv")) == 360 and "curve.html" in {file.name for file in tmp_path.iterdir()}
    assert "360 galaxies" in capsys.readouterr().out
