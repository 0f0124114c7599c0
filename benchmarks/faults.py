"""What is left when a command is killed, its disk is full, or a user changes what it reads.

Each phase (curate, pretrain, finetune, predict, sweep, build, render) runs on tiny inputs, is disturbed, and is run
again. Three things are compared, by the checksums of all files: what there was before, what an undisturbed run leaves,
and what lies there after the disturbance and at the end.

- lost: files that were there before, or that a killed command had finished, and that are gone or made again;
- half-written: files under their final names that are neither the old ones nor those of an undisturbed run;
- equal: whether the end is that of an undisturbed run, with nothing left over.

Commands are forked from a process that has imported everything, so that a disturbance meets the work and not the start
of Python. Half of the kills come at a file operation, chosen among all that the command makes, the others at a moment.
Disks are tmpfs in a mount namespace of this program's own (``unshare``): nothing is mounted when it ends, however it
ends. Rows that are stored already and passed are not made again and keep the commit that they ran on; those of another
seed, or all once the file is deleted, are.
"""

import ctypes
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

KILLS, SEED = 60, 0
SHARE = {"curate": 10, "pretrain": 10, "finetune": 8, "predict": 10, "sweep": 10, "build": 6, "render": 6}  # of 60
SMALL = ["--size", "32", "--encoder", "resnet_w4", "--examples", "160", "--batch-size", "32"]
OFTEN = ["--set", "recipe.evaluations=2", "--checkpoint-seconds", "0"]
PHASES = {
    "curate": ["curate", "catalogue/galaxies.csv", "--size", "32", "--out", "survey"],
    "pretrain": ["pretrain", "--survey", "sky", *SMALL, *OFTEN, "--out", "model"],
    "finetune": [
        *["finetune", "--survey", "labelled", "--mode", "full", "--weights", "random", "--n-train", "60"],
        *[*SMALL, *OFTEN, "--out", "tuned"],
    ],
    "predict": ["predict", "trained", "catalogue/galaxies.csv", "--out", "p.csv", "--force"],
    "sweep": ["sweep", "plan.toml", "--workers", "1", "--checkpoint-seconds", "0"],
    "build": ["build"],
    "render": ["render"],
}
PLAN = """
[survey]
source = "sky"
size = 32
[recipe]
examples = 96
batch_size = 32
evaluations = 1
[[pretrain]]
encoder = "resnet_w4"
n_train = [40, 80]
seed = [0, 1]
"""
INPUTS = ("catalogue", "sky", "labelled", "trained", "plan.toml")
TIMES = {  # what records hold of times, and of files' times
    "run.json": [("provenance",)],
    "survey.json": [("files",), ("input",)],
    "config.json": [("training", "saved")],
}
UNSTABLE = ("progress.jsonl", "verified.json", ".gzlib.json")  # of rates, and of file times
SECONDS = 300  # for one command
HUNG = 124  # the status of one that took longer
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "shutil.rmtree"}


