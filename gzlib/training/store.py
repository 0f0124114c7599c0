"""The run store: one folder a run, named by what defines it; and runs as labelled arrays and tables.

``run.json`` is written last, so that a run with a record is complete. The store in use (``paths.STORE``) is looked up
before the book's. Runs are written to the store in use alone; the book's is in use while the book is built, for
registered forecasts, and where a user names it.
"""

import base64
import gc
import json
import math
import re
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from gzlib import paths, trace
from gzlib.config import RunConfig, config_dict, kind_of
from gzlib.errors import Busy, UserError
from gzlib.files import check_replaceable, is_held, misfit, read_checked, remove_folder, replace_file, write_whole
from gzlib.identity import TRAINING_VERSION, content_hash
from gzlib.paths import device_name, versions

if TYPE_CHECKING:
    import torch  # listing runs does without these
    import xarray as xr


Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10**15)]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class _Config(_Shape):
    encoder: str
    n_train: Count
    seed: int
    weights: str
    recipe: dict[str, Any]
    task: str = ""
    label: str = ""
    mode: str = ""


class _Part(_Shape):
    source: str
    simulated: bool


class _Survey(_Shape):
    source: str
    size: Count
    split: str
    seed: int
    fingerprint: str
    parts: list[_Part]
    limit: Count | None = None
    tree: str | None = Field(None, alias="schema")


class _Weights(_Shape):
    tag: str
    sha256: str
    mean: list[Number] | None = None
    std: list[Number] | None = None


class _Floor(_Shape):
    loss: Number
    questions: dict[str, Number] = {}


class _History(_Shape):
    examples: list[Count]
    train_loss: list[Number]
    val_loss: list[Number]

    @model_validator(mode="after")
    def _same_length(self):
        if not len(self.examples) == len(self.train_loss) == len(self.val_loss):
            raise ValueError("its lists differ in length")
        return self


class _Metrics(_Shape):
    loss: Number
    error: Number | None = None
    loss_se: Number | None = None
    baseline: Number | None = None
    questions: dict[str, Number] = {}
    asked: dict[str, Count] = {}
    floor: _Floor | None = None
    history: _History | None = None
    n_params: Count | None = None
    n_test: Count | None = None


class _Test(_Shape):
    what: Literal["loss", "right", "squared_error"]
    n: Count
    scale: Number = 1.0
    data: str


class _Provenance(_Shape):
    seconds: Number
    device: str
    started: str | None = None
    git: str | None = None
    python: str | None = None
    torch: str | None = None
    timm: str | None = None


class Record(_Shape):
    """What a ``run.json`` holds, as far as the code relies on it."""

    key: str
    kind: Literal["pretrain", "finetune"]
    config: _Config
    survey: _Survey
    weights: _Weights | None
    metrics: _Metrics
    test: _Test | None
    provenance: _Provenance

    @model_validator(mode="after")
    def _whole(self):
        if self.kind == "finetune":
            if absent := [name for name in ("task", "label", "mode") if name not in self.config.model_fields_set]:
                raise ValueError(f"'config.{absent[0]}' is missing")
            if self.metrics.error is None:
                raise ValueError("'metrics.error' is missing")
        return self


KEY = re.compile(r"[0-9a-f]{16}")
FLOAT16 = (2.0**-10, 65504.0)  # within which the largest of some numbers is stored as it is
LOCK = ".lock"  # in the folder of a run, while it is being made


def run_key(config: RunConfig, survey_fingerprint: str, weights: dict | None) -> str:
    """16 hexadecimal digits that stand for a run: configuration, survey, starting weights, meaning of training.

    Parameters
    ----------
    survey_fingerprint : str
        See :func:`gzlib.data.survey_fingerprint`.
    weights : dict or None
        The file that ``config.weights`` stands for, see :func:`gzlib.models.weights_identity`.
    """
    identity = [kind_of(config), config_dict(config), survey_fingerprint, weights, TRAINING_VERSION]
    return content_hash(identity)[:16]


def read_run(key: str) -> dict | None:
    """The record of a finished run, or None.

    Raises
    ------
    UserError
        If the file is damaged, or something else than a record of this run.
    """
    file = paths.run_folder(key) / "run.json"
    return read_record(file) if file.is_file() else None


def read_record(file: Path) -> dict:
    """The record in one ``run.json``; errors as :func:`read_run`."""
    key = file.parent.name
    trace.note("run", key=key)
    cure = "restore it, or delete it to make the run again"
    record = read_checked(file, Record, what=f"the record of run '{key}'", cure=cure)
    if record["key"] != key:
        raise UserError(f"'{file}' is not the record of run '{key}' (its key is '{record['key']}'); {cure}.")
    return record


