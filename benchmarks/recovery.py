"""Recovery of known laws from designs like ours: bias, coverage of every kind of interval, failures.

    python -m gzlib bench recovery [--store]        about a second a design

A design has 6 to 9 sizes, doubling from 250 on, 2 to 4 seeds, run noise of 0.3 to 5 % of the loss and a true law
E + A x^-alpha, a tenth of them with E = 0. It is fitted and forecast as chapters 04 and 05 do, alone. The forecast at
four times the largest size is judged against the true mean and against one new run.
"""

import numpy as np
import xarray as xr
from harness import row

from gzlib.fitting.fits import fit_curves
from gzlib.fitting.forecasting import forecast
from gzlib.fitting.intervals import BOOTSTRAPS, predict

DESIGNS = 500
X_REF = 2000.0
LEAD = 4.0
LEVEL = 0.95
DRAWS = 400


def draw_design(rng):
    """True parameters, run noise in ln(loss), and the losses (n_train, seed) of one design."""
    sizes = 250.0 * 2 ** np.arange(rng.integers(6, 10))
    truth = {
        "E": 0.0 if rng.random() < 0.1 else rng.uniform(0.05, 0.5),
        "A": rng.uniform(0.1, 0.5),
        "alpha": rng.uniform(0.15, 0.7),
    }
    noise = np.exp(rng.uniform(np.log(0.003), np.log(0.05)))
    loss = law(sizes, truth)[:, None] * np.exp(noise * rng.standard_normal((len(sizes), rng.integers(2, 5))))
    return truth, noise, xr.DataArray(loss, dims=("n_train", "seed"), coords={"n_train": sizes})


def law(x, truth):
    return truth["E"] + truth["A"] * (x / X_REF) ** -truth["alpha"]


def judge(truth, noise, loss, seed, rng):
    """Verdict, errors {parameter: value}, hits {(quantity, interval): bool, None without an interval} of one design."""
    fits = {kind: fit_curves(loss, x_ref=X_REF, level=LEVEL, draws=DRAWS, kind=kind, seed=seed) for kind in BOOTSTRAPS}
    fit, errors, hits = fits["parametric"], {}, {}
    verdict = str(fit["verdict"].item())
    if not bool(fit["success"]):
        return verdict, None, None

    def note(quantity, kind, low, value, high):
        hits[quantity, kind] = bool(low <= value <= high) if np.isfinite(low) and np.isfinite(high) else None

    for name, true in truth.items():
        value, half = float(fit[name]), 1.96 * float(fit[f"{name}_stderr"])
        errors[name] = value - true
        note(name, "covariance", value - half, true, value + half)
        note(name, "profile", float(fit[f"{name}_low"]), true, float(fit[f"{name}_high"]))
        for kind, other in fits.items():
            ends = other["draw_values"].sel(parameter=name).quantile([0.5 - LEVEL / 2, 0.5 + LEVEL / 2]).values
            note(name, f"bootstrap {kind}", ends[0], true, ends[1])
    note("E", "one-sided limit", 0.0, truth["E"], float(fit["E_upper"]))
    x_new = float(loss.n_train.max()) * LEAD
    goal = law(x_new, truth)
    for kind, value in (("mean", goal), ("new_run", goal * np.exp(noise * rng.standard_normal()))):
        for name, band in (
            ("band of the law", predict(fit, x_new, kind=kind, level=LEVEL)),
            ("forecast", forecast(loss, x_new, kind=kind, level=LEVEL)),
        ):
            note(f"loss at {LEAD:g}x, {kind.replace('_', ' ')}", name, *_ends(band, value))
            if kind == "mean":
                errors[f"ln loss at {LEAD:g}x, {name}"] = float(np.log(band["loss"].item() / value))
    return verdict, errors, hits


def _ends(band, value):
    return band["lower"].item(), value, band["upper"].item()


def rows(designs=DESIGNS, seed=0):
    rng = np.random.default_rng(seed)
    verdicts, errors, hits = [], {}, {}
    for number in range(designs):
        verdict, wrong, inside = judge(*draw_design(rng), number, rng)
        verdicts.append(verdict if wrong is not None else "failed")
        for group in (verdict, "all") if wrong is not None else ():
            for name, value in wrong.items():
                errors.setdefault((group, name), []).append(value)
            for key, value in inside.items():
                hits.setdefault((group, *key), []).append(value)
    failed = verdicts.count("failed")
    out = [row("recovery.failed", failed / designs, "", detail=f"{failed} of {designs} designs refused or failed")]
    for verdict in sorted(set(verdicts) - {"failed"}):
        count = verdicts.count(verdict)
        out.append(row(f"recovery.verdict.{verdict}", count / designs, "", detail=f"{count} designs", verdict=verdict))
    for (group, name), values in sorted(errors.items()):
        text = f"median error of {len(values)} designs; rms {np.sqrt(np.mean(np.square(values))):.4f}"
        more = {"verdict": group, "quantity": name, "rms": float(np.sqrt(np.mean(np.square(values))))}
        out.append(row(f"recovery.bias.{group}.{name}", float(np.median(values)), "", detail=text, **more))
    for (group, quantity, interval), values in sorted(hits.items()):
        known = [value for value in values if value is not None]
        more = {"verdict": group, "quantity": quantity, "interval": interval, "cases": len(known)}
        none = len(values) - len(known)
        text = f"share of {len(known)} intervals of {LEVEL:.0%} that hold the truth; {none} had none"
        coverage = float(np.mean(known)) if known else None
        out.append(row(f"recovery.coverage.{group}.{quantity}.{interval}", coverage, "", detail=text, **more))
    return out
