"""Where galaxies come from: the simulated sky, Galaxy Zoo Evo parquet, the hub, a catalogue of picture files.

Each source is a small function with the same result, a :class:`~gzlib.data.sources.base.Source`.
"""

import os
from pathlib import Path

from gzlib import paths
from gzlib.data.sources.base import Batch, Source
from gzlib.data.sources.evo import parquet_source
from gzlib.data.sources.files import catalogue_source
from gzlib.data.sources.hub import download
from gzlib.data.sources.joined import join_sources
from gzlib.data.sources.simulated import simulated_source, sky_version
from gzlib.errors import UserError

__all__ = ["Batch", "Source", "find_path", "input_signature", "is_simulated", "open_source", "split_text"]

CATALOGUES = ("catalog.csv", "catalog.parquet", "catalogue.csv", "catalogue.parquet")


def open_source(text, *, schema=None, seed=0, labels=None, dataset_name=None) -> Source:
    """Open a source of galaxies; nothing is read yet but tables of contents.

    Parameters
    ----------
    text : str
        ``sim:20000``, ``sim:gz2+dr5:20000`` or ``sim:TASK:2000`` (simulated sky); ``hub:OWNER/NAME[:CONFIG]``; a folder
        of Galaxy Zoo Evo or class-label parquet; a catalogue (.csv, .parquet) with ``id_str`` and ``file_loc``, or the
        folder of a ``catalog.csv``. Several, joined by commas, make one survey. Paths start at the working directory
        or at the project's root.
    schema : str, optional
        Decision tree to read; by default it is recognised by the vote columns.
    seed : int
        Of the simulated sky.
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
    if is_simulated(text):
        source = simulated_source(text, seed=seed)
        if options["schema"] not in (None, source.schema):
            raise UserError(f"'{text}' has schema '{source.schema}', not '{options['schema']}'; name its campaigns.")
        return source
    if text.startswith("hub:"):
        repository, _, config = text.removeprefix("hub:").partition(":")
        if repository.count("/") != 1:
            raise UserError(f"'{text}' is no hub data set; write hub:OWNER/NAME or hub:OWNER/NAME:CONFIG.")
        files = download(repository, config or None)
        return parquet_source(files, repository.split("/")[1], text=text, **options)
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
            has_pictures = "image" in pq.read_schema(path).names
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"'{text}' cannot be read as parquet: {error}.") from None
        if has_pictures:
            return parquet_source([path], path.stem, text=text, **options)
    return catalogue_source(path, path.stem, text=text, **options)


def is_simulated(text: str) -> bool:
    """Whether a single source is the simulated sky."""
    return text == "sim" or text.startswith("sim:")


def _existing(text: str) -> Path | None:
    candidates = [Path(text).expanduser(), paths.ROOT / text] if text else []
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

    A hub repository is described by its name: so a curated survey opens without the hub.
    Pictures that a catalogue names are not looked at one by one; folders beside the catalogue show that files came or
    went.
    """
    signature = []
    for part in split_text(text):
        if is_simulated(part):
            signature.append([part, sky_version()])
            continue
        if part.startswith("hub:"):
            signature.append([part])
            continue
        path = find_path(part)
        files = [path] if path.is_file() else _catalogues(path)[:1] or parquet_files(path)
        folders = [f for f in files[0].parent.iterdir() if f.is_dir()] if files else []
        for file in files + sorted(folders):
            stat = file.stat()
            signature.append([file.name, stat.st_size if file.is_file() else 0, stat.st_mtime_ns])
    return signature
