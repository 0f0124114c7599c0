"""Comparisons: which law, one exponent or many, what a choice of analysis changes, and the posterior beside a fit."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from scipy import stats
from scipy.optimize import minimize_scalar

from gzlib.errors import UserError
from gzlib.fitting.curves import Floor, flattened, log_of, spread_of_sizes, summarise_replicates, unflattened
from gzlib.fitting.fits import fit_curves, fit_law, floor_precision, noise_falls, unit_of
from gzlib.fitting.laws import Law, LawLike, get_law
from gzlib.fitting.optimise import batch_fit, law_bounds, log_loss


def information(
    residuals: npt.ArrayLike,
    n_parameters: int,
    *,
    log_loss: npt.ArrayLike | None = None,
    spread: npt.ArrayLike | None = None,
) -> tuple[float, float]:
    """Akaike's corrected and the Bayesian information criterion of a Gaussian fit.

    lmfit's own values drop sigma from the count, have no small-sample correction and depend on the transform. Here
    sigma counts as a parameter, and for residuals of ln(loss) the Jacobian of the transform, ``2 * sum(ln(loss))``,
    puts the fit on the scale of the loss, so that fits in ln(loss) and in loss compare (Burnham and Anderson 2002,
    sections 2.4 and 2.11).

    Parameters
    ----------
    residuals : array (points,)
        Unweighted, of the loss or of ln(loss)
    n_parameters : int
        Fitted parameters of the law.
    log_loss : array (points,)
        Ln of the measured loss, if the residuals are of ln(loss)
    spread : array (points,)
        Standard deviation of each point's noise in units of a common one; alike without it

    Returns
    -------
    aicc, bic : float
        Aicc is infinite with too few points for the correction.
    """
    residuals = np.asarray(residuals, float)
    spread = np.ones_like(residuals) if spread is None else np.asarray(spread, float)
    n, k = residuals.size, n_parameters + 1
    deviance = n * np.log(max(np.mean((residuals / spread) ** 2), 1e-300)) + n * (1 + np.log(2 * np.pi))
    deviance += 2 * float(np.sum(np.log(spread)))
    if log_loss is not None:
        deviance += 2 * float(np.sum(log_loss))
    aicc = deviance + 2 * k * n / (n - k - 1) if n > k + 1 else np.inf
    return aicc, deviance + k * np.log(n)


def compare_laws(
    loss: xr.DataArray,
    laws: Iterable[LawLike] = ("power", "power-offset", "shifted-power"),
    *,
    x: str = "n_train",
    replicate: str = "seed",
    scatter: str = "alike",
) -> xr.Dataset:
    """Fit several laws to every curve on the same runs and rank them.

    The criteria count the runs: a law is judged by how far each run lies from it, not only the mean of each size.

    Parameters
    ----------
    loss : DataArray with dims (..., x, replicate)
        Positive, NaN where a run is missing.
    laws : sequence of str or Law of one size
    x, replicate : names of dimensions
    scatter
        Of ln(loss) between runs, as for ``fit_curves``: "alike" at all sizes, or "falling" with size as the replicates
        say, the same for all laws.

    Returns
    -------
    Dataset over the remaining dims and ``law``: ``aicc``, ``delta`` (to the best), ``weight`` (Akaike), ``bic``,
    ``rms`` (of ln(loss) about the law, over runs), ``success``; ``n_runs`` over the remaining dims. A law with too few
    sizes has NaN ``rms`` and infinite criteria.
    """
    compared = [get_law(law) for law in ([laws] if isinstance(laws, str | Law) else laws)]
    if not compared:
        raise UserError("Name one law or more to compare, such as laws=['power', 'power-offset'].")
    if wrong := [law for law in compared if len(law.variables) != 1]:
        raise UserError(f"{wrong[0].name} is a law of {', '.join(wrong[0].variables)}: compare laws of one size here.")
    summary = summarise_replicates(loss, replicate=replicate, x=x)
    rest = [dim for dim in summary["log_mean"].dims if dim != x]
    runs = log_of(loss if replicate in loss.dims else loss.expand_dims({replicate: [0]}))
    sizes = runs[x].values.astype(float)
    sizes = sizes / np.exp(np.log(sizes).mean())
    flat = flattened(runs, rest, x, replicate)
    falls = noise_falls(summary, x=x, scatter=scatter)
    columns = {
        key: np.full((len(flat), len(compared)), fill)
        for key, fill in (("aicc", np.inf), ("bic", np.inf), ("rms", np.nan), ("success", False))
    }
    for i, row in enumerate(flat):
        there = np.isfinite(row)
        n_runs = there.sum(axis=1)
        present = n_runs > 0
        mean = np.where(there, row, 0.0).sum(axis=1)[present] / n_runs[present]
        spread = np.ones(present.sum()) if (fall := falls[i]) is None else spread_of_sizes(sizes[present], fall[0])
        weights, spreads = np.sqrt(n_runs[present]) / spread, np.broadcast_to(spread[:, None], row[present].shape)
        for k, law in enumerate(compared):
            if present.sum() <= len(law.names):
                continue
            log_unit = np.log(unit_of(law, mean))
            result = fit_law(law, sizes[present], np.exp(mean - log_unit), weights=weights)
            residuals = (result.best_fit[:, None] + log_unit - row[present])[there[present]]
            spread_of_runs = spreads[there[present]]
            criteria = information(residuals, len(law.names), log_loss=row[there], spread=spread_of_runs)
            columns["aicc"][i, k], columns["bic"][i, k] = criteria
            columns["rms"][i, k] = np.sqrt(np.mean(residuals**2))
            columns["success"][i, k] = result.success
    best = columns["aicc"].min(axis=1, keepdims=True)
    delta = np.where(np.isfinite(best), columns["aicc"] - np.where(np.isfinite(best), best, 0), np.inf)
    likelihood = np.exp(-0.5 * delta)
    columns |= {"delta": delta, "weight": likelihood / np.maximum(likelihood.sum(axis=1, keepdims=True), 1e-300)}
    tails = dict.fromkeys(columns, ("law",))
    columns["n_runs"] = np.isfinite(flat).sum(axis=(1, 2))
    names: dict[Any, Any] = {"law": [law.name for law in compared]}
    return unflattened(columns, summary, rest, tails=tails, coords=names, attrs={"x": x})


def nested_test(
    chi2_small: npt.ArrayLike,
    chi2_large: npt.ArrayLike,
    *,
    extra: int,
    dof: npt.ArrayLike,
    known_variance: bool = False,
    boundary: bool = False,
) -> np.ndarray:
    """p-value of the smaller of two nested laws.

    Parameters
    ----------
    chi2_small, chi2_large : arrays
        Weighted sums of squares without and with the extra parameters.
    extra : int
        Parameters that the larger law adds.
    dof
        Residual degrees of freedom of the larger law; with ``known_variance`` unused.
    known_variance
        Whether the weights hold the true noise (likelihood ratio), else an F test.
    boundary
        The extra parameter sits on its bound under the smaller law, as E = 0 does: the likelihood ratio is then an
        equal mixture of zero and chi-square (Self and Liang 1987), which halves the p-value.

    Returns
    -------
    p : array
        1 where the larger law is no better.
    """
    gain = np.maximum(np.asarray(chi2_small, float) - np.asarray(chi2_large, float), 0)
    if known_variance:
        p = stats.chi2.sf(gain, extra)
    else:
        dof = np.asarray(dof, float)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = gain / extra / (np.asarray(chi2_large, float) / dof)
        p = np.where(dof > 0, stats.f.sf(ratio, extra, np.maximum(dof, 1)), np.nan)
    if boundary and extra != 1:
        raise ValueError("the boundary correction is for one extra parameter")
    return np.where(gain > 0, p * (0.5 if boundary else 1.0), 1.0)


def shared_exponent(
    loss: xr.DataArray,
    x: str = "n_train",
    *,
    dim: str | Iterable[str] | None = None,
    replicate: str = "seed",
    level: float = 0.95,
    scatter: str = "alike",
) -> xr.Dataset:
    """Joint fit of E + A x^-alpha with one exponent for all curves along ``dim``, against an exponent for each.

    The curves keep their own E, A and noise; the joint chi-square is profiled over the common exponent. The noise of
    each curve is itself estimated, which Meier 1953 (Biometrics 9, 59) allows for in the interval and Welch 1951
    (Biometrika 38, 330) in the test.

    Parameters
    ----------
    loss : DataArray with dims (..., x, replicate)
    dim : str or list of str
        Dims that share the exponent; default: all.
    level
        Coverage of the interval.
    scatter
        Of ln(loss) between runs, "alike" or "falling" with size, as for ``fit_curves``.

    Returns
    -------
    Dataset over the dims that do not share: ``alpha``, ``alpha_low``, ``alpha_high`` (profile likelihood), ``p_value``
    (Welch's test that one exponent is enough), ``n_curves``, ``sd_between`` (spread of the true exponents,
    DerSimonian-Laird) and, over all dims, ``alpha_own`` and ``alpha_pooled`` (own exponents drawn to the mean by their
    precision).
    """
    fits = fit_curves(loss, x, replicate=replicate, level=level, scatter=scatter, draws=0)
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

    def flat(array: xr.DataArray, *tail: int) -> np.ndarray:
        return array.values.reshape(groups, per, *tail)

    log_mean, n_runs = flat(summary["log_mean"], len(sizes)), flat(summary["n_runs"], len(sizes))
    best = np.stack([flat(ordered[name]) for name in law.names], axis=-1)
    variance, stderr, dof = flat(ordered["run_sd"]) ** 2, flat(ordered["alpha_stderr"]), flat(ordered["dof"])
    fall = flat(ordered["noise_fall"])
    keys = ("alpha", "alpha_low", "alpha_high", "p_value", "n_curves", "sd_between")
    columns = {key: np.full(groups, np.nan) for key in keys}
    pooled = np.full((groups, per), np.nan)
    for g in range(groups):
        use = np.isfinite(stderr[g]) & (variance[g] > 0) & (dof[g] > 0)
        columns["n_curves"][g] = use.sum()
        if use.sum() < 2:
            continue
        last = np.where(n_runs[g, use] > 0, sizes, 0.0).max(axis=1, keepdims=True)
        spread = spread_of_sizes(sizes, fall[g, use, None], last=last)
        weights = np.sqrt(n_runs[g, use] / variance[g, use, None]) / spread
        y = np.exp(np.where(n_runs[g, use] > 0, log_mean[g, use], 0.0))
        start, share = best[g, use], stderr[g, use] ** -2 / np.sum(stderr[g, use] ** -2)
        own = 2 * batch_fit(law, [sizes], y, start, weights=weights).cost.sum()

        def joint(alpha: float, start: np.ndarray = start, weights: np.ndarray = weights, y: np.ndarray = y) -> float:
            held = start.copy()
            held[:, 2] = alpha
            return 2 * float(batch_fit(law, [sizes], y, held, weights=weights, held=("alpha",)).cost.sum())

        low, high = float(start[:, 2].min()), float(start[:, 2].max())
        found = minimize_scalar(
            joint, bounds=(max(low - 1e-3, 1e-4), high + 1e-3), method="bounded", options={"xatol": 1e-6}
        )
        columns["alpha"][g] = found.x
        freedom = 1 / np.sum(share**2 / dof[g, use])
        wider = 1 + 4 * np.sum(share * (1 - share) / dof[g, use])
        threshold = found.fun + wider * stats.t.ppf(0.5 * (1 + level), freedom) ** 2
        columns["alpha_low"][g] = _crossing(joint, threshold, found.x, max(found.x - 1e-3, 0.5 * found.x), 0.0)
        columns["alpha_high"][g] = _crossing(joint, threshold, found.x, found.x + 1e-3, 5.0)
        columns["p_value"][g] = _welch(max(found.fun - own, 0), share, dof[g, use])
        columns["sd_between"][g], pooled[g, use] = _pool(best[g, use, 2], stderr[g, use])
    coords = {name: coord for name, coord in ordered.coords.items() if set(coord.dims) <= set(rest)}
    data: dict[str, Any] = {key: (outer, values.reshape(shape)) for key, values in columns.items()}
    both = (*outer, *dims)
    data |= {"alpha_own": (both, ordered.alpha.values), "alpha_pooled": (both, pooled.reshape(ordered.alpha.shape))}
    return xr.Dataset(
        data, coords=coords, attrs={"shared": ", ".join(dims), "level": level, "x_ref": fits.attrs["x_ref"]}
    )


def _welch(gain: float, share: np.ndarray, dof: np.ndarray) -> float:
    """p-value of a chi-square between curves whose variances are estimated with ``dof``; their weights' ``share``."""
    k = len(share)
    lack = np.sum((1 - share) ** 2 / dof)
    ratio = gain / (k - 1) / (1 + 2 * (k - 2) / (k**2 - 1) * lack)
    return float(stats.f.sf(ratio, k - 1, (k**2 - 1) / (3 * lack)))


