"""The loss that no predictor can beat: what the votes themselves, being a finite random sample, leave unexplained."""

import numpy as np
from scipy.special import gammaln, psi

from gzlib.errors import UserError

MAX_ROUNDS = 500


def dirichlet_fit(counts, *, tolerance=1e-6):
    """Maximum-likelihood Dirichlet of the vote fractions behind counts (Minka 2000, fixed-point iteration).

    ``counts`` (galaxies, answers), galaxies without votes count nothing. Returns concentrations (answers,).
    """
    counts = counts[counts.sum(axis=1) > 0].astype(float)
    total = counts.sum(axis=1)
    alpha = np.maximum(counts.sum(axis=0) / total.sum(), 1e-3) * counts.shape[1]
    for _ in range(MAX_ROUNDS):
        rise = np.mean(psi(counts + alpha) - psi(alpha), axis=0) / np.mean(psi(total + alpha.sum()) - psi(alpha.sum()))
        new = np.clip(alpha * rise, 1e-4, 1e4)
        if np.max(np.abs(np.log(new / alpha))) < tolerance:
            return new
        alpha = new
    return alpha


def vote_floor(counts, *, draws=16, seed=0):
    """Expected multinomial loss of a predictor that knows each galaxy's true vote probabilities.

    The true probabilities are drawn from their posterior given the votes, with a Dirichlet prior fitted to all
    galaxies; votes redrawn from them give the loss. No network can do better on average, so an irreducible loss E
    well above this floor is the encoder's, not the volunteers'.

    Parameters
    ----------
    counts : array (galaxies, answers), votes of one question; a galaxy that was never asked has zeros
    draws : int, posterior draws for each galaxy
    seed : int

    Returns
    -------
    floor, stderr : floats, mean over galaxies asked of -ln P(votes), in nats, and its standard error

    Raises
    ------
    UserError
        If counts are negative or not whole, or no galaxy has a vote.
    """
    counts = np.asarray(counts)
    if counts.ndim != 2 or np.any(counts < 0) or np.any(counts != np.round(counts)):
        raise UserError("counts must be whole, non-negative votes with the shape (galaxies, answers).")
    counts = counts[counts.sum(axis=1) > 0].astype(int)
    if not len(counts):
        raise UserError("No galaxy has a vote for this question: there is no floor to compute.")
    rng = np.random.default_rng(seed)
    posterior = counts + dirichlet_fit(counts)
    gamma = rng.standard_gamma(np.broadcast_to(posterior, (draws, *counts.shape)))
    probability = np.maximum(gamma / gamma.sum(axis=-1, keepdims=True), 1e-300)
    redrawn = rng.multinomial(
        np.broadcast_to(counts.sum(axis=1), (draws, len(counts))), probability / probability.sum(axis=-1, keepdims=True)
    )
    log_choose = gammaln(redrawn.sum(axis=-1) + 1) - gammaln(redrawn + 1).sum(axis=-1)
    each = -(log_choose + np.sum(redrawn * np.log(probability), axis=-1)).mean(axis=0)
    return float(each.mean()), float(each.std(ddof=1) / np.sqrt(len(each))) if len(each) > 1 else float("nan")
