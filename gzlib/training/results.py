"""Runs as labelled arrays, for figures and fits."""

import math

import numpy as np
import xarray as xr

from gzlib.errors import UserError


def load_runs(records: list[dict], *, dims: list[str], values: dict[str, str]) -> xr.Dataset:
    """Metrics of runs over the fields in which they differ.

    Parameters
    ----------
    records : list of dict
        As the sweeps return them or :func:`gzlib.training.runs.stored_records` reads them.
    dims : list of str
        Configuration fields that become dimensions; together they must tell the runs apart.
    values : dict of str to str
        Name of each variable and the metric that it holds, with dots into nested metrics: ``questions.bar-gz2``.

    Returns
    -------
    xarray.Dataset over ``dims``. Grid points without a run are NaN. Words keep their order of appearance,
    numbers are sorted.

    Raises
    ------
    UserError
        If there is no run, or two runs share one place.
    """
    if not records:
        raise UserError("There are no runs to load; run the sweep first.")
    index = {}
    for dim in dims:
        labels = list(dict.fromkeys(record["config"][dim] for record in records))
        index[dim] = labels if isinstance(labels[0], str) else sorted(labels)
    shape = [len(labels) for labels in index.values()]
    data = xr.Dataset({name: (dims, np.full(shape, math.nan)) for name in values}, coords=index)
    taken = {}
    for record in records:
        at = {dim: record["config"][dim] for dim in dims}
        other = taken.setdefault(tuple(at.values()), record["key"])
        if other != record["key"]:
            raise UserError(f"Runs '{other}' and '{record['key']}' share {at}; name the field in which they differ.")
        for name, path in values.items():
            value = record["metrics"]
            for part in path.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            data[name].loc[at] = math.nan if value is None else value
    return data
