"""Commands that die: a program of its own, so that forked children start warm from a parent without threads.

    python crash_program.py FOLDER sweeps|predictions

prints one JSON object, which test_sweep.py and test_saved.py judge together with what they find below FOLDER. Children
die by SIGKILL at a chosen *event*: a call of a Python or C function, counted by the profiler, so that a moment does not
depend on the speed of the machine.
"""

import itertools
import json
import os
import random
import signal
import sys
import threading
from pathlib import Path

import numpy as np
from PIL import Image

from gzlib import files, paths
from gzlib import files as lock
from gzlib.config import Conduct, PretrainConfig, Recipe, SurveySpec
from gzlib.data.sources import readers
from gzlib.training import predict, runs
from gzlib.training.publish import save_run
from gzlib.training.sweeps import sweep

STORING = (files.write_whole, lock.held.__wrapped__, lock._acquire, lock._sign, runs._tidy, runs._leftovers)
STORING = {function.__code__ for function in STORING}
SURVEY = SurveySpec("sim:gz2:160", size=32)


def jobs(n: int, *, examples: int = 64):
    recipe = Recipe(examples=examples, batch_size=32, evaluations=1)
    return [(PretrainConfig("convnext_w4", 60, seed=seed, recipe=recipe), SURVEY) for seed in range(n)]


def in_child(work) -> int:
    """Run ``work`` in a forked child; its exit status, negative for a signal."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def counting(work, is_event, *, die_at: int | None = None) -> int:
    """How many events ``work`` meets; at number ``die_at`` the process kills itself."""
    seen = itertools.count(1)  # one for all threads

    def profile(frame, kind, argument):
        if kind in ("call", "c_call") and is_event(frame) and next(seen) == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(profile)
    if is_event is writing_call:  # predictions are written by a thread of their own
        threading.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return next(seen) - 1


WRITING = (
    files.write_whole,
    files.held.__wrapped__,
    files.spare_folder.__wrapped__,
    files._clear_spares,
    predict._open_place,
    predict._fill,
    predict._remove_place,
)
WRITING = {function.__code__ for function in WRITING}


def any_call(frame) -> bool:
    return True


def storing_call(frame) -> bool:
    return frame.f_code in STORING


def sweep_in(folder: Path, n: int, **kwargs):
    """A sweep, as something to do in a child."""

    def work():
        paths.STORE = paths.BOOK_RUNS = folder
        records = sweep(jobs(n, **kwargs), conduct=Conduct(report=lambda line: None, checkpoint_seconds=0))
        assert len(records) == n

    return work


def count_in_child(folder: Path, work, is_event) -> int:
    def counted():
        (folder / "count").write_text(str(counting(work, is_event)))

    assert in_child(counted) == 0
    return int((folder / "count").read_text())


def at_random(folder: Path) -> dict:
    """Thirty runs, killed at ten random moments, and the same undisturbed."""
    events = count_in_child(folder, sweep_in(folder / "whole", 30), any_call)
    # Together no more events than one whole sweep has, so that every kill meets a sweep that is still at work.
    moments = [random.Random(i).randrange(1, events // 10) for i in range(10)]
    ends = [in_child(lambda m=m: counting(sweep_in(folder / "cut", 30), any_call, die_at=m)) for m in moments]
    return {"ends": ends, "last": in_child(sweep_in(folder / "cut", 30))}


def everywhere(folder: Path) -> dict:
    """One run, killed at each call of the code that stores it, and resumed."""
    events = count_in_child(folder, sweep_in(folder / "whole", 1, examples=32), storing_call)
    cut = [sweep_in(folder / f"cut-{moment}", 1, examples=32) for moment in range(1, events + 1)]
    ends = [in_child(lambda w=work, m=m: counting(w, storing_call, die_at=m)) for m, work in enumerate(cut, 1)]
    return {"ends": ends, "last": in_child(lambda: [work() for work in cut])}


def two(folder: Path) -> dict:
    """Two sweeps of the same runs on one store at one time; who trained what stands in ``trained``."""
    train = runs._train

    def noted(key, *args, **kwargs):
        with open(folder / "trained", "a") as file:
            file.write(f"{key}\n")
        return train(key, *args, **kwargs)

    runs._train = noted
    first = os.fork()
    if first == 0:
        sweep_in(folder / "whole", 12, examples=128)()
        os._exit(0)
    second = in_child(sweep_in(folder / "whole", 12, examples=128))
    return {"ends": [os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]), second]}


def model_and_images(folder: Path):
    """A model of votes, and images to predict on."""
    config, survey = jobs(1)[0]
    paths.STORE = paths.BOOK_RUNS = folder / "store"
    record = runs.run(config, survey, need_weights=True, conduct=Conduct(report=lambda line: None))
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for i in range(20):
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8)).save(folder / "images" / f"{i:02d}.png")
    (folder / "images" / "20.png").write_bytes(b"no image")
    return save_run(config, survey, record, folder / "model", device="cpu")


def written(folder: Path, model, out: Path):
    """Predictions of all images in one file, as something to do in a child."""
    return lambda: predict.write_table(model, str(folder / "images"), out, progress=False)


def writing_call(frame) -> bool:
    """A call that makes or removes files."""
    return frame.f_code in WRITING


def predictions(folder: Path) -> dict:
    """Files of predictions whose making is killed: at random moments, and at every third call that writes."""
    readers.CATALOGUE_ROWS = 11  # galaxies a part
    model = model_and_images(folder)
    written(folder, model, folder / "warm.csv")()  # children then start with everything imported
    ends = {}
    for suffix in (".csv", ".parquet"):
        place = folder / suffix[1:]
        whole = written(folder, model, place / f"whole{suffix}")
        place.mkdir()
        assert in_child(whole) == 0
        for name, is_event, most in (("random", any_call, 3), ("writing", writing_call, None)):
            if name == "writing" and suffix == ".parquet":  # the same calls
                continue
            events = count_in_child(folder, written(folder, model, folder / f"{name}{suffix}"), is_event)
            chosen = [random.Random(i).randrange(1, events) for i in range(most)] if most else range(1, events + 1, 3)
            for moment in chosen:
                work = written(folder, model, place / f"{name}-{moment}{suffix}")
                ends[f"{name}-{moment}{suffix}"] = [
                    in_child(lambda w=work, m=moment, e=is_event: counting(w, e, die_at=m)),
                    in_child(work),
                ]
    return ends


if __name__ == "__main__":
    place = Path(sys.argv[1])
    paths.SURVEYS = place / "surveys"
    if sys.argv[2] == "predictions":
        print(json.dumps(predictions(place)))
        sys.exit()
    warm = sweep_in(place / "warm", 1)
    warm()  # children then start with everything imported and read
    print(json.dumps({way.__name__: way(place / way.__name__) for way in (at_random, everywhere, two)}))
