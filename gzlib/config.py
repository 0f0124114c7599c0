"""What defines a survey and a run: dataclasses whose every field enters an identity, and how text sets them.

The options of the command line, their types, choices, defaults and help, are made from these fields and docstrings
(:mod:`gzlib.cli`): a field that is added is an option.

Nothing here imports torch. The fields in ``IN_EVERY_KEY`` enter a run's key with their defaults written out. Any other
field, one added since, enters it only where it is not at its default, so that every run made before it keeps its key
(``tests/training/test_keys.py`` holds the committed runs to that). ``IN_EVERY_KEY`` itself never changes.
"""

import difflib
import math
import numbers
import re
import tomllib
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from gzlib.errors import UserError

IN_EVERY_KEY = {
    "SurveySpec": "source size limit split seed schema",
    "Augment": "rotate zoom shift flip erase colour background noise blur",
    "Recipe": "examples batch_size learning_rate weight_decay schedule warmup clip evaluations patience drop_path"
    " dropout layer_decay augment accumulate",
    "Objective": "votes structure",
    "PretrainConfig": "encoder n_train seed weights recipe objective",
    "FinetuneConfig": "task encoder n_train label seed weights mode recipe",
}
Split = Literal["hash", "source", "published"]
Aspect = Literal["pad", "crop"]
Schedule = Literal["cosine", "constant"]
Optimizer = Literal["adamw", "schedule-free"]
Precision = Literal["auto", "float32", "bfloat16"]
Mode = Literal["linear", "full"]
Preset = Literal["smoke", "laptop", "paper"]  # sizes of the study, see gzlib.study
SPLIT_MODES: tuple[str, ...] = get_args(Split)
PRESETS: tuple[str, ...] = get_args(Preset)


@dataclass(frozen=True)
class SurveySpec:
    """All that a curated survey depends on; :func:`gzlib.data.make_survey` makes it.

    Attributes
    ----------
    source : str
        The folder of a curated survey, or a source that is curated first: ``sim:N``, a folder or catalogue of images,
        ``hub:OWNER/NAME``; several joined by commas (:func:`gzlib.data.open_source`).
    size : int
        Side of the images [px].
    limit : int, optional
        Maximum number of galaxies to read, spread over the source's parts.
    split : {"hash", "source", "published"}
        ``hash`` (70 / 10 / 20 % by the hash of the id), ``source`` (keep the published test set, and a fifth of the
        rest to validate on) or ``published`` (keep the published training, validation and test set).
    seed : int
        Seed of the simulated sky.
    schema : str, optional
        Decision tree to read, or a JSON file with one; recognised by its columns if not given.
    aspect : {None, "pad", "crop"}
        Images that are not square get equal black margins (``pad``) or keep their central square (``crop``); by
        default they are rejected.
    central_fraction : float
        How much of each side of an image is kept, around its centre; in (0, 1]. Where images show much sky around the
        galaxies, less gives these more of the survey's pixels.
    match_radius : float, optional
        Distance within which two galaxies of one data set are the same [arcsec]; by default the decision tree's.
    """

    source: str
    size: int = 64
    limit: int | None = None
    split: Split = "hash"
    seed: int = 0
    schema: str | None = None
    aspect: Aspect | None = None
    central_fraction: float = 1.0
    match_radius: float | None = None


