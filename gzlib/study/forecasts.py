"""Forecasts of the book: what is registered before its runs, what more labels would bring, and the planner's panel."""

import datetime
import json
from html import escape
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy.special import ndtri

from gzlib import paths
from gzlib.errors import UserError
from gzlib.files import checked_name, misfit
from gzlib.fitting import fit_curves, forecast, judge_forecast, load_forecast, store_forecast
from gzlib.fitting.ensemble import Pilot
from gzlib.fitting.fits import LACK_OF_FIT_LEVEL
from gzlib.fitting.forecasting import MIN_POINTS, read_pilots
from gzlib.fitting.intervals import check_level, student_quantile
from gzlib.fitting.laws import LAWS
from gzlib.fitting.optimise import log_gradient
from gzlib.fitting.planner import (
    EVEN,
    Descent,
    compare_options,
    find_arrival,
    find_descents,
    labels_needed,
    noise_of_means,
    planning_grid,
)
from gzlib.fitting.report import chance_text
from gzlib.identity import canonical_json
from gzlib.study.presets import BOOK, pretraining_study
from gzlib.study.results import StudyRuns
from gzlib.study.tables import NONE, number, share
from gzlib.trace import input_files, note
from gzlib.training import key_of, load_runs, read_run, sweep

PATTERN = "data/forecasts/*.json"  # below the project's root
UNLIKELY = 0.01  # chance of reaching a target below which labels are not told closely
TARGETS = 100  # of each option, for which the panel holds arrivals
MOMENT = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$"  # as runs have their start, so that the two compare as text


