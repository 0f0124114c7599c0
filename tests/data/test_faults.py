"""Whatever people point this at: right values, one clear sentence, or a galaxy rejected with its reason.

Each case carries a mark ``fault(kind, outcome)``; chapter 93 shows how many there are of each.
"""

import datetime
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fault_inputs import HOSTILE, PARQUET, READERS, TEXT, Fault, N, encoded, rows, saved, vote_rows, write_table
from PIL import Image
from survey_inputs import gz2_votes, jpeg

from gzlib.cli import main
from gzlib.data import curate, open_survey, read_report, verify_survey
from gzlib.data.images import Unusable, load_image
from gzlib.data.schema import load_schema
from gzlib.errors import UserError

IDS = [f"J{i:04d}" for i in range(N)]
GZ2 = load_schema("gz2").label_cols
ROOT = "smooth-or-featured-gz2_"
ODD = ["00042", "0042", "1e5", "100000.0", "NA", "null", "None", "J1+2", "é", "a b", "012345678901234567890", "nan"]
LONG = [str(587722984440136800 + i) for i in range(N)]
NOT_UTF8 = [b"\xff\xfe" + bytes([i]) for i in range(N)]


def ids(*expected):
    return lambda survey: list(survey.id_str.values) == list(*expected)


def label(name, expected):
    def holds(survey):
        values = survey[name].values
        if values.dtype.kind == "U":
            return values.tolist() == list(expected)
        np.testing.assert_array_equal(values, np.array(expected, values.dtype))
        return True

    return holds


def with_label(**columns):
    return lambda: rows(label=None) | columns


def votes_are(expected):
    def holds(survey):
        np.testing.assert_array_equal(survey.votes.values, expected)
        return True

    return holds


def blank_where_unasked():
    """Every second galaxy is smooth, and what is asked about disks is blank there."""
    votes = gz2_votes(N).astype(object)
    for question in load_schema("gz2").questions:
        if question.asked_after is not None and question.name != "how-rounded-gz2":
            votes[::2, question.columns] = None
    return votes


def filled(votes):
    return np.where(votes == None, 0, votes).astype(int)  # noqa: E711 an array is compared


def spoilt(row, column, value, votes=None):
    votes = gz2_votes(N).astype(object) if votes is None else votes
    votes[row, GZ2.index(column)] = value
    return votes


