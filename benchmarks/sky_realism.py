"""How well real and simulated images can be distinguished, and by what.

    python benchmarks/sky_realism.py [--size 64] [--write]

Needs the real images of ``../shared/data/real``; figures of them are never written. The sky's image constants
(``gzlib/sky/telescopes.py``, ``scene.py``) were set by the even rows of GZ2 and of DECaLS, with the encoder
EfficientNet-Lite0 and seed 1 of the sky; all that is printed here is for seeds 2 to 4, and for other rows: the odd
rows of both sets, which were reported on for each version of the sky, and ``sdss``, images of the five-class set,
which took no part in any constant. AUC: logistic regression on frozen ImageNet features, five folds; 0.5 means that
nothing tells the two apart; ``fresh`` is by EfficientNet-Lite2, with which nothing was set. Each comes with views that
leave something out, and with two yardsticks: one half of the real images against the other, and real GZ2 against
real DECaLS. The real sets are not representative, so the simulated galaxies are also *matched*: each real galaxy gets
the nearest in vote fractions (five-class set: one of the same class) from a larger pool, each of which is used once.
``--write`` keeps the result in ``data/benchmarks/sky_realism.json`` for chapter 01, beside that of other versions.
"""

import argparse
import io
import json
import os
import sys
from pathlib import Path

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
from sky_measures import measures

from gzlib import paths, sky
from gzlib.data.schema import load_schema
from gzlib.files import replace_file
from gzlib.models.weights import packaged_state

REAL = Path(os.environ.get("GZLIB_REAL_DATA", paths.ROOT.parent / "shared" / "data" / "real"))
OUT = paths.ROOT / "data" / "benchmarks" / "sky_realism.json"
POOL = 6  # simulated galaxies to choose from, for each real one
SEEDS = (2, 3, 4)
FRESH = 300  # images of the five-class set
CAMPAIGN = {"gz2": "gz2", "decals": "dr5", "sdss": "gz2"}
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


def reduced(files: list, size: int) -> np.ndarray:
    """(n, size, size, 3) uint8, reduced from 424 pixels by averaging."""
    return np.stack([np.array(Image.open(f).convert("RGB").resize((size, size), Image.BOX)) for f in files])


def real_pictures(name: str, size: int) -> np.ndarray:
    """All images of ``gz2`` or ``decals``."""
    if name == "gz2":
        return reduced([io.BytesIO(image["bytes"]) for image in gz2_table(["image"]).image], size)
    return reduced(sorted((REAL / "decals_rings" / "images").glob("*.jpg")), size)


def five_classes() -> pd.DataFrame:
    """``FRESH`` rows of the five-class set, the same share of each class as the whole has."""
    files = sorted((REAL / "gz2_five_classes" / "data").glob("*.parquet"))
    table = pd.concat([pd.read_parquet(f, columns=["image", "label_name"]) for f in files], ignore_index=True)
    return table.sample(FRESH, random_state=0)


def imagenet_encoder(name: str = "tf_efficientnet_lite0") -> torch.nn.Module:
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


