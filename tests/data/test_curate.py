"""Curation keeps what is sound, says why it drops the rest, and never leaves half a survey."""

import io
import json
import shutil
import tracemalloc
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from survey_inputs import REAL, gz2_table, gz2_votes, jpeg, stub_sky, write_catalogue, write_evo

from gzlib import paths
from gzlib.config import SurveySpec
from gzlib.data.checks import VOTE_SLACK, Neighbours, Seen, vote_problems
from gzlib.data.curation import curate, make_survey, survey_fingerprint
from gzlib.data.images import Unusable, load_image
from gzlib.data.pack import ImageFile, TableFile
from gzlib.data.schema import load_schema
from gzlib.data.sources.base import Batch, Source
from gzlib.data.sources.registry import open_source
from gzlib.data.survey import assign_split, is_survey, open_survey, open_truth, read_report
from gzlib.errors import UserError
from gzlib.sky import source


@pytest.fixture
def sky(monkeypatch, tmp_path):
    stub = stub_sky()
    monkeypatch.setattr(source, "sky", stub)
    monkeypatch.setattr(paths, "SURVEYS", tmp_path / "surveys")
    return stub


@pytest.fixture(autouse=True)
def surveys(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "SURVEYS", tmp_path / "surveys")


def made(source, out, **options):
    options = {"size": 16, "keep_going": True, "progress": False} | options
    folder = curate(str(source), out=out, **options)
    return folder, json.loads((folder / "survey.json").read_text())


def reasons(report):
    return {e["id_str"]: e["reason"] for e in report["rejected"]["examples"]}


def test_a_sound_set_passes_whole(tmp_path):
    table = gz2_table(30)
    folder, report = made(write_evo(tmp_path / "in", table), tmp_path / "out")
    assert report["counts"]["galaxies"] == 30 and report["rejected"] == {"reasons": {}, "examples": []}
    assert report["counts"]["data_sets"] == {"gz2": 30} and sum(report["counts"]["splits"].values()) == 30
    survey = open_survey(folder)
    assert survey.images.shape == (30, 16, 16, 3) and survey.images.dtype == np.uint8
    np.testing.assert_array_equal(survey.votes, table[load_schema("gz2").label_cols])
    expected, *_ = load_image(table["image"][7]["bytes"], 16)
    np.testing.assert_array_equal(survey.images[7], expected)


def test_the_centre_of_larger_images_is_another_survey(tmp_path):
    folder = write_evo(tmp_path / "in", gz2_table(30))
    whole, half = (
        make_survey(SurveySpec(str(folder), size=16, central_fraction=fraction), progress=False)
        for fraction in (1, 0.5)
    )
    assert "central_fraction" not in json.loads((whole / "survey.json").read_text())["parameters"]
    report = json.loads((half / "survey.json").read_text())
    assert report["parameters"]["central_fraction"] == 0.5
    assert report["fingerprint"] != json.loads((whole / "survey.json").read_text())["fingerprint"]
    assert "central fraction of each side of an image that is kept: 0.5" in report["notes"]
    inner = [
        np.asarray(Image.open(io.BytesIO(image["bytes"])).resize((16, 16), Image.LANCZOS, (12, 12, 36, 36)))
        for image in pq.read_table(folder).to_pandas()["image"]
    ]
    found = open_survey(half)
    by_id = dict(zip(pq.read_table(folder)["id_str"].to_pylist(), inner, strict=True))
    np.testing.assert_array_equal(found.images, [by_id[id_str] for id_str in found.id_str.values])
    with pytest.raises(UserError, match=r"15\.84 px, the centre of 48 px, is smaller than the survey's 16 px"):
        make_survey(SurveySpec(str(folder), size=16, central_fraction=0.33), progress=False)


def test_numbers_of_numpy_are_numbers(sky):
    plain = SurveySpec("sim:gz2:40", size=16, limit=20, match_radius=2.0, central_fraction=0.5)
    kinds = {"size": np.int64, "limit": np.int32, "match_radius": np.float32, "central_fraction": np.float64}
    other = replace(plain, **{name: kind(getattr(plain, name)) for name, kind in kinds.items()})
    assert make_survey(other, progress=False) == make_survey(plain, progress=False)