class _Planned(BaseModel):
    """A plan's forecast: which runs it was made from is in its ``data_key``, which it is about in ``expected``."""

    model_config = ConfigDict(extra="forbid")
    plan: Annotated[str, Field(pattern="^[\\w-]+$")]


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
    """What a registered forecast holds besides; that of a plan, the moment (UTC) from which its runs may begin."""

    study: _Study | _Planned
    expected: Annotated[list[_Expected], Field(min_length=1)]
    created: Annotated[str, Field(pattern=MOMENT)] | None = None

    @model_validator(mode="after")
    def _dated(self):
        if isinstance(self.study, _Planned) and self.created is None:
            raise ValueError("'created' is missing")
        return self


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
    preset, source, encoders, seeds : as for ``pretraining_study``
        The study. Pilot and outcome share the survey and so the test galaxies.
    level : coverage of the band of the mean over the seeds

    Returns
    -------
    str, the SHA-256 of the stored forecast.

    Raises
    ------
    UserError
        If a run that is to be forecast exists already, a pilot run fails, the name is taken, or the level is none.
    """
    check_level(level)  # before the runs, which take long
    path = _path(name)
    if path.exists():
        raise UserError(f"data/forecasts/{name}.json exists: a stored forecast is not replaced, choose another name.")
    if min(targets) <= max(pilot):
        raise UserError(f"A forecast looks ahead: the target {min(targets)} is not above the pilot's {max(pilot)}.")
    choice = {"preset": preset, "source": source, "encoders": list(encoders), "seeds": list(seeds)}
    expected = _expected(choice, targets)
    if known := [run["key"] for run in expected if read_run(run["key"]) is not None]:
        raise UserError(f"Run '{known[0]}' exists already, so its loss is known: forecast a larger one.")
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


TOTAL = "total"  # beside the names of questions


def register_plan(name, *, plan="study", seed=0, level=0.95):
    """Forecast the runs of a plan that do not exist yet from those that do, and store the forecasts.

    For each encoder with runs of three training sets or more: the total loss at every larger training set of the plan
    of which no run exists, and the loss of each question at the largest of them.

    Parameters
    ----------
    name : the file's name in ``data/forecasts``, without ``.json``
    plan : name of the plan in ``data/plans``
    seed : int, of the run at each size that is forecast; the band is one of a single run
    level : coverage of the band

    Returns
    -------
    str, the SHA-256 of the stored forecasts.

    Raises
    ------
    UserError
        If the name is taken, the level is none, or no encoder has both runs of three training sets and a larger one
        to come.
    """
    check_level(level)
    path = _path(name)
    if path.exists():
        raise UserError(f"data/forecasts/{name}.json exists: a stored forecast is not replaced, choose another name.")
    study = pretraining_study(BOOK, plan=plan)
    records = study.records()
    curves = _quantities(records)
    known = curves.sel(quantity=TOTAL).notnull()
    sizes = known.any("seed")
    largest = {e: int(known.n_train.where(sizes.sel(encoder=e)).max()) for e in known.encoder.values}
    long = {e for e in largest if int(sizes.sel(encoder=e).sum()) >= MIN_POINTS}
    wanted = [
        (config, survey)
        for config, survey in study.jobs()
        if config.encoder in long and config.seed == seed and config.n_train > largest[config.encoder]
    ]
    if not wanted:
        raise UserError(
            f"The plan '{plan}' has no run to forecast: none is larger than those that its encoders have,"
            f" or no encoder has {MIN_POINTS} training sets."
        )
    farthest = {c.encoder: max(d.n_train for d, _ in wanted if d.encoder == c.encoder) for c, _ in wanted}
    made = forecast(curves, np.array(sorted({c.n_train for c, _ in wanted}), float), level=level, kind="new_run")
    about = xr.zeros_like(made.loss, bool)
    for config, _ in wanted:
        about.loc[{"quantity": TOTAL, "encoder": config.encoder, "n_train": config.n_train}] = True
        about.loc[{"encoder": config.encoder, "n_train": farthest[config.encoder]}] = True
    expected = [
        {"encoder": config.encoder, "n_train": config.n_train, "seed": seed, "key": key_of(config, survey)}
        for config, survey in wanted
    ]
    now = datetime.datetime.now(datetime.UTC)
    return store_forecast(
        path,
        made.where(about),
        question=f"Test loss [nats] of one run on the survey {study.survey.source}: the total, and each question's",
        data_key=canonical_json(sorted(record["key"] for record in records)),
        date=now.date().isoformat(),
        created=now.isoformat(timespec="seconds"),
        study={"plan": plan},
        expected=expected,
    )


def _quantities(records) -> xr.DataArray:
    """(quantity, encoder, n_train, seed): the total loss and each question's."""
    runs = StudyRuns(records)
    total = runs.loss.expand_dims(quantity=[TOTAL])
    return xr.concat([total, runs.questions.rename(question="quantity")], "quantity").rename("loss")


def run_outcome(name):
    """Train the runs that a stored forecast is about; returns their records."""
    content = _registered(_path(name))
    choice = content["study"]
    jobs = pretraining_study(BOOK, plan=choice["plan"]).jobs() if "plan" in choice else _jobs(choice, choice["targets"])
    keyed = {key_of(*job): job for job in jobs}
    keys = [run["key"] for run in content["expected"]]
    if not set(keys) <= set(keyed) or ("plan" not in choice and len(keyed) != len(keys)):
        raise UserError(
            f"The runs that data/forecasts/{name}.json announces can't be made any longer: "
            "the survey or the meaning of training has changed since."
        )
    return sweep([keyed[key] for key in keys])


def judge_registered(path):
    """A stored forecast beside its outcome, as ``judge_forecast`` gives it; a size counts once all its seeds ran.

    Returns
    -------
    content : dict, the stored forecast
    rows : list of dict
    """
    content = _registered(path)
    if "plan" in content["study"]:
        return content, judge_forecast(path, _planned_outcome(content))
    losses: dict[tuple[str, int], list[float]] = {}
    for run in content["expected"]:
        note("run", key=run["key"])  # also while it is missing: a chapter is stale once the outcome arrives
        record = read_run(run["key"])
        value = np.nan if record is None else np.log(record["metrics"]["loss"])
        losses.setdefault((run["encoder"], run["n_train"]), []).append(value)
    encoders = list(dict.fromkeys(encoder for encoder, _ in losses))
    sizes = list(dict.fromkeys(size for _, size in losses))
    means = [[np.exp(np.mean(losses[encoder, size])) for size in sizes] for encoder in encoders]
    outcome = xr.DataArray(means, coords={"encoder": encoders, "n_train": sizes}, dims=["encoder", "n_train"])
    return content, judge_forecast(path, outcome)


