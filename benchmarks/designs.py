"""Do the bands of few runs keep their promise? Made-up pilots with known truth, design by design.

    python -m gzlib bench designs [--store]        an hour of one core; what is done is kept and resumed
    python benchmarks/designs.py --truths 48       fewer truths, for a look

Designs: 3, 4, 5, 6 or 8 sizes, 1 or 3 seeds, one curve alone or twelve of a study together, noise of 1, 2 or 5 % and
one of three laws (power law with an offset, with a break, logarithm): 180. Each is drawn ``TRUTHS`` times with the seed
``SEED`` and forecast at 2, 4 and 8 times its largest size. Counted are the 95 % bands of ``forecast`` that hold the
true mean, those that are finite, and their interval score (width, plus 40 times what is missed) in ln(loss) beside that
of an oracle: the least-squares fit of the true law, with the noise known, and the delta method. The oracle is not
defined where there are fewer sizes than parameters. Its centre is drawn with its own error about the truth, as good as
refitting where the delta method holds.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import xarray as xr
from harness import row
from scipy.stats import norm

from gzlib import paths
from gzlib.files import replace_file
from gzlib.fitting import forecast

SIZES = (3, 4, 5, 6, 8)
SEEDS = (1, 3)
LAWS = ("offset", "broken", "logarithm")
NOISES = (0.01, 0.02, 0.05)
LEADS = np.array([2.0, 4.0, 8.0])
MANY = 12  # curves of a study
TRUTHS, SEED, LEVEL = 400, 12, 0.95
RANGE = (0.93, 0.98)
WIDTH = 0.3  # of a break, in ln x
OPEN = np.log(1e3)  # a band wider than a factor of a thousand counts as open
PART = 24  # truths of a design that are forecast at a time; two studies
CHECKPOINT = paths.ROOT / "build" / "designs.json"  # parts of a run that is not finished; remove after a change


def draw_truth(law, sizes, rng):
    """One truth: its sizes, and the law as a function of x and parameters, with the true ones."""
    x = rng.uniform(1.8, 3.0) ** np.arange(sizes)
    end = x[-1]
    if law == "offset":
        share, alpha = rng.uniform(0.0, 0.8), rng.uniform(0.2, 0.8)  # the floor's part of the last loss, the exponent
        return x, lambda z, e, a, alpha: e + a * (z / end) ** -alpha, (share, 1 - share, alpha)
    if law == "logarithm":
        return x, lambda z, a, fall: a - fall * np.log(z / end), (1.0, rng.uniform(0.05, 0.3))

    def broken(z, a, before, change, at):
        bends = [WIDTH * np.logaddexp(0, (np.log(v / end) - at) / WIDTH) for v in (z, end)]
        return a * (z / end) ** -before * np.exp(-change * (bends[0] - bends[1]))

    at = -np.log(end) * rng.uniform(0.25, 0.75)
    return x, broken, (1.0, rng.uniform(0.05, 0.3), rng.uniform(0.1, 0.4), at)


def oracle_half_width(law, parameters, x, new, sd):
    """Half-width of the oracle's band in ln(loss), and the standard error of its centre; NaN if it is not defined."""
    if len(x) < len(parameters):
        return np.full(len(new), np.nan)
    inner, outer = ([_slope(law, parameters, z, j) for j in range(len(parameters))] for z in (x, new))
    inner, outer = np.stack(inner, axis=1) / sd, np.stack(outer, axis=1)
    covariance = np.linalg.pinv(inner.T @ inner)
    return np.sqrt(np.einsum("np,pq,nq->n", outer, covariance, outer))


def _slope(law, parameters, z, j, step=1e-5):
    moved = [list(parameters), list(parameters)]
    moved[0][j] += step
    moved[1][j] -= step
    return (np.log(law(z, *moved[0])) - np.log(law(z, *moved[1]))) / (2 * step)


def interval_score(lower, upper, truth, level=LEVEL):
    """Width of a band plus what it misses the truth by, 2 / (1 - level) times."""
    missed = np.maximum(lower - truth, 0) + np.maximum(truth - upper, 0)
    return upper - lower + 2 / (1 - level) * missed


