"""What studies cost, and how to spend a budget: counted before anything starts, seconds and hours from
``data/benchmarks``, and the loss as a surface over encoders and training sets, with the best split of compute.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import xarray as xr
from matplotlib.ticker import NullLocator
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gzlib import paths
from gzlib.config import FinetuneConfig, SurveySpec
from gzlib.data import is_generated, open_source
from gzlib.data.sources.registry import has_prefix, split_text
from gzlib.errors import UserError
from gzlib.fitting import LAWS, compute_frontier, fit_surface, information, predict_surface
from gzlib.models.encoders import TRAINING_FACTOR, build_encoder, count_parameters, forward_flops
from gzlib.study.figures import COLOURS, encoder_style
from gzlib.study.presets import GZ_EVO, PUBLISHED, PlannedStudy, PretrainingStudy, pretraining_study, splits_of
from gzlib.study.results import GREEK, StudyRuns
from gzlib.study.tables import NONE, formula, intervals, listed, number
from gzlib.trace import input_files
from gzlib.training import Job

NOT_MEASURED = "not measured"
SHOWN = ("growth", "loader", "loss", "step", "rehearsal", "paper", "time_to_loss")  # the benchmarks that are about cost
# Operations a second that are assumed of a GPU where no measurement of one is stored: a twentieth of what an H100 does
# at most on dense matrices in bfloat16 (989e12), as convolutions of small channels reach little of that.
STATED_RATE = 50e12
JPEG_BYTES = 18.3e9 / 805_600  # of one galaxy to download, where a data set's own size is not known
COUNTED = Path(__file__).with_name("encoders.json")


@dataclass(frozen=True)
class Needs:
    """What an encoder needs for one image.

    Attributes
    ----------
    n_params : int
    flops : int
        Of one forward pass, see :func:`gzlib.models.encoders.forward_flops`.
    kept : int
        Bytes in float32 that a forward pass keeps for the way back.
    """

    n_params: int
    flops: int
    kept: int


@lru_cache
def encoder_needs(encoder: str, side: int) -> Needs:
    """What an encoder needs for one image of ``side`` px.

    Those of the study's encoders are stored beside this module, since timm takes seconds to build the large ones;
    others are counted here.
    """
    stored = json.loads(COUNTED.read_text(encoding="utf-8"))
    found = stored.get(f"{encoder} {side}")
    return Needs(*found) if found else count_needs(encoder, side)


def count_needs(encoder: str, side: int) -> Needs:
    """As :func:`encoder_needs`, from shapes alone: the network is built without memory, and nothing is computed."""
    with torch.device("meta"):
        network, images = build_encoder(encoder, size=side).train(), torch.empty(2, 3, side, side)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage.nbytes()
            alive.append(storage)  # so that no other tensor gets its number
        return tensor

    alive: list = []
    counter = FlopCounterMode(display=False)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), counter:
        network(images)
    return Needs(count_parameters(network), counter.get_total_flops() // 2, sum(kept.values()) // 2)


def planned_sizes(survey: SurveySpec) -> dict[str, int]:
    """Galaxies of each split of a survey, counted where it is curated, else about so many; 0 where no one knows."""
    if found := splits_of(survey):
        return found
    parts = split_text(survey.source)
    if any(has_prefix(part) and not is_generated(part) for part in parts):
        return dict.fromkeys(("train", "val", "test"), 0)
    total = open_source(survey.source, schema=survey.schema, seed=survey.seed).galaxies
    total = min(total, survey.limit or total)
    return {"train": round(0.7 * total), "val": round(0.1 * total), "test": round(0.2 * total)}


def planned_training(survey: SurveySpec) -> int:
    """How many galaxies a survey has to train on, before it is made.

    Raises
    ------
    UserError
        If no one knows before it is downloaded.
    """
    if not (n := planned_sizes(survey)["train"]):
        raise UserError(f"How many galaxies '{survey.source}' has is not known before it is curated; give n_train.")
    return n


def job_operations(job: Job, sizes: dict[str, int]) -> tuple[int, float]:
    """Images that a run shows to its encoder at most, and its operations for each operation of a forward pass.

    Parameters
    ----------
    sizes : dict
        Of :func:`planned_sizes`.
    """
    config, _ = job
    recipe, n = config.recipe, config.n_train
    if isinstance(config, FinetuneConfig) and config.mode == "linear":
        return n, float(n + sizes["test"])
    shown = recipe.most_examples(n)
    times = recipe.evaluations
    if recipe.spacing:
        times = 1 + math.ceil(math.log(max(1.0, shown / n)) / math.log1p(recipe.spacing))
    held = min(sizes["val"], recipe.watch or sizes["val"])
    return shown, float(TRAINING_FACTOR * shown + times * held + sizes["val"] + sizes["test"])


def plan_cost(jobs: Sequence[Job], records: dict[str, dict]) -> pd.DataFrame:
    """What a plan's runs cost at most, a row for each encoder and image size.

    Parameters
    ----------
    jobs : list of (config, survey)
    records : dict
        Of :func:`read_benchmarks`; may be empty.

    Returns
    -------
    DataFrame
        ``encoder``, ``side``, ``parameters``, ``runs``, ``images`` shown, ``operations``, ``hours`` on the machine of
        the stored benchmark, ``gpu_hours``, ``disk`` of the runs' weights and ``memory`` of a training step [bytes];
        ``gpu_rate`` [images/s] and ``gpu_memory`` [bytes] where a GPU has trained that encoder, else NaN.
    """
    sizes = {survey: planned_sizes(survey) for survey in dict.fromkeys(survey for _, survey in jobs)}
    rows: dict[tuple, dict] = {}
    for config, survey in jobs:
        needs = encoder_needs(config.encoder, survey.size)
        start = {"runs": 0, "images": 0, "operations": 0.0, "disk": 0, "memory": 0}
        row = rows.setdefault((config.encoder, survey.size), {"parameters": needs.n_params} | start)
        shown, times = job_operations((config, survey), sizes[survey])
        row["runs"], row["images"] = row["runs"] + 1, row["images"] + shown
        row["operations"] += times * needs.flops
        if getattr(config, "mode", "full") == "full":
            row["disk"] += 4 * needs.n_params
            # Weights, their gradients, and the optimizer's two averages.
            row["memory"] = max(row["memory"], config.recipe.batch_size * needs.kept + 16 * needs.n_params)
    table = pd.DataFrame([{"encoder": e, "side": s, **row} for (e, s), row in rows.items()])
    gpu = on_gpu(records)
    pairs = list(zip(table["encoder"], table["side"], strict=True))
    worth = table["operations"] / [TRAINING_FACTOR * encoder_needs(*pair).flops for pair in pairs]
    table["hours"] = worth * [seconds_a_picture(records.get("growth"), *pair) for pair in pairs] / 3600
    table["gpu_hours"] = worth * [seconds_a_picture(gpu, *pair) for pair in pairs] / 3600
    table["gpu_hours"] = table["gpu_hours"].fillna(table["operations"] / STATED_RATE / 3600)
    trained = {(row["encoder"], row["side"]): row for row in measured_rows(gpu, "paper")}
    table["gpu_rate"] = [1 / trained[pair]["value"] if pair in trained else float("nan") for pair in pairs]
    table["gpu_memory"] = [trained[pair]["peak_bytes"] if pair in trained else float("nan") for pair in pairs]
    return table


def plan_words(jobs: list[Job]) -> list[str]:
    """What a plan costs at most, as lines for the screen: a table by encoder, then sums and what they rest on."""
    records = read_benchmarks() if paths.ROOT and input_files("data/benchmarks/growth.json") else {}
    table = plan_cost(jobs, records)
    shown = pd.DataFrame(
        {
            "encoder": table["encoder"],
            "px": table["side"],
            "parameters": [f"{n / 1e6:.3g}M" for n in table["parameters"]],
            "runs": table["runs"],
            "images shown": [f"{n:.3g}" for n in table["images"].astype(float)],
            "operations": [f"{n:.2e}" for n in table["operations"]],
            "GPU hours": [in_words(h) for h in table["gpu_hours"]],
            "weights": [size_words(n) for n in table["disk"]],
            "memory of a step": [size_words(n) for n in table["memory"]],
        }
    )
    lines = [*shown.to_markdown(index=False, disable_numparse=True).splitlines(), "", "All runs, at most:"]
    lines += [f"- operations: {table['operations'].sum():.2e}, {table['images'].sum():,} images shown"]
    lines += [f"- hours: {in_words(table['gpu_hours'].sum())} of one GPU, {gpu_words(records, jobs)}"]
    if "growth" in records:
        where = device_of(records["growth"])
        lines[-1] += f"; {in_words(table['hours'].sum())} of {where}, from the time of encoders measured there"
    surveys = list(dict.fromkeys(survey for _, survey in jobs))
    disk, unknown = survey_disk(surveys)
    largest = (
        8 * 4 * table["parameters"].max()
    )  # weights, the best ones and two averages, in this checkpoint and the last
    parts = f"{size_words(disk['curated'])} curated surveys, {size_words(disk['downloads'])} downloads"
    lines += [f"- disk: {parts}, {size_words(table['disk'].sum())} weights of runs, {size_words(largest)} a checkpoint"]
    if unknown:
        lines[-1] += f"; without {', '.join(unknown)}, whose size is not known before the download"
    most = max(disk["sizes"].values(), default=0)
    lines += [
        f"- memory: {size_words(table['memory'].max())} for the largest step in float32, about half in bfloat16; images"
        f" of up to {size_words(most)} stay in memory if half of it is free, else they are read from the disk"
    ]
    return lines


def on_gpu(records: dict[str, dict]) -> dict | None:
    """All that was measured on one kind of GPU, the one of which most is known: ``machine`` and ``rows``; None if none.

    Parameters
    ----------
    records : dict
        Of :func:`read_benchmarks`.
    """
    kinds: dict[str, dict] = {}
    for stem, record in records.items():
        _, dash, kind = stem.partition("-")
        if dash:
            one = kinds.setdefault(kind, {"machine": record["machine"], "rows": []})
            one["rows"] += [row for row in record["rows"] if row.get("value") is not None]
    timed = [one for one in kinds.values() if measured_rows(one, "encoder", "paper")]
    return max(timed, key=lambda one: len(one["rows"]), default=None)


def measured_rows(record: dict | None, *axes: str) -> list[dict]:
    """The measured rows of a record along some axes, see :func:`rows_along`."""
    return [row for row in record["rows"] if row.get("axis") in axes and row.get("value") is not None] if record else []


def gpu_name(record: dict | None) -> str:
    """A GPU's short name, such as ``H100``; ``GPU`` where nothing was measured on one."""
    name = record["machine"]["gpu"] if record else None
    return name.removeprefix("NVIDIA ").split()[0] if name else "GPU"


