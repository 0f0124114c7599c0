"""The five downstream tasks: which galaxies they choose, and labels that no campaign asks for directly."""

from dataclasses import replace

import numpy as np
import pandas as pd

from gzlib.sky.telescopes import TELESCOPES, Telescope

TASK_SIZES = {"is-lsb": 2880, "which-lsb": 726, "jwst": 471, "rings": 91696, "galaxy10": 17736}
TASKS = tuple(TASK_SIZES)

# The paper's five JWST class names could not be read; these are our own.
CLASSES = {
    "is-lsb": ("no_tidal_feature", "tidal_feature"),
    "which-lsb": ("arm", "stream", "shell", "diffuse"),
    "jwst": ("spheroid", "disc", "irregular", "clumpy", "merger"),
    "galaxy10": (
        "disturbed",
        "merging",
        "round_smooth",
        "in_between_round_smooth",
        "cigar_shaped_smooth",
        "barred_spiral",
        "unbarred_tight_spiral",
        "unbarred_loose_spiral",
        "edge_on_without_bulge",
        "edge_on_with_bulge",
    ),
}
# Galaxies in each class of Galaxy10 DECaLS as its authors (Leung & Bovy) publish them; they sum to 17,736.
_GALAXY10_SHARES = np.array([1081, 1853, 2645, 2027, 334, 2043, 1829, 2628, 1423, 1873]) / 17736
_LSB = ("tail", "stream", "shell", "diffuse")


def task_recipe(task: str) -> tuple[Telescope, dict[str, float], object]:
    """Telescope, boosted frequencies, and a function that fits drawn galaxies to the task's selection."""
    if task in ("is-lsb", "which-lsb"):
        return TELESCOPES["deep"], {}, _is_lsb if task == "is-lsb" else _which_lsb
    if task == "jwst":
        # No satellite crosses a telescope beyond the Moon, and the labellers' cutouts are closer than Galaxy Zoo's.
        return replace(TELESCOPES["jwst"], artefacts=0.0, frame=6.0), {}, _jwst
    if task == "rings":
        return replace(TELESCOPES["dr8"], artefacts=0.02), {"ring": 1.5}, None
    return replace(TELESCOPES["dr5"], artefacts=0.0), {}, _galaxy10


def _set_lsb(draws, structure, which):
    strength = 0.06 + 0.6 * draws.uniform("task-lsb") ** 1.5
    return structure | {name: np.where(which == k, strength, 0.0) for k, name in enumerate(_LSB)}


def _is_lsb(draws, population, structure):
    which = np.where(draws.uniform("task-is") < 0.4, np.floor(4 * draws.uniform("task-which")), -1)
    return population, _set_lsb(draws, structure, which) | _quiet(structure)


def _which_lsb(draws, population, structure):
    return population, _set_lsb(draws, structure, np.floor(4 * draws.uniform("task-which"))) | _quiet(structure)


def _quiet(structure):
    """No merger of its own, so that the low-surface-brightness feature is the one that counts."""
    zero = 0 * structure["stage"]
    return {"major_merger": zero, "minor_merger": zero, "stage": zero}


def _merge(structure, is_merger, strength, advance):
    keep = ~is_merger
    return structure | {
        "major_merger": np.where(is_merger, strength, 0.0),
        "minor_merger": structure["minor_merger"] * keep,
        "stage": np.where(is_merger, 3.0, np.where(structure["stage"] == 3, 0.0, structure["stage"])),
        "tail": np.where(is_merger, np.maximum(structure["tail"], strength * advance), structure["tail"] * keep),
        "advance": np.where(is_merger, advance, structure["advance"]),
    }


def _as_disc(structure, chosen, bulge):
    """Turn galaxies into discs, keeping their inclination."""
    q = np.sqrt(structure["cos_inclination"] ** 2 * (1 - structure["thickness"] ** 2) + structure["thickness"] ** 2)
    b = np.where(chosen, bulge, structure["bulge_fraction"])
    index = np.where(chosen, np.clip(1.0 + 2.5 * bulge, 0.6, 6), structure["bulge_index"])
    return structure | {
        "bulge_fraction": b,
        "disc_fraction": 1 - b,
        "bulge_index": index,
        "disc_q": np.where(chosen, q, structure["disc_q"]),
    }


def _jwst(draws, population, structure):
    kind = np.floor(5 * draws.uniform("task-class"))
    bulge = 0.05 + 0.35 * draws.uniform("task-bulge") ** 2
    population = population | {"type": np.choose(kind.astype(int), [0, 2, 3, 4, 2])}
    s = _as_disc(_without(kind == 0, structure), kind > 0, np.where(kind >= 2, 0.3 * bulge, bulge))
    b = np.where(kind == 0, 1.0, s["bulge_fraction"])
    strength = 0.35 + 0.65 * draws.uniform("task-strength")
    s |= {
        "bulge_fraction": b,
        "disc_fraction": 1 - b,
        "arms": np.where(kind == 1, 0.6 * strength, 0.0),
        "bulge_index": np.where(kind == 0, np.clip(structure["bulge_index"], 2.5, 6), s["bulge_index"]),
        "texture": np.where(kind == 2, strength, 0.0),
        "lopsided": np.where(kind == 2, 0.6 * strength, 0.5 * s["lopsided"]),
        "clumps": np.where(kind == 3, strength, 0.0),
        "task_class": kind,
    }
    return population, _merge(s, kind == 4, 0.4 + 0.6 * draws.uniform("task-merger"), draws.uniform("task-advance"))


