"""Several sources as one survey: the union of their decision trees and label columns."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from gzlib.data.schema import Schema, available_schemas, load_schema
from gzlib.data.sources.base import Batch, Source, join_kinds, shares, with_columns
from gzlib.data.sources.columns import is_one_tree


def join_sources(sources: list[Source]) -> Source:
    """One source out of several; votes of questions that a source does not ask are zero.

    A whole-number label that not every source has becomes ``float64`` with NaN for the others.
    """
    if len(sources) == 1:
        return sources[0]
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
        simulated=simulated,
        truth_kinds=(lambda: join_kinds([s.truth_kinds() for s in sources])) if simulated else None,
        has_published_split=all(s.has_published_split for s in sources),
        notes=tuple(note for s in sources for note in s.notes),
    )


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
