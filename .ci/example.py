"""Make ``examples/galaxies``, a catalogue as people have them: a table, image files, and a decision tree of its own.

python .ci/example.py

The galaxies are simulated: a third of them smooth, a third spirals, a third discs without arms, by most votes. They are
committed, since another processor draws a few pixels otherwise, and runs are known by the pixels they were trained on.
"""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image

from gzlib.data import load_schema
from gzlib.files import replace_file
from gzlib.sky import simulate

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "galaxies"
GALAXIES, SIZE, SEED = 360, 96, 1
QUALITY = 90  # of the JPEG files: 3 kB each
KINDS = ("smooth", "spiral", "disc")
TREE = [
    {"question": "features", "answers": ["_yes", "_no"], "asked_after": None},
    {"question": "arms", "answers": ["_yes", "_no"], "asked_after": "features_yes"},
    {"question": "bar", "answers": ["_yes", "_no"], "asked_after": "features_yes"},
]
VOTES = {  # column of the catalogue: the answer of Galaxy Zoo 2
    "features_yes": "smooth-or-featured-gz2_featured-or-disk",
    "features_no": "smooth-or-featured-gz2_smooth",
    "arms_yes": "has-spiral-arms-gz2_yes",
    "arms_no": "has-spiral-arms-gz2_no",
    "bar_yes": "bar-gz2_yes",
    "bar_no": "bar-gz2_no",
}


def votes_of(made) -> pd.DataFrame:
    columns = load_schema("gz2").label_cols
    return pd.DataFrame({own: made.votes[:, columns.index(theirs)] for own, theirs in VOTES.items()})


def shapes(votes: pd.DataFrame) -> np.ndarray:
    discs = np.where(votes.arms_yes > votes.arms_no, "spiral", "disc")
    return np.where(votes.features_no > votes.features_yes, "smooth", discs)


def main(folder: Path = FOLDER) -> None:
    shape = shapes(votes_of(simulate("gz2", range(6 * GALAXIES), seed=SEED, size=16)))
    index = np.sort(np.concatenate([np.flatnonzero(shape == kind)[: GALAXIES // len(KINDS)] for kind in KINDS]))
    made = simulate("gz2", index, seed=SEED, size=SIZE)
    votes, ids = votes_of(made), [f"G{i:04d}" for i in index]
    for one, pixels in zip(ids, made.images, strict=True):
        content = io.BytesIO()
        PIL.Image.fromarray(pixels).save(content, "JPEG", quality=QUALITY, subsampling=0)
        replace_file(folder / "images" / f"{one}.jpg", content.getvalue())
    files = [f"images/{one}.jpg" for one in ids]
    table = pd.DataFrame({"id_str": ids, "file_loc": files, "shape": shapes(votes)}).join(votes)
    replace_file(folder / "catalog.csv", table.to_csv(index=False))
    replace_file(folder / "tree.json", json.dumps(TREE, indent=1) + "\n")


if __name__ == "__main__":
    main()
