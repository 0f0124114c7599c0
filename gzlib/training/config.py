"""What defines a run: every field enters its key, with its default written out.

A field that is added later carries ``metadata=LATER``: it enters the key only where it is not at its default, so that
every run made before it keeps its key.
"""

from dataclasses import dataclass, field, fields, is_dataclass

from gzlib.data.augment import Augment
from gzlib.errors import UserError

LATER = {"later": True}


@dataclass(frozen=True)
class Recipe:
    """How the optimiser is driven; the same for pretraining and for finetuning.

    Attributes
    ----------
    examples : int
        Galaxies seen in all, counting each time that one is shown.
    batch_size : int
        Galaxies that go through the network together, in all processes of the run.
    accumulate : int
        So many batches give one step of the optimiser, as one batch so many times as large would (networks with batch
        norm aside, which still see each batch by itself).
    learning_rate, weight_decay : float
        Of AdamW. Weight decay 0.05 is the Galaxy Zoo Evo baselines'.
    schedule : {"cosine", "constant"}
        After a linear warm-up.
    warmup : float
        Fraction of the steps.
    clip : float
        Largest gradient norm; 0.3 is Zoobot's.
    evaluations : int
        How often the validation loss is measured; the best weights are kept.
    patience : int
        Stop after so many evaluations without a better validation loss; 0 never stops.
    drop_path, dropout : float
        Of the encoder and of the head.
    layer_decay : float
        Factor on the learning rate from each layer group to the one below it; 1 for none.
    augment : Augment
    """

    examples: int = 60_000
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    schedule: str = "cosine"
    warmup: float = 0.1
    clip: float = 0.3
    evaluations: int = 10
    patience: int = 0
    drop_path: float = 0.0
    dropout: float = 0.0
    layer_decay: float = 1.0
    augment: Augment = field(default_factory=Augment)
    accumulate: int = field(default=1, metadata=LATER)

    def __post_init__(self):
        for name in ("examples", "batch_size", "accumulate", "evaluations", "learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise UserError(f"Recipe: '{name}' must be above zero, not {getattr(self, name)}.")
        if self.schedule not in ("cosine", "constant"):
            raise UserError(f"Recipe: unknown schedule '{self.schedule}'; use 'cosine' or 'constant'.")


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


@dataclass(frozen=True)
class PretrainConfig:
    """One pretraining run: an encoder learns all questions of a survey from ``n_train`` galaxies."""

    encoder: str
    n_train: int
    seed: int = 0
    weights: str = "random"
    recipe: Recipe = field(default_factory=Recipe)


@dataclass(frozen=True)
class FinetuneConfig:
    """One downstream run: an encoder with given weights learns a task from ``n_train`` labels.

    Attributes
    ----------
    task : str
        Name of the task, for reading; what it is stands in the survey's fingerprint.
    label : str
        Column of the survey that is predicted.
    weights : str
        ``random``, ``imagenet`` or the key of a pretraining run.
    mode : {"linear", "full"}
        A linear probe on the frozen encoder's features, or all weights.
    """

    task: str
    encoder: str
    n_train: int
    label: str = "label"
    seed: int = 0
    weights: str = "random"
    mode: str = "linear"
    recipe: Recipe = FINETUNING

    def __post_init__(self):
        if self.mode not in ("linear", "full"):
            raise UserError(f"Finetuning mode '{self.mode}' is unknown; use 'linear' or 'full'.")


def config_from_dict(kind: str, values: dict) -> PretrainConfig | FinetuneConfig:
    """The configuration that a ``run.json`` records."""
    cls = {"pretrain": PretrainConfig, "finetune": FinetuneConfig}[kind]
    recipe = dict(values["recipe"])
    augment = recipe.pop("augment")
    augment = Augment(**{**augment, "zoom": tuple(augment["zoom"])})
    known = {f.name for f in fields(cls)}
    return cls(**{k: v for k, v in values.items() if k in known - {"recipe"}}, recipe=Recipe(**recipe, augment=augment))


def config_dict(config: PretrainConfig | FinetuneConfig) -> dict:
    """All fields as JSON can hold them, defaults written out but for fields added later."""
    return _plain(config)


def _plain(value):
    if is_dataclass(value):
        pairs = [(f, getattr(value, f.name)) for f in fields(value)]
        return {f.name: _plain(v) for f, v in pairs if not (f.metadata.get("later") and v == f.default)}
    return list(value) if isinstance(value, tuple) else value
