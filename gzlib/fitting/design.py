"""What a design can tell, before any fit: distinct sizes, decades, replicates, leverage, correlation of the sizes."""

import numpy as np
import xarray as xr

from gzlib.errors import UserError
from gzlib.fitting.batch import log_gradient
from gzlib.fitting.laws import get_law
from gzlib.fitting.noise import summarise_replicates

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
    return xr.Dataset(columns, coords=coords, attrs={"law": law.name, "x": x})


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
