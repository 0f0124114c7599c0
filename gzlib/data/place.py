"""The folder of a curated survey: built beside its place, moved there whole, cleaned up after an interruption."""

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from gzlib.errors import UserError


def is_survey(folder: Path) -> bool:
    """Whether a folder is a complete curated survey: its report is written last."""
    return (folder / "survey.json").is_file()


def read_report(folder: Path) -> dict:
    """A survey's ``survey.json``.

    Raises
    ------
    UserError
        If there is none, or it is damaged.
    """
    if not is_survey(folder):
        raise UserError(
            f"'{folder}' is no curated survey (it has no survey.json); make one with"
            " `python -m gzlib curate SOURCE --out DIR --size 64`."
        )
    try:
        return json.loads((folder / "survey.json").read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"Survey '{folder}' has a damaged survey.json ({error}); delete it and curate again.") from None


def refuse_foreign(folder: Path, text: str, parameters: dict):
    """Refuse a folder that holds anything but an older survey from the same source with the same parameters."""
    if not folder.exists():
        return
    if not is_survey(folder):
        if not folder.is_dir() or any(folder.iterdir()):
            raise UserError(f"'{folder}' holds something else than a curated survey; choose another folder.")
        return
    report = read_report(folder)
    if report["source"] != text or report["parameters"] != parameters:
        raise UserError(
            f"'{folder}' holds another survey (of '{report['source']}', {report['parameters']['size']} px);"
            " delete it or choose another folder."
        )


@contextmanager
def building_place(folder: Path, is_current: Callable[[], bool]) -> Iterator[Path]:
    """A folder to build a survey in; on success it becomes ``folder``, on failure it vanishes.

    Two processes that build the same survey do not disturb each other: the one that ends later keeps the other's.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _clean_up(folder)
    place = _beside(folder, "building")
    place.mkdir()
    try:
        yield place
        if not is_current():
            _replace(place, folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f".{folder.name}.{what}-{socket.gethostname()}-{os.getpid()}")


def _replace(place: Path, folder: Path):
    old = _beside(folder, "old")
    if folder.exists():
        os.replace(folder, old)
    os.replace(place, folder)
    shutil.rmtree(old, ignore_errors=True)


def _clean_up(folder: Path):
    """Remove what processes of this machine left behind when they were killed."""
    start = f".{folder.name}."
    for leftover in folder.parent.glob(f"{start}*-{socket.gethostname()}-*"):
        pid = leftover.name.rsplit("-", 1)[-1]
        if leftover.name.startswith(start) and pid.isdigit():
            if int(pid) == os.getpid() or not psutil.pid_exists(int(pid)):
                shutil.rmtree(leftover, ignore_errors=True)
