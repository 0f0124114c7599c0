"""One downstream run: a pretrained encoder learns a task from a number of labels, all of it or a linear probe."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F

from gzlib.config import USUAL, Conduct, FinetuneConfig, Recipe, SurveySpec
from gzlib.data.curation import make_survey
from gzlib.data.loader import mix, open_loader
from gzlib.data.schema import Schema, is_tree_file, load_schema
from gzlib.data.sources.cells import MOST_VALUES
from gzlib.data.sources.columns import PLACEHOLDERS, holds_classes
from gzlib.data.survey import label_values, labelled, open_survey, training_subset
from gzlib.errors import UserError
from gzlib.models.encoders import count_parameters, placed
from gzlib.models.heads import ClassHead, DirichletHead, GalaxyModel, NumberHead, RegressionHead, concentrations
from gzlib.models.weights import load_encoder, weights_kind
from gzlib.training import distributed
from gzlib.training.loop import fit, train_loader
from gzlib.training.loss import VoteLoss, balanced_accuracy, fraction_error, question_scores
from gzlib.training.pretraining import mean_concentrations
from gzlib.training.probes import Probe, fit_probe, folds, survey_features
from gzlib.training.store import pack_per_galaxy

if TYPE_CHECKING:
    import xarray as xr

# Part of the labels that full finetuning keeps aside to choose its best epoch; they count as labels used.
HELD_OUT = 0.2
VOTES = "votes"  # as a label: all votes of the survey's decision tree
TINY_FRACTION = 0.01  # labels that are all below it are numbers in some unit
MOST_LOST = 0.01  # of a label's standard deviation, by rounding it to float32


def finetune(
    config: FinetuneConfig,
    survey: SurveySpec,
    *,
    device: torch.device,
    conduct: Conduct = USUAL,
    checkpoint: Path | None = None,
    key: str = "",
):
    """Learn from ``config.n_train`` labels and measure the error on the test split.

    All choices (penalty of the probe, best epoch) are made within those labels; the survey's validation split is not
    touched, so that ``n_train`` is the whole label budget. ``conduct``, ``checkpoint`` and ``key`` are those of
    :func:`gzlib.training.loop.fit`.

    Returns
    -------
    metrics : dict
        ``error`` (1 - accuracy, or the root mean square error of a number in its own units or of vote fractions),
        ``baseline_error`` (of always answering the commonest class or the mean of the training labels), ``loss``
        (cross-entropy, mean square error or vote loss), ``n_test``, ``n_classes`` (0 for numbers and votes), of classes
        ``balanced_accuracy`` (mean over classes) and ``classes`` (their names, if they have any), of votes what
        :func:`gzlib.training.loss.question_scores` gives, ``n_params`` (encoder), and what was chosen.
    test : dict
        Of the test galaxies with a label: whether each test galaxy's class was found, its squared error, or its loss.
    model : GalaxyModel or None
        None for a linear probe, which :func:`probe_model` makes again.
    """
    task = prepare_task(config, survey)
    if conduct.report:
        conduct.report(f"{config.label}: {task.target.words}")
    if config.mode == "linear":
        prediction, chosen, model = _probe(config, task, device=device, conduct=conduct)
    else:
        prediction, chosen, model = train_all(config, task, device, conduct, checkpoint, key)
    if task.target.classes:
        chosen["classes"] = list(task.target.classes)
    metrics, per_galaxy = measure(prediction, task)
    if is_tree_file(metrics.get("schema")):  # by the name that its owner gave it, not where the survey's copy lies
        metrics["schema"] = survey.schema or "tree.json"
    return metrics | chosen, per_galaxy, model


@dataclass(frozen=True)
class Task:
    """A survey with what is learned from it.

    Attributes
    ----------
    folder : Path
        Of the survey.
    data : xarray.Dataset
        As :func:`gzlib.data.open_survey` gives it.
    target : Target
    subset, test : (n,) int64
        The galaxies to learn from, and those to measure the error on.
    """

    folder: Path
    data: "xr.Dataset"
    target: "Target"
    subset: np.ndarray
    test: np.ndarray

    @property
    def held(self) -> np.ndarray:
        """The labels that full finetuning keeps aside."""
        return self.subset[-max(1, round(HELD_OUT * len(self.subset))) :]


def prepare_task(config: FinetuneConfig, survey: SurveySpec) -> Task:
    """Open a survey, and find the labels and galaxies that a run learns from and is measured on.

    Raises
    ------
    UserError
        If there are too few labels, all alike, or of a class that is tested some but none to train on.
    """
    folder = distributed.made_once(lambda: make_survey(survey))
    data = open_survey(folder)
    target = task_target(data, config.label)
    split = data.split.values
    test = np.flatnonzero((split == "test") & target.known)
    if not len(test):
        raise UserError(f"The survey of '{data.attrs['source']}' has no test galaxies with a label '{config.label}'.")
    subset = training_subset(data, config.n_train, seed=config.seed, among=target.known)
    if target.n_classes:
        _refuse_absent_classes(target, split, config)
    if len(np.unique(target.values[subset], axis=0)) < 2:
        what = "one class only" if target.n_classes else "one value only"
        raise UserError(f"Task '{config.task}': {config.n_train} labels hold {what}; use more labels.")
    return Task(folder, data, target, subset, test)


def _refuse_absent_classes(target: "Target", split: np.ndarray, config: FinetuneConfig):
    known, train = target.values[target.known], target.values[target.known & (split == "train")]
    there = np.unique(known)
    if absent := [target.name(i) for i in there if i not in train]:
        raise UserError(
            f"Task '{config.task}': no galaxy of the training split is of class {', '.join(absent[:8])} of label"
            f" '{config.label}'; add some, split otherwise (--split), or leave the class blank."
        )
    if 1 < config.n_train < len(there):
        raise UserError(
            f"Task '{config.task}': {config.n_train} labels are fewer than the {len(there)} classes of label"
            f" '{config.label}'; use more labels."
        )


def measure(prediction: torch.Tensor, task: Task) -> tuple[dict, dict]:
    """Metrics of the predictions for a task's test galaxies, and one number for each of them."""
    target, values = task.target, task.target.values
    truth, known = torch.from_numpy(values[task.test]), values[task.subset]
    metrics: dict[str, Any] = {"n_test": len(task.test), "n_classes": target.n_classes or 0}
    if target.schema is not None:
        constant = torch.from_numpy(mean_concentrations(known, target.schema)).float().expand(len(truth), -1)
        scores, losses = question_scores(prediction, truth, target.schema)
        error, baseline = (fraction_error(p, values[task.test], target.schema) for p in (prediction, constant))
        metrics |= {"error": error, "baseline_error": baseline, **scores, "schema": task.data.attrs["schema"]}
        return metrics, pack_per_galaxy(losses, what="loss")
    if target.n_classes:
        right = prediction.argmax(1) == truth
        metrics["error"] = 1 - right.float().mean().item()
        metrics["baseline_error"] = 1 - (truth == int(np.bincount(known).argmax())).float().mean().item()
        metrics["balanced_accuracy"] = balanced_accuracy(prediction.argmax(1).numpy(), truth.numpy())
        metrics["loss"] = F.cross_entropy(prediction, truth).item()
        return metrics, pack_per_galaxy(right.numpy(), what="right")
    squared = (prediction.double() - truth.double()).square()  # float32 loses squares below 1e-38 or above 1e38
    metrics["loss"] = squared.mean().item()
    metrics["error"] = metrics["loss"] ** 0.5
    metrics["baseline_error"] = (truth.double() - known.mean(dtype=float)).square().mean().item() ** 0.5
    return metrics, pack_per_galaxy(squared.numpy(), what="squared_error")


