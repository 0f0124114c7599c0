"""A sweep on many processes, GPUs or machines, through Dask: ``local``, ``local:4``, or a scheduler's address.

Every worker makes one run at a time and stores it where its own ``GZLIB_STORE`` points. Where all see one file system
that is the store of the sweep, too; where not, the record comes back and is stored here (the weights on demand). A
worker that dies loses the training since its last checkpoint: its run goes to another worker, which continues from
there if it sees the store. Dask is imported only when it is asked for.
"""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import torch

from gzlib import paths
from gzlib.config import USUAL, Conduct, SurveySpec, config_dict, config_from_dict, kind_of
from gzlib.errors import Busy, NotWritten, UserError
from gzlib.files import replace_file
from gzlib.progress import Live, silent
from gzlib.training.runs import key_of, run
from gzlib.training.store import read_record, write_run
from gzlib.training.sweeps import FAILED, Job, Tally, is_stored, jobs_left, title

POLL_SECONDS = 1.0
CONNECT_SECONDS = 20
# Training sets the process's own random state, so that two runs must not share a process at one time.
_ONE_AT_A_TIME = threading.Lock()


def sweep_on(
    scheduler: str,
    jobs: list[Job],
    *,
    bring_weights: bool = False,
    conduct: Conduct = USUAL,
) -> list[dict]:
    """As :func:`gzlib.training.sweeps.sweep`, on Dask's workers.

    Parameters
    ----------
    scheduler : str
        ``local:N`` starts N processes on this machine, which share its cores and use this process's stores. Each sees
        one GPU, if there are any: its own where N is at most their number. ``local`` starts as many as there are
        GPUs, else cores. Anything else is the address of a running scheduler, such as
        ``tcp://host:8786``, whose workers use the stores that their environment names.
    bring_weights : bool
        Fetch the weights, too, from workers that do not store to this file system.
    conduct : Conduct
        How they are carried out; workers say nothing themselves, ``report`` takes a line at the end of each run.

    Raises
    ------
    UserError
        If Dask is not installed, ``local:N`` has no number of processes, or no scheduler answers.
    NotWritten
        If a store cannot be written.
    """
    if _is_local(scheduler):  # told, too, where no run is missing
        local_workers(scheduler)
    jobs = list(jobs)
    keys = [key_of(*job) for job in jobs]
    job_of = dict(zip(keys, jobs, strict=True))
    left = jobs_left(job_of)
    tally, screen = Tally(left, total=len(job_of)), Live()
    live = screen.show if conduct.report is None and screen.on_terminal else silent
    report = conduct.report or screen.line
    if left:
        report(tally.line())
        with _connected(scheduler, conduct.device) as client:
            own = replace(conduct, report=report, live=live)
            _drive(client, left, tally, bring_weights=bring_weights, conduct=own)
    screen.close()
    records: dict[str, dict] = {}
    for key in filter(is_stored, job_of):
        try:
            records[key] = read_record(paths.run_folder(key) / "run.json")
        except UserError as error:  # a damaged record must not cost the others
            tally.end(key, failed=True)
            report(f"{title(job_of[key][0])} {key} failed: {error}")
    if tally.failed:
        report(FAILED.format(failed=len(tally.failed), all=len(job_of)))
    return [records[key] for key in keys if key in records]


