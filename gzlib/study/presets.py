"""The study at its three sizes: which surveys, encoders, training sets, seeds and recipes make up its runs."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from gzlib.config import FINETUNING, Augment, FinetuneConfig, PretrainConfig, Recipe, SurveySpec
from gzlib.data import existing_survey, is_generated, open_source, read_report, training_galaxies
from gzlib.errors import UserError
from gzlib.training import Job, key_of


@dataclass(frozen=True)
class PretrainingStudy:
    """A grid of pretraining runs: every encoder at every training-set size with every seed.

    Attributes
    ----------
    survey : SurveySpec
    encoders : tuple of str
    n_train : tuple of int
        Training galaxies; with one seed, each set contains the smaller ones.
    seeds : tuple of int
    examples : (int, float, int)
        Galaxies seen: so many at 1,000 training galaxies, growing with this power of their number, at most so many.
    recipe : Recipe
        Everything else.
    learning_rates : dict
        By the first word of an encoder's name, where it is not the recipe's.
    weights : dict
        From which weights an encoder starts; random where none are named.
    rule : callable, optional
        The recipe of an encoder and so many training galaxies, in place of ``recipe`` and ``examples``.
    fractions : tuple of int
        Of all training galaxies, in place of ``n_train``: 4 stands for a quarter of them.
    """

    survey: SurveySpec
    encoders: tuple[str, ...]
    n_train: tuple[int, ...]
    seeds: tuple[int, ...]
    examples: tuple[int, float, int]
    recipe: Recipe = field(default_factory=Recipe)
    learning_rates: dict = field(default_factory=lambda: {"resnet": 1e-2})
    weights: dict = field(default_factory=dict)
    rule: Callable[[str, int], Recipe] | None = None
    fractions: tuple[int, ...] = ()

    def jobs(self) -> list[tuple[PretrainConfig, SurveySpec]]:
        """Every run of the grid, small ones first, so that a study cut short is still a study."""
        return [
            (PretrainConfig(encoder, n, seed, self.weights.get(encoder, "random"), self._recipe(encoder, n)), self.survey)
            for n in self.n_train
            for encoder in self.encoders
            for seed in self.seeds
        ]

    def _recipe(self, encoder: str, n: int) -> Recipe:
        if self.rule:
            return self.rule(encoder, n)
        at_thousand, power, most = self.examples
        rate = self.learning_rates.get(encoder.split("_")[0], self.recipe.learning_rate)
        return replace(self.recipe, examples=min(most, round(at_thousand * (n / 1000) ** power)), learning_rate=rate)


PRETRAINING = {
    "smoke": PretrainingStudy(
        SurveySpec("sim:1000", size=32),
        encoders=("resnet_w4", "resnet_w8"),
        n_train=(75, 150, 300, 600),
        seeds=(0, 1),
        examples=(4_000, 0.5, 4_000),
    ),
    "laptop": PretrainingStudy(
        SurveySpec("sim:12000", size=48),
        encoders=("resnet_w6", "resnet_w12", "resnet_w24", "convnext_w10"),
        n_train=(250, 500, 1_000, 2_000, 4_000, 8_000),
        seeds=(0, 1),
        examples=(16_000, 0.5, 100_000),
    ),
    "paper": PretrainingStudy(
        SurveySpec("sim:840000", size=128),
        encoders=("convnext_w20", "convnext_atto", "convnext_pico", "convnext_nano", "convnext_tiny"),
        n_train=(8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 512_000),
        seeds=(0, 1, 2),
        examples=(200_000, 0.5, 4_000_000),
        recipe=Recipe(batch_size=512, drop_path=0.1),
    ),
}


def pretraining_study(
    preset: str, *, source=None, size=None, encoders=None, n_train=None, seeds=None
) -> PretrainingStudy:
    """The pretraining study of a preset, changed where something is given.

    Parameters
    ----------
    preset : {"smoke", "laptop", "paper"}
    source : str, optional
        Another survey, as ``python -m gzlib curate`` takes it; training sets that it is too small for are left out,
        and all its training galaxies are added as the largest set.
    size : int, optional
        Side of the pictures [px].
    encoders, n_train, seeds : list, optional
    """
    if preset not in PRETRAINING:
        raise UserError(f"Unknown preset '{preset}'; choose one of {', '.join(PRETRAINING)}.")
    study = PRETRAINING[preset]
    survey = replace(study.survey, source=source or study.survey.source, size=size or study.survey.size)
    given = {"encoders": encoders, "n_train": n_train, "seeds": seeds}
    changes = {name: tuple(value) for name, value in given.items() if value is not None}
    if source and n_train is None:
        changes["n_train"] = _sizes_within(survey, study.n_train)
    return replace(study, survey=survey, **changes)


def _sizes_within(survey: SurveySpec, wanted: tuple[int, ...]) -> tuple[int, ...]:
    available = training_galaxies(survey)
    sizes = [n for n in wanted if n < available]
    while len(sizes) < 4 and (smaller := (sizes[0] if sizes else available) // 2) >= 32:
        sizes.insert(0, smaller)
    return (*sizes, available)


@dataclass(frozen=True)
class FinetuningStudy:
    """Downstream runs: every task, with every kind of starting weights, at every label count.

    Attributes
    ----------
    encoder : str
    pretraining : SurveySpec
        The galaxies of further pretraining.
    n_pretrain, pretraining_examples : int
    tasks : dict
        Name to (source, label column).
    size : int
        Side of the pictures [px].
    n_linear, n_full : tuple of int
        Label counts for linear probes and for full finetuning; those that a task cannot give are left out.
    seeds : tuple of int
    recipe : Recipe
        Of full finetuning.
    """

    encoder: str
    pretraining: SurveySpec
    n_pretrain: int
    pretraining_examples: int
    tasks: dict
    n_linear: tuple[int, ...]
    n_full: tuple[int, ...]
    seeds: tuple[int, ...]
    recipe: Recipe = FINETUNING

    def pretraining_configs(self) -> dict[str, PretrainConfig]:
        """The two galaxy-pretrained arms, by the weights from which they start."""
        recipe = Recipe(examples=self.pretraining_examples, learning_rate=1e-3)
        return {
            start: PretrainConfig(self.encoder, self.n_pretrain, seed=0, weights=start, recipe=recipe)
            for start in ("random", "imagenet")
        }

    def arms(self) -> dict[str, str]:
        """Name of each kind of starting weights, and the weights."""
        keys = {start: key_of(config, self.pretraining) for start, config in self.pretraining_configs().items()}
        return {
            "random": "random",
            "galaxies": keys["random"],
            "ImageNet": "imagenet",
            "ImageNet + galaxies": keys["imagenet"],
        }

    def task_surveys(self) -> dict[str, SurveySpec]:
        """The curated survey of each task; a published test set is kept where there is one."""
        size = self.pretraining.size
        return {name: SurveySpec(source, size=size, split=_split(source)) for name, (source, _) in self.tasks.items()}

    def jobs(self) -> list[tuple[FinetuneConfig, SurveySpec]]:
        """Every downstream run, linear probes first."""
        arms, surveys = self.arms(), self.task_surveys()
        return [
            (FinetuneConfig(task, self.encoder, n, self.tasks[task][1], seed, weights, mode, self.recipe), survey)
            for mode, sizes in (("linear", self.n_linear), ("full", self.n_full))
            for task, survey in surveys.items()
            for n in _label_counts(survey, self.tasks[task][1], sizes)
            for weights in arms.values()
            for seed in self.seeds
        ]


def _split(source: str) -> str:
    return "source" if open_source(source).has_published_split else "hash"


def _label_counts(survey: SurveySpec, label: str, wanted: tuple[int, ...]) -> list[int]:
    if is_generated(survey.source):
        return list(wanted)  # a preset's own tasks are made large enough
    available = training_galaxies(survey, label)
    return [n for n in wanted if n < available] + [available]


def _five_tasks(*, rings: int, galaxy10: int) -> dict:
    """The paper's five tasks, the two large ones with so many galaxies."""
    return {
        "is-lsb": ("sim:is-lsb:2880", "label"),
        "which-lsb": ("sim:which-lsb:726", "label"),
        "jwst": ("sim:jwst:471", "label"),
        "rings": (f"sim:rings:{rings}", "ring_fraction"),
        "galaxy10": (f"sim:galaxy10:{galaxy10}", "label"),
    }


