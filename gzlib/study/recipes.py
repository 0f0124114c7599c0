"""The study's recipe: one for all training sets, with a rule over families and widths for what has to differ.

A run goes on at a constant rate until the running average of its weights no longer gets better on the validation
galaxies, so that its length is found and not chosen. The numbers come from ``benchmarks/recipe.py``: found on two sizes
of one family and checked on others.
"""

from collections.abc import Callable
from dataclasses import replace

from gzlib.config import Recipe
from gzlib.errors import UserError

STUDY = Recipe(
    learning_rate=1e-2,
    schedule="constant",
    warmup_examples=12_800,
    epochs=160.0,
    average=9.0,
    spacing=0.15,
    patience=2,
    watch=2_000,
    dropout=0.5,
    precision="bfloat16",
)
# By the first word of an encoder's name, what is not as above.
FAMILIES = {
    "convnext": {"learning_rate": 3e-3},
}


def study_recipe(encoder: str, n_train: int) -> Recipe:
    """The study's recipe for an encoder and so many training galaxies."""
    return replace(STUDY, **FAMILIES.get(encoder.split("_")[0], {}))


def recipe_rule(name: str) -> Callable[[str, int], Recipe]:
    """The rule that a plan names; there is one, ``study``."""
    if name != "study":
        raise UserError(f"Unknown rule '{name}' for recipes; there is 'study'.")
    return study_recipe
