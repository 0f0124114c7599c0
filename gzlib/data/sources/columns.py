"""Which columns of somebody's table are votes, which are other labels, and which are neither."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from gzlib.data.schema import available_schemas, is_one_tree, load_schema
from gzlib.data.sources.base import Batch
from gzlib.errors import UserError

BOOKKEEPING = ("image", "id_str", "file_loc", "dataset_name", "ra", "dec", "split")
DERIVED = ("_fraction", "_total-votes")  # Galaxy Zoo Evo computes them from the votes
NAMED_LABELS = ("label_name", "summary")  # text that is a label wherever it stands: class sets, Galaxy Zoo Evo
RESERVED = ("images", "votes", "galaxy", "answer", "band", "y", "x", "published_split")  # names of the survey's own


@dataclass(frozen=True)
class Columns:
    """A table's columns sorted by their meaning; ``labels`` maps a column to ``int64``, ``float64`` or ``string``."""

    schema: str
    labels: dict[str, str]
    notes: tuple[str, ...]


def detect_schema(columns: list[str]) -> str:
    """Name of the decision tree, or union of trees, whose vote columns a table has; "" if it has none.

    A campaign is recognised when each of its questions is there with all its answers or not at all (Galaxy Zoo Evo
    leaves out single questions, e.g. ``clump-count``; their votes are then zero, as for any question not asked).
    Where two campaigns share column names (``hubble``, ``hubble_v2``) the one with more columns in the table wins.
    """
    present, found = set(columns), []
    for name in available_schemas():
        schema = load_schema(name)
        counts = [sum(col in present for col in q.label_cols) for q in schema.questions]
        whole = all(count in (0, len(q.answers)) for count, q in zip(counts, schema.questions, strict=True))
        if whole and sum(counts):
            found.append((name, schema, sum(counts)))
    matched = {col for _, schema, _ in found for col in schema.label_cols if col in present}
    exact = [name for name, schema, _ in found if matched == set(schema.label_cols)]
    if exact:
        return exact[0]
    chosen, covered = [], set()
    trees = [f for f in found if is_one_tree(f[0])]
    for name, schema, _ in sorted(trees, key=lambda f: (-f[2], len(f[1].label_cols), f[0])):
        if covered.isdisjoint(schema.label_cols):
            chosen.append(name)
            covered.update(schema.label_cols)
    return "+".join(sorted(chosen))


def sort_columns(kinds: dict[str, str], where: str, *, schema: str | None, labels: list[str] | None) -> Columns:
    """Sort a table's columns into votes, other labels and the rest.

    Parameters
    ----------
    kinds : dict
        Column name to ``int64``, ``float64``, ``string`` or ``other``.
    where : str
        The table, for messages.
    schema : str or None
        Decision tree to read; None to recognise it.
    labels : list of str or None
        Label columns beside the votes; None for all numbers that are not bookkeeping.

    Raises
    ------
    UserError
        If a column that was asked for is missing, ids are not exact, or there is nothing to learn from.
    """
    if kinds.get("id_str") == "float64":
        raise UserError(f"'{where}' has fractional numbers as id_str, which lose digits; write ids as text.")
    name = detect_schema(list(kinds)) if schema is None else schema
    votes = set(load_schema(name).label_cols) if name else set()
    if schema and votes.isdisjoint(kinds):
        raise UserError(f"'{where}' has none of the vote columns of schema '{schema}', e.g. '{sorted(votes)[0]}'.")
    questions = tuple(q.name for q in load_schema(name).questions) if name else ()
    chosen, left_out = {}, []
    for column, kind in kinds.items():
        if column in votes or column in BOOKKEEPING:
            continue
        derived = column.endswith(DERIVED) and column.startswith(questions)
        wanted = column in labels if labels is not None else kind in ("int64", "float64") or column in NAMED_LABELS
        if wanted and not derived and kind != "other" and column not in RESERVED:
            chosen[column] = kind
        elif not derived:
            left_out.append(column)
    missing = [column for column in labels or [] if column not in chosen]
    if missing:
        raise UserError(f"'{where}' has no usable label column '{missing[0]}'; it has {', '.join(sorted(kinds))}.")
    if not votes and not chosen:
        raise UserError(
            f"'{where}' has no labels: neither the vote columns of a known campaign nor a column of numbers;"
            f" its columns are {', '.join(sorted(kinds))}."
        )
    not_there = [col for col in load_schema(name).label_cols if col not in kinds] if name else []
    notes = [f"columns of '{where}' not used: {', '.join(left_out)}"] if left_out else []
    notes += [f"columns that '{where}' lacks, taken as no votes: {', '.join(not_there)}"] if not_there else []
    return Columns(name, chosen, tuple(notes))


def table_to_batch(table: pd.DataFrame, columns: Columns, pictures: list, *, dataset_name: str, published_split: str):
    """One :class:`Batch` from a slice of somebody's table, whichever of the expected columns it has."""
    ids = table["id_str"].astype(object).where(table["id_str"].notna(), "")
    catalog = pd.DataFrame({"id_str": [str(i).strip() for i in ids]}, dtype=object)
    named = table["dataset_name"].fillna(dataset_name) if "dataset_name" in table else dataset_name
    catalog["dataset_name"] = named if isinstance(named, str) else named.to_numpy(dtype=object)
    for axis in ("ra", "dec"):
        catalog[axis] = _floats(table[axis]) if axis in table else np.nan
    split = table["split"].fillna("").to_numpy(dtype=object) if "split" in table else published_split
    catalog["published_split"] = split
    cols = load_schema(columns.schema).label_cols if columns.schema else []
    votes = np.zeros((len(table), len(cols)))
    for position, col in enumerate(cols):
        if col in table:
            votes[:, position] = _floats(table[col])
    labels = table[list(columns.labels)].reset_index(drop=True)
    return Batch(catalog, votes, labels, pictures)


def _floats(values: pd.Series) -> np.ndarray:
    """A column's numbers; NaN where it holds none."""
    return pd.to_numeric(values, errors="coerce").to_numpy(dtype=float, na_value=np.nan)


def arrow_kind(kind: pa.DataType) -> str:
    """``int64``, ``float64``, ``string`` or ``other``: what a parquet column can be used as."""
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return "int64"
    if pa.types.is_floating(kind):
        return "float64"
    return "string" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else "other"


def column_kind(values: pd.Series) -> str:
    """``int64``, ``float64`` or ``string``: what a column of a DataFrame can be used as."""
    if pd.api.types.is_integer_dtype(values) or pd.api.types.is_bool_dtype(values):
        return "int64"
    return "float64" if pd.api.types.is_float_dtype(values) else "string"
