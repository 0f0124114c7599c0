"""Forecasts stored before the outcome exists, with a hash that shows any later change."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from gzlib.errors import UserError
from gzlib.files import read_checked, replace_file

FORMAT = 1


def store_forecast(path, forecast, *, question, data_key, date, **more):
    """Write a forecast once.

    Parameters
    ----------
    path : file to make; an existing file is never replaced
    forecast : Dataset from ``forecast``
    question : str, what will be measured, in one sentence
    data_key : str, hash or run keys of the data that the forecast was made from
    date : str, ISO date on which the forecast is made
    more : further entries of the content, such as the keys of the runs that will tell; what JSON can hold

    Returns
    -------
    str, the SHA-256 of the content: publish it to prove the date.
    """
    path = Path(path)
    if path.exists():
        raise UserError(f"{path} holds a forecast already: a stored forecast is not replaced, choose another name.")
    x = forecast.attrs["x"]
    stacked = forecast[["median", "lower", "upper", "lead"]]
    dims = list(stacked["median"].dims)
    rows = [
        {dim: _plain(value) for dim, value in zip(dims, labels, strict=True)}
        | {key: _plain(stacked[key].transpose(*dims).values[index]) for key in ("median", "lower", "upper", "lead")}
        for index, labels in _cells(stacked, dims)
    ]
    content = {
        "format": FORMAT,
        "question": question,
        "data_key": data_key,
        "date": date,
        "x": x,
        "dims": dims,
        "level": float(forecast.attrs["level"]),
        "kind": forecast.attrs["kind"],
        "rows": rows,
    } | more
    digest = _digest(content)
    text = json.dumps(content | {"sha256": digest}, indent=1, allow_nan=False) + "\n"
    replace_file(path, text)
    return digest


Number = Annotated[float, Field(allow_inf_nan=False)]


class _Row(BaseModel):
    """One forecast; the coordinates of its dimensions come with it."""

    model_config = ConfigDict(extra="allow")
    median: Number | None
    lower: Number | None
    upper: Number | None
    lead: Number | None = None


class _Forecast(BaseModel):
    """What a stored forecast holds, as far as the code relies on it."""

    model_config = ConfigDict(extra="allow")
    format: Literal[1]
    sha256: str
    question: str
    data_key: str
    date: str
    x: str
    dims: list[str]
    level: Annotated[float, Field(gt=0, lt=1)]
    kind: str
    rows: list[_Row]

    @model_validator(mode="after")
    def _labelled(self):
        for number, row in enumerate(self.rows):
            for dim in self.dims:
                value = (row.model_extra or {}).get(dim)
                if isinstance(value, bool) or not isinstance(value, str | int | float):
                    raise ValueError(f"'rows.{number}.{dim}' is {value!r}: it must be a text or a number")
        return self


def load_forecast(path):
    """The content of a stored forecast.

    Raises
    ------
    UserError
        If it was changed since, or is no forecast.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"There is no stored forecast '{path}': store one with store_forecast.")
    content = read_checked(path, _Forecast, what="a stored forecast", cure="restore it from git")
    digest = content.pop("sha256")
    if digest != _digest(content):
        raise UserError(
            f"'{path}' was changed after it was stored: its content does not match its sha256; restore it from git."
        )
    return content


def judge_forecast(path, outcome):
    """Compare a stored forecast with what was measured.

    Parameters
    ----------
    path : stored forecast
    outcome : DataArray with (a subset of) the forecast's coordinates, averaged over runs as the forecast's kind says

    Returns
    -------
    list of dict rows: the labels, ``forecast``, ``lower``, ``upper``, ``outcome`` (None where not measured), ``inside``
    and ``log_error`` = ln(forecast / outcome).
    """
    content = load_forecast(path)
    rows = []
    for row in content["rows"]:
        labels = {dim: row[dim] for dim in content["dims"]}
        try:
            measured = float(outcome.sel({dim: value for dim, value in labels.items() if dim in outcome.dims}))
        except KeyError:
            measured = np.nan
        known = np.isfinite(measured) and row["median"] is not None
        rows.append(
            labels
            | {
                "forecast": row["median"],
                "lower": row["lower"],
                "upper": row["upper"],
                "outcome": measured if np.isfinite(measured) else None,
                "inside": bool(row["lower"] <= measured <= row["upper"]) if known else None,
                "log_error": float(np.log(row["median"] / measured)) if known else None,
            }
        )
    return rows


def _cells(dataset, dims):
    shape = tuple(dataset.sizes[dim] for dim in dims)
    for index in np.ndindex(shape):
        yield (
            index,
            [dataset[dim].values[i] if dim in dataset.coords else i for dim, i in zip(dims, index, strict=True)],
        )


def _plain(value):
    """A JSON value; numbers that are not finite become null."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _digest(content):
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
