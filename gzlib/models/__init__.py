"""Encoders, heads and starting weights."""

from gzlib.models.encoders import LADDER, Encoder, build_encoder, count_parameters
from gzlib.models.heads import ClassHead, DirichletHead, GalaxyModel, RegressionHead
from gzlib.models.weights import load_encoder

__all__ = [
    "LADDER",
    "ClassHead",
    "DirichletHead",
    "Encoder",
    "GalaxyModel",
    "RegressionHead",
    "build_encoder",
    "count_parameters",
    "load_encoder",
]
