"""What an executing chapter tells the build about itself: the runs it read, the numbers that it found.

Outside a build nothing is recorded, so library code may call :func:`note` anywhere.
"""

import json
import os
from pathlib import Path

VARIABLE = "GZLIB_TRACE"  # the environment variable that names the trace file


def note(kind, **content):
    """Append one JSON line to the trace, if there is one.

    Parameters
    ----------
    kind : str
        ``"run"`` (with ``key``), ``"runs"`` (the whole store was read), ``"files"`` (with ``pattern``) or
        ``"variable"`` (with ``name``, ``value``).
    **content
        Values that JSON can hold.
    """
    target = os.environ.get(VARIABLE)
    if target:
        line = json.dumps({"kind": kind, **content}) + "\n"
        # One write in append mode, so that lines of several processes do not mix.
        with open(target, "ab", buffering=0) as file:
            file.write(line.encode())


def read(path):
    """The entries of a trace file, in the order in which they were noted; none if the file is missing."""
    path = Path(path)
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
