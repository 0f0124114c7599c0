"""Transfer to real galaxies: what encoders that saw simulated galaxies add to ImageNet's, by task and label count.

    python benchmarks/transfer.py learn --start imagenet --cache DIR    the simulated sky, from ImageNet's weights
    python benchmarks/transfer.py learn --start random --cache DIR      the same from random weights
    python benchmarks/transfer.py features --cache DIR                  of every encoder in DIR whose features are not
    python benchmarks/transfer.py full --cache DIR                      full finetuning, as many labels as some probes
    python benchmarks/transfer.py compare --cache DIR --write           every linear probe, from cached features

``learn`` shows an encoder so many simulated galaxies (``--images``; ``sky_lessons`` says what it learns), on a GPU
where there is one, and keeps its weights, which may travel to the machine that has the real galaxies. ``features``
computes what each encoder says of each real galaxy. ``compare`` fits linear probes on frozen features
(:func:`gzlib.training.probes.fit_probe`, whose penalty is chosen within the labels), paired over arms by fold and
galaxy:

- all labels: five folds, so that every galaxy is predicted once; repeated with other folds for a small set;
- fewer labels, for ImageNet with and without galaxies: in each fold, the same random labels for both;
- both for larger encoders, which ``learn --encoder ENCODER --name imagenet-sky-short-lite1`` (or ``lite2``) teaches
  with a quarter of the images, beside the smallest with as many.

``full`` trains all weights with the library's recipe, from the same labels as probes with fewer labels and tested on
the same galaxies; ``compare`` takes in what it has found by then.

What is measured is kept in the cache, so that a comparison that was cut off goes on. With
``--arm``, what ``--write`` finds of other arms stays.

Real sets are looked for in the folder that ``GZLIB_REAL_DATA`` names; the hash of their content distinguishes them,
and no image is kept. Intervals are of a bootstrap over galaxies within each task, of the mean over tasks also over the
tasks. ``--write`` keeps the numbers in ``data/benchmarks/transfer.json``, which chapter 03 shows.
"""

import argparse
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
import xarray as xr
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, StratifiedKFold
from sky_lessons import lessons, pretrain
from sky_realism import REAL, features, gz2_table, imagenet_encoder, real_pictures, reduced

from gzlib import paths
from gzlib.config import FINETUNING, Conduct, FinetuneConfig
from gzlib.files import replace_file
from gzlib.identity import content_hash, file_hash
from gzlib.progress import silent
from gzlib.sky import sky_identity
from gzlib.training.finetuning import Target, Task, train_all
from gzlib.training.probes import fit_probe

ENCODER = "tf_efficientnet_lite0"
LARGER = {"Lite1": "tf_efficientnet_lite1", "Lite2": "tf_efficientnet_lite2"}  # does size matter downstream?
OUT = paths.ROOT / "data" / "benchmarks" / "transfer.json"
IN_MEAN = ("gz2_five_classes", "gz1_six_classes", "decals_rings")
OUTSIDE = ("gz2_smooth", "first_radio")  # stated beside the mean: a regression, and a far domain
SHORT = "ImageNet + galaxies, a quarter of the images"
# Arms: the features that a probe sees, each an encoder's or several encoders' joined.
ARMS = {
    "random": ("untrained",),
    "ImageNet": ("imagenet",),
    "galaxies": ("random-sky",),
    "ImageNet + galaxies": ("imagenet-sky",),
    SHORT: ("imagenet-sky-short",),
    "ImageNet and galaxies, joined": ("imagenet", "random-sky"),
    "ImageNet and ImageNet + galaxies, joined": ("imagenet", "imagenet-sky"),
}
PARTS = {"ImageNet": "imagenet", SHORT: "imagenet-sky-short"}  # arms of which there are larger encoders
OF_LARGER = {name: {arm: f"{arm}, {name}" for arm in PARTS} for name in LARGER}
ARMS |= {OF_LARGER[name][arm]: (f"{part}-{name.lower()}",) for name in LARGER for arm, part in PARTS.items()}
WITH_FEWER = ("ImageNet", "ImageNet + galaxies")
WITH_DRAWS = {*WITH_FEWER, SHORT, *(own for arms in OF_LARGER.values() for own in arms.values())}
STARTS = {"imagenet": "packaged.safetensors"}  # of full finetuning; its features are known by the package's weights
FULL_ARMS, FULL_COUNTS = WITH_FEWER[::-1], (200, 50, 800)  # what is measured first comes first
FEWEST, DRAWS = 25, 5
SMALL, REPEATS = 1000, 8  # sets of fewer galaxies are split into folds so many times
BOOTSTRAP = 2000


