"""Claims about many curves at once: does the loss fall with a size, for how many, after correction for the number."""

import numpy as np
import xarray as xr
from scipy import stats

from gzlib.errors import UserError


def slope_test(loss, x, *, replicate="seed", level=0.95):
    """Straight line of ln(loss) on ln(size) through the runs of every curve, and whether it falls.

    Runs are the independent unit. Where the curve bends, the bend counts as noise, which makes the test cautious.

    Parameters
    ----------
    loss : DataArray with dims (..., x, replicate), positive, NaN where a run is missing; ``replicate`` may be absent
    x : dimension whose coordinate holds the sizes
    level : coverage of the interval

    Returns
    -------
    Dataset over the remaining dims: ``slope`` (negative where the loss falls), ``low`` and ``high`` (t interval),
    ``p`` (two-sided p-value of no slope) and ``dof``; NaN with fewer than 3 runs or a single size.

    Raises
    ------
    UserError
        If the sizes are not positive.
    """
    sizes = loss[x].values.astype(float)
    if not np.all(sizes > 0):
        raise UserError(f"The sizes along {x!r} must be positive: {sizes.min()} is not.")
    runs = loss if replicate in loss.dims else loss.expand_dims({replicate: [0]})
    log_loss = np.log(runs)
    log_size = xr.DataArray(np.log(sizes), dims=x, coords={x: loss[x]}).where(log_loss.notnull())
    over = [x, replicate]
    count = log_loss.count(over)
    away = log_size - log_size.mean(over)
    spread = (away**2).sum(over)
    dof = count - 2
    usable = (dof > 0) & (spread > 1e-12)
    spread, dof = spread.where(usable), dof.where(usable)
    slope = (away * log_loss).sum(over) / spread
    residual = log_loss - log_loss.mean(over) - slope * away
    stderr = np.sqrt((residual**2).sum(over) / dof / spread)
    half = stderr * xr.apply_ufunc(stats.t.ppf, 0.5 * (1 + level), dof)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * xr.apply_ufunc(stats.t.sf, np.abs(slope) / stderr, dof)
    return xr.Dataset({"slope": slope, "low": slope - half, "high": slope + half, "p": p, "dof": dof})


def holm(p):
    """p-values adjusted for the number of tests (Holm 1979): compare them with the level of the whole family.

    ``p`` is an array or DataArray of any shape; NaN (not tested) stays NaN and does not count as a test.
    """
    values = np.asarray(p, float)
    adjusted = np.full(values.shape, np.nan)
    tested = np.isfinite(values)
    order = np.argsort(values[tested])
    steps = values[tested][order] * np.arange(len(order), 0, -1)
    ranked = np.empty(len(order))
    ranked[order] = np.minimum(np.maximum.accumulate(steps), 1)
    adjusted[tested] = ranked
    return p.copy(data=adjusted) if isinstance(p, xr.DataArray) else adjusted


def in_words(yes, noun):
    """What a count says: ``yes``, an array of bools, one for each thing that ``noun`` (plural) names.

    "yes: all 20 questions", "no: none of 20 questions", "in part: 8 of 20 questions".
    """
    yes = np.asarray(yes, bool).reshape(-1)
    if not yes.size:
        return f"not tested: there are no {noun}"
    count = int(yes.sum())
    if count == yes.size:
        return f"yes: all {count} {noun}"
    return f"no: none of {yes.size} {noun}" if not count else f"in part: {count} of {yes.size} {noun}"
