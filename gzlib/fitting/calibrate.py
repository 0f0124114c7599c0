"""Bands that keep their promise: the scale of a forecast's error, learned from rolling origins.

The variance of ln(loss) error at a new size is modelled as a non-negative sum of what is known beforehand (noise,
disagreement of the ensemble, distance, the curve's own earlier errors); the quantiles of the standardised error are
read off the origins themselves, so no distribution is assumed.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.stats import t as student

FLOOR = 1e-12
STUDENT_DOF = 4
MIN_CURVES = 10  # fewer curves cannot show a 95 % quantile by themselves
REPRESENTATIVE = 0.5  # share of the curves that a rank must reach to be judged alone


def fit_scale(features, errors, weights):
    """Coefficients c >= 0 of variance = features @ c, by the likelihood of Student-t errors (4 dof).

    ``features`` (points, k) variances, ``errors`` (points,) in ln(loss), ``weights`` (points,). A column that is
    zero everywhere gets coefficient zero.
    """
    typical = np.average(features, axis=0, weights=weights)
    useful = typical > FLOOR
    if not useful.any() or not np.any(errors != 0):
        return np.where(useful, 1.0, 0.0)
    scaled = features[:, useful] / typical[useful]
    squares = errors**2
    base = max(np.average(squares, weights=weights), FLOOR)

    def cost(log_share):
        variance = base * (scaled @ np.exp(np.clip(log_share, -25, 25))) + FLOOR
        return np.sum(
            weights * (0.5 * np.log(variance) + 0.5 * (STUDENT_DOF + 1) * np.log1p(squares / variance / STUDENT_DOF))
        )

    best = minimize(
        cost,
        np.full(useful.sum(), -np.log(useful.sum())),
        method="Nelder-Mead",
        options={"maxiter": 1500, "xatol": 1e-3, "fatol": 1e-7},
    )
    coefficients = np.zeros(features.shape[1])
    coefficients[useful] = base * np.exp(np.clip(best.x, -25, 25)) / typical[useful]
    return coefficients


def weighted_quantile(values, level, weights):
    """Quantile of a weighted sample, a step function's inverse (no interpolation beyond the sample)."""
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weights[order])
    return values[order][min(np.searchsorted(share, level * share[-1]), len(values) - 1)]


def error_quantiles(standardised, weights, curve, rank, levels):
    """Half-widths, in units of the scale, of bands of the given levels.

    A band has to hold at every pretended end, not on average over them: of the ranks (0 the latest end of
    each curve, 1 the one before, ...) the worst quantile counts. A rank that few curves reach is merged with the
    next, or left out. Few curves cannot show a high quantile: there its rank is raised by conformal prediction's
    (1 + 1/n), and it is at least Student's t with one degree of freedom more than curves, on a scale of at least one.

    Parameters
    ----------
    standardised : array (points,), |error| / scale
    weights : array (points,)
    curve, rank : integer arrays (points,), the curve of a point and the rank of its pretended end
    levels : sequence of float

    Returns
    -------
    array (levels,), rising with level
    """
    needed = max(MIN_CURVES, REPRESENTATIVE * len(np.unique(curve)))
    groups, current = [], []
    for value in np.unique(rank):
        current.append(value)
        members = np.isin(rank, current)
        if len(np.unique(curve[members])) >= needed:
            groups.append(members)
            current = []
    groups = groups or [np.ones(len(rank), bool)]
    out = []
    for level in levels:
        worst = 0.0
        for members in groups:
            count = len(np.unique(curve[members]))
            few = count < 2 * MIN_CURVES
            rank_level = min(level * (1 + 1 / count), 1.0) if few else level
            quantile = weighted_quantile(standardised[members], rank_level, weights[members])
            if few:
                spread = np.sqrt(np.average(standardised[members] ** 2, weights=weights[members]))
                quantile = max(quantile, max(spread, 1.0) * student.ppf(0.5 * (1 + level), count + 1))
            worst = max(worst, quantile)
        out.append(worst)
    return np.maximum.accumulate(np.array(out))
