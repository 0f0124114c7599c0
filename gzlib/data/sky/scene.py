"""From galaxy to picture plan: sizes in arcsec, fluxes in nanomaggies, and every small source as a round Gaussian."""

import numpy as np

from gzlib.data.sky.draws import Draws
from gzlib.data.sky.telescopes import Telescope

# How far each band moves when the g - r colour changes by 1: blue, middle, red (r - i is about half of g - r).
BAND_SLOPE = np.array([1.0, 0.0, -0.45])
# Dust takes more blue than red light (Cardelli, Clayton & Mathis 1989, about g, r and i).
DUST_LAW = np.array([1.25, 1.0, 0.75])


def band_flux(magnitude: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """(n, 3) nanomaggies in the blue, middle and red band from the middle magnitude and g - r."""
    return 10 ** (0.4 * (22.5 - magnitude[:, None] - BAND_SLOPE * colour[:, None]))


def plan_scene(draws: Draws, telescope: Telescope, population: dict, structure: dict) -> dict[str, np.ndarray]:
    """Everything that the renderer needs, as float64 arrays over galaxies; angles in arcsec.

    The cutout follows Galaxy Zoo: its width is ``telescope.frame`` times the measured R90 (0.02 R90 a pixel at 424
    px: Willett et al. 2013; Walmsley et al. 2022), and the measurement scatters.
    """
    old = band_flux(population["magnitude"], population["colour_old"])
    young = band_flux(population["magnitude"], population["colour_young"])
    kind = population["type"]
    bulge, radius = structure["bulge_fraction"], population["radius"]
    elliptical = kind == 0
    # Colours beyond one g - r: age, metals and dust move blue and red light apart from galaxy to galaxy.
    own = 10 ** (0.4 * np.array([0.08, 0.0, 0.06]) * draws.normal("colour", 3))
    old, young = old * own, young * own
    disc_old = np.clip(0.32 + 0.6 * bulge - 0.2 * (kind >= 3) + 0.2 * draws.normal("disc-old"), 0.02, 1)
    disc_old = np.where(kind == 1, 0.95, disc_old)
    disc_flux = (1 - bulge)[:, None] * (disc_old[:, None] * old + (1 - disc_old)[:, None] * young)
    bulge_radius = np.where(elliptical, radius, radius * np.clip(0.12 + 0.45 * bulge, 0.1, 0.6))
    disc_radius = np.where(elliptical, radius, radius * np.clip(1 + 0.5 * bulge, 1, 1.6))
    # SDSS measures R90 in circles: tilted galaxies come out smaller, the faint wings of ellipticals are cut off.
    q = np.where(elliptical, structure["bulge_q"], structure["disc_q"])
    r90 = np.where(elliptical, 2.1 * radius, disc_radius * (2.25 - 0.25 * bulge)) * (0.68 + 0.32 * q)
    r90 = r90 * 0.95 * np.exp(0.13 * draws.normal("frame")) * (1 + 0.35 * structure["major_merger"])
    zoom = draws.uniform("zoom")
    misjudged = np.where(zoom < 0.004, 0.4, np.where(zoom > 0.992, 2.5, 1.0))
    fov = np.maximum(telescope.frame * r90 * misjudged, 30 * telescope.pixel)
    seeing = telescope.psf_fwhm * np.exp(telescope.seeing_scatter * draws.normal("seeing"))
    noise = 10 ** (0.4 * (22.5 - telescope.depth)) * np.exp(0.24 * draws.normal("depth"))
    scene = {
        "fov": fov,
        "psf_fwhm": seeing,
        "noise": noise,
        "zoom": misjudged,
        "bulge_flux": bulge[:, None] * old,
        "bulge_radius": bulge_radius,
        "disc_flux": disc_flux,
        "disc_radius": disc_radius,
        "colour_gradient": -0.10 + 0.08 * draws.normal("colour-gradient"),
        "old_ratio": old / old[:, 1:2],
        "young_ratio": young / young[:, 1:2],
        "r90": r90,
        "total": bulge[:, None] * old + disc_flux,
    }
    scene.update(_artefacts(draws, telescope, scene))
    return scene


def _artefacts(draws: Draws, telescope: Telescope, scene: dict) -> dict[str, np.ndarray]:
    """Spoilt pictures: a share of them, each with one fault of continuous strength."""
    spoilt = draws.uniform("artefact-is") < telescope.artefacts
    which = draws.uniform("artefact-kind")
    strength = (0.1 + 0.9 * draws.uniform("artefact-strength")) * spoilt

    def share(low, high):
        return strength * ((which >= low) & (which < high))

    return {
        "trail": share(0.0, 0.2),
        "trail_angle": np.pi * draws.uniform("trail-angle"),
        "trail_offset": draws.between("trail-offset", -0.6, 0.6),
        "trail_band": 3 * draws.uniform("trail-band"),
        "bleed": share(0.2, 0.5),
        "column": share(0.5, 0.62),
        "edge": share(0.62, 0.75),
        "scattered": share(0.75, 0.93),
        "star_target": share(0.93, 1.0),
        "gradient": telescope.gradient * draws.normal("gradient", 2) * scene["noise"][:, None],
        # Imperfect sky subtraction leaves each band a level of its own.
        "background": np.array(telescope.black)
        * np.exp(np.array(telescope.black_scatter) * draws.normal("background", 3)),
        "noise_factor": np.exp(telescope.noise_scatter * draws.normal("noise-factor", 3)),
        "registration": telescope.registration * draws.normal("registration", 4),
        "pixel_key": draws.key32().astype(np.int64),
    }
