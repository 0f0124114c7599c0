"""Encoders: any timm network by name, and ladders of small ConvNeXts and ResNets that a laptop can train."""

import re
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import lru_cache, partial
from typing import Any, TypeVar

import timm
import torch
import torch.nn.functional as F
from timm.layers import PatchEmbed
from timm.models.convnext import ConvNeXt
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gzlib.errors import UserError

# Width of the first stage; 40 is timm's ConvNeXt-Atto. Encoder parameters go with the square of the width,
# from about 0.05M to 3.4M.
LADDER = tuple(f"convnext_w{width}" for width in (4, 5, 7, 10, 14, 20, 28, 40))
# Mean and standard deviation of Galaxy Zoo 2's cutouts, from 0 to 1: galaxies are small and the sky about them is
# nearly black. Networks that start from random weights lose many thousand galaxies unless this is taken out.
SKY_MEAN, SKY_STD = (0.04,) * 3, (0.08,) * 3
HEADS = ("head", "heads", "head_dist", "fc", "classifier", "last_linear", "linear")
PATCH, DEPTH, EACH_HEAD = 6, 6, 32  # of the vision transformers: side of a patch [px], layers, numbers for one head
DEFAULT_SIDE = 64  # of images [px]
SHOWN = 8  # tensors that a sentence names
# Image sides that a refused user may take instead [px].
SIDES = (32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512)


