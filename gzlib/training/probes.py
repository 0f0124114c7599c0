"""Linear probes: what an encoder's frozen features tell without changing them."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from gzlib.data.loader import mix, open_loader
from gzlib.data.schema import Schema
from gzlib.data.survey import open_survey
from gzlib.models.encoders import placed
from gzlib.models.heads import DirichletHead, concentrations
from gzlib.models.weights import load_encoder
from gzlib.training.loss import VoteLoss
from gzlib.training.pretraining import mean_concentrations

# Candidates for the L2 penalty, per feature and mean over galaxies; the range covers 20 to 20,000 labels.
PENALTIES = tuple(10.0 ** np.arange(-5, 1.1, 1.0))
FOLDS = 5
LEAST_SPREAD = 0.3  # of a feature's standard deviation, in units of the mean over features


@functools.lru_cache(maxsize=2)  # a sweep probes the same features at many label counts
def survey_features(encoder_name: str, weights: str, folder: Path, seed: int, device: torch.device) -> np.ndarray:
    """(galaxies, num_features) float32: an encoder's features of every galaxy of a curated survey, plain views.

    ``seed`` matters for random weights only.
    """
    data = open_survey(folder)
    torch.manual_seed(mix(seed, "weights"))
    encoder = load_encoder(encoder_name, weights, size=data.images.shape[1])
    encoder = placed(encoder, device).eval()
    galaxies = data.sizes["galaxy"]
    loader = open_loader(data.images.values, np.zeros(galaxies), np.arange(galaxies), batch_size=256, device=device)
    with torch.no_grad():
        return torch.cat([encoder(images).float().cpu() for images, _ in loader.plain()]).numpy()


class Probe:
    """A linear model on features that were standardised.

    Parameters
    ----------
    mean, std : (num_features,) float32
        Of the features.
    weight, bias : (num_features, outputs) or (num_features,), and (outputs,) or a number
    """

    mean_label, spread_label = 0.0, 1.0

    def __init__(self, mean: torch.Tensor, std: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor):
        self.mean, self.std, self.weight, self.bias = mean, std, weight, bias

    def __call__(self, new: np.ndarray) -> torch.Tensor:
        """(m, num_features) -> (m, outputs) or (m,)."""
        found = ((torch.from_numpy(new) - self.mean) / self.std / new.shape[1] ** 0.5) @ self.weight + self.bias
        if (self.mean_label, self.spread_label) != (0.0, 1.0):
            found = found * self.spread_label + self.mean_label
        return found

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias of the same model on features as they are, in units of the labels' spread."""
        wide = self.weight.double().reshape(len(self.mean), -1)
        weight = wide / (self.std.double() * len(self.mean) ** 0.5)[:, None]
        bias = self.bias.double() - self.mean.double() @ weight
        return weight.float(), bias.float()


def folds(n: int, seed: int) -> np.ndarray:
    """(n,) int: the fold of each label, by chance."""
    return np.random.default_rng(seed).permutation(n) % min(FOLDS, n)


def fit_probe(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    n_classes: int | None,
    seed: int,
    schema: Schema | None = None,
    penalty: float | None = None,
) -> tuple[Probe, float]:
    """A penalised linear model on features; the penalty is chosen by cross-validation within these labels alone.

    Parameters
    ----------
    features : (n, num_features) float32
    labels : (n,) int64 classes, or float targets where ``n_classes`` is None (ridge regression), or (n, answers) votes
    n_classes : int or None
    seed : int
        Of the folds.
    schema : Schema, optional
        Of the votes; the model then gives what :func:`gzlib.models.heads.concentrations` takes.
    penalty : float, optional
        To use this one.

    Returns
    -------
    predict : Probe
        (m, num_features) -> (m, n_classes) logits, or (m,) numbers.
    penalty : float
    """
    if penalty is None:
        fold = folds(len(labels), seed)
        losses = []
        for held in range(fold.max() + 1):
            solve = _solver(features[fold != held], labels[fold != held], n_classes, schema)
            new, truth = features[fold == held], labels[fold == held]
            losses.append([_loss(solve(penalty)(new), truth, n_classes, schema) for penalty in PENALTIES])
        penalty = PENALTIES[int(np.argmin(np.mean(losses, axis=0)))]
    return _solver(features, labels, n_classes, schema)(penalty), penalty


