"""Recipes side by side: test loss, processor seconds and epochs, of each recipe at each size, training set and seed.

    python -m gzlib bench recipe --store            compares the candidates, and keeps the rows
    python benchmarks/recipe.py regularisation      what the study's dropout and weight decay were chosen from
    python benchmarks/recipe.py convergence         half and twice of what ends a run, half and twice the learning rate
    python benchmarks/recipe.py atlas               many recipes on one small encoder
    python benchmarks/recipe.py families            learning rates of the other architectures

A cell whose run is in the run store is read from there. All but the first keep their rows as they go, in
``data/benchmarks/recipe-NAME.json``; what is there is not made again, so that a comparison that was cut off goes on.
``--only TEXT`` restricts them to cells whose title contains the text.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from harness import STORE, machine, row

from gzlib import paths
from gzlib.config import Augment, PretrainConfig, Recipe, SurveySpec, config_dict
from gzlib.data.curation import survey_fingerprint
from gzlib.files import replace_file
from gzlib.identity import content_hash
from gzlib.study import study_recipe
from gzlib.training.distributed import choose_device
from gzlib.training.pretraining import pretrain
from gzlib.training.runs import key_of
from gzlib.training.store import read_run

STUDY = SurveySpec("sim:study:64000", size=48, split="published")  # the survey of data/plans/study.toml


@dataclass(frozen=True)
class Cell:
    """One run of a comparison."""

    candidate: str
    config: PretrainConfig
    survey: SurveySpec

    @property
    def title(self) -> str:
        c = self.config
        return f"{self.candidate}, {c.encoder}, {c.n_train:,} galaxies, {self.survey.size} px, seed {c.seed}"

    @property
    def key(self) -> str:
        """Of what defines the run, as in the run store; a candidate's name is not part of it."""
        return content_hash([config_dict(self.config), survey_fingerprint(self.survey)])[:16]


def candidates(encoder: str, n: int) -> dict[str, Recipe]:
    """The recipes that were chosen from: the study's, and what it could have been."""
    study = study_recipe(encoder, n)
    present = replace(study, optimizer="adamw")
    cosine = replace(present, schedule="cosine", spacing=0.0, patience=0, evaluations=1)
    return {
        "study": study,
        "constant rate": present,
        "constant rate, running average": replace(present, average=10.0),
        "no dropout": replace(study, dropout=0.0),
        **{f"cosine over {epochs} epochs": replace(cosine, epochs=epochs) for epochs in (16.0, 32.0, 64.0, 128.0)},
    }


def comparison() -> Iterator[Cell]:
    for n in (500, 1_000, 4_000):
        for encoder in ("resnet_w8", "resnet_w16"):
            for name, recipe in candidates(encoder, n).items():
                yield Cell(name, PretrainConfig(encoder, n, recipe=recipe), STUDY)


# (encoder, galaxies, dropout, weight decay, stochastic depth, rate, patience) of each run of the comparison.
REGULARISATION = (
    ("resnet_w4", 500, 0.7, 0.05, 0, 0.02, 2),
    ("resnet_w8", 500, 0.25, 0.05, 0, 0.02, 6),
    ("resnet_w8", 500, 0.5, 0.05, 0, 0.02, 6),
    ("resnet_w8", 500, 0.5, 0.05, 0, 0.01, 6),
    ("resnet_w8", 500, 0.5, 0.05, 0.1, 0.02, 2),
    ("resnet_w8", 500, 0.5, 0.3, 0, 0.02, 2),
    ("resnet_w8", 500, 0.5, 1, 0, 0.02, 2),
    ("resnet_w8", 500, 0.7, 0.05, 0, 0.02, 2),
    ("resnet_w8", 500, 0.7, 0.3, 0, 0.02, 2),
    ("resnet_w8", 500, 0.7, 1, 0, 0.02, 2),
    ("resnet_w8", 500, 0.85, 0.05, 0, 0.02, 2),
    ("resnet_w8", 500, 0.85, 0.3, 0, 0.02, 2),
    ("resnet_w8", 1_000, 0.5, 0.05, 0, 0.02, 6),
    ("resnet_w8", 2_000, 0.354, 0.3, 0, 0.02, 2),
    ("resnet_w8", 2_000, 0.500556, 0.3, 0, 0.02, 2),
    ("resnet_w8", 2_000, 0.708, 0.3, 0, 0.02, 2),
    ("resnet_w8", 8_000, 0.177, 0.05, 0, 0.02, 2),
    ("resnet_w8", 8_000, 0.250278, 0.3, 0, 0.02, 2),
)


def regularisation() -> Iterator[Cell]:
    """Dropout of the features, weight decay, stochastic depth and patience at several training sets."""
    for encoder, n, dropout, decay, depth, rate, patience in REGULARISATION:
        changed = {"weight_decay": decay, "drop_path": depth, "learning_rate": rate, "patience": patience}
        recipe = replace(study_recipe(encoder, n), dropout=dropout, **changed)
        name = f"dropout {dropout:g}, weight decay {decay:g}, depth {depth:g}, rate {rate:g}, patience {patience}"
        yield Cell(name, PretrainConfig(encoder, n, recipe=recipe), STUDY)


