"""Rolling origins: pretend that a curve ended earlier, forecast the rest, and learn from the error."""

from dataclasses import dataclass

import numpy as np

MIN_POINTS = 6
MIN_POINTS_SPARSE = 4
STEPS = 5
STEP = np.sqrt(2.0)
MAX_SPARSE = 6  # pretended ends of a curve with few points


@dataclass(frozen=True)
class Origin:
    """One pretended end: ``curve`` index, points kept (sizes, losses), points to forecast, and its lead back."""

    curve: int
    kept: tuple[np.ndarray, np.ndarray]
    ahead: tuple[np.ndarray, np.ndarray]
    importance: float  # recent origins resemble the real one most: the inverse of how far back they lie


def find_origins(curves, leads):
    """Origins of all curves.

    Parameters
    ----------
    curves : list of (sizes, losses), sizes ascending
    leads : array (curves,), largest size to forecast over the last size of the curve

    Returns
    -------
    list of Origin. A curve with dense points is cut at lead * sqrt(2)^k below its end and tested as far as the
    lead; one with few points is cut before each of its last sizes and tested on all that follow.
    """
    origins = []
    for index, ((x, y), lead) in enumerate(zip(curves, leads, strict=True)):
        found = []
        lead = max(min(float(lead), np.sqrt(x[-1] / x[0])), 1.2)  # no further than half the decades that are there
        for k in range(STEPS):
            back = lead * STEP**k
            kept = x <= x[-1] / back * (1 + 1e-9)
            if kept.sum() < MIN_POINTS:
                break
            ahead = ~kept & (x <= x[kept][-1] * lead * (1 + 1e-9))
            if ahead.any():
                found.append(Origin(index, (x[kept], y[kept]), (x[ahead], y[ahead]), 1 / back))
        if not found:
            distinct = np.unique(x)
            for end in distinct[MIN_POINTS_SPARSE - 1 : -1][-MAX_SPARSE:]:
                kept = x <= end
                found.append(Origin(index, (x[kept], y[kept]), (x[~kept], y[~kept]), end / x[-1]))
        origins += found
    return origins
