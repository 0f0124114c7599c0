"""The ladder of training sets from random weights on real galaxies, beside the same on simulated ones.

    GZLIB_REAL_DATA=FOLDER python benchmarks/real_points.py

A small network learns six classes of real galaxies (Galaxy Zoo 1) and, with the same recipe, the simulated sky's ten
classes, from six sizes of training set with three seeds each; all of it is trained, from random weights. No image is
mirrored: two of the real classes are mirror images of each other. Test losses and errors are kept as they come in
``data/benchmarks/real_points.json``, without images and without the folder's name; chapter 04 shows them.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import torch
from harness import STORE, machine

from gzlib.config import FINETUNING, Augment, FinetuneConfig, SurveySpec
from gzlib.data.curation import make_survey
from gzlib.files import replace_file
from gzlib.training.distributed import choose_device
from gzlib.training.finetuning import finetune

OUT = STORE / "real_points.json"
ENCODER, SIDE, SEEDS = "resnet_w8", 64, (0, 1, 2)
SIZES = (75, 150, 300, 600, 1_200, 2_388)  # the last are all that there are of the real ones
RECIPE = replace(
    FINETUNING,
    learning_rate=5e-3,
    layer_decay=1.0,
    epochs=100.0,
    evaluations=20,
    augment=Augment(rotate=True, zoom=(1.0, 1.2), shift=0.05, flip=False),
)


def surveys() -> dict[str, SurveySpec]:
    """The real set, if ``GZLIB_REAL_DATA`` has it, and the simulated one."""
    found = {}
    real = Path(os.environ.get("GZLIB_REAL_DATA", "nowhere")) / "gz1_six_classes"
    if real.is_dir():
        found["real"] = SurveySpec(str(real), size=SIDE, split="published")
    return found | {"simulated": SurveySpec("sim:galaxy10:4000", size=SIDE)}


def main():
    torch.set_num_threads(1)
    kept = json.loads(OUT.read_text()) if OUT.is_file() else {"machine": machine(), "encoder": ENCODER, "runs": []}
    done = {(row["galaxies"], row["n_train"], row["seed"]) for row in kept["runs"]}
    for galaxies, survey in surveys().items():
        make_survey(survey)
        for seed in SEEDS:
            for n in SIZES:
                if (galaxies, n, seed) in done:
                    continue
                config = FinetuneConfig(galaxies, ENCODER, n, seed=seed, mode="full", recipe=RECIPE)
                metrics, _, _ = finetune(config, survey, device=choose_device())
                row = {"galaxies": galaxies, "n_train": n, "seed": seed}
                row |= {name: round(float(metrics[name]), 5) for name in ("loss", "error", "baseline_error")}
                row |= {"n_test": metrics["n_test"], "n_classes": metrics["n_classes"]}
                kept["runs"].append(row)
                replace_file(OUT, json.dumps(kept, indent=1) + "\n")
                print(row, flush=True)


if __name__ == "__main__":
    main()
