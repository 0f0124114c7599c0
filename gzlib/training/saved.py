"""A saved model: a folder with everything that predictions from new images need, and the predictions.

``model.safetensors`` holds the weights of encoder and head, ``config.json`` how images are prepared, what the head
predicts, in which units, and how it was calibrated; ``README.md`` is the model card, ``figures.html`` shows errors.
"""

import os
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy.special import betaincinv
from torch import nn

from gzlib.data.images import Frame, refuse_fraction
from gzlib.data.loader import to_float
from gzlib.data.schema import Schema, schema_from_records
from gzlib.errors import UserError
from gzlib.files import place_of, read_checked
from gzlib.identity import content_hash, file_hash
from gzlib.models.encoders import Encoder, build_encoder, placed
from gzlib.models.heads import LEVELS, ClassHead, DirichletHead, GalaxyModel, NumberHead, RegressionHead
from gzlib.models.weights import read_weights
from gzlib.training.distributed import choose_device

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1  # of the folder; raised when an older version could misread a newer one
WEIGHTS, CONFIG, CARD, PAGE = "model.safetensors", "config.json", "README.md", "figures.html"
TREE = "tree.json"  # a user's own decision tree, as curation reads it
BATCH = 256  # images that go through the network together
SHOWN_LEVELS = ("50", "95")  # of the intervals in tables
HUB = re.compile(r"hf[_-]hub:([\w.-]+/[\w.-]+)")

Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="allow")


class ImageShape(_Shape):
    """How an image becomes the network's input: square, ``size`` px, RGB in 0..1, then minus mean over deviation."""

    size: Annotated[int, Field(ge=8, le=8192)]
    mean: Annotated[list[Number], Field(min_length=3, max_length=3)]
    std: Annotated[list[Positive], Field(min_length=3, max_length=3)]
    aspect: Literal["pad", "crop"] | None = None
    central_fraction: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 1.0


Name = Annotated[str, Field(min_length=1)]


class HeadShape(_Shape):
    """What is predicted: classes by name, a number in its unit, or the votes of a decision tree."""

    kind: Literal["classes", "number", "fraction", "votes"]
    label: Name
    unit: str = ""
    linear: bool = False
    classes: list[Name] = []
    codes: list[int | str] = []
    tree_name: str = ""
    tree: list[dict[str, Any]] = []


class CalibrationShape(_Shape):
    """What was fitted on ``n`` validation galaxies: see :mod:`gzlib.training.loss`."""

    n: Annotated[int, Field(ge=0)] = 0
    temperature: Positive = 1.0
    scale: list[Positive] = []
    levels: dict[str, list[Annotated[float, Field(ge=0, le=1)]]] = {}
    half_widths: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}


class ModelConfig(_Shape):
    """The content of ``config.json``."""

    format: Annotated[int, Field(ge=1)]
    gzlib: str
    encoder: str
    num_features: Annotated[int, Field(ge=1)]
    image: ImageShape
    head: HeadShape
    calibration: CalibrationShape
    training: dict[str, Any] = {}
    metrics: dict[str, Any] = {}

    @model_validator(mode="after")
    def _fits(self):
        head, calibration, names = self.head, self.calibration, {f"{100 * level:g}" for level in LEVELS}
        if head.kind == "classes" and not 2 <= len(head.classes) == len(head.codes) == len(set(head.classes)):
            raise ValueError("'head.classes' must be two or more names, each once, with as many 'head.codes'")
        if head.kind == "votes":
            tree = schema_from_records(head.tree_name or "own", head.tree)
            answers = [len(tree.label_cols)] * len(names)
            if len(calibration.scale) != len(tree.questions) or answers != [*map(len, calibration.levels.values())]:
                raise ValueError("'calibration' is not that of the decision tree")
        used = set(calibration.levels if head.kind == "votes" else calibration.half_widths)
        if head.kind != "classes" and used != names:
            raise ValueError(f"'calibration' must have the levels {', '.join(sorted(names))}")
        widths = [calibration.half_widths[level] for level in sorted(calibration.half_widths, key=float)]
        if widths != sorted(widths):
            raise ValueError("'calibration.half_widths' must grow with the level")
        return self