@dataclass(frozen=True)
class Augment:
    """What a training view may do to an image; part of a run's configuration.

    The last four vary what tells simulated from real images most easily (domain randomisation), so that an encoder
    that is to work on another telescope's images can't rest on it.

    Attributes
    ----------
    rotate : bool
        Rotation by any angle.
    zoom : (float, float)
        Magnification, log-uniform.
    shift : float
        Largest shift along each axis, as a fraction of the image's side.
    flip : bool
        Mirror images. Must be off where handedness is the label.
    erase : int
        How many small rectangles of each view are made black; Zoobot's default view has 5.
    colour : float
        Largest relative change of the saturation, and twice that of each band's gain.
    background : float
        Largest offset of the sky level, in units of the full range 0..1.
    noise : float
        Largest standard deviation of added Gaussian noise, in units of the full range.
    blur : float
        Largest standard deviation of a Gaussian blur [px].
    """

    rotate: bool = True
    zoom: tuple[float, float] = (1.0, 1.2)
    shift: float = 0.05
    flip: bool = True
    erase: int = 0
    colour: float = 0.0
    background: float = 0.0
    noise: float = 0.0
    blur: float = 0.0

    def __post_init__(self):
        if not (isinstance(self.zoom, tuple | list) and len(self.zoom) == 2):
            raise UserError(f"Augment: 'zoom' must be two magnifications, smaller first, not {self.zoom!r}.")
        for value in self.zoom:
            check_number("Augment", "zoom", value, 0.01, 100.0)
        if self.zoom[0] > self.zoom[1]:
            raise UserError(f"Augment: 'zoom' must be two magnifications, smaller first, not {self.zoom}.")
        for name in ("shift", "colour", "background", "noise"):
            check_number("Augment", name, getattr(self, name), 0.0, 1.0)
        check_number("Augment", "blur", self.blur, 0.0, 10.0)
        check_number("Augment", "erase", self.erase, 0, 1000, whole=True)
        for name in ("rotate", "flip"):
            if not isinstance(getattr(self, name), bool):
                raise UserError(f"Augment: '{name}' must be true or false, not {getattr(self, name)!r}.")