def test_of_drawn_galaxies_the_centre_is_drawn_as_finely_as_the_survey_is(sky, monkeypatch):
    simulate = sky.simulate

    def with_places(*args, **options):
        made = simulate(*args, **options)
        made.images[:, ..., 0] = np.arange(options["size"])[:, None]
        made.images[:, ..., 1] = np.arange(options["size"])
        return made

    monkeypatch.setattr(sky, "simulate", with_places)
    drawn, whole = (SurveySpec("sim:40", size=size, central_fraction=f) for size, f in ((16, 0.5), (32, 1.0)))
    assert len({survey_fingerprint(spec) for spec in (drawn, whole, SurveySpec("sim:40", size=16))}) == 3
    found, larger = (open_survey(make_survey(spec, progress=False)) for spec in (drawn, whole))
    assert found.attrs["fingerprint"] == survey_fingerprint(drawn)
    np.testing.assert_array_equal(found.images, larger.images[:, 8:24, 8:24])
    np.testing.assert_array_equal(found.votes, larger.votes)


NO_PART = "is no part of an image's side; give a number above 0, at most 1"


@pytest.mark.parametrize("look", [make_survey, survey_fingerprint])
@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        *(("central_fraction", value, NO_PART) for value in (0, -0.5, 1.01, np.nan, np.inf, "half", True, None)),
        *(("size", value, "is not an image size") for value in ("64", 64.5, np.nan, True, None, 7)),
        *(("limit", value, "leaves no galaxies; give a whole number") for value in ("10", 2.5, np.nan, True, 0)),
        *(("match_radius", value, "is not an angle in arcsec") for value in ("2", np.nan, True, -1)),
    ],
)
def test_what_no_survey_can_be_made_with(look, name, value, says):
    with pytest.raises(UserError, match=says):
        look(SurveySpec("sim:40", **{name: value}))


def test_each_kind_of_bad_galaxy_is_rejected_with_its_reason(tmp_path):
    table = gz2_table(20)
    votes = load_schema("gz2").label_cols
    table[votes] = table[votes].astype(float)
    table["ra"], table["dec"] = np.linspace(0, 350, 20), 1.0
    bad = {}

    def spoil(row, column, value, reason):
        table.at[row, column] = value
        bad[f"g{row}"] = reason

    def picture(**options):
        return {"bytes": jpeg(99, **options), "path": None}

    root = "smooth-or-featured-gz2_"
    spoil(1, root + "smooth", -1, "negative votes")
    spoil(2, root + "smooth", 3.5, "fractional votes")
    spoil(3, root + "smooth", np.nan, "missing votes")
    spoil(4, root + "smooth", 1e12, "impossible votes")
    spoil(5, "disk-edge-on-gz2_yes", 200, "more votes than the parent answer")
    spoil(6, "image", {"bytes": jpeg(6)[:300], "path": None}, "unreadable image")
    spoil(7, "image", {"bytes": b"no picture", "path": None}, "unreadable image")
    spoil(8, "image", {"bytes": None, "path": "lost.jpg"}, "missing image")
    spoil(9, "image", picture(side=12), "wrong shape")
    spoil(10, "image", {"bytes": oblong(), "path": None}, "wrong shape")
    spoil(11, "image", {"bytes": seen_through(), "path": None}, "transparent image")
    spoil(12, "image", table["image"][0], "duplicate image")
    spoil(13, "ra", table["ra"][0] + 19 / 3600, "duplicate position")
    spoil(14, "dec", 91.0, "impossible position")
    table.at[15, "ra"] = table["ra"][0] + 21 / 3600  # just outside: stays
    table.at[16, "image"] = picture(mode="L")  # grey becomes three equal bands: stays
    table.at[17, "id_str"] = "g0"
    table.at[18, "id_str"] = None
    folder, report = made(write_evo(tmp_path / "in", table), tmp_path / "out")
    assert reasons(report) == bad | {"g0": "duplicate id", "": "missing id"}
    assert report["counts"]["galaxies"] == 20 - len(bad) - 2 and report["counts"]["rejected"] == len(bad) + 2
    details = {e["id_str"]: e["detail"] for e in report["rejected"]["examples"]}
    assert details["g7"] == "10 bytes in none of the formats PNG, JPEG, WebP, TIFF, GIF, FITS" and details["g6"]
    assert "-1" in details["g1"] and "19.0 arcsec" in details["g13"] and "12 px" in details["g9"]
    survey = open_survey(folder)
    assert set(survey.id_str.values) == {f"g{i}" for i in range(20)} - set(bad) - {"g17", "g18"}
    grey = survey.images[list(survey.id_str.values).index("g16")].values
    assert (grey == grey[..., :1]).all()


