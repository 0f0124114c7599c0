"""Whether the simulated sky still gives the same galaxies after its code was rewritten, and the record of that.

    python benchmarks/sky_identity.py           compare this code's galaxies with those on record
    python benchmarks/sky_identity.py --same    ... and record this code as giving the same, if it does
    python benchmarks/sky_identity.py --new     start a new identity: other galaxies, other keys of all their runs

The record is ``gzlib/sky/identity.json``: the identity that survey fingerprints and run keys know, the contents
(:func:`gzlib.sky.sky_content`) that share it, and a sample of galaxies of each campaign and task.
"""

import argparse
import json

import numpy as np

from gzlib import sky
from gzlib.errors import UserError
from gzlib.files import replace_file
from gzlib.sky.source import KNOWN

GALAXIES, SIZE = 6, 32
TOLERANCE = 0.05  # of a band's mean and spread in units of 0..255: a pixel may differ by 1 between machines


def sample() -> dict[str, dict]:
    """A few galaxies of each campaign and task: votes or labels, and each band's mean and spread [0..255]."""
    found = {}
    for part in (*sky.CAMPAIGNS, *sky.TASKS):
        make = sky.simulate if part in sky.CAMPAIGNS else sky.simulate_task
        made = make(part, range(GALAXIES), seed=0, size=SIZE)
        told = made.votes if made.votes is not None else made.labels.select_dtypes("number").to_numpy()
        bands = made.images.reshape(GALAXIES, -1, 3).astype(float)
        found[part] = {
            "told": np.round(told, 4).tolist(),
            "bands": np.round(np.concatenate([bands.mean(1), bands.std(1)], 1), 3).tolist(),
        }
    return found


def differences(known: dict[str, dict], now: dict[str, dict]) -> list[str]:
    """What differs between two samples, one phrase each; empty if the galaxies are the same."""
    found = [f"{part}: only on one side" for part in sorted(known.keys() ^ now.keys())]
    for part in [part for part in known if part in now]:
        if known[part]["told"] != now[part]["told"]:
            found.append(f"{part}: votes or labels")
        apart = np.abs(np.array(known[part]["bands"]) - np.array(now[part]["bands"])).max()
        if apart > TOLERANCE:
            found.append(f"{part}: images, by {apart:.2f} of 255 in a band's mean or spread")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--same", action="store_true")
    parser.add_argument("--new", action="store_true")
    args = parser.parse_args()
    known, content, now = json.loads(KNOWN.read_text()), sky.sky_content(), sample()
    if args.new:
        known = {"identity": content, "same": [content], "sample": now}
    elif apart := differences(known.get("sample", {}), now):
        raise UserError(f"This sky is another than '{known['identity']}': {'; '.join(apart)}.")
    elif args.same and content not in known["same"]:
        known["same"].append(content)
    if args.new or args.same:
        replace_file(KNOWN, json.dumps(known, separators=(",", ":")) + "\n")
    print(f"content {content}, identity {known['identity'] if content in known['same'] else content}")


if __name__ == "__main__":
    main()
