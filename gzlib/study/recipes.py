"""The study's recipe: a run goes on until it no longer gets better, with a rule for what regularises it.

The optimizer is schedule-free: its rate stays constant, and what is validated and kept is its average of the weights. A
run ends when that has not improved while the run grew by a third, so that its length is found and not chosen. Few
galaxies and wide encoders need more regularisation; the rule says how much. Its numbers were found on two widths at
1,000 and 4,000 galaxies, and checked on others; ``benchmarks/recipe.py`` compares the recipe with what it could have
been.
"""

import math
import re
from collections.abc import Callable
from dataclasses import replace

from gzlib.config import Recipe
from gzlib.errors import UserError

STUDY = Recipe(
    optimizer="schedule-free",
    learning_rate=2e-2,
    schedule="constant",
    warmup_examples=12_800,
    spacing=0.15,
    patience=2,
    watch=2_000,
    precision="bfloat16",
)
# By the first word of an encoder's name, what is not as above. Without batch norm the rate has to be lower; depthwise
# convolutions gain nothing from bfloat16 on a CPU.
FAMILIES = {"convnext": {"learning_rate": 3e-3, "precision": "float32"}}
DROPOUT, STRONGEST_AT = 0.5, 1_000  # of the features; from so many galaxies on it falls with the root of their number
# Most epochs, a guard that few runs should meet: from so many galaxies on it falls with the cube root of their number.
EPOCHS, MOST_UP_TO = 160.0, 4_000
DROP_PATH, NONE_AT = 0.1, 8  # more for each doubling of the width from this one on


def study_recipe(encoder: str, n_train: int) -> Recipe:
    """The study's recipe for an encoder and so many training galaxies."""
    few = min(1.0, math.sqrt(STRONGEST_AT / n_train))
    width = re.fullmatch(r"\w+_w(\d+)", encoder)
    doublings = max(0.0, math.log2(int(width[1]) / NONE_AT)) if width else 1.0
    regularised = {"dropout": DROPOUT * few, "drop_path": DROP_PATH * doublings * few}
    regularised = {name: round(value, 3) for name, value in regularised.items()}  # as a plan would write them
    epochs = float(round(EPOCHS * min(1.0, (MOST_UP_TO / n_train) ** (1 / 3))))
    return replace(STUDY, epochs=epochs, **regularised, **FAMILIES.get(encoder.split("_")[0], {}))


def recipe_rule(name: str) -> Callable[[str, int], Recipe]:
    """The rule that a plan names; there is one, ``study``."""
    if name != "study":
        raise UserError(f"Unknown rule '{name}' for recipes; there is 'study'.")
    return study_recipe
