"""One run: read where it is stored, else made, by one process at a time, and stored."""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from gzlib import paths
from gzlib.config import (
    USUAL,
    Conduct,
    FinetuneConfig,
    PretrainConfig,
    RunConfig,
    SurveySpec,
    config_dict,
    config_from_dict,
    kind_of,
    survey_from_dict,
)
from gzlib.data.curation import make_survey, survey_fingerprint
from gzlib.data.survey import file_states, read_report
from gzlib.errors import Busy, NotWritten, UserError
from gzlib.files import held, replace_file
from gzlib.identity import file_hash
from gzlib.models.weights import read_weights, recorded_weights, run_weights, weights_identity, write_weights
from gzlib.progress import Live, silent
from gzlib.training.checkpoint import previous_of
from gzlib.training.distributed import choose_device, has_bfloat16, is_main, share, world
from gzlib.training.evaluation import short_number
from gzlib.training.finetuning import finetune
from gzlib.training.pretraining import pretrain
from gzlib.training.store import LOCK, find_key, provenance, read_record, read_run, run_key, write_run

TRAIN: dict[type, Callable] = {PretrainConfig: pretrain, FinetuneConfig: finetune}


def key_of(config: RunConfig, survey: SurveySpec) -> str:
    """Key of the run that this configuration makes on this survey."""
    return run_key(_recorded(config), survey_fingerprint(survey), weights_identity(config.encoder, config.weights))


def _recorded(config: RunConfig) -> RunConfig:
    """The configuration as a run stores it: without the path of a file of weights."""
    return replace(config, weights=recorded_weights(config.weights))


def run(
    config: RunConfig,
    survey: SurveySpec,
    *,
    conduct: Conduct = USUAL,
    need_weights: bool = False,
    wait: bool = True,
    planned: str | None = None,
) -> dict:
    """The record of one run: read if it is there, else trained (from its checkpoint if it was cut off) and stored.

    In processes that torchrun started, all train and the first one stores.

    Parameters
    ----------
    conduct : Conduct
        How it is carried out; without its ``report`` all that is told goes to standard error.
    need_weights : bool
        Train again if the record is there but its weights are not on this machine.
    wait : bool
        Whether to wait where another process is making this very run.
    planned : str, optional
        The key that the run had when it was planned. If it has another one now, its survey has changed since, and
        nothing is made.

    Returns
    -------
    dict with ``key``, ``kind``, ``config``, ``survey``, ``weights``, ``metrics``, ``test``, ``provenance``.

    Raises
    ------
    Busy
        If another process is making the run and ``wait`` is false.
    NotWritten
        If the store cannot be written.
    Exception
        Whatever training raises; ``failed.json`` in the run's folder then holds the error until the run succeeds.
    """
    if conduct.report is None:
        screen = Live()
        conduct = replace(conduct, report=screen.line, live=screen.show if screen.on_terminal else None)
    report = conduct.report or silent
    with ExitStack() as locks:

        def look() -> tuple[str, dict | None]:
            key = key_of(config, survey)
            if planned not in (None, key):
                raise _changed(planned, survey)
            folder = paths.STORE / key
            if (record := _stored(key, need_weights, report)) is None:
                locks.enter_context(held(folder / LOCK, f"Run {key}", wait=report if wait else None))
                record = _stored(key, need_weights, report)  # another process may have made it meanwhile
            elif _leftovers(folder):
                with suppress(Busy, NotWritten), held(folder / LOCK, f"Run {key}"):
                    _tidy(folder)
            return key, record

        key, record = _by_first(look)
        if record is None:
            record = _train(key, config, survey, conduct)
            _by_first(lambda: _tidy(paths.STORE / key))
        return record


def _by_first(do):
    """What ``do()`` returns in the first process, in all; bad input is raised in all, so that none waits for ever."""
    try:
        outcome = do() if is_main() else None
    except UserError as error:
        outcome = error
    outcome = share(outcome)
    if isinstance(outcome, UserError):
        raise outcome
    return outcome


