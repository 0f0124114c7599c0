"""The galaxies themselves: random draws, who they are, and what they look like."""

import hashlib

import numpy as np
from scipy.special import expit, ndtri

from gzlib.sky.telescopes import Telescope

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
    sky than the survey's limit are drawn again, up to six times; if all are too small, the largest is taken.

    Returns
    -------
    dict of (n,) arrays: ``redshift``, ``log_mass``, ``type`` (position in ``TYPES``), ``radius`` (half light,
    arcsec), ``magnitude`` (middle band), ``colour_old`` and ``colour_young`` (g - r of the two stellar populations).
    """
    tries = [_one_try(draws, telescope, attempt) for attempt in range(6)]
    radius = np.stack([candidate["radius"] for candidate in tries])
    large = 2.0 * radius > telescope.r90_min
    chosen = np.where(large.any(0), large.argmax(0), radius.argmax(0))
    rows = np.arange(len(draws))
    return {name: np.stack([candidate[name] for candidate in tries])[chosen, rows] for name in tries[0]}


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
    colour_young = 0.28 + 0.09 * (mass - 10.5) + 0.09 * scatter[:, 1] + 0.4 * np.minimum(redshift, 0.4)
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


STAGES = ("isolated", "overlap", "minor merger", "major merger")


def draw_structure(draws: Draws, population: dict[str, np.ndarray], boost: dict[str, float]) -> dict[str, np.ndarray]:
    """Structure of each galaxy, given what kind of galaxy it is.

    Bulge fractions fall from early to late types with wide scatter (Graham & Worley 2008); discs are seen at
    isotropic inclination with a thickness of about a fifth, and ellipticals have axis ratios, as Padilla &
    Strauss (2008) find in outline; bars grow more common in massive discs with bulges (Masters et al.
    2011); pitch angles spread about 18 degrees (Hart et al. 2017) and tighten with bulges (Masters et al. 2019), two
    arms lead (Hart et al. 2016); inner and outer rings as in Buta (2017); mergers at the few per cent of Darg
    et al. (2010); tidal features at several per cent, fewer than the 12 that Atkinson et al. (2013) found in deeper
    pictures.

    Parameters
    ----------
    boost : dict
        Factors on the frequency of ``merger``, ``tidal``, ``ring``, ``lens``, for surveys chosen for such features.

    Returns
    -------
    dict of (n,) float64 arrays; strengths lie in 0 to 1, angles in radians, radii in units of the half-light radius.
    """
    n = len(draws)
    kind, mass = population["type"], population["log_mass"]
    elliptical, lenticular, spiral, irregular, clumpy = (kind == k for k in range(5))
    disc_like = ~elliptical

    bulge = expit(-1.2 + 1.0 * (mass - 10.5) + 1.1 * draws.normal("bulge"))
    bulge = np.where(lenticular, expit(-0.1 + 0.8 * draws.normal("bulge-s0")), bulge)
    bulge = np.where(irregular | clumpy, 0.25 * bulge**1.5, bulge)
    bulge = np.where(elliptical, 1.0, bulge)
    index = np.where(
        elliptical,
        4.0 + 0.9 * (mass - 10.7) + 0.8 * draws.normal("index"),
        1.8 + 3.0 * bulge + 0.5 * draws.normal("index-bulge"),
    )
    inclination = draws.uniform("inclination")  # cosine
    thickness = np.clip(0.19 + 0.05 * draws.normal("thickness"), 0.09, 0.34) + 0.12 * lenticular + 0.12 * irregular
    q_disc = np.sqrt(inclination**2 * (1 - thickness**2) + thickness**2)
    q_elliptical = 1 - 0.75 * np.abs(draws.normal("roundness") * 0.33 + 0.15)
    q_bulge = np.where(
        elliptical, np.clip(q_elliptical, 0.28, 1), 1 - 0.35 * (1 - inclination) * draws.uniform("bulge-q")
    )
    boxy = draws.uniform("boxy") ** 2 * (draws.uniform("boxy-is") < 0.35) * disc_like

    arms = np.where(spiral, np.clip(0.08 + 0.95 * draws.uniform("arms") ** 0.8, 0, 1), 0.0)
    arms *= 1 - 0.45 * bulge
    arms = np.where(clumpy, 0.35 * draws.uniform("arms-clumpy"), arms)
    u = draws.uniform("arm-count")
    count = 1 + np.searchsorted(np.array([0.12, 0.68, 0.84, 0.93]), u)
    pitch = np.deg2rad(np.clip(18.5 - 9 * (bulge - 0.25) + 6.5 * draws.normal("pitch"), 5, 42))
    bar = draws.uniform("bar") ** 1.6 * (draws.uniform("bar-is") < expit(-0.5 + 0.5 * (mass - 10.3)))
    bar = np.where(spiral | lenticular, bar, 0.3 * bar * irregular)
    bulge = np.where(disc_like, bulge * (1 - 0.6 * bar), bulge)  # a bar takes its stars from the inner disc and bulge
    ring_chance = draws.uniform("ring-is")
    ring_inner = np.where(disc_like & (ring_chance < 0.14 * boost.get("ring", 1)), draws.uniform("ring") ** 0.7, 0)
    ring_outer = np.where(
        disc_like & (np.abs(ring_chance - 0.12 * boost.get("ring", 1)) < 0.035 * boost.get("ring", 1)),
        draws.uniform("ring-outer") ** 0.7,
        0,
    )

    u = draws.uniform("stage") / boost.get("merger", 1)
    stage = np.where(u < 0.022, 3, np.where(u < 0.06, 2, np.where(u < 0.16, 1, 0)))
    advance = draws.uniform("merger-advance")
    major = (stage == 3) * (0.35 + 0.65 * draws.uniform("merger-strength"))
    minor = (stage == 2) * (0.2 + 0.8 * draws.uniform("merger-strength"))
    tidal = draws.uniform("tidal-is") / boost.get("tidal", 1)
    strength = 0.15 + 0.85 * draws.uniform("tidal-strength")
    tail = np.maximum(strength * (tidal < 0.010), np.maximum(major * expit((advance - 0.25) / 0.1), 0.35 * minor))
    out = {
        "bulge_fraction": bulge,
        "bulge_index": np.clip(index, 0.6, 6.0),
        "bulge_q": np.clip(q_bulge, 0.25, 1.0),
        "boxy": boxy,
        "cos_inclination": inclination,
        "disc_q": q_disc,
        "thickness": thickness,
        "position_angle": np.pi * draws.uniform("angle"),
        "arms": arms,
        "arm_count": count.astype(np.float64),
        "pitch": pitch,
        "handedness": np.where(draws.uniform("handedness") < 0.5, -1.0, 1.0),
        "flocculence": draws.uniform("flocculence") ** 1.5,
        "arm_phase": 2 * np.pi * draws.uniform("arm-phase"),
        "bar": bar,
        "bar_angle": np.pi * draws.uniform("bar-angle"),
        "bar_length": 0.5 + 0.55 * draws.uniform("bar-length"),
        "ring_inner": ring_inner,
        "ring_outer": ring_outer,
        "ring_radius": 0.8 + 0.5 * draws.uniform("ring-radius"),
        "knots": np.where(spiral, arms * draws.uniform("knots"), np.where(irregular, draws.uniform("knots"), 0.0)),
        "clumps": np.where(
            clumpy,
            0.3 + 0.7 * draws.uniform("clumps"),
            (spiral | irregular) * (draws.uniform("clumps-is") < 0.12) * draws.uniform("clumps"),
        ),
        "clump_count": 1 + np.floor(7 * draws.uniform("clump-count") ** 1.2),
        "dust": np.where(
            elliptical, 0, draws.uniform("dust") * expit((mass - 9.8) / 0.4) * np.where(lenticular, 0.4, 1)
        ),
        "lopsided": np.abs(draws.normal("lopsided")) * np.where(irregular, 0.45, np.where(clumpy, 0.35, 0.15)),
        "irregular": 1.0 * (irregular | clumpy),
        "texture_x": draws.uniform("texture-x"),
        "texture_y": draws.uniform("texture-y"),
        "wander": 0.2 + 0.6 * draws.uniform("wander"),
        "patchiness": disc_like * np.where(lenticular, 0.2, 0.45 + 0.5 * draws.uniform("patchiness")),
        "speckle": np.where(spiral, 0.25 * arms, 0.3 * (irregular | clumpy)) * draws.uniform("speckle"),
        "lopsided_angle": 2 * np.pi * draws.uniform("lopsided-angle"),
        "texture": np.where(irregular, 0.2 + 0.8 * draws.uniform("texture"), 0.15 * spiral * draws.uniform("texture")),
        "warp": disc_like * (draws.uniform("warp-is") < 0.12) * draws.uniform("warp") + 0.5 * major * advance,
        "stage": stage.astype(np.float64),
        "advance": advance,
        "major_merger": major,
        "minor_merger": minor,
        "tail": tail,
        "stream": strength * ((tidal > 0.010) & (tidal < 0.022)),
        "shell": strength * ((tidal > 0.022) & (tidal < 0.032) & (elliptical | lenticular | (bulge > 0.15))),
        "diffuse": strength * ((tidal > 0.032) & (tidal < 0.045)),
        "lens": draws.uniform("lens-strength")
        * (draws.uniform("lens-is") < 0.003 * boost.get("lens", 1))
        * (bulge > 0.4),
        "disc_fraction": 1 - bulge,
    }
    return {name: np.ascontiguousarray(np.broadcast_to(value, (n,)), dtype=np.float64) for name, value in out.items()}
