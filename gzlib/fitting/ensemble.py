"""An ensemble of laws for extrapolation, and the rolling origins that judge it.

A member is a law, a recency scale and, for some, a prior on the exponent: recent points count more, exponents are held
loosely near a common value. Its weight falls with its error at rolling origins, where a curve is taken to have ended
earlier and the rest is forecast; so what is right for a file is learned from that file, and from nothing beyond the
last point.
"""

from dataclasses import dataclass

import numpy as np

from gzlib.fitting.curves import recency_weights
from gzlib.fitting.laws import get_law
from gzlib.fitting.optimise import LogPrior, batch_fit, log_loss, starting_points

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


TEMPERATURE = 0.1  # relative excess error that costs a member a factor e
MAX_STEP = 3.0  # how far a member may be from the members' median, in times their spread


@dataclass(frozen=True)
class Member:
    """One way to extrapolate; ``recency`` in ln x, ``prior`` = (centre, width in ln) of the exponent or None."""

    law: str
    recency: float
    prior: tuple[float, float] | None = None


RECENCIES = (0.25, 0.35, 0.5, 0.75, 1.0, 2.0, np.inf)
PRIORS = ((0.2, 0.3), (0.35, 0.15), (0.5, 0.15), (0.7, 0.15), (1.0, 0.3), (0.5, 0.7))
MEMBERS = (
    *(Member("power-offset", h, prior) for h in RECENCIES for prior in (None, *PRIORS)),
    *(Member("shifted-power", h, prior) for h in RECENCIES for prior in (None, (0.5, 0.15), (0.5, 0.7))),
    *(Member("broken-power", h) for h in (0.5, 1.0, np.inf)),
    *(Member("power", h) for h in (0.35, np.inf)),
)


def pad(curves):
    """Stack curves of different length: sizes in units of each curve's last, losses, presence; and the last sizes."""
    n = max(len(x) for x, _ in curves)
    x = np.ones((len(curves), n))
    y = np.ones((len(curves), n))
    present = np.zeros((len(curves), n), bool)
    last = np.array([np.max(x) for x, _ in curves], float)
    for i, (sizes, losses) in enumerate(curves):
        x[i, : len(sizes)], y[i, : len(sizes)], present[i, : len(sizes)] = sizes / last[i], losses, True
    return x, y, present, last


def fit_members(members, curves):
    """Fit every member to every curve.

    Parameters
    ----------
    members : sequence of Member
    curves : list of (sizes, losses), 1-D arrays, sizes ascending

    Returns
    -------
    list of arrays (curves, parameters), one for each member, NaN where a curve is too short; the last sizes (curves,).
    """
    x, y, present, last = pad(curves)
    counts = present.sum(axis=1)
    starts, fitted = {}, []
    for member in members:
        law = get_law(member.law)
        weights = np.where(present, np.stack([recency_weights(row, scale=member.recency) for row in x]), 0.0)
        enough = counts > len(law.names)
        key = (member.law, member.recency)
        if key not in starts:
            start = np.full((len(curves), len(law.names)), np.nan)
            for i in np.flatnonzero(enough):
                sizes, losses = x[i, : counts[i]], y[i, : counts[i]]
                start[i] = starting_points(law, [sizes], losses, weights=weights[i, : counts[i]], count=1)[0]
            starts[key] = start
            if enough.any():
                starts[key][enough] = batch_fit(
                    law, [x[enough]], y[enough], start[enough], weights=weights[enough], max_steps=100, tolerance=1e-6
                ).parameters
        parameters = starts[key].copy()
        if member.prior is not None and enough.any():
            for _ in range(2):  # the prior is weighed against the noise, which is known only after a fit
                squares = _noise_squares(law, x, y, weights, parameters)
                prior = LogPrior("alpha", *member.prior, np.sqrt(squares)[enough])
                parameters[enough] = batch_fit(
                    law,
                    [x[enough]],
                    y[enough],
                    parameters[enough],
                    weights=weights[enough],
                    prior=prior,
                    max_steps=60,
                    tolerance=1e-6,
                ).parameters
        fitted.append(parameters)
    return fitted, last


def _noise_squares(law, x, y, weights, parameters):
    with np.errstate(invalid="ignore"):
        residual = weights * (log_loss(law, [x], parameters) - np.log(y))
    freedom = np.maximum(np.sum(weights**2, axis=1) - 2, 1.0)
    return np.maximum(np.sum(residual**2, axis=1) / freedom, 1e-12)


def predict_members(members, fitted, last, row, x_new):
    """ln(loss) of every member for one curve: array (members, sizes); a law not fitted repeats the median."""
    out = np.full((len(members), len(x_new)), np.nan)
    for k, (member, parameters) in enumerate(zip(members, fitted, strict=True)):
        if np.isfinite(parameters[row]).all():
            out[k] = log_loss(get_law(member.law), [x_new / last[row]], parameters[row : row + 1])[0]
    middle = np.nanmedian(out, axis=0) if np.isfinite(out).any() else np.full(len(x_new), np.nan)
    spread = np.nanmedian(np.abs(out - middle), axis=0) if np.isfinite(out).any() else 0.0
    out = np.where(np.isfinite(out), out, middle)
    return np.clip(out, middle - 1.4826 * MAX_STEP * spread, middle + 1.4826 * MAX_STEP * spread)


def member_weights(errors, importance):
    """Weights of the members from their errors at rolling origins.

    Parameters
    ----------
    errors : array (origins, members), root mean square error in ln(loss)
    importance : array (origins,), how much each origin counts

    Returns
    -------
    weights (members,), summing to one: exp(-(excess error / best error) / TEMPERATURE).
    """
    score = np.average(errors, axis=0, weights=importance)
    relative = score / max(score.min(), 1e-12) - 1
    weights = np.exp(-relative / TEMPERATURE)
    return weights / weights.sum()
