"""Simulated volunteers: what they answer depends on what can be seen, and their votes walk each campaign's tree."""

from gzlib.data.volunteers.floor import attainable_loss, irreducible_loss
from gzlib.data.volunteers.voting import (
    answer_probabilities,
    cast_votes,
    crowd_size,
    kind_probabilities,
    reach_probabilities,
)

__all__ = [
    "answer_probabilities",
    "attainable_loss", "cast_votes", "crowd_size", "irreducible_loss", "kind_probabilities", "reach_probabilities",
]  # fmt: skip
