"""Side by side in one run: gzlib, chinchilla 0.2.0 and simple-scaling-laws 0.2.0 on public data.

    python benchmarks/curves_peers.py [--folder FOLDER] [--step 3]     a quarter of an hour; keeps its rows

``FOLDER`` holds ``benchmark.vision.csv`` and ``chinchilla_epoch_svg_extracted.csv``. simple-scaling-laws declares
Python 3.12, and this file needs of gzlib only what fits laws, so an environment with numpy, pandas, scipy, lmfit,
xarray and the two peers is enough. Part one: held-out ends of every ``step``-th learning curve. Part two: the surface
L(N, D) of Hoffmann et al. 2022, the objective reached on Epoch's 240 runs and the error above 1e21 FLOP when fitted
below.
"""

import argparse
import json
import platform
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import simple_scaling_laws
from chinchilla import Chinchilla
from curves import benchmark_curves
from published_laws import predict_broken

from gzlib import paths
from gzlib.files import replace_file
from gzlib.fitting.forecasting import extrapolate
from gzlib.fitting.reading import read_curves
from gzlib.fitting.surfaces import fit_surface, predict_surface

FOLDER = paths.ROOT.parent / "shared" / "data" / "curves"
DELTA = 1e-3  # of Huber's loss, Hoffmann et al. 2022
DRAWS = 200
LAWS = ("broken-power", "separable-power")
FEATURES = {
    "gzlib": "10 laws, own laws as objects; Gaussian, Huber or Student-t noise; profile, covariance and bootstrap "
    "intervals; bands calibrated on rolling origins; verdict on the design; labelled arrays; label budgets",
    "simple-scaling-laws": "7 laws; Gaussian noise with two variance components; wild cluster bootstrap; bands for the "
    "mean and for a new run; allocation of compute; data frames",
    "chinchilla": "1 law (E + A/N^a + B/D^b); any loss function; no intervals; allocation of compute; figures",
}


def huber(residual):
    size = np.abs(residual)
    return np.where(size <= DELTA, 0.5 * size**2, DELTA * (size - 0.5 * DELTA))


def peer_curve(curve, law):
    x, y = curve["train"]
    frame = pl.DataFrame({"training_run_id": [str(i) for i in range(len(x))], "dataset_size__x": x, "test_loss__y": y})
    model = simple_scaling_laws.fit(frame, law=law, n_draws=DRAWS, seed=0)
    points = pl.DataFrame(
        {"point_id": [str(i) for i in range(len(curve["test"][0]))], "dataset_size__x": curve["test"][0]}
    )
    found = model.predict(points, kind="new-run", quantiles=[0.025, 0.5, 0.975])
    return [found[f"test_loss__y__{name}"].to_numpy() for name in ("median", "q025", "q975")]


def curves_part(path, step):
    """Every ``step``-th curve; gzlib sees all, since its curves share a calibration, and is scored on the same ones."""
    curves = benchmark_curves(read_curves(path))
    chosen = list(range(0, len(curves), step))
    train, sizes = [curve["train"] for curve in curves], [curve["test"][0] for curve in curves]
    began = time.perf_counter()
    results, _ = extrapolate(train, sizes, levels=(0.95,))
    seconds = (time.perf_counter() - began) / len(curves)
    bands = [np.exp(v) for i in chosen for v in (results[i].log_median, *results[i].band[0])]
    yield score("gzlib forecast", curves, chosen, [bands[k : k + 3] for k in range(0, len(bands), 3)], seconds, 0)
    began = time.perf_counter()
    broken = predict_broken([train[i] for i in chosen], [sizes[i] for i in chosen])
    bands = [(median, None, None) for median in broken]
    yield score("gzlib one-break BNSL", curves, chosen, bands, (time.perf_counter() - began) / len(chosen), 0)
    for law in LAWS:
        began, bands, kept = time.perf_counter(), [], []
        for i in chosen:
            try:
                bands.append(peer_curve(curves[i], law))
                kept.append(i)
            except ValueError as error:
                print(f"  {law}: {curves[i]['name']}: {error}")
        each = (time.perf_counter() - began) / len(chosen)
        yield score(f"simple-scaling-laws {law}", curves, kept, bands, each, len(chosen) - len(kept))