def oblong():
    file = io.BytesIO()
    Image.new("RGB", (40, 30)).save(file, "PNG")
    return file.getvalue()


def seen_through():
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 4), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_a_missing_file_is_rejected_not_fatal(tmp_path):
    table = pd.DataFrame({"id_str": ["a", "b"], "file_loc": ["images/a.jpg", "images/b.jpg"], "ring": [1, 0]})
    folder = write_catalogue(tmp_path / "in", table)
    (folder / "images" / "b.jpg").unlink()
    _, report = made(folder, tmp_path / "out")
    assert reasons(report) == {"b": "missing image"} and "b.jpg" in report["rejected"]["examples"][0]["detail"]


def test_what_a_run_rejects_is_told_where_its_survey_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paths, "SURVEYS", tmp_path / "surveys")
    names = [f"g{i}" for i in range(40)]
    table = pd.DataFrame({"id_str": names, "file_loc": [f"images/{name}.jpg" for name in names], "ring": [0, 1] * 20})
    folder = write_catalogue(tmp_path / "in", table)
    (folder / "images" / "g7.jpg").unlink()
    spec = SurveySpec(str(folder), size=32)
    survey_fingerprint(spec)  # as runs do first
    assert f"{folder}: rejected: 1 missing image; all are in {tmp_path / 'surveys'}" in capsys.readouterr().err
    make_survey(spec)
    assert "rejected" not in capsys.readouterr().err


def test_class_labels_must_be_there_and_keep_their_names(tmp_path):
    table = gz2_table(6)[["image", "id_str"]].assign(label=[0, 1, 1, 0, 2, -1], label_name=list("abbcax"))
    folder, report = made(write_evo(tmp_path / "in", table), tmp_path / "out")
    assert reasons(report) == {"g3": "inconsistent label", "g4": "inconsistent label"}
    survey = open_survey(folder)  # -1 is the datasets library's word for "no label"
    np.testing.assert_array_equal(survey.label.values, [0, 1, 1, np.nan])
    assert list(survey.label_name.values) == ["a", "b", "b", "x"]
    assert survey.attrs["schema"] == "" and "votes" not in survey


def test_only_bad_galaxies_is_an_error_and_leaves_nothing(tmp_path):
    table = gz2_table(3)
    table["smooth-or-featured-gz2_smooth"] = -5
    with pytest.raises(UserError, match=r"rejected: negative votes \(3\); the first is 'g0'"):
        made(write_evo(tmp_path / "in", table), tmp_path / "out" / "survey")
    assert list((tmp_path / "out").iterdir()) == []


def test_vote_slack_is_a_limit(tmp_path):
    schema, votes = load_schema("gz2"), gz2_votes(3)
    edge_on = schema["disk-edge-on-gz2"]
    parent = votes[:, schema.label_cols.index(edge_on.asked_after)]
    votes[:, edge_on.columns] = 0
    votes[:, edge_on.columns.start] = parent + np.arange(VOTE_SLACK - 1, VOTE_SLACK + 2)
    children = [q for q in schema.questions if q.asked_after and q.asked_after.startswith("disk-edge-on")]
    for question in [*children, *(schema[n] for n in ("spiral-winding-gz2", "spiral-arm-count-gz2"))]:
        votes[:, question.columns] = 0
    assert list(vote_problems(votes, schema, VOTE_SLACK)) == [2]
    assert list(vote_problems(votes, schema, VOTE_SLACK + 1)) == []


