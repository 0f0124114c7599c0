"""Numbers that describe a galaxy's image and the sources around it, real or simulated, for sky_realism.py."""

import numpy as np
from scipy import ndimage

LEAST_PEAK = 15  # grey levels above the background of a neighbour that counts


def measures(pictures: np.ndarray) -> dict[str, np.ndarray]:
    """Per-picture numbers of (n, size, size, 3) uint8 images; ``neighbour_*`` are per neighbour, all lengths in px.

    ``profile_*`` are mean grey levels above the background in rings; ``core_width`` is the full width at half maximum
    of the central peak; ``asymmetry`` the light that half a turn about the centroid changes, as a share; ``detail_*``
    the scatter between 0 and 1, 1 and 2, 2 and 4 px (Gaussian widths) inside the galaxy as a share of its light and,
    with ``sky_``, in the background in grey levels; ``colour`` is red minus blue as a share of the light.
    """
    rows = [_one(picture.astype(float)) for picture in pictures]
    return {name: np.concatenate([np.atleast_1d(row[name]) for row in rows]) for name in rows[0]}


def _one(colour: np.ndarray) -> dict:
    side = len(colour)
    y, x = np.indices((side, side)) - (side - 1) / 2
    radius = np.hypot(x, y)
    outside = radius > 0.35 * side
    bands = colour - np.median(colour[outside], axis=0)
    grey = colour.mean(2) - np.median(colour.mean(2)[outside])
    noise = 1.4826 * np.median(np.abs(grey[outside])) + 0.5
    smooth = ndimage.gaussian_filter(grey, 0.8)
    labels, _ = ndimage.label(smooth > max(2.4 * noise, 6))
    middle = slice(side // 2 - 4, side // 2 + 4)
    central = labels[middle, middle]
    main = np.bincount(central[central > 0]).argmax() if (central > 0).any() else -1
    galaxy = labels == main
    rings = zip((0, 3, 8, 16, 22), (3, 8, 16, 22, 30), strict=True)
    found = {f"profile_{a}_{b}": grey[(radius >= a) & (radius < b)].mean() for a, b in rings}
    peak = smooth[middle, middle].max()
    found["core_width"] = _width(np.where(galaxy, smooth, 0), peak)
    found["area_root"] = np.sqrt(galaxy.sum())
    (cy, cx), found["axis_ratio"] = _moments(np.where(galaxy, grey, 0).clip(0))
    near = galaxy & (radius < 0.2 * side)
    total = grey[near].sum() + 50
    centred = ndimage.shift(grey, ((side - 1) / 2 - cy, (side - 1) / 2 - cx), order=1, mode="nearest")
    found["off_centre"] = np.hypot(cy - (side - 1) / 2, cx - (side - 1) / 2)
    found["asymmetry"] = np.abs(centred - centred[::-1, ::-1])[near].sum() / total
    found["colour"] = (bands[..., 0] - bands[..., 2])[near].sum() / total
    ring = near & (radius > 4)
    for fine, coarse in ((0, 1), (1, 2), (2, 4)):
        band = ndimage.gaussian_filter(grey, fine) - ndimage.gaussian_filter(grey, coarse)
        found[f"detail_{fine}_{coarse}"] = band[ring].std() / (grey[ring].mean() + 5) if ring.sum() > 10 else 0.0
        found[f"sky_detail_{fine}_{coarse}"] = 1.4826 * np.median(np.abs(band[outside]))
    return found | _neighbours(labels, main, smooth, bands)


def _neighbours(labels: np.ndarray, main: int, smooth: np.ndarray, bands: np.ndarray) -> dict:
    widths, peaks, ratios, colours = [], [], [], []
    for label, box in enumerate(ndimage.find_objects(labels), 1):
        inside = labels[box] == label
        source = np.where(inside, smooth[box], 0)
        if label == main or inside.sum() < 3 or source.max() < LEAST_PEAK:
            continue
        widths.append(_width(source, source.max()))
        peaks.append(source.max())
        ratios.append(_moments(source)[1])
        red, _, blue = bands[box][inside].mean(0)
        colours.append((red - blue) / (bands[box][inside].mean(0).sum() + 5))
    found = {"neighbour_width": widths, "neighbour_peak": peaks}
    return found | {"neighbour_axis_ratio": ratios, "neighbour_colour": colours, "neighbours": len(widths)}


def _width(source: np.ndarray, peak: float) -> float:
    """Diameter of a disc as large as what is brighter than half the peak."""
    return 2 * np.sqrt((source > peak / 2).sum() / np.pi)


def _moments(light: np.ndarray) -> tuple[tuple[float, float], float]:
    """Centroid (y, x) and axis ratio of the second moments."""
    total = light.sum() + 1e-9
    y, x = np.indices(light.shape)
    cy, cx = (light * y).sum() / total, (light * x).sum() / total
    covariance = np.array(
        [
            [(light * (y - cy) ** 2).sum(), (light * (y - cy) * (x - cx)).sum()],
            [(light * (y - cy) * (x - cx)).sum(), (light * (x - cx) ** 2).sum()],
        ]
    )
    least, most = np.linalg.eigvalsh(covariance / total).clip(0.05)
    return (cy, cx), float(np.sqrt(least / most))
