"""Which columns of a user's table are ids, positions, images, votes or labels, and their values under that role."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from gzlib.data.schema import Schema, available_schemas, is_one_tree, load_schema
from gzlib.data.sources.base import Batch, Picture
from gzlib.data.sources.cells import (
    MOST_VALUES,
    Facts,
    as_numbers,
    plain_name,
    plain_text,
    true_as_one,
    type_kind,
)
from gzlib.data.survey import SPLIT_WORDS
from gzlib.errors import UserError, some_of

IMAGE_COLUMNS = ("image", "file_loc", "filename", "file_name")  # the first that a table has names its images
ROLES = ("id_str", "dataset_name", "ra", "dec", "split", "subfolder", *IMAGE_COLUMNS)
DERIVED = ("_fraction", "_total-votes")  # Galaxy Zoo Evo computes them from the votes
NAMED_LABELS = ("label_name", "summary")  # text that is a label wherever it stands: class sets, Galaxy Zoo Evo
TEXT_COLUMNS = ("id_str", "dataset_name", "split", "subfolder", *IMAGE_COLUMNS, *NAMED_LABELS)  # text, digits or not
EXACT_IN_FLOAT = 2**53
FEW_VALUES = 10  # of a column of text that are classes in a short table too
RESERVED = ("images", "votes", "galaxy", "answer", "band", "y", "x", "published_split")  # names of the survey's own
PLACEHOLDERS = (-9.0, -99.0, -999.0, -9999.0, -99.99, -999.99)  # stand for "not measured" in many catalogues
OWN_TREE = (
    'describe its tree in a JSON file, such as [{"question": "bar", "answers": ["_yes", "_no"], "asked_after": null}]'
    " for the columns bar_yes and bar_no, and name that file with --schema"
)


@dataclass(frozen=True)
class Columns:
    """A table's columns sorted by their meaning.

    Attributes
    ----------
    schema : str
        Name of the decision tree that the votes follow; "" if there are none.
    labels : dict
        Column to ``int64``, ``float64`` or ``string``.
    notes : tuple of str
        What was recognised, and what was left out, for the survey's report.
    facts : dict
        Column to :class:`~gzlib.data.sources.cells.Facts`.
    """

    schema: str
    labels: dict[str, str]
    notes: tuple[str, ...]
    facts: dict[str, Facts] = field(default_factory=dict)


PERCENTAGE = r"[+-]?\d*[.,]?\d+\s*%"


def detect_schema(columns: list[str]) -> str:
    """Name of the decision tree, or union of trees, whose vote columns a table has; "" if it has none.

    A campaign is recognised when each of its questions is there with all its answers or not at all (Galaxy Zoo Evo
    leaves out single questions, e.g. ``clump-count``; their votes are then zero, as for any question not asked).
    Where two campaigns share column names (``hubble``, ``hubble_v2``) the one with more columns in the table wins.
    """
    present, found = set(columns), list[tuple[str, Schema, int]]()
    for name in available_schemas():
        schema = load_schema(name)
        counts = [len(present.intersection(q.label_cols)) for q in schema.questions]
        whole = all(count in (0, len(q.answers)) for count, q in zip(counts, schema.questions, strict=True))
        n_present = sum(counts)
        if whole and n_present:
            found.append((name, schema, n_present))
    matched = {col for _, schema, _ in found for col in schema.label_cols if col in present}
    exact = [name for name, schema, _ in found if matched == set(schema.label_cols)]
    if exact:
        return exact[0]
    chosen: list[str] = []
    covered: set[str] = set()
    trees = [f for f in found if is_one_tree(f[0])]
    for name, schema, _ in sorted(trees, key=lambda f: (-f[2], len(f[1].label_cols), f[0])):
        if covered.isdisjoint(schema.label_cols):
            chosen.append(name)
            covered.update(schema.label_cols)
    return "+".join(sorted(chosen))


def vote_columns(columns: list[str], schema: str | None) -> tuple[str, set[str]]:
    """The decision tree of a table, named or recognised, and the vote columns of it that the table has."""
    name = detect_schema(columns) if schema is None else str(schema)
    return name, set(load_schema(name).label_cols) & set(columns) if name else set()


def is_derived(column: str, schema: str) -> bool:
    """Whether a column is computed from the votes of a decision tree that the table has."""
    questions = tuple(plain_name(q.name) for q in load_schema(schema).questions) if schema else ()
    return plain_name(column).endswith(tuple(map(plain_name, DERIVED))) and plain_name(column).startswith(questions)


def sort_columns(facts: dict[str, Facts], where: str, *, schema: str | None, labels: list[str] | None) -> Columns:
    """Sort a table's columns into votes, other labels and the rest.

    Parameters
    ----------
    facts : dict
        Column name to what it holds.
    where : str
        The table, for messages.
    schema : str or None
        Decision tree to read; None to recognise it.
    labels : list of str or None
        Label columns beside the votes; None for all numbers, and all text in classes, that are not bookkeeping; an
        empty list for a table that is predicted on, not learned from.

    Raises
    ------
    UserError
        If a column that was asked for is missing or unusable, ids are not exact, positions or votes are not numbers,
        or there is nothing to learn from.
    """
    _refuse_ids(facts["id_str"], where)
    for axis in ("ra", "dec"):
        if axis in facts:
            _refuse_words(facts[axis], axis, where, "degrees as numbers, such as 184.9512")
    name, votes = vote_columns(list(facts), schema)
    if schema and not votes:
        other = detect_schema(list(facts))
        cure = f"it has those of schema '{other}'" if other else f"for votes of another tree, {OWN_TREE}"
        raise UserError(
            f"'{where}' has none of the vote columns of schema '{schema}': {some_of(load_schema(name).label_cols)};"
            f" {cure}."
        )
    _refuse_half_questions(name, list(facts), where)
    if schema is None and labels is None:  # not even recognised: they would be taken as numbers to predict
        _refuse_half_questions(_nearest_tree([col for col in facts if col not in votes]), list(facts), where)
    for column in sorted(votes):
        _refuse_words(facts[column], column, where, "counts of votes, without thousands separators")
    chosen, ignored = {}, []
    for column, found in facts.items():
        if column in votes or column in ROLES:
            continue
        if is_derived(column, name) and column not in (labels or []):
            continue
        unfit = _unfit(column, found, asked=labels is not None and column in labels)
        if labels is not None and column not in labels:
            unfit = "not asked for"
        if unfit is None:
            chosen[column] = _label_kind(column, found)
        else:
            ignored.append(f"{column} ({unfit})")
    missing = [column for column in labels or [] if column not in chosen]
    if missing:
        why = next((f" ({i.split(' (', 1)[1]}" for i in ignored if i.startswith(f"{missing[0]} (")), "")
        raise UserError(f"'{where}' has no usable label column '{missing[0]}'{why}; it has {', '.join(sorted(facts))}.")
    if labels is None and "label" in facts and "label" not in chosen and facts["label"].kind != "empty":
        unfit = _unfit("label", facts["label"], asked=False)
        raise UserError(f"'{where}': column 'label' can't be used: {unfit}; write numbers or the names of classes.")
    if not votes and not chosen and labels != []:
        columns = ", ".join(ignored) or ", ".join(sorted(facts))
        raise UserError(
            f"'{where}' has no labels: neither the vote columns of a known campaign nor a column of numbers or classes;"
            f" its columns are {columns}. For votes of another tree, {OWN_TREE}; for prediction alone, name the folder"
            " of the images."
        )
    if schema is None and name:
        _refuse_half_a_tree(name, votes, chosen, where)
    notes = _notes(where, name, schema, votes, facts, chosen, ignored)
    return Columns(name, chosen, tuple(notes), facts)


def _refuse_ids(found: Facts, where: str) -> None:
    write = "write ids as text or whole numbers, from the table that has them in full (in pandas: dtype=str)"
    if found.exponent is not None:
        row, text = found.exponent
        raise UserError(f"'{where}' has id_str '{text}' in row {row}: a long number that has lost its digits; {write}.")
    numbers = found.kind == "string" and found.any_number and found.all_numbers
    if found.kind == "float64" or (numbers and found.any_point):
        raise UserError(f"'{where}' has fractional numbers as id_str, which lose digits; {write}.")
    if found.boolean:
        raise UserError(f"'{where}' has true and false as id_str; give every image an id of its own.")
    if found.kind == "empty" and not found.n:
        raise UserError(f"'{where}' has a header but no rows: add one row for each galaxy.")
    if found.kind == "empty":
        raise UserError(f"'{where}' has a column 'id_str' without a single id; give every image an id of its own.")
    if found.kind == "other":
        raise UserError(f"'{where}' has {found.type} as id_str; {write}.")


def _refuse_words(found: Facts, column: str, where: str, wanted: str) -> None:
    if not found.boolean and (found.is_number or found.kind == "empty" or found.holds_no_word):
        return
    example = f", e.g. '{found.word[1]}' in row {found.word[0]}" if found.word else ""
    held = "true and false" if found.boolean else f"{found.type}{example}"
    raise UserError(f"Column '{column}' of '{where}' holds {held}; it must hold {wanted}.")


def _unfit(column: str, found: Facts, *, asked: bool) -> str | None:
    """Why a column can't be a label; None if it can."""
    if column in RESERVED:
        return "the survey has something else of this name"
    if found.kind == "empty":
        return "empty"
    if found.kind == "other":
        return found.type  # a list, a struct, a date, or what is wrong with its numbers
    if found.is_number:
        largest = max(-(found.low or 0), found.high or 0)
        too_long = found.kind == "int64" and found.missing and largest > EXACT_IN_FLOAT
        return "blanks among whole numbers of more than 15 digits" if too_long else None
    if column in NAMED_LABELS:
        return None
    shown = [found.word[1], *(found.values or ())] if found.word is not None else []
    if shown and all(re.fullmatch(PERCENTAGE, value) for value in shown):
        return f"numbers with percent signs, e.g. '{shown[0]}'; write them without"
    if found.commas and found.word is not None:
        return f"numbers with commas, e.g. '{found.word[1]}'; write a decimal point and no thousands separators"
    if asked:
        return None
    if found.most_numbers and found.word is not None:
        row, text = found.word
        return f"numbers but for '{text}' in row {row} and maybe more; leave blank what is unknown"
    if found.values is None:
        return f"text with more than {MOST_VALUES} different values"
    if len(found.values) < 2:
        return "the same text everywhere"
    if (
        len(found.values) > max(FEW_VALUES, (found.n - found.missing) / 2)
        or len(found.values) == found.n - found.missing
    ):
        return "text that differs in nearly every row"
    return None