def test_places_near_the_pole_and_at_the_meridian_are_found():
    arcsec = 1 / 3600
    for (ra, dec), (ra2, dec2), same in [
        ((359.9999, 0), (0.0001, 0), True),
        ((0, 89.999), (180, 89.9999), True),
        ((10, 60), (10 + 35 * arcsec, 60), True),  # 17.5 arcsec on the sky
        ((10, 60), (10 + 45 * arcsec, 60), False),
        ((10, -60), (10, -60 + 20.1 * arcsec), False),
    ]:
        seen = Seen()
        add(seen, "a", "x", ra, dec)
        near = Neighbours(seen, np.array([ra2]), np.array([dec2]), np.array([20.0])).of(0)
        assert (seen.duplicate("b", b"2", "x", near) is not None) == same, (ra, dec)
        assert seen.duplicate("b", b"2", "y", near) is None  # another data set may show the same galaxy
        assert Neighbours(seen, np.array([np.nan]), np.array([dec2]), np.array([20.0])).of(0) == []


def add(seen, id_str, data_set, ra, dec, split="train"):
    near = Neighbours(seen, np.array([ra]), np.array([dec]), np.array([20.0]))
    seen.add(id_str, None, data_set, split, near.of(0))
    near.remember(0, data_set, split)


def test_neighbours_match_a_brute_force_search():
    rng = np.random.default_rng(0)
    ra, dec = 100 + rng.uniform(0, 0.05, 200), 40 + rng.uniform(0, 0.05, 200)
    seen, separation = Seen(), lambda i, j: np.hypot((ra[i] - ra[j]) * np.cos(np.radians(40.025)), dec[i] - dec[j])
    for i in range(200):
        add(seen, str(i), str(i), ra[i], dec[i], "test" if i % 2 else "train")
    pairs = [(i, j) for i in range(200) for j in range(i) if separation(i, j) * 3600 <= 20]
    assert len(pairs) > 100 and abs(seen.sky_pairs - len(pairs)) <= 2  # flat-sky separations differ by 1e-3
    assert abs(seen.straddling_pairs - sum((i + j) % 2 for i, j in pairs)) <= 2


def remember(seen, start, stop, size=256):
    """Enter galaxies as curation does, in batches, at places all over the sky."""
    for first in range(start, stop, size):
        rng = np.random.default_rng(first)
        ra, dec = rng.uniform(0, 360, size), np.degrees(np.arcsin(rng.uniform(-1, 1, size)))
        near = Neighbours(seen, ra, dec, np.full(size, 0.1))
        for i in range(size):
            name = f"galaxy {first + i}"
            seen.add(name, name.encode(), "x", "train", near.of(i))
            near.remember(i, "x", "train")


def test_a_galaxy_that_was_accepted_takes_a_hundred_bytes_and_is_still_known():
    seen, held = Seen(), []
    tracemalloc.start()
    try:
        for start, stop in ((0, 8192), (8192, 24576)):
            remember(seen, start, stop)
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert (held[1] - held[0]) / 16384 < 100  # 320 with a set, a dictionary and every place twice
    for i in (0, 4095, 4096, 8191, 20000, 24575):
        name = f"galaxy {i}"
        assert seen.duplicate(name, None, "x", []) == ("duplicate id", "an earlier galaxy has the same id")
        told = f"the same file as galaxy {i} of the survey"
        assert seen.duplicate("other", name.encode(), "x", []) == ("duplicate image", told)
    assert seen.duplicate("other", b"other", "x", []) is None
    assert seen.places.n == 24576 == sum(tree.n for _, tree in seen.places.trees) + len(seen.places.newest) // 3


def test_a_table_is_written_as_it_grows(tmp_path):
    batch = pa.table({"a": np.arange(1000, dtype=np.int32)})
    with TableFile(tmp_path / "a.parquet", batch.schema) as file:
        for _ in range(20):
            file.append(batch)
            assert sum(map(len, file.waiting)) < 4096
    assert pq.read_table(tmp_path / "a.parquet")["a"].to_pylist() == list(range(1000)) * 20


def test_pairs_across_data_sets_are_kept_and_counted(tmp_path):
    first, second = gz2_table(40), gz2_table(40, start=100)
    for table, name in ((first, "gz2"), (second, "other")):
        table["ra"], table["dec"], table["dataset_name"] = np.arange(40.0), 5.0, name
    folder = write_evo(tmp_path / "in", pd.concat([first, second], ignore_index=True))
    _, report = made(folder, tmp_path / "out")
    assert report["counts"]["galaxies"] == 80 and report["sky_pairs"]["between_data_sets"] == 40
    split = {i: assign_split(i, "", "hash") == "test" for i in [*first["id_str"], *second["id_str"]]}
    straddling = sum(split[f"g{i}"] != split[f"g{100 + i}"] for i in range(40))
    assert report["sky_pairs"]["of_which_one_in_test"] == straddling > 0