@dataclass(frozen=True)
class Target:
    """What a task predicts.

    Attributes
    ----------
    values : (galaxies,) int64 or float32, or (galaxies, answers) int32
        Class numbers from 0, numbers in their own units, or votes; any value where there is no label.
    known : (galaxies,) bool
        Which galaxies have a label.
    n_classes : int or None
        None for numbers.
    classes : tuple of str
        Names of the classes where they have any; () where they are numbers from 0.
    words : str
        For the screen.
    codes : tuple of int or str
        How the column writes each class.
    schema : Schema or None
        The decision tree, where votes are predicted.
    """

    values: np.ndarray
    known: np.ndarray
    n_classes: int | None
    classes: tuple[str, ...]
    words: str
    codes: tuple[int | str, ...] = ()
    schema: Schema | None = None

    @property
    def kind(self) -> Literal["classes", "votes", "fraction", "number"]:
        """``classes``, ``votes``, ``fraction`` (all numbers lie in 0..1, and they are not all tiny) or ``number``."""
        if self.schema is not None or self.n_classes is not None:
            return "classes" if self.schema is None else "votes"
        known = self.values[self.known]
        # Fluxes in a large unit lie in 0..1, too, but far below what a head for fractions can tell apart.
        return "fraction" if bool(((known >= 0) & (known <= 1)).all()) and known.max() >= TINY_FRACTION else "number"

    def name(self, number: int) -> str:
        """Of a class."""
        return self.classes[number] if self.classes else str(number)


