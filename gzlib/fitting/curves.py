"""Learning curves before any fit: made, summarised over seeds, judged as a design and by their shape."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from scipy.special import softmax
from scipy.stats import norm

from gzlib.errors import UserError
from gzlib.fitting.laws import Law, LawLike, get_law
from gzlib.fitting.optimise import Sizes, log_gradient


def to_array(curves: pd.DataFrame) -> xr.DataArray:
    """The fitting rows of ``read_curves``' table as a DataArray with dims (curve, n_train, seed), NaN where absent."""
    if {"curve", "n_train", "seed", "loss", "training"} - {*curves}:
        raise UserError("to_array takes the table that read_curves returns: call read_curves first.")
    rows = curves[curves["training"]]
    index = pd.MultiIndex.from_frame(rows[["curve", "n_train", "seed"]])
    return xr.DataArray.from_series(pd.Series(rows["loss"].to_numpy(), index=index, name="loss"))


def check_labelled(data: Any, cure: str, kind: type = xr.DataArray) -> None:
    """Refuse what is not a labelled array, or Dataset, with what to do instead.

    Raises
    ------
    UserError
    """
    if not isinstance(data, kind):
        wanted = "labelled array (xarray.DataArray)" if kind is xr.DataArray else "Dataset (xarray)"
        raise UserError(f"A {wanted} is wanted here, not a {type(data).__name__}: {cure}.")


def flattened(array: xr.DataArray, rest: Sequence[Hashable], *tail: Hashable) -> np.ndarray:
    """A labelled array as (curves, ...): its dimensions ``rest`` are one axis, those of ``tail`` follow."""
    return array.transpose(*rest, *tail).values.reshape(-1, *(array.sizes[dim] for dim in tail))


