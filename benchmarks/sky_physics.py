"""The simulated sky against GalSim: profiles behind the telescope, and speed.

    python benchmarks/sky_physics.py [--sets 50] [--galaxies 512]

Needs GalSim (``pip install .[bench]``). Prints one JSON object a line. Profiles: random Sersic galaxies (index 0.6 to
4, a third of them exponential) convolved with Moffat PSFs of the telescopes' slopes, both with pixel averaging; worst
flux error in the frame, and worst difference beyond one FWHM from the centre in units of the peak. Speed: processor
seconds for 64 px galaxies of the whole sky, votes included, against bulge + disc + PSF in three bands. ``--psf`` finds
the Gaussians that stand for a Moffat profile (``gzlib.sky.telescopes.PSF_GAUSSIANS``) and prints them.
"""

import argparse
import json
import time

import galsim
import numpy as np
import torch
from scipy.optimize import minimize

from gzlib import sky
from gzlib.sky.render import mixture
from gzlib.sky.telescopes import PSF_GAUSSIANS

SIZE = 64


def drawn_here(p: dict) -> np.ndarray:
    """(size, size) light of one Sersic galaxy, pixel scale 1, by the Gaussian mixtures of the sky."""
    one = np.ones(1)
    scene = {
        "psf_fwhm": p["fwhm"] * one,
        "pixel_variance": one / 12,
        "colour_gradient": 0 * one,
    }
    profile = (p["index"] * one, p["radius"] * one, p["q"] * one, p["angle"] * one, np.ones((1, 3)))
    mix = mixture([profile], scene, PSF_GAUSSIANS[p["slope"]])
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    x, y = np.meshgrid(axis, axis)
    basis = np.stack([x * x, x * y, y * y], -1)
    return np.exp(basis @ mix["quadratic"][0]) @ mix["amplitude"][0, :, 0]


def drawn_by_galsim(p: dict) -> np.ndarray:
    # galsim.Sersic knows the half-light radius along the circularised axis; sheared without area change.
    profile = galsim.Sersic(n=p["index"], half_light_radius=p["radius"] * np.sqrt(p["q"]), flux=1.0)
    profile = profile.shear(q=p["q"], beta=p["angle"] * galsim.radians)
    seen = galsim.Convolve([profile, galsim.Moffat(beta=p["slope"], fwhm=p["fwhm"])])
    return seen.drawImage(nx=SIZE, ny=SIZE, scale=1.0).array


def profiles(sets: int) -> dict:
    rng = np.random.default_rng(0)
    radius = np.hypot(*np.meshgrid(np.arange(SIZE) - (SIZE - 1) / 2, np.arange(SIZE) - (SIZE - 1) / 2))
    flux, shape, core = [], [], []
    slopes = sorted({telescope.moffat_beta for telescope in sky.TELESCOPES.values()})
    for draw in range(sets):
        p = {
            "index": 1.0 if rng.random() < 1 / 3 else round(rng.uniform(0.6, 4.0), 1),
            "radius": rng.uniform(2, 7),
            "q": rng.uniform(0.3, 1.0),
            "angle": rng.uniform(0, np.pi),
            "fwhm": rng.uniform(1.6, 4.0),
            "slope": slopes[draw % len(slopes)],
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


def moffat_as_gaussians(slope: float) -> tuple[float, float, float]:
    """(share, width, width) of two Gaussians for a Moffat profile of this slope and full width 1.

    The profiles are compared behind round Gaussian galaxies of five widths: beyond one full width the worst error
    counts in full, in the core with a seventh of its square.
    """
    scale, side = 0.06, 256
    axis = (np.arange(side) - side // 2) * scale
    radius = np.hypot(*np.meshgrid(axis, axis))
    core = 0.5 / np.sqrt(2 ** (1 / slope) - 1)
    psf = (slope - 1) / (np.pi * core**2) * (1 + (radius / core) ** 2) ** -slope

    def gaussian(variance):
        return np.exp(-(radius**2) / (2 * variance)) / (2 * np.pi * variance)

    def spectrum(picture):
        return np.fft.fft2(np.fft.ifftshift(picture)) * scale**2

    galaxies = (0.12, 0.25, 0.5, 1.0, 2.0)
    seen = [np.fft.fftshift(np.fft.ifft2(spectrum(psf) * spectrum(gaussian(s**2))).real) / scale**2 for s in galaxies]

    def cost(x):
        share, narrow, wide = x
        total = 0.0
        for sigma, wanted in zip(galaxies, seen, strict=True):
            found = share * gaussian(sigma**2 + narrow**2) + (1 - share) * gaussian(sigma**2 + wide**2)
            error = np.abs(found - wanted) / wanted.max()
            total += error[radius > 1].max() ** 2 + error.max() ** 2 / 7
        return total

    starts = [(0.69, 0.434, 0.914), (0.8, 0.42, 1.1)]
    found = (minimize(cost, start, method="Nelder-Mead", options={"maxiter": 600}) for start in starts)
    return tuple(np.round(min(found, key=lambda f: f.fun).x, 3).tolist())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=50)
    parser.add_argument("--galaxies", type=int, default=512)
    parser.add_argument("--psf", action="store_true", help="find the Gaussians for each slope, and stop")
    options = parser.parse_args()
    if options.psf:
        print(json.dumps({slope: moffat_as_gaussians(slope) for slope in PSF_GAUSSIANS}))
        raise SystemExit
    print(json.dumps(profiles(options.sets)))
    print(json.dumps(speed(options.galaxies)))