def _crossing(joint: Callable[[float], float], threshold: float, best: float, guess: float, bound: float) -> float:
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


def _pool(values: np.ndarray, stderr: np.ndarray) -> tuple[float, np.ndarray]:
    """Spread of the true values and the values drawn to their mean (DerSimonian and Laird 1986)."""
    precision = 1 / stderr**2
    mean = np.sum(precision * values) / precision.sum()
    heterogeneity = np.sum(precision * (values - mean) ** 2)
    scale = precision.sum() - np.sum(precision**2) / precision.sum()
    between = max((heterogeneity - (len(values) - 1)) / scale, 0.0)
    mean = np.average(values, weights=1 / (stderr**2 + between))
    share = between / (between + stderr**2)
    return np.sqrt(between), mean + share * (values - mean)


LAWS_TRIED = {"A n^-α": "power", "E + A n^-α": "power-offset", "A (1/n + g)^α": "shifted-power"}
FLOOR_LAW = "E at the floor"  # the offset law with E held
NOISES = {"Gaussian": "gaussian", "Huber": "huber", "Student t": "student-t"}
WEIGHTS: dict[str, dict[str, Any]] = {
    "all sizes alike": {},
    "recent sizes more": {"recency": 1.0},  # scale in ln(size)
    "as the seeds scatter": {"scatter": "falling"},
}
CHOICES = ("law", "noise", "weights", "sizes", "seeds")