def _stored(key: str, need_weights: bool, report: Callable[[str], None]) -> dict | None:
    if need_weights:
        if not any((store / key / "weights.safetensors").is_file() for store in paths.stores()):
            return None
        try:
            read_weights(run_weights(key))
        except UserError:
            report(f"The weights '{run_weights(key)}' are damaged; they are made again.")
            return None
    return read_run(key)


def _train(key: str, config: RunConfig, survey: SurveySpec, conduct: Conduct) -> dict:
    """Make the run and store it; if that fails, leave the reason."""
    folder = paths.STORE / key
    try:
        seen = _by_first(lambda: _make_survey(key, config, survey, conduct.report or silent))
        # The survey serves many runs: making it is not part of a run's cost.
        began, started = time.monotonic(), datetime.now(UTC)
        chosen = choose_device(conduct.device)
        train, own = TRAIN[type(config)], {"checkpoint": folder / "checkpoint.pt", "key": key}
        try:
            outcome = train(config, survey, device=chosen, conduct=conduct, **own)
        except BaseException:  # of a survey that no longer fits together, too, and its checkpoint goes
            if is_main():
                _refuse_changed(key, survey, seen)
            raise
        _by_first(lambda: _refuse_changed(key, survey, seen))
        where = provenance(chosen, started, time.monotonic() - began, processes=world()) | dict(conduct.noted)
        if config.recipe.precision == "bfloat16" and not has_bfloat16(chosen):
            where["precision"] = "float32"
        return _by_first(lambda: _store(key, config, survey, seen, outcome, where))
    except NotWritten:
        raise
    except Exception as error:
        if is_main():
            content = {"config": config_dict(_recorded(config)), "error": str(error) or repr(error)}
            replace_file(folder / "failed.json", json.dumps(content | getattr(error, "details", {})) + "\n")
        raise


def _make_survey(key: str, config: RunConfig, survey: SurveySpec, report: Callable) -> dict:
    """Make the survey while no other process of this store does, and see that it can measure the run; its state."""
    lock = paths.STORE / f".survey-{survey_fingerprint(survey)[:16]}.lock"
    with held(lock, f"Survey '{survey.source}'", wait=report):
        folder = make_survey(survey)
        seen = _state(folder)
    if run_key(_recorded(config), seen["fingerprint"], weights_identity(config.encoder, config.weights)) != key:
        raise _changed(key, survey)
    splits = seen.pop("splits")
    needed = ("val", "test") if isinstance(config, PretrainConfig) else ("test",)
    if absent := [name for name in needed if not splits[name]]:
        counts = ", ".join(f"{n} {name}" for name, n in splits.items())
        raise UserError(
            f"The survey of '{survey.source}' has no {' and no '.join(absent)} galaxies ({counts}), so nothing could"
            " be measured; add some, or leave out --split source."
        )
    return seen


def _state(folder: Path) -> dict:
    report = read_report(folder)
    kept = {name: report.get(name) for name in ("fingerprint", "parts")}
    return kept | {"splits": report["counts"]["splits"], "folder": str(folder), "files": file_states(folder)}


def _refuse_changed(key: str, survey: SurveySpec, seen: dict):
    """Refuse a run whose survey has changed since it began: what it learned and measured may be of either.

    Only the curated folder counts: its source may have gone meanwhile.
    """
    try:
        now = _state(Path(seen["folder"]))
    except (UserError, OSError):
        now = {}
    if any(now.get(name) != found for name, found in seen.items()):
        checkpoint = paths.STORE / key / "checkpoint.pt"
        for file in (checkpoint, previous_of(checkpoint)):
            file.unlink(missing_ok=True)
        raise _changed(key, survey)


def _changed(key: str, survey: SurveySpec) -> UserError:
    return UserError(
        f"The survey '{survey.source}' has changed since run '{key}' started: the run is not stored; run it again."
    )