def draw_part(design, part, seed=SEED):
    """Truths number ``part`` of a design, array by array: the pilot (curve, n_train, seed), the true curves as
    (function, law, parameters, scale), and the generator of random numbers."""
    sizes, seeds, many, noise, law = design
    rng = np.random.default_rng([seed, SIZES.index(sizes), seeds, many, int(1000 * noise), LAWS.index(law), part])
    for _ in range(PART // (MANY if many else 1)):
        truths = [draw_truth(law, sizes, rng) for _ in range(MANY if many else 1)]
        x = truths[0][0]  # a study shares its sizes
        curves = []
        for own, function, parameters in truths:
            scale = own[-1] / x[-1]  # drawn on sizes of their own; the law is in units of the last
            curves.append((lambda z, f=function, p=parameters, k=scale: f(z * k, *p), function, parameters, scale))
        mean = np.stack([truth(x) for truth, *_ in curves])
        loss = mean[..., None] * np.exp(noise * rng.standard_normal((*mean.shape, seeds)))
        yield xr.DataArray(loss, dims=("curve", "n_train", "seed"), coords={"n_train": x}, name="loss"), curves, rng


def run_part(design, part):
    """Truths number ``part`` of a design: arrays (truths, leads) of hits, finite bands, scores, the oracle's scores."""
    _, seeds, _, noise, _ = design
    found = []
    for array, curves, rng in draw_part(design, part):
        x = array.n_train.values
        new = x[-1] * LEADS
        band = forecast(array, new, level=LEVEL)
        lower, upper = np.log(band["lower"].values), np.log(band["upper"].values)
        for k, (truth, function, parameters, scale) in enumerate(curves):
            target = np.log(truth(new))
            error = oracle_half_width(function, parameters, x * scale, new * scale, noise / np.sqrt(seeds))
            off, half = error * rng.standard_normal(), norm.ppf(0.5 * (1 + LEVEL)) * error
            found.append(
                [
                    (lower[k] <= target) & (target <= upper[k]),
                    np.isfinite(upper[k] - lower[k]) & (upper[k] - lower[k] < OPEN),
                    interval_score(lower[k], upper[k], target),
                    interval_score(target + off - half, target + off + half, target),
                ]
            )
    return np.array(found, float).swapaxes(0, 1)


def designs():
    """All designs, (sizes, seeds, many, noise, law)."""
    return [
        (sizes, seeds, many, noise, law)
        for sizes in SIZES
        for seeds in SEEDS
        for many in (False, True)
        for noise in NOISES
        for law in LAWS
    ]


def measure(truths=TRUTHS, keep=CHECKPOINT):
    """Sums of hits, finite bands and scores of every design and lead; resumed from ``keep``."""
    done = json.loads(keep.read_text()) if keep is not None and keep.exists() else {}
    for part in range(-(-truths // PART)):  # all designs a little, then more: a run stopped early is a smaller one
        for design in designs():
            own = done.setdefault(json.dumps(design), [])
            if len(own) <= part:
                hits, finite, score, oracle = run_part(design, part)
                values = {"n": len(hits), "hits": hits.sum(axis=0).tolist(), "finite": finite.sum(axis=0).tolist()}
                ratio = [score.mean(axis=0).tolist(), oracle.mean(axis=0).tolist()]
                own.append(values | {"scores": ratio})
        if keep is not None:
            keep.parent.mkdir(parents=True, exist_ok=True)
            replace_file(keep, json.dumps(done) + "\n")
    return done


def table(done):
    """One row a design and lead: the design, truths, coverage, share finite, ratio of the scores to the oracle's."""
    out = []
    for key, parts in done.items():
        sizes, seeds, many, noise, law = json.loads(key)
        count = sum(part["n"] for part in parts)
        scores = np.array([part["scores"] for part in parts])  # (parts, 2, leads)
        for j, lead in enumerate(LEADS):
            ours, oracle = (float(np.mean(scores[:, k, j])) for k in range(2))
            out.append(
                {
                    "sizes": sizes,
                    "seeds": seeds,
                    "curves": MANY if many else 1,
                    "noise": noise,
                    "law": law,
                    "lead": float(lead),
                    "truths": count,
                    "coverage": sum(part["hits"][j] for part in parts) / count,
                    "finite": sum(part["finite"][j] for part in parts) / count,
                    "score": ours,
                    "ratio": ours / oracle if np.isfinite(oracle) else None,
                }
            )
    return out


def rows(truths=TRUTHS, keep=CHECKPOINT):
    """The figures of the benchmark; the first row holds the whole table, one cell a design and lead."""
    cells = table(measure(truths, keep))
    keys = ("sizes", "seeds", "curves", "noise", "law")
    pooled = {}
    for cell in cells:
        pooled.setdefault(tuple(cell[key] for key in keys), []).append(cell)
    covered = np.array([np.mean([cell["coverage"] for cell in own]) for own in pooled.values()])
    inside = (covered >= RANGE[0]) & (covered <= RANGE[1])
    long = [cell["finite"] for cell in cells if cell["sizes"] >= 5]
    finite = float(np.mean(np.array(long) >= 0.9))
    ratios = np.array([cell["ratio"] for cell in cells if cell["ratio"] is not None])
    single = np.array([cell["coverage"] for cell in cells])
    each = (single >= RANGE[0]) & (single <= RANGE[1])
    count, number = cells[0]["truths"], len(covered)
    goal = "{} to {}".format(*RANGE)
    out = [
        row(
            "designs.inside",
            float(inside.sum()),
            f"of {number}",
            goal=f"{number}",
            ok=bool(inside.all()),
            detail=f"designs whose 95 % bands hold {goal} over 2, 4 and 8 x; {count} truths each",
            cells=cells,
        ),
        row("designs.below", float(np.sum(covered < RANGE[0])), f"of {number}", detail="designs that hold fewer"),
        row("designs.cells", float(each.sum()), f"of {len(each)}", detail="the same, each lead alone"),
        row("designs.coverage", float(single.mean()), "", detail="mean over cells"),
        row("designs.worst", float(covered.min()), "", detail="the design that holds fewest"),
        row("designs.finite", finite, "", goal=">= 0.9", ok=finite >= 0.9, detail="cells of 5 sizes and more"),
        row(
            "designs.score",
            float(np.median(ratios)),
            "x",
            goal="<= 1.5",
            ok=bool(np.median(ratios) <= 1.5),
            detail="median over cells of the mean interval score over the oracle's",
        ),
    ]
    for name, values in (("law", LAWS), ("sizes", SIZES), ("lead", LEADS), ("noise", NOISES), ("curves", (1, MANY))):
        for value in values:
            own = [cell for cell in cells if cell[name] == value]
            ratio = [cell["ratio"] for cell in own if cell["ratio"] is not None]
            share = np.mean([RANGE[0] <= cell["coverage"] <= RANGE[1] for cell in own])
            text = (
                f"{share:.0%} of the cells inside; interval score {np.median(ratio):.2f} x the oracle's"
                if ratio
                else ""
            )
            cover = float(np.mean([cell["coverage"] for cell in own]))
            out.append(row(f"designs.{name}.{value}.coverage", cover, "", detail=text))
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--truths", type=int, default=48)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    for one in rows(options.truths, options.keep):
        print(f"{one['name']:32} {one['value']:8.3f} {one['unit']:8} {one['detail']}")
