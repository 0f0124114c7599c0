"""Labelled arrays in, labelled arrays out: one fit for each curve of a DataArray, with intervals and verdicts."""

import numpy as np
import xarray as xr

from gzlib.errors import UserError
from gzlib.fitting.intervals import floor_tension, interval_columns
from gzlib.fitting.laws import get_law
from gzlib.fitting.noise import summarise_replicates
from gzlib.fitting.onecurve import PRIOR_SIZE, fit_one


def fit_curves(
    loss,
    x="n_train",
    *,
    law="power-offset",
    replicate="seed",
    level=0.95,
    x_ref=None,
    recency=np.inf,
    evaluation_sd=0.0,
    noise="gaussian",
    fixed=None,
    floor=None,
    floor_sd=None,
    draws=500,
    kind="parametric",
    seed=0,
):
    """Fit a law of one size to every curve of a labelled array.

    Parameters
    ----------
    loss : DataArray with dims (..., x, replicate), positive, NaN where a run is missing
    x : dimension (with coordinate) of the sizes
    law : str or Law of one size
    replicate : dimension of the repeated runs; may be absent
    level : float, coverage of the intervals
    x_ref : float
        Sizes enter the law as x / x_ref, so the amplitude A is the excess loss there. Default: the geometric mean
        of the sizes of the array.
    recency : float, scale in ln(x) of ``recency_weights``; infinite for none
    evaluation_sd : float or array (x,), standard error of ln(loss) from the finite test set
    noise : "gaussian", "huber" or "student-t"; intervals always refer to the Gaussian curvature
    fixed : dict of parameters that are held, alike for all curves
    floor : float or DataArray over (some of) the remaining dims: a known irreducible loss that E is held at, such as
        ``gzlib.fitting.floor.vote_floor`` computes from the votes
    floor_sd : float or DataArray like ``floor``: its standard error. E is then fitted with a log-normal prior of
        relative width ``floor_sd / floor`` about ``floor``, weighed against the noise of the runs by their variances.
        ``E_free`` is E without it, ``floor_tension`` how many standard errors ``E_free`` lies above the floor
    draws : int, bootstrap draws kept for bands (0 for none)
    kind : kind of bootstrap, see ``gzlib.fitting.bootstrap``
    seed : int, of the bootstrap

    Returns
    -------
    Dataset over the remaining dims. For each parameter P: ``P``, ``P_stderr`` (covariance), ``P_low`` and
    ``P_high`` (profile likelihood). Further ``E_upper`` (one-sided limit at ``level``), ``alpha_without_E`` (plain
    power law), ``correlation_E_alpha``, ``covariance``, ``draw_values``, ``draw_sd``, ``run_sd`` (sd of ln(loss)
    between runs), ``reduced_chi2`` and ``lack_of_fit_p`` (against pure seed noise, NaN without replicates), ``dof``,
    ``n_sizes``, ``n_runs``, ``verdict``, ``reason``, ``success``, ``message``. A refused or failed fit has NaN
    parameters and says why; it is never dropped.
    """
    law = get_law(law)
    if len(law.variables) != 1:
        raise UserError(f"{law.name} is a law of {', '.join(law.variables)}: fit it with fit_surface.")
    if x not in loss.coords:
        raise UserError(f"The dimension {x!r} needs a coordinate with the sizes.")
    sizes_all = loss[x].values.astype(float)
    if not np.all(np.isfinite(sizes_all) & (sizes_all > 0)):
        raise UserError(f"The sizes in {x!r} must be positive and finite: {sizes_all.min()} is not.")
    x_ref = float(np.exp(np.log(sizes_all).mean())) if x_ref is None else float(x_ref)
    summary = summarise_replicates(loss, replicate=replicate, x=x)
    rest = [dim for dim in summary["log_mean"].dims if dim != x]
    summary = summary.transpose(*rest, x, missing_dims="ignore")
    shape = tuple(summary.sizes[dim] for dim in rest)
    flat = {
        key: summary[key].values.reshape(-1, *((len(sizes_all),) if x in summary[key].dims else ()))
        for key in ("log_mean", "n_runs", "seed_sd", "seed_dof")
    }

    held, priors = [dict(fixed or {})] * int(np.prod(shape, dtype=int)), None
    if floor is not None:
        floors = _of_each_curve(law, "floor", floor, summary, rest)
        if floor_sd is None:
            held = [own | {"E": float(value)} for own, value in zip(held, floors, strict=True)]
        else:
            priors = np.stack([floors, _of_each_curve(law, "floor_sd", floor_sd, summary, rest)], axis=1)
            if np.any(priors <= 0) or "E" in (fixed or {}) or noise != "gaussian":
                raise UserError("A prior on E needs a positive floor and floor_sd, Gaussian noise, and E not fixed.")
    elif floor_sd is not None:
        raise UserError("floor_sd is the standard error of a floor: give the floor too.")
    curves = [
        fit_one(
            law,
            sizes_all,
            x_ref,
            log_mean=flat["log_mean"][i],
            n_runs=flat["n_runs"][i],
            seed_sd=flat["seed_sd"][i],
            seed_dof=flat["seed_dof"][i],
            recency=recency,
            evaluation_sd=evaluation_sd,
            noise=noise,
            fixed=held[i],
            prior=None if priors is None else priors[i],
        )
        for i in range(len(held))
    ]
    columns = interval_columns(
        law,
        sizes_all / x_ref if priors is None else np.append(sizes_all / x_ref, PRIOR_SIZE),
        curves,
        level=level,
        held=tuple(held[0]) if held else (),
        draws=draws,
        kind=kind,
        seed=seed,
    )
    if priors is not None:
        columns |= floor_tension(law, sizes_all / x_ref, curves, priors)
    coords = {name: coord for name, coord in summary.coords.items() if x not in coord.dims}
    coords |= {"parameter": list(law.names), "parameter_2": list(law.names)}
    tail = {"covariance": ("parameter", "parameter_2"), "draw_values": ("draw", "parameter"), "draw_sd": ("draw",)}
    data = {
        key: ([*rest, *tail.get(key, ())], values.reshape(shape + values.shape[1:])) for key, values in columns.items()
    }
    return xr.Dataset(
        data,
        coords=coords,
        attrs={
            "law": law.name,
            "formula": law.formula,
            "x": x,
            "x_ref": x_ref,
            "level": level,
            "noise": noise,
            "recency": float(recency),
            "bootstrap": kind,
            "seed": seed,
            "x_max": float(sizes_all.max()),
        },
    )


def _of_each_curve(law, name, value, summary, rest):
    """``value`` broadcast to the curves, checked: array (curves,)."""
    if "E" not in law.names:
        raise UserError(f"The law {law.name} has no irreducible loss E that a floor could hold: use power-offset.")
    like = xr.zeros_like(summary["seed_dof"], dtype=float)
    try:
        values = (like + value).transpose(*rest).values.reshape(-1)
    except ValueError as error:
        raise UserError(f"The {name} does not fit the curves' dimensions {rest}: {error}.") from error
    if values.size != like.size or not np.all(np.isfinite(values) & (values >= 0)):
        raise UserError(f"The {name} must be one finite loss of at least zero for each curve.")
    return values
