"""Tables of what the simulated sky's benchmarks measured against real data, from their committed reports."""

import json

import pandas as pd

from gzlib.book.inputs import input_files
from gzlib.errors import UserError

_SURVEYS = {"gz2": "GZ2", "decals": "DECaLS"}


def reports(name: str) -> list[dict]:
    """Records of ``data/benchmarks/<name>.json``.

    Raises
    ------
    UserError
        If the report is not there.
    """
    files = input_files(f"data/benchmarks/{name}.json")
    if not files:
        raise UserError(
            f"data/benchmarks/{name}.json is missing; run `python benchmarks/{name}.py --write` to make it."
        )
    return json.loads(files[0].read_text(encoding="utf-8"))


def votes_table() -> pd.DataFrame:
    """One row for each question with real votes: how far simulated votes lie from the half held out."""
    rows = {}
    for record in reports("sky_votes"):
        detail = record["detail"]
        rows[record["name"].removeprefix("votes.")] = {
            "gap of means": detail["mean_gap"],
            "Wasserstein": record["value"],
            "entropy, simulated": detail["entropy"][0],
            "real": detail["entropy"][1],
            "votes, simulated": detail["votes_reaching"][0],
            "real ": detail["votes_reaching"][1],  # two columns of one heading: the space keeps them apart
            "real galaxies": f"{detail['galaxies_compared'][1]:,}",
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("question")


def pictures_table() -> pd.DataFrame:
    """AUC of a classifier that tells two sets of pictures apart, one row for each pair, one column for each view.

    The rows of simulated pictures come first; then, as yardsticks, real pictures against real ones.
    """
    simulated, yardsticks = {}, {}
    for record in reports("sky_realism"):
        name, detail = record["name"].removeprefix("sky.realism."), record["detail"]
        if "auc" not in detail:
            yardsticks["real GZ2 against real DECaLS"] = {"full": record["value"]}
            continue
        survey, choice = name.split(".")
        simulated[f"{_SURVEYS[survey]}: real against simulated ({choice})"] = {
            view.replace("_", " "): auc for view, auc in detail["auc"].items()
        }
        yardsticks[f"{_SURVEYS[survey]}: real, one half against the other"] = {
            "full": detail["auc_real_half_against_half"]
        }
    return pd.DataFrame.from_dict(simulated | yardsticks, orient="index").rename_axis("pictures")


def transfer_table() -> pd.DataFrame:
    """Errors of linear probes on real classes, one row for each real set and start of the encoder.

    Without a report there is one row of "not measured": that benchmark takes an hour of a processor for each sky.
    """
    rows = {}
    for record in reports("sky_transfer") if input_files("data/benchmarks/sky_transfer.json") else []:
        detail = record["detail"]
        if "imagenet" in detail:
            rows[record["name"].removeprefix("sky.transfer.").replace("_", " "), detail["start"]] = {
                "ImageNet": detail["imagenet"],
                "sky": detail["sky"],
                "both joined": detail["joined"],
                "errors removed": record["value"],
                "standard error": detail["standard_error"],
            }
    rows = rows or {("all", "any"): {"errors removed": "not measured"}}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["real set", "start"])


def transfer_words(table: pd.DataFrame) -> str:
    """The outcome of :func:`transfer_table` as a sentence."""
    starts = table.index.get_level_values("start")
    if "imagenet" not in starts:
        return "For the present version of the sky this has not been measured."
    removed = table[starts == "imagenet"]["errors removed"]
    return (
        f"With ImageNet's features and those from ImageNet and the sky joined, {100 * removed.mean():.0f} % of"
        f" ImageNet's errors vanish, on average over the {len(removed)} sets."
    )