def gpu_words(records: dict[str, dict], jobs: Iterable[Job] = ()) -> str:
    """What hours of one GPU rest on, for a plan of these runs."""
    stated = f"operations over {STATED_RATE / 1e12:g} T operations/s, a rate that is stated and not measured"
    gpu = on_gpu(records)
    if gpu is None:
        return stated
    known = {row["encoder"] for row in measured_rows(gpu, "encoder", "paper")}
    others: dict[bool, list[str]] = {True: [], False: []}
    for encoder, side in dict.fromkeys((config.encoder, survey.size) for config, survey in jobs):
        if encoder not in known:
            others[bool(np.isnan(seconds_a_picture(gpu, encoder, side)))].append(encoder)
    words = [f"from the time of encoders measured on one {device_of(gpu)}"]
    if others[False]:
        words += [f"of {', '.join(dict.fromkeys(others[False]))} from the one most like it, by operations"]
    if others[True]:
        words += [f"of {', '.join(dict.fromkeys(others[True]))} {stated}"]
    return "; ".join(words)


def survey_disk(surveys: list[SurveySpec]) -> tuple[dict, list[str]]:
    """Bytes of curated surveys and of what is downloaded for them, and the sources of which no one knows."""
    sizes, downloads, unknown = {}, {}, []
    for survey in surveys:
        galaxies = sum(planned_sizes(survey).values())
        sizes[survey] = 3 * survey.size**2 * galaxies
        if not galaxies:
            unknown.append(survey.source)
        for part in split_text(survey.source):
            if part in PUBLISHED:
                train, test, known = PUBLISHED[part]
                downloads[part] = known or (train + test) * JPEG_BYTES
    return {"curated": sum(sizes.values()), "downloads": sum(downloads.values()), "sizes": sizes}, unknown


