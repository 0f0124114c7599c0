"""Which side of the split a galaxy is on: by the hash of its id, so it never moves when a survey grows."""

import hashlib

import numpy as np

SPLITS = ("train", "val", "test")
TEST, VAL = 0.2, 0.1  # of all galaxies; the rest trains
VAL_OF_REST = 0.2  # of the galaxies outside a published test set, as Galaxy Zoo Evo's baselines do
PUBLISHED = {"train": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}


def hash_fraction(id_str: str, salt: str = "") -> float:
    """A number in [0, 1) that depends on the id (and salt) alone: the leading 60 bits of its sha256."""
    return int(hashlib.sha256((salt + id_str).encode()).hexdigest()[:15], 16) / 16**15


def assign_split(id_str: str, published: str, mode: str) -> str:
    """``train``, ``val`` or ``test`` for one galaxy.

    With mode ``hash`` 70 / 10 / 20 % by the hash of the id. With ``source`` a galaxy that its authors test or validate
    on stays there, and the hash gives 20 % of the others to ``val``.
    """
    fraction = hash_fraction(id_str)
    if mode == "hash":
        return "test" if fraction < TEST else "val" if fraction < TEST + VAL else "train"
    side = PUBLISHED.get(published.lower(), "")
    if side in ("test", "val"):
        return side
    return "val" if fraction < VAL_OF_REST else "train"


def seeded_order(ids: np.ndarray, seed: int) -> np.ndarray:
    """(n,) int64: indices of the ids in an order that depends on each id and the seed alone.

    Adding galaxies keeps the order of those already there, so training subsets of a survey that grew keep theirs.
    """
    salt = f"{seed}:".encode()
    keys = [hashlib.blake2b(salt + str(i).encode(), digest_size=16).digest() for i in ids]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)
