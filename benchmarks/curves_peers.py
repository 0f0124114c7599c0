"""Side by side in one run: gzlib, chinchilla 0.2.0 and simple-scaling-laws 0.2.0 on public data.

    python benchmarks/curves_peers.py --curves benchmark.vision.csv --runs chinchilla_epoch_svg_extracted.csv

Needs both peers installed (simple-scaling-laws declares Python 3.12; it also runs on 3.11 when that is overridden).
Part one: held-out ends of every --step-th learning curve. Part two: the Chinchilla surface L(N, D), the objective
reached on Epoch's 240 runs and the error above 1e21 FLOP when fitted below.
"""

import argparse
import tempfile
import time
import warnings

import numpy as np
import pandas as pd
import polars as pl
import simple_scaling_laws
from chinchilla import Chinchilla

from gzlib.fitting import fit_surface, predict_surface, read_curves
from gzlib.fitting.curves import benchmark_curves
from gzlib.fitting.forecast import extrapolate

DELTA = 1e-3  # of Huber's loss, Hoffmann et al. 2022
DRAWS = 200


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
    curves = benchmark_curves(read_curves(path))
    chosen = list(range(0, len(curves), step))
    print(f"{len(chosen)} of {len(curves)} curves{'':22} RMSLE  coverage of 95 %  s/curve  failed")
    began = time.perf_counter()
    results, _ = extrapolate(
        [curve["train"] for curve in curves], [curve["test"][0] for curve in curves], levels=(0.95,)
    )
    seconds = (time.perf_counter() - began) / len(curves)
    bands = [
        (
            np.exp(results[i].log_median),
            np.exp(results[i].log_median - results[i].half_width[0]),
            np.exp(results[i].log_median + results[i].half_width[0]),
        )
        for i in chosen
    ]
    report("gzlib forecast", curves, chosen, bands, seconds, 0)
    for law in ("broken-power", "separable-power"):
        began, bands, kept, failed = time.perf_counter(), [], [], 0
        for i in chosen:
            try:
                bands.append(peer_curve(curves[i], law))
                kept.append(i)
            except ValueError as error:
                failed += 1
                print(f"  {law}: {curves[i]['name']}: {error}")
        report(f"simple-scaling-laws {law}", curves, kept, bands, (time.perf_counter() - began) / len(chosen), failed)


def report(name, curves, chosen, bands, seconds, failed):
    errors, inside = [], []
    for i, (median, low, high) in zip(chosen, bands, strict=True):
        truth = curves[i]["test"][1]
        errors.append(np.sqrt(np.mean(np.log(median / truth) ** 2)))
        inside.append(np.mean((low <= truth) & (truth <= high)))
    print(f"{name:38} {np.mean(errors):7.4f} {np.mean(inside):17.3f} {seconds:8.3f} {failed:7d}")


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
    early = C < 1e21
    print(f"\nL(N, D)   {'':28} Huber sum, 240 runs   RMSLE above 1e21 FLOP   seconds, both fits")
    began = time.perf_counter()
    full, part = (
        fit_surface(loss[keep], {"N": N[keep], "D": D[keep]}, noise="huber", draws=0) for keep in (N > 0, early)
    )
    found = [predict_surface(fit, {"N": N, "D": D})["median"].to_numpy() for fit in (full, part)]
    line("gzlib fit_surface, Huber", found, loss, early, time.perf_counter() - began)
    began = time.perf_counter()
    found = []
    for keep in (N > 0, early):
        p = fit_chinchilla(N[keep], D[keep], loss[keep])
        found.append(p["E"] + p["A"] / N ** p["alpha"] + p["B"] / D ** p["beta"])
    line("chinchilla 0.2.0, Huber, 1024 starts", found, loss, early, time.perf_counter() - began)
    began = time.perf_counter()
    found = []
    for keep in (N > 0, early):
        frame = pl.DataFrame(
            {
                "training_run_id": [str(i) for i in range(keep.sum())],
                "model_size__n": N[keep],
                "dataset_size__d": D[keep],
                "test_loss__y": loss[keep],
            }
        )
        model = simple_scaling_laws.fit(frame, law="separable-power", n_draws=20, seed=0)
        points = pl.DataFrame({"point_id": [str(i) for i in range(len(N))], "model_size__n": N, "dataset_size__d": D})
        found.append(model.predict(points)["test_loss__y__median"].to_numpy())
    line("simple-scaling-laws separable-power", found, loss, early, time.perf_counter() - began)


def line(name, found, loss, early, seconds):
    rmsle = np.sqrt(np.mean(np.log(found[1][~early] / loss[~early]) ** 2))
    print(f"{name:38} {huber(np.log(found[0] / loss)).sum():18.11f} {rmsle:22.4f} {seconds:20.2f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--curves", required=True)
    parser.add_argument("--runs", required=True)
    parser.add_argument("--step", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # the peers' own; ours raise none
    curves_part(options.curves, options.step)
    surface_part(options.runs)


if __name__ == "__main__":
    main()