def sensitivity(
    loss: xr.DataArray,
    *,
    x: str = "n_train",
    replicate: str = "seed",
    factor: float = 4.0,
    floor: float | None = None,
    most_dropped: int = 2,
) -> pd.DataFrame:
    """Fit one curve with every combination of law, noise model, weights, smallest sizes dropped and seed left out.

    Parameters
    ----------
    loss : DataArray (x, replicate)
    factor
        The forecast is for this multiple of the largest size.
    floor
        A known irreducible loss; with it the offset law is also fitted with E held there.
    most_dropped
        Up to so many of the smallest sizes are left out, as long as each law keeps one size more than it has
        parameters.

    Returns
    -------
    DataFrame, one row a fit: the columns of ``CHOICES``, ``alpha``, ``E`` (NaN where the law has none), ``forecast``
    (loss at ``factor`` times the largest size), ``reason`` (empty, or why there is no fit). Fits that were refused
    or failed are rows, too, with NaN numbers.
    """
    laws = dict(LAWS_TRIED) | ({FLOOR_LAW: "power-offset"} if floor is not None else {})
    variants = _variants(loss, x, replicate, most_dropped)
    target = float(loss[x].max()) * factor
    rows = []
    for (law, name), noise, weights in itertools.product(laws.items(), NOISES, WEIGHTS):
        fits = fit_curves(
            variants,
            x,
            law=name,
            noise=NOISES[noise],
            replicate=replicate,
            floor=floor if law == FLOOR_LAW else None,
            draws=0,
            **WEIGHTS[weights],
        )
        names = get_law(name).names
        forecast = get_law(name).function(target / fits.attrs["x_ref"], *(fits[parameter] for parameter in names))
        for i, (dropped, seeds) in enumerate(zip(variants.dropped.values, variants.left_out.values, strict=True)):
            if dropped and loss.sizes[x] - dropped <= len(names):
                continue
            one = fits.isel(variant=i)
            rows.append(
                {"law": law, "noise": noise, "weights": weights, "sizes": _cut_name(dropped), "seeds": str(seeds)}
                | {"alpha": float(one["alpha"]), "E": float(one["E"]) if "E" in names else np.nan}
                | {"forecast": float(forecast[i]), "reason": "" if one["success"] else str(one["message"].item())}
            )
    return pd.DataFrame(rows)


