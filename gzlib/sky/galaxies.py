"""The front door: simulated galaxies of a campaign or a downstream task, with votes, labels and known truth."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from gzlib.data.schema import load_schema
from gzlib.errors import UserError
from gzlib.sky import volunteers
from gzlib.sky.detector import expose, stretch
from gzlib.sky.population import Draws, draw_population, draw_structure
from gzlib.sky.render import alike, chunk_galaxies, light, plan_arrays, to_device
from gzlib.sky.scene import plan_blobs, plan_scene, visible
from gzlib.sky.tasks import TASKS, task_labels, task_recipe
from gzlib.sky.telescopes import CAMPAIGNS, TELESCOPES, Telescope


@dataclass(frozen=True)
class Simulated:
    """n simulated galaxies.

    Attributes
    ----------
    images : (n, size, size, 3) uint8, red first; or the bands asked for, in their order
    votes : (n, answers) int32 in ``load_schema(campaign).label_cols`` order, or None for a task
    labels : DataFrame with ``label`` and ``label_name`` (``ring_fraction`` for rings), or None for a campaign
    truth : DataFrame of known structure; for a campaign also ``<label column>_probability``
    catalog : DataFrame with ``id_str``, ``ra`` and ``dec`` in degrees
    """

    images: np.ndarray
    votes: np.ndarray | None
    labels: pd.DataFrame | None
    truth: pd.DataFrame
    catalog: pd.DataFrame


def simulate(campaign: str, index, *, seed: int, size: int, bands=None, device="cpu") -> Simulated:
    """Galaxies ``index`` of a campaign, the same whatever else is asked for in the same call.

    Parameters
    ----------
    campaign : str
        One of ``CAMPAIGNS``.
    index : sequence of int
        Galaxy numbers, not negative, in any order.
    seed : int
        Seed of the sky.
    size : int
        Pixels along one side of the pictures (at least 8).
    bands : sequence of str, optional
        Bands of the campaign's telescope to keep, in this order; by default all three, red first.

    Raises
    ------
    UserError
        If the campaign is unknown, an index is negative, the size is below 8, or the telescope lacks a band.
    """
    if campaign not in CAMPAIGNS:
        raise UserError(f"Unknown campaign '{campaign}'; choose one of {', '.join(CAMPAIGNS)}.")
    index = _checked(index, seed, size)
    kept = _channels(TELESCOPES[campaign], bands)
    schema = load_schema(campaign)
    draws, plan, structure, seen = plan_galaxies(campaign, TELESCOPES[campaign], {}, index, seed)
    images = _draw(plan, size, device)[..., kept]
    by_kind = volunteers.kind_probabilities(schema, seen)
    votes = volunteers.cast_votes(schema, by_kind, volunteers.crowd_size(campaign, draws), draws)
    chance = volunteers.answer_probabilities(schema, by_kind)
    truth = pd.concat(
        [structure, pd.DataFrame(chance, columns=[f"{col}_probability" for col in schema.label_cols])], axis=1
    )
    return Simulated(images, votes, None, truth, _catalog(campaign, draws, index, seed))


def simulate_task(task: str, index, *, seed: int, size: int, device="cpu") -> Simulated:
    """Galaxies ``index`` of a downstream task; parameters and errors as :func:`simulate`."""
    if task not in TASKS:
        raise UserError(f"Unknown task '{task}'; choose one of {', '.join(TASKS)}.")
    index = _checked(index, seed, size)
    telescope, boost, adjust = task_recipe(task)
    draws, plan, structure, seen = plan_galaxies(task, telescope, boost, index, seed, adjust)
    images = _draw(plan, size, device)
    labels = task_labels(task, structure, seen, draws)
    return Simulated(images, None, labels, structure, _catalog(task, draws, index, seed))


def _checked(index, seed, size) -> np.ndarray:
    if not isinstance(size, (int, np.integer)) or size < 8:
        raise UserError(f"A picture of {size!r} pixels a side can't be drawn; give a whole number of at least 8.")
    if not isinstance(seed, (int, np.integer)):
        raise UserError(f"The sky's seed must be a whole number, not {seed!r}.")
    values = np.asarray(index)
    if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
        raise UserError(f"Galaxy numbers must be a flat sequence of whole numbers, not {index!r:.80}.")
    if values.size and values.min() < 0:
        raise UserError(f"Galaxy number {values.min()} is negative; galaxies are counted from 0.")
    return values.astype(np.int64)


def _channels(telescope: Telescope, bands) -> list[int] | slice:
    """Where the bands stand in a picture, whose last axis is red first."""
    if bands is None:
        return slice(None)
    if isinstance(bands, str) or len(bands) == 0:
        raise UserError(f"Bands are given as a sequence of names, such as {telescope.bands!r}, not {bands!r}.")
    missing = [band for band in bands if band not in telescope.bands]
    if missing:
        known = ", ".join(telescope.bands)
        raise UserError(f"Telescope {telescope.name} has bands {known}; '{missing[0]}' is not among them.")
    return [2 - telescope.bands.index(band) for band in bands]


def plan_galaxies(name, telescope, boost, index, seed, adjust=None):
    """Draws, the renderer's plan, the known truth as a DataFrame, and what can be seen; nothing is drawn yet."""
    draws = Draws(name, index, seed=int(seed))
    population = draw_population(draws, telescope)
    structure = draw_structure(draws, population, boost)
    if adjust is not None:
        population, structure = adjust(draws, population, structure)
    scene = plan_scene(draws, telescope, population, structure)
    blobs = plan_blobs(draws, telescope, population, structure, scene)
    seen = visible(telescope, population, structure, scene)
    known = {**population, **structure, **{f"visible_{k}": v for k, v in seen.items()}}
    known |= {k: scene[k] for k in ("fov", "psf_fwhm", "noise", "r90", "trail", "bleed", "column", "edge", "scattered")}
    return draws, (telescope, structure, scene, blobs), pd.DataFrame(known), seen


