"""Bytes at random, guided by what they reach, into every reader of someone's files.

    python benchmarks/fuzz.py catalogue|curves|plan|record [-max_total_time=600] [CORPUS]

Whatever a reader is given, it reads it or raises :class:`gzlib.UserError`; anything else is a finding, which atheris
(of the ``bench`` extra) prints and keeps as ``crash-…``. Findings become tests. Options of libFuzzer are passed on.

Random bytes hardly ever make a file that a reader takes. So half of the inputs are the file itself, and half are
changes of a valid file: which of its values goes, or becomes what else. What is read is then used as the commands do.
"""

import csv
import io
import json
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["gzlib"]):
    from gzlib.data import open_source
    from gzlib.errors import UserError
    from gzlib.fitting import read_curves
    from gzlib.training.store import read_record, runs_table
    from gzlib.training.sweeps import plan_notes, read_plan

FOLDER = Path(tempfile.mkdtemp())
HOSTILE = [
    *[None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**30, -0.0, 0.5, 1e-320, 1e308],
    *[float("nan"), float("inf"), float("-inf"), "", " ", "nan", "NA", "-99", "0x10", "1e400", "1,5", "½", "١٢"],
    *["../x", "/x", "a\0b", "\ud800", "\u202eabc", "=1+1", "x" * 5000, [], {}, [[]], [{}], {"": ""}, [0.1] * 9],
]


def changed(value, dice: atheris.FuzzedDataProvider):
    """A nested value with a few of its parts replaced, removed or doubled, as the bytes of ``dice`` say."""
    for _ in range(dice.ConsumeIntInRange(1, 4)):
        holder, parts = None, value
        while isinstance(parts, dict | list) and parts and (holder is None or dice.ConsumeIntInRange(0, 4)):
            keys = list(parts) if isinstance(parts, dict) else list(range(len(parts)))
            holder, key = parts, keys[dice.ConsumeIntInRange(0, len(keys) - 1)]
            parts = holder[key]
        if holder is None:
            break
        action = dice.ConsumeIntInRange(0, 9)
        if action == 0:
            del holder[key]
        elif action == 1 and isinstance(holder, list):
            holder.append(parts)
        elif action == 2:
            holder[key] = dice.ConsumeUnicode(20)
        elif action == 3:
            holder[key] = dice.ConsumeRegularFloat() if dice.ConsumeBool() else dice.ConsumeInt(8)
        else:
            holder[key] = json.loads(json.dumps(HOSTILE[dice.ConsumeIntInRange(0, len(HOSTILE) - 1)]))
    return value


def as_csv(rows: list) -> bytes:
    """Rows of cells; what is not a list is a row of one cell."""
    out = io.StringIO()
    csv.writer(out).writerows(row if isinstance(row, list) else [row] for row in rows)
    return out.getvalue().encode("utf-8", "surrogatepass")


def as_toml(plan: dict) -> bytes:
    """Tables of values; other values stand before them."""
    lines = []
    for name, tables in plan.items():
        for table in tables if isinstance(tables, list) else [tables]:
            if not isinstance(table, dict):
                lines.insert(0, f"{json.dumps(name)} = {_toml(table)}")
                continue
            lines.append(f"[[{json.dumps(name)}]]" if isinstance(tables, list) else f"[{json.dumps(name)}]")
            lines += [f"{json.dumps(key)} = {_toml(value)}" for key, value in table.items()]
    return "\n".join(lines).encode()


def _toml(value) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return '"none"' if value is None else json.dumps(value)  # which TOML does not have


def as_json(value) -> bytes:
    """JSON, with what is not JSON (NaN) too."""
    return json.dumps(value).encode()


def catalogue(content: bytes):
    """A table of galaxies, images and labels."""
    file = FOLDER / "catalogue.csv"
    file.write_bytes(content)
    source = open_source(str(file))
    for _ in source.batches(32, None):
        pass


def curves(content: bytes):
    """A table of learning curves."""
    file = FOLDER / "curves.csv"
    file.write_bytes(content)
    read_curves(file)


def plan(content: bytes):
    """A plan of runs."""
    file = FOLDER / "plan.toml"
    file.write_bytes(content)
    plan_notes(file)
    read_plan(file, planned=lambda survey: 100)


