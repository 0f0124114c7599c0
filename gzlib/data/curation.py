"""From a source to a curated survey: checked, split, resized, packed, and reported.

A curated survey is a folder: ``images.npy`` (galaxy, y, x, band) uint8, ``catalog.parquet``, for simulated galaxies
``truth.parquet``, and ``survey.json``, which is written last. It is built beside its place and moved there whole.
"""

import hashlib
import json
import os
import re
from collections import Counter
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa

from gzlib import paths
from gzlib.config import SPLIT_MODES, SurveySpec, config_dict
from gzlib.data.checks import SAME_PLACE_ARCSEC, VOTE_SLACK, LabelCheck, Problem, Rejects, Seen, vote_problems
from gzlib.data.pack import PictureFile, TableFile, Unusable, arrow_schema, catalog_schema, catalog_table, load_picture
from gzlib.data.schema import Schema, load_schema
from gzlib.data.sources.base import Batch, Source, with_columns
from gzlib.data.sources.registry import find_path, has_prefix, input_signature, is_generated, open_source, split_text
from gzlib.data.survey import (
    SPLITS,
    assign_split,
    building_place,
    is_current,
    is_survey,
    open_survey,
    read_report,
    refuse_foreign,
    tree_hash,
)
from gzlib.errors import UserError
from gzlib.files import replace_file
from gzlib.identity import CURATION_VERSION, canonical_json, content_hash, file_hash
from gzlib.progress import Progress
from gzlib.trace import note


def make_survey(spec: SurveySpec, *, progress: bool = True) -> Path:
    """Curate the survey that a specification describes unless that is done already; its folder.

    Raises
    ------
    UserError
        As :func:`curate`.
    """
    _is_generated(spec)
    return curate(**asdict(spec), progress=progress)


def survey_fingerprint(spec: SurveySpec) -> str:
    """Hash of what a survey holds; generated galaxies are not drawn for it, others are curated."""
    if _is_generated(spec):
        source = open_source(spec.source, schema=spec.schema, seed=spec.seed)
        return fingerprint_start(source, spec.size, spec.limit, spec.split).hexdigest()
    return read_report(make_survey(spec, progress=False))["fingerprint"]


def _is_generated(spec: SurveySpec) -> bool:
    """Whether source and seed say all about a survey; noted for chapters, as the same text may come to mean others."""
    generated = all(is_generated(part) for part in split_text(spec.source))
    if generated:
        note("survey", spec=config_dict(spec))
    return generated


def training_galaxies(spec: SurveySpec) -> int:
    """How many galaxies a survey has to train on; curates it if need be."""
    return int((open_survey(make_survey(spec)).split == "train").sum())


def is_survey_source(text: str) -> bool:
    """Whether a source is the folder of a survey already curated."""
    return len(split_text(text)) == 1 and not has_prefix(text) and is_survey(find_path(text))


def curate(
    source,
    *,
    out=None,
    size=64,
    limit=None,
    split="hash",
    schema=None,
    seed=0,
    vote_slack=VOTE_SLACK,
    progress=True,
) -> Path:
    """Curate a source into a survey's folder; does nothing where the same input has been curated.

    Parameters
    ----------
    source : str, path or Source
        See :func:`gzlib.data.sources.open_source`; a source opened with options of its own is always curated anew.
    out : path, optional
        The survey's folder; by default one of its own in the folder of surveys.
    size, limit, split, schema, seed
        See :class:`gzlib.config.SurveySpec`.
    vote_slack : int
        Votes that a question may have beyond its parent answer (see ``gzlib.data.checks.VOTE_SLACK``).
    progress : bool
        Say on standard error how far it is.

    Raises
    ------
    UserError
        If the source is unusable, every galaxy is rejected, or ``out`` holds something else.
    """
    _refuse_parameters(size, limit, split)
    parameters = {"size": size, "limit": limit, "split": split, "schema": schema, "seed": seed}
    parameters |= {"vote_slack": vote_slack, "curation": CURATION_VERSION}
    given = isinstance(source, Source)
    text = source.text if given else str(source)
    if given:
        parameters["labels"] = source.labels  # whoever opened the source may have chosen them
    if not given and is_survey_source(text):
        if out is not None:
            raise UserError(f"'{text}' is a curated survey already; open it, or name the source that it was made from.")
        return find_path(text)
    signature = None if given else input_signature(text)
    folder = Path(out).expanduser() if out else _default_folder(text, parameters)

    def is_done() -> bool:
        report = read_report(folder) if is_survey(folder) else {}
        same = report.get("parameters") == parameters and report.get("source") == text
        return same and signature is not None and report["input"] == signature and is_current(report)

    if is_done():
        return folder
    refuse_foreign(folder, text, parameters)
    opened = source if given else open_source(text, schema=schema, seed=seed)
    if split != "hash" and not opened.has_published_split:
        raise UserError(f"'{text}' has no published split (test-*.parquet, or a column 'split'); use split='hash'.")
    with building_place(folder, is_done) as place:
        report = {"source": text, "parameters": parameters, "input": signature}
        report |= assemble(opened, place, parameters, progress)
        replace_file(place / "survey.json", json.dumps(report, indent=1, ensure_ascii=False))
    return folder