def look(campaign: str, index, *, seed: int) -> tuple[Draws, dict[str, np.ndarray]]:
    """The random numbers of galaxies and what volunteers can see of them; no picture is drawn."""
    draws, _, _, seen = plan_galaxies(campaign, TELESCOPES[campaign], {}, np.asarray(index), seed)
    return draws, seen


def _draw(plan: tuple, size: int, device) -> np.ndarray:
    """Draw in chunks of a fixed number of galaxies; the last is filled up with repeats that are thrown away."""
    try:
        device = torch.device(device)
    except RuntimeError:
        raise UserError(f"'{device}' is no device that torch knows; give 'cpu' or 'cuda'.") from None
    telescope, arrays = plan[0], plan_arrays(*plan, size)
    n, chunk = len(arrays["pixel"]), chunk_galaxies(size)
    if device.type != "cpu":
        chunk *= max(1, 512 // chunk)
    images = np.empty((n, size, size, 3), np.uint8)
    for rows, group in alike(arrays):
        for start in range(0, len(rows), chunk):
            chosen = np.minimum(np.arange(start, start + chunk), len(rows) - 1)
            p = to_device({name: value[chosen] for name, value in group.items()}, device)
            with torch.no_grad():
                drawn = stretch(expose(light(p, size), p, telescope), p, telescope).cpu().numpy()
            images[rows[start : start + chunk]] = drawn[: len(rows) - start]
    return images


def _catalog(name: str, draws: Draws, index: np.ndarray, seed: int) -> pd.DataFrame:
    """Isotropic positions over the northern galactic cap's size of sky, ra 110 to 260 and dec 0 to 65 degrees."""
    sine = draws.between("dec", 0.0, np.sin(np.deg2rad(65.0)))
    return pd.DataFrame(
        {
            "id_str": [f"sim-{name}-{seed}-{i}" for i in index],
            "ra": draws.between("ra", 110.0, 260.0),
            "dec": np.rad2deg(np.arcsin(sine)),
        }
    )