def test_hash_split_has_its_shares_and_no_galaxy_moves_when_a_survey_grows(tmp_path):
    sides = pd.Series([assign_split(f"id-{i}", "", "hash") for i in range(20_000)]).value_counts(normalize=True)
    assert abs(sides["train"] - 0.7) < 0.015 and abs(sides["val"] - 0.1) < 0.01 and abs(sides["test"] - 0.2) < 0.012
    table = gz2_table(60)
    small, _ = made(write_evo(tmp_path / "a", table.iloc[20:40]), tmp_path / "small")
    large, _ = made(write_evo(tmp_path / "b", table), tmp_path / "large")
    before, after = (dict(zip(s.id_str.values, s.split.values, strict=True)) for s in map(open_survey, (small, large)))
    assert len(before) == 20 and before.items() <= after.items()


def test_a_published_test_set_is_kept(tmp_path):
    folder = write_evo(tmp_path / "in", gz2_table(40))
    write_evo(folder, gz2_table(10, start=200), "test-00000-of-00001.parquet")
    survey = open_survey(made(folder, tmp_path / "out", split="source")[0])
    published = np.isin(survey.id_str.values, [f"g{200 + i}" for i in range(10)])
    np.testing.assert_array_equal(survey.split.values == "test", published)
    assert {"train", "val"} == set(survey.split.values[~published])
    plain = pd.DataFrame({"id_str": ["a"], "file_loc": ["images/a.jpg"], "ring": [1]})
    source = write_catalogue(tmp_path / "plain", plain)
    with pytest.raises(UserError, match="no published split"):
        made(source, tmp_path / "x", split="source")


def test_the_same_input_is_curated_once_and_changed_input_again(tmp_path):
    folder = write_evo(tmp_path / "in", gz2_table(5))
    survey, report = made(folder, tmp_path / "out")
    written = (survey / "survey.json").stat().st_mtime_ns
    assert made(folder, tmp_path / "out")[1] == report
    assert (survey / "survey.json").stat().st_mtime_ns == written
    write_evo(folder, gz2_table(6))
    _, grown = made(folder, tmp_path / "out")
    assert grown["counts"]["galaxies"] == 6 and grown["fingerprint"] != report["fingerprint"]
    assert sorted(p.name for p in tmp_path.iterdir() if "out" in p.name) == ["out"]


@pytest.mark.parametrize("out", [None, "survey"])
def test_a_source_named_by_another_path_is_the_same_survey(tmp_path, monkeypatch, out):
    """From the root, from the working directory, through a link; made once, and no other survey in the way."""
    monkeypatch.setattr("gzlib.paths.SURVEYS", tmp_path / "surveys")
    source = write_evo(tmp_path / "in", gz2_table(12))
    place = {} if out is None else {"out": tmp_path / out}
    folder = curate(str(source), size=16, progress=False, **place)
    written = (folder / "survey.json").stat().st_mtime_ns
    (tmp_path / "link").symlink_to(source)
    monkeypatch.chdir(tmp_path)
    for name in ("in", "./in", "../" + tmp_path.name + "/in", source, *(["link"] if out else [])):
        assert curate(name, size=16, progress=False, **place) == folder
    assert (folder / "survey.json").stat().st_mtime_ns == written
    other = write_evo(tmp_path / "other", gz2_table(12, 20))
    if out:
        with pytest.raises(UserError, match="holds another survey"):
            curate(str(other), size=16, progress=False, **place)


def test_fingerprint_is_of_the_content_not_of_the_place_or_time(tmp_path):
    table = gz2_table(6)
    prints = {}
    for name, content in {
        "a": table,
        "again": table,
        "votes": table.assign(**{"smooth-or-featured-gz2_smooth": table["smooth-or-featured-gz2_smooth"] + 1}),
        "picture": table.assign(image=[{"bytes": jpeg(777), "path": None}, *table["image"][1:]]),
    }.items():
        prints[name] = made(write_evo(tmp_path / name, content), tmp_path / f"{name}-out")[1]["fingerprint"]
    prints["size"] = made(tmp_path / "a", tmp_path / "b-out", size=24)[1]["fingerprint"]
    assert prints.pop("again") == prints["a"]
    assert len(set(prints.values())) == len(prints)


