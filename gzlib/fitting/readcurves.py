"""Learning curves from a CSV file, in the plain format or in that of the Revisiting Neural Scaling Laws benchmark.

Plain: columns ``n_train`` and ``loss``; optional ``seed``, and ``curve`` or any of ``encoder``, ``question``, ``task``,
``model`` to tell curves apart. Benchmark: ``Domain, Task, Model, Seen Examples, Loss, Training`` (1 fit, 0 held out).
"""

import numpy as np
import pandas as pd
import xarray as xr

from gzlib.errors import UserError

BENCHMARK = {
    "Domain": "domain",
    "Task": "task",
    "Model": "model",
    "Seen Examples": "n_train",
    "Loss": "loss",
    "Training": "training",
}
LABELS = ("domain", "curve", "encoder", "question", "task", "model")


def read_curves(path):
    """Read and check a file of learning curves.

    Returns
    -------
    DataFrame
        Columns ``n_train``, ``loss`` (float, positive), ``training`` (bool, True where absent), ``seed`` (int, the
        order of repeated sizes where absent), ``curve`` (str, the labels joined by " / ") and the labels themselves.

    Raises
    ------
    UserError
        If the file cannot be read, a column is missing, or a value is not a positive number (with its line).
    """
    try:
        table = pd.read_csv(path)
    except FileNotFoundError as error:
        raise UserError(
            f"There is no file {path}: give the path of a CSV file with the columns n_train and loss."
        ) from error
    except (
        pd.errors.ParserError,
        pd.errors.EmptyDataError,
        UnicodeDecodeError,
        IsADirectoryError,
        PermissionError,
    ) as error:
        raise UserError(
            f"{path} cannot be read as CSV ({str(error).strip()}): give a file with the columns n_train and loss."
        ) from error
    table = table.rename(columns=BENCHMARK)
    table.columns = [str(name).strip() for name in table.columns]
    missing = [name for name in ("n_train", "loss") if name not in table]
    if missing:
        raise UserError(
            f"{path} has no column {missing[0]!r}: it needs n_train and loss (found: "
            f"{', '.join(map(str, table.columns))})."
        )
    if table.empty:
        raise UserError(f"{path} has a header but no rows: add one row for each training run.")
    for name in ("n_train", "loss"):
        values = pd.to_numeric(table[name], errors="coerce").astype(float)
        bad = ~(np.isfinite(values) & (values > 0))
        if bad.any():
            line = int(np.argmax(bad))
            raise UserError(
                f"{path}, line {line + 2}: {name} is {table[name].iloc[line]!r}; it must be a positive number."
            )
        table[name] = values
    if "training" in table:
        if not table["training"].isin([0, 1]).all():
            raise UserError(f"{path}: the column Training holds something other than 1 (fit) and 0 (held out).")
        table["training"] = table["training"].astype(bool)
    else:
        table["training"] = True
    labels = [name for name in LABELS if name in table]
    table["curve"] = table[labels].astype(str).agg(" / ".join, axis=1) if labels else "curve"
    if "seed" not in table:
        table["seed"] = table.groupby(["curve", "training", "n_train"]).cumcount()
    repeated = table.duplicated(["curve", "training", "n_train", "seed"])
    if repeated.any():
        row = table[repeated].iloc[0]
        raise UserError(
            f"{path}: curve {row['curve']!r} has two runs with n_train {row['n_train']:g} and seed "
            f"{row['seed']}: give each run its own seed."
        )
    return table.sort_values(["curve", "n_train", "seed"], kind="stable").reset_index(drop=True)


def to_array(curves):
    """The fitting rows of ``read_curves``' table as a DataArray with dims (curve, n_train, seed), NaN where absent."""
    rows = curves[curves["training"]]
    index = pd.MultiIndex.from_frame(rows[["curve", "n_train", "seed"]])
    return xr.DataArray.from_series(pd.Series(rows["loss"].to_numpy(), index=index, name="loss"))
