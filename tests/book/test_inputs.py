import json

import nbformat
import pytest

from gzlib import paths, trace
from gzlib.book.execute import fingerprint
from gzlib.errors import UserError
from gzlib.study.tables import COLUMNS, measured, note_table
from gzlib.trace import hash_files, input_files

PATTERN = "data/forecasts/*.json"


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    (tmp_path / "data" / "forecasts").mkdir(parents=True)
    (tmp_path / "data" / "benchmarks").mkdir()
    return tmp_path


def test_files_that_a_chapter_reads_are_noted_even_when_absent(project, monkeypatch, tmp_path):
    monkeypatch.setenv(trace.VARIABLE, str(tmp_path / "trace.jsonl"))
    assert input_files(PATTERN) == []
    (project / "data" / "forecasts" / "a.json").write_text("{}", encoding="utf-8")
    assert [file.name for file in input_files(PATTERN)] == ["a.json"]
    assert trace.read_trace(tmp_path / "trace.jsonl") == [{"kind": "files", "pattern": PATTERN}] * 2


def test_a_chapter_is_stale_once_such_a_file_comes_changes_or_goes(project):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = 1")])

    def now():
        return fingerprint(notebook, "page", project=project, files=[PATTERN])

    file = project / "data" / "forecasts" / "a.json"
    empty = now()
    file.write_bytes(b'{"a": 1}\n')
    first = now()
    file.write_bytes(b'{"a": 1}\r\n')
    assert now() == first  # line ends do not count
    file.write_bytes(b'{"a": 2}\n')
    assert len({empty, first, now()}) == 3
    file.unlink()
    assert now() == empty
    assert fingerprint(notebook, "page", project=project) != empty
    assert hash_files(project, [PATTERN]) == {PATTERN: {}}


def test_stored_measurements_are_a_table_or_one_clear_sentence(project):
    assert measured("curves").empty and list(measured("curves").columns) == COLUMNS
    file = project / "data" / "benchmarks" / "curves.json"
    row = dict(zip(COLUMNS, ["curves.rmsle", 0.0264, "ln(loss)", "<= 0.028", True, "72 curves"], strict=True))
    for content in ([row], {"rows": [row | {"more": 1}], "machine": "x"}):
        file.write_text(json.dumps(content), encoding="utf-8")
        assert measured("curves").value.tolist() == [0.0264]
    file.write_text('[{"part": "a", "n": 1}, {"part": "b", "m": 2}]', encoding="utf-8")
    assert measured("curves", ["n"], part="a").n.tolist() == [1]
    for broken in ("{", '{"row": []}', "[1]", '[{"name": 1}]'):
        file.write_text(broken, encoding="utf-8")
        with pytest.raises(UserError, match=r"curves\.json does not hold the rows"):
            measured("curves")


def test_a_note_is_a_table_to_pandoc():
    import pypandoc

    html = pypandoc.convert_text(note_table("Nothing here yet."), "html", "markdown")
    assert "<table" in html and "Nothing here yet." in html
