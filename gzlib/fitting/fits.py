"""Fits: one law to one curve through lmfit, one curve of replicated runs, and labelled arrays of curves."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy import stats

from gzlib.errors import UserError
from gzlib.fitting.curves import (
    NOT_IDENTIFIED,
    SHAPES,
    Floor,
    check_labelled,
    flattened,
    judge_design,
    noise_of_runs,
    recency_weights,
    run_weights,
    shape_of,
    spread_of_sizes,
    summarise_replicates,
    unflattened,
)
from gzlib.fitting.intervals import check_level, floor_tension, interval_columns
from gzlib.fitting.laws import LAWS, Law, LawLike, get_law
from gzlib.fitting.optimise import Sizes, batch_fit, law_bounds, starting_points

ModelResult = Any  # lmfit.model.ModelResult, with ``starts_agree``: lmfit has no types

NOISES = ("gaussian", "huber", "student-t")
TOLERANCE = 1e-12
STUDENT_DOF = 4.0
SCALE_ROUNDS = 4
EVALUATIONS = 200  # of the law in lmfit, for each free parameter and one


def check_points(law: Law, variables: Sizes, y: np.ndarray, weights: np.ndarray | None) -> None:
    """Raise UserError unless sizes and losses are positive, finite, of one length and enough for the law."""
    if len(variables) != len(law.variables):
        raise UserError(
            f"The law {law.name} needs the sizes {', '.join(law.variables)}, but {len(variables)} were given."
        )
    for name, values in [*zip(law.variables, variables, strict=True), ("loss", y)]:
        if values.shape != y.shape or values.ndim != 1:
            raise UserError(
                f"{name} has shape {values.shape} and loss {y.shape}: give one-dimensional arrays of one length."
            )
        bad = ~(np.isfinite(values) & (values > 0))
        if bad.any():
            where = int(np.argmax(bad))
            raise UserError(
                f"{name} is {values[where]} at point {where}: sizes and losses must be positive and finite."
            )
    if weights is not None and (weights.shape != y.shape or not np.all(np.isfinite(weights) & (weights >= 0))):
        raise UserError("weights must be finite, not negative and one for each loss: check the seeds they come from.")


def fit_law(
    law: LawLike,
    variables: npt.ArrayLike | Sequence[npt.ArrayLike],
    loss: npt.ArrayLike,
    *,
    weights: npt.ArrayLike | None = None,
    noise: str = "gaussian",
    scale: float | None = None,
    fixed: Mapping[str, float] | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    starts: int = 4,
    transform: str = "log",
    scale_covar: bool | None = None,
) -> ModelResult:
    """Fit one law to one curve.

    Parameters
    ----------
    law : str or Law
    variables : array (points,) or sequence of arrays
        Several for a law of several sizes.
    loss : array (points,)
        Positive.
    weights : array (points,), optional
        1/sigma of ln(loss) for each point (of the loss itself with ``transform="none"``).
    noise : "gaussian", "huber" or "student-t"
        Distribution of the weighted residuals. Huber sums (never averages) the residuals' losses, so that
        convergence does not depend on the number of points; Student-t has 4 degrees of freedom.
    scale : float, optional
        Residual at which "huber" turns from quadratic to linear, or the scale of "student-t", in units of the
        weighted residual. Default: 1 with weights, else 1e-3 (Huber, as arXiv:2203.15556) or 1.48 times the median
        absolute residual, iterated (Student-t).
    fixed : dict of float
        Parameter values that are held, such as a computed floor ``{"E": 0.12}``.
    bounds : dict of (float, float)
        Minimum and maximum by parameter, replacing the law's own.
    starts : int
        How many starting points are polished.
    transform
        "log" for residuals of ln(loss), "none" for residuals of the loss.
    scale_covar : bool, optional
        Whether to rescale the covariance by reduced chi-square; default: only when there are no weights.

    Returns
    -------
    lmfit.model.ModelResult
        With ``starts_agree`` added: False if another optimum lies within 1 of the best chi-square (weighted
        fits) or within 1 % of it (unweighted).

    Raises
    ------
    UserError
        If sizes or losses are not positive and finite, or the points are fewer than the free parameters.
    """
    law = get_law(law)
    if noise not in NOISES:
        raise UserError(f"unknown noise model {noise!r}; available: {', '.join(NOISES)}.")
    if isinstance(variables, list | tuple) and len(variables) and np.ndim(variables[0]):
        sizes = [np.asarray(v, float) for v in variables]
    else:
        sizes = [np.asarray(variables, float)]
    y = np.asarray(loss, float)
    weights = None if weights is None else np.asarray(weights, float)
    check_points(law, sizes, y, weights)
    free = len(law.names) - len(fixed or {})
    if len(y) < free:
        raise UserError(
            f"{len(y)} points cannot fix the {free} free parameters of {law.formula}: add sizes or hold one."
        )
    model = law.model(transform=transform)
    target = np.log(y) if transform == "log" else y
    scale_covar = weights is None if scale_covar is None else scale_covar
    if noise == "student-t" and scale is None and weights is None:
        scale = _robust_scale(law, sizes, y, fixed=fixed, bounds=bounds, starts=starts, transform=transform)
    scale = (1e-3 if noise == "huber" and weights is None else 1.0) if scale is None else scale
    robust = {
        "gaussian": {},
        "huber": {"loss": "huber", "f_scale": scale},
        "student-t": {"loss": _student_t, "f_scale": scale},
    }[noise]

    def polish(values: Iterable[float], held: Mapping[str, float]) -> ModelResult:
        params = model.make_params()
        for name, value in zip(law.names, values, strict=True):
            low, high = (bounds or {}).get(name, (law.parameters[name].minimum, law.parameters[name].maximum))
            inside = np.clip(value, low + 1e-9 * (abs(low) + 1), high) if name not in held else held[name]
            params[name].set(
                value=float(inside),
                vary=name not in held,
                min=-np.inf if name in held else low,
                max=np.inf if name in held else high,
            )
        return model.fit(
            target,
            params,
            weights=weights,
            method="least_squares",
            scale_covar=scale_covar,
            max_nfev=EVALUATIONS * (free + 1),
            fit_kws={"x_scale": "jac", "ftol": TOLERANCE, "xtol": TOLERANCE, "gtol": TOLERANCE} | robust,
            **dict(zip(law.variables, sizes, strict=True)),
        )

    held = dict(fixed or {})
    candidates = starting_points(law, sizes, y, weights=weights, fixed=fixed, count=starts)
    if transform == "log":
        candidates = _descend_first(law, sizes, y, candidates, weights, held, bounds)
    with np.errstate(all="ignore"):  # trial steps may overflow; the result is checked below
        results = sorted((polish(values, held) for values in candidates), key=_cost)
        best = results[0]
        if "E" in law.names and "E" not in held and best.params["E"].value < 1e-3 * y.min():
            # The trust region stays strictly inside the bounds and creeps towards E = 0: try the bound itself.
            on_bound = polish([best.params[name].value for name in law.names], held | {"E": 0.0})
            if _cost(on_bound) <= _cost(best) * (1 + 1e-9) + 1e-300:
                best = on_bound
    if best.aborted or not np.all(np.isfinite([*best.best_values.values(), _cost(best)])):
        best.success, best.message = False, f"no optimum after {best.nfev} evaluations of {law.formula}"
    near = 0.5 if weights is not None else 0.01 * _cost(best)
    best.starts_agree = not any(_apart(best, other) and _cost(other) < _cost(best) + near for other in results)
    return best


def _cost(result: ModelResult) -> float:
    """The minimised cost (half the sum of squares, or of the robust losses); infinite where lmfit gave up."""
    return np.inf if result.aborted else float(result.cost)


def _descend_first(
    law: Law,
    variables: Sizes,
    y: np.ndarray,
    candidates: np.ndarray,
    weights: np.ndarray | None,
    held: Mapping[str, float],
    bounds: Mapping[str, tuple[float, float]] | None,
) -> np.ndarray:
    """Bring the starts to their Gaussian optima, so that lmfit only polishes; drop those that arrive together."""
    low, high = law_bounds(law)
    for name, (minimum, maximum) in (bounds or {}).items():
        low[law.names.index(name)], high[law.names.index(name)] = minimum, maximum
    reached = batch_fit(
        law,
        variables,
        np.tile(y, (len(candidates), 1)),
        candidates,
        weights=weights,
        held=tuple(held),
        lower=low,
        upper=high,
        max_steps=300,
    )
    order = np.argsort(np.where(np.isfinite(reached.cost), reached.cost, np.inf), kind="stable")
    best_cost = reached.cost[order[0]]
    chosen = [order[0]]
    for i in order[1:]:
        apart = np.abs(reached.parameters[i] - reached.parameters[chosen]) / (np.abs(reached.parameters[chosen]) + 1e-6)
        if reached.cost[i] < 2 * best_cost + 1 and np.all(apart.max(axis=1) > 1e-3):
            chosen.append(i)
    return reached.parameters[chosen]


def _robust_scale(law: Law, variables: Sizes, y: np.ndarray, **options: Any) -> float:
    """Scale of the residuals by alternating the Student-t fit with the median absolute residual."""
    residual = fit_law(law, variables, y, **options).residual
    for _ in range(SCALE_ROUNDS):
        scale = 1.4826 * max(float(np.median(np.abs(residual))), 1e-9)
        residual = fit_law(law, variables, y, noise="student-t", scale=scale, **options).residual
    return scale


def _student_t(z: np.ndarray) -> np.ndarray:
    """scipy's robust-loss convention: rho(z) of z = (residual/scale)^2 with its first two derivatives."""
    nu = STUDENT_DOF
    return np.stack([(nu + 1) * np.log1p(z / nu), (nu + 1) / (nu + z), -(nu + 1) / (nu + z) ** 2])


