"""Galaxy Zoo's decision trees: questions, their answers, and after which answer each is asked."""

import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gzlib.errors import UserError

SCHEMAS = Path(__file__).with_name("schemas")  # one file a campaign, and unions.json


# Arcsec within which two entries of one campaign are one galaxy. Galaxy Zoo DESI uses 20 for its ground-based images;
# in deep fields, galaxies are nearer to one another than that.
MATCH_RADIUS = {
    **dict.fromkeys(("gz2", "cd", "dr5", "dr8", "dr12", "desi", "rings"), 20.0),
    **dict.fromkeys(("candels", "hubble", "hubble_v2", "jwst", "jwst_cosmos"), 0.5),
}
UNKNOWN_MATCH_RADIUS = 1.0


@dataclass(frozen=True)
class Question:
    """One question of a decision tree.

    Attributes
    ----------
    name : str
        Galaxy Zoo's name with the campaign's suffix, e.g. ``bar-dr5``.
    answers : tuple of str
        Answers with their leading underscore, e.g. ``("_strong", "_weak", "_no")``.
    asked_after : str or None
        Label column of the answer that leads here, e.g. ``disk-edge-on-dr5_no``; None if always asked.
    columns : slice
        Where the question's votes stand in the schema's label vector.
    """

    name: str
    answers: tuple[str, ...]
    asked_after: str | None
    columns: slice

    @property
    def label_cols(self) -> list[str]:
        return [self.name + answer for answer in self.answers]

    @property
    def campaign(self) -> str:
        return self.name.rsplit("-", 1)[-1]


@dataclass(frozen=True)
class Schema:
    """One decision tree, or the union of several, over one dense label vector.

    Parameters
    ----------
    name : str
        Used in messages and run records.
    questions : tuple of Question
        In the order of the label vector.

    Raises
    ------
    UserError
        If a question or answer appears twice, a parent answer is unknown, or questions form a circle.
    """

    name: str
    questions: tuple[Question, ...]

    def __post_init__(self) -> None:
        _refuse_malformed(self)

    @cached_property
    def label_cols(self) -> list[str]:
        """Every answer's column, in order; ``question + answer``."""
        return [col for q in self.questions for col in q.label_cols]

    @cached_property
    def question_of_answer(self) -> np.ndarray:
        """(answers,) int64: index of the question that each answer belongs to."""
        return np.repeat(np.arange(len(self.questions)), [len(q.answers) for q in self.questions])

    @cached_property
    def parent_answer(self) -> np.ndarray:
        """(questions,) int64: position in ``label_cols`` of the answer that leads to each question, -1 at a root."""
        position = {col: i for i, col in enumerate(self.label_cols)}
        return np.array([position.get(q.asked_after or "", -1) for q in self.questions])

    @cached_property
    def campaigns(self) -> list[str]:
        return list(dict.fromkeys(q.campaign for q in self.questions))

    def __getitem__(self, name: str) -> Question:
        for question in self.questions:
            if question.name == name:
                return question
        raise UserError(f"Schema '{self.name}' has no question '{name}'; it has {[q.name for q in self.questions]}.")

    def question_totals(self, votes: np.ndarray) -> np.ndarray:
        """Votes per question, (galaxies, questions), from votes per answer, (galaxies, answers)."""
        return np.add.reduceat(votes, [q.columns.start for q in self.questions], axis=1)

    def records(self) -> list[dict[str, Any]]:
        """The questions as :func:`schema_from_records` takes them: the content of the tree, without its name."""
        return [{"question": q.name, "answers": list(q.answers), "asked_after": q.asked_after} for q in self.questions]

    def tree(self) -> str:
        """The decision tree as indented text, one question a line."""
        lines = []

        def grow(parent: str | None, depth: int) -> None:
            for question in self.questions:
                if question.asked_after == parent:
                    after = "" if parent is None else f"after {parent.rsplit('_', 1)[-1]}: "
                    answers = ", ".join(a.lstrip("_") for a in question.answers)
                    lines.append("    " * depth + f"{after}{question.name} ({answers})")
                    for col in question.label_cols:
                        grow(col, depth + 1)

        grow(None, 0)
        return "\n".join(lines)


def _refuse_malformed(schema: Schema) -> None:
    columns, names = schema.label_cols, [q.name for q in schema.questions]
    for what, values in (("question", names), ("answer", columns)):
        twice = next((v for v in values if values.count(v) > 1), None)
        if twice:
            raise UserError(f"Schema '{schema.name}': {what} '{twice}' is listed twice; remove one.")
    owner = {col: q for q in schema.questions for col in q.label_cols}
    for question in schema.questions:
        if len(question.answers) < 2:
            raise UserError(f"Schema '{schema.name}': question '{question.name}' needs at least two answers.")
        if question.asked_after is not None and question.asked_after not in owner:
            raise UserError(
                f"Schema '{schema.name}': question '{question.name}' is asked after '{question.asked_after}',"
                " which is not an answer of this schema."
            )
        seen, ancestor = {question.name}, question
        while ancestor.asked_after is not None:
            if ancestor.asked_after not in owner:
                break  # reported when that question's own turn comes
            ancestor = owner[ancestor.asked_after]
            if ancestor.name in seen:
                raise UserError(f"Schema '{schema.name}': question '{question.name}' leads back to itself (a circle).")
            seen.add(ancestor.name)