def write_run(record: dict):
    """Store a finished run. Its weights must lie beside it already: the record is what makes a run complete.

    Raises
    ------
    UserError
        If it is not a record, as where a metric is not a number.
    """
    measured = {name: _finite(record[name]) for name in ("metrics", "provenance")}
    record = record | measured
    if problem := misfit(json.loads(json.dumps(record, allow_nan=False)), Record):
        raise UserError(f"Run '{record['key']}' is not stored: {problem}.")
    text = json.dumps(record, indent=1, sort_keys=True, allow_nan=False) + "\n"
    replace_file(paths.STORE / record["key"] / "run.json", text)
    trace.note("run", key=record["key"])


def _finite(value):
    """Floats with seven digits, NaN as null: what differs below that is not a result."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value


def pack_per_galaxy(values: np.ndarray, *, what: str) -> dict:
    """One number for each test galaxy, small enough to be committed: float16, or bits.

    Squared errors in a small or a large unit are stored over a ``scale``.

    Parameters
    ----------
    values : (n,) float or bool
        In the order of the survey's test galaxies.
    what : str
        ``loss`` (of a galaxy, summed over questions), ``right`` (whether its class was found), ``squared_error``.
    """
    values, scale = np.asarray(values), {}
    if values.dtype == bool:
        raw = np.packbits(values).tobytes()
    else:
        largest = float(np.abs(values).max(initial=0))
        if 0 < largest < FLOAT16[0] or FLOAT16[1] < largest < math.inf:
            scale = {"scale": 2.0 ** math.floor(math.log2(largest))}
        raw = (values / scale.get("scale", 1)).astype("<f2").tobytes()
    return {"what": what, "n": len(values), **scale, "data": base64.b64encode(zlib.compress(raw, 9)).decode()}


def per_galaxy(record: dict) -> np.ndarray:
    """What :func:`pack_per_galaxy` stored with a run: (n,) float32, float64 over a ``scale``, or bool for ``right``.

    Two runs on surveys of one fingerprint are paired galaxy by galaxy: both follow the order of the test split.

    Raises
    ------
    UserError
        If the run was recorded without it, or it is damaged.
    """
    packed = record["test"]
    if packed is None:
        raise UserError(f"Run '{record['key']}' was recorded without a value for each test galaxy; make it again.")
    n, bits = packed["n"], packed["what"] == "right"
    size = -(-n // 8) if bits else 2 * n
    try:
        inflate = zlib.decompressobj()
        raw = inflate.decompress(base64.b64decode(packed["data"], validate=True), size + 1)  # a little may become a lot
    except (ValueError, zlib.error) as error:
        raise UserError(f"The values for each test galaxy of run '{record['key']}' are damaged ({error}).") from None
    if len(raw) != size or not inflate.eof:
        raise UserError(f"Run '{record['key']}' does not hold a value for each of its {n} test galaxies.")
    if bits:
        return np.unpackbits(np.frombuffer(raw, np.uint8), count=n).astype(bool)
    values = np.frombuffer(raw, "<f2")
    return values.astype(float) * packed["scale"] if "scale" in packed else values.astype(np.float32)


def provenance(device: "torch.device", started: datetime, seconds: float, *, processes: int = 1) -> dict:
    """When, where and with what a run was made: recorded, never part of its key."""
    record = versions() | {"device": device_name(device), "started": utc(started), "seconds": seconds}
    if processes > 1:
        record["processes"] = processes
    if device.type == "cuda":
        import torch

        record["peak_memory_bytes"] = torch.cuda.max_memory_allocated(device)
    return record


def utc(moment: datetime) -> str:
    """A moment as ISO 8601 in UTC, to the second."""
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def stored_records(
    kind: str | None = None, *, store: Path | None = None, damaged: list[str] | None = None
) -> list[dict]:
    """Every finished run of a store, in the order of their keys.

    Parameters
    ----------
    kind : str, optional
        ``pretrain`` or ``finetune`` alone.
    store : Path, optional
        By default the one in use.
    damaged : list, optional
        Takes a sentence about each record that cannot be read; without it, the first one is raised.

    Raises
    ------
    UserError
        As :func:`read_run`.
    """
    trace.note("runs")
    records = []
    files = sorted((store or paths.STORE).glob("*/run.json"), key=str)  # paths compare part by part, which is slow
    with _no_garbage():
        for file in files:
            try:
                records.append(read_record(file))
            except UserError as error:
                if damaged is None:
                    raise
                damaged.append(str(error))
    return [r for r in records if kind is None or r["kind"] == kind]


@contextmanager
def _no_garbage() -> Iterator[None]:
    """For code that makes millions of objects that all stay: Python does not search them for garbage meanwhile."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def unfinished_runs() -> list[str]:
    """Keys of the runs in the store in use that failed, were cut off, or are being made."""
    folders = paths.STORE.iterdir() if paths.STORE.is_dir() else []
    return sorted(f.name for f in folders if KEY.fullmatch(f.name) and f.is_dir() and not (f / "run.json").exists())


