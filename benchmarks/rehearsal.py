"""The real survey, rehearsed: simulated galaxies as the hub's shards, downloaded, curated, trained on and fitted.

Galaxy Zoo Evo's public data set is 37 parquet files with embedded JPEGs of 424 px. Here simulated galaxies are written
in that form, served by a hub on this machine, and taken through the commands that a user types, each a program of its
own. What each step takes for one galaxy, and the most memory that it holds, is measured at two sizes; chapter 91
extrapolates to the whole survey.

``python benchmarks/rehearsal.py 2000 6000`` measures at other sizes than ``python -m gzlib bench rehearsal`` does, and
``--store`` keeps the figures.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from harness import machine, row, stored_file
from local_hub import served
from PIL import Image

from gzlib import paths, sky
from gzlib.data.schema import Schema, load_schema
from gzlib.data.sources.base import shares
from gzlib.files import replace_file

SIZES = (2_000, 20_000)
REPOSITORY = "mwalmsley/gz_evo"
SHARDS = {"train": 30, "test": 7}
# A small rehearsal has fewer files, as long as those of a large one: with the same batches, only what is remembered of
# each galaxy can make memory grow.
LEAST_ROWS = 500
ROW_GROUP = 100  # galaxies, as the `datasets` library writes images
JPEG_SIDE, QUALITY = 424, 90
TEST_SHARE = 141_760 / 805_600  # of the published split
# Labelled galaxies of each campaign of the public data set, in thousands; Cosmic Dawn is not in it.
CAMPAIGNS = {"dr12": 82, "dr5": 225, "dr8": 92, "gz2": 191, "hubble": 96, "candels": 48, "ukidss": 71}
VIEWS = 8  # of each simulated galaxy: turned and mirrored, which drawing eight galaxies would take eight times as long
# Classes in the order of their numbers in Galaxy Zoo Evo.
SUMMARY = (
    *("smooth_round", "smooth_cigar", "unbarred_spiral", "edge_on_disk"),
    *("barred_spiral", "featured_without_bar_or_spiral"),
)
SIDE, ENCODER, SHOWN = 224, "resnet_w12", 256  # of the rehearsal's runs
PARTS = (16, 8, 4, 2)  # each run trains on one part in so many of the training galaxies
PLAN = """
[survey]
source = "hub:{repository}"
size = {side}
split = "source"

[recipe]
examples = {shown}
evaluations = 2
watch = {watch}