def test_other_folders_are_never_overwritten(tmp_path):
    folder = write_evo(tmp_path / "in", gz2_table(3))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="holds something else"):
        made(folder, tmp_path / "mine")
    made(folder, tmp_path / "out")
    with pytest.raises(UserError, match="holds another survey"):
        made(folder, tmp_path / "out", size=24)
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_an_interrupted_curation_leaves_no_survey_and_is_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr("gzlib.data.sources.readers.PARQUET_ROWS", 4)
    table = gz2_table(20)
    table.at[2, "image"] = {"bytes": b"none", "path": None}
    folder, decoded = write_evo(tmp_path / "in", table), []

    def counted(image, *frame, stop=10**9):
        decoded.append(image)
        if len(decoded) == stop:
            raise KeyboardInterrupt
        return load_image(image, *frame)

    whole, expected = made(folder, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("gzlib.data.images.load_image", lambda *a: counted(*a, stop=11))
        with pytest.raises(KeyboardInterrupt):
            made(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="not a curated survey"):
        open_survey(tmp_path / ".out.partial")
    decoded.clear()
    with monkeypatch.context() as patch:
        patch.setattr("gzlib.data.images.load_image", counted)
        resumed, report = made(folder, tmp_path / "out")
    assert len(decoded) == 20 - 8  # two whole batches were done
    assert report["fingerprint"] == expected["fingerprint"] and report["sha256"] == expected["sha256"]
    assert reasons(report) == {"g2": "unreadable image"}
    np.testing.assert_array_equal(open_survey(resumed).images, open_survey(whole).images)
    assert (resumed / "rejected.csv").read_text() == (whole / "rejected.csv").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"in", "whole", "out"}


def test_what_is_left_of_another_input_or_damaged_is_not_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr("gzlib.data.sources.readers.PARQUET_ROWS", 4)
    folder = write_evo(tmp_path / "in", gz2_table(12))
    expected = made(folder, tmp_path / "whole")[1]["sha256"]

    def interrupt():
        calls = []

        def stopping(image, *frame):
            calls.append(1)
            if len(calls) > 9:
                raise KeyboardInterrupt
            return load_image(image, *frame)

        with monkeypatch.context() as patch:
            patch.setattr("gzlib.data.images.load_image", stopping)
            with pytest.raises(KeyboardInterrupt):
                made(folder, tmp_path / "out")

    interrupt()
    partial = tmp_path / ".out.partial" / "images.npy"
    content = bytearray(partial.read_bytes())
    content[200] ^= 1  # a pixel of the first batch
    partial.write_bytes(bytes(content))
    assert made(folder, tmp_path / "out")[1]["sha256"] == expected
    shutil.rmtree(tmp_path / "out")
    interrupt()
    (tmp_path / ".out.partial" / "state.json").write_bytes(b"\xff\xfe")  # as good as none
    assert made(folder, tmp_path / "out")[1]["sha256"] == expected
    interrupted = write_evo(folder, gz2_table(12, start=50))
    interrupt()
    write_evo(folder, gz2_table(12))
    assert made(interrupted, tmp_path / "out")[1]["sha256"] == expected


@pytest.mark.slow
def test_simulated_fingerprint_needs_no_rendering_and_tells_surveys_apart(sky):
    specs = [
        SurveySpec("sim:30", size=16),
        SurveySpec("sim:31", size=16),
        SurveySpec("sim:30", size=24),
        SurveySpec("sim:30", size=16, seed=1),
        SurveySpec("sim:gz2:30", size=16),
        SurveySpec("sim:30", size=16, limit=10),
    ]
    prints = [survey_fingerprint(spec) for spec in specs]
    assert len(set(prints)) == len(specs) and sky.rendered == []
    folder = make_survey(specs[0], progress=False)
    rendered = list(sky.rendered)
    assert open_survey(folder).attrs["fingerprint"] == prints[0] and sum(n for _, n in rendered) == 30
    assert make_survey(specs[0], progress=False) == folder and sky.rendered == rendered
    assert folder.parent == paths.SURVEYS
    sky.sky_identity = lambda: "another"
    assert survey_fingerprint(specs[0]) != prints[0]
    assert make_survey(specs[0], progress=False) == folder and sky.rendered != rendered


