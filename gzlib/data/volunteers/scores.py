"""How strongly a picture speaks for each answer, before ability, bias and calibration."""

import numpy as np

from gzlib.data.schema import Question

_BULGE = {
    "none": 0.02,
    "no": 0.02,
    "small": 0.14,
    "just-noticeable": 0.15,
    "moderate": 0.30,
    "obvious": 0.36,
    "large": 0.48,
    "dominant": 0.66,
}
_ROUND = {"round": 0.95, "completely": 0.95, "in-between": 0.68, "cigar": 0.30, "cigar-shaped": 0.30}
_PITCH = {"tight": 12.0, "medium": 18.0, "loose": 26.0}


def _names(question: Question) -> list[str]:
    return [answer.lstrip("_") for answer in question.answers]


def _nearest(value: np.ndarray, centres: list[float], width: float) -> np.ndarray:
    """Log of a Gaussian around each answer's typical value."""
    return -0.5 * ((value[:, None] - np.array(centres)) / width) ** 2


def _binary(question: Question, yes: np.ndarray) -> np.ndarray:
    return np.stack([yes if name == "yes" else np.zeros_like(yes) for name in _names(question)], 1)


def _table(question: Question, values: dict[str, np.ndarray]) -> np.ndarray:
    return np.stack([values[name] for name in _names(question)], 1)


def featured(v: dict) -> np.ndarray:
    """Visible structure of any kind, about 0 (nothing) to 1.5."""
    return (
        1.1 * v["arms"]
        + 0.55 * v["bar"]
        + 0.7 * v["ring"]
        + 0.75 * v["edge_on"] * (0.35 + v["disc"])
        + 0.5 * v["dust"]
        + 0.5 * v["clumps"]
        + 0.25 * v["knots"]
        + 0.45 * v["texture"]
        + 0.3 * v["lopsided"]
        + 0.8 * v["merger"]
        + 0.6 * v["tail"]
        + 0.35 * v["minor_merger"]
        + 0.25 * v["stream"]
        + 0.25 * v["shell"]
        + 0.3 * v["lens"]
        + 0.30 * v["disc"]
    )


def _smooth_or_featured(question, v):
    spoilt = 6 * np.maximum(v["fault"] - 0.25, 0) + 7 * v["star_target"]
    level = {"smooth": 0 * spoilt, "artifact": spoilt, "problem": spoilt + 2 * v["zoom"]}
    level["featured-or-disk"] = level["features"] = 5 * featured(v)
    return _table(question, level)


def _bar(question, v):
    if "_strong" not in question.answers:
        return _binary(question, 7 * v["bar"])
    return _table(
        question, {"strong": 9 * (v["bar"] - 0.25), "weak": 5 * np.minimum(v["bar"], 0.45), "no": 0 * v["bar"]}
    )


def _arm_count(question, v):
    clear = v["arms"] * (1 - 0.6 * v["flocculence"])
    columns = []
    for name in _names(question):
        if name == "cant-tell":
            columns.append(1.5 - 6 * clear)
        else:
            number = 5 if name in ("more-than-4", "5-plus") else int(name)
            columns.append(
                -(1.5 + 4 * clear) * np.abs(v["arm_count"] - number) + (name == "more-than-4") * v["flocculence"]
            )
    return np.stack(columns, 1)


def _clump_count(question, v):
    columns = []
    for name in _names(question):
        if name == "cant-tell":
            columns.append(-0.5 - 5 * v["clumps"])
        else:
            number = 5 if name == "5-plus" else int(name)
            columns.append(-(1.2 + 8 * v["clumps"]) * np.abs(np.minimum(v["clump_count"], 5) - number))
    return np.stack(columns, 1)


def _odd(question, v):
    strangest = np.maximum.reduce(
        [
            1.2 * v["merger"],
            v["tail"],
            0.6 * v["minor_merger"],
            0.55 * v["overlap"],
            0.8 * v["ring"],
            1.5 * v["lens"],
            0.6 * v["dust"],
            0.7 * v["stream"],
            0.7 * v["shell"],
            0.5 * v["diffuse"],
            0.6 * v["warp"],
            0.6 * v["texture"],
            0.5 * v["lopsided"],
            0.7 * v["fault"],
            0.6 * v["clumps"],
        ]
    )
    return _binary(question, 6 * strangest)


