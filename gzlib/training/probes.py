"""Linear probes: what an encoder's frozen features tell without changing them."""

import functools
from pathlib import Path

import numpy as np
import torch

from gzlib.data.loader import mix, open_loader
from gzlib.data.survey import open_survey
from gzlib.models.weights import load_encoder

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
    encoder = encoder.to(device, memory_format=torch.channels_last).eval()
    galaxies = data.sizes["galaxy"]
    loader = open_loader(data.images.values, np.zeros(galaxies), np.arange(galaxies), batch_size=256, device=device)
    with torch.no_grad():
        return torch.cat([encoder(images).float().cpu() for images, _ in loader.plain()]).numpy()


def fit_probe(features: np.ndarray, labels: np.ndarray, *, n_classes: int | None, seed: int):
    """A penalised linear model on features; the penalty is chosen by cross-validation within these labels alone.

    Parameters
    ----------
    features : (n, num_features) float32
    labels : (n,) int64 classes, or float targets where ``n_classes`` is None (ridge regression)
    n_classes : int or None
    seed : int
        Of the folds.

    Returns
    -------
    predict : callable
        (m, num_features) -> (m, n_classes) logits, or (m,) numbers.
    penalty : float
    """
    fold = np.random.default_rng(seed).permutation(len(labels)) % min(FOLDS, len(labels))
    scores = []
    for penalty in PENALTIES:
        losses = []
        for held in range(fold.max() + 1):
            predict = _solve(features[fold != held], labels[fold != held], penalty, n_classes)
            losses.append(_loss(predict(features[fold == held]), labels[fold == held], n_classes))
        scores.append(np.mean(losses))
    penalty = PENALTIES[int(np.argmin(scores))]
    return _solve(features, labels, penalty, n_classes), penalty


def _loss(prediction: torch.Tensor, labels: np.ndarray, n_classes: int | None) -> float:
    target = torch.from_numpy(labels)
    if n_classes is None:
        return (prediction - target).square().mean().item()
    return torch.nn.functional.cross_entropy(prediction, target).item()


def _solve(features: np.ndarray, labels: np.ndarray, penalty: float, n_classes: int | None):
    x = torch.from_numpy(features)
    mean, std = x.mean(0), x.std(0, correction=0)
    # A feature that hardly varies among few galaxies may vary a lot among the others: it is not blown up to match.
    std = std.clamp(min=float(LEAST_SPREAD * std.mean()) or 1.0)
    x = (x - mean) / std / x.shape[1] ** 0.5  # so that one penalty means the same for narrow and wide encoders
    target = torch.from_numpy(labels)
    if n_classes is None:
        weight, bias = _ridge(x.double(), target.double(), penalty)
    else:
        weight, bias = _logistic(x, target, penalty, n_classes)
    return lambda new: ((torch.from_numpy(new) - mean) / std / new.shape[1] ** 0.5) @ weight + bias


def _ridge(x, target, penalty):
    """Through the galaxies' Gram matrix, which is the smaller one when labels are few."""
    centred = target - target.mean()
    dual = torch.linalg.solve(x @ x.T + penalty * len(x) * torch.eye(len(x), dtype=x.dtype), centred)
    return (x.T @ dual).float(), target.mean().float()


def _logistic(x, target, penalty, n_classes):
    weight = torch.zeros(x.shape[1], n_classes, requires_grad=True)
    bias = torch.zeros(n_classes, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=100, tolerance_change=1e-7, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(x @ weight + bias, target) + 0.5 * penalty * weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return weight.detach(), bias.detach()
