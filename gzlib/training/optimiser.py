"""The optimiser of a training run, and its learning rate from step to step."""

import math

import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn

from gzlib.errors import UserError
from gzlib.training.config import Recipe


def adamw(model: nn.Module, recipe: Recipe, *, device: torch.device) -> torch.optim.AdamW:
    """AdamW over a model's parameters, in one kernel where torch has it."""
    groups = parameter_groups(model, recipe)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=device.type in ("cpu", "cuda") or None)


def learning_rate(recipe: Recipe, step: int, last: int) -> float:
    """Learning rate of step ``step`` (from 0) of ``last``: up along a line, then down along a cosine or flat."""
    warm = max(1, round(recipe.warmup * last))
    if step < warm:
        return recipe.learning_rate * ((step + 1) / warm)
    if recipe.schedule == "constant":
        return recipe.learning_rate
    return recipe.learning_rate * (0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, last - warm))))


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict]:
    """No weight decay on biases and norms; with layer decay, a rate that falls from the head to the stem.

    Raises
    ------
    UserError
        If the encoder does not say what its layers are, and layer decay is asked for.
    """
    if recipe.layer_decay == 1.0:
        return param_groups_weight_decay(model, recipe.weight_decay)
    network = model.encoder.network
    if not hasattr(network, "group_matcher"):
        raise UserError(f"Encoder '{model.encoder.name}' names no layer groups; use layer_decay=1.")
    groups = param_groups_layer_decay(network, recipe.weight_decay, layer_decay=recipe.layer_decay)
    return groups + param_groups_weight_decay(model.head, recipe.weight_decay)
