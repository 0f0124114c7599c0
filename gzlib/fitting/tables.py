"""Tables for the command line: fits and forecasts of the curves of a CSV file."""

import numpy as np

from gzlib.errors import UserError
from gzlib.fitting.labelled import fit_curves
from gzlib.fitting.planner import labels_needed
from gzlib.fitting.readcurves import to_array


def fit_table(curves, *, law="power-offset", level=0.95):
    """One row a curve: parameters, intervals, verdict.

    Parameters
    ----------
    curves : DataFrame from ``read_curves``; held-out rows are left out
    law, level : as for ``fit_curves``

    Returns
    -------
    list of dict: ``curve``, for each parameter P ``P``, ``P_low``, ``P_high``; ``x_ref``, ``n_sizes``, ``n_runs``,
    ``verdict``, ``reason``, ``message``. Curves that were refused are rows too, with NaN parameters.
    """
    fits = fit_curves(to_array(curves), law=law, level=level, draws=0)
    names = [str(name) for name in fits["parameter"].values]
    numbers = [key for name in names for key in (name, f"{name}_low", f"{name}_high")]
    rows = []
    for curve in fits["curve"].values:
        one = fits.sel(curve=curve)
        rows.append(
            {"curve": str(curve)}
            | {key: float(one[key]) for key in numbers}
            | {"x_ref": float(fits.attrs["x_ref"]), "n_sizes": int(one["n_sizes"]), "n_runs": int(one["n_runs"])}
            | {key: str(one[key].item()) for key in ("verdict", "reason", "message")}
        )
    return rows


def forecast_labels(curves, target, *, level=0.95):
    """How many labels each curve needs for a target loss.

    Parameters
    ----------
    curves : DataFrame from ``read_curves``
    target : float
    level : coverage of the band

    Returns
    -------
    dict: ``target``, ``level``, ``calibrated`` and ``curves``, a list of dicts ``curve``, ``labels``, ``labels_low``,
    ``labels_high`` (None where out of reach), ``largest`` (size of the pilot), ``best_loss``, ``status``.
    """
    if curves.empty:
        raise UserError("There are no curves to forecast.")
    loss = to_array(curves)
    needed = labels_needed(loss, target, level=level)
    rows = []
    for curve in needed["curve"].values:
        one, own = needed.sel(curve=curve), loss.sel(curve=curve).dropna("n_train", how="all")
        values = {key: float(one[key]) for key in ("labels", "labels_low", "labels_high")}
        rows.append(
            {"curve": str(curve)}
            | {key: value if np.isfinite(value) else None for key, value in values.items()}
            | {
                "largest": float(own["n_train"].max()),
                "best_loss": float(own.mean("seed").min()),
                "status": str(one["status"].item()),
            }
        )
    return {"target": float(target), "level": level, "calibrated": needed.attrs["calibrated"], "curves": rows}
