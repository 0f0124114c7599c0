"""The simulated sky against GalSim: profiles behind the telescope, and speed.

    python benchmarks/sky_physics.py [--sets 50] [--galaxies 512]

Needs GalSim (``pip install .[bench]``). Prints one JSON object a line. Profiles: random Sersic galaxies (index 0.6 to
4, a third of them exponential) convolved with a Moffat PSF of slope 3, both with pixel averaging; worst flux error in
the frame, and worst difference beyond one FWHM from the centre in units of the peak. Speed: processor seconds for
64 px galaxies of the whole sky, votes included, against bulge + disc + PSF in three bands.
"""

import argparse
import json
import time

import galsim
import numpy as np
import torch

from gzlib import sky
from gzlib.sky.render import mixture

SIZE = 64


def drawn_here(p: dict) -> np.ndarray:
    """(size, size) light of one Sersic galaxy, pixel scale 1, by the Gaussian mixtures of the sky."""
    one, flux = np.ones(1), np.array([[1.0, 1.0, 1.0]])
    scene = {
        "bulge_radius": p["radius"] * one,
        "bulge_flux": flux,
        "disc_radius": one,
        "disc_flux": 0 * flux,
        "psf_fwhm": p["fwhm"] * one,
        "pixel_variance": one / 12,
        "colour_gradient": 0 * one,
    }
    structure = {
        "bulge_index": p["index"] * one,
        "bulge_q": p["q"] * one,
        "disc_q": one,
        "position_angle": p["angle"] * one,
    }
    mix = mixture(scene, structure)
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    x, y = np.meshgrid(axis, axis)
    basis = np.stack([x * x, x * y, y * y], -1)
    return np.exp(basis @ mix["quadratic"][0]) @ mix["amplitude"][0, :, 0]


def drawn_by_galsim(p: dict) -> np.ndarray:
    # galsim.Sersic knows the half-light radius along the circularised axis; sheared without area change.
    profile = galsim.Sersic(n=p["index"], half_light_radius=p["radius"] * np.sqrt(p["q"]), flux=1.0)
    profile = profile.shear(q=p["q"], beta=p["angle"] * galsim.radians)
    seen = galsim.Convolve([profile, galsim.Moffat(beta=3.0, fwhm=p["fwhm"])])
    return seen.drawImage(nx=SIZE, ny=SIZE, scale=1.0).array


def profiles(sets: int) -> dict:
    rng = np.random.default_rng(0)
    radius = np.hypot(*np.meshgrid(np.arange(SIZE) - (SIZE - 1) / 2, np.arange(SIZE) - (SIZE - 1) / 2))
    flux, shape, core = [], [], []
    for _ in range(sets):
        p = {
            "index": 1.0 if rng.random() < 1 / 3 else round(rng.uniform(0.6, 4.0), 1),
            "radius": rng.uniform(2, 7),
            "q": rng.uniform(0.3, 1.0),
            "angle": rng.uniform(0, np.pi),
            "fwhm": rng.uniform(1.6, 4.0),
        }
        ours, theirs = drawn_here(p), drawn_by_galsim(p)
        flux.append(abs(ours.sum() / theirs.sum() - 1))
        difference = np.abs(ours - theirs) / theirs.max()
        shape.append(difference[radius > p["fwhm"]].max())
        core.append(difference.max())
    return {
        "name": "sky.physics",
        "value": round(float(max(shape)), 4),
        "unit": "of peak, beyond one FWHM",
        "goal": 0.02,
        "ok": bool(max(shape) <= 0.02 and max(flux) <= 0.01),
        "detail": {
            "sets": sets,
            "worst_flux_error": round(float(max(flux)), 4),
            "median_flux_error": round(float(np.median(flux)), 4),
            "median": round(float(np.median(shape)), 4),
            "within": int((np.array(shape) <= 0.02).sum()),
            "flux_within": int((np.array(flux) <= 0.01).sum()),
            "worst_core": round(float(max(core)), 4),
        },
    }


def galsim_seconds(galaxies: int) -> float:
    rng = np.random.default_rng(1)
    start = time.process_time()
    for _ in range(galaxies):
        bulge = galsim.DeVaucouleurs(half_light_radius=rng.uniform(0.5, 2)).shear(
            q=rng.uniform(0.6, 1), beta=0.3 * galsim.radians
        )
        disc = galsim.Exponential(half_light_radius=rng.uniform(2, 6)).shear(
            q=rng.uniform(0.3, 1), beta=0.3 * galsim.radians
        )
        psf = galsim.Moffat(beta=3.0, fwhm=1.3)
        for bulge_share in (0.2, 0.3, 0.4):
            galsim.Convolve([bulge_share * bulge + (1 - bulge_share) * disc, psf]).drawImage(
                nx=SIZE, ny=SIZE, scale=0.8
            )
    return time.process_time() - start


def sky_seconds(galaxies: int) -> float:
    sky.simulate("gz2", range(64), seed=0, size=SIZE)
    start = time.process_time()
    sky.simulate("gz2", range(galaxies), seed=0, size=SIZE)
    return time.process_time() - start


def speed(galaxies: int) -> dict:
    torch.set_num_threads(1)
    pairs = [(galsim_seconds(galaxies // 8) * 8, sky_seconds(galaxies)) for _ in range(3)]
    theirs, ours = min(a for a, _ in pairs), min(b for _, b in pairs)
    return {
        "name": "sky.ratio",
        "value": round(theirs / ours, 2),
        "unit": "times GalSim, processor time of one core",
        "goal": 10,
        "ok": bool(theirs / ours >= 10),
        "detail": {
            "galaxies_per_second": round(galaxies / ours),
            "galsim_three_band_per_second": round(galaxies / theirs),
        },
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=50)
    parser.add_argument("--galaxies", type=int, default=512)
    options = parser.parse_args()
    print(json.dumps(profiles(options.sets)))
    print(json.dumps(speed(options.galaxies)))
