"""Time from a folder of JPEGs to a validation loss: Zoobot 2.9.0's own pipeline and ours, on the same galaxies.

Simulated Galaxy Zoo 2 galaxies, as JPEGs of 424 px with a table of their votes. Zoobot reads them with the
``CatalogDataModule`` of galaxy-datasets and trains a ``ZoobotTree`` with the callbacks and the trainer that
``train_default_zoobot_from_scratch`` would make (which itself refuses to load without worker processes); ours are
``gzlib curate`` and ``gzlib pretrain``. Encoders start from random weights.

- **Same recipe**: Zoobot's default optimizer in both (AdamW at 1e-3, weight decay .01, batches of 128, gradients
  clipped at .3, constant rate, dropout .2), float32, the views of ``gzlib pretrain`` in both (any rotation, zoom to
  1.2, shift, mirror images; validated as they are), heads that start at the mean votes and residual branches that
  start at full strength, as ours do (with its own recipe Zoobot has timm's layer scale of 1e-6). What is left: Zoobot
  turns images before it makes them small and decays biases and norms too, zoom is uniform there and log-uniform here,
  weights and order are drawn by different generators. The loss is the lowest that both reach.
- **Own recipes**: what each does by default; Zoobot at most for so many epochs. The loss is the lowest of Zoobot's. A
  goal counts as reached only where Zoobot stopped by itself, and as open where it was given no more epochs.

A loss that is no better than that of predicting the mean votes says nothing of learning: a goal is open there, too.

The loss is that of one function (:func:`vote_loss`) on the concentrations that each tool predicts for the same
validation galaxies, Zoobot's without the dropout that it keeps in validation. It is taken after each epoch of Zoobot
and at each validation of ours; a loss counts as reached at the first time that is at or below it.

Each run is a program of its own, in one thread without worker processes. Imports and validation are left out of the
time of both; ours has curation in it, also of galaxies that are never trained on. Where a program had no processor to
itself, times are processor seconds. Results are kept below ``build``: the same command resumes, and after a
change of the code they are to be removed.

``python benchmarks/time_to_loss.py --epochs 3 --cap 5 --minutes 60`` measures less than ``python -m gzlib bench
time_to_loss`` does.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from harness import machine, need, row, span, stored_file
from PIL import Image

from gzlib import paths, sky
from gzlib.data.schema import Schema, load_schema
from gzlib.files import replace_file
from gzlib.training.loss import question_scores
from gzlib.training.pretraining import mean_concentrations

RESULTS = paths.ROOT / "build" / "time_to_loss"
CAMPAIGN, QUALITY, SEED = "gz2", 90, 0
BLOCK = 50  # galaxies that are drawn together
PARTS = (("train", 0.8), ("val", 0.1), ("test", 0.1))
SAME, OWN, OURS, THEIRS = "same", "own", "gzlib", "zoobot"
NAMES, GOALS = {SAME: "same_recipe", OWN: "own_recipe"}, {SAME: 1.2, OWN: 3.0}
UNIT, ALONE = "x faster", 0.95
LEARNED = 0.1  # by so much a loss is below that of the mean votes where something was learned
# Zoobot's defaults, from the signature of train_default_zoobot_from_scratch.
RATE, DECAY, BATCH, DROPOUT, CLIP, PATIENCE = 1e-3, 0.01, 128, 0.2, 0.3, 8


@dataclass(frozen=True)
class Setting:
    """What is compared.

    Attributes
    ----------
    encoders : tuple of str
    galaxies : int
        Of which eight tenths are trained on and one validated on.
    jpeg_side, size : int
        Of the files, and of the networks' input [px].
    epochs, cap : int
        Of both with the same recipe; of Zoobot, at most, with its own.
    batch : int
        Of Zoobot, and of ours with the same recipe.
    """

    encoders: tuple[str, ...] = ("convnext_atto", "tf_efficientnet_lite0")
    galaxies: int = 4_000
    jpeg_side: int = 424
    size: int = 64
    epochs: int = 30
    cap: int = 60
    batch: int = BATCH


FULL = Setting()


def rows(known=(), setting: Setting = FULL, results: Path = RESULTS, minutes: float | None = None) -> Iterator[dict]:
    """One row for each encoder and recipe, then the smallest ratio of each recipe.

    ``known`` is not looked at: a comparison that was cut off resumes from ``results``. After ``minutes`` no further run
    is started, and what lacks one is not measured.
    """
    need(("zoobot", "galaxy_datasets", "lightning"), "The comparison with Zoobot's training")
    made = Runs(setting, results, minutes=minutes)
    found: dict[str, list[dict]] = {SAME: [], OWN: []}
    for encoder in setting.encoders:
        for recipe, several in found.items():
            try:
                several.append(made.compare(recipe, encoder))
            except TooLate as error:
                about = {"goal": f">= {GOALS[recipe]:g}", "detail": f"'{error}' was not run", "encoder": encoder}
                several.append(row(f"time_to_loss.{NAMES[recipe]}.{encoder}", None, UNIT, **about))
            yield several[-1]
    yield from (smallest(recipe, several) for recipe, several in found.items())


def smallest(recipe: str, found: list[dict]) -> dict:
    """The ratio of the encoder with which we gain least, of those that were measured."""
    name, goal = {SAME: "time_to_loss.same_recipe", OWN: "time_to_loss.ratio"}[recipe], f">= {GOALS[recipe]:g}"
    absent = [one["encoder"] for one in found if one["value"] is None]
    measured = [one for one in found if one["value"] is not None]
    if not measured:
        return row(name, None, UNIT, goal=goal, detail="not run")
    least = min(measured, key=lambda one: one["value"])
    ok = None if absent and least["ok"] else least["ok"]
    detail = least["encoder"] + (f"; without {', '.join(absent)}" if absent else ", the smallest")
    return row(name, least["value"], UNIT, goal=goal, ok=ok, detail=detail)


class TooLate(Exception):
    """A run that is not started, as the time is over."""


class Runs:
    """The runs of a comparison, each made once.

    Parameters
    ----------
    setting : Setting
    results : Path
        Where galaxies and results are kept.
    minutes : float, optional
        After which no run is started.
    """

    def __init__(self, setting: Setting, results: Path, *, minutes: float | None = None):
        self.setting, self.until = setting, np.inf if minutes is None else time.monotonic() + 60 * minutes
        self.folder = results / f"{setting.galaxies}-{setting.jpeg_side}-{setting.size}"
        self.catalog = draw(setting.galaxies, self.folder / "galaxies", jpeg_side=setting.jpeg_side)
        self.baseline = mean_votes_loss(pd.read_csv(self.catalog))
        self.curation = self.result("curation", tool="curation")

    def result(self, name: str, **task) -> dict:
        """What a run found; it is made if it has not been.

        Raises
        ------
        TooLate
        RuntimeError
            If it fails, with the end of what it said.
        """
        file = self.folder / f"{name}.json"
        if not file.is_file():
            if time.monotonic() > self.until:
                raise TooLate(name)
            given = self.folder / f"{name}.task.json"
            own = {"folder": str(self.folder), "catalog": str(self.catalog), "size": self.setting.size}
            given.write_text(json.dumps(own | {"batch": self.setting.batch} | task))
            environment = os.environ | {"PYTHONPATH": str(paths.project()), "OMP_NUM_THREADS": "1"}
            print(f"time_to_loss: {name}", file=sys.stderr, flush=True)
            with open(self.folder / f"{name}.log", "w") as log:
                command = [sys.executable, __file__, "--task", str(given), str(file)]
                ended = subprocess.run(command, stdout=log, stderr=log, env=environment, check=False)
            if ended.returncode:
                said = Path(log.name).read_text()[-2000:]
                raise RuntimeError(f"time_to_loss: '{name}' ended with status {ended.returncode}: {said}")
        return json.loads(file.read_text())

    def compare(self, recipe: str, encoder: str) -> dict:
        """One encoder: Zoobot's time over ours, to one loss."""
        epochs = self.setting.epochs if recipe == SAME else self.setting.cap
        task = {"recipe": recipe, "encoder": encoder, "epochs": epochs}
        theirs = self.result(f"{THEIRS}-{recipe}-{encoder}-{epochs}", tool=THEIRS, **task)
        best = min(point["loss"] for point in theirs["points"])
        # With the same recipe we train to the end, with our own as long as it takes.
        task |= {"target": best if recipe == OWN else None}
        ours = self.result(f"{OURS}-{recipe}-{encoder}-{epochs}", tool=OURS, **task)
        target = best if recipe == OWN else max(best, min(point["loss"] for point in ours["points"]))
        about = {"baseline": self.baseline, "setting": self.setting}
        return comparison(recipe, encoder, target, ours, theirs, self.curation, **about)


