"""Many runs: plans of them, and making those that are missing; a failure does not stop the rest.

A plan is a TOML file that says which runs there are:

.. code-block:: toml

    [survey]                       # what pretrain tables train on; fields of SurveySpec
    source = "sim:12000"
    size = 64

    [recipe]                       # of every pretrain table, where not the study's; fields of Recipe
    examples = 20000

    [[pretrain]]                   # fields of PretrainConfig; a list stands for each of its values
    name = "galaxies"              # optional, for the finetune tables
    encoder = ["resnet_w6", "resnet_w12"]
    n_train = [500, 2000, 8000]
    seed = [0, 1, 2]
    recipe = { learning_rate = [3e-3, 1e-2] }

    [[finetune]]                   # fields of FinetuneConfig
    task = "rings"
    survey = { source = "sim:rings:3000", size = 64 }
    label = "ring_fraction"
    encoder = "resnet_w12"
    weights = ["random", "galaxies"]    # a table's name: each of its runs with this encoder
    n_train = [50, 100, 300]

``preset = "laptop"`` alone stands for all runs of that preset's study. A pretraining run has the recipe that the study
has for its encoder and its number of galaxies (:func:`gzlib.study_recipe`), which ``[recipe]`` and then the tables' own
recipes change; ``rule = "study"`` in ``[recipe]`` says so.
"""

import time
import tomllib
from collections.abc import Callable, Collection, Iterable
from contextlib import closing, contextmanager
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from gzlib import paths
from gzlib.config import (
    FINETUNING,
    USUAL,
    Conduct,
    FinetuneConfig,
    PretrainConfig,
    RunConfig,
    SurveySpec,
    check_number,
    fill,
    grid,
    kind_of,
    of_its_encoder,
    refuse_unknown,
    runs_named,
)
from gzlib.data.curation import existing_survey, refuse_spec, training_galaxies
from gzlib.data.sources.registry import is_generated, offline_unless, split_text
from gzlib.errors import Busy, NotWritten, UserError, some_of
from gzlib.files import is_held, misfit
from gzlib.identity import file_hash
from gzlib.models.weights import KINDS, weights_kind
from gzlib.progress import Live, duration
from gzlib.training.distributed import helped, worker_count
from gzlib.training.runs import LOCK, key_of, run
from gzlib.training.store import KEY, read_run

MOST_WORKERS = 10_000  # processes on one machine: more are a slip of the keyboard


class Tally:
    """Counts of a sweep's runs.

    Parameters
    ----------
    left : dict of str to (config, survey)
        The runs still to be made, by their keys.
    total : int
        All runs, with those that already exist.
    """

    def __init__(self, left: dict, *, total: int):
        self.cost = {key: _cost(config) for key, (config, _) in left.items()}
        self.total, self.running = total, 0
        self.ended: set[str] = set()
        self.failed: set[str] = set()
        self.started = time.monotonic()

    def end(self, key: str, *, failed: bool = False):
        """A run has ended."""
        if key in self.cost:
            self.ended.add(key)
        if failed:
            self.failed.add(key)

    def time_left(self) -> str:
        """``, about 3 min left``, guessed from the galaxies still to be shown; nothing before a run has ended."""
        shown = sum(self.cost[key] for key in self.ended)
        left = sum(self.cost.values()) - shown
        if not (shown and left):
            return ""
        return f", about {duration((time.monotonic() - self.started) * left / shown)} left"

    def line(self) -> str:
        """``12 of 30 runs done, 2 running, 1 failed, about 3 min left``."""
        done = self.total - len(self.cost.keys() - self.ended | self.failed)
        parts = [f"{done} of {self.total} runs done"]
        parts += [f"{self.running} running"] if self.running else []
        parts += [f"{len(self.failed)} failed"] if self.failed else []
        return ", ".join(parts) + self.time_left()


def _cost(config: RunConfig) -> int:
    """Galaxies that a run shows to its network at most; a linear probe sees each label once."""
    linear = getattr(config, "mode", "full") == "linear"
    return config.n_train if linear else config.recipe.most_examples(config.n_train)


FAILED = "{failed} of {all} runs failed (see failed.json in their folders); the next sweep tries them again"
Job = tuple[RunConfig, SurveySpec]


def missing(jobs: Iterable[Job]) -> list[Job]:
    """The jobs that have no finished run yet."""
    return [job for job in jobs if read_run(key_of(*job)) is None]


