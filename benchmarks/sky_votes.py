"""Calibrate the simulated volunteers on half of the real votes, and report how well they match the other half.

    python benchmarks/sky_votes.py [--half calibration|report] [--calibrate] [--write] [--galaxies 12000]

Needs the real counts of the project's data folder (``../shared/data/votes``). Which half a galaxy is in is a hash of
its id. ``--calibrate`` finds the constants of every question from scratch, on the calibration half alone, and writes
``gzlib/sky/calibration/volunteers.json``; nothing is set by hand. A question's fractions are compared over galaxies
with at least ``LEAST`` votes on it; the Wasserstein distance is taken for each answer, and the worst counts.
``--write`` keeps the report in ``data/benchmarks/sky_votes.json``, from which chapter 01 makes its table.
"""

import argparse
import hashlib
import json
import sys
from functools import partial

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.stats import wasserstein_distance

from gzlib import paths
from gzlib.data.schema import load_schema
from gzlib.files import replace_file
from gzlib.sky import volunteers as voting
from gzlib.sky.galaxies import look
from gzlib.sky.volunteers import cast_votes, kind_probabilities

VOTES = paths.ROOT.parent / "shared" / "data" / "votes"
FILES = {"gz2": "gz2_stripe82_counts.parquet", "dr5": "gz_decals_dr5_first_question.parquet"}
REPORT = paths.ROOT / "data" / "benchmarks" / "sky_votes.json"
LEAST = 5
SEED = 82
# A new salt gives new halves: it was changed once, when the half reported on before had been looked at.
SALT = "votes, second split"
GAINS = (-1.2, -0.6, 0.0, 0.6, 1.2)  # log gains from which the search starts


def real_counts(campaign: str, half: str) -> np.ndarray:
    """(rows, answers) counts of the ``calibration`` or the ``report`` half."""
    table = pd.read_parquet(VOTES / FILES[campaign])
    digests = [hashlib.blake2b(f"{SALT}/{i}".encode(), digest_size=1).digest()[0] for i in table["id_str"]]
    table = table[(np.array(digests) % 2 == 0) == (half == "calibration")]
    columns = load_schema(campaign).label_cols
    return np.stack([table[c].to_numpy() if c in table else np.zeros(len(table), int) for c in columns], 1)


def crowd_like(real: np.ndarray, n: int) -> np.ndarray:
    """As many volunteers a galaxy as in the real file, so that sampling noise is alike."""
    totals = real[:, :3].sum(1)
    return np.minimum(np.sort(totals)[np.random.default_rng(SEED).integers(0, len(totals), n)], voting.MOST_VOLUNTEERS)


def fractions(counts: np.ndarray) -> np.ndarray:
    total = counts.sum(1)
    return counts[total >= LEAST] / total[total >= LEAST, None]


def calibrate(galaxies: int) -> dict:
    """Offsets and gain of each question, parents before children, by Nelder-Mead on the calibration half."""
    voting.constants().clear()
    for campaign in ("dr5", "gz2"):
        schema, real = load_schema(campaign), real_counts(campaign, "calibration")
        draws, seen = look(campaign, np.arange(galaxies), seed=SEED)
        present, kind = voting.volunteers_of(crowd_like(real, galaxies), draws)
        gave = {}
        for position in voting.questions_in_order(schema):
            question = schema.questions[position]
            target = fractions(real[:, question.columns])
            parents = voting.asked_after(question)
            asked = np.logical_or.reduce([gave[column] for column in parents]) if parents else present
            if len(target) >= 50:
                found = fit(question, target, partial(tally, question, asked, seen, kind, draws))
                print(f"{question.name:28s} cost {found:.4f} {voting.constants()[question.name]}", file=sys.stderr)
            answer = answers(question, seen, kind, draws)
            gave |= {column: asked & (answer == place) for place, column in enumerate(question.label_cols)}
    return dict(voting.constants())


def answers(question, seen: dict, kind: np.ndarray, draws) -> np.ndarray:
    """(n, volunteers) position of each volunteer's answer with the question's present constants."""
    return voting.ask(question, voting.question_probabilities(question, seen), kind, draws)


def tally(question, asked: np.ndarray, seen: dict, kind: np.ndarray, draws) -> np.ndarray:
    """(n, answers) counts of the volunteers who were asked."""
    answer = answers(question, seen, kind, draws)
    return np.stack([(asked & (answer == place)).sum(1) for place in range(len(question.answers))], 1)


