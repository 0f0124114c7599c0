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
    and summed over questions for ``"total"``. A Dirichlet-multinomial whose concentrations lie in (1, 101) can't
    become a multinomial, so a network with that head stays somewhat above this floor.

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
    """
    probabilities, totals = np.asarray(probabilities, float), np.asarray(totals)
    if probabilities.shape != (len(totals), len(schema.label_cols)) or totals.shape[1:] != (len(schema.questions),):
        raise UserError(
            f"irreducible_loss needs {len(schema.label_cols)} answers and {len(schema.questions)} question totals for"
            f" each galaxy of schema '{schema.name}', but got shapes {probabilities.shape} and {totals.shape}."
        )
    out = {}
    for position, question in enumerate(schema.questions):
        out[question.name] = float(
            _entropy(probabilities[:, question.columns], totals[:, position]).sum() / max(len(totals), 1)
        )
    out["total"] = float(sum(out.values()))
    return out


def _entropy(p: np.ndarray, total: np.ndarray) -> np.ndarray:
    """(n,) entropy in nats of Multinomial(total, p)."""
    entropy = np.zeros(len(total))
    for count in np.unique(total[total > 0]):
        rows = total == count
        q = np.clip(np.nan_to_num(p[rows], nan=1.0), 1e-12, 1.0)
        k = np.arange(count + 1)
        log_choose = gammaln(count + 1) - gammaln(k + 1) - gammaln(count - k + 1)
        rest = np.log1p(-np.minimum(q, 1 - 1e-12))[..., None]
        chance = np.exp(log_choose + k * np.log(q)[..., None] + (count - k) * rest)
        entropy[rows] = -gammaln(count + 1) - count * (q * np.log(q)).sum(1) + (chance * gammaln(k + 1)).sum((1, 2))
    return entropy