def check_number(where: str, name: str, value, least: float, most: float, *, whole: bool = False):
    """Refuse a value that is not a number, or one outside of bounds; zero has a sentence of its own.

    Raises
    ------
    UserError
    """
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or (whole and value != value // 1):
        raise UserError(f"{where}: '{name}' must be a {'whole ' if whole else ''}number, not {value!r}.")
    if not least <= value <= most:  # NaN, too
        bounds = f"above zero and at most {most:g}" if 0 < least < 1 else f"{least:g} to {most:g}"
        bounds = "above zero" if least > 0 >= value else bounds
        raise UserError(f"{where}: '{name}' must be {bounds}, not {value}.")


EXTRAS = ("class_weights", "label_smoothing", "mixup", "gradient_checkpointing")  # of recipes, off unless asked for
TINY = 1e-12
# Beyond these nothing trains; they keep slips of the keyboard, infinities and NaN out.
RECIPE_BOUNDS = (
    ("examples", 1, 10**12),
    ("batch_size accumulate", 1, 10**6),
    ("evaluations", 1, 10**5),
    ("patience", 0, 10**5),
    ("learning_rate", TINY, 100.0),
    ("weight_decay", 0.0, 10.0),
    ("warmup drop_path dropout label_smoothing", 0.0, 1.0),
    ("mixup", 0.0, 100.0),
    ("clip", TINY, 1e6),
    ("layer_decay", TINY, 1.0),
    ("epochs average", 0.0, 1e6),
    ("spacing", 0.0, 1e3),
    ("warmup_examples watch", 0, 10**12),
)
RECIPE_COUNTS = ["examples", "batch_size", "accumulate", "evaluations", "patience", "warmup_examples", "watch"]


@dataclass(frozen=True)
class Recipe:
    """How the optimizer is driven; the same for pretraining and for finetuning.

    Attributes
    ----------
    examples : int
        Galaxies seen in all, counting each time that one is shown.
    batch_size : int
        Galaxies that go through the network together, in all processes of the run.
    accumulate : int
        Batches of one step of the optimizer: as one batch that is larger by this factor (networks with batch norm
        aside, which still see each batch by itself).
    learning_rate : float
        Of AdamW, after the warm-up.
    weight_decay : float
        Of AdamW; 0.05 is the Galaxy Zoo Evo baselines'.
    schedule : {"cosine", "constant"}
        Of the learning rate, after a linear warm-up.
    warmup : float
        Length of the warm-up, as a fraction of the steps.
    clip : float
        Largest gradient norm; 0.3 is Zoobot's.
    evaluations : int
        How often the validation loss is measured; the best weights are kept.
    patience : int
        Evaluations without a better validation loss after which the run stops; 0 never stops.
    drop_path : float
        Probability that a block of the encoder is passed by (stochastic depth).
    dropout : float
        Probability that a feature is dropped before the head.
    layer_decay : float
        Factor on the learning rate from each layer group to the one below it; 1 for none.
    augment : Augment
        What a training view may do to an image.
    optimizer : {"adamw", "schedule-free"}
        ``schedule-free`` is AdamW that needs no falling rate (Defazio et al. 2024, arXiv:2405.15682): it keeps an
        average of the weights, which is what is validated and kept.
    epochs : float
        Most passes through the training galaxies, in place of ``examples``; 0 for ``examples``.
    average : float
        Train beside the weights their running average; it is what is validated and kept. Step ``s`` (from 0) brings it
        ``average / (average + s)`` of the way to the present weights, so that it looks back over a fixed share of the
        run, about one part in ``average + 1``, however long the run becomes. 0 for none.
    spacing : float
        Validate each time that the run has grown by this fraction since the last time, from its first epoch on, in
        place of ``evaluations`` at even distances; ``patience`` counts these. 0 for even distances.
    warmup_examples : int
        Galaxies of the warm-up, in place of a fraction of the steps; ``patience`` counts from their end on. 0 for
        the fraction.
    watch : int
        Most galaxies of the validation split to validate on, the same in every run; 0 for all.
    precision : {"auto", "float32", "bfloat16"}
        Of the network in training and test; heads and losses stay in float32. ``auto`` is bfloat16 on GPUs that have
        it and float32 elsewhere; ``bfloat16`` is float32 on processors that have no instructions for it.
    class_weights : bool
        Of finetuning on classes: a galaxy counts in the inverse of its class's frequency among the training labels.
    label_smoothing : float
        Of finetuning on classes: so much of each label is shared out among all classes.
    mixup : float
        Each galaxy is shown blended with another of its batch, and the loss with it (Zhang et al. 2018,
        arXiv:1710.09412); the share is drawn from a Beta distribution with both parameters of this value. 0 for none.
    gradient_checkpointing : bool
        Compute activations again on the way back instead of keeping them: about a third slower, in much less memory.
        Gradients are the same; batch norms take each batch into their running statistics twice.
    """

    examples: int = 60_000
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    schedule: Schedule = "cosine"
    warmup: float = 0.1
    clip: float = 0.3
    evaluations: int = 10
    patience: int = 0
    drop_path: float = 0.0
    dropout: float = 0.0
    layer_decay: float = 1.0
    augment: Augment = field(default_factory=Augment)
    accumulate: int = 1
    optimizer: Optimizer = "adamw"
    epochs: float = 0.0
    average: float = 0.0
    spacing: float = 0.0
    warmup_examples: int = 0
    watch: int = 0
    precision: Precision = "auto"
    class_weights: bool = False
    label_smoothing: float = 0.0
    mixup: float = 0.0
    gradient_checkpointing: bool = False

    def __post_init__(self):
        for name in ("class_weights", "gradient_checkpointing"):
            if not isinstance(getattr(self, name), bool):
                raise UserError(f"Recipe: '{name}' must be true or false, not {getattr(self, name)!r}.")
        for names, least, most in RECIPE_BOUNDS:
            for name in names.split():
                check_number("Recipe", name, getattr(self, name), least, most, whole=name in RECIPE_COUNTS)
        for name in ("drop_path", "dropout", "label_smoothing"):
            if getattr(self, name) == 1:
                raise UserError(f"Recipe: '{name}' must be below 1, else nothing is left to learn from.")
        for name, kind in (("optimizer", Optimizer), ("precision", Precision), ("schedule", Schedule)):
            if (value := getattr(self, name)) not in get_args(kind):
                raise UserError(f"Recipe: unknown {name} '{value}'; use one of {', '.join(get_args(kind))}.")
        if self.optimizer == "schedule-free" and (self.schedule != "constant" or self.average):
            raise UserError("Recipe: the optimizer 'schedule-free' needs schedule='constant' and average=0.")

    def most_examples(self, n_train: int) -> int:
        """The most galaxies that a run shows, counting each time, of ``n_train`` different ones.

        Examples
        --------
        >>> from gzlib import Recipe
        >>> Recipe(examples=60_000).most_examples(2_000), Recipe(epochs=10).most_examples(2_000)
        (60000, 20000)
        """
        return round(self.epochs * n_train) if self.epochs else self.examples


# From pretrained weights: slower, slower still towards the stem, and a head that forgets at random.
FINETUNING = Recipe(
    examples=6_000,
    batch_size=32,
    learning_rate=5e-4,
    weight_decay=0.1,
    layer_decay=0.75,
    dropout=0.5,
    patience=6,
    evaluations=20,
)


# The study's recipe, and that of every pretraining run that is told nothing else: on the command line, in a plan, in
# Python. Its optimizer is schedule-free: the rate stays constant, and what is validated and kept is its average of the
# weights. A run ends when that has not improved while the run grew by a third, so that its length is found and not
# chosen. Few galaxies and wide encoders need more regularisation; the rule below says how much. Its numbers are those
# of resnet_w8 at 500, 2,000 and 8,000 galaxies (benchmarks/recipe.py, `regularisation`), which move the loss more than
# anything else: at 500 galaxies from 28.2 to 26.9 nats, at 8,000 by a few hundredths.
STUDY = Recipe(
    optimizer="schedule-free",
    learning_rate=2e-2,
    schedule="constant",
    warmup_examples=12_800,
    spacing=0.15,
    patience=2,
    watch=2_000,
    precision="bfloat16",
)
# By the first word of an encoder's name, what is not as above: the best of three rates at 2,000 galaxies for two
# sizes of each (data/benchmarks/recipe-families.json). Depthwise convolutions gain nothing from bfloat16 on a CPU.
FAMILIES: dict[str, dict[str, Any]] = {
    "resnet": {},
    "convnext": {"learning_rate": 1e-3, "precision": "float32"},
    "vit": {"learning_rate": 1e-3},
    "tinynet": {"learning_rate": 3e-3, "precision": "float32"},
    "tf": {"learning_rate": 1e-2, "precision": "float32"},
}
OTHERS: dict[str, Any] = {"learning_rate": 1e-3, "precision": "auto"}  # not measured, so the most cautious of these
DROPOUT, STRONGEST_AT, FALLS_BY = 0.7, 1_000, 0.6  # of the features; falls with a power from STRONGEST_AT galaxies on
# Weight decay, falling inversely from DECAY_UP_TO galaxies on, and no less than the recipe's own.
WEIGHT_DECAY, DECAY_UP_TO = 0.3, 2_000
# Most epochs, a guard that few runs should meet: from MOST_UP_TO galaxies on it falls with the root of their number.
EPOCHS, MOST_UP_TO = 1_000.0, 1_000
DROP_PATH, NONE_AT, WIDEST = 0.1, 8, 512  # more for each doubling of the width from NONE_AT on


BY_ENCODER = ("learning_rate", "weight_decay", "drop_path", "dropout", "epochs", "precision")  # or by galaxies


def study_recipe(encoder: str, n_train: int) -> Recipe:
    """The study's recipe for an encoder and so many training galaxies; what a pretraining run has by default."""
    n_train = max(1, n_train)  # a plan's table, or a command line, may still be without galaxies
    few = min(1.0, (STRONGEST_AT / n_train) ** FALLS_BY)
    width = re.fullmatch(r"(?:resnet|convnext)_w(\d+)", encoder)
    # A width that no encoder has is refused where the encoder is built.
    doublings = math.log2(min(max(NONE_AT, int(width[1])), WIDEST) / NONE_AT) if width else 1.0
    decay = max(STUDY.weight_decay, WEIGHT_DECAY * min(1.0, DECAY_UP_TO / n_train))
    rates = {"dropout": DROPOUT * few, "drop_path": DROP_PATH * doublings * few, "weight_decay": decay}
    regularised: dict[str, Any] = {name: round(value, 3) for name, value in rates.items()}  # as a plan would write them
    epochs = float(round(EPOCHS * min(1.0, (MOST_UP_TO / n_train) ** 0.5)))
    return replace(STUDY, epochs=epochs, **regularised, **FAMILIES.get(encoder.split("_")[0], OTHERS))


@dataclass(frozen=True)
class Objective:
    """What a pretraining run minimises: a weighted sum.

    Attributes
    ----------
    votes : float
        Weight of the vote loss (Dirichlet-multinomial, summed over questions).
    structure : float
        Weight of the mean squared error on the known visible structure of simulated galaxies (arms, bar, bulge, ...,
        each standardised over the training galaxies). Real galaxies have none.
    """

    votes: float = 1.0
    structure: float = 0.0

    def __post_init__(self):
        for name in ("votes", "structure"):
            check_number("Objective", name, getattr(self, name), 0.0, 1e6)
        if not self.votes:
            raise UserError("Objective: 'votes' must be above zero; votes are what a pretraining run is measured by.")


_BY_RULE = cast(Recipe, None)  # until the encoder and the galaxies are known


@dataclass(frozen=True)
class PretrainConfig:
    """One pretraining run: an encoder learns all questions of a survey from ``n_train`` galaxies.

    Attributes
    ----------
    encoder : str
        See :func:`gzlib.models.build_encoder`.
    n_train : int
        Training galaxies; with one seed, each training set contains the smaller ones.
    seed : int
        Seed of all that is drawn: the training galaxies, a new network's weights, the order and the views.
    weights : str
        What to start from: ``random``, ``imagenet``, ``sky`` (in this package), a tag of timm, ``hf_hub:OWNER/NAME``, a
        file or folder, or a run's key (:func:`gzlib.models.load_encoder`). A run stores a local file by its content,
        never by its path.
    recipe : Recipe
        How the optimizer is driven; by default :func:`gzlib.study_recipe` of the encoder and ``n_train``.
    objective : Objective
        What is minimised.
    """

    encoder: str
    n_train: int
    seed: int = 0
    weights: str = "random"
    recipe: Recipe = _BY_RULE
    objective: Objective = field(default_factory=Objective)

    def __post_init__(self):
        check_run(self)
        if self.recipe is None:
            object.__setattr__(self, "recipe", study_recipe(self.encoder, self.n_train))
        if self.recipe.class_weights or self.recipe.label_smoothing:
            raise UserError(
                "Recipe: 'class_weights' and 'label_smoothing' are for finetuning on classes, not for votes."
            )


@dataclass(frozen=True)
class FinetuneConfig:
    """One downstream run: an encoder with given weights learns a task from ``n_train`` labels.

    Attributes
    ----------
    task : str
        Name of the task, for reading; what it is stands in the survey's fingerprint.
    encoder : str
        See :func:`gzlib.models.build_encoder`.
    n_train : int
        Training galaxies; with one seed, each training set contains the smaller ones.
    label : str
        Column of the survey that is predicted, or ``votes``.
    seed : int
        Seed of all that is drawn: the training galaxies, a new head's weights, the order and the views.
    weights : str
        What to start from, as in :class:`PretrainConfig`: ``random``, ``imagenet``, ``sky`` (in this package), a tag of
        timm, ``hf_hub:OWNER/NAME``, a file or folder, or a run's key.
    mode : {"linear", "full"}
        A linear probe on the frozen encoder's features (``linear``), or training of all weights (``full``).
    recipe : Recipe
        How the optimizer is driven.
    """

    task: str
    encoder: str
    n_train: int
    label: str = "label"
    seed: int = 0
    weights: str = "random"
    mode: Mode = "linear"
    recipe: Recipe = FINETUNING

    def __post_init__(self):
        check_run(self)
        if self.mode not in ("linear", "full"):
            raise UserError(f"Finetuning mode '{self.mode}' is unknown; use 'linear' or 'full'.")
        if self.mode == "linear" and (extras := [name for name in EXTRAS if getattr(self.recipe, name)]):
            raise UserError(f"Recipe: '{extras[0]}' is for mode 'full'; a linear probe is not trained by steps.")


@dataclass(frozen=True)
class Conduct:
    """How runs are carried out: it changes nothing of what they find, but for rounding errors, and enters no key.

    Attributes
    ----------
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``mps`` (:func:`gzlib.training.choose_device`).
    compile : bool
        Train through ``torch.compile``: worth its minutes on GPUs, for long runs.
    log : str, optional
        ``tensorboard`` writes training curves into the runs' folders.
    checkpoint_seconds : float
        Time between checkpoints [s].
    report : callable, optional
        Takes one line at a time, which is to stay; standard error if left out.
    live : callable, optional
        Takes how things stand, as one line that replaces the one before.
    noted : dict of str to str
        What else the provenance of a run's record is to say, such as which rules its plan has.

    Raises
    ------
    UserError
        If the time between checkpoints is none.
    """

    device: str = "auto"
    compile: bool = False
    log: str | None = None
    checkpoint_seconds: float = 120.0
    report: Callable[[str], None] | None = None
    live: Callable[[str], None] | None = None
    noted: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        # With NaN or infinity no checkpoint would ever be written, without a word.
        check_number("Conduct", "checkpoint_seconds", self.checkpoint_seconds, 0, 1e9)

    def abroad(self) -> dict:
        """What of it travels to another process, as keyword arguments: all but the two functions."""
        travels = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("report", "live")}
        return travels | {"noted": dict(self.noted)}