def test_simulated_galaxies_named_twice_enter_once(sky):
    survey = open_survey(make_survey(SurveySpec("sim:gz2:8,sim:gz2:5", size=16), progress=False))
    assert len(set(survey.id_str.values)) == survey.sizes["galaxy"] == 8


@pytest.mark.slow
def test_the_simulated_sky_itself_can_be_curated(tmp_path):
    folder = curate("sim:gz2+dr5:6", out=tmp_path / "campaigns", size=16, progress=False)
    survey, truth = open_survey(folder), open_truth(folder)
    assert survey.sizes["galaxy"] == len(truth) == 6 and survey.attrs["fingerprint"]
    assert (survey.votes.sum("answer") > 0).all() and survey.images.max() > 50
    assert np.isfinite(survey.ra.values).all()
    task = open_survey(curate("sim:galaxy10:4", out=tmp_path / "task", size=16, progress=False))
    assert task.label.dtype == np.int64 and task.attrs["schema"] == "" and "votes" not in task


def test_simulated_campaigns_share_a_limit(sky):
    survey = open_survey(make_survey(SurveySpec("sim:1000", size=16, limit=10), progress=False))
    assert sorted(survey.dataset_name.values) == ["sim-dr5"] * 5 + ["sim-gz2"] * 5


def test_a_curated_survey_is_a_source_as_it_is(tmp_path):
    folder, report = made(write_evo(tmp_path / "in", gz2_table(5)), tmp_path / "out")
    spec = SurveySpec(str(folder))
    assert make_survey(spec, progress=False) == folder and survey_fingerprint(spec) == report["fingerprint"]
    with pytest.raises(UserError, match="curated survey already"):
        curate(str(folder), out=tmp_path / "copy")


def test_a_hub_survey_opens_without_the_hub_once_curated(tmp_path, monkeypatch):
    folder = write_evo(tmp_path / "in", gz2_table(5))
    spec = SurveySpec("hub:mwalmsley/gz2", size=16)
    with monkeypatch.context() as patch:
        patch.setattr("gzlib.data.sources.registry.download", lambda *a: sorted(folder.glob("data/*")))
        made_online = make_survey(spec, progress=False)
    monkeypatch.setattr("gzlib.data.sources.registry.download", lambda *a: pytest.fail("asked the hub"))
    assert make_survey(spec, progress=False) == made_online and len(survey_fingerprint(spec)) == 64


def test_a_source_opened_with_own_labels_gets_its_own_survey(tmp_path):
    table = pd.DataFrame({"id_str": ["a"], "file_loc": ["images/a.jpg"], "ring": [1], "note": ["x"]})
    folder = write_catalogue(tmp_path / "in", table)
    plain = curate(str(folder), size=16, progress=False)
    chosen = curate(open_source(str(folder), labels=["note"]), size=16, progress=False)
    assert chosen != plain and "note" in open_survey(chosen) and "ring" in open_survey(plain)


def test_real_spec_curates_for_its_fingerprint(tmp_path):
    spec = SurveySpec(str(write_evo(tmp_path / "in", gz2_table(5))), size=16)
    assert make_survey(spec, progress=False).parent == paths.SURVEYS
    assert survey_fingerprint(spec) == open_survey(make_survey(spec, progress=False)).attrs["fingerprint"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": 0}, "size=0"),
        ({"size": 2.5}, "size=2.5"),
        ({"limit": 0}, "limit=0"),
        ({"split": "random"}, "'random'"),
        ({"schema": "candels"}, "has schema 'gz2\\+dr5', not 'candels'"),
    ],
)
def test_impossible_parameters_are_refused(sky, options, says):
    with pytest.raises(UserError, match=says):
        curate("sim:9", **({"size": 16} | options))


def test_pictures_grow_into_one_readable_array(tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 3), dtype=np.uint8)
    with ImageFile(tmp_path / "images.npy", 8) as file:
        for start, stop in pairwise([0, 1, 120, 300]):
            file.append(rows[start:stop])
    np.testing.assert_array_equal(np.load(tmp_path / "images.npy"), rows)


