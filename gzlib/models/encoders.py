"""Encoders: any timm network by name, and ladders of small ConvNeXts and ResNets that a laptop can train."""

import re

import timm
import torch
from timm.models.convnext import ConvNeXt
from timm.models.resnet import BasicBlock, ResNet
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gzlib.errors import UserError

# Width of the first stage; 40 is timm's ConvNeXt-Atto. Encoder parameters go with the square of the width,
# from about 0.05M to 3.4M.
LADDER = tuple(f"convnext_w{width}" for width in (4, 5, 7, 10, 14, 20, 28, 40))
# Mean and standard deviation of Galaxy Zoo 2's cutouts, from 0 to 1: galaxies are small and the sky about them is
# nearly black. Networks that start from random weights lose many thousand galaxies unless this is taken out.
SKY_MEAN, SKY_STD = (0.04,) * 3, (0.08,) * 3


class Encoder(nn.Module):
    """A pooled feature extractor that takes pictures in 0..1 and normalises them as its weights expect.

    Attributes
    ----------
    name : str
    num_features : int
        Length of the feature vector.
    """

    def __init__(self, name: str, network: nn.Module, mean: tuple, std: tuple):
        super().__init__()
        self.name, self.network, self.num_features = name, network, network.num_features
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 3, y, x) float in 0..1 -> (n, num_features)."""
        return self.network((images - self.mean) / self.std)


def build_encoder(name: str, *, drop_path: float = 0.0) -> Encoder:
    """An encoder with random weights.

    Parameters
    ----------
    name : str
        ``convnext_w<width>`` for the ladder (depths 2, 2, 6, 2 as ConvNeXt-Atto), ``resnet_w<width>`` for a small
        ResNet (one basic block a stage, three 3 x 3 convolutions as stem), both with channels width x 1, 2, 4, 8 and
        any width from 2 to 512; or any timm model name.
    drop_path : float
        Stochastic depth rate, for architectures that have it.

    Raises
    ------
    UserError
        If neither the ladder nor timm knows the name.
    """
    if match := re.fullmatch(r"(convnext|resnet)_w(\d+)", name):
        return Encoder(name, _small_network(name, match[1], int(match[2]), drop_path), SKY_MEAN, SKY_STD)
    if not timm.is_model(name.split(".")[0]):
        near = timm.list_models(f"*{name.split('.')[0][:8]}*")[:5]
        hint = f" (near it: {', '.join(near)})" if near else ""
        raise UserError(f"Unknown encoder '{name}': use convnext_w<width>, resnet_w<width> or a timm model name{hint}.")
    try:
        network = timm.create_model(name, num_classes=0, drop_path_rate=drop_path)
    except TypeError:  # the architecture has no stochastic depth
        network = timm.create_model(name, num_classes=0)
    config = network.pretrained_cfg
    return Encoder(name, network, config["mean"], config["std"])


def _small_network(name: str, family: str, width: int, drop_path: float) -> nn.Module:
    if not 2 <= width <= 512:
        raise UserError(f"Encoder '{name}': the width must lie between 2 and 512.")
    channels = tuple(width * k for k in (1, 2, 4, 8))
    if family == "resnet":  # batch norm: it learns from few galaxies several times as fast as the ConvNeXts
        stem = {"stem_width": width, "stem_type": "deep"}
        return ResNet(BasicBlock, (1, 1, 1, 1), num_classes=0, channels=channels, drop_path_rate=drop_path, **stem)
    # Layer scale is for networks many times as deep.
    return ConvNeXt(depths=(2, 2, 6, 2), dims=channels, num_classes=0, drop_path_rate=drop_path, ls_init_value=None)


@torch.no_grad()
def refuse_small_pictures(encoder: Encoder, size: int):
    """UserError if pictures of ``size`` pixels vanish on their way through the encoder."""
    try:
        encoder.eval()(torch.zeros(1, 3, size, size))
    except RuntimeError:
        raise UserError(f"Encoder '{encoder.name}' needs larger pictures than {size} px.") from None


def count_parameters(module: nn.Module) -> int:
    """Trainable parameters; the size axis of every figure counts the encoder alone."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


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
