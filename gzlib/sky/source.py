"""The simulated sky as a source: it needs nothing from outside and knows the truth about every galaxy."""

import json
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from gzlib import sky
from gzlib.data.schema import load_schema
from gzlib.data.sources.base import Batch, Source, join_kinds, shares
from gzlib.data.sources.columns import column_kind
from gzlib.data.sources.registry import Opener, register_source
from gzlib.errors import UserError
from gzlib.identity import code_hash, content_hash

DEFAULT_CAMPAIGNS = "gz2+dr5"
STUDY = "study"
# Labelled galaxies of each campaign in Galaxy Zoo Evo, in thousands (rows of its public data sets; DECaLS by its
# papers), which is how the paper's training set divides.
STUDY_SHARES = {
    "gz2": 191, "dr12": 82, "dr5": 225, "dr8": 94, "candels": 48, "hubble": 96, "cd": 45, "ukidss": 71,
}  # fmt: skip
# Of each campaign; their numbers begin beyond any training galaxy's, so that the training set can grow.
STUDY_HELD = {"val": (1_000, 10_000_000), "test": (2_000, 20_000_000)}
PIXELS = 1 << 22  # of one batch: 1,024 galaxies at 64 px, 12 MB
KNOWN = Path(__file__).with_name("identity.json")
USAGE = "write sim:20000, sim:gz2:5000, sim:gz2+dr5:20000, sim:study:16000 or sim:TASK:2000"


