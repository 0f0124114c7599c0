"""The study, by its plan, and its three smaller or larger sizes: surveys, encoders, training sets, seeds, recipes."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from gzlib.config import FINETUNING, Augment, FinetuneConfig, Mode, PretrainConfig, Recipe, Split, SurveySpec
from gzlib.config import study_recipe as study_recipe
from gzlib.data import existing_survey, is_generated, open_source, read_report, training_galaxies
from gzlib.errors import UserError
from gzlib.trace import input_files, note
from gzlib.training import Job, key_of, read_plan, read_run, sweep


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
        """Every run of the grid, small ones first, so that a study stopped early is still a study."""
        return [
            (
                PretrainConfig(encoder, n, seed, self.weights.get(encoder, "random"), self._recipe(encoder, n)),
                self.survey,
            )
            for n in self.n_train
            for encoder in self.encoders
            for seed in self.seeds
        ]

    def records(self) -> list[dict]:
        """The records of all runs; those that are missing are trained."""
        return sweep(self.jobs())

    def _recipe(self, encoder: str, n: int) -> Recipe:
        if self.rule:
            return self.rule(encoder, n)
        at_thousand, power, most = self.examples
        rate = self.learning_rates.get(encoder.split("_")[0], self.recipe.learning_rate)
        return replace(self.recipe, examples=min(most, round(at_thousand * (n / 1000) ** power)), learning_rate=rate)


@dataclass(frozen=True)
class PlannedStudy:
    """The pretraining runs that a plan of ``data/plans`` names, as far as they are made.

    Attributes
    ----------
    name : str
        Of the plan.
    planned : tuple of (PretrainConfig, SurveySpec)
        In the plan's order.
    """

    name: str
    planned: tuple[Job, ...]

    @property
    def survey(self) -> SurveySpec:
        """What the runs are trained on."""
        return self.planned[0][1]

    @property
    def encoders(self) -> tuple[str, ...]:
        """All encoders, in the plan's order."""
        return tuple(dict.fromkeys(config.encoder for config, _ in self.planned))

    @property
    def n_train(self) -> tuple[int, ...]:
        """All numbers of training galaxies, smallest first."""
        return tuple(sorted({config.n_train for config, _ in self.planned}))

    def jobs(self) -> list[Job]:
        """Every run that the plan names."""
        return list(self.planned)

    def records(self) -> list[dict]:
        """The records of those runs that are stored, in the plan's order; none is trained.

        Raises
        ------
        UserError
            If none is.
        """
        keys = [key_of(*job) for job in self.planned]
        for key in keys:
            note("run", key=key)  # the missing ones, too: a chapter is stale once they are there
        if found := [record for key in keys if (record := read_run(key)) is not None]:
            return found
        raise UserError(f"None of the {len(keys)} runs of the plan '{self.name}' is stored; {self.make}.")

    @property
    def make(self) -> str:
        """How the missing runs are made, as an advice."""
        return f"`python -m gzlib sweep data/plans/{self.name}.toml` makes the missing ones"


def _planned(name: str, **chosen) -> PlannedStudy:
    """The study of a plan, or its runs with some encoders, training sets or seeds."""
    files = [file for file in input_files("data/plans/*.toml") if file.stem == name]
    if not files:
        raise UserError(f"There is no plan 'data/plans/{name}.toml'; the book's own is 'study'.")
    jobs = [job for job in read_plan(files[0]) if isinstance(job[0], PretrainConfig)]
    for field_, (word, values) in chosen.items():
        known = {getattr(config, field_) for config, _ in jobs}
        if strange := [value for value in values or () if value not in known]:
            raise UserError(
                f"The plan '{name}' has no {word} {strange[0]}; it has {', '.join(map(str, sorted(known)))}."
                " With plan none, runs are made as asked."
            )
        jobs = [job for job in jobs if values is None or getattr(job[0], field_) in values]
    if not jobs:
        raise UserError(f"The plan '{name}' has no run with these encoders, training sets and seeds together.")
    return PlannedStudy(name, tuple(jobs))


