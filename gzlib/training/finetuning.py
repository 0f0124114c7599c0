"""One downstream run: a pretrained encoder learns a task from a number of labels."""

import numpy as np
import torch
import torch.nn.functional as F

from gzlib.config import FinetuneConfig, SurveySpec
from gzlib.data.curation import make_survey
from gzlib.data.loader import mix, open_loader
from gzlib.data.survey import open_survey, training_subset
from gzlib.errors import UserError
from gzlib.models.encoders import count_parameters, refuse_small_pictures
from gzlib.models.heads import ClassHead, GalaxyModel, RegressionHead
from gzlib.models.weights import load_encoder
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
        ``error`` (1 - accuracy, or root mean square error of a fraction), ``loss`` (cross-entropy or mean square
        error), ``n_test``, ``n_classes`` (0 for a fraction), ``n_params`` (encoder), and what was chosen.
    test : dict
        Whether each test galaxy's class was found, or its squared error.
    model : GalaxyModel or None
        None for a linear probe.
    """
    folder = distributed.made_once(lambda: make_survey(survey))
    data = open_survey(folder)
    labels, n_classes = task_labels(data, config.label)
    subset = training_subset(data, config.n_train, seed=config.seed)
    test = np.flatnonzero(data.split.values == "test")
    if n_classes and len(np.unique(labels[subset])) < 2:
        raise UserError(f"Task '{config.task}': {config.n_train} labels hold one class only; use more labels.")
    solve = _probe if config.mode == "linear" else _train_all
    prediction, chosen, model = solve(config, folder, data, labels, n_classes, subset, test, device=device, **conduct)
    target = torch.from_numpy(labels[test])
    if n_classes:
        loss = F.cross_entropy(prediction, target).item()
        right = prediction.argmax(1) == target
        error = 1 - right.float().mean().item()
        per_galaxy = pack_per_galaxy(right.numpy(), what="right")
    else:
        squared = (prediction - target).square()
        loss = squared.mean().item()
        error = loss**0.5
        per_galaxy = pack_per_galaxy(squared.numpy(), what="squared_error")
    metrics = {"error": error, "loss": loss, "n_test": len(test), "n_classes": n_classes or 0, **chosen}
    return metrics, per_galaxy, model


def task_labels(data, column: str) -> tuple[np.ndarray, int | None]:
    """Labels of every galaxy: (int64 classes from 0, how many) or (float32 in 0..1, None).

    Raises
    ------
    UserError
        If the column is missing or its values are neither classes nor fractions.
    """
    if column not in data:
        known = [name for name in data.data_vars if data[name].dims == ("galaxy",)]
        raise UserError(f"The survey has no label column '{column}'; it has {known}.")
    values = data[column].values
    if np.issubdtype(values.dtype, np.integer):
        classes = np.unique(values)
        if classes.min() < 0:
            raise UserError(f"Label column '{column}' has negative classes ({classes.min()}); number them from 0.")
        return values.astype(np.int64), int(classes.max()) + 1
    if not np.issubdtype(values.dtype, np.floating) or not ((values >= 0) & (values <= 1)).all():
        raise UserError(f"Label column '{column}' must hold whole classes from 0, or fractions between 0 and 1.")
    return values.astype(np.float32), None


def _probe(config, folder, data, labels, n_classes, subset, test, *, device, **conduct):
    seed = config.seed if config.weights == "random" else 0
    features = survey_features(config.encoder, config.weights, folder, seed, device)
    predict, penalty = fit_probe(features[subset], labels[subset], n_classes=n_classes, seed=config.seed)
    encoder = load_encoder(config.encoder, "random")
    return predict(features[test]), {"penalty": penalty, "n_params": count_parameters(encoder)}, None


def _train_all(config, folder, data, labels, n_classes, subset, test, *, device, **conduct):
    images, recipe = data.images.values, config.recipe
    held = max(1, round(HELD_OUT * len(subset)))
    common = {"batch_size": recipe.batch_size, "device": device}
    train = train_loader(images, labels, subset[:-held], recipe=recipe, seed=config.seed, device=device)
    val = open_loader(images, labels, subset[-held:], **common)

    torch.manual_seed(mix(config.seed, "weights"))
    encoder = load_encoder(config.encoder, config.weights, drop_path=recipe.drop_path)
    refuse_small_pictures(encoder, images.shape[1])
    if n_classes:
        head = ClassHead(encoder.num_features, n_classes, dropout=recipe.dropout)
    else:
        head = RegressionHead(encoder.num_features, dropout=recipe.dropout)
        head.start_at(float(np.clip(labels[subset].mean(), 0.01, 0.99)))
    model = GalaxyModel(encoder, head).to(device, memory_format=torch.channels_last)
    history = fit(
        model,
        F.cross_entropy if n_classes else F.mse_loss,
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
