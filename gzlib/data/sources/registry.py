"""Where galaxies come from: one text names a source, and anyone who knows its prefix or file type opens it.

A folder or catalogue of galaxies and the hub are read here. Everything else registers itself with
:func:`register_source`: the simulated sky, and any package that names a module under the entry point group
``gzlib.sources``, whose entry ``NAME`` is imported when a text begins with ``NAME:``.
"""

import hashlib
import importlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from huggingface_hub import constants, get_session

from gzlib import paths
from gzlib.data.sources.base import Source, join_sources
from gzlib.data.sources.cells import TABLE_SUFFIXES
from gzlib.data.sources.columns import split_of_name
from gzlib.data.sources.readers import folder_source, table_source
from gzlib.errors import UserError
from gzlib.files import FilePath, from_home

CATALOGUES = tuple(f"{name}{suffix}" for name in ("catalog", "catalogue") for suffix in (".csv", ".tsv", ".parquet"))
OTHER_TABLES = (".xlsx", ".xls", ".ods", ".fits", ".fit", ".vot", ".ecsv", ".txt", ".dat", ".json")
READING_VERSION = 5  # raised when the same files are read otherwise, so that surveys made before are made again
NO_OPTIONS = {"schema": None, "labels": None, "dataset_name": None}
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
    signature: Callable[[str], list[Any]] = lambda text: [text]


_OPENERS: dict[str, Opener] = {}


def register_source(name: str, opener: Opener) -> None:
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


def open_source(
    text: FilePath,
    *,
    schema: str | None = None,
    seed: int = 0,
    labels: list[str] | None = None,
    dataset_name: str | None = None,
) -> Source:
    """Open a source of galaxies; nothing is read yet but tables of contents.

    Parameters
    ----------
    text : str or path
        ``sim:20000``, ``sim:gz2+dr5:20000`` or ``sim:TASK:2000`` (simulated sky); ``hub:OWNER/NAME[:CONFIG]``; a folder
        of Galaxy Zoo Evo or class-label parquet; a catalogue (.csv, .tsv, .parquet) with ``id_str`` and ``file_loc``,
        or the folder of a ``catalog.csv``; a folder of images without a table, for prediction; or what a registered
        kind of source takes. Several, joined by commas, make one survey. Paths start at the working directory or at
        the project's root.
    schema : str, optional
        Decision tree to read; by default it is recognised by the vote columns.
    seed : int
        Of generated galaxies.
    labels : list of str, optional
        Label columns beside votes; by default all numbers, and all text in classes, that are not bookkeeping. An empty
        list is for prediction alone: a table without labels is not an error then, and its votes are not read.
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


def _open_one(text: str, seed: int, options: dict[str, Any]) -> Source:
    if opener := _opener(text):
        try:
            return opener.open(text, seed=seed, **options)
        except UserError:
            raise
        except ValueError as error:  # such as digits of another script, which Python's own parsers refuse
            raise UserError(f"Source '{text}' is not valid: {error}.") from None
    path = find_path(text)
    files = table_files(path) if path.is_dir() else [path]
    state = json.dumps([[str(file), *file_state(file)] for file in files])
    chosen = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    return _open_path(text, path, tuple(files), state, **chosen)


@lru_cache(maxsize=16)  # a study asks for one survey many times, and a long table takes a while to look through
def _open_path(
    text: str, path: Path, files: tuple[Path, ...], state: str, labels: tuple[str, ...] | None = None, **options: Any
) -> Source:
    options["labels"] = None if labels is None else list(labels)
    if not path.is_dir():
        if path.suffix.lower() not in TABLE_SUFFIXES:
            hint = "; save the table as .csv" if path.suffix.lower() in OTHER_TABLES else ""
            raise UserError(f"'{text}' is neither a folder nor a .csv, .tsv or .parquet file{hint}.")
        return table_source([path], path.stem, root=path.parent, text=text, **options)
    name = path.resolve().name
    if files:
        return table_source(list(files), name, root=path, text=text, **options)
    if unknown := [file for file in _visible(path, "*") if file.suffix.lower() in TABLE_SUFFIXES and file.is_file()]:
        raise UserError(
            f"Folder '{text}' holds the table '{unknown[0].name}', which is not called catalog.csv (or .parquet), nor"
            " train.csv, test.csv and so on; name that file itself, or move it out of the images' folder."
        )
    called = [file for file in _visible(path, "*") if file.name.lower().split(".")[0] in ("catalog", "catalogue")]
    if other := [file for file in called if file.suffix.lower() in (*OTHER_TABLES, ".gz") and file.is_file()]:
        raise UserError(f"'{other[0]}' is a table of a kind that is not read: save it as catalog.csv.")
    return folder_source(path, name, text=text, **options)


def _open_hub(text: str, *, seed: int, **options: Any) -> Source:
    repository, _, config = text.removeprefix("hub:").partition(":")
    if repository.count("/") != 1:
        raise UserError(f"'{text}' is not a hub data set; write hub:OWNER/NAME or hub:OWNER/NAME:CONFIG.")
    files = download(repository, config or None)
    root = files[0].parent.parent if not config or files[0].parent.name == config else files[0].parent
    return table_source(files, repository.split("/")[1], root=root, text=text, from_hub=True, **options)


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
    candidates = [from_home(text)] if text else []
    candidates += [paths.ROOT / text] if text and paths.ROOT else []
    return next((path for path in candidates if os.path.exists(path)), None)  # no error where a text is not a file name


def find_path(text: str) -> Path:
    """The file or folder that a source names, from the working directory or else from the project's root."""
    path = _existing(text)
    if path is None:
        raise UserError(
            f"There is no file or folder '{text}' (a source is sim:N, hub:OWNER/NAME, or the path of a folder of"
            " parquet files or of a catalogue)."
        )
    return path


