"""Predictions of a saved model for whole sources of galaxies: streamed, resumable, in a file or a table.

A file's rows are made a part at a time in a hidden folder beside it, and put together when all are there. A part is
always of the same galaxies, so that a file whose making was interrupted is equal, byte for byte, to one made at once.
Each part ends with its checksum: one that a disk has damaged meanwhile is made again.
"""

import csv
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import torch
import xarray as xr
from PIL import Image
from pydantic import BaseModel

from gzlib.data.curation import is_survey_source
from gzlib.data.images import SUFFIXES, Frame, Unusable, load_all, prepare_array, prepare_image
from gzlib.data.sources.registry import file_state, find_path, has_prefix, input_signature, open_source, split_text
from gzlib.data.survey import open_survey
from gzlib.errors import UserError
from gzlib.files import held, not_written, place_of, replace_file, spare_folder, write_whole
from gzlib.identity import content_hash, file_hash
from gzlib.progress import Progress
from gzlib.training.saved import SavedModel

What = Literal["predict", "embed"]
PART = 1024  # galaxies, of a survey or a list of images; a table's batches are those of its reader
STATE, VERSION = "state.json", 1  # raised when the same input gives another file
# What lies in the folder of the parts; a process that was killed leaves files with a number at their end.
OWN = re.compile(r"(state\.json|part-\d+\.parquet|whole\.(csv|parquet))|\.[\w.-]+\.tmp-\d+")
PROBLEM = "problem"


@dataclass(frozen=True)
class Galaxies:
    """What is predicted on.

    Attributes
    ----------
    name : str
        For messages.
    total : int
        How many there are.
    parts : callable
        Yields the ids of some galaxies and what gives their images, see :func:`_decoded`.
    signature : list
        What JSON can hold, and what changes when the galaxies do.
    notes : tuple of str
        What of the source is passed over.
    """

    name: str
    total: int
    parts: Callable[[], Iterator[tuple[list[str], Any]]]
    signature: list
    notes: tuple[str, ...] = ()


def galaxies_of(source, frame: Frame, limit: int | None = None) -> Galaxies:
    """Galaxies of whatever :meth:`SavedModel.predict` takes.

    Raises
    ------
    UserError
        If it is not a source, or one without images.
    """
    if isinstance(source, xr.Dataset):
        return _of_survey(source, limit)
    if isinstance(source, pd.Series):
        source = source.tolist()
    if isinstance(source, bytes | Image.Image):
        source = [source]
    if isinstance(source, list | tuple):
        arrays = source and all(_is_array(image) for image in source)
        if arrays and len({(tuple(image.shape), str(image.dtype)) for image in source}) == 1:
            source = np.stack([_as_array(image) for image in source])  # one range of numbers, one order of axes
        else:
            return _of_images(list(source), limit)
    if _is_array(source):
        return _of_images(_as_batch(source), limit)
    if not isinstance(source, str | os.PathLike):
        raise UserError(
            f"Predictions are made for images (n, y, x, 3) in 0..255 or 0..1, a list of image files, a survey or the"
            f" path of a source, not for {type(source).__name__}."
        )
    text = str(source)
    if not text.strip():
        raise UserError("The name of the source is blank: give the path of images, of a catalogue or of a survey.")
    if len(split_text(text)) == 1 and not has_prefix(text):
        path = find_path(text)
        if path.is_file() and path.name.lower().endswith(SUFFIXES):
            return _of_images([path], limit)
        if is_survey_source(text):
            return _of_survey(open_survey(path), limit)
    opened = open_source(text, labels=[])
    total = min(opened.galaxies, limit or opened.galaxies)
    if not total:
        raise UserError(f"'{text}' holds no galaxies.")

    def parts():
        for batch in opened.framed(frame, limit):
            yield batch.catalog["id_str"].tolist(), batch.pictures

    # Of a table the ids and images alone are wanted, so that its other columns are nothing to tell.
    notes = tuple(note for note in opened.notes if note.startswith("files of "))
    return Galaxies(opened.name, total, parts, [input_signature(text, labels=[]), frame.size, limit], notes)