def _planned_outcome(content) -> xr.DataArray:
    """What the runs of a plan measured, (quantity, encoder, n_train); empty as long as there is none."""
    records = []
    for run in content["expected"]:
        note("run", key=run["key"])  # also while it is missing
        record = read_run(run["key"])
        if record is not None and (record["provenance"]["started"] or "") > content["created"]:  # else it was known
            records.append(record)
    return _quantities(records).mean("seed") if records else xr.DataArray(np.zeros(0), {"n_train": []}, ["n_train"])


def stored_forecasts(*, preset=None, source=None, encoders=None):
    """Stored forecasts of the book beside their outcomes: list of (content, rows) of :func:`judge_registered`.

    Parameters
    ----------
    preset, source : str, optional
        Only those of the study of this preset, and of this source of galaxies; those of a plan have neither.
    encoders : list of str, optional
        Only those that are about encoders among these.
    """
    chosen = []
    for file in input_files(PATTERN):
        study = _registered(file)["study"]
        wanted = preset in (None, study.get("preset")) and source in (None, study.get("source"))
        if wanted and (encoders is None or set(study.get("encoders", ())) <= set(encoders)):
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
    records = [record for key in keys if (record := read_run(key)) is not None]
    if len(records) < len(keys):
        return None
    if "plan" in content["study"]:
        return StudyRuns(records).loss
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


MAX_FACTOR = 100.0  # the panel's axis ends at this multiple of the largest pilot
FIGURES = 7  # significant digits of the embedded numbers, so that the same forecast gives the same bytes


class Panel(str):
    """HTML of a panel; notebooks show it as such, the book stores it as one raw block, beside which no script loads."""

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return {"text/html": str(self), "text/markdown": f"```{{=html}}\n{self}\n```"}


def planner_panel(
    loss,
    *,
    target,
    cost_per_label,
    cost_per_hour,
    hours_per_label,
    owned=0,
    level=0.95,
    unit="nats",
    option="encoder",
    x="n_train",
    ident="planner",
):
    """HTML of a panel that says how many labels each encoder needs for a target loss, and what they cost.

    The page computes what ``labels_needed`` and ``compare_options`` compute, from the forecasts embedded in it: labels
    for targets between those that it holds are interpolated.

    Parameters
    ----------
    loss : DataArray (option, x, seed), the pilot
    target, cost_per_label, cost_per_hour, owned : float, what the controls start with
    hours_per_label : dict of option to hours of training for each training galaxy
    level : coverage of the bands
    unit : unit of the loss
    ident : the panel's id, unique on its page

    Returns
    -------
    Panel
        HTML without blank lines: Markdown would end an HTML block there.

    Raises
    ------
    UserError
        If an option has no training time, or the target or a price is negative or not finite.
    """
    names = [str(name) for name in loss[option].values]
    if absent := [name for name in names if name not in hours_per_label]:
        raise UserError(f"The panel needs the training hours of {absent[0]!r}: add it to hours_per_label.")
    choice = {"target": target, "label_price": cost_per_label, "hour_price": cost_per_hour, "owned": owned}
    for name, value in choice.items():
        if not (np.isfinite(value) and value >= 0):
            raise UserError(f"The panel's {name} is {value}: give a finite number of at least zero.")
    needed = labels_needed(loss, target, x=x, level=level, max_factor=MAX_FACTOR, risks=())
    rows = compare_options(
        needed,
        cost_per_label=cost_per_label,
        cost_per_gpu_hour=cost_per_hour,
        gpu_hours=lambda labels_of, labels: hours_per_label[str(labels_of[option])] * labels,
        owned_labels=owned,
    )
    data = panel_data(loss, hours_per_label, target=target, level=level, option=option, x=x)
    data |= {
        "unit": unit,
        "choice": {name: rounded(value) for name, value in choice.items()},
        "shown": str(rows[0][option]),
    }
    parts = {
        "ID": ident,
        "UNIT": escape(unit),
        "LEVEL": data["level"],
        "ANSWER": escape(f"For a loss of {target:.4g} {unit}; prices as in the chapter’s parameters."),
        "ROWS": "\n".join(_row(row, option) for row in rows),
        "NOTE": escape(
            f"Labels are those needed if the target can be reached at all, with the chance that it can; forecasts reach"
            f" to {MAX_FACTOR:g} times the largest training set, beyond which there is ‘no limit’. Costs hold labels"
            " beyond those owned, and one training."
        ),
        # In a script element, '</' would end it and '<!--' would hide what follows.
        "DATA": json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        "SCRIPT": _page(ident, page_source("panel.js")),
    }
    page = page_source("panel.html")
    for name, text in parts.items():
        page = page.replace(f"@{name}@", text)
    return Panel("\n".join(line for line in page.splitlines() if line.strip()))