def size_words(size: float) -> str:
    """A number of bytes in words, in powers of ten: ``121 GB``."""
    unit = min(max(0, int(math.log10(max(size, 1)) // 3)), 4)
    return f"{size / 1000**unit:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[unit]}"


def read_benchmarks() -> dict[str, dict]:
    """The stored speed benchmarks by their files' stems (``growth`` of the CPU, ``growth-h100`` of that GPU).

    Raises
    ------
    UserError
        If there is no ``growth`` among them.
    """
    files = [file for name in SHOWN for file in input_files(f"data/benchmarks/{name}*.json")]
    records = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}
    if "growth" not in records:
        raise UserError("data/benchmarks has no growth.json; measure it: python -m gzlib bench growth --store.")
    return records


def device_of(record: dict) -> str:
    """The device of a benchmark in words."""
    machine = record["machine"]
    return machine["gpu"] or f"{machine['processor']}, {machine['threads']} of {machine['cores']} cores"


def rows_along(record: dict | None, axis: str) -> pd.DataFrame:
    """The rows of a growth benchmark along one axis ("galaxies", "side", "encoder", "offers"); empty if none."""
    return pd.DataFrame([r for r in record["rows"] if r.get("axis") == axis] if record else [])


def seconds_a_picture(record: dict | None, encoder: str, side: int) -> float:
    """Seconds that training takes for one image on the device of a growth benchmark; NaN if it was not measured.

    The measured time of that encoder at the nearest size, scaled with the images' area; of an encoder that was not
    measured, the time of the one with the most similar number of operations a pixel, scaled with the operations: of
    its own family if there is one, and none where that number is ten times as large or small. A GPU's time is not
    scaled to less than half the side it was measured at: images so small leave it waiting for the processor.

    Parameters
    ----------
    record : dict or None
        As :func:`read_benchmarks` gives it.
    encoder : str
    side : int
        Of the images [px].
    """
    rows = measured_rows(record, "encoder", "paper")
    if record and record.get("machine", {}).get("gpu"):
        rows = [row for row in rows if side >= row["side"] / 2]
    if not rows:
        return float("nan")
    if known := [row for row in rows if row["encoder"] == encoder]:
        nearest = min(known, key=lambda row: abs(math.log(row["side"] / side)))
        return nearest["value"] * (side / nearest["side"]) ** 2
    wanted = TRAINING_FACTOR * encoder_needs(encoder, side).flops

    def unlike(row: dict) -> float:
        return abs(math.log(row["flops"] / row["side"] ** 2 / (wanted / side**2)))

    alike = [row for row in rows if _family(row["encoder"]) == _family(encoder) and unlike(row) < MOST_UNLIKE]
    nearest = min(alike or rows, key=unlike)
    return nearest["value"] * wanted / nearest["flops"] if unlike(nearest) < MOST_UNLIKE else float("nan")


MOST_UNLIKE = math.log(10)


def _family(encoder: str) -> str:
    """``efficientnet`` of ``tf_efficientnetv2_s``, ``resnet`` of ``resnet50``."""
    found = re.match(r"(?:tf_)?([a-z]+?)(?=v?\d|_|$)", encoder)
    return found[1] if found else encoder


def study_hours(record: dict | None, jobs: list) -> float:
    """Hours that a study's pretraining runs take on the device of a growth benchmark; NaN if it was not measured.

    Parameters
    ----------
    jobs : list of (PretrainConfig, SurveySpec)
        Runs that take turns. Validation and the test count by their operations: where small training sets are
        validated on a large survey, they are most of a run.
    """
    sizes = {survey: planned_sizes(survey) for survey in dict.fromkeys(survey for _, survey in jobs)}
    cost = {(c.encoder, s.size): seconds_a_picture(record, c.encoder, s.size) for c, s in jobs}
    worth = [job_operations(job, sizes[job[1]])[1] / TRAINING_FACTOR for job in jobs]
    return sum(n * cost[c.encoder, s.size] for n, (c, s) in zip(worth, jobs, strict=True)) / 3600


def most_examples(record: dict | None, encoder: str, side: int, *, hours: float) -> float:
    """How many images can be shown to an encoder in so many hours; NaN if it was not measured."""
    return hours * 3600 / seconds_a_picture(record, encoder, side)


def largest_study(record: dict | None, jobs: list, *, hours: float) -> float:
    """Images shown in each run of the largest study of the shape of ``jobs`` that ends within ``hours``.

    All runs are made longer, or shorter, by one factor; the longest one's images are returned.
    """
    needed = study_hours(record, jobs)
    longest = max(c.recipe.most_examples(c.n_train) for c, _ in jobs)
    return longest * hours / needed


def in_words(value: float, missing: str = NOT_MEASURED) -> str:
    """A number with three figures for a page, or "not measured"."""
    if np.isnan(value):
        return missing
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 1000 else number(value, ".3g")


def speed_table(records: dict[str, dict]) -> pd.DataFrame:
    """The speed benchmarks beside their goals, and how each was measured; NaN where it was not.

    What a GPU did says which one.
    """
    rows, gpu = [], on_gpu(records)
    found = [(row, f"on one {device_of(gpu)}: ") for row in gpu["rows"]] if gpu else []
    there = {row.get("name") for row, _ in found}
    for part in ("loader", "loss", "step"):
        own = [(row, "") for row in (records[part]["rows"] if part in records else ())]
        own = [(row, where) for row, where in own if row["value"] is not None or row["name"] not in there]
        for row, where in own + [pair for pair in found if pair[0].get("name", "").split(".")[0] == part]:
            rows.append(
                [
                    part,
                    _measured(row["name"].removeprefix(f"{part}.")),
                    row["value"],
                    tidied(row["unit"]),
                    tidied(row["goal"] or ""),
                    row.get("ok"),
                ]
            )
            rows[-1].append(where + tidied(row["detail"]))
    table = pd.DataFrame(rows, columns=["part", "measured", "value", "unit", "goal", "reached", "how"])
    return table.assign(reached=table.reached.map(_REACHED).fillna(""))


def _measured(name: str) -> str:
    """What a benchmark's row measured, by its name such as ``loader224.roofline`` or ``efficiency.resnet_w6``."""
    name = re.sub(r"^(?:loader)?(\D*)224(?:\.(\w+))?$", lambda m: f"{m[1] or m[2]}, 224 px", name)
    words = [word if re.search(r"_w\d+$", word) else word.replace("_", " ") for word in name.split(".")]
    return ", ".join(words).replace("mfu", "model FLOPs")


_TIDY = {">=": "≥", "<=": "≤", " us,": " µs,", " us;": " µs;"}


def tidied(text: str) -> str:
    """A benchmark's own words as a page has them: true signs, powers of ten, images."""
    text = re.sub(r"\ba pict[u]re", "an image", text)  # the unit of rows that were stored long ago
    text = re.sub(r"pict[u]re", "image", text)
    text = re.sub(r"\b\d(?:\.\d+)?e[+-]\d+", lambda match: number(float(match[0]), ".3g"), text)
    for plain, shown in _TIDY.items():
        text = text.replace(plain, shown)
    return re.sub(r"^x\b", "×", text)


TRAINED_BY = {"same": "the same", "own": "each its own"}  # recipes of the comparison of whole trainings
_REACHED = {True: "yes", False: "no", None: ""}


def training_table(record: dict | None) -> pd.DataFrame:
    """Time to a loss of Zoobot's training and ours, a row for each recipe and encoder; empty if not measured.

    Beside the loss is that of predicting the mean votes. Times are of the clock by which the ratio was taken; ours
    have curation in them, and are NaN where the loss was never reached.
    """
    found = []
    for row in record["rows"] if record else ():
        if "recipe" not in row:
            continue
        times = {tool: (spent or {}).get(row["clock"], float("nan")) for tool, spent in row["times"].items()}
        about = {"recipe": TRAINED_BY[row["recipe"]], "encoder": row["encoder"]}
        about |= {"loss": row["target"], "mean votes": row["baseline"]}
        about |= {"Zoobot": times["zoobot"], "gzlib": times["gzlib"], "of it curation": times["curation"]}
        about |= {"ratio": row["value"], "goal": tidied(row["goal"]), "reached": _REACHED[row["ok"]]}
        found.append(about)
    return pd.DataFrame(found)


def training_words(record: dict | None) -> str:
    """What was compared in :func:`training_table`, how its times were taken, and where this code is behind."""
    rows = [row for row in (record["rows"] if record else ()) if "recipe" in row]
    if record is None or not rows:
        return f"Time to a loss: {NOT_MEASURED}."
    setting, shares = rows[0]["setting"], [row["share"] for row in rows]
    measured = {row["recipe"] for row in rows}
    same = f"both trained for {setting['epochs']} epochs" if "same" in measured else NOT_MEASURED
    caps = {row["encoder"]: row["setting"]["cap"] for row in rows if row["recipe"] == "own"}
    apart = len({*caps.values()}) > 1
    most = [f"{cap} epochs{f' with {encoder}' if apart else ''}" for encoder, cap in caps.items()]
    own = f"Zoobot had at most {listed(list(dict.fromkeys(most)))}" if caps else NOT_MEASURED
    said = [
        f"{setting['galaxies']:,} images, networks at {setting['size']} px, on {device_of(record)}.",
        f"The same recipe: {same}; each its own: {own}.",
    ]
    if stopped := [row["encoder"] for row in rows if row["recipe"] == "own" and row["runs"]["zoobot"]["why"] == "end"]:
        said.append(f"Zoobot had not stopped by itself with {' and '.join(stopped)}: given more, it might come lower.")
    if idle := [f"{row['encoder']} ({TRAINED_BY[row['recipe']]})" for row in rows if not row["learned"]]:
        said.append(f"With {' and '.join(idle)} no loss below that of predicting the mean votes was reached by both.")
    if any(row["clock"] == "processor" for row in rows):
        share = f"{100 * min(shares):.0f} to {100 * max(shares):.0f} %"
        said.append(f"Other jobs ran on the machine, so that times are of the processor, of which runs had {share}.")
    absent = [row["encoder"] for row in record["rows"] if row["value"] is None and "encoder" in row]
    if absent:
        said.append(f"Not measured, or with one recipe alone: {', '.join(dict.fromkeys(absent))}.")
    for row in (row for row in rows if not row["times"]["gzlib"]):
        which, both = f"{row['encoder']} ({TRAINED_BY[row['recipe']]})", [p for p in row["along"] if p["ratio"]]
        last = (
            f"; to {both[-1]['loss']:.2f} nats, which both reach, the ratio is {both[-1]['ratio']:.1f}" if both else ""
        )
        said.append(f"This code does not come as low as Zoobot with {which}{last}.")
    for row in (row for row in rows if row["recipe"] == "own" and row["times"]["gzlib"]):
        ratios = [p["ratio"] for p in row["along"] if p["loss"] < row["baseline"] and p["ratio"]]
        if ratios and min(ratios) < row["value"]:
            lowest, highest = (number(ratio, ".2f") for ratio in (min(ratios), max(ratios)))
            said.append(f"To losses on the way the ratio of {row['encoder']} (each its own) is {lowest} to {highest}.")
    slower = [f"{row['encoder']} ({TRAINED_BY[row['recipe']]})" for row in rows if 0 < row["value"] < 1]
    if slower:
        said.append(f"This code is slower with {', '.join(slower)}.")
    elif all(row["value"] >= 1 for row in rows):
        said.append("This code is faster in each row.")
    return " ".join(said)


def galaxies_table(record: dict) -> pd.DataFrame:
    """Memory, time until the first batch, and rate of loading surveys of many galaxies."""
    rows = rows_along(record, "galaxies")
    return pd.DataFrame(
        {
            "galaxies": rows["galaxies"],
            "where": rows["resident"].map({True: "in memory", False: "memory-mapped"}),
            "memory": rows["bytes"] / 1e9,
            "open": rows["opened_seconds"],
            "rate": rows["value"],
        }
    )


def encoders_table(record: dict, other: dict | None, *, hours: float) -> pd.DataFrame:
    """What training each encoder costs on one device, and how much of it fits into some hours on it and on another."""
    rows = rows_along(record, "encoder").sort_values("n_params")
    side = int(rows["side"].iloc[0])
    shown = {f"in {hours:g} h": record, f"on one {gpu_name(other)}, {hours:g} h": other}
    fits = {
        where: [in_words(most_examples(one, name, side, hours=hours), NONE) for name in rows["encoder"]]
        for where, one in shown.items()
    }
    table = {
        "encoder": rows["encoder"],
        "parameters": rows["n_params"] / 1e6,
        "operations": rows["flops"] / 1e9,
        "time": 1e3 * rows["value"],
        "rate": rows["flops"] / rows["value"] / 1e9,
    }
    return _without_blanks(pd.DataFrame(table | fits))


def day_table(presets: list[str], record: dict, other: dict | None, *, hours: float) -> pd.DataFrame:
    """How long the pretraining studies of presets take, and the longest run of the largest of that shape."""
    rows = []
    for name in dict.fromkeys(presets):
        jobs = pretraining_study(name, planned=True).jobs()
        shown = sum(config.recipe.most_examples(config.n_train) for config, _ in jobs)
        row = {"preset": name, "runs": len(jobs), "images shown": shown}
        for where, one in (("this device", record), (f"one {gpu_name(other)}", other)):
            row[f"hours, {where}"] = in_words(study_hours(one, jobs), NONE)
            row[f"longest run in {hours:g} h, {where}"] = in_words(largest_study(one, jobs, hours=hours), NONE)
        rows.append(row)
    return _without_blanks(pd.DataFrame(rows))


def _without_blanks(table: pd.DataFrame) -> pd.DataFrame:
    """A table without the columns that hold no number at all."""
    return table.loc[:, [not (table[name] == NONE).all() for name in table]]


LINE_RATE = 12.5e6  # bytes a second of a download, stated: 100 Mbit/s


def rehearsal_table(record: dict | None, *, cores: tuple[int, ...] = (2, 16)) -> pd.DataFrame:
    """What each step of the rehearsal took, and hours of the whole survey on so many cores; empty if not measured.

    Processor time is what other programs on the machine hardly change. What a step takes for one more galaxy is the
    slope between its two sizes; it is spread evenly over cores, which the disk may not keep up with. A download is
    taken at a stated rate, as the rehearsal's hub is on the same machine, and training for one pass over all training
    galaxies.
    """
    rows = rows_along(record, "step")
    if rows.empty:
        return rows
    train, test, size = GZ_EVO
    steps = {name: some.sort_values("galaxies") for name, some in rows.groupby("step", sort=False)}
    found = []
    for name, some in steps.items():
        first, last = some.iloc[0], some.iloc[-1]
        row = {"step": name, "processor time": last["cpu_seconds"], "galaxies": last["galaxies"]}
        row["memory"] = last["peak_bytes"] / 1e6 if last["peak_bytes"] else float("nan")
        if name == "draw":  # of the rehearsal alone
            continue
        slope = (last["cpu_seconds"] - first["cpu_seconds"]) / max(1, last["galaxies"] - first["galaxies"])
        for n in cores:
            seconds = {
                "download": size / LINE_RATE,
                "curate": (train + test) * max(slope, 0.0) / n,
                "train": train * last["cpu_seconds"] / last["count"] / n,
            }.get(str(name), last["cpu_seconds"])
            row[f"whole survey, {n} cores"] = seconds / 3600
        found.append(row)
    return pd.DataFrame(found)


def rehearsal_facts(record: dict | None, gpu: dict | None = None) -> dict[str, str]:
    """Words about the rehearsal for the page: its sizes, its encoder, the disk that the whole survey takes.

    Parameters
    ----------
    record : dict or None
        The stored rehearsal.
    gpu : dict or None
        Of :func:`on_gpu`, for its training on a GPU.
    """
    rows = rows_along(record, "step")
    train, test, size = GZ_EVO
    facts = {"whole": f"{train + test:,}", "download": size_words(size), "rehearsed_gpu": NOT_MEASURED}
    for row in measured_rows(gpu, "gpu"):
        hours = in_words(train / row["value"] / 3600)
        facts["rehearsed_gpu"] = f"{row['value']:,.0f} images/s on one {gpu_name(gpu)}, {hours} h for that pass"
    if record is None or rows.empty:
        return facts | dict.fromkeys(("sizes", "encoder", "side", "curated", "memory", "rehearsed_on"), NOT_MEASURED)
    curated = rows[rows["step"] == "curate"].sort_values("galaxies").iloc[-1]
    trained = rows[rows["step"] == "train"].iloc[-1]
    memory = rows_along(record, "memory")
    changes = [
        f"{number(row.value, '.2f')} for {row.name_of}"
        for row in memory.assign(name_of=memory["name"].str.rpartition(".")[2]).itertuples()
    ]
    return facts | {
        "sizes": " and ".join(f"{n:,}" for n in sorted(rows["galaxies"].unique())),
        "encoder": trained["encoder"],
        "side": f"{trained['side']:.0f}",
        "curated": size_words((train + test) * curated["bytes"] / curated["kept"]),
        "memory": ", ".join(changes),
        "rehearsed_on": device_of(record),
    }


def paper_table(records: dict[str, dict]) -> pd.DataFrame:
    """What the pretraining runs of preset ``paper`` cost at most, a row for each encoder.

    The rate and the memory of a GPU are those of a step as the preset has it, in bfloat16, where they were measured.
    """
    table = plan_cost(pretraining_study("paper", planned=True).jobs(), records)
    gpu = gpu_name(on_gpu(records))
    return pd.DataFrame(
        {
            "encoder": table["encoder"],
            "parameters": table["parameters"] / 1e6,
            "operations": [
                3 * encoder_needs(e, s).flops / 1e9 for e, s in zip(table["encoder"], table["side"], strict=True)
            ],
            "runs": table["runs"],
            "images": table["images"] / 1e6,
            f"{gpu} rate": [in_words(rate, NONE) for rate in table["gpu_rate"]],
            f"{gpu} memory": table["gpu_memory"] / 1e9,
            f"{gpu} time": table["gpu_hours"],
            "weights": table["disk"] / 1e9,
            "memory": table["memory"] / 1e9,
        }
    )


def paper_words(table: pd.DataFrame) -> str:
    """How many runs an encoder of :func:`paper_table` has and what they show, where all encoders have alike."""
    shown = [f"{number(table[name].min(), ',.0f')} to {number(table[name].max(), ',.0f')}"
             if table[name].nunique() > 1 else number(table[name].iloc[0], ",.0f")
             for name in ("runs", "images")]  # fmt: skip
    return f"{shown[0]} runs with each encoder, which are shown {shown[1]} million images"


def growth_figure(records: dict[str, dict]):
    """Seconds an image against encoder size and image size, images a second against galaxies; one colour a device.

    Parameters
    ----------
    records : dict
        Name of a device to its growth benchmark.
    """
    figure, axes = plt.subplots(1, 3, figsize=(7.6, 3.1))
    for axis in axes:
        axis.set(xscale="log", yscale="log")
    for colour, (name, record) in zip(COLOURS, records.items(), strict=False):
        encoders = rows_along(record, "encoder")
        for family in ("resnet", "convnext") if len(encoders) else ():
            some = encoders[encoders["encoder"].str.startswith(family)].sort_values("flops")
            style = {"marker": encoder_style(f"{family}_w16")["marker"], "color": colour}
            axes[0].plot(some["n_params"], some["value"], **style, label=f"{family}, {name}")
        if len(sides := rows_along(record, "side")):
            axes[1].plot(sides["side"], sides["value"], "o-", color=colour, label=f"step, {name}")
            axes[1].plot(sides["side"], sides["view_seconds"], "o--", color=colour, label=f"of which the view, {name}")
            apart = sides["side"][::2] if len(sides) > 4 else sides["side"]
            axes[1].set_xticks(apart, apart.astype(str), minor=False)
        if len(galaxies := rows_along(record, "galaxies")):
            axes[2].plot(galaxies["galaxies"], galaxies["value"], "o-", color=colour, label=name)
    axes[1].xaxis.set_minor_locator(NullLocator())
    labels = ("encoder parameters", "side of the images [px]", "galaxies in the survey")
    for axis, label in zip(axes, labels, strict=True):
        axis.set_xlabel(label)
        axis.legend(handlelength=1.2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    for axis in axes[:2]:
        axis.set_ylabel("seconds per image")
    axes[2].set_ylabel("loaded images per second")
    axes[2].set_ylim(min(1000, axes[2].get_ylim()[0]), 3 * axes[2].get_ylim()[1])
    figure.tight_layout()
    return figure


def surfaces(grid: pd.DataFrame, floor: float | None, *, level: float) -> tuple[dict[str, xr.Dataset], str]:
    """Hoffmann's surface with E fitted and, where it is known, with E at the floor; or why there is none."""
    held = {"E fitted": None} | ({} if floor is None else {"E at the floor": {"E": floor}})
    try:
        sizes = {"N": grid.N, "D": grid.D}
        return {name: fit_surface(grid.loss, sizes, fixed=fixed, level=level) for name, fixed in held.items()}, ""
    except UserError as error:
        return {}, str(error)


def surface_table(fits: dict[str, xr.Dataset]) -> pd.DataFrame:
    """Parameters of the surfaces with their intervals, and in words how well the runs know each."""
    rows = []
    for label, fit in fits.items():
        for name, value, low, high in fit[["value", "low", "high"]].to_dataframe().itertuples():
            shown = number(value, ".2f") if low == high else intervals(value, low, high)[0]
            rows.append([label, GREEK.get(name, name), shown, _known(value, low, high)])
    return pd.DataFrame(rows, columns=["fit", "parameter", "value", "verdict"])


def _known(value: float, low: float, high: float) -> str:
    if low == high:
        return "held"
    if low < 0.02 * value or value <= 0:
        return "at most " + number(high, ".3g")
    return "determined" if high < 2 * low else f"known to a factor {high / low:,.{0 if high > 10 * low else 1}f}"


def surface_words(table: pd.DataFrame, grid: pd.DataFrame, refusal: str) -> str:
    """What the runs determine of the surface with E fitted, as a sentence."""
    if refusal:
        return f"The design cannot tell: {refusal}".replace("^", r"\^")
    weak = table[(table.fit == "E fitted") & ~table.verdict.isin(["determined", "held"])]
    known = f"leave {listed(list(weak.parameter))} known no better than to a factor of two" if len(weak) else ""
    return (
        f"{grid.N.nunique()} encoder sizes over {np.log10(grid.N.max() / grid.N.min()):.1f} decades are a small design:"
        f" with E fitted, the runs {known or 'determine every parameter'}."
    )


def surface_laws(grid: pd.DataFrame, *, level: float) -> tuple[pd.DataFrame, xr.Dataset | None]:
    """Four laws of two sizes on the same runs, and the fit with the lowest corrected Akaike criterion."""
    rows: list[list[object]] = []
    best: tuple[float, xr.Dataset | None] = (np.inf, None)
    for law in ("chinchilla", "kaplan", "skaling", "bounded"):
        shown = formula(LAWS[law].formula)
        try:
            fit = fit_surface(grid.loss, {"N": grid.N, "D": grid.D}, law=law, level=level)
        except UserError as error:
            rows.append([shown, np.nan, np.nan, str(error)])
            continue
        at = {"N": xr.DataArray(grid.N), "D": xr.DataArray(grid.D)}
        residual = np.log(predict_surface(fit, at)["loss"] / grid.loss)
        aicc, _ = information(residual, len(LAWS[law].names), log_loss=np.log(grid.loss))
        best = min(best, (aicc, fit), key=lambda pair: pair[0])
        message = "converged" if fit.success else str(fit.message.item())
        rows.append([shown, float(np.sqrt((residual**2).mean())), aicc, message])
    table = pd.DataFrame(rows, columns=["law", "rms", "ΔAICc", "fit"])
    table["ΔAICc"] -= table["ΔAICc"].min()
    return table, best[1]


def training_cost(study: PretrainingStudy | PlannedStudy, runs: StudyRuns) -> Callable:
    """Floating-point operations of training as a function of parameters ``N`` and training galaxies ``D``.

    Operations of a forward pass are counted for each encoder of the family and interpolated between them; a training
    step is taken for three of them. The galaxies shown are those of the study's rule, or, where a run ends when it
    gets no better, a power law of ``N`` and ``D`` through those that the runs were shown.
    """
    flops = [forward_flops(name, study.survey.size) for name in runs.family]
    known = np.log([runs.n_params[name] for name in runs.family]), np.log(flops)
    if isinstance(study, PlannedStudy):
        seen = [
            (1.0, np.log(runs.n_params[r["config"]["encoder"]]), np.log(r["config"]["n_train"]),
             np.log(r["metrics"]["history"]["examples"][-1]))
            for r in runs.records if r["config"]["encoder"] in runs.family
        ]  # fmt: skip
        *rows, shown = np.array(seen).T
        at, by_size, by_data = np.linalg.lstsq(np.transpose(rows), shown, rcond=None)[0]
    else:
        at_thousand, by_data, _ = study.examples
        at, by_size = np.log(at_thousand) - by_data * np.log(1000), 0.0

    def cost(N, D):
        operations = np.exp(np.interp(np.log(N), *known))
        return TRAINING_FACTOR * operations * np.exp(at + by_size * np.log(N) + by_data * np.log(D))

    return cost


def best_split(fit: xr.Dataset, grid: pd.DataFrame, cost: Callable) -> tuple[Callable, xr.Dataset]:
    """The loss of a fitted surface as a function of ``N`` and ``D``, and its best split of each compute budget."""
    ends = float(cost(grid.N.min(), grid.D.min())), float(cost(grid.N.max(), grid.D.max()))
    frontier = compute_frontier(fit, np.geomspace(*ends, 80), cost, n_params=(grid.N.min(), grid.N.max()))

    def fitted(N, D):
        N, D = (xr.DataArray(values, dims=("y", "x")) for values in np.broadcast_arrays(N, D))
        return predict_surface(fit.drop_vars("draw_values"), {"N": N, "D": D})["loss"].values

    return fitted, frontier
