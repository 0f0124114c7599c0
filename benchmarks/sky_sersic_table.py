"""Make gzlib/sky/calibration/sersic_gaussians.json: fit Gaussian mixtures to Sersic profiles, and report the error."""

import json
import os

import numpy as np
from scipy.optimize import nnls
from scipy.special import gammainc, gammaincinv

from gzlib.sky.render import TABLE

N_GAUSSIANS = 8


def enclosed_light(index: float, radius: np.ndarray) -> np.ndarray:
    """Share of a Sersic profile's light inside each radius (in half-light radii)."""
    b = gammaincinv(2 * index, 0.5)
    return gammainc(2 * index, b * radius ** (1 / index))


def fit(index: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Widths, flux shares and the worst error of the enclosed light for one Sersic index."""
    radius = np.geomspace(1e-3, 12, 400)
    target, best = enclosed_light(index, radius), None
    for low in np.geomspace(0.01, 0.6, 16):
        for high in np.geomspace(1.0, 6.0, 16):
            sigma = np.geomspace(low, high, N_GAUSSIANS)
            basis = 1 - np.exp(-0.5 * (radius[:, None] / sigma) ** 2)
            flux, error = nnls(np.vstack([basis, 30 * np.ones(N_GAUSSIANS)]), np.append(target, 30.0))
            if best is None or error < best[0]:
                best = error, sigma, flux / flux.sum(), np.abs(basis @ flux - target).max()
    return best[1:]


if __name__ == "__main__":
    grid = np.round(np.arange(0.5, 6.01, 0.1), 1)
    fits = [fit(n) for n in grid]
    table = {
        "source": "benchmarks/sky_sersic_table.py; non-negative least squares on the enclosed light",
        "index": grid.tolist(),
        "sigma": [[round(float(v), 6) for v in s] for s, _, _ in fits],
        "flux": [[round(float(v), 7) for v in f] for _, f, _ in fits],
    }
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    temporary = TABLE.with_suffix(".tmp")
    temporary.write_text(json.dumps(table, indent=1) + "\n")
    os.replace(temporary, TABLE)
    print("worst error of the enclosed light", max(e for _, _, e in fits))
