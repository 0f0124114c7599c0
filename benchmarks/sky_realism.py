"""How well real and simulated pictures can be told apart, and by what.

    python benchmarks/sky_realism.py [--size 64] [--write]

Needs the real GZ2 and DECaLS pictures of ``../shared/data/real``; figures of them are never written. The sky's picture
constants (``gzlib/sky/telescopes.py``, ``scene.py``) were set by the even rows of both sets; all
that is printed here is for the odd rows, whose figures were also seen between steps, so they are not blind. AUC:
logistic regression on frozen ImageNet features, five folds; 0.5 means that nothing tells the two apart. Each comes
with views that leave something out, and with two yardsticks: one half of the real pictures against the other, and
real GZ2 against real DECaLS. The real GZ2 set is stratified by votes, so the simulated galaxies are also *matched*:
each real galaxy gets the nearest in vote fractions from a larger pool, each of which is used once.
``--write`` keeps the result in ``data/benchmarks/sky_realism.json`` for chapter 01.
"""

import argparse
import io
import json
import sys

import numpy as np
import pandas as pd
import timm
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.optimize import linear_sum_assignment
from scipy.stats import wasserstein_distance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gzlib import paths, sky
from gzlib.data.schema import load_schema
from gzlib.files import replace_file
from gzlib.models.weights import packaged_state

REAL = paths.ROOT.parent / "shared" / "data" / "real"
OUT = paths.ROOT / "data" / "benchmarks" / "sky_realism.json"
POOL = 6  # simulated galaxies to choose from, for each real one
MATCHED = (
    "smooth-or-featured-gz2_smooth",
    "smooth-or-featured-gz2_featured-or-disk",
    "disk-edge-on-gz2_yes",
    "has-spiral-arms-gz2_yes",
    "bar-gz2_yes",
    "something-odd-gz2_yes",
)


def gz2_table(columns: list[str]) -> pd.DataFrame:
    files = sorted((REAL / "gz2" / "data").glob("*.parquet"))
    return pd.concat([pd.read_parquet(f, columns=columns) for f in files], ignore_index=True)


def real_pictures(name: str, size: int) -> np.ndarray:
    """(n, size, size, 3) uint8, reduced from 424 pixels by averaging."""
    if name == "gz2":
        files = [io.BytesIO(image["bytes"]) for image in gz2_table(["image"]).image]
    else:
        files = sorted((REAL / "decals_rings" / "images").glob("*.jpg"))
    return np.stack([np.array(Image.open(f).convert("RGB").resize((size, size), Image.BOX)) for f in files])


def imagenet_encoder() -> torch.nn.Module:
    name = "tf_efficientnet_lite0"
    model = timm.create_model(name, pretrained=False)
    model.load_state_dict(packaged_state(name))
    return model.eval()


def features(model, pictures: np.ndarray) -> np.ndarray:
    out = []
    with torch.no_grad():
        for start in range(0, len(pictures), 64):
            x = torch.from_numpy(pictures[start : start + 64]).permute(0, 3, 1, 2).float() / 127.5 - 1
            out.append(model.forward_head(model.forward_features(x), pre_logits=True).numpy())
    return np.concatenate(out)


def separability(a: np.ndarray, b: np.ndarray, regularisation=0.01) -> float:
    """Cross-validated AUC of a logistic regression that tells rows of ``a`` from rows of ``b``."""
    x, y = np.concatenate([a, b]), np.repeat([0, 1], [len(a), len(b)])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=regularisation, max_iter=300))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return roc_auc_score(y, cross_val_predict(model, x, y, cv=folds, method="predict_proba")[:, 1])


def _grey(pictures: np.ndarray) -> np.ndarray:
    return np.repeat(pictures.mean(3, keepdims=True).round().astype(np.uint8), 3, axis=3)


def _blurred(pictures: np.ndarray) -> np.ndarray:
    sigma = pictures.shape[1] / 64
    return gaussian_filter(pictures.astype(float), (0, sigma, sigma, 0)).round().astype(np.uint8)


