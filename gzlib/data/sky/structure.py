"""What the galaxies look like: bulge, disc, bar, arms, rings, clumps, dust, tides; each with continuous strength."""

import numpy as np
from scipy.special import expit

from gzlib.data.sky.draws import Draws

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

    bulge = expit(-1.5 + 0.8 * (mass - 10.5) + 0.9 * draws.normal("bulge"))
    bulge = np.where(lenticular, expit(-0.1 + 0.8 * draws.normal("bulge-s0")), bulge)
    bulge = np.where(irregular | clumpy, 0.25 * bulge**1.5, bulge)
    bulge = np.where(elliptical, 1.0, bulge)
    index = np.where(
        elliptical,
        4.0 + 0.9 * (mass - 10.7) + 0.8 * draws.normal("index"),
        1.3 + 3.0 * bulge + 0.5 * draws.normal("index-bulge"),
    )
    inclination = draws.uniform("inclination")  # cosine
    thickness = np.clip(0.2 + 0.05 * draws.normal("thickness"), 0.09, 0.35) + 0.12 * lenticular + 0.12 * irregular
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
    stage = np.where(u < 0.02, 3, np.where(u < 0.055, 2, np.where(u < 0.11, 1, 0)))
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
        "bar_length": 0.9 + 0.7 * draws.uniform("bar-length"),
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
        "lopsided": np.abs(draws.normal("lopsided")) * np.where(irregular, 0.35, np.where(clumpy, 0.3, 0.10)),
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
