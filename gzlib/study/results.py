"""What the runs of a study say: its losses as labelled arrays, and the tables of the chapters that read them."""

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from gzlib.data import describe_galaxies, load_schema
from gzlib.fitting import (
    choice_ranges,
    false_discovery,
    fit_curves,
    forecast,
    holm,
    predict,
    sensitivity,
)
from gzlib.fitting.comparison import FLOOR_LAW
from gzlib.fitting.curves import log_of
from gzlib.sky.source import STUDY, STUDY_HELD, STUDY_SHARES
from gzlib.study.presets import PlannedStudy, PretrainingStudy
from gzlib.study.tables import NONE, in_words, intervals, number, share, span, stored_rows, words
from gzlib.training import load_runs

GREEK = {"alpha": "α", "beta": "β"}
FEWEST_RECIPES = 8  # of an atlas, from which on their variance is told


@dataclass(frozen=True)
class StudyRuns:
    """The pretraining runs of a study, as its chapters read them; encoders are ordered by their parameters."""

    records: list[dict]

    @cached_property
    def kind(self) -> str:
        """What the galaxies are, for captions: "simulated galaxies", say."""
        return describe_galaxies(self.records[0]["survey"]["parts"])

    @cached_property
    def schema(self):
        """The survey's decision trees."""
        return load_schema(self.records[0]["metrics"]["schema"])

    @cached_property
    def campaigns(self) -> dict[str, str]:
        """Campaign of each question."""
        return {q.name: q.campaign for q in self.schema.questions}

    @cached_property
    def n_params(self) -> dict[str, int]:
        """Parameters of each encoder without its head, smallest first."""
        counts = {r["config"]["encoder"]: r["metrics"]["n_params"] for r in self.records}
        return dict(sorted(counts.items(), key=lambda pair: pair[1]))

    @cached_property
    def galaxy_weights(self) -> dict[str, float]:
        """For each question, the share of its loss per asked galaxy in the total; empty where galaxies count alike.

        A survey that publishes its split, as ``sim:study``, has equally many test galaxies of each campaign; its
        campaigns then count as they do in its training set, which is divided as the paper's.
        """
        survey, metrics = self.records[0]["survey"], self.records[0]["metrics"]
        if not survey["source"].startswith(f"sim:{STUDY}:") or survey.get("split") != "published":
            return {}
        shares = {name: STUDY_SHARES[name] / sum(STUDY_SHARES.values()) for name in self.schema.campaigns}
        galaxies = STUDY_HELD["test"][0]
        return {
            q.name: shares[q.campaign] * metrics["asked"][q.name] / galaxies
            for q in self.schema.questions
            if q.name in metrics["asked"]
        }

    @cached_property
    def loss(self) -> xr.DataArray:
        """(encoder, n_train, seed): test loss per galaxy [nats], campaigns weighted as :attr:`galaxy_weights` says."""
        if not self.galaxy_weights:
            return self._values({"loss": "loss"}).loss
        weights = pd.Series(self.galaxy_weights).rename_axis("question").to_xarray()
        return (self.questions * weights).sum("question", skipna=False).rename("loss")

    @cached_property
    def baseline(self) -> xr.DataArray:
        """(encoder, n_train, seed): the loss of the training set's mean answers [nats]."""
        return self._values({"baseline": "baseline"}).baseline

    @cached_property
    def questions(self) -> xr.DataArray:
        """(question, encoder, n_train, seed): test loss of each question over the galaxies that are asked it [nats]."""
        known = self.records[0]["metrics"]["questions"]
        names = [q.name for q in self.schema.questions if q.name in known]
        return self._values({name: f"questions.{name}" for name in names}).to_dataarray("question")

    @cached_property
    def floor(self) -> float | None:
        """Loss of a perfect predictor [nats], where it is known."""
        known = self.records[0]["metrics"]["floor"]
        if known and self.galaxy_weights:
            return sum(known["questions"][name] * weight for name, weight in self.galaxy_weights.items())
        return known["loss"] if known else None

    @cached_property
    def floors(self) -> xr.DataArray | None:
        """(question): the same for each question."""
        known, names = self.records[0]["metrics"]["floor"], self.questions["question"].values
        return xr.DataArray([known["questions"][q] for q in names], {"question": names}) if known else None

    @cached_property
    def parameters(self) -> xr.DataArray:
        """(encoder): ``n_params`` as an array."""
        return xr.DataArray(list(self.n_params.values()), {"encoder": list(self.n_params)})

    @cached_property
    def families(self) -> xr.DataArray:
        """(encoder): the first word of each encoder's name, its design."""
        return xr.DataArray([name.split("_")[0] for name in self.n_params], {"encoder": list(self.n_params)})

    @cached_property
    def family(self) -> list[str]:
        """The encoders of the design that has most of them, smallest first."""
        of = self.families.values
        largest = max(dict.fromkeys(of), key=lambda word: (of == word).sum())
        return [str(name) for name in self.families.encoder.values[of == largest]]

    @cached_property
    def longest(self) -> list[str]:
        """The encoders that have a run of the largest training set and of two more, smallest first."""
        there = self.loss.notnull().any("seed")
        kept = there.isel(n_train=-1) & (there.sum("n_train") >= 3)
        return [str(name) for name in self.loss.encoder.values[kept.values]]

    @cached_property
    def hours_per_galaxy(self) -> dict[str, float]:
        """Hours of training for one training galaxy, of each encoder's largest run."""
        return {
            r["config"]["encoder"]: r["provenance"]["seconds"] / 3600 / r["config"]["n_train"]
            for r in sorted(self.records, key=lambda r: r["config"]["n_train"])
        }

    def grid(self, encoders: list[str]) -> pd.DataFrame:
        """One row for each run of some encoders: parameters ``N``, training galaxies ``D`` and ``loss``."""
        chosen = [r["config"] for r in self.records if r["config"]["encoder"] in encoders]
        rows = [
            (self.n_params[c["encoder"]], c["n_train"], self.loss.sel({dim: c[dim] for dim in self.loss.dims}).item())
            for c in chosen
        ]
        return pd.DataFrame(rows, columns=["N", "D", "loss"]).astype(float)

    def histories(self, seed: int) -> dict[str, dict]:
        """For the smallest and the largest training set, encoder to the history of its run with a seed."""
        return {
            f"{n:,} training galaxies": {
                r["config"]["encoder"]: r["metrics"]["history"]
                for r in self.records
                if r["config"]["n_train"] == n and r["config"]["seed"] == seed
            }
            for n in (int(self.loss.n_train[0]), int(self.loss.n_train[-1]))
        }

    def _values(self, values: dict[str, str]) -> xr.Dataset:
        found = load_runs(self.records, dims=["encoder", "n_train", "seed"], values=values)
        return found.sel(encoder=list(self.n_params))


