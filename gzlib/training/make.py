"""One run: read where it is stored, else made, by one process at a time, and stored."""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save

from gzlib import paths
from gzlib.data.curate import SurveySpec
from gzlib.data.progress import Live
from gzlib.errors import UserError
from gzlib.files import NotWritten, replace_file, write_whole
from gzlib.training.config import FinetuneConfig, PretrainConfig, config_dict, config_from_dict
from gzlib.training.device import choose_device
from gzlib.training.distributed import is_main, share, world
from gzlib.training.finetune import finetune
from gzlib.training.lock import Busy, held
from gzlib.training.pretrain import pretrain
from gzlib.training.runs import provenance, read_run, run_key, write_run

KINDS = {PretrainConfig: ("pretrain", pretrain), FinetuneConfig: ("finetune", finetune)}
LOCK = ".lock"  # in the folder of a run, while it is being made


def key_of(config: PretrainConfig | FinetuneConfig, survey: SurveySpec) -> str:
    """Key of the run that this configuration makes on this survey."""
    return run_key(KINDS[type(config)][0], config, survey.fingerprint())


def run(
    config: PretrainConfig | FinetuneConfig,
    survey: SurveySpec,
    *,
    device: str = "auto",
    need_weights: bool = False,
    wait: bool = True,
    report: Callable[[str], None] | None = None,
    live: Callable[[str], None] | None = None,
    compile: bool = False,
    log: str | None = None,
    checkpoint_seconds: float = 120.0,
) -> dict:
    """The record of one run: read if it is there, else trained (from its checkpoint if it was cut off) and stored.

    In processes that torchrun started, all train and the first one stores.

    Parameters
    ----------
    need_weights : bool
        Train again if the record is there but its weights are not on this machine.
    wait : bool
        Whether to wait where another process is making this very run.
    report, live : callable, optional
        Take lines that stay, and how things stand; without ``report`` both go to standard error.
    compile, log, checkpoint_seconds
        See :func:`gzlib.training.loop.fit`.

    Returns
    -------
    dict with ``key``, ``kind``, ``config``, ``survey``, ``metrics``, ``provenance``.

    Raises
    ------
    Busy
        If another process is making the run and ``wait`` is false.
    NotWritten
        If the store cannot be written.
    Exception
        Whatever training raises; ``failed.json`` in the run's folder then holds the error until the run succeeds.
    """
    if report is None:
        screen = Live()
        report, live = screen.line, screen.show if screen.on_terminal else None
    with ExitStack() as locks:

        def look() -> tuple[str, dict | None]:
            key = key_of(config, survey)
            folder = paths.run_folder(key)
            if (record := _stored(key, need_weights)) is None:
                locks.enter_context(held(folder / LOCK, f"Run {key}", wait=report if wait else None))
                record = _stored(key, need_weights)  # another process may have made it meanwhile
            elif _leftovers(folder) and folder.parent == paths.RUNS:
                with suppress(Busy, NotWritten), held(folder / LOCK, f"Run {key}"):
                    _tidy(folder)
            return key, record

        key, record = _by_first(look)
        if record is None:
            conduct = {"compile": compile, "log": log, "checkpoint_seconds": checkpoint_seconds}
            record = _train(key, config, survey, device=device, report=report, live=live, **conduct)
            _by_first(lambda: _tidy(paths.run_folder(key)))
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


def _stored(key: str, need_weights: bool) -> dict | None:
    if need_weights and not (paths.run_folder(key) / "weights.safetensors").is_file():
        return None
    return read_run(key)


def _train(key: str, config, survey: SurveySpec, *, device: str, report: Callable, **conduct) -> dict:
    """Make the run and store it; if that fails, leave the reason."""
    folder = paths.run_folder(key)
    _, train = KINDS[type(config)]
    try:
        _by_first(lambda: _make_survey(survey, report))
        started = time.monotonic()  # the survey serves many runs, its making is no run's cost
        chosen = choose_device(device)
        checkpoint = folder / "checkpoint.pt"
        metrics, model = train(config, survey, device=chosen, checkpoint=checkpoint, key=key, report=report, **conduct)
        where = provenance(chosen, time.monotonic() - started, processes=world())
        return _by_first(lambda: _store(key, config, survey, metrics, model, where))
    except NotWritten:
        raise
    except Exception as error:
        if is_main():
            content = {"config": config_dict(config), "error": str(error) or repr(error)}
            replace_file(folder / "failed.json", json.dumps(content | getattr(error, "details", {})) + "\n")
        raise


def _make_survey(survey: SurveySpec, report: Callable):
    """Make the survey while no other process of this store does."""
    lock = paths.RUNS / f".survey-{survey.fingerprint()[:16]}.lock"
    with held(lock, f"Survey '{survey.source}'", wait=report):
        survey.make()


def _store(key: str, config, survey: SurveySpec, metrics: dict, model, where: dict) -> dict:
    if model is not None:
        state = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
        write_whole(paths.run_folder(key) / "weights.safetensors", lambda file: file.write(save(state)))
    if (record := read_run(key)) is None:  # a committed record stays as it is when only its weights were missing
        record = {
            "key": key,
            "kind": KINDS[type(config)][0],
            "config": config_dict(config),
            "survey": {"fingerprint": survey.fingerprint(), **asdict(survey)},
            "metrics": metrics,
            "provenance": where,
        }
        write_run(record)
        record = read_run(key)
    return record


def _leftovers(folder: Path) -> list[Path]:
    """What a process that was killed may have left in the folder of a run that is complete."""
    found = [folder / "failed.json", folder / LOCK, *folder.glob(".*.tmp-*")]
    if (folder / "weights.safetensors").is_file():  # else the checkpoint is of weights that are being made again
        found.append(folder / "checkpoint.pt")
    return [file for file in found if file.exists()]


def _tidy(folder: Path):
    """Remove them, but for the lock, which its holder removes."""
    for file in _leftovers(folder):
        if file.name != LOCK:
            file.unlink(missing_ok=True)


def make_again(key: str, *, device: str = "auto", **conduct) -> dict:
    """Make the weights of a recorded run again from its configuration; its record stays as it is.

    Raises
    ------
    UserError
        If there is no such run, or its survey is not the same any more.
    """
    record = read_run(key)
    if record is None:
        raise UserError(f"There is no run '{key}' in {paths.RUNS}.")
    config = config_from_dict(record["kind"], record["config"])
    survey = SurveySpec(**{k: v for k, v in record["survey"].items() if k != "fingerprint"})
    if survey.fingerprint() != record["survey"]["fingerprint"]:
        raise UserError(f"Run '{key}' needs another version of survey '{survey.source}' than there is.")
    return run(config, survey, device=device, need_weights=True, **conduct)