def find_key(text: str) -> str:
    """The key that begins so, of the store in use or the book's.

    Raises
    ------
    UserError
        If no run's key does, or several do.
    """
    where = " or ".join(map(str, paths.stores()))
    keys = {file.parent.name for store in paths.stores() for file in store.glob("*/run.json") if file.is_file()}
    found = {key for key in keys if text and key.startswith(text)}
    if len(found) != 1:
        shown = repr(text if len(text) <= 40 else f"{text[:39]}…")
        several = f"{len(found)} runs have keys that begin with {shown}" if found else f"There is no run {shown}"
        several += f" ({', '.join(sorted(found)[:3])}, ...)" if found else ""
        raise UserError(f"{several} in {where}; list them with 'gzlib runs ls'.")
    return found.pop()


def remove_runs(keys: list[str]):
    """Delete runs of the user's store, with their weights and checkpoints; unfinished ones too.

    Raises
    ------
    UserError
        If a key is not one of the store's, the store is the book's, or a run's folder holds a file that making a run
        does not leave there; nothing is deleted then.
    """
    keys = list(dict.fromkeys(keys))
    if paths.STORE == paths.BOOK_RUNS:
        raise UserError(f"'{paths.STORE}' holds the book's own runs; remove those with git, if you must.")
    for key in keys:
        if not KEY.fullmatch(key) or not (paths.STORE / key).is_dir():
            shown = repr(key if len(key) <= 40 else f"{key[:39]}…")
            raise UserError(f"There is no run {shown} in '{paths.STORE}'; list them with 'gzlib runs ls'.")
        if is_held(paths.STORE / key / LOCK):
            raise Busy(f"Run {key} is being made by another process; stop that one first.")
    for act in (check_replaceable, remove_folder):  # first all are looked at
        for key in keys:
            act(paths.STORE / key, "a run", keep=(paths.ROOT,), own=lambda _, name: paths.is_run_file(name))


def runs_table(records: list[dict]) -> list[dict]:
    """One flat row a run, for listings and export: configuration, survey, result and provenance.

    Columns: ``key``, ``kind``, ``task``, ``label``, ``mode``, ``encoder``, ``weights``, ``n_train``, ``seed``, the
    recipe's and objective's fields (``recipe.examples``, ``recipe.augment.flip``, ...), ``source``, ``size`` [px],
    ``fingerprint`` of the survey, ``loss`` [nats a galaxy for pretraining], ``error`` (finetuning), ``baseline``,
    ``floor``, ``n_params``, one ``question.NAME`` [nats a galaxy asked] for each question, ``started``, ``seconds``,
    ``device``, versions. Empty where a run has no such thing.
    """
    rows = []
    for record in records:
        config, metrics = dict(record["config"]), record["metrics"]
        row = {"key": record["key"], "kind": record["kind"]}
        row |= {name: config.pop(name, "") for name in ("task", "label", "mode")}
        _flatten(config, row)
        survey = record["survey"]
        row |= {name: survey[name] for name in ("source", "size", "split")}
        row |= {"seed": config["seed"], "fingerprint": survey["fingerprint"], "sky_seed": survey["seed"]}
        row |= {name: metrics.get(name) for name in ("loss", "loss_se", "error", "baseline", "n_params", "n_test")}
        row["floor"] = (metrics.get("floor") or {}).get("loss")
        row |= {f"question.{name}": value for name, value in metrics.get("questions", {}).items()}
        row |= record["provenance"]
        rows.append(row)
    return rows


def _flatten(table: dict, row: dict, prefix: str = ""):
    """Write the values of nested tables into one row; without copies, as stores hold tens of thousands of runs."""
    for name, value in table.items():
        if isinstance(value, dict):
            _flatten(value, row, f"{prefix}{name}.")
        else:
            row[prefix + name] = value


def chosen_records(
    kind: str | None = None, where: Sequence[str] = (), *, damaged: list[str] | None = None
) -> list[dict]:
    """The store's runs of a kind and with settings such as ``encoder=resnet_w12``.

    Parameters
    ----------
    kind, damaged
        As :func:`stored_records` takes them.
    where : list of str
        Columns of :func:`runs_table` and their values.

    Raises
    ------
    UserError
        If no run has such a setting.
    """
    records = stored_records(kind, damaged=damaged)
    for pair in where:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"--where {pair}: write NAME=VALUE, such as encoder=resnet_w12.")
        rows = runs_table(records)
        if rows and not any(name in row for row in rows):
            raise UserError(f"--where {pair}: runs have no '{name}'; they have {', '.join(rows[0])}.")
        records = [r for r, row in zip(records, rows, strict=True) if str(row.get(name)) == value]
    return records


