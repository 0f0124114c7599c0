"""The four published laws M1 to M4, fitted as published, for all curves of a file at once.

Alabdulmohsin, Neyshabur and Zhai 2022 (arXiv:2209.06640) fit log excess loss by alternating two steps from one
start: linear regression of the power law, then the asymptotes. Where the alternation stops, not a joint optimum,
is what their table reports. These are the yardstick of the benchmark; to forecast use ``gzlib.fitting.forecasting``.
"""

import numpy as np

from gzlib.fitting.ensemble import pad
from gzlib.fitting.laws import get_law, saturating
from gzlib.fitting.optimise import batch_fit, log_loss, nonnegative_least_squares, starting_points

MARGIN = 1e-3  # the published distance of the asymptotes from the data
GRADIENT_ROUNDS, GRADIENT_STEPS, GRADIENT_RATE = 100, 10, 1e-6  # published: 1000 steps of 1e-8, the same flow time
NEWTON_STEPS, NEWTON_RATE = 5, 0.9  # published: 100 steps of 0.1; either way each round ends at the optimum
MAX_ROUNDS = 10_000
STOP = 1e-10  # change of the amplitude in one round, as published
RELATIVE_STOP = 1e-9  # the same, for amplitudes so large that the published change is below their precision
SHIFT_ROUNDS = 300
# Published starts and upper bounds of the loss before training, by the benchmark's domain.
TOPS = {"IC": (1.0, 1.0), "BB": (1.001, 1.0)}


def fit_m1(log_x, y, mask):
    """ln y = ln b + c ln x by least squares. Arrays (curves, points); returns coefficients (curves, 2): ln b, c."""
    n = mask.sum(axis=1)
    log_y = np.log(np.where(mask, y, 1.0))
    mean_x, mean_y = (np.sum(v * mask, axis=1) / n for v in (log_x, log_y))
    dx = (log_x - mean_x[:, None]) * mask
    slope = np.sum(dx * log_y, axis=1) / np.sum(dx**2, axis=1)
    return np.stack([mean_y - slope * mean_x, slope], axis=1)


def fit_asymptotes(log_x, y, mask, *, top=None):
    """M2, ``y - e = b x^c``, or with ``top`` M4, ``(y - e)/(e0 - y)^a = b x^c``.

    Parameters
    ----------
    log_x, y, mask : arrays (curves, points), mask False where a point is absent
    top : (start, upper bound), two arrays (curves,): of e0; the bound is infinite for none

    Returns
    -------
    floor e (curves,), top e0 (curves,), coefficients (curves, 3): ln b, c, a (a = 0 in M2).
    """
    count = mask.sum(axis=1)
    y_min = np.where(mask, y, np.inf).min(axis=1)
    y_max = np.where(mask, y, -np.inf).max(axis=1)
    e, e0 = y_min - MARGIN, (np.ones(len(y)) if top is None else top[0].astype(float))
    coefficients = np.zeros((len(y), 3))
    start_gap = np.log(np.where(mask, np.maximum(e0[:, None] - y, 1e-12), 1.0))  # as published: never updated
    active = np.arange(len(y))
    for round_ in range(MAX_ROUNDS):
        m, x, yy, n = mask[active], log_x[active], y[active], count[active]
        floor, ceiling = e[active], e0[active]
        target = np.log(np.where(m, yy - floor[:, None], 1.0))
        old = np.exp(coefficients[active, 0])
        if top is None:
            coefficients[active, :2] = fit_m1(x, np.exp(target), m)
        else:
            columns = np.stack([m * 1.0, -x * m, start_gap[active] * m], axis=-1)
            solved, _ = nonnegative_least_squares(columns, target * m)
            coefficients[active] = solved * [1, -1, 1]
        log_b, c, a = coefficients[active].T
        line = log_b[:, None] + c[:, None] * x
        newton = round_ >= GRADIENT_ROUNDS
        for _ in range(NEWTON_STEPS if newton else GRADIENT_STEPS):
            low_gap = np.where(m, yy - floor[:, None], 1.0)
            high_gap = np.where(m, np.maximum(ceiling[:, None] - yy, 1e-12), 1.0)
            residual = (np.log(low_gap) - a[:, None] * np.log(high_gap) - line) * m
            steps = [-np.sum(residual / low_gap, axis=1) / n, -a * np.sum(residual / high_gap, axis=1) / n]
            if newton:
                curves = [
                    np.sum((m - residual) / low_gap**2, axis=1) / n,
                    a * np.sum((a[:, None] * m + residual) / high_gap**2, axis=1) / n,
                ]
                steps = [
                    np.where(np.abs(h) > 1e-5, NEWTON_RATE * g / np.where(h == 0, 1, h), 0)
                    for g, h in zip(steps, curves, strict=True)
                ]
            else:
                steps = [GRADIENT_RATE * g for g in steps]
            floor = np.clip(floor - steps[0], 0, y_min[active] - MARGIN)
            if top is not None:
                ceiling = np.minimum(np.maximum(ceiling - steps[1], y_max[active] + MARGIN), top[1][active] + MARGIN)
        e[active], e0[active] = floor, ceiling
        amplitude = np.exp(log_b)
        done = np.abs(amplitude - old) < np.maximum(STOP, RELATIVE_STOP * amplitude)
        done &= round_ > GRADIENT_ROUNDS + 1
        active = active[~done]
        if active.size == 0:
            break
    return e, e0, coefficients


