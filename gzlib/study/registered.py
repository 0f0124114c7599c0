"""Forecasts registered before the runs that they are about, and what came of them."""

import datetime
import json
from pathlib import Path
from typing import Annotated

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from gzlib import paths
from gzlib.errors import UserError
from gzlib.files import checked_name, misfit
from gzlib.fitting import forecast, judge_forecast, load_forecast, store_forecast
from gzlib.identity import canonical_json
from gzlib.study.presets import pretraining_study
from gzlib.trace import input_files, note
from gzlib.training import key_of, load_runs, read_run, sweep

PATTERN = "data/forecasts/*.json"  # below the project's root


class _Study(BaseModel):
    model_config = ConfigDict(extra="forbid")
    preset: str
    source: str
    encoders: list[str]
    seeds: list[int]
    pilot: list[int]
    targets: list[int]


class _Expected(BaseModel):
    encoder: str
    n_train: Annotated[int, Field(gt=0)]
    seed: int
    key: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]


class _Registered(BaseModel):
    """What a registered forecast holds besides."""

    study: _Study
    expected: Annotated[list[_Expected], Field(min_length=1)]


def _registered(path) -> dict:
    content = load_forecast(path)
    if problem := misfit(content, _Registered):
        raise UserError(f"'{path}' is not a registered forecast ({problem}); restore it from git.")
    return content


def register_forecast(name, *, pilot, targets, preset="laptop", source, encoders, seeds=(0, 1, 2), level=0.95):
    """Make the pilot's runs, forecast the larger ones and store the forecast, before any larger run exists.

    Parameters
    ----------
    name : the file's name in ``data/forecasts``, without ``.json``
    pilot, targets : lists of int, training galaxies of the runs to learn from and of those to forecast
    preset, source, encoders, seeds : the study, as for ``pretraining_study``; pilot and outcome share the survey and
        so the test galaxies
    level : coverage of the band of the mean over the seeds

    Returns
    -------
    str, the SHA-256 of the stored forecast.

    Raises
    ------
    UserError
        If a run that is to be forecast exists already, a pilot run fails, or the name is taken.
    """
    path = _path(name)
    if path.exists():
        raise UserError(f"data/forecasts/{name}.json exists: a stored forecast is not replaced, choose another name.")
    if min(targets) <= max(pilot):
        raise UserError(f"A forecast looks ahead: the target {min(targets)} is not above the pilot's {max(pilot)}.")
    choice = {"preset": preset, "source": source, "encoders": list(encoders), "seeds": list(seeds)}
    expected = _expected(choice, targets)
    if known := [run["key"] for run in expected if read_run(run["key"]) is not None]:
        raise UserError(f"Run '{known[0]}' is there already, so its loss is no secret: forecast a larger one.")
    jobs = _jobs(choice, pilot)
    records = sweep(jobs)
    if len(records) < len(jobs):
        raise UserError(f"{len(jobs) - len(records)} of {len(jobs)} pilot runs failed: fix them before forecasting.")
    loss = load_runs(records, dims=["encoder", "n_train", "seed"], values={"loss": "loss"}).loss
    return store_forecast(
        path,
        forecast(loss, np.array(targets, float), level=level),
        question=f"Mean test loss per galaxy [nats] over {len(choice['seeds'])} seeds on the survey {source}",
        data_key=canonical_json(sorted(record["key"] for record in records)),
        date=datetime.date.today().isoformat(),
        study=choice | {"pilot": list(pilot), "targets": list(targets)},
        expected=expected,
    )


def run_outcome(name):
    """Train the runs that a stored forecast is about; returns their records."""
    content = _registered(_path(name))
    choice, targets = content["study"], content["study"]["targets"]
    keys = {run["key"] for run in content["expected"]}
    if keys != {run["key"] for run in _expected(choice, targets)}:
        raise UserError(
            f"The runs that data/forecasts/{name}.json announces can't be made any more: "
            "the survey or the meaning of training has changed since."
        )
    return sweep(_jobs(choice, targets))


def judge_registered(path):
    """A stored forecast beside its outcome, as ``judge_forecast`` gives it; a size counts once all its seeds ran.

    Returns
    -------
    content : dict, the stored forecast
    rows : list of dict
    """
    content = _registered(path)
    losses = {}
    for run in content["expected"]:
        note("run", key=run["key"])  # also while it is missing: a chapter is stale once the outcome arrives
        record = read_run(run["key"])
        value = np.nan if record is None else np.log(record["metrics"]["loss"])
        losses.setdefault((run["encoder"], run["n_train"]), []).append(value)
    encoders, sizes = (list(dict.fromkeys(place[i] for place in losses)) for i in range(2))
    means = [[np.exp(np.mean(losses[encoder, size])) for size in sizes] for encoder in encoders]
    outcome = xr.DataArray(means, coords={"encoder": encoders, "n_train": sizes}, dims=["encoder", "n_train"])
    return content, judge_forecast(path, outcome)


def stored_forecasts(*, preset=None, source=None, encoders=None):
    """Stored forecasts of the book beside their outcomes: list of (content, rows) of :func:`judge_registered`.

    Parameters
    ----------
    preset, source : str, optional
        Only those of the study of this preset, and of this source of galaxies.
    encoders : list of str, optional
        Only those that are about encoders among these.
    """
    chosen = []
    for file in input_files(PATTERN):
        study = _registered(file)["study"]
        wanted = preset in (None, study["preset"]) and source in (None, study["source"])
        if wanted and (encoders is None or set(study["encoders"]) <= set(encoders)):
            chosen.append(judge_registered(file))
    return chosen


def pilot_losses(content):
    """Losses of the pilot of a stored forecast, DataArray (encoder, n_train, seed); None where its runs are gone."""
    try:
        keys = json.loads(content["data_key"])
    except ValueError:
        keys = None
    if not (isinstance(keys, list) and all(isinstance(key, str) for key in keys)):
        raise UserError(f"The forecast of '{content['question']}' does not name the runs that it was made from.")
    records = [read_run(key) for key in keys]
    if any(record is None for record in records):
        return None
    return load_runs(records, dims=["encoder", "n_train", "seed"], values={"loss": "loss"}).loss


def _path(name) -> Path:
    return paths.project() / "data" / "forecasts" / f"{checked_name(name, 'a forecast')}.json"


def _jobs(choice, sizes):
    study = pretraining_study(
        choice["preset"],
        source=choice["source"],
        encoders=choice["encoders"],
        seeds=choice["seeds"],
        n_train=list(sizes),
    )
    return study.jobs()


def _expected(choice, targets):
    return [
        {"encoder": config.encoder, "n_train": config.n_train, "seed": config.seed, "key": key_of(config, survey)}
        for config, survey in _jobs(choice, targets)
    ]
