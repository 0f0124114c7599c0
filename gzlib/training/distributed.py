"""Where a run is computed: the device, its precision, and one or several processes, which share it or a sweep.

``torchrun --nproc-per-node 4 -m gzlib pretrain ...`` gives the run that one process would give: every process holds the
whole model and takes its part of each batch, gradients are summed over all. The run's key says nothing of it, nor of
the device. All processes must see the same run store and surveys. In a single process all of this does nothing.

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
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from gzlib import paths, trace
from gzlib.config import Conduct, RunConfig, SurveySpec, config_dict, config_from_dict, kind_of
from gzlib.errors import UserError
from gzlib.progress import silent


def choose_device(name: str = "auto") -> torch.device:
    """``auto``: a CUDA GPU if there is one, else Apple's, else the CPU."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, TypeError):
        raise UserError(f"This machine has no device '{name}'; use 'auto' or 'cpu'.") from None
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device gains from bfloat16, as far as this can be told; of CPUs, torch knows it of x86 alone."""
    known = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return device.type != "cpu" or any(has() for has in known if has)


def autocast(device: torch.device, precision: str = "auto", *, keep: bool = True):
    """The precision of a recipe (:class:`gzlib.config.Recipe`); heads and losses stay in float32.

    ``auto`` is bfloat16 on GPUs alone: on CPUs depthwise convolutions lose more than the matrix products gain. A CPU
    without instructions for bfloat16 would take 2 to 12 times as long with it, so it computes in float32 whatever the
    recipe says. ``keep`` the converted weights while the context lasts, which a CUDA graph must not: they would be
    those of its capture.
    """
    gpu = device.type == "cuda" and torch.cuda.is_bf16_supported()
    if (precision == "bfloat16" and has_bfloat16(device)) or (precision == "auto" and gpu):
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=keep)
    return nullcontext()


@contextmanager
def joined():
    """Join the processes that torchrun started, each with a GPU of its own where there is one."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or dist.is_initialized():
        yield
        return
    patience = timedelta(hours=6)  # for others that wait while the first process makes a survey
    if torch.cuda.is_available():
        local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= gpus:
            raise UserError(f"torchrun started more processes here than the {gpus} GPUs; lower --nproc-per-node.")
        torch.cuda.set_device(local)
        dist.init_process_group("cpu:gloo,cuda:nccl", timeout=patience)
    else:
        dist.init_process_group("gloo", timeout=patience)
    try:
        with warnings.catch_warnings():
            # Of depthwise kernels, where the stride over a dimension of one has no meaning.
            warnings.filterwarnings("ignore", message="Grad strides do not match")
            yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process is the one that writes files and talks."""
    return rank() == 0


def share(value):
    """The first process's value of something small, in every process."""
    if world() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
    return values[0]


def made_once(make):
    """What ``make()`` returns, called first by the first process alone, then by the others, who find it made."""
    if world() == 1:
        return make()
    made = make() if is_main() else None
    share(None)
    return made if is_main() else make()


def anywhere(*flags: bool) -> tuple[bool, ...]:
    """For each flag, whether it is raised in any process."""
    if world() == 1:
        return flags
    raised = torch.tensor(flags, dtype=torch.uint8)  # on the CPU: no GPU has to be waited for
    dist.all_reduce(raised, dist.ReduceOp.MAX)
    return tuple(bool(flag) for flag in raised)


def total(values: torch.Tensor) -> torch.Tensor:
    """Element by element, the sum over processes; bit for bit the same in each."""
    if world() == 1:
        return values
    parts = [torch.empty_like(values) for _ in range(world())]
    dist.all_gather(parts, values)
    return torch.stack(parts).sum(0)


def replicated(model: nn.Module, device: torch.device) -> nn.Module:
    """The model, in several processes wrapped to average its gradients, its batch norms joined in place.

    Raises
    ------
    UserError
        On CPUs, if the model has a batch norm of another kind than ``torch.nn.BatchNorm2d``.
    """
    if world() == 1:
        return model
    if device.type == "cuda":
        from timm.layers import convert_sync_batchnorm  # knows timm's own norms, which torch's converter does not

        convert_sync_batchnorm(model)
    else:
        _join_batch_norms(model)
    return DistributedDataParallel(model)


class JoinedBatchNorm(nn.BatchNorm2d):
    """Batch norm over the batches of all processes, for CPUs, where torch.nn.SyncBatchNorm does not work."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, y, x) float32 of this process -> the same, by mean and variance over all processes."""
        if not self.training:
            return super().forward(x)
        over = (0, 2, 3)
        count = total(torch.tensor(x.numel() / x.shape[1], dtype=torch.float64)).item()
        mean = _Sum.apply(x.sum(over)) / count
        centred = x - mean.view(1, -1, 1, 1)
        variance = _Sum.apply(centred.square().sum(over)) / count
        with torch.no_grad():
            # These are there: only batch norms that keep statistics are joined.
            assert self.running_mean is not None and self.running_var is not None
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            # None while the statistics of averaged weights are made: then all batches count alike
            share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance * count / max(count - 1, 1), share)
        scale = self.weight * (variance + self.eps).rsqrt()
        return centred * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