def real_set(name: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, size, size, 3) uint8 and labels (n,), int64 classes or float32 fractions, of all rows at hand."""
    if name == "gz2_smooth":
        fractions = gz2_table(["smooth-or-featured-gz2_smooth_fraction"]).iloc[:, 0]
        return real_pictures("gz2", size), fractions.to_numpy(np.float32)
    if name == "first_radio":
        files, labels = _radio()
        return reduced(files, size), labels
    if name == "decals_rings":
        table = pd.read_csv(REAL / name / "catalog.csv")
        files, labels = [REAL / name / file for file in table["file_loc"]], table["ring"]
    else:
        table = pd.concat([pd.read_parquet(file) for file in sorted((REAL / name / "data").glob("*.parquet"))])
        files, labels = [io.BytesIO(row["bytes"]) for row in table["image"]], table["label"]
    return reduced(files, size), labels.to_numpy(np.int64)


def _radio() -> tuple[list, np.ndarray]:
    """The PNG files of PyPI's ``firstgalaxydata``, whose wheel or folder lies below ``GZLIB_REAL_DATA``."""
    (wheel,) = sorted(REAL.glob("firstgalaxydata-*.whl"))
    with zipfile.ZipFile(wheel) as outer, zipfile.ZipFile(outer.open("firstgalaxydata/galaxy_data.zip")) as inner:
        names = sorted(n for n in inner.namelist() if "/all/" in n and n.endswith(".png"))
        classes = [n.split("/")[-2] for n in names]
        return [io.BytesIO(inner.read(n)) for n in names], np.unique(classes, return_inverse=True)[1]


def content(name: str, size: int) -> str:
    images, labels = real_set(name, size)
    return hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()[:16]


def learn(cache: Path, *, start: str, galaxies: int, images: int, size: int, encoder: str, name: str | None):
    """Train on the sky and keep the weights, in half precision, with what they saw."""
    torch.manual_seed(0)
    model = imagenet_encoder(encoder) if start == "imagenet" else timm.create_model(encoder).eval()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rate = 2e-3 if start == "random" else 6e-4
    seen = pretrain(model, lessons(galaxies, size), images, rate=rate, device=device)
    name = name or f"{start}-sky"
    cache.mkdir(parents=True, exist_ok=True)
    halves = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    save_file(halves, cache / f"{name}.safetensors")
    said = {"encoder": encoder, "images_seen": seen, "galaxies": galaxies, "size": size}
    replace_file(cache / f"{name}.json", json.dumps(said | {"sky": sky_identity()}))


def encoders(cache: Path) -> dict[str, Callable[[], torch.nn.Module]]:
    """How to get each encoder: ImageNet's, an untrained one, and those that ``learn`` left."""

    def untrained():
        torch.manual_seed(0)
        return timm.create_model(ENCODER).eval()

    def learnt(file: Path):
        model = timm.create_model(json.loads(file.with_suffix(".json").read_text())["encoder"]).eval()
        model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in load_file(file).items()})
        return model

    found = {file.stem: partial(learnt, file) for file in sorted(cache.glob("*-sky*.safetensors"))}
    larger = {f"imagenet-{name.lower()}": partial(imagenet_encoder, encoder) for name, encoder in LARGER.items()}
    return {"imagenet": imagenet_encoder, "untrained": untrained} | larger | found


def keep_features(cache: Path, size: int):
    """Features of every real set by every encoder, those that are missing."""
    for name, make in encoders(cache).items():
        model = make()
        for task in available():
            if not (file := cache / f"{task}.{name}.npz").is_file():
                images, labels = real_set(task, size)
                np.savez(file, features=features(model, images), labels=labels)
                print(file.name, flush=True)


