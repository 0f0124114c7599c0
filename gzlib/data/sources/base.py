"""What every source gives: a description of its galaxies, and the galaxies in batches."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gzlib.data.images import Frame, Unusable
from gzlib.data.schema import Schema, available_schemas, is_one_tree, load_schema
from gzlib.errors import UserError

Picture = bytes | Path | Unusable | None  # what names a galaxy's image: encoded, a file, why there is none, nothing


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
        Encoded bytes, a file's path, None (missing) or :class:`~gzlib.data.images.Unusable` for each galaxy; an array
        is already at the survey's size.
    truth : DataFrame or None
        What a simulated galaxy really is.
    """

    catalog: pd.DataFrame
    votes: np.ndarray
    labels: pd.DataFrame
    pictures: list[Picture] | np.ndarray
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
    parts : tuple of (str, bool)
        What was joined: each part's text and whether it is simulated.
    truth_kinds : function or None
        Columns and kinds of the truth; of a simulated source only. Asking draws a small galaxy.
    has_published_split : bool
        Whether the source says which galaxies its authors test on.
    notes : tuple of str
        What was recognised and what was left out, for the survey's report.
    check_split : function or None
        Refuses a published split whose words are not all known; called before it is used.
    positions : function or None
        ``(ra, dec)`` [deg] of all galaxies at once, as far as the source knows them.
    files : function or None
        Yields the image files that the source names, so that a change of one is noticed.
    """

    name: str
    text: str
    schema: str
    labels: dict[str, str]
    galaxies: int
    batches: Callable[[int, int | None], Iterator[Batch]]
    identity: tuple[dict[str, Any], ...] = ()
    parts: tuple[tuple[str, bool], ...] = ()
    truth_kinds: Callable[[], dict[str, str]] | None = None
    has_published_split: bool = False
    notes: tuple[str, ...] = ()
    check_split: Callable[[], None] | None = None
    positions: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None
    files: Callable[[], Iterator[Path]] | None = None

    def __post_init__(self) -> None:
        if not self.parts:
            object.__setattr__(self, "parts", ((self.text, False),))

    @property
    def simulated(self) -> bool:
        """Whether every part is simulated."""
        return all(simulated for _, simulated in self.parts)

    def framed(self, frame: Frame, limit: int | None) -> Iterator[Batch]:
        """The batches for a survey: of images that are drawn, and so are larger than it, the centre is kept."""
        for batch in self.batches(frame.drawn, limit):
            if isinstance(batch.pictures, np.ndarray):
                batch = replace(batch, pictures=frame.centre(batch.pictures))
            yield batch


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
    return [after - before for before, after in pairwise(bounds)]


def join_sources(sources: list[Source]) -> Source:
    """One source out of several; votes of questions that a source does not ask are zero.

    A whole-number label that not every source has becomes ``float64`` with NaN for the others.

    Raises
    ------
    UserError
        If a label is text in one source and numbers in another, or two ask the same question in different ways.
    """
    if len(sources) == 1:
        return sources[0]
    for column in {column for s in sources for column in s.labels}:
        is_text = {s.labels[column] == "string": s.text for s in sources if column in s.labels}
        if len(is_text) > 1:
            raise UserError(
                f"Label '{column}' is text in '{is_text[True]}' and numbers in '{is_text[False]}'; write both alike."
            )
    schema = join_schemas([s.schema for s in sources if s.schema])
    labels = join_kinds([s.labels for s in sources])

    def batches(size: int, limit: int | None) -> Iterator[Batch]:
        counts = [s.galaxies for s in sources]
        wanted = counts if limit is None else shares(limit, counts)
        answers = {col: i for i, col in enumerate(load_schema(schema).label_cols)} if schema else {}
        for source, n in zip(sources, wanted, strict=True):
            own = load_schema(source.schema).label_cols if source.schema else []
            places = [answers[col] for col in own]
            for batch in source.batches(size, n) if n else ():
                votes = np.zeros((len(batch.catalog), len(answers)), batch.votes.dtype)
                votes[:, places] = batch.votes
                yield replace(batch, votes=votes, labels=with_columns(batch.labels, labels))

    simulated = all(s.simulated for s in sources)
    return Source(
        name="+".join(s.name for s in sources)[:80],
        text=",".join(s.text for s in sources),
        schema=schema,
        labels=labels,
        galaxies=sum(s.galaxies for s in sources),
        batches=batches,
        identity=tuple(part for s in sources for part in s.identity),
        parts=tuple(part for s in sources for part in s.parts),
        truth_kinds=(lambda: join_kinds([s.truth_kinds() for s in sources if s.truth_kinds])) if simulated else None,
        has_published_split=all(s.has_published_split for s in sources),
        notes=tuple(note for s in sources for note in s.notes),
        check_split=partial(_check_splits, sources),
        positions=(lambda: _joined_positions(sources)) if any(s.positions for s in sources) else None,
        files=lambda: (file for s in sources if s.files for file in s.files()),
    )


def _check_splits(sources: list[Source]) -> None:
    for source in sources:
        if source.check_split:
            source.check_split()


def _joined_positions(sources: list[Source]) -> tuple[np.ndarray, np.ndarray]:
    ra, dec = zip(*(s.positions() for s in sources if s.positions), strict=True)
    return np.concatenate(ra), np.concatenate(dec)


def join_schemas(names: list[str]) -> str:
    """Name of a schema that has every question of the given ones, in an order that does not depend on theirs.

    Raises
    ------
    UserError
        If two of them ask the same question in different ways.
    """
    names = list(dict.fromkeys(names))
    if len(names) <= 1:
        return "".join(names)
    columns = {col for name in names for col in load_schema(name).label_cols}
    known: list[Schema] = [load_schema(name) for name in [*names, *available_schemas()]]
    for schema in known:
        if columns == set(schema.label_cols):
            return schema.name
    campaigns = sorted({part for name in names for part in _parts(name)})
    return load_schema("+".join(campaigns)).name


def _parts(name: str) -> list[str]:
    """Trees that a schema's name stands for."""
    if "+" in name or is_one_tree(name):
        return name.split("+")
    return load_schema(name).campaigns
