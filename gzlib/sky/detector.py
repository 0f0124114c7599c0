"""From light to the picture that volunteers saw: noise, faults, colour stretch, eight bits."""

import numpy as np
import torch

from gzlib.sky.telescopes import Telescope

CUTOUT = 424  # pixels of the files that Galaxy Zoo shows
CUT = 3 / 255  # width of the rounding at black, about the noise of the SDSS pictures

BRIGHTEST = 4.0  # nanomaggies per square arcsec beyond which noise hardly grows: the stretch flattens bright light


def gaussian(exponent: torch.Tensor) -> torch.Tensor:
    """exp, in place, without the denormal results that slow a CPU down tenfold."""
    return exponent.clamp_(min=-50.0).exp_()


def _hash(x: torch.Tensor) -> torch.Tensor:
    """A 32-bit integer hash (two multiply-xorshift rounds); int32 arithmetic wraps alike on every device."""
    x = (x ^ ((x >> 16) & 0xFFFF)) * 0x7FEB352D
    x = (x ^ ((x >> 15) & 0x1FFFF)) * -2073319029
    return x ^ ((x >> 16) & 0xFFFF)


def pixel_noise(key: torch.Tensor, size: int) -> torch.Tensor:
    """(n, 3, size, size) standard normal numbers from each galaxy's key (Box & Muller 1958)."""
    n = len(key)
    half = -(-3 * size * size // 2)
    counter = torch.arange(1, half + 1, dtype=torch.int32, device=key.device) * -1640531527
    bits = _hash(_hash(counter)[None, :] ^ key[:, None])
    radius = torch.sqrt(-2 * torch.log((((bits >> 16) & 0xFFFF).float() + 0.5) * (1 / 65536)))
    angle = (bits & 0xFFFF).float() * (6.2831853 / 65536)
    pair = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], 1)
    return pair[:, : 3 * size * size].reshape(n, 3, size, size)


def correlated_noise(picture: torch.Tensor, p: dict[str, torch.Tensor], telescope: Telescope) -> torch.Tensor:
    """(n, 3, size, size) noise of the sky and of the light in ``picture``, nanomaggies per square arcsec.

    Detector pixels have independent noise; the cutout service smooths it by a kernel of ``grain`` pixels, and a
    picture's pixel averages it. So large frames show white noise that falls with the pixel's size, and frames finer
    than the detector show blotches. Colour is smoothed more than brightness, because the cutouts are JPEG files with
    half of the resolution in colour; that scale is one of the 424 px file. Kernels stand for Gaussians: a pixel of
    side w has variance w^2 / 12. Bright sources add photons, so they are noisier; in colour all the more, because the
    services cut faint colours at black.
    """
    size = picture.shape[2]
    smoothing = telescope.grain * telescope.pixel
    colour_smoothing = telescope.chroma_grain * size / CUTOUT * p["pixel"]
    kernels = smoothing, colour_smoothing
    brightness, colour = (_smoothing((s / p["pixel"]) ** 2, size) for s in kernels)
    spread = torch.stack([brightness, colour, colour], 1)
    white = pixel_noise(p["pixel_key"], size).to(brightness.dtype)
    white = torch.matmul(torch.matmul(spread, white), spread.transpose(2, 3))
    if telescope.specks:
        white[:, 1:] *= white[:, 1:].abs() / np.sqrt(3)
    sigma, sigma_colour = ((p["noise"] / torch.sqrt(p["pixel"] ** 2 + 12 * s**2))[:, None, None] for s in kernels)
    sky, sky_colour = (10 ** (0.4 * (22.5 - level)) for level in (telescope.sky, telescope.sky_colour))
    bright = picture.mean(1).clamp(min=0)
    bright = bright / (1 + bright / BRIGHTEST)
    white[:, 0] *= sigma * torch.sqrt(1 + bright / sky)
    white[:, 1:] *= (sigma_colour * torch.sqrt(1 + bright / sky_colour))[:, None]
    bands = torch.from_numpy(noise_mixing(telescope)).to(sigma.device) * p["noise_factor"][..., None]
    return torch.bmm(bands, white.reshape(len(white), 3, -1)).reshape(white.shape)


def file_noise(p: dict[str, torch.Tensor], telescope: Telescope, size: int) -> torch.Tensor:
    """(n, 3, size, size) errors of the JPEG file, alike in all bands of the picture; nanomaggies per square arcsec.

    Compression rounds each block's frequencies, which leaves errors of the block's scale, whatever the sky's scale.
    """
    spread = _smoothing(torch.full((1,), (telescope.file_grain * size / CUTOUT) ** 2, device=p["pixel"].device), size)
    white = pixel_noise(p["pixel_key"] ^ 0x5BD1E995, size)[:, :1]
    gain = torch.tensor(telescope.stretch, dtype=torch.float32, device=white.device)[:, None, None]
    return telescope.file_noise / 255 / gain * torch.matmul(torch.matmul(spread, white), spread.transpose(1, 2))