def table_files(folder: Path) -> list[Path]:
    """The files of a folder's table: its ``catalog.csv``, or parquet in Galaxy Zoo Evo's layout, or ``train.csv`` etc.

    Parquet lies in ``data/`` or directly in the folder, or there in folders called ``train``, ``test`` and so on.
    Hidden files, such as the ``._*`` that macOS adds to archives, are not tables.
    """
    named = {file.name.lower(): file for file in sorted(folder.iterdir()) if file.is_file()}
    if catalogue := next((named[name] for name in CATALOGUES if name in named), None):
        return [catalogue]
    for place in (folder / "data", folder):
        splits = [f for f in _visible(place, "*/*.parquet") if split_of_name(f.parent.name)]
        if files := _visible(place, "*.parquet") or splits:
            return files
    return [file for file in _visible(folder, "*.[ct]sv") if split_of_name(file.name)]


def _visible(folder: Path, pattern: str) -> list[Path]:
    return sorted(file for file in folder.glob(pattern) if not file.name.startswith((".", "_")))


def input_signature(text: str, **options: Any) -> list[Any]:
    """Names, sizes and times of a source's files and of the images that they name, to see whether they are the same.

    Parameters
    ----------
    text : str
        As :func:`open_source` takes it, which takes the ``options`` too.
    """
    signature: list[Any] = []
    for part in split_text(text):
        if (opener := _opener(part)) and has_prefix(part):
            signature.append(opener.signature(part))
            continue
        path = find_path(part)
        files = table_files(path) if path.is_dir() else [path]
        states = [file_state(file) for file in files]
        images = hashlib.sha256()
        source = _open_one(part, 0, NO_OPTIONS | options)
        for file in source.files() if source.files else ():
            images.update(json.dumps(file_state(file)).encode())
        signature += [*states, [READING_VERSION, images.hexdigest()]]
    return signature


def file_state(file: Path) -> list[str | int]:
    """Name, size and times of a file; a file that is missing has a state too."""
    try:
        status = file.stat()
    except OSError:
        return [str(file), -1, 0, 0]
    return [file.name, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


# The Hugging Face hub: whether it can be reached, and its data sets and models as local files.
HUB_SECONDS = 5.0


def hub_reachable() -> bool:
    """True if the hub answers within a few seconds; its own client would retry for a minute."""
    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_SECONDS)
    except Exception:  # name resolution, proxies, certificates: each client version has its own types
        return False
    return True


@contextmanager
def offline_unless(reachable: bool) -> Iterator[None]:
    """Let the hub's client use nothing but its cache while the hub cannot be reached."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not reachable
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def download(repository: str, config: str | None = None) -> list[Path]:
    """Parquet files of a hub data set: ``data/*.parquet``, or those of a config's folder.

    What has been downloaded before is used without the hub.

    Raises
    ------
    UserError
        If the hub cannot be reached or refuses, saying which local source can be used instead.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    instead = "give a folder of its parquet files as PATH instead, or simulate galaxies with sim:20000"
    pattern = f"{config}/*.parquet" if config else "data/*.parquet"
    try:
        offline = not hub_reachable()
        folder = snapshot_download(repository, repo_type="dataset", allow_patterns=[pattern], local_files_only=offline)
    except LocalEntryNotFoundError:
        raise UserError(f"The Hugging Face hub could not be reached for data set '{repository}'; {instead}.") from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "with an error")
        raise UserError(
            f"The Hugging Face hub answered {status} for data set '{repository}' (misspelt, or its terms must be"
            f" accepted and `hf auth login` run); {instead}."
        ) from None
    except Exception as error:  # a connection lost half-way: each version of the client has its own types
        raise UserError(f"Data set '{repository}' could not be downloaded ({error}); {instead}.") from None
    files = sorted(Path(folder).glob(pattern))
    if not files:
        raise UserError(f"Hub data set '{repository}' has no files '{pattern}'; name another config or {instead}.")
    return files


@lru_cache(maxsize=16)  # every key of a run asks for it
def model_files(repository: str) -> tuple[Path, Path]:
    """``config.json`` and the weights of a repository in timm's format; what was downloaded before needs no hub.

    Raises
    ------
    UserError
        If there is no such repository, it is of another kind, or the hub cannot be reached.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = repository.partition("@")

    def get(file: str) -> Path:
        return Path(hf_hub_download(name, file, revision=revision or None))

    with offline_unless(hub_reachable()):
        try:
            config = get("config.json")
            try:
                return config, get("model.safetensors")
            except EntryNotFoundError:
                return config, get("pytorch_model.bin")
        except LocalEntryNotFoundError:
            raise UserError(
                f"The hub with 'hf_hub:{repository}' could not be reached, and it was not downloaded before; download"
                " it elsewhere and name its folder, or start from 'sky', which is in this package."
            ) from None
        except EntryNotFoundError:
            raise UserError(
                f"'hf_hub:{repository}' is not a repository of timm's: it needs config.json and model.safetensors or"
                " pytorch_model.bin."
            ) from None
        except HFValidationError:
            raise UserError(f"'hf_hub:{repository}' does not name a repository; write hf_hub:OWNER/NAME.") from None
        except HfHubHTTPError as error:
            status = getattr(error.response, "status_code", "with an error")
            raise UserError(
                f"The hub answered {status} for 'hf_hub:{repository}' (misspelt, or its terms must be accepted and"
                " `hf auth login` run)."
            ) from None
        except Exception as error:  # a connection lost half-way: each version of the client has its own types
            raise UserError(
                f"'hf_hub:{repository}' could not be downloaded ({type(error).__name__}: {error})."
            ) from None
