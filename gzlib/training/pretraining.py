"""One pretraining run: from a survey's votes to an encoder and its test loss, question by question."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from gzlib.config import USUAL, Conduct, Objective, PretrainConfig, SurveySpec
from gzlib.data.curation import make_survey
from gzlib.data.floor import survey_floor
from gzlib.data.loader import Loader, mix, open_loader
from gzlib.data.schema import Schema, load_schema
from gzlib.data.survey import open_survey, open_truth, seeded_order, training_subset
from gzlib.errors import UserError
from gzlib.models.encoders import count_parameters, placed
from gzlib.models.heads import DirichletHead, GalaxyModel, JointHead
from gzlib.models.weights import load_encoder
from gzlib.training import distributed
from gzlib.training.distributed import autocast
from gzlib.training.loop import fit, train_loader
from gzlib.training.loss import VoteLoss, summarise_questions
from gzlib.training.store import pack_per_galaxy

# Concentration of the constant prediction from which training starts; about what a small network ends with.
START_CONCENTRATION = 8.0


def pretrain(
    config: PretrainConfig,
    survey: SurveySpec,
    *,
    device: torch.device,
    conduct: Conduct = USUAL,
    checkpoint: Path | None = None,
    key: str = "",
):
    """Train on ``config.n_train`` galaxies and measure the loss on the test split.

    Parameters
    ----------
    config : PretrainConfig
    survey : SurveySpec
    device : torch.device
    conduct, checkpoint, key
        See :func:`gzlib.training.loop.fit`.

    Returns
    -------
    metrics : dict
        ``loss`` (test loss a galaxy, summed over questions), ``loss_se`` (its standard error over test galaxies),
        ``questions`` (test loss of each question, mean over the galaxies asked), ``asked`` (how many those are),
        ``baseline`` (test loss of predicting the training set's mean answers), ``floor`` (of a perfect predictor,
        known for simulated galaxies only), ``schema``, ``n_params`` (encoder), ``history`` and ``end`` (see
        :meth:`gzlib.training.loop.History.as_metrics`).
    test : dict
        The loss of each test galaxy, see :func:`gzlib.training.store.pack_per_galaxy`.
    model : GalaxyModel
    """
    folder = distributed.made_once(lambda: make_survey(survey))
    data = open_survey(folder)
    if "votes" not in data:
        raise UserError(f"Survey '{survey.source}' has no votes to pretrain on; use it with 'finetune'.")
    schema, votes, images = load_schema(data.attrs["schema"]), data.votes.values, data.images.values
    subset = training_subset(data, config.n_train, seed=config.seed)
    splits = {name: np.flatnonzero(data.split.values == name) for name in ("val", "test")}
    recipe, objective = config.recipe, config.objective
    structure = visible_structure(folder, subset) if objective.structure else np.zeros((len(votes), 0), np.float32)
    labels = np.hstack([votes, structure], dtype=np.float32) if structure.size else votes
    train = train_loader(images, labels, subset, recipe=recipe, seed=config.seed, device=device)
    common: dict[str, Any] = {"batch_size": recipe.batch_size, "device": device}
    val = open_loader(images, labels, watched_galaxies(data, splits["val"], recipe.watch), **common)
    test = open_loader(images, votes, splits["test"], **common)

    torch.manual_seed(mix(config.seed, "weights"))
    about = {"size": images.shape[1], "drop_path": recipe.drop_path, "report": conduct.report}
    encoder = load_encoder(config.encoder, config.weights, **about)
    head = DirichletHead(encoder.num_features, len(schema.label_cols), dropout=recipe.dropout)
    constant = mean_concentrations(votes[subset], schema)
    head.start_at(constant)
    joint = JointHead(head, encoder.num_features, structure.shape[1]) if structure.size else None
    model = placed(GalaxyModel(encoder, joint or head), device)
    loss = VoteLoss(schema, device=device)
    minimised = _weighted(loss, objective, votes.shape[1]) if structure.size or objective.votes != 1 else loss
    own = {"checkpoint": checkpoint, "key": key, "conduct": conduct, "ids": data.id_str.values}
    history = fit(model, minimised, train, val, recipe=recipe, seed=config.seed, device=device, **own)

    if joint:
        model.head = joint.votes  # what was learned beside the votes is in the encoder
    metrics, per_galaxy = question_losses(model, loss, test, schema, device=device, precision=recipe.precision)
    metrics["baseline"] = _constant_loss(constant, loss, test, device=device)
    metrics["floor"] = survey_floor(folder) if data.attrs["simulated"] else None
    metrics["schema"] = survey.schema or data.attrs["schema"]  # an own tree by the name that was given
    metrics["n_params"] = count_parameters(encoder)
    metrics |= history.as_metrics()
    return metrics, pack_per_galaxy(per_galaxy, what="loss"), model


def watched_galaxies(data, val: np.ndarray, watch: int) -> np.ndarray:
    """At most so many of the validation galaxies ``val``, the same for every run on a survey; all where it is 0."""
    return np.sort(val[seeded_order(data.id_str.values[val], 0)[:watch]]) if watch else val


def visible_structure(folder: Path, rows: np.ndarray) -> np.ndarray:
    """(galaxies, k) float32: the known visible structure of simulated galaxies, standardised over ``rows``.

    Raises
    ------
    UserError
        If the galaxies are real, so that it is unknown.
    """
    truth = open_truth(folder).filter(like="visible_")
    values = truth.to_numpy(np.float32)
    mean, sd = values[rows].mean(0), values[rows].std(0)
    varies = sd > 1e-6
    return (values[:, varies] - mean[varies]) / sd[varies]


def _weighted(loss: VoteLoss, objective: Objective, answers: int):
    """The objective's weighted sum, as a function of predictions and labels (n, answers + k)."""

    def minimised(prediction: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        total = objective.votes * loss(prediction[:, :answers], labels[:, :answers])
        if labels.shape[1] > answers:
            total = total + objective.structure * F.mse_loss(prediction[:, answers:], labels[:, answers:])
        return total

    return minimised


def mean_concentrations(votes: np.ndarray, schema: Schema) -> np.ndarray:
    """(answers,) concentrations with the mean answer fractions of (galaxies, answers) votes, one added to each."""
    counts = votes.sum(0) + 1.0
    totals = np.add.reduceat(counts, [q.columns.start for q in schema.questions])
    return START_CONCENTRATION * counts / totals[schema.question_of_answer]


@torch.no_grad()
def question_losses(
    model, loss: VoteLoss, loader: Loader, schema: Schema, *, device: torch.device, precision: str = "auto"
):
    """Loss of a model over a loader's galaxies.

    Returns
    -------
    metrics : dict
        The mean in all with its standard error, and for each question over the galaxies asked.
    per_galaxy : (n,) float64 array
        Summed over questions.
    """
    model.eval()
    parts, seen = [], 0
    for images, votes in loader.plain():
        with autocast(device, precision):
            concentrations = model(images)
        value, galaxy, question = (t.cpu() for t in loss.asked(concentrations.float(), votes))
        parts.append((value, galaxy + seen, question))
        seen += len(votes)
    value, galaxy, question = map(torch.cat, zip(*parts, strict=True))
    return summarise_questions(value, galaxy, question, seen, schema)


def _constant_loss(concentrations: np.ndarray, loss: VoteLoss, loader: Loader, *, device: torch.device) -> float:
    row = torch.from_numpy(concentrations).float().to(device)
    total = sum(loss(row.expand(len(votes), -1), votes).item() * len(votes) for _, votes in loader.plain())
    return total / len(loader)
