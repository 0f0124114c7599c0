"""Sweeps written down: a TOML file says which runs there are.

.. code-block:: toml

    [survey]                       # what pretrain tables train on; fields of SurveySpec
    source = "sim:12000"
    size = 64

    [recipe]                       # of every pretrain table; fields of Recipe
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

``preset = "laptop"`` alone stands for all runs of that preset's study.
"""

import tomllib
from dataclasses import fields, replace
from pathlib import Path

from gzlib import paths
from gzlib.data.curate import SurveySpec
from gzlib.errors import UserError
from gzlib.training.config import FINETUNING, FinetuneConfig, PretrainConfig, Recipe
from gzlib.training.lock import is_held
from gzlib.training.make import KINDS, LOCK, key_of
from gzlib.training.settings import fill, grid, refuse_unknown
from gzlib.training.studies import finetuning_study, pretraining_study, training_galaxies
from gzlib.training.sweep import Job, is_stored

TABLES = ("preset", "survey", "recipe", "pretrain", "finetune")


def read_plan(path: Path) -> list[Job]:
    """The runs that a plan names, in its order, pretraining first.

    Raises
    ------
    UserError
        If the file is missing or no TOML, a key is unknown, or a value is not what its field takes.
    """
    path = Path(path)
    try:
        plan = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The plan '{path}' cannot be read ({error}); name a TOML file.") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"The plan '{path}' is no TOML: {error}.") from None
    return jobs_of(plan, path.name)


def jobs_of(plan: dict, where: str) -> list[Job]:
    """The runs of a plan that has been read; ``where`` names it in errors."""
    refuse_unknown(plan, TABLES, where)
    jobs = preset_jobs(plan["preset"]) if "preset" in plan else []
    shared = plan.get("survey", {})
    named: dict[str, list[Job]] = {}
    for place, table in _tables(plan, "pretrain", where):
        default = PretrainConfig("", 0, recipe=fill(Recipe(), plan.get("recipe", {}), f"{where}, [recipe]"))
        name = table.pop("name", None)
        made = _expand(table, default, shared, place)
        if name is not None:
            named.setdefault(name, []).extend(made)
        jobs += made
    for place, table in _tables(plan, "finetune", where):
        default = FinetuneConfig("task", "", 0, recipe=FINETUNING)
        jobs += _started_from(_expand(table, default, shared, place), named, place)
    if not jobs:
        raise UserError(f"{where} names no runs; give it a preset, or a [[pretrain]] or [[finetune]] table.")
    return jobs


def preset_jobs(preset: str) -> list[Job]:
    """All runs of a preset's study, each after those whose weights it starts from."""
    pretraining, finetuning = pretraining_study(preset), finetuning_study(preset)
    further = [(config, finetuning.pretraining) for config in finetuning.pretraining_configs().values()]
    return pretraining.jobs() + further + finetuning.jobs()


def state_of(job: Job) -> str:
    """``present``, ``running``, ``failed`` (to be tried again) or ``missing``."""
    key = key_of(*job)
    folder = paths.run_folder(key)
    if is_stored(key):
        return "present"
    if is_held(folder / LOCK):
        return "running"
    return "failed" if (folder / "failed.json").is_file() else "missing"


def plan_table(jobs: list[Job]) -> list[dict]:
    """One row a run, for people: its state, key and what it is."""
    rows = []
    for config, survey in jobs:
        row = {"state": state_of((config, survey)), "key": key_of(config, survey), "kind": KINDS[type(config)][0]}
        row |= {name: getattr(config, name, "") for name in ("task", "mode", "encoder", "n_train", "seed", "weights")}
        rows.append(row | {"survey": f"{survey.source}, {survey.size} px"})
    return rows


def _tables(plan: dict, kind: str, where: str):
    tables = plan.get(kind, [])
    if not isinstance(tables, list):
        raise UserError(f"{where}: write [[{kind}]] in double brackets; there may be several.")
    for number, table in enumerate(tables, 1):
        yield f"{where}, [[{kind}]] {number}", dict(table)


def _expand(table: dict, default, shared: dict, where: str) -> list[Job]:
    survey = {**shared, **table.pop("survey", {})}
    refuse_unknown(table, [field.name for field in fields(default)], where)
    if "source" not in survey:
        raise UserError(f"{where}: no survey; name its source in [survey], or here as survey = {{ source = ... }}.")
    spec = fill(SurveySpec(""), survey, f"{where}, survey")
    if "encoder" not in table:
        raise UserError(f'{where}: no encoder; name one, such as "convnext_w10", or a list of them.')
    if "n_train" not in table:
        table["n_train"] = training_galaxies(spec)
    return [(fill(default, values, where), spec) for values in grid(table, default)]


def _started_from(jobs: list[Job], named: dict[str, list[Job]], where: str) -> list[Job]:
    """Finetuning jobs with the names of pretrain tables replaced by the keys of their runs."""
    replaced = []
    for config, survey in jobs:
        if config.weights not in named:
            replaced.append((config, survey))
            continue
        keys = [key_of(*job) for job in named[config.weights] if job[0].encoder == config.encoder]
        if not keys:
            raise UserError(f"{where}: '{config.weights}' pretrains no encoder '{config.encoder}'.")
        replaced += [(replace(config, weights=key), survey) for key in keys]
    return replaced
