"""What is said of a curation, and that a survey and its source stay the same, or that it is noticed."""

import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fault_inputs import READERS, N, catalogue, one_sentence, opened, rows, vote_rows, write_table
from survey_inputs import gz2_votes, jpeg

from gzlib.cli import main
from gzlib.data import open_survey, read_report, verify_survey
from gzlib.data.images import load_all
from gzlib.errors import UserError

pytestmark = pytest.mark.usefixtures("own_store")


# Too many rejected, and what is said.
@pytest.mark.fault("many galaxies rejected", "refused in one sentence")
@pytest.mark.parametrize("reader", READERS)
def test_many_rejected_galaxies_stop_the_curation_unless_told_to_go_on(tmp_path, hub, reader):
    images = [jpeg(i, side=24) for i in range(N)]
    images[3] = b"no image"
    source = write_table(tmp_path / "in", reader, rows(), images)
    if reader == "hub":
        hub(source)
        source = "hub:owner/name"
    with pytest.raises(UserError, match=r"1 of 12 galaxies.*8%.*unreadable image.*J0003.*--keep-going") as error:
        opened(source, tmp_path / "out", keep_going=False)
    listed = one_sentence(error).split("all are in '")[1].split("'")[0]
    assert "unreadable image" in Path(listed).read_text()
    report = read_report(opened(source, tmp_path / "out"))
    assert report["rejected"]["reasons"] == {"unreadable image": 1}
    assert {path.name for path in tmp_path.iterdir()} - {"in", "out", "surveys", "store", "book_runs"} == set()


