"""Finetuning from one weights file on two real tasks: Zoobot 2.9.0's ``FinetuneableZoobotClassifier`` and ours.

Both start from the same ImageNet weights, see the same image files and the same labels, of which the same fifth is for
validation, and are tested on the same galaxies; each follows its own recipe. Zoobot's is its documented defaults:
AdamW at 1e-4, layer decay .75, dropout .5, its default view (output size and normalisation set to the encoder's), 100
epochs or 10 without a better validation loss, the best epoch's weights; batches of 32, since with its default of 256
there would be none. Ours is that of ``gzlib finetune --mode full``, beside it the linear probe of ``--mode linear``.

Runs take turns. Times are processor seconds of this process, in one thread, since a shared machine would spoil the
clock's; seconds are only given where this process had a processor to itself.

The images are read below ``GZLIB_REAL_DATA``, with the folders and tables of ``benchmarks/transfer.py``.
"""

import io
import logging
import tempfile
import time
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from harness import need, row
from PIL import Image
from safetensors.torch import load_file, save_file
from sky_realism import REAL

from gzlib import paths
from gzlib.config import Conduct, FinetuneConfig, SurveySpec
from gzlib.data.curation import make_survey
from gzlib.errors import UserError
from gzlib.models.weights import packaged_state
from gzlib.training.finetuning import Task, prepare_task
from gzlib.training.runs import run

ENCODER, SIDE, SIZE = "tf_efficientnet_lite0", 96, 64  # of the image files, and of the network's input [px]
TASKS = {"decals_rings": ("ring", (50, 200)), "gz2_five_classes": ("label", (100, 300))}
SEEDS, BATCH, ALONE = (0, 1, 2), 32, 0.95
OURS, PROBE, THEIRS = "gzlib", "gzlib, linear probe", "Zoobot"


def rows():
    need(("zoobot", "galaxy_datasets", "lightning"), "The comparison with Zoobot's finetuning")
    if absent := [name for name in TASKS if not (REAL / name).is_dir()]:
        raise UserError(f"'{REAL}' has no folder '{absent[0]}'; name the folder of real images with GZLIB_REAL_DATA.")
    from zoobot.pytorch.training import finetune  # noqa: F401  # imported before the clock runs

    torch.set_num_threads(1)
    out, spent = [], []
    with tempfile.TemporaryDirectory(prefix="gzlib-bench-") as scratch:
        place = Path(scratch)
        paths.STORE, paths.SURVEYS = place / "runs", place / "surveys"
        weights = place / "weights.safetensors"
        save_file({name: value.contiguous() for name, value in packaged_state(ENCODER).items()}, weights)
        for name, (label, counts) in TASKS.items():
            catalog = write_task(name, label, place / name)
            for n in counts:
                found = {tool: [] for tool in (OURS, THEIRS, PROBE)}
                for seed in SEEDS:
                    for tool, measure in ((OURS, ours), (THEIRS, theirs), (PROBE, linear)):
                        config = FinetuneConfig(name, ENCODER, n, label, seed, str(weights), "full")
                        found[tool].append(timed(measure, config, catalog))
                        print(f"{name}, {n} labels, seed {seed}, {tool}: {found[tool][-1]}", flush=True)
                out.append(errors(name, n, found))
                spent.append(found)
    return [*out, *times(spent)]


def write_task(name: str, label: str, folder: Path) -> Path:
    """One real set as a catalogue with image files, ``SIDE`` px, and its published split; path of the catalogue."""
    if (REAL / name / "catalog.csv").is_file():
        table = pd.read_csv(REAL / name / "catalog.csv", dtype={"id_str": str})
        images = [REAL / name / file for file in table["file_loc"]]
    else:
        parts = [pd.read_parquet(f).assign(split=f.name.split("-")[0]) for f in sorted((REAL / name).glob("data/*"))]
        table = pd.concat(parts, ignore_index=True)
        images = [io.BytesIO(image["bytes"]) for image in table["image"]]
    (folder / "images").mkdir(parents=True)
    files = [folder / "images" / f"{i}.png" for i in range(len(table))]
    for image, file in zip(images, files, strict=True):
        Image.open(image).convert("RGB").resize((SIDE, SIDE), Image.BOX).save(file)
    kept = table[["id_str", label, "split"]].assign(file_loc=[str(file) for file in files])
    kept.to_csv(folder / "catalog.csv", index=False)
    return folder / "catalog.csv"


def timed(measure, config: FinetuneConfig, catalog: Path) -> dict:
    """Error on the test galaxies, and seconds of the clock and of the processor; curation is not counted."""
    survey = SurveySpec(str(catalog), size=SIZE, split="published")
    make_survey(survey, progress=False)
    clock, processor = time.perf_counter(), time.process_time()
    found = measure(config, survey)
    taken = {"seconds": time.perf_counter() - clock, "processor": time.process_time() - processor}
    return found | {name: round(value, 2) for name, value in taken.items()}


def ours(config: FinetuneConfig, survey: SurveySpec) -> dict:
    found = run(config, survey, conduct=Conduct(device="cpu", report=lambda line: None))["metrics"]
    return {"error": found["error"], "baseline": found["baseline_error"]}


def linear(config: FinetuneConfig, survey: SurveySpec) -> dict:
    return ours(replace(config, mode="linear"), survey)