def _galaxy10(draws, population, structure):
    kind = np.searchsorted(np.cumsum(_GALAXY10_SHARES)[:-1], draws.uniform("task-class"))
    strength = 0.45 + 0.55 * draws.uniform("task-strength")
    smooth, spiral, edge = (kind >= 2) & (kind <= 4), (kind >= 5) & (kind <= 7), kind >= 8
    population = population | {"type": np.where(smooth, 0, np.where(spiral | edge, 2, population["type"]))}
    population = _nearer(population, spiral, 3.0 + 4.0 * draws.uniform("task-near"))
    cosi = np.where(
        spiral,
        0.45 + 0.55 * draws.uniform("task-tilt"),
        np.where(edge, 0.12 * draws.uniform("task-tilt"), structure["cos_inclination"]),
    )
    thickness = np.where(spiral | edge, np.clip(structure["thickness"], 0.09, 0.2), structure["thickness"])
    s = _without(smooth, structure | {"cos_inclination": cosi, "thickness": thickness})
    bulge = np.select(
        [kind == 8, kind == 9, kind == 6],
        [0.05 * strength, 0.25 + 0.3 * strength, 0.1 + 0.3 * strength],
        0.05 + 0.2 * strength,
    )
    s = _as_disc(s, spiral | edge, bulge)
    b = np.where(smooth, 1.0, s["bulge_fraction"])
    u = draws.uniform("task-round")
    q = np.select([kind == 2, kind == 3, kind == 4], [0.85 + 0.15 * u, 0.55 + 0.3 * u, 0.25 + 0.15 * u], s["bulge_q"])
    pitch = np.select([kind == 6, kind == 7], [8 + 8 * u, 19 + 14 * u], np.rad2deg(s["pitch"]))
    s |= {
        "bulge_fraction": b,
        "disc_fraction": 1 - b,
        "bulge_q": q,
        "pitch": np.deg2rad(pitch),
        "arms": np.where(spiral, strength, s["arms"] * ~edge),
        "bulge_index": np.where(smooth, np.clip(structure["bulge_index"], 2, 6), s["bulge_index"]),
        "bar": np.where(kind == 5, strength, np.where(kind <= 1, s["bar"], 0.1 * s["bar"])),
        "task_class": kind.astype(float),
        "lopsided": np.where(kind == 0, 0.5 + 0.5 * strength, s["lopsided"] * ~edge),
        "texture": s["texture"] * (kind <= 1),
        "warp": np.where(kind == 0, strength, s["warp"]),
        "ring_inner": s["ring_inner"] * (kind <= 1),
        "ring_outer": s["ring_outer"] * (kind <= 1),
    }
    s = _merge(s, kind == 1, 0.4 + 0.6 * draws.uniform("task-merger"), 0.6 * draws.uniform("task-advance"))
    return population, s | {"tail": np.where(kind == 0, strength, s["tail"] * (kind == 1))}


def _nearer(population, chosen, radius):
    """Bring the chosen galaxies near enough to show at least this half-light radius [arcsec]; no change of physics."""
    factor = np.where(chosen, np.maximum(radius / population["radius"], 1.0), 1.0)
    return population | {
        "radius": population["radius"] * factor,
        "magnitude": population["magnitude"] - 5 * np.log10(factor),
    }


# Whatever makes a galaxy other than a plain spheroid.
_FEATURES = (
    "arms", "bar", "ring_inner", "ring_outer", "knots", "clumps", "dust", "texture", "lopsided", "warp", "boxy",
    "minor_merger", "tail", "stream", "shell", "diffuse", "lens",
)  # fmt: skip


def _without(chosen, structure):
    """Take every feature from the chosen galaxies, so that they are smooth in the picture and not in name only."""
    stage = np.where(chosen & (structure["stage"] == 2), 0.0, structure["stage"])
    return structure | {name: structure[name] * ~chosen for name in _FEATURES} | {"stage": stage}


def task_labels(task: str, structure: pd.DataFrame, seen: dict, draws) -> pd.DataFrame:
    """``label`` int64 and ``label_name`` (``ring_fraction`` float64 for rings), as an expert who looks would say.

    Labels other than rings follow the known structure with the small error rate of expert classifiers; the ring
    fraction is a vote of 20 volunteers on what can be seen.
    """
    if task == "rings":
        chance = 1 / (1 + np.exp(-(9 * seen["ring"] - 3.2)))
        yes = (draws.uniform("ring-vote", 20) < chance[:, None]).sum(1)
        return pd.DataFrame({"ring_fraction": yes / 20.0, "label": (yes > 10).astype(np.int64)})
    if task in ("is-lsb", "which-lsb"):
        strengths = np.stack([structure[name] for name in _LSB], 1)
        label = (strengths.max(1) > 0).astype(np.int64) if task == "is-lsb" else strengths.argmax(1)
    else:
        label = structure["task_class"].to_numpy().astype(np.int64)
    n_classes = len(CLASSES[task])
    other = label + 1 + np.floor((n_classes - 1) * draws.uniform("label-other")).astype(np.int64)
    label = np.where(draws.uniform("label-error") < 0.03, other % n_classes, label).astype(np.int64)
    return pd.DataFrame({"label": label, "label_name": np.array(CLASSES[task])[label]})