@dataclass
class Case:
    """A command's inputs, and what an undisturbed run makes of them."""

    phase: str
    before: dict[str, str]
    after: dict[str, str] = field(default_factory=dict)
    operations: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Workshop:
    """A folder with the inputs of each phase, and the place where commands run."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.place, self.aside, self.seed = folder, folder / "place", folder / "aside", seed
        self.place.mkdir()
        self.aside.mkdir()
        os.environ["TMPDIR"] = tempfile.tempdir = str(self.aside)
        os.environ |= {"OMP_NUM_THREADS": "1", "GZLIB_WORKERS": "1"}

    def template(self, phase: str) -> Path:
        return self.folder / ("book" if phase in ("build", "render") else "lab")

    def reset(self, phase: str):
        """The inputs of a phase, in a place that holds nothing else."""
        for item in self.place.iterdir():
            shutil.rmtree(item) if item.is_dir() else item.unlink()
        shutil.copytree(self.template(phase), self.place, dirs_exist_ok=True, symlinks=True)
        if phase == "render":  # pages of an earlier state, which are to be replaced
            with open(self.place / "index.qmd", "a", encoding="utf-8") as file:
                file.write("\nMore.\n")

    def start(self, argv: list[str], *, hook: Callable | None = None, memory: int | None = None) -> int:
        """Fork a command; its process id."""
        sys.stdout.flush()
        child = os.fork()
        if child:
            return child
        status = 1
        try:
            self._be_a_command()
            if hook:
                sys.addaudithook(Watching(self.place, hook))
            if memory:
                used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
                resource.setrlimit(resource.RLIMIT_AS, (used + memory,) * 2)
            from gzlib.cli import main

            status = main(argv)
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def _be_a_command(self):
        from gzlib import paths

        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        out = os.open(self.folder / f"said-{os.getpid()}", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(out, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(self.place)
        book = (self.place / "_quarto.yml").is_file()
        paths.HERE, paths.ROOT = self.place, self.place if book else None
        paths.BOOK_RUNS = self.place / "data" / "runs" if book else None
        paths.STORE, paths.SURVEYS = self.place / "runs", self.place / "surveys"
        os.environ |= {"GZLIB_STORE": str(paths.STORE), "GZLIB_SURVEYS": str(paths.SURVEYS)}

    def end(self, child: int) -> tuple[int, str]:
        """A command's exit status (negative for a signal), and what it said."""
        until = time.monotonic() + SECONDS
        while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if hung := time.monotonic() > until:
                os.kill(child, signal.SIGKILL)
                break
            time.sleep(0.01)
        else:
            hung = False
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        status = HUNG if hung else status
        said = self.folder / f"said-{child}"
        text = said.read_text(errors="replace") if said.is_file() else ""
        said.unlink(missing_ok=True)
        return status, text

    def command(self, argv: list[str], **how) -> tuple[int, str]:
        return self.end(self.start(argv, **how))

    def make_inputs(self):
        """Galaxies, surveys, a model and a book, each by the commands that a user has."""
        import numpy as np
        import tiny_book
        from PIL import Image

        catalogue, random_state = self.place / "catalogue", np.random.default_rng(0)
        catalogue.mkdir()
        rows = ["id_str,file_loc,label"]
        for i in range(600):
            image = random_state.integers(0, 255, (5, 5, 3)).astype(np.uint8)
            Image.fromarray(image).resize((40, 40), Image.Resampling.BICUBIC).save(catalogue / f"{i}.png")
            rows.append(f"g{i},{i}.png,{i % 3}")
        whole = "\n".join(rows) + "\n"
        (catalogue / "galaxies.csv").write_text("\n".join(rows[:300]) + "\n")
        (self.place / "plan.toml").write_text(PLAN)
        self._must(["curate", "sim:gz2:160", "--size", "32", "--out", "sky"])
        self._must(["curate", "sim:galaxy10:160", "--size", "32", "--out", "labelled"])
        self._must(["pretrain", "--survey", "sky", *SMALL, *OFTEN, "--seed", "7", "--out", "trained"])
        shutil.copytree(self.place / "trained", self.place / "model")  # an earlier one, which is to be replaced
        shutil.rmtree(self.place / "runs")
        for phase in ("curate", "predict"):  # results of fewer galaxies, which are to be replaced
            self._must(PHASES[phase])
        (catalogue / "galaxies.csv").write_text(whole)
        for name in ("notes.txt", "runs/notes.txt", "runs/mine/notes.txt", "surveys/notes.txt", ".p.csv.mine"):
            file = self.place / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("Of the user.\n")
        shutil.move(self.place, self.folder / "lab")

        tiny_book.make(self.place)
        self._must(["render"])
        (self.place / "experiments" / "mine").mkdir(parents=True)
        for name in ("notes.md", "experiments/mine/notes.txt", "chapters/notes.txt", ".tmp-mine"):
            (self.place / name).write_text("Of the user.\n")
        shutil.move(self.place, self.folder / "book")
        self.place.mkdir()

    def _must(self, argv: list[str]):
        status, said = self.command(argv)
        if status:
            raise RuntimeError(f"{' '.join(argv)} ended with {status}: {said}")

    def undisturbed(self, phase: str) -> Case:
        """What a command does by itself; twice, so that anything that differs by chance is seen at once."""
        self.reset(phase)
        if phase == "build":
            self._touch_chapters()
        case = Case(phase, sums(self.place))
        seen = self.folder / "operations"
        for _ in range(2):
            self.begin(case)
            seen.write_text("")
            began = time.monotonic()
            status, said = self.command(PHASES[phase], hook=lambda n, what: _append(seen, f"{what}\n"))
            case.seconds = time.monotonic() - began
            found = sums(self.place)
            if status or (case.after and found != case.after):
                differ = sorted(name for name in {*found, *case.after} if found.get(name) != case.after.get(name))
                raise RuntimeError(f"{phase} ended with {status}, and differs in {differ}: {said}")
            case.after, case.operations = found, seen.read_text().split()
        return case

    def begin(self, case: Case):
        """The inputs of a case."""
        self.reset(case.phase)
        if case.phase == "build":
            self._touch_chapters()

    def _touch_chapters(self):
        """Make the chapters stale."""
        toy = self.place / "gzlib" / "fitting" / "toy.py"
        toy.write_text(toy.read_text().replace("sum(range(n))", "sum(range(n)) + 0"))


