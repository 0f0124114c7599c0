"""How well real and simulated pictures can be told apart: AUC on frozen ImageNet features, and pixel statistics.

    python benchmarks/sky_realism.py [--size 64]

Needs the real GZ2 and DECaLS pictures of ``../shared/data/real``; figures of them are never written.
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
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gzlib import paths
from gzlib.data import sky
from gzlib.models.weights import packaged_state

REAL = paths.ROOT.parent / "shared" / "data" / "real"


def real_pictures(name: str, size: int) -> np.ndarray:
    if name == "gz2":
        files = [
            io.BytesIO(row["bytes"])
            for f in sorted((REAL / "gz2" / "data").glob("*.parquet"))
            for row in pd.read_parquet(f, columns=["image"]).image
        ]
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


def separability(real: np.ndarray, simulated: np.ndarray, regularisation=0.01) -> float:
    x = np.concatenate([real, simulated])
    y = np.repeat([0, 1], [len(real), len(simulated)])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=regularisation, max_iter=300))
    return roc_auc_score(
        y,
        cross_val_predict(model, x, y, cv=StratifiedKFold(5, shuffle=True, random_state=0), method="predict_proba")[
            :, 1
        ],
    )


def statistics(pictures: np.ndarray) -> dict[str, np.ndarray]:
    """Per-picture numbers: background level and noise, brightness, size in the frame, colour, spectrum."""
    grey = pictures.astype(float).mean(3)
    n, side = len(grey), grey.shape[1]
    corner = pictures[:, : side // 6, : side // 6].astype(float)
    yy, xx = np.indices((side, side)) - (side - 1) / 2
    radius = np.hypot(xx, yy)
    flux = np.clip(grey - np.median(grey, (1, 2))[:, None, None] - 4, 0, None) * (radius < side / 3)
    power = np.abs(np.fft.fft2(grey)) ** 2
    k = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None])
    low, high = power[:, (k > 0.02) & (k < 0.1)].mean(1), power[:, k > 0.35].mean(1)
    return {
        "background": np.median(grey, (1, 2)),
        "noise": corner.std((1, 2)).mean(1),
        "peak": np.percentile(grey, 99.8, (1, 2)),
        "bright_share": (grey > 40).mean((1, 2)),
        "size": (flux * radius).sum((1, 2)) / (flux.sum((1, 2)) + 1) / side,
        "red_minus_blue": (pictures[..., 0].astype(float) - pictures[..., 2])[:, radius < side / 12].mean(1),
        "spectrum": np.log10(low / high),
        "noise_colour": corner.mean((1, 2)).std(1) + 0 * np.arange(n),
        "neighbour_correlation": np.array(
            [np.corrcoef(c[:, :-1, 1].ravel(), c[:, 1:, 1].ravel())[0, 1] if c[..., 1].std() > 0 else 0 for c in corner]
        ),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64)
    options = parser.parse_args()
    model = imagenet_encoder()
    for name, campaign in (("gz2", "gz2"), ("decals", "dr5")):
        real = real_pictures(name, options.size)
        simulated = sky.simulate(campaign, np.arange(len(real)), seed=0, size=options.size).images
        a, b = statistics(real), statistics(simulated)
        single = {
            k: round(
                max(
                    roc_auc_score(np.repeat([0, 1], [len(real), len(real)]), np.append(a[k], b[k])),
                    1 - roc_auc_score(np.repeat([0, 1], [len(real), len(real)]), np.append(a[k], b[k])),
                ),
                3,
            )
            for k in a
        }
        table = [np.stack(list(s.values()), 1) for s in (a, b)]
        print(
            json.dumps(
                {
                    "name": f"sky.realism.{name}",
                    "value": round(separability(features(model, real), features(model, simulated)), 3),
                    "unit": "AUC",
                    "goal": 0.5,
                    "ok": False,
                    "detail": {
                        "size": options.size,
                        "auc_statistics": round(separability(*table, 1.0), 3),
                        "auc_single": single,
                        "real_median": {k: round(float(np.median(v)), 3) for k, v in a.items()},
                        "simulated_median": {k: round(float(np.median(v)), 3) for k, v in b.items()},
                    },
                }
            )
        )
