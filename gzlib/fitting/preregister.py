"""Forecasts stored before the outcome exists, with a hash that shows any later change."""

import hashlib
import json
from pathlib import Path

import numpy as np

from gzlib.errors import UserError
from gzlib.files import replace_file

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


def load_forecast(path):
    """The content of a stored forecast; raises UserError if it was changed since or is no forecast."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        digest = content.pop("sha256")
    except FileNotFoundError as error:
        raise UserError(f"There is no stored forecast {path}: store one with store_forecast.") from error
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{path} is not a stored forecast: it is no JSON object with a sha256.") from error
    if digest != _digest(content):
        raise UserError(f"{path} was changed after it was stored: its content does not match its sha256.")
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
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