def sweep(
    jobs: Iterable[Job],
    *,
    workers: int | None = None,
    conduct: Conduct = USUAL,
    planned: list[str] | None = None,
) -> list[dict]:
    """Every job's record, in order, without those that failed.

    A failed run leaves ``failed.json`` with the error and is tried again by the next sweep. Stopping the program at
    any moment loses at most the training since the last checkpoint. Several sweeps may work on one store: each run is
    made by one of them; a sweep leaves the runs that others are making for last, and then waits for them.

    Parameters
    ----------
    workers : int, optional
        Processes on this machine that share the runs, with one thread each where there are several; by default as many
        as cores, see :func:`gzlib.training.workers.worker_count`.
    conduct : Conduct
        How they are carried out. Without its ``report`` lines go to standard error, with a live line below where that
        is a terminal.
    planned : list of str, optional
        The keys that the jobs had when they were planned, as in the sweep that this one helps; else their keys now.
        A run whose survey has changed since then fails.

    Raises
    ------
    UserError
        If ``workers`` is not a number of processes.
    NotWritten
        If the store cannot be written: every further run would meet the same.
    """
    if workers is not None:
        check_number("Sweep", "workers", workers, 1, MOST_WORKERS, whole=True)
    jobs, screen = list(jobs), Live()
    tally: Tally
    report, live = conduct.report or screen.line, conduct.live
    if conduct.report is None and screen.on_terminal:

        def live(text: str):
            screen.show(f"{tally.line()} | {text.strip()}")

    def indented(line: str):
        report("    " + line)

    keys = planned or [key_of(*job) for job in jobs]
    job_of = dict(zip(keys, jobs, strict=True))
    left = jobs_left(job_of)
    tally, records, todo = Tally(left, total=len(job_of)), {}, list(job_of)
    if workers is None:
        workers = worker_count(len(left), device=conduct.device)

    own = replace(conduct, report=indented, live=live)
    with closing(screen), helped(left, workers - 1, conduct):
        for wait in (False, True):
            busy = []
            for key in todo:
                config, survey = job_of[key]
                name = f"[{keys.index(key) + 1}/{len(jobs)}] {title(config)} {key}"
                try:
                    if getattr(config, "weights", "") in busy:
                        raise Busy("Its weights are still being made.")
                    if not is_stored(key):
                        report(name + tally.time_left())
                    records[key] = run(config, survey, conduct=own, wait=wait, planned=key)
                    tally.end(key)
                except Busy as error:
                    report(f"    {error} It is left for the end.")
                    busy.append(key)
                except NotWritten:
                    raise
                except Exception as error:  # one bad run must not cost the others
                    tally.end(key, failed=True)
                    report(f"{name} failed: {str(error) or repr(error)}")
            todo = busy
    if tally.failed:
        report(FAILED.format(failed=len(tally.failed), all=len(jobs)))
    return [records[key] for key in keys if key in records]


def title(config: RunConfig) -> str:
    """A run's name for people."""
    task = f"{config.task} {config.mode} " if isinstance(config, FinetuneConfig) else ""
    return f"{task}{config.encoder} n={config.n_train} seed={config.seed}"


def jobs_left(job_of: dict[str, Job]) -> dict[str, Job]:
    """Those of the jobs (by their keys) that have no record yet."""
    return {key: job for key, job in job_of.items() if not is_stored(key)}


def is_stored(key: str) -> bool:
    """Whether a run's record is there; whether it can be read is seen when it is read."""
    return (paths.run_folder(key) / "run.json").is_file()


class _Table(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str | None = None
    survey: dict[str, Any] = {}


class _Plan(BaseModel):
    """The outer shape of a plan; what its tables hold is checked against the configurations that they fill."""

    model_config = ConfigDict(extra="forbid")
    preset: str | None = None
    rules: str | None = None
    survey: dict[str, Any] = {}
    recipe: dict[str, Any] = {}
    pretrain: list[_Table] = []
    finetune: list[_Table] = []


MOST_JOBS = 1_000_000  # a slip of the keyboard in a list of lists names more


def read_plan(
    path: Path,
    *,
    preset: Callable[[str], list[Job]] | None = None,
    planned: Callable[[SurveySpec], int] | None = None,
) -> list[Job]:
    """The runs that a plan names, in its order, pretraining first.

    Parameters
    ----------
    preset : callable, optional
        Gives the runs of a preset by its name, as :func:`gzlib.study.preset_jobs` does; without it a plan may name
        none.
    planned : callable, optional
        For a plan that is to be looked at, not made: how many training galaxies a survey has, for tables that do not
        say. Nothing is curated or downloaded then, and runs whose keys are not known yet are named by words.

    Raises
    ------
    UserError
        If the file is missing or no TOML, a key is unknown, or a value is not what its field takes.
    """
    return jobs_of(_read_toml(path), Path(path).name, preset=preset, planned=planned)


def plan_notes(path: Path) -> dict[str, str]:
    """What every run of a plan is to keep in its provenance: the hash of the file that it names as ``rules``.

    Raises
    ------
    UserError
        If the plan cannot be read, or the file that it names does not exist.
    """
    plan = _read_toml(path)
    _check_plan(plan, Path(path).name)
    if (rules := plan.get("rules")) is None:
        return {}
    try:
        return {"rules": file_hash(Path(path).parent / rules)[:16]}
    except (OSError, ValueError) as error:
        raise UserError(
            f"{Path(path).name}: its rules '{rules}' cannot be read ({error}); name a file beside it."
        ) from None


def _read_toml(path: Path) -> dict:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))  # some editors begin files with a mark
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The plan '{path}' cannot be read ({error}); name a TOML file.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"The plan '{path}' is not TOML: {error}.") from None