EXAMPLE = "n_train  loss\n250  1.62\n500  1.47\n1000  1.38\n2000  1.29\n4000  1.24\n8000  1.19"


def own_curve_panel(example: str = EXAMPLE, *, ident: str = "own-curve") -> Panel:
    """HTML of a panel that fits the law E + A x^-alpha to a curve that the reader pastes.

    The page computes what :func:`gzlib.fitting.fit_curves` computes with its defaults, and the band of the delta
    method.

    Parameters
    ----------
    example : str
        The curve to start with: a size and a loss in each line.
    ident : str
        The panel's id, unique on its page.

    Returns
    -------
    Panel
        HTML without blank lines.
    """
    page = page_source("pasted.html")
    script = f"{own_curve_script()}\npage(document.getElementById({json.dumps(ident)}));"
    for name, text in {"ID": ident, "EXAMPLE": escape(example.strip()), "SCRIPT": script}.items():
        page = page.replace(f"@{name}@", text)
    return Panel("\n".join(line for line in page.splitlines() if line.strip()))


def example_fit(times: float, *, level: float, example: str = EXAMPLE) -> tuple[float, float, float, float]:
    """Largest size of an example curve, and its fitted loss with the ends of the band at so many times that size.

    The band is that of the page's own fit, from the covariance of the parameters: the sentence below the panel repeats
    numbers of the panel's table.
    """
    table = np.array([line.split() for line in example.splitlines()[1:]], float)
    curve = xr.DataArray(table[:, 1], {"n_train": table[:, 0]}, ["n_train"])
    fit, law = fit_curves(curve, draws=0), LAWS["power-offset"]
    values = np.array([[float(fit[name]) for name in law.names]])
    scaled = np.array([times * table[-1, 0] / fit.attrs["x_ref"]])
    slope = log_gradient(law, [scaled], values)[0, 0]
    free = np.isfinite(np.diag(matrix := fit["covariance"].values))
    sd = np.sqrt(slope[free] @ matrix[np.ix_(free, free)] @ slope[free])
    half = float(student_quantile(0.5 * (1 + level), float(fit["dof"])) * sd)
    loss = float(law.function(scaled, *values[0])[0])
    return float(table[-1, 0]), loss, loss * np.exp(-half), loss * np.exp(half)


def own_curve_script() -> str:
    """The JavaScript of :func:`own_curve_panel`, without what starts it."""
    limits = {"MOST": LAWS["power-offset"].parameters["alpha"].maximum, "LACK": LACK_OF_FIT_LEVEL}
    script = page_source("pasted.js")
    for name, value in limits.items():
        script = script.replace(f"@{name}@", f"{value:g}")
    return script


