"""One exponent for all curves or one each? Joint fits, the test between them, and partial pooling."""

import numpy as np
import xarray as xr
from scipy import stats
from scipy.optimize import minimize_scalar

from gzlib.errors import UserError
from gzlib.fitting.batch import batch_fit
from gzlib.fitting.labelled import fit_curves
from gzlib.fitting.laws import get_law
from gzlib.fitting.noise import summarise_replicates


def shared_exponent(loss, x="n_train", *, dim=None, replicate="seed", level=0.95):
    """Joint fit of E + A x^-alpha with one exponent for all curves along ``dim``, against an exponent for each.

    The curves keep their own E, A and noise; the joint chi-square is profiled over the common exponent.

    Parameters
    ----------
    loss : DataArray with dims (..., x, replicate)
    dim : str or list of str, dims that share the exponent; default: all
    level : coverage of the interval

    Returns
    -------
    Dataset over the dims that do not share: ``alpha``, ``alpha_low``, ``alpha_high`` (profile likelihood), ``p_value``
    (F test that one exponent is enough), ``n_curves``, ``sd_between`` (spread of the true exponents, DerSimonian-Laird)
    and, over all dims, ``alpha_own`` and ``alpha_pooled`` (own exponents drawn to the mean by their precision).
    """
    fits = fit_curves(loss, x, replicate=replicate, level=level, draws=0)
    law = get_law("power-offset")
    rest = list(fits.alpha.dims)
    dims = rest if dim is None else ([dim] if isinstance(dim, str) else list(dim))
    if not dims or not set(dims) <= set(rest):
        raise UserError(f"The exponent cannot be shared along {dims}: the curves have the dimensions {rest}.")
    outer = [name for name in rest if name not in dims]
    summary = summarise_replicates(loss, replicate=replicate, x=x).transpose(*outer, *dims, x, missing_dims="ignore")
    sizes = summary[x].values.astype(float) / fits.attrs["x_ref"]
    ordered = fits.transpose(*outer, *dims, ...)
    shape = tuple(ordered.sizes[name] for name in outer)
    groups = int(np.prod(shape, dtype=int))
    per = int(np.prod([ordered.sizes[name] for name in dims], dtype=int))

    def flat(array, *tail):
        return array.values.reshape(groups, per, *tail)

    log_mean, n_runs = flat(summary["log_mean"], len(sizes)), flat(summary["n_runs"], len(sizes))
    best = np.stack([flat(ordered[name]) for name in law.names], axis=-1)
    variance, stderr, dof = flat(ordered["run_sd"]) ** 2, flat(ordered["alpha_stderr"]), flat(ordered["dof"])
    keys = ("alpha", "alpha_low", "alpha_high", "p_value", "n_curves", "sd_between")
    columns = {key: np.full(groups, np.nan) for key in keys}
    pooled = np.full((groups, per), np.nan)
    for g in range(groups):
        use = np.isfinite(stderr[g]) & (variance[g] > 0) & (dof[g] > 0)
        columns["n_curves"][g] = use.sum()
        if use.sum() < 2:
            continue
        weights = np.sqrt(n_runs[g, use] / variance[g, use, None])
        y = np.exp(np.where(n_runs[g, use] > 0, log_mean[g, use], 0.0))
        start, freedom = best[g, use], float(dof[g, use].sum())
        own = 2 * batch_fit(law, [sizes], y, start, weights=weights).cost.sum()

        def joint(alpha, start=start, weights=weights, y=y):
            held = start.copy()
            held[:, 2] = alpha
            return 2 * batch_fit(law, [sizes], y, held, weights=weights, held=("alpha",)).cost.sum()

        low, high = float(start[:, 2].min()), float(start[:, 2].max())
        found = minimize_scalar(
            joint, bounds=(max(low - 1e-3, 1e-4), high + 1e-3), method="bounded", options={"xatol": 1e-6}
        )
        columns["alpha"][g] = found.x
        threshold = found.fun + stats.t.ppf(0.5 * (1 + level), freedom) ** 2
        columns["alpha_low"][g] = _crossing(joint, threshold, found.x, max(found.x - 1e-3, 0.5 * found.x), 0.0)
        columns["alpha_high"][g] = _crossing(joint, threshold, found.x, found.x + 1e-3, 5.0)
        columns["p_value"][g] = stats.f.sf(max(found.fun - own, 0) / (use.sum() - 1), use.sum() - 1, freedom)
        columns["sd_between"][g], pooled[g, use] = _pool(best[g, use, 2], stderr[g, use])
    coords = {name: coord for name, coord in ordered.coords.items() if set(coord.dims) <= set(rest)}
    data = {key: (outer, values.reshape(shape)) for key, values in columns.items()}
    both = (*outer, *dims)
    data |= {"alpha_own": (both, ordered.alpha.values), "alpha_pooled": (both, pooled.reshape(ordered.alpha.shape))}
    return xr.Dataset(
        data, coords=coords, attrs={"shared": ", ".join(dims), "level": level, "x_ref": fits.attrs["x_ref"]}
    )


def _crossing(joint, threshold, best, guess, bound):
    """Exponent at which the joint profile rises to the threshold, on the side of ``guess``; the bound if never."""
    inside, outside = best, guess
    for _ in range(40):
        if joint(outside) >= threshold:
            break
        if outside == bound:
            return bound
        inside, step = outside, 2 * abs(outside - best)
        outside = max(best - step, bound) if bound < best else min(best + step, bound)
    for _ in range(30):
        middle = 0.5 * (inside + outside)
        inside, outside = (inside, middle) if joint(middle) >= threshold else (middle, outside)
    return 0.5 * (inside + outside)


def _pool(values, stderr):
    """Spread of the true values and the values drawn to their mean (DerSimonian and Laird 1986)."""
    precision = 1 / stderr**2
    mean = np.sum(precision * values) / precision.sum()
    heterogeneity = np.sum(precision * (values - mean) ** 2)
    scale = precision.sum() - np.sum(precision**2) / precision.sum()
    between = max((heterogeneity - (len(values) - 1)) / scale, 0.0)
    mean = np.average(values, weights=1 / (stderr**2 + between))
    share = between / (between + stderr**2)
    return np.sqrt(between), mean + share * (values - mean)
