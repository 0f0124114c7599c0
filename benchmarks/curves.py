"""The extrapolation benchmark: forecast held-out ends of learning curves, against M1 to M4 and a broken law (BNSL).

Definition of the scores: Alabdulmohsin et al. 2022 (arXiv:2209.06640) and their published notebook; mean squared
calibration error (MSCE) over seven levels as in Lee et al. 2025 (NSL-PFN, arXiv:2505.23032).
"""

import time

import numpy as np
from published_laws import STARTS, predict_broken, predict_published

from gzlib.errors import UserError
from gzlib.fitting.forecasting import clean_curve, extrapolate
from gzlib.fitting.reading import read_curves

LEVELS = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99])
GOAL_RMSLE = 0.0280  # NSL-PFN on the 72 vision curves (arXiv:2505.23032); on other domains the goal is M4's score
GOAL_COVERAGE = (0.90, 0.98)
GOAL_SECONDS = 60.0


def benchmark_curves(table):
    """Curves with held-out points: list of dicts name, domain, train (sizes, losses), test (sizes, losses).

    Repeated training rows are used once; held-out rows are all scored. Raises UserError if nothing is held out.
    """
    found = []
    for name, rows in table.groupby("curve", sort=False):
        held_out = rows[~rows["training"]]
        if held_out.empty or not rows["training"].any():
            continue
        train = rows[rows["training"]].drop_duplicates(["n_train", "loss"])
        found.append(
            {
                "name": name,
                "domain": str(rows["domain"].iloc[0]) if "domain" in rows else "all",
                "train": clean_curve(train["n_train"], train["loss"], name=f"curve {name!r}"),
                "test": (held_out["n_train"].to_numpy(float), held_out["loss"].to_numpy(float)),
            }
        )
    if not found:
        raise UserError(
            "No curve has both fitted and held-out points: the benchmark needs a column Training with 1 and 0."
        )
    return found


def score_domain(curves, *, domain="all", baselines=True):
    """Scores of the forecast, of M1 to M4 and of the broken law with one break, on the curves of one domain.

    Returns
    -------
    dict: ``rmsle`` {method: array (curves,)}, ``coverage`` and ``width`` arrays (curves, levels) with width in
    ln(loss), ``seconds`` {method group: float}, ``origins``.
    """
    began = time.perf_counter()
    train, sizes = [curve["train"] for curve in curves], [curve["test"][0] for curve in curves]
    results, info = extrapolate(train, sizes, levels=LEVELS)
    seconds = {"ours": time.perf_counter() - began}
    log_test = [np.log(curve["test"][1]) for curve in curves]
    errors = [result.log_median - truth for result, truth in zip(results, log_test, strict=True)]
    rmsle = {"ours": np.array([np.sqrt(np.mean(error**2)) for error in errors])}
    if baselines:
        began = time.perf_counter()
        published = predict_published(train, sizes, domain=domain)
        seconds["M1-M4"] = time.perf_counter() - began
        began = time.perf_counter()
        published["BNSL"] = predict_broken(train, sizes)
        seconds["BNSL"] = time.perf_counter() - began
        with np.errstate(invalid="ignore", divide="ignore"):
            for name, predictions in published.items():
                rmsle[name] = np.array(
                    [np.sqrt(np.mean((np.log(p) - truth) ** 2)) for p, truth in zip(predictions, log_test, strict=True)]
                )
    return {
        "rmsle": rmsle,
        "seconds": seconds,
        "origins": info["n_origins"],
        "coverage": np.array(
            [
                np.mean((result.band[:, 0] <= truth) & (truth <= result.band[:, 1]), axis=1)
                for truth, result in zip(log_test, results, strict=True)
            ]
        ),
        "width": np.array([2 * result.half_width.mean(axis=1) for result in results]),
    }


def win_shares(rmsle):
    """Share of curves, in percent, on which each method is best: truncated to three decimals, ties split equally."""
    table = np.stack([np.where(np.isfinite(values), values, 1.0) for values in rmsle.values()])
    table = np.floor(table * 1000)
    best = table == table.min(axis=0)
    return dict(zip(rmsle, 100 * np.mean(best / best.sum(axis=0), axis=1), strict=True))


