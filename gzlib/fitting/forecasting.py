"""Forecasts at larger sizes with calibrated bands: an ensemble of laws, tuned and judged on rolling origins.

The scale of a forecast's error is learned from the rolling origins: the variance of ln(loss) error at a new size is
modelled as a non-negative sum of what is known beforehand (noise, disagreement of the ensemble, distance, the curve's
own earlier errors); the quantiles of the standardised error are read off the origins themselves, so no distribution is
assumed.
"""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy.optimize import minimize
from scipy.stats import norm
from scipy.stats import t as student

from gzlib.errors import UserError
from gzlib.fitting.curves import summarise_replicates
from gzlib.fitting.ensemble import MEMBERS, find_origins, fit_members, member_weights, predict_members
from gzlib.fitting.fits import fit_curves
from gzlib.fitting.intervals import predict

FLOOR = 1e-12
STUDENT_DOF = 4
TRUSTED_CURVES = 4  # fewer cannot show that noise and disagreement overstate the error
MANY_CURVES = 20  # fewer cannot show a 95 % quantile for each rank of their pretended ends
REPRESENTATIVE = 0.5  # share of the curves that a rank must reach to be judged alone


def fit_scale(features, errors, weights):
    """Coefficients c >= 0 of variance = features @ c, by the likelihood of Student-t errors (4 dof).

    ``features`` (points, k) variances, ``errors`` (points,) in ln(loss), ``weights`` (points,). A column that is
    zero everywhere gets coefficient zero.
    """
    typical = np.average(features, axis=0, weights=weights)
    useful = typical > FLOOR
    if not useful.any() or not np.any(errors != 0):
        return np.where(useful, 1.0, 0.0)
    scaled = features[:, useful] / typical[useful]
    squares = errors**2
    base = max(np.average(squares, weights=weights), FLOOR)

    def cost(log_share):
        variance = base * (scaled @ np.exp(np.clip(log_share, -25, 25))) + FLOOR
        return np.sum(
            weights * (0.5 * np.log(variance) + 0.5 * (STUDENT_DOF + 1) * np.log1p(squares / variance / STUDENT_DOF))
        )

    best = minimize(
        cost,
        np.full(useful.sum(), -np.log(useful.sum())),
        method="Nelder-Mead",
        options={"maxiter": 1500, "xatol": 1e-3, "fatol": 1e-7},
    )
    coefficients = np.zeros(features.shape[1])
    coefficients[useful] = base * np.exp(np.clip(best.x, -25, 25)) / typical[useful]
    return coefficients


def weighted_quantile(values, level, weights):
    """Quantile of a weighted sample, a step function's inverse (no interpolation beyond the sample)."""
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weights[order])
    return values[order][min(np.searchsorted(share, level * share[-1]), len(values) - 1)]


def error_quantiles(standardised, weights, importance, curve, rank, levels):
    """Half-widths, in units of the scale, of bands of the given levels.

    With many curves a band has to hold at every pretended end, not on average over them: of the ranks (0 the latest
    end of each curve, 1 the one before, ...) the worst quantile counts. A rank that few curves reach is merged with
    the next, or left out. With fewer than ``MANY_CURVES`` the worst of several noisy quantiles would be too wide, so
    all ends are pooled by their importance; the level is raised by conformal prediction's (1 + 1/n), n being Kish's
    effective number of ends, and a band is at least Student's t with n + 1 degrees of freedom. Fewer than
    ``TRUSTED_CURVES`` cannot show that the scale is too large: there it counts as at least one, and the degrees of
    freedom as the curves and one.

    Parameters
    ----------
    standardised : array (points,), |error| / scale
    weights : array (points,), 1 / points of a pretended end
    importance : array (points,), of the pretended end of a point
    curve, rank : integer arrays (points,), the curve of a point and the rank of its pretended end
    levels : sequence of float

    Returns
    -------
    array (levels,), rising with level
    """
    n_curves = len(np.unique(curve))
    levels = np.asarray(levels, float)
    if n_curves >= MANY_CURVES:
        groups = _rank_groups(curve, rank, max(MANY_CURVES, REPRESENTATIVE * n_curves))
        half = [[weighted_quantile(standardised[g], level, weights[g]) for level in levels] for g in groups]
        return np.maximum.accumulate(np.max(half, axis=0))
    share = weights * importance
    ends = share.sum() ** 2 / np.sum(share * importance)
    spread = np.sqrt(np.average(standardised**2, weights=share))
    dof = ends + 1
    if n_curves < TRUSTED_CURVES:
        spread, dof = max(spread, 1.0), n_curves + 1
    seen = [weighted_quantile(standardised, min(level * (1 + 1 / ends), 1.0), share) for level in levels]
    return np.maximum.accumulate(np.maximum(seen, spread * student.ppf(0.5 * (1 + levels), dof)))