def record(content: bytes):
    """A run's ``run.json``."""
    file = FOLDER / "0123456789abcdef" / "run.json"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    runs_table([read_record(file)])


def _record() -> dict:
    metrics = {"loss": 2.0, "questions": {"q": 1.0}, "asked": {"q": 4}, "floor": {"loss": 1.0, "questions": {"q": 1.0}}}
    metrics["history"] = {"examples": [1, 2], "train_loss": [2.0, 1.0], "val_loss": [2.0, 1.5]}
    config = {"encoder": "resnet_w4", "n_train": 60, "seed": 0, "weights": "random", "recipe": {"augment": {}}}
    part = {"source": "sim:gz2:160", "simulated": True}
    survey = part | {"size": 32, "split": "hash", "seed": 0, "fingerprint": "f" * 64, "parts": [part]}
    where = {"seconds": 1.0, "device": "CPU", "started": "2025-01-01T00:00:00+00:00", "git": None, "torch": "2"}
    found = {"key": "0123456789abcdef", "kind": "pretrain", "config": config, "survey": survey, "weights": None}
    return found | {"metrics": metrics, "test": {"what": "loss", "n": 2, "data": "AAAA"}, "provenance": where}


VALID = {  # a file's values, and how they are written
    "catalogue": (
        lambda: [
            ["id_str", "file_loc", "label", "ra", "dec", "split", "smooth-or-featured_smooth"],
            ["a", "a.jpg", 1, 10.5, -3, "train", 4],
            ["b", "b.jpg", 0, 11.5, 4, "test", 3],
            ["c", "c.jpg", "", 0, 0, "val", ""],
        ],
        as_csv,
    ),
    "curves": (
        lambda: [["n_train", "seed", "loss", "encoder"], *([100 * 2**i, i % 2, 2.5 / (i + 1), "e"] for i in range(6))],
        as_csv,
    ),
    "plan": (
        lambda: {
            "rules": "rules.toml",
            "survey": {"source": "sim:1000", "size": 32, "split": "hash"},
            "recipe": {"examples": 100, "augment": {"flip": True, "zoom": [1.0, 1.2]}},
            "pretrain": [{"name": "a", "encoder": ["resnet_w4", "resnet_w6"], "n_train": [75, 150], "seed": [0, 1]}],
            "finetune": [{"task": "t", "encoder": "resnet_w4", "weights": "a", "n_train": 50, "mode": "linear"}],
        },
        as_toml,
    ),
    "record": (_record, as_json),
}
SEEDS = {
    "catalogue": [b"id_str,file_loc,label,ra,dec,split\na,a.jpg,1,10.5,-3,train\nb,b.jpg,0,11.5,4,test\n"],
    "curves": [b"n_train,seed,loss\n100,0,2.5\n200,0,2.1\n400,0,1.9\n800,0,1.8\n"],
    "plan": [b'[survey]\nsource = "sim:1000"\nsize = 32\n[[pretrain]]\nencoder = "resnet_w4"\nn_train = [75, 150]\n'],
    "record": [b'{"key": "0123456789abcdef", "kind": "pretrain", "config": {}, "metrics": {}, "provenance": {}}'],
}
TARGETS = {"catalogue": catalogue, "curves": curves, "plan": plan, "record": record}


def main():
    name = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if name not in TARGETS:
        sys.exit(f"usage: python benchmarks/fuzz.py {'|'.join(TARGETS)} [options of libFuzzer] [CORPUS]")
    corpus = next((Path(a) for a in sys.argv[1:] if not a.startswith("-")), None) or FOLDER / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for i, content in enumerate(SEEDS[name]):
        (corpus / f"seed{i}").write_bytes(content)

    valid, written = VALID[name]
    (FOLDER / "rules.toml").write_text("")
    TARGETS[name](written(valid()))

    def one(content: bytes):
        if content[:1] and content[0] % 2:
            content = written(changed(valid(), atheris.FuzzedDataProvider(content[1:])))
        with suppress(UserError):
            TARGETS[name](content)

    arguments = [a for a in sys.argv if a != str(corpus)]
    atheris.Setup([*arguments, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
