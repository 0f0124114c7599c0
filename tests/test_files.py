"""Files and folders that are replaced: what a killed process leaves goes with the next one, and nothing else does."""

import os
import signal
import subprocess
import sys

import pytest

from gzlib import paths
from gzlib.errors import Busy, NotWritten, UserError
from gzlib.files import (
    OLD,
    checked_name,
    held,
    is_held,
    remove_folder,
    replace_file,
    replace_folder,
    spare_folder,
    write_whole,
)

KILL = "import os, signal\ndie = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"


def killed(tmp_path, code):
    """Run code that dies by SIGKILL in a folder."""
    environment = os.environ | {"PYTHONPATH": str(paths.PACKAGE.parent)}
    command = [sys.executable, "-c", KILL + code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def pages(spare, text):
    fresh = spare / "fresh"
    fresh.mkdir()
    (fresh / "page.html").write_text(text)
    return fresh


def test_what_a_killed_writer_left_is_written_over(tmp_path):
    file = tmp_path / "table.csv"
    mine = tmp_path / ".table.csv.tmp-mine"
    mine.write_text("the user's")
    code = "from pathlib import Path\nfrom gzlib.files import write_whole\nwrite_whole(Path('table.csv'), {})"
    killed(tmp_path, code.format("lambda f: (f.write(b'half'), f.flush(), die())"))
    killed(tmp_path, code.format("lambda f: (f.write(b'a longer half'), f.flush(), die())"))
    assert len(list(tmp_path.iterdir())) == 2 and not file.exists()
    replace_file(file, "whole")
    assert file.read_text() == "whole" and mine.read_text() == "the user's"
    assert {f.name for f in tmp_path.iterdir()} == {"table.csv", mine.name}


def test_two_writers_at_once_do_not_meet(tmp_path):
    file = tmp_path / "table.csv"

    def first(out):
        out.write(b"first")
        replace_file(file, "second")
        assert file.read_text() == "second"
        out.write(b" and last")

    write_whole(file, first)
    assert file.read_text() == "first and last" and [f.name for f in tmp_path.iterdir()] == ["table.csv"]


def test_a_link_in_the_temporary_files_place_is_not_followed(tmp_path):
    other = tmp_path / "other"
    other.write_text("the user's")
    (tmp_path / ".table.csv.tmp-0").symlink_to(other)
    replace_file(tmp_path / "table.csv", "whole")
    assert (tmp_path / "table.csv").read_text() == "whole" and other.read_text() == "the user's"


def test_folders_that_killed_processes_left_go_and_those_of_others_stay(tmp_path):
    place = tmp_path / "book"
    mine = tmp_path / ".book.tmp-mine"
    mine.mkdir()
    (mine / "notes").write_text("the user's")
    code = "from pathlib import Path\nfrom gzlib.files import spare_folder\n"
    killed(tmp_path, code + "with spare_folder(Path('book')) as s:\n    (s / 'half').write_text('x')\n    die()")
    assert len(list(tmp_path.iterdir())) == 2
    with spare_folder(place) as one, spare_folder(place) as other:  # of two processes at once
        assert one.is_dir() and other.is_dir() and is_held(one / ".lock")
        assert {f.name for f in tmp_path.iterdir()} == {mine.name, one.name, other.name}
        replace_folder(pages(other, "new"), place, "pages")
    assert {f.name for f in tmp_path.iterdir()} == {mine.name, "book"}
    assert (mine / "notes").read_text() == "the user's" and (place / "page.html").read_text() == "new"


@pytest.mark.parametrize("then", ["replace", "remove"])
def test_a_folder_comes_back_if_its_replacement_was_killed_between_two_steps(tmp_path, then):
    place = tmp_path / "book"
    with spare_folder(place) as spare:
        replace_folder(pages(spare, "old"), place, "pages")
    code = (
        "import os\nfrom pathlib import Path\nfrom gzlib import files\n"
        "place, real = Path('book').resolve(), os.replace\n"
        "os.replace = lambda a, b: die() if Path(b) == place else real(a, b)\n"
        "with files.spare_folder(place) as spare:\n    fresh = spare / 'fresh'\n    fresh.mkdir()\n"
        "    (fresh / 'page.html').write_text('new')\n    files.replace_folder(fresh, place, 'pages')\n"
    )
    killed(tmp_path, code)
    assert not place.exists()
    if then == "replace":
        with spare_folder(place) as spare:
            assert (place / "page.html").read_text() == "old"
            replace_folder(pages(spare, "newer"), place, "pages")
        assert (place / "page.html").read_text() == "newer"
    else:
        with spare_folder(place):
            pass
        (place / "mine.txt").write_text("the user's")
        with pytest.raises(UserError, match=r"mine\.txt"):
            remove_folder(place, "pages")
        (place / "mine.txt").unlink()
        remove_folder(place, "pages")
        assert not place.exists()
    assert not list(tmp_path.glob(".*")) and OLD not in {f.name for f in tmp_path.iterdir()}


def test_what_the_disk_refuses_is_one_sentence_wherever_it_is_met(tmp_path):
    def full():
        with spare_folder(tmp_path / "book") as spare:
            (spare / "page").write_text("x" * 10)
            raise OSError(28, "No space left on device")

    with pytest.raises(NotWritten, match="could not be written"):
        full()
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotWritten), spare_folder(tmp_path / "file" / "book"):
        pass


