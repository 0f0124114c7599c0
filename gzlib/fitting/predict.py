"""Predictions of fitted curves with bands: for the mean curve, and for one new training run."""

import numpy as np
import xarray as xr

from gzlib.errors import UserError
from gzlib.fitting.laws import get_law

KINDS = ("mean", "new_run")


def predict(fits, x_new, *, level=0.95, kind="mean", seed=0):
    """Loss at new sizes with a band from the bootstrap draws of the fit.

    The band holds parameter noise (``kind="mean"``: where the average of many runs lies) and, with
    ``kind="new_run"``, the noise of one run. It does not know whether the law still holds at ``x_new``: use
    ``gzlib.fitting.forecast`` for bands that include what the law got wrong before.

    Parameters
    ----------
    fits : Dataset from ``fit_curves``, with draws
    x_new : float or array (sizes,), in the units of the fit's ``x``
    level : float, coverage
    kind : "mean" or "new_run"
    seed : int, of the run noise

    Returns
    -------
    Dataset with ``median`` (the fit's own curve), ``lower`` and ``upper`` over the dims of ``fits`` and
    (x, ): NaN where a fit was refused.
    """
    if kind not in KINDS:
        raise UserError(f"No band is called {kind!r}: choose 'mean' or 'new_run'.")
    if "draw_values" not in fits:
        raise UserError("These fits carry no draws, so no band can be made: call fit_curves with draws=500.")
    x_new = np.atleast_1d(np.asarray(x_new, float))
    if not np.all(np.isfinite(x_new) & (x_new > 0)):
        raise UserError("x_new must be positive and finite sizes.")
    law, x = get_law(fits.attrs["law"]), fits.attrs["x"]
    new = xr.DataArray(x_new / fits.attrs["x_ref"], dims=x, coords={x: x_new})
    median = law.function(new, *(fits[name] for name in law.names))
    drawn = np.log(law.function(new, *(fits["draw_values"].sel(parameter=name, drop=True) for name in law.names)))
    if kind == "new_run":
        rng = np.random.default_rng(seed)
        shape = [fits.sizes[dim] for dim in fits["draw_sd"].dims]
        drawn = drawn + fits["draw_sd"] * xr.DataArray(rng.standard_normal(shape), dims=fits["draw_sd"].dims)
    ends = np.exp(drawn.quantile([0.5 * (1 - level), 0.5 * (1 + level)], dim="draw", skipna=False))
    order = [*(dim for dim in fits["draw_sd"].dims if dim != "draw"), x]
    band = xr.Dataset(
        {"median": median, "lower": ends.isel(quantile=0, drop=True), "upper": ends.isel(quantile=1, drop=True)}
    )
    return band.transpose(*order).assign_attrs(level=level, kind=kind, law=law.name, x_ref=fits.attrs["x_ref"])