def _of_survey(survey: xr.Dataset, limit: int | None) -> Galaxies:
    images, ids = survey.images.values, survey.id_str.values.tolist()
    total = min(len(ids), limit or len(ids))

    def parts():
        for start in range(0, total, PART):
            stop = min(start + PART, total)
            yield ids[start:stop], images[start:stop]

    return Galaxies("survey", total, parts, [survey.attrs.get("fingerprint", ""), limit])


def _of_images(images: list, limit: int | None) -> Galaxies:
    if not images:
        raise UserError("There are no images to predict on.")
    images = images[:limit]
    named = [isinstance(image, str | os.PathLike) for image in images]
    ids = [str(image) if is_path else str(i) for i, (image, is_path) in enumerate(zip(images, named, strict=True))]
    ready = [_as_picture(image) for image in images]

    def parts():
        for start in range(0, len(ready), PART):
            yield ids[start : start + PART], ready[start : start + PART]

    files = [file_state(Path(image)) if is_path else None for image, is_path in zip(images, named, strict=True)]
    return Galaxies("images", len(ready), parts, files)


def _as_picture(image):
    if isinstance(image, str | os.PathLike):
        return Path(image)
    if isinstance(image, bytes | Image.Image):
        return image
    if _is_array(image):
        found = _as_batch(image)
        if len(found) == 1:
            return found[0]
        raise UserError(f"One image of a list has the shape {np.shape(image)}; give (y, x, 3) each.")
    raise UserError(
        f"An image must be an array (y, x, 3), bytes, a path or a PIL image, not {type(image).__name__}; leave out what"
        " is missing."
    )


def _is_array(image) -> bool:
    return isinstance(image, np.ndarray | torch.Tensor | xr.DataArray)


def _as_array(images) -> np.ndarray:
    if isinstance(images, torch.Tensor):  # numpy has no bfloat16
        images = (images.float() if images.is_floating_point() else images).detach().cpu().numpy()
    return np.asarray(images)


def _as_batch(images) -> list[np.ndarray]:
    """Images (y, x, 3) uint8 of an array or tensor as other programs hold them.

    One image or many; bands last, first, one or none; 0..255 whole or not, 0..65,535 of 16 bits, or 0..1.

    Raises
    ------
    UserError
        If the axes or the range of the numbers cannot be told.
    """
    pixels = _as_array(images)
    bands = [axis for axis in (-1, -3) if pixels.ndim >= 3 and pixels.shape[axis] == 3]
    bands = bands or [axis for axis in (-1, -3) if pixels.ndim == 4 and pixels.shape[axis] == 1]
    plain = pixels.ndim in (2, 3) and not bands  # grey, without an axis of bands
    if pixels.dtype.kind not in "uif" or not (plain or (bands and pixels.ndim in (3, 4))):
        raise UserError(
            f"An array of the shape {pixels.shape} {pixels.dtype} holds no images as they are read here; give"
            " (n, y, x, 3) in 0..255 or 0..1."
        )
    if not pixels.size:
        return []
    if not plain:
        pixels = np.moveaxis(pixels, bands[0], -1)
        pixels = np.repeat(pixels, 3, -1) if pixels.shape[-1] == 1 else pixels
    pixels = pixels if pixels.ndim == (3 if plain else 4) else pixels[None]
    return list(pixels if pixels.dtype == np.uint8 else _eight_bits(pixels))


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    if not np.isfinite(pixels).all():
        raise UserError("Some pixels of the images are not finite; replace them, for instance by 0.")
    low, high = float(pixels.min()), float(pixels.max())
    top = 65535 if pixels.dtype == np.uint16 else 1 if pixels.dtype.kind == "f" and high <= 1 else 255
    if low < 0 or high > top:
        raise UserError(
            f"The pixels of the images lie between {low:g} and {high:g}; give 0..255 or 0..1, without mean and"
            " deviation taken out: the model does that itself."
        )
    return np.rint(pixels.astype(np.float32) * np.float32(255 / top)).astype(np.uint8)