def available() -> list[str]:
    here = [name for name in IN_MEAN if (REAL / name).is_dir()] + ["gz2_smooth"] * (REAL / "gz2").is_dir()
    return here + ["first_radio"] * bool(list(REAL.glob("firstgalaxydata-*.whl")))


def loaded(cache: Path, task: str, arm: str) -> tuple[np.ndarray, np.ndarray]:
    parts = [np.load(cache / f"{task}.{name}.npz", allow_pickle=False) for name in ARMS[arm]]
    return np.hstack([part["features"] for part in parts]), parts[0]["labels"]


def folds(labels: np.ndarray, repeat: int) -> list[tuple[np.ndarray, np.ndarray]]:
    if labels.dtype.kind == "f":
        return list(KFold(5, shuffle=True, random_state=repeat).split(labels))
    return list(StratifiedKFold(5, shuffle=True, random_state=repeat).split(labels, labels))


def probe(x, labels, train, test, seed: int) -> np.ndarray:
    """Predictions of ``test``: logits (n, classes), or numbers (n,)."""
    n_classes = None if labels.dtype.kind == "f" else int(labels.max()) + 1
    predict, _ = fit_probe(x[train], labels[train], n_classes=n_classes, seed=seed)
    return predict(x[test]).numpy()


def costs(prediction: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n,) what each prediction costs: 1 for a wrong class, the squared error of a number."""
    if labels.dtype.kind == "f":
        return (prediction - labels) ** 2
    return (prediction.argmax(1) != labels).astype(float)


def counts(available: int) -> list[int]:
    """Label counts in factors of two, below all."""
    out = [FEWEST]
    while out[-1] * 2 < available:
        out.append(out[-1] * 2)
    return out


def measure(job: tuple[Path, str, str]) -> dict:
    """Every probe of one task and arm."""
    cache, task, arm = job
    kept = cache / f"{task}.{content_hash([arm, ARMS[arm], encoders_content(cache, arm)])[:8]}.result.json"
    if kept.is_file():
        found = json.loads(kept.read_text())
        return found | {"cost": np.array(found["cost"]), "few": {int(n): v for n, v in found["few"].items()}}
    torch.set_num_threads(1)
    x, labels = loaded(cache, task, arm)
    repeats = 1 if len(labels) > SMALL else REPEATS
    cost, predicted = np.zeros((repeats, len(labels))), {}
    for repeat in range(repeats):
        for fold, (train, test) in enumerate(folds(labels, repeat)):
            prediction = probe(x, labels, train, test, seed=fold)
            cost[repeat, test] = costs(prediction, labels[test])
            if repeat == 0:
                predicted |= dict(zip(test.tolist(), prediction, strict=True))
    few = {}
    for draw in range(DRAWS):
        order, test = labels_of_draw(labels, draw)
        for n in counts(len(order)) if arm in WITH_DRAWS else ():
            some = order[:n]
            if labels.dtype.kind == "f" or len(np.unique(labels[some])) > 1:
                cost_few = costs(probe(x, labels, some, test, seed=draw), labels[test])
                few.setdefault(n, []).append(round(float(cost_few.mean()), 5))
    out = {"task": task, "arm": arm, "cost": cost.mean(0), "few": few}
    if labels.dtype.kind != "f":
        logits = np.stack([predicted[i] for i in range(len(labels))])
        recall = [1 - cost[0][labels == c].mean() for c in np.unique(labels)]
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        auc = roc_auc_score(labels, p[:, 1] if p.shape[1] == 2 else p, multi_class="ovr")
        out |= {"balanced_accuracy": round(float(np.mean(recall)), 4), "auc": round(float(auc), 4)}
    replace_file(kept, json.dumps(out | {"cost": out["cost"].tolist()}))
    return out


def labels_of_draw(labels: np.ndarray, draw: int) -> tuple[np.ndarray, np.ndarray]:
    """Galaxies to learn from, in the order in which they are labelled, and those to test on."""
    train, test = folds(labels, 0)[draw]
    return np.random.default_rng(draw).permutation(train), test


def finetune_all(cache: Path, size: int):
    """Full finetuning of each task of the mean, runs that are missing; each is kept when it ends."""
    if not (start := cache / STARTS["imagenet"]).is_file():
        save_file(imagenet_encoder().state_dict(), start)
    for arm, n in ((arm, n) for arm in FULL_ARMS for n in FULL_COUNTS):
        for draw in range(DRAWS):
            for task in (t for t in available() if t in IN_MEAN):
                most = len(labels_of_draw(held_set(task, size)[1], draw)[0])
                if n <= most and not (kept := _full_file(cache, task, arm, n, draw)).is_file():
                    error = finetuned(cache, task, arm, n, draw, size)
                    replace_file(kept, json.dumps({"error": round(error, 5)}))
                    print(f"{task}, {arm}, {n} labels, draw {draw}: {error:.4f}", flush=True)


held_set = lru_cache(maxsize=None)(real_set)  # the sets of the mean, whose runs take turns, fit into memory together


def finetuned(cache: Path, task: str, arm: str, n: int, draw: int, size: int) -> float:
    """Error on the draw's test galaxies after training all weights on its first ``n`` labels."""
    images, labels = held_set(task, size)
    order, test = labels_of_draw(labels, draw)
    data = xr.Dataset({"images": (("galaxy", "y", "x", "band"), images), "id_str": ("galaxy", np.arange(len(images)))})
    target = Target(labels, np.ones(len(labels), bool), int(labels.max()) + 1, (), "")
    augment = replace(FINETUNING.augment, flip=task != "gz1_six_classes")  # some of its classes are mirror images
    (name,) = ARMS[arm]
    weights, recipe = str(cache / STARTS.get(name, f"{name}.safetensors")), replace(FINETUNING, augment=augment)
    config = FinetuneConfig(task, ENCODER, n, seed=draw, weights=weights, mode="full", recipe=recipe)
    conduct = Conduct(report=silent)
    logits, _, _ = train_all(config, Task(cache, data, target, order[:n], test), torch.device("cpu"), conduct)
    return float(costs(logits.numpy(), labels[test]).mean())