USUAL = Conduct()  # whatever device there is, lines on standard error


def check_run(config: "RunConfig"):
    """Refuse counts and seeds of a run that are none; a default of a plan's table may still be without galaxies.

    Raises
    ------
    UserError
    """
    check_number("Run", "n_train", config.n_train, 0, 10**12, whole=True)
    check_number("Run", "seed", config.seed, 0, 2**63 - 1, whole=True)


RunConfig = PretrainConfig | FinetuneConfig
Configuration = RunConfig | SurveySpec | Recipe | Augment | Objective
KINDS: dict[str, type] = {"pretrain": PretrainConfig, "finetune": FinetuneConfig}


def kind_of(config: RunConfig) -> str:
    """``pretrain`` or ``finetune``."""
    return next(kind for kind, cls in KINDS.items() if isinstance(config, cls))


def config_from_dict(kind: str, values: dict) -> RunConfig:
    """The configuration that a ``run.json`` records.

    Raises
    ------
    UserError
        If a field is unknown, as of a run that a newer version made, or its value is not what it takes.
    """
    return _build(KINDS[kind], values)


def survey_from_dict(values: dict) -> SurveySpec:
    """The specification of a survey that a ``run.json`` records; what else it records of the survey is left out.

    Raises
    ------
    UserError
        As :func:`config_from_dict`.
    """
    return _build(SurveySpec, {name: value for name, value in values.items() if name not in ("fingerprint", "parts")})