def panel_data(loss, hours_per_label, *, target, level=0.95, option="encoder", x="n_train"):
    """The forecasts that the page computes with: sizes, and for each option its curve, band, means and arrivals.

    ``target`` is among those whose arrivals it holds, so that the page begins with the numbers of a table beside it.
    """
    sizes = loss[x].values.astype(float)
    grid = planning_grid(sizes, MAX_FACTOR)
    ahead = forecast(loss, grid, x=x, level=level)
    mean = np.exp(np.log(loss).mean("seed"))
    found = read_pilots(loss, x=x, replicate="seed")
    pilots = dict(zip(found.usable, found.pilots, strict=True))
    descents = dict(zip(found.usable, find_descents(found.pilots), strict=True))
    options = []
    for i, name in enumerate(loss[option].values):
        one = ahead.sel({option: name})
        measured = mean.sel({option: name}).values
        points = [[n, rounded(v)] for n, v in zip(sizes, measured, strict=True) if np.isfinite(v)]
        ends = {"median": "loss", "lower": "lower", "upper": "upper"}
        curves = {key: [rounded(v) for v in one[name].values] for key, name in ends.items()}
        options.append(
            {"name": str(name), "hours_per_label": rounded(hours_per_label[str(name)])}
            | {"points": points, "last": int(np.searchsorted(grid, points[-1][0]))}
            | curves
            | {"arrivals": _arrivals(descents[i], np.nanmin(measured), target, level) if i in descents else None}
            | {"reached": _reached(pilots[i], descents[i], level) if i in descents else None}
        )
    return {"sizes": [rounded(n) for n in grid], "level": f"{100 * level:g}\u00a0%", "options": options}


