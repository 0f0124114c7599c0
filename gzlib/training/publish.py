"""From a run to a model's folder, and from there to timm, ONNX and the hub."""

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from gzlib import paths
from gzlib.config import FinetuneConfig, RunConfig, SurveySpec, config_dict, kind_of
from gzlib.data.curation import make_survey
from gzlib.data.schema import is_tree_file
from gzlib.data.sources.registry import has_prefix, split_text
from gzlib.data.survey import open_survey, training_subset
from gzlib.errors import UserError
from gzlib.files import MARKER, check_replaceable, not_written, replace_file, replace_folder, spare_folder
from gzlib.models.encoders import build_encoder
from gzlib.models.heads import CONCENTRATION_MIN, CONCENTRATION_RANGE, DirichletHead, GalaxyModel, NumberHead
from gzlib.models.weights import read_weights, run_weights, write_weights
from gzlib.training.card import figure_page, model_card
from gzlib.training.distributed import choose_device
from gzlib.training.evaluation import calibrate, scores
from gzlib.training.finetuning import (
    VOTES,
    Target,
    Task,
    finetuned_model,
    measure,
    prepare_task,
    probe_model,
    task_target,
)
from gzlib.training.saved import (
    CARD,
    CONFIG,
    FORMAT,
    PAGE,
    TREE,
    WEIGHTS,
    CalibrationShape,
    HeadShape,
    ImageShape,
    ModelConfig,
    SavedModel,
    installed_version,
    normalisation,
    read_config,
)
from gzlib.training.store import utc

MODEL, EXPORT = "a saved model", "an exported model"  # that a folder is replaced for
FEW = 200  # validation galaxies below which labels that were held aside calibrate, too


def check_out(out) -> Path:
    """The folder that a model is to be saved in, refused before anything is trained if it can't be.

    Raises
    ------
    UserError
    """
    import matplotlib  # noqa: F401  for the page of figures; better missed now than after the training

    return check_replaceable(out, MODEL, keep=_kept())


def _kept() -> tuple[Path | None, ...]:
    return paths.ROOT, paths.STORE, paths.SURVEYS


@dataclass
class _Parts:
    """What a model's folder is made of: the network, what it predicts, and which galaxies judge it."""

    network: GalaxyModel
    task: Task
    calibrating: np.ndarray
    extra: np.ndarray | None = None  # outputs for the last of the calibrating galaxies, made without their labels


def save_run(
    config: RunConfig,
    survey: SurveySpec,
    record: dict,
    out,
    *,
    unit: str = "",
    device: str = "auto",
    report: Callable[[str], None] = lambda line: None,
) -> SavedModel:
    """Save a finished run as a model's folder.

    The validation split calibrates; of fewer than 200 galaxies, together with the labels that the training held aside.

    Parameters
    ----------
    config, survey
        Of the run.
    record : dict
        As :func:`gzlib.training.run` returns it; of full finetuning and pretraining, with the weights on this machine.
    out : path
        The folder; one that holds an earlier model is replaced.
    unit : str
        Of a number that is predicted, such as ``mag``.
    report : callable
        Takes lines.

    Raises
    ------
    UserError
        If the folder may not be replaced, or the weights are not here.
    """
    out, chosen = check_out(out), choose_device(device)
    parts = _finetuned(config, survey, record, chosen) if isinstance(config, FinetuneConfig) else _pretrained(
        config, survey, record
    )  # fmt: skip
    task, target = parts.task, parts.task.target
    if task.data.attrs["fingerprint"] != record["survey"]["fingerprint"]:
        raise UserError(
            f"The survey '{survey.source}' is not the one that run '{record['key']}' learned from, so the model is not"
            " saved; run the same command again."
        )
    head = _head(target, getattr(config, "label", VOTES), unit, getattr(config, "mode", "") == "linear")
    encoder = parts.network.encoder
    model_config = ModelConfig.model_construct(
        format=FORMAT,
        gzlib=installed_version(),
        encoder=encoder.name,
        num_features=encoder.num_features,
        image=ImageShape(
            size=task.data.sizes["y"],
            aspect=cast(Any, survey.aspect),
            central_fraction=survey.central_fraction,
            **normalisation(encoder),
        ),
        head=head,
        calibration=CalibrationShape(),
        training=_training(config, survey, record, task),
        metrics={},
    )
    model = SavedModel(parts.network, model_config, device=device)
    images = task.data.images.values
    n_extra = 0 if parts.extra is None else len(parts.extra)
    outputs = model.outputs(images[parts.calibrating[: len(parts.calibrating) - n_extra]])
    if parts.extra is not None:
        outputs = parts.extra if not len(outputs) else np.concatenate([outputs, parts.extra])
    known = target.values[task.subset]
    spread = 0.0 if target.kind in ("classes", "votes") else float(known.std(dtype=float))
    model_config.calibration = calibrate(head, outputs, target.values[parts.calibrating], spread=spread)

    outputs, truth = model.outputs(images[task.test]), target.values[task.test]
    measured, _ = measure(torch.from_numpy(outputs), task)
    model_config.metrics = scores(model, outputs, truth) | {"baseline_error": measured["baseline_error"]}
    own = record["metrics"].get("error")
    if own is not None and abs(own - measured["error"]) > 1e-4 * max(own, 1e-3):
        report(f"The saved model's test error is {measured['error']:.6g}, the run's {own:.6g}: other precision.")
    page = figure_page(model, outputs, truth, images[task.test], task.data.id_str.values[task.test].tolist())
    _write(model, page, out, own_tree=head.kind == "votes" and is_tree_file(task.data.attrs["schema"]))
    return model


