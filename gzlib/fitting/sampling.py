"""Posterior draws of one curve's law by Markov chains (emcee, an optional package), to hold against the profiles."""

import numpy as np
import xarray as xr

from gzlib.errors import UserError
from gzlib.fitting.curves import summarise_replicates
from gzlib.fitting.fits import fit_curves
from gzlib.fitting.laws import get_law
from gzlib.fitting.optimise import law_bounds, log_loss

BURN_IN = 0.3  # share of the steps that is dropped
MIN_LENGTHS = 50  # steps in autocorrelation times that the authors of emcee ask for


def posterior(
    loss,
    x="n_train",
    *,
    law="power-offset",
    replicate="seed",
    level=0.95,
    x_ref=None,
    floor=None,
    floor_sd=None,
    walkers=32,
    steps=4000,
    seed=0,
):
    """Sample the posterior of one curve of replicated runs.

    The logarithms of the losses are normal about the law with one standard deviation. Priors: flat in each parameter
    between its bounds, in the logarithm of those that must be positive (amplitudes, positions, widths) and of the
    standard deviation; with ``floor`` and ``floor_sd`` E is log-normal as in ``fit_curves``. The sampler is the affine
    invariant ensemble of Goodman and Weare 2010 (Foreman-Mackey et al. 2013, arXiv:1202.3665).

    Parameters
    ----------
    loss : DataArray with the dim ``x`` and, if there are repeated runs, ``replicate``
    law, replicate, x_ref, floor, floor_sd : as for ``fit_curves``
    level : float, coverage of the central intervals
    walkers, steps : int, chains and their length; the first 30 % are dropped
    seed : int

    Returns
    -------
    Dataset: ``draw_values`` (draw, parameter), ``draw_sd`` (draw) as ``fit_curves`` gives them, ``median``, ``low`` and
    ``high`` (parameter), ``acceptance``, ``autocorrelation`` (steps) and ``converged`` (the chain is at least 50
    autocorrelation times long).

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
    options = {"law": law, "replicate": replicate, "x_ref": x_ref, "floor": floor, "floor_sd": floor_sd}
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

    def log_probability(theta):
        values = np.where(positive, np.exp(np.minimum(theta[:, :-1], 600)), theta[:, :-1])
        inside = np.all((values >= low) & (values <= high), axis=1)
        with np.errstate(all="ignore"):  # outside its bounds a law may be anything
            squares = np.sum(n_runs * (log_loss(law, [sizes], values) - mean) ** 2, axis=1) + within
            out = -n_runs.sum() * theta[:, -1] - 0.5 * squares * np.exp(-2 * theta[:, -1])
            if floor is not None:
                log_e = np.log(np.maximum(values[:, law.names.index("E")], 1e-300))
                out = out - log_e - 0.5 * ((log_e - np.log(float(floor))) * float(floor) / float(floor_sd)) ** 2
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
            **{name: ("parameter", end) for name, end in zip(("median", "low", "high"), ends, strict=True)},
            "acceptance": float(sampler.acceptance_fraction.mean()),
            "autocorrelation": float(times.max()),
            "converged": bool(steps >= MIN_LENGTHS * times.max()),
        },
        coords={"parameter": list(law.names)},
        attrs={"law": law, "x": x, "x_ref": fit.attrs["x_ref"], "level": level, "seed": seed},
    )
