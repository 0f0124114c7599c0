"""One curve of replicated runs: fitted, or refused with a reason, with its error variance."""

import numpy as np
from scipy import stats

from gzlib.errors import UserError
from gzlib.fitting.batch import batch_fit
from gzlib.fitting.design import NOT_IDENTIFIED, judge_design
from gzlib.fitting.fit import fit_law
from gzlib.fitting.noise import recency_weights, run_weights

LACK_OF_FIT_LEVEL = 0.05
# A prior on ln E is one more observation, at a size where nothing but E is left of the law (in units of x_ref; finite,
# so that ln x is). Every interval then counts it as it counts a run, without a term of its own.
PRIOR_SIZE = 1e290
VAGUE = 10.0  # relative width from which a prior on E says nothing


def fit_one(
    law, sizes_all, x_ref, *, log_mean, n_runs, seed_sd, seed_dof, recency, evaluation_sd, noise, fixed, prior=None
):
    """Fit one curve; a dict whose ``values`` is None where the fit is refused or failed.

    ``sizes_all``, ``log_mean``, ``n_runs`` (sizes,), with NaN and 0 where there is no run; ``seed_sd``, ``seed_dof``,
    the pooled spread of replicates; ``prior`` (floor, standard error) of E, or None; the rest as for ``fit_curves``.
    With a prior, the arrays ``present``, ``log_mean`` and ``weights`` have one more entry, at ``PRIOR_SIZE``.
    """
    present = n_runs > 0
    sizes = sizes_all[present]
    out = {"values": None, "n_runs": int(n_runs.sum()), "present": present, "log_mean": log_mean, "starts_agree": True}
    held = len(fixed or {})
    judged = "power" if law.name == "power-offset" and "E" in (fixed or {}) else law  # a known floor needs fewer sizes
    design = (
        judge_design(sizes, judged, n_runs=n_runs[present])
        if present.any()
        else {"verdict": NOT_IDENTIFIED, "reason": "no runs", "n_sizes": 0}
    )
    out |= {"n_sizes": design["n_sizes"], "verdict": design["verdict"], "reason": design["reason"]}
    if design["verdict"] == NOT_IDENTIFIED and (not held or judged == "power"):
        return out | {"message": f"refused: {design['reason']}"}
    replicated = seed_dof > 0 and seed_sd > 0
    evaluation = np.broadcast_to(evaluation_sd, sizes_all.shape)[present] / (seed_sd if replicated else 1.0)
    weights = run_weights(n_runs[present], 1.0, evaluation_sd=evaluation) * recency_weights(sizes, scale=recency)
    try:
        result = fit_law(
            law,
            sizes / x_ref,
            np.exp(log_mean[present]),
            weights=weights,
            noise=noise,
            fixed=fixed,
            scale=1.5 * seed_sd if replicated else None,
        )
    except UserError as error:
        return out | {"verdict": NOT_IDENTIFIED, "reason": str(error), "message": f"refused: {error}"}
    if not result.success:
        return out | {"verdict": NOT_IDENTIFIED, "reason": "the fit did not converge", "message": str(result.message)}
    squares = float(np.sum((weights * (result.best_fit - log_mean[present])) ** 2))
    dof = len(sizes) - (len(law.names) - held)
    variance, total_dof = (squares / dof if dof > 0 else np.nan), dof
    out |= {"reduced_chi2": np.nan, "lack_of_fit_p": np.nan}
    if replicated:
        ratio = squares / dof / seed_sd**2 if dof > 0 else np.nan
        p_value = float(stats.f.sf(ratio, dof, seed_dof)) if dof > 0 else np.nan
        out |= {"reduced_chi2": ratio, "lack_of_fit_p": p_value}
        if not p_value < LACK_OF_FIT_LEVEL:  # pure error and lack of fit estimate the same variance: pool them
            total_dof = dof + seed_dof
            variance = (squares + seed_dof * seed_sd**2) / total_dof
    all_weights = np.zeros(len(sizes_all))
    all_weights[present] = weights
    values = [result.best_values[name] for name in law.names]
    if prior is not None:
        out |= {"free_values": values}
        log_mean, present = np.append(log_mean, np.log(prior[0])), np.append(present, True)
        # the run noise over the prior's: what the prior weighs against one run
        tightness = prior[0] / prior[1] if prior[1] < VAGUE * prior[0] else 0.0
        all_weights = np.append(all_weights, np.sqrt(np.nan_to_num(variance)) * tightness)
        x, y = np.append(sizes_all / x_ref, PRIOR_SIZE)[present], np.exp(log_mean[present])[None]
        start, weights = np.array([values]), all_weights[None, present]
        refit = batch_fit(law, [x], y, start, weights=weights, held=tuple(fixed or {}), max_steps=300)
        values, squares = list(refit.parameters[0]), 2 * float(refit.cost[0])
        out |= {"log_mean": log_mean, "present": present}
    return out | {
        "values": values,
        "cost": 0.5 * squares,
        "dof": total_dof,
        "variance": variance,
        "weights": all_weights,
        "message": "converged",
        "run_sd": np.sqrt(variance),
        "starts_agree": bool(result.starts_agree),
    }