def score(method, curves, chosen, bands, seconds, failed):
    errors, inside = [], []
    for i, (median, low, high) in zip(chosen, bands, strict=True):
        truth = curves[i]["test"][1]
        errors.append(float(np.sqrt(np.mean(np.log(median / truth) ** 2))))
        inside.append(np.nan if low is None else float(np.mean((low <= truth) & (truth <= high))))
    coverage = float(np.mean(inside))
    return {
        "part": "curves",
        "method": method,
        "curves": len(chosen) + failed,
        "failed": failed,
        "rmsle": float(np.mean(errors)),
        "median_rmsle": float(np.median(errors)),
        "coverage95": None if np.isnan(coverage) else coverage,
        "seconds_per_curve": seconds,
    }


def fit_chinchilla(N, D, loss):
    grid = {
        "e": np.linspace(-1, 1.5, 4),
        "a": np.linspace(0, 25, 4),
        "b": np.linspace(0, 25, 4),
        "alpha": np.linspace(0, 2, 4),
        "beta": np.linspace(0, 2, 4),
    }
    with tempfile.TemporaryDirectory() as folder:
        peer = Chinchilla(
            project_dir=folder,
            param_grid=grid,
            log_level=50,
            loss_fn=lambda truth, found: huber(np.log(truth) - np.log(found)),
        )
        peer.database.df = pd.DataFrame({"C": 6 * N * D, "N": N, "D": D, "loss": loss})
        peer.visualizer.optim = lambda *args, **kwargs: None  # no figure
        peer.fit(parallel=False)
        return peer.params


def surface_part(path):
    runs = pd.read_csv(path).sort_values("loss").iloc[:240]
    N, loss = runs["Model Size"].to_numpy(), runs["loss"].to_numpy()
    C = runs["Training FLOP"].to_numpy()
    D = C / (6 * N)
    every, early = N > 0, C < 1e21

    def ours(keep):
        fit = fit_surface(loss[keep], {"N": N[keep], "D": D[keep]}, noise="huber", draws=0)
        return predict_surface(fit, {"N": N, "D": D})["loss"].to_numpy()

    def chinchilla(keep):
        values = fit_chinchilla(N[keep], D[keep], loss[keep])
        return values["E"] + values["A"] / N ** values["alpha"] + values["B"] / D ** values["beta"]

    def separable(keep):
        frame = {"training_run_id": [str(i) for i in range(keep.sum())], "test_loss__y": loss[keep]}
        frame |= {"model_size__n": N[keep], "dataset_size__d": D[keep]}
        model = simple_scaling_laws.fit(pl.DataFrame(frame), law="separable-power", n_draws=20, seed=0)
        points = pl.DataFrame({"point_id": [str(i) for i in range(len(N))], "model_size__n": N, "dataset_size__d": D})
        return model.predict(points)["test_loss__y__median"].to_numpy()

    for method, fit in (
        ("gzlib fit_surface, Huber", ours),
        ("chinchilla, Huber, 1024 starts", chinchilla),
        ("simple-scaling-laws separable-power", separable),
    ):
        began = time.perf_counter()
        full, part = fit(every), fit(early)
        yield {
            "part": "surface",
            "method": method,
            "huber_sum_240_runs": float(huber(np.log(full / loss)).sum()),
            "rmsle_above_1e21_flop": float(np.sqrt(np.mean(np.log(part[~early] / loss[~early]) ** 2))),
            "seconds_both_fits": time.perf_counter() - began,
        }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--step", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # the peers' own; ours raise none
    rows = []
    for part in (
        curves_part(options.folder / "benchmark.vision.csv", options.step),
        surface_part(options.folder / "chinchilla_epoch_svg_extracted.csv"),
    ):
        for found in part:
            rows.append(found)
            print(json.dumps(found), flush=True)
    record = {"benchmark": "curves_peers", "python": platform.python_version(), "rows": rows, "features": FEATURES}
    replace_file(paths.ROOT / "data" / "benchmarks" / "curves_peers.json", json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