def bench_file(path, *, baselines=True):
    """Run the benchmark on a CSV file in its format.

    Returns
    -------
    list of dict rows {"name", "value", "unit", "goal", "ok", "detail"}: for each domain RMSLE of every method, win
    shares, coverage and width of the 50, 80 and 95 % bands, MSCE; then seconds for the file. ``goal`` and ``ok`` are
    None where nothing was promised.
    """
    curves = benchmark_curves(read_curves(path))
    domains = list(dict.fromkeys(curve["domain"] for curve in curves))
    rows, total = [], 0.0
    for domain in domains:
        own = [curve for curve in curves if curve["domain"] == domain]
        scores = score_domain(own, domain=domain, baselines=baselines)
        total += scores["seconds"]["ours"]
        prefix = f"curves.{domain}." if len(domains) > 1 else "curves."
        rows += _rows(prefix, domain, len(own), scores)
    rows.append(
        _row("curves.seconds", total, "s", f"<= {GOAL_SECONDS:g}", total <= GOAL_SECONDS, f"{len(curves)} curves")
    )
    return rows


def _rows(prefix, domain, count, scores):
    ours = float(scores["rmsle"]["ours"].mean())
    coverage = scores["coverage"].mean(axis=0)
    detail = f"{count} curves, {scores['origins']} rolling origins, {scores['seconds']['ours']:.1f} s"
    goal = GOAL_RMSLE if domain == "IC" else float(np.mean(scores["rmsle"].get("M4", np.nan)))
    known = bool(np.isfinite(goal))
    rows = [
        _row(
            f"{prefix}rmsle",
            ours,
            "ln(loss)",
            f"<= {goal:.4g}" if known else None,
            ours <= goal if known else None,
            detail,
        )
    ]
    for name, values in scores["rmsle"].items():
        if name != "ours":
            failed = int(np.sum(~np.isfinite(values)))
            rows.append(
                _row(
                    f"{prefix}rmsle.{name}",
                    float(np.mean(np.where(np.isfinite(values), values, 1.0))),
                    "ln(loss)",
                    None,
                    None,
                    _baseline_detail(name, failed, count, scores["seconds"]),
                )
            )
    for name, share in win_shares(scores["rmsle"]).items():
        rows.append(
            _row(
                f"{prefix}wins.{name}",
                float(share),
                "%",
                None,
                None,
                "share of curves with the lowest error, ties split",
            )
        )
    low, high = GOAL_COVERAGE
    for level in (0.5, 0.8, 0.95):
        j = int(np.argmin(np.abs(LEVELS - level)))
        promised = level == 0.95
        rows.append(
            _row(
                f"{prefix}coverage{level * 100:.0f}",
                float(coverage[j]),
                "",
                f"{low} to {high}" if promised else None,
                bool(low <= coverage[j] <= high) if promised else None,
                f"mean over curves; median width {np.median(scores['width'][:, j]):.4f} in ln(loss)",
            )
        )
    rows.append(
        _row(
            f"{prefix}msce",
            float(np.mean((coverage - LEVELS) ** 2)),
            "",
            None,
            None,
            "mean squared difference of coverage and level over " + ", ".join(f"{level:g}" for level in LEVELS),
        )
    )
    return rows


def _baseline_detail(name, failed, count, seconds):
    group, law = ("BNSL", f"one break, {STARTS} starts") if name == "BNSL" else ("M1-M4", "as published")
    return f"{law}; {failed} of {count} fits failed and count as 1; {seconds[group]:.1f} s for {group}"


def _row(name, value, unit, goal, ok, detail):
    return {"name": name, "value": value, "unit": unit, "goal": goal, "ok": ok, "detail": detail}


def rows(csv):
    if csv is None:
        raise UserError("Name the file with learning curves: gzlib bench curves --csv FILE.")
    return bench_file(csv)
