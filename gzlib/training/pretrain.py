"""One pretraining run: from a survey's votes to an encoder and its test loss, question by question."""

import numpy as np
import torch

from gzlib.data.curate import SurveySpec
from gzlib.data.floor import survey_floor
from gzlib.data.loader import Loader
from gzlib.data.mapped import open_loader
from gzlib.data.schema import Schema, load_schema
from gzlib.data.seeds import mix
from gzlib.data.survey import open_survey, training_subset
from gzlib.errors import UserError
from gzlib.models import DirichletHead, GalaxyModel, count_parameters, load_encoder
from gzlib.models.encoders import refuse_small_pictures
from gzlib.training import distributed
from gzlib.training.config import PretrainConfig
from gzlib.training.device import autocast
from gzlib.training.loop import fit, train_loader
from gzlib.training.loss import VoteLoss

# Concentration of the constant prediction from which training starts; about what a small network ends with.
START_CONCENTRATION = 8.0


def pretrain(config: PretrainConfig, survey: SurveySpec, *, device: torch.device, **conduct):
    """Train on ``config.n_train`` galaxies and measure the loss on the test split.

    Parameters
    ----------
    config : PretrainConfig
    survey : SurveySpec
    device : torch.device
    **conduct
        How the training is carried out, which changes nothing of its result: ``checkpoint``, ``key``, ``report``,
        ``live``, ``compile``, ``log`` of :func:`gzlib.training.loop.fit`.

    Returns
    -------
    metrics : dict
        ``loss`` (test loss a galaxy, summed over questions), ``loss_se`` (its standard error over test galaxies),
        ``questions`` (test loss of each question, mean over the galaxies asked), ``asked`` (how many those are),
        ``baseline`` (test loss of predicting the training set's mean answers), ``floor`` (of a perfect predictor,
        known for simulated galaxies only), ``schema``, ``n_params`` (encoder), ``history``.
    model : GalaxyModel
    """
    folder = distributed.made_once(survey.make)
    data = open_survey(folder)
    if "votes" not in data:
        raise UserError(f"Survey '{survey.source}' has no votes to pretrain on; use it with 'finetune'.")
    schema, votes, images = load_schema(data.attrs["schema"]), data.votes.values, data.images.values
    subset = training_subset(data, config.n_train, seed=config.seed)
    splits = {name: np.flatnonzero(data.split.values == name) for name in ("val", "test")}
    recipe = config.recipe
    train = train_loader(images, votes, subset, recipe=recipe, seed=config.seed, device=device)
    common = {"batch_size": recipe.batch_size, "device": device}
    val, test = (open_loader(images, votes, splits[name], **common) for name in ("val", "test"))

    torch.manual_seed(mix(config.seed, "weights"))
    encoder = load_encoder(config.encoder, config.weights, drop_path=recipe.drop_path)
    refuse_small_pictures(encoder, images.shape[1])
    head = DirichletHead(encoder.num_features, len(schema.label_cols), dropout=recipe.dropout)
    constant = mean_concentrations(votes[subset], schema)
    head.start_at(constant)
    model = GalaxyModel(encoder, head).to(device, memory_format=torch.channels_last)
    loss = VoteLoss(schema, device=device)
    ids = data.id_str.values
    history = fit(model, loss, train, val, recipe=recipe, seed=config.seed, device=device, ids=ids, **conduct)

    metrics = question_losses(model, loss, test, schema, device=device)
    metrics["baseline"] = _constant_loss(constant, loss, test, device=device)
    metrics["floor"] = survey_floor(folder) if data.attrs["simulated"] else None
    metrics["schema"] = data.attrs["schema"]
    metrics["n_params"] = count_parameters(encoder)
    metrics["history"] = {k: getattr(history, k) for k in ("examples", "train_loss", "val_loss")}
    return metrics, model


def mean_concentrations(votes: np.ndarray, schema: Schema) -> np.ndarray:
    """(answers,) concentrations with the mean answer fractions of (galaxies, answers) votes, one added to each."""
    counts = votes.sum(0) + 1.0
    totals = np.add.reduceat(counts, [q.columns.start for q in schema.questions])
    return START_CONCENTRATION * counts / totals[schema.question_of_answer]


@torch.no_grad()
def question_losses(model, loss: VoteLoss, loader: Loader, schema: Schema, *, device: torch.device) -> dict:
    """Mean loss of a model over a loader's galaxies: in all, with its standard error, and for each question."""
    model.eval()
    sums = torch.zeros(loss.n_questions, dtype=torch.float64)
    asked = torch.zeros(loss.n_questions, dtype=torch.int64)
    galaxies = []
    for images, votes in loader.plain():
        with autocast(device):
            concentrations = model(images)
        value, galaxy, question = (t.cpu() for t in loss.asked(concentrations.float(), votes))
        sums.index_add_(0, question, value.double())
        asked += torch.bincount(question, minlength=loss.n_questions)
        galaxies.append(torch.zeros(len(votes), dtype=torch.float64).index_add_(0, galaxy, value.double()))
    per_galaxy = torch.cat(galaxies)
    names = [q.name for q in schema.questions]
    mean = (sums / asked.clamp(min=1)).tolist()
    return {
        "loss": per_galaxy.mean().item(),
        "loss_se": (per_galaxy.std() / len(per_galaxy) ** 0.5).item(),
        "questions": {name: m for name, m, n in zip(names, mean, asked.tolist(), strict=True) if n},
        "asked": {name: n for name, n in zip(names, asked.tolist(), strict=True) if n},
    }


def _constant_loss(concentrations: np.ndarray, loss: VoteLoss, loader: Loader, *, device: torch.device) -> float:
    row = torch.from_numpy(concentrations).float().to(device)
    total = sum(loss(row.expand(len(votes), -1), votes).item() * len(votes) for _, votes in loader.plain())
    return total / len(loader)