def _store(key: str, config, survey: SurveySpec, seen: dict, outcome: tuple, where: dict) -> dict:
    metrics, test, model = outcome
    if model is not None:
        write_weights(paths.STORE / key / "weights.safetensors", model.state_dict())
    if not (paths.STORE / key / "run.json").is_file():  # a record stays as it is when only its weights were missing
        record = {
            "key": key,
            "kind": kind_of(config),
            "config": config_dict(_recorded(config)),
            "survey": {name: seen[name] for name in ("fingerprint", "parts")} | config_dict(survey),
            "weights": weights_identity(config.encoder, config.weights),
            "metrics": metrics,
            "test": test,
            "provenance": where,
        }
        write_run(record)
    return read_record(paths.run_folder(key) / "run.json")


def _leftovers(folder: Path) -> list[Path]:
    """What a process that was killed may have left in the folder of a run that is complete."""
    found = [folder / "failed.json", folder / LOCK, *folder.glob(".*.tmp-*")]
    if (folder / "weights.safetensors").is_file():  # else the checkpoint is of weights that are being made again
        found += [folder / "checkpoint.pt", previous_of(folder / "checkpoint.pt")]
    return [file for file in found if file.exists()]


def _tidy(folder: Path):
    """Remove them, but for the lock, which its holder removes; what cannot be removed harms no complete run."""
    for file in _leftovers(folder):
        if file.name != LOCK:
            with suppress(OSError):
                file.unlink(missing_ok=True)


def rerun(key: str, *, weights: str | None = None, conduct: Conduct = USUAL) -> dict:
    """Make the weights of a recorded run again from its configuration; its record stays as it is.

    Parameters
    ----------
    weights : str, optional
        Where the file is that the run started from, if it was a local one.
    conduct : Conduct
        How it is carried out.

    Raises
    ------
    UserError
        If there is no such run, or its survey has changed.
    """
    key = find_key(key)
    record = read_record(paths.run_folder(key) / "run.json")
    config = config_from_dict(record["kind"], record["config"])
    if weights:
        config = replace(config, weights=weights)
    survey = survey_from_dict(record["survey"])
    if survey_fingerprint(survey) != record["survey"]["fingerprint"]:
        raise UserError(f"Run '{key}' needs another version of survey '{survey.source}' than there is.")
    if weights_identity(config.encoder, config.weights) != record["weights"]:
        raise UserError(f"Run '{key}' was started from another file of weights '{config.weights}' than there is here.")
    if key_of(config, survey) != key:
        raise UserError(f"Run '{key}' was made by a version of the training code with another meaning; train again.")
    return run(config, survey, conduct=conduct, need_weights=True)


def record_words(record: dict) -> str:
    """What came of a run, in one line: its test loss or error, beside what needs no images."""
    m = record["metrics"]
    if record["kind"] == "pretrain":
        return f"test loss {m['loss']:.4f} +- {m['loss_se'] or 0:.4f} (mean answers: {m['baseline']:.4f})"
    what = "test error" if m["n_classes"] else "test error (root mean square)"
    beside = []
    if m.get("baseline_error") is not None:  # an earlier version's runs have none
        always = "commonest class" if m["n_classes"] else "mean of the training labels"
        beside.append(f"{always}: {short_number(m['baseline_error'])}")
    if m.get("balanced_accuracy") is not None:
        beside.append(f"balanced accuracy: {m['balanced_accuracy']:.4f}")
    said = f" ({', '.join(beside)})" if beside else ""
    error, loss = short_number(m["error"]), short_number(m["loss"])
    return f"{what} {error}{said}, loss {loss}, {m['n_test']} test galaxies"