def real_points() -> xr.DataArray | None:
    """Test losses of the ladder from random weights on real and on simulated galaxies, cross-entropy in nats.

    Returns
    -------
    DataArray (galaxies, n_train, seed), with ``error`` and ``baseline_error`` over the same dimensions and ``classes``
    (galaxies) as coordinates; None if ``benchmarks/real_points.py`` has measured nothing.
    """
    runs = stored_rows("real_points", "runs")
    if not runs:
        return None
    table = pd.DataFrame(runs).set_index(["galaxies", "n_train", "seed"]).sort_index().to_xarray()
    more = {column: table[column] for column in ("error", "baseline_error")}
    return table["loss"].assign_coords(more | {"classes": table["n_classes"].max(["n_train", "seed"])})


def real_table(loss: xr.DataArray) -> pd.DataFrame:
    """One row a training set: mean test loss and share of galaxies in the wrong class, real and simulated."""
    rows = {}
    for galaxies in loss.galaxies.values:
        one = loss.sel(galaxies=galaxies)
        rows[f"{galaxies}: loss"] = one.mean("seed").values
        rows[f"{galaxies}: error"] = 100 * one["error"].mean("seed").values
    return pd.DataFrame(rows, index=pd.Index(loss.n_train.values, name="galaxies"))


def real_words(loss: xr.DataArray, level: float) -> str:
    """The law of each ladder, and how far off the largest training set is when forecast without it, in sentences."""
    told = []
    for galaxies in loss.galaxies.values:
        one = loss.sel(galaxies=[galaxies]).dropna("n_train", how="all").drop_vars(["error", "baseline_error"])
        fit = fit_curves(one, level=level).isel(galaxies=0)
        low, high, best = (float(fit[name]) for name in ("alpha_low", "alpha_high", "alpha"))
        mean = one.isel(galaxies=0).mean("seed")
        ahead = forecast(one.isel(n_train=slice(None, -1)), [float(one.n_train[-1])], level=level, kind="mean")
        held = bool(ahead.lower.item() <= float(mean[-1]) <= ahead.upper.item())
        told.append(
            f"On the {galaxies} galaxies, the loss falls from {float(mean[0]):.2f} to {float(mean[-1]):.2f} nats with"
            f" an exponent of {best:.2f} ({low:.2f} to {high:.2f}) for the loss above a fitted floor; forecast from the"
            f" smaller sets, the largest is {100 * abs(np.log(ahead.loss.item() / float(mean[-1]))):.1f} % off,"
            f" {'within' if held else 'outside'} the band."
        )
    return " ".join(told)


