"""Heads on top of an encoder: vote concentrations, classes, a number."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from gzlib.data.schema import Schema
from gzlib.models.encoders import Encoder

# Zoobot 2.0's parametrisation: every concentration lies in (1, 101).
CONCENTRATION_RANGE, CONCENTRATION_MIN = 100.0, 1.0
LEVELS = (0.5, 0.8, 0.95)  # of the intervals that are calibrated


def concentrations(outputs: torch.Tensor) -> torch.Tensor:
    """Outputs of a linear layer, (..., answers), as concentrations in (1, 101), in float32."""
    return torch.sigmoid(outputs.float()) * CONCENTRATION_RANGE + CONCENTRATION_MIN


def split_questions(values: np.ndarray, others: np.ndarray, schema: Schema) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The columns of each question, in two (n, answers) arrays."""
    return ((values[:, question.columns], others[:, question.columns]) for question in schema.questions)


class DirichletHead(nn.Module):
    """Dirichlet concentrations, one per answer: ``100 * sigmoid(linear) + 1`` (Zoobot 2.0)."""

    def __init__(self, n_features: int, n_answers: int, *, dropout: float = 0.0):
        super().__init__()
        self.dropout, self.linear = nn.Dropout(dropout), nn.Linear(n_features, n_answers)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(n, n_features) -> (n, n_answers) in (1, 101), in float32 whatever the features' precision."""
        return concentrations(self.linear(self.dropout(features)))

    @torch.no_grad()
    def start_at(self, concentrations: np.ndarray):
        """Set the biases so that an untrained network predicts these concentrations, (n_answers,), for every galaxy.

        A start at the survey's mean answers instead of 51 for every answer saves the first epochs,
        which small training sets do not have.
        """
        inside = np.clip((np.asarray(concentrations) - CONCENTRATION_MIN) / CONCENTRATION_RANGE, 1e-3, 1 - 1e-3)
        self.linear.bias.copy_(torch.from_numpy(np.log(inside / (1 - inside))))
        self.linear.weight.mul_(0.1)


class JointHead(nn.Module):
    """Vote concentrations and, beside them, numbers of any range, such as the known structure of simulated galaxies."""

    def __init__(self, votes: DirichletHead, n_features: int, n_numbers: int):
        super().__init__()
        self.votes, self.numbers = votes, nn.Linear(n_features, n_numbers)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(n, n_features) -> (n, n_answers + n_numbers)."""
        return torch.cat([self.votes(features), self.numbers(features).float()], 1)


class ClassHead(nn.Module):
    """Logits, one per class."""

    def __init__(self, n_features: int, n_classes: int, *, dropout: float = 0.0):
        super().__init__()
        self.dropout, self.linear = nn.Dropout(dropout), nn.Linear(n_features, n_classes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(n, n_features) -> (n, n_classes)."""
        return self.linear(self.dropout(features)).float()


class RegressionHead(nn.Module):
    """One number in 0..1, such as a vote fraction."""

    def __init__(self, n_features: int, *, dropout: float = 0.0):
        super().__init__()
        self.dropout, self.linear = nn.Dropout(dropout), nn.Linear(n_features, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(n, n_features) -> (n,)."""
        return torch.sigmoid(self.linear(self.dropout(features)).float()).squeeze(-1)

    @torch.no_grad()
    def start_at(self, fraction: float):
        """Set the bias so that an untrained network predicts this fraction for every galaxy."""
        self.linear.bias.fill_(float(np.log(fraction / (1 - fraction))))
        self.linear.weight.mul_(0.1)


class NumberHead(nn.Module):
    """One number on any scale, such as a magnitude, in its own units.

    Parameters
    ----------
    mean, spread : float
        Of the training labels: an untrained network predicts the mean, and learns in units of the spread.
    """

    mean: torch.Tensor
    spread: torch.Tensor

    def __init__(self, n_features: int, *, mean: float, spread: float, dropout: float = 0.0):
        super().__init__()
        self.dropout, self.linear = nn.Dropout(dropout), nn.Linear(n_features, 1)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("spread", torch.tensor(spread, dtype=torch.float32))
        with torch.no_grad():
            self.linear.bias.zero_()
            self.linear.weight.mul_(0.1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(n, n_features) -> (n,)."""
        return self.linear(self.dropout(features)).float().squeeze(-1) * self.spread + self.mean

    def loss(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean square error in units of the spread."""
        return ((prediction - target) / self.spread).square().mean()


class GalaxyModel(nn.Module):
    """An encoder with its head: images in, predictions out."""

    def __init__(self, encoder: Encoder, head: nn.Module):
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(images))
