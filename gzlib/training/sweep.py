"""Many runs: those present are read, those missing are made, a failure does not stop the rest."""

import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict

from safetensors.torch import save

from gzlib import paths
from gzlib.data.curate import SurveySpec
from gzlib.errors import UserError
from gzlib.files import replace_file, write_whole
from gzlib.training.config import FinetuneConfig, PretrainConfig, config_dict, config_from_dict
from gzlib.training.device import choose_device
from gzlib.training.finetune import finetune
from gzlib.training.pretrain import pretrain
from gzlib.training.runs import provenance, read_run, run_key, write_run

KINDS = {PretrainConfig: ("pretrain", pretrain), FinetuneConfig: ("finetune", finetune)}


def say(line: str):
    """A line of progress on standard error, which a build passes on and never stores in a chapter."""
    print(line, file=sys.stderr, flush=True)


def key_of(config: PretrainConfig | FinetuneConfig, survey: SurveySpec) -> str:
    """Key of the run that this configuration makes on this survey."""
    return run_key(KINDS[type(config)][0], config, survey.fingerprint())


def run(
    config: PretrainConfig | FinetuneConfig,
    survey: SurveySpec,
    *,
    device: str = "auto",
    need_weights: bool = False,
    report: Callable[[str], None] = say,
) -> dict:
    """The record of one run: read if it is there, else trained (from its checkpoint if it was cut off) and stored.

    Parameters
    ----------
    need_weights : bool
        Train again if the record is there but its weights are not on this machine.

    Returns
    -------
    dict with ``key``, ``kind``, ``config``, ``survey``, ``metrics``, ``provenance``.
    """
    kind, train = KINDS[type(config)]
    key = key_of(config, survey)
    record, folder = read_run(key), paths.run_folder(key)
    weights = folder / "weights.safetensors"
    if record is not None and (weights.is_file() or not need_weights):
        return record
    folder.mkdir(parents=True, exist_ok=True)
    chosen, started = choose_device(device), time.monotonic()
    checkpoint = folder / "checkpoint.pt"
    metrics, model = train(config, survey, device=chosen, checkpoint=checkpoint, report=report)
    if model is not None:
        state = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
        write_whole(weights, lambda file: file.write(save(state)))
    if record is None:  # a committed record stays as it is when only its weights were missing
        record = {
            "key": key,
            "kind": kind,
            "config": config_dict(config),
            "survey": {"fingerprint": survey.fingerprint(), **asdict(survey)},
            "metrics": metrics,
            "provenance": provenance(chosen, time.monotonic() - started),
        }
        write_run(record)
        record = read_run(key)
    for done_with in (checkpoint, folder / "failed.json", *folder.glob(".*.tmp-*")):
        done_with.unlink(missing_ok=True)
    return record


def missing(jobs: Iterable[tuple[PretrainConfig | FinetuneConfig, SurveySpec]]) -> list:
    """The jobs that have no finished run yet."""
    return [job for job in jobs if read_run(key_of(*job)) is None]


def make_again(key: str, *, device: str = "auto") -> dict:
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
    return run(config, survey, device=device, need_weights=True)


def sweep(
    jobs: Iterable[tuple[PretrainConfig | FinetuneConfig, SurveySpec]],
    *,
    device: str = "auto",
    report: Callable[[str], None] = say,
) -> list[dict]:
    """Every job's record, in order, without those that failed.

    A failed run leaves ``failed.json`` with the error and is tried again by the next sweep. Stopping the program at
    any moment loses at most the training since the last checkpoint.
    """
    jobs, records, failed = list(jobs), [], 0
    for i, (config, survey) in enumerate(jobs):
        key = key_of(config, survey)
        name = f"[{i + 1}/{len(jobs)}] {config.encoder} n={config.n_train} seed={config.seed} {key}"
        try:
            if read_run(key) is None:
                report(name)
            records.append(run(config, survey, device=device, report=lambda line: report("    " + line)))
        except Exception as error:  # one bad run must not cost the others
            failed += 1
            report(f"{name} failed: {error}")
            text = json.dumps({"config": config_dict(config), "error": str(error)})
            replace_file(paths.RUNS / key / "failed.json", text + "\n")
    if failed:
        report(
            f"{failed} of {len(jobs)} runs failed (see failed.json in their folders); the next sweep tries them again"
        )
    return records
