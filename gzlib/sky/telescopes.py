"""What each survey's telescope and picture service do to a galaxy's light."""

from dataclasses import dataclass, replace

import numpy as np

# Whose decision trees have simulated volunteers; the other telescopes serve downstream tasks.
CAMPAIGNS = ("gz2", "dr12", "dr5", "dr8", "candels", "hubble", "cd", "ukidss")

# Moffat profiles as two Gaussians, by wing slope: share of the first, and both widths in units of the full width at
# half maximum; the least worst error that benchmarks/sky_physics.py --psf finds behind discs and bulges of any width.
PSF_GAUSSIANS = {
    2.5: (0.548, 0.410, 0.967),
    3.0: (0.557, 0.401, 0.843),
    3.5: (0.559, 0.395, 0.767),
    4.0: (0.571, 0.394, 0.722),
}


@dataclass(frozen=True)
class Telescope:
    """One survey's view; angles in arcsec, surface brightness in AB mag per square arcsec.

    Attributes
    ----------
    bands : tuple of str
        Blue, middle and red band of the colour picture.
    pixel, psf_fwhm, seeing_scatter : float
        Detector pixel, median full width at half maximum and its scatter (natural log).
    moffat_beta : float
        Wing slope of the Moffat point-spread function, one of ``PSF_GAUSSIANS``.
    depth : float
        Surface brightness whose flux in one square arcsec equals one standard deviation of the noise, middle band.
    sky, sky_colour : float
        Surface brightness of a source that doubles the variance of the noise, in brightness and in colour.
    magnitude_limit, redshift, mass_floor, r90_min : float
        Selection: limit in the middle band, scale of the redshift distribution, lowest log mass, smallest R90.
    frame, frame_50, frame_least : float
        Width of the cutout in units of the measured R90; at most this many times R50, and at least this many arcsec.
    stretch : (float, float, float)
        Gain of blue, middle and red before the asinh stretch.
    saturation, softening : float
        How much colour the picture keeps (1: all), and the asinh softening Q.
    black, black_scatter : (float, float, float)
        Level (0 to 1) of empty sky in blue, middle and red before the picture is cut at black, and its scatter from
        picture to picture.
    grain : float
        Kernel with which resampling smooths the detector's noise: standard deviation in detector pixels.
    chroma_grain : float
        Kernel of the noise in colour, which the JPEG files carry at half the resolution; in pixels of the 424 px file.
    noise_bands : (float, float, float)
        Noise of blue, middle and red as the picture shows it, in units of what ``depth`` says.
    specks : bool
        Whether colour shows in specks, with most of the sky nearly grey: where a service cuts each band at black.
    noise_colour, noise_scatter, depth_scatter : float
        Noise in colour, before its kernel smooths it, in units of that in brightness; scatter of each band's noise,
        and of all bands' noise together, between pictures (natural log).
    file_noise, file_grain : float
        Errors of the JPEG file in the quiet sky, standard deviation in grey levels (of 255), and their kernel in
        pixels of the 424 px file.
    registration : float
        How far the blue and the red band are shifted against the middle one, standard deviation in each direction.
    centring : (float, float)
        Offset of the target from the frame's centre, right and down alike, and its scatter; in widths of the frame.
    stars, spikes : float
        Foreground stars per square arcmin; strength of diffraction spikes.
    field, field_limit, field_red : float
        Background galaxies per square arcmin, down to this magnitude; how much redder (g - r) than around SDSS's.
    artefacts, gradient : float
        Chance of a spoilt picture; typical background slope in units of the noise.
    """

    name: str
    bands: tuple[str, str, str]
    pixel: float
    psf_fwhm: float
    seeing_scatter: float
    moffat_beta: float
    depth: float
    sky: float
    sky_colour: float
    magnitude_limit: float
    redshift: float
    mass_floor: float
    r90_min: float
    frame: float
    frame_50: float
    frame_least: float
    stretch: tuple[float, float, float]
    saturation: float
    softening: float
    black: tuple[float, float, float]
    black_scatter: tuple[float, float, float]
    grain: float
    chroma_grain: float
    noise_bands: tuple[float, float, float]
    specks: bool
    noise_colour: float
    noise_scatter: float
    depth_scatter: float
    file_noise: float
    file_grain: float
    registration: float
    centring: tuple[float, float]
    stars: float
    spikes: float
    field: float
    field_limit: float
    field_red: float
    artefacts: float
    gradient: float