def _arrivals(descent: Descent, best: float, target: float, level: float) -> dict[str, list]:
    """When targets below the best measured loss are reached, by ln of their distance from it.

    ``leads``: ln(ln(size / last size)) of the median and the ends of the interval; ``chance``: of reaching it at all.
    """
    log_best = float(np.log(best))
    deepest = log_best - max(float(descent.mean.min()), log_best - 5.0)
    tail, most = 0.5 * (1 - level), np.log(MAX_FACTOR)

    def near(drop: float) -> bool:
        arrival = descent.arrival(log_best - drop)
        return bool(arrival.chance > UNLIKELY and arrival.lead(tail) < most)

    edge, beyond = 0.0, deepest
    for _ in range(12):
        middle = 0.5 * (edge + beyond)
        edge, beyond = (middle, beyond) if near(middle) else (edge, middle)
    edge = beyond  # the first place at which there is little to tell
    # Closer where the target is near; beyond the edge only chances are told.
    drops = np.append(
        edge * np.linspace(0.02, 1, TARGETS) ** 2,
        edge + (deepest - edge) * np.linspace(0, 1, TARGETS // 5 + 1)[1:] ** 3,
    )
    drops = np.union1d(drops, log_best - np.log(target)) if 0 < target < best else drops
    arrivals = [descent.arrival(log_best - drop) for drop in drops]
    with np.errstate(invalid="ignore"):
        leads = np.log(descent.leads(log_best - drops, (EVEN, tail, 1 - tail)))
    return {
        "drops": [rounded(np.log(drop)) for drop in drops],
        "leads": [[rounded(value) for value in row] for row in leads.T],
        "chance": [rounded(arrival.chance) for arrival in arrivals],
    }


def _reached(pilot: Pilot, descent: Descent, level: float) -> dict[str, list]:
    """When targets that a measured mean is at are reached: ln(size) of the median and the ends of the interval.

    Between targets, of which ``falls`` has -ln(loss), they are straight: within the pilot they bend where a measured
    mean lies, moved as far as its noise may have moved it.
    """
    ends = np.array([EVEN, 0.5 * (1 - level), 0.5 * (1 + level)])
    best, most = pilot.log_y.min(), pilot.log_y.max()
    bends = (pilot.log_y + ndtri(ends)[:, None] * noise_of_means(pilot, descent)).ravel()
    near = best + (most - best) * np.linspace(0, 1, TARGETS // 4) ** 2
    targets = np.unique(np.concatenate([bends[(bends > best) & (bends < most)], near]))[::-1]
    sizes = np.array([find_arrival(pilot, descent, value, ends)[0] for value in targets])
    return {
        "falls": [rounded(-value) for value in targets],
        "sizes": [[rounded(value) for value in row] for row in sizes.T],
    }


def rounded(value, digits=FIGURES):
    """A number for a page's script, null where there is none."""
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None


def page_source(name):
    """A file beside this one; noted, so that changing it makes the chapter stale. Panels share a style and axes."""
    input_files(f"gzlib/study/{name}")
    text = Path(__file__).with_name(name).read_text(encoding="utf-8").rstrip("\n")
    if name.endswith(".js") and name != "axes.js":
        text = f"{page_source('axes.js')}\n{text}"
    return text.replace("@STYLE@", page_source("panel.css")) if "@STYLE@" in text else text


def _page(ident, script):
    start = f'const root = document.getElementById("{ident}");\n'
    return f'{script}\n{start}page(root, JSON.parse(root.querySelector(".data").textContent));'


def _row(row, option):
    band = f"{_count(row['labels_low'])} to {_count(row['labels_high'], 'no limit')}"
    cost_band = f"{_count(row['cost_low'])} to {_count(row['cost_high'], 'no limit')}"
    if not np.isfinite(row["labels_low"]):
        band = cost_band = "out of reach"
    texts = (_count(row["labels"]), band, chance_text(row["reachable"], NONE), _count(row["cost"]), cost_band)
    cells = "".join(f"<td>{text}</td>" for text in texts)
    return f'<tr><th scope="row">{escape(str(row[option]))}</th>{cells}</tr>'


def _count(value, endless="out of reach"):
    """A count with three digits, as the page shows it."""
    if not np.isfinite(value):
        return endless
    return f"{float(f'{value:.3g}') if value >= 1000 else value:,.0f}"


def planner_table(options: list[dict], *, level: float) -> pd.DataFrame:
    """What :func:`gzlib.fitting.compare_options` found, one row for each encoder, in words."""
    return pd.DataFrame(
        {
            "encoder": [o["encoder"] for o in options],
            "labels": [_count(o["labels"]) for o in options],
            f"{100 * level:g} % interval": [_band(o) for o in options],
            "can be reached": [chance_text(o["reachable"], NONE) for o in options],
            "cost": [_count(o["cost"]) for o in options],
            "status": [o["status"] for o in options],
        }
    )


def risk_table(needed: xr.Dataset) -> pd.DataFrame:
    """Labels of each encoder by how sure they are to be enough, if the target can be reached at all, and whether."""
    table: dict[str, list[str]] = {"encoder": [str(name) for name in needed["encoder"].values]}
    for risk in needed["risk"].values:
        labels = needed["labels_by_risk"].sel(risk=risk).values
        table[f"{100 * (1 - risk):g} % sure"] = [NONE if np.isnan(n) else _count(n) for n in labels]
    table["can be reached"] = [chance_text(value, NONE) for value in needed["reachable"].values]
    return pd.DataFrame(table)


def planner_words(options: list[dict], *, best: float, target: float, owned: int, prices: str, level: float) -> str:
    """A plan as a paragraph.

    Parameters
    ----------
    options : list of dict
        Cheapest first, as :func:`gzlib.fitting.compare_options` gives them.
    best, target : float
        The lowest loss measured, and the one asked for.
    owned : int
        Labels there are.
    prices : str
        What labels and training cost, in words.
    """
    first, others = options[0], [o for o in options[1:] if np.isfinite(o["cost"])]
    if not np.isfinite(first["cost"]):
        return (
            f"No encoder of this study is forecast to reach {target:.2f} nats, however many labels it is given: "
            "another encoder or other images are needed, not more of the same labels."
        )
    parts = [
        f"To bring the loss from {best:.2f} to {target:.2f} nats, `{first['encoder']}` is forecast to need"
        f" {_count(first['labels'])} labels in all ({100 * level:g} % interval: {_band(first)}),"
        f" {_count(first['labels'] - owned)} more than this study has, if more labels can bring it there at all"
        f" (chance: {chance_text(first['reachable'])}).",
        f"At {prices} that costs {_count(first['cost'])}.",
        f"The next option, `{others[0]['encoder']}`, costs {_count(others[0]['cost'])}."
        if others
        else "No other encoder gets there.",
    ]
    if first["reachable"] < level:
        parts.append(
            "The pilot does not exclude that the target is never reached, so a careful planner labels in steps and"
            " forecasts again after each."
        )
    return " ".join(parts)


def _band(option: dict) -> str:
    if not np.isfinite(option["labels_low"]):
        return "out of reach"
    return f"{_count(option['labels_low'])} to {_count(option['labels_high'], 'no limit')}"


def registered_rows(**study) -> tuple[dict[str, xr.DataArray], pd.DataFrame]:
    """Stored forecasts of a study (:func:`stored_forecasts`): mean losses of the pilots by name, one row a forecast."""
    pilots, rows = {}, []
    for content, judged in stored_forecasts(**study):
        pilot = pilot_losses(content)
        made_for = content["study"]
        for row in judged:
            name = f"{row['encoder']}, {made_for.get('source') or 'plan ' + made_for['plan']}"
            if pilot is not None:
                pilots[name] = pilot.sel(encoder=row["encoder"]).mean("seed")
            rows.append({"quantity": TOTAL} | row | {"name": name, "date": content["date"], "level": content["level"]})
    return pilots, pd.DataFrame(rows)


def registered_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Stored forecasts of the mean test loss and what was measured afterwards."""
    return pd.DataFrame(
        {
            "stored": rows["date"],
            "encoder, survey": rows["name"],
            "galaxies": rows["n_train"].astype(int),
            "forecast": [number(v, ".2f") for v in rows["forecast"]],
            "band": [f"{lo:.2f}\u00a0to\u00a0{hi:.2f}" for lo, hi in zip(rows["lower"], rows["upper"], strict=True)],
            "outcome": [number(v, ".2f") for v in rows["outcome"]],
            "in band": rows["inside"].map({True: "yes", False: "no"}).fillna(NONE),
        }
    )


def registered_words(rows: pd.DataFrame) -> str:
    """How many of the stored forecasts came true, in sentences: those of the total, then those of single questions."""
    measured = rows[rows["outcome"].notna()] if len(rows) else rows
    if not len(measured):
        return "No outcome has been measured yet."
    of_questions = measured["quantity"] != TOTAL if "quantity" in measured else pd.Series(False, measured.index)
    told = []
    if n := int((~of_questions).sum()):
        held = int(measured.loc[~of_questions, "inside"].sum())
        told.append(
            f"Of {n} outcome{'s' * (n > 1)} of the total that ha{'ve' if n > 1 else 's'} been measured,"
            f" {held or 'none'} lie{'s' * (held == 1)} within the band."
        )
    if n := int(of_questions.sum()):
        chosen = measured[of_questions]
        inside, outcome = chosen["inside"].astype(bool), chosen["outcome"].astype(float)
        told.append(
            f"Of the outcomes of single questions, {share(inside)} ({100 * inside.mean():.0f} %) do;"
            f" {int((outcome < chosen['lower']).sum())} lie below the band and {int((outcome > chosen['upper']).sum())}"
            f" above it, where {100 * (1 - chosen['level'].iloc[0]):g} % were to be expected outside. Questions of one"
            " encoder share its run, so that they are not independent."
        )
    return " ".join(told)