class _Record(BaseModel):
    """One question in a schema file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    question: str = Field(min_length=1)
    answers: list[Annotated[str, Field(min_length=1)]]
    asked_after: str | None


_RECORDS = TypeAdapter(Annotated[list[_Record], Field(min_length=1)])


def schema_from_records(name: str, records: list[dict[str, Any]]) -> Schema:
    """Build a schema from ``[{"question", "answers", "asked_after"}, ...]`` (the layout of ``schemas/*.json``).

    Raises
    ------
    UserError
        If a record lacks one of the three, has another entry or a value of another type.
    """
    try:
        checked = _RECORDS.validate_python(records)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(f"{part}" for part in first["loc"]) or "the whole"
        raise UserError(
            f"Schema '{name}' must be a list of questions, each with 'question', 'answers' and 'asked_after' (a column,"
            f" or null): {where}: {first['msg']}."
        ) from None
    questions, start = [], 0
    for record in checked:
        stop = start + len(record.answers)
        questions.append(Question(record.question, tuple(record.answers), record.asked_after, slice(start, stop)))
        start = stop
    return Schema(name, tuple(questions))


def available_schemas() -> list[str]:
    """Names that :func:`load_schema` knows: campaigns, then unions of campaigns."""
    unions = json.loads((SCHEMAS / "unions.json").read_text())
    return sorted(p.stem for p in SCHEMAS.glob("*.json") if p.stem != "unions") + list(unions)


def is_one_tree(name: str) -> bool:
    """Whether a schema has a file of its own, rather than being a union of several."""
    return name in {file.stem for file in SCHEMAS.glob("*.json")} - {"unions"}


def is_tree_file(name: str | Path | None) -> bool:
    """Whether a schema is named by a user's JSON file rather than by its campaigns."""
    return str(name or "").endswith(".json")


def match_radii(name: str, unknown: float = UNKNOWN_MATCH_RADIUS) -> np.ndarray:
    """(answers,) float: arcsec within which two galaxies with votes for that answer are the same one.

    ``unknown`` is that of a campaign which :data:`MATCH_RADIUS` does not name.
    """
    columns = load_schema(name).label_cols
    radius: dict[str, float] = {}
    for campaign in _campaigns(str(name)):
        if is_one_tree(campaign):
            own = MATCH_RADIUS.get(campaign, unknown)
            radius |= {col: min(own, radius.get(col, own)) for col in load_schema(campaign).label_cols}
    return np.array([radius.get(col, unknown) for col in columns])


def _campaigns(name: str) -> list[str]:
    unions = json.loads((SCHEMAS / "unions.json").read_text())
    return unions[name]["campaigns"] if name in unions else name.split("+")


def load_schema(name: str | Path) -> Schema:
    """A campaign's decision tree, a union of several, or one's own JSON file.

    Parameters
    ----------
    name : str or Path
        A campaign (``gz2``, ``dr5``, ...), a union (``paper``: 88 questions and 281 answers, Walmsley et al.
        2024; ``public``: 63 and 194, the public Galaxy Zoo Evo baselines), campaigns joined by ``+``
        (``gz2+dr5``), or the path of a JSON file.

    Raises
    ------
    UserError
        If the name is unknown or the schema is malformed.

    Examples
    --------
    >>> from gzlib.data import load_schema
    >>> tree = load_schema("gz2")
    >>> tree.questions[0].name, tree.questions[0].label_cols[0]
    ('smooth-or-featured-gz2', 'smooth-or-featured-gz2_smooth')
    >>> len(load_schema("paper").questions)
    88
    """
    path = Path(name)
    if is_tree_file(name):
        try:
            return _parsed(path.stem, (path.read_text(encoding="utf-8"),))
        except FileNotFoundError:
            raise UserError(f"There is no schema file '{path}'.") from None
        except UserError:  # JSON, but no tree
            raise
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"Schema file '{path}' is not JSON: {error}.") from None
    unions = json.loads((SCHEMAS / "unions.json").read_text())
    union = unions.get(str(name), {"campaigns": str(name).split("+"), "without": []})
    for campaign in union["campaigns"]:
        if not is_one_tree(campaign):  # nor a path of any other file
            raise UserError(f"Unknown schema '{str(name)[:80]}'; choose one of {', '.join(available_schemas())}.")
    texts = tuple((SCHEMAS / f"{campaign}.json").read_text() for campaign in union["campaigns"])
    return _parsed(str(name), texts, tuple(union["without"]))


@lru_cache(maxsize=64)  # curation asks for each batch; a file that changes is another text
def _parsed(name: str, texts: tuple[str, ...], without: tuple[str, ...] = ()) -> Schema:
    if len(texts) == 1 and not without:
        return schema_from_records(name, json.loads(texts[0]))
    records = [record for text in texts for record in json.loads(text)]
    return schema_from_records(name, [record for record in records if record["question"] not in without])
