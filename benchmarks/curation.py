"""How fast sources are curated, and the memory that a million galaxies take beyond their images.

Run in processes of their own on Linux, so that memory is the curation's alone. The million is of small images (16 px),
as what is measured is the rest: tables, votes, ids, positions.
"""

import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from harness import row
from PIL import Image

from gzlib import sky
from gzlib.data import load_schema

SIMULATED, SHARD, SIDE = 20_000, 5_000, 64
FITS, FITS_SIDE = 500, 128
MILLION, MILLION_SHARD, MILLION_SIDE = 1_000_000, 50_000, 16
MEMORY_GOAL = 1.0  # GB beyond the images
SCRIPT = """
import json, re, sys, time
from gzlib.data import curate, read_report
began = time.monotonic()
folder = curate(sys.argv[1], out=sys.argv[2], size=int(sys.argv[3]), progress=False)
seconds = time.monotonic() - began
peak = int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])  # rusage would count the parent's too
print(json.dumps({"seconds": seconds, "peak": peak * 1024, "counts": read_report(folder)["counts"]}))
"""


def rows():
    out = []
    for name, make, size, detail in (
        ("evo", make_evo, SIDE, f"simulated galaxies as Galaxy Zoo Evo shards, {SIDE} px JPEG"),
        ("fits", make_fits, SIDE, f"a folder of {FITS_SIDE} px FITS files, 32-bit"),
        ("million", make_million, MILLION_SIDE, f"shards of {MILLION_SHARD:,} with votes and positions, 16 px PNG"),
    ):
        with tempfile.TemporaryDirectory(prefix="gzlib-bench-") as scratch:
            made = curated(make(Path(scratch) / name), Path(scratch) / "survey", size)
            n = made["counts"]["galaxies"]
            seconds = made["seconds"]
            out.append(row(f"curation.{name}", n / seconds, "images/s", detail=f"{n:,}: {detail}"))
            if name == "million":
                memory = made["peak"] / 1e9
                goal, what = f"<= {MEMORY_GOAL:g}", "largest resident memory of the process; images go to the disk"
                out.append(
                    row("curation.memory", memory, "GB", goal=goal, ok=memory <= MEMORY_GOAL, detail=f"{n:,}: {what}")
                )
    return out


def curated(source: Path, out: Path, size: int) -> dict:
    """Curate in a process of its own; seconds, largest memory [bytes] and counts."""
    command = [sys.executable, "-c", SCRIPT, str(source), str(out), str(size)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def encoded(image: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **({"quality": 90} if kind == "JPEG" else {}))
    return file.getvalue()


def write_shard(folder: Path, number: int, images: list[bytes], votes: np.ndarray, columns: dict) -> None:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    cells = pa.array([{"bytes": image, "path": None} for image in images])
    answers = load_schema("gz2").label_cols
    table = pa.table({"image": cells, **columns} | {col: votes[:, i] for i, col in enumerate(answers)})
    pq.write_table(table, folder / "data" / f"train-{number:05d}.parquet", row_group_size=1000)


def make_evo(folder: Path) -> Path:
    for start in range(0, SIMULATED, SHARD):
        made = sky.simulate("gz2", range(start, start + SHARD), seed=0, size=SIDE)
        images = [encoded(image, "JPEG") for image in made.images]
        columns = {"id_str": made.catalog.id_str.tolist(), "ra": made.catalog.ra, "dec": made.catalog.dec}
        write_shard(folder, start // SHARD, images, np.asarray(made.votes), columns)
    return folder


def make_fits(folder: Path) -> Path:
    from astropy.io import fits

    folder.mkdir()
    made = sky.simulate("gz2", range(FITS), seed=0, size=FITS_SIDE)
    for i, image in enumerate(made.images):
        fits.PrimaryHDU(image.mean(axis=2, dtype=np.float32)).writeto(folder / f"{i}.fits")
    return folder


def make_million(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    base = encoded(rng.integers(0, 256, (MILLION_SIDE, MILLION_SIDE, 3), dtype=np.uint8), "PNG")
    for start in range(0, MILLION, MILLION_SHARD):
        ids = [f"J{i:07d}" for i in range(start, start + MILLION_SHARD)]
        votes = np.zeros((MILLION_SHARD, len(load_schema("gz2").label_cols)), np.int32)
        votes[:, :3] = rng.integers(0, 40, (MILLION_SHARD, 3))
        # Evenly over the sphere but for the last digits, which no two share: no positions within the radius.
        place = np.arange(start, start + MILLION_SHARD)
        dec = np.degrees(np.arcsin(2 * (place + 0.5) / MILLION - 1))
        columns = {"id_str": ids, "ra": place * 137.50776405 % 360, "dec": dec}
        images = [base + i.encode() for i in ids]  # what follows a PNG's end is ignored
        write_shard(folder, start // MILLION_SHARD, images, votes, columns)
    return folder
