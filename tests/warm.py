"""Programs in processes of their own that do not import torch anew: the copies of one process that has it loaded.

As a program, this file is that process. It reads orders, a line of JSON each: a program, for which it makes a copy of
itself and writes the copy's number, or the word "end", on which it waits for the last copy and writes its exit status.
The copy runs the program as ``python -c`` does. None of gzlib is loaded before the copy, whose environment decides
where gzlib keeps things.
"""

import gc
import importlib
import json
import os
import subprocess
import sys
import threading
import time

import psutil

# What commands that train spend their first seconds with.
LOADED = [
    "cyclopts",
    "dask",
    "pandas",
    "pydantic",
    "PIL.Image",
    "schedulefree",
    "scipy.spatial",
    "scipy.stats",
    "sklearn.linear_model",
    "timm",
    "xarray",
]
LIMIT = 120.0  # seconds after which a program is killed


class Warm:
    """The process with torch loaded; use as a context."""

    def __enter__(self):
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *error):
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()

    def start(self, program, folder, environment):
        """Begin a program in a folder, with these variables beside those of this process."""
        return Program(self._server, program, folder, environment)


class Program:
    """A program that runs; what it prints is in ``out`` and ``err``, files of its folder. Use as a context.

    Until it has been waited for, its number is nobody else's.
    """

    def __init__(self, server, program, folder, environment):
        self.out, self.err = folder / "program.out", folder / "program.err"
        variables = os.environ | {name: str(place) for name, place in environment.items()}
        self._server, self._ended = server, False
        order = {"program": program, "folder": str(folder), "environment": variables}
        self._process = psutil.Process(self._ask(order))
        self._guard = threading.Timer(LIMIT, self._process.kill)
        self._guard.start()

    def _ask(self, order):
        print(json.dumps(order), file=self._server.stdin, flush=True)
        return int(self._server.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if not self._ended:
            self._process.kill()
            self.end()

    def signal(self, number):
        self._process.send_signal(number)

    def wait_for(self, word, file):
        """Until a file has a word; fails if the program ends before."""
        while word not in file.read_text():
            assert self._process.status() != psutil.STATUS_ZOMBIE, self.err.read_text()
            time.sleep(0.01)

    def end(self):
        """The exit status, once it has ended."""
        status = self._ask("end")
        self._ended = True
        self._guard.cancel()
        return status


def serve():
    """Return in each copy with its program; end the process when no more orders can come."""
    orders, number = os.fdopen(os.dup(0)), 0
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for line in orders:
        order = json.loads(line)
        if order == "end":
            print(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]), flush=True)
            continue
        for name in ("out", "err"):
            open(os.path.join(order["folder"], f"program.{name}"), "w").close()
        number = os.fork()
        if number == 0:
            return order
        print(number, flush=True)
    sys.exit()


if __name__ == "__main__":
    for name in LOADED:
        importlib.import_module(name)
    gc.freeze()  # else a copy's first collection writes to all of it
    order = serve()
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.path[1:1] = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"program.{name}", os.O_WRONLY | os.O_APPEND), number)
    exec(compile(order["program"], "<program>", "exec"), {"__name__": "__main__"})
