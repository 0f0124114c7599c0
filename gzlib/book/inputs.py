"""Files of the project that a chapter reads besides runs: a chapter is stale once one of them changes."""

import hashlib
from pathlib import Path

from gzlib import paths, trace


def input_files(pattern: str) -> list[Path]:
    """The project's files that match a pattern such as ``data/forecasts/*.json``, sorted; none is no error.

    The pattern is noted, so that a file that changes, appears or goes makes the chapter that asked stale.
    """
    trace.note("files", pattern=pattern)
    return sorted(paths.ROOT.glob(pattern))


def hash_files(project: Path, patterns: list[str]) -> dict[str, dict[str, str]]:
    """For each pattern the SHA-256 of every file that matches, by its path in the project; line ends do not count."""
    return {
        pattern: {
            file.relative_to(project).as_posix(): hashlib.sha256(file.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
            for file in sorted(Path(project).glob(pattern))
        }
        for pattern in patterns
    }
