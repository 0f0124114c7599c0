"""Contact sheets: many pictures as one, and galaxies from 'nobody says yes' to 'everybody says yes'."""

import numpy as np

from gzlib.data import volunteers
from gzlib.data.schema import load_schema
from gzlib.data.sky.galaxies import look
from gzlib.errors import UserError


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


def ladder(campaign: str, label_col: str, *, seed: int, steps: int = 10, galaxies: int = 3000) -> np.ndarray:
    """(steps,) galaxy numbers whose true chance of an answer climbs evenly from the lowest to the highest.

    Only galaxies of which at least 15 per cent of volunteers are asked the question take part, artefacts aside, so
    that the answer and not an empty branch is what is seen.

    Raises
    ------
    UserError
        If the campaign has no such answer.
    """
    schema = load_schema(campaign)
    if label_col not in schema.label_cols:
        raise UserError(f"Campaign '{campaign}' has no answer '{label_col}'; it has {', '.join(schema.label_cols)}.")
    _, seen = look(campaign, np.arange(galaxies), seed=seed)
    by_kind = volunteers.kind_probabilities(schema, seen)
    chance = volunteers.answer_probabilities(schema, by_kind)
    question = schema.questions[schema.question_of_answer[schema.label_cols.index(label_col)]]
    asked = volunteers.reach_probabilities(schema, by_kind)[:, schema.questions.index(question)]
    rows = np.flatnonzero((asked > 0.15) & (seen["fault"] < 0.2))
    value = chance[rows, schema.label_cols.index(label_col)]
    wanted = np.linspace(value.min(), value.max(), steps)
    return rows[np.abs(value[None, :] - wanted[:, None]).argmin(1)]