def _full_file(cache: Path, task: str, arm: str, n: int, draw: int) -> Path:
    return cache / f"{task}.{content_hash([arm, encoders_content(cache, arm), n, draw])[:8]}.full.json"


def full_errors(cache: Path, task: str, arm: str) -> dict[str, list[float]]:
    """Errors after full finetuning by number of labels, the first draws that are there."""
    found: dict[str, list[float]] = {}
    for n in sorted(FULL_COUNTS):
        for draw in range(DRAWS):
            if not (file := _full_file(cache, task, arm, n, draw)).is_file():
                break
            found.setdefault(str(n), []).append(json.loads(file.read_text())["error"])
    return found


def encoders_content(cache: Path, arm: str) -> list[str]:
    """Hashes of an arm's weights, of those that ``learn`` made."""
    files = [cache / f"{name}.safetensors" for name in ARMS[arm]]
    return [file_hash(file) for file in files if file.is_file()]


def compare(cache: Path, *, workers: int, wanted: list[str] | None = None) -> dict:
    """All probes, or those of the arms wanted, and the reductions of ImageNet's errors with their intervals."""
    tasks = [t for t in available() if (cache / f"{t}.imagenet.npz").is_file()]
    arms = [a for a, parts in ARMS.items() if all((cache / f"{tasks[0]}.{p}.npz").is_file() for p in parts)]
    arms = [a for a in arms if not wanted or a in wanted]
    first = [arm for arm in WITH_FEWER if arm in arms]  # what the mean of the claim needs
    jobs = [(cache, task, arm) for arm in [*first, *(a for a in arms if a not in first)] for task in tasks]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        results = {}
        for done in pool.map(measure, jobs):
            results[done["task"], done["arm"]] = done
            print(f"{done['task']}, {done['arm']}: {done['cost'].mean():.4f}", flush=True)
    own = [arm for arm in arms if not any(arm in of.values() for of in OF_LARGER.values())]
    rows = []
    for task, arm in ((task, arm) for arm in own for task in tasks):
        result = results[task, arm]
        row = _row(task, arm, result)
        if arm not in WITH_FEWER:
            row["few"] = {}  # these stand with the larger encoders'
        if arm in FULL_ARMS and (full := full_errors(cache, task, arm)):
            row["full"] = full
        if arm not in ("ImageNet", "random"):
            row |= reduction(results[task, "ImageNet"]["cost"], result["cost"], regression=task == "gz2_smooth")
        if arm == "ImageNet + galaxies":
            row["label_multiplier"] = multiplier(results[task, "ImageNet"], result)
        rows.append(row)
    said = {
        p.stem: json.loads(p.read_text()) for p in sorted(cache.glob("*-sky*.json"))
    }  # what each galaxy-pretrained encoder saw
    size = next(iter(said.values()))["size"]
    in_mean = [t for t in IN_MEAN if t in tasks]
    return {
        "real": True,
        "pretraining": said,
        "sets": {task: content(task, size) for task in tasks},
        "in_mean": in_mean,
        "rows": rows,
        "means": [
            {"arm": arm} | mean_reduction(results, "ImageNet", arm, in_mean)
            for arm in own
            if arm not in ("ImageNet", "random")
        ],
        "sizes": sizes(results, arms, tasks, in_mean),
    }