def _variants(loss: xr.DataArray, x: str, replicate: str, most_dropped: int) -> xr.DataArray:
    """The curve with its smallest sizes or one seed taken out, stacked along ``variant`` so that one call fits all."""
    parts, dropped, left_out = [], [], []
    for seeds, part in _seed_choices(loss, replicate).items():
        for count in range(most_dropped + 1):
            parts.append(part.where(loss[x].isin(loss[x].values[count:])))
            dropped.append(count)
            left_out.append(seeds)
    stacked = xr.concat(parts, "variant", join="outer", coords="minimal", compat="override")
    return stacked.assign_coords(dropped=("variant", dropped), left_out=("variant", left_out))


def _seed_choices(loss: xr.DataArray, replicate: str) -> dict[str, xr.DataArray]:
    choices = {"all": loss}
    if replicate in loss.dims and loss.sizes[replicate] > 2:
        labels = loss[replicate].values
        choices |= {f"without {label}": loss.where(loss[replicate] != label) for label in labels}
    return choices


def _cut_name(dropped: int) -> str:
    return f"without the {dropped} smallest" if dropped > 1 else ("without the smallest" if dropped else "all")


def choice_ranges(fits: pd.DataFrame, column: str) -> pd.DataFrame:
    """How ``column`` moves with each choice: a row for every value of every choice, over all the other choices.

    Returns
    -------
    DataFrame with the index (choice, value) and ``fits``, ``median``, ``low``, ``high`` (5th and 95th percentile).
    """
    rows = {}
    for choice in CHOICES:
        for value in dict.fromkeys(fits[choice]):
            numbers = fits.loc[fits[choice] == value, column].dropna()
            low, middle, high = numbers.quantile([0.05, 0.5, 0.95]) if len(numbers) else [np.nan] * 3
            rows[choice, value] = {"fits": len(numbers), "median": middle, "low": low, "high": high}
    return pd.DataFrame.from_dict(rows, orient="index")


