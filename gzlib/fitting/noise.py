"""Noise of training runs: replicates averaged in ln(loss), seed variance pooled over the sizes of a curve."""

import numpy as np
import xarray as xr

from gzlib.errors import UserError


def summarise_replicates(loss, *, replicate="seed", x="n_train"):
    """Averages and pooled spread of the replicates of each size.

    The independent unit is the training run: each value along ``replicate`` must be one run. Two or three runs
    cannot fix their own variance, so it is pooled over the sizes of a curve (one-way analysis of variance).

    Parameters
    ----------
    loss : DataArray with dims (..., x, replicate), NaN where a run is missing; ``replicate`` may be absent
    replicate, x : names of dimensions

    Returns
    -------
    Dataset
        ``log_mean`` (..., x), mean ln(loss); ``n_runs`` (..., x); ``seed_sd`` (...), pooled standard deviation
        of ln(loss) between runs of one size, NaN without replicates; ``seed_dof`` (...).

    Raises
    ------
    UserError
        If a loss is zero, negative or infinite, with its coordinates.
    """
    if x not in loss.dims:
        raise UserError(f"The losses have the dimensions {', '.join(map(str, loss.dims))}; none is called {x!r}.")
    values = loss if replicate in loss.dims else loss.expand_dims({replicate: [0]})
    values = values.transpose(..., x, replicate)
    bad = (values.values <= 0) | np.isinf(values.values)
    if bad.any():
        where = np.unravel_index(int(np.argmax(bad)), bad.shape)
        place = ", ".join(
            f"{dim}={values[dim].values[i] if dim in values.coords else i}"
            for dim, i in zip(values.dims, where, strict=True)
        )
        raise UserError(f"The loss at {place} is {values.values[where]}: power laws need positive, finite losses.")
    log_loss = np.log(values)
    n_runs = log_loss.count(replicate)
    log_mean = log_loss.mean(replicate)
    squares = ((log_loss - log_mean) ** 2).sum([x, replicate])
    dof = (n_runs - 1).clip(min=0).sum(x)
    seed_sd = np.sqrt(squares / dof.where(dof > 0))
    return xr.Dataset({"log_mean": log_mean, "n_runs": n_runs, "seed_sd": seed_sd, "seed_dof": dof})


def run_weights(n_runs, seed_sd, *, evaluation_sd=0.0, max_ratio=10.0):
    """1/sigma of each averaged ln(loss): sigma^2 = seed_sd^2 / n_runs + evaluation_sd^2.

    ``evaluation_sd`` is the standard error of ln(loss) from the finite test set, shared by the runs of one size.
    The largest weight is capped at ``max_ratio`` times the smallest, so that no one size decides the fit.
    """
    n_runs = np.asarray(n_runs, float)
    sigma = np.sqrt(seed_sd**2 / n_runs + np.asarray(evaluation_sd, float) ** 2)
    sigma = np.broadcast_to(sigma, n_runs.shape)
    return 1 / np.maximum(sigma, sigma.max() / max_ratio)


def recency_weights(x, *, scale):
    """Weights that multiply residuals and fade away from the largest size: exp(-(ln x_max - ln x) / (2 scale)).

    Squared, they are exp(-distance/scale): ``scale`` is in units of ln x. Early points near chance level break a
    power law; fading them is the smooth version of a cut. Infinite ``scale`` weighs all points alike.
    """
    log_x = np.log(np.asarray(x, float))
    return np.exp(-(log_x.max() - log_x) / (2 * scale))
