"""The project's own figures, measured: each file of ``benchmarks/`` with a function ``rows`` is one benchmark."""

import json
import runpy
from pathlib import Path

from gzlib import paths
from gzlib.errors import UserError

BENCHMARKS = paths.ROOT / "benchmarks"


def row(
    name: str, value: float | None, unit: str, *, goal: str | None = None, ok: bool | None = None, detail: str = ""
):
    """One measured figure; ``ok`` is computed by whoever knows the goal, None where there is none."""
    return {"name": name, "value": value, "unit": unit, "goal": goal, "ok": ok, "detail": detail}


def available() -> list[str]:
    """Names of the benchmarks that ``python -m gzlib bench`` can run."""
    return sorted(file.stem for file in BENCHMARKS.glob("*.py") if "\ndef rows(" in file.read_text(encoding="utf-8"))


def bench(what: str, *, as_json: bool = False, csv: Path | None = None) -> int:
    """Run one benchmark and print its rows; 1 if one of them misses its goal.

    Raises
    ------
    UserError
        If there is no such benchmark, or it lacks a package or a file.
    """
    if what == "list":
        print("\n".join(available()))
        return 0
    if what not in available():
        raise UserError(f"There is no benchmark '{what}'; there are {', '.join(available())}.")
    measure = runpy.run_path(str(BENCHMARKS / f"{what}.py"), run_name=f"benchmarks.{what}")["rows"]
    results = measure(csv) if what == "curves" else measure()
    for result in results:
        if as_json:
            print(json.dumps(result))
        else:
            mark = {True: "ok  ", False: "MISS", None: "    "}[result["ok"]]
            value = "not measured" if result["value"] is None else f"{result['value']:.4g} {result['unit']}"
            print(f"{mark} {result['name']:28} {value:22} {result['goal'] or '':10} {result['detail']}")
    return int(any(result["ok"] is False for result in results))