def real_short(loss: xr.DataArray | None) -> str:
    """What the real ladder says, for a cell of a table."""
    if loss is None or "real" not in loss.galaxies.values:
        return "not measured"
    one, classes = loss.sel(galaxies="real").mean("seed"), int(loss.classes.sel(galaxies="real"))
    return (
        f"one network, from random weights, on {classes} classes: loss {float(one[0]):.2f}"
        f" to {float(one[-1]):.2f} nats from {int(one.n_train[0]):,} to {int(one.n_train[-1]):,} galaxies"
    )


def design_table(study: PretrainingStudy | PlannedStudy, runs: StudyRuns) -> pd.DataFrame:
    """Encoders, smallest first, by training galaxies: ``2 of 3`` of the runs that the study names are there."""
    wanted = pd.DataFrame([(c.encoder, c.n_train, c.seed) for c, _ in study.jobs()], columns=["encoder", "n", "seed"])
    made = {(r["config"]["encoder"], r["config"]["n_train"], r["config"]["seed"]) for r in runs.records}
    wanted["made"] = [row in made for row in wanted.itertuples(index=False, name=None)]
    cells = wanted.groupby(["encoder", "n"]).made.agg(share).unstack(fill_value="").rename_axis(columns=None)
    known = [name for name in runs.n_params if name in cells.index]
    cells = cells.loc[known + [name for name in study.encoders if name not in known]]
    cells.columns = [f"{n:,}" for n in cells.columns]
    cells.insert(0, "parameters", [f"{runs.n_params[e]:,}" if e in runs.n_params else NONE for e in cells.index])
    return cells


EARLY, WORSE = 0.5, 0.01  # of a sister's epochs; above its loss, as a part of it


def endings(runs: StudyRuns) -> pd.DataFrame:
    """How each run ended.

    Returns
    -------
    DataFrame
        One row a run: ``encoder``, ``n_train``, ``seed``; ``best`` and ``epochs``, those of its best validation loss
        and its last; ``why`` it ended; test ``loss``; ``sister``, the lowest loss of another seed; ``early``, whether
        the run ended within half of that one's epochs and more than one per cent above its loss.
    """
    rows = []
    for record in runs.records:
        config, metrics = record["config"], record["metrics"]
        seen, loss = metrics["history"]["examples"], metrics["history"]["val_loss"]
        end = {"best": seen[int(np.argmin(loss))], "why": "budget"} | metrics.get("end", {})
        row = {name: config[name] for name in runs.loss.dims}
        row |= {"best": end["best"] / config["n_train"], "epochs": seen[-1] / config["n_train"], "why": end["why"]}
        rows.append(row | {"loss": runs.loss.sel({dim: config[dim] for dim in runs.loss.dims}).item()})
    table = pd.DataFrame(rows)
    table["sister"], table["early"] = np.nan, False
    for _, group in table.groupby(["encoder", "n_train"]):
        for i in group.index if len(group) > 1 else ():
            sister = group.loc[group.drop(i).loss.idxmin()]
            early = group.epochs[i] < EARLY * sister.epochs and group.loss[i] > (1 + WORSE) * sister.loss
            table.loc[i, "sister"], table.loc[i, "early"] = sister.loss, early
    return table.sort_values(["n_train", "encoder", "seed"], kind="stable").reset_index(drop=True)


def early_words(ends: pd.DataFrame) -> str:
    """Which runs ended early by chance, as sentences."""
    repeated = ends.sister.notna().sum()
    if not repeated:
        return "No encoder has two seeds at one size, so a run that ended early by chance cannot be told."
    early = ends[ends.early]
    if early.empty:
        return f"None of the {repeated} runs that were repeated with another seed ended early and far above it."
    worst = early.iloc[int(np.argmax(early.loss / early.sister))]
    return (
        f"Of the {repeated} runs that were repeated with another seed, {len(early)} ended after less than half of the"
        f" epochs of the best repeat and more than {100 * WORSE:.0f} % above its loss, as chance can end a run. The"
        f" farthest is {worst.encoder} with {worst.n_train:,} galaxies, seed {worst.seed}: {worst.loss:.2f} nats after"
        f" {worst.epochs:.0f} epochs, where another seed came to {worst.sister:.2f}. All are kept: no rule that would"
        " leave them out was written before the runs."
    )