SMOKE, LAPTOP, PAPER = (PRETRAINING[preset].survey for preset in ("smoke", "laptop", "paper"))

FINETUNING_STUDIES = {
    "smoke": FinetuningStudy(
        encoder="tf_efficientnet_lite0",
        pretraining=SMOKE,
        n_pretrain=600,
        pretraining_examples=1_200,
        tasks={"galaxy10": ("sim:galaxy10:500", "label"), "rings": ("sim:rings:500", "ring_fraction")},
        n_linear=(50, 100, 300),
        n_full=(50, 100),
        seeds=(0,),
        recipe=replace(FINETUNING, examples=300, evaluations=3),
    ),
    "laptop": FinetuningStudy(
        encoder="tf_efficientnet_lite0",
        pretraining=replace(LAPTOP, size=64),
        n_pretrain=8_000,
        pretraining_examples=48_000,
        tasks=_five_tasks(rings=3_000, galaxy10=3_000),
        n_linear=(25, 50, 100, 200, 300),
        n_full=(200,),
        seeds=(0, 1),
        recipe=replace(FINETUNING, examples=1_600, evaluations=8),
    ),
    "paper": FinetuningStudy(
        encoder="tf_efficientnet_lite0",
        pretraining=PAPER,
        n_pretrain=512_000,
        pretraining_examples=4_000_000,
        tasks=_five_tasks(rings=91_696, galaxy10=17_736),
        n_linear=(25, 50, 100, 200, 300),
        n_full=(50, 100, 200, 300),
        seeds=(0, 1, 2),
    ),
}


