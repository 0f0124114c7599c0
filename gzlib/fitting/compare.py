"""Which law? Information criteria on equal footing, and tests of nested laws with the boundary at zero respected."""

import numpy as np
import xarray as xr
from scipy import stats

from gzlib.errors import UserError
from gzlib.fitting.fit import fit_law
from gzlib.fitting.laws import get_law
from gzlib.fitting.noise import summarise_replicates


def information(residuals, n_parameters, *, log_loss=None):
    """Akaike's corrected and the Bayesian information criterion of a Gaussian fit.

    lmfit's own values drop sigma from the count, have no small-sample correction and depend on the transform. Here
    sigma counts as a parameter, and for residuals of ln(loss) the Jacobian of the transform, 2 * sum ln(loss), puts
    the fit on the scale of the loss, so that fits in ln(loss) and in loss compare (Burnham and Anderson 2002,
    sections 2.4 and 2.11).

    Parameters
    ----------
    residuals : array (points,), unweighted, of the loss or of ln(loss)
    n_parameters : int, fitted parameters of the law
    log_loss : array (points,), ln of the measured loss, if the residuals are of ln(loss)

    Returns
    -------
    aicc, bic : floats; aicc is infinite with too few points for the correction
    """
    residuals = np.asarray(residuals, float)
    n, k = residuals.size, n_parameters + 1
    deviance = n * np.log(max(np.mean(residuals**2), 1e-300)) + n * (1 + np.log(2 * np.pi))
    if log_loss is not None:
        deviance += 2 * float(np.sum(log_loss))
    aicc = deviance + 2 * k * n / (n - k - 1) if n > k + 1 else np.inf
    return aicc, deviance + k * np.log(n)


def compare_laws(loss, laws=("power", "power-offset", "shifted-power"), *, x="n_train", replicate="seed"):
    """Fit several laws to every curve on the same points and rank them.

    Returns
    -------
    Dataset over the remaining dims and ``law``: ``aicc``, ``delta`` (to the best), ``weight`` (Akaike), ``bic``,
    ``rms`` (of ln(loss)), ``success``. A law with too few points has NaN ``rms`` and infinite criteria.
    """
    summary = summarise_replicates(loss, replicate=replicate, x=x)["log_mean"]
    rest = [dim for dim in summary.dims if dim != x]
    summary = summary.transpose(*rest, x)
    sizes = summary[x].values.astype(float)
    sizes = sizes / np.exp(np.log(sizes).mean())
    flat = summary.values.reshape(-1, len(sizes))
    columns = {
        key: np.full((len(flat), len(laws)), fill)
        for key, fill in (("aicc", np.inf), ("bic", np.inf), ("rms", np.nan), ("success", False))
    }
    for i, row in enumerate(flat):
        present = np.isfinite(row)
        for k, name in enumerate(laws):
            law = get_law(name)
            if len(law.variables) != 1:
                raise UserError(f"{law.name} is a law of {', '.join(law.variables)}: compare laws of one size here.")
            if present.sum() <= len(law.names):
                continue
            result = fit_law(law, sizes[present], np.exp(row[present]))
            residuals = result.best_fit - row[present]
            columns["aicc"][i, k], columns["bic"][i, k] = information(residuals, len(law.names), log_loss=row[present])
            columns["rms"][i, k] = np.sqrt(np.mean(residuals**2))
            columns["success"][i, k] = result.success
    best = columns["aicc"].min(axis=1, keepdims=True)
    delta = np.where(np.isfinite(best), columns["aicc"] - np.where(np.isfinite(best), best, 0), np.inf)
    likelihood = np.exp(-0.5 * delta)
    columns |= {"delta": delta, "weight": likelihood / np.maximum(likelihood.sum(axis=1, keepdims=True), 1e-300)}
    coords = {name: coord for name, coord in summary.coords.items() if x not in coord.dims} | {"law": list(laws)}
    return xr.Dataset(
        {key: ([*rest, "law"], values.reshape(*summary.shape[:-1], len(laws))) for key, values in columns.items()},
        coords=coords,
    )


def nested_test(chi2_small, chi2_large, *, extra, dof, known_variance=False, boundary=False):
    """p-value of the smaller of two nested laws.

    Parameters
    ----------
    chi2_small, chi2_large : arrays, weighted sums of squares without and with the extra parameters
    extra : int, parameters that the larger law adds
    dof : residual degrees of freedom of the larger law; with ``known_variance`` unused
    known_variance : whether the weights hold the true noise (likelihood ratio), else an F test
    boundary : the extra parameter sits on its bound under the smaller law, as E = 0 does: the likelihood ratio is
        then an equal mixture of zero and chi-square (Self and Liang 1987), which halves the p-value

    Returns
    -------
    p : array; 1 where the larger law is no better
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