def _refuse_parameters(size: int, limit: int | None, split: str):
    if not isinstance(size, int) or size < 8:
        raise UserError(f"size={size!r} is no picture size; give a whole number of pixels, 8 or more.")
    if limit is not None and limit < 1:
        raise UserError(f"limit={limit!r} leaves no galaxies; give a number above 0, or None for all.")
    if split not in SPLIT_MODES:
        raise UserError(f"Unknown split '{split}'; choose 'hash' or 'source'.")


def _default_folder(text: str, parameters: dict) -> Path:
    """A folder of the survey's own, the same from whichever working directory its source is named."""
    parts = split_text(text)
    whole = [part if has_prefix(part) else str(find_path(part).resolve()) for part in parts]
    digest = content_hash([whole, parameters])[:10]
    words = re.sub(r"[^A-Za-z0-9+]+", "-", "+".join(Path(part).name for part in parts)).strip("-")
    return paths.SURVEYS / f"{words[:60]}-{parameters['size']}px-{digest}"


def fingerprint_start(source: Source, size: int, limit: int | None, split: str):
    """Hash over a survey's parameters and its simulated galaxies' identity; real galaxies are added one by one.

    Simulated pixels may differ by 1/255 between machines, and decoders differ, so no decoded pixel is hashed. The
    decision tree counts with its content, the simulated sky with that of its code and calibration.
    """
    tree = load_schema(source.schema).records() if source.schema else None
    start = {"curation": CURATION_VERSION, "size": size, "split": split, "tree": tree, "simulated": source.identity}
    if source.identity:
        start["galaxies"] = min(source.galaxies, limit or source.galaxies)
    return hashlib.sha256(canonical_json(start).encode())


def assemble(source: Source, place: Path, parameters: dict, progress: bool) -> dict:
    """Write a survey's arrays and tables into the folder ``place``; return what its report says of them.

    A batch is in memory at a time, beside :class:`~gzlib.data.checks.Seen`.

    Raises
    ------
    UserError
        If no galaxy passes.
    """
    size, limit, mode = parameters["size"], parameters["limit"], parameters["split"]
    schema = load_schema(source.schema) if source.schema else None
    columns = catalog_schema(schema.label_cols if schema else [], source.labels)
    truth_kinds = source.truth_kinds() if source.simulated else {}
    fingerprint, pixels = fingerprint_start(source, size, limit, mode), hashlib.sha256()
    rejects, seen, label_check = Rejects(), Seen(), LabelCheck(source.labels)
    splits, data_sets = Counter(), Counter()
    total = min(source.galaxies, limit or source.galaxies)
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        PictureFile(place / "images.npy", size) as pictures,
        TableFile(place / "catalog.parquet", columns) as catalog,
        TableFile(place / "truth.parquet", arrow_schema(truth_kinds)) as truth,
        Progress(f"curating {source.name}", total, "galaxies", progress) as bar,
    ):
        for batch in source.batches(size, limit):
            simulated = isinstance(batch.pictures, np.ndarray)
            problems = {} if simulated else _label_problems(batch, schema, parameters["vote_slack"], label_check)
            images, digests = _load_all(batch, size, problems, pool)
            rows, sides = _admit(batch, digests, problems, seen, rejects, mode)
            bar.update(len(batch.catalog))
            if not rows:
                continue
            kept = images[rows] if simulated else np.stack([images[row] for row in rows])
            table = catalog_table(batch.catalog.iloc[rows], sides, batch.votes[rows], batch.labels.iloc[rows], columns)
            pictures.append(kept)
            catalog.append(table)
            pixels.update(kept.data)
            splits.update(sides)
            data_sets.update(table["dataset_name"].to_pylist())
            if source.simulated:
                known = with_columns(batch.truth.iloc[rows], truth_kinds)
                truth.append(pa.Table.from_pandas(known, truth.schema, preserve_index=False).replace_schema_metadata())
            if not simulated:
                _hash_galaxies(fingerprint, table, [digests[row] for row in rows])
    if not pictures.n:
        raise UserError(_nothing_left(source, rejects))
    return {
        "fingerprint": fingerprint.hexdigest(),
        "simulated": source.simulated,
        "parts": [{"source": text, "simulated": simulated} for text, simulated in source.parts],
        "schema": source.schema,
        "tree_sha256": tree_hash(source.schema),
        "labels": source.labels,
        "counts": {
            "galaxies": pictures.n,
            "splits": {side: splits[side] for side in SPLITS},
            "data_sets": dict(data_sets),
            "rejected": sum(rejects.counts.values()),
        },
        "sky_pairs": {
            "within_arcsec": SAME_PLACE_ARCSEC,
            "between_data_sets": seen.sky_pairs,
            "of_which_one_in_test": seen.straddling_pairs,
        },
        "notes": list(source.notes),
        "sha256": {"pixels": pixels.hexdigest(), "catalog.parquet": file_hash(place / "catalog.parquet")},
        "rejected": {"reasons": dict(rejects.counts), "examples": rejects.examples},
    }