def installed_version() -> str:
    """Of this package."""
    from gzlib import __version__

    return __version__


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def read_config(folder: Path) -> ModelConfig:
    """The configuration of a saved model.

    Raises
    ------
    UserError
        If the folder holds none, it is damaged, or a newer version of the package wrote it.
    """
    file = Path(folder) / CONFIG
    if not file.is_file() or not (Path(folder) / WEIGHTS).is_file():
        raise UserError(
            f"'{folder}' is not a saved model (no {CONFIG} with {WEIGHTS}); make one with 'gzlib finetune ... --out"
            " FOLDER'."
        )

    class Version(_Shape):
        format: int
        gzlib: str

    how = {"what": "the configuration of a model that gzlib saved", "cure": "save the model again, or copy it whole"}
    if "architecture" in read_checked(file, _Shape, **how):  # timm's own, as of an export
        raise UserError(f"'{folder}' holds a network as timm saves it; give the folder of the model that gzlib saved.")
    version = read_checked(file, Version, **how)
    if version["format"] > FORMAT or _numbers(version["gzlib"]) > _numbers(installed_version()):
        raise UserError(
            f"Model '{folder}' was saved by gzlib {version['gzlib']} (format {version['format']}), and this is"
            f" {installed_version()} (format {FORMAT}); update with: pip install -U gzlib."
        )
    return ModelConfig.model_validate(read_checked(file, ModelConfig, **how))


def load_model(folder, *, device: str = "auto") -> "SavedModel":
    """Read a saved model.

    Parameters
    ----------
    folder : path or str
        As ``gzlib finetune ... --out FOLDER`` wrote it, or ``hf_hub:OWNER/NAME``.
    device : str
        ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``mps``.

    Raises
    ------
    UserError
        If there is no model, it is damaged or of another version, or the weights are not its encoder's.
    """
    if not isinstance(folder, str | os.PathLike):
        raise UserError(f"A model is read from a folder or hf_hub:OWNER/NAME, not from {type(folder).__name__}.")
    if match := HUB.fullmatch(str(folder)):
        folder = _download(match[1])
    elif str(folder).startswith(("hf_hub:", "hf-hub:")):
        raise UserError(f"'{folder}' does not name a repository; write hf_hub:OWNER/NAME.")
    folder = place_of(folder)
    config = read_config(folder)
    network = bare_network(config)
    state = read_weights(folder / WEIGHTS, cure="save the model again, or copy it whole")
    _refuse_misfit(network, state, f"'{folder / WEIGHTS}'", config.encoder)
    network.load_state_dict(state)
    return SavedModel(network, config, device=device, folder=folder)


def _download(repository: str) -> Path:
    from huggingface_hub import snapshot_download

    from gzlib.data.sources.registry import hub_reachable

    reachable = hub_reachable()
    try:
        return Path(snapshot_download(repository, local_files_only=not reachable))
    except Exception as error:  # hub clients raise dozens of types; all mean that the model did not come
        if not reachable:
            raise UserError(
                f"The hub with model '{repository}' could not be reached, and it was not downloaded before; download it"
                " elsewhere, and give its folder."
            ) from None
        raise UserError(
            f"Model '{repository}' could not be had from the hub ({type(error).__name__}:"
            f" {(str(error).splitlines() or ['?'])[0]}); check the name, or give the folder of a model on this machine."
        ) from None


def bare_network(config: ModelConfig) -> GalaxyModel:
    """The network that a configuration describes, with random weights."""
    encoder = build_encoder(config.encoder, size=config.image.size)
    for name in ("mean", "std"):
        getattr(encoder, name).copy_(torch.tensor(getattr(config.image, name)).view(1, 3, 1, 1))
    head, n = config.head, encoder.num_features
    if n != config.num_features:
        raise UserError(f"Encoder '{config.encoder}' has {n} features here, and the model {config.num_features}.")
    if head.kind == "classes":
        made: nn.Module = ClassHead(n, len(head.classes))
    elif head.kind == "votes":
        made = DirichletHead(n, sum(len(question["answers"]) for question in head.tree))
    elif head.kind == "number" or head.linear:
        made = NumberHead(n, mean=0.0, spread=1.0)
    else:
        made = RegressionHead(n)
    return GalaxyModel(encoder, made)