def _build(cls: type, values: dict) -> Any:
    kinds, where = get_type_hints(cls), f"{cls.__name__} of a stored run"
    refuse_unknown(values, kinds, where)
    if absent := [f.name for f in fields(cls) if f.default is f.default_factory is MISSING and f.name not in values]:
        raise UserError(f"{where}: '{absent[0]}' is missing.")
    made = {}
    for name, value in values.items():
        if is_dataclass(kinds[name]) and isinstance(value, dict):
            made[name] = _build(kinds[name], value)
        elif value is None and type(None) in get_args(kinds[name]):
            made[name] = None
        else:
            made[name] = _value(value, None, kinds[name], name, where)
    return cls(**made)


def config_dict(config: Configuration) -> dict:
    """All fields as JSON can hold them, defaults written out but for fields that are not ``IN_EVERY_KEY``.

    Equal configurations give equal dictionaries: ``clip=1`` is written as 1.0, NumPy's numbers as Python's.
    """
    kinds = get_type_hints(type(config))
    always = {name for cls in type(config).__mro__ for name in IN_EVERY_KEY.get(cls.__name__, "").split()}
    pairs = [(f, getattr(config, f.name)) for f in fields(config)]
    return {f.name: _plain(v, kinds[f.name]) for f, v in pairs if f.name in always or v != _default(f)}


