"""Who the galaxies are: redshift, mass, type, size, colour and brightness, drawn jointly from published relations."""

import numpy as np
from scipy.special import expit

from gzlib.data.sky.draws import Draws
from gzlib.data.sky.telescopes import Telescope

_REDSHIFTS = np.linspace(0.0, 6.0, 1201)
_MASSES = np.linspace(7.5, 12.0, 181)
TYPES = ("elliptical", "lenticular", "spiral", "irregular", "clumpy")


def _comoving_distance() -> np.ndarray:
    """Mpc on the redshift grid for a flat universe with H0 = 70 km/s/Mpc and matter density 0.3."""
    inverse = 1 / np.sqrt(0.3 * (1 + _REDSHIFTS) ** 3 + 0.7)
    steps = 0.5 * (inverse[1:] + inverse[:-1]) * np.diff(_REDSHIFTS)
    return np.concatenate([[0.0], np.cumsum(steps)]) * 299792.458 / 70


_DISTANCE = _comoving_distance()


def distances(redshift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance modulus (mag) and kpc per arcsec at each redshift."""
    comoving = np.interp(redshift, _REDSHIFTS, _DISTANCE)
    modulus = 5 * np.log10(np.maximum(comoving, 1e-3) * (1 + redshift) * 1e5)
    return modulus, comoving / (1 + redshift) * 1e3 * np.pi / 648000


def _mass(uniform: np.ndarray, lowest: np.ndarray) -> np.ndarray:
    """log10 solar masses from the double Schechter function of Baldry et al. (2012), above ``lowest``."""
    x = 10 ** (_MASSES - 10.66)
    density = np.exp(-x) * (3.96e-3 * x**0.65 + 0.79e-3 * x**-0.47)
    cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    start = np.interp(lowest, _MASSES, cumulative)
    return np.interp(start + uniform * (cumulative[-1] - start), cumulative, _MASSES)


def _half_light_radius(mass: np.ndarray, early: np.ndarray, scatter: np.ndarray) -> np.ndarray:
    """kpc: Shen et al. (2003, MNRAS 343, 978)."""
    m = 10**mass
    late = 0.1 * m**0.14 * (1 + m / 3.98e10) ** 0.25
    spheroid = 2.88e-6 * m**0.56
    width = 0.34 + 0.13 / (1 + (m / 3.98e10) ** 2)
    return np.where(early, np.maximum(spheroid, 0.35 * late), late) * np.exp(width * scatter)


def draw_population(draws: Draws, telescope: Telescope) -> dict[str, np.ndarray]:
    """Global properties of galaxies in a magnitude-limited survey.

    Redshifts follow ``z^2 exp(-(z/z0)^1.5)`` (Smail et al. 1994); masses the local mass function above the mass that
    the magnitude limit lets through; the quiescent share rises with mass (as in Peng et al. 2010; here a
    logistic in log mass) and falls with redshift; colours follow the red sequence and blue cloud of Baldry et al.
    (2004); mass-to-light ratios come from colour (Bell et al. 2003); sizes from Shen et al. (2003), shrinking as
    ``(1+z)^-0.75`` (discs) and ``(1+z)^-1.48`` (spheroids), van der Wel et al. (2014). Galaxies smaller on the
    sky than the survey's limit are drawn again, up to six times.

    Returns
    -------
    dict of (n,) arrays: ``redshift``, ``log_mass``, ``type`` (position in ``TYPES``), ``radius`` (half light,
    arcsec), ``magnitude`` (middle band), ``colour_old`` and ``colour_young`` (g - r of the two stellar populations).
    """
    tries = [_one_try(draws, telescope, attempt) for attempt in range(6)]
    chosen = {name: value.copy() for name, value in tries[-1].items()}
    undecided = np.ones(len(draws), bool)
    for candidate in tries[:-1]:
        good = undecided & (2.0 * candidate["radius"] > telescope.r90_min)
        for name, value in candidate.items():
            chosen[name][good] = value[good]
        undecided &= ~good
    return chosen


def _one_try(draws: Draws, telescope: Telescope, attempt: int) -> dict[str, np.ndarray]:
    u = draws.uniform(f"population-{attempt}", 4)
    scatter = draws.normal(f"population-scatter-{attempt}", 4)
    grid = np.linspace(0.008, 5.0, 800)
    density = grid**2 * np.exp(-((grid / telescope.redshift) ** 1.5))
    cumulative = np.cumsum(density)
    redshift = np.interp(u[:, 0], cumulative / cumulative[-1], grid)
    modulus, kpc = distances(redshift)
    # The faintest galaxy that passes has a mass-to-light ratio of about 2 (Bell et al. 2003), 1 for young discs.
    lowest = np.maximum(0.4 * (4.65 - (telescope.magnitude_limit - modulus)) + 0.15, telescope.mass_floor)
    mass = _mass(u[:, 1], np.minimum(lowest, 11.6))
    quiescent = expit((mass - 10.55) / 0.42 - 1.2 * redshift)
    kind = _type(u[:, 2], u[:, 3], quiescent, mass, redshift)
    early = kind <= 1
    colour_old = 0.70 + 0.06 * (mass - 10.5) + 0.03 * scatter[:, 0] + 0.9 * np.minimum(redshift, 0.4)
    colour_young = 0.30 + 0.08 * (mass - 10.5) + 0.07 * scatter[:, 1] + 0.4 * np.minimum(redshift, 0.4)
    mass_to_light = -0.306 + 1.097 * np.where(early, 0.72, 0.48 + 0.05 * (mass - 10.0))
    magnitude = 4.65 + modulus - 2.5 * (mass - mass_to_light) + 0.15 * scatter[:, 2]
    magnitude = np.minimum(magnitude, telescope.magnitude_limit + 0.3)
    shrink = (1 + redshift) ** np.where(early, -1.48, -0.75)
    radius = _half_light_radius(mass, early, scatter[:, 3]) * shrink / kpc
    return {
        "redshift": redshift,
        "log_mass": mass,
        "type": kind,
        "radius": radius,
        "magnitude": magnitude,
        "colour_old": colour_old,
        "colour_young": colour_young,
    }


def _type(u, v, quiescent, mass, redshift) -> np.ndarray:
    """Half of quiescent galaxies are lenticular; irregulars take over at low mass, clumpy discs at high redshift."""
    irregular = expit((9.4 - mass) / 0.3)
    clumpy = expit((redshift - 1.3) / 0.35) * expit((11.0 - mass) / 0.4)
    star_forming = np.where(v < clumpy, 4, np.where(v < clumpy + (1 - clumpy) * irregular, 3, 2))
    return np.where(u < quiescent, np.where(v < 0.55, 0, 1), star_forming)