def task_target(data, column: str) -> Target:
    """The labels of every galaxy: text and few whole numbers are classes, other numbers are predicted as they are.

    The column ``votes`` stands for the votes of all questions of the survey's decision tree.

    Raises
    ------
    UserError
        If the column is missing or empty, or its numbers are infinite, hold a placeholder such as -99, or are too
        large, small or close together for float32.
    """
    if column == VOTES:
        return _vote_target(data)
    values, known = label_values(data, column), labelled(data, column)
    if not known.any():
        raise UserError(f"Label column '{column}' holds no label at all.")
    unlabelled = "" if known.all() else f"; {(~known).sum():,} of {len(known):,} galaxies unlabelled, not trained on"
    if values.dtype.kind in "UO":
        found, number = np.unique(values[known].astype(str), return_inverse=True)
        classes = np.zeros(len(values), np.int64)
        classes[known] = number
        listed = ", ".join(" ".join(name.split()) for name in found[:12])
        shown = f"{len(found)} classes ({listed}{', …' if len(found) > 12 else ''})"
        if len({name.casefold() for name in found}) < len(found):
            shown += ", some of which differ in capital letters alone"
        words = tuple(found.tolist())
        return Target(classes, known, len(found), words, shown + unlabelled, codes=words)
    numbers = values[known] if values.dtype.kind in "iu" else values[known].astype(float)
    refuse_placeholders(numbers, column)
    different = np.unique(numbers)
    if not holds_classes(set(different.tolist()), bool((different == np.rint(different)).all())):
        _refuse_lost_digits(numbers, column)
        shown = f"numbers from {numbers.min():g} to {numbers.max():g}, predicted as such; the error is their RMS"
        return Target(np.where(known, values, 0).astype(np.float32), known, None, (), shown + unlabelled)
    classes = np.where(known, values, 0).astype(np.int64)
    if different.max() < MOST_VALUES:  # numbered from 0, though a class may have no galaxy here
        n_classes, names = int(different.max()) + 1, _class_names(data, column, classes, known)
        codes = tuple(range(n_classes))
    else:
        n_classes, names = len(different), tuple(str(int(value)) for value in different)
        codes = tuple(int(value) for value in different)
        classes[known] = np.searchsorted(different, numbers)
    said = [names[int(value)] if names and n_classes > value else f"{value:g}" for value in different[:12]]
    shown = f"{len(different)} classes ({', '.join(said)}{', …' if len(different) > 12 else ''})"
    return Target(classes, known, n_classes, names, shown + unlabelled, codes=codes)


def _vote_target(data) -> Target:
    known = labelled(data, VOTES)  # which refuses a survey without votes
    schema, votes = load_schema(data.attrs["schema"]), data.votes.values
    if not known.any():
        raise UserError(f"The survey of '{data.attrs['source']}' has no galaxy with votes.")
    words = f"votes for {len(schema.label_cols)} answers of {len(schema.questions)} questions"
    unlabelled = "" if known.all() else f"; {(~known).sum():,} of {len(known):,} galaxies without any, not trained on"
    return Target(votes, known, None, (), words + unlabelled, schema=schema)


def _class_names(data, column: str, classes: np.ndarray, known: np.ndarray) -> tuple[str, ...]:
    """Names from ``label_name``, where every class of ``label`` has one."""
    if column != "label" or "label_name" not in data:
        return ()
    named = known & (data.label_name.values != "")
    names = dict(zip(classes[named].tolist(), data.label_name.values[named].tolist(), strict=True))
    return tuple(names.get(i, str(i)) for i in range(int(classes[known].max()) + 1))


def refuse_placeholders(numbers: np.ndarray, column: str, *, minus_one: bool = True):
    """Refuse labels that stand for "not measured", which would be learned, or scored, as measurements.

    Parameters
    ----------
    numbers : (n,) array
        Of the galaxies with a label.
    minus_one : bool
        Whether -1 is one of them where all other numbers are from 0 on.

    Raises
    ------
    UserError
        If some are infinite, or the lowest is a placeholder such as -99.
    """
    if not np.isfinite(numbers).all():
        raise UserError(f"Label column '{column}' holds infinite numbers; leave blank what was not measured.")
    lowest = numbers.min()
    if lowest in PLACEHOLDERS or (minus_one and lowest == -1 and (numbers[numbers != -1] >= 0).all()):
        raise UserError(
            f"Label column '{column}' holds {lowest:g}, which looks like a placeholder; leave blank what is unknown,"
            " and number classes from 0 or name them."
        )