def half(first, second):
    return [first(i) if i < N // 2 else second(i) for i in range(N)]


SHARED = [n for n in READERS if n not in ("shards", "embedded", "hub", "split files")]  # one file
SEVERAL = ("shards", "embedded", "hub")
FAULTS = [
    # ids
    Fault("ids: text and long whole numbers", "odd-ids", lambda: rows(id_str=ODD), holds=ids(ODD)),
    Fault("ids: text and long whole numbers", "long-ids-as-text", lambda: rows(id_str=LONG), holds=ids(LONG)),
    Fault(
        "ids: text and long whole numbers",
        "long-ids-as-integers",
        lambda: rows(id_str=pa.array([int(i) for i in LONG])),
        holds=ids(LONG),
    ),
    Fault(
        "ids: text and long whole numbers",
        "unsigned-ids",
        lambda: rows(id_str=pa.array([2**64 - 1 - i for i in range(N)], pa.uint64())),
        holds=ids([str(2**64 - 1 - i) for i in range(N)]),
    ),
    Fault(
        "ids: text and long whole numbers",
        "decimal-ids",
        lambda: rows(id_str=pa.array(list(range(N)), pa.decimal128(20, 0))),
        refused="id_str",
        readers=PARQUET,
    ),
    Fault(
        "ids: text and long whole numbers",
        "bytes-as-ids",
        lambda: rows(id_str=pa.array([i.encode() for i in IDS])),
        holds=ids(IDS),
        readers=PARQUET,
    ),
    Fault(
        "ids: text and long whole numbers",
        "categories-as-ids",
        lambda: rows(id_str=pa.array(IDS).dictionary_encode()),
        holds=ids(IDS),
        readers=PARQUET,
    ),
    Fault(
        "ids: text and long whole numbers",
        "large-text-ids",
        lambda: rows(id_str=pa.array(IDS, pa.large_string())),
        holds=ids(IDS),
        readers=PARQUET,
    ),
    Fault(
        "ids: text and long whole numbers",
        "ids-with-blanks-around",
        lambda: rows(id_str=[f"  {i} " for i in IDS]),
        holds=ids(IDS),
    ),
    Fault(
        "ids: digits lost",
        "ids-by-excel",
        lambda: rows(id_str=[*IDS[:-1], "5.88E+17"]),
        refused=r"5\.88E\+17.*lost its digits",
    ),
    Fault(
        "ids: digits lost",
        "ids-by-pandas",
        lambda: rows(id_str=[f"{5.877229844401368e17 + 1e4 * i}" for i in range(N)]),
        refused="lost its digits",
    ),
    Fault(
        "ids: digits lost",
        "ids-as-fractions",
        lambda: rows(id_str=pa.array([1000.0 + i for i in range(N)])),
        refused="fractional numbers as id_str",
    ),
    Fault(
        "ids: digits lost",
        "ids-as-fractions-after-a-blank",
        lambda: rows(id_str=[None, *(f"{i}.0" for i in range(N - 1))]),
        refused="fractional numbers as id_str",
    ),
    Fault(
        "ids: digits lost", "bytes-that-are-no-text", lambda: rows(id_str=NOT_UTF8), refused="id_str", readers=PARQUET
    ),
    Fault(
        "ids: digits lost",
        "lists-as-ids",
        lambda: rows(id_str=[[i] for i in range(N)]),
        refused="list.*as id_str",
        readers=PARQUET,
    ),
    Fault("ids: missing or twice", "an-id-missing", lambda: rows(id_str=[*IDS[:-1], None]), rejected={"missing id": 1}),
    Fault("ids: missing or twice", "an-id-blank", lambda: rows(id_str=[*IDS[:-1], "  "]), rejected={"missing id": 1}),
    Fault(
        "ids: missing or twice", "an-id-twice", lambda: rows(id_str=[*IDS[:-1], IDS[0]]), rejected={"duplicate id": 1}
    ),
    Fault("ids: missing or twice", "no-ids", lambda: rows(id_str=[None] * N), refused="without a single id"),
    Fault("ids: missing or twice", "no-id-column", lambda: rows(id_str=None, name=IDS), refused="no column 'id_str'"),
    # an index of pandas, names of columns
    *(
        Fault(
            "an index of pandas",
            f"index-{name or 'without-name'}",
            lambda name=name: rows(**{name: list(range(100, 100 + N))}),
            holds=lambda survey, name=name: "label" in survey and (name or "_") not in survey,
        )
        for name in ("__index_level_0__", "Unnamed: 0", "")
    ),
    Fault(
        "names of columns",
        "blanks-around-names",
        lambda: rows(label=None) | {" label ": [i % 2 for i in range(N)]},
        holds=label("label", [i % 2 for i in range(N)]),
    ),
    Fault(
        "names of columns",
        "roles-in-capitals",
        lambda: rows(RA=[10.0 + i for i in range(N)], Dec=[5.0] * N),
        holds=lambda survey: survey.ra.values.tolist() == [10.0 + i for i in range(N)] and "RA" not in survey,
    ),
    # positions
    *(
        Fault(
            "positions: placeholders",
            f"position-{name}",
            lambda pair=pair: rows(ra=[pair[0]] * N, dec=[pair[1]] * N),
            holds=lambda survey: survey.sizes["galaxy"] == N,
        )
        for name, pair in {
            "zero": (0.0, 0.0),
            "-99": (-99.0, -99.0),
            "-999": (-999.0, -999.0),
            "null": (None, None),
            "nan": (float("nan"), float("nan")),
            "half": (10.0, None),
        }.items()
    ),
    Fault(
        "positions: placeholders",
        "position-NA-among-numbers",
        lambda: rows(ra=["NA", *(str(10.0 + i) for i in range(N - 1))], dec=["5"] * N),
        holds=lambda survey: np.isnan(survey.ra.values[0]) and survey.ra.values[1] == 10.0,
    ),
    Fault(
        "positions: no numbers",
        "sexagesimal",
        lambda: rows(ra=[f"10:24:{i:02d}" for i in range(N)], dec=[5.0] * N),
        refused=r"'ra'.*degrees.*|'ra'.*10:24:00",
    ),
    Fault(
        "positions: no numbers",
        "a-word-among-degrees",
        lambda: rows(ra=[10.0] * N, dec=[*(str(i) for i in range(N - 1)), "north"]),
        refused="'dec'.*'north' in row",
        readers=SHARED,
    ),
    Fault(
        "positions: not on the sky",
        "dec-of-91",
        lambda: rows(ra=[10.0 + i for i in range(N)], dec=[91.0] + [5.0] * (N - 1)),
        rejected={"impossible position": 1},
    ),
    Fault(
        "positions: neighbours",
        "same-position-twice",
        lambda: rows(ra=[10.0, 10.0 + 0.5 / 3600, *(20.0 + i for i in range(N - 2))], dec=[0.1] * N),
        rejected={"duplicate position": 1},
    ),
    Fault(
        "positions: neighbours",
        "two-arcsec-apart",
        lambda: rows(ra=[10.0, 10.0 + 2 / 3600, *(20.0 + i for i in range(N - 2))], dec=[0.1] * N),
        holds=lambda survey: survey.sizes["galaxy"] == N,
    ),
    Fault(
        "positions: neighbours",
        "two-arcsec-apart-with-that-radius",
        lambda: rows(ra=[10.0, 10.0 + 2 / 3600, *(20.0 + i for i in range(N - 2))], dec=[0.1] * N),
        rejected={"duplicate position": 1},
        options={"match_radius": 3},
    ),
    Fault(
        "positions: neighbours",
        "fifteen-arcsec-apart-in-sdss",
        lambda: vote_rows(ra=[10.0, 10.0 + 15 / 3600, *(20.0 + i for i in range(N - 2))], dec=[0.1] * N),
        rejected={"duplicate position": 1},
    ),
    Fault(
        "positions: neighbours",
        "a-deep-field",
        lambda: rows(ra=[53.0 + 0.3 * i / 3600 for i in range(N)], dec=[-27.8] * N),
        holds=lambda survey: survey.sizes["galaxy"] == N,
    ),
    # splits
    Fault(
        "splits: known words",
        "split-words",
        lambda: rows(split=["train", "Test ", "VAL", " validation", "TRAIN", "testing", *["train"] * (N - 6)]),
        holds=lambda survey: survey.split.values[[1, 2, 3, 5]].tolist() == ["test", "val", "val", "test"],
        options={"split": "source"},
    ),
    Fault(
        "splits: known words",
        "split-as-categories",
        lambda: rows(split=pa.array(["test"] * 3 + ["train"] * (N - 3)).dictionary_encode()),
        holds=lambda survey: (survey.split.values == "test").tolist() == [True] * 3 + [False] * (N - 3),
        options={"split": "source"},
        readers=PARQUET,
    ),
    *(
        Fault(
            "splits: unknown words",
            f"split-{name}",
            lambda values=values: rows(split=values),
            refused="split",
            options={"split": "source"},
        )
        for name, values in {
            "holdout": ["train"] * (N - 1) + ["holdout"],
            "whole-numbers": [i % 2 for i in range(N)],
            "fractions": [0.5] * N,
            "true-and-false": [i % 2 == 0 for i in range(N)],
            "a-list": [["train"]] * N,
        }.items()
    ),
    Fault(
        "splits: unknown words",
        "split-blank",
        lambda: rows(split=["train"] * (N - 1) + [None]),
        refused="blank",
        options={"split": "source"},
        readers=(*TEXT, "parquet"),
    ),
    Fault(
        "splits: unknown words",
        "unknown-split-not-used",
        lambda: rows(split=["holdout"] * N),
        holds=lambda survey: survey.sizes["galaxy"] == N and "split" not in survey.data_vars,
    ),
    # labels
    Fault(
        "labels: classes",
        "classes-as-fractions",
        lambda: rows(label=[float(i % 2) for i in range(N)]),
        holds=label("label", [i % 2 for i in range(N)]),
    ),
    Fault(
        "labels: classes",
        "classes-as-booleans",
        lambda: rows(label=[i % 2 == 0 for i in range(N)]),
        holds=label("label", [int(i % 2 == 0) for i in range(N)]),
    ),
    Fault(
        "labels: classes",
        "classes-as-text",
        lambda: with_label(morph=["E", "S", "Irr"] * (N // 3))(),
        holds=label("morph", ["E", "S", "Irr"] * (N // 3)),
    ),
    Fault(
        "labels: classes",
        "classes-as-bytes",
        lambda: with_label(morph=[b"E", b"S", b"Irr"] * (N // 3))(),
        holds=label("morph", ["E", "S", "Irr"] * (N // 3)),
        readers=PARQUET,
    ),
    Fault(
        "labels: classes",
        "classes-beside-numbers",
        lambda: with_label(morph=["E", "S"] * (N // 2), petro_r=[0.5 * i for i in range(N)])(),
        holds=lambda survey: {"morph", "petro_r"} <= set(survey.data_vars),
    ),
    Fault(
        "labels: words that may mean nothing",
        "classes-called-None",
        lambda: rows(label_name=["None", "Ring"] * (N // 2)),
        holds=label("label_name", ["None", "Ring"] * (N // 2)),
    ),
    Fault(
        "labels: words that may mean nothing",
        "classes-called-NA-and-null",
        lambda: with_label(kind=["NA", "null", "nan"] * (N // 3))(),
        holds=label("kind", ["NA", "null", "nan"] * (N // 3)),
    ),
    Fault(
        "labels: words that may mean nothing",
        "NA-among-numbers",
        lambda: rows(ring=["NA", *(str(i % 2) for i in range(N - 1))]),
        holds=label("ring", [np.nan, *(i % 2 for i in range(N - 1))]),
        readers=(*TEXT, "split files"),
    ),
    Fault(
        "labels: blanks",
        "partly-labelled",
        lambda: rows(ring=[None, *(i % 2 for i in range(N - 1))]),
        holds=label("ring", [np.nan, *(i % 2 for i in range(N - 1))]),
    ),
    Fault(
        "labels: blanks",
        "text-partly-labelled",
        lambda: rows(morph=[None, *["E", "S"] * 5, "E"]),
        holds=label("morph", ["", *["E", "S"] * 5, "E"]),
    ),
    Fault(
        "labels: blanks",
        "another-label-mostly-blank",
        lambda: rows(n_arms=[2, 3] + [None] * (N - 2)),
        holds=lambda survey: np.isfinite(survey.label).all() and np.isnan(survey.n_arms.values[2:]).all(),
    ),
    Fault(
        "labels: blanks",
        "one-name-blank",
        lambda: rows(label_name=["", *("round" if i % 2 == 0 else "flat" for i in range(1, N))]),
        holds=label("label_name", ["", *("round" if i % 2 == 0 else "flat" for i in range(1, N))]),
    ),
    Fault(
        "labels: blanks",
        "a-column-all-blank",
        lambda: rows(comment=[None] * N),
        holds=lambda survey: "comment" not in survey,
    ),
    Fault(
        "labels: blanks",
        "minus-one-is-unlabelled",
        lambda: rows(label=[-1, *(i % 2 for i in range(N - 1))]),
        holds=label("label", [np.nan, *(i % 2 for i in range(N - 1))]),
    ),
    Fault(
        "labels: numbers",
        "magnitudes",
        lambda: rows(mag=[15.25 + i for i in range(N)]),
        holds=label("mag", [15.25 + i for i in range(N)]),
    ),
    Fault(
        "labels: numbers",
        "numbers-of-32-bits",
        lambda: rows(z=pa.array([0.125 * i for i in range(N)], pa.float32())),
        holds=label("z", [0.125 * i for i in range(N)]),
    ),
    Fault(
        "labels: numbers",
        "decimal-numbers",
        lambda: rows(z=pa.array([i for i in range(N)], pa.decimal128(9, 3))),
        holds=label("z", list(range(N))),
    ),
    Fault(
        "labels: numbers",
        "decimal-commas",
        lambda: rows(mag=[f"{i},5" for i in range(N)]),
        holds=label("mag", [i + 0.5 for i in range(N)]),
        readers=("semicolon", "tsv"),
    ),
    Fault(
        "labels: numbers",
        "decimal-commas-between-commas",
        lambda: with_label(mag=[f"{i},5" for i in range(N)])(),
        refused="mag .*commas",
        readers=("csv", "parquet", "embedded"),
    ),
    Fault(
        "labels: numbers",
        "large-whole-numbers",
        lambda: rows(objid=[2**62 + i for i in range(N)]),
        holds=label("objid", [2**62 + i for i in range(N)]),
    ),
    Fault(
        "labels: no labels",
        "beyond-64-bits",
        lambda: rows(label=pa.array([2**63 + i for i in range(N)], pa.uint64())),
        refused="'label'.*beyond 64 bits",
    ),
    Fault("labels: no labels", "lists", lambda: rows(label=[[1]] * N), refused="'label'.*list", readers=PARQUET),
    Fault(
        "labels: no labels",
        "lists-beside-a-label",
        lambda: rows(spectrum=[[1.0, 2.0]] * N),
        holds=lambda survey: "spectrum" not in survey,
        readers=PARQUET,
    ),
    Fault(
        "labels: no labels",
        "dates-beside-a-label",
        lambda: rows(taken=[datetime.date(2020, 1, 1 + i) for i in range(N)]),
        holds=lambda survey: "taken" not in survey,
    ),
    Fault(
        "labels: no labels", "only-comments", with_label(comment=[f"text {i}" for i in range(N)]), refused="no labels"
    ),
    Fault(
        "labels: files that disagree",
        "classes-then-fractions",
        lambda: {
            **rows(label=None),
            "ring": half(lambda i: i % 2, lambda i: 0.05 * i),
        },
        holds=label("ring", half(lambda i: i % 2, lambda i: 0.05 * i)),
        readers=(*TEXT, "parquet"),
    ),
    Fault(
        "labels: files that disagree",
        "classes-in-one-file-fractions-in-another",
        lambda: {**rows(label=None), "ring": [str(v) for v in half(lambda i: i % 2, lambda i: 0.05 * i)]},
        refused="disagree about column 'ring'",
        readers=("split files",),
    ),
    Fault(
        "labels: files that disagree",
        "text-in-one-file-numbers-in-another",
        lambda: {**rows(label=None), "ring": half(lambda i: "yes", lambda i: "1")},
        refused="disagree about column 'ring'",
        readers=("split files",),
    ),
    Fault(
        "labels: names that disagree",
        "a-class-of-two-names",
        lambda: rows(label_name=["round", "flat", "ring", *["flat", "round"] * 4, "flat"]),
        rejected={"inconsistent label": 1},
    ),
    # votes
    Fault(
        "votes: questions left blank",
        "unasked-questions-blank",
        lambda: vote_rows(blank_where_unasked()),
        holds=votes_are(filled(blank_where_unasked())),
    ),
    Fault(
        "votes: questions left blank",
        "no-votes-at-all",
        lambda: vote_rows(np.vstack([np.full((1, 30), None, object), gz2_votes(N)[1:].astype(object)])),
        holds=lambda survey: survey.sizes["galaxy"] == N and survey.votes.values[0].sum() == 0,
    ),
    Fault(
        "votes: questions left blank",
        "a-question-partly-blank",
        lambda: vote_rows(spoilt(3, ROOT + "smooth", None)),
        rejected={"missing votes": 1},
    ),
    Fault(
        "votes: rounding",
        "fraction-times-total",
        lambda: vote_rows(gz2_votes(N) * (1 + 2e-16)),
        holds=votes_are(gz2_votes(N)),
    ),
    Fault(
        "votes: rounding",
        "fraction-times-total-in-32-bits",
        lambda: vote_rows((gz2_votes(N) * (1 + 3e-7)).astype(np.float32).astype(float)),
        holds=votes_are(gz2_votes(N)),
    ),
    *(
        Fault(
            "votes: impossible",
            f"votes-{name}",
            lambda value=value: vote_rows(spoilt(3, ROOT + "smooth", value)),
            rejected={reason: 1},
        )
        for name, value, reason in (
            ("fractional", 3.5, "fractional votes"),
            ("negative", -1.0, "negative votes"),
            ("-99", -99.0, "negative votes"),
            ("enormous", 1e12, "impossible votes"),
            ("infinite", float("inf"), "impossible votes"),
        )
    ),
    Fault(
        "votes: impossible",
        "more-than-asked",
        lambda: vote_rows(spoilt(3, "disk-edge-on-gz2_yes", 500.0)),
        rejected={"more votes than the parent answer": 1},
    ),
    Fault(
        "votes: impossible",
        "a-word-among-votes",
        lambda: vote_rows(spoilt(3, ROOT + "smooth", "many", gz2_votes(N).astype(str).astype(object))),
        refused="smooth.*many",
        readers=SHARED,
    ),
    Fault(
        "votes: impossible",
        "fractions-instead-of-counts",
        lambda: vote_rows(gz2_votes(N) / 41),
        refused="fractional votes.*must be counts",
        options={"keep_going": False},
    ),
    Fault(
        "votes: somebody's own tree",
        "ring-and-bar",
        lambda: rows(label=None, ring_yes=[3] * N, ring_no=[4] * N, bar_yes=list(range(N)), bar_no=[1] * N),
        refused="ring.*bar_yes.*--schema",
    ),
    Fault(
        "votes: somebody's own tree",
        "rings-alone",
        lambda: rows(label=None, ring_yes=list(range(N)), ring_no=[4] * N),
        holds=lambda survey: survey.attrs["schema"] == "rings",
    ),
]


@pytest.fixture(autouse=True)
def own_folders(own_store):
    return own_store


def opened(source, out, **options):
    options = {"size": 16, "keep_going": True, "progress": False} | options
    return curate(str(source), out=out, **options)


def one_sentence(error) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 1200, text
    return text


@pytest.fixture
def hub(monkeypatch):
    """What is downloaded from the hub lies in a folder of the test's."""

    def downloads(folder):
        monkeypatch.setattr("gzlib.data.sources.registry.download", lambda *a: sorted((folder / "data").glob("*")))

    return downloads


@pytest.mark.parametrize(("fault", "reader"), [case for fault in FAULTS for case in fault.cases()])
def test_a_table_with_a_fault(tmp_path, hub, fault, reader):
    source = write_table(tmp_path / "in", reader, fault.columns())
    if reader == "hub":
        hub(source)
        source = "hub:owner/name"
    if fault.refused:
        with pytest.raises(UserError, match=fault.refused) as error:
            opened(source, tmp_path / "out", **fault.options)
        one_sentence(error)
        assert not (tmp_path / "out").exists()
        return
    folder = opened(source, tmp_path / "out", **fault.options)
    report, survey = read_report(folder), open_survey(folder)
    assert report["rejected"]["reasons"] == fault.rejected
    assert survey.sizes["galaxy"] == N - sum(fault.rejected.values())
    assert (folder / "rejected.csv").exists() == bool(fault.rejected)
    if fault.rejected:
        assert len((folder / "rejected.csv").read_text().splitlines()) == 1 + sum(fault.rejected.values())
    if fault.holds is not None:
        if reader == "split files":  # sorted by name, so that the test galaxies stand first
            survey = survey.isel(galaxy=np.argsort(np.arange(survey.sizes["galaxy"]) < N // 2, kind="stable"))
        assert fault.holds(survey)


# Images: what is in one file.
def grey_to(mode):
    """An opaque image with known pixels in that mode, and its RGB."""
    pixels = np.random.default_rng(3).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    grey = pixels[..., 0]
    if mode == "RGBA":
        return Image.fromarray(np.dstack([pixels, np.full((24, 24), 255, np.uint8)])), pixels
    if mode == "LA":
        return Image.fromarray(np.dstack([grey, np.full((24, 24), 255, np.uint8)])), np.dstack([grey] * 3)
    if mode == "L":
        return Image.fromarray(grey), np.dstack([grey] * 3)
    if mode == "1":
        return Image.fromarray(grey > 127), np.dstack([np.where(grey > 127, 255, 0)] * 3)
    if mode == "P":
        image = Image.fromarray(grey // 4 * 4).convert("P")
        return image, np.asarray(image.convert("RGB"))
    if mode == "I;16":
        deep = np.random.default_rng(4).integers(0, 65536, (24, 24), dtype=np.uint16)
        return Image.fromarray(deep), np.dstack([np.rint(deep / 257)] * 3)
    return Image.fromarray(pixels), pixels


GOOD = [
    *(("PNG", mode) for mode in ("RGB", "RGBA", "L", "LA", "1", "P", "I;16")),
    *(("TIFF", mode) for mode in ("RGB", "RGBA", "L", "LA", "1", "P", "I;16")),
    *(("WEBP", mode) for mode in ("RGB", "RGBA")),
    *(("GIF", mode) for mode in ("L", "P")),
]


@pytest.mark.fault("images: known formats", "read")
@pytest.mark.parametrize(("kind", "mode"), GOOD)
def test_a_lossless_image_keeps_its_values(kind, mode):
    image, expected = grey_to(mode)
    loaded = load_image(saved(image, kind, **({"lossless": True} if kind == "WEBP" else {})), 24)
    np.testing.assert_array_equal(loaded.pixels, expected)
    assert loaded.conversion == ("16" if mode == "I;16" else "")


@pytest.mark.fault("images: known formats", "read")
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_keeps_its_values_nearly(mode):
    y, x = np.mgrid[:24, :24] * 8
    image = Image.fromarray(np.dstack([y, x, x // 2 + y // 2]).astype(np.uint8)).convert(mode)
    expected = np.asarray(image.convert("RGB")).astype(float)
    assert np.abs(load_image(saved(image, "JPEG", quality=98), 24).pixels - expected).max() < 12


def fits_of(values, **header):
    fits = pytest.importorskip("astropy.io.fits", reason="the extra `fits` is not installed")
    import io

    hdu, file = fits.PrimaryHDU(values), io.BytesIO()
    hdu.header.update(header)
    hdu.writeto(file)
    return file.getvalue()


@pytest.mark.fault("images: FITS", "read")
@pytest.mark.parametrize("kind", ["uint8", "int16", "int32", "float32", "float64"])
def test_a_fits_image_is_stretched_and_stands_upright(kind):
    y, x = np.mgrid[:24, :24]
    values = (100 + 3000 * np.exp(-((x - 12) ** 2 + (y - 4) ** 2) / 8)).astype(float)  # near row 0, which is below
    if kind == "uint8":
        values = values / 4000 * 255
    loaded = load_image(fits_of(values.astype(kind)), 24)
    rows, columns = np.unravel_index(loaded.pixels[..., 0].astype(int).argmax(), (24, 24))
    assert loaded.conversion == "FITS" and abs(rows - 19) <= 1 and abs(columns - 12) <= 1
    np.testing.assert_array_equal(loaded.pixels[..., 0], loaded.pixels[..., 2])
    assert loaded.pixels.max() > 190 and loaded.pixels.min() < 30
    if kind == "uint8":
        np.testing.assert_array_equal(loaded.pixels[::-1, :, 0], values.astype(np.uint8))


@pytest.mark.fault("images: FITS", "read")
def test_a_fits_cube_gives_colours_and_nan_is_dark():
    y, x = np.mgrid[:24, :24].astype(np.float32)
    cube = np.stack([y, x, y + x])
    cube[:, 0, 0] = np.nan
    as_it_is, reversed_bands = load_image(fits_of(cube), 24).pixels, load_image(fits_of(cube, BANDS="grz"), 24).pixels
    np.testing.assert_array_equal(as_it_is, reversed_bands[..., ::-1])
    assert (as_it_is[-1, 0] == 0).all() and as_it_is[0, 0, 0] > as_it_is[0, 0, 1]


@pytest.mark.fault("images: FITS", "galaxies rejected")
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros((24, 24), np.float32), "blank image"),
        (np.full((24, 24), np.nan, np.float32), "blank image"),
        (np.full((24, 24), 7, np.int16), "blank image"),
        (np.ones((5, 24, 24), np.float32), "wrong shape"),
        (np.ones(24, np.float32), "unreadable image"),
        (np.random.default_rng(0).random((24, 30)).astype(np.float32), "wrong shape"),
    ],
    ids=["zeros", "nan", "constant", "five-planes", "a-spectrum", "oblong"],
)
def test_a_fits_image_that_shows_nothing_is_rejected(values, reason):
    with pytest.raises(Unusable) as unusable:
        load_image(fits_of(values), 24)
    assert unusable.value.reason == reason


def half_transparent():
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 4), dtype=np.uint8)
    return Image.fromarray(pixels)


def with_transparent_colour():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 8, (24, 24), dtype=np.uint8)).convert("P")
    image.info["transparency"] = int(np.asarray(image)[0, 0])
    return image


one_spot = np.zeros((64, 64, 3), np.uint8)
one_spot[5, 5] = 9
BAD = {
    "black": (lambda: saved(Image.new("RGB", (24, 24)), "PNG"), "blank image"),
    "black-jpeg": (lambda: saved(Image.new("RGB", (24, 24)), "JPEG"), "blank image"),
    "white": (lambda: saved(Image.new("L", (24, 24), 255), "PNG"), "blank image"),
    "one-colour": (lambda: saved(Image.new("RGB", (24, 24), (20, 40, 200)), "PNG"), "blank image"),
    "opaque-black": (lambda: saved(Image.new("RGBA", (24, 24), (0, 0, 0, 255)), "PNG"), "blank image"),
    "one-spot": (lambda: saved(Image.fromarray(one_spot), "PNG"), "blank image"),
    "dark-16-bit": (lambda: saved(Image.fromarray(np.full((24, 24), 90, np.uint16)), "PNG"), "blank image"),
    "transparent": (lambda: saved(half_transparent(), "PNG"), "transparent image"),
    "transparent-tiff": (lambda: saved(half_transparent(), "TIFF"), "transparent image"),
    "transparent-colour": (lambda: saved(with_transparent_colour(), "GIF", transparency=3), "transparent image"),
    "cmyk": (lambda: encoded("CMYK", "JPEG"), "wrong shape"),
    "float-tiff": (
        lambda: saved(Image.fromarray(np.random.default_rng(0).random((24, 24), np.float32)), "TIFF"),
        "wrong shape",
    ),
    "whole-32-bit-tiff": (
        lambda: saved(Image.fromarray(np.arange(576, dtype=np.int32).reshape(24, 24)), "TIFF"),
        "wrong shape",
    ),
    "oblong": (lambda: saved(Image.linear_gradient("L").crop((0, 0, 24, 30)), "PNG"), "wrong shape"),
    "small": (lambda: jpeg(0, side=12), "wrong shape"),
}  # fmt: skip


@pytest.mark.fault("images: nothing to see, or no pixels to trust", "galaxies rejected")
@pytest.mark.parametrize("name", BAD)
def test_an_image_that_shows_nothing_is_rejected(name):
    make, reason = BAD[name]
    with pytest.raises(Unusable) as unusable:
        load_image(make(), 24)
    assert unusable.value.reason == reason


@pytest.mark.fault("images: hostile or of no known format", "galaxies rejected")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_image_is_rejected(name):
    with pytest.raises(Unusable) as unusable:
        load_image(HOSTILE[name](), 24)
    assert unusable.value.reason in ("unreadable image", "oversized image") and len(unusable.value.detail) < 300


def test_hostile_images_take_little_memory_and_time(tmp_path):
    """In a process of its own, whose memory nothing else has filled, eight at a time."""
    code = """
import resource, sys, time
sys.path[:0] = sys.argv[1:]
from concurrent.futures import ThreadPoolExecutor
from fault_inputs import HOSTILE
from gzlib.data.images import Unusable, load_image
images = {name: make() for name, make in HOSTILE.items()}
def load(name):
    began = time.monotonic()
    try:
        load_image(images[name], 24)
    except Unusable:
        pass
    return time.monotonic() - began
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with ThreadPoolExecutor(8) as pool:
    longest = max(pool.map(load, list(HOSTILE) * 3))
print(longest, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    done = subprocess.run([sys.executable, "-c", code, tests], capture_output=True, text=True, check=True)
    seconds, megabytes = map(float, done.stdout.split())
    assert seconds < 10 and megabytes < 300


@pytest.mark.fault("images: not square", "read")
@pytest.mark.parametrize("aspect", ["pad", "crop"])
@pytest.mark.parametrize(("height", "width"), [(24, 40), (40, 24)])
def test_an_oblong_image_is_padded_or_cropped_as_asked(tmp_path, aspect, height, width):
    pixels = np.random.default_rng(0).integers(1, 256, (height, width, 3), dtype=np.uint8)
    side = 40 if aspect == "pad" else 24
    loaded = load_image(saved(Image.fromarray(pixels), "PNG"), side, aspect).pixels
    top, left = abs(height - side) // 2, abs(width - side) // 2
    if aspect == "pad":
        expected = np.zeros((side, side, 3), np.uint8)
        expected[top : top + height, left : left + width] = pixels
    else:
        expected = pixels[top : top + side, left : left + side]
    np.testing.assert_array_equal(loaded, expected)
    images = [saved(Image.fromarray(np.roll(pixels, i, axis=0)), "PNG") for i in range(N)]
    plain = opened(write_table(tmp_path / "sound", "csv", rows()), tmp_path / "plain")
    folder = opened(write_table(tmp_path / "in", "embedded", rows(), images), tmp_path / "out", aspect=aspect)
    report = read_report(folder)
    assert report["parameters"]["aspect"] == aspect and any(aspect in note for note in report["notes"])
    assert "aspect" not in read_report(plain)["parameters"]


# What a cell or a folder names as an image.
def catalogue(folder, locations, column="file_loc", **others):
    images = [jpeg(i, side=24) for i in range(len(locations))]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        (folder / "images" / f"{i}.jpg").write_bytes(image)
    n = len(locations)
    columns = {"id_str": [f"J{i}" for i in range(n)], "label": [i % 2 for i in range(n)], column: locations, **others}
    (folder / "catalog.csv").write_text("\n".join(",".join(map(str, row)) for row in table_rows(columns)) + "\n")
    return folder


def table_rows(columns):
    return [columns, *zip(*columns.values(), strict=True)]


def pipe(path):
    os.mkfifo(path)


NO_FILES = {
    "missing": ("images/none.jpg", None, "No such file"),
    "named-pipe": ("pipe.jpg", pipe, "not a regular file"),
    "endless-device": ("zero.jpg", lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    "folder": ("images", None, "not a regular file"),
    "link-to-itself": ("loop.jpg", lambda path: path.symlink_to(path), "loop.jpg"),
    "too-long-a-name": ("x" * 400, None, "too long"),
    "blank": ("", None, "names no image"),
}


@pytest.mark.fault("images: no regular file", "galaxies rejected")
@pytest.mark.parametrize("name", NO_FILES)
@pytest.mark.parametrize("column", ["file_loc", "filename", "image"])
def test_what_is_no_regular_file_is_rejected_at_once(tmp_path, name, column):
    cell, make, said = NO_FILES[name]
    folder = catalogue(tmp_path / "in", [f"images/{i}.jpg" for i in range(5)] + [cell], column)
    if make:
        make(folder / cell)
    report = read_report(opened(folder, tmp_path / "out"))
    assert report["rejected"]["reasons"] == {"missing image": 1}
    detail = report["rejected"]["examples"][0]["detail"]
    assert said in detail or (column == "image" and "outside" in detail)
    if name == "missing":
        assert str(folder.resolve()) in detail  # the whole path that was tried


@pytest.mark.fault("images: no regular file", "galaxies rejected")
@pytest.mark.parametrize("column", ["file_loc", "image"])
def test_a_path_with_a_null_character_is_rejected(tmp_path, column):
    folder = catalogue(tmp_path / "in", [f"images/{i}.jpg" for i in range(6)], column)
    table = pa.table({"id_str": ["a", "b"], "label": [0, 1], column: ["images/0.jpg", "images/1\0.jpg"]})
    (folder / "catalog.csv").unlink()
    pq.write_table(table, folder / "catalog.parquet")
    report = read_report(opened(folder, tmp_path / "out"))
    assert report["rejected"]["reasons"] == {"missing image": 1}


def outside(tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "0.jpg").write_bytes(jpeg(77, side=24))
    return tmp_path / "secret" / "0.jpg"


@pytest.mark.fault("images: a path out of the table's folder", "galaxies rejected")
@pytest.mark.parametrize("way", ["absolute", "upwards", "by-a-link"])
@pytest.mark.parametrize("kind", ["text", "struct", "hub-text", "hub-struct", "hub-file_loc"])
def test_an_image_outside_the_folder_is_not_opened(tmp_path, hub, way, kind):
    secret, folder = outside(tmp_path), tmp_path / "in"
    (folder / "data").mkdir(parents=True)
    (folder / "0.jpg").write_bytes(jpeg(0, side=24))
    (folder / "link").symlink_to(secret.parent)
    path = {"absolute": str(secret), "upwards": "../secret/0.jpg", "by-a-link": "link/0.jpg"}[way]
    cells = ["0.jpg", path]
    if kind.endswith("struct"):
        cells = [{"bytes": None, "path": cell} for cell in cells]
    column = "file_loc" if kind.endswith("file_loc") else "image"
    pq.write_table(pa.table({"id_str": ["a", "b"], "label": [0, 1], column: cells}), folder / "data" / "train.parquet")
    hub(folder)
    report = read_report(opened("hub:owner/name" if kind.startswith("hub") else folder, tmp_path / "out"))
    assert report["rejected"]["reasons"] == {"missing image": 1} and report["counts"]["galaxies"] == 1
    assert "outside the table's folder" in report["rejected"]["examples"][0]["detail"]


@pytest.mark.fault("images: a path out of the table's folder", "read")
def test_a_local_catalogue_may_name_any_file(tmp_path):
    secret = outside(tmp_path)
    folder = catalogue(tmp_path / "in", ["images/0.jpg", str(secret), "../secret/0.jpg", "images/1.jpg"])
    report = read_report(opened(folder, tmp_path / "out"))
    assert report["counts"]["galaxies"] == 3 and report["rejected"]["reasons"] == {"duplicate image": 1}


@pytest.mark.fault("images: named, not embedded", "read")
@pytest.mark.parametrize("kind", ["struct", "text", "subfolder", "filename", "file_name"])
def test_images_beside_the_table_are_found(tmp_path, kind):
    folder = catalogue(tmp_path / "in", [f"images/{i}.jpg" for i in range(4)])
    columns = {"id_str": list("abcd"), "label": [0, 1, 0, 1]}
    if kind == "struct":
        columns["image"] = [{"bytes": None, "path": f"images/{i}.jpg"} for i in range(4)]
    elif kind == "text":
        columns["image"] = [f"images/{i}.jpg" for i in range(4)]
    elif kind == "subfolder":
        columns |= {"subfolder": ["J00"] * 4, "filename": [f"{i}.jpg" for i in range(4)]}
        (folder / "images").rename(folder / "J00")
        (folder / "images").mkdir()
        (folder / "J00").rename(folder / "images" / "J00")
    else:
        columns[kind] = [f"{i}.jpg" for i in range(4)]
    (folder / "catalog.csv").unlink()
    pq.write_table(pa.table(columns), folder / "catalog.parquet")
    survey = open_survey(opened(folder, tmp_path / "out"))
    expected = [load_image(jpeg(i, side=24), 16).pixels for i in range(4)]
    np.testing.assert_array_equal(survey.images, expected)
    assert set(survey.data_vars) == {"images", "label"}


@pytest.mark.fault("images: named, not embedded", "refused in one sentence")
@pytest.mark.parametrize(
    "cells",
    [
        pa.array([np.zeros((4, 4, 3), np.uint8).tolist()] * 2),
        pa.array([1, 2]),
        pa.array([0.5, 1.5]),
        pa.array([{"height": 3}] * 2),
        pa.array([{"bytes": [1, 2]}] * 2),
        pa.array([datetime.date(2020, 1, 1)] * 2),
    ],
    ids=["arrays", "integers", "fractions", "other-fields", "lists-of-bytes", "dates"],
)
def test_a_column_image_that_holds_no_images_is_refused(tmp_path, cells):
    pq.write_table(pa.table({"id_str": ["a", "b"], "label": [0, 1], "image": cells}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match="'image'") as error:
        opened(tmp_path / "x.parquet", tmp_path / "out")
    one_sentence(error)


@pytest.mark.fault("a folder of images without a table", "read")
def test_a_folder_of_images_is_read_for_prediction(tmp_path):
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for i, name in enumerate(["b.jpg", "a.PNG", "sub/a.jpeg", "a.jpg"]):
        kind = "PNG" if name.endswith("PNG") else "JPEG"
        (folder / name).write_bytes(jpeg(i, side=24, kind=kind))
    for name in ("._b.jpg", ".DS_Store", "notes.txt", "sub/._a.jpeg"):
        (folder / name).write_bytes(b"x")
    survey = open_survey(made := opened(folder, tmp_path / "out"))
    assert sorted(survey.id_str.values) == ["a.PNG", "a.jpg", "b", "sub/a"] and list(survey.data_vars) == ["images"]
    notes = " ".join(read_report(made)["notes"])
    assert "no table" in notes and "notes.txt" in notes and "._b" not in notes


@pytest.mark.fault("a folder of images without a table", "refused in one sentence")
@pytest.mark.parametrize("options", [{}, {"schema": "gz2"}])
def test_a_folder_without_images_or_with_votes_asked_for_is_refused(tmp_path, options):
    (tmp_path / "in").mkdir()
    if options:
        (tmp_path / "in" / "0.jpg").write_bytes(jpeg(0))
    with pytest.raises(UserError, match="nor images|no table") as error:
        opened(tmp_path / "in", tmp_path / "out", **options)
    one_sentence(error)


@pytest.mark.fault("files of macOS", "read")
@pytest.mark.parametrize("reader", READERS)
def test_hidden_files_of_macos_are_no_tables(tmp_path, hub, reader):
    if reader == "hub":
        pytest.skip("the hub's files are listed by the hub")
    source = write_table(tmp_path / "in", reader, rows())
    for file in list((tmp_path / "in").rglob("*.*")):
        file.with_name(f"._{file.name}").write_bytes(b"Mac OS X")
    assert read_report(opened(source, tmp_path / "out"))["counts"]["galaxies"] == N


# Files that are no tables.
TABLES = {
    "empty": (b"", "first line"),
    "blank-lines": (b"\n\n\n", "first line"),
    "header-only": (b"id_str,file_loc,label\n", "no labels|no galaxies|without a single id"),
    "utf-16": ("id_str,file_loc,label\na,b,1\n".encode("utf-16"), "UTF-16"),
    "latin-1": ("id_str,file_loc,label\n\xe9,b,1\n".encode("latin-1"), "UTF-8"),
    "latin-1-header": ("id_str,file_loc,\xe9\na,b,1\n".encode("latin-1"), "UTF-8"),
    "too-many-cells": (b"id_str,file_loc,label\na,b,1\na,b,1,2\n", "Expected 3 columns, got 4"),
    "too-few-cells": (b"id_str,file_loc,label\na,b,1\na\n", "Expected 3 columns, got 1"),
    "a-column-twice": (b"id_str,file_loc,label,label\na,b,1,2\n", "two columns 'label'"),
    "a-column-twice-but-for-blanks": (b"id_str,file_loc,label, label\na,b,1,2\n", "two columns 'label'"),
    "a-quote-without-end": (b'id_str,file_loc,label\n"a,b,1\n', "."),
    "bytes": (bytes(range(256)) * 40, "."),
    "html": (b"<!DOCTYPE html>\n<html>\n", "no column 'id_str'"),
    "endless-line": (b"x" * (1 << 21), "no end"),
    "a-zooniverse-export": (
        b"classification_id,user_name,annotations,subject_data,subject_ids\n1,me,[],{},3\n",
        "Zooniverse export",
    ),
    "no-images": (b"id_str,label\na,1\n", "names no images"),
}


@pytest.mark.fault("files that are no tables", "refused in one sentence")
@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_text_that_is_no_table_is_refused(tmp_path, name, suffix):
    content, said = TABLES[name]
    file = tmp_path / f"catalog{suffix}"
    file.write_bytes(content if suffix == ".csv" else content.replace(b",", b"\t"))
    with pytest.raises(UserError, match=said) as error:
        opened(file, tmp_path / "out")
    assert "catalog" in one_sentence(error)


def parquet_bytes():
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id_str": IDS, "label": list(range(N)), "file_loc": IDS}), sink)
    return sink.getvalue().to_pybytes()


def twice_named():
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 3, names=["id_str", "label", "label"]), sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.fault("files that are no tables", "refused in one sentence")
@pytest.mark.parametrize(
    "make",
    [
        lambda: b"",
        lambda: b"PAR1PAR1",
        lambda: parquet_bytes()[:-20],
        lambda: parquet_bytes()[:60] + bytes(60) + parquet_bytes()[120:],
        lambda: b"version https://git-lfs.github.com/spec/v1\n",
        twice_named,
    ],
    ids=["empty", "magic-only", "cut", "zeroed-inside", "lfs-pointer", "a-column-twice"],
)
@pytest.mark.parametrize("place", ["catalog.parquet", "data/train-00000-of-00001.parquet"])
def test_a_parquet_file_that_is_damaged_is_refused(tmp_path, make, place):
    file = tmp_path / "in" / place
    file.parent.mkdir(parents=True)
    file.write_bytes(make())
    with pytest.raises(UserError) as error:
        opened(tmp_path / "in", tmp_path / "out")
    assert file.name in one_sentence(error)


@pytest.mark.fault("files that are no tables", "refused in one sentence")
@pytest.mark.parametrize("name", ["pipe.csv", "zero.csv", "pipe.parquet", "x.xlsx", "x.fits", "x.txt", "none.csv"])
def test_what_is_no_file_of_a_table_is_refused_at_once(tmp_path, name):
    file = tmp_path / name
    if name.startswith("pipe"):
        os.mkfifo(file)
    elif name.startswith("zero"):
        file.symlink_to("/dev/zero")
    elif not name.startswith("none"):
        file.write_bytes(b"x")
    with pytest.raises(UserError, match="regular file|neither a folder|no file or folder") as error:
        opened(file, tmp_path / "out")
    one_sentence(error)


@pytest.mark.fault("tables by Excel and others", "read")
@pytest.mark.parametrize(
    "text",
    [
        "\ufeffid_str,file_loc,label\nJ0,images/0.jpg,0\nJ1,images/1.jpg,1\n",
        "id_str,file_loc,label\r\nJ0,images/0.jpg,0\r\nJ1,images/1.jpg,1\r\n",
        "id_str,file_loc,label\nJ0,images/0.jpg,0\n\nJ1,images/1.jpg,1",
        'id_str,file_loc,label,comment\nJ0,images/0.jpg,0,"a,\nb"\nJ1,images/1.jpg,1,"say ""no"""\n',
        '"id_str";"file_loc";"label"\n"J0";"images/0.jpg";"0"\n"J1";"images/1.jpg";"1"\n',
        "id_str|file_loc|label\nJ0|images/0.jpg|0\nJ1|images/1.jpg|1\n",
        "id_str, file_loc, label\nJ0, images/0.jpg, 0\nJ1, images/1.jpg, 1\n",
        "id_str,file_loc,label,\nJ0,images/0.jpg,0,\nJ1,images/1.jpg,1,\n",
        "ID_STR,FILE_LOC,label\nJ0,images/0.jpg,+0\nJ1,images/1.jpg,+1\n",
    ],
    ids=["bom", "crlf", "blank-line", "quotes", "semicolons", "bars", "blanks", "trailing-comma", "capitals"],
)
def test_a_table_as_other_programs_write_it(tmp_path, text):
    folder = catalogue(tmp_path / "in", ["images/0.jpg", "images/1.jpg"])
    (folder / "catalog.csv").write_bytes(text.encode())
    survey = open_survey(opened(folder, tmp_path / "out"))
    assert survey.id_str.values.tolist() == ["J0", "J1"] and survey.label.values.tolist() == [0, 1]


@pytest.mark.fault("splits: files of their own", "read")
@pytest.mark.parametrize(
    ("names", "published"),
    [
        (("train.parquet", "test.parquet"), ("train", "test")),
        (("Train.parquet", "TEST.parquet"), ("train", "test")),
        (("train-00000-of-00001.parquet", "validation-00000-of-00001.parquet"), ("train", "val")),
        (("train_a.parquet", "val_b.parquet"), ("train", "val")),
        (("train/0.parquet", "test/0.parquet"), ("train", "test")),
        (("data/train.parquet", "data/test.parquet"), ("train", "test")),
        (("data/train/0.parquet", "data/testing/0.parquet"), ("train", "test")),
        (("train.csv", "test.csv"), ("train", "test")),
        (("training.tsv", "testing.tsv"), ("train", "test")),
    ],
)
def test_files_are_splits_by_their_names(tmp_path, names, published):
    catalogue(tmp_path / "in", [f"images/{i}.jpg" for i in range(8)])
    (tmp_path / "in" / "catalog.csv").unlink()
    for part, name in enumerate(names):
        rows_of_it = range(4 * part, 4 * part + 4)
        columns = {"id_str": [f"J{i}" for i in rows_of_it], "label": [i % 2 for i in rows_of_it]}
        columns["file_loc"] = [f"images/{i}.jpg" for i in rows_of_it]
        file = tmp_path / "in" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("parquet"):
            pq.write_table(pa.table(columns), file)
        else:
            separator = "\t" if name.endswith("tsv") else ","
            lines = [
                separator.join(columns),
                *(separator.join(map(str, r)) for r in zip(*columns.values(), strict=True)),
            ]
            file.write_text("\n".join(lines))
    survey = open_survey(opened(tmp_path / "in", tmp_path / "out", split="source"))
    sides = dict(zip(survey.id_str.values, survey.split.values, strict=True))
    for part, side in enumerate(published):
        found = {sides[f"J{i}"] for i in range(4 * part, 4 * part + 4)}
        assert found == {side} if side != "train" else found <= {"train", "val"}


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
    columns = vote_rows(spoilt(3, ROOT + "smooth", 3.5), ra=[10.0 + i for i in range(N)], dec=[1.0] * N)
    columns |= {"ring": [float(i % 2) for i in range(N)], "comment": [f"text {i}" for i in range(N)]}
    source = write_table(tmp_path / "in", "csv", columns)
    command = ["curate", str(source), "--out", str(tmp_path / "out"), "--size", "16", "--keep-going"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    for said in (
        "gz2, recognised by its vote columns",
        "30 of its 30 vote columns",
        "ring: 2 classes (0, 1), written with a decimal point",
        "comment (text that differs in every row)",
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
    import shutil

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
    import shutil

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
    ],
)
def test_a_report_of_another_shape_is_refused(tmp_path, change):
    import json

    survey = opened(catalogue(tmp_path / "in", [f"images/{i}.jpg" for i in range(4)]), tmp_path / "out")
    made = change(json.loads((survey / "survey.json").read_text()))
    (survey / "survey.json").write_text(made if isinstance(made, str) else json.dumps(made))
    with pytest.raises(UserError, match=r"survey\.json") as error:
        open_survey(survey)
    one_sentence(error)


# Somebody's own decision tree.
TREE = '[{"question": "ring", "answers": ["_yes", "_no"], "asked_after": null},' + (
    '{"question": "bar", "answers": ["_yes", "_no"], "asked_after": "ring_no"}]'
)


@pytest.mark.fault("votes: somebody's own tree", "read")
@pytest.mark.parametrize("reader", READERS)
def test_an_own_tree_travels_with_the_survey(tmp_path, hub, reader):
    import shutil

    (tmp_path / "tree.json").write_text(TREE)
    columns = rows(label=None, ring_yes=[3] * N, ring_no=[9] * N, bar_yes=[i % 5 for i in range(N)], bar_no=[1] * N)
    source = write_table(tmp_path / "in", reader, columns)
    if reader == "hub":
        hub(source)
        source = "hub:owner/name"
    folder = opened(source, tmp_path / "out", schema=str(tmp_path / "tree.json"))
    (tmp_path / "tree.json").unlink()
    moved = open_survey(shutil.copytree(folder, tmp_path / "moved"))
    assert moved.answer.values.tolist() == ["ring_yes", "ring_no", "bar_yes", "bar_no"]
    assert load_schema(moved.attrs["schema"])["bar"].asked_after == "ring_no"
    assert list(moved.data_vars) == ["images", "votes"] and sorted(moved.votes.values[:, 2]) == sorted(
        columns["bar_yes"]
    )


@pytest.mark.fault("votes: somebody's own tree", "refused in one sentence")
@pytest.mark.parametrize(
    "text",
    [
        "{",
        "7",
        '{"question": "ring"}',
        "[]",
        '[{"question": "ring"}]',
        '[{"question": 7, "answers": ["_a", "_b"], "asked_after": null}]',
        '[{"question": "ring", "answers": "_yes", "asked_after": null}]',
        '[{"question": "ring", "answers": ["_yes", "_no"], "asked_after": null, "extra": 1}]',
        '[{"question": "ring", "answers": ["_yes", "_no"], "asked_after": "bar_no"}]',
    ],
)
def test_a_tree_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "tree.json").write_text(text)
    source = write_table(tmp_path / "in", "csv", rows(label=None, ring_yes=[3] * N, ring_no=[9] * N))
    with pytest.raises(UserError, match="tree") as error:
        opened(source, tmp_path / "out", schema=str(tmp_path / "tree.json"))
    one_sentence(error)


# The disk.
def test_what_does_not_fit_on_the_disk_is_refused_first(tmp_path):
    with pytest.raises(UserError, match="99,999,999,999,999 galaxies at 16 px takes .* GB free"):
        opened("sim:99999999999999", tmp_path / "out")
    with pytest.raises(UserError, match="makes no sense"):
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
    monkeypatch.setattr("gzlib.data.curation.ANNOUNCED", 20)
    opened("sim:gz2:30", tmp_path / "out", progress=True)
    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith("sim:gz2:30: 30 galaxies at 16 px take") and "about" in first
