"""What every source gives: a description of its galaxies, and the galaxies in batches."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Batch:
    """A few hundred galaxies on their way into a survey, not yet checked.

    Attributes
    ----------
    catalog : DataFrame
        ``id_str``, ``dataset_name``, ``ra`` and ``dec`` [deg, NaN if unknown], ``published_split`` ("" if none).
    votes : (galaxies, answers) array
        As the source has them, in the order of the source's schema; checked and made int32 by the curation.
    labels : DataFrame
        The source's other label columns.
    pictures : list or (galaxies, y, x, band) uint8 array
        Encoded bytes, a file's path or None (missing) for each galaxy; an array is already at the survey's size.
    truth : DataFrame or None
        What a simulated galaxy really is.
    """

    catalog: pd.DataFrame
    votes: np.ndarray
    labels: pd.DataFrame
    pictures: list[bytes | Path | None] | np.ndarray
    truth: pd.DataFrame | None = None


@dataclass(frozen=True)
class Source:
    """Where the galaxies of a survey come from.

    Attributes
    ----------
    name : str
        Short, fit for a folder's name.
    text : str
        What the user wrote.
    schema : str
        Name that ``load_schema`` understands, "" if the source has no votes.
    labels : dict
        Other label columns and their kind: ``int64``, ``float64`` or ``string``.
    galaxies : int
        How many there are before any is rejected.
    batches : function
        ``batches(size, limit)`` yields :class:`Batch`; at most ``limit`` galaxies, spread over the source's parts.
    identity : tuple of dict
        For each simulated part, all that its galaxies depend on; empty where only the data themselves can tell.
    simulated : bool
        Whether every part is simulated.
    truth_kinds : function or None
        Columns and kinds of the truth; of a simulated source only. Asking draws a small galaxy.
    has_published_split : bool
        Whether the source says which galaxies its authors test on.
    notes : tuple of str
        What was left out of the source, for the survey's report.
    """

    name: str
    text: str
    schema: str
    labels: dict[str, str]
    galaxies: int
    batches: Callable[[int, int | None], Iterator[Batch]]
    identity: tuple[dict, ...] = ()
    simulated: bool = False
    truth_kinds: Callable[[], dict[str, str]] | None = None
    has_published_split: bool = False
    notes: tuple[str, ...] = ()


def join_kinds(tables: list[dict[str, str]]) -> dict[str, str]:
    """Columns of several tables under each other: a number that a table lacks becomes ``float64`` with NaN there."""
    joined = {}
    for column in dict.fromkeys(column for table in tables for column in table):
        kinds = {table.get(column, "float64") for table in tables}
        strings = any(table.get(column) == "string" for table in tables)
        joined[column] = "string" if strings else kinds.pop() if len(kinds) == 1 else "float64"
    return joined


def with_columns(table: pd.DataFrame, kinds: dict[str, str]) -> pd.DataFrame:
    """A table with all the columns of ``kinds``; those that it lacks hold NaN or no text."""
    filler = {column: "" if kind == "string" else np.nan for column, kind in kinds.items()}
    columns = {column: table[column] if column in table else filler[column] for column in kinds}
    return pd.DataFrame(columns, index=table.index)


def shares(total: int, parts: list[int]) -> list[int]:
    """Spread ``total`` over parts in proportion to their sizes; whole numbers that add up to ``min(total, sum)``."""
    total = min(total, sum(parts))
    bounds = [0]
    for size in np.cumsum(parts):
        bounds.append(round(total * int(size) / max(sum(parts), 1)))
    return [after - before for before, after in zip(bounds, bounds[1:], strict=False)]