def _refuse_lost_digits(numbers: np.ndarray, column: str):
    """Refuse numbers whose differences networks would not see, such as dates in days with their fractions."""
    with np.errstate(over="ignore"):
        lost = np.abs(numbers.astype(np.float32).astype(float) - numbers).max()
    if numbers.min() < numbers.max() and lost > MOST_LOST * numbers.std(dtype=float):
        raise UserError(
            f"Label column '{column}' holds numbers from {numbers.min():.8g} to {numbers.max():.8g}, which float32"
            " cannot hold or tell apart well enough; subtract a constant, choose another unit or take logarithms."
        )


def _probe(config, task: Task, *, device, conduct: Conduct):
    target = task.target
    features = task_features(config, task, device)
    predict, penalty = _fit_task(config, task, features, task.subset)
    outside = weights_kind(config.weights) in ("file", "hub", "timm", "sky")  # what was loaded is said
    about: Any = {"size": task.data.sizes["y"], "report": conduct.report}
    encoder = load_encoder(config.encoder, config.weights if outside else "random", **about)
    chosen = {"penalty": penalty, "n_params": count_parameters(encoder)}
    prediction = predict(features[task.test])
    return (concentrations(prediction) if target.kind == "votes" else prediction), chosen, None


def task_features(config: FinetuneConfig, task: Task, device: torch.device) -> np.ndarray:
    """(galaxies, num_features) float32: what a linear probe sees of a task's galaxies."""
    seed = config.seed if config.weights == "random" else 0
    return survey_features(config.encoder, config.weights, task.folder, seed, device)


def _fit_task(config, task: Task, features, rows: np.ndarray, penalty=None) -> tuple[Probe, float]:
    """A probe for a task's labels, which predicts a number in its own units; see :func:`fit_probe`."""
    target, labels, mean, spread = task.target, task.target.values[rows], 0.0, 1.0
    if target.kind == "number":
        mean, spread = _scale(task.target.values[task.subset])
        labels = (labels - np.float32(mean)) / np.float32(spread)
    how = {"n_classes": target.n_classes, "schema": target.schema, "seed": config.seed}
    probe, penalty = fit_probe(features[rows], labels, penalty=penalty, **how)
    probe.mean_label, probe.spread_label = mean, spread
    return probe, penalty


def probe_model(config: FinetuneConfig, task: Task, device: torch.device) -> tuple[GalaxyModel, np.ndarray | None]:
    """The network that a linear probe is, and for each of its training labels what a probe without it would predict.

    Returns
    -------
    model : GalaxyModel
        The encoder with the probe as its last layer, equal to the run's own to rounding errors.
    left_out : (n_train, ...) array
        Raw predictions for ``task.subset``, each by a probe of the same penalty on the other folds.
    """
    features = task_features(config, task, device)
    probe, penalty = _fit_task(config, task, features, task.subset)
    torch.manual_seed(mix(config.seed if config.weights == "random" else 0, "weights"))
    encoder = load_encoder(config.encoder, config.weights, size=task.data.sizes["y"])
    head = _bare_head(task.target, encoder.num_features, probe.mean_label, probe.spread_label, linear=True)
    with torch.no_grad():
        weight, bias = probe.folded()
        head.linear.weight.copy_(weight.T.reshape(head.linear.weight.shape))
        head.linear.bias.copy_(bias)
    left_out: np.ndarray | None = None
    fold = folds(len(task.subset), config.seed)
    for held in range(fold.max() + 1):
        rows = task.subset[fold == held]
        outputs = _fit_task(config, task, features, task.subset[fold != held], penalty)[0](features[rows])
        found = (concentrations(outputs) if task.target.kind == "votes" else outputs).numpy()
        left_out = np.zeros((len(fold), *found.shape[1:]), np.float32) if left_out is None else left_out
        left_out[fold == held] = found
    return GalaxyModel(encoder, head).eval(), left_out


def _bare_head(target: Target, n_features: int, mean=0.0, spread=1.0, *, linear=False, dropout=0.0):
    """A head for a task. A linear probe predicts fractions without bounds, as it was fitted."""
    if target.schema is not None:
        return DirichletHead(n_features, len(target.schema.label_cols), dropout=dropout)
    if target.n_classes is not None:
        return ClassHead(n_features, target.n_classes, dropout=dropout)
    if target.kind == "number" or linear:
        return NumberHead(n_features, mean=mean, spread=spread, dropout=dropout)
    return RegressionHead(n_features, dropout=dropout)