def finetuning_study(preset: str, *, tasks=None, size=None, encoder=None, n_linear=None, n_full=None, seeds=None):
    """The finetuning study of a preset, changed where something is given.

    Parameters
    ----------
    preset : {"smoke", "laptop", "paper"}
    tasks : dict, optional
        Name to [source, label column]; label counts that a task is too small for are left out, and all its labels
        are added as the largest count.
    size, encoder, n_linear, n_full, seeds : optional

    Returns
    -------
    FinetuningStudy
    """
    if preset not in FINETUNING_STUDIES:
        raise UserError(f"Unknown preset '{preset}'; choose one of {', '.join(FINETUNING_STUDIES)}.")
    study = FINETUNING_STUDIES[preset]
    given = {"n_linear": n_linear, "n_full": n_full, "seeds": seeds}
    changes = {name: tuple(value) for name, value in given.items() if value is not None}
    changes["encoder"] = encoder or study.encoder
    changes["tasks"] = study.tasks if tasks is None else {name: tuple(value) for name, value in tasks.items()}
    changes["pretraining"] = replace(study.pretraining, size=size or study.pretraining.size)
    return replace(study, **changes)


def preset_jobs(preset: str) -> list[Job]:
    """All runs of a preset's study, each after those whose weights it starts from."""
    pretraining, finetuning = pretraining_study(preset), finetuning_study(preset)
    further = [(config, finetuning.pretraining) for config in finetuning.pretraining_configs().values()]
    return pretraining.jobs() + further + finetuning.jobs()


# The study's recipe. Its optimizer is schedule-free: the rate stays constant, and what is validated and kept is its
# average of the weights. A run ends when that has not improved while the run grew by a third, so that its length is
# found and not chosen. Few galaxies and wide encoders need more regularisation; the rule below says how much. Its
# numbers are those of resnet_w8 at 500, 2,000 and 8,000 galaxies (benchmarks/recipe.py, `regularisation`), which move
# the loss more than anything else: at 500 galaxies from 28.2 to 26.9 nats, at 8,000 by a few hundredths.
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
# By the first word of an encoder's name, what is not as above: the best of three rates at 2,000 galaxies, over two widths
# where both learn (data/benchmarks/recipe-families.json). Depthwise convolutions gain nothing from bfloat16 on a CPU.
FAMILIES = {
    "convnext": {"learning_rate": 1e-3, "precision": "float32"},
    "vit": {"learning_rate": 1e-3},
    "tinynet": {"learning_rate": 3e-3, "precision": "float32"},
    "tf": {"learning_rate": 1e-2, "precision": "float32"},
}
DROPOUT, STRONGEST_AT, FALLS_BY = 0.7, 1_000, 0.6  # of the features; falls with a power from so many galaxies on
# Weight decay, inversely from so many galaxies on, and no less than the recipe's own.
WEIGHT_DECAY, DECAY_UP_TO = 0.3, 2_000
# Most epochs, a guard that few runs should meet: from so many galaxies on it falls with the root of their number.
EPOCHS, MOST_UP_TO = 1_000.0, 1_000
DROP_PATH, NONE_AT = 0.1, 8  # more for each doubling of the width from this one on


def study_recipe(encoder: str, n_train: int) -> Recipe:
    """The study's recipe for an encoder and so many training galaxies."""
    few = min(1.0, (STRONGEST_AT / n_train) ** FALLS_BY)
    width = re.fullmatch(r"(?:resnet|convnext)_w(\d+)", encoder)
    doublings = max(0.0, math.log2(int(width[1]) / NONE_AT)) if width else 1.0
    decay = max(STUDY.weight_decay, WEIGHT_DECAY * min(1.0, DECAY_UP_TO / n_train))
    regularised = {"dropout": DROPOUT * few, "drop_path": DROP_PATH * doublings * few, "weight_decay": decay}
    regularised = {name: round(value, 3) for name, value in regularised.items()}  # as a plan would write them
    epochs = float(round(EPOCHS * min(1.0, (MOST_UP_TO / n_train) ** 0.5)))
    return replace(STUDY, epochs=epochs, **regularised, **FAMILIES.get(encoder.split("_")[0], {}))


def recipe_rule(name: str) -> Callable[[str, int], Recipe]:
    """The rule that a plan names; there is one, ``study``."""
    if name != "study":
        raise UserError(f"Unknown rule '{name}' for recipes; there is 'study'.")
    return study_recipe