def _refuse_misfit(network: torch.nn.Module, state: dict, where: str, encoder: str):
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    problems = [f"'{name}' is missing" for name in wanted if name not in found]
    problems += [f"'{name}' is unknown" for name in found if name not in wanted]
    problems += [
        f"'{name}' is {found[name]} instead of {shape}"
        for name, shape in wanted.items()
        if name in found and found[name] != shape
    ]
    problems += [
        f"'{name}' is of {state[name].dtype}"
        for name, value in network.state_dict().items()
        if name in state and value.is_floating_point() and not state[name].is_floating_point()
    ]
    if problems:
        more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError(
            f"The weights {where} are not those of encoder '{encoder}' with this head: {'; '.join(problems[:3])}{more}."
        )


def normalisation(encoder: Encoder) -> dict[str, list[float]]:
    """``mean`` and ``std`` of an encoder's input, by band."""
    return {name: [round(float(v), 7) for v in getattr(encoder, name).flatten()] for name in ("mean", "std")}


class SavedModel:
    """A finished model: images in, predictions with their uncertainties out.

    Parameters
    ----------
    network : GalaxyModel
    config : ModelConfig
    device : str
    folder : Path, optional
        That it was read from.
    """

    def __init__(self, network: GalaxyModel, config: ModelConfig, *, device: str = "auto", folder: Path | None = None):
        self.device = choose_device(device)
        self.network = placed(network, self.device).eval()
        self.config, self.folder = config, folder

    def __repr__(self) -> str:
        head, size = self.config.head, self.config.image.size
        return f"<model of '{head.label}' ({head.kind}): {self.config.encoder} at {size} px, on {self.device}>"

    @cached_property
    def schema(self) -> Schema:
        """The decision tree, of a model of votes."""
        return schema_from_records(self.config.head.tree_name or "own", self.config.head.tree)

    def identity(self) -> str:
        """Hash of its weights and configuration."""
        if self.folder is None:
            return content_hash(self.config.model_dump())
        return content_hash([file_hash(self.folder / name) for name in (WEIGHTS, CONFIG)])

    @torch.inference_mode()
    def _through(self, network: torch.nn.Module, pixels: np.ndarray) -> np.ndarray:
        size, found = self.config.image.size, []
        is_array = isinstance(pixels, np.ndarray)
        if not is_array or pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (size, size, 3):
            given = f"{pixels.shape} {pixels.dtype}" if is_array else f"a {type(pixels).__name__}"
            raise UserError(
                f"Features and outputs are those of an array (n, {size}, {size}, 3) uint8, not of {given}; predict and"
                " embed take lists, files and images of other sizes."
            )
        for start in range(0, len(pixels), BATCH):
            some = torch.from_numpy(np.array(pixels[start : start + BATCH])).to(self.device).permute(0, 3, 1, 2)
            found.append(network(to_float(some)).float().cpu())
        outputs = torch.cat(found).numpy() if found else np.zeros((0, self.config.num_features), np.float32)
        if not np.isfinite(outputs).all():
            raise UserError("The model gives numbers that are not finite; its weights are of no use.")
        return outputs

    def frame(self, aspect: str | None = None, central_fraction: float | None = None) -> Frame:
        """What of an image the model is shown: as in training, but for what is given."""
        shape = self.config.image
        fraction = shape.central_fraction if central_fraction is None else central_fraction
        refuse_fraction(fraction)
        return Frame(shape.size, aspect or shape.aspect, float(fraction))

    def outputs(self, pixels: np.ndarray) -> np.ndarray:
        """What the head gives before calibration: logits, numbers or concentrations, of (n, size, size, 3) uint8."""
        return self._through(self.network, pixels)

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """(n, num_features) float32 of (n, size, size, 3) uint8."""
        return self._through(self.network.encoder, pixels)

    def embed(self, source) -> np.ndarray:
        """Features of images.

        Parameters
        ----------
        source
            As :meth:`predict` takes it.

        Returns
        -------
        (n, num_features) float32
            NaN where an image cannot be read.
        """
        from gzlib.training.predict import table_of

        return table_of(self, source, "embed").filter(like="feature_").to_numpy(np.float32)

    def predict(self, source) -> "pd.DataFrame":
        """Predictions for images or for galaxies of a source.

        Parameters
        ----------
        source
            ``(n, y, x, 3)`` in 0..255 or 0..1, an array or tensor; also one image, grey ones, or with the bands before
            the pixels as torch has them: ``(3, y, x)`` is one image, and three grey ones are ``(3, y, x, 1)``. A list
            of arrays, paths, encoded bytes or PIL images. A curated survey as :func:`gzlib.open_survey` gives it. Or
            the path of an image, of a folder of images, of a catalogue, of parquet or of a survey, or another source
            as :func:`gzlib.open_source` takes it. Images larger than the model's size are resized as those that it was
            trained on; arrays that have that size are taken as they are.

        Returns
        -------
        DataFrame
            A row for each galaxy: ``id_str``; the predictions, see :meth:`columns`; and ``problem``, which says why an
            image could not be used, and is empty elsewhere.

        Raises
        ------
        UserError
            If there are no images, or none can be used.
        """
        from gzlib.training.predict import table_of

        return table_of(self, source, "predict")

    def evaluate(self, source, *, label: str | None = None, part: str | None = None) -> dict:
        """Score the model on galaxies with labels; see :func:`gzlib.training.evaluation.evaluate`."""
        from gzlib.training.evaluation import evaluate

        return evaluate(self, source, label=label, part=part)

    def columns(self, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """What the outputs of some images say, by column.

        Of classes: ``predicted_LABEL``, the name of the likeliest, and ``probability_CLASS`` of each, calibrated. Of
        numbers: ``predicted_LABEL`` in its unit, with ``_low50``, ``_high50``, ``_low95``, ``_high95``, between which
        the true value lies in so many of 100 galaxies. Of votes, for each answer: ``ANSWER_fraction``, the fraction of
        the question's votes that is expected; the intervals in which the fraction of very many volunteers is expected;
        and ``QUESTION_asked``, the probability that a volunteer is asked the question, the product of the fractions of
        the answers that lead to it.
        """
        head = self.config.head
        if head.kind == "classes":
            probability = self.probabilities(outputs)
            found = {f"predicted_{head.label}": np.array(head.classes, object)[probability.argmax(1)]}
            return found | {
                f"probability_{name}": probability[:, i].astype(np.float32) for i, name in enumerate(head.classes)
            }
        return dict(self._vote_columns(outputs) if head.kind == "votes" else self._number_columns(outputs))

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """(n, classes) float64, calibrated."""
        scaled = outputs.astype(float) / self.config.calibration.temperature
        grown = np.exp(scaled - scaled.max(1, keepdims=True))
        return grown / grown.sum(1, keepdims=True)

    def concentrations(self, outputs: np.ndarray) -> np.ndarray:
        """(n, answers) float64, calibrated."""
        return outputs * np.array(self.config.calibration.scale)[self.schema.question_of_answer]

    def _number_columns(self, outputs: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        name, calibration = f"predicted_{self.config.head.label}", self.config.calibration
        yield name, outputs.astype(np.float32)
        for level in SHOWN_LEVELS:
            width = np.float32(calibration.half_widths[level])
            low, high = outputs - width, outputs + width
            if self.config.head.kind == "fraction":  # no interval reaches beyond what fractions can be
                low, high = np.maximum(low, np.minimum(outputs, 0)), np.minimum(high, np.maximum(outputs, 1))
            yield f"{name}_low{level}", low.astype(np.float32)
            yield f"{name}_high{level}", high.astype(np.float32)

    def _vote_columns(self, outputs: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        schema, concentrations = self.schema, self.concentrations(outputs)
        nominal = {level: np.array(self.config.calibration.levels[level]) for level in SHOWN_LEVELS}
        totals = schema.question_totals(concentrations)[:, schema.question_of_answer]
        fractions = concentrations / totals

        def asked(number: int) -> np.ndarray:
            parent = schema.parent_answer[number]
            if parent < 0:
                return np.ones(len(outputs))
            return asked(schema.question_of_answer[parent]) * fractions[:, parent]

        for number, question in enumerate(schema.questions):
            yield f"{question.name}_asked", asked(number).astype(np.float32)
            for answer, place in zip(question.label_cols, range(len(totals[0]))[question.columns], strict=True):
                yield f"{answer}_fraction", fractions[:, place].astype(np.float32)
                shape = concentrations[:, place], totals[:, place] - concentrations[:, place]
                for level, values in nominal.items():
                    for side, end in (("low", 0.5 - values[place] / 2), ("high", 0.5 + values[place] / 2)):
                        yield f"{answer}_fraction_{side}{level}", betaincinv(*shape, end).astype(np.float32)