# The paper's study on Galaxy Zoo Evo's public data set, as near to it as its code, its models and its author's words
# say; its own table of settings could not be read. What none of them says is this project's choice, and marked as ours.
# Galaxies of data sets on the hub that this study uses, (training, test) as published, and bytes to download where they
# are known. The public union is without Cosmic Dawn: it asks at most 75 of the paper's 88 questions.
GZ_EVO = (663_840, 141_760, 18_300_000_000)
PUBLISHED: dict[str, tuple[int, int, int | None]] = {
    "hub:mwalmsley/gz_evo": GZ_EVO,
    "hub:mwalmsley/is-lsb": (2_304, 576, None),  # 2,880 in all; how they are split is a guess
    "hub:mwalmsley/which-lsb": (508, 218, 31_600_000),
    "hub:mwalmsley/jwst": (377, 94, None),  # 471 in all; how they are split is a guess
    "hub:mwalmsley/gz_rings:regression": (73_356, 18_340, None),
    "hub:mwalmsley/galaxy10_decals:galaxyzoo": (15_962, 1_774, None),  # as another copy on the hub is split
}
VALIDATION = 0.2  # of the published training galaxies: as the paper's code splits them
# Batch on one GPU, as the authors' scripts have them or near it, and starting weights. Their released models are said
# to start from ImageNet-12k; with which tags is known of convnext_nano and resnet50 alone, the others are ours.
# Ours too, as no model of theirs was released with it: convnext_atto, tf_efficientnetv2_b0, _m and _l; and
# maxvit_tiny_rw_224, since timm has no maxvit_rmlp_tiny_rw_224.
PAPER_ENCODERS = {
    "convnext_atto": (2048, "convnext_atto.d2_in1k"),
    "convnext_pico": (1024, "convnext_pico.d1_in1k"),
    "convnext_nano": (512, "convnext_nano.in12k"),
    "convnext_tiny": (256, "convnext_tiny.in12k"),
    "convnext_small": (256, "convnext_small.in12k"),
    "convnext_base": (256, "convnext_base.fb_in22k"),
    "convnext_large": (128, "convnext_large.fb_in22k"),
    "efficientnet_b0": (512, "efficientnet_b0.ra_in1k"),
    "tf_efficientnetv2_b0": (512, "tf_efficientnetv2_b0.in1k"),
    "tf_efficientnetv2_s": (256, "tf_efficientnetv2_s.in21k"),
    "tf_efficientnetv2_m": (128, "tf_efficientnetv2_m.in21k"),
    "tf_efficientnetv2_l": (64, "tf_efficientnetv2_l.in21k"),
    "maxvit_tiny_rw_224": (256, "maxvit_tiny_rw_224.sw_in1k"),
    "maxvit_rmlp_small_rw_224": (128, "maxvit_rmlp_small_rw_224.sw_in1k"),
    "maxvit_rmlp_base_rw_224": (64, "maxvit_rmlp_base_rw_224.sw_in12k"),
    "maxvit_large_tf_224": (32, "maxvit_large_tf_224.in21k"),
    "resnet18": (512, "resnet18.a1_in1k"),
    "resnet50": (512, "resnet50.a1_in1k"),
    "resnet101": (256, "resnet101.a1_in1k"),
}
LARGE_RATES = {"convnext_large": 2e-5, "maxvit_large_tf_224": 2e-5, "maxvit_rmlp_base_rw_224": 5e-5}
DROP_PATHS = {
    "convnext": 0.4, "efficientnet": 0.2, "tf": 0.2, "resnet": 0.0, "maxvit_tiny": 0.2, "maxvit_rmlp_small": 0.3,
    "maxvit_rmlp_base": 0.45, "maxvit_large": 0.6,
}  # fmt: skip
EFFECTIVE_BATCH = 2048
# Theirs: no schedule, validation after each epoch, the end after 8 epochs without a better loss. They let a run have
# 1,000 epochs; ours are at most so many on all galaxies, and more of fewer as the root of their number falls.
EPOCHS_ON_ALL = 40
# Rotation by any angle and a random crop of 0.7 to 0.8 of the area, which places the crop by up to 0.07 of the side;
# the crop's ratio of 0.9 to 1.1 has no counterpart here.
PAPER_VIEW = Augment(rotate=True, zoom=(1.12, 1.2), shift=0.07, flip=True)
PAPER_RECIPE = Recipe(
    learning_rate=1e-4,
    weight_decay=0.05,
    schedule="constant",
    warmup=0.0,
    clip=0.3,
    patience=8,
    dropout=0.5,
    augment=PAPER_VIEW,
)
FROM_SCRATCH = 1e-3  # learning rate of a network without pretrained weights


