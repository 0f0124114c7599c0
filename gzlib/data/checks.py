"""What a galaxy must pass to enter a survey: sound votes and labels, and not being there already."""

import hashlib
from array import array
from collections import Counter
from itertools import product

import numpy as np
import pandas as pd

from gzlib.data.schema import Schema

# Votes that a question may have beyond its parent answer. Measured: raw Galaxy Zoo 2 counts (19,761 galaxies of
# Stripe 82) exceed by 1 or 2 in 568 galaxies; 649 galaxies with counts rebuilt from published fractions by at most 1.
# Rounding each answer of a six-answer question (spiral-arm-count) can add 3, and Hubble and CANDELS are rebuilt so.
VOTE_SLACK = 3
EXAMPLES = 300  # rejected galaxies listed one by one; beyond that only counted

Problem = tuple[str, str]  # reason, detail


class Rejects:
    """How many galaxies were rejected, why, and the first few hundred of them."""

    def __init__(self):
        self.counts: Counter[str] = Counter()
        self.examples: list[dict] = []

    def add(self, id_str: str, problem: Problem):
        reason, detail = problem
        self.counts[reason] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append({"id_str": id_str, "reason": reason, "detail": detail})


def vote_problems(votes: np.ndarray, schema: Schema, slack: int) -> dict[int, Problem]:
    """Rows of ``votes`` (galaxies, answers) that no volunteers can have cast, with the reason.

    A question may have ``slack`` more votes than the answer that leads to it, no more.
    """
    problems: dict[int, Problem] = {}
    if not np.issubdtype(votes.dtype, np.integer):
        with np.errstate(invalid="ignore"):
            _note(problems, "missing votes", ~np.isfinite(votes), votes, schema)
            _note(problems, "fractional votes", votes != np.rint(votes), votes, schema)
            _note(problems, "impossible votes", votes > np.iinfo(np.int32).max, votes, schema)
    _note(problems, "negative votes", votes < 0, votes, schema)
    child = np.flatnonzero(schema.parent_answer >= 0)
    totals, parents = schema.question_totals(votes)[:, child], votes[:, schema.parent_answer[child]]
    too_many = totals - parents > slack
    for row in np.flatnonzero(too_many.any(axis=1)):
        first = int(np.argmax(too_many[row]))
        question = schema.questions[child[first]]
        detail = f"{question.name} has {totals[row, first]:g}, but {question.asked_after} only {parents[row, first]:g}"
        problems.setdefault(int(row), ("more votes than the parent answer", detail))
    return problems


def _note(problems: dict[int, Problem], reason: str, wrong: np.ndarray, votes: np.ndarray, schema: Schema):
    for row in np.flatnonzero(wrong.any(axis=1)):
        col = int(np.argmax(wrong[row]))
        problems.setdefault(int(row), (reason, f"{schema.label_cols[col]} is {votes[row, col]:g}"))


class LabelCheck:
    """Whole-number labels are there, classes count from 0, and each class keeps one name through the whole survey."""

    def __init__(self, kinds: dict[str, str]):
        self.whole = [column for column, kind in kinds.items() if kind == "int64"]
        self.has_classes = kinds.get("label") == "int64"
        self.named = self.has_classes and kinds.get("label_name") == "string"
        self.names: dict[int, str] = {}
        self.classes: dict[str, int] = {}

    def problems(self, labels: pd.DataFrame) -> dict[int, Problem]:
        """Rows of a batch whose labels cannot be used, with the reason."""
        problems: dict[int, Problem] = {}
        for column in self.whole:
            for row in np.flatnonzero(labels[column].isna()):
                problems.setdefault(int(row), ("missing label", f"{column} is empty"))
        if self.has_classes:
            for row in np.flatnonzero(labels["label"].fillna(0).to_numpy(dtype=float) < 0):
                problems.setdefault(int(row), ("missing label", f"label is {labels['label'].iloc[row]:g}"))
        if self.named:
            for row, (label, name) in enumerate(zip(labels["label"], labels["label_name"], strict=True)):
                if row not in problems and not self._agrees(int(label), name):
                    detail = f"'{name}' is label {label:g}, but label {label:g} was '{self.names.get(int(label))}'"
                    if name in self.classes:
                        detail += f" and '{name}' was label {self.classes[name]}"
                    problems[row] = ("inconsistent label", detail)
        return problems

    def _agrees(self, label: int, name: str) -> bool:
        if label not in self.names and name not in self.classes:
            self.names[label], self.classes[name] = name, label
        return self.names.get(label) == name


SAME_PLACE_ARCSEC = 20.0  # within which Galaxy Zoo DESI counts two entries as one galaxy
AROUND = tuple(product((-1, 0, 1), repeat=3))


