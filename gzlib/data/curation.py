"""From a source to a curated survey: checked, split, resized, packed, and reported.

A curated survey is a folder: ``images.npy`` (galaxy, y, x, band) uint8, ``catalog.parquet``, for simulated galaxies
``truth.parquet``, ``rejected.csv`` if there is any, and ``survey.json``, which is written last. It is built beside its
place and moved there whole.
"""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from gzlib import paths
from gzlib.config import SPLIT_MODES, SurveySpec, config_dict
from gzlib.data.checks import (
    VOTE_SLACK,
    LabelCheck,
    Neighbours,
    Problem,
    Rejects,
    Seen,
    crowded_radius,
    own_radius,
    radius_note,
    table_problems,
    whole_votes,
)
from gzlib.data.images import ASPECTS, CONVERSIONS, Frame, Unusable, load_all, refuse_fraction
from gzlib.data.pack import (
    ImageFile,
    Journal,
    TableFile,
    TooManyRejected,
    arrow_schema,
    building_place,
    catalog_schema,
    catalog_table,
    hash_galaxies,
    refuse_foreign,
    refuse_full_disk,
)
from gzlib.data.schema import UNKNOWN_MATCH_RADIUS, is_tree_file, load_schema, match_radii
from gzlib.data.sources.base import Batch, Source, with_columns
from gzlib.data.sources.registry import find_path, has_prefix, input_signature, is_generated, open_source, split_text
from gzlib.data.survey import (
    SPLITS,
    assign_split,
    file_states,
    is_current,
    is_survey,
    labelled,
    open_survey,
    read_report,
    tree_hash,
)
from gzlib.errors import UserError, tell
from gzlib.files import FilePath, place_of, replace_file
from gzlib.identity import CURATION_VERSION, canonical_json, content_hash, file_hash
from gzlib.progress import Live, Progress
from gzlib.trace import note

TOLERATED = 0.05  # share of rejected galaxies, duplicates apart, above which something is wrong with the whole table
EARLY = 1000  # rejected galaxies after which that is said at once, rather than when all have been looked at


def make_survey(spec: SurveySpec, *, progress: bool = True) -> Path:
    """Curate the survey that a specification describes unless that is done already; its folder.

    How many galaxies are rejected is said on standard error where it is made.

    Raises
    ------
    UserError
        As :func:`curate`.
    """
    refuse_spec(spec)
    _is_generated(spec)
    return curate(**asdict(spec), progress=progress, told=tell)


def rejected_words(report: dict[str, Any], folder: Path) -> str:
    """How many galaxies of a survey were rejected, why, and where they are listed; empty for none."""
    if not (reasons := report["rejected"]["reasons"]):
        return ""
    said = ", ".join(f"{n:,} {reason}" for reason, n in sorted(reasons.items(), key=lambda item: -item[1]))
    return f"rejected: {said}; all are in {folder / 'rejected.csv'}"


def existing_survey(spec: SurveySpec) -> Path | None:
    """The folder of the survey that a specification describes, if it has been curated; nothing is made for it."""
    try:
        return curate(**asdict(spec), make=False)
    except FileNotFoundError:
        return None


def survey_fingerprint(spec: SurveySpec) -> str:
    """Hash of what a survey holds; generated galaxies are not drawn for it, others are curated."""
    refuse_spec(spec)
    if _is_generated(spec):
        source = open_source(spec.source, schema=spec.schema, seed=spec.seed)
        frame = Frame(spec.size, spec.aspect, spec.central_fraction)
        return fingerprint_start(source, frame, spec.limit, spec.split).hexdigest()
    fingerprint: str = read_report(make_survey(spec, progress=False))["fingerprint"]
    return fingerprint


def _is_generated(spec: SurveySpec) -> bool:
    """Whether source and seed say all about a survey; noted for chapters, as the same text may come to mean others."""
    generated = all(is_generated(part) for part in split_text(spec.source))
    if generated:
        note("survey", spec=config_dict(spec))
    return generated


def training_galaxies(spec: SurveySpec, label: str | None = None) -> int:
    """How many galaxies a survey has to train on, in ``label`` too if that is named; curates it if need be."""
    survey = open_survey(make_survey(spec))
    train = survey.split.values == "train"
    return int((train & labelled(survey, label)).sum() if label else train.sum())