def paper_recipe(encoder: str, n_train: int) -> Recipe:
    """The recipe of the paper's code for one of its encoders; any other one gets what is not an encoder's own."""
    batch = PAPER_ENCODERS.get(encoder, (256, ""))[0]
    rate = LARGE_RATES.get(encoder, PAPER_RECIPE.learning_rate)
    drop_path = next((value for start, value in DROP_PATHS.items() if encoder.startswith(start)), 0.0)
    epochs = round(EPOCHS_ON_ALL * max(1.0, _divided(*GZ_EVO[:2])["train"] / n_train) ** 0.5)
    shape: dict[str, Any] = {"batch_size": batch, "accumulate": EFFECTIVE_BATCH // batch, "drop_path": drop_path}
    return replace(PAPER_RECIPE, **shape, learning_rate=rate, epochs=float(epochs), evaluations=epochs)


def planned_splits(source: str) -> dict[str, int] | None:
    """Galaxies of each split of a data set of the hub that is not downloaded yet; None of one that is not known."""
    return _divided(*PUBLISHED[source][:2]) if source in PUBLISHED else None


def _divided(train: int, test: int) -> dict[str, int]:
    """Galaxies of each split, where the training galaxies are published together with those that validate."""
    return {"train": round(train * (1 - VALIDATION)), "val": round(train * VALIDATION), "test": test}


def splits_of(survey: SurveySpec) -> dict[str, int] | None:
    """Galaxies of each split: counted where the survey is curated, else planned; None where no one knows them yet."""
    if is_generated(survey.source):
        return None
    folder = existing_survey(survey)
    return read_report(folder)["counts"]["splits"] if folder else planned_splits(survey.source)


def _planned_galaxies(survey: SurveySpec) -> int:
    """Training galaxies of a survey that need not be here yet.

    Raises
    ------
    UserError
        If no one knows how many there are.
    """
    splits = splits_of(survey)
    if splits is None:
        raise UserError(f"How many galaxies '{survey.source}' has to train on is known once it is curated; curate it.")
    return splits["train"]


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
        SurveySpec("hub:mwalmsley/gz_evo", size=224, split="source"),
        encoders=tuple(PAPER_ENCODERS),
        n_train=tuple(_divided(*GZ_EVO[:2])["train"] // part for part in (64, 32, 16, 8, 4, 2, 1)),
        seeds=(0, 1, 2),  # the paper's three repeats
        examples=(0, 0.0, 0),
        weights={encoder: tag for encoder, (_, tag) in PAPER_ENCODERS.items()},
        rule=paper_recipe,
        # Ours, but for the two that the author names: a quarter, and all.
        fractions=(64, 32, 16, 8, 4, 2, 1),
    ),
}


BOOK = "laptop"  # the preset that the chapters have by themselves