def _append(file: Path, text: str):
    with open(file, "a", encoding="utf-8") as out:
        out.write(text)


class Watching:
    """An audit hook that tells each operation that changes a file below a folder, before it happens."""

    def __init__(self, place: Path, tell: Callable[[int, str], None]):
        self.place, self.tell, self.seen, self.telling = str(place), tell, 0, False

    def __call__(self, event: str, arguments: tuple):
        if self.telling or not (event in CHANGES or (event == "open" and _writes(*arguments[1:3]))):
            return
        if not isinstance(arguments[0], str | os.PathLike):
            return
        path = os.path.abspath(os.fspath(arguments[0]))
        if path.startswith(self.place):
            self.telling, self.seen = True, self.seen + 1
            try:
                self.tell(self.seen, event)
            finally:
                self.telling = False


def _writes(mode, flags) -> bool:
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def sums(place: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder by its path; of records without the times that they hold."""
    found = {}
    for file in sorted(place.rglob("*")):
        name = file.relative_to(place).as_posix()
        if file.is_file() and file.name not in UNSTABLE:
            found[name] = hashlib.sha256(_content(file)).hexdigest()
    return found


def _content(file: Path) -> bytes:
    content = file.read_bytes()
    if file.name in TIMES:
        with suppress(ValueError, KeyError):
            record = json.loads(content)
            for *outer, name in TIMES[file.name]:
                del (record[outer[0]] if outer else record)[name]
            return json.dumps(record).encode()
    return content


def finished(place: Path) -> dict[str, int]:
    """When each run that is complete was written: it is not to be made again."""
    return {file.parent.name: file.stat().st_mtime_ns for file in place.glob("runs/*/run.json")}


class Trial:
    """One disturbance of one command, and what is found after it."""

    def __init__(self, shop: Workshop, case: Case):
        self.shop, self.case, self.half, self.lost = shop, case, set(), set()
        self.runs: dict[str, int] = {}
        shop.begin(case)

    def look(self):
        """After the disturbance: what is lost, and what is half-written."""
        self._compare(sums(self.shop.place))
        self.runs = finished(self.shop.place)

    def _compare(self, now: dict[str, str]):
        before, after = self.case.before, self.case.after
        self.half |= {n for n in {*before, *after} & {*now} if now[n] not in (before.get(n), after.get(n))}
        self.lost |= {n for n in before if n not in now and before[n] == after.get(n)}

    def again(self) -> tuple[int, str]:
        """The same command, undisturbed."""
        return self.shop.command(PHASES[self.case.phase])

    def row(self, fault: str, number: int, moment: str, outcome: str, last: tuple[int, str], *, ok: bool = True):
        """What was found, in all."""
        from gzlib.paths import git_commit

        now, case = sums(self.shop.place), self.case
        self._compare(now)
        times = finished(self.shop.place)
        self.lost |= {f"run {key}" for key, when in self.runs.items() if times.get(key) != when}
        differ = sorted(name for name in case.after if now.get(name) != case.after[name])
        left = sorted(set(now) - set(case.after))
        good = ok and last[0] == 0 and not (self.lost or self.half or differ or left)
        said = "" if good else (last[1].strip().splitlines() or [""])[-1][:300]
        more = {"lost_files": sorted(self.lost), "half_files": sorted(self.half), "differ": differ, "left_over": left}
        return {
            "name": title(fault, case.phase, number),
            "value": len(self.lost),
            "unit": "",
            "goal": "0",
            "ok": good,
            "detail": said,
            "phase": case.phase,
            "fault": fault,
            "moment": moment,
            "seed": self.shop.seed,
            "commit": git_commit(),
            "outcome": outcome,
            "compared": len(case.after),
            "half_written": len(self.half),
            "equal": not (differ or left),
            **{name: found for name, found in more.items() if found},
        }


def outcome_of(status: int, said: str) -> str:
    """An ending in words; an empty text for one that no user should meet."""
    last = (said.strip().splitlines() or [""])[-1]
    if status == 0:
        return "finished"
    if status == -signal.SIGKILL:
        return "killed"
    if status == -signal.SIGABRT and "std::bad_alloc" in said:  # in a thread of a library, out of Python's reach
        return "ended by a library"
    if status == 2 and "Traceback" not in said and last.startswith("gzlib "):
        return "waits for no one" if "is being made by" in last else "refused in one sentence"
    if status == 1 and "Traceback" not in said and "runs complete" in last:
        return "some runs failed"
    return ""


def kill(shop: Workshop, case: Case, number: int, dice: random.Random) -> dict:
    """SIGKILL at a file operation, or at a moment (with the processes that the command has started, or alone)."""
    trial = Trial(shop, case)
    if number % 2 == 0:
        at = dice.randrange(1, len(case.operations) + 1)

        def hook(n: int, what: str):
            if n == at:
                os.kill(os.getpid(), signal.SIGKILL)

        status, said = shop.command(PHASES[case.phase], hook=hook)
        moment = f"file operation {at} of {len(case.operations)} ({case.operations[at - 1]})"
    else:
        share, whole = dice.random(), bool(dice.randrange(2))
        child = shop.start(PHASES[case.phase])
        time.sleep(share * case.seconds)
        kill_tree(child, whole=whole)
        status, said = shop.end(child)
        moment = f"{share:.0%} of its time{', with its processes' if whole else ''}"
    trial.look()
    if number % 4 == 2:
        moment += "; clock set back"
        set_clock_back(shop.place)
        trial.runs = finished(shop.place)
    return trial.row("kill", number, moment, outcome_of(status, said), trial.again())


def set_clock_back(place: Path):
    """As if the clock had been a year ahead while all files were written."""
    later = time.time() + 365 * 86400
    for file in place.rglob("*"):
        os.utime(file, (later, later), follow_symlinks=False)


def kill_tree(pid: int, *, whole: bool):
    """Kill a process of this program's own, and its children too."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        children = process.children(recursive=True) if whole else []
        for one in [process, *children]:
            with suppress(psutil.NoSuchProcess):
                one.kill()


def clock(shop: Workshop, case: Case, number: int, dice: random.Random) -> dict:
    """Everything there is was written in the future."""
    trial = Trial(shop, case)
    set_clock_back(shop.place)
    first = shop.command(PHASES[case.phase])
    trial.look()
    set_clock_back(shop.place)
    trial.runs = finished(shop.place)
    if case.phase == "predict":  # asked to replace what is there, it does
        return trial.row("clock set back", number, "before", outcome_of(*first), first)
    return trial.row("clock set back", number, "before, and after", outcome_of(*first), trial.again())


def two(shop: Workshop, case: Case, number: int, dice: random.Random) -> dict:
    """The same command twice at once; one may say that the other is at it."""
    trial = Trial(shop, case)
    first = shop.start(PHASES[case.phase])
    apart = dice.random() * 0.5 * case.seconds
    time.sleep(apart)
    second = shop.start(PHASES[case.phase])
    ends = [shop.end(first), shop.end(second)]
    outcomes = [outcome_of(*end) for end in ends]
    ok = "finished" in outcomes and all(outcomes)
    said = next((end for end, outcome in zip(ends, outcomes, strict=True) if not outcome), ends[0])
    if ok:
        said = ends[outcomes.index("finished")]
    moment = f"{apart / case.seconds:.0%} of its time apart"
    return trial.row("two at once", number, moment, " and ".join(filter(None, outcomes)), said, ok=ok)


def mount(*words: str):
    subprocess.run(["mount", *words], check=True)


def unmount(place: Path):
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def full(shop: Workshop, case: Case, number: int, dice: random.Random) -> dict:
    """A disk with room for the inputs and for a part of what the command writes; then with more room."""
    growth = dice.random()
    mount("-t", "tmpfs", "-o", "size=64m", "tmpfs", str(shop.place))
    try:
        trial = Trial(shop, case)
        used = shutil.disk_usage(shop.place).used
        status, said = shop.command(PHASES[case.phase])
        room = max(4096, int((shutil.disk_usage(shop.place).used - used) * growth))
        trial = Trial(shop, case)
        mount("-o", f"remount,size={shutil.disk_usage(shop.place).used + room}", str(shop.place))
        status, said = shop.command(PHASES[case.phase])
        outcome = outcome_of(status, said)
        mount("-o", "remount,size=64m", str(shop.place))
        trial.look()
        last = trial.again() if outcome else (status, said)
        ok = outcome in ("finished", "refused in one sentence", "some runs failed")
        return trial.row("full disk", number, f"{room // 1024:,} KiB free", outcome, last, ok=ok)
    finally:
        unmount(shop.place)


def read_only(shop: Workshop, case: Case, number: int, dice: random.Random) -> dict:
    """A disk that takes nothing; then one that does."""
    trial = Trial(shop, case)
    mount("--bind", str(shop.place), str(shop.place))
    try:
        mount("-o", "remount,ro,bind", str(shop.place))
        status, said = shop.command(PHASES[case.phase])
    finally:
        unmount(shop.place)
    trial.look()
    outcome = outcome_of(status, said)
    last = trial.again() if outcome else (status, said)
    return trial.row("read-only", number, "all", outcome, last, ok=outcome == "refused in one sentence")


def read_only_inputs(shop: Workshop, case: Case, number: int, dice: random.Random) -> dict:
    """Inputs on a disk that takes nothing, which is enough."""
    trial = Trial(shop, case)
    bound = [place for name in INPUTS if (place := shop.place / name).exists()]
    try:
        for place in bound:
            mount("--bind", str(place), str(place))
            mount("-o", "remount,ro,bind", str(place))
        end = shop.command(PHASES[case.phase])
    finally:
        for place in bound:
            unmount(place)
    return trial.row("read-only", number, "inputs", outcome_of(*end), end)


def worker_dies(shop: Workshop, case: Case, number: int, dice: random.Random) -> dict:
    """A helper of a sweep, or the kernel of a build, that the system kills or gives no more memory."""
    import psutil

    trial = Trial(shop, case)
    starve = number % 2 == 1
    child = shop.start(["2" if word == "1" else word for word in PHASES[case.phase]])  # of a sweep's workers
    mark = "gzlib.training.distributed" if case.phase == "sweep" else "ipykernel_launcher"
    until = time.monotonic() + SECONDS
    worker = None
    while worker is None and time.monotonic() < until:
        with suppress(psutil.NoSuchProcess):
            found = [p for p in psutil.Process(child).children(recursive=True) if mark in " ".join(p.cmdline())]
            worker = found[0] if found else None
        time.sleep(0.02)
    time.sleep(dice.random() * 0.3 * case.seconds)
    moment = "no more memory for a worker" if starve else "a worker is killed"
    with suppress(psutil.NoSuchProcess, ProcessLookupError, AttributeError):
        if starve:
            resource.prlimit(worker.pid, resource.RLIMIT_AS, (worker.memory_info().vms, resource.RLIM_INFINITY))
        else:
            worker.kill()
    status, said = shop.end(child)
    trial.look()
    outcome = outcome_of(status, (said.strip().splitlines() or [""])[-1])  # what the worker says comes before
    last = trial.again() if outcome else (status, said)
    return trial.row("out of memory", number, moment, outcome, last, ok=bool(outcome))


def starved(shop: Workshop, case: Case, number: int, dice: random.Random) -> dict:
    """The command itself gets no more memory than a part of what it takes."""
    trial = Trial(shop, case)
    megabytes = dice.randrange(16, 64)
    status, said = shop.command(PHASES[case.phase], memory=megabytes << 20)
    trial.look()
    outcome = outcome_of(status, said)
    last = trial.again() if outcome else (status, said)
    return trial.row("out of memory", number, f"{megabytes} MB more than at the start", outcome, last, ok=bool(outcome))


def source_goes(shop: Workshop, case: Case, number: int, dice: random.Random) -> dict:
    """The images are moved away while the command reads them, and come back."""
    trial = Trial(shop, case)
    at, source, away = dice.randrange(1, len(case.operations) + 1), shop.place / "catalogue", shop.folder / "away"

    def hook(n: int, what: str):
        if n == at:
            os.rename(source, away)

    status, said = shop.command(PHASES[case.phase], hook=hook)
    if away.exists():
        os.rename(away, source)
    outcome = outcome_of(status, said)
    finished_anyway = status == 0 and sums(shop.place) == case.after
    if outcome != "finished" or finished_anyway:
        trial.look()
    last = trial.again() if outcome else (status, said)
    moment = f"file operation {at} of {len(case.operations)}"
    return trial.row("source removed", number, moment, outcome, last, ok=bool(outcome))


def survey_changes(shop: Workshop, case: Case, number: int, dice: random.Random) -> dict:
    """A user writes other images, or another survey, into the survey that a run reads; later the old one is back."""
    trial = Trial(shop, case)
    at = dice.randrange(1, len(case.operations) + 1)
    name = "labelled" if case.phase == "finetune" else "sky"
    survey, kept = shop.place / name, shop.folder / "kept"

    def hook(n: int, what: str):
        if n != at:
            return
        shutil.copytree(survey, kept)
        if number % 2:
            shutil.rmtree(survey)
            shutil.copytree(shop.folder / f"other-{name}", survey)
        else:
            with open(survey / "images.npy", "r+b") as file:
                file.seek(-1000, os.SEEK_END)
                file.write(bytes(1000))

    status, said = shop.command(PHASES[case.phase], hook=hook)
    if kept.exists():
        shutil.rmtree(survey)
        os.rename(kept, survey)
    trial.look()
    outcome = outcome_of(status, said)
    last = trial.again() if outcome else (status, said)
    moment = f"{'another survey' if number % 2 else 'other images'} at file operation {at} of {len(case.operations)}"
    return trial.row("survey changed", number, moment, outcome, last, ok=bool(outcome))


def other_surveys(shop: Workshop):
    """Surveys of the same kinds with other galaxies."""
    shop.reset("curate")
    for name, source in {"sky": "sim:gz2:150", "labelled": "sim:galaxy10:150"}.items():
        shop._must(["curate", source, "--size", "32", "--seed", "5", "--out", f"other-{name}"])
        shutil.move(shop.place / f"other-{name}", shop.folder / f"other-{name}")


LAB = ("curate", "pretrain", "finetune", "predict", "sweep")
DISTURBANCES = {
    # which: (function, phases, how many in each, whether disks have to be mounted)
    "clock set back": (clock, tuple(PHASES), 1, False),
    "two at once": (two, tuple(PHASES), 1, False),
    "full disk": (full, tuple(PHASES), 2, True),
    "read-only": (read_only, tuple(PHASES), 1, True),
    "read-only inputs": (read_only_inputs, LAB, 1, True),
    "worker dies": (worker_dies, ("sweep", "build"), 2, False),
    "out of memory": (starved, LAB, 1, False),
    "source removed": (source_goes, ("curate", "predict"), 2, False),
    "survey changed": (survey_changes, ("pretrain", "finetune", "sweep"), 2, False),
}
FIRST_NUMBER = {"read-only inputs": 10, "out of memory": 10}  # names apart from those of the kind that they belong to


def trials(kills: int) -> Iterator[tuple[str, str, int, Callable, bool]]:
    """Name, phase, number and function of each trial, and whether it mounts."""
    for phase, share in SHARE.items():
        for number in range(round(share * kills / sum(SHARE.values()))):
            yield "kill", phase, number, kill, False
    for name, (function, phases, n, mounts) in DISTURBANCES.items():
        first = FIRST_NUMBER.get(name, 0)
        for phase in phases:
            for number in range(first, first + n):
                yield name, phase, number, function, mounts


KIND = {"read-only inputs": "read-only", "worker dies": "out of memory"}


def title(name: str, phase: str, number: int) -> str:
    """The name of a trial's row."""
    return f"faults.{KIND.get(name, name).replace(' ', '-')}.{phase}.{number}"


def work(known: set[str], kills: int, seed: int, mounts: bool, only: str | None):
    """Make the trials whose rows are not known, and print a row for each."""
    import papermill  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import torch

    import gzlib.book
    import gzlib.data
    import gzlib.study
    import gzlib.training.predict
    import gzlib.training.publish  # noqa: F401
    from gzlib.errors import EXIT_STATUS

    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_STATUS))  # the folder below goes then, too
    # A child of a killed command becomes this program's, which waits for it: no process outlives the program.
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    todo = {}
    for name, phase, number, function, needs in trials(kills):
        own = title(name, phase, number)
        if own in known or (needs and not mounts) or (only and only not in own):
            continue
        todo.setdefault(phase, []).append((name, number, function))
    with tempfile.TemporaryDirectory(prefix="gzlib-faults-") as folder:
        shop = Workshop(Path(folder).resolve(), seed)
        shop.make_inputs()
        other_surveys(shop)
        for phase, listed in todo.items():
            case = shop.undisturbed(phase)
            for name, number, function in listed:
                print(json.dumps(function(shop, case, number, random.Random(f"{seed}/{name}/{phase}/{number}"))))
                sys.stdout.flush()


