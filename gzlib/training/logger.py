"""An optional logger of training curves; off unless asked for, and nothing is imported before."""

import os
from collections.abc import Callable
from pathlib import Path

from gzlib.errors import UserError

VARIABLE = "GZLIB_LOG"  # the environment variable that asks for a logger where nothing else does
LOGGERS = ("tensorboard",)


def logger_name(name: str | None) -> str | None:
    """The logger asked for by name, else by the environment; None for none.

    Raises
    ------
    UserError
        If there is no such logger.
    """
    name = name or os.environ.get(VARIABLE) or None
    if name is not None and name not in LOGGERS:
        raise UserError(f"Unknown logger '{name}'; use {' or '.join(map(repr, LOGGERS))}, or none.")
    return name


def open_logger(name: str, folder: Path) -> tuple[Callable[[int, dict[str, float]], None], Callable[[], None]]:
    """Start a logger that writes below a run's folder.

    Parameters
    ----------
    name : {"tensorboard"}
    folder : Path
        Event files go to ``folder / name``; a resumed run goes on in the same place.

    Returns
    -------
    log : callable
        (galaxies seen, values by name) -> None.
    close : callable

    Raises
    ------
    UserError
        If the logger is unknown or its package is not installed.
    """
    name = logger_name(name)
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("The logger 'tensorboard' needs a package: pip install 'gzlib[tensorboard]'.") from None
    writer = SummaryWriter(str(folder / name))

    def log(examples: int, values: dict[str, float]):
        for what, value in values.items():
            writer.add_scalar(what, value, examples)

    return log, writer.close
