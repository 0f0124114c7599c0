"""What a picture costs: floating-point operations of an encoder, counted, not estimated from its parameters."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from gzlib.models.encoders import build_encoder

TRAINING_FACTOR = 3  # forward once, backward about twice that (Kaplan et al. 2020, arXiv:2001.08361, section 2.1)


@torch.no_grad()
def forward_flops(encoder: str, size: int) -> int:
    """Floating-point operations of one forward pass of one picture of ``size`` px, a multiply-add counting as two.

    Convolutions and matrix products are counted, as is usual; normalisation and activations are not.
    """
    with torch.device("meta"):  # shapes alone: nothing is computed
        network, picture = build_encoder(encoder).eval(), torch.empty(1, 3, size, size)
    counter = FlopCounterMode(display=False)
    with counter:
        network(picture)
    return counter.get_total_flops()
