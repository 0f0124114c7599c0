"""Speed of the simulated sky against GalSim drawing bulge, disc and PSF only; processor time, one core."""

import importlib.util
import runpy
from pathlib import Path

from gzlib.errors import UserError

GALAXIES = 512


def rows():
    if importlib.util.find_spec("galsim") is None:
        raise UserError("The sky is timed against GalSim, which is not installed: pip install 'gzlib[bench]'.")
    physics = runpy.run_path(str(Path(__file__).parent / "sky_physics.py"))
    measured = physics["speed"](GALAXIES)
    return [measured | {"goal": f">= {measured['goal']}", "detail": str(measured["detail"])}]