def _finetuned(config: FinetuneConfig, survey: SurveySpec, record: dict, device: torch.device) -> _Parts:
    task = prepare_task(config, survey)
    val = np.flatnonzero((task.data.split.values == "val") & task.target.known)
    few = len(val) < FEW
    if config.mode == "linear":
        network, left_out = probe_model(config, task, device)
        return _Parts(network, task, np.concatenate([val, task.subset]) if few else val, left_out if few else None)
    network = finetuned_model(config, task, read_weights(run_weights(record["key"])))
    return _Parts(network, task, np.concatenate([val, task.held]) if few else val)


def _pretrained(config: RunConfig, survey: SurveySpec, record: dict) -> _Parts:
    folder = make_survey(survey)
    data = open_survey(folder)
    target, split = task_target(data, VOTES), data.split.values
    rows = {name: np.flatnonzero((split == name) & target.known) for name in ("val", "test")}
    encoder = build_encoder(config.encoder, size=data.sizes["y"])
    network = GalaxyModel(encoder, DirichletHead(encoder.num_features, target.values.shape[1]))
    network.load_state_dict(read_weights(run_weights(record["key"])))
    task = Task(folder, data, target, training_subset(data, config.n_train, seed=config.seed), rows["test"])
    return _Parts(network.eval(), task, rows["val"])


def _head(target: Target, label: str, unit: str, linear: bool) -> HeadShape:
    head = HeadShape(kind=target.kind, label=label, unit=unit, linear=linear)
    if target.schema is not None:
        head.tree_name, head.tree = target.schema.name, target.schema.records()
    elif target.n_classes is not None:
        head.classes, head.codes = [target.name(i) for i in range(target.n_classes)], list(target.codes)
    return head


def _training(config: RunConfig, survey: SurveySpec, record: dict, task: Task) -> dict[str, Any]:
    """How the model came about, without the folders of anyone who made it."""
    known = config_dict(config) | {"weights": record["config"]["weights"]}  # by content, where they came from a file
    shown = [part if has_prefix(part) else Path(part).name for part in split_text(survey.source)]
    spec = {name: getattr(survey, name) for name in ("split", "aspect", "match_radius") if getattr(survey, name)}
    spec |= {"central_fraction": survey.central_fraction} if survey.central_fraction != 1 else {}
    if survey.schema and not survey.schema.endswith(".json"):
        spec["schema"] = survey.schema
    return {
        "run": record["key"],
        "kind": kind_of(config),
        **{name: known[name] for name in ("task", "mode", "n_train", "seed", "weights", "recipe") if name in known},
        "weights_file": record["weights"],
        "survey": spec
        | {"name": ",".join(shown), "kind": "simulated galaxies" if task.data.attrs["simulated"] else "real galaxies"}
        | {"fingerprint": task.data.attrs["fingerprint"], "size": task.data.sizes["y"]},
        "saved": utc(datetime.now(UTC)),
        "versions": {name: record["provenance"].get(name) for name in ("torch", "timm", "python")},
    }


