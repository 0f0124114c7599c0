"""Does the simulated sky help on real galaxies? Features before and after pretraining on it, probed on real classes.

    python benchmarks/sky_transfer.py [--start imagenet|random] [--galaxies N] [--images N] [--size 96] [--write]

EfficientNet-Lite0, from ImageNet weights or from random ones, sees so many images of simulated galaxies and learns
their known structure and their votes (``sky_lessons``). Then a logistic regression on frozen features is
cross-validated (five folds over all rows at hand, repeated with other shuffles for a small set; its regularisation is
chosen inside each training part) on the three real class sets of ``../shared/data/real``: on ImageNet's features, on
those after the sky, and on both joined. The goal is a fifth fewer errors with the joined features than with
ImageNet's, on average over the sets. ``--write`` keeps the result in ``data/benchmarks/sky_transfer.json``.
"""

import argparse
import io
import json

import numpy as np
import pandas as pd
import timm
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sky_lessons import lessons, pretrain
from sky_realism import REAL, features, imagenet_encoder

from gzlib import paths
from gzlib.files import replace_file
from gzlib.sky import sky_identity

SETS = ("gz2_five_classes", "gz1_six_classes", "decals_rings")
STRENGTHS = (3e-4, 1e-3, 3e-3, 1e-2)  # inverse regularisation, chosen inside each training part
RESULTS = paths.ROOT / "data" / "benchmarks" / "sky_transfer.json"


def real_set(name: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (n, size, size, 3) uint8 and classes (n,) of all rows of one real set."""
    if name == "decals_rings":
        table = pd.read_csv(REAL / name / "catalog.csv")
        files, labels = [REAL / name / f for f in table["file_loc"]], table["ring"].to_numpy()
    else:
        table = pd.concat([pd.read_parquet(f) for f in sorted((REAL / name / "data").glob("*.parquet"))])
        files, labels = [io.BytesIO(row["bytes"]) for row in table["image"]], table["label"].to_numpy()
    return np.stack([np.array(Image.open(f).convert("RGB").resize((size, size), Image.BOX)) for f in files]), labels


def wrong(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n,) share of the repeats in which a galaxy, held out of the fit, is put into a wrong class."""
    repeats = 1 if len(labels) > 1000 else 8
    out = np.zeros(len(labels))
    for repeat in range(repeats):
        folds = StratifiedKFold(5, shuffle=True, random_state=repeat)
        for train, test in folds.split(x, labels):
            inner = {c: cross_val_score(_probe(c), x[train], labels[train], cv=folds).mean() for c in STRENGTHS}
            predicted = _probe(max(inner, key=inner.get)).fit(x[train], labels[train]).predict(x[test])
            out[test] += (predicted != labels[test]) / repeats
    return out


def _probe(c: float):
    return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=200, tol=1e-3))


def compare(name: str, labels: np.ndarray, by_features: dict[str, np.ndarray]) -> dict:
    """One record: errors with each kind of features, and the share of ImageNet's errors that the joined ones remove."""
    missed = {kind: wrong(x, labels) for kind, x in by_features.items()}
    n, old = len(labels), missed["imagenet"]
    gain = old - missed["joined"]
    detail = {kind: round(float(m.mean()), 4) for kind, m in missed.items()}
    # The standard error is that of the paired difference over galaxies, as a share of ImageNet's error.
    detail |= {"standard_error": round(float(gain.std() / np.sqrt(n) / old.mean()), 4), "rows": n}
    return {"name": f"sky.transfer.{name}", "value": round(float(gain.mean() / old.mean()), 4), "detail": detail}


def keep(records: list[dict], start: str):
    """Write the records, beside those of runs that started from other weights."""
    before = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    others = [record for record in before if record["detail"]["start"] != start]
    replace_file(RESULTS, json.dumps(others + records, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--start", choices=("imagenet", "random"), default="imagenet")
    parser.add_argument("--galaxies", type=int, default=12000)
    parser.add_argument("--images", type=int, default=38_000, help="images that the pretraining sees")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--weights", help="file for the weights after the sky")
    parser.add_argument("--write", action="store_true", help=f"add to {RESULTS.relative_to(paths.ROOT)}")
    options = parser.parse_args()
    torch.manual_seed(0)
    sets = {name: real_set(name, options.size) for name in SETS}
    model = imagenet_encoder()
    before = {name: features(model, x) for name, (x, _) in sets.items()}
    if options.start == "random":
        model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    lesson = lessons(options.galaxies, options.size)
    seen = pretrain(model, lesson, options.images, rate=2e-3 if options.start == "random" else 6e-4)
    if options.weights:
        torch.save(model.state_dict(), options.weights)
    records = []
    for name, (x, labels) in sets.items():
        after = features(model, x)
        kinds = {"imagenet": before[name], "sky": after, "joined": np.hstack([before[name], after])}
        records.append(compare(name, labels, kinds))
        records[-1]["detail"] |= {"start": options.start, "sky": sky_identity()}
        print(json.dumps(records[-1]), flush=True)
    mean = round(float(np.mean([r["value"] for r in records])), 4)
    record = {"name": "sky.transfer", "value": mean, "unit": "share of the ImageNet errors removed", "goal": 0.2}
    detail = {"pictures_seen": seen, "size": options.size, "start": options.start, "sky": sky_identity()}
    records.append(record | {"ok": mean >= 0.2, "detail": detail})
    print(json.dumps(records[-1]))
    if options.write:
        keep(records, options.start)
