"""What a galaxy must pass to enter a survey: sound votes and labels, and not being there already."""

import csv
import hashlib
from array import array
from collections import Counter
from pathlib import Path
from typing import Self, TextIO, overload

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from gzlib.data.schema import MATCH_RADIUS, Schema

# Votes that a question may have beyond its parent answer. Measured: raw Galaxy Zoo 2 counts (19,761 galaxies of
# Stripe 82) exceed by 1 or 2 in 568 galaxies; 649 galaxies with counts rebuilt from published fractions by at most 1.
# Rounding each answer of a six-answer question (spiral-arm-count) can add 3, and Hubble and CANDELS are rebuilt so.
VOTE_SLACK = 3
# Relative distance from a whole number that is taken for rounding: of 32-bit fractions times a total, with room.
DUST = 1e-5
# Published fractions have three decimals, which miss a count by so many of the question's votes, and never by more.
FRACTION_DIGITS, MOST_OFF = 0.0005, 0.1
EXAMPLES = 300  # rejected galaxies listed one by one; beyond that only counted

Problem = tuple[str, str]  # reason, detail


class Rejects:
    """How many galaxies were rejected, why, all of them in a CSV file, and the first few hundred for the report."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: TextIO | None = None
        self.counts: Counter[str] = Counter()
        self.examples: list[dict[str, str]] = []

    def add(self, id_str: str, problem: Problem) -> None:
        reason, detail = problem
        self.counts[reason] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append({"id_str": id_str, "reason": reason, "detail": detail})
        if self.file is None:
            self.file = open(self.path, "w", newline="", encoding="utf-8")
            csv.writer(self.file).writerow(("id_str", "reason", "detail"))
        csv.writer(self.file).writerow((id_str, reason, detail))

    @property
    def faulty(self) -> int:
        """How many were rejected for another reason than being in the survey already."""
        return sum(n for reason, n in self.counts.items() if not reason.startswith("duplicate"))

    def commonest(self) -> str:
        """The three commonest reasons with their counts."""
        return ", ".join(f"{reason} ({n:,})" for reason, n in self.counts.most_common(3))

    def why_none(self, text: str) -> str:
        """The sentence for a source of which no galaxy is left."""
        if not self.counts:
            return f"'{text}' holds no galaxies."
        first = self.examples[0]
        return (
            f"Every galaxy of '{text}' was rejected: {self.commonest()}; the first is '{first['id_str']}':"
            f" {first['detail']}."
        )

    def why_too_many(self, text: str, read: int) -> str:
        """The sentence for a source of which too many of the ``read`` galaxies were rejected."""
        reason = next(r for r, _ in self.counts.most_common() if not r.startswith("duplicate"))
        first = next(example for example in self.examples if example["reason"] == reason)
        return (
            f"{self.faulty:,} of {read:,} galaxies of '{text}' were rejected ({self.faulty / read:.0%}):"
            f" {self.commonest()}; the first '{reason}' is '{first['id_str']}': {first['detail']}; all are in"
            f" '{self.path}'. Fix them, or make the survey without them with --keep-going."
        )

    def __enter__(self) -> Self:
        self.path.unlink(missing_ok=True)  # of a curation that was interrupted
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.file.close()


def whole_votes(votes: np.ndarray, schema: Schema) -> np.ndarray:
    """Votes of which each question left blank is one not asked, and rounding is undone; NaN where partly blank.

    Counts that were computed as fraction times total in floating point miss whole numbers by some 1e-6, those of
    fractions of three decimals by up to 0.0005 of the total.
    """
    if np.issubdtype(votes.dtype, np.integer):
        return votes
    blank = np.isnan(votes)
    for question in schema.questions if blank.any() else ():
        unasked = blank[:, question.columns].all(axis=1)
        votes[unasked, question.columns] = 0
    near = np.rint(votes)
    with np.errstate(invalid="ignore"):  # infinite votes are judged later
        total = schema.question_totals(np.nan_to_num(near))[:, schema.question_of_answer]
        allowed = np.maximum(DUST * np.maximum(1, np.abs(near)), np.clip(FRACTION_DIGITS * total, 0, MOST_OFF) + DUST)
        return np.where(np.abs(votes - near) <= allowed, near, votes)


def vote_problems(votes: np.ndarray, schema: Schema, slack: int) -> dict[int, Problem]:
    """Rows of ``votes`` (galaxies, answers) that no volunteers can have cast, with the reason.

    A question may have ``slack`` more votes than the answer that leads to it, no more.
    """
    problems: dict[int, Problem] = {}
    if not np.issubdtype(votes.dtype, np.integer):
        with np.errstate(invalid="ignore"):
            partly = " while other answers of its question are not"
            _note(problems, "missing votes", np.isnan(votes), votes, schema, "is blank" + partly)
            _note(problems, "impossible votes", np.abs(votes) > np.iinfo(np.int32).max, votes, schema)
            counts = "; votes must be counts"
            _note(problems, "fractional votes", votes != np.rint(votes), votes, schema, and_so=counts)
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


def _note(
    problems: dict[int, Problem],
    reason: str,
    wrong: np.ndarray,
    votes: np.ndarray,
    schema: Schema,
    said: str = "",
    and_so: str = "",
) -> None:
    for row in np.flatnonzero(wrong.any(axis=1)):
        col = int(np.argmax(wrong[row]))
        problems.setdefault(
            int(row), (reason, f"{schema.label_cols[col]} {said or f'is {votes[row, col]:.10g}'}{and_so}")
        )


class LabelCheck:
    """Classes count from 0, and each class keeps one name through the whole survey."""

    def __init__(self, kinds: dict[str, str]) -> None:
        self.has_label = kinds.get("label") in ("int64", "float64")
        self.named = self.has_label and kinds.get("label_name") == "string"
        self.names: dict[float, str] = {}
        self.classes: dict[str, float] = {}

    def problems(self, labels: pd.DataFrame) -> dict[int, Problem]:
        """Rows of a batch whose labels contradict one another, with the reason; a galaxy without a label has none."""
        problems: dict[int, Problem] = {}
        if not self.named:
            return problems
        for row, (label, name) in enumerate(zip(labels["label"], labels["label_name"], strict=True)):
            if pd.isna(label) or pd.isna(name) or name == "":
                continue
            if label < 0:
                problems[row] = "missing label", f"label is {label:g}"
            elif not self._agrees(float(label), name):
                detail = f"'{name}' is label {label:g}, but label {label:g} was '{self.names.get(label)}'"
                if name in self.classes:
                    detail += f" and '{name}' was label {self.classes[name]:g}"
                problems[row] = ("inconsistent label", detail)
        return problems

    def _agrees(self, label: float, name: str) -> bool:
        if label not in self.names and name not in self.classes:
            self.names[label], self.classes[name] = name, label
        return self.names.get(label) == name


# What catalogues write where they know no position: in either coordinate, or in both alike.
NO_POSITION = (-99.0, -999.0, -9999.0, 999.0, 9999.0, -99.99, -999.99, -9999.99, 999.99, 9999.99, -99.9, -999.9)
NO_PAIR = (0.0, -1.0, -9.0, -9.99, 99.0, 99.9, 99.99)


# Of points without order, half have their fifth neighbour within the area in which one expects 4.67 points.
FIFTH, MEDIAN_FIFTH, CHANCE = 5, 4.67, 1e-3


class Seen:
    """Ids, images and positions of the galaxies accepted so far; about 80 bytes for each of them.

    Attributes
    ----------
    sky_pairs, straddling_pairs : int
        Pairs of accepted galaxies of different data sets at the same position, and how many of them have one galaxy,
        but not the other, in the test split.
    """

    def __init__(self) -> None:
        self.ids, self.images, self.places = _Keys(), _Keys(), _Places()
        self.data_sets: dict[str, int] = {}
        self.row_of_place, self.data_set_of_place, self.in_test = array("i"), array("i"), array("b")
        self.accepted = self.sky_pairs = self.straddling_pairs = 0

    def neighbours(self, ra: np.ndarray, dec: np.ndarray, radius: np.ndarray) -> "Neighbours":
        """The positions of a batch, (galaxies,) in degrees, and who is near them within ``radius`` [arcsec]."""
        return Neighbours(self, ra, dec, radius)

    def duplicate(
        self, id_str: str, image: bytes | None, dataset_name: str, near: list[tuple[int, float]]
    ) -> Problem | None:
        """Why this galaxy is one that the survey already has, or None; ``near`` as :class:`Neighbours` gives it."""
        if self.ids.get(_key(id_str.encode())) is not None:
            return "duplicate id", "an earlier galaxy has the same id"
        same = None if image is None else self.images.get(_key(image))
        if same is not None:
            return "duplicate image", f"the same file as galaxy {same} of the survey"
        own = self.data_sets.get(dataset_name)
        for place, distance in near:
            if self.data_set_of_place[place] == own:
                row = self.row_of_place[place]
                return "duplicate position", f"{distance:.1f} arcsec from galaxy {row} of the survey"
        return None

    def add(
        self, id_str: str, image: bytes | None, dataset_name: str, split: str, near: list[tuple[int, float]]
    ) -> None:
        """Remember an accepted galaxy but for its position, and count the galaxies of other data sets there."""
        self.ids.add(_key(id_str.encode()), self.accepted)
        if image is not None:
            self.images.add(_key(image), self.accepted)
        own = self.data_sets.setdefault(dataset_name, len(self.data_sets))
        for place, _ in near:
            if self.data_set_of_place[place] != own:
                self.sky_pairs += 1
                self.straddling_pairs += self.in_test[place] != (split == "test")
        self.accepted += 1

    def remember_place(self, vector: np.ndarray, dataset_name: str, split: str) -> int:
        """Remember the position of the galaxy that was added last; its number among all positions."""
        self.row_of_place.append(self.accepted - 1)
        self.data_set_of_place.append(self.data_sets[dataset_name])
        self.in_test.append(split == "test")
        return self.places.add(vector)


class Neighbours:
    """Who is near the galaxies of one batch, whose positions are looked up together.

    Attributes
    ----------
    known : (galaxies,) bool
        Which have a position: both coordinates are finite and no placeholder (0 and 0, -99, ...).
    """

    def __init__(self, seen: Seen, ra: np.ndarray, dec: np.ndarray, radius: np.ndarray) -> None:
        self.seen, self.radius = seen, radius
        self.known = has_position(ra, dec)
        self.vectors = _unit_vectors(np.where(self.known, ra, 0.0), np.where(self.known, dec, 0.0))
        rows = np.flatnonzero(self.known)
        self.before: list[list[tuple[int, float]]] = [[] for _ in ra]
        for row, found in zip(rows, seen.places.near(self.vectors[rows], radius[rows]), strict=True):
            self.before[row] = found
        pairs = cKDTree(self.vectors[rows]).query_pairs(_chord(radius[rows].max())) if len(rows) > 1 else ()
        self.within: dict[int, list[int]] = {}
        for i, j in pairs:
            self.within.setdefault(int(rows[max(i, j)]), []).append(int(rows[min(i, j)]))
        self.place_of: dict[int, int] = {}

    def of(self, row: int) -> list[tuple[int, float]]:
        """Number and distance [arcsec] of each remembered position near galaxy ``row``, in the order of entry."""
        near = self.before[row]
        for other in sorted(self.within.get(row, ())):
            distance = _arcsec(np.linalg.norm(self.vectors[row] - self.vectors[other]))
            if other in self.place_of and distance <= self.radius[row]:
                near = [*near, (self.place_of[other], distance)]
        return near

    def remember(self, row: int, dataset_name: str, split: str) -> None:
        """Galaxy ``row`` was added to :class:`Seen`; remember its position if it has one."""
        if self.known[row]:
            self.place_of[row] = self.seen.remember_place(self.vectors[row], dataset_name, split)


class _Keys:
    """Rows of the survey by 64-bit keys: the newest in a dictionary, all others in sorted arrays, 12 bytes each.

    Each array is longer than the next; a dictionary of all would take ten times the memory.
    """

    NEWEST = 4096

    def __init__(self) -> None:
        self.newest: dict[int, int] = {}
        self.sorted: list[tuple[np.ndarray, np.ndarray]] = []

    def get(self, key: int) -> int | None:
        if key in self.newest:
            return self.newest[key]
        wanted = np.uint64(key)
        for keys, rows in self.sorted:
            place = int(np.searchsorted(keys, wanted))
            if place < len(keys) and keys[place] == wanted:
                return int(rows[place])
        return None

    def add(self, key: int, row: int) -> None:
        """Enter a key that is new."""
        self.newest[key] = row
        if len(self.newest) < self.NEWEST:
            return
        keys, rows = np.array(list(self.newest), np.uint64), np.array(list(self.newest.values()), np.int32)
        while self.sorted and len(self.sorted[-1][0]) <= len(keys):
            known, rows_of_known = self.sorted.pop()
            keys, rows = np.concatenate([known, keys]), np.concatenate([rows_of_known, rows])
        order = np.argsort(keys, kind="stable")
        self.sorted.append((keys[order], rows[order]))
        self.newest = {}


class _Places:
    """Unit vectors that grow in number, in trees each about as large as all the smaller ones together."""

    def __init__(self) -> None:
        self.n = 0
        self.newest = array("d")  # those that are in no tree yet
        self.trees: list[tuple[int, cKDTree]] = []  # where each begins among the vectors; the largest first

    def add(self, vector: np.ndarray) -> int:
        self.newest.extend(vector)
        self.n += 1
        return self.n - 1

    def near(self, vectors: np.ndarray, radius: np.ndarray) -> list[list[tuple[int, float]]]:
        """For each vector the numbers of remembered ones within its radius [arcsec], and their distances."""
        self._grow()
        found: list[list[tuple[int, float]]] = [[] for _ in vectors]
        for start, tree in self.trees if len(vectors) else ():
            for row, hits in enumerate(tree.query_ball_point(vectors, _chord(radius), return_sorted=True)):
                for hit in hits:
                    found[row].append((start + hit, _arcsec(np.linalg.norm(tree.data[hit] - vectors[row]))))
        return found

    def _grow(self) -> None:
        if not self.newest:
            return
        parts = [np.array(self.newest).reshape(-1, 3)]
        start = self.n - len(parts[0])
        while self.trees and self.trees[-1][1].n <= self.n - start:
            start, tree = self.trees.pop()
            parts.insert(0, tree.data)
        self.trees.append((start, cKDTree(np.concatenate(parts))))
        self.newest = array("d")


def has_position(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """(galaxies,) bool: which coordinates [deg] are a position, rather than missing or a placeholder for that."""
    known = np.isfinite(ra) & np.isfinite(dec) & ~((ra == dec) & np.isin(ra, NO_PAIR))
    return np.asarray(known & ~np.isin(ra, NO_POSITION) & ~np.isin(dec, NO_POSITION))


def own_radius(votes: np.ndarray, radii: np.ndarray, given: float | None) -> np.ndarray:
    """(galaxies,) arcsec within which each galaxy is the same as another one: the campaigns' that it has votes of."""
    if given is not None or not votes.shape[1]:
        return np.full(len(votes), radii[0] if given is None else given)
    own: np.ndarray = np.where(votes > 0, radii, np.inf).min(axis=1)
    return np.where(np.isfinite(own), own, radii.min())