def _drive(client, left: dict[str, Job], tally: Tally, *, bring_weights: bool, conduct: Conduct):
    """Hand out runs until none is left; each after the one whose weights it starts from."""
    from distributed import wait

    report, live = conduct.report or silent, conduct.live or silent
    later = dict.fromkeys(left, 0.0)  # key -> when to hand it out
    running: dict[Any, str] = {}  # future -> key
    while later or running:
        unfinished = later.keys() | set(running.values())
        for key in [key for key, moment in later.items() if moment <= time.monotonic()]:
            config, survey = left[key]
            if getattr(config, "weights", "") not in unfinished:
                del later[key]
                arguments = (kind_of(config), config_dict(config), asdict(survey), key, conduct.abroad())
                running[client.submit(work, *arguments, pure=False, priority=-list(left).index(key))] = key
        workers = len(client.nthreads())
        tally.running = min(len(running), workers)
        live(tally.line())
        if not running:
            time.sleep(POLL_SECONDS)
            continue
        try:
            done = wait(list(running), timeout=POLL_SECONDS, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            continue
        for future in done:
            key = running.pop(future)
            outcome = _outcome(future)
            if outcome.get("stop"):
                raise NotWritten(outcome["error"])
            if "busy" in outcome:  # another sweep makes it: ask again later
                later[key] = time.monotonic() + POLL_SECONDS
                continue
            if "record" in outcome:
                _keep(client, key, outcome, bring_weights)
            tally.end(key, failed="error" in outcome)
            tally.running = min(len(running), workers)
            end = f"failed: {outcome['error']}" if "error" in outcome else "done"
            report(f"{title(left[key][0])} {key} {end} ({tally.line()})")


def work(kind: str, config: dict, survey: dict, key: str, conduct: dict) -> dict:
    """One run, on a worker: ``record`` and ``worker`` (its address), or ``busy``, or ``error`` and ``stop``."""
    from distributed import get_worker

    job = config_from_dict(kind, config), SurveySpec(**survey)
    with _ONE_AT_A_TIME:
        try:
            if (own := key_of(*job)) != key:
                raise UserError(f"This worker would make run {own}: its gzlib is of another version than the sweep's.")
            record = run(*job, conduct=Conduct(**conduct, report=silent), wait=False, planned=key)
            return {"record": record, "worker": get_worker().address}
        except Busy:
            return {"busy": True}
        except Exception as error:  # as plain text: not every exception survives the way back
            return {"error": str(error) or repr(error), "stop": isinstance(error, NotWritten)}


def _outcome(future) -> dict:
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker:
        return {"error": "its worker died several times over (too little memory?); see the workers' own output"}
    except Exception as error:
        return {"error": f"Dask lost the run ({error!r})"}


def _keep(client, key: str, outcome: dict, bring_weights: bool):
    """Store what came back here, unless the worker has written to this very store."""
    if outcome["record"]["key"] != key:
        raise UserError(f"A worker returned run {outcome['record']['key']} where {key} was asked for.")
    if is_stored(key):
        return
    if bring_weights:
        weights = client.submit(read_weights, key, workers=[outcome["worker"]], pure=False).result()
        if weights is not None:
            replace_file(paths.STORE / key / "weights.safetensors", weights)
    write_run(outcome["record"])


def read_weights(key: str) -> bytes | None:
    """A run's weights, on a worker; None where it has none (a linear probe)."""
    file = paths.run_folder(key) / "weights.safetensors"
    return file.read_bytes() if file.is_file() else None


@contextmanager
def _connected(scheduler: str, device: str) -> Iterator:
    try:
        from distributed import Client, Nanny, Scheduler, SpecCluster
    except ImportError as error:
        raise UserError(f"'{scheduler}' needs Dask ({error}); install it with: pip install 'gzlib[cluster]'") from None
    if _is_local(scheduler):
        gpus = own_gpus(device)
        n = local_workers(scheduler, gpus=len(gpus))
        threads = str(max(1, paths.cores() // n))
        stores = {"GZLIB_HOME": paths.ROOT, "GZLIB_STORE": paths.STORE, "GZLIB_SURVEYS": paths.SURVEYS}
        environment = {name: str(path) for name, path in stores.items() if path is not None}
        environment |= {name: os.environ.get(name, threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        here: dict[str, Any] = {"host": "127.0.0.1", "dashboard": False}
        # memory_limit 0: surveys are memory-mapped, which Dask would take for memory in use and pause the worker.
        one: dict[str, Any] = {**here, "nthreads": 1, "memory_limit": 0, "silence_logs": logging.ERROR}
        workers = {
            i: {"cls": Nanny, "options": one | {"env": environment | ({VISIBLE: gpus[i % len(gpus)]} if gpus else {})}}
            for i in range(n)
        }
        order = {"cls": Scheduler, "options": here | {"port": 0}}
        with (
            SpecCluster(workers=workers, scheduler=order, silence_logs=logging.ERROR) as cluster,
            Client(cluster) as client,
        ):
            yield client
        return
    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise UserError(
            f"No Dask scheduler answers at '{scheduler}' ({error}); give its address, such as tcp://host:8786,"
            " or local:4 for four processes here."
        ) from None
    with client:
        yield client


VISIBLE = "CUDA_VISIBLE_DEVICES"  # which GPUs a process sees; torch built for AMD's GPUs heeds it, too


def own_gpus(device: str) -> list[str]:
    """The GPUs among which processes on this machine are shared out, as ``CUDA_VISIBLE_DEVICES`` names them.

    None where runs are not made on GPUs in general: on the CPU, or on one GPU that was named.
    """
    if device not in ("auto", "cuda"):
        return []
    named = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    count = torch.cuda.device_count()  # of those that are visible here
    return named[:count] if named else [str(number) for number in range(count)]


def _is_local(scheduler: str) -> bool:
    return scheduler.split(":")[0] == "local"


def local_workers(scheduler: str, *, gpus: int = 0) -> int:
    """Processes that ``local`` or ``local:N`` asks for, on a machine with so many GPUs to use."""
    _, colon, number = scheduler.partition(":")
    if not colon:
        return gpus or paths.cores()
    if not number.isdecimal() or int(number) < 1:  # isdigit() takes "²", too, and int() does not
        raise UserError(f"'{scheduler}': write local:N with the number of processes, such as local:4.")
    return int(number)