def _smoothing(variance: torch.Tensor, size: int) -> torch.Tensor:
    """(n, size, size) matrices that smooth unit noise along an axis by a Gaussian and a pixel, and leave it unit."""
    step = torch.arange(size, dtype=torch.float32, device=variance.device)
    distance = (step[:, None] - step[None, :]) ** 2
    spread = gaussian(-distance[None] * (0.5 / (variance + 1 / 12))[:, None, None])
    return spread / torch.sqrt((spread * spread).sum(2, keepdim=True))


def noise_mixing(telescope: Telescope) -> np.ndarray:
    """(3, 3) float32: noise of brightness and of two colours to noise of the bands that *shows* ``noise_bands``.

    The picture service mixes bands when it takes colour away, so the wanted noise is carried back through it.
    """
    principal = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]).T / np.sqrt([1, 2, 6])
    principal[:, 1:] *= telescope.noise_colour
    shown = np.array(telescope.noise_bands)[:, None] * principal
    service = telescope.saturation * np.eye(3) + (1 - telescope.saturation) / 3
    gain = np.array(telescope.stretch)
    back = np.linalg.solve(service, shown) * (gain[1] / gain)[:, None]
    return back.astype(np.float32)


def misregistered(picture: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Blue and red band moved by a fraction of a pixel, ``shift`` (n, 4): x and y of blue, x and y of red.

    To first order, by the slope of the light, which is enough below half a pixel; the frame's edge stays.
    """
    slope = torch.zeros(2, *picture[:, ::2].shape, dtype=picture.dtype, device=picture.device)
    slope[0, ..., 1:-1] = picture[:, ::2, :, 2:] - picture[:, ::2, :, :-2]
    slope[1, ..., 1:-1, :] = picture[:, ::2, 2:] - picture[:, ::2, :-2]
    half = 0.5 * shift.clamp(min=-0.5, max=0.5).reshape(-1, 2, 2, 1, 1)
    picture[:, ::2] = (picture[:, ::2] - half[:, :, 0] * slope[0] - half[:, :, 1] * slope[1]).clamp(min=0)
    return picture


def expose(picture: torch.Tensor, p: dict[str, torch.Tensor], telescope: Telescope) -> torch.Tensor:
    """Add sky gradient, photon and read noise, satellite trail and frame edge; nanomaggies per square arcsec."""
    size = picture.shape[2]
    picture = misregistered(picture, p["registration"])
    axis = (torch.arange(size, dtype=torch.float32, device=picture.device) - (size - 1) / 2) / (size / 2)
    x, y = axis[None, None, :], axis[None, :, None]
    picture = picture + correlated_noise(picture, p, telescope) + file_noise(p, telescope, size)
    slope = p["gradient"][:, 0, None, None] * x + p["gradient"][:, 1, None, None] * y
    distance = x * p["trail_sin"][:, None, None] - y * p["trail_cos"][:, None, None] - p["trail_offset"][:, None, None]
    trail = 40 * (p["trail"] * p["noise"] / telescope.pixel)[:, None, None] * gaussian(-(distance**2) * 2500)
    # SDSS scans band after band, so a satellite shows in one colour; here each trail has one band above the others.
    bands = torch.arange(3, dtype=torch.float32, device=picture.device)
    tint = torch.where((p["trail_band"][:, None].floor() - bands[None]).abs() < 0.5, 1.0, 0.25)
    picture = picture + slope[:, None] + trail[:, None] * tint[:, :, None, None]
    outside = (x > 1.05 - 1.1 * p["edge"][:, None, None]) & (p["edge"][:, None, None] > 0)
    return torch.where(outside[:, None], torch.zeros_like(picture), picture)


def stretch(picture: torch.Tensor, p: dict[str, torch.Tensor], telescope: Telescope) -> torch.Tensor:
    """uint8 (n, size, size, 3), red first: the asinh colour stretch of Lupton et al. (2004, PASP 116, 133).

    ``p["background"]`` (n, 3) is the grey level that each picture's empty sky is left with.
    """
    gain = torch.tensor(telescope.stretch, dtype=torch.float32, device=picture.device)
    scaled = picture * gain[None, :, None, None]
    mean = (scaled[:, 0] + scaled[:, 1] + scaled[:, 2]) * (1 / 3)
    q = telescope.softening
    positive = mean.clamp(min=1e-6)
    factor = torch.where(
        mean > 1e-6, torch.log(q * positive + torch.sqrt((q * positive) ** 2 + 1)) / (q * positive), 1.0
    )[:, None]
    grey = mean[:, None]
    shown = factor * (grey + telescope.saturation * (scaled - grey)) + p["background"][:, :, None, None]
    peak = shown.amax(1, keepdim=True).clamp(min=1.0)
    # The service cuts at zero before its small pixels are averaged, which rounds the cut off.
    shown = 0.5 * (shown + torch.sqrt(shown * shown + CUT**2))
    levels = shown / peak * 255 + 0.5
    return levels.to(torch.uint8).flip(1).permute(0, 2, 3, 1).contiguous()
