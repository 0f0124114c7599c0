"""Which questions the study can decide: how many test galaxies each is asked of, known before the first run.

    python benchmarks/questions.py [--write]

Volunteers of simulated galaxies vote without a image being drawn at its size, so this takes a minute. ``--write``
keeps the list in ``data/plans/questions.json``, which ``data/plans/rules.toml`` refers to.
"""

import argparse
import json

import numpy as np

from gzlib import paths, sky
from gzlib.data.schema import load_schema
from gzlib.files import replace_file
from gzlib.sky.source import STUDY_HELD

LEAST = 300  # asked test galaxies of a question that can be decided
OUT = paths.ROOT / "data" / "plans" / "questions.json"


def asked() -> dict[str, int]:
    """Test galaxies of which each question was asked at least once."""
    count, first = STUDY_HELD["test"]
    found = {}
    for campaign in sky.CAMPAIGNS:
        votes = sky.simulate(campaign, np.arange(first, first + count), seed=0, size=8).votes
        for question in load_schema(campaign).questions:
            found[question.name] = int((votes[:, question.columns].sum(1) > 0).sum())
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--write", action="store_true", help=f"keep the list in {OUT.relative_to(paths.ROOT)}")
    options = parser.parse_args()
    counts = asked()
    few = {name: n for name, n in counts.items() if n < LEAST}
    result = {
        "survey": "sim:study, test galaxies",
        "sky": sky.sky_identity(),
        "least": LEAST,
        "decidable": len(counts) - len(few),
        "undecidable": few,
        "asked": counts,
    }
    print(json.dumps(result, indent=1))
    if options.write:
        replace_file(OUT, json.dumps(result, indent=1) + "\n")