def simulated_source(text: str, *, seed: int = 0, schema: str | None = None, labels=None, dataset_name=None) -> Source:
    """Simulated galaxies from ``sim:N``, ``sim:CAMPAIGNS:N``, ``sim:study:N`` or ``sim:TASK[:N]``.

    Several campaigns, joined by ``+``, share ``N`` as evenly as they can. A galaxy depends on its campaign or task,
    its index and the seed alone, so a longer survey begins with the galaxies of a shorter one. ``sim:study:N`` has all
    campaigns and publishes a split: ``N`` training galaxies, divided as the paper's are, 1,000 validation galaxies and
    2,000 test galaxies of each campaign.

    Raises
    ------
    UserError
        If the campaign, the task or the number makes no sense, or another decision tree is asked for.
    """
    what, n = _parse(text, sky.CAMPAIGNS, sky.TASKS, sky.TASK_SIZES)
    is_task = what in sky.TASKS
    parts = [what] if is_task else list(sky.CAMPAIGNS) if what == STUDY else what.split("+")
    own = "" if is_task else "+".join(parts)
    if schema not in (None, own):
        raise UserError(f"'{text}' has schema '{own}', not '{schema}'; name its campaigns.")
    simulate = sky.simulate_task if is_task else sky.simulate
    kinds = _sample(what, sky.sky_identity())[0] if is_task else {}
    blocks = _blocks(what, n, parts)
    counts = [count for _, _, count, _ in blocks]

    def batches(size: int, limit: int | None) -> Iterator[Batch]:
        device, total = _device(), sum(counts) if limit is None else min(sum(counts), limit)
        answers = [] if is_task else load_schema(own).label_cols
        for (part, first, _, side), count in zip(blocks, shares(total, counts), strict=True):
            rows = max(PIXELS // size**2, 1)
            for start in range(first, first + count, rows):
                index = np.arange(start, min(start + rows, first + count))
                made = simulate(part, index, seed=seed, size=size, device=device)
                votes = np.zeros((len(index), len(answers)), np.int32)
                if not is_task:
                    votes[:, _answer_positions(part, answers)] = made.votes
                catalog = made.catalog[["id_str", "ra", "dec"]].reset_index(drop=True)
                catalog = catalog.assign(dataset_name=f"sim-{part}", published_split=side)
                own_labels = pd.DataFrame(index=range(len(index))) if not is_task else made.labels
                yield Batch(catalog, votes, own_labels.reset_index(drop=True), made.images, made.truth)

    identity = {"sky": sky.sky_identity(), "parts": parts, "galaxies": n, "seed": seed}
    if what == STUDY:
        identity["blocks"] = [list(block) for block in blocks]
    return Source(
        f"sim-{what}-{n}",
        text,
        own,
        kinds,
        sum(counts),
        batches,
        identity=(identity,),
        parts=((text, True),),
        truth_kinds=lambda: join_kinds([_sample(part, sky.sky_identity())[1] for part in parts]),
        has_published_split=what == STUDY,
    )


def _blocks(what: str, n: int, parts: list[str]) -> list[tuple[str, int, int, str]]:
    """(campaign or task, first galaxy, galaxies, published side) of everything that a survey is made of."""
    if what != STUDY:
        return [(part, 0, count, "") for part, count in zip(parts, shares(n, [n] * len(parts)), strict=True)]
    # Shares of many more galaxies than there are, so that their order decides nothing but the rounding.
    training = shares(n, [STUDY_SHARES[part] * n for part in parts])
    blocks = [(part, 0, count, "train") for part, count in zip(parts, training, strict=True)]
    return blocks + [(part, first, count, side) for side, (count, first) in STUDY_HELD.items() for part in parts]


def sky_content() -> str:
    """Hash over all that shapes simulated galaxies: the code of this package and its calibration."""
    folder = Path(__file__).parent
    code = {file.name: code_hash(file) for file in folder.glob("*.py")}
    calibration = {file.name: json.loads(file.read_text()) for file in folder.glob("calibration/*.json")}
    return content_hash([code, calibration])[:16]


@cache
def sky_identity() -> str:
    """What survey fingerprints and run keys know of the sky: it changes when simulated galaxies may have changed.

    Code that was rewritten without changing a galaxy keeps the identity: ``identity.json`` lists the contents for which
    ``benchmarks/sky_identity.py`` found every bit of thousands of galaxies equal to those of the code before.
    """
    known = json.loads(KNOWN.read_text())
    return known["identity"] if (content := sky_content()) in known["same"] else content


register_source("sim:", Opener(simulated_source, generated=True, signature=lambda text: [text, sky.sky_identity()]))


def _parse(text: str, campaigns, tasks, sizes: dict) -> tuple[str, int]:
    words = text.split(":")[1:]
    if len(words) == 1 and words[0] in tasks:
        words.append(str(sizes[words[0]]))
    elif len(words) == 1:
        words.insert(0, DEFAULT_CAMPAIGNS)
    if len(words) != 2 or not words[1].isdigit() or int(words[1]) == 0:
        raise UserError(f"'{text}' is no simulated survey: {USAGE}, with a whole number of galaxies above 0.")
    what, n = words[0], int(words[1])
    for part in [] if what in tasks or what == STUDY else what.split("+"):
        if part not in campaigns:
            raise UserError(
                f"'{text}': the simulated sky has no campaign or task '{part}'; it has campaigns"
                f" {', '.join(campaigns)}, tasks {', '.join(tasks)}, and all campaigns together as '{STUDY}'."
            )
    if len(set(what.split("+"))) != len(what.split("+")):
        raise UserError(f"'{text}' names a campaign twice.")
    return what, n


def _answer_positions(campaign: str, answers: list[str]) -> slice:
    """Where a campaign's answers stand in the label vector of several."""
    own = load_schema(campaign).label_cols
    start = answers.index(own[0])
    return slice(start, start + len(own))


@lru_cache
def _sample(part: str, identity: str) -> tuple[dict[str, str], dict[str, str]]:
    """Columns of a campaign's or task's labels and truth, as one small galaxy shows them."""
    made = (sky.simulate_task if part in sky.TASKS else sky.simulate)(part, np.arange(1), seed=0, size=16, device="cpu")
    tables = (pd.DataFrame() if made.labels is None else made.labels, made.truth)
    return tuple({column: column_kind(table[column]) for column in table} for table in tables)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
