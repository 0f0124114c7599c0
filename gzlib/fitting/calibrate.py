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
TRUSTED_CURVES = 4  # fewer cannot show that noise and disagreement overstate the error
MANY_CURVES = 20  # fewer cannot show a 95 % quantile for each rank of their pretended ends
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


def error_quantiles(standardised, weights, importance, curve, rank, levels):
    """Half-widths, in units of the scale, of bands of the given levels.

    With many curves a band has to hold at every pretended end, not on average over them: of the ranks (0 the latest
    end of each curve, 1 the one before, ...) the worst quantile counts. A rank that few curves reach is merged with
    the next, or left out. With fewer than ``MANY_CURVES`` the worst of several noisy quantiles would be too wide, so
    all ends are pooled by their importance; the level is raised by conformal prediction's (1 + 1/n), n being Kish's
    effective number of ends, and a band is at least Student's t with n + 1 degrees of freedom. Fewer than
    ``TRUSTED_CURVES`` cannot show that the scale is too large: there it counts as at least one, and the degrees of
    freedom as the curves and one.

    Parameters
    ----------
    standardised : array (points,), |error| / scale
    weights : array (points,), 1 / points of a pretended end
    importance : array (points,), of the pretended end of a point
    curve, rank : integer arrays (points,), the curve of a point and the rank of its pretended end
    levels : sequence of float

    Returns
    -------
    array (levels,), rising with level
    """
    n_curves = len(np.unique(curve))
    levels = np.asarray(levels, float)
    if n_curves >= MANY_CURVES:
        groups = _rank_groups(curve, rank, max(MANY_CURVES, REPRESENTATIVE * n_curves))
        half = [[weighted_quantile(standardised[g], level, weights[g]) for level in levels] for g in groups]
        return np.maximum.accumulate(np.max(half, axis=0))
    share = weights * importance
    ends = share.sum() ** 2 / np.sum(share * importance)
    spread = np.sqrt(np.average(standardised**2, weights=share))
    dof = ends + 1
    if n_curves < TRUSTED_CURVES:
        spread, dof = max(spread, 1.0), n_curves + 1
    seen = [weighted_quantile(standardised, min(level * (1 + 1 / ends), 1.0), share) for level in levels]
    return np.maximum.accumulate(np.maximum(seen, spread * student.ppf(0.5 * (1 + levels), dof)))


def _rank_groups(curve, rank, needed):
    """Masks of the points of neighbouring ranks, each with at least ``needed`` curves; all points if none has."""
    groups, current = [], []
    for value in np.unique(rank):
        current.append(value)
        members = np.isin(rank, current)
        if len(np.unique(curve[members])) >= needed:
            groups.append(members)
            current = []
    return groups or [np.ones(len(rank), bool)]
