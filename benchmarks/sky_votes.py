"""Calibrate the simulated volunteers on half of the real votes, and report how well they match the other half.

    python benchmarks/sky_votes.py [--calibrate] [--only bar-gz2] [--galaxies 6000]

Needs the real counts of the project's data folder (``../shared/data/votes``). A question's fractions are compared over
galaxies with at least ``LEAST`` votes on it; the Wasserstein distance is taken for each answer, and the worst counts.
"""

import argparse
import json
import os
import sys

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.stats import wasserstein_distance

from gzlib import paths
from gzlib.data.schema import load_schema
from gzlib.data.sky.galaxies import look
from gzlib.data.volunteers import cast_votes, kind_probabilities, voting

VOTES = paths.ROOT.parent / "shared" / "data" / "votes"
FILES = {"gz2": "gz2_stripe82_counts.parquet", "dr5": "gz_decals_dr5_first_question.parquet"}
LEAST = 5
SEED = 82


def real_counts(campaign: str) -> tuple[np.ndarray, np.ndarray]:
    """Counts of the calibration half and of the reported half (rows by parity after a seeded shuffle)."""
    table = pd.read_parquet(VOTES / FILES[campaign])
    columns = load_schema(campaign).label_cols
    counts = np.stack([table[c].to_numpy() if c in table else np.zeros(len(table), int) for c in columns], 1)
    order = np.random.default_rng(SEED).permutation(len(counts))
    return counts[order[::2]], counts[order[1::2]]


def crowd_like(real: np.ndarray, n: int) -> np.ndarray:
    """As many volunteers a galaxy as in the real file, so that sampling noise is alike."""
    totals = real[:, :3].sum(1)
    return np.minimum(np.sort(totals)[np.random.default_rng(SEED).integers(0, len(totals), n)], voting.MOST_VOLUNTEERS)


def fractions(counts: np.ndarray) -> np.ndarray:
    total = counts.sum(1)
    return counts[total >= LEAST] / total[total >= LEAST, None]


def distance(simulated: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    """Worst difference of mean fractions and worst 1-Wasserstein distance over a question's answers."""
    if len(simulated) < 10 or len(real) < 10:
        return 1.0, 1.0
    gaps = np.abs(simulated.mean(0) - real.mean(0))
    return float(gaps.max()), max(wasserstein_distance(s, r) for s, r in zip(simulated.T, real.T))


def calibrate(galaxies: int, only: str | None) -> dict:
    """Offsets and gain of each question, parents before children, by Nelder-Mead on the calibration half.

    With ``only``, that question starts from its present constants and the others keep theirs.
    """
    if only is None:
        voting.constants().clear()
    for campaign in ("dr5", "gz2"):
        schema = load_schema(campaign)
        real, _ = real_counts(campaign)
        draws, seen = look(campaign, np.arange(galaxies), seed=SEED)
        sky = (schema, seen, crowd_like(real, galaxies), draws)
        for position in voting.questions_in_order(schema):
            question = schema.questions[position]
            target = fractions(real[:, question.columns])
            if len(target) >= 50 and only in (None, question.name):
                found = fit(question, target, sky)
                print(f"{question.name:28s} cost {found:.4f} {voting.constants()[question.name]}", file=sys.stderr)
    return dict(voting.constants())


def fit(question, target: np.ndarray, sky: tuple) -> float:
    """Put the best constants of one question in place, and give their cost."""
    schema, seen, crowd, draws = sky
    names = [a.lstrip("_") for a in question.answers]

    def put(x):
        offset = dict(zip(names, [0.0, *np.round(x[1:], 3).tolist()], strict=True))
        voting.constants()[question.name] = {"offset": offset, "gain": round(float(np.exp(x[0])), 4)}

    def cost(x):
        put(x)
        votes = cast_votes(schema, kind_probabilities(schema, seen), crowd, draws)
        simulated = fractions(votes[:, question.columns])
        if len(simulated) < 10:
            return 10.0
        pairs = list(zip(simulated.T, target.T, strict=True))
        return sum(wasserstein_distance(s, r) + 0.5 * abs(s.mean() - r.mean()) for s, r in pairs) + 0.002 * x[0] ** 2

    known = voting.constants().get(question.name)
    starts = [[gain, *np.zeros(len(names) - 1)] for gain in (-0.7, 0.0, 0.7)]
    if known:
        starts = [[np.log(known["gain"]), *(known["offset"][a] for a in names[1:])]]
    best = None
    for start in np.array(starts):
        simplex = np.vstack([start, start + np.diag([0.5, *np.full(len(names) - 1, 0.4 if known else 1.2)])])
        options = {"maxfev": 40 + 25 * len(names), "initial_simplex": simplex}
        found = minimize(cost, start, method="Nelder-Mead", options=options)
        best = found if best is None or found.fun < best.fun else best
    put(best.x)
    return best.fun


def report(galaxies: int) -> list[dict]:
    """One record for each question with real votes, on the half that calibration never saw."""
    out = []
    for campaign in ("gz2", "dr5"):
        schema = load_schema(campaign)
        _, real = real_counts(campaign)
        draws, seen = look(campaign, np.arange(10**6, 10**6 + galaxies), seed=SEED + 1)
        votes = cast_votes(schema, kind_probabilities(schema, seen), crowd_like(real, galaxies), draws)
        for question in schema.questions:
            r, s = real[:, question.columns], votes[:, question.columns]
            if r.sum() == 0:
                continue
            gap, wasserstein = distance(fractions(s), fractions(r))
            entropy = [float(-(f * np.log(np.maximum(f, 1e-12))).sum(1).mean()) for f in (fractions(s), fractions(r))]
            out.append(
                {
                    "name": f"votes.{question.name}",
                    "value": round(wasserstein, 4),
                    "unit": "wasserstein",
                    "goal": 0.08,
                    "ok": bool(wasserstein <= 0.08 and gap <= 0.05),
                    "detail": {
                        "mean_gap": round(gap, 4),
                        "simulated": np.round(fractions(s).mean(0), 3).tolist(),
                        "real": np.round(fractions(r).mean(0), 3).tolist(),
                        "entropy": np.round(entropy, 3).tolist(),
                        "votes_reaching": np.round([s.sum(1).mean(), r.sum(1).mean()], 2).tolist(),
                    },
                }
            )
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--only", help="calibrate this question alone")
    parser.add_argument("--galaxies", type=int, default=6000)
    options = parser.parse_args()
    if not all((VOTES / file).is_file() for file in FILES.values()):
        sys.exit(f"The real votes are not in {VOTES}; nothing to compare with.")
    if options.calibrate:
        fitted = {
            "source": "benchmarks/sky_votes.py --calibrate, on half of GZ2 Stripe 82 (raw counts) and of GZ DECaLS"
            " DR5 question 1",
            "questions": calibrate(options.galaxies, options.only),
        }
        temporary = voting.CONSTANTS.with_suffix(".tmp")
        temporary.write_text(json.dumps(fitted, indent=1) + "\n")
        os.replace(temporary, voting.CONSTANTS)
    for record in report(options.galaxies):
        print(json.dumps(record))
