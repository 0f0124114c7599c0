"""Where galaxies come from: one text names a source, and whoever knows its prefix or file type opens it.

A folder or catalogue of galaxies and the hub are read here. Everything else registers itself with
:func:`register_source`: the simulated sky, and any package that names a module under the entry point group
``gzlib.sources``, whose entry ``NAME`` is imported when a text begins with ``NAME:``.
"""

import importlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from gzlib import paths
from gzlib.data.hub import download
from gzlib.data.sources.base import Source, join_sources
from gzlib.data.sources.readers import catalogue_source, parquet_source
from gzlib.errors import UserError

CATALOGUES = ("catalog.csv", "catalog.parquet", "catalogue.csv", "catalogue.parquet")
ENTRY_POINTS = "gzlib.sources"
REGISTERED_BY = {"sim": "gzlib.sky.source"}  # named, not imported: this package does without the sky


@dataclass(frozen=True)
class Opener:
    """How a registered kind of source is opened.

    Attributes
    ----------
    open : callable
        ``open(text, seed=..., schema=..., labels=..., dataset_name=...)`` gives the :class:`Source`.
    generated : bool
        The galaxies are made from the text and the seed, so that ``Source.identity`` says all about them.
    signature : callable
        ``signature(text)``: a list that JSON can hold and that changes when the source gives other galaxies.
    """

    open: Callable[..., Source]
    generated: bool = False
    signature: Callable[[str], list] = lambda text: [text]


_OPENERS: dict[str, Opener] = {}


def register_source(name: str, opener: Opener):
    """Make a kind of source known.

    Parameters
    ----------
    name : str
        A prefix with its colon, such as ``sim:``, or a file's suffix with its dot, such as ``.fits``.
    opener : Opener
    """
    if not re.fullmatch(r"[a-z][\w-]+:|\.\w+", name):
        raise UserError(f"'{name}' names no kind of source; give a prefix such as 'sky:' or a suffix such as '.fits'.")
    _OPENERS[name] = opener


def _opener(text: str) -> Opener | None:
    """Who opens this text, by its prefix or its suffix; modules of entry points are imported as they are needed."""
    prefix = re.match(r"[a-z][\w-]+(?=:|$)", text)
    if prefix and f"{prefix[0]}:" not in _OPENERS:
        if prefix[0] in REGISTERED_BY:
            importlib.import_module(REGISTERED_BY[prefix[0]])
        for entry in entry_points(group=ENTRY_POINTS, name=prefix[0]):
            entry.load()
    name = f"{prefix[0]}:" if prefix else ""
    return _OPENERS.get(name) or _OPENERS.get(Path(text).suffix)


def open_source(text, *, schema=None, seed=0, labels=None, dataset_name=None) -> Source:
    """Open a source of galaxies; nothing is read yet but tables of contents.

    Parameters
    ----------
    text : str
        ``sim:20000``, ``sim:gz2+dr5:20000`` or ``sim:TASK:2000`` (simulated sky); ``hub:OWNER/NAME[:CONFIG]``; a folder
        of Galaxy Zoo Evo or class-label parquet; a catalogue (.csv, .parquet) with ``id_str`` and ``file_loc``, or the
        folder of a ``catalog.csv``; or what a registered kind of source takes. Several, joined by commas, make one
        survey. Paths start at the working directory or at the project's root.
    schema : str, optional
        Decision tree to read; by default it is recognised by the vote columns.
    seed : int
        Of generated galaxies.
    labels : list of str, optional
        Label columns beside votes; by default every column of numbers that is not bookkeeping.
    dataset_name : str, optional
        For galaxies whose table does not give one; by default the folder's or file's name.

    Raises
    ------
    UserError
        If the source does not exist, cannot be reached, or cannot be understood.
    """
    options = {"schema": schema, "labels": labels, "dataset_name": dataset_name}
    return join_sources([_open_one(part, seed, options) for part in split_text(str(text))])


