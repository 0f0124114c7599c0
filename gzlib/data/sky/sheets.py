"""Contact sheets: many pictures as one, and galaxies from 'nobody says yes' to 'everybody says yes'."""

import numpy as np

from gzlib.data import volunteers
from gzlib.data.schema import Question, load_schema
from gzlib.data.sky.galaxies import CAMPAIGNS, look
from gzlib.errors import UserError

# Of each question, the answer whose ladder shows most: the one that says that something is there, or the extreme one.
_TELLING = (
    "_yes", "_featured-or-disk", "_features", "_strong", "_dominant", "_cigar", "_cigar-shaped", "_loose", "_2",
    "_merger", "_round", "_rounded", "_star",
)  # fmt: skip


def contact_sheet(images: np.ndarray, columns: int = 10) -> np.ndarray:
    """(rows * size, columns * size, 3) uint8: pictures (n, size, size, 3) row by row; empty places stay black."""
    if columns < 1 or images.ndim != 4:
        raise UserError(
            f"A contact sheet needs pictures (n, size, size, 3) and at least one column, not {images.shape}"
            f" and {columns} columns."
        )
    n, size = len(images), images.shape[1]
    rows = -(-n // columns)
    sheet = np.zeros((rows * columns, *images.shape[1:]), images.dtype)
    sheet[:n] = images
    return sheet.reshape(rows, columns, size, size, 3).swapaxes(1, 2).reshape(rows * size, columns * size, 3)


def telling_answer(question: Question) -> str:
    """The answer (a label column) that :func:`ladders` climbs for a question unless told otherwise."""
    answer = next((name for name in _TELLING if name in question.answers), question.answers[0])
    return f"{question.name}{answer}"


def ladders(
    campaign: str, label_cols: list[str] | None = None, *, seed: int, steps: int = 8, galaxies: int = 3000
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each answer, galaxies whose true chance of it climbs evenly from the lowest to the highest.

    Only galaxies of which at least 15 per cent of volunteers are asked the question take part, spoilt pictures aside
    (unless the answer is about them), so that the answer and not an empty branch is what is seen. No galaxy stands on
    one ladder twice.

    Parameters
    ----------
    campaign : str
        One of the campaigns of the simulated sky.
    label_cols : list of str, optional
        Answers; by default :func:`telling_answer` of each question.
    galaxies : int
        How many galaxies of the survey to choose from.

    Returns
    -------
    dict
        Answer to (``numbers``, ``chance``), (steps,) each: galaxy numbers in climbing order, and the share of all
        volunteers that would give the answer if asked, between 0 and 1. Fewer than ``steps`` if not enough galaxies
        are asked the question.

    Raises
    ------
    UserError
        If there is no such campaign, or the campaign has no such answer.
    """
    if campaign not in CAMPAIGNS:
        raise UserError(f"Unknown campaign '{campaign}'; choose one of {', '.join(CAMPAIGNS)}.")
    schema = load_schema(campaign)
    label_cols = [telling_answer(question) for question in schema.questions] if label_cols is None else label_cols
    if unknown := [name for name in label_cols if name not in schema.label_cols]:
        raise UserError(f"Campaign '{campaign}' has no answer '{unknown[0]}'; it has {', '.join(schema.label_cols)}.")
    _, seen = look(campaign, np.arange(galaxies), seed=seed)
    by_kind = volunteers.kind_probabilities(schema, seen)
    chance = volunteers.answer_probabilities(schema, by_kind)
    reach = volunteers.reach_probabilities(schema, by_kind)
    clean = (seen["fault"] < 0.2) & (seen["star_target"] == 0)
    found = {}
    for name in label_cols:
        column = schema.label_cols.index(name)
        base = schema.questions[schema.question_of_answer[column]].name.rsplit("-", 1)[0]
        about_faults = base in ("artifact", "problem") or name.endswith(("_artifact", "_problem"))
        asked = reach[:, schema.question_of_answer[column]] > 0.15
        rows = np.flatnonzero(asked & (clean | about_faults))
        numbers = rows[_rungs(chance[rows, column], steps)]
        found[name] = numbers, chance[numbers, column]
    return found


def ladder(campaign: str, label_col: str, *, seed: int, steps: int = 10, galaxies: int = 3000) -> np.ndarray:
    """(steps,) galaxy numbers of one answer's ladder; parameters and errors as :func:`ladders`."""
    return ladders(campaign, [label_col], seed=seed, steps=steps, galaxies=galaxies)[label_col][0]


def _rungs(value: np.ndarray, steps: int) -> list[int]:
    """Places of the values nearest to ``steps`` even steps from the least to the greatest, none taken twice."""
    if len(value) <= steps:
        return np.argsort(value).tolist()
    chosen = []
    for wanted in np.linspace(value.min(), value.max(), steps):
        distance = np.abs(value - wanted)
        distance[chosen] = np.inf
        chosen.append(int(distance.argmin()))
    return sorted(chosen, key=lambda place: value[place])