def reached(points: list[dict], loss: float) -> dict | None:
    """The first point of a run at which its loss was as low."""
    return next((point for point in points if point["loss"] <= loss), None)


def comparison(
    recipe: str,
    encoder: str,
    target: float,
    ours: dict,
    theirs: dict,
    curation: dict,
    *,
    baseline: float,
    setting: Setting,
) -> dict:
    """The row of one encoder and recipe; ``baseline`` is the loss of predicting the mean votes."""
    total = {kind: sum(run[kind] for run in (ours, theirs, curation)) for kind in ("processor", "seconds")}
    share = total["processor"] / total["seconds"]
    kind = "seconds" if share > ALONE else "processor"
    there, here = reached(theirs["points"], target), reached(ours["points"], target)
    assert there is not None  # the loss was chosen so
    n_train, each = ours["n_train"], {tool: _per_galaxy(run) for tool, run in ((OURS, ours), (THEIRS, theirs))}
    epoch, last = (point["examples"] / n_train for point in (there, theirs["points"][-1]))
    detail = f"to a validation loss of {target:.3f}: Zoobot {there[kind]:.0f} s (epoch {epoch:.3g} of {last:.3g})"
    times = {"zoobot": {k: there[k] for k in total}, "gzlib": None, "curation": {k: curation[k] for k in total}}
    if here:
        spent = {k: here[k] + curation[k] for k in total}
        value, times["gzlib"] = there[kind] / spent[kind], spent
        detail += f", gzlib {spent[kind]:.0f} s (epoch {here['examples'] / n_train:.3g};"
        detail += f" {curation[kind]:.0f} s of it to curate)"
    else:
        value = 0.0
        detail += f"; gzlib never, its lowest is {min(point['loss'] for point in ours['points']):.3f}"
    detail += f"; predicting the mean votes gives {baseline:.3f}"
    ok: bool | None = value >= GOALS[recipe]
    learned = target <= baseline - LEARNED
    if not learned:
        ok, detail = None, f"{detail}, so that nothing had been learned"
    elif recipe == OWN and theirs["why"] != "patience" and ok:
        ok = None  # Zoobot might have come lower, where ours might be the slower one
    if recipe == OWN:
        detail += "; Zoobot's patience ended" if theirs["why"] == "patience" else "; Zoobot was given no more epochs"
    detail += f"; a galaxy shown takes {1e3 * each[THEIRS]:.1f} and {1e3 * each[OURS]:.1f} ms of a processor"
    detail += f"; {setting.galaxies:,} galaxies, JPEGs of {setting.jpeg_side} px, networks at {setting.size} px"
    if kind == "processor":
        detail += f"; processor time, beside other jobs, with {100 * share:.0f} % of a core"
    return row(
        f"time_to_loss.{NAMES[recipe]}.{encoder}",
        value,
        UNIT,
        goal=f">= {GOALS[recipe]:g}",
        ok=ok,
        detail=detail,
        encoder=encoder,
        recipe=recipe,
        target=target,
        baseline=baseline,
        learned=learned,
        clock=kind,
        share=round(share, 3),
        times=times,
        per_galaxy=each,
        # Zoobot's time over ours to each loss that Zoobot reached on its way.
        along=_along(ours, theirs, curation, kind),
        setting=asdict(setting),
        runs={OURS: ours, THEIRS: theirs},
    )