@pytest.mark.parametrize(
    "marker",
    ["", "[]", "{", "[" * 100_000, '"files"', '{"what": "pages"}', '{"what": ["pages"], "files": {}}', "\x00"]
    + [f'{{"what": "pages", "files": {files}}}' for files in ("null", "[]", '"a"', '["a"]', '{"a": null}', '{"a": 3}')],
)
def test_a_folder_with_a_marker_that_is_none_is_not_replaced(tmp_path, marker):
    folder = tmp_path / "book"
    folder.mkdir()
    (folder / "a").write_text("the user's")
    (folder / ".gzlib.json").write_text(marker)
    with pytest.raises(UserError, match="holds 'a', which was not made"):
        remove_folder(folder, "pages")
    assert (folder / "a").read_text() == "the user's"


NAMES = ["a", "pilot-2", "v1.2", "größe", "名", "con1", "nullable", "a" * 200, "COM", "lpt", "auxiliary.json"]
NO_NAMES = [
    "",
    ".",
    "..",
    ".hidden",
    "../x",
    "/x",
    "a/b",
    "a\\b",
    "a\0b",
    "a\n",
    "a ",
    " a",
    "a.",
    "a..",
    "-a",
    "~",
    "*",
    "a:b",
    "🌌",
]
NO_NAMES += [
    "a\u200fb",
    "\u202ea",
    "a\u200b",
    "CON",
    "nul",
    "aux.json",
    "Com1",
    "lpt9.txt",
    "a" * 201,
    "é" * 101,
    None,
    3,
    b"a",
]


@pytest.mark.fault("names of runs, forecasts, experiments", "read")
@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_kept_as_it_is(name):
    assert checked_name(name, "a forecast") == name


@pytest.mark.fault("names of runs, forecasts, experiments", "refused in one sentence")
@pytest.mark.parametrize("name", NO_NAMES, ids=range(len(NO_NAMES)))
def test_what_is_a_path_or_no_name_on_some_system_is_refused(name):
    """Windows keeps some names for devices and drops a point at the end, so a folder of that name can't be shared."""
    with pytest.raises(UserError, match="is not a name for a forecast") as caught:
        checked_name(name, "a forecast")
    assert len(str(caught.value)) < 350 and "\n" not in str(caught.value)


def test_a_file_where_a_folder_is_to_be_made_is_told_as_such(tmp_path):
    (tmp_path / "store").write_text("the user's")
    where = f"'{tmp_path / 'store'}' is a file, not a folder"
    with pytest.raises(NotWritten, match=where), held(tmp_path / "store" / ".lock", "It"):
        pass
    with pytest.raises(NotWritten, match=where):
        replace_file(tmp_path / "store" / "table.csv", "x")
    assert (tmp_path / "store").read_text() == "the user's"


def test_who_holds_a_lock_is_told_although_its_file_is_damaged(tmp_path):
    with held(tmp_path / ".lock", "It"):
        (tmp_path / ".lock").write_bytes(b"process \xff\xfe")
        with pytest.raises(Busy, match="It is being made by process "), held(tmp_path / ".lock", "It"):
            pass