def fit(question, target: np.ndarray, counts) -> float:
    """Put the best constants of one question in place, and give their cost.

    The cost is the Wasserstein distance between simulated and real fractions, summed over answers, plus half the
    difference of their means; a weak pull keeps the gain near 1.
    """
    names = [a.lstrip("_") for a in question.answers]

    def put(x):
        offset = dict(zip(names, [0.0, *np.round(x[1:], 3).tolist()], strict=True))
        voting.constants()[question.name] = {"offset": offset, "gain": round(float(np.exp(x[0])), 4)}

    def cost(x):
        put(x)
        simulated = fractions(counts())
        if len(simulated) < 10:
            return 10.0
        pairs = list(zip(simulated.T, target.T, strict=True))
        return sum(wasserstein_distance(s, r) + 0.5 * abs(s.mean() - r.mean()) for s, r in pairs) + 0.002 * x[0] ** 2

    starts = [matched(np.array([gain, *np.zeros(len(names) - 1)]), target, counts, put) for gain in GAINS]
    steps = np.vstack([np.zeros(len(names)), np.diag([0.25, *np.full(len(names) - 1, 0.4)])])
    found = []
    for start in sorted(starts, key=cost)[:2]:
        options = {"maxfev": 30 + 25 * len(names), "initial_simplex": start + steps}
        found.append(minimize(cost, start, method="Nelder-Mead", options=options))
    best = min(found, key=lambda f: f.fun)
    put(best.x)
    return best.fun


def matched(x: np.ndarray, target: np.ndarray, counts, put) -> np.ndarray:
    """Constants with the gain of ``x`` and offsets that bring the mean fractions to the target's."""
    for _ in range(8):
        put(x)
        simulated = fractions(counts())
        if len(simulated):
            step = np.log(np.maximum(target.mean(0), 1e-3) / np.maximum(simulated.mean(0), 1e-3))
            x = x + np.array([0.0, *(step[1:] - step[0])])
    return x


def report(galaxies: int, half: str) -> list[dict]:
    """One record for each question with real votes; the galaxies are others than those of the calibration."""
    out = []
    for campaign in ("gz2", "dr5"):
        schema, real = load_schema(campaign), real_counts(campaign, half)
        draws, seen = look(campaign, np.arange(10**6, 10**6 + galaxies), seed=SEED + 1)
        votes = cast_votes(schema, kind_probabilities(schema, seen), crowd_like(real, galaxies), draws)
        pairs = [(question, votes[:, question.columns], real[:, question.columns]) for question in schema.questions]
        out += [compare(question, s, r) for question, s, r in pairs if r.any()]
    return out


def compare(question, simulated: np.ndarray, real: np.ndarray) -> dict:
    """Simulated against real counts of one question."""
    s, r = fractions(simulated), fractions(real)
    gap = float(np.abs(s.mean(0) - r.mean(0)).max())
    distance = max(wasserstein_distance(a, b) for a, b in zip(s.T, r.T, strict=True))
    entropy = [-(f * np.log(np.maximum(f, 1e-12))).sum(1).mean() for f in (s, r)]
    detail = {
        "answers": [a.lstrip("_") for a in question.answers],
        "mean_gap": round(gap, 4),
        "simulated": np.round(s.mean(0), 3).tolist(),
        "real": np.round(r.mean(0), 3).tolist(),
        "entropy": np.round(entropy, 3).tolist(),
        "votes_reaching": np.round([simulated.sum(1).mean(), real.sum(1).mean()], 2).tolist(),
        "galaxies_compared": [len(s), len(r)],
    }
    record = {"name": f"votes.{question.name}", "value": round(distance, 4), "unit": "wasserstein", "goal": 0.08}
    return record | {"ok": bool(distance <= 0.08 and gap <= 0.05), "detail": detail}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--half", choices=("calibration", "report"), default="report", help="real rows to compare with")
    parser.add_argument("--calibrate", action="store_true", help="find all constants again on the calibration half")
    parser.add_argument("--write", action="store_true", help=f"keep the report in {REPORT.relative_to(paths.ROOT)}")
    parser.add_argument("--galaxies", type=int, default=12000)
    options = parser.parse_args()
    if not all((VOTES / file).is_file() for file in FILES.values()):
        sys.exit(f"The real votes are not in {VOTES}; nothing to compare with.")
    if options.calibrate:
        fitted = {
            "source": "benchmarks/sky_votes.py --calibrate, on half of GZ2 Stripe 82 (raw counts) and of GZ DECaLS"
            " DR5 question 1",
            "questions": calibrate(options.galaxies),
        }
        replace_file(voting.CONSTANTS, json.dumps(fitted, indent=1) + "\n")
    records = report(options.galaxies, options.half)
    for record in records:
        print(json.dumps(record))
    if options.write:
        replace_file(REPORT, json.dumps(records, indent=1) + "\n")
