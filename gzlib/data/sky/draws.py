"""Counter-based random numbers: each draw is a hash of (seed, survey, galaxy, stream), so no order or batch matters."""

import hashlib

import numpy as np
from scipy.special import ndtri

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea & Flood 2014), which scatters neighbouring counters."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _named(name: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little"))


class Draws:
    """Random numbers of the galaxies ``index`` of one survey.

    Parameters
    ----------
    survey : str
        Campaign or task; the same index in another survey is another galaxy.
    index : (n,) int64
        Galaxy numbers, not negative.
    seed : int
        Seed of the whole sky.
    """

    def __init__(self, survey: str, index: np.ndarray, *, seed: int):
        base = _mix(np.atleast_1d(np.uint64(seed % 2**64)) * _GOLDEN + _named(survey))
        self._key = _mix(base + (np.asarray(index).astype(np.uint64) + np.uint64(1)) * _GOLDEN)

    def __len__(self) -> int:
        return len(self._key)

    def uniform(self, stream: str, columns: int = 1) -> np.ndarray:
        """(n, columns) float64 strictly between 0 and 1, or (n,) for one column."""
        counter = np.arange(1, columns + 1, dtype=np.uint64) * _GOLDEN + _named(stream)
        bits = _mix(self._key[:, None] + _mix(counter)[None, :])
        value = ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
        return value[:, 0] if columns == 1 else value

    def between(self, stream: str, low, high) -> np.ndarray:
        return low + (high - low) * self.uniform(stream)

    def normal(self, stream: str, columns: int = 1) -> np.ndarray:
        return ndtri(self.uniform(stream, columns))

    def key32(self) -> np.ndarray:
        """(n,) int32 key with which pixel noise is hashed on the rendering device."""
        return (_mix(self._key + _named("pixels")) >> np.uint64(33)).astype(np.int32)
