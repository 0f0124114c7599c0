"""Augmented batches against Zoobot's ``CatalogDataModule``, from the same JPEG images of 424 px.

Zoobot decodes and transforms each image each time, in two worker processes; we curate once and then read bytes. The
time to curate is shown, so that the number of epochs after which that pays can be seen.
"""

import logging
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from harness import need, row
from PIL import Image
from roofline import device, offers, on_gpu_only, reached, side_by_side

from gzlib import sky
from gzlib.config import Augment
from gzlib.data.curation import curate
from gzlib.data.loader import Loader, MappedLoader
from gzlib.data.survey import open_survey

PICTURES, JPEG_SIDE, QUALITY, BATCH, WORKERS = 192, 424, 90, 64, 2
# Side, goal, and how often the images are repeated: enough that they do not fit a processor's cache.
CASES = (("", 64, 20, 100), ("224", 224, 4, 16))
# Operations for one pixel of a view: its place (4), weights (10), and 7 for each of three bands.
OPERATIONS_A_PIXEL = 35


def rows():
    need(("galaxy_datasets", "lightning", "omegaconf"), "The comparison with Zoobot's loader")
    out = []
    with tempfile.TemporaryDirectory(prefix="gzlib-bench-") as scratch:
        catalog = make_jpegs(Path(scratch))
        for suffix, side, goal, repeats in CASES:
            start = time.perf_counter()
            survey = open_survey(curate(catalog, out=Path(scratch) / f"survey{side}", size=side, progress=False))
            curated = time.perf_counter() - start
            out += compare(suffix, side, goal, repeats, survey.images.values, catalog, curated)
    return out


def make_jpegs(folder: Path) -> Path:
    """Simulated Galaxy Zoo 2 galaxies as JPEG files, and their catalogue, of which the path is returned."""
    made = sky.simulate("gz2", range(PICTURES), seed=1, size=JPEG_SIDE)
    files = [folder / f"{i}.jpg" for i in range(PICTURES)]
    for file, image in zip(files, made.images, strict=True):
        Image.fromarray(image).save(file, quality=QUALITY)
    table = pd.DataFrame({"id_str": [f"g{i}" for i in range(PICTURES)], "file_loc": [str(f) for f in files]})
    table["label"] = np.arange(PICTURES) % 5
    table.to_csv(folder / "catalog.csv", index=False)
    return folder / "catalog.csv"


def compare(suffix: str, side: int, goal: float, repeats: int, images: np.ndarray, catalog: Path, curated: float):
    index = np.tile(np.arange(PICTURES), repeats)
    common = {"batch_size": BATCH}
    loaders = {
        "resident": Loader(images, np.arange(PICTURES), index, augment=Augment(), **common),
        "mapped": MappedLoader(images, np.arange(PICTURES), index, augment=Augment(), **common),
        "erasing": Loader(images, np.arange(PICTURES), index, augment=Augment(erase=5), **common),
    }
    steps = dict.fromkeys(loaders, 0)

    def one_batch(name):
        loaders[name].batch(steps[name])
        steps[name] += 1

    rates, theirs = {}, 0.0
    for _ in range(2):  # taking turns, the best of each
        theirs = max(theirs, zoobot_rate(catalog, side))
        taken = side_by_side({name: lambda name=name: one_batch(name) for name in loaders}, rounds=2, seconds=0.7)
        rates = {name: max(rates.get(name, 0.0), BATCH / seconds) for name, seconds in taken.items()}
    ratio, name = rates["resident"] / theirs, f"loader.ratio{suffix}"
    detail = (
        f"{rates['resident']:,.0f} against {theirs:,.0f} pictures/s at {side} px; rotation, zoom, shift, flip;"
        f" {torch.get_num_threads()} threads against {WORKERS} workers; JPEGs of {JPEG_SIDE} px,"
        f" curated once at {PICTURES / curated:,.0f} pictures/s"
    )
    erasing = f"with 5 erased rectangles a image, as Zoobot's view has: {rates['erasing']:,.0f} pictures/s"
    mapped = "memory-mapped and read ahead (from the page cache) against resident: the same batches"
    moved, operations = 3 * side**2 * (1 + 4), OPERATIONS_A_PIXEL * side**2  # bytes in, float32 out
    what = f"a image of {side} px"
    seconds = 1 / rates["resident"]
    return [
        row(name, ratio, "x Zoobot", goal=f">= {goal}", ok=ratio >= goal, detail=detail, rate=rates["resident"]),
        row(f"loader.erasing{suffix}", rates["erasing"] / theirs, "x Zoobot", detail=erasing),
        row(f"loader.mapped{suffix}", rates["mapped"] / rates["resident"], "x resident", detail=mapped),
        reached(f"loader{suffix}", seconds, moved=moved, operations=operations, what=what),
        on_gpu_only(f"loader.gpu{suffix}", "pictures/s", lambda: on_gpu(f"loader.gpu{suffix}", side, images, index)),
    ]


def zoobot_rate(catalog: Path, side: int) -> float:
    """Images a second of Zoobot's default view at ``side`` px, once its workers are at full speed."""
    from galaxy_datasets.pytorch.galaxy_datamodule import CatalogDataModule
    from galaxy_datasets.transforms import default_view_config, get_galaxy_transform

    logging.getLogger("galaxy_datasets").setLevel(logging.ERROR)
    table = pd.read_csv(catalog)
    table = pd.concat([table] * 10, ignore_index=True)
    view = default_view_config()
    view.output_size = side
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a GPU that is not here
        transform = get_galaxy_transform(view)
        module = CatalogDataModule(
            label_cols=["label"],
            train_catalog=table,
            val_catalog=table,
            batch_size=BATCH,
            num_workers=WORKERS,
            train_transform=transform,
            test_transform=transform,
        )
        module.setup("fit")
        batches = iter(module.train_dataloader())
        # What lies ready at the start was made before the clock starts, what lies ready at the end after it: only
        # batches that had to be waited for in between are counted.
        ahead = WORKERS * module.prefetch_factor
        for _ in range(ahead + 1):
            next(batches)
        start, seen = time.perf_counter(), 0
        for _ in range(len(table) // BATCH - 2 * ahead - 1):
            seen += len(next(batches)["image"])
        rate = seen / (time.perf_counter() - start)
        del batches
    return rate


def on_gpu(name: str, side: int, images: np.ndarray, index: np.ndarray):
    loader = Loader(images, np.arange(PICTURES), index, batch_size=512, augment=Augment(), device=device())
    taken = side_by_side({"gpu": lambda: loader.batch(0)})["gpu"] / 512
    share = 3 * side**2 * 5 / offers()["bytes"] / taken
    return row(name, 1 / taken, "pictures/s", detail=f"{share:.2f} of what the memory's bandwidth allows")
