"""What the runs of a study say: its losses as labelled arrays, and the tables of the chapters that read them."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from gzlib.data import describe_galaxies, load_schema
from gzlib.errors import UserError
from gzlib.fitting import (
    LAWS,
    choice_ranges,
    compute_frontier,
    false_discovery,
    fit_curves,
    fit_surface,
    forecast,
    holm,
    information,
    predict,
    predict_surface,
)
from gzlib.models.encoders import TRAINING_FACTOR, forward_flops
from gzlib.sky.source import STUDY, STUDY_HELD, STUDY_SHARES
from gzlib.study.presets import PretrainingStudy
from gzlib.study.tables import NONE, formula, in_words, intervals, number, share, span
from gzlib.training import load_runs

GREEK = {"alpha": "α", "beta": "β"}


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


def fits_table(fits: xr.Dataset) -> pd.DataFrame:
    """Parameters of the law of each encoder with their intervals, and the verdict after the fit."""
    table = pd.DataFrame(index=pd.Index(fits.encoder.values, name="encoder"))
    for name in ("E", "A", "alpha"):
        table[GREEK.get(name, name)] = intervals(*(fits[name + end].values for end in ("", "_low", "_high")))
    table["α if E = 0"] = fits["alpha_without_E"].values
    table["reduced χ²"] = fits["reduced_chi2"].values
    table["verdict"] = fits["verdict"].values
    return table


def shared_table(shared: xr.Dataset, fits: xr.Dataset, floor: float | None) -> pd.DataFrame:
    """One exponent for all encoders, and how the fitted E compare with the computed floor."""
    rows = {
        "common exponent": intervals(*(shared[name] for name in ("alpha", "alpha_low", "alpha_high")), digits=2)[0],
        "p-value that one is enough": number(float(shared.p_value), ".2g"),
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
    """Effect of ten times the parameters on each question, most helped first."""
    table = effect[["slope", "low", "high"]].to_dataframe()[["slope", "low", "high"]]
    table["p"] = false_discovery(effect["p"]).values
    table["more parameters"] = verdict.values
    return table.rename(columns={"slope": "effect"}).rename_axis("question").sort_values("effect").reset_index()


def surfaces(grid: pd.DataFrame, floor: float | None, *, level: float) -> tuple[dict[str, xr.Dataset], str]:
    """Hoffmann's surface with E fitted and, where it is known, with E at the floor; or why there is none."""
    held = {"E fitted": None} | ({} if floor is None else {"E at the floor": {"E": floor}})
    try:
        sizes = {"N": grid.N, "D": grid.D}
        return {name: fit_surface(grid.loss, sizes, fixed=fixed, level=level) for name, fixed in held.items()}, ""
    except UserError as error:
        return {}, str(error)


def surface_table(fits: dict[str, xr.Dataset]) -> pd.DataFrame:
    """Parameters of the surfaces with their intervals, and in words how well the runs know each."""
    rows = []
    for label, fit in fits.items():
        for name, value, low, high in fit[["value", "low", "high"]].to_dataframe().itertuples():
            shown = number(value, ".2f") if low == high else intervals(value, low, high)[0]
            rows.append([label, GREEK.get(name, name), shown, _known(value, low, high)])
    return pd.DataFrame(rows, columns=["fit", "parameter", "value", "verdict"])


def _known(value: float, low: float, high: float) -> str:
    if low == high:
        return "held"
    if low < 0.02 * value or value <= 0:
        return "at most " + number(high, ".3g")
    return "determined" if high < 2 * low else f"known to a factor {high / low:,.{0 if high > 10 * low else 1}f}"


def surface_words(table: pd.DataFrame, grid: pd.DataFrame, refusal: str) -> str:
    """What the runs determine of the surface with E fitted, as a sentence."""
    if refusal:
        return f"The design cannot tell: {refusal}".replace("^", r"\^")
    weak = table[(table.fit == "E fitted") & ~table.verdict.isin(["determined", "held"])]
    known = f"leave {', '.join(weak.parameter)} known no better than to a factor of two" if len(weak) else ""
    return (
        f"{grid.N.nunique()} encoder sizes over {np.log10(grid.N.max() / grid.N.min()):.1f} decades are a small design:"
        f" with E fitted, the runs {known or 'determine every parameter'}."
    )


def surface_laws(grid: pd.DataFrame, *, level: float) -> tuple[pd.DataFrame, xr.Dataset | None]:
    """Four laws of two sizes on the same runs, and the fit with the lowest corrected Akaike criterion."""
    rows, best = [], (np.inf, None)
    for law in ("chinchilla", "kaplan", "skaling", "bounded"):
        shown = formula(LAWS[law].formula)
        try:
            fit = fit_surface(grid.loss, {"N": grid.N, "D": grid.D}, law=law, level=level)
        except UserError as error:
            rows.append([shown, np.nan, np.nan, str(error)])
            continue
        at = {"N": xr.DataArray(grid.N), "D": xr.DataArray(grid.D)}
        residual = np.log(predict_surface(fit, at)["loss"] / grid.loss)
        aicc, _ = information(residual, len(LAWS[law].names), log_loss=np.log(grid.loss))
        best = min(best, (aicc, fit), key=lambda pair: pair[0])
        message = "converged" if fit.success else str(fit.message.item())
        rows.append([shown, float(np.sqrt((residual**2).mean())), aicc, message])
    table = pd.DataFrame(rows, columns=["law", "rms", "ΔAICc", "fit"])
    table["ΔAICc"] -= table["ΔAICc"].min()
    return table, best[1]


