"""Simulated volunteers: how strongly an image speaks for each answer, and how votes walk the tree."""

import json
from functools import cache
from pathlib import Path

import numpy as np
from scipy.special import softmax

from gzlib.data.schema import Question, Schema

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


CONSTANTS = Path(__file__).with_name("calibration") / "volunteers.json"

# Kinds of volunteers: share, how sharply they tell answers apart, readiness to see features, careless clicks. The
# spread follows the volunteers' consistency in Willett et al. (2013) in outline: most agree, a tail does not.
SHARE = np.array([0.12, 0.24, 0.34, 0.20, 0.10])
ABILITY = np.array([0.45, 0.80, 1.00, 1.25, 1.60])
BIAS = np.array([0.55, -0.35, 0.00, 0.30, -0.25])
LAPSE = np.array([0.060, 0.020, 0.010, 0.006, 0.004])
MOST_VOLUNTEERS = 64

# Volunteers a galaxy: share of well-voted galaxies, their mean and spread, mean of the others. DECaLS DR5 stopped
# early for most galaxies (Walmsley et al. 2022); the others aimed at about 40 throughout.
_CROWD = {
    "gz2": (1.0, 42, 6, 0),
    "dr12": (1.0, 40, 4, 0),
    "dr5": (0.30, 38, 4, 6),
    "dr8": (0.45, 36, 5, 6),
    "hubble": (1.0, 44, 8, 0),
    "candels": (0.8, 44, 10, 22),
    "cd": (1.0, 38, 5, 0),
    "ukidss": (1.0, 38, 6, 0),
}


_SAME_QUESTION = {"edge-on-bulge": "bulge-shape"}
_SAME_ANSWER = {
    "features": ("featured-or-disk",), "problem": ("artifact",), "completely": ("round",), "cigar-shaped": ("cigar",),
    "rounded": ("round",), "none": ("no-bulge", "no"), "5-plus": ("more-than-4",), "small": ("just-noticeable",),
    "moderate": ("obvious",), "large": ("obvious",), "strong": ("yes",), "weak": ("yes",),
}  # fmt: skip


@cache
def constants() -> dict:
    """Calibrated constants: per question an ``offset`` for each answer and a ``gain`` of the scores."""
    return json.loads(CONSTANTS.read_text())["questions"] if CONSTANTS.is_file() else {}


def _constants_for(question: Question) -> dict | None:
    """The question's own constants, or those of the same question in the nearest campaign with real votes."""
    base = question.name.rsplit("-", 1)[0]
    nearest = "dr5" if question.campaign in ("dr12", "dr8", "cd") else "gz2"
    for name in (question.name, f"{base}-{nearest}", f"{_SAME_QUESTION.get(base, base)}-gz2"):
        if name in constants():
            return constants()[name]
    return None


def _calibrated(question: Question, seen: dict) -> np.ndarray:
    raw, known = scores(question, seen), _constants_for(question)
    if known is None:
        return raw
    names = [answer.lstrip("_") for answer in question.answers]
    same = ((name, *_SAME_ANSWER.get(name, ())) for name in names)
    offset = [next((known["offset"][other] for other in others if other in known["offset"]), 0.0) for others in same]
    return np.array(offset) + known["gain"] * raw


def asked_after(question: Question) -> tuple[str, ...]:
    """Answers that lead to a question on the volunteers' screen; empty if it comes first.

    Galaxy Zoo's data files simplify the screen's tree, so the schemas do too: arms, bar and bulge size were asked of
    discs not seen edge-on only, winding and arm count after "spiral: yes" (Willett et al. 2013; Willett et al.
    2017; Simmons et al. 2017), and the last questions of everyone who had not left by "star or artifact".
    """
    base, campaign = question.name.rsplit("-", 1)
    if base in ("something-odd", "merging"):
        feature = "features" if campaign in ("candels", "hubble") else "featured-or-disk"
        return f"smooth-or-featured-{campaign}_smooth", f"smooth-or-featured-{campaign}_{feature}"
    if base in ("has-spiral-arms", "bar", "bulge-size"):
        return (f"disk-edge-on-{campaign}_no",)
    if base in ("spiral-winding", "spiral-arm-count"):
        return (f"has-spiral-arms-{campaign}_yes",)
    return () if question.asked_after is None else (question.asked_after,)


def questions_in_order(schema: Schema) -> list[int]:
    """Positions of the questions, each after the questions that lead to it."""
    order, done = [], set()
    while len(order) < len(schema.questions):
        for position, question in enumerate(schema.questions):
            if position not in order and all(parent in done for parent in asked_after(question)):
                order.append(position)
                done.update(question.label_cols)
    return order