def is_survey_source(text: str) -> bool:
    """Whether a source is the folder of a survey already curated."""
    return len(split_text(text)) == 1 and not has_prefix(text) and is_survey(find_path(text))


def curate(
    source: FilePath | Source,
    *,
    out: FilePath | None = None,
    size: int = 64,
    limit: int | None = None,
    split: str = "hash",
    schema: str | None = None,
    seed: int = 0,
    aspect: str | None = None,
    central_fraction: float = 1.0,
    match_radius: float | None = None,
    vote_slack: int = VOTE_SLACK,
    keep_going: bool = False,
    force: bool = False,
    progress: bool = True,
    make: bool = True,
    told: Callable[[str], None] | None = None,
) -> Path:
    """Curate a source into a survey's folder; does nothing where the same input has been curated.

    A curation that was interrupted is resumed: images decoded before are not decoded again. (Simulated galaxies, which
    have no files, are drawn again.)

    Parameters
    ----------
    source : str, path or Source
        See :func:`gzlib.data.sources.open_source`; a source opened with options of its own is always curated again.
    out : path, optional
        The survey's folder; by default one of its own in the folder of surveys.
    size, limit, split, schema, seed, aspect, central_fraction, match_radius
        See :class:`gzlib.config.SurveySpec`.
    vote_slack : int
        Votes that a question may have beyond its parent answer (see ``gzlib.data.checks.VOTE_SLACK``).
    keep_going : bool
        Make the survey even if more than 5 % of the galaxies are rejected, duplicates apart.
    force : bool
        Curate even if the same input has been curated.
    progress : bool
        Say on standard error how far it is.
    make : bool
        If false, nothing is downloaded or made: FileNotFoundError where the same input has not been curated.
    told : callable, optional
        Told in a sentence of the galaxies that were rejected, if there are any and the survey is made now.

    Raises
    ------
    UserError
        If the source is unusable, too many galaxies are rejected, or ``out`` holds something else.
    NotWritten
        If the disk has too little space, or the folder cannot be written.
    """
    _refuse(size, limit, split, aspect, match_radius, central_fraction)
    size, limit = int(size), limit and int(limit)  # NumPy's numbers are none that JSON holds
    match_radius = match_radius.item() if isinstance(match_radius, np.generic) else match_radius
    parameters: dict[str, Any] = {"size": size, "limit": limit, "split": split, "schema": schema, "seed": seed}
    parameters |= {"vote_slack": vote_slack, "curation": CURATION_VERSION}
    chosen = {"aspect": aspect, "match_radius": match_radius}
    chosen["central_fraction"] = float(central_fraction) if central_fraction != 1 else None
    parameters |= {name: value for name, value in chosen.items() if value is not None}
    given = source if isinstance(source, Source) else None
    text = given.text if given else str(source)
    if given:
        parameters["labels"] = given.labels  # anyone who opened the source may have chosen them
    if not given and is_survey_source(text):
        if out is not None:
            raise UserError(f"'{text}' is a curated survey already; open it, or name the source that it was made from.")
        return find_path(text)
    signature = None if given else input_signature(text, schema=schema)
    if signature is not None and schema is not None and is_tree_file(schema):
        signature.append(["tree", tree_hash(schema)])
    folder = place_of(out) if out else _default_folder(text, parameters)

    def is_same(report: dict[str, Any]) -> bool:
        """Whether a survey is of this source, whichever way its path was written, with the same parameters."""
        same = report.get("source") == text or not out  # a folder of its own is named by source and parameters
        with suppress(UserError):  # the survey's source is gone
            same = same or (bool(report) and _places(report["source"]) == _places(text))
        return same and report.get("parameters") == parameters

    def is_done() -> bool:
        report = read_report(folder) if is_survey(folder) else {}
        return is_same(report) and signature is not None and report["input"] == signature and is_current(report, folder)

    if is_done() and not force:
        return folder
    if not make:
        raise FileNotFoundError(folder)
    refuse_foreign(folder, is_same)
    opened = given if given else open_source(text, schema=schema, seed=seed)
    if split != "hash":
        _refuse_split(opened, text)
    state = {"source": text, "parameters": parameters, "input": signature}
    line = Live().line if progress else None
    with building_place(folder, None if given else state, tell=line) as place:
        if is_done() and not force:  # another process has made it meanwhile
            return folder
        refuse_full_disk(opened, place, Frame(size, aspect, central_fraction), limit, line)
        report = state | assemble(opened, place, parameters, progress, keep_going)
        if split == "hash" and opened.has_published_split and not opened.identity:
            report["notes"].append(f"'{text}' has a published split, not used; --split source keeps it")
        replace_file(place / "survey.json", json.dumps(report, indent=1, ensure_ascii=False))
    if told and (words := rejected_words(report, folder)):
        told(f"{text}: {words}")
    return folder


