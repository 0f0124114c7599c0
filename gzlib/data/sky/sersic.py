"""Sersic profiles as sums of Gaussians, so that a point-spread function is folded in exactly by adding variances."""

import json
from functools import cache

import numpy as np

from gzlib import paths

TABLE = paths.DATA / "calibration" / "sersic_gaussians.json"


@cache
def gaussians() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mixtures that stand for Sersic profiles (the method of Hogg & Lang 2013, PASP 125, 719).

    Returns
    -------
    index : (m,) Sersic indices of the table
    sigma : (m, k) widths in units of the half-light radius
    flux : (m, k) shares of the total flux, each row summing to 1
    """
    table = json.loads(TABLE.read_text())
    return np.array(table["index"]), np.array(table["sigma"]), np.array(table["flux"])


def nearest(index: np.ndarray) -> np.ndarray:
    """Row of the table nearest to each Sersic index."""
    grid = gaussians()[0]
    return np.clip(np.rint((index - grid[0]) / (grid[1] - grid[0])), 0, len(grid) - 1).astype(np.int64)