def jobs_of(
    plan: dict,
    where: str,
    *,
    preset: Callable[[str], list[Job]] | None = None,
    planned: Callable[[SurveySpec], int] | None = None,
) -> list[Job]:
    """The runs of a plan that has been read; ``where`` names it in errors, the others as for :func:`read_plan`."""
    _check_plan(plan, where)
    if "recipe" in plan and not plan.get("pretrain"):
        raise UserError(
            f"{where}: [recipe] is for [[pretrain]] tables, and there is none; write recipe = {{ ... }} in the"
            " [[finetune]] tables, or leave it out."
        )
    if "survey" in plan and not (plan.get("pretrain") or plan.get("finetune")):
        raise UserError(f"{where}: [survey] is for [[pretrain]] and [[finetune]] tables, and there is none.")
    jobs: list[Job] = []
    if "preset" in plan:
        if preset is None:
            raise UserError(
                f"{where}: presets belong to the study; read this plan with preset=gzlib.study.preset_jobs."
            )
        jobs += preset(plan["preset"])
    shared = plan.get("survey", {})
    named: dict[str, list[Job]] = {}
    common = dict(plan.get("recipe", {}))
    if (rule := common.pop("rule", "study")) != "study":
        raise UserError(f"{where}: unknown rule '{rule}' for recipes; there is 'study'.")
    for place, table in _tables(plan, "pretrain", where):
        name = table.pop("name", None)
        start = partial(of_its_encoder, changes=common, where=f"{where}, [recipe]")
        made = _expand(table, PretrainConfig("", 0), shared, place, planned or training_galaxies, start)
        if name is not None:
            if name in ("random", "imagenet", "sky"):
                raise UserError(f"{place}: the name '{name}' stands for other weights; choose another one.")
            named.setdefault(name, []).extend(made)
        _refuse_unknown_weights(made, place, ())
        jobs += made
    for place, table in _tables(plan, "finetune", where):
        finetuning = FinetuneConfig("task", "", 0, recipe=FINETUNING)
        started = _expand(table, finetuning, shared, place, planned or training_galaxies)
        _refuse_unknown_weights(started, place, named)
        jobs += _started_from(started, named, place, key_of if planned is None else _key_or_words)
    if not jobs:
        raise UserError(f"{where} names no runs; give it a preset, or a [[pretrain]] or [[finetune]] table.")
    return list(dict.fromkeys(jobs))  # tables may overlap


def _check_plan(plan: dict, where: str):
    refuse_unknown(plan, _Plan.model_fields, where)
    for kind in ("pretrain", "finetune"):
        if not isinstance(plan.get(kind, []), list):
            raise UserError(f"{where}: write [[{kind}]] in double brackets; there may be several.")
    if problem := misfit(plan, _Plan):
        raise UserError(f"{where}: {problem}; see examples/plan.toml.")


def known_key(config: RunConfig, survey: SurveySpec) -> str | None:
    """The key of a run, or None while it depends on galaxies or weights that are not here; nothing is fetched for it.

    Raises
    ------
    UserError
        If the survey's source is not valid.
    """
    generated = all(is_generated(part) for part in split_text(survey.source))
    if not generated and existing_survey(survey) is None:
        return None
    try:
        with offline_unless(False):
            return key_of(config, survey)
    except UserError:
        return None


def _key_or_words(config: RunConfig, survey: SurveySpec) -> str:
    return known_key(config, survey) or f"of {title(config)}"


def state_of(job: Job) -> str:
    """``present``, ``running``, ``failed`` (to be tried again) or ``missing``."""
    return _state(known_key(*job))