def _decoded(pictures, frame: Frame, pool: ThreadPoolExecutor) -> tuple[np.ndarray, list[str]]:
    """The images of one part that can be used, (m, size, size, 3) uint8, and for each galaxy its problem or ""."""
    if isinstance(pictures, np.ndarray):
        return pictures, [""] * len(pictures)
    ready = (np.ndarray, Image.Image)
    arrays = [row for row, picture in enumerate(pictures) if isinstance(picture, ready)]
    encoded = [row for row, picture in enumerate(pictures) if not isinstance(picture, ready)]
    found: dict[int, Any] = dict(zip(encoded, load_all(pictures, encoded, frame, pool), strict=True))
    for row in arrays:
        own = frame
        if isinstance(pictures[row], np.ndarray) and pictures[row].shape[:2] == (frame.size, frame.size):
            own = frame._replace(central_fraction=1.0)  # an image of a survey, of which the centre is taken already
        try:
            prepare = prepare_array if isinstance(pictures[row], np.ndarray) else prepare_image
            found[row] = prepare(pictures[row], own)
        except Unusable as unusable:
            found[row] = unusable
    problems, pixels = [""] * len(pictures), []
    for row, image in sorted(found.items()):
        if isinstance(image, Unusable):
            problems[row] = f"{image.reason}: {image.detail}"
        else:
            pixels.append(image if isinstance(image, np.ndarray) else image.pixels)
    return np.array(pixels, np.uint8).reshape(-1, frame.size, frame.size, 3), problems


def _outputs(model: SavedModel, what: What, pixels: np.ndarray) -> np.ndarray:
    """What the network makes of the images of one part; of a blank one if there are none, since columns are wanted."""
    if not len(pixels):
        pixels = np.zeros((1, model.config.image.size, model.config.image.size, 3), np.uint8)
    return model.features(pixels) if what == "embed" else model.outputs(pixels)


def _part_table(model: SavedModel, what: What, ids: list[str], outputs: np.ndarray, problems: list[str]) -> pa.Table:
    """The rows of one part: nothing but the id and the problem where an image could not be used."""
    good = np.array([not problem for problem in problems], bool)
    if what == "embed":
        values = {f"feature_{i}": outputs[:, i] for i in range(outputs.shape[1])}
    else:
        values = model.columns(outputs)
    columns = {"id_str": pa.array(ids, pa.string())}
    for name, found in values.items():
        if good.all():
            columns[name] = pa.array(found)
            continue
        spread = np.empty(len(ids), found.dtype)
        spread[good] = found[: good.sum()]
        columns[name] = pa.array(spread, mask=~good)
        if found.dtype == object:
            columns[name] = columns[name].cast(pa.string())
    columns[PROBLEM] = pa.array(problems, pa.string())
    return pa.table(columns)


class _Parts:
    """The parts of a source in order, each decoded by other threads while the one before it is computed."""

    def __init__(self, galaxies: Galaxies, frame: Frame, done: Callable[[int], bool]):
        self.galaxies, self.frame, self.done = galaxies, frame, done
        self.decoders, self.reader = ThreadPoolExecutor(os.cpu_count()), ThreadPoolExecutor(1)

    def _next(self, parts: Iterator, number: int):
        if (part := next(parts, None)) is None:
            return None
        ids, pictures = part
        if self.done(number):
            return ids, None, []
        return (ids, *_decoded(pictures, self.frame, self.decoders))

    def __iter__(self):
        parts, number = iter(self.galaxies.parts()), 0
        coming: Future = self.reader.submit(self._next, parts, 0)
        while (part := coming.result()) is not None:
            number += 1
            coming = self.reader.submit(self._next, parts, number)
            yield part

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pool in (self.reader, self.decoders):
            pool.shutdown(wait=False, cancel_futures=True)


def table_of(model: SavedModel, source, what: What) -> pd.DataFrame:
    """Predictions or features of a source as one table in memory; see :meth:`SavedModel.predict`."""
    frame, tables = model.frame(), []
    galaxies = galaxies_of(source, frame)
    with _Parts(galaxies, frame, lambda number: False) as parts:
        for ids, pixels, problems in parts:
            tables.append(_part_table(model, what, ids, _outputs(model, what, pixels), problems))
    table = pa.concat_tables(tables).to_pandas()
    _refuse_useless(galaxies.name, len(table), table.loc[table[PROBLEM] != "", ["id_str", PROBLEM]].values.tolist())
    return table


def _refuse_useless(name: str, total: int, problems: list):
    if len(problems) == total:
        first, why = problems[0]
        raise UserError(f"None of the {total:,} images of '{name}' can be used; the first, '{first}': {why}.")