[[pretrain]]
encoder = "{encoder}"
n_train = {n_train}
"""


def rows(sizes: tuple[int, ...] = SIZES):
    out = []
    for n in sizes:
        with tempfile.TemporaryDirectory(prefix="gzlib-rehearsal-") as scratch:
            steps = rehearse(n, Path(scratch))
        out += [_row(n, step) for step in steps]
    return out + memory_rows(out)


def memory_rows(steps: list[dict]) -> list[dict]:
    """How the most memory held by curation and by training changes from the smallest to the largest size."""
    sizes, out = sorted({r["galaxies"] for r in steps}), []
    first, last = ({r["step"]: r for r in steps if r["galaxies"] == n} for n in (sizes[0], sizes[-1]))
    for step in ("curate", "train"):
        small, large = (one[step]["peak_bytes"] - one[step].get("held_bytes", 0) for one in (first, last))
        detail = f"{small / 1e6:,.0f} MB with {sizes[0]:,} galaxies, {large / 1e6:,.0f} MB with {sizes[-1]:,}"
        detail += ", without the images that are held" if step == "train" else ""
        growth = {"goal": "<= 1.1", "ok": large <= 1.1 * small, "detail": detail, "axis": "memory"}
        out.append(row(f"rehearsal.memory.{step}", large / small, "x", **growth))
    return out


def _row(n: int, step: dict) -> dict:
    count, what = step.pop("count"), step.pop("what")
    name = f"rehearsal.{step['step']}.{n}"
    detail = f"{count:,.0f} {what} in {step['seconds']:.1f} s, {step['cpu_seconds']:.1f} s of one core"
    detail += f"; at most {step['peak_bytes'] / 1e6:,.0f} MB of memory"
    return row(name, count / step["seconds"], f"{what}/s", detail=detail, axis="step", galaxies=n, count=count, **step)


def rehearse(n: int, scratch: Path, *, side: int = SIDE, encoder: str = ENCODER, shown: int = SHOWN) -> list[dict]:
    """Take ``n`` simulated galaxies through every step; what each took, in order.

    Returns
    -------
    list of dict
        ``step``; ``count`` of ``what``; ``seconds``; ``cpu_seconds``, which other programs on the machine do not
        lengthen; ``peak_bytes``, the most memory that the program held (without
        pages of mapped files, which the system can take back); and for some what came of it.
    """
    began, busy = time.perf_counter(), time.process_time()
    folder = scratch / "hub" / "datasets" / REPOSITORY / "data"
    write_shards(n, folder)
    drawn = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - busy, "peak_bytes": 0}
    size = sum(file.stat().st_size for file in folder.iterdir())
    steps = [{"step": "draw", "count": n, "what": "galaxies", **drawn, "bytes": size}]
    with served(scratch / "hub", scratch / "cache") as hub:
        program = Program(scratch, hub)
        source = f"hub:{REPOSITORY}"
        fetch = f"from gzlib.data.sources.registry import download; download({REPOSITORY!r})"
        steps.append({"step": "download", "count": size / 1e6, "what": "MB", **program.run("-c", fetch)})
        command = ("curate", source, "--size", str(side), "--split", "source")
        curated = program.gzlib(*command)
        (survey,) = (scratch / "surveys").glob("*/survey.json")
        report = json.loads(survey.read_text())
        counts = report["counts"]
        made = {"bytes": sum(file.stat().st_size for file in survey.parent.iterdir()), "kept": counts["galaxies"]}
        steps.append({"step": "curate", "count": n, "what": "galaxies", **curated, **made, "labels": report["labels"]})
        sizes = [counts["splits"]["train"] // part for part in PARTS]
        plan = scratch / "plan.toml"
        said = {"repository": REPOSITORY, "side": side, "shown": shown, "encoder": encoder, "n_train": sizes}
        said["watch"] = min(256, counts["splits"]["val"])
        plan.write_text(PLAN.format(**said))
        trained = program.gzlib("sweep", str(plan), "--workers", "1")
        runs = [json.loads(file.read_text()) for file in (scratch / "runs").glob("*/run.json")]
        losses = {run["config"]["n_train"]: run["metrics"]["loss"] for run in runs}
        # Loaders hold their images where these fit half of the free memory, as they do here.
        held = 3 * side**2 * (max(sizes) + said["watch"] + counts["splits"]["test"])
        about = {"encoder": encoder, "side": side, "losses": losses, "held_bytes": held}
        steps.append({"step": "train", "count": shown * len(sizes), "what": "images", **trained, **about})
        table = scratch / "runs.csv"
        program.gzlib("runs", "export", str(table))
        pd.read_csv(table)[["n_train", "loss", "seed"]].to_csv(table, index=False)
        fitted = program.gzlib("fit", str(table), "--json")
        found = json.loads(fitted.pop("said"))["curves"][0]
        steps.append({"step": "fit", "count": len(sizes), "what": "runs", **fitted, "curve": found})
    return [{name: value for name, value in step.items() if name != "said"} for step in steps]


class Program:
    """Programs with folders of their own for surveys, runs and downloads.

    Parameters
    ----------
    scratch : Path
    hub : dict
        The environment that names the hub.
    """

    def __init__(self, scratch: Path, hub: dict[str, str]):
        own = {"GZLIB_STORE": str(scratch / "runs"), "GZLIB_SURVEYS": str(scratch / "surveys")}
        self.environment = os.environ | hub | own | {"PYTHONPATH": str(paths.project())}
        self.scratch = scratch

    def gzlib(self, *words: str) -> dict:
        """``gzlib`` with these words; see :meth:`run`."""
        return self.run("-m", "gzlib", *words)

    def run(self, *words: str) -> dict:
        """Run Python to its end.

        Returns
        -------
        dict
            ``seconds``, ``cpu_seconds`` of all its threads, ``peak_bytes`` and what it ``said`` on standard output.
        """
        out, err = self.scratch / "out.txt", self.scratch / "err.txt"
        began, peak = time.perf_counter(), 0
        with open(out, "w") as told, open(err, "w") as complained:
            command = [sys.executable, *words]
            process = subprocess.Popen(command, stdout=told, stderr=complained, env=self.environment, cwd=self.scratch)
            try:
                while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
                    peak = max(peak, anonymous_bytes(process.pid))
                    time.sleep(0.02)
            except BaseException:
                process.kill()
                raise
        seconds, used = time.perf_counter() - began, ended[2]
        process.returncode = os.waitstatus_to_exitcode(ended[1])
        if process.returncode:
            raise RuntimeError(f"{' '.join(words)} ended with status {process.returncode}: {err.read_text()[-2000:]}")
        busy = used.ru_utime + used.ru_stime
        return {"seconds": seconds, "cpu_seconds": busy, "peak_bytes": peak, "said": out.read_text()}


def anonymous_bytes(pid: int) -> int:
    """Memory that a process of Linux holds, without pages of files; 0 where that is not known."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = [line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")]
    return 1024 * int(found[0]) if found else 0


