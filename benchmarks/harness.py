"""The project's own figures, measured: each file of ``benchmarks/`` with a function ``rows`` is one benchmark."""

import argparse
import importlib.util
import inspect
import json
import math
import os
import re
import runpy
from pathlib import Path

from gzlib import paths
from gzlib.errors import UserError
from gzlib.files import replace_file
from gzlib.paths import processor, versions

BENCHMARKS = Path(__file__).resolve().parent
STORE = paths.project() / "data" / "benchmarks"


def row(
    name: str,
    value: float | None,
    unit: str,
    *,
    goal: str | None = None,
    ok: bool | None = None,
    detail: str = "",
    **more,
):
    """One measured figure; ``ok`` is computed by anyone who knows the goal, None where there is none.

    ``value`` None stands for "not measured"; ``more`` are further fields, kept in the JSON.
    """
    return {"name": name, "value": value, "unit": unit, "goal": goal, "ok": ok, "detail": detail, **more}


def span(text: str) -> float:
    """A stretch of time as argparse is to read it: NaN and infinity would be over never, without a word."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is not a length of time; give a number, 0 or more.")
    return value


def need(packages: tuple[str, ...], what: str):
    """UserError if one of the importable ``packages`` that ``what`` is compared with is not installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{what} needs {', '.join(missing)}, not installed here: pip install 'gzlib[bench]'.")


def available() -> list[str]:
    """Names of the benchmarks that ``python -m gzlib bench`` can run."""
    return sorted(file.stem for file in BENCHMARKS.glob("*.py") if "\ndef rows(" in file.read_text(encoding="utf-8"))


def bench(what: str, *, as_json: bool = False, csv: Path | None = None, store: bool = False, **options) -> int:
    """Run one benchmark and print its rows; 1 if one of them misses its goal.

    A benchmark whose ``rows`` takes ``known`` is stored row by row, and goes on where it was cut off: it is given the
    rows that are stored, and says which of them hold.

    Parameters
    ----------
    what : str
        One of :func:`available`, or ``list``.
    as_json : bool
        One JSON object a line.
    csv : Path, optional
        Learning curves: a file for ``curves``, a folder for ``domains``.
    store : bool
        Also keep the rows and the machine in ``data/benchmarks``, from where the book takes them.
    **options
        What the benchmark's ``rows`` takes beside that, such as ``kills`` of ``faults``; None is as good as nothing.

    Raises
    ------
    UserError
        If there is no such benchmark, it takes no such option, or it lacks a package or a file.
    """
    if what == "list":
        print("\n".join(available()))
        return 0
    if what not in available():
        raise UserError(f"There is no benchmark '{what}'; there are {', '.join(available())}.")
    measure = runpy.run_path(str(BENCHMARKS / f"{what}.py"), run_name=f"benchmarks.{what}")["rows"]
    takes, given = inspect.signature(measure).parameters, {n: v for n, v in options.items() if v is not None}
    if foreign := [name for name in given if name not in takes]:
        raise UserError(f"The benchmark '{what}' takes no --{foreign[0]}; leave it out.")
    if "csv" in takes:
        given["csv"] = csv
    if "known" in takes:
        given["known"] = _stored(what) if store else []
    results: list[dict] = []

    def keep():
        record = {"benchmark": what, "machine": machine(), "rows": results}
        replace_file(stored_file(what), json.dumps(record, indent=1) + "\n")

    for result in measure(**given):
        results.append(result)
        print(json.dumps(result) if as_json else _line(result), flush=True)
        if store and "known" in takes and result not in given["known"]:
            keep()
    if store:
        keep()
    return int(any(result["ok"] is False for result in results))


def _stored(what: str) -> list[dict]:
    """Rows of a benchmark that are stored already."""
    file = stored_file(what)
    return json.loads(file.read_text(encoding="utf-8"))["rows"] if file.is_file() else []


def _line(result: dict) -> str:
    mark = {True: "ok  ", False: "MISS", None: "    "}[result["ok"]]
    value = "not measured" if result["value"] is None else f"{result['value']:.4g} {result['unit']}"
    return f"{mark} {result['name']:28} {value:22} {result['goal'] or '':10} {result['detail']}"


def stored_file(what: str) -> Path:
    """Where :func:`bench` keeps a benchmark: one file for the CPU, one for each kind of GPU (``growth-h100.json``)."""
    import torch

    kind = ""
    if torch.cuda.is_available():
        model = re.search(r"[A-Z]+\d+", torch.cuda.get_device_name())
        kind = f"-{model[0].lower()}" if model else "-gpu"
    return STORE / f"{what}{kind}.json"


def machine() -> dict:
    """With what a benchmark was made."""
    import torch

    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        **{name: versions()[name] for name in ("python", "torch", "git")},
    }