def split_text(text: str) -> list[str]:
    """The single sources of a comma-joined text; a path that exists is one source, comma or not."""
    if _existing(text) is not None:
        return [text]
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise UserError(f"Source '{text}' is empty, or has an empty part; write sim:20000, hub:OWNER/NAME or a path.")
    return parts


def _open_one(text: str, seed: int, options: dict) -> Source:
    if opener := _opener(text):
        return opener.open(text, seed=seed, **options)
    path = find_path(text)
    if path.is_file():
        return _open_file(path, text, options)
    catalogues = _catalogues(path)
    if catalogues:
        return catalogue_source(catalogues[0], path.resolve().name, text=text, **options)
    files = parquet_files(path)
    if not files:
        raise UserError(f"Folder '{text}' holds neither parquet files (*.parquet, data/*.parquet) nor a catalog.csv.")
    return parquet_source(files, path.resolve().name, text=text, **options)


def _open_file(path: Path, text: str, options: dict) -> Source:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix not in (".csv", ".parquet"):
        raise UserError(f"'{text}' is neither a folder nor a .csv or .parquet file.")
    if path.suffix == ".parquet":
        try:
            has_images = "image" in pq.read_schema(path).names
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"'{text}' cannot be read as parquet: {error}.") from None
        if has_images:
            return parquet_source([path], path.stem, text=text, **options)
    return catalogue_source(path, path.stem, text=text, **options)


def _open_hub(text: str, *, seed: int, **options) -> Source:
    repository, _, config = text.removeprefix("hub:").partition(":")
    if repository.count("/") != 1:
        raise UserError(f"'{text}' is no hub data set; write hub:OWNER/NAME or hub:OWNER/NAME:CONFIG.")
    files = download(repository, config or None)
    return parquet_source(files, repository.split("/")[1], text=text, **options)


# Described by its name alone: so a curated survey opens without the hub.
register_source("hub:", Opener(_open_hub))


def is_generated(text: str) -> bool:
    """Whether a single source makes its galaxies, so that its text and seed say all about them."""
    opener = _opener(text)
    return opener is not None and opener.generated


def has_prefix(text: str) -> bool:
    """Whether a single source is named by a registered prefix rather than by a path."""
    return _opener(text) is not None and _existing(text) is None


def _existing(text: str) -> Path | None:
    candidates = [Path(text).expanduser()] if text else []
    candidates += [paths.ROOT / text] if text and paths.ROOT else []
    return next((path for path in candidates if os.path.exists(path)), None)  # no error where a text is no file name


def find_path(text: str) -> Path:
    """The file or folder that a source names, from the working directory or else from the project's root."""
    path = _existing(text)
    if path is None:
        raise UserError(
            f"There is no file or folder '{text}' (a source is sim:N, hub:OWNER/NAME, or the path of a folder of"
            " parquet files or of a catalogue)."
        )
    return path


def _catalogues(folder: Path) -> list[Path]:
    return [folder / name for name in CATALOGUES if (folder / name).is_file()]


def parquet_files(folder: Path) -> list[Path]:
    """Parquet files of a folder in Galaxy Zoo Evo's layout: in ``data/``, or else directly in the folder."""
    return sorted(folder.glob("data/*.parquet")) or sorted(folder.glob("*.parquet"))


def input_signature(text: str) -> list:
    """Cheap description of a source's files (name, size, time of change), to see whether they are still the same.

    Images that a catalogue names are not looked at one by one; folders beside the catalogue show that files came or
    went.
    """
    signature = []
    for part in split_text(text):
        if has_prefix(part):
            signature.append(_opener(part).signature(part))
            continue
        path = find_path(part)
        files = [path] if path.is_file() else _catalogues(path)[:1] or parquet_files(path)
        folders = [f for f in files[0].parent.iterdir() if f.is_dir()] if files else []
        for file in files + sorted(folders):
            stat = file.stat()
            signature.append([file.name, stat.st_size if file.is_file() else 0, stat.st_mtime_ns])
    return signature