def _refuse_split(source: Source, text: str) -> None:
    if not source.has_published_split:
        raise UserError(f"'{text}' has no published split (test-*.parquet, or a column 'split'); use split='hash'.")
    if source.check_split is not None:
        source.check_split()


def refuse_spec(spec: SurveySpec) -> None:
    """Refuse what no survey can be made with.

    Raises
    ------
    UserError
    """
    _refuse(spec.size, spec.limit, spec.split, spec.aspect, spec.match_radius, spec.central_fraction)


def _refuse(
    size: int, limit: int | None, split: str, aspect: str | None, match_radius: float | None, central_fraction: float
) -> None:
    if not _is_number(size, Integral) or size < 8:
        raise UserError(f"size={size!r} is not an image size; give a whole number of pixels, 8 or more.")
    if limit is not None and (not _is_number(limit, Integral) or limit < 1):
        raise UserError(f"limit={limit!r} leaves no galaxies; give a whole number above 0, or None for all.")
    if split not in SPLIT_MODES:
        raise UserError(f"Unknown split '{split}'; choose one of {', '.join(SPLIT_MODES)}.")
    if aspect not in (None, *ASPECTS):
        raise UserError(f"Unknown aspect '{aspect}'; choose 'pad' or 'crop', or leave it out to refuse oblong images.")
    if match_radius is not None and not (_is_number(match_radius, Real) and 0 <= match_radius <= 3600):
        raise UserError(f"match_radius={match_radius!r} is not an angle in arcsec; give one from 0 to 3600.")
    refuse_fraction(central_fraction)


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _default_folder(text: str, parameters: dict[str, Any]) -> Path:
    """A folder of the survey's own, the same from whichever working directory its source is named."""
    parts = split_text(text)
    digest = content_hash([_places(text), parameters])[:10]
    words = re.sub(r"[^A-Za-z0-9+]+", "-", "+".join(Path(part).name for part in parts)).strip("-")
    return paths.SURVEYS / f"{words[:60]}-{parameters['size']}px-{digest}"


def _places(text: str) -> list[str]:
    """The parts of a source, paths from the root on.

    Raises
    ------
    UserError
        If there is none.
    """
    return [part if has_prefix(part) else str(find_path(part).resolve()) for part in split_text(text)]


def fingerprint_start(source: Source, frame: Frame, limit: int | None, split: str) -> "hashlib._Hash":
    """Hash over a survey's parameters and its simulated galaxies' identity; real galaxies are added one by one.

    Simulated pixels may differ by 1/255 between machines, and decoders differ, so no decoded pixel is hashed. The
    decision tree counts with its content, the simulated sky with that of its code and calibration.
    """
    tree = load_schema(source.schema).records() if source.schema else None
    start = {"curation": CURATION_VERSION, "size": frame.size, "split": split, "tree": tree}
    start["simulated"] = source.identity
    if frame.central_fraction != 1:  # said where it differs alone, so that surveys made before keep their fingerprints
        start["central_fraction"] = frame.central_fraction
    if source.identity:
        start["galaxies"] = min(source.galaxies, limit or source.galaxies)
    return hashlib.sha256(canonical_json(start).encode())