def _scale(labels: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the training labels."""
    return float(labels.mean(dtype=float)), float(labels.std(dtype=float))


def train_all(
    config: FinetuneConfig,
    task: Task,
    device: torch.device,
    conduct: Conduct = USUAL,
    checkpoint: Path | None = None,
    key: str = "",
) -> tuple[torch.Tensor, dict, GalaxyModel]:
    """Full finetuning: all weights learn from ``task.subset``, of which a part chooses the best epoch.

    Parameters
    ----------
    config : FinetuneConfig
    task : Task
    device, conduct, checkpoint, key
        As :func:`gzlib.training.loop.fit` takes them.

    Returns
    -------
    prediction : (n_test, ...) tensor
        For ``task.test``: logits, numbers or concentrations.
    chosen : dict
        ``n_params`` (encoder), ``history`` and ``end``.
    model : GalaxyModel
        With its best weights.
    """
    data, target, recipe = task.data, task.target, config.recipe
    images, labels, subset, held = data.images.values, target.values, task.subset, task.held
    common: dict[str, Any] = {"batch_size": recipe.batch_size, "device": device}
    train = train_loader(images, labels, subset[: -len(held)], recipe=recipe, seed=config.seed, device=device)
    val = open_loader(images, labels, held, **common)

    torch.manual_seed(mix(config.seed, "weights"))
    about = {"size": images.shape[1], "drop_path": recipe.drop_path, "report": conduct.report}
    encoder = load_encoder(config.encoder, config.weights, **about)
    scale = _scale(labels[subset]) if target.kind == "number" else (0.0, 1.0)
    head = _bare_head(target, encoder.num_features, *scale, dropout=recipe.dropout)
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = F.mse_loss
    if target.kind != "classes" and (recipe.class_weights or recipe.label_smoothing):
        raise UserError(
            f"Recipe: '{config.label}' holds no classes; 'class_weights' and 'label_smoothing' are for classes."
        )
    if target.schema is not None:
        head.start_at(mean_concentrations(labels[subset], target.schema))
        loss = VoteLoss(target.schema, device=device)
    elif target.n_classes is not None:
        loss = class_loss(labels[subset[: -len(held)]], target.n_classes, recipe, device=device)
    elif target.kind == "fraction":
        head.start_at(float(np.clip(labels[subset].mean(), 0.01, 0.99)))
    elif target.kind == "number":
        loss = head.loss
    model = placed(GalaxyModel(encoder, head), device)
    history = fit(
        model,
        loss,
        train,
        val,
        recipe=recipe,
        seed=config.seed,
        device=device,
        ids=data.id_str.values,
        checkpoint=checkpoint,
        key=key,
        conduct=conduct,
    )
    model.eval()
    with torch.no_grad():
        prediction = torch.cat([model(x).cpu() for x, _ in open_loader(images, labels, task.test, **common).plain()])
    return prediction, {"n_params": count_parameters(encoder), **history.as_metrics()}, model


def finetuned_model(config: FinetuneConfig, task: Task, state: dict[str, torch.Tensor]) -> GalaxyModel:
    """The network of a full run with its stored weights."""
    encoder = load_encoder(config.encoder, "random", size=task.data.sizes["y"])
    model = GalaxyModel(encoder, _bare_head(task.target, encoder.num_features))
    model.load_state_dict(state)
    return model.eval()


def class_loss(labels: np.ndarray, n_classes: int, recipe: Recipe, *, device: torch.device):
    """The loss of logits (n, n_classes) and classes (n,), the mean over galaxies, with the recipe's extras.

    Parameters
    ----------
    labels : (n_train,) int64
        Of the galaxies trained on. With class weights, each class present among them weighs the same in all.
    """
    if not (recipe.class_weights or recipe.label_smoothing):
        return F.cross_entropy
    counts = np.bincount(labels, minlength=n_classes)
    balanced = len(labels) / np.maximum(counts, 1) / np.count_nonzero(counts)
    weight = torch.from_numpy(balanced if recipe.class_weights else np.ones(n_classes)).float().to(device)

    def loss(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        each = F.cross_entropy(logits, classes, label_smoothing=recipe.label_smoothing, reduction="none")
        return (weight[classes] * each).mean()

    return loss