_SDSS = Telescope(
    name="SDSS",
    bands=("g", "r", "i"),
    pixel=0.396,
    psf_fwhm=1.25,
    seeing_scatter=0.12,
    moffat_beta=3.0,
    depth=25.95,
    sky=23.5,
    sky_colour=26.3,
    magnitude_limit=17.0,
    redshift=0.057,
    mass_floor=8.8,
    r90_min=4.2,
    frame=8.48,
    frame_50=np.inf,
    frame_least=0.0,
    stretch=(0.395, 0.30, 0.277),
    saturation=0.95,
    softening=7.0,
    black=(0.0076, 0.0153, 0.0161),
    black_scatter=(0.004, 0.004, 0.005),
    grain=0.60,
    chroma_grain=9.0,
    noise_bands=(1.00, 1.00, 1.02),
    specks=True,
    noise_colour=1.4,
    noise_scatter=0.1,
    depth_scatter=0.16,
    file_noise=1.27,
    file_grain=4.5,
    registration=0.04,
    centring=(0.0045, 0.006),
    stars=3.0,
    spikes=0.0,
    field=10.0,
    field_limit=23.3,
    field_red=0.0,
    artefacts=0.05,
    gradient=0.18,
)
_DECAM = Telescope(
    name="DECam",
    bands=("g", "r", "z"),
    pixel=0.262,
    psf_fwhm=1.0,
    seeing_scatter=0.10,
    moffat_beta=3.0,
    depth=27.1,
    sky=22.6,
    sky_colour=24.65,
    magnitude_limit=17.0,
    redshift=0.057,
    mass_floor=8.8,
    r90_min=4.2,
    frame=8.48,
    frame_50=16.96,
    frame_least=42.4,
    stretch=(0.95, 0.64, 0.55),
    saturation=0.42,
    softening=7.0,
    black=(0.0629, 0.0619, 0.0669),
    black_scatter=(0.0031, 0.0025, 0.0040),
    grain=0.29,
    chroma_grain=1.83,
    noise_bands=(0.907, 0.857, 1.027),
    specks=False,
    noise_colour=0.638,
    noise_scatter=0.0,
    depth_scatter=0.12,
    file_noise=1.1,
    file_grain=5.0,
    registration=0.02,
    centring=(0.0006, 0.004),
    stars=4.0,
    spikes=0.4,
    field=27.0,
    field_limit=24.1,
    field_red=0.4,
    artefacts=0.06,
    gradient=0.15,
)
_HST = Telescope(
    name="HST",
    bands=("F606W", "F606W/F814W", "F814W"),
    pixel=0.05,
    psf_fwhm=0.11,
    seeing_scatter=0.02,
    moffat_beta=3.5,
    depth=28.4,
    sky=22.2,
    sky_colour=22.2,
    magnitude_limit=22.5,
    redshift=0.55,
    mass_floor=8.8,
    r90_min=0.35,
    frame=9.0,
    frame_50=np.inf,
    frame_least=0.0,
    stretch=(0.72, 0.58, 0.46),
    saturation=0.9,
    softening=8.0,
    black=(0.03, 0.03, 0.03),
    black_scatter=(0.005, 0.005, 0.005),
    grain=0.4,
    chroma_grain=1.7,
    noise_bands=(1.0, 1.0, 1.0),
    specks=False,
    noise_colour=0.5,
    noise_scatter=0.1,
    depth_scatter=0.2,
    file_noise=0.5,
    file_grain=4.0,
    registration=0.003,
    centring=(0.0, 0.006),
    stars=2.0,
    spikes=1.0,
    field=120.0,
    field_limit=25.5,
    field_red=0.1,
    artefacts=0.07,
    gradient=0.5,
)

TELESCOPES = {
    "gz2": _SDSS,
    "dr12": _DECAM,
    "dr5": replace(_DECAM, magnitude_limit=17.3, redshift=0.062, depth=27.18, artefacts=0.09),
    "dr8": replace(_DECAM, magnitude_limit=17.7, redshift=0.075, depth=26.9, mass_floor=8.6),
    "hubble": _HST,
    "candels": replace(
        _HST,
        bands=("F814W", "F125W", "F160W"),
        pixel=0.06,
        psf_fwhm=0.18,
        depth=28.7,
        field_limit=25.8,
        magnitude_limit=24.0,
        redshift=1.1,
        r90_min=0.3,
        black=(0.045, 0.045, 0.045),
    ),
    "cd": replace(
        _DECAM,
        name="Subaru HSC",
        bands=("g", "r", "i"),
        pixel=0.168,
        psf_fwhm=0.7,
        depth=27.6,
        sky=20.6,
        sky_colour=20.6,
        field_limit=24.7,
        frame_50=np.inf,
        frame_least=0.0,
        magnitude_limit=20.5,
        redshift=0.22,
        r90_min=1.8,
        stretch=(1.0, 0.9, 0.78),
        saturation=0.9,
        black=(0.05, 0.05, 0.05),
        stars=6.0,
        artefacts=0.10,
    ),
    "ukidss": replace(
        _SDSS,
        name="UKIRT",
        bands=("Y", "J", "K"),
        pixel=0.4,
        psf_fwhm=0.95,
        depth=24.6,
        field_limit=21.7,
        sky=17.5,
        sky_colour=17.5,
        stretch=(0.16, 0.145, 0.13),
        saturation=0.5,
        black=(0.06, 0.06, 0.06),
        black_scatter=(0.0036, 0.0036, 0.0036),
        specks=False,
        noise_colour=0.5,
        noise_scatter=0.1,
        gradient=0.4,
    ),
    "jwst": replace(
        _HST,
        name="JWST",
        bands=("F115W", "F200W", "F356W"),
        pixel=0.03,
        psf_fwhm=0.09,
        depth=29.4,
        field_limit=26.5,
        magnitude_limit=25.0,
        redshift=1.6,
        r90_min=0.25,
        stretch=(1.7, 1.4, 1.1),
        spikes=1.5,
        black=(0.04, 0.04, 0.04),
    ),
    "deep": replace(
        _DECAM,
        name="DECam stacked",
        depth=27.6,
        field_limit=24.7,
        magnitude_limit=16.5,
        frame=11.0,
        frame_50=np.inf,
        stretch=(1.2, 1.05, 0.85),
    ),
}