def waiting(runs: StudyRuns) -> pd.DataFrame:
    """What the last bit of patience brought, by training galaxies, from the runs' own validation losses.

    Each history is played again with a patience of one evaluation less than the run's. What a longer patience would
    bring the runs do not tell.

    Returns
    -------
    DataFrame
        ``runs``; ``went on``, those whose best came later; ``gain`` [nats], how much lower the validation loss came,
        the mean over all; and ``of a doubling`` [nats], how much the test loss falls to twice the galaxies, for
        encoders with both. Empty where runs have a fixed budget.
    """
    rows = []
    for record in runs.records:
        recipe, history = record["config"].get("recipe", {}), record["metrics"]["history"]
        if not (patience := recipe.get("patience")):
            continue
        since, best = 0, np.inf
        for seen, value in zip(history["examples"], history["val_loss"], strict=True):
            since, best = (0, value) if value < best else (since + 1, best)
            if since >= patience - 1 and value > best and seen >= recipe.get("warmup_examples", 0):
                break
        gain = best - min(history["val_loss"])
        rows.append([record["config"]["n_train"], gain, gain > 0])
    table = (
        pd.DataFrame(rows, columns=["n", "gain", "on"])
        .groupby("n")
        .agg(runs=("gain", "size"), on=("on", "sum"), gain=("gain", "mean"))
    )
    means = runs.loss.mean("seed").to_pandas()
    doubled = {n: (means[n] - means[2 * n]).mean() for n in table.index if 2 * n in means}
    table["of a doubling"] = pd.Series(doubled, dtype=float).reindex(table.index)
    return table.rename(columns={"on": "went on"}).rename_axis("galaxies").reset_index()


def ended_words(ends: pd.DataFrame) -> str:
    """Why runs ended, as a sentence."""
    stopped = ends.why == "patience"
    if not stopped.any():
        return (
            "All runs had a fixed budget; where the lowest point lies before the end, a run overfitted from there on."
        )
    rest = ends.why[~stopped].value_counts()
    limits = {"ceiling": "at the largest number of epochs allowed", "budget": "at the end of a fixed budget"}
    others = "; ".join(f"{n} ended {limits.get(str(why), f'by its {why}')}" for why, n in rest.items())
    return f"{share(stopped)} runs ended because their validation loss no longer fell{f'; {others}' if others else ''}."


def ending_words(study: PretrainingStudy | PlannedStudy) -> str:
    """When the runs of a study end, as a sentence or two."""
    recipe = study.jobs()[0][0].recipe
    if recipe.patience:
        grown = 100 * ((1 + recipe.spacing) ** recipe.patience - 1)
        return (
            "A run has no fixed length: it is validated each time that it has grown by"
            f" {100 * recipe.spacing:.0f} %, and ends when {recipe.patience} evaluations in a row brought nothing"
            f" better, that is while it grew by {grown:.0f} %."
        )
    return (
        "The number of galaxies shown is fixed and grows with the training set; whether a longer training would have"
        " lowered a loss further was not measured."
    )


def device_words(records: list[dict]) -> str:
    """How many runs were made on which device."""
    counts = Counter(str(record["provenance"]["device"]) for record in records).most_common()
    # One run's device may be "NVIDIA H200, its end on a CPU".
    return "; ".join(
        f"{n} on {words(device.replace(', its end on ', ', their ends on ') if n > 1 else device)}"
        for device, n in counts
    )


def weighting_words(runs: StudyRuns) -> str:
    """How the test galaxies count in the total, as a sentence; empty where all count alike."""
    if not runs.galaxy_weights:
        return ""
    return (
        f"The test set has equally many galaxies of each of the {len(runs.schema.campaigns)} campaigns; in the totals"
        " they are weighted so that campaigns count in the proportions of the paper's labelled galaxies."
    )


def counting_words(runs: StudyRuns) -> str:
    """For captions: how the test galaxies count in the total."""
    alike = "all test galaxies count alike"
    return "campaigns weighted as in the paper's labelled galaxies" if runs.galaxy_weights else alike


def baseline_words(runs: StudyRuns) -> str:
    """What the mean answers, the best run and a perfect predictor cost, in a sentence; test galaxies count alike."""
    metrics = min((record["metrics"] for record in runs.records), key=lambda metrics: metrics["loss"])
    alike = "With all test galaxies counted alike, predicting" if runs.galaxy_weights else "Predicting"
    mean, best, floor = metrics["baseline"], metrics["loss"], (metrics["floor"] or {}).get("loss")
    said = f"{alike} the mean answers of the training set for every galaxy would cost {mean:.2f} nats per galaxy"
    if floor is None:
        return f"{said}; the best run costs {best:.2f}."
    way = 100 * (mean - best) / (mean - floor)
    return f"{said} and a perfect predictor {floor:.2f}; the best run, with {best:.2f}, goes {way:.0f} % of that way."