BURN_IN = 0.3  # share of the steps that is dropped
MIN_LENGTHS = 50  # steps in autocorrelation times that the authors of emcee ask for


def posterior(
    loss: xr.DataArray,
    x: str = "n_train",
    *,
    law: LawLike = "power-offset",
    replicate: str = "seed",
    level: float = 0.95,
    x_ref: float | None = None,
    floor: Floor | None = None,
    floor_sd: Floor | None = None,
    walkers: int = 32,
    steps: int = 4000,
    seed: int = 0,
) -> xr.Dataset:
    """Sample the posterior of one curve of replicated runs.

    The logarithms of the losses are normal about the law with one standard deviation. Priors: flat in each parameter
    between its bounds, in the logarithm of those that must be positive (amplitudes, positions, widths) and of the
    standard deviation; with ``floor`` and ``floor_sd`` E is log-normal as in ``fit_curves``. The sampler is the affine
    invariant ensemble of Goodman and Weare 2010 (Foreman-Mackey et al. 2013, arXiv:1202.3665).

    Parameters
    ----------
    loss : DataArray (x) or (x, replicate)
        ``replicate`` holds repeated runs.
    law, replicate, x_ref, floor, floor_sd
        As for ``fit_curves``.
    level : float
        Coverage of the central intervals.
    walkers, steps : int
        Chains and their length; the first 30 % are dropped.
    seed : int

    Returns
    -------
    Dataset: ``draw_values`` (draw, parameter), ``draw_sd`` (draw) as ``fit_curves`` gives them, ``value`` (the median),
    ``low`` and ``high`` (parameter), ``acceptance``, ``autocorrelation`` (steps) and ``converged`` (the chain is at
    least 50 autocorrelation times long).

    Raises
    ------
    UserError
        If emcee is not installed, ``loss`` is more than one curve, or its law is refused or has no error to estimate.
    """
    try:
        import emcee
    except ImportError as error:
        raise UserError("Posterior draws need the package emcee: pip install 'gzlib[mcmc]'.") from error
    law = get_law(law)
    if set(loss.dims) - {x, replicate}:
        raise UserError(f"posterior takes one curve, but the losses also have {set(loss.dims) - {x, replicate}}.")
    options: dict[str, Any] = {"law": law, "replicate": replicate, "x_ref": x_ref, "floor": floor, "floor_sd": floor_sd}
    fit = fit_curves(loss, x, draws=0, **options)
    if not (bool(fit["success"]) and float(fit["run_sd"]) > 0):
        raise UserError(f"There is nothing to sample: {fit['message'].item()}; {fit['reason'].item()}.")
    if floor is not None and floor_sd is None:
        raise UserError("posterior takes a floor as a prior of E: give its standard error floor_sd too.")
    summary = summarise_replicates(loss, replicate=replicate, x=x)
    n_runs = summary["n_runs"].values
    present = n_runs > 0
    sizes = loss[x].values[present].astype(float) / fit.attrs["x_ref"]
    mean, n_runs = summary["log_mean"].values[present], n_runs[present]
    within = float(np.nan_to_num(summary["seed_sd"]) ** 2 * summary["seed_dof"])
    low, high = law_bounds(law)
    positive = low > 0

    def log_probability(theta: np.ndarray) -> np.ndarray:
        values = np.where(positive, np.exp(np.minimum(theta[:, :-1], 600)), theta[:, :-1])
        inside = np.all((values >= low) & (values <= high), axis=1)
        with np.errstate(all="ignore"):  # outside its bounds a law may be anything
            squares = np.sum(n_runs * (log_loss(law, [sizes], values) - mean) ** 2, axis=1) + within
            out = -n_runs.sum() * theta[:, -1] - 0.5 * squares * np.exp(-2 * theta[:, -1])
            if floor is not None and floor_sd is not None:
                log_e = log_loss(law, [np.array([np.inf])], values)[:, 0]
                precision = floor_precision(float(floor), float(floor_sd))
                out = out - log_e - 0.5 * ((log_e - np.log(float(floor))) * precision) ** 2
        return np.where(inside & np.isfinite(out), out, -np.inf)

    best = np.array([float(fit[name]) for name in law.names])
    centre = np.append(np.where(positive, np.log(np.maximum(best, 1e-300)), best), np.log(float(fit["run_sd"])))
    rng = np.random.default_rng(seed)
    spread = np.append(np.where(positive, 0.01, 0.01 * np.maximum(np.abs(best), 0.01)), 0.05)
    start = centre + spread * rng.standard_normal((walkers, len(centre)))
    start[:, :-1] = np.where(positive, start[:, :-1], np.clip(np.abs(start[:, :-1]), low, high))
    sampler = emcee.EnsembleSampler(walkers, len(centre), log_probability, vectorize=True)
    sampler.random_state = np.random.RandomState(seed).get_state()  # emcee draws from the legacy generator
    sampler.run_mcmc(start, steps)
    times = sampler.get_autocorr_time(tol=0)
    chain = sampler.get_chain(discard=int(BURN_IN * steps), thin=max(int(times.max() / 2), 1), flat=True)
    values = np.where(positive, np.exp(chain[:, :-1]), chain[:, :-1])
    ends = np.quantile(values, [0.5, 0.5 * (1 - level), 0.5 * (1 + level)], axis=0)
    return xr.Dataset(
        {
            "draw_values": (("draw", "parameter"), values),
            "draw_sd": ("draw", np.exp(chain[:, -1])),
            **{name: ("parameter", end) for name, end in zip(("value", "low", "high"), ends, strict=True)},
            "acceptance": float(sampler.acceptance_fraction.mean()),
            "autocorrelation": float(times.max()),
            "converged": bool(steps >= MIN_LENGTHS * times.max()),
        },
        coords={"parameter": list(law.names)},
        attrs={"law": law, "x": x, "x_ref": fit.attrs["x_ref"], "level": level, "seed": seed},
    )