def _loss(prediction: torch.Tensor, labels: np.ndarray, n_classes: int | None, schema: Schema | None) -> float:
    target = torch.from_numpy(labels)
    if schema is not None:
        return VoteLoss(schema)(concentrations(prediction), target).item()
    if n_classes is None:
        return (prediction - target).square().mean().item()
    return torch.nn.functional.cross_entropy(prediction, target).item()


def _solver(
    features: np.ndarray, labels: np.ndarray, n_classes: int | None, schema: Schema | None
) -> Callable[[float], Probe]:
    """The probe of these galaxies at each penalty; what all penalties need is computed once."""
    x = torch.from_numpy(features)
    mean, std = x.mean(0), x.std(0, correction=0)
    # A feature that hardly varies among few galaxies may vary a lot among the others: it is not blown up to match.
    std = std.clamp(min=float(LEAST_SPREAD * std.mean()) or 1.0)
    x = (x - mean) / std / x.shape[1] ** 0.5  # so that one penalty means the same for narrow and wide encoders
    target = torch.from_numpy(labels)
    if schema is not None:
        solve = _dirichlet(x, target, schema)
    elif n_classes is None:
        solve = _ridge(x.double(), target.double())
    else:
        solve = _logistic(x, target, n_classes)
    return lambda penalty: Probe(mean, std, *solve(penalty))


Solved = tuple[torch.Tensor, torch.Tensor]  # weight and bias


def _ridge(x: torch.Tensor, target: torch.Tensor) -> Callable[[float], Solved]:
    """Through the galaxies' Gram matrix, which is the smaller one when labels are few."""
    centred, gram = target - target.mean(), x @ x.T
    identity = torch.eye(len(x), dtype=x.dtype)

    def solve(penalty: float) -> Solved:
        dual = torch.linalg.solve(gram + penalty * len(x) * identity, centred)
        return (x.T @ dual).float(), target.mean().float()

    return solve


def _logistic(x: torch.Tensor, target: torch.Tensor, n_classes: int) -> Callable[[float], Solved]:
    return _minimiser(lambda outputs: torch.nn.functional.cross_entropy(outputs, target), x, torch.zeros(n_classes))


def _dirichlet(x: torch.Tensor, votes: torch.Tensor, schema: Schema) -> Callable[[float], Solved]:
    head, loss = DirichletHead(1, votes.shape[1]), VoteLoss(schema)
    head.start_at(mean_concentrations(votes.numpy(), schema))
    return _minimiser(lambda outputs: loss(concentrations(outputs), votes), x, head.linear.bias.detach())


def _minimiser(
    loss_of: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, start: torch.Tensor
) -> Callable[[float], Solved]:
    """Weight and bias of the linear model on ``x`` with the least loss and penalty; the bias begins at ``start``.

    The best weight is a sum over galaxies of their features, so that with fewer galaxies than features it is sought in
    their span alone: the same steps of the optimizer, in a fraction of the time.
    """
    span = torch.linalg.qr(x.T).Q if len(x) < x.shape[1] else None
    # Narrow products run several times as fast in this order, those of the gradient in the other: see the hook.
    columns = (x if span is None else x @ span).T.contiguous()

    def solve(penalty: float) -> Solved:
        weight = torch.zeros(len(start), len(columns), requires_grad=True)
        bias = start.clone().requires_grad_()
        optimiser = torch.optim.LBFGS(
            [weight, bias], max_iter=100, tolerance_change=1e-7, line_search_fn="strong_wolfe"
        )

        def closure() -> torch.Tensor:
            optimiser.zero_grad()
            product = weight @ columns
            product.register_hook(torch.Tensor.contiguous)  # its product with the columns is ten times as fast
            loss = loss_of(product.T + bias) + 0.5 * penalty * weight.square().sum()
            loss.backward()
            return loss

        optimiser.step(closure)
        found = weight.detach().T.contiguous()
        return (found if span is None else span @ found), bias.detach()

    return solve