def _row(task: str, arm: str, result: dict) -> dict:
    power = 0.5 if task == "gz2_smooth" else 1
    error = result["cost"].mean() ** power
    row = {"task": task, "arm": arm, "galaxies": len(result["cost"]), "error": round(float(error), 5)}
    row |= {name: result[name] for name in ("balanced_accuracy", "auc") if name in result}
    return row | {"few": {str(n): [round(e**power, 5) for e in v] for n, v in result["few"].items()}}


def sizes(results: dict, arms: list[str], tasks: list[str], in_mean: list[str]) -> list[dict]:
    """Encoders of several sizes side by side: one entry each, smallest first, where all were measured; else none.

    ``rows``, one for each task and arm; ``galaxies``, the mean share of the errors from its own ImageNet weights that
    is gone; ``larger``, by arm, the mean share of the smallest encoder's errors that is gone.
    """
    names = {"Lite0": {arm: arm for arm in PARTS}} | OF_LARGER
    if not {arm for of in names.values() for arm in of.values()} <= set(arms):
        return []
    out = []
    for name, of in names.items():
        found = {"encoder": LARGER.get(name, ENCODER), "parameters": parameters(LARGER.get(name, ENCODER))}
        found["rows"] = [_row(task, arm, results[task, own]) for arm, own in of.items() for task in tasks]
        found["galaxies"] = mean_reduction(results, of["ImageNet"], of[SHORT], in_mean)
        if name in LARGER:
            found["larger"] = {arm: mean_reduction(results, arm, own, in_mean) for arm, own in of.items()}
        out.append(found)
    return out


def parameters(encoder: str) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in timm.create_model(encoder, num_classes=0).parameters())


def joined(found: dict, before: dict) -> dict:
    """What was found, and what stood there before of arms that were not compared now.

    So does what full finetuning found before from features whose probes come out the same.

    Raises
    ------
    SystemExit
        If that was measured on other galaxies.
    """
    if any(before["sets"].get(task) != identity for task, identity in found["sets"].items()):
        raise SystemExit(
            f"{OUT.name} holds what was measured on other galaxies: compare all arms, or keep it elsewhere"
        )
    full = {(row["task"], row["arm"], row["error"]): row["full"] for row in before["rows"] if "full" in row}
    for row in found["rows"]:
        if "full" not in row and (kept := full.get((row["task"], row["arm"], row["error"]))):
            row["full"] = kept
    out = found | {"pretraining": before["pretraining"] | found["pretraining"]}
    for key in ("rows", "means"):
        now = {row["arm"] for row in found[key]}
        out[key] = [row for row in before[key] if row["arm"] not in now] + found[key]
        out[key].sort(key=lambda row: list(ARMS).index(row["arm"]))
    return out | {"sizes": found["sizes"] or before.get("sizes", [])}


