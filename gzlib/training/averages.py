"""The weights of a run that are validated and kept: the present ones, or an average that costs no decay of the rate."""

from copy import deepcopy

import torch
from timm.utils import ModelEmaV3
from torch import nn
from torch.optim.swa_utils import update_bn

from gzlib.config import Recipe
from gzlib.data.loader import Loader, mix
from gzlib.training.distributed import autocast

NORM_BATCHES = 16  # from which batch norms learn the mean and variance that belong to averaged weights


class Present:
    """The present weights."""

    average = None  # what a checkpoint has to hold beside the model

    def __init__(self, model: nn.Module):
        self.module = model

    def after_step(self, step: int):
        """Step ``step`` (from 0) has been made."""

    def make(self):
        """Bring :attr:`module` up to date, before a validation."""


class Running(Present):
    """Their running average over a fixed share of the run, see ``Recipe.average``."""

    def __init__(self, model: nn.Module, average: float):
        self.model = model
        # A decay of s / (average + s) in step s.
        self.average = ModelEmaV3(model, decay=1.0, use_warmup=True, warmup_gamma=average, warmup_power=1.0)
        self.module = self.average.module

    def after_step(self, step: int):
        """Take the new weights in."""
        self.average.update(self.model, step + 1)


class ScheduleFree(Present):
    """The average that the schedule-free optimizer keeps between the weights at which it takes gradients.

    Its state is the optimizer's. Batch norms saw other weights, so their statistics are taken anew from training views.
    """

    def __init__(self, model: nn.Module, optimiser, train: Loader, *, recipe: Recipe, seed: int, device: torch.device):
        super().__init__(deepcopy(model))
        self.model, self.optimiser, self.train = model, optimiser, train
        self.precision, self.seed, self.device = recipe.precision, mix(seed, "norms"), device

    @torch.no_grad()
    def make(self):
        """Compute the average, and the statistics of its batch norms."""
        self.module.load_state_dict(self.model.state_dict())
        beta = self.optimiser.param_groups[0]["betas"][0]
        for averaged, present in zip(self.module.parameters(), self.model.parameters(), strict=True):
            if "z" in (state := self.optimiser.state.get(present, {})):  # what the optimizer's own eval() does
                averaged.copy_(present.lerp(state["z"], 1 - 1 / beta))
        if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.module.modules()):
            seed_torch(self.seed, self.device)  # stochastic depth
            with autocast(self.device, self.precision):
                update_bn((self.train.batch(step)[0] for step in range(NORM_BATCHES)), self.module.train())


def seed_torch(number: int, device: torch.device):
    """Seed the generator of a device, for dropout and stochastic depth."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(number)  # torch.manual_seed looks for GPUs every time, for 0.8 ms
    else:
        torch.manual_seed(number)
