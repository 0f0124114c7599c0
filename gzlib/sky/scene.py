"""From galaxy to picture plan: sizes in arcsec, fluxes in nanomaggies, small sources as Gaussians, what can be seen."""

import numpy as np

from gzlib.sky.population import Draws
from gzlib.sky.telescopes import Telescope

# How far each band moves when the g - r colour changes by 1: blue, middle, red (r - i is about half of g - r).
BAND_SLOPE = np.array([1.0, 0.0, -0.45])
# Dust takes more blue than red light (Cardelli, Clayton & Mathis 1989, about g, r and i).
DUST_LAW = np.array([1.25, 1.0, 0.75])


def band_flux(magnitude: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """(n, 3) nanomaggies in the blue, middle and red band from the middle magnitude and g - r."""
    return 10 ** (0.4 * (22.5 - magnitude[:, None] - BAND_SLOPE * colour[:, None]))


def plan_scene(draws: Draws, telescope: Telescope, population: dict, structure: dict) -> dict[str, np.ndarray]:
    """Everything that the renderer needs, over galaxies in float64, ``companion`` as a list of profiles; in arcsec.

    The cutout follows Galaxy Zoo, 424 px wide: 0.02 R90 a pixel (Willett et al. 2013), for DECaLS the smaller of 0.02
    R90 and 0.04 R50, but 0.1 arcsec or more (Walmsley et al. 2022). The measurement scatters.
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
    bulge_radius = np.where(elliptical, radius, radius * np.clip(0.05 + 0.34 * bulge, 0.05, 0.42))
    disc_radius = np.where(elliptical, radius, radius * np.clip(1 + 0.5 * bulge, 1, 1.6))
    # SDSS measures R90 in circles: tilted galaxies come out smaller, the faint wings of ellipticals are cut off.
    q = np.where(elliptical, structure["bulge_q"], structure["disc_q"])
    r90 = np.where(elliptical, 2.1 * radius, disc_radius * (2.25 - 0.25 * bulge)) * (0.68 + 0.32 * q)
    r90 = r90 * 0.88 * np.exp(0.11 * draws.normal("frame")) * (1 + 0.35 * structure["major_merger"])
    zoom = draws.uniform("zoom")
    misjudged = np.where(zoom < 0.004, 0.4, np.where(zoom > 0.992, 2.5, 1.0))
    concentration = np.where(elliptical, 2.9, 2.25 + 0.8 * bulge)
    width = r90 * np.minimum(telescope.frame, telescope.frame_50 / concentration)
    fov = np.maximum(width * misjudged, max(telescope.frame_least, 30 * telescope.pixel))
    seeing = telescope.psf_fwhm * np.exp(telescope.seeing_scatter * draws.normal("seeing"))
    noise = 10 ** (0.4 * (22.5 - telescope.depth)) * np.exp(telescope.depth_scatter * draws.normal("depth"))
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
    return scene | _artefacts(draws, telescope, scene) | _companion(draws, structure, scene)


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
        "background": np.array(telescope.black) + np.array(telescope.black_scatter) * draws.normal("background", 3),
        "noise_factor": np.exp(telescope.noise_scatter * draws.normal("noise-factor", 3)),
        "registration": telescope.registration * draws.normal("registration", 4),
        "centre": (telescope.centring[0] + telescope.centring[1] * draws.normal("centring", 2)) * scene["fov"][:, None],
        "pixel_key": draws.key32().astype(np.int64),
    }


def _companion(draws: Draws, structure: dict, scene: dict) -> dict:
    """A second galaxy: a chance overlap, a minor or a major merger; a bulge and a disc, and where they are (arcsec)."""
    stage, advance = structure["stage"], structure["advance"]
    ratio = np.where(
        stage == 1,
        0.05 + 1.2 * draws.uniform("companion-flux") ** 3,
        0.15 * structure["minor_merger"] + 0.65 * structure["major_merger"],
    )
    ratio = ratio * (stage > 0)
    closeness = np.where(stage == 1, 1.0 + 3.2 * draws.uniform("companion-r"), 0.3 + 1.7 * (1 - advance))
    angle = 2 * np.pi * draws.uniform("companion-angle")
    distance = closeness * scene["disc_radius"]
    radius = scene["disc_radius"] * np.maximum(ratio, 1e-3) ** 0.4 * (0.5 + 0.4 * draws.uniform("companion-length"))
    tilt, flat = np.pi * draws.uniform("companion-tilt"), 0.25 + 0.7 * draws.uniform("companion-q")
    bulge = 0.6 * draws.uniform("companion-bulge")[:, None]
    bluer = 1 + (draws.uniform("companion-colour")[:, None] - 0.5) * np.array([0.7, 0.0, -0.35])
    flux = ratio[:, None] * scene["total"] * bluer
    return {
        "companion": [
            (np.full(len(draws), 2.0), 0.3 * radius, np.sqrt(flat), tilt, bulge * flux),
            (np.ones(len(draws)), radius, flat, tilt, (1 - bulge) * flux),
        ],
        "companion_near": np.clip((2.8 - closeness) / 1.2, 0, 1),
        "companion_x": distance * np.cos(angle),
        "companion_y": distance * np.sin(angle),
    }


N_FIELD, N_KNOTS, N_CHAIN = 38, 20, 26


def plan_blobs(draws: Draws, telescope: Telescope, population: dict, structure: dict, scene: dict) -> dict:
    """Positions ``x``, ``y``, widths ``sx``, ``sy`` (n, blobs; arcsec) and ``flux`` (n, blobs, 3; nanomaggies)."""
    parts = [
        _field(draws, telescope, scene),
        _knots(draws, structure, scene),
        _boxy(structure, scene),
        _chains(draws, structure, scene),
        _lens(draws, structure, scene),
        _faults(draws, telescope, scene),
    ]
    return {
        name: np.concatenate([p[i] for p in parts], axis=1) for i, name in enumerate(("x", "y", "sx", "sy", "flux"))
    }


def _field(draws: Draws, telescope: Telescope, scene: dict):
    """Stars (core and wing) and background galaxies (two Gaussians side by side), counts growing with depth.

    Numbers, sizes and colours follow the sources around galaxies in half of the real pictures
    (``benchmarks/sky_realism.py``): most are hardly resolved, and far more varied in colour than the galaxy itself.
    """
    fov, n = scene["fov"], len(draws)
    area = (fov / 60) ** 2
    x, y = ((draws.uniform(f"field-{axis}", N_FIELD) - 0.5) * fov[:, None] for axis in "xy")
    rank = draws.uniform("field-kind", N_FIELD)
    crowd = np.exp(0.7 * draws.normal("field-crowd"))  # galaxies cluster
    share = np.minimum(telescope.stars * area * 1.3, 8)[:, None] / N_FIELD
    star = rank < share
    galaxies = np.minimum(telescope.field * area * crowd, 32)[:, None] / N_FIELD
    galaxy = ~star & (rank < share + galaxies)
    # Counts N(<m) rise as 10^(0.40 m) for galaxies and 10^(0.20 m) for stars, up to the limit of what shows.
    faintest = telescope.field_limit
    magnitude = faintest + np.log10(draws.uniform("field-flux", N_FIELD)) / np.where(star, 0.20, 0.40)
    magnitude = np.maximum(magnitude, telescope.magnitude_limit - np.where(star, 3.5, 0.3))
    u = draws.uniform("field-colour", N_FIELD)
    colour = np.where(star, -0.1 + 1.25 * u**1.6, telescope.field_red + 1.2 * u**1.8)
    # From blue to red stars the red band gains more than in proportion (M stars); galaxies differ in redshift.
    redder = 0.35 * u**3 + 0.15 * draws.normal("field-red", N_FIELD)
    flux = band_flux(magnitude.ravel(), colour.ravel()).reshape(n, N_FIELD, 3)
    flux[..., 2] *= 10 ** (0.4 * redder)
    brighter = 0.18 * (faintest - magnitude)
    size = telescope.psf_fwhm * 0.11 * np.exp(0.5 * draws.normal("field-size", N_FIELD) + brighter)
    length = size * 4.5 * draws.uniform("field-length", N_FIELD) ** 1.5
    length = np.minimum(length, np.hypot(size, 0.4 * telescope.psf_fwhm))  # else two sources would show
    angle = np.pi * draws.uniform("field-angle", N_FIELD)
    dx, dy = length * np.cos(angle) * galaxy, length * np.sin(angle) * galaxy
    spread = np.concatenate([size * galaxy, np.where(star, 0.8 * telescope.psf_fwhm, size)], axis=1)
    weights = np.where(star, 0.9, 0.5 * galaxy), np.where(star, 0.1, 0.5 * galaxy)
    return (
        np.concatenate([x - dx, x + dx], axis=1),
        np.concatenate([y - dy, y + dy], axis=1),
        spread,
        spread,
        np.concatenate([w[..., None] * flux for w in weights], axis=1),
    )


def to_sky(structure: dict, scene: dict, u: np.ndarray, v: np.ndarray):
    """Sky offsets (arcsec) of points of the disc plane given in half-light radii, major axis first."""
    c, s = np.cos(structure["position_angle"])[:, None], np.sin(structure["position_angle"])[:, None]
    q = structure["disc_q"][:, None]
    scale = scene["disc_radius"][:, None]
    return scale * (u * c - v * q * s), scale * (u * s + v * q * c)


def _knots(draws: Draws, structure: dict, scene: dict):
    """Star-forming knots along the arms, and the giant clumps of young discs (Guo et al. 2015)."""
    order = np.arange(N_KNOTS)
    wanted = structure["clump_count"][:, None]
    is_clump = (structure["clumps"] > 0)[:, None]
    radius = np.where(
        is_clump, 0.35 + 1.1 * draws.uniform("knot-r", N_KNOTS), 0.5 + 1.5 * draws.uniform("knot-r", N_KNOTS)
    )
    arm = np.floor(draws.uniform("knot-arm", N_KNOTS) * structure["arm_count"][:, None])
    wind = structure["handedness"] / np.tan(structure["pitch"])
    along = wind[:, None] * np.log(radius) + (structure["arm_phase"] / structure["arm_count"])[:, None]
    along = along + 2 * np.pi * arm / structure["arm_count"][:, None] + 0.12 * draws.normal("knot-off", N_KNOTS)
    anywhere = 2 * np.pi * draws.uniform("knot-angle", N_KNOTS)
    on_arm = (structure["arms"] > 0)[:, None] & ~is_clump
    phi = np.where(on_arm, along, anywhere)
    x, y = to_sky(structure, scene, radius * np.cos(phi), radius * np.sin(phi))
    brightness = 0.75 * -np.log(draws.uniform("knot-flux", N_KNOTS))  # few are bright
    clump_share = structure["clumps"][:, None] * 0.10 * (order < wanted) * brightness
    knot_share = structure["knots"][:, None] * 0.009 * np.exp(-0.5 * radius) * 2 * brightness
    share = np.where(is_clump, clump_share, knot_share)
    size = (
        np.where(is_clump, 0.11, 0.045) * scene["disc_radius"][:, None] * (0.7 + 0.6 * draws.uniform("knot-s", N_KNOTS))
    )
    colour = scene["young_ratio"][:, None] * np.array([1.25, 1.0, 0.82])
    return x, y, size, size, share[..., None] * scene["total"][:, None, 1:2] * colour


def _boxy(structure: dict, scene: dict):
    """The box or X of an edge-on bulge: four lobes off the plane."""
    a, b = 0.9 * scene["bulge_radius"], 0.55 * scene["bulge_radius"]
    c, s = np.cos(structure["position_angle"]), np.sin(structure["position_angle"])
    edge = np.clip((0.45 - structure["cos_inclination"]) / 0.25, 0, 1)
    share = 0.16 * structure["boxy"] * edge
    u, v = np.array([1, 1, -1, -1]), np.array([1, -1, 1, -1])
    x = u * (a * c)[:, None] - v * (b * s)[:, None]
    y = u * (a * s)[:, None] + v * (b * c)[:, None]
    size = np.repeat(0.4 * scene["bulge_radius"][:, None], 4, axis=1)
    return x, y, size, size, share[:, None, None] * np.repeat(scene["bulge_flux"][:, None], 4, axis=1)


def _chains(draws: Draws, structure: dict, scene: dict):
    """Two chains: tidal tails that open outwards, a stream on a wide loop, shells, or a diffuse halo."""
    t = np.linspace(0, 1, N_CHAIN)
    tail, stream, shell, diffuse = (structure[k] for k in ("tail", "stream", "shell", "diffuse"))
    start = 2 * np.pi * draws.uniform("tail-angle")
    parts = []
    for which in range(2):
        sense = structure["handedness"][:, None]
        reach = (2.6 + 1.6 * draws.uniform(f"tail-reach-{which}"))[:, None]
        curl = (0.6 + 1.5 * draws.uniform(f"tail-curl-{which}"))[:, None]
        tail_phi = (start + np.pi * which)[:, None] + sense * curl * t
        tail_r = 0.9 + reach * t
        turn = (1.2 + 3.5 * draws.uniform("stream-turn"))[:, None]
        stream_phi = start[:, None] + turn * (t + which) * 0.5
        ellipse = 1 / np.sqrt(1 + 1.2 * np.sin(stream_phi - 2 * start[:, None]) ** 2)
        stream_r = (2.6 + 1.6 * draws.uniform("stream-r"))[:, None] * ellipse
        opening = (0.5 + 0.7 * draws.uniform("shell-opening"))[:, None]
        shell_phi = (start + np.pi * which)[:, None] + opening * (2 * t - 1)
        shell_r = (1.7 + 1.3 * draws.uniform(f"shell-r-{which}"))[:, None] + 0 * t
        fuzz_phi = start[:, None] + 2.4 * draws.normal(f"fuzz-phi-{which}", N_CHAIN) * 0.35
        fuzz_r = 1.4 + 1.6 * draws.uniform(f"fuzz-r-{which}", N_CHAIN)
        kinds = [
            (tail, tail_phi, tail_r, 0.14 + 0.16 * t, np.exp(-1.3 * t) * 0.0036),
            (stream, stream_phi, stream_r, 0.16 + 0 * t, (0.4 + 0 * t) * 0.0036),
            (shell, shell_phi, shell_r, 0.10 + 0 * t, np.exp(-6 * (t - 0.5) ** 2) * 0.0022),
            (diffuse, fuzz_phi, fuzz_r, 0.45 + 0 * t, (1 + 0 * t) * 0.0038),
        ]
        phi, radius, size, light = 0.0, 0.0, 1e-3, 0.0
        for strength, p, r, s, w in kinds:
            on = (strength > 0)[:, None]
            phi, radius, size = np.where(on, p, phi), np.where(on, r, radius), np.where(on, s, size)
            light = np.where(on, strength[:, None] * w, light)
        scale = scene["disc_radius"][:, None]
        x, y, size = scale * radius * np.cos(phi), scale * radius * np.sin(phi), scale * size
        tint = np.where((tail > 0)[:, None], scene["young_ratio"], scene["old_ratio"]) * scene["total"][:, 1:2]
        parts.append((x, y, size, size, light[..., None] * tint[:, None]))
    return tuple(np.concatenate([parts[0][i], parts[1][i]], axis=1) for i in range(5))


def _lens(draws: Draws, structure: dict, scene: dict):
    """A strong-lens arc and its counter-image: blue, thin, at about the half-light radius of a massive galaxy."""
    t = np.linspace(-1, 1, 10)
    start = 2 * np.pi * draws.uniform("lens-angle")[:, None]
    phi = start + (0.4 + 0.6 * structure["lens"])[:, None] * t
    phi = np.concatenate([phi, start + np.pi], axis=1)
    radius = np.append(np.full(10, 1.25), 0.85) * scene["bulge_radius"][:, None]
    size = np.repeat(0.09 * scene["bulge_radius"][:, None], 11, axis=1)
    share = np.append(np.full(10, 0.012), 0.03) * structure["lens"][:, None]
    tint = scene["total"][:, None, 1:2] * scene["young_ratio"][:, None] * np.array([1.3, 1.0, 0.8])
    return radius * np.cos(phi), radius * np.sin(phi), size, size, share[..., None] * tint


def _faults(draws: Draws, telescope: Telescope, scene: dict):
    """A saturated star with wings, spikes and a bleed trail; a bad column; scattered light; a star as the target."""
    n, fov, seeing = len(draws), scene["fov"], scene["psf_fwhm"]
    x0 = draws.between("fault-x", -0.45, 0.45) * fov
    y0 = draws.between("fault-y", -0.45, 0.45) * fov
    unit = scene["noise"]
    bright = 3000 * scene["bleed"] ** 2 * unit * fov**2 / 100
    white = np.array([0.9, 1.0, 1.05])
    zero = np.zeros(n)
    wide = 0.35 * fov
    star = scene["total"][:, 1] * 1.5 * (scene["star_target"] > 0)
    spike, halo = 0.25 * telescope.spikes, 0.2 * max(0.0, 1 - 2 * telescope.spikes)
    rows = [
        (x0, y0, 0.3 * seeing, 0.3 * seeing, bright),
        (x0, y0, 2.2 * seeing, 2.2 * seeing, 0.25 * bright),
        (x0, y0, 0.12 * fov, 0.12 * fov, halo * bright),
        (x0, y0, 0.13 * fov, 0.3 * seeing, spike * 0.4 * bright),
        (x0, y0, 0.3 * seeing, 0.13 * fov, spike * 0.4 * bright),
        (x0, zero, 0.25 * seeing, 0.8 * fov, 0.3 * telescope.spikes * bright),
        (x0, y0, wide, wide, 12 * scene["scattered"] * unit * fov**2 * 0.8),
        (x0, zero, 0.5 * telescope.pixel + zero, 5 * fov, 60 * scene["column"] * unit * fov * seeing),
        (zero, zero, zero, zero, 0.9 * star),
        (zero, zero, 1.6 * seeing, 1.6 * seeing, 0.1 * star),
        (zero, zero, zero, 0.2 * fov, 0.02 * star),
    ]
    x, y, sx, sy, flux = (np.stack([row[i] for row in rows], axis=1) for i in range(5))
    tint = np.repeat(np.repeat(white[None, None], len(rows), axis=1), n, axis=0)
    tint[:, 2] *= np.array([0.7, 0.8, 1.6])
    tint[:, 6] *= np.stack(
        [1.3 - draws.uniform("scatter-tint"), np.full(n, 0.8), 0.3 + draws.uniform("scatter-tint")], 1
    )
    return x, y, sx, sy, flux[..., None] * tint


def visible(telescope: Telescope, population: dict, structure: dict, scene: dict) -> dict[str, np.ndarray]:
    """Visible strengths, (n,) float64 each, from the numbers with which the very picture is drawn.

    A structure of scale s (arcsec) keeps ``1 / (1 + (0.42 FWHM / s)^2)`` of its contrast behind the telescope (the
    response of a Gaussian blur to a Gaussian structure of that width, in one direction squared), and counts in
    proportion to ``snr / (snr + 25)``, with ``snr`` the signal to noise of the mean surface brightness inside the
    half-light radius, over one resolution element. Volunteers see the survey's own resolution, so votes do not
    depend on the size to which a network's picture is reduced.
    """
    s = structure
    radius = np.where(s["disc_fraction"] > 0.02, scene["disc_radius"], scene["bulge_radius"])
    resolution = np.maximum(scene["psf_fwhm"], 2 * telescope.pixel)
    brightness = scene["total"][:, 1] / (2 * np.pi * population["radius"] ** 2)
    snr = brightness * resolution / scene["noise"]
    clarity = snr / (snr + 25)

    # What the disc carries stands out less beside a bright bulge.
    contrast = np.clip(1.2 * s["disc_fraction"], 0, 1)

    def sharp(scale):
        return 1 / (1 + (0.42 * resolution / scale) ** 2)

    open_view = np.clip((s["disc_q"] - 0.22) / 0.42, 0, 1)  # inclined discs hide more from the eye than from light
    faint = scene["noise"] * 0.35 / resolution
    glow = scene["total"][:, 1] / radius**2
    blur = (0.42 * resolution) ** 2

    def axis_ratio(q, r):
        return np.sqrt(((q * 0.6 * r) ** 2 + blur) / ((0.6 * r) ** 2 + blur))

    q_disc, q_bulge = axis_ratio(s["disc_q"], scene["disc_radius"]), axis_ratio(s["bulge_q"], scene["bulge_radius"])
    bulge_weight = s["bulge_fraction"] ** 1.3
    zoomed = np.where(scene["zoom"] < 1, 0.6, 1.0) * (1 - 0.9 * (scene["star_target"] > 0))
    arms = s["arms"] * open_view * contrast * sharp(0.30 * radius) * clarity * zoomed
    low = {
        name: s[name] * weight * glow / (weight * glow + faint * 8)
        for name, weight in (("tail", 0.05), ("stream", 0.03), ("shell", 0.03), ("diffuse", 0.02))
    }
    return {
        "clarity": clarity,
        "arms": arms,
        "open_view": open_view,
        "bar": s["bar"] * open_view * contrast * sharp(0.22 * radius * s["bar_length"]) * clarity * zoomed,
        "ring": np.maximum(s["ring_inner"], 0.6 * s["ring_outer"])
        * open_view
        * contrast
        * sharp(0.25 * radius)
        * clarity
        * zoomed,
        "axis_ratio": q_disc * (1 - bulge_weight) + q_bulge * bulge_weight,
        "edge_on": np.clip((0.62 - q_disc) / 0.42, 0, 1.2) * np.clip(1.3 * s["disc_fraction"], 0, 1) * zoomed,
        "disc": s["disc_fraction"] * sharp(0.5 * radius) * clarity * zoomed,
        "bulge": s["bulge_fraction"] * (0.6 + 0.4 * sharp(scene["bulge_radius"])),
        "boxy": s["boxy"] * np.clip((0.45 - s["cos_inclination"]) / 0.25, 0, 1) * sharp(0.6 * scene["bulge_radius"]),
        "dust": s["dust"] * np.clip((0.30 - s["cos_inclination"]) / 0.2, 0, 1) * sharp(0.15 * radius) * clarity,
        "knots": s["knots"] * sharp(0.1 * radius) * clarity,
        "clumps": s["clumps"] * sharp(0.15 * radius) * clarity,
        "clump_count": s["clump_count"],
        "texture": s["texture"] * sharp(0.4 * radius) * clarity * open_view,
        "lopsided": np.clip(s["lopsided"], 0, 1) * sharp(0.5 * radius) * clarity,
        "warp": s["warp"] * clarity,
        "pitch": np.rad2deg(s["pitch"]),
        "arm_count": s["arm_count"],
        "flocculence": s["flocculence"],
        "merger": s["major_merger"] * clarity,
        "minor_merger": s["minor_merger"] * sharp(0.5 * radius) * clarity,
        "overlap": (s["stage"] == 1) * scene["companion_near"] * clarity,
        "advance": s["advance"],
        **low,
        "lens": s["lens"] * sharp(0.2 * scene["bulge_radius"]) * clarity,
        "fault": np.maximum.reduce([scene[k] for k in ("trail", "bleed", "column", "edge", "scattered")]),
        "star_target": 1.0 * (scene["star_target"] > 0),
        "trail": scene["trail"],
        "bleed": scene["bleed"],
        "scattered": scene["scattered"],
        "column": np.maximum(scene["column"], scene["edge"]),
        "zoom": 1.0 * (scene["zoom"] != 1),
    }
