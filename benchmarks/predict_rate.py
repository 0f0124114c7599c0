"""How near ``gzlib predict`` comes to the bare network: galaxies per second of both, in one process, taking turns.

The bare way holds everything in memory: images of a curated survey, or JPEG files decoded as ``predict`` decodes them,
go through the network in the same batches, and its outputs are dropped. ``predict`` reads the same galaxies from the
disk, calibrates, makes intervals, and writes its file whole or not at all. The first model predicts two classes, the
second the 30 answers of Galaxy Zoo 2 with their intervals, 160 columns. The encoder is a small one, so that whatever is
not the network counts for as much as it ever does; with a larger one the ratio is nearer to one.

Where other jobs run, the clock tells about them; then processor time is compared, and the rates are left out.
"""

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from harness import row
from PIL import Image
from roofline import device

from gzlib import sky
from gzlib.data.curation import curate
from gzlib.data.images import Frame, load_all
from gzlib.data.schema import load_schema
from gzlib.data.survey import open_survey
from gzlib.models.encoders import build_encoder
from gzlib.models.heads import LEVELS, ClassHead, DirichletHead, GalaxyModel
from gzlib.training.predict import write_table
from gzlib.training.saved import CalibrationShape, HeadShape, ImageShape, ModelConfig, SavedModel, normalisation

ENCODER, SIZE, JPEG_SIDE, QUALITY = "tf_efficientnet_lite0", 64, 424, 90
GALAXIES, FILES, DRAWN = 1024, 1024, 32  # they are copies of a few images, of other bytes each
ROUNDS, GOAL, ALONE = 3, 0.9, 0.95


def rows():
    out, share = [], []
    with tempfile.TemporaryDirectory(prefix="gzlib-bench-") as scratch:
        place = Path(scratch)
        files = make_images(place / "files", FILES, JPEG_SIDE, "jpg")
        make_images(place / "small", GALAXIES, SIZE, "png")
        folder = curate(place / "small", out=place / "survey", size=SIZE, progress=False)
        pixels = open_survey(folder).images.values
        for kind in ("classes", "votes"):
            model = bare_model(kind)
            for name, source, bare in (
                ("survey", folder, lambda model=model: model.outputs(pixels)),
                ("files", place / "files", lambda model=model: decode_and_run(model, files)),
            ):
                n = len(pixels) if name == "survey" else len(files)
                out.append(compare(f"predict_rate.{kind}.{name}", model, source, bare, n, place))
                share.append(out[-1].pop("share"))
    if min(share) < ALONE:
        for one in out:
            one["detail"] += f"; processor time, measured beside other jobs with {100 * min(share):.0f} % of a core"
    return out


def make_images(folder: Path, n: int, side: int, suffix: str) -> list[Path]:
    """Simulated galaxies as files."""
    folder.mkdir()
    images = sky.simulate("gz2", range(DRAWN), seed=1, size=side).images
    files = [folder / f"{i:05d}.{suffix}" for i in range(n)]
    for i, file in enumerate(files):
        Image.fromarray(np.roll(images[i % DRAWN], i // DRAWN, axis=0)).save(file, quality=QUALITY)
    return files


def bare_model(kind: str) -> SavedModel:
    """A model as it is before any training, whose predictions take as long as those of a good one."""
    torch.manual_seed(0)
    encoder = build_encoder(ENCODER, size=SIZE)
    calibration = CalibrationShape()
    if kind == "classes":
        shape, head = HeadShape(kind="classes", label="ring", classes=["no", "yes"], codes=[0, 1]), ClassHead
        n_outputs = 2
    else:
        tree = load_schema("gz2")
        shape, head, n_outputs = HeadShape(kind="votes", label="votes", tree=tree.records()), DirichletHead, 30
        calibration.scale = [1.0] * len(tree.questions)
        calibration.levels = {f"{100 * level:g}": [level] * n_outputs for level in LEVELS}
    config = ModelConfig(
        format=1,
        gzlib="0",
        encoder=ENCODER,
        num_features=encoder.num_features,
        image=ImageShape(size=SIZE, **normalisation(encoder)),
        head=shape,
        calibration=calibration,
    )
    network = GalaxyModel(encoder, head(encoder.num_features, n_outputs))
    return SavedModel(network, config, device=device().type)


def decode_and_run(model: SavedModel, files: list[Path]):
    with ThreadPoolExecutor() as pool:
        loaded = load_all(files, list(range(len(files))), Frame(SIZE), pool)
    model.outputs(np.stack([one.pixels for one in loaded]))


def compare(name: str, model: SavedModel, source: Path, bare, n: int, place: Path) -> dict:
    """One row: the bare way's time over ``predict``'s, each the middle of several rounds in turn."""
    out = place / f"{name}.parquet"
    ways = {"bare": bare, "predict": lambda: write_table(model, str(source), out, force=True, progress=False)}
    clock, processor = ({way: [] for way in ways} for _ in range(2))
    for turn in range(ROUNDS + 1):
        for way, do in ways.items():
            began, spent = time.perf_counter(), time.process_time()
            do()
            if turn:  # caches and threads were made in the first
                clock[way].append(time.perf_counter() - began)
                processor[way].append(time.process_time() - spent)
    share = sum(map(sum, processor.values())) / sum(map(sum, clock.values()))
    alone = share > ALONE or device().type != "cpu"
    taken = {way: float(np.median((clock if alone else processor)[way])) for way in ways}
    ratio = taken["bare"] / taken["predict"]
    detail = f"{n:,} galaxies, {ENCODER} at {SIZE} px, {device().type}, {torch.get_num_threads()} threads"
    if alone:
        detail += f"; {n / taken['predict']:,.0f} against {n / taken['bare']:,.0f} galaxies/s"
    done = row(name, ratio, "x the bare network", goal=f">= {GOAL}", ok=ratio >= GOAL, detail=detail)
    return done | {"share": 1.0 if alone else share}