def kind_probabilities(schema: Schema, seen: dict[str, np.ndarray]) -> list[np.ndarray]:
    """For each question (n, kinds, answers): how each kind of volunteer answers, once asked."""
    return [question_probabilities(question, seen) for question in schema.questions]


def question_probabilities(question: Question, seen: dict[str, np.ndarray]) -> np.ndarray:
    """(n, kinds, answers): how each kind of volunteer answers one question, once asked."""
    logits = ABILITY[None, :, None] * _calibrated(question, seen)[:, None, :]
    for position, answer in enumerate(question.answers):
        if answer in ("_featured-or-disk", "_features", "_yes", "_merger"):
            logits[:, :, position] += BIAS
    chance = softmax(logits, axis=2)
    return (1 - LAPSE)[None, :, None] * chance + (LAPSE / len(question.answers))[None, :, None]


def _joint(schema: Schema, by_kind: list[np.ndarray]) -> list[np.ndarray]:
    """For each question (n, kinds, answers): chance that a volunteer is of a kind, is asked, and answers so."""
    joint, reach = [None] * len(by_kind), {}
    for position in questions_in_order(schema):
        question, parents = schema.questions[position], asked_after(schema.questions[position])
        weight = sum(reach[column] for column in parents) if parents else SHARE[None, :]
        joint[position] = weight[:, :, None] * by_kind[position]
        for place, column in enumerate(question.label_cols):
            reach[column] = joint[position][:, :, place]
    return joint


def answer_probabilities(schema: Schema, by_kind: list[np.ndarray]) -> np.ndarray:
    """(n, answers): true chance of each answer among the volunteers who are asked; a question's columns sum to 1.

    Exact over the kinds of volunteers: those who reach a deep question are not a fair sample of all.
    """
    totals = [chance.sum(1) for chance in _joint(schema, by_kind)]
    return np.concatenate([total / total.sum(1, keepdims=True) for total in totals], 1)


def reach_probabilities(schema: Schema, by_kind: list[np.ndarray]) -> np.ndarray:
    """(n, questions): chance that a volunteer is asked each question."""
    return np.stack([chance.sum((1, 2)) for chance in _joint(schema, by_kind)], 1)


def crowd_size(campaign: str, draws) -> np.ndarray:
    """(n,) int64: how many volunteers look at each galaxy."""
    share, mean, spread, few = _CROWD[campaign]
    many = mean + spread * draws.normal("crowd")
    some = few + 0.35 * few * draws.normal("crowd")
    chosen = np.where(draws.uniform("crowd-kind") < share, many, some)
    return np.clip(np.rint(chosen), 3, MOST_VOLUNTEERS).astype(np.int64)


def cast_votes(schema: Schema, by_kind: list[np.ndarray], crowd: np.ndarray, draws) -> np.ndarray:
    """(n, answers) int32 vote counts: each volunteer is of one kind and answers what the tree asks.

    Parameters
    ----------
    by_kind : from :func:`kind_probabilities`
    crowd : (n,) int64 volunteers for each galaxy, at most ``MOST_VOLUNTEERS``
    draws : object with ``uniform(stream, columns)``, such as :class:`gzlib.sky.population.Draws`
    """
    present, kind = volunteers_of(crowd, draws)
    gave, votes = {}, np.zeros((len(crowd), len(schema.label_cols)), np.int32)
    for position in questions_in_order(schema):
        question, parents = schema.questions[position], asked_after(schema.questions[position])
        asked = np.logical_or.reduce([gave[column] for column in parents]) if parents else present
        answer = ask(question, by_kind[position], kind, draws)
        for place, column in enumerate(question.label_cols):
            gave[column] = asked & (answer == place)
            votes[:, question.columns.start + place] = gave[column].sum(1)
    return votes


def volunteers_of(crowd: np.ndarray, draws) -> tuple[np.ndarray, np.ndarray]:
    """(n, ``MOST_VOLUNTEERS``) each: whether a place is taken, and of which kind that volunteer is."""
    present = np.arange(MOST_VOLUNTEERS)[None, :] < crowd[:, None]
    return present, np.searchsorted(np.cumsum(SHARE)[:-1], draws.uniform("volunteer-kind", MOST_VOLUNTEERS))


def ask(question: Question, chance: np.ndarray, kind: np.ndarray, draws) -> np.ndarray:
    """(n, ``MOST_VOLUNTEERS``) position of the answer that each volunteer gives, or would give if asked."""
    upper = np.cumsum(chance, axis=2)[np.arange(len(kind))[:, None], kind]
    u = draws.uniform(f"vote-{question.name}", MOST_VOLUNTEERS)[..., None]
    return (u > upper[..., :-1]).sum(2)
