"""Whether the simulated sky still gives the same galaxies after its code was rewritten, and the record of that.

    python benchmarks/sky_identity.py                 compare a few galaxies with those on record
    python benchmarks/sky_identity.py --same [REV]    record this code as giving the same galaxies as REV (HEAD if not
                                                      given), if every bit of thousands agrees
    python benchmarks/sky_identity.py --new           start a new identity: other galaxies, other keys of their runs

The record is ``gzlib/sky/identity.json``: the identity that survey fingerprints and run keys know, the contents
(:func:`gzlib.sky.sky_content`) that share it, and a sample of galaxies of each campaign and task.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from gzlib import paths, sky
from gzlib.errors import UserError
from gzlib.files import replace_file
from gzlib.sky.source import KNOWN

GALAXIES, SIZE = 6, 32
TOLERANCE = 0.05  # of a band's mean and spread in units of 0..255: a pixel may differ by 1 between machines
COMPARED = 3_000  # galaxies of each campaign and task, for --same
# Runs in either tree, on one machine, so that equal code gives equal bits: a hash of each part of the sky, as a source.
HASHES = """
import hashlib, json
import pandas as pd
from gzlib import open_source, sky
found = {}
for part in (*sky.CAMPAIGNS, *sky.TASKS):
    digest = hashlib.sha256()
    for batch in open_source(f"sim:{part}:%d", seed=0).batches(%d, None):
        digest.update(batch.pictures.tobytes() + batch.votes.tobytes())
        for table in (batch.catalog, batch.labels, batch.truth):
            digest.update(repr(list(table.columns)).encode())
            digest.update(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes())
    found[part] = digest.hexdigest()
print(json.dumps({"content": sky.sky_content(), "galaxies": found}))
"""


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


def galaxy_hashes(tree: Path) -> dict:
    """Content of the sky whose package lies in ``tree``, and a hash over thousands of galaxies of each of its parts."""
    code = HASHES % (COMPARED, SIZE)
    environment = os.environ | {"PYTHONPATH": str(tree), "GZLIB_HOME": str(tree)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"The sky in '{tree}' could not be drawn: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def refuse_other_galaxies(revision: str, known: dict):
    """Unless this code gives, bit for bit, the galaxies of a revision whose sky is on record."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["git", "archive", "--format=tar", revision, "gzlib", "_quarto.yml"]
        done = subprocess.run(command, cwd=paths.project(), capture_output=True)
        if done.returncode:
            raise UserError(f"git has no revision '{revision}': {done.stderr.decode().strip()}")
        tarfile.open(fileobj=io.BytesIO(done.stdout)).extractall(folder, filter="data")
        before, now = galaxy_hashes(Path(folder)), galaxy_hashes(paths.project())
    if before["content"] not in known["same"]:
        raise UserError(f"The sky of '{revision}' is not on record itself: compare with a revision that is.")
    parts = before["galaxies"].keys() | now["galaxies"].keys()
    if apart := sorted(part for part in parts if before["galaxies"].get(part) != now["galaxies"].get(part)):
        raise UserError(f"This code gives other galaxies than '{revision}': {', '.join(apart)}; see --new.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--same", nargs="?", const="HEAD", metavar="REV")
    parser.add_argument("--new", action="store_true")
    args = parser.parse_args()
    known, content, now = json.loads(KNOWN.read_text()), sky.sky_content(), sample()
    if args.new:
        known = {"identity": content, "same": [content], "sample": now}
    elif apart := differences(known.get("sample", {}), now):
        raise UserError(f"This sky is another than '{known['identity']}': {'; '.join(apart)}.")
    elif args.same and content not in known["same"]:
        refuse_other_galaxies(args.same, known)
        known["same"].append(content)
    if args.new or args.same:
        replace_file(KNOWN, json.dumps(known, separators=(",", ":")) + "\n")
    print(f"content {content}, identity {known['identity'] if content in known['same'] else content}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"sky_identity: {error}")