def convergence() -> Iterator[Cell]:
    """Whether the study's runs had come to their end: twice the budget, half and twice the rate."""
    pairs = [("resnet_w4", (500, 16_000)), ("resnet_w44", (500, 16_000))]
    for encoder, sizes in pairs:
        for n in sizes:
            study = study_recipe(encoder, n)
            longer = replace(study, epochs=2 * study.epochs, patience=2 * study.patience)
            changed = {
                "study": study,
                "twice the budget": longer,
                "half the rate": replace(study, learning_rate=study.learning_rate / 2),
                "twice the rate": replace(study, learning_rate=study.learning_rate * 2),
            }
            for name, recipe in changed.items():
                yield Cell(name, PretrainConfig(encoder, n, recipe=recipe), STUDY)


ATLAS, ATLAS_SIZES = "resnet_w8", (500, 2_000, 8_000)


def atlas() -> Iterator[Cell]:
    """How much of an exponent is the recipe's: many reasonable recipes on one small encoder.

    Recipe by recipe, so that one that was cut off has whole curves; the study's own comes with its three seeds.
    """
    studies = {n: study_recipe(ATLAS, n) for n in ATLAS_SIZES}
    for seed in range(3):
        for n, study in studies.items():
            yield Cell("study", PretrainConfig(ATLAS, n, seed, recipe=study), STUDY)
    changed = {n: atlas_recipes(study) for n, study in studies.items()}
    for name in changed[ATLAS_SIZES[0]]:
        for n in ATLAS_SIZES:
            yield Cell(name, PretrainConfig(ATLAS, n, recipe=changed[n][name]), STUDY)
    for size in (32, 64):
        for n, study in studies.items():
            yield Cell(f"{size} px", PretrainConfig(ATLAS, n, recipe=study), replace(STUDY, size=size))


def atlas_recipes(study: Recipe) -> dict[str, Recipe]:
    """What the study's recipe could have been: one thing changed in each, the most debatable ones first."""
    present, views = replace(study, optimizer="adamw"), study.augment
    cosine = replace(present, schedule="cosine", spacing=0.0, patience=0, evaluations=10)
    still = Augment(rotate=False, zoom=(1.0, 1.0), shift=0.0, flip=False)
    return {
        "twice the budget": replace(study, epochs=2 * study.epochs, patience=2 * study.patience),
        "rate x 0.5": replace(study, learning_rate=study.learning_rate * 0.5),
        "rate x 2": replace(study, learning_rate=study.learning_rate * 2),
        "dropout 0": replace(study, dropout=0.0),
        "cosine over 32 epochs": replace(cosine, epochs=32.0),
        "weight decay 0": replace(study, weight_decay=0.0),
        "AdamW, average 10": replace(present, average=10.0),
        "no rotation": replace(study, augment=replace(views, rotate=False)),
        "batches of 128": replace(study, batch_size=128),
        "half the patience": replace(study, patience=1),
        "dropout 0.5": replace(study, dropout=0.5),
        "stochastic depth 0.1": replace(study, drop_path=0.1),
        "erasing": replace(study, augment=replace(views, erase=5)),
        "cosine over 128 epochs": replace(cosine, epochs=128.0),
        "AdamW, average 0": present,
        "rate x 0.25": replace(study, learning_rate=study.learning_rate * 0.25),
        "rate x 4": replace(study, learning_rate=study.learning_rate * 4),
        "weight decay 0.2": replace(study, weight_decay=0.2),
        "weight decay 0.5": replace(study, weight_decay=0.5),
        "weight decay 0.01": replace(study, weight_decay=0.01),
        "dropout 0.25": replace(study, dropout=0.25),
        "dropout 0.85": replace(study, dropout=0.85),
        "stochastic depth 0.3": replace(study, drop_path=0.3),
        "batches of 32": replace(study, batch_size=32),
        "batches of 256": replace(study, batch_size=256),
        "AdamW, average 3": replace(present, average=3.0),
        "cosine over 8 epochs": replace(cosine, epochs=8.0),
        "cosine over 16 epochs": replace(cosine, epochs=16.0),
        "cosine over 64 epochs": replace(cosine, epochs=64.0),
        "no augmentation": replace(study, augment=still),
        "zoom to 1.5": replace(study, augment=replace(views, zoom=(0.9, 1.5))),
        "clip 1": replace(study, clip=1.0),
    }


# Of each architecture two sizes and three learning rates, at 2,000 galaxies.
RATES = {
    ("convnext_w16", "convnext_w32"): (1e-3, 3e-3, 1e-2),
    ("vit_w64", "vit_w128"): (1e-3, 3e-3, 1e-2),
    ("tinynet_e", "tf_efficientnet_lite0"): (3e-3, 1e-2, 2e-2),
}