def fits_table(fits: xr.Dataset, above: xr.Dataset | None = None) -> pd.DataFrame:
    """Parameters of the law of each encoder with their intervals, and the verdict after the fit.

    ``above`` has the exponents of the loss above the floor. The p-value is that of a misfit as large as the fit's by
    the scatter of the seeds alone, NaN where no size is repeated.
    """
    table = pd.DataFrame(index=pd.Index(fits.encoder.values, name="encoder"))
    for name in ("E", "A", "alpha"):
        table[GREEK.get(name, name)] = intervals(*(fits[name + end].values for end in ("", "_low", "_high")))
    if above is not None:
        table["α above the floor"] = intervals(*(above[end].values for end in ("estimate", "low", "high")))
    table["p of the misfit"] = fits["lack_of_fit_p"].values
    table["verdict"] = fits["verdict"].values
    return table


def shared_table(shared: Mapping[str, xr.Dataset], fits: xr.Dataset, floor: float | None) -> pd.DataFrame:
    """One exponent for all encoders, and how the fitted E compare with the computed floor.

    ``shared`` has how runs are taken to scatter (in words) to the ``shared_exponent`` so found.
    """
    rows = {}
    for scatter, one in shared.items():
        ends = (one[name] for name in ("alpha", "alpha_low", "alpha_high"))
        rows[f"common exponent, {scatter}"] = intervals(*ends, digits=2)[0]
        rows[f"p-value that one is enough, {scatter}"] = number(float(one.p_value), ".2g")
    rows |= {
        "fitted E, range over encoders [nats]": span(fits["E"], ".2f"),
        "computed floor [nats]": "unknown" if floor is None else number(floor, ".2f"),
    }
    return pd.DataFrame({"quantity": rows.keys(), "value": rows.values()})


