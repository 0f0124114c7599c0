"""Do the planner's intervals keep their promise on pilots with known truth? The designs of ``designs.py``.

    python -m gzlib bench designs_labels [--store]        half an hour of one core; what is done is kept and resumed

The target is the true mean at 2, 4 and 8 times the largest size, so that many labels are needed. Counted are the 95 %
intervals of ``labels_needed`` that hold that number, those whose upper end lies within ``MAX_FACTOR`` times the largest
size, and how often the numbers of labels for stated risks miss it.
"""

import json

import numpy as np
from designs import LEADS, LEVEL, PART, RANGE, SEED, designs, draw_part
from harness import row

from gzlib import paths
from gzlib.files import replace_file
from gzlib.fitting.forecasting import read_pilots
from gzlib.fitting.planner import MAX_FACTOR, RISKS, find_arrival, find_descents

TRUTHS = 72
OWN_SEED = SEED + 2  # with SEED + 1 it was chosen how much laws are spread where runs are repeated
CHECKPOINT = paths.ROOT / "build" / "designs-labels.json"  # remove after a change
ENDS = (0.5 * (1 - LEVEL), 0.5 * (1 + LEVEL), *(1 - np.array(RISKS)))  # probabilities that so many are enough


def run_part(design, part):
    """Sums over the truths number ``part`` of a design, by lead: n, hits, finite upper ends, reachable, misses."""
    found = []
    for array, curves, _ in draw_part(design, part, OWN_SEED):
        x, pilots = array.n_train.values, read_pilots(array, x="n_train", replicate="seed").pilots
        for pilot, descent, (truth, *_) in zip(pilots, find_descents(pilots), curves, strict=True):
            needed, targets = np.log(x[-1] * LEADS), np.log(truth(x[-1] * LEADS))
            told = [find_arrival(pilot, descent, float(target), ENDS) for target in targets]
            low, high, *risks = np.nan_to_num([sizes for sizes, _ in told], nan=np.inf).T
            found.append(
                [
                    (low <= needed) & (needed <= high),
                    high - np.log(x[-1]) <= np.log(MAX_FACTOR),
                    [chance for _, chance in told],
                    *(risk < needed for risk in risks),
                ]
            )
    return {"n": len(found), "sums": np.array(found, float).sum(axis=0).tolist()}


def rows(truths=TRUTHS, keep=CHECKPOINT):
    """Coverage over designs, and misses at stated risks."""
    done = json.loads(keep.read_text()) if keep is not None and keep.exists() else {}
    for part in range(-(-truths // PART)):
        for design in designs():
            own = done.setdefault(json.dumps(design), [])
            if len(own) <= part:
                own.append(run_part(design, part))
        if keep is not None:
            keep.parent.mkdir(parents=True, exist_ok=True)
            replace_file(keep, json.dumps(done) + "\n")
    count = sum(part["n"] for part in next(iter(done.values())))
    share = np.array([np.sum([part["sums"] for part in parts], axis=0) / count for parts in done.values()])
    covered, finite = share[:, 0].mean(axis=1), share[:, 1]
    inside = (covered >= RANGE[0]) & (covered <= RANGE[1])
    long = np.array([json.loads(key)[0] >= 5 for key in done])
    goal, number = "{} to {}".format(*RANGE), len(covered)
    each = [[*json.loads(key), float(value)] for key, value in zip(done, covered, strict=True)]
    below = float(np.sum(covered < RANGE[0]))
    detail = f"designs whose 95 % intervals of labels hold {goal} over 2, 4 and 8 x; {count} truths each"
    out = [
        row("designs_labels.inside", float(inside.sum()), f"of {number}", goal=f"{number}", ok=bool(inside.all()),
            detail=detail, designs=each),
        row("designs_labels.below", below, f"of {number}", detail="designs that hold fewer"),
        row("designs_labels.coverage", float(covered.mean()), "", detail="mean over designs"),
        row("designs_labels.worst", float(covered.min()), "", detail="the design that holds fewest"),
        row("designs_labels.finite", float(np.mean(finite[long] >= 0.9)), "", goal=">= 0.9",
            ok=bool(np.mean(finite[long] >= 0.9) >= 0.9),
            detail="cells of 5 or more sizes in which 90 % of the intervals end within a thousand times the pilot"),
        row("designs_labels.reachable", float(share[:, 2].mean()), "", detail="mean stated chance; the truth is 1"),
    ]  # fmt: skip
    for risk, missed in zip(RISKS, share[:, 3:].mean(axis=(0, 2)), strict=True):
        detail = f"share of {count * number * len(LEADS):,} targets missed at a stated risk of {risk:g}"
        out.append(row(f"designs_labels.risk.{risk:g}", float(missed), "", detail=detail))
    return out
