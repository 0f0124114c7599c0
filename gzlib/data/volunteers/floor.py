"""The irreducible loss: what a predictor that knows the true answer probabilities still pays."""

import numpy as np
from scipy.special import gammaln

from gzlib.data.schema import Schema
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
        return np.min([_dirichlet_loss(p, count, alpha) for alpha in tries], axis=0)

    return _by_question(best, probabilities, totals, schema)


def _by_question(loss, probabilities, totals, schema: Schema) -> dict[str, float]:
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
    return np.exp(log_choose + k * np.log(p)[..., None] + (count - k) * rest)


def _entropy(p: np.ndarray, count: int) -> np.ndarray:
    """(n,) entropy in nats of Multinomial(count, p)."""
    log_factorials = (_binomial(p, count) * gammaln(np.arange(count + 1) + 1)).sum((1, 2))
    return -gammaln(count + 1) - count * (p * np.log(p)).sum(1) + log_factorials


def _dirichlet_loss(p: np.ndarray, count: int, alpha: np.ndarray) -> np.ndarray:
    """(n,) expected Dirichlet-multinomial loss with concentrations ``alpha`` of votes from Multinomial(count, p)."""
    k = np.arange(count + 1)
    total = alpha.sum(1)
    each = gammaln(k + 1) - gammaln(k + alpha[..., None]) + gammaln(alpha)[..., None]
    return -gammaln(count + 1) - gammaln(total) + gammaln(total + count) + (_binomial(p, count) * each).sum((1, 2))