def rows(known: list[dict] = (), kills: int = KILLS, seed: int = SEED, only: str | None = None) -> Iterator[dict]:
    """One row for each disturbance: those that are known, then the others as they are made."""
    from gzlib import paths
    from gzlib.config import check_number

    check_number("faults", "kills", kills, 1, 10**6, whole=True)
    names = {title(*trial[:3]) for trial in trials(kills)}
    known = [row for row in known if row["ok"] and row["seed"] == seed and row["name"] in names]
    yield from known
    alone = ["unshare", "--user", "--map-root-user", "--mount"]
    mounts = bool(shutil.which("unshare")) and not subprocess.run([*alone, "true"], check=False).returncode
    order = {"known": [row["name"] for row in known], "kills": kills, "seed": seed, "mounts": mounts, "only": only}
    root = paths.project()
    folders = [str(root), str(root / "tests"), str(root / "benchmarks")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders), "OMP_NUM_THREADS": "1"}
    command = [*(alone if mounts else []), sys.executable, str(Path(__file__).resolve()), json.dumps(order)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as program:
        try:
            for line in program.stdout:
                yield json.loads(line)
        except GeneratorExit:
            program.terminate()
            raise
    if program.returncode:
        raise RuntimeError(f"the trials ended with {program.returncode}; what they said is above")


if __name__ == "__main__":
    wanted = json.loads(sys.argv[1])
    work(set(wanted["known"]), wanted["kills"], wanted["seed"], wanted["mounts"], wanted["only"])