def exponents(fits: dict[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    """Axis label to ``estimate``, ``low`` and ``high`` of the exponent, for a dot plot."""
    return {
        f"exponent α with {label}": xr.Dataset(
            {"estimate": fit["alpha"], "low": fit["alpha_low"], "high": fit["alpha_high"]}
        )
        for label, fit in fits.items()
    }


def failures(fits: dict[str, xr.Dataset], misfit: xr.DataArray, *, level: float) -> pd.DataFrame:
    """Each fit that failed, and each curve that the law misses, with the reason; empty if there is none.

    Parameters
    ----------
    fits : dict
        Name of a law to its fits over (question, encoder); ``misfit`` is about the first of them.
    misfit : DataArray (question, encoder)
        Adjusted p-values of the lack of fit.
    """
    rows = []
    for law, fit in fits.items():
        failed = fit[["success", "message"]].to_dataframe().reset_index().query("~success")
        rows += [[law, *row] for row in failed[["question", "encoder", "message"]].itertuples(index=False)]
    missed = misfit.rename("p").to_dataframe().reset_index().query("p < @bound", local_dict={"bound": 1 - level})
    words = "misses the means by more than the seeds' noise (p = {})"
    rows += [[next(iter(fits)), r.question, r.encoder, words.format(number(r.p, ".2g"))] for r in missed.itertuples()]
    return pd.DataFrame(rows, columns=["law", "question", "encoder", "reason"])


def described(fits: xr.Dataset, *, level: float, noun: str) -> str:
    """For how many curves the law is not rejected by its misfit against the seeds, after Holm, in words."""
    misfit = holm(fits["lack_of_fit_p"]).values
    if not np.isfinite(misfit).any():
        return "not tested: one seed shows no noise"
    return in_words(misfit >= 1 - level, noun)  # a curve without a p-value is not described


def effect_table(effect: xr.Dataset, verdict: xr.DataArray) -> pd.DataFrame:
    """Effect of ten times the parameters on each question, most helped first.

    What :func:`gzlib.fitting.size_verdict` calls ``helps by less``, which may as well be a small harm, is here
    ``within the bound``.
    """
    table = effect[["slope", "low", "high"]].to_dataframe()[["slope", "low", "high"]]
    table["p"] = false_discovery(effect["p"]).values
    table["more parameters"] = ["within the bound" if word == "helps by less" else word for word in verdict.values]
    return table.rename(columns={"slope": "effect"}).rename_axis("question").sort_values("effect").reset_index()


def atlas_table(atlas: pd.DataFrame) -> pd.DataFrame:
    """Median and central 90 % range of the exponent, the forecast and the fitted E, for each choice of an atlas."""

    def ranged(fits, column, form):
        table = choice_ranges(fits, column)
        parts = (map(number, table[name], itertools.repeat(form)) for name in ("median", "low", "high"))
        texts = [f"{middle} ({low}\u00a0to\u00a0{high})" for middle, low, high in zip(*parts, strict=True)]
        return pd.Series(texts, table.index).where(table.fits > 0, NONE)

    table = pd.DataFrame({"α": ranged(atlas, "alpha", ".3f"), "forecast": ranged(atlas, "forecast", ".2f")})
    table["fitted E"] = ranged(atlas[atlas.law == "E + A n^-α"], "E", ".2f").reindex(table.index, fill_value=NONE)
    table.index.names = ["choice", "value"]
    return table.reset_index()


def recipe_atlas() -> pd.DataFrame:
    """What one encoder's learning curve comes to under many recipes (``benchmarks/recipe.py atlas``).

    Returns
    -------
    DataFrame
        A row for each recipe and seed: ``recipe``, ``seed``, the test loss [nats] at each size that the atlas has,
        ``alpha``, the exponent of the loss above the known floor, and ``forecast``, that law's loss at eight times the
        largest size. Runs that failed or were not made are NaN, and with them ``alpha``. The floor is in
        ``attrs``.
    """
    cells = pd.DataFrame(stored_rows("recipe-atlas", "cells"))
    if not len(cells):
        return pd.DataFrame()
    order = dict.fromkeys(cells["candidate"])
    losses = cells.pivot(index=["candidate", "seed"], columns="n_train", values="loss").astype(float)
    sizes, floor = losses.columns.to_numpy(float), float(cells["floor"].dropna().iloc[0])
    above = np.log(losses.to_numpy() - floor)
    slopes = _slopes(sizes)
    alpha = -above @ slopes
    ahead = above.mean(axis=1) - alpha * np.log(8 * sizes.max() / np.exp(np.log(sizes).mean()))
    table = losses.assign(alpha=alpha, forecast=floor + np.exp(ahead)).reset_index(names=["recipe", "seed"])
    table.attrs["floor"] = floor
    places = {name: place for place, name in enumerate(order)}
    return table.sort_values("recipe", key=lambda names: names.map(places), kind="stable")


def _slopes(sizes: np.ndarray) -> np.ndarray:
    """Weights with which values at these sizes sum to their least-squares slope in ln(size)."""
    x = np.log(sizes) - np.log(sizes).mean()
    return x / (x @ x)


def recipe_spread(atlas: pd.DataFrame) -> pd.DataFrame:
    """How far recipe, fit and seed each move the exponent and the forecast of a :func:`recipe_atlas`.

    - *recipe*: variance over the recipes of one seed, less the seeds' own;
    - *fit*: variance over the analyst's choices (:func:`gzlib.fitting.sensitivity`) for the study's recipe, of the
      exponent where the law has its E at the floor, of the forecast under every law;
    - *seed*: variance of the result of one run a size, from the scatter of the study's seeds at each size.

    Returns
    -------
    DataFrame
        Indexed by ``recipe``, ``fit``, ``seed``: ``alpha``, ``forecast`` as standard deviations and ``alpha share``,
        ``forecast share`` of the summed variances. Empty where fewer than three recipes or two seeds are complete.
    """
    if not len(atlas):
        return pd.DataFrame()
    floor = atlas.attrs["floor"]
    sizes = [name for name in atlas.columns if isinstance(name, int | np.integer)]
    study = atlas[atlas.recipe == "study"].set_index("seed")[sizes].dropna()
    one = atlas[(atlas.seed == study.index.min()) & atlas.alpha.notna()] if len(study) else atlas.iloc[:0]
    if len(study) < 2 or len(one) < 3:
        return pd.DataFrame()
    loss = xr.DataArray(study.to_numpy().T, dims=("n_train", "seed"), coords={"n_train": sizes, "seed": study.index})
    fits = sensitivity(loss, floor=floor, factor=8.0, most_dropped=1)
    scatter = np.log(study.to_numpy() - floor).var(axis=0, ddof=1)
    slopes, x = _slopes(np.array(sizes, float)), np.log(np.array(sizes, float))
    reach = 1 / len(sizes) + slopes * (np.log(8 * max(sizes)) - x.mean())  # weights of the sizes in the forecast
    excess = float(one["forecast"].mean()) - floor
    seed = {"alpha": (slopes**2) @ scatter, "forecast": (reach**2) @ scatter * excess**2}
    fit = {
        "alpha": fits[(fits.law == FLOOR_LAW) & fits.alpha.notna()].alpha.var(ddof=1),
        "forecast": fits[fits.forecast.notna()].forecast.var(ddof=1),
    }
    table = {}
    for name in ("alpha", "forecast"):
        recipe = max(0.0, one[name].var(ddof=1) - seed[name])
        variances = pd.Series({"recipe": recipe, "fit": fit[name], "seed": seed[name]})
        table[name], table[f"{name} share"] = np.sqrt(variances), variances / variances.sum()
    return pd.DataFrame(table)


def recipe_words(atlas: pd.DataFrame) -> str:
    """How far the exponent moves with the recipe and with twice the budget, in sentences."""
    spread = recipe_spread(atlas)
    if not len(spread):
        return "Too few recipes were measured to say."
    first = atlas[atlas.seed == atlas.seed.min()].set_index("recipe")
    done, failed = first[first.alpha.notna()], first[first.alpha.isna()]
    study = float(done.alpha["study"])
    said = [
        f"Over {len(done)} recipes that were run at all sizes the exponent above the floor lies within"
        f" {span(done.alpha, '.3f')} ({number(study, '.3f')} with the study's recipe and the same seed)."
    ]
    if len(done) < FEWEST_RECIPES:
        said.append(f"These are too few to split its variance, which takes {FEWEST_RECIPES}.")
    else:
        said.append(
            f"Of its variance {share_of(spread['alpha share'])}; of that of the forecast at eight times the largest"
            f" size {share_of(spread['forecast share'])}: the fit's is that of an analyst's choices for the study's"
            " recipe and the same training sets, the seed's the scatter of its seeds."
        )
    if "twice the budget" in done.index:
        moved = 100 * (float(done.alpha["twice the budget"]) / study - 1)
        said.append(
            f"Twice the budget moves the exponent by {number(moved, '+.0f')} %, one seed's scatter by"
            f" {number(100 * spread.alpha['seed'] / study, '.0f')} %; the goal was less than 10 %."
        )
    if len(failed):
        begun = "1 recipe was started and lacks a run." if len(failed) == 1 else f"{len(failed)} recipes lack a run."
        said.append(begun)
    return " ".join(said)


def share_of(shares: pd.Series) -> str:
    """``61 % are the recipe's, 30 % the fit's and 9 % the seed's``."""
    first, *rest = (f"{number(100 * value, '.0f')} %{{}} the {name}'s" for name, value in shares.items())
    return ", ".join([first.format(" are"), *(part.format("") for part in rest[:-1])]) + f" and {rest[-1].format('')}"


def held_out_table(curves: xr.DataArray, *, level: float, fitted: bool = True) -> pd.DataFrame:
    """How well the largest training set is predicted from smaller ones, one row for each number of sets left out.

    Parameters
    ----------
    curves : DataArray (..., n_train, seed)
    fitted : bool
        Whether the fitted law predicts as well.

    Returns
    -------
    DataFrame
        ``extrapolated by``; root mean square of ln(predicted / measured) over the curves for the ``power law``, the
        ``forecast`` and the ``last value``; ``within the band`` and the median ``width of the band`` in ln(loss). The
        band is that of one run where the largest set has one, and of the mean where it has several.
    """
    rows, largest = [], curves.n_train.values[-1]
    truth = np.log(curves.isel(n_train=-1).mean("seed"))
    single = curves.isel(n_train=-1).notnull().sum("seed") == 1
    for drop in range(1, max(2, curves.sizes["n_train"] - 3)):
        seen = curves.isel(n_train=slice(None, -drop))
        early, one = (forecast(seen, [largest], level=level, kind=kind).isel(n_train=0) for kind in ("mean", "new_run"))
        lower, upper = (np.log(xr.where(single, one[end], early[end])) for end in ("lower", "upper"))
        ahead = {"forecast": early["loss"], "last value": seen.isel(n_train=-1).mean("seed")}
        if fitted:  # the law's own curve needs no draws, `predict` some
            fits = fit_curves(seen, level=level, draws=2)
            ahead = {"power law": predict(fits, [largest])["loss"].isel(n_train=0)} | ahead
        errors = {name: float(np.sqrt(((np.log(loss) - truth) ** 2).mean())) for name, loss in ahead.items()}
        inside = ((lower <= truth) & (upper >= truth)).values
        row = {"extrapolated by": f"{largest / seen.n_train.values[-1]:.0f} ×"} | errors
        width = float((upper - lower).median())
        rows.append(row | {"within the band": share(inside), "width of the band": width})
    return pd.DataFrame(rows)


def held_words(table: pd.DataFrame, *, level: float) -> str:
    """For how many curves the band held, over all distances of :func:`held_out_table`, the worst one named."""
    held = [tuple(int(n.replace(",", "")) for n in text.split(" of ")) for text in table["within the band"]]
    shares = np.array([inside / n for inside, n in held])
    worst = int(shares.argmin())
    side = "short of" if shares[worst] < level - 0.02 else "at or above"
    told = ", ".join(
        f"{text} by {far}" for far, text in zip(table["extrapolated by"], table["within the band"], strict=True)
    )
    return (
        f"Outcomes within the {100 * level:g} % band, by how far was extrapolated: {told}. The fewest,"
        f" {100 * shares[worst]:.0f} %, by {table['extrapolated by'].iloc[worst]}, are {side} what the band promises."
    )


def reduction_table(errors: xr.DataArray) -> pd.DataFrame:
    """Errors from ImageNet and from ImageNet + galaxies at the largest number of labels of each task and mode.

    Parameters
    ----------
    errors : DataArray (task, mode, start, n_train, seed)
    """
    rows = []
    for mode in errors["mode"].values:
        for task in errors["task"].values:
            curve = errors.sel(mode=mode, task=task).dropna("n_train", how="any")
            if curve.sizes["n_train"]:
                at = curve.isel(n_train=-1)
                before, after = at.sel(start="ImageNet"), at.sel(start="ImageNet + galaxies")
                seeds = at.sizes["seed"]
                scatter = float((1 - after / before).std(ddof=1)) / np.sqrt(seeds) if seeds > 1 else np.nan
                gain = float(1 - after.mean() / before.mean())
                rows.append([mode, task, int(at.n_train), float(before.mean()), float(after.mean()), gain, scatter])
    table = pd.DataFrame(rows, columns=["mode", "task", "labels", "ImageNet", "ImageNet + galaxies", "reduction", "±"])
    return table.assign(reduction=100 * table["reduction"], **{"±": 100 * table["±"]})


def pretraining_claim(reduction: pd.DataFrame) -> str:
    """Whether ImageNet + galaxies makes fewer errors than ImageNet with linear probes, by a t-test over the tasks."""
    percent = reduction.loc[reduction["mode"] == "linear", "reduction"]
    outcome = f"{in_words(percent > 0, 'tasks')}; mean reduction {number(percent.mean(), '.0f')} %"
    if len(percent) < 2:
        return f"{outcome}, one task"
    p = stats.ttest_1samp(percent, 0, alternative="greater").pvalue
    return f"{outcome}, p\u00a0=\u00a0{number(p, '.2g')} over {len(percent)} tasks"


def probe_claim(errors: xr.DataArray, *, margin: float = 0.05) -> str:
    """Whether a linear probe's error is shown to be at most ``margin`` larger than that of full finetuning.

    Shown, not merely not disproved: few seeds disprove little.
    """
    pairs = errors.sel(start="ImageNet + galaxies").stack(pair=("task", "n_train"))
    excess = log_of(pairs.sel(mode="linear") / pairs.sel(mode="full")).dropna("pair").transpose("seed", "pair")
    if excess.sizes["seed"] < 2:
        return "not tested: one seed shows no noise"
    p = stats.ttest_1samp(excess, np.log(1 + margin), axis=0, alternative="less").pvalue
    return in_words(holm(p) < 0.05, f"comparisons shown to be at most {100 * margin:.0f} % worse")


def labels_worth(errors: xr.DataArray) -> pd.DataFrame:
    """Labels that a probe on ImageNet's features needs for what ImageNet + galaxies reaches with the middle number."""
    rows = []
    for task in errors["task"].values:
        curve = errors.sel(mode="linear", task=task).mean("seed").dropna("n_train", how="any")
        middle, n = curve.sizes["n_train"] // 2, curve.n_train.values
        target = float(curve.sel(start="ImageNet + galaxies").isel(n_train=middle))
        reached = np.minimum.accumulate(curve.sel(start="ImageNet").values)
        needed = f"{np.exp(np.interp(-target, -reached, np.log(n))):,.0f}"
        rows.append([task, int(n[middle]), target, f"> {n[-1]:,}" if reached[-1] > target else needed])
    return pd.DataFrame(rows, columns=["task", "labels", "error", "labels from ImageNet"])
