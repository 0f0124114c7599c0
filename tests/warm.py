"""Programs in processes of their own that do not import torch anew: the copies of one process that has it loaded.

As a program, this file is that process. It reads orders (a line of JSON each), makes a copy of itself for each, and
writes the copy's number and, when it has ended, its exit status; the copy runs the order's program as
``python -c`` does. None of gzlib is loaded before the copy, whose environment decides where gzlib keeps things.
"""

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

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
    """A program that runs; what it prints is in ``out`` and ``err``, files of its folder."""

    def __init__(self, server, program, folder, environment):
        self.out, self.err = folder / "program.out", folder / "program.err"
        variables = os.environ | {name: str(place) for name, place in environment.items()}
        order = {"program": program, "folder": str(folder), "environment": variables}
        print(json.dumps(order), file=server.stdin, flush=True)
        self._server, self._number = server, int(server.stdout.readline())
        self._guard = threading.Timer(LIMIT, self.signal, [signal.SIGKILL])
        self._guard.start()

    def signal(self, number):
        os.kill(self._number, number)

    def wait_for(self, word, file):
        """Until a file has a word."""
        while word not in file.read_text():
            time.sleep(0.01)
            assert self._guard.is_alive(), file.read_text()

    def end(self):
        """The exit status, once it has ended."""
        status = int(self._server.stdout.readline())
        self._guard.cancel()
        return status


def serve():
    """Return in each copy with its program; end the process when no more orders can come."""
    orders = os.fdopen(os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for line in orders:
        order = json.loads(line)
        for name in ("out", "err"):
            open(os.path.join(order["folder"], f"program.{name}"), "w").close()
        number = os.fork()
        if number == 0:
            return order
        print(number, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]), flush=True)
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
