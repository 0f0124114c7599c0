"""Columns of a table of fits: intervals of every kind and the verdict after the fit, for all curves at once."""

import numpy as np

from gzlib.fitting.batch import batch_fit
from gzlib.fitting.bootstrap import bootstrap
from gzlib.fitting.design import IDENTIFIED, NOT_IDENTIFIED, ONE_SIDED
from gzlib.fitting.laws import LAWS
from gzlib.fitting.onecurve import PRIOR_SIZE
from gzlib.fitting.uncertainty import covariance, profile_limits, rise_of, student_quantile


def interval_columns(law, sizes, curves, *, level, held, draws, kind, seed):
    """Columns (curves, ...) of the result: parameters, intervals, verdicts after the fit.

    ``curves`` are the dicts of ``fit_one``; ``held`` names the parameters that were held.
    """
    n, p = len(curves), len(law.names)
    ok = np.array([curve["values"] is not None for curve in curves], bool)
    columns = {
        key: np.array([curve.get(key, np.nan) for curve in curves])
        for key in ("n_sizes", "n_runs", "dof", "run_sd", "reduced_chi2", "lack_of_fit_p", "message", "starts_agree")
    }
    columns["success"] = ok
    names = [*law.names, *(f"{name}{end}" for name in law.names for end in ("_stderr", "_low", "_high"))]
    columns |= {name: np.full(n, np.nan) for name in names}
    columns["covariance"] = np.full((n, p, p), np.nan)
    if draws:
        columns |= {"draw_values": np.full((n, draws, p), np.nan), "draw_sd": np.full((n, draws), np.nan)}
    verdict = np.array([curve["verdict"] for curve in curves], object)
    reason = np.array([curve["reason"] for curve in curves], object)
    if ok.any():
        fitted = [curve for curve in curves if curve["values"] is not None]
        best = np.array([curve["values"] for curve in fitted], float)
        y = np.exp(np.array([np.where(curve["present"], curve["log_mean"], 0.0) for curve in fitted]))
        weights = np.array([curve["weights"] for curve in fitted])
        variance, dof, cost = (np.array([curve[key] for curve in fitted], float) for key in ("variance", "dof", "cost"))
        matrix = covariance(law, [sizes], best, weights=weights, variance=variance, held=held)
        columns["covariance"][ok] = matrix
        measurable = np.isfinite(variance) & (variance > 1e-24) & (dof > 0)
        for j, name in enumerate(law.names):
            columns[name][ok] = best[:, j]
            if name in held:
                continue
            stderr = np.sqrt(matrix[:, j, j])
            columns[f"{name}_stderr"][ok] = stderr
            low, high = _profile(
                law,
                sizes,
                y,
                best,
                cost,
                name,
                weights,
                measurable,
                stderr,
                rise_of(level, dof=dof, variance=variance),
                held,
            )
            columns[f"{name}_low"][ok], columns[f"{name}_high"][ok] = low, high
        if "E" in law.names and "E" not in held:
            j = law.names.index("E")
            rise = rise_of(level, dof=dof, variance=variance, one_sided=True)
            columns["E_upper"] = np.full(n, np.nan)
            columns["E_upper"][ok] = _profile(
                law, sizes, y, best, cost, "E", weights, measurable, np.sqrt(matrix[:, j, j]), rise, held
            )[1]
        if law.name == "power-offset":
            runs = sizes < PRIOR_SIZE
            columns |= _against_plain_power(
                law, sizes[runs], y[:, runs], weights[:, runs], best, variance, dof, matrix, ok, level
            )
        if draws and measurable.any():
            values, variances, _ = bootstrap(
                law,
                [sizes],
                y[measurable],
                best[measurable],
                weights=weights[measurable],
                variance=variance[measurable],
                dof=dof[measurable],
                draws=draws,
                kind=kind,
                held=held,
                seed=seed,
            )
            where = np.flatnonzero(ok)[measurable]
            columns["draw_values"][where], columns["draw_sd"][where] = values, np.sqrt(variances)
        for i in np.flatnonzero(ok):
            verdict[i], reason[i] = _judge_fit(law, columns, i, verdict[i], reason[i], held)
    columns["verdict"], columns["reason"] = verdict.astype(str), reason.astype(str)
    return columns


def _profile(law, sizes, y, best, cost, name, weights, measurable, stderr, rise, held):
    low, high = np.full(len(y), np.nan), np.full(len(y), np.nan)
    if measurable.any():
        m = measurable
        low[m], high[m] = profile_limits(
            law, [sizes], y[m], best[m], cost[m], name, weights=weights[m], rise=rise[m], step=stderr[m], held=held
        )
    return low, high


def _against_plain_power(law, sizes, y, weights, best, variance, dof, matrix, ok, level):
    """Exponent of the law without its offset, and the correlation of offset and exponent."""
    plain = LAWS["power"]
    result = batch_fit(
        plain, [sizes], y, np.stack([best[:, 0] + best[:, 1], 0.5 * best[:, 2] + 0.05], axis=1), weights=weights
    )
    spread = covariance(plain, [sizes], result.parameters, weights=weights, variance=variance)[:, 1, 1]
    half = student_quantile(0.5 * (1 + level), dof) * np.sqrt(spread)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = matrix[:, 0, 2] / np.sqrt(matrix[:, 0, 0] * matrix[:, 2, 2])
    out = {}
    for key, values in [
        ("alpha_without_E", result.parameters[:, 1]),
        ("alpha_without_E_low", result.parameters[:, 1] - half),
        ("alpha_without_E_high", result.parameters[:, 1] + half),
        ("correlation_E_alpha", correlation),
    ]:
        out[key] = np.full(len(ok), np.nan)
        out[key][ok] = values
    return out


def floor_tension(law, sizes, curves, priors):
    """Columns ``E_free``, ``floor_tension``: E fitted without its prior, and its excess over it in standard errors.

    ``sizes`` (sizes,) without the prior's; ``curves`` as for ``interval_columns``; ``priors`` (curves, 2), floor and
    its standard error. NaN where nothing was fitted, or E sits on its bound.
    """
    free, tension = np.full(len(curves), np.nan), np.full(len(curves), np.nan)
    j = law.names.index("E")
    for i, curve in enumerate(curves):
        if curve["values"] is not None:
            weights = curve["weights"][None, :-1]
            at = np.array([curve["free_values"]])
            variance = covariance(law, [sizes], at, weights=weights, variance=curve["variance"])[0, j, j]
            free[i] = at[0, j]
            tension[i] = (free[i] - priors[i, 0]) / np.sqrt(variance + priors[i, 1] ** 2)
    return {"E_free": free, "floor_tension": tension}


def _judge_fit(law, columns, i, verdict, reason, held):
    """The design's verdict, made stricter by what the profiles show."""
    exponents = [
        name
        for name, parameter in law.parameters.items()
        if parameter.unit == "1" and name not in held and parameter.minimum == 0
    ]
    if not columns["dof"][i] > 0:
        return NOT_IDENTIFIED, "as many parameters as points, so no error can be estimated"
    for name in exponents:
        low, high = columns[f"{name}_low"][i], columns[f"{name}_high"][i]
        if low <= 0 or high >= law.parameters[name].maximum:
            return NOT_IDENTIFIED, f"the interval of {name} is open: {low:.3g} to {high:.3g}"
    if "E" in law.names and "E" not in held and columns["E_low"][i] <= 0:
        return ONE_SIDED, f"E = 0 is not excluded; E < {columns['E_upper'][i]:.4g}"
    if verdict == ONE_SIDED:
        return verdict, reason
    return IDENTIFIED, reason