def _default(field: Field) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _plain(value: Any, kind: Any) -> Any:
    if isinstance(value, Configuration):
        return config_dict(value)
    if value is not None:
        kind = _one_kind(kind)
    if get_origin(kind) is tuple:
        return [_plain(v, k) for v, k in zip(value, get_args(kind), strict=True)]
    if kind in WORDS and value is not None and kind(value) == value:
        return kind(value)
    return value


def _one_kind(hint: Any) -> Any:
    """What a value that is given is: the int of ``int | None``, the str of ``Literal["cosine", "constant"]``."""
    if get_origin(hint) in (types.UnionType, Union):
        hint = next(kind for kind in get_args(hint) if kind is not type(None))
    return type(get_args(hint)[0]) if get_origin(hint) is Literal else hint


WORDS = {int: "a whole number", float: "a number", str: "a text in quotes", bool: "true or false"}


def fill(default, values: dict, where: str):
    """A copy of a configuration with some of its fields changed.

    Parameters
    ----------
    default : dataclass instance
        Nested dataclasses are filled from nested tables.
    values : dict
        Field to value.
    where : str
        Where the values stand, for errors: ``plan.toml, [[pretrain]] 2``.

    Raises
    ------
    UserError
        If a field is unknown (the nearest names are given) or its value is of another type.
    """
    hints = get_type_hints(type(default))
    refuse_unknown(values, hints, where)
    changes = {name: _value(value, getattr(default, name), hints[name], name, where) for name, value in values.items()}
    return changed(default, changes)