def _write(model: SavedModel, page: str, out: Path, *, own_tree: bool):
    """Put the model's folder in its place; whole, or not at all."""
    kept = {"encoder.mean", "encoder.std"}  # they stand in the configuration
    state = {k: value.detach().cpu() for k, value in model.network.state_dict().items() if k not in kept}
    with spare_folder(out) as spare:
        fresh = spare / "fresh"
        fresh.mkdir()
        write_weights(fresh / WEIGHTS, state)
        content = json.loads(model.config.model_dump_json(by_alias=True))
        replace_file(fresh / CONFIG, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        if own_tree:
            replace_file(fresh / TREE, json.dumps(model.config.head.tree, indent=1) + "\n")
        read_config(fresh)  # what could not be read again is not left behind
        replace_file(fresh / CARD, model_card(model))
        replace_file(fresh / PAGE, page)
        replace_folder(fresh, out, MODEL, keep=_kept())
    model.folder = out


def export(model: SavedModel, out, *, form: str = "timm") -> Path:
    """Write a model for other programs.

    Parameters
    ----------
    out : path
        The folder.
    form : {"timm", "onnx"}
        ``timm``: ``timm.create_model("local-dir:FOLDER", pretrained=True)`` gives the network with its head as
        classifier, equal bit for bit; its outputs are before calibration. ``onnx``: ``model.onnx`` takes images
        (n, 3, size, size) float32 in 0..1 and gives calibrated predictions and features.

    Raises
    ------
    UserError
        If timm can't build the encoder, or the folder may not be replaced.
    """
    if form not in ("timm", "onnx"):
        raise UserError(f"Unknown form '{form}' of an export; use 'timm' or 'onnx'.")
    out = check_replaceable(out, EXPORT, keep=_kept())
    with spare_folder(out) as spare:
        fresh = spare / "fresh"
        fresh.mkdir()
        meaning = (_export_timm if form == "timm" else _export_onnx)(model, fresh)
        replace_file(fresh / CARD, model_card(model) + f"\n## This export\n\n{meaning}\n")
        replace_folder(fresh, out, EXPORT, keep=_kept())
    return out


def _export_timm(model: SavedModel, folder: Path) -> str:
    import timm
    from timm.models import save_for_hf

    config, network = model.config, model.network.encoder.network
    architecture = getattr(network, "pretrained_cfg", {}).get("architecture", "") if network is not None else ""
    if not architecture or not timm.is_model(architecture):
        raise UserError(
            f"Encoder '{config.encoder}' is this project's own, which timm does not know: load the model with"
            " gzlib.load_model(FOLDER), or export it with --format onnx."
        )
    weight, bias, meaning = _classifier(model)
    fixed = {"num_classes", "drop_path_rate", "pretrained", "in_chans"}
    given = {name: value for name, value in getattr(network, "_model_args", {}).items() if name not in fixed}
    made: Any = timm.create_model(architecture, num_classes=len(bias), **given)
    state, own = made.state_dict(), network.state_dict()
    heads = sorted(set(state) - set(own))
    if len(heads) != 2 or set(own) - set(state) or state[heads[1]].shape != weight.shape:
        raise UserError(f"Encoder '{config.encoder}' has no single linear classifier; export it with --format onnx.")
    made.load_state_dict(own | {heads[0]: bias, heads[1]: weight})
    side = config.image.size + model.network.encoder.margin
    made.pretrained_cfg |= {
        "mean": config.image.mean,
        "std": config.image.std,
        "crop_pct": 1.0,
        "input_size": (3, side, side),
        "interpolation": "lanczos",
    }
    if side != config.image.size:
        meaning += f" Images of {config.image.size} px get black margins to {side} px, before mean and deviation."
    labels = config.head.classes if config.head.kind == "classes" else _answers(model)
    extra = {"label_names": labels, "gzlib": {"outputs": meaning, "calibration": config.calibration.model_dump()}}
    save_for_hf(made, str(folder), model_config=extra, safe_serialization=True)
    again = timm.create_model(f"local-dir:{folder}", pretrained=True).state_dict()
    if any(not torch.equal(value.cpu(), again[name]) for name, value in made.state_dict().items()):
        raise UserError(f"timm {timm.__version__} does not load the export of '{config.encoder}' as it was written.")
    return meaning


def _answers(model: SavedModel) -> list[str]:
    return model.schema.label_cols if model.config.head.kind == "votes" else [model.config.head.label]


def _classifier(model: SavedModel) -> tuple[torch.Tensor, torch.Tensor, str]:
    """Weight and bias of the last layer, and what its outputs mean."""
    head, calibration = model.network.head, model.config.calibration
    last: Any = head.linear
    weight, bias = last.weight.detach().cpu(), last.bias.detach().cpu()
    if isinstance(head, NumberHead):
        spread, mean = head.spread.cpu(), head.mean.cpu()
        unit = f", in {model.config.head.unit}" if model.config.head.unit else ""
        return weight * spread, bias * spread + mean, f"The output is the number{unit}."
    if model.config.head.kind == "classes":
        said = f"Outputs are logits; probabilities are softmax(logits / {calibration.temperature:.6g})."
    elif model.config.head.kind == "votes":
        said = (
            f"Outputs x give concentrations {CONCENTRATION_RANGE:g} * sigmoid(x) + {CONCENTRATION_MIN:g}, each"
            " question's times its scale; expected fractions are concentrations over their sum within a question."
        )
    else:
        said = "The output x gives the fraction sigmoid(x)."
    return weight, bias, said


class _Calibrated(torch.nn.Module):
    """Images to calibrated predictions and features."""

    def __init__(self, model: SavedModel):
        super().__init__()
        self.network, self.kind = model.network, model.config.head.kind
        self.temperature = model.config.calibration.temperature
        if self.kind == "votes":
            scale = np.array(model.config.calibration.scale, np.float32)[model.schema.question_of_answer]
            self.register_buffer("scale", torch.from_numpy(scale).to(model.device))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.network.encoder(images)
        outputs = self.network.head(features)
        if self.kind == "classes":
            return torch.softmax(outputs / self.temperature, 1), features
        return (outputs * self.scale if self.kind == "votes" else outputs), features


def _export_onnx(model: SavedModel, folder: Path) -> str:
    import onnx  # noqa: F401  told before the model is traced
    import onnxruntime

    size, file = model.config.image.size, folder / "model.onnx"
    whole = _Calibrated(model).eval()
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    names: Any = {"input_names": ["images"], "output_names": ["predictions", "features"]}
    axes = {name: {0: "galaxies"} for name in ("images", "predictions", "features")}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch calls the exporter without further packages deprecated
        try:
            torch.onnx.export(whole, (images.to(model.device),), str(file), dynamic_axes=axes, dynamo=False, **names)
        except OSError as error:  # of a disk, not of the encoder
            raise not_written(file, error) from None
        except Exception as error:  # an operation without a counterpart: each has an exception of its own
            first = str(error).splitlines()[0][:200]
            raise UserError(f"Encoder '{model.config.encoder}' can't be written as ONNX: {first}.") from None
        wanted = [value.cpu().numpy() for value in whole(images.to(model.device))]
    found = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"]).run(
        None, {"images": images.numpy()}
    )
    if any(not np.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(wanted, found, strict=True)):
        raise UserError(f"ONNX computes something else than encoder '{model.config.encoder}'; this is not written.")
    content = json.loads(model.config.model_dump_json())
    replace_file(folder / CONFIG, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    kind = {"classes": "calibrated probabilities", "votes": "calibrated concentrations"}.get(
        model.config.head.kind, "the number"
    )
    return (
        f"`model.onnx` takes `images` (n, 3, {size}, {size}) float32 in 0..1, gives `predictions` ({kind}), `features`."
    )


def push(folder, repository: str, *, private: bool = False, figures: bool = False, message: str = "") -> str:
    """Upload a saved model to the Hugging Face hub; the address of its page.

    Parameters
    ----------
    repository : str
        ``OWNER/NAME``; made if it does not exist.
    private : bool
    figures : bool
        With the page of figures, which shows images of galaxies: only where their licence allows it.

    Raises
    ------
    UserError
        If the folder holds no model, the name is none, or the hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    folder = Path(folder)
    config = read_config(folder)
    try:
        validate_repo_id(repository)
        if repository.count("/") != 1:
            raise HFValidationError("it has no owner")
    except HFValidationError as error:
        said = str(error).splitlines()[0]
        raise UserError(f"'{repository}' does not name a repository ({said}); write OWNER/NAME.") from None
    left_out = [MARKER, ".*"] + ([] if figures else [PAGE])
    try:
        api = HfApi()
        made = api.create_repo(repository, private=private, exist_ok=True)
        said = message or f"Model of {config.head.label}, gzlib {config.gzlib}"
        api.upload_folder(
            repo_id=repository,
            folder_path=str(folder),
            ignore_patterns=left_out,
            commit_message=said,
            repo_type="model",
        )
        return str(made)
    except Exception as error:  # hub clients raise dozens of types; all mean that the model did not go
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"The hub did not take '{repository}' ({said}); log in with `hf auth login`, and check the name and your"
            " rights."
        ) from None