def test_duplicates_alone_do_not_stop_a_curation(tmp_path):
    source = write_table(tmp_path / "in", "csv", rows(), [jpeg(i // 2, side=24) for i in range(N)])
    report = read_report(opened(source, tmp_path / "out", keep_going=False))
    assert report["rejected"]["reasons"] == {"duplicate image": N // 2}


def test_what_was_recognised_and_rejected_is_printed(tmp_path, capsys):
    votes = gz2_votes(N).astype(float)
    votes[3, 0] = 3.5
    columns = vote_rows(votes, ra=[10.0 + i for i in range(N)], dec=[1.0] * N)
    columns |= {"ring": [float(i % 2) for i in range(N)], "comment": [f"text {i}" for i in range(N)]}
    source = write_table(tmp_path / "in", "csv", columns)
    command = ["curate", str(source), "--out", str(tmp_path / "out"), "--size", "16", "--keep-going"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    for said in (
        "gz2, recognised by its vote columns",
        "30 of its 30 vote columns",
        "ring: 2 classes (0, 1), written with a decimal point",
        "comment (text that differs in nearly every row)",
        "within 20 arcsec",
        "rejected: 1 fractional votes; all are in",
        "rejected.csv",
    ):
        assert said in printed, said


# A curated survey and its source stay the same, or it is noticed.
def changed(way, source):
    """Change one image of a catalogue's folder, or add one, by different means."""
    image = source / "images" / "3.jpg"
    if way == "replaced":
        image.write_bytes(jpeg(500, side=24))
    elif way == "of-the-same-size-and-time":
        before = image.stat()
        image.write_bytes(image.read_bytes()[:-12] + b"\0\0\0\0\0\0\0\0\0\0\xff\xd9")
        os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif way == "moved-into-place":
        (source / "new.jpg").write_bytes(jpeg(501, side=24))
        os.replace(source / "new.jpg", image)


@pytest.mark.fault("images that change after curation", "read")
@pytest.mark.parametrize("way", ["replaced", "of-the-same-size-and-time", "moved-into-place"])
@pytest.mark.parametrize("kind", ["catalogue", "nested", "struct", "folder"])
def test_a_changed_image_is_noticed(tmp_path, way, kind):
    source = catalogue(tmp_path / "in", [f"images/{i}.jpg" for i in range(8)])
    if kind == "struct":
        cells = [{"bytes": None, "path": f"images/{i}.jpg"} for i in range(8)]
        cells[0] = {"bytes": jpeg(900, side=24), "path": None}  # a table may hold both kinds
        columns = {"id_str": list("abcdefgh"), "label": [0, 1] * 4, "image": cells}
        (source / "catalog.csv").unlink()
        pq.write_table(pa.table(columns), source / "train.parquet")
    elif kind == "folder":
        (source / "catalog.csv").unlink()
    first = read_report(opened(source, tmp_path / "out"))
    assert read_report(opened(source, tmp_path / "out")) == first
    changed(way, source)
    second = read_report(opened(source, tmp_path / "out"))
    assert second["fingerprint"] != first["fingerprint"]


@pytest.mark.fault("images that change after curation", "read")
def test_images_that_arrive_later_enter(tmp_path):
    source = catalogue(tmp_path / "in", [f"../elsewhere/{i}.jpg" for i in range(8)])
    (source / "images").rename(tmp_path / "elsewhere")
    late = [(tmp_path / "elsewhere" / f"{i}.jpg") for i in range(3)]
    content = [file.read_bytes() for file in late]
    late[0].unlink()
    late[1].unlink()
    late[2].write_text("<html>not found</html>")
    first = read_report(opened(source, tmp_path / "out"))
    assert first["counts"]["galaxies"] == 5 and first["rejected"]["reasons"] == {
        "missing image": 2,
        "unreadable image": 1,
    }
    for file, image in zip(late, content, strict=True):
        file.write_bytes(image)
    assert read_report(opened(source, tmp_path / "out"))["counts"]["galaxies"] == 8


def test_a_copied_source_and_a_copied_survey_keep_their_identity(tmp_path):
    source = catalogue(tmp_path / "in", [f"images/{i}.jpg" for i in range(8)])
    first = opened(source, tmp_path / "out")
    again = opened(shutil.copytree(source, tmp_path / "elsewhere" / "in"), tmp_path / "again")
    assert read_report(again)["fingerprint"] == read_report(first)["fingerprint"]
    shutil.copytree(first, tmp_path / "moved", copy_function=shutil.copyfile)
    assert open_survey(tmp_path / "moved").attrs["fingerprint"] == read_report(first)["fingerprint"]


def test_force_curates_again(tmp_path):
    source = catalogue(tmp_path / "in", [f"images/{i}.jpg" for i in range(4)])
    survey = opened(source, tmp_path / "out")
    written = (survey / "survey.json").stat().st_mtime_ns
    opened(source, tmp_path / "out", force=True)
    assert (survey / "survey.json").stat().st_mtime_ns != written


def zero_an_image(folder):
    images = np.load(folder / "images.npy", mmap_mode="r+")
    images[2] = 0
    images.flush()


def shuffle_the_catalogue(folder):
    table = pq.read_table(folder / "catalog.parquet")
    pq.write_table(table.take(list(range(len(table)))[::-1]), folder / "catalog.parquet")


def cut_the_images(folder):
    os.truncate(folder / "images.npy", (folder / "images.npy").stat().st_size - 10)


@pytest.mark.fault("curated surveys that were damaged", "refused in one sentence")
@pytest.mark.parametrize("damage", [zero_an_image, shuffle_the_catalogue, cut_the_images])
@pytest.mark.parametrize("copied", [False, True])
def test_a_damaged_survey_is_refused(tmp_path, damage, copied):
    survey = opened(catalogue(tmp_path / "in", [f"images/{i}.jpg" for i in range(8)]), tmp_path / "out")
    assert verify_survey(survey)["counts"]["galaxies"] == 8
    if copied:
        survey = shutil.copytree(survey, tmp_path / "copied")
    damage(survey)
    for look in (open_survey, verify_survey):
        with pytest.raises(UserError, match="damaged") as error:
            look(survey)
        one_sentence(error)
    assert main(["verify", str(survey)]) == 2


def test_an_image_damaged_without_a_trace_is_found_by_verify_alone(tmp_path, capsys):
    survey = opened(catalogue(tmp_path / "in", [f"images/{i}.jpg" for i in range(8)]), tmp_path / "out")
    assert main(["verify", str(survey)]) == 0 and "every byte" in capsys.readouterr().out
    before = (survey / "images.npy").stat()
    zero_an_image(survey)
    os.utime(survey / "images.npy", ns=(before.st_atime_ns, before.st_mtime_ns))
    open_survey(survey)
    assert main(["verify", str(survey)]) == 2


@pytest.mark.fault("curated surveys that were damaged", "refused in one sentence")
@pytest.mark.parametrize(
    "change",
    [
        lambda report: "{",
        lambda report: "[]",
        lambda report: "7",
        lambda report: "null",
        lambda report: report | {"counts": 7},
        lambda report: report | {"counts": {}},
        lambda report: report | {"labels": ["label"]},
        lambda report: report | {"parts": "sim"},
        lambda report: report | {"parts": [1]},
        lambda report: report | {"schema": None},
        lambda report: report | {"sha256": []},
        lambda report: report | {"fingerprint": None},
        lambda report: {k: v for k, v in report.items() if k != "parameters"},
        lambda report: {k: v for k, v in report.items() if k not in ("parts", "sha256")},
        lambda report: '{"parts": ' + "[" * 100_000,
    ],
)
def test_a_report_of_another_shape_is_refused(tmp_path, change):
    survey = opened(catalogue(tmp_path / "in", [f"images/{i}.jpg" for i in range(4)]), tmp_path / "out")
    made = change(json.loads((survey / "survey.json").read_text()))
    (survey / "survey.json").write_text(made if isinstance(made, str) else json.dumps(made))
    with pytest.raises(UserError, match=r"survey\.json") as error:
        open_survey(survey)
    one_sentence(error)


# The disk.
def test_what_does_not_fit_on_the_disk_is_refused_first(tmp_path):
    with pytest.raises(UserError, match="99,999,999,999,999 galaxies at 16 px takes .* GB free"):
        opened("sim:99999999999999", tmp_path / "out")
    with pytest.raises(UserError, match="is not valid"):
        opened("sim:²", tmp_path / "out")


def test_a_full_disk_is_one_sentence_and_what_was_done_is_kept(tmp_path, monkeypatch):
    source = catalogue(tmp_path / "in", [f"images/{i}.jpg" for i in range(4)])

    def full(self, images):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("gzlib.data.pack.ImageFile.append", full)
        with pytest.raises(UserError, match="could not be written.*No space left") as error:
            opened(source, tmp_path / "out")
    one_sentence(error)
    assert read_report(opened(source, tmp_path / "out"))["counts"]["galaxies"] == 4


def test_a_simulated_survey_says_its_size_and_time_first(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("gzlib.data.pack.ANNOUNCED", 20)
    opened("sim:gz2:30", tmp_path / "out", progress=True)
    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith("sim:gz2:30: 30 galaxies at 16 px take") and "about" in first


def test_two_processes_that_curate_the_same_make_it_once(tmp_path, monkeypatch):
    """Threads stand for processes: the lock is of the file."""
    source = catalogue(tmp_path / "in", [f"images/{i}.jpg" for i in range(8)])
    calls = []

    def slow(images, rows, frame, pool):
        calls.append(len(rows))
        time.sleep(0.3)
        return load_all(images, rows, frame, pool)

    monkeypatch.setattr("gzlib.data.curation.load_all", slow)
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda _: opened(source, tmp_path / "out"), range(3)))
    assert calls == [8] and len(set(made)) == 1 and open_survey(made[0]).sizes["galaxy"] == 8
    assert {path.name for path in tmp_path.iterdir()} <= {"in", "out"}