def _rank_groups(curve, rank, needed):
    """Masks of the points of neighbouring ranks, each with at least ``needed`` curves; all points if none has."""
    groups, current = [], []
    for value in np.unique(rank):
        current.append(value)
        members = np.isin(rank, current)
        if len(np.unique(curve[members])) >= needed:
            groups.append(members)
            current = []
    return groups or [np.ones(len(rank), bool)]


MIN_POINTS = 3
LEVELS = (0.5, 0.8, 0.95)
LAW_DRAWS = 400
FEW_CURVES = 10  # fewer also get the band of a fitted law: their own errors show too little
UNCALIBRATED = np.array([1.0, 1.0, 0.0, 0.0])  # of noise, disagreement, distance squared and own earlier errors


@dataclass(frozen=True)
class Extrapolation:
    """Forecast of one curve: ``log_median`` and ``log_sd`` (sizes,), ``half_width`` (levels, sizes) of ln(loss)."""

    log_median: np.ndarray
    log_sd: np.ndarray
    half_width: np.ndarray


def clean_curve(x, y, *, name="curve"):
    """Sizes ascending, losses of one size averaged in ln; raises UserError on values that no law can meet."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    if x.shape != y.shape or x.ndim != 1:
        raise UserError(f"{name}: {x.size} sizes and {y.size} losses; give one loss for each size.")
    for label, values in (("size", x), ("loss", y)):
        bad = ~(np.isfinite(values) & (values > 0))
        if bad.any():
            raise UserError(
                f"{name}: the {label} {values[np.argmax(bad)]} is not positive and finite; remove or correct it."
            )
    distinct, index = np.unique(x, return_inverse=True)
    if len(distinct) < MIN_POINTS:
        raise UserError(f"{name}: {len(distinct)} distinct sizes; a forecast needs at least {MIN_POINTS}.")
    count = np.bincount(index)
    return distinct, np.exp(np.bincount(index, weights=np.log(y)) / count)


def extrapolate(curves, x_new, *, levels=LEVELS, members=MEMBERS):
    """Forecast several related curves together; they share the ensemble's weights and the calibration.

    Parameters
    ----------
    curves : list of (sizes, losses) as ``clean_curve`` returns them
    x_new : list of arrays, the sizes to forecast of each curve
    levels : coverage of the bands
    members : the ensemble

    Returns
    -------
    list of Extrapolation, and a dict: member weights, number of origins, calibration quantiles.
    """
    leads = np.array([max(np.max(new) / x[-1], 1.0) for (x, _), new in zip(curves, x_new, strict=True)])
    origins = find_origins(curves, leads)
    fitted, last = fit_members(members, [*curves, *(origin.kept for origin in origins)])
    n = len(curves)
    ahead = [
        predict_members(members, fitted, last, n + j, o.ahead[0]) - np.log(o.ahead[1]) for j, o in enumerate(origins)
    ]
    importance = np.array([origin.importance for origin in origins])
    if origins:
        member_errors = np.array([np.sqrt(np.mean(error**2, axis=1)) for error in ahead])
        weights = member_weights(member_errors, importance)
    else:
        weights = np.full(len(members), 1 / len(members))
    squares = np.array([np.mean((weights @ error) ** 2) for error in ahead])
    noise = [
        _noise(weights, members, fitted, last, row, curve)
        for row, curve in enumerate([*curves, *(origin.kept for origin in origins)])
    ]

    def forecast_row(row, sizes, own):
        logs = predict_members(members, fitted, last, row, sizes)
        median = weights @ logs
        spread = weights @ (logs - median) ** 2
        lead = np.log(np.maximum(sizes / last[row], 1.0)) ** 2
        return median, np.stack([np.full(len(sizes), noise[row]), spread, lead, np.full(len(sizes), own)], axis=1)

    if not origins:  # nothing to calibrate with: noise and disagreement, with the degrees of freedom of a short curve
        coefficients, half = UNCALIBRATED, student.ppf(0.5 * (1 + np.array(levels)), 2)
    else:
        rank, own = _history(origins, squares)
        rows = [forecast_row(n + j, origin.ahead[0], own[j])[1] for j, origin in enumerate(origins)]
        features = np.concatenate(rows)
        errors = np.concatenate([weights @ error for error in ahead])
        counts = np.array([len(row) for row in rows])
        index = np.repeat(np.arange(len(origins)), counts)
        share = (importance / counts)[index]
        coefficients = fit_scale(features, errors, share / share.sum())
        curve = np.array([origin.curve for origin in origins])
        if len(np.unique(curve)) < TRUSTED_CURVES:
            coefficients = np.maximum(coefficients, UNCALIBRATED)
        scale = np.sqrt(features @ coefficients + FLOOR)
        half = error_quantiles(
            np.abs(errors) / scale, (1 / counts)[index], importance[index], curve[index], rank[index], levels
        )
    out = []
    for row, sizes in enumerate(x_new):
        sizes = np.asarray(sizes, float)
        median, features = forecast_row(row, sizes, _own_error(origins, squares, row))
        scale = np.sqrt(features @ coefficients + FLOOR)
        out.append(Extrapolation(median, scale, half[:, None] * scale))
    return out, {
        "weights": weights,
        "n_origins": len(origins),
        "quantiles": half,
        "coefficients": coefficients,
        "members": members,
    }


def _noise(weights, members, fitted, last, row, curve):
    """Variance of ln(loss) about the ensemble, on the later half of a curve."""
    x, y = curve
    late = x >= np.median(x)
    logs = weights @ predict_members(members, fitted, last, row, x[late])
    return float(np.mean((logs - np.log(y[late])) ** 2)) * len(x) / max(len(x) - 3, 1)


def _history(origins, squares):
    """Rank of each origin within its curve (0 the latest) and the curve's own mean square error before it."""
    rank, own = np.zeros(len(origins), int), np.zeros(len(origins))
    for j, origin in enumerate(origins):
        same = [i for i, other in enumerate(origins) if other.curve == origin.curve]
        rank[j] = sum(len(origins[i].kept[0]) > len(origin.kept[0]) for i in same)
        own[j] = _shrunk([squares[i] for i in same if len(origins[i].kept[0]) < len(origin.kept[0])], squares)
    return rank, own


