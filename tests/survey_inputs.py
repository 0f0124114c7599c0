"""Small inputs that the tests of sources, curation and survey share."""

import io
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from gzlib.data.schema import load_schema

REAL = "../shared/data/real"


def jpeg(seed, side=48, mode="RGB", kind="JPEG"):
    """Encoded bytes of a picture that no other seed has."""
    shape = (side, side, 3) if mode == "RGB" else (side, side)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return file.getvalue()


def gz2_votes(n, seed=0):
    """(n, 30) int32 votes that walk the Galaxy Zoo 2 tree."""
    schema, rng = load_schema("gz2"), np.random.default_rng(seed)
    votes = np.zeros((n, len(schema.label_cols)), np.int32)
    for question, parent in zip(schema.questions, schema.parent_answer, strict=True):
        asked = np.full(n, 40) if parent < 0 else votes[:, parent]
        shares = rng.dirichlet(np.ones(len(question.answers)), n)
        votes[:, question.columns] = [rng.multinomial(a, s) for a, s in zip(asked, shares, strict=True)]
    return votes


def gz2_table(n, start=0):
    """Galaxy Zoo Evo's columns for n galaxies with distinct pictures."""
    votes = pd.DataFrame(gz2_votes(n, start), columns=load_schema("gz2").label_cols)
    pictures = [{"bytes": jpeg(start + i), "path": None} for i in range(n)]
    head = pd.DataFrame({"image": pictures, "id_str": [f"g{start + i}" for i in range(n)], "dataset_name": "gz2"})
    return pd.concat([head, votes], axis=1)


def write_evo(folder, table, name="train-00000-of-00001.parquet"):
    """A folder in Galaxy Zoo Evo's layout."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), folder / "data" / name)
    return folder


def write_catalogue(folder, table):
    """A folder with catalog.csv and the pictures of its rows."""
    (folder / "images").mkdir(parents=True)
    for i, loc in enumerate(table["file_loc"]):
        (folder / loc).write_bytes(jpeg(1000 + i))
    table.to_csv(folder / "catalog.csv", index=False)
    return folder


def stub_sky():
    """Stands in for the simulated sky: galaxies are functions of campaign, index and seed, and cost nothing."""
    rendered = []

    def simulate(campaign, index, *, seed, size, device):
        if len(index) > 1:  # a single galaxy only shows the columns
            rendered.append((campaign, len(index)))
        n, answers = len(index), len(load_schema(campaign).label_cols)
        images = np.empty((n, size, size, 3), np.uint8)
        images[:] = (np.asarray(index) % 251).astype(np.uint8)[:, None, None, None]
        votes = np.tile(np.asarray(index, np.int32)[:, None] % 7, (1, answers))
        ids = [f"sim-{seed}-{campaign}-{i}" for i in index]
        catalog = pd.DataFrame({"id_str": ids, "ra": np.asarray(index) * 0.1 % 360, "dec": 10.0})
        truth = pd.DataFrame({"id_str": ids, "index": index, f"{campaign}_probability": 0.5})
        return SimpleNamespace(images=images, votes=votes, labels=None, truth=truth, catalog=catalog)

    def simulate_task(task, index, *, seed, size, device):
        made = simulate("gz2", index, seed=seed, size=size, device=device)
        label = np.asarray(index) % 3
        made.labels = pd.DataFrame({"label": label, "label_name": np.array(["a", "b", "c"], object)[label]})
        made.catalog["id_str"] = [f"{task}-{i}" for i in index]
        made.votes = np.zeros((len(index), 0), np.int32)
        return made

    return SimpleNamespace(
        sky_identity=lambda: "stub",  # never the real sky's, whose columns may be remembered
        CAMPAIGNS=("gz2", "dr5"),
        TASKS=("three",),
        TASK_SIZES={"three": 30},
        simulate=simulate,
        simulate_task=simulate_task,
        rendered=rendered,
    )