def _per_galaxy(run: dict) -> float:
    """Processor seconds of training for one galaxy shown."""
    last = run["points"][-1]
    return last["processor"] / last["examples"]


def _along(ours: dict, theirs: dict, curation: dict, kind: str) -> list[dict]:
    found, least = [], np.inf
    for point in theirs["points"]:
        if point["loss"] < least:
            least, here = point["loss"], reached(ours["points"], point["loss"])
            ratio = point[kind] / (here[kind] + curation[kind]) if here else None
            found.append({"loss": least, "examples": point["examples"], "ratio": ratio})
    return found


def draw(n: int, folder: Path, *, jpeg_side: int) -> Path:
    """``n`` simulated galaxies as JPEGs, with a split; path of their catalogue."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = []
    for first in range(0, n, BLOCK):
        part = folder / f"galaxies-{first:06d}.csv"  # written last: a block that was cut off is drawn again
        if not part.is_file():
            table = _block(range(first, min(first + BLOCK, n)), folder, jpeg_side)
            replace_file(part, table.to_csv(index=False))
        tables.append(pd.read_csv(part, dtype={"id_str": str}))
    catalog = pd.concat(tables, ignore_index=True)
    ends = np.round(np.cumsum([share for _, share in PARTS]) * n)
    sides = np.searchsorted(ends, np.arange(n), side="right")
    catalog = catalog.assign(split=[PARTS[side][0] for side in sides])
    replace_file(folder / "catalog.csv", catalog.to_csv(index=False))
    return folder / "catalog.csv"


def _block(index: range, folder: Path, jpeg_side: int) -> pd.DataFrame:
    made = sky.simulate(CAMPAIGN, index, seed=15, size=jpeg_side)
    names = made.catalog["id_str"]
    files = [folder / f"{name}.jpg" for name in names]
    for image, file in zip(made.images, files, strict=True):
        Image.fromarray(image).save(file, quality=QUALITY)
    votes = pd.DataFrame(made.votes, columns=load_schema(CAMPAIGN).label_cols)
    return pd.DataFrame({"id_str": names.tolist(), "file_loc": [str(file) for file in files]}).join(votes)


def vote_loss(predicted: list[torch.Tensor], votes: list[torch.Tensor], schema: Schema) -> float:
    """The loss of both tools: of predicted concentrations, (n, answers), summed over questions, mean over galaxies."""
    return question_scores(torch.cat(predicted).float(), torch.cat(votes), schema)[0]["loss"]


def mean_votes_loss(catalog: pd.DataFrame) -> float:
    """The loss of predicting the training galaxies' mean votes for each validation galaxy."""
    schema = load_schema(CAMPAIGN)
    train, val = (catalog.loc[catalog.split == side, schema.label_cols].to_numpy() for side in ("train", "val"))
    constant = torch.from_numpy(mean_concentrations(train, schema)).float()
    return vote_loss([constant.expand(len(val), -1)], [torch.from_numpy(val).float()], schema)


