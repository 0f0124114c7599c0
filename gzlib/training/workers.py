"""Processes and threads on this machine: a sweep's helpers, and a run that makes room for other programs.

Two processes with a thread each do twice the work of one; two threads in one process do 1.3 times as much, and next to
another busy program a hundredth, because OpenMP's threads spin while they wait for each other. So a sweep takes as many
processes as there are cores, with one thread each, and a run by itself gives its threads up when they crawl.
``benchmarks/threads.py`` measures both.

A helper is nothing but another sweep over the same jobs and the same store, where each run is made by one process.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict

import torch

from gzlib import paths, trace
from gzlib.config import RunConfig, SurveySpec, config_dict, config_from_dict, kind_of
from gzlib.errors import UserError
from gzlib.training.distributed import choose_device, world

VARIABLE = "GZLIB_WORKERS"  # the environment variable that says how many processes a sweep takes
STOP_SECONDS = 60  # for a helper to write its checkpoint


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_count(runs: int, *, device: str) -> int:
    """How many processes a sweep with so many runs to make takes by default.

    As many as cores on a CPU, but no more than runs; one on a GPU, which a run has to itself, and under torchrun.
    ``GZLIB_WORKERS`` says otherwise.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted and not (wanted.isdigit() and int(wanted)):
        raise UserError(f"{VARIABLE} must be a number of processes, 1 or more, not '{wanted}'.")
    if world() > 1 or choose_device(device).type != "cpu":
        return int(wanted or 1) if world() == 1 else 1
    return max(1, min(int(wanted or cores()), runs))


WINDOW = 1.0  # seconds
# Threads that spin use all the processor time that they are given. Beside one busy program two threads on two cores get
# two thirds of what they ask for; alone they get nine tenths and more.
ENOUGH = 0.8


class Pace:
    """Watches a run's steps on a CPU, and goes to one thread when its threads have to wait for other programs.

    Twice in a row, because a checkpoint or a slow disk makes a window of its own. The number of threads that there was
    comes back with :meth:`close`.

    Parameters
    ----------
    report : callable
        Takes the sentence that says so.
    """

    def __init__(self, device: torch.device, report: Callable[[str], None]):
        self.threads = torch.get_num_threads() if device.type == "cpu" and world() == 1 else 1
        self.watching, self.report, self.short = self.threads > 1, report, 0
        self._open()

    def _open(self):
        self.since, self.used = time.perf_counter(), time.process_time()

    def step(self):
        """A step has been made."""
        if not self.watching or (passed := time.perf_counter() - self.since) < WINDOW:
            return
        share = (time.process_time() - self.used) / (passed * self.threads)
        self.short = self.short + 1 if share < ENOUGH else 0
        self._open()
        if self.short == 2:
            self.watching = False
            torch.set_num_threads(1)
            self.report(f"Other programs are busy: the run goes on with one thread instead of {self.threads}.")

    def close(self):
        """Take the threads back, for the next run."""
        if torch.get_num_threads() != self.threads and self.threads > 1:
            torch.set_num_threads(self.threads)


@contextmanager
def helped(jobs: list[tuple[RunConfig, SurveySpec]], helpers: int, *, device: str, **conduct) -> Iterator[None]:
    """Have ``helpers`` further processes work at the jobs while the block runs, this one with a single thread.

    When the block ends early, as after SIGTERM, they write their checkpoints; when this process is killed, too.
    """
    if helpers < 1:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    order = {"jobs": [[kind_of(c), config_dict(c), asdict(s)] for c, s in jobs], "device": device, "conduct": conduct}
    stores = {"GZLIB_HOME": paths.ROOT, "GZLIB_STORE": paths.STORE, "GZLIB_SURVEYS": paths.SURVEYS}
    environment = {name: value for name, value in os.environ.items() if name != trace.VARIABLE}
    environment |= {name: str(path) for name, path in stores.items() if path is not None}
    environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", VARIABLE: "1"}
    own = str(paths.PACKAGE.parent)  # a notebook's kernel may have found the package where a helper would not
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [own, environment.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "gzlib.training.workers"]
    quiet = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True}
    started = []
    try:
        for _ in range(helpers):
            # A session of its own: Ctrl-C reaches this process, which then stops its helpers in good order.
            started.append(subprocess.Popen(command, env=environment, start_new_session=True, **quiet))
            with suppress(BrokenPipeError):  # one that does not start leaves its jobs to the others
                started[-1].stdin.write(json.dumps(order) + "\n")
                started[-1].stdin.flush()
        yield
    finally:
        for helper in started:
            helper.terminate()
        for helper in started:
            try:
                helper.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                helper.kill()
            with suppress(BrokenPipeError):
                helper.stdin.close()
        torch.set_num_threads(threads)


def help_out():
    """Make the jobs that standard input names, and stop when it closes: whoever asked for them is gone."""
    from gzlib.training.sweeps import sweep

    order = json.loads(sys.stdin.readline())

    def follow():
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, daemon=True).start()
    torch.set_num_threads(1)
    jobs = [(config_from_dict(kind, config), SurveySpec(**survey)) for kind, config, survey in order["jobs"]]
    sweep(jobs, device=order["device"], workers=1, report=lambda line: None, **order["conduct"])


if __name__ == "__main__":
    help_out()