# What of the study's recipe no longer holds once a field is set that says it in another way. Examples and epochs are a
# length that was chosen, so the run ends with them, and warms up for a part of them.
INSTEAD: dict[str, dict[str, Any]] = {
    "examples": {"epochs": 0.0, "patience": 0, "warmup_examples": 0},
    "epochs": {"patience": 0, "warmup_examples": 0},
    "warmup": {"warmup_examples": 0},
    "evaluations": {"spacing": 0.0},
}


def changed(default: Any, changes: dict[str, Any]) -> Any:
    """A copy of a dataclass with some fields changed; of a recipe, none of the study's then says otherwise.

    Examples
    --------
    >>> from gzlib.config import changed, study_recipe
    >>> recipe = changed(study_recipe("resnet_w8", 2_000), {"examples": 9_000})
    >>> recipe.most_examples(2_000), recipe.patience
    (9000, 0)
    """
    if isinstance(default, Recipe):
        freed = {
            other: value
            for name in INSTEAD.keys() & changes.keys()
            for other, value in INSTEAD[name].items()
            if other == "epochs" or getattr(default, other) == getattr(STUDY, other)
        }
        if changes.get("average") or changes.get("schedule", "constant") != "constant":
            freed["optimizer"] = "adamw"  # the other one takes neither
        changes = freed | changes
    return replace(default, **changes)