class Clock:
    """Processor seconds of this process and seconds since :meth:`go`, without what is between :meth:`stop` and it."""

    def __init__(self):
        self.total, self.since = np.zeros(2), None

    def go(self):
        self.since = self._now()

    def stop(self):
        self.total, self.since = self.total + (self._now() - self.since), None

    def read(self) -> dict:
        """Of a clock that is stopped."""
        return {"processor": round(float(self.total[0]), 3), "seconds": round(float(self.total[1]), 3)}

    @staticmethod
    def _now() -> np.ndarray:
        return np.array([time.process_time(), time.perf_counter()])


def curation(task: dict, clock: Clock) -> dict:
    """``gzlib curate``."""
    from gzlib.cli import main, tools  # noqa: F401  # imported before the clock runs
    from gzlib.data import curate, read_report  # noqa: F401

    out = Path(task["folder"]) / "survey"
    shutil.rmtree(out, ignore_errors=True)  # of a run that was cut off
    clock.go()
    status = main(["curate", task["catalog"], "--size", str(task["size"]), "--split", "published", "--out", str(out)])
    clock.stop()
    counts = read_report(out)["counts"] if not status else None
    if not counts or counts["rejected"]:
        raise RuntimeError(f"Not every galaxy was curated: {counts}")
    return clock.read() | {"galaxies": counts["galaxies"]}


class Reached(BaseException):
    """The loss that was to be reached is."""