def radius_note(tree: str, radii: np.ndarray, given: float | None) -> str:
    shown = " or ".join(f"{value:.3g}" for value in ([given] if given is not None else sorted(set(radii.tolist()))))
    if given is not None:
        why = "as asked for"
    elif radii.min() < min(MATCH_RADIUS.values()):
        why = "by default 1, but less where galaxies are so dense that neighbours are common"
    else:
        why = f"by the decision tree {tree}" if tree else "by default"
    return f"galaxies of one data set within {shown} arcsec of one another count as one ({why}; see --match-radius)"


def crowded_radius(ra: np.ndarray, dec: np.ndarray) -> float:
    """Arcsec within which one galaxy in a thousand has a neighbour by chance, from these positions [deg]; inf if few.

    The density is that of the fifth neighbours, which entries that appear twice or three times do not change much.
    """
    known = has_position(ra, dec)
    vectors = _unit_vectors(ra[known], dec[known])
    if len(vectors) <= FIFTH:
        return np.inf
    chord = cKDTree(vectors).query(vectors, k=FIFTH + 1)[0][:, FIFTH]
    return _arcsec(float(np.median(chord))) * float((CHANCE / MEDIAN_FIFTH) ** 0.5)


def impossible_positions(ra: np.ndarray, dec: np.ndarray) -> dict[int, Problem]:
    """Rows whose position is none on the sky, with the reason."""
    wrong = has_position(ra, dec) & ((np.abs(dec) > 90) | (np.abs(ra) > 360))
    return {int(row): ("impossible position", f"ra {ra[row]:g}, dec {dec[row]:g}") for row in np.flatnonzero(wrong)}


def table_problems(
    catalog: pd.DataFrame, votes: np.ndarray, labels: pd.DataFrame, schema: Schema | None, slack: int, check: LabelCheck
) -> dict[int, Problem]:
    """Rows of a batch that its table alone makes unusable, with the reason."""
    wrong = vote_problems(votes, schema, slack) if schema else {}
    ra, dec = (catalog[axis].to_numpy(dtype=float) for axis in ("ra", "dec"))
    return impossible_positions(ra, dec) | check.problems(labels) | wrong


def _key(data: bytes) -> int:
    """64 bits of a hash: among a million galaxies two different ones agree with a chance of 3e-8."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _unit_vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    a, d = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=-1)


@overload
def _chord(arcsec: float) -> float: ...
@overload
def _chord(arcsec: np.ndarray) -> np.ndarray: ...
def _chord(arcsec: float | np.ndarray) -> float | np.ndarray:
    return 2 * np.sin(np.radians(arcsec / 3600) / 2)


def _arcsec(chord: float | np.floating) -> float:
    return float(np.degrees(2 * np.arcsin(min(chord / 2, 1.0))) * 3600)