def _apart(best: ModelResult, other: ModelResult) -> bool:
    # Two polished starts are different optima if their predictions, not only their parameters, differ.
    difference = np.max(np.abs(best.best_fit - other.best_fit))
    return bool(difference > 1e-4 * (np.ptp(best.best_fit) + 1e-12))


LACK_OF_FIT_LEVEL = 0.05
SCATTERS = ("alike", "falling")  # of runs of one size, from size to size
VAGUE = 10.0  # relative width from which a prior on E says nothing


def floor_precision(floor: float, floor_sd: float) -> float:
    """1/standard deviation of the normal prior of ln E, about ln(floor); 0 where it is too wide to say a thing."""
    return floor / floor_sd if floor_sd < VAGUE * floor else 0.0


def fit_one(
    law: Law,
    sizes_all: np.ndarray,
    x_ref: float,
    *,
    log_mean: np.ndarray,
    n_runs: np.ndarray,
    seed_sd: float,
    seed_dof: float,
    recency: float,
    evaluation_sd: npt.ArrayLike,
    noise: str,
    fixed: Mapping[str, float] | None,
    prior: np.ndarray | None = None,
    falling: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Fit one curve; a dict whose ``values`` is None where the fit is refused or failed.

    ``sizes_all``, ``log_mean``, ``n_runs`` (sizes,), with NaN and 0 where there is no run; ``seed_sd``, ``seed_dof``,
    the pooled spread of replicates; ``prior`` (floor, standard error) of E, or None; ``falling``, what
    ``noise_of_runs`` says of a spread that is not alike at all sizes, or None; the rest as for ``fit_curves``.
    With a prior, the arrays ``present``, ``log_mean`` and ``weights`` have one more entry, at an infinite size.
    """
    present = n_runs > 0
    sizes = sizes_all[present]
    out: dict[str, Any] = {
        "values": None,
        "n_runs": int(n_runs.sum()),
        "present": present,
        "log_mean": log_mean,
        "starts_agree": True,
        "noise_fall": 0.0,
    }
    held = len(fixed or {})
    known_floor = law is LAWS["power-offset"] and "E" in (fixed or {})
    judged = LAWS["power"] if known_floor else law  # a known floor needs fewer sizes
    design = (
        judge_design(sizes, judged, n_runs=n_runs[present])
        if present.any()
        else {"verdict": NOT_IDENTIFIED, "reason": "no runs", "n_sizes": 0}
    )
    out |= {"n_sizes": design["n_sizes"], "verdict": design["verdict"], "reason": design["reason"]}
    if design["verdict"] == NOT_IDENTIFIED and (not held or known_floor):
        return out | {"message": f"refused: {design['reason']}"}
    order = np.argsort(sizes)
    shape = shape_of(log_mean[present][order], seed_sd=seed_sd)
    if shape == "constant" or (shape and law is LAWS.get(law.name)):  # a law of a user's own may rise
        return out | {"verdict": NOT_IDENTIFIED, "reason": SHAPES[shape], "message": f"refused: {SHAPES[shape]}"}
    spread = np.ones(len(sizes))  # of the runs of each size, in units of ``seed_sd``
    if falling is not None and falling[1] > 0:
        spread, seed_sd = spread_of_sizes(sizes, falling[0]), np.sqrt(falling[1])
        out["noise_fall"] = falling[0]
    replicated = seed_dof > 0 and seed_sd > 0
    evaluation = np.broadcast_to(evaluation_sd, sizes_all.shape)[present] / (seed_sd if replicated else 1.0)
    weights = run_weights(n_runs[present], spread, evaluation_sd=evaluation) * recency_weights(sizes, scale=recency)
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
    variance: float = squares / dof if dof > 0 else np.nan
    total_dof: float = dof
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
        all_weights = np.append(all_weights, np.sqrt(np.nan_to_num(variance)) * floor_precision(*prior))
        x, y = np.append(sizes_all / x_ref, np.inf)[present], np.exp(log_mean[present])[None]
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


def fit_curves(
    loss: xr.DataArray,
    x: str = "n_train",
    *,
    law: LawLike = "power-offset",
    replicate: str = "seed",
    level: float = 0.95,
    x_ref: float | None = None,
    recency: float = np.inf,
    evaluation_sd: npt.ArrayLike = 0.0,
    scatter: str = "alike",
    noise: str = "gaussian",
    fixed: Mapping[str, float] | None = None,
    floor: Floor | None = None,
    floor_sd: Floor | None = None,
    draws: int = 500,
    kind: str = "parametric",
    seed: int = 0,
) -> xr.Dataset:
    """Fit a law of one size to every curve of a labelled array.

    Parameters
    ----------
    loss : DataArray with dims (..., x, replicate)
        Positive, NaN where a run is missing.
    x : dimension (with coordinate) of the sizes
    law : str or Law of one size
    replicate
        Dimension of the repeated runs; may be absent.
    level : float
        Coverage of the intervals.
    x_ref : float
        Sizes enter the law as x / x_ref, so the amplitude A is the excess loss there. Default: the geometric mean
        of the sizes of the array.
    recency : float
        Scale in ln(x) of ``recency_weights``; infinite for none.
    evaluation_sd : float or array (x,)
        Standard error of ln(loss) from the finite test set.
    scatter
        Of ln(loss) between runs: "alike" at all sizes, or "falling" with size as the replicates say
        (``noise_of_runs``): large sizes then weigh more, and ``run_sd`` is that of the largest.
    noise
        "gaussian", "huber" or "student-t"; intervals always refer to the Gaussian curvature.
    fixed : dict of parameters that are held
        Alike for all curves.
    floor : float or DataArray over (some of) the remaining dims
        A known irreducible loss that E is held at, such as ``gzlib.data.floor.vote_floor`` computes from the votes.
    floor_sd : float or DataArray like ``floor``
        Its standard error. E is then fitted with a log-normal prior of relative width ``floor_sd / floor`` about
        ``floor``, weighed against the noise of the runs by their variances. ``E_free`` is E without it,
        ``floor_tension`` how many standard errors ``E_free`` lies above the floor.
    draws : int
        Bootstrap draws kept for bands (0 for none)
    kind
        Kind of bootstrap, see ``gzlib.fitting.intervals``.
    seed : int
        Of the bootstrap.

    Returns
    -------
    Dataset over the remaining dims. For each parameter P: ``P``, ``P_stderr`` (covariance), ``P_low`` and
    ``P_high`` (profile likelihood). Further ``E_upper`` (one-sided limit at ``level``), ``alpha_without_E`` (plain
    power law), ``correlation_E_alpha``, ``covariance``, ``draw_values``, ``draw_sd``, ``run_sd`` (sd of ln(loss)
    between runs), ``noise_fall`` (its square falls with size to this power), ``reduced_chi2`` and
    ``lack_of_fit_p`` (against pure seed noise, NaN without replicates), ``dof``, ``n_sizes``, ``n_runs``, ``verdict``,
    ``reason``, ``success``, ``message``. A refused or failed fit has NaN parameters and says why; it is never
    dropped.
    """
    check_labelled(loss, "gz.fit takes curves of any kind")
    law = get_law(law)
    if len(law.variables) != 1:
        raise UserError(f"{law.name} is a law of {', '.join(law.variables)}: fit it with fit_surface.")
    check_level(level)
    if draws < 0:
        raise UserError(f"draws={draws}: give the number of bootstrap draws, or 0 for none.")
    if x not in loss.coords:
        raise UserError(f"The dimension {x!r} needs a coordinate with the sizes.")
    sizes_all = loss[x].values.astype(float)
    if not np.all(np.isfinite(sizes_all) & (sizes_all > 0)):
        raise UserError(f"The sizes in {x!r} must be positive and finite: {sizes_all.min()} is not.")
    x_ref = float(np.exp(np.log(sizes_all).mean())) if x_ref is None else float(x_ref)
    summary = summarise_replicates(loss, replicate=replicate, x=x)
    rest = [dim for dim in summary["log_mean"].dims if dim != x]
    flat = {key: flattened(summary[key], rest, x) for key in ("log_mean", "n_runs")}
    flat |= {key: flattened(summary[key], rest) for key in ("seed_sd", "seed_dof")}

    falls = noise_falls(summary, x=x, scatter=scatter)
    unit, losses = unit_of(law, flat["log_mean"]), [n for n, p in law.parameters.items() if p.unit == "loss"]
    flat["log_mean"] = flat["log_mean"] - np.log(unit)
    fixed = {name: value / unit if name in losses else value for name, value in (fixed or {}).items()}
    held, priors = [dict(fixed)] * len(flat["seed_sd"]), None
    if floor is not None:
        floors = _of_each_curve(law, "floor", floor, summary, rest) / unit
        if floor_sd is None:
            held = [own | {"E": float(value)} for own, value in zip(held, floors, strict=True)]
        else:
            priors = np.stack([floors, _of_each_curve(law, "floor_sd", floor_sd, summary, rest) / unit], axis=1)
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
            falling=falls[i],
        )
        for i in range(len(held))
    ]
    columns = interval_columns(
        law,
        sizes_all / x_ref if priors is None else np.append(sizes_all / x_ref, np.inf),
        curves,
        level=level,
        held=tuple(held[0]) if held else (),
        draws=draws,
        kind=kind,
        seed=seed,
        unit=unit,
    )
    if priors is not None:
        columns |= floor_tension(law, sizes_all / x_ref, curves, priors)
    if unit != 1:
        _in_unit(columns, law, losses, unit)
    return unflattened(
        columns,
        summary,
        rest,
        tails={"covariance": ("parameter", "parameter_2"), "draw_values": ("draw", "parameter"), "draw_sd": ("draw",)},
        coords={"parameter": list(law.names), "parameter_2": list(law.names)},
        attrs={
            "law": law,
            "formula": law.formula,
            "x": x,
            "x_ref": x_ref,
            "level": level,
            "noise": noise,
            "scatter": scatter,
            "recency": float(recency),
            "bootstrap": kind,
            "seed": seed,
            "x_max": float(sizes_all.max()),
        },
    )


def noise_falls(summary: xr.Dataset, *, x: str, scatter: str) -> Sequence[tuple[float, float] | None]:
    """What ``noise_of_runs`` says of every curve of ``summarise_replicates``, or None where they scatter alike."""
    if scatter not in SCATTERS:
        raise UserError(f"unknown scatter {scatter!r}; available: {', '.join(SCATTERS)}.")
    rest = [dim for dim in summary["n_runs"].dims if dim != x]
    squares, n_runs = (flattened(summary[key], rest, x) for key in ("squares", "n_runs"))
    if scatter == "alike":
        return [None] * len(n_runs)
    sizes = summary[x].values.astype(float)
    order = np.argsort(sizes)
    seen = [order[runs[order] > 0] for runs in n_runs]
    return noise_of_runs([(np.log(sizes[k]), squares[i, k], n_runs[i, k] - 1.0) for i, k in enumerate(seen)])


ORDINARY = (1e-4, 1e8)  # losses between which fits need no other unit
UNITS = ("loss", "1", "x_ref", "1/x_ref")  # of parameters, which tell how each one goes with the unit of the loss


def unit_of(law: Law, log_mean: np.ndarray) -> float:
    """What losses are divided by for a fit, whose steps and bounds are made for losses of about 1."""
    known = log_mean[np.isfinite(log_mean)]
    typical = float(np.exp(known.mean())) if known.size else 1.0
    own = law is LAWS.get(law.name) and all(p.unit in UNITS for p in law.parameters.values())
    return 1.0 if not own or ORDINARY[0] <= typical <= ORDINARY[1] else 10.0 ** round(np.log10(typical))


def _in_unit(columns: dict[str, np.ndarray], law: Law, losses: list[str], unit: float) -> None:
    """Bring the columns of a fit of loss / unit to the unit of the losses."""
    ends = ("", "_stderr", "_low", "_high", "_upper", "_free")
    for name in (f"{name}{end}" for name in losses for end in ends):
        if name in columns:
            columns[name] = columns[name] * unit
    factors = np.array([unit if name in losses else 1.0 for name in law.names])
    columns["covariance"] = columns["covariance"] * factors[:, None] * factors
    if "draw_values" in columns:
        columns["draw_values"] = columns["draw_values"] * factors


def _of_each_curve(law: Law, name: str, value: Floor, summary: xr.Dataset, rest: list[Hashable]) -> np.ndarray:
    """``value`` broadcast to the curves, checked: array (curves,)."""
    if "E" not in law.names:
        raise UserError(f"The law {law.name} has no irreducible loss E that a floor could hold: use power-offset.")
    like = xr.zeros_like(summary["seed_dof"], dtype=float)
    try:
        values = flattened(like + value, rest)
    except ValueError as error:
        raise UserError(f"The {name} does not fit the curves' dimensions {rest}: {error}.") from error
    if values.size != like.size or not np.all(np.isfinite(values) & (values >= 0)):
        raise UserError(f"The {name} must be one finite loss of at least zero for each curve.")
    return values
