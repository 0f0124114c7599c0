"""Sersic profiles as sums of Gaussians, so that a point-spread function is folded in exactly by adding variances."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import torch
from scipy.special import ive

from gzlib.sky.detector import gaussian
from gzlib.sky.scene import BAND_SLOPE, DUST_LAW
from gzlib.sky.telescopes import PSF_GAUSSIANS, Telescope

TABLE = Path(__file__).with_name("calibration") / "sersic_gaussians.json"


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


# One Gaussian has the full width at half maximum of any Moffat profile: enough for sources that are mostly core.
CORE_WIDTH = 0.425
FEW_BLOBS = 96  # nine galaxies in ten have fewer that shine
CHUNK_PIXELS = 32768  # a chunk's picture plane stays in the cache of one core


def chunk_galaxies(size: int) -> int:
    """Galaxies drawn together; always this many (the last chunk is padded), so shapes never depend on the request."""
    return max(1, min(64, CHUNK_PIXELS // (size * size)))


def alike(arrays: dict[str, np.ndarray]) -> list[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Galaxies that cost the same, drawn together: rows, and their arrays, without what gives no light.

    Which group a galaxy belongs to is its own affair, so a picture never depends on what else is drawn.
    """
    crowded = (arrays["blob_peak"] > 0).any(2).sum(1) > FEW_BLOBS
    structured, paired = arrays["layer_sed"].any((1, 2)), arrays["second_amplitude"].any((1, 2))
    kind = 4 * crowded + 2 * structured + paired
    groups = []
    for which in np.unique(kind):
        rows = np.flatnonzero(kind == which)
        few = slice(None if which >= 4 else FEW_BLOBS)
        part = {k: v[rows][:, few] if k.startswith("blob_") else v[rows] for k, v in arrays.items()}
        groups.append((rows, part))
    return groups


