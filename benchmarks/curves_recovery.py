"""Recovery of known laws from designs like ours: bias, coverage of every kind of interval, failures.

    python benchmarks/curves_recovery.py [--designs 500] [--seed 0]

Each design draws the number of sizes (5 to 9), their span (1.5 to 3.5 decades), the seeds (1 to 5), the noise of a
run (0.3 to 5 % of the loss) and the true law (a tenth of them with E = 0), then fits it as chapter 04 does.
"""

import argparse
import time

import numpy as np
import xarray as xr

from gzlib.fitting import fit_curves, forecast, predict
from gzlib.fitting.bootstrap import KINDS

X_REF = 1e4
LEAD = 4.0


def draw_design(rng):
    sizes = np.geomspace(1, 10 ** rng.uniform(1.5, 3.5), rng.integers(5, 10)) * 300
    truth = {
        "E": 0.0 if rng.random() < 0.1 else rng.uniform(0.05, 0.5),
        "A": rng.uniform(0.1, 0.5),
        "alpha": rng.uniform(0.15, 0.7),
    }
    noise = np.exp(rng.uniform(np.log(0.003), np.log(0.05)))
    mean = law(sizes, truth)
    loss = mean[:, None] * np.exp(noise * rng.standard_normal((len(sizes), rng.integers(1, 6))))
    return truth, noise, xr.DataArray(loss, dims=("n_train", "seed"), coords={"n_train": sizes})


def law(x, truth):
    return truth["E"] + truth["A"] * (x / X_REF) ** -truth["alpha"]


def run(designs, seed):
    rng = np.random.default_rng(seed)
    hits, errors, verdicts, failed = {}, {}, {}, 0
    for number in range(designs):
        truth, noise, loss = draw_design(rng)
        x_new = float(loss.n_train.max()) * LEAD
        fits = {kind: fit_curves(loss, x_ref=X_REF, draws=400, kind=kind, seed=number) for kind in KINDS}
        fit = fits["parametric"]
        verdict = str(fit["verdict"].item())
        verdicts[verdict] = verdicts.get(verdict, 0) + 1
        if not bool(fit["success"]):
            failed += 1
            continue
        group = verdict
        for name, true in truth.items():
            errors.setdefault((group, name), []).append(float(fit[name]) - true)
            stderr = float(fit[f"{name}_stderr"])
            note(hits, group, name, "covariance", abs(float(fit[name]) - true) <= 1.96 * stderr, np.isfinite(stderr))
            low, high = float(fit[f"{name}_low"]), float(fit[f"{name}_high"])
            note(hits, group, name, "profile", low <= true <= high, np.isfinite(low))
            for kind, other in fits.items():
                low, high = other["draw_values"].sel(parameter=name).quantile([0.025, 0.975]).values
                note(hits, group, name, f"bootstrap {kind}", low <= true <= high, np.isfinite(low))
        note(hits, group, "E", "one-sided limit", truth["E"] <= float(fit["E_upper"]), np.isfinite(fit["E_upper"]))
        goal = law(x_new, truth)
        new_run = goal * np.exp(noise * rng.standard_normal())
        for kind, value in (("mean", goal), ("new_run", new_run)):
            band = predict(fit, x_new, kind=kind)
            note(
                hits,
                group,
                f"loss at {LEAD:g}x",
                f"band {kind}",
                float(band["lower"][0]) <= value <= float(band["upper"][0]),
                True,
            )
            band = forecast(loss, x_new, kind=kind)
            note(
                hits,
                group,
                f"loss at {LEAD:g}x",
                f"forecast {kind}",
                float(band["lower"][0]) <= value <= float(band["upper"][0]),
                True,
            )
    return hits, errors, verdicts, failed


def note(hits, group, name, kind, inside, known):
    for key in (group, "all fitted"):
        entry = hits.setdefault((key, name, kind), [0, 0, 0])
        entry[0 if known else 2] += inside if known else 1
        entry[1] += known


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--designs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.perf_counter()
    hits, errors, verdicts, failed = run(options.designs, options.seed)
    print(f"{options.designs} designs, {failed} refused or failed, {time.perf_counter() - began:.0f} s")
    for verdict, count in sorted(verdicts.items()):
        print(f"  {verdict}: {count}")
    print(f"\n{'verdict':18} {'parameter':10} {'median error':>13} {'rms error':>10}")
    for (group, name), values in sorted(errors.items()):
        print(f"{group:18} {name:10} {np.median(values):13.4f} {np.sqrt(np.mean(np.square(values))):10.4f}")
    print(f"\n{'verdict':18} {'quantity':12} {'95 % interval':22} {'coverage':>8} {'cases':>6} {'none':>5}")
    for (group, name, kind), (inside, known, unknown) in sorted(hits.items()):
        print(f"{group:18} {name:12} {kind:22} {inside / max(known, 1):8.3f} {known:6d} {unknown:5d}")


if __name__ == "__main__":
    main()