def table(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> dict[str, dict]:
    """For each number: AUC by it alone, real and simulated median, 10th and 90th percentile, Wasserstein distance.

    The distance is in real standard deviations.
    """
    out = {}
    for name in a:
        x, y = np.asarray(a[name]), np.asarray(b[name])
        auc = roc_auc_score(np.repeat([0, 1], [len(x), len(y)]), np.append(x, y))
        scale = np.subtract(*np.percentile(x, [84, 16])) / 2 + 1e-9
        out[name] = {
            "auc": round(max(auc, 1 - auc), 3),
            "real": np.percentile(x, [50, 10, 90]).round(3).tolist(),
            "simulated": np.percentile(y, [50, 10, 90]).round(3).tolist(),
            "distance": round(wasserstein_distance(x / scale, y / scale), 3),
        }
    return out


def share(campaign: str, votes: np.ndarray, question: str, answer: str) -> np.ndarray:
    """(n,) share of the votes on a question that an answer has, 0 where no one was asked."""
    schema = load_schema(campaign)
    columns = next(q.columns for q in schema.questions if q.name == f"{question}-{campaign}")
    column = schema.label_cols.index(f"{question}-{campaign}_{answer}")
    return votes[:, column] / np.maximum(votes[:, columns].sum(1), 1)


def vote_fractions(votes: np.ndarray) -> np.ndarray:
    """(n, 6) share of the ``MATCHED`` answers, times how many volunteers reached the question."""
    schema = load_schema("gz2")
    first = votes[:, schema.questions[0].columns].sum(1)
    columns = [schema.label_cols.index(name) for name in MATCHED]
    return votes[:, columns] / np.maximum(first, 1)[:, None]


def class_of(votes: np.ndarray) -> np.ndarray:
    """(n,) class by the cuts on vote fractions of Zhu et al. (2019, Ap&SS 364, 55), or an empty string."""
    smooth, featured = (share("gz2", votes, "smooth-or-featured", a) for a in ("smooth", "featured-or-disk"))
    rounded = {a: share("gz2", votes, "how-rounded", a) for a in ("round", "in-between", "cigar")}
    edge, arms = share("gz2", votes, "disk-edge-on", "yes"), share("gz2", votes, "has-spiral-arms", "yes")
    cuts = {
        "round_smooth": (smooth >= 0.469) & (rounded["round"] >= 0.5),
        "in_between_smooth": (smooth >= 0.469) & (rounded["in-between"] >= 0.5),
        "cigar_shaped_smooth": (smooth >= 0.469) & (rounded["cigar"] >= 0.5),
        "edge_on": (featured >= 0.43) & (edge >= 0.602),
        "spiral": (featured >= 0.43) & (edge <= 0.285) & (arms >= 0.619),
    }
    return np.select(list(cuts.values()), list(cuts), "")


def matched(real: np.ndarray, pool: np.ndarray) -> np.ndarray:
    """For each real row the nearest of the pool; the sum of distances is least, and no one is taken twice."""
    cost = np.abs(real[:, None, :] - pool[None, :, :]).sum(2)
    return linear_sum_assignment(cost)[1]


def decals_fractions() -> np.ndarray:
    """(n, 3) shares of volunteers who saw features, then no edge-on disc, then no spiral arms, of the real set."""
    table = pd.read_csv(REAL / "decals_rings" / "catalog.csv")
    files = [path.name for path in sorted((REAL / "decals_rings" / "images").glob("*.jpg"))]
    table = table.set_index(table["file_loc"].str.rsplit("/", n=1).str[-1]).loc[files]
    columns = ("smooth-or-featured_featured-or-disk", "disk-edge-on_no", "has-spiral-arms_no")
    return np.cumprod(table[[f"{name}_fraction" for name in columns]].to_numpy(), axis=1)


def chosen(name: str, rows, seed: int) -> dict[str, np.ndarray]:
    """Galaxy numbers of the simulated images to compare with, at random and matched to the real ones."""
    n, campaign = len(rows), CAMPAIGN[name]
    pool = sky.simulate(campaign, np.arange((POOL if name != "sdss" else 12) * n), seed=seed, size=8)
    if name == "sdss":
        classes, wanted = class_of(pool.votes), pd.Series(rows).value_counts()
        parts = [np.flatnonzero(classes == label)[:count] for label, count in wanted.items()]
        return {"matched": np.concatenate(parts)}
    if name == "gz2":
        real = vote_fractions(gz2_table(load_schema("gz2").label_cols).to_numpy()[rows])
        return {"random": np.arange(n), "matched": matched(real, vote_fractions(pool.votes))}
    steps = (("smooth-or-featured", "featured-or-disk"), ("disk-edge-on", "no"), ("has-spiral-arms", "no"))
    simulated = np.cumprod(np.stack([share("dr5", pool.votes, *step) for step in steps], 1), axis=1)
    return {"random": np.arange(n), "matched": matched(decals_fractions()[rows], simulated)}


def one_set(name: str, rows, real: np.ndarray, encoders: dict) -> list[dict]:
    """A record for each choice of simulated galaxies; the mean over ``SEEDS`` of the sky."""
    seen = {view: features(encoders["known"], change(real)) for view, change in VIEWS.items()}
    fresh = features(encoders["fresh"], real)
    half = np.random.default_rng(0).permutation(len(real))
    null = separability(seen["full"][half[::2]], seen["full"][half[1::2]])
    found = {}
    for seed in SEEDS:
        for which, index in chosen(name, rows, seed).items():
            pictures = sky.simulate(CAMPAIGN[name], index, seed=seed, size=real.shape[1]).images
            found.setdefault(which, []).append(
                {
                    "auc": {
                        view: separability(seen[view], features(encoders["known"], change(pictures)))
                        for view, change in VIEWS.items()
                    },
                    "fresh": separability(fresh, features(encoders["fresh"], pictures)),
                    "pictures": pictures,
                }
            )
    return [record(name, which, real, null, parts) for which, parts in found.items()]


def record(name: str, which: str, real: np.ndarray, null: float, parts: list[dict]) -> dict:
    auc = {view: round(float(np.mean([part["auc"][view] for part in parts])), 3) for view in VIEWS}
    fresh = [part["fresh"] for part in parts]
    first = parts[0]["pictures"]
    numbers = [np.stack([np.asarray(v) for v in statistics(p).values()], 1) for p in (real, first)]
    return {
        "name": f"sky.realism.{name}.{which}",
        "value": auc["full"],
        "unit": "AUC, real against simulated (0.5: cannot be distinguished)",
        "goal": 0.8,
        "ok": bool(auc["full"] <= 0.8),
        "detail": {
            "sky": sky.sky_identity(),
            "size": real.shape[1],
            "galaxies": len(real),
            "auc": auc,
            "auc_by_seed": [round(part["auc"]["full"], 3) for part in parts],
            "auc_fresh_encoder": [round(value, 3) for value in fresh],
            "auc_all_statistics": round(separability(*numbers, 1.0), 3),
            "auc_real_half_against_half": round(null, 3),
            "statistics": table(statistics(real), statistics(first)),
        },
    }


def structure(size: int = 128) -> list[dict]:
    """Neighbours, profiles, axis ratios, asymmetry and small-scale power of both, at twice the size."""
    out = []
    for name in ("gz2", "decals"):
        real = real_pictures(name, size)
        rows = np.arange(1, len(real), 2)
        index = chosen(name, rows, SEEDS[0])["matched"]
        pictures = sky.simulate(CAMPAIGN[name], index, seed=SEEDS[0], size=size).images
        found = table(measures(real[rows]), measures(pictures))
        worst = max(found, key=lambda key: found[key]["auc"])
        out.append(
            {
                "name": f"sky.structure.{name}",
                "value": found[worst]["auc"],
                "unit": f"AUC by the one number that tells most, {worst}",
                "goal": None,
                "ok": True,
                "detail": {"sky": sky.sky_identity(), "size": size, "galaxies": len(rows), "measures": found},
            }
        )
    return out


def compare(size: int) -> list[dict]:
    encoders = {"known": imagenet_encoder(), "fresh": imagenet_encoder("tf_efficientnet_lite2")}
    whole = {name: real_pictures(name, size) for name in ("gz2", "decals")}
    out = []
    for name, pictures in whole.items():
        out += one_set(name, np.arange(1, len(pictures), 2), pictures[1::2], encoders)
    five = five_classes()
    out += one_set("sdss", five["label_name"], reduced([io.BytesIO(i["bytes"]) for i in five["image"]], size), encoders)
    out += structure()
    real_gz2, real_decals = (features(encoders["known"], pictures[1::2]) for pictures in whole.values())
    out.append(
        {
            "name": "sky.realism.yardstick",
            "value": round(separability(real_gz2, real_decals), 3),
            "unit": "AUC, real GZ2 against real DECaLS",
            "goal": None,
            "ok": True,
            "detail": {"sky": sky.sky_identity(), "size": size},
        }
    )
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if not REAL.is_dir():
        sys.exit(f"The real images are not in {REAL}; nothing to compare with.")
    results = compare(options.size)
    for found in results:
        print(json.dumps(found))
    if options.write:
        kept = json.loads(OUT.read_text()) if OUT.is_file() else []
        others = [old for old in kept if old["detail"].get("sky", "before") != sky.sky_identity()]
        replace_file(OUT, json.dumps(results + others, indent=1) + "\n")
