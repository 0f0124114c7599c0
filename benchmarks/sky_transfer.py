"""Does the simulated sky help on real galaxies? ImageNet features before and after further pretraining on it.

    python benchmarks/sky_transfer.py [--galaxies 12000] [--minutes 10] [--size 96]

EfficientNet-Lite0 from ImageNet learns, for so many processor minutes, the known structure of simulated GZ2 and
DECaLS galaxies and their votes; then a logistic regression on frozen features is cross-validated (five folds over all
rows at hand) on the three real class sets of ``../shared/data/real``: on ImageNet's features, on those after the sky,
and on both joined. The goal is a fifth fewer errors with the joined features than with ImageNet's, on average.
"""

import argparse
import io
import json
import time

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sky_realism import REAL, features, imagenet_encoder
from torch import nn

from gzlib.data import sky
from gzlib.data.schema import load_schema

SIGHTS = (
    "arms bar ring axis_ratio edge_on disc bulge dust knots clumps texture lopsided merger minor_merger overlap tail"
)


def real_set(name: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    if name == "decals_rings":
        table = pd.read_csv(REAL / name / "catalog.csv")
        files, labels = [REAL / name / f for f in table["file_loc"]], table["ring"].to_numpy()
    else:
        table = pd.concat([pd.read_parquet(f) for f in sorted((REAL / name / "data").glob("*.parquet"))])
        files, labels = [io.BytesIO(row["bytes"]) for row in table["image"]], table["label"].to_numpy()
    return np.stack([np.array(Image.open(f).convert("RGB").resize((size, size), Image.BOX)) for f in files]), labels


def lessons(galaxies: int, size: int) -> tuple[torch.Tensor, torch.Tensor, list[tuple[torch.Tensor, list]]]:
    """Pictures, known visible structure (standardised), and for each campaign its votes and questions."""
    pictures, known, votes = [], [], []
    for campaign in ("gz2", "dr5"):
        made = sky.simulate(campaign, range(galaxies // 2), seed=7, size=size)
        truth = made.truth
        sights = truth[[f"visible_{name}" for name in SIGHTS.split()]].to_numpy()
        winding = truth["visible_arms"] * truth["handedness"]  # no question asks for it, Galaxy Zoo 1 did
        pitch = truth["visible_arms"] * np.rad2deg(truth["pitch"]) / 20
        colour = truth["colour_old"] * truth["bulge_fraction"] + truth["colour_young"] * truth["disc_fraction"]
        known.append(np.column_stack([sights, winding, pitch, colour]))
        pictures.append(made.images)
        votes.append((torch.from_numpy(made.votes).float(), load_schema(campaign).questions))
    known = np.concatenate(known)
    known = (known - known.mean(0)) / known.std(0)
    return torch.from_numpy(np.concatenate(pictures)), torch.from_numpy(known).float(), votes


def pretrain(model, galaxies: int, minutes: float, size: int):
    """Further pretraining in place: mean squared error on structure plus cross-entropy of votes."""
    pictures, known, votes = lessons(galaxies, size)
    half, width = galaxies // 2, known.shape[1]
    head = nn.Linear(model.num_features, width + sum(v.shape[1] for v, _ in votes))
    rate = [{"params": model.parameters(), "lr": 6e-4}, {"params": head.parameters(), "lr": 3e-3}]
    optimiser = torch.optim.AdamW(rate, weight_decay=0.02)
    generator, start, step = torch.Generator().manual_seed(0), time.process_time(), 0
    model.train()
    while (spent := (time.process_time() - start) / 60 / minutes) < 1:
        rows = torch.randint(2 * half, (48,), generator=generator)
        x = pictures[rows].permute(0, 3, 1, 2).float() / 127.5 - 1
        x = torch.rot90(x, int(torch.randint(4, (1,), generator=generator)), (2, 3))
        out = head(model.forward_head(model.forward_features(x), pre_logits=True))
        loss, offset = nn.functional.mse_loss(out[:, :width], known[rows]), width
        for part, (counts, questions) in enumerate(votes):
            chosen = (rows // half) == part
            logits, count = out[chosen, offset : offset + counts.shape[1]], counts[rows[chosen] - part * half]
            for question in questions:
                answer = nn.functional.log_softmax(logits[:, question.columns], 1)
                loss = loss - (count[:, question.columns] * answer).sum() / 48 / 40
            offset += counts.shape[1]
        for group, top in zip(optimiser.param_groups, (6e-4, 3e-3), strict=True):
            group["lr"] = top * min(1, step / 50) * (0.5 + 0.5 * np.cos(np.pi * min(spent, 1)))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimiser.step()
        step += 1
    model.eval()
    return step * 48


def error(x: np.ndarray, labels: np.ndarray) -> float:
    """Five-fold error of the better of two regularisations."""
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return 1 - max(
        cross_val_score(
            make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=400)), x, labels, cv=folds
        ).mean()
        for c in (0.003, 0.03)
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--galaxies", type=int, default=12000)
    parser.add_argument("--minutes", type=float, default=10, help="processor minutes of pretraining")
    parser.add_argument("--size", type=int, default=96)
    options = parser.parse_args()
    torch.manual_seed(0)
    model = imagenet_encoder()
    sets = {name: real_set(name, options.size) for name in ("gz2_five_classes", "gz1_six_classes", "decals_rings")}
    before = {name: features(model, x) for name, (x, _) in sets.items()}
    seen = pretrain(model, options.galaxies, options.minutes, options.size)
    reductions = []
    for name, (x, labels) in sets.items():
        after = features(model, x)
        old, new, joined = (error(f, labels) for f in (before[name], after, np.hstack([before[name], after])))
        reductions.append(1 - joined / old)
        detail = {
            "imagenet": round(old, 4),
            "imagenet_and_sky": round(new, 4),
            "joined": round(joined, 4),
            "rows": len(x),
        }
        print(
            json.dumps({"name": f"sky.transfer.{name}", "value": round(reductions[-1], 4), "detail": detail}),
            flush=True,
        )
    mean = round(float(np.mean(reductions)), 4)
    record = {"name": "sky.transfer", "value": mean, "unit": "share of the ImageNet errors removed", "goal": 0.2}
    print(json.dumps(record | {"ok": mean >= 0.2, "detail": {"pictures_seen": seen, "size": options.size}}))
