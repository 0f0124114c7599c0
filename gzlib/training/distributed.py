"""Where a run is computed: the device, its precision, and one or several processes.

``torchrun --nproc-per-node 4 -m gzlib pretrain ...`` gives the run that one process would give: every process holds the
whole model and takes its part of each batch, gradients are summed over all. The run's key says nothing of it, nor of
the device. All processes must see the same run store and surveys. In a single process all of this does nothing.
"""

import os
import warnings
from contextlib import contextmanager, nullcontext
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from gzlib.errors import UserError


def choose_device(name: str = "auto") -> torch.device:
    """``auto``: a CUDA GPU if there is one, else Apple's, else the CPU."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):
        raise UserError(f"This machine has no device '{name}'; use 'auto' or 'cpu'.") from None
    return device


def autocast(device: torch.device, precision: str = "auto"):
    """The precision of a recipe (:class:`gzlib.config.Recipe`); heads and losses stay in float32.

    ``auto`` is bfloat16 on GPUs alone: on CPUs depthwise convolutions lose more than the matrix products gain.
    """
    gpu = device.type == "cuda" and torch.cuda.is_bf16_supported()
    if precision == "bfloat16" or (precision == "auto" and gpu):
        return torch.autocast(device.type, torch.bfloat16)
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
    """Element by element, the sum over processes; to the bit the same in each."""
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
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / max(count - 1, 1), self.momentum)
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
