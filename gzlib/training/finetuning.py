"""One downstream run: a pretrained encoder learns a task from a number of labels."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from gzlib.config import FinetuneConfig, Recipe, SurveySpec
from gzlib.data.curation import make_survey
from gzlib.data.loader import mix, open_loader
from gzlib.data.sources.cells import MOST_VALUES
from gzlib.data.sources.columns import PLACEHOLDERS, holds_classes
from gzlib.data.survey import label_values, labelled, open_survey, training_subset
from gzlib.errors import UserError
from gzlib.models.encoders import count_parameters
from gzlib.models.heads import ClassHead, GalaxyModel, NumberHead, RegressionHead
from gzlib.models.weights import load_encoder, weights_kind
from gzlib.training import distributed
from gzlib.training.loop import fit, train_loader
from gzlib.training.probes import fit_probe, survey_features
from gzlib.training.store import pack_per_galaxy

# Part of the labels that full finetuning keeps aside to choose its best epoch; they count as labels used.
HELD_OUT = 0.2


def finetune(config: FinetuneConfig, survey: SurveySpec, *, device: torch.device, **conduct):
    """Learn from ``config.n_train`` labels and measure the error on the test split.

    All choices (penalty of the probe, best epoch) are made within those labels; the survey's validation split is not
    touched, so that ``n_train`` is the whole label budget.

    Returns
    -------
    metrics : dict
        ``error`` (1 - accuracy, or the root mean square error of a number in its own units), ``loss`` (cross-entropy
        or mean square error), ``n_test``, ``n_classes`` (0 for a number), ``classes`` (their names, if they have any),
        ``n_params`` (encoder), and what was chosen.
    test : dict
        Of the test galaxies with a label: whether each test galaxy's class was found, or its squared error.
    model : GalaxyModel or None
        None for a linear probe.
    """
    folder = distributed.made_once(lambda: make_survey(survey))
    data = open_survey(folder)
    target = task_target(data, config.label)
    labels, n_classes = target.values, target.n_classes
    subset = training_subset(data, config.n_train, seed=config.seed, among=target.known)
    test = np.flatnonzero((data.split.values == "test") & target.known)
    if not len(test):
        raise UserError(f"The survey of '{data.attrs['source']}' has no test galaxies with a label '{config.label}'.")
    if len(np.unique(labels[subset])) < 2:
        what = "one class only" if n_classes else "one value only"
        raise UserError(f"Task '{config.task}': {config.n_train} labels hold {what}; use more labels.")
    if "report" in conduct:
        conduct["report"](f"{config.label}: {target.words}")
    solve = _probe if config.mode == "linear" else _train_all
    prediction, chosen, model = solve(config, folder, data, target, subset, test, device=device, **conduct)
    if target.classes:
        chosen["classes"] = list(target.classes)
    truth = torch.from_numpy(labels[test])
    if n_classes:
        loss = F.cross_entropy(prediction, truth).item()
        right = prediction.argmax(1) == truth
        error = 1 - right.float().mean().item()
        per_galaxy = pack_per_galaxy(right.numpy(), what="right")
    else:
        squared = (prediction - truth).square()
        loss = squared.mean().item()
        error = loss**0.5
        per_galaxy = pack_per_galaxy(squared.numpy(), what="squared_error")
    metrics = {"error": error, "loss": loss, "n_test": len(test), "n_classes": n_classes or 0, **chosen}
    return metrics, per_galaxy, model


@dataclass(frozen=True)
class Target:
    """What a task predicts.

    Attributes
    ----------
    values : (galaxies,) int64 or float32
        Class numbers from 0, or numbers in their own units; any value where there is no label.
    known : (galaxies,) bool
        Which galaxies have a label.
    n_classes : int or None
        None for numbers.
    classes : tuple of str
        Names of the classes where they have any; () where they are numbers from 0.
    words : str
        For the screen.
    """

    values: np.ndarray
    known: np.ndarray
    n_classes: int | None
    classes: tuple[str, ...]
    words: str

    @property
    def is_fraction(self) -> bool:
        """Whether all numbers lie in 0..1."""
        known = self.values[self.known]
        return self.n_classes is None and bool(((known >= 0) & (known <= 1)).all())


def task_target(data, column: str) -> Target:
    """The labels of every galaxy: text and few whole numbers are classes, other numbers are predicted as they are.

    Raises
    ------
    UserError
        If the column is missing or empty, or its numbers are infinite or hold a placeholder such as -99.
    """
    values, known = label_values(data, column), labelled(data, column)
    if not known.any():
        raise UserError(f"Label column '{column}' holds no label at all.")
    unlabelled = "" if known.all() else f"; {(~known).sum():,} of {len(known):,} galaxies unlabelled, not trained on"
    if values.dtype.kind in "UO":
        names, number = np.unique(values[known].astype(str), return_inverse=True)
        classes = np.zeros(len(values), np.int64)
        classes[known] = number
        shown = f"{len(names)} classes ({', '.join(names[:12])}{', …' if len(names) > 12 else ''})"
        return Target(classes, known, len(names), tuple(names.tolist()), shown + unlabelled)
    numbers = values[known].astype(float)
    _refuse_placeholders(numbers, column)
    different = np.unique(numbers)
    if not holds_classes(set(different.tolist()), bool((different == np.rint(different)).all())):
        shown = f"numbers from {numbers.min():g} to {numbers.max():g}, predicted as such; the error is their RMS"
        return Target(np.where(known, values, 0).astype(np.float32), known, None, (), shown + unlabelled)
    classes = np.where(known, values, 0).astype(np.int64)
    if different.max() < MOST_VALUES:  # numbered from 0, though a class may have no galaxy here
        n_classes, names = int(different.max()) + 1, _class_names(data, column, classes, known)
    else:
        n_classes, names = len(different), tuple(f"{value:.0f}" for value in different)
        classes[known] = np.searchsorted(different, numbers)
    said = [names[int(value)] if names and n_classes > value else f"{value:g}" for value in different[:12]]
    shown = f"{len(different)} classes ({', '.join(said)}{', …' if len(different) > 12 else ''})"
    return Target(classes, known, n_classes, names, shown + unlabelled)


def _class_names(data, column: str, classes: np.ndarray, known: np.ndarray) -> tuple[str, ...]:
    """Names from ``label_name``, where every class of ``label`` has one."""
    if column != "label" or "label_name" not in data:
        return ()
    named = known & (data.label_name.values != "")
    names = dict(zip(classes[named].tolist(), data.label_name.values[named].tolist(), strict=True))
    return tuple(names.get(i, str(i)) for i in range(int(classes[known].max()) + 1))


def _refuse_placeholders(numbers: np.ndarray, column: str):
    if not np.isfinite(numbers).all():
        raise UserError(f"Label column '{column}' holds infinite numbers; leave blank what was not measured.")
    lowest = numbers.min()
    minus_one = lowest == -1 and (numbers[numbers != -1] >= 0).all()
    if lowest in PLACEHOLDERS or minus_one:
        raise UserError(
            f"Label column '{column}' holds {lowest:g}, which looks like a placeholder; leave blank what is unknown,"
            " and number classes from 0 or name them."
        )


def _probe(config, folder, data, target, subset, test, *, device, **conduct):
    seed = config.seed if config.weights == "random" else 0
    features = survey_features(config.encoder, config.weights, folder, seed, device)
    labels, mean, spread = target.values[subset], 0.0, 1.0
    if target.n_classes is None and not target.is_fraction:
        mean, spread = _scale(labels)
        labels = (labels - np.float32(mean)) / np.float32(spread)
    predict, penalty = fit_probe(features[subset], labels, n_classes=target.n_classes, seed=config.seed)
    prediction = predict(features[test])
    if (mean, spread) != (0.0, 1.0):
        prediction = prediction * spread + mean
    outside = weights_kind(config.weights) in ("file", "hub", "timm", "sky")  # what was loaded is said
    about = {"size": data.images.shape[1], "report": conduct.get("report")}
    encoder = load_encoder(config.encoder, config.weights if outside else "random", **about)
    return prediction, {"penalty": penalty, "n_params": count_parameters(encoder)}, None


def _scale(labels: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the training labels."""
    return float(labels.mean(dtype=float)), float(labels.std(dtype=float))


