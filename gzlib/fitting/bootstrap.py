"""Bootstrap draws of the parameters of many curves at once: every draw is a full refit.

The unit that is resampled is the training run or the average of the runs of one size, never a checkpoint or a
galaxy. The sizes stay as they are: resampling cases can drop a size and leave the law unidentifiable.
"""

import numpy as np

from gzlib.errors import UserError
from gzlib.fitting.batch import batch_fit, log_loss

KINDS = ("parametric", "residual", "wild")
LARGEST_LOG = 650.0  # of a synthetic loss
# Webb's six-point distribution (mean 0, variance 1, Webb 2014, Queen's Economics Department paper 1315): with few
# clusters Rademacher's two points give too few different draws.
WEBB = np.array([-np.sqrt(1.5), -1.0, -np.sqrt(0.5), np.sqrt(0.5), 1.0, np.sqrt(1.5)])


def bootstrap(law, variables, y, best, *, weights, variance, dof, draws, kind="parametric", held=(), seed=0):
    """Refit ``draws`` synthetic copies of each curve.

    Parameters
    ----------
    law, variables : as for ``batch_fit``
    y : array (curves, points); weights : array (curves, points), zero where a point is absent
    best : array (curves, parameters), the fits
    variance : array (curves,), variance of a weighted residual
    dof : array (curves,), degrees of freedom of that variance
    draws : int
    kind : "parametric", "residual" or "wild"
        Gaussian noise whose variance is itself drawn from its scaled inverse chi-square; the curve's own
        residuals, inflated for the fitted parameters and resampled over sizes; or each size's residual times a Webb
        weight (robust to noise that depends on size).
    held : names of parameters that are known
    seed : int

    Returns
    -------
    parameters (curves, draws, parameters), variances (curves, draws), converged (curves, draws)
    """
    if kind not in KINDS:
        raise UserError(f"No bootstrap is called {kind!r}: choose one of {', '.join(KINDS)}.")
    rng = np.random.default_rng(seed)
    n_curves, n_points = y.shape
    fitted = log_loss(law, variables, best)
    present = weights > 0
    variances = variance[:, None] * dof[:, None] / rng.chisquare(np.minimum(dof, 1e9)[:, None], size=(n_curves, draws))
    if kind == "parametric":
        noise = rng.standard_normal((n_curves, draws, n_points)) * np.sqrt(variances)[:, :, None]
    else:
        # A residual is smaller than the noise it came from; sqrt(n / dof) restores its variance on average.
        count = present.sum(axis=1)
        scale = np.sqrt(np.maximum(variance, 0) * count / np.maximum(_squares(y, fitted, weights), 1e-300))
        residual = np.where(present, weights * (np.log(y) - fitted), 0.0) * scale[:, None]
        if kind == "wild":
            noise = residual[:, None, :] * rng.choice(WEBB, size=(n_curves, draws, n_points))
        else:
            mean = residual.sum(axis=1) / count
            order = np.argsort(~present, axis=1, kind="stable")  # the present points first
            picks = np.floor(rng.random((n_curves, draws, n_points)) * count[:, None, None]).astype(int)
            chosen = np.take_along_axis(order[:, None, :], picks, axis=2)
            noise = np.take_along_axis((residual - mean[:, None])[:, None, :], chosen, axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.where(present[:, None, :], noise / weights[:, None, :], 0.0)
    # a variance with one degree of freedom has draws so large that their losses are no floats
    synthetic = np.exp(np.clip(fitted[:, None, :] + shift, -LARGEST_LOG, LARGEST_LOG)).reshape(-1, n_points)
    sizes = [np.repeat(v, draws, axis=0) if np.ndim(v) == 2 else v for v in variables]
    result = batch_fit(
        law,
        sizes,
        synthetic,
        np.repeat(best, draws, axis=0),
        weights=np.repeat(weights, draws, axis=0),
        held=held,
        tolerance=1e-7,
    )
    shape = (n_curves, draws)
    return result.parameters.reshape(*shape, -1), variances, result.converged.reshape(shape)


def _squares(y, fitted, weights):
    return np.sum((weights * (np.log(y) - fitted)) ** 2, axis=1)