def of_its_encoder(config: RunConfig, changes: dict, where: str = "") -> RunConfig:
    """A run with the recipe that belongs to it, and what is changed of that; a finetuning run keeps its own.

    Raises
    ------
    UserError
        As :func:`fill`.
    """
    recipe = config.recipe if isinstance(config, FinetuneConfig) else study_recipe(config.encoder, config.n_train)
    return replace(config, recipe=fill(recipe, changes, where))


def refuse_unknown(values: dict, known, where: str):
    """Refuse keys that are unknown, naming those that are spelled nearly so."""
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known)
            quoted = " or ".join(f"'{word}'" for word in near)
            hint = f"did you mean {quoted}?" if near else f"known are {', '.join(known)}."
            raise UserError(f"{where}: unknown key '{name}'; {hint}")


def grid(values: dict, default) -> list[dict]:
    """Every combination of the values that are lists; a field that is itself a list varies as a list of lists."""
    combinations: list[dict[str, Any]] = [{}]
    for name, value in values.items():
        held = getattr(default, name, None)
        choices = grid(value, held) if is_dataclass(held) and isinstance(value, dict) else _choices(value, held)
        combinations = [{**c, name: choice} for c in combinations for choice in choices]
    return combinations


def _choices(value, held) -> list:
    several = isinstance(value, list) and not (isinstance(held, tuple) and not any(isinstance(v, list) for v in value))
    return value if several else [value]


def runs_named(values: dict, default) -> int:
    """How many combinations :func:`grid` would make."""
    total = 1
    for name, value in values.items():
        held = getattr(default, name, None)
        nested = is_dataclass(held) and isinstance(value, dict)
        total *= runs_named(value, held) if nested else len(_choices(value, held))
    return total


def parse_settings(pairs: Iterable[str]) -> dict:
    """``["recipe.clip=1", "recipe.augment.flip=false"]`` as nested tables; what is not TOML value is a text."""
    settings: dict = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise UserError(f"--set {pair}: write NAME=VALUE, such as recipe.learning_rate=1e-3.")
        *tables, last = name.strip().split(".")
        inner = settings
        for table in tables:
            inner = inner.setdefault(table, {})
            if not isinstance(inner, dict):
                raise UserError(f"--set {pair}: '{table}' is set to a value already.")
        try:
            values = tomllib.loads(f"value = {text}")
        except (ValueError, RecursionError):  # of numbers with thousands of digits, too
            values = {"value": text.strip()}
        inner[last] = values.pop("value")
        if values:
            raise UserError(f"--set {name.strip()}: its value has several lines; write --set once for each setting.")
    return settings


def _value(value, held, hint, name: str, where: str):
    if is_dataclass(held):
        if not isinstance(value, dict):
            raise UserError(f"{where}: '{name}' must be a table with {', '.join(f.name for f in fields(held))}.")
        return fill(held, value, f"{where}, {name}")
    hint = _one_kind(hint)
    if get_origin(hint) is tuple:
        kinds = get_args(hint)
        if not isinstance(value, list) or len(value) != len(kinds):
            raise UserError(f"{where}: '{name}' must be a list of {len(kinds)} values, not {value!r}.")
        return tuple(_scalar(v, kind, name, where) for v, kind in zip(value, kinds, strict=True))
    return _scalar(value, hint, name, where)


def _scalar(value, kind: type, name: str, where: str):
    if kind is float and type(value) is int:
        return float(value)
    if (kind in WORDS and type(value) is not kind) or is_dataclass(kind):
        raise UserError(f"{where}: '{name}' must be {WORDS.get(kind, 'a table')}, not {value!r}.")
    return value
