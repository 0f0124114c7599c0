"""What a galaxy's votes and labels must pass to enter a survey, and the record of the galaxies that did not."""

from collections import Counter

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
