"""Forecasts of held-out ends of public learning curves, domain by domain, beside eight other methods.

    python -m gzlib bench domains --csv FOLDER [--store]      ten minutes; --store keeps data/benchmarks/domains.json

``FOLDER`` holds curves in the benchmark's columns (``*.csv``, also in folders below); they are not part of the
project. Each domain is forecast twice: all its curves together, and each curve alone. The score of a curve is the root
mean square of ln(predicted / measured) over its held-out points; the coverage of a band is the share of those points
inside, averaged over curves. A held-out point is one measurement, so the band is that of a new run.
``domains_baseline.json`` holds the figures of version f6c0faf, made by the same command.
"""

from pathlib import Path

import numpy as np
import xarray as xr
from curves import benchmark_curves
from harness import row
from published_laws import predict_broken, predict_published

from gzlib.errors import UserError
from gzlib.fitting import extrapolate, fit_law, forecast, read_curves

LEVELS = (0.5, 0.8, 0.95)
TOLERANCE = 0.03  # of the 50 and 80 % bands over all curves
RANGE = (0.92, 0.98)  # of the 95 % band in a domain


def read_domains(folder):
    """Curves of every file below a folder: dict of domain to a list of curves as ``benchmark_curves`` makes them."""
    files = sorted(Path(folder).rglob("*.csv"))
    domains = {}
    for file in files:
        try:
            curves = benchmark_curves(read_curves(file))
        except UserError:
            continue  # no learning curves with held-out ends
        for curve in curves:
            domains.setdefault(curve["domain"], []).append(curve)
    if not domains:
        raise UserError(f"{folder} holds no file of learning curves with a column Training: name their folder.")
    return domains


def together(curves):
    """Median and bands of ln(loss), (levels, 2, sizes), of each curve, forecast together."""
    results, _ = extrapolate([c["train"] for c in curves], [c["test"][0] for c in curves], levels=LEVELS)
    return [(r.log_median, r.band) for r in results]


def alone(curves):
    """As ``together``, each curve by itself through ``forecast``."""
    out = []
    for curve in curves:
        (x, y), new = curve["train"], curve["test"][0]
        loss = xr.DataArray(y[:, None], dims=("n_train", "seed"), coords={"n_train": x, "seed": [0]}, name="loss")
        sizes, back = np.unique(new, return_inverse=True)
        bands = [forecast(loss, sizes, level=level, kind="new_run").isel(n_train=back) for level in LEVELS]
        ends = [np.log(np.stack([band["lower"].values, band["upper"].values])) for band in bands]
        out.append((np.log(bands[0]["loss"].values), np.stack(ends)))
    return out


def score(curves, found):
    """Errors (curves,) and shares inside each band (curves, levels)."""
    errors, inside = [], []
    for curve, (median, band) in zip(curves, found, strict=True):
        truth = np.log(curve["test"][1])
        errors.append(np.sqrt(np.mean((median - truth) ** 2)))
        hit = (band[:, 0] <= truth) & (truth <= band[:, 1]) if np.ndim(band) == 3 else np.abs(median - truth) <= band
        inside.append(hit.mean(axis=1))
    return np.array(errors), np.array(inside)


def rivals(curves, domain):
    """Mean error of M1 to M4, BNSL, the offset law through lmfit, the last value and the last straight line."""
    train, sizes = [c["train"] for c in curves], [c["test"][0] for c in curves]
    predictions = predict_published(train, sizes, domain=domain)
    predictions["BNSL"] = predict_broken(train, sizes)
    offset, last = [], []
    for (x, y), new in zip(train, sizes, strict=True):
        fit = fit_law("power-offset", x / x[-1], y)
        offset.append(fit.eval(x=new / x[-1]) if fit.success else np.full(len(new), np.nan))
        last.append(np.full(len(new), y[-1]))
    predictions |= {"lmfit offset": [np.exp(p) for p in offset], "last value": last}
    out = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        for name, own in predictions.items():
            errors = np.array(
                [np.sqrt(np.mean(np.log(p / c["test"][1]) ** 2)) for p, c in zip(own, curves, strict=True)]
            )
            out[name] = float(np.mean(np.where(np.isfinite(errors), errors, 1.0)))
    return out


def rows(csv):
    if csv is None:
        raise UserError("Name the folder with learning curves: gzlib bench domains --csv FOLDER.")
    out, pooled = [], {}
    for domain, curves in read_domains(csv).items():
        others = rivals(curves, domain)
        best = min(others, key=others.get)
        for mode, make in (("together", together), ("alone", alone)):
            errors, inside = score(curves, make(curves))
            pooled.setdefault(mode, []).append((errors, inside))
            value, covered = float(errors.mean()), [float(v) for v in inside.mean(axis=0)]
            more = {"domain": domain, "mode": mode, "curves": len(curves), "coverage": covered, "levels": LEVELS}
            out.append(
                row(
                    f"domains.{domain}.{mode}.rmsle",
                    value,
                    "ln(loss)",
                    goal=f"<= {others[best]:.4g}",
                    ok=value <= others[best],
                    detail=f"{len(curves)} curves; best of the others: {best}",
                    others=others,
                    **more,
                )
            )
            many = sum(len(curve["test"][0]) for curve in curves) > 1  # one held-out point has no coverage
            for level, share in zip(LEVELS, covered, strict=True):
                promised = level == LEVELS[-1] and many
                out.append(
                    row(
                        f"domains.{domain}.{mode}.coverage{100 * level:.0f}",
                        share if many else None,
                        "",
                        goal="{} to {}".format(*RANGE) if promised else None,
                        ok=RANGE[0] <= share <= RANGE[1] if promised else None,
                        detail=f"{len(curves)} curves",
                        domain=domain,
                        mode=mode,
                    )
                )
    for mode, parts in pooled.items():
        errors, inside = (np.concatenate(values) for values in zip(*parts, strict=True))
        mean = float(np.mean([own.mean() for own, _ in parts]))
        out.append(
            row(f"domains.all.{mode}.rmsle", float(errors.mean()), "ln(loss)", detail=f"mean of domains {mean:.4f}")
        )
        for level, share in zip(LEVELS, inside.mean(axis=0), strict=True):
            goal = RANGE if level == LEVELS[-1] else (level - TOLERANCE, level + TOLERANCE)
            out.append(
                row(
                    f"domains.all.{mode}.coverage{100 * level:.0f}",
                    float(share),
                    "",
                    goal=f"{goal[0]:.2f} to {goal[1]:.2f}",
                    ok=bool(goal[0] <= share <= goal[1]),
                    detail=f"{len(errors)} curves",
                )
            )
    return out