class Seen:
    """Ids, pictures and places of the galaxies accepted so far; about 350 bytes for each of them.

    Places are unit vectors in a grid whose cells are as wide as the radius, so that a neighbour lies in one of 27
    cells, at the poles and at right ascension 0 as anywhere else.

    Attributes
    ----------
    sky_pairs, straddling_pairs : int
        Pairs of accepted galaxies of different data sets at the same place, and how many of them have one galaxy, but
        not the other, in the test split.
    """

    def __init__(self):
        self.ids: set[int] = set()
        self.pictures: dict[int, int] = {}
        self.cells: dict[int, list[int] | int] = {}
        self.xyz, self.row_of_place = array("d"), array("q")
        self.data_sets: dict[str, int] = {}
        self.data_set_of_place, self.in_test = array("h"), array("b")
        self.accepted = self.sky_pairs = self.straddling_pairs = 0
        self.cell_width = 2 * np.sin(np.radians(SAME_PLACE_ARCSEC / 3600) / 2)

    def duplicate(self, id_str: str, picture: bytes | None, dataset_name: str, ra: float, dec: float) -> Problem | None:
        """Why this galaxy is one that the survey already has, or None."""
        if _key(id_str.encode()) in self.ids:
            return "duplicate id", "an earlier galaxy has the same id"
        same = None if picture is None else self.pictures.get(_key(picture))
        if same is not None:
            return "duplicate picture", f"the same file as galaxy {same} of the survey"
        if not (np.isfinite(ra) and np.isfinite(dec)):
            return None
        if abs(dec) > 90 or abs(ra) > 360:
            return "impossible position", f"ra {ra:g}, dec {dec:g}"
        own = self.data_sets.get(dataset_name)
        for place, distance in self._near(ra, dec):
            if self.data_set_of_place[place] == own:
                row = self.row_of_place[place]
                return "duplicate position", f"{distance:.1f} arcsec from galaxy {row} of the survey"
        return None

    def add(self, id_str: str, picture: bytes | None, dataset_name: str, ra: float, dec: float, split: str):
        """Remember an accepted galaxy, and count the galaxies of other data sets at its place."""
        self.ids.add(_key(id_str.encode()))
        if picture is not None:
            self.pictures[_key(picture)] = self.accepted
        if np.isfinite(ra) and np.isfinite(dec):
            own = self.data_sets.setdefault(dataset_name, len(self.data_sets))
            for place, _ in self._near(ra, dec):
                if self.data_set_of_place[place] != own:
                    self.sky_pairs += 1
                    self.straddling_pairs += self.in_test[place] != (split == "test")
            self._remember_place(ra, dec, own, split == "test")
        self.accepted += 1

    def _remember_place(self, ra: float, dec: float, data_set: int, in_test: bool):
        place, vector = len(self.row_of_place), _unit_vector(ra, dec)
        self.xyz.extend(vector)
        self.row_of_place.append(self.accepted)
        self.data_set_of_place.append(data_set)
        self.in_test.append(in_test)
        cell = _pack(self._cell(vector))
        there = self.cells.get(cell)
        if there is None:
            self.cells[cell] = place  # nearly every cell holds one galaxy: no list, which saves half the memory
        else:
            self.cells[cell] = [*there, place] if isinstance(there, list) else [there, place]

    def _near(self, ra: float, dec: float):
        """Yield (place, distance in arcsec) of all remembered places within the radius."""
        vector = _unit_vector(ra, dec)
        i, j, k = self._cell(vector)
        for di, dj, dk in AROUND:
            there = self.cells.get(_pack((i + di, j + dj, k + dk)), ())
            for place in there if not isinstance(there, int) else (there,):
                x, y, z = self.xyz[3 * place : 3 * place + 3]
                chord = ((x - vector[0]) ** 2 + (y - vector[1]) ** 2 + (z - vector[2]) ** 2) ** 0.5
                if chord <= self.cell_width:
                    yield place, float(np.degrees(2 * np.arcsin(chord / 2)) * 3600)

    def _cell(self, vector: tuple[float, float, float]) -> tuple[int, int, int]:
        return tuple(int(np.floor(v / self.cell_width)) for v in vector)


def _key(data: bytes) -> int:
    """64 bits of a hash: among a million galaxies two different ones agree with a chance of 3e-8."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _pack(cell: tuple[int, int, int]) -> int:
    offset = 1 << 20  # cells run from -10,314 to 10,313
    return ((cell[0] + offset) << 42) | ((cell[1] + offset) << 21) | (cell[2] + offset)


def _unit_vector(ra: float, dec: float) -> tuple[float, float, float]:
    a, d = np.radians(ra), np.radians(dec)
    return float(np.cos(d) * np.cos(a)), float(np.cos(d) * np.sin(a)), float(np.sin(d))