def training_cost(study: PretrainingStudy, runs: StudyRuns) -> Callable:
    """Floating-point operations of training as a function of parameters ``N`` and training galaxies ``D``.

    Operations of a forward pass are counted for each encoder of the family and interpolated between them; a training
    step is taken for three of them, and the galaxies shown are those of the study's rule.
    """
    flops = [forward_flops(name, study.survey.size) for name in runs.family]
    known = np.log([runs.n_params[name] for name in runs.family]), np.log(flops)
    at_thousand, growth, _ = study.examples

    def cost(N, D):
        return TRAINING_FACTOR * np.exp(np.interp(np.log(N), *known)) * at_thousand * (D / 1000) ** growth

    return cost


def best_split(fit: xr.Dataset, grid: pd.DataFrame, cost: Callable) -> tuple[Callable, xr.Dataset]:
    """The loss of a fitted surface as a function of ``N`` and ``D``, and its best split of each compute budget."""
    ends = float(cost(grid.N.min(), grid.D.min())), float(cost(grid.N.max(), grid.D.max()))
    frontier = compute_frontier(fit, np.geomspace(*ends, 80), cost, n_params=(grid.N.min(), grid.N.max()))

    def fitted(N, D):
        N, D = (xr.DataArray(values, dims=("y", "x")) for values in np.broadcast_arrays(N, D))
        return predict_surface(fit.drop_vars("draw_values"), {"N": N, "D": D})["loss"].values

    return fitted, frontier


def atlas_table(atlas: pd.DataFrame) -> pd.DataFrame:
    """Median and central 90 % range of the exponent, the forecast and the fitted E, for each choice of an atlas."""

    def ranged(fits, column, form):
        table = choice_ranges(fits, column)
        texts = (map(number, table[name], itertools.repeat(form)) for name in ("median", "low", "high"))
        texts = [f"{middle} ({low}\u00a0to\u00a0{high})" for middle, low, high in zip(*texts, strict=True)]
        return pd.Series(texts, table.index).where(table.fits > 0, NONE)

    table = pd.DataFrame({"α": ranged(atlas, "alpha", ".3f"), "forecast": ranged(atlas, "forecast", ".2f")})
    table["fitted E"] = ranged(atlas[atlas.law == "E + A n^-α"], "E", ".2f").reindex(table.index, fill_value=NONE)
    table.index.names = ["choice", "value"]
    return table.reset_index()


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
        ``forecast`` and the ``last value``; ``within the band`` and the median ``width of the band`` in ln(loss).
    """
    rows, largest = [], curves.n_train.values[-1]
    truth = np.log(curves.isel(n_train=-1).mean("seed"))
    for drop in range(1, max(2, curves.sizes["n_train"] - 3)):
        seen = curves.isel(n_train=slice(None, -drop))
        early = forecast(seen, [largest], level=level).isel(n_train=0)
        ahead = {"forecast": early["loss"], "last value": seen.isel(n_train=-1).mean("seed")}
        if fitted:  # the law's own curve needs no draws, `predict` some
            fits = fit_curves(seen, level=level, draws=2)
            ahead = {"power law": predict(fits, [largest])["loss"].isel(n_train=0)} | ahead
        errors = {name: float(np.sqrt(((np.log(loss) - truth) ** 2).mean())) for name, loss in ahead.items()}
        inside = ((np.log(early.lower) <= truth) & (np.log(early.upper) >= truth)).values
        row = {"extrapolated by": f"{largest / seen.n_train.values[-1]:.0f} ×"} | errors
        width = float(np.log(early.upper / early.lower).median())
        rows.append(row | {"within the band": share(inside), "width of the band": width})
    return pd.DataFrame(rows)


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
    return f"{outcome}, p = {number(p, '.2g')} over {len(percent)} tasks"


def probe_claim(errors: xr.DataArray, *, margin: float = 0.05) -> str:
    """Whether a linear probe's error is shown to be at most ``margin`` larger than that of full finetuning.

    Shown, not merely not disproved: few seeds disprove little.
    """
    pairs = errors.sel(start="ImageNet + galaxies").stack(pair=("task", "n_train"))
    excess = np.log(pairs.sel(mode="linear") / pairs.sel(mode="full")).dropna("pair").transpose("seed", "pair")
    if excess.sizes["seed"] < 2:
        return "not tested: one seed shows no noise"
    p = stats.ttest_1samp(excess, np.log(1 + margin), axis=0, alternative="less").pvalue
    return in_words(holm(p) < 0.05, "comparisons of task and label count")


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
