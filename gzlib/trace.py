"""What an executing chapter tells the build: the runs and files it read, the numbers it found.

Outside a build nothing is recorded, so library code may call :func:`note` anywhere.
"""

import json
import numbers
import os
import re
from pathlib import Path
from typing import Any

from gzlib import paths
from gzlib.errors import UserError
from gzlib.identity import text_hash

VARIABLE = "GZLIB_TRACE"  # the environment variable that names the trace file


def note(kind: str, **content: Any) -> None:
    """Append one JSON line to the trace, if there is one.

    Parameters
    ----------
    kind : str
        ``"run"`` (with ``key``), ``"runs"`` (the whole store was read), ``"parameters"`` (those of all chapters were
        listed), ``"survey"`` (with ``spec``, of generated galaxies), ``"files"`` (with ``pattern``) or ``"variable"``
        (with ``name``, ``value``).
    **content
        Values that JSON can hold.
    """
    target = os.environ.get(VARIABLE)
    if target:
        line = json.dumps({"kind": kind, **content}) + "\n"
        # One write in append mode, so that lines of several processes do not mix.
        with open(target, "ab", buffering=0) as file:
            file.write(line.encode())


def read_trace(path: Path) -> list[dict[str, Any]]:
    """The entries of a trace file, in the order in which they were noted; none if the file is missing."""
    path = Path(path)
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def publish(**values: object) -> None:
    """Make values of this chapter available to the prose of every chapter.

    ``publish(alpha="0.21")`` in ``02-pretraining.ipynb`` is shown by Quarto's shortcode ``var`` with the name
    ``pretraining.alpha``.

    Parameters
    ----------
    **values : str or number
        A string is shown as it is (Markdown and math work, but see :func:`inert`; words that come from data need
        :func:`gzlib.study.words`), a number as Python prints it: format it first.

    Raises
    ------
    UserError
        For any other value.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, str | numbers.Real):
            raise UserError(f"publish({name}=...) takes text or a number, not {value!r}: format it first.")
        note("variable", name=name, value=inert(value) if isinstance(value, str) else f"{value}")


_RAW_BLOCK = re.compile(r"\s*(`{3,}) ?\{=html\}\n.*\n\1\s*", re.DOTALL)
_ACTIVE = re.compile(r"<(?=[A-Za-z/!?])|(?<=\{\{)[<%]|(?<=[\]`])[(\[:{]|\{(?=\s*=)")


def inert(markdown: str) -> str:
    """Markdown that a chapter computed, without HTML, links, raw parts and shortcodes: its data may have brought them.

    They are shown as they are written. A chapter that wants HTML shows one raw block and nothing else.
    """
    if _RAW_BLOCK.fullmatch(markdown):
        return markdown
    return _ACTIVE.sub(lambda match: f"&#{ord(match[0])};", markdown)


def input_files(pattern: str) -> list[Path]:
    """The project's files that match a pattern such as ``data/forecasts/*.json``, sorted; none is not an error.

    The pattern is noted, so that a file that changes, appears or goes makes the chapter that asked stale.
    """
    note("files", pattern=pattern)
    return sorted(paths.project().glob(pattern))


def hash_files(project: Path, patterns: list[str]) -> dict[str, dict[str, str]]:
    """For each pattern the SHA-256 of every file that matches, by its path in the project; line ends do not count."""
    return {
        pattern: {file.relative_to(project).as_posix(): text_hash(file) for file in sorted(Path(project).glob(pattern))}
        for pattern in patterns
    }