def write_shards(n: int, folder: Path, *, jpeg_side: int = JPEG_SIDE, least: int = LEAST_ROWS):
    """Write ``n`` simulated galaxies as Galaxy Zoo Evo's parquet files: 30 of its training set and 7 of its test set.

    There are fewer files where they would have fewer than ``least`` galaxies.

    Each simulated galaxy is shown in eight orientations, all with its votes and on one side of the split.
    """
    schema = load_schema("+".join(sorted(CAMPAIGNS)))
    folder.mkdir(parents=True)
    n_test = round(n * TEST_SHARE)
    first = dict.fromkeys(CAMPAIGNS, 0)
    for split, total in (("train", n - n_test), ("test", n_test)):
        parts = shares(total, [total * share for share in CAMPAIGNS.values()])
        tables = _galaxies(dict(zip(CAMPAIGNS, parts, strict=True)), first, schema, jpeg_side)
        waiting: list[pa.Table] = []
        shards = max(1, min(SHARDS[split], total // least))
        for number, rows_of_shard in enumerate(shares(total, [total] * shards)):
            name = f"{split}-{number:05d}-of-{shards:05d}.parquet"
            while sum(map(len, waiting)) < rows_of_shard:
                waiting.append(next(tables))
            whole = pa.concat_tables(waiting)
            pq.write_table(whole.slice(0, rows_of_shard), folder / name, row_group_size=ROW_GROUP)
            waiting = [whole.slice(rows_of_shard)]


def _galaxies(counts: dict[str, int], first: dict[str, int], schema: Schema, jpeg_side: int):
    """Tables of simulated galaxies, campaigns in turn, as a shard of the hub mixes them."""
    left = dict(counts)
    while any(left.values()):
        for campaign in CAMPAIGNS:
            drawn = min(8, -(-left[campaign] // VIEWS))
            if not drawn:
                continue
            index = np.arange(first[campaign], first[campaign] + drawn)
            first[campaign] += drawn
            table = _table(campaign, index, schema, jpeg_side)
            table = table.slice(0, left[campaign])
            left[campaign] -= len(table)
            yield table


def _table(campaign: str, index: np.ndarray, schema: Schema, jpeg_side: int) -> pa.Table:
    made = sky.simulate(campaign, index, seed=15, size=jpeg_side)
    own = load_schema(campaign)
    pictures = [view for image in made.images for view in _orientations(image)]
    with ThreadPoolExecutor(2) as pool:
        encoded = list(pool.map(_jpeg, pictures))
    head = made.catalog.loc[made.catalog.index.repeat(VIEWS), ["id_str", "ra", "dec"]].reset_index(drop=True)
    turn = np.tile(np.arange(VIEWS), len(index))
    head["id_str"] = [f"{name}-{view}" for name, view in zip(head["id_str"], turn, strict=True)]
    # Places an arcminute apart: no two are one galaxy.
    head["dec"] = head["dec"] * 0.99 + turn / 60
    votes = np.zeros((len(head), len(schema.label_cols)), np.int32)
    places = [schema.label_cols.index(column) for column in own.label_cols]
    votes[:, places] = np.repeat(made.votes, VIEWS, axis=0)
    columns: dict[str, np.ndarray | list] = {}
    for question in schema.questions:
        counts = votes[:, question.columns]
        total = counts.sum(1)
        with np.errstate(invalid="ignore"):
            fractions = (counts / total[:, None]).astype(np.float32)  # NaN where no one was asked, as in the original
        for answer, column in enumerate(schema.label_cols[question.columns]):
            columns[column] = counts[:, answer]
            columns[f"{column}_fraction"] = fractions[:, answer]
        columns[f"{question.name}_total-votes"] = total.astype(np.int32)
    image = pa.array(
        [{"bytes": data, "path": None} for data in encoded], pa.struct({"bytes": "binary", "path": "string"})
    )
    arrays = {"image": image, "id_str": head["id_str"], "dataset_name": [f"gz_{campaign}"] * len(head)}
    arrays |= {axis: head[axis].astype(float) for axis in ("ra", "dec")} | columns
    arrays["summary"] = [*np.repeat(summary_class(made.votes, own), VIEWS)]
    features = {"image": {"_type": "Image"}, "summary": {"dtype": "string", "_type": "Value"}}
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.table(arrays).replace_schema_metadata(about)


def _orientations(image: np.ndarray) -> list[np.ndarray]:
    return [np.rot90(side, quarter) for side in (image, image[:, ::-1]) for quarter in range(4)]


def _jpeg(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()


def summary_class(votes: np.ndarray, schema: Schema) -> np.ndarray:
    """Galaxy Zoo Evo's ``summary`` of votes on one campaign, (n, answers): a class, or "" where they leave it open.

    A branch counts if more than half of the first question's votes lead there; then the commonest answers do.
    """
    questions = {question.name.removesuffix(f"-{schema.name}"): question for question in schema.questions}
    answers = {name: schema.label_cols[question.columns] for name, question in questions.items()}

    def counts(name: str, *words: str) -> np.ndarray:
        """Votes for the answers that begin with one of the words."""
        if name not in questions:
            return np.zeros(len(votes))
        own = votes[:, questions[name].columns]
        return sum(
            own[:, i]
            for i, column in enumerate(answers[name])
            if column.removeprefix(questions[name].name).lstrip("_").startswith(words)
        )

    first = votes[:, questions["smooth-or-featured"].columns].sum(1)
    smooth = counts("smooth-or-featured", "smooth") > first / 2
    featured = counts("smooth-or-featured", "feat") > first / 2
    between = counts("how-rounded", "in-between")
    round_, cigar = counts("how-rounded", "round", "completely"), counts("how-rounded", "cigar")
    edge_on = counts("disk-edge-on", "yes") > counts("disk-edge-on", "no")
    spiral = counts("has-spiral-arms", "yes") > counts("has-spiral-arms", "no")
    barred = counts("bar", "yes", "strong", "weak") > counts("bar", "no")
    conditions = (
        smooth & (round_ > np.maximum(between, cigar)),
        smooth & (cigar > np.maximum(between, round_)),
        featured & ~edge_on & spiral & ~barred,
        featured & edge_on,
        featured & ~edge_on & spiral & barred,
        featured & ~edge_on & ~spiral,
    )
    return np.select(conditions, SUMMARY, "")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", type=int, nargs=2, help="galaxies")
    parser.add_argument("--store", action="store_true", help="keep the figures in data/benchmarks")
    given = parser.parse_args()
    results = rows(tuple(given.sizes))
    for result in results:
        print(json.dumps(result))
    if given.store:
        record = {"benchmark": "rehearsal", "machine": machine(), "rows": results}
        replace_file(stored_file("rehearsal"), json.dumps(record, indent=1) + "\n")
