"""Where things lie: absolute folders, so that no code depends on a later change of the working directory.

What the code needs at run time is inside the package. A checkout holds the book beside it; work in the checkout uses
its folders, and work elsewhere uses the working directory's own.
"""

import os
import re
from pathlib import Path

from gzlib.errors import UserError
from gzlib.files import checked_name

PACKAGE = Path(__file__).resolve().parent
HERE = Path.cwd()


def _checkout() -> Path | None:
    """The project that this package belongs to: GZLIB_HOME, else the folder around it if it holds the book."""
    if home := os.environ.get("GZLIB_HOME"):
        return Path(home).resolve()
    return PACKAGE.parent if (PACKAGE.parent / "_quarto.yml").is_file() else None


def _own(name: str, in_checkout: str | None = None) -> Path:
    """A folder of the user's: of the checkout if that is where the user works, else of the working directory."""
    if ROOT is not None and HERE.is_relative_to(ROOT):
        return ROOT / (in_checkout or name)
    return HERE / name


ROOT = _checkout()  # None for an installed package without the book
BOOK_RUNS = ROOT / "data" / "runs" if ROOT else None  # the book's own runs; run.json is committed, weights are not
# Where runs are made. The build sets it for chapters; whatever else a user makes stays out of the book.
STORE = Path(os.environ.get("GZLIB_STORE") or _own("runs")).expanduser().resolve()
# Curated surveys, made or downloaded, never committed.
SURVEYS = Path(os.environ.get("GZLIB_SURVEYS") or _own("surveys", "data/surveys")).expanduser().resolve()


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


def stores() -> list[Path]:
    """Where runs are looked up, in this order: the store in use, then the book's."""
    return [STORE] if BOOK_RUNS is None or BOOK_RUNS == STORE else [STORE, BOOK_RUNS]


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