def _own_error(origins, squares, curve):
    return _shrunk([squares[i] for i, origin in enumerate(origins) if origin.curve == curve], squares)


def _shrunk(own, everyone):
    """Mean of a curve's own square errors and, as one more, the median of all curves'."""
    return (np.sum(own) + np.median(everyone)) / (len(own) + 1) if len(everyone) else 0.0


def forecast(loss, x_new, *, x="n_train", replicate="seed", level=0.95, kind="mean"):
    """Loss at larger sizes with a calibrated band, for every curve of a labelled array.

    All curves share the ensemble's weights and the calibration of the band: give curves of one study. The band
    holds parameter noise, seed noise and the errors that the same procedure made at rolling origins in the data.

    Parameters
    ----------
    loss : DataArray with dims (..., x, replicate), positive, NaN where a run is missing
    x_new : float or array (sizes,), in the units of ``x``
    x, replicate : names of dimensions
    level : float, coverage of the band
    kind : "mean", the average over many runs, or "new_run", one run

    Returns
    -------
    Dataset with ``loss``, ``lower``, ``upper``, ``log_sd`` over (..., x) and ``lead`` (new size over largest
    size). NaN for a curve with fewer than 3 sizes; ``forecasted`` (...) says which. Attributes: ``n_origins``,
    ``calibrated`` (False if no origin fits inside the data; the band is then only noise and disagreement).

    Raises
    ------
    UserError
        If no curve has enough sizes, or ``x_new`` or a loss is not positive and finite.
    """
    if kind not in ("mean", "new_run"):
        raise UserError(f"No band is called {kind!r}: choose 'mean' or 'new_run'.")
    x_new = np.atleast_1d(np.asarray(x_new, float))
    if not np.all(np.isfinite(x_new) & (x_new > 0)):
        raise UserError("x_new must be positive and finite sizes.")
    summary = summarise_replicates(loss, replicate=replicate, x=x)
    rest = [dim for dim in summary["log_mean"].dims if dim != x]
    log_mean = summary["log_mean"].transpose(*rest, x)
    sizes = log_mean[x].values.astype(float)
    order = np.argsort(sizes)
    shape = log_mean.shape[:-1]
    flat = log_mean.values.reshape(-1, len(sizes))[:, order]
    usable = [i for i, row in enumerate(flat) if np.isfinite(row).sum() >= MIN_POINTS]
    if not usable:
        raise UserError(
            f"No curve has {MIN_POINTS} sizes with a run: a forecast needs at least {MIN_POINTS} along {x!r}."
        )
    curves = [(sizes[order][np.isfinite(flat[i])], np.exp(flat[i][np.isfinite(flat[i])])) for i in usable]
    results, info = extrapolate(curves, [x_new] * len(curves), levels=(level,))
    law_half = (
        _law_half_width(loss, x_new, x, replicate, level, rest)
        if len(usable) < FEW_CURVES
        else np.zeros_like(flat[:, :1])
    )
    seed_variance = np.nan_to_num(summary["seed_sd"].transpose(*rest).values.reshape(-1) ** 2)
    columns = {key: np.full((len(flat), len(x_new)), np.nan) for key in ("loss", "lower", "upper", "log_sd", "lead")}
    for i, (curve_x, _), result in zip(usable, curves, results, strict=True):
        half = np.maximum(result.half_width[0], law_half[i])
        if kind == "new_run":
            half = np.hypot(half, norm.ppf(0.5 * (1 + level)) * np.sqrt(seed_variance[i]))
        values = (
            np.exp(result.log_median),
            np.exp(result.log_median - half),
            np.exp(result.log_median + half),
            result.log_sd,
            x_new / curve_x[-1],
        )
        for key, value in zip(columns, values, strict=True):
            columns[key][i] = value
    coords = {name: coord for name, coord in log_mean.coords.items() if x not in coord.dims} | {x: x_new}
    data = {key: ([*rest, x], values.reshape(*shape, len(x_new))) for key, values in columns.items()}
    data["forecasted"] = (rest, np.isin(np.arange(len(flat)), usable).reshape(shape))
    return xr.Dataset(
        data,
        coords=coords,
        attrs={
            "level": level,
            "kind": kind,
            "x": x,
            "n_origins": info["n_origins"],
            "calibrated": bool(info["n_origins"]),
        },
    )


def _law_half_width(loss, x_new, x, replicate, level, rest):
    """Half-widths (curves, sizes) of ln(loss) from E + A x^-alpha alone: few curves show less of a forecast's error."""
    band = predict(fit_curves(loss, x, replicate=replicate, draws=LAW_DRAWS), x_new, level=level)
    half = 0.5 * np.log(band["upper"] / band["lower"])
    return np.nan_to_num(half.transpose(*rest, x).values.reshape(-1, len(x_new)))
