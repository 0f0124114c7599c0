"""The irreducible loss: what a predictor that knows the true answer probabilities still pays."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, psi

from gzlib.data.schema import Schema, load_schema
from gzlib.data.survey import open_survey, open_truth
from gzlib.errors import UserError


def irreducible_loss(probabilities: np.ndarray, totals: np.ndarray, schema: Schema) -> dict[str, float]:
    """Expected loss of a perfect predictor, for each question and in total.

    Given how many volunteers ``N`` answered a question, their counts ``k`` are multinomial with the true
    probabilities ``p`` (volunteers are exchangeable, and ``p`` already refers to those who reach the question). The
    Dirichlet-multinomial loss of Walmsley et al. (2022) is ``-log p(k | N)`` with its coefficient, so the least
    expected loss that any predictor can reach is the entropy of that multinomial,

        H = -log N! - N sum_a p_a log p_a + sum_a E[log k_a!],   k_a ~ Binomial(N, p_a),

    which is computed exactly. It is averaged over all galaxies (a galaxy never asked contributes 0, as in training)
    and summed over questions for ``"total"``. A Dirichlet-multinomial whose concentrations are bounded can't become
    a multinomial, so a network with that head stays somewhat above this floor: see :func:`attainable_loss`.

    Parameters
    ----------
    probabilities : (galaxies, answers)
        True probabilities in ``schema.label_cols`` order; NaN where a question can't be reached.
    totals : (galaxies, questions)
        Votes that each question received.

    Returns
    -------
    dict
        Nats a galaxy: one entry for each question's name, and ``"total"``.

    Raises
    ------
    UserError
        If the shapes don't fit the schema or each other.
    """
    return _by_question(_entropy, probabilities, totals, schema)


def attainable_loss(
    probabilities: np.ndarray, totals: np.ndarray, schema: Schema, *, low: float = 1.0, high: float = 101.0
) -> dict[str, float]:
    """Expected loss of a Dirichlet-multinomial head that knows the truth but keeps its concentrations in a range.

    The head of Walmsley et al. (2022) gives concentrations in (1, 101). For each galaxy and question the expected
    loss under the true multinomial votes is computed exactly for concentrations ``p * s``, clipped to the range, and
    the best of 12 scales ``s`` is taken; so this is an upper bound of that head's own floor, and a close one.
    Parameters, result and errors as :func:`irreducible_loss`.
    """

    def best(p: np.ndarray, count: int) -> np.ndarray:
        scales = high / p.max(1, keepdims=True)
        tries = [np.clip(p * scales * share, low, high) for share in np.geomspace(0.02, 1.0, 12)]
        return np.asarray(np.min([_dirichlet_loss(p, count, alpha) for alpha in tries], axis=0))

    return _by_question(best, probabilities, totals, schema)


def _by_question(
    loss: Callable[[np.ndarray, int], np.ndarray], probabilities: np.ndarray, totals: np.ndarray, schema: Schema
) -> dict[str, float]:
    """Mean over galaxies of ``loss(p, N)`` for each question, rows grouped by their number of votes."""
    probabilities, totals = np.asarray(probabilities, float), np.asarray(totals)
    if probabilities.shape != (len(totals), len(schema.label_cols)) or totals.shape[1:] != (len(schema.questions),):
        raise UserError(
            f"The loss floor needs {len(schema.label_cols)} answers and {len(schema.questions)} question totals for"
            f" each galaxy of schema '{schema.name}', but got shapes {probabilities.shape} and {totals.shape}."
        )
    out = {}
    for position, question in enumerate(schema.questions):
        p, total, summed = probabilities[:, question.columns], totals[:, position], 0.0
        for count in np.unique(total[total > 0]):
            rows = np.clip(np.nan_to_num(p[total == count], nan=1.0), 1e-12, 1.0)
            summed += float(loss(rows, int(count)).sum())
        out[question.name] = summed / max(len(totals), 1)
    out["total"] = float(sum(out.values()))
    return out


def _binomial(p: np.ndarray, count: int) -> np.ndarray:
    """(n, answers, count + 1): chance that an answer gets 0, 1, ... ``count`` votes."""
    k = np.arange(count + 1)
    log_choose = gammaln(count + 1) - gammaln(k + 1) - gammaln(count - k + 1)
    rest = np.log1p(-np.minimum(p, 1 - 1e-12))[..., None]
    chance: np.ndarray = np.exp(log_choose + k * np.log(p)[..., None] + (count - k) * rest)
    return chance


def _entropy(p: np.ndarray, count: int) -> np.ndarray:
    """(n,) entropy in nats of Multinomial(count, p)."""
    log_factorials = (_binomial(p, count) * gammaln(np.arange(count + 1) + 1)).sum((1, 2))
    entropy: np.ndarray = -gammaln(count + 1) - count * (p * np.log(p)).sum(1) + log_factorials
    return entropy


def _dirichlet_loss(p: np.ndarray, count: int, alpha: np.ndarray) -> np.ndarray:
    """(n,) expected Dirichlet-multinomial loss with concentrations ``alpha`` of votes from Multinomial(count, p)."""
    k = np.arange(count + 1)
    total = alpha.sum(1)
    each = gammaln(k + 1) - gammaln(k + alpha[..., None]) + gammaln(alpha)[..., None]
    expected = (_binomial(p, count) * each).sum((1, 2))
    loss: np.ndarray = -gammaln(count + 1) - gammaln(total) + gammaln(total + count) + expected
    return loss


@functools.lru_cache(maxsize=4)  # every run of a sweep asks for the same
def survey_floor(folder: Path) -> dict[str, Any]:
    """Expected loss of a perfect predictor, from the known answer probabilities of a simulated survey's test galaxies.

    Returns
    -------
    dict
        ``loss`` [nats per galaxy, summed over questions] and ``questions``, name to nats per galaxy that is asked;
        comparable with the metrics of a pretraining run.

    Raises
    ------
    UserError
        If the galaxies are real, so that the truth is unknown.
    """
    survey = open_survey(folder)
    schema, test = load_schema(survey.attrs["schema"]), np.flatnonzero(survey.split.values == "test")
    truth = open_truth(folder)[[f"{column}_probability" for column in schema.label_cols]].values[test]
    totals = schema.question_totals(survey.votes.values[test])
    mean = irreducible_loss(truth, totals, schema)
    asked = dict(zip((q.name for q in schema.questions), (totals > 0).mean(0), strict=True))
    loss = mean.pop("total")
    return {"loss": loss, "questions": {name: mean[name] / share for name, share in asked.items() if share > 0}}


MAX_ROUNDS = 500


def dirichlet_fit(counts: np.ndarray, *, tolerance: float = 1e-6) -> np.ndarray:
    """Maximum-likelihood Dirichlet of the vote fractions behind counts (Minka 2000, fixed-point iteration).

    ``counts`` (galaxies, answers), galaxies without votes count nothing. Returns concentrations (answers,).
    """
    counts = counts[counts.sum(axis=1) > 0].astype(float)
    total = counts.sum(axis=1)
    alpha: np.ndarray = np.maximum(counts.sum(axis=0) / total.sum(), 1e-3) * counts.shape[1]
    for _ in range(MAX_ROUNDS):
        rise = np.mean(psi(counts + alpha) - psi(alpha), axis=0) / np.mean(psi(total + alpha.sum()) - psi(alpha.sum()))
        new: np.ndarray = np.clip(alpha * rise, 1e-4, 1e4)
        if np.max(np.abs(np.log(new / alpha))) < tolerance:
            return new
        alpha = new
    return alpha


def vote_floor(counts: npt.ArrayLike, *, draws: int = 16, seed: int = 0) -> tuple[float, float]:
    """Expected multinomial loss of a predictor that knows each galaxy's true vote probabilities.

    The true probabilities are drawn from their posterior given the votes, with a Dirichlet prior fitted to all
    galaxies; votes redrawn from them give the loss. No network can do better on average, so an irreducible loss E
    well above this floor is the encoder's, not the volunteers'.

    Parameters
    ----------
    counts : array (galaxies, answers)
        Votes of one question; a galaxy that was never asked has zeros.
    draws : int
        Posterior draws for each galaxy.
    seed : int

    Returns
    -------
    floor, stderr : float
        Mean over galaxies asked of -ln P(votes), in nats, and its standard error.

    Raises
    ------
    UserError
        If counts are negative or not whole, or no galaxy has a vote.
    """
    votes = np.asarray(counts)
    if votes.ndim != 2 or np.any(votes < 0) or np.any(votes != np.round(votes)):
        raise UserError("counts must be whole, non-negative votes with the shape (galaxies, answers).")
    votes = votes[votes.sum(axis=1) > 0].astype(int)
    if not len(votes):
        raise UserError("No galaxy has a vote for this question: there is no floor to compute.")
    rng = np.random.default_rng(seed)
    posterior = votes + dirichlet_fit(votes)
    gamma = rng.standard_gamma(np.broadcast_to(posterior, (draws, *votes.shape)))
    probability = np.maximum(gamma / gamma.sum(axis=-1, keepdims=True), 1e-300)
    redrawn = rng.multinomial(
        np.broadcast_to(votes.sum(axis=1), (draws, len(votes))), probability / probability.sum(axis=-1, keepdims=True)
    )
    log_choose = gammaln(redrawn.sum(axis=-1) + 1) - gammaln(redrawn + 1).sum(axis=-1)
    each = -(log_choose + np.sum(redrawn * np.log(probability), axis=-1)).mean(axis=0)
    return float(each.mean()), float(each.std(ddof=1) / np.sqrt(len(each))) if len(each) > 1 else float("nan")