def assemble(
    source: Source, place: Path, parameters: dict[str, Any], progress: bool, keep_going: bool = False
) -> dict[str, Any]:
    """Write a survey's arrays and tables into the folder ``place``; return what its report says of them.

    A batch is in memory at a time, beside :class:`~gzlib.data.checks.Seen`.

    Raises
    ------
    UserError
        If no galaxy passes, or more than 5 % are rejected and ``keep_going`` is false.
    """
    size, limit, mode = parameters["size"], parameters["limit"], parameters["split"]
    frame = Frame(size, parameters.get("aspect"), parameters.get("central_fraction", 1.0))
    schema = load_schema(source.schema) if source.schema else None
    columns = catalog_schema(schema.label_cols if schema else [], source.labels)
    truth_kinds = source.truth_kinds() if source.simulated and source.truth_kinds else {}
    fingerprint, pixels = fingerprint_start(source, frame, limit, mode), hashlib.sha256()
    if parameters.get("aspect") and not source.simulated:
        fingerprint.update(parameters["aspect"].encode())
    seen, label_check, conversions = Seen(), LabelCheck(source.labels), set()
    splits: Counter[str] = Counter()
    data_sets: Counter[str] = Counter()
    total, read, without_votes = min(source.galaxies, limit or source.galaxies), 0, 0
    first_questions = [question.columns for question in schema.questions if not question.asked_after] if schema else []
    volunteers: set[int] = set()  # how many answered a first question
    radii = match_radii(source.schema) if source.schema else np.array([UNKNOWN_MATCH_RADIUS])
    if UNKNOWN_MATCH_RADIUS in radii and source.positions is not None and parameters.get("match_radius") is None:
        crowded = crowded_radius(*source.positions())
        radii = np.where(radii == UNKNOWN_MATCH_RADIUS, np.minimum(radii, crowded), radii)
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        Rejects(place / "rejected.csv") as rejects,
        ImageFile(place / "images.npy", size) as images,
        Journal(place / "journal.jsonl") as journal,
        TableFile(place / "catalog.parquet", columns) as catalog,
        TableFile(place / "truth.parquet", arrow_schema(truth_kinds)) as truth,
        Progress(f"curating {source.name}", total, "galaxies", progress) as bar,
    ):
        for batch in source.framed(frame, limit):
            pictures = batch.pictures if isinstance(batch.pictures, np.ndarray) else None
            simulated = pictures is not None
            if schema and not simulated:
                batch = replace(batch, votes=whole_votes(batch.votes, schema))
            problems = {}
            if not simulated:
                parts = (batch.catalog, batch.votes, batch.labels)
                problems = table_problems(*parts, schema, parameters["vote_slack"], label_check)
            radius = own_radius(batch.votes, radii, parameters.get("match_radius"))

            ready = None
            digests: list[bytes | None] = [None] * len(batch.catalog)
            if not simulated and (again := journal.again(images)):
                done, ready = again
                digests = [bytes.fromhex(digest) if digest else None for digest in done.digests]
                problems |= done.problems
                conversions.update(done.conversions)
            elif not simulated:
                faults = set(problems)
                decoded, digests, used = _decode(batch, frame, problems, pool)
                conversions.update(used)
            rows, sides = _admit(batch, digests, problems, radius, seen, rejects, mode)
            if ready is None:
                ready = np.array([decoded[row] for row in rows], np.uint8) if pictures is None else pictures[rows]
                images.append(ready)
                if not simulated:
                    found = {row: problem for row, problem in problems.items() if row not in faults}
                    journal.add(digests, found, used, ready)
            bar.update(len(batch.catalog))
            read += len(batch.catalog)
            if not keep_going and rejects.faulty > max(TOLERATED * total, EARLY):
                break
            if not rows:
                continue
            table = catalog_table(batch.catalog.iloc[rows], sides, batch.votes[rows], batch.labels.iloc[rows], columns)
            catalog.append(table)
            pixels.update(np.ascontiguousarray(ready).data)
            splits.update(sides)
            data_sets.update(table["dataset_name"].to_pylist())
            if source.simulated and batch.truth is not None:
                known = with_columns(batch.truth.iloc[rows], truth_kinds)
                truth.append(pa.Table.from_pandas(known, truth.schema, preserve_index=False).replace_schema_metadata())
            if not simulated:
                without_votes += int((batch.votes[rows].sum(axis=1) == 0).sum()) if schema else 0
                volunteers.update(*(np.unique(batch.votes[rows][:, some].sum(axis=1)) for some in first_questions))
                hash_galaxies(fingerprint, table, [digest for row in rows if (digest := digests[row]) is not None])
    if not images.n:
        raise UserError(rejects.why_none(source.text))
    if not keep_going and rejects.faulty > TOLERATED * read:
        raise TooManyRejected(rejects.why_too_many(source.text, read))
    for leftover in ("journal.jsonl", "state.json"):
        (place / leftover).unlink(missing_ok=True)
    tree = {}
    if schema and is_tree_file(source.schema):  # the tree travels with the votes that follow it
        replace_file(place / "tree.json", json.dumps(schema.records(), indent=1))
        tree = {"tree": "tree.json"}
    notes = [*source.notes]
    if not source.simulated:
        if seen.row_of_place:
            notes.append(radius_note(source.schema, radii, parameters.get("match_radius")))
        notes += [CONVERSIONS[kind] for kind in sorted(conversions)]
        notes += [f"images that are not square: {parameters['aspect']}"] if parameters.get("aspect") else []
        notes += [f"central fraction of each side of an image that is kept: {frame.central_fraction:g}"] * (
            frame.central_fraction != 1
        )
        notes += [f"galaxies without any votes, kept for prediction: {without_votes:,}"] if without_votes else []
        if volunteers - {0} == {100}:
            notes.append(
                "every galaxy has 100 votes for a first question: if these are percentages, give counts, as each is"
                " taken as the vote of a volunteer"
            )
    files = ["images.npy", "catalog.parquet", *(["truth.parquet"] if source.simulated else [])]
    return {
        "fingerprint": fingerprint.hexdigest(),
        "simulated": source.simulated,
        "parts": [{"source": text, "simulated": simulated} for text, simulated in source.parts],
        "schema": source.schema,
        **tree,
        "tree_sha256": tree_hash(source.schema),
        "labels": source.labels,
        "counts": {
            "galaxies": images.n,
            "splits": {side: splits[side] for side in SPLITS},
            "data_sets": dict(data_sets),
            "rejected": sum(rejects.counts.values()),
        },
        "sky_pairs": {
            "within_arcsec": parameters.get("match_radius", float(radii.max())),
            "between_data_sets": seen.sky_pairs,
            "of_which_one_in_test": seen.straddling_pairs,
        },
        "notes": notes,
        "sha256": {"pixels": pixels.hexdigest()} | {name: file_hash(place / name) for name in files[1:]},
        "files": file_states(place),
        "rejected": {"reasons": dict(rejects.counts), "examples": rejects.examples},
    }


