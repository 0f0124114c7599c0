import json

import numpy as np
import pytest

from gzlib.data.schema import available_schemas, load_schema, schema_from_records
from gzlib.errors import UserError

ROOT_QUESTION = {"question": "shape-x", "answers": ["_round", "_flat"], "asked_after": None}


@pytest.mark.parametrize(("name", "questions", "answers"), [("paper", 88, 281), ("public", 63, 194), ("gz2", 10, 30)])
def test_unions_have_the_published_sizes(name, questions, answers):
    schema = load_schema(name)
    assert (len(schema.questions), len(schema.label_cols)) == (questions, answers)
    assert len(set(schema.label_cols)) == answers


@pytest.mark.parametrize("name", available_schemas())
def test_every_shipped_schema_is_sound(name):
    schema = load_schema(name)
    for i, question in enumerate(schema.questions):
        assert schema.label_cols[question.columns] == question.label_cols
        assert (schema.question_of_answer[question.columns] == i).all()
        parent = schema.parent_answer[i]
        assert question.asked_after == (None if parent < 0 else schema.label_cols[parent])


def test_joined_campaigns_keep_their_order():
    assert load_schema("dr5+gz2").campaigns == ["dr5", "gz2"]


def test_tree_shows_each_question_under_its_parent():
    lines = load_schema("gz2").tree().splitlines()
    assert lines[0].startswith("smooth-or-featured-gz2 (smooth, featured-or-disk, artifact)")
    assert "        after yes: spiral-arm-count-gz2 (1, 2, 3, 4, more-than-4, cant-tell)" in lines
    assert len(lines) == 10


def test_question_totals_add_the_answers():
    schema = load_schema("gz2")
    votes = np.arange(60).reshape(2, 30)
    totals = schema.question_totals(votes)
    assert totals[1, 1] == votes[1, schema.questions[1].columns].sum()
    assert totals.shape == (2, 10)


@pytest.mark.parametrize(
    ("records", "sentence"),
    [
        ([ROOT_QUESTION, ROOT_QUESTION], "question 'shape-x' is listed twice"),
        ([{**ROOT_QUESTION, "answers": ["_a", "_a"]}], "answer 'shape-x_a' is listed twice"),
        ([{**ROOT_QUESTION, "answers": ["_a"]}], "'shape-x' needs at least two answers"),
        ([{**ROOT_QUESTION, "asked_after": "bar-x_no"}], "asked after 'bar-x_no'"),
        ([{**ROOT_QUESTION, "asked_after": "shape-x_round"}], "circle"),
        (
            [
                {"question": "a", "answers": ["_y", "_n"], "asked_after": "b_y"},
                {"question": "b", "answers": ["_y", "_n"], "asked_after": "a_y"},
            ],
            "circle",
        ),
        ([{"question": "a", "answers": ["_y", "_n"]}], "'asked_after'"),
    ],
)
def test_malformed_schemas_are_refused_by_name(records, sentence):
    with pytest.raises(UserError, match="mine") as caught:
        schema_from_records("mine", records)
    assert sentence in str(caught.value)


def test_a_tree_is_parsed_once_and_again_where_its_file_changes(tmp_path):
    assert load_schema("gz2+dr5") is load_schema("gz2+dr5") is not load_schema("dr5+gz2")
    file, record = tmp_path / "own.json", {"question": "bar", "answers": ["_yes", "_no"], "asked_after": None}
    file.write_text(json.dumps([record]))
    first = load_schema(file)
    file.write_text(json.dumps([record | {"answers": ["_a", "_b"]}]))
    assert load_schema(file).label_cols == ["bar_a", "bar_b"] and first.label_cols == ["bar_yes", "bar_no"]


def test_own_schema_file(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps([ROOT_QUESTION]))
    assert load_schema(file).label_cols == ["shape-x_round", "shape-x_flat"]
    for damaged in ("[", "[" * 100_000, ""):
        file.write_text(damaged)
        with pytest.raises(UserError, match="not JSON"):
            load_schema(file)
    for no_tree, says in (
        ({"bar": ["yes", "no"]}, "must be a list of questions"),
        ([{"question": "bar"}], "asked_after"),
    ):
        file.write_text(json.dumps(no_tree))
        with pytest.raises(UserError, match=f"^Schema 'mine' .*{says}"):  # and not that it is no JSON
            load_schema(file)


@pytest.mark.parametrize(
    "name", ["gz3", "unions", "gz2+", "none.json", "", "../schemas/gz2", "x" * 3000, "gz2+../schemas/dr5"]
)
def test_unknown_schema(name):
    with pytest.raises(UserError, match=r"[Uu]nknown schema|no schema file"):
        load_schema(name)
