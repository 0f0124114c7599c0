"""What each survey's telescope and picture service do to a galaxy's light."""

from dataclasses import dataclass, replace

# Whose decision trees have simulated volunteers; the other telescopes serve downstream tasks.
CAMPAIGNS = ("gz2", "dr12", "dr5", "dr8", "candels", "hubble", "cd", "ukidss")


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
        Wing slope of the Moffat point-spread function.
    depth : float
        Surface brightness whose flux in one square arcsec equals one standard deviation of the noise, middle band.
    sky : float
        Sky brightness, for the photon noise of bright sources.
    magnitude_limit, redshift, mass_floor, r90_min : float
        Selection: limit in the middle band, scale of the redshift distribution, lowest log mass, smallest R90.
    frame : float
        Width of the cutout in units of the measured R90.
    stretch : (float, float, float)
        Gain of blue, middle and red before the asinh stretch.
    saturation, softening : float
        How much colour the picture keeps (1: all), and the asinh softening Q.
    black, black_scatter : (float, float, float)
        Level (0 to 1) of empty sky in blue, middle and red, and its scatter from picture to picture (natural log).
    grain : float
        Kernel with which resampling smooths the detector's noise: standard deviation in detector pixels.
    chroma_grain : float
        Kernel of the noise in colour, which the JPEG files carry at half the resolution; in pixels of the 424 px file.
    noise_bands : (float, float, float)
        Noise of blue, middle and red as the picture shows it, in units of what ``depth`` says.
    noise_common, noise_scatter : float
        Correlation of the shown noise between bands; scatter of each band's noise between pictures (natural log).
    registration : float
        How far the blue and the red band are shifted against the middle one, standard deviation in each direction.
    stars, spikes : float
        Foreground stars per square arcmin; strength of diffraction spikes.
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
    magnitude_limit: float
    redshift: float
    mass_floor: float
    r90_min: float
    frame: float
    stretch: tuple[float, float, float]
    saturation: float
    softening: float
    black: tuple[float, float, float]
    black_scatter: tuple[float, float, float]
    grain: float
    chroma_grain: float
    noise_bands: tuple[float, float, float]
    noise_common: float
    noise_scatter: float
    registration: float
    stars: float
    spikes: float
    artefacts: float
    gradient: float


_SDSS = Telescope(
    name="SDSS",
    bands=("g", "r", "i"),
    pixel=0.396,
    psf_fwhm=1.25,
    seeing_scatter=0.12,
    moffat_beta=3.0,
    depth=26.2,
    sky=20.9,
    magnitude_limit=17.0,
    redshift=0.057,
    mass_floor=8.8,
    r90_min=4.2,
    frame=8.48,
    stretch=(0.395, 0.30, 0.277),
    saturation=0.95,
    softening=7.0,
    black=(0.0064, 0.0140, 0.0138),
    black_scatter=(0.45, 0.32, 0.45),
    grain=0.48,
    chroma_grain=6.2,
    noise_bands=(0.92, 1.08, 1.14),
    noise_common=0.84,
    noise_scatter=0.22,
    registration=0.08,
    stars=3.0,
    spikes=0.3,
    artefacts=0.05,
    gradient=0.5,
)
_DECAM = Telescope(
    name="DECam",
    bands=("g", "r", "z"),
    pixel=0.262,
    psf_fwhm=1.1,
    seeing_scatter=0.10,
    moffat_beta=3.0,
    depth=27.0,
    sky=20.8,
    magnitude_limit=17.0,
    redshift=0.057,
    mass_floor=8.8,
    r90_min=4.2,
    frame=8.48,
    stretch=(0.95, 0.60, 0.52),
    saturation=0.33,
    softening=7.0,
    black=(0.0625, 0.0618, 0.0662),
    black_scatter=(0.05, 0.04, 0.06),
    grain=0.25,
    chroma_grain=2.6,
    noise_bands=(1.03, 1.00, 1.15),
    noise_common=0.75,
    noise_scatter=0.0,
    registration=0.02,
    stars=4.0,
    spikes=0.4,
    artefacts=0.06,
    gradient=0.35,
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
    magnitude_limit=22.5,
    redshift=0.55,
    mass_floor=8.8,
    r90_min=0.35,
    frame=9.0,
    stretch=(0.72, 0.58, 0.46),
    saturation=0.9,
    softening=8.0,
    black=(0.03, 0.03, 0.03),
    black_scatter=(0.15, 0.15, 0.15),
    grain=0.4,
    chroma_grain=1.7,
    noise_bands=(1.0, 1.0, 1.0),
    noise_common=0.80,
    noise_scatter=0.1,
    registration=0.003,
    stars=2.0,
    spikes=1.0,
    artefacts=0.07,
    gradient=0.5,
)

TELESCOPES = {
    "gz2": _SDSS,
    "dr12": _DECAM,
    "dr5": replace(_DECAM, magnitude_limit=17.3, redshift=0.062, depth=27.1, artefacts=0.09),
    "dr8": replace(_DECAM, magnitude_limit=17.7, redshift=0.075, depth=26.9, mass_floor=8.6),
    "hubble": _HST,
    "candels": replace(
        _HST,
        bands=("F814W", "F125W", "F160W"),
        pixel=0.06,
        psf_fwhm=0.18,
        depth=28.7,
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
        magnitude_limit=20.5,
        redshift=0.3,
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
        sky=17.5,
        stretch=(0.16, 0.145, 0.13),
        saturation=0.5,
        black=(0.06, 0.06, 0.06),
        black_scatter=(0.06, 0.06, 0.06),
        noise_scatter=0.1,
        gradient=1.0,
    ),
    "jwst": replace(
        _HST,
        name="JWST",
        bands=("F115W", "F200W", "F356W"),
        pixel=0.03,
        psf_fwhm=0.09,
        depth=29.4,
        magnitude_limit=25.0,
        redshift=1.6,
        r90_min=0.25,
        stretch=(1.7, 1.4, 1.1),
        spikes=1.5,
        black=(0.04, 0.04, 0.04),
    ),
    "deep": replace(
        _DECAM, name="DECam stacked", depth=27.6, magnitude_limit=16.5, frame=11.0, stretch=(1.2, 1.05, 0.85)
    ),
}