def write_table(
    model: SavedModel,
    source: str,
    out,
    *,
    what: What = "predict",
    aspect: str | None = None,
    central_fraction: float | None = None,
    limit: int | None = None,
    force: bool = False,
    progress: bool = True,
) -> dict:
    """Write predictions, or features, for every galaxy of a source into a file.

    Parameters
    ----------
    source : str
        See :meth:`SavedModel.predict`.
    out : path
        A file ``.csv`` or ``.parquet``. One row for each galaxy, in the source's order, with its id as the source has
        it; where an image cannot be used, the column ``problem`` says why and the other columns are blank.
    what : {"predict", "embed"}
    aspect : {None, "pad", "crop"}
        Of images that are not square; by default as in training.
    central_fraction : float, optional
        How much of each side of an image is looked at, around the centre; by default as in training. Images that show
        more sky around the galaxies than those that the model learned from want less.
    limit : int, optional
        Maximum number of galaxies, spread over the source's parts.
    force : bool
        Whether to replace a file that is there.

    Returns
    -------
    dict with ``galaxies``, ``problems``: (id, problem) of each image that could not be used, and ``notes``.

    Raises
    ------
    UserError
        If the file already exists or of another kind, there are no galaxies, or none of the images can be used.
    NotWritten
        If the operating system refuses; what was computed stays, and the same command resumes.
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit={limit} leaves no galaxies; give a number above 0, or leave it out for all.")
    out, place, lock = _output_file(out, force)
    frame = model.frame(aspect, central_fraction)
    galaxies = galaxies_of(source, frame, limit)
    state = {
        "version": VERSION,
        "what": what,
        "model": model.identity(),
        "source": content_hash(galaxies.signature),
        "aspect": frame.aspect,
        **({"central_fraction": frame.central_fraction} if frame.central_fraction != 1 else {}),
        "device": model.device.type,
    }
    with held(lock, f"'{out}'"):
        try:
            if _finished(place, state, out):
                problems = _problems_in(out)
            elif os.path.lexists(out) and not force:
                raise _already(out)
            else:
                _open_place(place, state)
                problems = _fill(model, galaxies, place, out, what, frame, progress)
            _remove_place(place)
            return {"galaxies": galaxies.total, "problems": problems, "notes": galaxies.notes}
        except OSError as error:
            raise not_written(out, error) from None


def _output_file(out, force: bool) -> tuple[Path, Path, Path]:
    """The file to write, the folder of its parts, and its lock."""
    out = place_of(out)
    if out.suffix.lower() not in (".csv", ".parquet"):
        raise UserError(f"'{out.name}' is neither a .csv nor a .parquet file; name one of these with --out.")
    place, lock = (place_of(out.with_name(f".{out.name}.{ending}")) for ending in ("partial", "lock"))
    left = place.is_dir() or lock.exists()  # by a process that may have been killed when all was done but this
    if out.is_dir() or (os.path.lexists(out) and not force and not left):
        raise _already(out)
    return out, place, lock


def _already(out: Path) -> UserError:
    return UserError(f"'{out}' already exists; choose another name, or replace the file with --force.")


class _State(BaseModel):
    """What the parts of a place are of, and once they are put together, the hash of the file."""

    of: dict[str, Any]
    file: str = ""


def _state_of(place: Path) -> _State | None:
    try:
        return _State.model_validate_json((place / STATE).read_bytes())
    except (OSError, ValueError):
        return None


def _finished(place: Path, state: dict, out: Path) -> bool:
    """Whether a process was killed when the file was in its place and only the parts were still to go."""
    if not (place.is_dir() and out.is_file()):
        return False
    found = _state_of(place)
    if found is None:  # a place is made with its state, which goes last
        return not any(place.iterdir())
    return found.of == state and found.file == file_hash(out)


def _problems_in(out: Path) -> list[tuple[str, str]]:
    if out.suffix.lower() == ".parquet":
        table = pq.read_table(out, columns=["id_str", PROBLEM])
    else:
        text = {"id_str": pa.string(), PROBLEM: pa.string()}
        table = pacsv.read_csv(out, convert_options=pacsv.ConvertOptions(include_columns=[*text], column_types=text))
    rows = zip(table["id_str"].to_pylist(), table[PROBLEM].to_pylist(), strict=True)
    return [(i, why) for i, why in rows if why]


def _open_place(place: Path, state: dict):
    """The folder of the parts; those of other galaxies or another model go, and what a killed process half wrote."""
    if place.is_dir() and (foreign := [file.name for file in place.iterdir() if not OWN.fullmatch(file.name)]):
        raise UserError(f"'{place}' holds '{foreign[0]}', which this command did not make; move it away.")
    for file in place.glob("*.tmp-*"):
        file.unlink()
    with spare_folder(place) as spare:
        if (found := _state_of(place)) is None or found.of != state:
            _remove_place(place)
            fresh = spare / "fresh"
            fresh.mkdir()
            replace_file(fresh / STATE, _State(of=state).model_dump_json())
            fresh.rename(place)


def _remove_place(place: Path):
    """Its state goes last, so that it is told from one that is being filled."""
    if place.is_dir():
        for file in sorted(place.iterdir(), key=lambda file: file.name == STATE):
            file.unlink()
        place.rmdir()


def _fill(model, galaxies: Galaxies, place: Path, out: Path, what: What, frame: Frame, progress: bool) -> list:
    def file(number: int) -> Path:
        return place / f"part-{number:07d}.parquet"

    def store(number: int, *part) -> None:
        content = _sealed(_part_table(model, what, *part))
        write_whole(file(number), lambda target: target.write(content))

    problems, number, words = [], 0, {"predict": "predicting", "embed": "embedding"}[what]
    stored: Future | None = None  # intervals and the disk take their time while the network has the next part
    with (
        Progress(words, galaxies.total, "galaxies", progress) as bar,
        _Parts(galaxies, frame, lambda n: _unsealed(file(n)) is not None) as parts,
        ThreadPoolExecutor(1) as writer,
    ):
        for number, (ids, pixels, found) in enumerate(parts):
            if pixels is not None:
                outputs = _outputs(model, what, pixels)
                if stored is not None:
                    stored.result()
                stored = writer.submit(store, number, ids, outputs, found)
            else:
                found = _read_part(file(number))[PROBLEM].to_pylist()
            problems += [(i, why) for i, why in zip(ids, found, strict=True) if why]
            bar.update(len(ids))
        if stored is not None:
            stored.result()
    if len(problems) == galaxies.total:  # there is nothing to resume from
        _remove_place(place)
    _refuse_useless(galaxies.name, galaxies.total, problems)
    join = _join_csv if out.suffix.lower() == ".csv" else _join_parquet
    whole = place / f"whole{out.suffix.lower()}"
    write_whole(whole, lambda target: join([file(n) for n in range(number + 1)], target))
    state = _state_of(place)
    replace_file(place / STATE, _State(of=state.of if state else {}, file=file_hash(whole)).model_dump_json())
    os.replace(whole, out)
    return problems


DIGEST = 32  # bytes of a SHA-256, which end the file of a part


def _sealed(table: pa.Table) -> bytes:
    """A part's file: parquet, then its SHA-256."""
    content = io.BytesIO()
    pq.write_table(table, content, compression="zstd")
    return content.getvalue() + hashlib.sha256(content.getbuffer()).digest()


def _unsealed(file: Path) -> bytes | None:
    """The parquet in a part's file; None if there is none, or not as it was written."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    body, digest = content[:-DIGEST], content[-DIGEST:]
    return body if hashlib.sha256(body).digest() == digest else None


def _read_part(file: Path) -> pa.Table:
    if (content := _unsealed(file)) is None:  # since it was looked at
        raise UserError(f"'{file}' has been damaged; the same command makes it again.")
    return pq.read_table(io.BytesIO(content))


def _join_csv(files: list[Path], target):
    header = io.StringIO()
    csv.writer(header, lineterminator="\n").writerow(_read_part(files[0]).column_names)
    target.write(header.getvalue().encode())
    options = pacsv.WriteOptions(include_header=False, quoting_style="needed")
    for file in files:
        pacsv.write_csv(_read_part(file), target, options)


def _join_parquet(files: list[Path], target):
    with pq.ParquetWriter(target, _read_part(files[0]).schema.remove_metadata(), compression="zstd") as writer:
        for file in files:
            writer.write_table(_read_part(file).replace_schema_metadata())
