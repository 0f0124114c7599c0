"""Learning curves before any fit: made, summarised over seeds, judged as a design and by their shape."""

import numpy as np
import pandas as pd
import xarray as xr

from gzlib.errors import UserError
from gzlib.fitting.laws import get_law
from gzlib.fitting.optimise import log_gradient


def to_array(curves):
    """The fitting rows of ``read_curves``' table as a DataArray with dims (curve, n_train, seed), NaN where absent."""
    rows = curves[curves["training"]]
    index = pd.MultiIndex.from_frame(rows[["curve", "n_train", "seed"]])
    return xr.DataArray.from_series(pd.Series(rows["loss"].to_numpy(), index=index, name="loss"))


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


IDENTIFIED, ONE_SIDED, NOT_IDENTIFIED = "identified", "E one-sided only", "not identified"
MIN_DECADES = 0.5  # below, E + A x^-alpha is a straight line to any realistic noise
DECADES_FOR_OFFSET = 1.0  # below, the offset and the exponent cannot be told apart
MAX_CORRELATION = 0.97  # of ln N and ln D
NOMINAL = {"E": 0.5, "A": 0.5, "alpha": 0.3, "B": 0.5, "beta": 0.3}  # a typical curve in units of its loss at x_ref


def judge_design(sizes, law, *, n_runs=None):
    """Verdict on one design as a dict: verdict, reason, n_sizes, decades, n_points, max_leverage, correlation.

    Parameters
    ----------
    sizes : array (points,), or a sequence of such arrays, one for each size of the law
    law : str or Law
    n_runs : array (points,), runs behind each point
    """
    law = get_law(law)
    sizes = [np.asarray(v, float) for v in (sizes if isinstance(sizes, (list, tuple)) else [sizes])]
    free = len(law.names)
    distinct = [len(np.unique(v)) for v in sizes]
    decades = [float(np.log10(v.max() / v.min())) if v.size else 0.0 for v in sizes]
    correlation = _correlation(sizes)
    out = {
        "n_points": len(sizes[0]),
        "n_sizes": min(distinct),
        "decades": min(decades),
        "correlation": correlation,
        "max_leverage": _max_leverage(law, sizes, n_runs),
    }
    name = law.variables[int(np.argmin(distinct))]
    shortest = law.variables[int(np.argmin(decades))]
    needed = {"epochs": 2}.get(name, law.min_sizes)
    if min(distinct) < needed:
        verdict, reason = (
            NOT_IDENTIFIED,
            f"{_count(min(distinct), 'distinct value')} of {name}; {law.formula} needs {needed}",
        )
    elif len(np.unique(np.stack(sizes), axis=1).T) < free:
        verdict, reason = NOT_IDENTIFIED, f"{len(sizes[0])} points for {free} parameters"
    elif min(decades) < MIN_DECADES:
        verdict, reason = NOT_IDENTIFIED, f"{shortest} spans only {min(decades):.2f} decades"
    elif correlation > MAX_CORRELATION:
        verdict, reason = (
            NOT_IDENTIFIED,
            (
                f"ln {law.variables[0]} and ln {law.variables[1]} are correlated by "
                f"{correlation:.3f}, so their exponents cannot be told apart"
            ),
        )
    elif "E" in law.names and min(decades) < DECADES_FOR_OFFSET:
        verdict, reason = ONE_SIDED, f"{shortest} spans only {min(decades):.2f} decades, too few to see a floor"
    else:
        verdict, reason = IDENTIFIED, f"{_count(min(distinct), 'distinct size')} over {min(decades):.1f} decades"
    return out | {"verdict": verdict, "reason": reason}


SAME = 1e-9  # of ln(loss): below, what differs is rounding
AGAIN = 0.1  # rise of ln(loss) above the minimum that is no noise, whatever the noise


def shape_of(log_mean, *, seed_sd=0.0):
    """What of a curve no law here can describe: "constant", "rises", "rises again", or "" if it falls.

    Parameters
    ----------
    log_mean : array (points,), mean ln(loss) by ascending size; points without a run are left out
    seed_sd : float, standard deviation of ln(loss) between runs; NaN if it is not known
    """
    y = np.asarray(log_mean, float)
    y = y[np.isfinite(y)]
    if len(y) < 2:
        return ""
    if np.ptp(y) <= SAME:
        return "constant"
    steps = np.sign(y[None, :] - y[:, None])[np.triu_indices(len(y), 1)]
    noise = 3 * float(np.nan_to_num(seed_sd))
    if len(y) > 2 and steps.mean() > 0.6 and y[-1] - y[0] > noise:  # Kendall's rank correlation
        return "rises"
    after = y[int(np.argmin(y)) :]
    if len(after) > 2 and np.all(np.diff(after) > 0) and after[-1] - after[0] > AGAIN + noise:
        return "rises again"
    return ""


def describe_design(loss, x="n_train", *, law="power-offset", replicate="seed"):
    """Verdict on the design of every curve, before fitting.

    Parameters
    ----------
    loss : DataArray with dims (..., x, replicate), NaN where a run is missing
    x, replicate : names of dimensions
    law : str or Law of one size

    Returns
    -------
    Dataset over the remaining dims: ``verdict`` ("identified", "E one-sided only", "not identified"), ``reason``,
    ``n_sizes``, ``n_points``, ``n_runs``, ``decades``, ``max_leverage`` (1: one point alone fixes a parameter).
    """
    law = get_law(law)
    if len(law.variables) != 1:
        raise UserError(f"{law.name} is a law of {', '.join(law.variables)}: judge such a design with judge_design.")
    runs = summarise_replicates(loss, replicate=replicate, x=x)["n_runs"]
    rest = [dim for dim in runs.dims if dim != x]
    stacked = runs.transpose(*rest, x)
    sizes = stacked[x].values.astype(float)
    flat = stacked.values.reshape(-1, len(sizes))
    rows = [judge_design(sizes[row > 0], law, n_runs=row[row > 0]) | {"n_runs": int(row.sum())} for row in flat]
    shape = stacked.shape[:-1]
    coords = {name: coord for name, coord in stacked.coords.items() if x not in coord.dims}
    columns = {
        key: (rest, np.array([row[key] for row in rows]).reshape(shape))
        for key in ("verdict", "reason", "n_sizes", "n_points", "n_runs", "decades", "max_leverage")
    }
    return xr.Dataset(columns, coords=coords, attrs={"law": law, "x": x})


def _count(number, noun):
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _correlation(sizes):
    logs = [np.log(v) for v in sizes]
    pairs = [
        abs(float(np.corrcoef(a, b)[0, 1]))
        for i, a in enumerate(logs)
        for b in logs[i + 1 :]
        if len(a) > 1 and np.ptp(a) > 0 and np.ptp(b) > 0
    ]
    return max(pairs, default=0.0)


def _max_leverage(law, sizes, n_runs):
    # Largest diagonal element of the hat matrix at a typical curve; NaN where the law has no typical one.
    if not sizes[0].size or not set(law.names) <= set(NOMINAL):
        return float("nan")
    centred = [v / np.exp(np.log(v).mean()) for v in sizes]
    jacobian = log_gradient(law, centred, np.array([[NOMINAL[name] for name in law.names]]))[0]
    if n_runs is not None:
        jacobian = jacobian * np.sqrt(np.asarray(n_runs, float))[:, None]
    left, values, _ = np.linalg.svd(jacobian, full_matrices=False)
    left = left[:, values > 1e-10 * values.max()]
    return float(np.max(np.sum(left**2, axis=1)))