def _masked(pictures: np.ndarray) -> np.ndarray:
    """The central galaxy alone: black beyond 0.22 of the frame, fading from 0.16 on, the background's level removed."""
    axis = (np.arange(pictures.shape[1]) + 0.5) / pictures.shape[1] - 0.5
    radius = np.hypot(axis[:, None], axis[None])
    keep = np.clip((0.22 - radius) / 0.06, 0, 1)[None, :, :, None]
    level = np.median(pictures[:, radius > 0.35], axis=1)[:, None, None]
    return ((pictures - level).clip(0) * keep).round().astype(np.uint8)


VIEWS = {
    "full": lambda p: p,
    "grey": _grey,
    "blurred": _blurred,
    "background_masked": _masked,
    "masked_grey_blurred": lambda p: _blurred(_grey(_masked(p))),
}


def statistics(pictures: np.ndarray) -> dict[str, np.ndarray]:
    """Per-picture numbers: background level and noise, brightness, size in the frame, colour, spectrum, neighbours."""
    colour = pictures.astype(float)
    grey, side = colour.mean(3), pictures.shape[1]
    yy, xx = np.indices((side, side)) - (side - 1) / 2
    radius = np.hypot(xx, yy) / side
    outside = colour[:, radius > 0.35]
    level = np.median(outside, 1)
    spread = np.median(np.abs(outside - level[:, None]), 1) * 1.4826
    # Quiet pixels only: what lies within three median deviations of the level of its band.
    quiet = np.where(np.abs(outside - level[:, None]) <= 3 * spread[:, None] + 1, outside - level[:, None], np.nan)
    flux = np.clip(grey - level.mean(1)[:, None, None] - 4, 0, None) * (radius < 1 / 3)
    power = np.abs(np.fft.fft2(grey)) ** 2
    k = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None])
    above = colour - level[:, None, None]
    inner, disc = above[:, radius < 0.04].mean(1), above[:, (radius > 0.06) & (radius < 0.12)].mean(1)
    corner = grey[:, : side // 6, : side // 6]
    left, right = corner[:, :, :-1].reshape(len(grey), -1), corner[:, :, 1:].reshape(len(grey), -1)
    far = (grey - level.mean(1)[:, None, None]) * (radius > 0.28)
    return {
        **{f"background_{band}": level[:, i] for i, band in enumerate("rgb")},
        **{f"noise_{band}": np.nanstd(quiet[..., i], axis=1) for i, band in enumerate("rgb")},
        "noise_chroma": np.nanstd(quiet[..., 0] - quiet[..., 2], axis=1),
        "neighbour_correlation": [
            np.corrcoef(a, b)[0, 1] if a.std() and b.std() else 0.0 for a, b in zip(left, right, strict=True)
        ],
        "spectrum": np.log10(power[:, (k > 0.02) & (k < 0.1)].mean(1) / power[:, k > 0.35].mean(1)),
        "peak": np.percentile(grey, 99.8, (1, 2)),
        "bright_share": (grey - level.mean(1)[:, None, None] > 25).mean((1, 2)),
        "size": (flux * radius).sum((1, 2)) / (flux.sum((1, 2)) + 1),
        "colour_centre": (inner[:, 0] - inner[:, 2]) / inner.sum(1).clip(30),
        "colour_disc": (disc[:, 0] - disc[:, 2]) / disc.sum(1).clip(30),
        "neighbour_light": np.log10(1 + (far > 12).sum((1, 2))),
        "neighbour_peak": np.log10(1 + far.max((1, 2)).clip(0)),
    }


def table(real: np.ndarray, simulated: np.ndarray) -> dict[str, dict]:
    """For each statistic: AUC by it alone, medians, and the Wasserstein distance in real standard deviations."""
    a, b = statistics(real), statistics(simulated)
    out = {}
    for name in a:
        x, y = np.asarray(a[name]), np.asarray(b[name])
        auc = roc_auc_score(np.repeat([0, 1], [len(x), len(y)]), np.append(x, y))
        scale = np.subtract(*np.percentile(x, [84, 16])) / 2 + 1e-9
        out[name] = {
            "auc": round(max(auc, 1 - auc), 3),
            "real": round(float(np.median(x)), 3),
            "simulated": round(float(np.median(y)), 3),
            "distance": round(wasserstein_distance(x / scale, y / scale), 3),
        }
    return out


def vote_fractions(votes: np.ndarray) -> np.ndarray:
    """(n, 6) share of the ``MATCHED`` answers, times how many volunteers reached the question."""
    schema = load_schema("gz2")
    first = votes[:, schema.questions[0].columns].sum(1)
    columns = [schema.label_cols.index(name) for name in MATCHED]
    return votes[:, columns] / np.maximum(first, 1)[:, None]


def matched(real: np.ndarray, pool: np.ndarray) -> np.ndarray:
    """For each real row the nearest of the pool; the sum of distances is least, and nobody is taken twice."""
    cost = np.abs(real[:, None, :] - pool[None, :, :]).sum(2)
    return linear_sum_assignment(cost)[1]


def simulated_sets(name: str, real_rows: np.ndarray, size: int) -> dict[str, np.ndarray]:
    n = len(real_rows)
    if name != "gz2":
        return {"random": sky.simulate("dr5", np.arange(n), seed=0, size=size).images}
    pool = sky.simulate("gz2", np.arange(POOL * n), seed=0, size=size)
    real_votes = gz2_table(load_schema("gz2").label_cols).to_numpy()[real_rows]
    chosen = matched(vote_fractions(real_votes), vote_fractions(pool.votes))
    return {"random": pool.images[:n], "matched": pool.images[chosen]}


def compare(size: int) -> list[dict]:
    model = imagenet_encoder()
    odd = {}
    for name in ("gz2", "decals"):
        whole = real_pictures(name, size)
        odd[name] = np.arange(1, len(whole), 2), whole[1::2]
    out = []
    for name, (rows, real) in odd.items():
        seen = {view: features(model, change(real)) for view, change in VIEWS.items()}
        half = np.random.default_rng(0).permutation(len(real))
        null = separability(seen["full"][half[::2]], seen["full"][half[1::2]])
        for which, pictures in simulated_sets(name, rows, size).items():
            auc = {view: round(separability(seen[view], features(model, VIEWS[view](pictures))), 3) for view in VIEWS}
            numbers = [np.stack([np.asarray(v) for v in statistics(p).values()], 1) for p in (real, pictures)]
            out.append(
                {
                    "name": f"sky.realism.{name}.{which}",
                    "value": auc["full"],
                    "unit": "AUC, real against simulated (0.5: cannot be told apart)",
                    "goal": 0.5,
                    "ok": bool(auc["full"] <= null + 0.05),
                    "detail": {
                        "size": size,
                        "galaxies": len(real),
                        "auc": auc,
                        "auc_all_statistics": round(separability(*numbers, 1.0), 3),
                        "auc_real_half_against_half": round(null, 3),
                        "statistics": table(real, pictures),
                    },
                }
            )
    real_gz2, real_decals = (features(model, pictures) for _, pictures in odd.values())
    out.append(
        {
            "name": "sky.realism.yardstick",
            "value": round(separability(real_gz2, real_decals), 3),
            "unit": "AUC, real GZ2 against real DECaLS",
            "goal": None,
            "ok": True,
            "detail": {"size": size},
        }
    )
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if not REAL.is_dir():
        sys.exit(f"The real pictures are not in {REAL}; nothing to compare with.")
    results = compare(options.size)
    for record in results:
        print(json.dumps(record))
    if options.write:
        replace_file(OUT, json.dumps(results, indent=1) + "\n")