def _merging(question, v):
    debris = np.maximum.reduce([v["tail"], 0.8 * v["stream"], 0.8 * v["shell"], 0.6 * v["diffuse"]])
    mild = np.maximum.reduce([v["lopsided"], v["minor_merger"], v["warp"], debris, 0.5 * v["texture"]])
    close = np.maximum(v["merger"], 0.5 * v["minor_merger"] + 0.35 * v["overlap"])
    none = 3.2 + 0 * debris
    return _table(
        question,
        {
            "none": none,
            "neither": none,
            "minor-disturbance": 1.2 + 4 * np.minimum(mild, 0.6),
            "major-disturbance": 7 * (np.maximum(v["merger"] * v["advance"] ** 0.5, debris) - 0.25),
            "merger": 8 * (close - 0.2),
            "tidal-debris": 6 * (debris - 0.2) + 0.5,
            "both": 8 * np.minimum(debris, v["merger"]) - 1,
        },
    )


def _bulge_shape(question, v):
    present = 1.5 * np.log(v["bulge"] / 0.12 + 1e-3)  # eyes judge ratios: Fechner (1860)
    return _table(
        question,
        {
            "round": present,
            "rounded": present,
            "boxy": present + 5 * v["boxy"] - 1.5,
            "no-bulge": 0 * present,
            "none": 0 * present,
            "yes": present,
            "no": 0 * present,
        },
    )


_SCORES = {
    "smooth-or-featured": _smooth_or_featured,
    "bar": _bar,
    "spiral-arm-count": _arm_count,
    "merging": _merging,
    "something-odd": _odd,
    "bulge-shape": _bulge_shape,
    "edge-on-bulge": _bulge_shape,
    "clump-count": _clump_count,
    "disk-edge-on": lambda q, v: _binary(q, 8 * (v["edge_on"] - 0.6) - 3 * v["arms"]),
    # Tidal tails pass for arms with some.
    "has-spiral-arms": lambda q, v: _binary(q, 8 * (v["arms"] + 0.35 * v["tail"] - 0.2) - 1.5 * v["edge_on"]),
    "bulge-size": lambda q, v: _nearest(v["bulge"], [_BULGE[n] for n in _names(q)], 0.14),
    "how-rounded": lambda q, v: _nearest(v["axis_ratio"], [_ROUND[n] for n in _names(q)], 0.12),
    "spiral-winding": lambda q, v: (
        _nearest(v["pitch"], [_PITCH[n] for n in _names(q)], 6.0) * (0.3 + v["arms"])[:, None]
    ),
    "clumpy-appearance": lambda q, v: _binary(q, 7 * (v["clumps"] + 0.5 * v["texture"]) - 2),
    "clumps": lambda q, v: _binary(q, 7 * (v["clumps"] + 0.4 * v["knots"]) - 2),
    "galaxy-symmetrical": lambda q, v: _binary(q, 1.0 - 6 * v["lopsided"] - 5 * v["merger"] - 1.0 * v["texture"]),
    "clumps-embedded-larger-object": lambda q, v: _binary(q, 1.5 + 2 * v["disc"] - 3 * v["merger"]),
    "problem": lambda q, v: _table(
        q, {"star": 6 * v["star_target"], "artifact": 5 * v["fault"], "zoom": 4 * v["zoom"]}
    ),
    "artifact": lambda q, v: _table(
        q,
        {
            "satellite": 6 * v["trail"],
            "scattered": 6 * v["scattered"],
            "diffraction": 5 * v["bleed"],
            "ray": 3 * v["column"],
            "saturation": 6 * v["bleed"],
            "other": 1.0 + 3 * v["column"],
        },
    ),
}


def scores(question: Question, seen: dict[str, np.ndarray]) -> np.ndarray:
    """(n, answers) logits of an average volunteer before calibration."""
    return _SCORES[question.name.rsplit("-", 1)[0]](question, seen)