def _decode(
    batch: Batch, frame: Frame, problems: dict[int, Problem], pool: Executor
) -> tuple[list[np.ndarray | None], list[bytes | None], set[str]]:
    """A batch's images by row, their hashes, and which conversions they needed; failures join ``problems``."""
    images: list[np.ndarray | None] = [None] * len(batch.catalog)
    digests: list[bytes | None] = [None] * len(batch.catalog)
    conversions: set[str] = set()
    rows = [row for row in range(len(batch.catalog)) if row not in problems]
    for row, result in zip(rows, load_all(batch.pictures, rows, frame, pool), strict=True):
        if isinstance(result, Unusable):
            problems[row] = result.reason, result.detail
        else:
            images[row], digests[row] = result.pixels, result.digest
            conversions |= {result.conversion} - {""}
    return images, digests, conversions


def _admit(
    batch: Batch,
    digests: list[bytes | None],
    problems: dict[int, Problem],
    radius: np.ndarray,
    seen: Seen,
    rejects: Rejects,
    mode: str,
) -> tuple[list[int], list[str]]:
    """Rows that enter the survey and their splits, in order; of two galaxies that are one, the earlier enters.

    Simulated galaxies are what they were asked to be: nothing but their ids is checked.
    """
    simulated, rows, sides = isinstance(batch.pictures, np.ndarray), [], []
    ra, dec = (batch.catalog[axis].to_numpy(dtype=float) for axis in ("ra", "dec"))
    neighbours = Neighbours(seen, ra, dec, radius)
    who = zip(*(batch.catalog[c] for c in ("id_str", "dataset_name", "published_split")), strict=True)
    for row, (id_str, dataset_name, published) in enumerate(who):
        problem = problems.get(row)
        if problem is None and not id_str:
            problem = "missing id", f"the image's row has no id_str (data set '{dataset_name}')"
        near = neighbours.of(row) if problem is None else []
        if problem is None:
            problem = seen.duplicate(id_str, digests[row], dataset_name, [] if simulated else near)
        if problem is not None:
            rejects.add(id_str, problem)
            continue
        side = assign_split(id_str, published, mode)
        seen.add(id_str, digests[row], dataset_name, side, near)
        neighbours.remember(row, dataset_name, side)
        rows.append(row)
        sides.append(side)
    return rows, sides
