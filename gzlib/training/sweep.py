"""Many runs: those present are read, those missing are made, a failure does not stop the rest."""

from collections.abc import Callable, Iterable
from contextlib import closing

from gzlib import paths
from gzlib.data.curate import SurveySpec
from gzlib.data.progress import Live
from gzlib.files import NotWritten
from gzlib.training.config import FinetuneConfig, PretrainConfig
from gzlib.training.lock import Busy
from gzlib.training.make import key_of, run
from gzlib.training.runs import read_run
from gzlib.training.tally import Tally

FAILED = "{failed} of {all} runs failed (see failed.json in their folders); the next sweep tries them again"
Job = tuple[PretrainConfig | FinetuneConfig, SurveySpec]


def missing(jobs: Iterable[Job]) -> list[Job]:
    """The jobs that have no finished run yet."""
    return [job for job in jobs if read_run(key_of(*job)) is None]


def sweep(
    jobs: Iterable[Job],
    *,
    device: str = "auto",
    report: Callable[[str], None] | None = None,
    **conduct,
) -> list[dict]:
    """Every job's record, in order, without those that failed.

    A failed run leaves ``failed.json`` with the error and is tried again by the next sweep. Stopping the program at
    any moment loses at most the training since the last checkpoint. Several sweeps may work on one store: each run is
    made by one of them; a sweep leaves the runs that others are making for last, and then waits for them.

    Parameters
    ----------
    report : callable, optional
        Takes one line at a time; by default standard error, with a live line below where that is a terminal.
    **conduct
        ``compile``, ``log`` and ``checkpoint_seconds`` of :func:`gzlib.training.make.run`.

    Raises
    ------
    NotWritten
        If the store cannot be written: every further run would meet the same.
    """
    jobs, screen = list(jobs), Live()
    if report is None:
        report = screen.line
        if screen.on_terminal:
            conduct["live"] = lambda text: screen.show(f"{tally.line()} | {text.strip()}")

    def indented(line: str):
        report("    " + line)

    keys = [key_of(*job) for job in jobs]
    job_of = dict(zip(keys, jobs, strict=True))
    tally, records, todo = Tally(jobs_left(job_of), total=len(job_of)), {}, list(job_of)

    with closing(screen):
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
                    records[key] = run(config, survey, device=device, wait=wait, report=indented, **conduct)
                    tally.end(key)
                except Busy as error:
                    report(f"    {error} It is left for the end.")
                    busy.append(key)
                except NotWritten:
                    raise
                except Exception as error:  # one bad run must not cost the others
                    tally.end(key, failed=True)
                    report(f"{name} failed: {error}")
            todo = busy
    if tally.failed:
        report(FAILED.format(failed=len(tally.failed), all=len(jobs)))
    return [records[key] for key in keys if key in records]


def title(config: PretrainConfig | FinetuneConfig) -> str:
    """A run's name for people."""
    task = f"{config.task} {config.mode} " if isinstance(config, FinetuneConfig) else ""
    return f"{task}{config.encoder} n={config.n_train} seed={config.seed}"


def jobs_left(job_of: dict[str, Job]) -> dict[str, Job]:
    """Those of the jobs (by their keys) that have no record yet."""
    return {key: job for key, job in job_of.items() if not is_stored(key)}


def is_stored(key: str) -> bool:
    """Whether a run's record is there; whether it can be read is seen when it is read."""
    return (paths.run_folder(key) / "run.json").is_file()