def fine_cells(size: int) -> int:
    """Cells of the oversampled grid of the disc's structure; a multiple of 16, so vector loops have no remainder."""
    return int(np.clip(-(-size // 16) * 16, 64, 192))


def mixture(parts: list[tuple], scene: dict, gaussian_psf: tuple[float, float, float]) -> dict[str, np.ndarray]:
    """A smooth galaxy as elliptical Gaussians, PSF included: inverse covariances and amplitudes.

    Parameters
    ----------
    parts : list of (index, radius, axis ratio, angle, flux)
        Sersic profiles, (n,) each but the flux, which is (n, 3) nanomaggies; radii in arcsec, angles in radians.
    scene : dict
        ``psf_fwhm`` and ``colour_gradient`` (n,), and ``pixel_variance`` (n,), 1/12 pixel^2, which stands for
        averaging over a pixel.
    gaussian_psf : (share, width, width)
        A value of ``PSF_GAUSSIANS``.

    Returns
    -------
    dict
        ``quadratic`` (n, 3, k) for (x^2, xy, y^2) with the factor -1/2 inside, and ``amplitude`` (n, k, 3) in
        nanomaggies per square arcsec.
    """
    _, sigma, share = gaussians()
    core_share, core, wing = gaussian_psf
    quadratic, amplitude = [], []
    # The widest Gaussians of a profile can't tell the two parts of the PSF apart: its mean variance will do.
    mean_width = np.sqrt(core_share * core**2 + (1 - core_share) * wing**2)
    plan = [(slice(0, 6), core_share, core), (slice(0, 6), 1 - core_share, wing), (slice(6, None), 1.0, mean_width)]
    for index, radius, q, angle, flux in parts:
        rows = nearest(index)
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        tint = _gradient(scene["colour_gradient"], sigma[rows], share[rows])
        for which, psf_share, psf_width in plan:
            width, part = sigma[rows, which] * radius[:, None], share[rows, which]
            extra = ((psf_width * scene["psf_fwhm"]) ** 2 + scene["pixel_variance"])[:, None]
            major, minor = width**2 + extra, (width * q[:, None]) ** 2 + extra
            xx, yy = cos**2 / major + sin**2 / minor, sin**2 / major + cos**2 / minor
            quadratic.append(-0.5 * np.stack([xx, 2 * cos * sin * (1 / major - 1 / minor), yy], 1))
            peak = psf_share * part / (2 * np.pi * np.sqrt(major * minor))
            amplitude.append((peak[..., None] * tint[:, which]) * flux[:, None])
    return {"quadratic": np.concatenate(quadratic, 2), "amplitude": np.concatenate(amplitude, 1)}


def _gradient(slope: np.ndarray, sigma: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(n, k, 3) factors on a profile's Gaussians that change g - r by ``slope`` mag per dex of radius, light kept."""
    tint = 10 ** (-0.4 * slope[:, None, None] * BAND_SLOPE * np.log10(sigma)[..., None])
    return tint / (tint * share[..., None]).sum(1, keepdims=True)


TEXTURE = 512  # texels along one side of the periodic texture


@cache
def texture() -> np.ndarray:
    """(TEXTURE * TEXTURE,) float32, a periodic random field of unit variance whose power falls with frequency.

    Interstellar gas has power-law spectra over decades of scale (Elmegreen & Scalo 2004, ARA&A 42, 211); here from
    3 to 50 waves around the tile, beyond which a single texel would show.
    """
    k = np.hypot(np.fft.fftfreq(TEXTURE, 1 / TEXTURE)[:, None], np.fft.fftfreq(TEXTURE, 1 / TEXTURE)[None])
    white = np.fft.fft2(np.random.default_rng(20).standard_normal((TEXTURE, TEXTURE)))
    field = np.fft.ifft2(white * np.where(k > 0, (k**2 + 9.0) ** -0.7, 0) * np.exp(-((k / 50) ** 2))).real
    return (field / field.std()).astype(np.float32).ravel()


def structure_layers(grid: torch.Tensor, p: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Old light, young light and dust that the disc has beyond its smooth profile, (n, cells, cells) each.

    ``grid`` (n, cells) holds the cells' offsets in units of the disc's half-light radius. Values are relative to the
    disc's mean surface brightness inside that radius; the exponential disc falls as exp(-1.678 r).
    """

    def of(name):
        return p[name][:, None, None]

    x, y = grid[:, None, :], grid[:, :, None]
    u, v = x * of("cos") + y * of("sin"), y * of("cos") - x * of("sin")
    v = (v - of("warp") * u * u.abs()) * of("inverse_q")
    r = torch.sqrt(u * u + v * v + 1e-4)
    log_r, phi = torch.log(r), torch.atan2(v, u)
    disc = 1.678**2 * gaussian(-1.678 * r)
    # Logarithmic spiral (Davis et al. 2012, ApJS 199, 33): phi = ln(r) / tan(pitch).
    spiral = phi - of("wind") * log_r
    side = torch.cos(phi - of("lopsided_angle"))
    phase = (
        of("arm_count") * spiral - of("arm_phase") + of("wander") * (side + torch.cos(2.6 * log_r + of("arm_phase")))
    )
    # Patches: in discs sheared along the arms, in irregular galaxies as they come.
    per_radian = TEXTURE / (2 * np.pi)
    along = torch.lerp(spiral, 0.9 * u, of("irregular")) * per_radian + of("texture_x")
    across = torch.lerp(0.55 * log_r, 0.9 * v, of("irregular")) * per_radian + of("texture_y")
    texel = (along.to(torch.int32) & (TEXTURE - 1)) * TEXTURE + (across.to(torch.int32) & (TEXTURE - 1))
    field = torch.from_numpy(texture()).to(r.device)
    rough = field[texel]
    patches = gaussian(of("patch_gain") * rough - 0.5 * of("patch_gain") ** 2)
    ridge = torch.exp(of("sharpness") * (torch.cos(phase) - 1)) * (1 + 0.3 * side)
    zone = torch.sigmoid((r - of("arm_start")) * 6) * gaussian(-((r * (1 / 2.3)) ** 4))
    arms = of("arms") * zone * (ridge * patches - of("ridge_mean"))
    lane = of("lane") * zone * torch.exp(of("sharpness") * (torch.cos(phase + 0.9) - 1))
    a, b = u * of("bar_cos") + v * of("bar_sin"), v * of("bar_cos") - u * of("bar_sin")
    inside = (1 - (a * of("bar_a")) ** 2 - (b * of("bar_b")) ** 2).clamp(min=0)
    bar = of("bar") * inside
    inner = of("ring_inner") * gaussian(-((r - of("ring_radius")) ** 2) * 24) * (0.5 + 0.5 * patches)
    outer = of("ring_outer") * gaussian(-((r - 2 * of("ring_radius")) ** 2) * 9) * (0.5 + 0.5 * patches)
    uneven = of("texture") * rough + of("lopsided") * side * (r.clamp(max=2.0))
    uneven = uneven.clamp(min=-1.2, max=2.0)
    speckled = of("speckle") * (patches - 1)
    old = disc * (0.35 * arms + 0.4 * uneven) + bar + 0.6 * inner + 0.5 * outer
    young = disc * (0.65 * arms + 0.3 * uneven + speckled) + 0.5 * inner + 0.5 * outer
    edge = gaussian(-((v * (1 / 0.22)) ** 2) - 0.9 * u.abs()) * (1 + 0.4 * rough).clamp(min=0)
    dust = -disc * (lane + of("dust_patches") * rough.clamp(min=-1.5, max=0).square()) - of("edge_dust") * edge
    return [old, young, dust]


def layer_inputs(scene: dict, structure: dict) -> dict[str, np.ndarray]:
    """Per-galaxy numbers that :func:`structure_layers` reads."""
    s = structure
    open_view = np.clip((s["disc_q"] - 0.22) / 0.25, 0, 1)  # arms and rings vanish in a disc seen from the side
    sharp = 1.2 + 1.8 * (1 - s["flocculence"])
    edge_on = np.clip((0.30 - s["cos_inclination"]) / 0.2, 0, 1)
    bar_a = 1 / s["bar_length"]
    return {
        "cos": np.cos(s["position_angle"]),
        "sin": np.sin(s["position_angle"]),
        "warp": 0.10 * s["warp"],
        "inverse_q": 1 / s["disc_q"],
        "arm_count": s["arm_count"],
        "wind": s["handedness"] / np.tan(s["pitch"]),
        "arm_phase": s["arm_phase"],
        "wander": s["wander"],
        "sharpness": sharp,
        "ridge_mean": ive(0, sharp),
        "arms": 1.7 * s["arms"] * open_view,
        "arm_start": np.where(s["bar"] > 0.15, 0.9 * s["bar_length"], 0.25),
        "lane": 0.5 * s["dust"] * s["arms"] * open_view,
        "bar": 3.6 * s["bar"] * open_view / np.clip(s["disc_fraction"], 0.35, 1),
        "bar_a": bar_a,
        "bar_b": bar_a * (2.6 + 1.9 * s["bar"]),
        "bar_cos": np.cos(s["bar_angle"]),
        "bar_sin": np.sin(s["bar_angle"]),
        "ring_inner": 0.50 * s["ring_inner"] * open_view,
        "ring_outer": 0.20 * s["ring_outer"] * open_view,
        "ring_radius": s["ring_radius"],
        "texture": 0.8 * s["texture"],
        "irregular": 1.0 * s["irregular"],
        "texture_x": TEXTURE * s["texture_x"] + 8 * TEXTURE,  # a truncated index must not change sign inside a galaxy
        "texture_y": TEXTURE * s["texture_y"] + 8 * TEXTURE,
        "patch_gain": s["patchiness"],
        "speckle": s["speckle"] * open_view,
        "dust_patches": 0.08 * s["dust"] * open_view,
        "lopsided": s["lopsided"],
        "lopsided_angle": s["lopsided_angle"],
        "edge_dust": 1.6 * s["dust"] * edge_on,
    }


def plan_arrays(telescope: Telescope, structure: dict, scene: dict, blobs: dict, size: int) -> dict[str, np.ndarray]:
    """All of a scene's numbers in float32, lengths scaled as the renderer wants them."""
    pixel = scene["fov"] / size
    scene = scene | {"pixel_variance": pixel**2 / 12}
    psf = PSF_GAUSSIANS[telescope.moffat_beta]
    angle = structure["position_angle"]
    bulge = (structure["bulge_index"], scene["bulge_radius"], structure["bulge_q"], angle, scene["bulge_flux"])
    disc = (np.ones(len(pixel)), scene["disc_radius"], structure["disc_q"], angle, scene["disc_flux"])
    arrays = mixture([bulge, disc], scene, psf) | layer_inputs(scene, structure)
    second = mixture(scene["companion"], scene, psf)
    mean_brightness = scene["disc_flux"][:, 1] / (2 * np.pi * scene["disc_radius"] ** 2 * structure["disc_q"])
    reach = np.minimum(scene["fov"] / 2, scene["disc_radius"] * 2.6)
    lit_first = np.argsort(~(blobs["flux"] > 0).any(2), axis=1, kind="stable")
    blobs = {k: np.take_along_axis(v, lit_first[..., None] if v.ndim == 3 else lit_first, 1) for k, v in blobs.items()}
    blob_variance = (CORE_WIDTH * scene["psf_fwhm"][:, None]) ** 2 + (pixel**2 / 12)[:, None]
    sx, sy = (np.sqrt(blobs[k] ** 2 + blob_variance) for k in ("sx", "sy"))
    blob_peak = blobs["flux"] / (2 * np.pi * sx * sy)[..., None]
    dust = scene["disc_flux"] / np.maximum(scene["disc_flux"][:, 1:2], 1e-12) * DUST_LAW
    arrays |= {
        "pixel": pixel,
        "reach": reach,
        "per_radius": 1 / scene["disc_radius"],
        "centre": scene["centre"],
        "psf_share": np.broadcast_to([psf[0], 1 - psf[0]], (len(pixel), 2)),
        "psf_width": scene["psf_fwhm"][:, None] * psf[1:],
        "second_quadratic": second["quadratic"],
        "second_amplitude": second["amplitude"],
        "second_x": scene["companion_x"],
        "second_y": scene["companion_y"],
        "layer_sed": mean_brightness[:, None, None] * np.stack([scene["old_ratio"], scene["young_ratio"], dust], 1),
        "blob_x": blobs["x"],
        "blob_y": blobs["y"],
        "blob_px": 1 / (np.sqrt(2) * sx),
        "blob_py": 1 / (np.sqrt(2) * sy),
        "blob_peak": blob_peak,
        "noise": scene["noise"],
        "noise_factor": scene["noise_factor"],
        "gradient": scene["gradient"],
        "registration": scene["registration"] / pixel[:, None],
        "background": scene["background"],
        "trail": scene["trail"],
        "trail_cos": np.cos(scene["trail_angle"]),
        "trail_sin": np.sin(scene["trail_angle"]),
        "trail_offset": scene["trail_offset"],
        "trail_band": scene["trail_band"],
        "edge": scene["edge"],
        "hidden": 1.0 * (scene["star_target"] > 0),
    }
    arrays = {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in arrays.items()}
    return arrays | {"pixel_key": scene["pixel_key"].astype(np.int32)}


def light(p: dict[str, torch.Tensor], size: int) -> torch.Tensor:
    """Surface brightness seen through the telescope, (n, 3, size, size) nanomaggies per square arcsec, noise-free."""
    axis = torch.arange(size, dtype=torch.float32, device=p["pixel"].device) - (size - 1) / 2
    sky = axis[None, :] * p["pixel"][:, None]
    x, y = sky - p["centre"][:, :1], sky - p["centre"][:, 1:]
    shown = (1 - p["hidden"])[:, None, None]
    picture = _ellipses(x, y, p["quadratic"], p["amplitude"] * shown)
    # The checks spare galaxies without a companion, or without a disc, half of the work.
    if bool(p["second_amplitude"].any()):
        apart = x - p["second_x"][:, None], y - p["second_y"][:, None]
        picture = picture + _ellipses(*apart, p["second_quadratic"], p["second_amplitude"] * shown)

    gx = gaussian(-(((x[:, None, :] - p["blob_x"][:, :, None]) * p["blob_px"][:, :, None]) ** 2))
    gy = gaussian(-(((y[:, None, :] - p["blob_y"][:, :, None]) * p["blob_py"][:, :, None]) ** 2))
    n = len(sky)
    weighted = (
        (p["blob_peak"].transpose(1, 2)[:, :, :, None] * gy[:, None]).permute(0, 1, 3, 2).reshape(n, 3 * size, -1)
    )
    picture = picture + torch.bmm(weighted, gx).reshape(n, 3, size, size)
    return picture + _layers_seen(x, y, p, size) if bool(p["layer_sed"].any()) else picture


def _ellipses(x, y, quadratic, amplitude) -> torch.Tensor:
    """(n, 3, size, size) sum of elliptical Gaussians about the origin; ``x`` and ``y`` (n, size) in arcsec."""
    n, size = x.shape
    xx = (x * x)[:, None, :].expand(n, size, size)
    yy = (y * y)[:, :, None].expand(n, size, size)
    basis = torch.stack([xx, y[:, :, None] * x[:, None, :], yy], -1).reshape(n, -1, 3)
    profiles = gaussian(torch.bmm(basis, quadratic)).transpose(1, 2)
    return torch.bmm(amplitude.transpose(1, 2), profiles).reshape(n, 3, size, size)


def _layers_seen(x: torch.Tensor, y: torch.Tensor, p: dict[str, torch.Tensor], size: int) -> torch.Tensor:
    """(n, 3, size, size) light that the disc's structure adds, behind the telescope."""
    n, cells = len(x), fine_cells(size)
    step = 2 * p["reach"] / cells
    fine = (torch.arange(cells, dtype=torch.float32, device=x.device) - (cells - 1) / 2)[None] * step[:, None]
    layers = torch.stack(structure_layers(fine * p["per_radius"][:, None], p), 1)
    blur_x, blur_y = (_blur_matrices(axis, fine, p) for axis in (x, y))
    seen = sum(
        p["psf_share"][:, which, None, None, None]
        * torch.matmul(torch.matmul(blur_y[which][:, None], layers), blur_x[which][:, None].transpose(2, 3))
        for which in (0, 1)
    )
    seen = torch.bmm(p["layer_sed"].transpose(1, 2), seen.reshape(n, 3, size * size))
    return (seen * (1 - p["hidden"])[:, None, None]).reshape(n, 3, size, size)


def _blur_matrices(axis: torch.Tensor, fine: torch.Tensor, p: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """(n, size, cells) for each Gaussian of the PSF: share of a cell's light that falls into a pixel."""
    edges = torch.cat([axis - p["pixel"][:, None] / 2, axis[:, -1:] + p["pixel"][:, None] / 2], 1)
    offset = edges[:, :, None] - fine[:, None, :]
    cell = (2 * p["reach"] / fine.shape[1] / p["pixel"])[:, None, None]
    out = []
    for which in (0, 1):
        step = torch.erf(offset / (1.41421356 * p["psf_width"][:, which, None, None]))
        out.append((step[:, 1:] - step[:, :-1]) * (0.5 * cell))
    return out


def to_device(arrays: dict[str, np.ndarray], device) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value).to(device) for name, value in arrays.items()}