class Encoder(nn.Module):
    """A pooled feature extractor that takes images in 0..1 and normalises them as its weights expect.

    Attributes
    ----------
    name : str
    num_features : int
        Length of the feature vector.
    margin : int
        Black pixels put around each image, in all along each axis, where a network cuts images into patches that the
        image's side is not a multiple of.

    Notes
    -----
    ``mean`` and ``std`` belong to the weights. They enter the state dict only where weights came with others than the
    architecture's own, so that whatever loads the state later normalises alike.
    """

    mean: torch.Tensor
    std: torch.Tensor
    network: nn.Module

    def __init__(
        self, name: str, network: nn.Module, mean: Iterable, std: Iterable, *, features: int = 0, margin: int = 0
    ):
        super().__init__()
        self.name, self.network, self.margin = name, _guarded(network), margin
        known = getattr(network, "num_features", 0)
        self.num_features: int = features or getattr(network, "head_hidden_size", known)
        self.register_buffer("mean", _per_band(mean), persistent=False)
        self.register_buffer("std", _per_band(std), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 3, y, x) float in 0..1 -> (n, num_features)."""
        if self.margin:
            before = self.margin // 2
            images = F.pad(images, (before, self.margin - before) * 2)
        return self.network((images - self.mean) / self.std)

    def normalise(self, mean: Iterable, std: Iterable):
        """Take out another mean and standard deviation of each band than the architecture's own."""
        for name, values in (("mean", _per_band(mean)), ("std", _per_band(std))):
            if not torch.equal(values, getattr(self, name).cpu()):
                self.register_buffer(name, values.to(getattr(self, name).device))

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        if f"{prefix}mean" in state_dict or f"{prefix}std" in state_dict:
            self.normalise(
                *(state_dict.get(f"{prefix}{name}", getattr(self, name)).flatten() for name in ("mean", "std"))
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class SkippingConv2d(nn.Conv2d):
    """A 1 x 1 convolution with a stride of few channels, which on CPUs first leaves out the pixels that it would skip.

    The same to rounding errors. With the stride left to oneDNN (as torch 2.15 has it) and channels last, its way back
    writes past its memory for fewer than 16 channels, which ends the program: with images of some 48 px and more, and
    with smaller ones where an odd number of them is shared among threads.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, y, x) -> (n, channels out, y / stride, x / stride)."""
        safe = max(x.shape[-2:]) <= SAFE_SIDE and (len(x) % 2 == 0 or torch.get_num_threads() == 1)
        if x.device.type != "cpu" or not torch.is_grad_enabled() or safe:
            return super().forward(x)
        down, right = self.stride
        return F.conv2d(x[..., ::down, ::right], self.weight, self.bias)


class PaddingConv2d(nn.Conv2d):
    """A convolution with a stride that on CPUs adds its padding itself to images smaller than the stride.

    The same to rounding errors. In bfloat16 oneDNN (as torch 2.15 has it) leaves the gradients of those weights that
    meet nothing but its own padding as the memory was before, where they should be 0: a last stage with images of one
    pixel then learns noise, or ends with NaN.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, y, x) -> (n, channels out, y out, x out)."""
        small = x.shape[-2] < self.stride[0] or x.shape[-1] < self.stride[1]
        if x.device.type != "cpu" or not torch.is_grad_enabled() or not small:
            return super().forward(x)
        down, right = (int(width) for width in self.padding)
        padded = F.pad(x, (right, right, down, down))
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


# Images of 64 px are never larger than 16 px where the stride is, and of even numbers of them nothing was seen to go
# wrong below 48 px.
SAFE_SIDE, FULL_BLOCK = 16, 16  # px; channels that oneDNN takes at once
SCALED_AWAY = 1e-3  # a layer scale up to which a branch of a new network is as good as absent


def _guarded(network: nn.Module) -> nn.Module:
    """The network, its convolutions that a processor cannot be trusted with made those above, in place.

    Parameters and their names stay: only ``forward`` differs.
    """
    for module in network.modules():
        if type(module) is not nn.Conv2d or max(module.stride) == 1:
            continue
        plain = (module.kernel_size, module.padding, module.groups) == ((1, 1), (0, 0), 1)
        if plain and module.in_channels < FULL_BLOCK:
            module.__class__ = SkippingConv2d
        elif not isinstance(module.padding, str) and max(module.padding) > 0 and module.padding_mode == "zeros":
            module.__class__ = PaddingConv2d
    return network


def _per_band(values: Iterable) -> torch.Tensor:
    return torch.as_tensor(values if torch.is_tensor(values) else tuple(values), dtype=torch.float32).view(1, -1, 1, 1)


def build_encoder(name: str, *, size: int | None = None, drop_path: float = 0.0) -> Encoder:
    """An encoder with random weights.

    Parameters
    ----------
    name : str
        ``convnext_w<width>`` for the ladder (depths 2, 2, 6, 2 as ConvNeXt-Atto), ``resnet_w<width>`` for a small
        ResNet (one basic block a stage, three 3 by 3 convolutions as stem), both with 1, 2, 4, 8 times width channels;
        ``vit_w<width>`` for a vision transformer of six layers over patches of 6 px (Dosovitskiy et al. 2021,
        arXiv:2010.11929), width numbers a patch; any width from 2 to 512; or any timm model name. Layer scales of
        timm's networks start at 1, where ConvNeXt's would at 1e-6.
    size : int, optional
        Side of the images [px]. Networks whose position codes or windows are made for one size are built for this one;
        left out, they are built for their own.
    drop_path : float
        Stochastic depth rate, for architectures that have it.

    Raises
    ------
    UserError
        If neither the ladder nor timm knows the name, or the network cannot take images of that size; the sizes that
        it takes are named.

    Examples
    --------
    >>> from gzlib.models import build_encoder, count_parameters
    >>> encoder = build_encoder("resnet_w8", size=64)
    >>> encoder.num_features, count_parameters(encoder)
    (64, 79848)
    """
    if match := re.fullmatch(r"(convnext|resnet|vit)_w(\d+)", name):
        family, width = match[1], int(match[2])
        margin = -size % PATCH if size and family == "vit" else 0
        small = _small_network(name, family, width, drop_path, (size or DEFAULT_SIDE) + margin)
        if size and family != "vit" and (least := _least_side(name, family, width)) > size:
            raise UserError(f"Encoder '{name}' cannot take images of {size} px; it takes {least} px and more.")
        return Encoder(name, small, SKY_MEAN, SKY_STD, margin=margin)
    if not timm.is_model(name.split(".")[0]):
        asked = name.split(".")[0]
        near = get_close_matches(asked, timm.list_models(), 3) or timm.list_models(f"*{asked[:8]}*")[:5]
        hint = f" (near it: {', '.join(near)})" if near else ""
        raise UserError(f"Unknown encoder '{name}': use convnext_w<width>, resnet_w<width> or a timm model name{hint}.")
    fitted = timm_arguments(name, size)
    network = at_full_strength(timm_network(name, drop_path=drop_path, **fitted["options"]))
    config: Any = network.pretrained_cfg
    return Encoder(name, network, config["mean"], config["std"], features=fitted["features"], margin=fitted["margin"])


def timm_network(name: str, *, drop_path: float = 0.0, **options) -> nn.Module:
    """One of timm's networks without a classifier; ``options`` as :func:`timm.create_model` takes them."""
    try:
        return timm.create_model(name, num_classes=0, drop_path_rate=drop_path, **options)
    except TypeError:  # the architecture has no stochastic depth
        return timm.create_model(name, num_classes=0, **options)


@torch.no_grad()
def at_full_strength(network: nn.Module) -> nn.Module:
    """The network, the branches of its residual blocks scaled by 1 where they were scaled by next to nothing, in place.

    ConvNeXt, CaiT and others start with a factor of 1e-6 to 1e-4 on each channel of each branch (layer scale, Touvron
    et al. 2021, arXiv:2103.17239), made for hundreds of epochs of ImageNet. It leaves the network hardly deeper than
    its stem for as long as these grow, which is most of a run on some thousand galaxies.
    """
    for name, scale in network.named_parameters():
        per_channel = scale.numel() == max(scale.shape, default=0)
        if scale.is_meta or not per_channel or name.endswith("bias"):
            continue
        if 0 < (first := float(scale.flatten()[0])) <= SCALED_AWAY and bool((scale == first).all()):
            scale.fill_(1.0)
    return network


def timm_arguments(name: str, size: int | None) -> dict:
    """How a network of timm's is built for a size.

    Returns
    -------
    dict
        ``options`` for :func:`timm.create_model`, ``margin`` (see :class:`Encoder`), and ``features``, the length of
        what comes out: heads with a hidden layer give another one than ``num_features``. 0 where ``size`` is None.

    Raises
    ------
    UserError
        If the network cannot take images of that size.
    """
    if size is None:
        return {"options": {}, "margin": 0, "features": 0}
    if found := _arguments(name, size):
        return found
    nearest: list[int] = []
    for side in sorted({*SIDES, *_own_sides(name)}, key=lambda side: abs(side - size)):
        if len(nearest) < 4 and _arguments(name, side):
            nearest.append(side)
    advice = f"it takes {', '.join(map(str, sorted(nearest)))} px" if nearest else "choose another encoder"
    raise UserError(f"Encoder '{name}' cannot take images of {size} px; {advice}.")


@lru_cache(maxsize=512)
def _arguments(name: str, size: int) -> dict | None:
    """As :func:`timm_arguments`, or None; tried with shapes alone, so that nothing is computed."""
    plain = _plain(name)
    patches = getattr(plain, "patch_embed", None)
    margin = -size % patches.patch_size[0] if isinstance(patches, PatchEmbed) else 0
    side = size + margin
    if features := _features(plain, side):
        return {"options": {}, "margin": margin, "features": features}
    try:
        fitted = _on_meta(partial(timm_network, name, img_size=side))
    except Exception:  # no such argument, or windows and patches that this size has no whole number of
        return None
    features = _features(fitted, side)
    return {"options": {"img_size": side}, "margin": margin, "features": features} if features else None


@lru_cache(maxsize=2)
def _plain(name: str) -> nn.Module:
    return _on_meta(partial(timm_network, name))


def built_alike(name: str, options: dict) -> bool:
    """Whether options of :func:`timm.create_model` leave a network as it is without them."""
    try:
        other = _on_meta(partial(timm_network, name, **options))
    except Exception:  # each architecture refuses options in a way of its own
        return False
    return _described(other) == _described(_plain(name))


def _described(network: nn.Module) -> list:
    """Each layer of a network with its settings."""
    plain = (bool, int, float, str, tuple, type(None))
    return [
        (name, type(layer), {k: v for k, v in vars(layer).items() if isinstance(v, plain) and k != "training"})
        for name, layer in network.named_modules()
    ]


def _own_sides(name: str) -> list[int]:
    config = timm.get_pretrained_cfg(name, allow_unregistered=False)
    return [config.input_size[-1]] if config else []


@lru_cache(maxsize=512)
def _least_side(name: str, family: str, width: int) -> int:
    network = _on_meta(partial(_small_network, name, family, width))
    return bisect_left(range(65), True, key=lambda side: side > 0 and _features(network, side) is not None)


def _on_meta(make: Callable[..., nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]), torch.device("meta"):  # no number of a seed is used up
        return make()


@torch.no_grad()
def _features(network: nn.Module, side: int) -> int | None:
    """Length of the feature vector that comes out, or None if the network cannot take the size."""
    try:
        out = network.to("meta").eval()(torch.empty(2, 3, side, side, device="meta"))
    except Exception:  # each architecture fails in a way of its own
        return None
    pooled = isinstance(out, torch.Tensor) and out.ndim == 2
    return out.shape[1] if pooled else None


def _small_network(name: str, family: str, width: int, drop_path: float = 0.0, size: int = DEFAULT_SIDE) -> nn.Module:
    if not 2 <= width <= 512:
        raise UserError(f"Encoder '{name}': the width must lie between 2 and 512.")
    if family == "vit":
        heads = next(n for n in range(max(1, width // EACH_HEAD), 0, -1) if width % n == 0)
        shape: Any = {"img_size": size, "patch_size": PATCH, "embed_dim": width, "depth": DEPTH, "num_heads": heads}
        pooled: Any = {"class_token": False, "global_pool": "avg", "num_classes": 0}
        return VisionTransformer(**shape, **pooled, drop_path_rate=drop_path)
    channels = tuple(width * k for k in (1, 2, 4, 8))
    if family == "resnet":  # batch norm: it learns from few galaxies several times as fast as the ConvNeXts
        block: Any = BasicBlock  # timm's annotation asks for a block where it takes the class
        stem: Any = {"stem_width": width, "stem_type": "deep"}
        return ResNet(block, (1, 1, 1, 1), num_classes=0, channels=channels, drop_path_rate=drop_path, **stem)
    # Layer scale is for networks many times as deep.
    return ConvNeXt(depths=(2, 2, 6, 2), dims=channels, num_classes=0, drop_path_rate=drop_path, ls_init_value=None)


def fit_state(encoder: Encoder, state: dict[str, torch.Tensor], what: str) -> str:
    """Load a state dict of this encoder, of timm's network in it, or of a model around either.

    Parameters
    ----------
    encoder : Encoder
    state : dict
        Names may have a prefix (``encoder.``, ``model.``, ``module.``, ...), a head's tensors and those of parts that
        the encoder lacks may be with them, and a network's first convolution may take one band, the mean of three.
    what : str
        The source, for sentences.

    Returns
    -------
    str
        What was loaded and what was left out.

    Raises
    ------
    UserError
        Naming the tensors that do not fit, or one that is not finite.
    """
    wanted = encoder.network.state_dict()
    prefix = _prefix(state, wanted)
    inner = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    left = [name for name in state if not name.startswith(prefix)]
    outer = prefix.removesuffix("network.")
    own = [f"{outer}{name}" for name in ("mean", "std")] if prefix.endswith("network.") else []
    inner, notes = _three_bands(inner, wanted)
    if any(_misfits(inner, wanted)):
        inner = _converted(encoder.network, inner, wanted)
    missing, others, shapes = _misfits(inner, wanted)
    parts = {name.split(".")[0] for name in wanted}
    config = getattr(encoder.network, "pretrained_cfg", None) or {}
    classifiers = config.get("classifier") or ()
    heads = tuple(f"{name}." for name in ((classifiers,) if isinstance(classifiers, str) else classifiers))
    spare = [n for n in others if n.startswith(heads) or n.split(".")[0] in HEADS or n.split(".")[0] not in parts]
    unexpected = [name for name in others if name not in spare]
    if missing or unexpected or shapes:
        lists = [("other shapes or kinds", shapes), ("missing", missing), ("unexpected", unexpected)]
        details = "; ".join(f"{label}: {_listed(names)}" for label, names in lists if names)
        raise UserError(f"{what} holds the weights of another encoder than '{encoder.name}'. {details}.")
    inner = {name: value for name, value in inner.items() if name in wanted}
    refuse_nonfinite(inner, what)
    if set(own) <= state.keys() and own:
        encoder.normalise(*(state[name].flatten() for name in own))
    encoder.network.load_state_dict(inner, strict=False)
    left = [name for name in left if name not in own] + [prefix + name for name in spare]
    said = [f"{len(inner)} tensors loaded"]
    said += [f"the prefix '{prefix}' taken off"] if prefix else []
    said += notes
    said += [f"left out: {_listed(left)}"] if left else []
    return ", ".join(said)


def _prefix(state: Iterable[str], wanted: dict) -> str:
    """The prefix under which most of the names wanted stand."""
    endings = Counter(
        name[: len(name) - len(tail)]
        for name in state
        for tail in (name.split(".", depth)[-1] for depth in range(name.count(".") + 1))
        if tail in wanted
    )
    # Of prefixes with as many names, the shorter: 'a.0.weight' may be wanted beside '0.weight'.
    return min(endings, key=lambda prefix: (-endings[prefix], len(prefix)), default="")


def _misfits(state: dict, wanted: dict) -> tuple[list[str], list[str], list[str]]:
    """Names that are missing, unexpected names, and tensors of other shapes or kinds."""
    missing = [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]
    shapes = [
        f"{name} {tuple(state[name].shape)} for {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in state and state[name].shape != value.shape
    ]
    shapes += [
        f"{name} of {state[name].dtype}"
        for name, value in wanted.items()
        if name in state and value.is_floating_point() and not state[name].is_floating_point()
    ]
    return missing, [name for name in state if name not in wanted], shapes


def _three_bands(state: dict, wanted: dict) -> tuple[dict, list[str]]:
    """Convolutions of one band as those of three that give the same for the three's mean."""
    single = [
        name
        for name, value in state.items()
        if name in wanted and value.ndim == 4 and value.shape[1] == 1 and wanted[name].shape[1] == 3
    ]
    state = state | {name: state[name].expand(-1, 3, -1, -1) / 3 for name in single}
    return state, [f"{name} takes one band, here the mean of the three" for name in single]


def _converted(network, state: dict, wanted: dict) -> dict:
    """The state after timm's own conversion for this architecture (other programs' names, another image size)."""
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        converted = convert(dict(state), network)
    except Exception:  # written for one program's files each, they fail on others in any way
        return state
    return converted if sum(map(len, _misfits(converted, wanted))) < sum(map(len, _misfits(state, wanted))) else state


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def refuse_nonfinite(state: dict[str, torch.Tensor], what: str):
    for name, value in state.items():
        values = value.float() if value.is_floating_point() and value.element_size() < 2 else value  # torch can't say
        if value.is_floating_point() and not bool(torch.isfinite(values).all()):
            raise UserError(f"{what} can't be used: '{name}' holds numbers that are not finite.")


Placed = TypeVar("Placed", bound=nn.Module)


def placed(module: Placed, device: torch.device) -> Placed:
    """The module on a device, weights with channels last, as convolutions read them fastest."""
    moved: Any = module  # torch's annotations of ``to`` lack the memory's format
    return moved.to(device, memory_format=torch.channels_last)


def count_parameters(module: nn.Module) -> int:
    """Trainable parameters; the size axis of every figure counts the encoder alone."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


TRAINING_FACTOR = 3  # forward once, backward about twice that (Kaplan et al. 2020, arXiv:2001.08361, section 2.1)


@torch.no_grad()
def forward_flops(encoder: str, size: int) -> int:
    """Floating-point operations of one forward pass of one image of ``size`` px, a multiply-add counting as two.

    Convolutions and matrix products are counted, as is usual; normalisation and activations are not.
    """
    with torch.device("meta"):  # shapes alone: nothing is computed
        network, image = build_encoder(encoder, size=size).eval(), torch.empty(1, 3, size, size)
    counter = FlopCounterMode(display=False)
    with counter:
        network(image)
    return counter.get_total_flops()
