"""From light to the picture that volunteers saw: noise, faults, colour stretch, eight bits."""

import torch

from gzlib.data.sky.telescopes import Telescope


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


def expose(picture: torch.Tensor, p: dict[str, torch.Tensor], telescope: Telescope) -> torch.Tensor:
    """Add sky gradient, photon and read noise, satellite trail and frame edge; nanomaggies per square arcsec."""
    n, _, size, _ = picture.shape
    axis = (torch.arange(size, dtype=torch.float32, device=picture.device) - (size - 1) / 2) / (size / 2)
    x, y = axis[None, None, :], axis[None, :, None]
    sky = 10 ** (0.4 * (22.5 - telescope.sky))
    # The shown pictures are resampled JPEGs: neighbouring pixels share noise (correlation about 0.3 in the cutouts of
    # SDSS and DECam), and halved colour resolution makes most of it common to the three bands (about 0.85).
    noise = pixel_noise(p["pixel_key"], size)
    common = noise.sum(1, keepdim=True) * (1 / 3**0.5)
    common = (common + 0.33 * (torch.roll(common, 1, 2) + torch.roll(common, 1, 3))) * (1 / 1.1035)
    noise = 0.92 * common + 0.39 * noise
    sigma = p["noise"][:, None, None, None] / torch.clamp(p["pixel"], min=0.7 * telescope.pixel)[:, None, None, None]
    picture = picture + noise * sigma * torch.sqrt(1 + picture.clamp(min=0) / sky)
    slope = p["gradient"][:, 0, None, None] * x + p["gradient"][:, 1, None, None] * y
    distance = x * p["trail_sin"][:, None, None] - y * p["trail_cos"][:, None, None] - p["trail_offset"][:, None, None]
    trail = 40 * (p["trail"] * p["noise"] / telescope.pixel)[:, None, None] * torch.exp(-(distance**2) * 2500)
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
    levels = (shown / peak).clamp(min=0) * 255 + 0.5
    return levels.to(torch.uint8).flip(1).permute(0, 2, 3, 1).contiguous()