def unflattened(
    columns: Mapping[str, np.ndarray],
    like: xr.DataArray | xr.Dataset,
    rest: Sequence[Hashable],
    *,
    tails: Mapping[str, Sequence[Hashable]] | None = None,
    coords: Mapping[Hashable, Any] | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Arrays (curves, ...) as a Dataset over the dimensions ``rest`` of ``like``, with what it knows of them.

    ``tails`` names the further axes of an array, ``coords`` and ``attrs`` are added.
    """
    shape = tuple(like.sizes[dim] for dim in rest)
    data = {
        key: ([*rest, *(tails or {}).get(key, ())], values.reshape(shape + values.shape[1:]))
        for key, values in columns.items()
    }
    known = {name: coord for name, coord in like.coords.items() if set(coord.dims) <= set(rest)}
    return xr.Dataset(data, coords=known | dict(coords or {}), attrs=attrs)


TEST_SHARE = 0.25

Labelled = tuple[Any, Any]  # X and y: arrays, sparse matrices or DataFrames, and the labels
Floor = float | xr.DataArray  # a known irreducible loss, or its standard error, of all curves or of each
Measure = Callable[[Any, Any], float]  # a loss of true labels and predicted ones


def learning_curve(
    model: Any,
    sizes: Iterable[int],
    seeds: int | Iterable[int] = (0, 1, 2),
    *,
    data: Labelled | None = None,
    test: Labelled | None = None,
    loss: Measure | None = None,
    x: str = "n_train",
    replicate: str = "seed",
) -> xr.DataArray:
    """Run a pilot: train a model on growing parts of the data and measure its loss on one test set.

    >>> import numpy as np
    >>> from gzlib.fitting import learning_curve
    >>> pilot = learning_curve(lambda size, seed: 0.1 + size**-0.5, sizes=[100, 400, 1600], seeds=2)
    >>> pilot.dims, pilot.values[:, 0].round(3).tolist()
    (('n_train', 'seed'), [0.2, 0.15, 0.125])

    Parameters
    ----------
    model : object with ``fit(X, y)`` and ``predict(X)``, as scikit-learn's, or function(size, seed) -> loss
        A model is copied for each run, and its ``random_state``, if it has one, set to the seed.
    sizes : sequence of int
        Training sizes.
    seeds : int or sequence of int
        One run of each size for each.
    data : (X, y), for a model: arrays, sparse matrices or DataFrames, and the labels
    test : (X, y), optional
        The test set, the same for all runs; default: a random quarter of ``data`` that no run trains on.
    loss : function(y, predicted) -> float, optional
        Default: the share of wrong answers of a classifier, else the root mean square error.
    x, replicate : str
        Names of the dimensions.

    Returns
    -------
    DataArray (x, replicate). The parts of one seed are nested: a larger one holds the smaller.

    Raises
    ------
    UserError
        If a size is larger than the data, a run fails, or its loss is not positive and finite.
    """
    try:
        seeds = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
        asked = np.asarray(list(sizes), float)
    except (TypeError, ValueError) as error:
        raise UserError(f"The sizes of a learning curve are numbers in a list, such as [100, 400] ({error}).") from None
    if bad := [size for size in asked.ravel() if not (np.isfinite(size) and size >= 1 and size == np.rint(size))]:
        raise UserError(f"The size {bad[0]:g} is not a number of training examples: give whole ones, 1 or more.")
    sizes = sorted({int(size) for size in asked.ravel()})
    if not sizes or not seeds:
        raise UserError("A learning curve needs at least one positive size and one seed.")
    if len(set(seeds)) < len(seeds):
        raise UserError(f"The seeds {seeds} hold one twice, which would count one run as two: give each once.")
    is_model = hasattr(model, "fit") and hasattr(model, "predict")
    if is_model:
        run = _trainer(model, sizes[-1], data, test, loss)
    elif callable(model):
        run = model
    else:
        raise UserError("The model must have fit and predict, or be a function of size and seed that returns a loss.")
    out = np.full((len(sizes), len(seeds)), np.nan)
    for j, seed in enumerate(seeds):
        for i, size in enumerate(sizes):
            try:
                value = run(size, seed)
            except UserError:
                raise
            except Exception as error:  # whatever a stranger's model raises
                if not is_model:
                    raise
                raise UserError(f"The run with {size} training examples and seed {seed} failed: {error}") from error
            try:
                out[i, j] = float(value)
            except (TypeError, ValueError):
                raise UserError(
                    f"The loss with {size} training examples and seed {seed} is {value!r:.40}: give a number."
                ) from None
            if not (np.isfinite(out[i, j]) and out[i, j] > 0):
                raise UserError(
                    f"The loss with {size} training examples and seed {seed} is {out[i, j]:g}: a curve needs positive,"
                    " finite losses; take a larger test set or another loss."
                )
    return xr.DataArray(out, dims=(x, replicate), coords={x: sizes, replicate: seeds}, name="loss")


def _trainer(
    model: Any, largest: int, data: Labelled | None, test: Labelled | None, loss: Measure | None
) -> Callable[[int, int], float]:
    """Function(size, seed) -> loss that trains copies of the model on nested random parts of the data."""
    if data is None:
        raise UserError("A model needs data to train on: give data=(X, y).")
    X, y = data
    y = _as_column(y)
    n = X.shape[0] if hasattr(X, "shape") else len(X)
    X = X if hasattr(X, "shape") else np.asarray(X)
    if len(y) != n:
        raise UserError(f"data=(X, y) has {n} rows in X and {len(y)} in y: give one label for each row.")

    def take(rows: np.ndarray) -> Any:
        return X.iloc[rows] if hasattr(X, "iloc") else X[rows]

    order = np.random.default_rng(0).permutation(n)
    held = 0 if test is not None else int(np.ceil(TEST_SHARE * n))
    pool = order[held:]
    X_test, y_test = (take(order[:held]), y[order[:held]]) if test is None else (test[0], _as_column(test[1]))
    if largest > len(pool):
        raise UserError(f"There are {len(pool)} training examples, fewer than the largest size {largest}.")
    if loss is None:
        kind = getattr(model, "_estimator_type", None) or _sklearn_type(model)
        wrong = kind == "classifier" or (kind is None and y.dtype.kind not in "f")
        loss = _error_rate if wrong else _rms_error

    def run(size: int, seed: int) -> float:
        rows = np.random.default_rng(seed).permutation(pool)[:size]
        copy = deepcopy(model)
        if hasattr(copy, "get_params") and "random_state" in copy.get_params():
            copy.set_params(random_state=seed)
        copy.fit(take(rows), y[rows])
        return loss(y_test, copy.predict(X_test))

    return run


def _sklearn_type(model: Any) -> str | None:
    try:
        from sklearn.base import is_classifier, is_regressor
    except ImportError:
        return None
    return "classifier" if is_classifier(model) else ("regressor" if is_regressor(model) else None)


def _as_column(y: Any) -> np.ndarray:
    """Labels as an array; a table of one column has one axis, so that none is compared with all others."""
    labels: np.ndarray = np.asarray(y)
    return labels.ravel() if labels.ndim == 2 and labels.shape[1] == 1 else labels


def _error_rate(y: np.ndarray, predicted: npt.ArrayLike) -> float:
    return float(np.mean(np.reshape(predicted, y.shape) != y))


def _rms_error(y: np.ndarray, predicted: npt.ArrayLike) -> float:
    return float(np.sqrt(np.mean((np.asarray(predicted, float).reshape(y.shape) - y) ** 2)))


def log_of(array: xr.DataArray) -> xr.DataArray:
    """ln of a labelled array, which is one too: numpy's types know its own arrays only."""
    return cast(xr.DataArray, np.log(array))


def new_sizes(sizes: npt.ArrayLike) -> np.ndarray:
    """Sizes that are asked for, as an array.

    Raises
    ------
    UserError
        If one is not a positive number, or there is none.
    """
    try:
        found = np.atleast_1d(np.asarray(sizes, float))
    except (TypeError, ValueError):
        raise UserError(f"The new sizes are {sizes!r}; give numbers, such as [8000, 16000].") from None
    if not (found.size and np.all(np.isfinite(found) & (found > 0))):
        raise UserError(f"The new sizes are {sizes!r}; give positive and finite ones, at least one.")
    return found


def geometric_mean(loss: xr.DataArray, replicate: str) -> xr.DataArray:
    """The mean over ``replicate`` in ln(loss), as a loss; without that dimension, the losses as they are."""
    if replicate not in loss.dims:
        return loss
    return cast(xr.DataArray, np.exp(log_of(loss).mean(replicate)))


def summarise_replicates(loss: xr.DataArray, *, replicate: str = "seed", x: str = "n_train") -> xr.Dataset:
    """Averages and pooled spread of the replicates of each size.

    The independent unit is the training run: each value along ``replicate`` must be one run. Two or three runs
    cannot fix their own variance, so it is pooled over the sizes of a curve (one-way analysis of variance).

    Parameters
    ----------
    loss : DataArray with dims (..., x, replicate)
        NaN where a run is missing; ``replicate`` may be absent.
    replicate, x : names of dimensions

    Returns
    -------
    Dataset
        ``log_mean`` (..., x), mean ln(loss); ``n_runs`` (..., x); ``seed_sd`` (...), pooled standard deviation
        of ln(loss) between runs of one size, NaN without replicates; ``seed_dof`` (...); ``squares`` (..., x), sum of
        the squared deviations of ln(loss) from the mean of its size.

    Raises
    ------
    UserError
        If a loss is zero, negative or infinite, with its coordinates.
    """
    if x not in loss.dims:
        raise UserError(f"The losses have the dimensions {', '.join(map(str, loss.dims))}; {x!r} is not one of them.")
    values = loss if replicate in loss.dims else loss.expand_dims({replicate: [0]})
    values = values.transpose(..., x, replicate)
    bad = (values.values <= 0) | np.isinf(values.values)
    if bad.any():
        where = np.unravel_index(int(np.argmax(bad)), bad.shape)
        place = ", ".join(
            f"{dim}={values[dim].values[i] if dim in values.coords else i}"
            for dim, i in zip(values.dims, where, strict=True)
        )
        raise UserError(f"The loss at {place} is {values.values[where]}: power laws need positive, finite losses.")
    log_loss = log_of(values)
    n_runs = log_loss.count(replicate)
    log_mean = log_loss.mean(replicate)
    squares = ((log_loss - log_mean) ** 2).sum(replicate)
    dof = (n_runs - 1).clip(min=0).sum(x)
    seed_sd = np.sqrt(squares.sum(x) / dof.where(dof > 0))
    columns = {"log_mean": log_mean, "n_runs": n_runs, "seed_sd": seed_sd, "seed_dof": dof, "squares": squares}
    return xr.Dataset(columns)


def runs_like(mean: float, spread: float, count: int, *, order: int = 0) -> np.ndarray:
    """Losses of runs of which no more is known than their mean, standard deviation and number.

    They lie as numbers of a normal distribution would, in ln(loss), so that none is below 0; the standard deviation is
    met but for the terms by which a lognormal distribution of few differs from that of many.

    Parameters
    ----------
    mean, spread : float
        Of the losses; positive, and 0 or more.
    count : int
        Of the runs; a single one is the mean.
    order : int
        Seed of the order in which they come, so that the first run of one size is not the lowest of each.

    Returns
    -------
    ndarray (count,)
    """
    if count < 2 or not spread:
        return np.full(count, mean)
    scores = norm.ppf((np.arange(count) + 0.5) / count)
    losses = np.exp(np.sqrt(np.log1p((spread / mean) ** 2)) * scores / scores.std(ddof=1))
    return np.random.default_rng(order).permutation(losses * mean / losses.mean())


FALLS = np.linspace(0.0, 2.5, 51)  # exponents with which the variance between runs may fall with size
FALL = (0.5, 0.5)  # centre and width of their prior: noise that falls as 1 / size (as of samples), or hardly
NO_FALL = 0.5  # prior probability that it does not fall at all
FALL_TRUST = 0.7  # in what the other curves say of it
FALL_COMPANIONS = 8.0  # curves that say no more together: those of one study share their runs


def noise_of_runs(curves: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> list[tuple[float, float]]:
    """The variance of ln(loss) between runs of each curve's last size, and how it falls with size, as a power of it.

    Small training sets differ more from each other than large ones, and so do networks trained on them. A curve's own
    replicates say little about the exponent, so that curves of one study learn it from each other.

    Parameters
    ----------
    curves : list of arrays (sizes,)
        Of each curve ln(size), ascending; the sum of squared deviations from the mean of a size; and the runs of that
        size but one.

    Returns
    -------
    list of tuples: the exponent (0 if a curve's replicates do not tell), and the variance of one run at the last size
    (0 without replicates).
    """
    prior = np.exp(-0.5 * ((FALLS - FALL[0]) / FALL[1]) ** 2)
    prior *= (1 - NO_FALL) / prior.sum()
    prior[0] += NO_FALL
    told = [i for i, (_, squares, dof) in enumerate(curves) if dof.sum() > 0 and squares.sum() > 0]
    out, evidence = [(0.0, 0.0)] * len(curves), np.empty((len(told), len(FALLS)))
    for k, i in enumerate(told):
        log_x, squares, dof = curves[i]
        nearer = FALLS[:, None] * (log_x - log_x[-1])
        evidence[k] = -0.5 * (dof.sum() * np.log(np.exp(nearer) @ squares) - nearer @ dof)
    weight, of_all = min(1.0, FALL_COMPANIONS / max(len(told) - 1, 1)), evidence.sum(axis=0)
    for k, i in enumerate(told):
        log_x, squares, dof = curves[i]
        shared = softmax(np.log(prior) + weight * (of_all - evidence[k]))
        share = softmax(np.log(FALL_TRUST * shared + (1 - FALL_TRUST) * prior) + evidence[k])
        fall = float(share @ FALLS)
        out[i] = (fall, float(np.exp(fall * (log_x - log_x[-1])) @ squares / dof.sum()))
    return out


def spread_of_sizes(sizes: npt.ArrayLike, fall: npt.ArrayLike, *, last: npt.ArrayLike | None = None) -> np.ndarray:
    """Standard deviation between runs of each size, in units of that of the ``last`` (default: the largest).

    ``fall`` is the exponent of ``noise_of_runs``, with which the variance falls.
    """
    sizes = np.asarray(sizes, float)
    largest = sizes.max() if last is None else np.asarray(last, float)
    spread: np.ndarray = (sizes / largest) ** (-0.5 * np.asarray(fall, float))
    return spread


def run_weights(
    n_runs: npt.ArrayLike, seed_sd: npt.ArrayLike, *, evaluation_sd: npt.ArrayLike = 0.0, max_ratio: float = 10.0
) -> np.ndarray:
    """``1 / sigma`` of each averaged ln(loss).

    ``sigma^2 = seed_sd^2 / n_runs + evaluation_sd^2``, where ``evaluation_sd`` is the standard error of ln(loss) from
    the finite test set, shared by the runs of one size. The largest weight is capped at ``max_ratio`` times the
    smallest, so that no one size decides the fit.
    """
    n_runs = np.asarray(n_runs, float)
    sigma = np.sqrt(np.asarray(seed_sd, float) ** 2 / n_runs + np.asarray(evaluation_sd, float) ** 2)
    sigma = np.broadcast_to(sigma, n_runs.shape)
    weights: np.ndarray = 1 / np.maximum(sigma, sigma.max() / max_ratio)
    return weights


def recency_weights(x: npt.ArrayLike, *, scale: float) -> np.ndarray:
    """Weights that multiply residuals and fade away from the largest size.

    They are ``exp(-(ln x_max - ln x) / (2 scale))``; squared, ``exp(-distance / scale)``, with ``scale`` in units
    of ln x. Early points near chance level break a power law; fading them is the smooth version of a cut. Infinite
    ``scale`` weighs all points alike.
    """
    log_x = np.log(np.asarray(x, float))
    weights: np.ndarray = np.exp(-(log_x.max() - log_x) / (2 * scale))
    return weights


IDENTIFIED, ONE_SIDED, NOT_IDENTIFIED = "identified", "E one-sided only", "not identified"
MIN_DECADES = 0.5  # below, E + A x^-alpha is a straight line to any realistic noise
DECADES_FOR_OFFSET = 1.0  # below, the offset and the exponent cannot be distinguished
MAX_CORRELATION = 0.97  # of ln N and ln D
NOMINAL = {"E": 0.5, "A": 0.5, "alpha": 0.3, "B": 0.5, "beta": 0.3}  # a typical curve in units of its loss at x_ref


def judge_design(
    sizes: npt.ArrayLike | Sequence[npt.ArrayLike], law: LawLike, *, n_runs: npt.ArrayLike | None = None
) -> dict[str, Any]:
    """Verdict on one design as a dict: verdict, reason, n_sizes, decades, n_points, max_leverage, correlation.

    Parameters
    ----------
    sizes : array (points,) or sequence of arrays
        One for each size of the law.
    law : str or Law
    n_runs : array (points,)
        Runs behind each point.
    """
    law = get_law(law)
    sizes = [np.asarray(v, float) for v in (sizes if isinstance(sizes, (list, tuple)) else [sizes])]
    free = len(law.names)
    distinct = [len(np.unique(v)) for v in sizes]
    decades = [float(np.log10(v.max() / v.min())) if v.size else 0.0 for v in sizes]
    correlation = _correlation(sizes)
    out = {
        "n_points": len(sizes[0]),
        "n_sizes": min(distinct),
        "decades": min(decades),
        "correlation": correlation,
        "max_leverage": _max_leverage(law, sizes, n_runs),
    }
    name = law.variables[int(np.argmin(distinct))]
    span = "the sizes span" if len(sizes) == 1 else f"{law.variables[int(np.argmin(decades))]} spans"
    needed = {"epochs": 2}.get(name, law.min_sizes)
    if min(distinct) < needed:
        verdict, reason = (
            NOT_IDENTIFIED,
            f"{_count(min(distinct), 'distinct value')} of {name}; {law.formula} needs {needed}",
        )
    elif len(np.unique(np.stack(sizes), axis=1).T) < free:
        verdict, reason = NOT_IDENTIFIED, f"{len(sizes[0])} points for {free} parameters"
    elif min(decades) < MIN_DECADES:
        verdict, reason = NOT_IDENTIFIED, f"{span} only {min(decades):.2f} decades"
    elif correlation > MAX_CORRELATION:
        verdict, reason = (
            NOT_IDENTIFIED,
            (
                f"ln {law.variables[0]} and ln {law.variables[1]} are correlated by "
                f"{correlation:.3f}, so their exponents cannot be distinguished"
            ),
        )
    elif "E" in law.names and min(decades) < DECADES_FOR_OFFSET:
        verdict, reason = ONE_SIDED, f"{span} only {min(decades):.2f} decades, too few to see a floor"
    else:
        verdict, reason = IDENTIFIED, f"{_count(min(distinct), 'distinct size')} over {min(decades):.1f} decades"
    return out | {"verdict": verdict, "reason": reason}


SAME = 1e-9  # of ln(loss): below, what differs is rounding
SHAPES = {
    "constant": "the loss is the same at every size, which says nothing about an exponent",
    "rises": "the loss rises with the size, and no law here does",
    "rises again": "the loss falls and rises again, and no law here does",
}
AGAIN = 0.1  # rise of ln(loss) above the minimum that is not noise, whatever the noise


def shape_of(log_mean: npt.ArrayLike, *, seed_sd: float = 0.0) -> str:
    """What of a curve no law here can describe: "constant", "rises", "rises again", or "" if it falls.

    Parameters
    ----------
    log_mean : array (points,)
        Mean ln(loss) by ascending size; points without a run are left out.
    seed_sd : float
        Standard deviation of ln(loss) between runs; NaN if it is not known.
    """
    y = np.asarray(log_mean, float)
    y = y[np.isfinite(y)]
    if len(y) < 2:
        return ""
    if np.ptp(y) <= SAME:
        return "constant"
    steps = np.sign(y[None, :] - y[:, None])[np.triu_indices(len(y), 1)]
    noise = 3 * float(np.nan_to_num(seed_sd))
    if len(y) > 2 and steps.mean() > 0.6 and y[-1] - y[0] > noise:  # Kendall's rank correlation
        return "rises"
    after = y[int(np.argmin(y)) :]
    if len(after) > 2 and np.all(np.diff(after) > 0) and after[-1] - after[0] > AGAIN + noise:
        return "rises again"
    return ""


ACCURACIES = (0.1, 1.0), (10.0, 100.0)  # what the best accuracy of a curve is, as a fraction and in percent


def like_accuracy(log_mean: npt.ArrayLike, *, least: float = 0.01) -> bool:
    """Whether a curve without a law, (points,) as for ``shape_of``, may be an accuracy: it rises to what one reaches.

    A loss that rises, as where a model learns its noise, ends below a tenth or above one, or rises in ln(loss) by less
    than ``least``.
    """
    y = np.asarray(log_mean, float)
    y = y[np.isfinite(y)]
    if shape_of(y) != "rises":
        return False
    top = float(np.exp(y.max()))
    return any(low <= top <= high for low, high in ACCURACIES) and bool(y[-1] - y[0] > least)


def describe_design(
    loss: xr.DataArray, x: str = "n_train", *, law: LawLike = "power-offset", replicate: str = "seed"
) -> xr.Dataset:
    """Verdict on the design of every curve, before fitting.

    Parameters
    ----------
    loss : DataArray with dims (..., x, replicate)
        NaN where a run is missing.
    x, replicate : names of dimensions
    law : str or Law of one size

    Returns
    -------
    Dataset over the remaining dims: ``verdict`` ("identified", "E one-sided only", "not identified"), ``reason``,
    ``n_sizes``, ``n_points``, ``n_runs``, ``decades``, ``max_leverage`` (1: one point alone fixes a parameter).
    """
    law = get_law(law)
    if len(law.variables) != 1:
        raise UserError(f"{law.name} is a law of {', '.join(law.variables)}: judge such a design with judge_design.")
    runs = summarise_replicates(loss, replicate=replicate, x=x)["n_runs"]
    rest = [dim for dim in runs.dims if dim != x]
    sizes = runs[x].values.astype(float)
    rows = [
        judge_design(sizes[row > 0], law, n_runs=row[row > 0]) | {"n_runs": int(row.sum())}
        for row in flattened(runs, rest, x)
    ]
    keys = ("verdict", "reason", "n_sizes", "n_points", "n_runs", "decades", "max_leverage")
    columns = {key: np.array([row[key] for row in rows]) for key in keys}
    return unflattened(columns, runs, rest, attrs={"law": law, "x": x})


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _correlation(sizes: Sizes) -> float:
    logs = [np.log(v) for v in sizes]
    pairs = [
        abs(float(np.corrcoef(a, b)[0, 1]))
        for i, a in enumerate(logs)
        for b in logs[i + 1 :]
        if len(a) > 1 and np.ptp(a) > 0 and np.ptp(b) > 0
    ]
    return max(pairs, default=0.0)


def _max_leverage(law: Law, sizes: Sizes, n_runs: npt.ArrayLike | None) -> float:
    # Largest diagonal element of the hat matrix at a typical curve; NaN where the law has no typical one.
    if not sizes[0].size or not set(law.names) <= set(NOMINAL):
        return float("nan")
    centred = [v / np.exp(np.log(v).mean()) for v in sizes]
    jacobian = log_gradient(law, centred, np.array([[NOMINAL[name] for name in law.names]]))[0]
    if n_runs is not None:
        jacobian = jacobian * np.sqrt(np.asarray(n_runs, float))[:, None]
    left, values, _ = np.linalg.svd(jacobian, full_matrices=False)
    left = left[:, values > 1e-10 * values.max()]
    return float(np.max(np.sum(left**2, axis=1)))
