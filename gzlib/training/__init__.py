"""Pretraining and finetuning runs, and the store that keeps them."""

from gzlib.training.config import FINETUNING, FinetuneConfig, PretrainConfig, Recipe
from gzlib.training.make import key_of, make_again, run
from gzlib.training.results import load_runs
from gzlib.training.runs import stored_records
from gzlib.training.sweep import missing, sweep

__all__ = [
    "FINETUNING",
    "FinetuneConfig",
    "PretrainConfig",
    "Recipe",
    "key_of",
    "load_runs",
    "make_again",
    "missing",
    "run",
    "stored_records",
    "sweep",
]
