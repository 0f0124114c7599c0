"""How much of each structure shows in the picture that volunteers saw: contrast, blur, tilt, faintness, noise."""

import numpy as np

from gzlib.sky.telescopes import Telescope


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
