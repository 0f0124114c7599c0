"""What the machine offers: device and precision. Recorded with a run, never part of its key."""

from contextlib import nullcontext

import torch

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


def autocast(device: torch.device):
    """bfloat16 where matrix units make it pay; heads and losses stay in float32.

    On CPUs it is left off: depthwise convolutions lose more than the matrix products gain.
    """
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()