def reduction(before: np.ndarray, after: np.ndarray, *, regression: bool = False) -> dict:
    """Share of the errors that is gone, with the 95 % interval of a bootstrap over galaxies."""
    power, generator = (0.5 if regression else 1.0), np.random.default_rng(0)
    draws = []
    for _ in range(BOOTSTRAP):
        some = generator.integers(0, len(before), len(before))
        draws.append(1 - (after[some].mean() / before[some].mean()) ** power)
    low, high = np.quantile(draws, [0.025, 0.975])
    value = 1 - (after.mean() / before.mean()) ** power
    return {"reduction": round(float(value), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def mean_reduction(results: dict, base: str, arm: str, tasks: list[str]) -> dict:
    """Share of the errors of ``base`` that is gone with ``arm``, mean over tasks.

    Its interval is that of a bootstrap over tasks and, within each, galaxies; beside it, over galaxies alone.
    """
    pairs = [(results[t, base]["cost"], results[t, arm]["cost"]) for t in tasks]
    value, generator = np.mean([1 - after.mean() / before.mean() for before, after in pairs]), np.random.default_rng(0)
    over_tasks, over_galaxies = [], []
    for _ in range(BOOTSTRAP):
        gains = []
        for before, after in pairs:
            some = generator.integers(0, len(before), len(before))
            gains.append(1 - after[some].mean() / before[some].mean())
        over_galaxies.append(np.mean(gains))
        over_tasks.append(np.mean(np.array(gains)[generator.integers(0, len(gains), len(gains))]))
    low, high = np.quantile(over_tasks, [0.025, 0.975])
    inner_low, inner_high = np.quantile(over_galaxies, [0.025, 0.975])
    ends = {"low": low, "high": high, "low_these_tasks": inner_low, "high_these_tasks": inner_high}
    return {"reduction": round(float(value), 4)} | {k: round(float(v), 4) for k, v in ends.items()}


def multiplier(imagenet: dict, other: dict) -> float | None:
    """How many times the labels ImageNet needs for the error that the other arm reaches with half of the largest count.

    None where ImageNet does not get there with all of them.
    """
    sizes = sorted(imagenet["few"])
    curve = np.array([np.mean(imagenet["few"][n]) for n in sizes])
    half = sizes[-2]
    target = np.mean(other["few"][half])
    curve = np.minimum.accumulate(curve)  # more labels never hurt, but for noise
    if target < curve[-1]:
        return None
    if target >= curve[0]:
        return round(sizes[0] / half, 2)
    at = np.interp(-target, -curve, np.log(sizes))
    return round(float(np.exp(at)) / half, 2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("learn", "features", "full", "compare"))
    parser.add_argument("--cache", type=Path, required=True, metavar="DIR", help="features and weights lie there")
    parser.add_argument("--start", choices=("imagenet", "random"), default="imagenet")
    parser.add_argument("--galaxies", type=int, default=48_000)
    parser.add_argument("--images", type=int, default=150_000, help="images that the pretraining sees")
    parser.add_argument("--encoder", choices=(ENCODER, *LARGER.values()), default=ENCODER, help="what learns")
    parser.add_argument("--name", help="of what was learned; START-sky")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--arm", action="append", choices=ARMS, help="compare these alone; ImageNet must be among them")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--write", action="store_true", help=f"keep the result in {OUT.relative_to(paths.ROOT)}")
    o = parser.parse_args()
    if o.what == "learn":
        learn(o.cache, start=o.start, galaxies=o.galaxies, images=o.images, size=o.size, encoder=o.encoder, name=o.name)
    elif o.what == "features":
        keep_features(o.cache, o.size)
    elif o.what == "full":
        finetune_all(o.cache, o.size)
    else:
        result = compare(o.cache, workers=o.workers, wanted=o.arm)
        print(json.dumps(result["means"], indent=1))
        if o.write:
            if o.arm and OUT.is_file():
                result = joined(result, json.loads(OUT.read_text()))
            replace_file(OUT, json.dumps(result, indent=1) + "\n")