def _state(key: str | None) -> str:
    if key is None:
        return "missing"
    folder = paths.run_folder(key)
    if is_stored(key):
        return "present"
    if is_held(folder / LOCK):
        return "running"
    return "failed" if (folder / "failed.json").is_file() else "missing"


MOST_ROWS = 200  # of a list for people


def plan_table(jobs: list[Job]) -> list[dict]:
    """One row a run, for people: its state, key (as far as it is known) and what it is."""
    rows = []
    for config, survey in jobs:
        key = known_key(config, survey)
        row = {"state": _state(key), "key": key or "", "kind": kind_of(config)}
        row |= {name: getattr(config, name, "") for name in ("task", "mode", "encoder", "n_train", "seed", "weights")}
        rows.append(row | {"survey": f"{survey.source}, {survey.size} px"})
    return rows


def plan_summary(rows: list[dict]) -> list[dict]:
    """Rows of :func:`plan_table`, where they are too many to read with those together that differ in size and seed."""
    if len(rows) <= MOST_ROWS:
        return rows
    together: dict[tuple, list[dict]] = {}
    for row in rows:
        what = tuple((name, row[name]) for name in row if name not in ("key", "n_train", "seed"))
        together.setdefault(what, []).append(row)
    found = []
    for what, some in together.items():
        sizes, seeds = ({row[name] for row in some} for name in ("n_train", "seed"))
        counts = {"runs": len(some), "n_train": f"{min(sizes):,} to {max(sizes):,}", "seeds": len(seeds)}
        found.append(dict(what) | counts)
    return found


def _tables(plan: dict, kind: str, where: str):
    for number, table in enumerate(plan.get(kind, []), 1):
        yield f"{where}, [[{kind}]] {number}", dict(table)


def _expand(
    table: dict, default, shared: dict, where: str, count: Callable, start: Callable | None = None
) -> list[Job]:
    """The runs of a table; ``start`` gives a run the recipe that the table's own changes."""
    survey = {**shared, **table.pop("survey", {})}
    refuse_unknown(table, [field.name for field in fields(default)], where)
    if "source" not in survey:
        raise UserError(f"{where}: no survey; name its source in [survey], or here as survey = {{ source = ... }}.")
    spec = fill(SurveySpec(""), survey, f"{where}, survey")
    with _told_of(f"{where}, survey"):
        refuse_spec(spec)
    if "encoder" not in table:
        raise UserError(f'{where}: no encoder; name one, such as "convnext_w10", or a list of them.')
    if "n_train" not in table:
        table["n_train"] = count(spec)
    jobs = []
    if (named := runs_named(table, default)) > MOST_JOBS:
        raise UserError(f"{where}: names {named:,} runs; at most {MOST_JOBS:,} make a plan.")
    if not named:
        raise UserError(f"{where}: one of its lists is empty, so it names no runs; fill the list or leave it out.")
    for values in grid(table, default):
        recipe = {"recipe": values.pop("recipe")} if "recipe" in values else {}
        with _told_of(where):
            config = fill(default, values, where)
            if not config.n_train:
                raise UserError("'n_train' must be 1 or more; left out, it is all training galaxies.")
            jobs.append((fill(start(config) if start else config, recipe, where), spec))
    return jobs


@contextmanager
def _told_of(where: str):
    """Errors of a configuration, which does not know where its values stand, say that, too."""
    try:
        yield
    except UserError as error:
        raise error if str(error).startswith(where) else UserError(f"{where}: {error}") from None


def _refuse_unknown_weights(jobs: list[Job], where: str, named: Collection[str]):
    """Refuse weights that are none, before the runs of other tables are made; a run of this key may still be made."""
    for weights in dict.fromkeys(config.weights for config, _ in jobs):
        if weights not in named and weights_kind(weights) == "run" and not KEY.fullmatch(weights):
            tables = f"the name of a pretrain table ({some_of(list(named))}), " if named else ""
            raise UserError(f"{where}: unknown weights '{weights}'; use {tables}{KINDS}.")


def _started_from(jobs: list[Job], named: dict[str, list[Job]], where: str, key: Callable) -> list[Job]:
    """Finetuning jobs with the names of pretrain tables replaced by the keys of their runs."""
    replaced = []
    for config, survey in jobs:
        if config.weights not in named:
            replaced.append((config, survey))
            continue
        keys = [key(*job) for job in named[config.weights] if job[0].encoder == config.encoder]
        if not keys:
            raise UserError(f"{where}: '{config.weights}' pretrains no encoder '{config.encoder}'.")
        replaced += [(replace(config, weights=key), survey) for key in keys]
    return replaced