def _train_all(config, folder, data, target, subset, test, *, device, **conduct):
    images, labels, recipe = data.images.values, target.values, config.recipe
    held = max(1, round(HELD_OUT * len(subset)))
    common = {"batch_size": recipe.batch_size, "device": device}
    train = train_loader(images, labels, subset[:-held], recipe=recipe, seed=config.seed, device=device)
    val = open_loader(images, labels, subset[-held:], **common)

    torch.manual_seed(mix(config.seed, "weights"))
    about = {"size": images.shape[1], "drop_path": recipe.drop_path, "report": conduct.get("report")}
    encoder = load_encoder(config.encoder, config.weights, **about)
    loss = F.mse_loss
    if not target.n_classes and (recipe.class_weights or recipe.label_smoothing):
        raise UserError(
            f"Recipe: '{config.label}' holds numbers; 'class_weights' and 'label_smoothing' are for classes."
        )
    if target.n_classes:
        head = ClassHead(encoder.num_features, target.n_classes, dropout=recipe.dropout)
        loss = class_loss(labels[subset[:-held]], target.n_classes, recipe, device=device)
    elif not target.is_fraction:
        mean, spread = _scale(labels[subset])
        head = NumberHead(encoder.num_features, mean=mean, spread=spread, dropout=recipe.dropout)
        loss = head.loss
    else:
        head = RegressionHead(encoder.num_features, dropout=recipe.dropout)
        head.start_at(float(np.clip(labels[subset].mean(), 0.01, 0.99)))
    model = GalaxyModel(encoder, head).to(device, memory_format=torch.channels_last)
    history = fit(
        model,
        loss,
        train,
        val,
        recipe=recipe,
        seed=config.seed,
        device=device,
        ids=data.id_str.values,
        **conduct,
    )
    model.eval()
    with torch.no_grad():
        prediction = torch.cat([model(x).cpu() for x, _ in open_loader(images, labels, test, **common).plain()])
    return prediction, {"n_params": count_parameters(encoder), **history.as_metrics()}, model


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