def fit_m3(log_x, y, mask):
    """M3, ``y = b (1/x + g)^c``: regression of b and c, then the best g among those that meet one point exactly.

    Returns coefficients (curves, 3): ln b, c, g.
    """
    log_y = np.log(np.where(mask, y, 1.0))
    inverse = np.where(mask, np.exp(-log_x), 1.0)
    g, old = np.zeros(len(y)), np.full(len(y), np.inf)
    coefficients = np.zeros((len(y), 3))
    with np.errstate(all="ignore"):  # candidates of g that are not finite are not chosen
        for _ in range(SHIFT_ROUNDS):
            line = fit_m1(np.log(inverse + g[:, None]), y, mask)
            log_b, c = line[:, 0], np.maximum(line[:, 1], 0.0)

            candidates = np.exp((log_y - log_b[:, None]) / c[:, None]) - inverse
            candidates = np.where(mask & np.isfinite(candidates) & (candidates >= 0), candidates, g[:, None])
            candidates = np.concatenate([g[:, None], candidates], axis=1)
            fitted = log_b[:, None, None] + c[:, None, None] * np.log(inverse[:, None] + candidates[..., None])
            squares = np.sum(((log_y[:, None] - fitted) * mask[:, None]) ** 2, axis=-1)
            g = np.take_along_axis(candidates, np.argmin(squares, axis=1)[:, None], axis=1)[:, 0]
            coefficients = np.stack([log_b, c, g], axis=1)
            if np.all(np.abs(np.exp(log_b) - old) < STOP):
                break
            old = np.exp(log_b)
    return coefficients


def predict_published(curves, x_new, *, domain="IC"):
    """Fit M1 to M4 to every curve and extrapolate.

    Parameters
    ----------
    curves : list of (sizes, losses)
    x_new : list of arrays, sizes to predict for each curve
    domain : the benchmark's domain, which sets M4's published start of the loss before training

    Returns
    -------
    dict "M1" ... "M4" of lists of arrays of losses; NaN where a published fit fails.
    """
    x, y, mask, last = pad(curves)
    log_x = np.where(mask, np.log(x * last[:, None]), 0.0)
    largest = np.where(mask, y, -np.inf).max(axis=1)
    start, bound = TOPS.get(domain, (1.0, np.inf))
    top = (np.maximum(start, np.where(largest < start, start, largest + MARGIN)), np.full(len(curves), bound))
    top = (top[0], np.where(largest > bound, np.inf, top[1]))
    line, shifted = fit_m1(log_x, y, mask), fit_m3(log_x, y, mask)
    with np.errstate(all="ignore"):
        floor, _, offset = fit_asymptotes(log_x, y, mask)
        low, high, bent = fit_asymptotes(log_x, y, mask, top=top)
        out = {name: [] for name in ("M1", "M2", "M3", "M4")}
        for i, sizes in enumerate(x_new):
            log_new = np.log(np.asarray(sizes, float))
            out["M1"].append(np.exp(line[i, 0] + line[i, 1] * log_new))
            out["M2"].append(floor[i] + np.exp(offset[i, 0] + offset[i, 1] * log_new))
            out["M3"].append(np.exp(shifted[i, 0] + shifted[i, 1] * np.log(np.exp(-log_new) + shifted[i, 2])))
            out["M4"].append(saturating(np.exp(log_new), low[i], high[i], np.exp(bent[i, 0]), bent[i, 2], -bent[i, 1]))
    return out


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