def ours(task: dict, clock: Clock) -> dict:
    """``gzlib pretrain``, to its end or to a loss."""
    from gzlib.cli import main, tools  # noqa: F401  # imported before the clock runs
    from gzlib.training import loop, pretraining, runs  # noqa: F401

    folder, schema, points = Path(task["folder"]), load_schema(CAMPAIGN), []
    catalog = pd.read_csv(task["catalog"], usecols=["split"])
    n_train = int((catalog.split == "train").sum())
    given = {}
    if task["recipe"] == SAME:
        given = {"optimizer": "adamw", "schedule": "constant", "warmup": 0.0, "precision": "float32"}
        given |= {"learning_rate": RATE, "weight_decay": DECAY, "batch_size": task["batch"], "clip": CLIP}
        given |= {"dropout": DROPOUT, "epochs": task["epochs"], "evaluations": task["epochs"]}
    seen: list[int] = []  # galaxies shown by each validation
    own, own_fit = loop.evaluate, pretraining.fit

    def fit(*parts, recipe, **how):
        """Of the recipe that the command came to."""
        last = -(-recipe.most_examples(n_train) // recipe.batch_size)
        steps = loop.validation_steps(recipe, last, recipe.batch_size, n_train)
        seen.extend(step * recipe.batch_size for step in sorted(steps))
        return own_fit(*parts, recipe=recipe, **how)

    def evaluate(model, loss_of, loader, **how):
        clock.stop()
        found = own(model, loss_of, loader, **how)
        with torch.no_grad():
            pairs = [(model(images), votes) for images, votes in loader.plain()]
        examples = seen[len(points)]
        points.append(clock.read() | {"loss": vote_loss(*map(list, zip(*pairs, strict=True)), schema)})
        points[-1] |= {"examples": examples, "galaxies": sum(len(votes) for _, votes in pairs)}
        print(points[-1], flush=True)
        if task["target"] and points[-1]["loss"] <= task["target"]:
            raise Reached
        clock.go()
        return found

    loop.evaluate, pretraining.fit = evaluate, fit
    store = folder / f"runs-{task['recipe']}-{task['encoder']}"
    shutil.rmtree(store, ignore_errors=True)  # of a run that was cut off, whose time is not known
    words = ["pretrain", "--survey", str(folder / "survey"), "--encoder", task["encoder"], "--store", str(store)]
    words += ["--size", str(task["size"]), "--seed", str(SEED), "--device", "cpu"]
    words += [word for name, value in given.items() for word in ("--set", f"recipe.{name}={value}")]
    clock.go()
    try:
        if status := main(words):
            raise RuntimeError(f"gzlib pretrain ended with status {status}")
        why = "end"
    except Reached:
        why = "reached"
    shutil.rmtree(store, ignore_errors=True)
    return {name: points[-1][name] for name in ("processor", "seconds")} | {
        "points": points,
        "n_train": n_train,
        "why": why,
    }


def zoobot(task: dict, clock: Clock) -> dict:
    """``train_default_zoobot_from_scratch``, without worker processes and without its test."""
    import lightning
    import timm
    from galaxy_datasets.pytorch.galaxy_datamodule import CatalogDataModule
    from galaxy_datasets.transforms import default_view_config, get_galaxy_transform, minimal_view_config
    from lightning.pytorch.loggers import CSVLogger
    from zoobot.pytorch.estimators.define_model import ZoobotTree
    from zoobot.pytorch.training.train_with_pytorch_lightning import get_default_callbacks
    from zoobot.shared import schemas

    from gzlib.models.encoders import at_full_strength

    same, schema, points = task["recipe"] == SAME, load_schema(CAMPAIGN), []
    theirs = schemas.gz2_ortho_schema
    assert {q.name: list(q.answers) for q in schema.questions} == theirs.question_answer_pairs
    features: list[torch.Tensor] = []
    predicted: list[torch.Tensor] = []
    votes: list[torch.Tensor] = []

    class Watch(lightning.Callback):
        """Stops the clock while the trainer validates, and takes our loss of what the network then predicts."""

        def on_validation_start(self, trainer, module):
            clock.stop()
            for kept in (predicted, votes):
                kept.clear()

        def on_validation_batch_end(self, trainer, module, outputs, batch, *_):
            predicted.append(module.head[1](features.pop()))  # without dropout
            votes.append(torch.stack([batch[name] for name in schema.label_cols], 1).float())

        def on_validation_end(self, trainer, module):
            loss = vote_loss(predicted, votes, schema)
            about = {"examples": trainer.global_step * task["batch"], "galaxies": sum(map(len, votes))}
            points.append(clock.read() | {"loss": loss} | about)
            print(points[-1], flush=True)
            clock.go()

    clock.go()
    lightning.seed_everything(SEED)
    torch.set_float32_matmul_precision("high")
    catalog = pd.read_csv(task["catalog"], dtype={"id_str": str})
    parts = {f"{side}_catalog": catalog[catalog.split == side].reset_index(drop=True) for side in ("train", "val")}
    views = {"train_transform": default_view_config(), "test_transform": minimal_view_config()}
    for view in views.values():
        view.output_size = task["size"]
    if same:
        config = timm.get_pretrained_cfg(task["encoder"])
        train, test = views.values()
        train.random_affine = {"degrees": 180, "translate": (0.05, 0.05), "scale": (1.0, 1.2)}
        train.erase_iterations = 0
        test.random_affine.scale = (1.0, 1.0)
        for view in views.values():
            view.normalize = {"mean": list(config.mean), "std": list(config.std)}
    data = CatalogDataModule(
        label_cols=theirs.label_cols,
        **parts,
        batch_size=task["batch"],
        num_workers=0,
        **{name: get_galaxy_transform(view) for name, view in views.items()},
    )
    model = ZoobotTree(
        output_dim=len(theirs.label_cols),
        question_answer_pairs=theirs.question_answer_pairs,
        dependencies=theirs.dependencies,
        architecture_name=task["encoder"],
        test_time_dropout=True,
        dropout_rate=DROPOUT,
        learning_rate=RATE,
        weight_decay=DECAY,
    )
    if same:
        start_at_mean(model.head[1][0], parts["train_catalog"], schema)
        at_full_strength(model.encoder)
    model.head.register_forward_pre_hook(lambda _, given: None if model.training else features.append(given[0]))
    scratch = Path(task["folder"]) / f"zoobot-{task['recipe']}-{task['encoder']}"
    _, callbacks = get_default_callbacks(str(scratch), task["epochs"] if same else PATIENCE)
    trainer = lightning.Trainer(
        num_sanity_val_steps=0,
        log_every_n_steps=150,
        accelerator="cpu",
        devices="auto",
        precision="32",
        logger=CSVLogger(save_dir=str(scratch)),
        callbacks=[*callbacks, Watch()],
        max_epochs=task["epochs"],
        default_root_dir=str(scratch),
        gradient_clip_val=CLIP,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data)
    shutil.rmtree(scratch, ignore_errors=True)
    why = "end" if len(points) == task["epochs"] else "patience"
    return {name: points[-1][name] for name in ("processor", "seconds")} | {
        "points": points,
        "n_train": len(parts["train_catalog"]),
        "why": why,
    }


def start_at_mean(linear: torch.nn.Linear, catalog: pd.DataFrame, schema: Schema):
    """Have Zoobot's head start at the mean votes, as ours does."""
    from gzlib.models.heads import DirichletHead

    head = DirichletHead(linear.in_features, linear.out_features)
    head.linear = linear
    head.start_at(mean_concentrations(catalog[schema.label_cols].to_numpy(), schema))


def perform(given: Path, out: Path):
    """Make one run, as the program that :class:`Runs` starts."""
    task = json.loads(given.read_text())
    torch.set_num_threads(1)
    os.cpu_count = lambda: 1  # curation has a thread for each
    clock = Clock()
    found = {"curation": curation, OURS: ours, THEIRS: zoobot}[task["tool"]](task, clock)
    found["in_all"] = round(time.process_time(), 1)  # processor seconds with imports and validation
    replace_file(out, json.dumps(found) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", type=Path, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int, default=Setting.epochs, help="of both with the same recipe")
    parser.add_argument("--cap", type=int, default=Setting.cap, help="Zoobot's epochs, at most, with its own")
    parser.add_argument("--minutes", type=span, help="after which no run is started")
    parser.add_argument("--store", action="store_true", help="keep the figures in data/benchmarks")
    asked = parser.parse_args()
    if asked.task:
        perform(*asked.task)
    else:
        results = []
        for result in rows(setting=Setting(epochs=asked.epochs, cap=asked.cap), minutes=asked.minutes):
            results.append(result)
            print(json.dumps(result), flush=True)
            if asked.store:
                record = {"benchmark": "time_to_loss", "machine": machine(), "rows": results}
                replace_file(stored_file("time_to_loss"), json.dumps(record, indent=1) + "\n")