class _Sum(torch.autograd.Function):
    """The sum over processes, through which gradients flow back to all of them."""

    @staticmethod
    def forward(ctx, values: torch.Tensor) -> torch.Tensor:
        return total(values)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return total(gradient.contiguous())


def _join_batch_norms(model: nn.Module):
    for name, module in model.named_modules():
        if type(module) is nn.BatchNorm2d and module.affine and module.momentum is not None:
            module.__class__ = JoinedBatchNorm  # same parameters, buffers and names: only forward differs
        elif isinstance(module, nn.modules.batchnorm._BatchNorm) and not isinstance(module, JoinedBatchNorm):
            raise UserError(
                f"'{name}' ({type(module).__name__}) cannot be trained in several CPU processes;"
                " use one process, GPUs, or a resnet_w or convnext_w encoder."
            )


VARIABLE = "GZLIB_WORKERS"  # the environment variable that says how many processes a sweep takes
STOP_SECONDS = 60  # for a helper to write its checkpoint


def worker_count(runs: int, *, device: str) -> int:
    """How many processes a sweep with so many runs to make takes by default.

    As many as cores on a CPU, but no more than runs; one on a GPU and under torchrun. ``GZLIB_WORKERS`` says otherwise:
    several small networks can share a GPU (``examples/gpu-sweep.sh``).
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted and not (wanted.isdecimal() and int(wanted)):
        raise UserError(f"{VARIABLE} must be a number of processes, 1 or more, not '{wanted}'.")
    if world() > 1 or choose_device(device).type != "cpu":
        return int(wanted or 1) if world() == 1 else 1
    return max(1, min(int(wanted or paths.cores()), runs))


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
            self.report(f"Other programs are busy: the run continues with one thread instead of {self.threads}.")

    def close(self):
        """Take the threads back, for the next run."""
        if torch.get_num_threads() != self.threads and self.threads > 1:
            torch.set_num_threads(self.threads)


@contextmanager
def helped(jobs: dict[str, tuple[RunConfig, SurveySpec]], helpers: int, conduct: Conduct) -> Iterator[None]:
    """Have ``helpers`` further processes work at the jobs (by key) while the block runs, this one with a single thread.

    When the block ends early, as after SIGTERM, they write their checkpoints; when this process is killed, too.
    """
    if helpers < 1:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    said = [[key, kind_of(config), config_dict(config), asdict(survey)] for key, (config, survey) in jobs.items()]
    order = {"jobs": said, "conduct": conduct.abroad()}
    stores = {"GZLIB_HOME": paths.ROOT, "GZLIB_STORE": paths.STORE, "GZLIB_SURVEYS": paths.SURVEYS}
    environment = {name: value for name, value in os.environ.items() if name != trace.VARIABLE}
    environment |= {name: str(path) for name, path in stores.items() if path is not None}
    environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", VARIABLE: "1"}
    own = str(paths.PACKAGE.parent)  # a notebook's kernel may have found the package where a helper would not
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [own, environment.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "gzlib.training.distributed"]
    started: list[subprocess.Popen[str]] = []
    try:
        for _ in range(helpers):
            # A session of its own: Ctrl-C reaches this process, which then stops its helpers cleanly.
            helper = subprocess.Popen(
                command,
                env=environment,
                start_new_session=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                text=True,
            )
            started.append(helper)
            with suppress(BrokenPipeError):  # one that does not start leaves its jobs to the others
                print(json.dumps(order), file=helper.stdin, flush=True)
        yield
    finally:
        for helper in started:
            helper.terminate()
        for helper in started:
            try:
                helper.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                helper.kill()
            if helper.stdin:
                with suppress(BrokenPipeError):
                    helper.stdin.close()
        torch.set_num_threads(threads)


def help_out():
    """Make the jobs that standard input names, and stop when it closes: the process that asked for them is gone."""
    from gzlib.training.sweeps import sweep

    order = json.loads(sys.stdin.readline())

    def follow():
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, daemon=True).start()
    torch.set_num_threads(1)
    jobs = [(config_from_dict(kind, config), SurveySpec(**survey)) for _, kind, config, survey in order["jobs"]]
    planned = [key for key, *_ in order["jobs"]]
    sweep(jobs, workers=1, conduct=Conduct(**order["conduct"], report=silent), planned=planned)


if __name__ == "__main__":
    help_out()
