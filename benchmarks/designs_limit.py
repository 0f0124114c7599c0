"""What is the best that a band of few runs can do? The designs benchmark for one that knows all but which law it is.

    python -m gzlib bench designs_limit [--store]      five minutes

The score of the ``designs`` benchmark is compared with an oracle that knows the law of each curve and the noise. The
band here knows the noise, the three laws and how their parameters were drawn, but not which law a curve follows: its
band holds 95 % of the posterior, from ``DRAWS`` of each law with the level integrated out. No band from the same data
scores less on average, if it is not told the law; so what it scores over the oracle is what not knowing the law costs.
Designs whose posterior rests on fewer than ``ENOUGH`` draws are left out.
"""

import numpy as np
from designs import LAWS, LEADS, NOISES, SEED, SEEDS, SIZES, WIDTH, draw_truth, interval_score, oracle_half_width
from harness import row
from scipy.special import ndtr, softmax
from scipy.stats import norm

TRUTHS = 24
DRAWS = {"offset": 12_000, "broken": 60_000, "logarithm": 1_500}
ENOUGH = 20
LEAST = {"offset": 3, "broken": 4, "logarithm": 3}  # sizes from which the oracle is defined
LEVEL = 0.95
KEPT = 400  # draws of a posterior that a band is made of


def draw_shapes(law, x, count, rng):
    """ln(loss) over its value at the last size of ``count`` laws drawn as ``draw_truth`` does, at sizes and leads."""
    z = np.log(np.concatenate([x, x[-1] * LEADS]) / x[-1])
    if law == "offset":
        share, alpha = rng.uniform(0.0, 0.8, (count, 1)), rng.uniform(0.2, 0.8, (count, 1))
        return np.log(share + (1 - share) * np.exp(-alpha * z))
    if law == "logarithm":
        return np.log(1 - rng.uniform(0.05, 0.3, (count, 1)) * z)
    before, change = (rng.uniform(*ends, (count, 1)) for ends in ((0.05, 0.3), (0.1, 0.4)))
    at = -np.log(x[-1]) * rng.uniform(0.25, 0.75, (count, 1))
    bends = [WIDTH * np.logaddexp(0, (v - at) / WIDTH) for v in (z, np.zeros(1))]
    return -before * z - change * (bends[0] - bends[1])


def band(log_y, shapes, prior, sd):
    """Ends of the band at the leads, (2, leads), and how many draws it rests on."""
    sizes = len(log_y)
    middle = log_y.mean() - shapes[:, :sizes].mean(axis=1)
    missed = log_y - shapes[:, :sizes] - middle[:, None]
    log_weight = prior - 0.5 * np.sum(missed**2, axis=1) / sd**2
    weight = softmax(log_weight)
    rests = 1 / np.sum(weight**2)
    best = np.searchsorted(np.cumsum(weight), (np.arange(KEPT) + 0.5) / KEPT)  # evenly through the posterior
    best = np.minimum(best, len(weight) - 1)
    mean, own = shapes[best, sizes:] + middle[best, None], sd / np.sqrt(sizes)
    ends = []
    for probability in (0.5 * (1 - LEVEL), 0.5 * (1 + LEVEL)):
        low, high = mean.min(axis=0) - 8 * own, mean.max(axis=0) + 8 * own
        for _ in range(40):
            at = 0.5 * (low + high)
            below = ndtr((at - mean) / own).mean(axis=0) < probability
            low, high = np.where(below, at, low), np.where(below, high, at)
        ends.append(high)
    return np.array(ends), rests


def run_design(sizes, seeds, noise, law):
    """Mean scores of the band and of the oracle (leads,), share of truths inside, and draws (median)."""
    rng = np.random.default_rng([SEED, 7, sizes, seeds, int(1000 * noise), LAWS.index(law)])
    sd, scores, oracles, inside, draws = noise / np.sqrt(seeds), [], [], [], []
    missed = norm.pdf(norm.ppf(0.5 * (1 + LEVEL))) - norm.ppf(0.5 * (1 + LEVEL)) * 0.5 * (1 - LEVEL)
    unit = 2 * norm.ppf(0.5 * (1 + LEVEL)) + 2 / (1 - LEVEL) * 2 * missed  # mean score of a normal's own band
    for _ in range(TRUTHS):
        x, function, parameters = draw_truth(law, sizes, rng)
        log_y = np.log(function(x, *parameters)) + sd * rng.standard_normal(sizes)
        truth = np.log(function(x[-1] * LEADS, *parameters))
        shapes = [draw_shapes(other, x, DRAWS[other], rng) for other in LAWS]
        prior = np.concatenate([np.full(len(own), -np.log(len(own))) for own in shapes])
        (low, high), rests = band(log_y, np.concatenate(shapes), prior, sd)
        scores.append(interval_score(low, high, truth))
        inside.append((low <= truth) & (truth <= high))
        oracles.append(unit * oracle_half_width(function, parameters, x, x[-1] * LEADS, sd))
        draws.append(rests)
    return np.mean(scores, axis=0), np.mean(oracles, axis=0), np.mean(inside), np.median(draws)


def rows():
    found = []
    for law in LAWS:
        for sizes in SIZES:
            for seeds in SEEDS:
                for noise in NOISES if sizes >= LEAST[law] else ():
                    score, oracle, inside, draws = run_design(sizes, seeds, noise, law)
                    if draws >= ENOUGH:
                        found.append((law, seeds, float(np.median(score / oracle)), inside))
    out = [row("designs_limit.coverage", float(np.mean([f[3] for f in found])), "", detail=f"{len(found)} designs")]
    for law in (*LAWS, "all"):
        own = [f for f in found if law in (f[0], "all")]
        detail = f"{len(own)} designs, {TRUTHS} truths each; median interval score over the oracle's"
        out.append(row(f"designs_limit.{law}.score", float(np.median([f[2] for f in own])), "x", detail=detail))
    return out


if __name__ == "__main__":
    for one in rows():
        print(f"{one['name']:32} {one['value']:8.3f} {one['unit']:8} {one['detail']}")
