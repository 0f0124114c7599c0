"""The same runs on a GPU and on a processor: how far apart their test losses are, beside what another seed changes.

    python benchmarks/devices.py

Each run of ``RUNS`` that the run store has, made on another device, is made again on this machine's processor from the
same plan (``data/plans/study.toml``). The rows are kept as they are made, in ``data/benchmarks/devices.json``.
"""

import json

import torch
from harness import STORE, machine
from recipe import STUDY

from gzlib.config import PretrainConfig
from gzlib.files import replace_file
from gzlib.study import study_recipe
from gzlib.training.pretraining import pretrain
from gzlib.training.runs import key_of
from gzlib.training.store import read_run

OUT = STORE / "devices.json"
RUNS = (
    ("resnet_w16", 500),
    ("resnet_w16", 1_000),
    ("resnet_w28", 500),
    ("resnet_w16", 2_000),
    ("resnet_w44", 500),
    ("resnet_w28", 1_000),
)


def main():
    torch.set_num_threads(1)
    kept = json.loads(OUT.read_text()) if OUT.is_file() else {"machine": machine(), "runs": []}
    done = {row["key"] for row in kept["runs"]}
    for encoder, n in RUNS:
        config = PretrainConfig(encoder, n, recipe=study_recipe(encoder, n))
        key = key_of(config, STUDY)
        if key in done or not (stored := read_run(key)) or stored["provenance"]["device"].startswith("CPU"):
            continue
        metrics, _, _ = pretrain(config, STUDY, device=torch.device("cpu"))
        before = stored["metrics"]
        row = {"key": key, "encoder": encoder, "n_train": n, "device": stored["provenance"]["device"]}
        row |= {"loss": round(before["loss"], 4), "loss_here": round(metrics["loss"], 4)}
        row |= {"ended": before["end"]["examples"], "ended_here": metrics["end"]["examples"]}
        kept["runs"].append(row)
        replace_file(OUT, json.dumps(kept, indent=1) + "\n")
        print(row, flush=True)


if __name__ == "__main__":
    main()