def _label_kind(column: str, found: Facts) -> str:
    if found.kind == "int64" and (found.missing or _marks_unlabelled(column, found)):
        return "float64"  # a whole number cannot be missing
    return found.kind


def _nearest_tree(columns: list[str]) -> str:
    """Of the campaigns with names of their own, such as ``bar-gz2``, the one of most vote columns; "" if of none."""
    trees = [name for name in available_schemas() if all("-" in q.name for q in load_schema(name).questions)]
    found = {name: len(set(load_schema(name).label_cols).intersection(columns)) for name in trees if is_one_tree(name)}
    best = max(found, key=lambda name: found[name])
    return best if found[best] else ""


def _refuse_half_questions(name: str, columns: list[str], where: str) -> None:
    """Refuse questions without some of their answers, or without the one that leads to them.

    Taken as no votes, these would shift the fractions of all others, or leave more votes than volunteers were asked.
    """
    if not name:
        return
    asked = [question for question in load_schema(name).questions if set(question.label_cols) & set(columns)]
    needed = dict.fromkeys(col for q in asked for col in (q.asked_after, *q.label_cols) if col is not None)
    if lacking := [col for col in needed if col not in columns]:
        raise UserError(
            f"'{where}' has {len(needed) - len(lacking)} of the vote columns of schema '{name}', but not those that"
            f" belong with them: {some_of(lacking)}. Add these (0 where no volunteer gave the answer); for votes of"
            f" another tree, {OWN_TREE}; rename columns that hold no votes."
        )