def runs_listing(records: list[dict]) -> str:
    """A table of runs for reading, in Markdown, one line a run."""
    from tabulate import tabulate

    columns: dict[str, list] = {"key": [r["key"] for r in records], "kind": [r["kind"] for r in records]}
    columns |= {name: [r["config"].get(name, "") for r in records] for name in ("task", "mode", "encoder", "weights")}
    columns["source"] = [r["survey"]["source"] for r in records]
    columns |= {name: [r["config"][name] for r in records] for name in ("n_train", "seed")}
    columns["result"] = [r["metrics"]["loss" if r["kind"] == "pretrain" else "error"] for r in records]
    columns["started"] = [r["provenance"].get("started") or "" for r in records]
    texts = [i for i, name in enumerate(columns) if name not in ("n_train", "seed", "result")]  # as many runs take long
    how: dict[str, Any] = {"headers": "keys", "tablefmt": "pipe", "floatfmt": ".4f", "intfmt": ","}
    return tabulate(columns, disable_numparse=texts, **how)


def export_runs(records: list[dict], file: Path):
    """Write :func:`runs_table` as CSV, or as netCDF with one dimension ``run``, by the file's suffix.

    Raises
    ------
    UserError
        If the suffix is neither ``.csv`` nor ``.nc``, or there are no runs.
    """
    if not records:
        raise UserError(f"There are no such runs in '{paths.STORE}' to export.")
    if file.is_dir():
        raise UserError(f"'{file}' is a folder; name a file to export to.")
    import pandas as pd

    with _no_garbage():
        table = pd.DataFrame(runs_table(records)).set_index("key")
    if file.suffix == ".csv":
        replace_file(file, table.to_csv(lineterminator="\n"))
    elif file.suffix == ".nc":
        import xarray as xr

        data = xr.Dataset({name: ("run", _column(table[name])) for name in table}, {"run": table.index.to_list()})
        data.attrs = {"title": "Runs of gzlib", "columns": "gzlib.training.runs_table"}
        with tempfile.TemporaryDirectory() as folder:  # HDF5 writes to a path of its own
            whole = Path(folder) / "runs.nc"
            data.to_netcdf(whole, engine="h5netcdf")
            write_whole(file, lambda target: target.write(whole.read_bytes()))
    else:
        raise UserError(f"'{file}': runs are exported as .csv or .nc (netCDF); choose one of these suffixes.")


def _column(values) -> np.ndarray:
    """A column as netCDF can hold it: numbers with NaN for none, else text."""
    if values.map(lambda v: v is None or isinstance(v, int | float)).all():
        return values.astype(float).to_numpy()
    return values.map(lambda v: "" if v is None or v != v else str(v)).to_numpy(dtype=str)


def load_runs(records: list[dict], *, dims: list[str], values: dict[str, str]) -> "xr.Dataset":
    """Metrics of runs over the fields in which they differ.

    Parameters
    ----------
    records : list of dict
        As the sweeps return them or :func:`stored_records` reads them.
    dims : list of str
        Configuration fields that become dimensions; together they must tell the runs apart.
    values : dict of str to str
        Name of each variable and the metric that it holds, with dots into nested metrics: ``questions.bar-gz2``.

    Returns
    -------
    xarray.Dataset over ``dims``. Grid points without a run are NaN. Words keep their order of appearance,
    numbers are sorted.

    Raises
    ------
    UserError
        If there is no run, or two runs share one place.
    """
    import xarray as xr

    if not records:
        raise UserError("There are no runs to load; run the sweep first.")
    index = {}
    for dim in dims:
        if lacking := [record["key"] for record in records if dim not in record["config"]]:
            raise UserError(f"Run '{lacking[0]}' has no '{dim}'; it has {', '.join(records[0]['config'])}.")
        labels = list(dict.fromkeys(record["config"][dim] for record in records))
        index[dim] = labels if isinstance(labels[0], str) else sorted(labels)
    shape = [len(labels) for labels in index.values()]
    data = xr.Dataset({name: (dims, np.full(shape, math.nan)) for name in values}, coords=index)
    taken: dict[tuple, str] = {}
    for record in records:
        at = {dim: record["config"][dim] for dim in dims}
        other = taken.setdefault(tuple(at.values()), record["key"])
        if other != record["key"]:
            raise UserError(f"Runs '{other}' and '{record['key']}' share {at}; name the field in which they differ.")
        for name, path in values.items():
            value = record["metrics"]
            for part in path.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            data[name].loc[at] = math.nan if value is None else value
    return data