def release(keys: list[str], folder: Path) -> list[Path]:
    """Write the encoders of pretraining runs as files to share, each with a card that says what it was trained on.

    Parameters
    ----------
    keys : list of str
        Of runs whose weights are on this machine.
    folder : Path
        Takes ``NAME.safetensors`` and ``NAME.md`` for each, and ``SHA256SUMS``.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    UserError
        If a run pretrained nothing, or its weights are not on this machine; nothing is written then.
    """
    states = {}
    for key in dict.fromkeys(keys):
        record = read_run(key)
        if record is None or record["kind"] != "pretrain":
            raise UserError(f"Run '{key}' is not a pretraining run; only encoders that were pretrained are released.")
        state = read_weights(run_weights(key))
        states[key] = record, {k.removeprefix("encoder."): v for k, v in state.items() if k.startswith("encoder.")}
    written = []
    for key, (record, state) in states.items():
        file = folder / f"{record['config']['encoder']}-{key[:8]}.safetensors"
        write_weights(file, state, encoder=record["config"]["encoder"], run=key)
        replace_file(file.with_suffix(".md"), _card(record, file))
        written += [file, file.with_suffix(".md")]
    sums = folder / "SHA256SUMS"
    replace_file(sums, "".join(f"{file_hash(file)}  {file.name}\n" for file in written))
    return [*written, sums]


def _card(record: dict, file: Path) -> str:
    config, survey, metrics, where = (record[name] for name in ("config", "survey", "metrics", "provenance"))
    parts = survey["parts"]
    simulated = [part["source"] for part in parts if part["simulated"]]
    kind = "simulated" if len(simulated) == len(parts) else "partly simulated" if simulated else "real"
    warning = {
        "simulated": "Every galaxy it was trained on is simulated: no telescope took the images and no volunteer cast"
        " the votes. How well it transfers to real images has to be measured for each use.",
        "partly simulated": f"Galaxies of {', '.join(simulated)} are simulated, images and votes alike.",
        "real": "It was trained on images of real galaxies and the votes of volunteers.",
    }[kind]
    options = {name: survey[name] for name in ("size", "split", "schema") if survey.get(name) is not None}
    options |= {name.replace("_", "-"): config[name] for name in ("encoder", "weights", "n_train", "seed")}
    made = config_from_dict("pretrain", config)
    told, usual = asdict(made), asdict(PretrainConfig(made.encoder, made.n_train))
    augment = told["recipe"].pop("augment"), usual["recipe"].pop("augment")
    tables = {name: (told[name], usual[name]) for name in ("recipe", "objective")} | {"recipe.augment": augment}
    settings = [
        f"--set {table}.{name}={json.dumps(value)}"
        for table, (values, defaults) in tables.items()
        for name, value in values.items()
        if value != defaults[name]
    ]
    command = " ".join(
        [f"gzlib pretrain --survey {survey['source']}", *(f"--{k} {v}" for k, v in options.items()), *settings]
    )
    floor = f" (of a perfect predictor: {metrics['floor']['loss']:.3f})" if metrics.get("floor") else ""
    structure = " and the known visible structure of each galaxy" if config["objective"]["structure"] else ""
    start = f"\n- Started from: {record['weights']['tag']}" if record["weights"] else ""
    return f"""# {config["encoder"]}, pretrained on {kind} galaxies

**{warning}**

- File: `{file.name}`, SHA-256 `{file_hash(file)}`
- Encoder: `{config["encoder"]}` of gzlib, {metrics["n_params"]:,} parameters; images of {survey["size"]} px{start}
- Trained on: {config["n_train"]:,} galaxies of `{survey["source"]}` ({kind})
- Fingerprint of the survey: `{survey["fingerprint"]}`
- Learned: the answers to every question of decision tree `{metrics["schema"]}`{structure}, seed {config["seed"]}
- Test loss: {metrics["loss"]:.3f} +- {metrics["loss_se"] or 0:.3f} nats a galaxy; predicting the mean answers:
  {metrics["baseline"]:.3f}{floor}
- Made by: run `{record["key"]}`, {where["seconds"]:.0f} s on {where["device"]}, torch {where.get("torch")}, timm
  {where.get("timm")}, commit {where.get("git")}
- Licence: that of gzlib (MIT)

Made with

    {command}

and used with

    gzlib finetune --survey FOLDER --label COLUMN --mode full --weights {file.name} --encoder {config["encoder"]}

It must not be used to state votes or classes of galaxies without finetuning on labels of the same kind of images, nor
compared with encoders trained on real galaxies as if it had seen any.
"""