def families() -> Iterator[Cell]:
    """The rates from which ``gzlib.config.FAMILIES`` has the best."""
    for encoders, rates in RATES.items():
        for encoder in encoders:
            for rate in rates:
                recipe = replace(study_recipe(encoder, 2_000), learning_rate=rate)
                yield Cell(f"rate {rate:g}", PretrainConfig(encoder, 2_000, recipe=recipe), STUDY)


COMPARISONS = {
    "comparison": comparison,
    "regularisation": regularisation,
    "convergence": convergence,
    "atlas": atlas,
    "families": families,
}


def measure(cell: Cell) -> dict:
    """Read the run of a cell where it is stored, else make it; one that failed has no loss."""
    about = {"key": cell.key, "candidate": cell.candidate, "encoder": cell.config.encoder}
    about |= {"n_train": cell.config.n_train, "seed": cell.config.seed, "size": cell.survey.size}
    if (failed := paths.run_folder(key_of(cell.config, cell.survey)) / "failed.json").is_file():
        why = json.loads(failed.read_text())["error"].split(";")[0]
        return about | {"loss": None, "why": why, "recipe": asdict(cell.config.recipe)}
    record = read_run(key_of(cell.config, cell.survey))
    device, used = choose_device(), None
    if record:
        metrics, seconds, device = record["metrics"], record["provenance"]["seconds"], record["provenance"]["device"]
    else:
        began, used = time.perf_counter(), time.process_time()
        metrics, _, _ = pretrain(cell.config, cell.survey, device=device)
        seconds, used = time.perf_counter() - began, round(time.process_time() - used, 1)
    end = metrics["end"]
    if end["examples"] < cell.config.recipe.warmup_examples:
        end["why"] += ", in the warm-up, where no run ends any longer"
    return about | {
        "n_params": metrics["n_params"],
        "loss": round(metrics["loss"], 4),
        "loss_se": round(metrics["loss_se"], 4),
        "floor": round(metrics["floor"]["loss"], 4),
        "val_loss": round(min(metrics["history"]["val_loss"]), 4),
        "epochs": end["examples"] / cell.config.n_train,
        "best_epoch": end["best"] / cell.config.n_train,
        "why": end["why"],
        "device": str(device),
        "processor_seconds": used,
        "seconds": round(seconds, 1),
        "recipe": asdict(cell.config.recipe),
    }


def doublings(cells: list[dict]) -> list[dict]:
    """By how much the study's loss falls from each training set of some cells to twice as many galaxies."""
    found = []
    for encoder, n in sorted({(cell["encoder"], cell["n_train"]) for cell in cells}):
        runs = [
            read_run(key_of(PretrainConfig(encoder, m, recipe=study_recipe(encoder, m)), STUDY)) for m in (n, 2 * n)
        ]
        if all(runs):
            few, many = (run["metrics"]["loss"] for run in runs)
            found.append({"encoder": encoder, "n_train": n, "gain": round(few - many, 4)})
    return found


def carry_out(name: str, *, only: str = "", stored: bool = False) -> list[dict]:
    """The results of a comparison's cells, those that are missing made and kept one by one, or left if ``stored``."""
    file = STORE / ("recipe-cells.json" if name == "comparison" else f"recipe-{name}.json")
    kept = json.loads(file.read_text()) if file.is_file() else {"machine": machine(), "cells": []}
    done = {result["key"]: result for result in kept["cells"]}
    results = []
    for cell in COMPARISONS[name]():
        if only not in cell.title:
            continue
        if cell.key not in done:
            if stored and read_run(key_of(cell.config, cell.survey)) is None:
                continue
            done[cell.key] = measure(cell)
            kept["cells"].append(done[cell.key])
            if name == "convergence":
                kept["doublings"] = doublings(kept["cells"])
            replace_file(file, json.dumps(kept, indent=1) + "\n")
        results.append(done[cell.key] | {"candidate": cell.candidate})
        r = results[-1]
        told = f"{r['loss']:.3f} after {r['epochs']:.0f} epochs, {r['seconds']:.0f} s" if r["loss"] else r["why"]
        print(f"{cell.title}: {told}", flush=True)
    return results


def rows() -> list[dict]:
    """One row a candidate: its mean excess test loss over the best candidate of each cell, and its processor time."""
    results = carry_out("comparison")
    cells = sorted({(r["encoder"], r["n_train"]) for r in results})
    best = {cell: min(r["loss"] for r in results if (r["encoder"], r["n_train"]) == cell) for cell in cells}
    out = []
    for name in dict.fromkeys(r["candidate"] for r in results):
        own = [r for r in results if r["candidate"] == name]
        excess = np.mean([r["loss"] - best[r["encoder"], r["n_train"]] for r in own])
        seconds = sum(r["processor_seconds"] for r in own)
        epochs = ", ".join(f"{r['epochs']:.0f}" for r in own)
        detail = f"{len(own)} cells, {seconds:.0f} processor seconds, epochs {epochs}"
        out.append(row(f"recipe.{name}", float(excess), "nats above the best", detail=detail, cells=own))
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=COMPARISONS)
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--stored", action="store_true", help="only what the run store has")
    torch.set_num_threads(1)
    carry_out(**vars(parser.parse_args()))