def _refuse_half_a_tree(name: str, votes: set[str], chosen: dict[str, str], where: str) -> None:
    """A campaign without a suffix of its own, such as ``ring``, may be one question of a user's own tree."""
    if any("-" in question.name for question in load_schema(name).questions):
        return
    questions: dict[str, list[str]] = {}
    for column, kind in chosen.items():
        question, underscore, answer = column.rpartition("_")
        if underscore and question and answer and kind == "int64":
            questions.setdefault(question, []).append(column)
    others = [column for columns in questions.values() if len(columns) > 1 for column in columns]
    if others:
        raise UserError(
            f"'{where}' has the votes of schema '{name}' ({', '.join(sorted(votes))}), but {', '.join(others)} look"
            f" like votes of further questions. If they are, {OWN_TREE}; if they are labels, give --schema {name}."
        )


def _notes(
    where: str,
    name: str,
    schema: str | None,
    votes: set[str],
    facts: dict[str, Facts],
    chosen: Iterable[str],
    ignored: list[str],
) -> list[str]:
    notes = []
    if name:
        tree = load_schema(name)
        how = "as asked for" if schema is not None else f"recognised by its vote columns, e.g. {sorted(votes)[0]}"
        notes.append(
            f"decision tree of '{where}': {name}, {how}: {len(votes)} of its {len(tree.label_cols)} vote columns,"
            f" {len(tree.questions)} questions"
        )
        if absent := [col for col in tree.label_cols if col not in facts]:
            notes.append(f"columns that '{where}' lacks, taken as no votes: {', '.join(absent)}")
    else:
        notes.append(f"decision tree of '{where}': none, as it has the vote columns of no known campaign")
    if chosen:
        notes.append(f"labels of '{where}': " + "; ".join(f"{c}: {describe(facts[c], c)}" for c in chosen))
    for column in chosen:
        if alike := _alike(facts[column]):
            notes.append(f"classes of {column} that differ in capitals alone count apart: {', '.join(alike)}")
    notes += _position_notes(where, facts)
    if ignored:
        notes.append(f"columns of '{where}' not used: {', '.join(ignored)}")
    return notes