def test_resizing_keeps_the_light_and_does_not_alias():
    y, x = np.mgrid[:256, :256]
    galaxy = 200 * np.exp(-((x - 127.5) ** 2 + (y - 127.5) ** 2) / (2 * 30**2)) + 20
    stripes = 128 + 100 * (-1.0) ** x  # the finest pattern there is: it must become grey, not a coarser pattern
    for pixels, kind, tolerance in ((galaxy, "PNG", 2.0), (galaxy, "JPEG", 2.0), (stripes, "PNG", 1.0)):
        file = io.BytesIO()
        Image.fromarray(np.repeat(pixels[..., None], 3, 2).round().astype(np.uint8)).save(file, kind, quality=98)
        small, *_ = load_image(file.getvalue(), 32)
        expected = pixels.reshape(32, 8, 32, 8).mean((1, 3))
        assert np.abs(small[..., 0].astype(float) - expected)[2:-2, 2:-2].max() <= tolerance
        np.testing.assert_allclose(small.mean(), pixels.mean(), rtol=0.01)


def test_pictures_are_never_enlarged_or_cropped():
    for size, usable in ((48, True), (49, False)):
        if usable:
            assert load_image(jpeg(1, side=48), size)[0].shape == (size, size, 3)
        else:
            with pytest.raises(Unusable, match="smaller"):
                load_image(jpeg(1, side=48), size)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_survey(tmp_path):
    base, schema = jpeg(0, side=32, kind="PNG"), load_schema("gz2")

    def source(n):
        def batches(size, limit):
            for start in range(0, n, 250):
                ids = [f"s{i}" for i in range(start, start + 250)]
                catalog = pd.DataFrame({"id_str": ids, "dataset_name": "s", "ra": np.nan, "dec": np.nan})
                pictures = [base + i.encode() for i in ids]  # what follows a PNG's end is ignored
                votes = np.zeros((250, len(schema.label_cols)), np.int32)
                yield Batch(catalog.assign(published_split=""), votes, pd.DataFrame(index=range(250)), pictures)

        return Source(f"s{n}", f"s{n}", "gz2", {}, n, batches)

    peaks = {}
    for n in (1000, 1000, 9000):  # the first one also fills caches
        tracemalloc.start()
        curate(source(n), out=tmp_path / f"out-{n}-{len(peaks)}", size=32, progress=False)
        peaks[n] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    pictures = 8000 * 32 * 32 * 3
    assert peaks[9000] - peaks[1000] < pictures / 5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gz2", "decals_rings"])
def test_real_sets_pass_whole(tmp_path, name):
    folder = Path(paths.ROOT, REAL, name)
    if not folder.exists():
        pytest.skip(f"real data set '{name}' is not on this machine")
    survey, report = made(folder, tmp_path / "out", size=64)
    assert report["counts"]["rejected"] == 0
    images = open_survey(survey).images
    assert 5 < float(images.mean()) < 100 and float(images.std()) > 10
    shutil.rmtree(survey)


@pytest.mark.slow
def test_a_survey_that_holds_a_file_of_somebody_s_is_not_replaced(tmp_path):
    folder = curate("sim:gz2:20", out=tmp_path / "survey", size=16, progress=False)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds 'notes.txt', which was not made"):
        curate("sim:gz2:20", out=folder, size=16, progress=False, force=True)
    assert (folder / "notes.txt").read_text() == "mine" and is_survey(folder)
    (folder / "notes.txt").unlink()
    assert curate("sim:gz2:20", out=folder, size=16, progress=False, force=True) == folder


def test_percentages_in_place_of_counts_are_told(tmp_path):
    tree = tmp_path / "tree.json"
    tree.write_text('[{"question": "bar", "answers": ["_yes", "_no"], "asked_after": null}]')
    images = {"id_str": list("abcd"), "file_loc": [f"images/{i}.jpg" for i in range(4)]}
    for name, total in (("percent", [100] * 4), ("counts", [100, 100, 99, 100])):
        table = pd.DataFrame(images | {"bar_yes": [10, 20, 30, 40]})
        source = write_catalogue(tmp_path / name, table.assign(bar_no=total - table["bar_yes"]))
        notes = read_report(curate(str(source), out=tmp_path / f"{name}-survey", size=16, schema=str(tree)))["notes"]
        assert any("every galaxy has 100 votes" in note for note in notes) == (name == "percent")
