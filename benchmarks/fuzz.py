"""Bytes at random, guided by what they reach, into every reader of someone's files.

    python benchmarks/fuzz.py catalogue|curves|plan|record [-max_total_time=600] [CORPUS]

Whatever a reader is given, it reads it or raises :class:`gzlib.UserError`; anything else is a finding, which atheris
(of the ``bench`` extra) prints and keeps as ``crash-…``. Findings become tests. Options of libFuzzer are passed on; the
seeds are small valid files.
"""

import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["gzlib"]):
    from gzlib.data import open_source
    from gzlib.errors import UserError
    from gzlib.fitting import read_curves
    from gzlib.training.store import read_record
    from gzlib.training.sweeps import read_plan

FOLDER = Path(tempfile.mkdtemp())


def catalogue(content: bytes):
    """A table of galaxies, images and labels."""
    file = FOLDER / "catalogue.csv"
    file.write_bytes(content)
    open_source(str(file))


def curves(content: bytes):
    """A table of learning curves."""
    file = FOLDER / "curves.csv"
    file.write_bytes(content)
    read_curves(file)


def plan(content: bytes):
    """A plan of runs."""
    file = FOLDER / "plan.toml"
    file.write_bytes(content)
    read_plan(file)


def record(content: bytes):
    """A run's ``run.json``."""
    file = FOLDER / "0123456789abcdef" / "run.json"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    read_record(file)


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

    def one(content: bytes):
        with suppress(UserError):
            TARGETS[name](content)

    arguments = [a for a in sys.argv if a != str(corpus)]
    atheris.Setup([*arguments, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