def _alike(found: Facts) -> list[str]:
    """Classes whose names differ in capitals alone."""
    names = sorted(value for value in found.values or () if isinstance(value, str))
    plain = [name.casefold() for name in names]
    return [name for name, text in zip(names, plain, strict=True) if plain.count(text) > 1]


def _position_notes(where: str, facts: dict[str, Facts]) -> list[str]:
    """Positions without their other half, or that may be in another unit than degrees."""
    there = [axis for axis in ("ra", "dec") if axis in facts]
    if len(there) == 1:
        return [f"{there[0]} of '{where}' is not used: a position needs both ra and dec"]
    if not there or facts["ra"].low is None or facts["dec"].low is None:
        return []
    low, high = facts["ra"].low, facts["ra"].high or 0.0
    in_radians = high <= 2 * np.pi and max(-facts["dec"].low, facts["dec"].high or 0.0) <= np.pi / 2
    for unit, most, so in (("radians", 2 * np.pi, in_radians), ("hours", 24.0, True)):
        if so and low >= 0 and most / 2 < high - low <= most:
            span = f"ra of '{where}' goes from {low:.3g} to {high:.3g} and is read as degrees"
            return [f"{span}: if these are {unit}, turn them into degrees"]
    return []


def holds_classes(values: set[Any] | None, whole: bool) -> bool:
    """Whether a label's distinct values are classes: text, or whole numbers from 0 of which there are few.

    A float of 2^53 or more is always whole, which tells nothing of it.
    """
    if values is None or not values:
        return False
    if all(isinstance(value, str) for value in values):
        return True
    told = not any(isinstance(value, float) and value >= 2.0**53 for value in values)
    return whole and told and min(values) >= 0 and len(values) <= MOST_VALUES


def describe(found: Facts, column: str = "") -> str:
    """A label in words: ``2 classes (0, 1), written as fractions; 20 of 200 galaxies unlabelled``."""
    values, unlabelled = found.values, f"; {found.missing} of {found.n} rows unlabelled" if found.missing else ""
    if _marks_unlabelled(column, found):
        values = values and values - {-1, -1.0}
        unlabelled += "; -1 stands for unlabelled"
    if values and holds_classes(values, found.whole):
        names = sorted(values)
        shown = ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in names[:12])
        written = ", written with a decimal point" if found.kind == "float64" and not found.missing else ""
        said = f"{len(names)} classes ({shown}{', …' if len(names) > 12 else ''}){written}"
    elif found.kind == "string":
        said = f"text with more than {MOST_VALUES} different values"
    else:
        said = f"numbers from {found.low:g} to {found.high:g}"
    return f"{said}{unlabelled}"