def catalogues(task: Task, label: str, catalog: Path) -> dict[str, pd.DataFrame]:
    """The galaxies of a task as Zoobot takes them: our labels, of which those that we hold out are for validation."""
    table = pd.read_csv(catalog, dtype={"id_str": str}).set_index("id_str", drop=False)
    ids, held = task.data.id_str.values, task.held
    rows = {"train_catalog": task.subset[: -len(held)], "val_catalog": held, "test_catalog": task.test}
    found = {name: table.loc[ids[some]].reset_index(drop=True) for name, some in rows.items()}
    return {name: part[["id_str", "file_loc", label]].astype({label: int}) for name, part in found.items()}


def theirs(config: FinetuneConfig, survey: SurveySpec) -> dict:
    """Zoobot's own finetuning of the same galaxies."""
    import lightning
    from galaxy_datasets.pytorch.galaxy_datamodule import CatalogDataModule
    from galaxy_datasets.transforms import default_view_config, get_galaxy_transform, minimal_view_config
    from zoobot.pytorch.training import finetune

    logging.getLogger().setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    task = prepare_task(config, survey)
    views = {"train_transform": default_view_config(), "test_transform": minimal_view_config()}
    encoder = timm.create_model(ENCODER, pretrained=False)
    for view in views.values():
        view.output_size = SIZE
        view.normalize = {side: list(encoder.pretrained_cfg[side]) for side in ("mean", "std")}
    encoder.load_state_dict(load_file(config.weights))
    encoder.reset_classifier(0)
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of workers and GPUs that are not here
        with redirect_stderr(io.StringIO()):
            lightning.seed_everything(config.seed)
            module = CatalogDataModule(
                label_cols=[config.label],
                **catalogues(task, config.label, Path(survey.source)),
                batch_size=BATCH,
                num_workers=0,
                **{name: get_galaxy_transform(view) for name, view in views.items()},
            )
            model = finetune.FinetuneableZoobotClassifier(
                num_classes=task.target.n_classes, label_col=config.label, encoder=encoder, prog_bar=False
            )
            quiet = {"enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}
            trainer = finetune.get_trainer(scratch, accelerator="cpu", devices=1, logger=False, **quiet)
            trainer.callbacks[:] = [c for c in trainer.callbacks if "LearningRate" not in type(c).__name__]  # no logger
            trainer.fit(model, module)
        best = torch.load(trainer.checkpoint_callback.best_model_path, weights_only=True)
    model.load_state_dict(best["state_dict"])
    model.eval()
    module.setup("test")
    right = total = 0
    with torch.no_grad():
        for batch in module.test_dataloader():
            right += int((model(batch["image"]).argmax(1) == batch[config.label]).sum())
            total += len(batch["image"])
    return {"error": 1 - right / total, "epochs": trainer.current_epoch}


def errors(task: str, n: int, found: dict) -> dict:
    """One task and label count: our error beside Zoobot's."""
    values = {tool: np.array([one["error"] for one in some]) for tool, some in found.items()}
    said = [f"{tool} {v.mean():.3f} ± {v.std(ddof=1):.3f}" for tool, v in values.items()]
    baseline = np.mean([one["baseline"] for one in found[OURS]])
    return row(
        f"zoobot_finetune.{task}.{n}",
        float(values[OURS].mean()),
        "test error",
        goal="<= Zoobot",
        ok=bool(values[OURS].mean() <= values[THEIRS].mean()),
        detail=f"{n} labels, mean ± sd of {len(SEEDS)} seeds: {'; '.join(said)}; commonest class {baseline:.3f}",
        task=task,
        n_train=n,
        errors={tool: v.round(5).tolist() for tool, v in values.items()},
        commonest=round(float(baseline), 3),
        epochs=[one["epochs"] for one in found[THEIRS]],
    )


def times(spent: list[dict]) -> list[dict]:
    """Zoobot's time over ours, and seconds if this process was alone."""
    totals = {
        tool: {what: sum(one[what] for found in spent for one in found[tool]) for what in ("seconds", "processor")}
        for tool in (OURS, THEIRS, PROBE)
    }
    share = sum(t["processor"] for t in totals.values()) / sum(t["seconds"] for t in totals.values())
    alone, runs = share > ALONE, len(spent) * len(SEEDS)
    beside = "" if alone else f"; measured beside other jobs, with {100 * share:.0f} % of a core"
    ratios = {tool: totals[THEIRS]["processor"] / totals[tool]["processor"] for tool in (OURS, PROBE)}
    what = f"processor time of {runs} runs each, in turn, one thread, images of {SIDE} px scaled to {SIZE} px{beside}"
    seconds = "; ".join(f"{tool} {t['seconds'] / runs:.1f} s" for tool, t in totals.items())
    return [
        row("zoobot_finetune.time", ratios[OURS], "x faster", goal=">= 1", ok=ratios[OURS] >= 1, detail=what),
        row("zoobot_finetune.time_probe", ratios[PROBE], "x faster", detail=f"the linear probe; {what}"),
        row(
            "zoobot_finetune.seconds",
            totals[OURS]["seconds"] / runs if alone else None,
            "s a run",
            detail=seconds if alone else "needs a machine without other jobs",
        ),
    ]
