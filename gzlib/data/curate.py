"""From a source to a curated survey: checked, split, resized, packed, and reported.

A curated survey is a folder: ``images.npy`` (galaxy, y, x, band) uint8, ``catalog.parquet``, for simulated galaxies
``truth.parquet``, and ``survey.json``, which is written last. It is built beside its place and moved there whole.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from gzlib import paths
from gzlib.data.assemble import CURATION, assemble, fingerprint_start
from gzlib.data.checks import VOTE_SLACK
from gzlib.data.place import building_place, is_survey, read_report, refuse_foreign
from gzlib.data.sources import Source, find_path, input_signature, is_simulated, open_source, split_text
from gzlib.errors import UserError
from gzlib.files import replace_file

SPLIT_MODES = ("hash", "source")


@dataclass(frozen=True)
class SurveySpec:
    """All that a curated survey depends on.

    Attributes
    ----------
    source : str
        As :func:`gzlib.data.sources.open_source` takes it, or the folder of a survey already curated.
    size : int
        Side of the pictures [px].
    limit : int, optional
        Read at most so many galaxies, spread over the source's parts.
    split : str
        ``hash`` (70 / 10 / 20 % by the hash of the id) or ``source`` (keep the published test set).
    seed : int
        Of the simulated sky.
    schema : str, optional
        Decision tree to read; recognised by its columns if not given.
    """

    source: str
    size: int = 64
    limit: int | None = None
    split: str = "hash"
    seed: int = 0
    schema: str | None = None

    def fingerprint(self) -> str:
        """Hash of what the survey holds; a simulated one is not rendered for it, a real one is curated."""
        if all(is_simulated(part) for part in split_text(self.source)):
            source = open_source(self.source, schema=self.schema, seed=self.seed)
            return fingerprint_start(source, self.size, self.limit, self.split).hexdigest()
        return read_report(self.make(progress=False))["fingerprint"]

    def make(self, *, progress: bool = True) -> Path:
        """Curate the survey unless that is done already; return its folder.

        Raises
        ------
        UserError
            As :func:`curate`.
        """
        spec = asdict(self)
        return curate(spec.pop("source"), progress=progress, **spec)


def is_survey_source(text: str) -> bool:
    """Whether a source is the folder of a survey already curated."""
    return not _is_remote(text) and len(split_text(text)) == 1 and is_survey(find_path(text))


def _is_remote(text: str) -> bool:
    return is_simulated(text) or text.startswith("hub:")


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
        The survey's folder; by default one of its own in ``data/surveys``.
    size, limit, split, schema, seed
        See :class:`SurveySpec`.
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
    parameters |= {"vote_slack": vote_slack, "curation": CURATION}
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

    def is_current() -> bool:
        report = read_report(folder) if is_survey(folder) else {}
        same = report.get("parameters") == parameters and report.get("source") == text
        return same and signature is not None and report["input"] == signature

    if is_current():
        return folder
    refuse_foreign(folder, text, parameters)
    opened = source if given else open_source(text, schema=schema, seed=seed)
    if split == "source" and not opened.has_published_split:
        raise UserError(f"'{text}' has no published split (test-*.parquet, or a column 'split'); use split='hash'.")
    with building_place(folder, is_current) as place:
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
    whole = [part if _is_remote(part) else str(find_path(part).resolve()) for part in parts]
    digest = hashlib.sha256(json.dumps([whole, parameters], sort_keys=True).encode()).hexdigest()[:10]
    words = re.sub(r"[^A-Za-z0-9+]+", "-", "+".join(Path(part).name for part in parts)).strip("-")
    return paths.SURVEYS / f"{words[:60]}-{parameters['size']}px-{digest}"