def _marks_unlabelled(column: str, found: Facts) -> bool:
    """Whether -1 stands for "no label", as it does in the ``datasets`` library."""
    return column == "label" and found.is_number and found.whole and found.low == -1


def read_splits(array: pa.Array, file_split: str) -> list[str]:
    """``train``, ``val`` or ``test`` of each row; other words stay, for :func:`refuse_unknown_splits`."""
    words = as_words(array)
    return [SPLIT_WORDS.get(word.lower(), word) if word else file_split for word in words]


def refuse_unknown_splits(splits: list[str], where: str) -> None:
    """Refuse whatever is not ``train``, ``val`` or ``test``, where the published split is to be kept.

    Raises
    ------
    UserError
        Naming the first unknown word.
    """
    for split in splits:
        if split not in ("train", "val", "test"):
            what = f"says '{split}', an unknown split" if split else "is blank in some rows"
            raise UserError(
                f"The split of '{where}' {what}; write train, val (or validation) or test, or leave out --split source."
            )


def table_to_batch(
    record: pa.RecordBatch, columns: Columns, pictures: list[Picture], *, dataset_name: str, file_split: str
) -> Batch:
    """One :class:`Batch` from a slice of a user's table, whichever of the expected columns it has."""
    names, facts, n = set(record.schema.names), columns.facts, len(record)
    catalog = pd.DataFrame({"id_str": as_words(record["id_str"])}, dtype=object)
    named = as_words(record["dataset_name"]) if "dataset_name" in names else [""] * n
    catalog["dataset_name"] = pd.Series([word or dataset_name for word in named], dtype=object)
    for axis in ("ra", "dec"):
        catalog[axis] = as_numbers(record[axis], facts[axis]) if axis in names else np.nan
    splits = read_splits(record["split"], file_split) if "split" in names else [file_split] * n
    catalog["published_split"] = pd.Series(splits, dtype=object)
    cols = load_schema(columns.schema).label_cols if columns.schema else []
    votes = np.zeros((n, len(cols)))
    for position, col in enumerate(cols):
        if col in names:
            votes[:, position] = as_numbers(record[col], facts[col])
    labels = {column: _label(record[column], column, kind, facts[column]) for column, kind in columns.labels.items()}
    return Batch(catalog, votes, pd.DataFrame(labels, index=range(n)), pictures)


def _label(array: pa.Array, column: str, kind: str, found: Facts) -> pd.Series | np.ndarray:
    if kind == "string":
        return pd.Series(as_words(array), dtype=object)
    if kind == "int64":
        return as_whole(array)
    values = as_numbers(array, found)
    return np.where(values == -1, np.nan, values) if _marks_unlabelled(column, found) else values


def as_words(array: pa.Array) -> list[str]:
    """Text cells without outer blanks, "" where there is none."""
    words: list[str] = pc.utf8_trim_whitespace(plain_text(array)).fill_null("").to_pylist()
    return words


def as_whole(array: pa.Array) -> np.ndarray:
    """A complete column of whole numbers as int64, every digit kept."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if type_kind(array.type) == "string":
        cells = true_as_one(pc.utf8_trim_whitespace(plain_text(array)))
        array = pc.replace_substring_regex(cells, r"^\+", "")
    numbers: np.ndarray = array.cast(pa.int64()).to_numpy(zero_copy_only=False)
    return numbers


def split_of_name(name: str) -> str:
    """The split that a file's name begins with: ``train.parquet``, ``validation-00000-of-00001.parquet``."""
    word = re.match(r"[a-z]+", name.lower())
    return SPLIT_WORDS.get(word[0], "") if word else ""


def column_kind(values: pd.Series) -> str:
    """``int64``, ``float64`` or ``string``: what a column of a DataFrame can be used as."""
    if pd.api.types.is_integer_dtype(values) or pd.api.types.is_bool_dtype(values):
        return "int64"
    return "float64" if pd.api.types.is_float_dtype(values) else "string"