def pretraining_study(
    preset: str, *, plan: str = "none", source=None, size=None, encoders=None, n_train=None, seeds=None, planned=False
) -> PretrainingStudy | PlannedStudy:
    """The pretraining study of a plan or a preset, changed where something is given.

    Parameters
    ----------
    preset : {"smoke", "laptop", "paper", "study"}
        ``study`` is the plan of that name.
    plan : str
        Name of a plan in ``data/plans`` whose stored runs take the place of the preset's, unless another preset than
        the book's own, another source or another size is asked for; ``none`` for the preset's grid. ``encoders``,
        ``n_train`` and ``seeds`` then choose among its runs.
    source : str, optional
        Another survey, as ``python -m gzlib curate`` takes it; training sets that it is too small for are left out,
        and all its training galaxies are added as the largest set.
    size : int, optional
        Side of the images [px].
    encoders, n_train, seeds : list, optional
    planned : bool
        Take the galaxies of a data set that is not here yet as published, and download nothing; else a study of
        fractions of a survey has it curated.
    """
    if preset == "study" and not (source or size):
        preset, plan = BOOK, preset
    if preset not in PRETRAINING:
        raise UserError(f"Unknown preset '{preset}'; choose one of {', '.join(PRETRAINING)}.")
    if plan.lower() not in ("", "none") and preset == BOOK and not (source or size):
        chosen = {"encoder": ("encoder", encoders), "n_train": ("training set of", n_train), "seed": ("seed", seeds)}
        return _planned(plan, **chosen)
    study = PRETRAINING[preset]
    survey = replace(study.survey, source=source or study.survey.source, size=size or study.survey.size)
    given = {"encoders": encoders, "n_train": n_train, "seeds": seeds}
    changes: dict[str, Any] = {name: tuple(value) for name, value in given.items() if value is not None}
    if source and n_train is None:
        changes["n_train"] = _sizes_within(survey, study.n_train)
    elif study.fractions and n_train is None:
        available = _planned_galaxies(survey) if planned else training_galaxies(survey)
        changes["n_train"] = tuple(available // part for part in study.fractions)
    return replace(study, survey=survey, **changes)


def _sizes_within(survey: SurveySpec, wanted: tuple[int, ...]) -> tuple[int, ...]:
    available = training_galaxies(survey)
    sizes = [n for n in wanted if n < available]
    while len(sizes) < 4 and (smaller := (sizes[0] if sizes else available) // 2) >= 32:
        sizes.insert(0, smaller)
    return (*sizes, available)


ARMS = ("random", "galaxies", "ImageNet", "ImageNet + galaxies")
FROM = {"random": "galaxies", "imagenet": "ImageNet + galaxies"}  # which arm is pretrained from which weights


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
        Side of the images [px].
    n_linear, n_full : tuple of int
        Label counts for linear probes and for full finetuning; those that a task cannot give are left out.
    seeds : tuple of int
    recipe : Recipe
        Of full finetuning.
    weights : dict
        The ImageNet weights of an encoder, where not timm's own choice.
    rule : callable, optional
        The recipe of pretraining, in place of ``pretraining_examples``.
    divisors : tuple of int
        Label counts as parts of a task's training galaxies, in place of ``n_linear`` and ``n_full``.
    compared : tuple of str
        Which kinds of starting weights.
    planned : bool
        See :func:`finetuning_study`.
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
    weights: dict = field(default_factory=dict)
    rule: Callable[[str, int], Recipe] | None = None
    divisors: tuple[int, ...] = ()
    compared: tuple[str, ...] = ARMS
    planned: bool = False

    def pretraining_configs(self) -> dict[str, PretrainConfig]:
        """The galaxy-pretrained arms that are compared, by the weights from which they start."""
        if self.rule:
            recipe = self.rule(self.encoder, self.n_pretrain)
        else:
            recipe = Recipe(examples=self.pretraining_examples, learning_rate=1e-3)
        starts = {
            "random": ("random", replace(recipe, learning_rate=FROM_SCRATCH)),
            "imagenet": (self.weights.get(self.encoder, "imagenet"), recipe),
        }
        return {
            name: PretrainConfig(self.encoder, self.n_pretrain, seed=0, weights=weights, recipe=recipe)
            for name, (weights, recipe) in starts.items()
            if FROM[name] in self.compared
        }

    def arms(self) -> dict[str, str]:
        """Name of each kind of starting weights, and the weights; of runs that are only planned, words for them."""
        configs = self.pretraining_configs().items()
        keys = {name: FROM[name] if self.planned else key_of(config, self.pretraining) for name, config in configs}
        arms = {
            "random": "random",
            "galaxies": keys.get("random"),
            "ImageNet": self.weights.get(self.encoder, "imagenet"),
            "ImageNet + galaxies": keys.get("imagenet"),
        }
        return {name: weights for name, weights in arms.items() if name in self.compared}

    def task_surveys(self) -> dict[str, SurveySpec]:
        """The curated survey of each task; a published test set is kept where there is one."""
        size = self.pretraining.size
        return {name: SurveySpec(source, size=size, split=_split(source)) for name, (source, _) in self.tasks.items()}

    def jobs(self) -> list[tuple[FinetuneConfig, SurveySpec]]:
        """Every downstream run, linear probes first."""
        arms, surveys = self.arms(), self.task_surveys()
        modes: dict[Mode, tuple[int, ...]] = {"linear": self.n_linear, "full": self.n_full}
        return [
            (FinetuneConfig(task, self.encoder, n, self.tasks[task][1], seed, weights, mode, self.recipe), survey)
            for mode, sizes in modes.items()
            for task, survey in surveys.items()
            for n in self._label_counts(survey, self.tasks[task][1], sizes)
            for weights in arms.values()
            for seed in self.seeds
        ]

    def _label_counts(self, survey: SurveySpec, label: str, wanted: tuple[int, ...]) -> list[int]:
        if not self.divisors:
            return _label_counts(survey, label, wanted)
        available = _planned_galaxies(survey) if self.planned else training_galaxies(survey, label)
        return [n for part in self.divisors if (n := available // part) >= FEWEST_LABELS]


FEWEST_LABELS = 10  # ours: fewer do not hold each class of a task


def _split(source: str) -> Split:
    if source in PUBLISHED:
        return "source"
    return "source" if open_source(source).has_published_split else "hash"


def _label_counts(survey: SurveySpec, label: str, wanted: tuple[int, ...]) -> list[int]:
    if is_generated(survey.source):
        return list(wanted)  # a preset's own tasks are made large enough
    available = training_galaxies(survey, label)
    return [n for n in wanted if n < available] + [available]


def _five_tasks(*, rings: int, galaxy10: int) -> dict:
    """The paper's five tasks, the two large ones with the given number of galaxies."""
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
        n_full=(100,),
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
    # The authors' two modes: end to end, and on the frozen encoder. Their frozen mode trains a linear layer by AdamW; a
    # linear probe here is fitted to its optimum.
    "paper": FinetuningStudy(
        encoder="convnext_nano",
        pretraining=PAPER,
        n_pretrain=PRETRAINING["paper"].n_train[-1],
        pretraining_examples=0,
        tasks={
            "is-lsb": ("hub:mwalmsley/is-lsb", "label"),
            "which-lsb": ("hub:mwalmsley/which-lsb", "label"),
            "jwst": ("hub:mwalmsley/jwst", "label"),
            "rings": ("hub:mwalmsley/gz_rings:regression", "label"),  # how the column is called is a guess
            "galaxy10": ("hub:mwalmsley/galaxy10_decals:galaxyzoo", "label"),
        },
        n_linear=(),
        n_full=(),
        seeds=(0, 1, 2),
        recipe=replace(
            FINETUNING,
            learning_rate=1e-5,
            layer_decay=0.25,
            schedule="constant",
            warmup=0.0,
            epochs=200.0,  # theirs may have 5,000, but a comment of theirs calls 200 plenty
            evaluations=200,
            augment=PAPER_VIEW,
        ),
        weights={encoder: tag for encoder, (_, tag) in PAPER_ENCODERS.items()},
        rule=paper_recipe,
        divisors=(64, 32, 16, 8, 4, 2, 1),
    ),
}
# Which further encoders are finetuned is ours, too; of them, ImageNet with and without galaxies is compared.
FURTHER = {
    "paper": (
        "convnext_pico",
        "convnext_tiny",
        "convnext_base",
        "tf_efficientnetv2_s",
        "maxvit_tiny_rw_224",
        "resnet50",
    )
}


def finetuning_study(
    preset: str, *, tasks=None, size=None, encoder=None, n_linear=None, n_full=None, seeds=None, planned=False
) -> FinetuningStudy:
    """The finetuning study of a preset, changed where something is given.

    Parameters
    ----------
    preset : {"smoke", "laptop", "paper"}
    tasks : dict, optional
        Name to [source, label column]; label counts that a task is too small for are left out, and all its labels
        are added as the largest count.
    size, encoder, n_linear, n_full, seeds : optional
    planned : bool
        Take the galaxies of data sets that are not here yet as published, download nothing, and name the weights of
        runs that are still to be made by words.
    """
    if preset not in FINETUNING_STUDIES:
        raise UserError(f"Unknown preset '{preset}'; choose one of {', '.join(FINETUNING_STUDIES)}.")
    study = FINETUNING_STUDIES[preset]
    given = {"n_linear": n_linear, "n_full": n_full, "seeds": seeds}
    changes: dict[str, Any] = {name: tuple(value) for name, value in given.items() if value is not None}
    changes["encoder"] = encoder or study.encoder
    changes["tasks"] = study.tasks if tasks is None else {name: tuple(value) for name, value in tasks.items()}
    changes["pretraining"] = replace(study.pretraining, size=size or study.pretraining.size)
    if study.divisors:
        chosen = {"n_linear", "n_full"} & changes.keys() or tasks is not None
        changes["divisors"] = () if chosen else study.divisors
        changes["n_pretrain"] = pretraining_study(preset, size=size, planned=planned).n_train[-1]
    return replace(study, **changes, planned=planned)


def preset_jobs(preset: str, *, planned: bool = False) -> list[Job]:
    """All runs of a preset's study, each after those whose weights it starts from; of ``study``, its plan's.

    Parameters
    ----------
    planned : bool
        See :func:`finetuning_study`; such runs are to be counted, not made.
    """
    if preset == "study":
        return [*pretraining_study(preset).jobs()]
    pretraining, finetuning = pretraining_study(preset, planned=planned), finetuning_study(preset, planned=planned)
    studies = [finetuning] + [
        replace(finetuning, encoder=encoder, compared=("ImageNet", "ImageNet + galaxies"))
        for encoder in FURTHER.get(preset, ())
    ]
    further = [(config, one.pretraining) for one in studies for config in one.pretraining_configs().values()]
    jobs = pretraining.jobs() + further + [job for one in studies for job in one.jobs()]
    return list(dict.fromkeys(jobs))  # an arm may be a run of the grid
