"""Sensitivity atlas: one curve fitted in every defensible way, to see what of the answer is the choice's."""

import itertools

import numpy as np
import pandas as pd
import xarray as xr

from gzlib.fitting.labelled import fit_curves
from gzlib.fitting.laws import get_law

LAWS_TRIED = {"A n^-α": "power", "E + A n^-α": "power-offset", "A (1/n + g)^α": "shifted-power"}
FLOOR_LAW = "E at the floor"  # the offset law with E held
NOISES = {"Gaussian": "gaussian", "Huber": "huber", "Student t": "student-t"}
RECENCY = {"all sizes alike": np.inf, "recent sizes more": 1.0}  # scale of the weights in ln(size)
CHOICES = ("law", "noise", "weights", "sizes", "seeds")


def sensitivity(loss, *, x="n_train", replicate="seed", factor=4.0, floor=None, most_dropped=2):
    """Fit one curve with every combination of law, noise model, weights, smallest sizes dropped and seed left out.

    Parameters
    ----------
    loss : DataArray (x, replicate)
    factor : the forecast is for this multiple of the largest size
    floor : a known irreducible loss; with it the offset law is also fitted with E held there
    most_dropped : up to so many of the smallest sizes are left out, as long as each law keeps one size more than it
        has parameters

    Returns
    -------
    DataFrame, one row a fit: the columns of ``CHOICES``, ``alpha``, ``E`` (NaN where the law has none), ``forecast``
    (loss at ``factor`` times the largest size), ``reason`` (empty, or why there is no fit). Fits that were refused
    or failed are rows, too, with NaN numbers.
    """
    laws = dict(LAWS_TRIED) | ({FLOOR_LAW: "power-offset"} if floor is not None else {})
    variants = _variants(loss, x, replicate, most_dropped)
    target = float(loss[x].max()) * factor
    rows = []
    for (law, name), noise, recency in itertools.product(laws.items(), NOISES, RECENCY):
        fits = fit_curves(
            variants,
            x,
            law=name,
            noise=NOISES[noise],
            recency=RECENCY[recency],
            replicate=replicate,
            floor=floor if law == FLOOR_LAW else None,
            draws=0,
        )
        names = get_law(name).names
        forecast = get_law(name).function(target / fits.attrs["x_ref"], *(fits[parameter] for parameter in names))
        for i, (dropped, seeds) in enumerate(zip(variants.dropped.values, variants.left_out.values, strict=True)):
            if dropped and loss.sizes[x] - dropped <= len(names):
                continue
            one = fits.isel(variant=i)
            rows.append(
                {"law": law, "noise": noise, "weights": recency, "sizes": _cut_name(dropped), "seeds": str(seeds)}
                | {"alpha": float(one["alpha"]), "E": float(one["E"]) if "E" in names else np.nan}
                | {"forecast": float(forecast[i]), "reason": "" if one["success"] else str(one["message"].item())}
            )
    return pd.DataFrame(rows)


def _variants(loss, x, replicate, most_dropped):
    """The curve with its smallest sizes or one seed taken out, stacked along ``variant`` so that one call fits all."""
    parts, dropped, left_out = [], [], []
    for seeds, part in _seed_choices(loss, replicate).items():
        for count in range(most_dropped + 1):
            parts.append(part.where(loss[x].isin(loss[x].values[count:])))
            dropped.append(count)
            left_out.append(seeds)
    stacked = xr.concat(parts, "variant", join="outer", coords="minimal", compat="override")
    return stacked.assign_coords(dropped=("variant", dropped), left_out=("variant", left_out))


def _seed_choices(loss, replicate):
    choices = {"all": loss}
    if replicate in loss.dims and loss.sizes[replicate] > 2:
        labels = loss[replicate].values
        choices |= {f"without {label}": loss.where(loss[replicate] != label) for label in labels}
    return choices


def _cut_name(dropped):
    return f"without the {dropped} smallest" if dropped > 1 else ("without the smallest" if dropped else "all")


def choice_ranges(fits, column):
    """How ``column`` moves with each choice: a row for every value of every choice, over all the other choices.

    Returns
    -------
    DataFrame with the index (choice, value) and ``fits``, ``median``, ``low``, ``high`` (5th and 95th percentile).
    """
    rows = {}
    for choice in CHOICES:
        for value in dict.fromkeys(fits[choice]):
            numbers = fits.loc[fits[choice] == value, column].dropna()
            low, middle, high = numbers.quantile([0.05, 0.5, 0.95]) if len(numbers) else [np.nan] * 3
            rows[choice, value] = {"fits": len(numbers), "median": middle, "low": low, "high": high}
    return pd.DataFrame.from_dict(rows, orient="index")
