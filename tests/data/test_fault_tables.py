"""Tables as people have them: right values, one clear sentence, or a galaxy rejected with its reason.

Each case carries a mark ``fault(kind, outcome)``; chapter 93 shows how many there are of each.
"""

import datetime
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fault_inputs import (
    PARQUET,
    READERS,
    TEXT,
    Fault,
    N,
    catalogue,
    one_sentence,
    opened,
    rows,
    vote_rows,
    write_table,
)
from survey_inputs import gz2_votes, jpeg

from gzlib.data import open_survey, read_report
from gzlib.data.schema import load_schema
from gzlib.data.survey import assign_split
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


def split_of(survey, id_str):
    return survey.split.values[survey.id_str.values.tolist().index(id_str)]


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


def rounded(votes):
    """Counts as published fractions of three decimals give them, times their question's votes."""
    schema = load_schema("gz2")
    totals = schema.question_totals(votes)[:, schema.question_of_answer]
    return np.round(votes / np.maximum(totals, 1), 3) * totals


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
        "padded-bytes-as-ids",
        lambda: rows(id_str=pa.array([i.encode().ljust(9, b"\0") for i in IDS], pa.binary(9))),
        holds=lambda survey: all(split_of(survey, i) == assign_split(i, "", "hash") for i in IDS),
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
    Fault(
        "ids: digits lost", "true-and-false-as-ids", lambda: rows(id_str=[i % 2 == 0 for i in range(N)]), refused="true"
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
            "-1": (-1.0, -1.0),
            "99": (99.0, 99.0),
            "-99.99": (-99.99, -99.99),
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
        "positions: no numbers",
        "true-and-false-as-degrees",
        lambda: rows(ra=[i % 2 == 0 for i in range(N)], dec=[5.0] * N),
        refused="'ra'.*true and false",
    ),
    Fault(
        "positions: no numbers",
        "decimal-commas-with-three-digits",
        lambda: rows(ra=[f"{i + 1},250" for i in range(N)], dec=["5,125"] * N),
        holds=lambda survey: survey.ra.values.tolist() == [i + 1.25 for i in range(N)],
        readers=("semicolon", "tsv"),
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
    *(
        Fault(
            "positions: neighbours",
            f"same-position-{name}",
            lambda ra=ra, dec=dec: rows(ra=[*ra, *(20.0 + i for i in range(N - 2))], dec=[*dec, *[5.0] * (N - 2)]),
            rejected={"duplicate position": 1},
        )
        for name, ra, dec in (
            ("on-both-sides-of-0", (359.9999, 0.0001), (5.0, 5.0)),
            ("at-0-and-360", (0.0, 360.0), (5.0, 5.0)),
            ("below-0", (-0.0001, 359.9999), (5.0, 5.0)),
            ("at-the-pole", (10.0, 250.0), (-90.0, -90.0)),
            ("across-the-pole", (10.0, 190.0), (89.99995, 89.99995)),
        )
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
        "thousands-or-decimal-commas",
        lambda: with_label(mass=[f"{i + 1},250" for i in range(N)])(),
        refused="mass .*commas",
        readers=(*TEXT, *PARQUET),
    ),
    Fault(
        "labels: numbers",
        "thousands",
        lambda: with_label(mass=[f"{i + 1},000,250" for i in range(N)])(),
        refused="mass .*commas",
    ),
    Fault(
        "labels: numbers",
        "decimal-commas-by-another-column",
        lambda: rows(mag=[f"{i + 1},250" for i in range(N)], z=[f"0,{i:02d}5" for i in range(N)]),
        holds=label("mag", [i + 1.25 for i in range(N)]),
        readers=("semicolon", "tsv"),
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
        "labels: numbers and words",
        "a-question-mark-among-classes",
        lambda: with_label(ring=["?", *(str(i % 2) for i in range(N - 1))])(),
        refused=r"numbers but for '\?' in row|disagree about column 'ring'",
        readers=(*TEXT, "parquet", "shards", "embedded", "hub"),
    ),
    Fault(
        "labels: numbers and words",
        "a-number-among-names",
        lambda: rows(kind=["2", *["Sa", "Sb"] * 5, "Sa"]),
        holds=label("kind", ["2", *["Sa", "Sb"] * 5, "Sa"]),
        readers=(*TEXT, "parquet", "shards", "embedded", "hub"),
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
    Fault(
        "votes: rounding",
        "fraction-of-three-decimals-times-total",
        lambda: vote_rows(rounded(gz2_votes(N).astype(float))),
        holds=votes_are(gz2_votes(N)),
    ),
    *(
        Fault(
            "names of columns",
            f"votes-{name}",
            lambda change=change: {
                (change(col) if col in GZ2 else col): values
                for col, values in (vote_rows() | {change(ROOT + "smooth_fraction"): [0.5] * N}).items()
            },
            holds=lambda survey: (
                votes_are(gz2_votes(N))(survey)
                and list(survey.data_vars) == ["images", "votes"]
                and survey.attrs["schema"] == "gz2"
            ),
        )
        for name, change in (
            ("in-capitals", str.upper),
            ("with-underscores", lambda col: col.replace("-", "_")),
        )
    ),
    Fault(
        "votes: impossible",
        "true-and-false",
        lambda: vote_rows() | {ROOT + "smooth": [i % 2 == 0 for i in range(N)]},
        refused="smooth.*true and false",
    ),
    Fault(
        "votes: impossible",
        "votes-with-thousands",
        lambda: vote_rows(spoilt(3, ROOT + "smooth", "1,234", gz2_votes(N).astype(str).astype(object))),
        refused="smooth.*1,234.*thousands",
        readers=SHARED,
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


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("own_store")]


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


# Files that are no tables.
TABLES = {
    "empty": (b"", "first line"),
    "blank-lines": (b"\n\n\n", "first line"),
    "header-only": (b"id_str,file_loc,label\n", "no labels|no galaxies|has a header but no rows"),
    "utf-16": ("id_str,file_loc,label\na,b,1\n".encode("utf-16"), "UTF-16"),
    "latin-1": ("id_str,file_loc,label\n\xe9,b,1\n".encode("latin-1"), "UTF-8"),
    "latin-1-header": ("id_str,file_loc,\xe9\na,b,1\n".encode("latin-1"), "UTF-8"),
    "too-many-cells": (b"id_str,file_loc,label\na,b,1\na,b,1,2\n", "Expected 3 columns, got 4"),
    "too-few-cells": (b"id_str,file_loc,label\na,b,1\na\n", "Expected 3 columns, got 1"),
    "a-column-twice": (b"id_str,file_loc,label,label\na,b,1,2\n", "two columns 'label'"),
    "a-column-twice-but-for-blanks": (b"id_str,file_loc,label, label\na,b,1,2\n", "two columns 'label'"),
    "a-quote-without-end": (b'id_str,file_loc,label\n"a,b,1\n', "."),
    "bytes": (bytes(range(256)) * 40, "."),
    "ecsv": (b"# %ECSV 1.0\n# ---\nid_str,file_loc,label\na,b,1\n", "'# %ECSV 1.0'.*remove the comments"),
    "a-mark-before-the-names": (b"#id_str,file_loc,label\na,b,1\n", "'#id_str'.*'#' before them"),
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


@pytest.mark.fault("labels: sources that disagree", "refused in one sentence")
@pytest.mark.parametrize("reader", ["csv", "embedded", "split files"])
def test_joined_sources_agree_about_a_label(tmp_path, reader):
    text = write_table(tmp_path / "text", reader, rows(label=["E", "S"] * 6))
    numbers = write_table(tmp_path / "numbers", reader, rows(id_str=[f"K{i}" for i in range(N)]))
    with pytest.raises(UserError, match="'label' is text in .*text' and numbers in .*numbers'") as error:
        opened(f"{text},{numbers}", tmp_path / "out")
    one_sentence(error)


HALVES = {
    "label-whole-then-fractions": ("label", [0, 1], [0.25, 0.5], "disagree about column 'label'"),
    "label-fractions-then-whole": ("label", [0.25, 0.5], [0, 1], "disagree about column 'label'"),
    "label-numbers-then-text": ("label", [0, 1], ["E", "S"], "disagree about column 'label'"),
    "label-numbers-then-lists": ("label", [0, 1], [[0], [1]], "disagree about column 'label'"),
    "label-whole-then-whole-with-a-point": ("label", [0, 1], [1.0, None], [0, 1, 1, np.nan]),
    "label-of-other-widths": ("label", pa.array([0, 1], pa.int8()), pa.array([1, 0], pa.int64()), [0, 1, 1, 0]),
    "label-none-in-one-file": ("label", [0, 1], [None, None], [0, 1, np.nan, np.nan]),
    "label-true-then-1": ("label", [False, True], [1, 0], [0, 1, 1, 0]),
    "ids-text-then-numbers": ("id_str", ["7", "8"], [9, 10], ["7", "8", "9", "10"]),
    "ids-text-then-fractions": ("id_str", ["7", "8"], [9.0, 10.0], "id_str"),
    "ids-text-then-bytes": ("id_str", ["a", "b"], [b"c", b"d"], ["a", "b", "c", "d"]),
    "positions-whole-then-fractions": ("ra", [10, 20], [30.5, 40.5], [10, 20, 30.5, 40.5]),
    "positions-of-32-bits": ("ra", pa.array([10.0, 20.0], pa.float32()), [30.5, None], [10, 20, 30.5, np.nan]),
    "positions-then-text": ("ra", [10.5, 20.5], ["10:24:00", "x"], "'ra'"),
    "split-text-then-categories": ("split", ["train", "test"], pa.array(["test", "train"]).dictionary_encode(), None),
    "split-text-then-numbers": ("split", ["train", "test"], [0, 1], "split"),
    "a-column-in-one-file": ("extra", [1, 2], None, "differ in column 'extra'"),
    "images-then-numbers": ("image", None, [1, 2], "'image'"),
    "images-then-lists": ("image", None, [[1], [2]], "'image'"),
}


def halves():
    for name, (*_, expected) in HALVES.items():
        outcome = "refused in one sentence" if isinstance(expected, str) else "read"
        yield pytest.param(name, marks=pytest.mark.fault("files of one table that differ in type", outcome))


@pytest.mark.parametrize("name", list(halves()))
@pytest.mark.parametrize("layout", ["embedded", "catalogue", "hub"])
def test_files_of_one_table_agree_or_are_refused(tmp_path, hub, name, layout):
    column, first, second, expected = HALVES[name]
    if column == "image" and layout == "catalogue":
        pytest.skip("a catalogue embeds no images")
    folder = tmp_path / "in"
    (folder / "data").mkdir(parents=True)
    for part, values in enumerate((first, second)):
        images = [jpeg(2 * part + i, side=24) for i in range(2)]
        columns = {"id_str": [f"J{part}{i}" for i in range(2)], "label": [0, 1], "ra": [1.0 + part, 5.0 + part]}
        columns |= {"dec": [0.5, 0.5], "split": ["train", "test"]}
        if layout == "catalogue":
            columns["file_loc"] = [f"{part}{i}.jpg" for i in range(2)]
            for i, image in enumerate(images):
                (folder / f"{part}{i}.jpg").write_bytes(image)
        else:
            columns["image"] = [{"bytes": image, "path": None} for image in images]
        if values is not None:
            columns[column] = values
        pq.write_table(pa.table(columns), folder / "data" / f"train-0000{part}-of-00002.parquet")
    hub(folder)
    source, options = "hub:owner/name" if layout == "hub" else folder, {"split": "source"}
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected) as error:
            opened(source, tmp_path / "out", **options)
        assert "train-0000" in one_sentence(error) or column in ("image", "split", "ra", "id_str")
        return
    survey = open_survey(opened(source, tmp_path / "out", **options))
    if expected is None:
        assert survey.split.values.tolist().count("test") == 2
    else:
        np.testing.assert_array_equal(survey[column].values, expected)


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


# Somebody's own decision tree.
TREE = '[{"question": "ring", "answers": ["_yes", "_no"], "asked_after": null},' + (
    '{"question": "bar", "answers": ["_yes", "_no"], "asked_after": "ring_no"}]'
)


@pytest.mark.fault("votes: somebody's own tree", "read")
@pytest.mark.parametrize("reader", READERS)
def test_an_own_tree_travels_with_the_survey(tmp_path, hub, reader):
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


def notes_of(tmp_path, **columns):
    source = write_table(tmp_path / "in", "csv", rows(**columns))
    return " ".join(read_report(opened(source, tmp_path / "out", keep_going=True))["notes"])


def test_positions_in_another_unit_are_asked_about(tmp_path):
    wide = np.linspace(0, 1, N)
    assert "hours, turn them" in notes_of(tmp_path / "a", ra=(23.9 * wide).tolist(), dec=(60 * wide - 30).tolist())
    assert "radians, turn them" in notes_of(tmp_path / "b", ra=(6.2 * wide).tolist(), dec=(3 * wide - 1.5).tolist())
    assert "turn them" not in notes_of(tmp_path / "c", ra=(359 * wide).tolist(), dec=(60 * wide - 30).tolist())
    assert "turn them" not in notes_of(tmp_path / "d", ra=(150 + wide).tolist(), dec=(2 + wide).tolist())
    assert "a position needs both ra and dec" in notes_of(tmp_path / "e", ra=(359 * wide).tolist())


def test_degrees_may_stand_in_the_header(tmp_path):
    columns = {"RA [deg]": [15.5 * i for i in range(N)], "Dec (deg)": [float(i) for i in range(N)]}
    survey = open_survey(opened(write_table(tmp_path / "in", "csv", rows(**columns)), tmp_path / "out"))
    np.testing.assert_array_equal(survey.ra.values, columns["RA [deg]"])
    assert "RA [deg]" not in survey


def test_votes_of_an_own_tree_are_found_however_they_are_spelled(tmp_path):
    schema = tmp_path / "tree.json"
    schema.write_text('[{"question": "bar", "answers": ["_yes", "_no"], "asked_after": null}]')
    columns = {"Bar yes": list(range(N)), "BAR.NO": [1] * N}
    source = write_table(tmp_path / "in", "csv", rows(label=None, **columns))
    survey = open_survey(opened(source, tmp_path / "out", schema=str(schema), keep_going=True))
    np.testing.assert_array_equal(survey.votes.values[:, 0], range(N))


def test_percent_signs_and_capitals_make_no_classes_in_silence(tmp_path):
    share = [f"{10 * (i % 3)}%" for i in range(N)]
    assert "share (numbers with percent signs, e.g. '0%'" in notes_of(tmp_path / "a", share=share)
    shape = ["Spiral", "spiral", "smooth"] * (N // 3)
    assert "classes of shape that differ in capitals alone count apart: Spiral, spiral" in notes_of(
        tmp_path / "b", shape=shape
    )


@pytest.mark.parametrize("reader", TEXT)
def test_a_header_alone_is_told_as_such(tmp_path, reader):
    source = write_table(tmp_path / "in", reader, {"id_str": [], "file_loc": [], "label": []})
    with pytest.raises(UserError, match="has a header but no rows"):
        opened(source, tmp_path / "out")