def _label_problems(batch: Batch, schema: Schema | None, slack: int, label_check: LabelCheck) -> dict[int, Problem]:
    problems = vote_problems(batch.votes, schema, slack) if schema else {}
    return label_check.problems(batch.labels) | problems


def _load_all(batch: Batch, size: int, problems: dict[int, Problem], pool: Executor):
    """Decode a batch's pictures in threads (Pillow lets go of the interpreter); failures join ``problems``."""
    images, digests = [None] * len(batch.catalog), [None] * len(batch.catalog)
    if isinstance(batch.pictures, np.ndarray):
        return batch.pictures, digests

    def load(row: int):
        try:
            return load_picture(batch.pictures[row], size)
        except Unusable as unusable:
            return unusable

    rows = [row for row in range(len(batch.catalog)) if row not in problems]
    for row, result in zip(rows, pool.map(load, rows), strict=True):
        if isinstance(result, Unusable):
            problems[row] = result.reason, result.detail
        else:
            images[row], digests[row] = result
    return images, digests


def _admit(batch: Batch, digests: list, problems: dict[int, Problem], seen: Seen, rejects: Rejects, mode: str):
    """Rows that enter the survey and their splits, in order; of two galaxies that are one, the earlier enters.

    Simulated galaxies are what they were asked to be: nothing but their ids is checked.
    """
    simulated, rows, sides = isinstance(batch.pictures, np.ndarray), [], []
    places = zip(*(batch.catalog[c] for c in ("id_str", "dataset_name", "ra", "dec", "published_split")), strict=True)
    for row, (id_str, dataset_name, ra, dec, published) in enumerate(places):
        problem = problems.get(row)
        if problem is None and not id_str:
            problem = "missing id", f"the picture's row has no id_str (data set '{dataset_name}')"
        if problem is None:
            place = (np.nan, np.nan) if simulated else (ra, dec)
            problem = seen.duplicate(id_str, digests[row], dataset_name, *place)
        if problem is not None:
            rejects.add(id_str, problem)
            continue
        side = assign_split(id_str, published, mode)
        seen.add(id_str, digests[row], dataset_name, ra, dec, side)
        rows.append(row)
        sides.append(side)
    return rows, sides


def _hash_galaxies(fingerprint, table, digests: list[bytes]):
    """Add real galaxies: everything in the catalogue, and their encoded pictures."""
    for record, digest in zip(table.to_pylist(), digests, strict=True):
        fingerprint.update(digest)
        fingerprint.update(json.dumps(list(record.values())).encode())


def _nothing_left(source: Source, rejects: Rejects) -> str:
    if not rejects.counts:
        return f"'{source.text}' holds no galaxies."
    reasons = ", ".join(f"{reason} ({n})" for reason, n in rejects.counts.most_common(3))
    first = rejects.examples[0]
    return (
        f"Every galaxy of '{source.text}' was rejected: {reasons}; the first is '{first['id_str']}': {first['detail']}."
    )
