"""The broken neural scaling law with one break as a baseline: unweighted least squares of ln(loss), many starts."""

import numpy as np

from gzlib.fitting.batch import batch_fit, log_loss
from gzlib.fitting.ensemble import pad
from gzlib.fitting.laws import get_law
from gzlib.fitting.starts import starting_points

STARTS = 16
MAX_STEPS = 300


def predict_broken(curves, x_new):
    """Fit E + A x^-c0 (1 + (x/d)^(1/f))^(-c1 f) to every curve and extrapolate.

    Caballero et al. 2023 (arXiv:2210.14891) choose a start by brute force and let the number of breaks vary; here
    the ``STARTS`` best of a grid are all brought to their optimum and the lowest counts, with one break.

    Parameters
    ----------
    curves : list of (sizes, losses)
    x_new : list of arrays, sizes to predict for each curve

    Returns
    -------
    list of arrays of losses; NaN for a curve with fewer points than the law has parameters.
    """
    law = get_law("broken-power")
    x, y, present, last = pad(curves)
    out = [np.full(len(sizes), np.nan) for sizes in x_new]
    starts = {
        i: starting_points(law, [x[i, :count]], y[i, :count], count=STARTS)
        for i, count in enumerate(present.sum(axis=1))
        if count >= len(law.names)
    }
    if not starts:
        return out
    row = np.repeat(list(starts), [len(each) for each in starts.values()])
    found = batch_fit(
        law, [x[row]], y[row], np.concatenate(list(starts.values())), weights=present[row] * 1.0, max_steps=MAX_STEPS
    )
    for i in starts:
        own = np.flatnonzero(row == i)
        best = own[np.argmin(found.cost[own])]
        out[i] = np.exp(log_loss(law, [np.asarray(x_new[i], float) / last[i]], found.parameters[[best]])[0])
    return out
