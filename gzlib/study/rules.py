"""The paper's claims about galaxies and parameters, decided by the rules that stand in ``data/plans/rules.toml``.

The rules were written before the runs. What they call *excess* is the loss above that of a perfect predictor; a curve is
the total of one encoder or one question with one encoder, on all its runs. Everything here works in ln(excess), where
a power law is a straight line and the scatter of the seeds is alike at all sizes.
"""

import json
import tomllib
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from gzlib.errors import UserError
from gzlib.fitting import (
    LAWS,
    Law,
    Parameter,
    encoder_effect,
    holm,
    information,
    random_effects,
    size_verdict,
    slope_test,
)
from gzlib.fitting.optimise import batch_fit, log_gradient, log_loss
from gzlib.study.presets import PlannedStudy, PretrainingStudy
from gzlib.study.results import StudyRuns
from gzlib.study.tables import number, share
from gzlib.trace import input_files

FAMILY = 0.05  # error of a family of tests
LEAST_SIZES, LEFT_OUT = 4, 2  # of a curve; and of them, the largest that a held-out test leaves out
TIED = 2.0  # difference of AICc up to which two laws describe a curve alike
MISFIT = 0.01  # below which a misfit is as good as none, as a part of the loss
GAIN, DESCRIBED, REFUTED = 0.95, 0.80, 0.50  # shares of question curves that the rules of the first claim name
ALIKE = 0.20  # spread of the exponents over their mean, up to which one serves all
BOOTSTRAP, TRIES = 500, 50

_FREE = Parameter(1e-12, np.inf, "loss", "")
_RATE = Parameter(0, np.inf, "1", "")


def _logarithmic(x, A, B):
    return np.maximum(A - B * np.log(x), 1e-12)


def _exponential(x, E, A, k):
    return E + A * np.exp(-k * x)


def _once_broken(x, A, alpha, change, d):
    return A * x**-alpha * np.exp(-change * np.maximum(np.log(x / d), 0))


_ANY = Parameter(-5, 5, "1", "")
LOGARITHMIC = Law(
    "logarithmic", "A - B ln x", "", _logarithmic, {"A": _FREE, "B": _RATE}, (), {}, min_sizes=2
)  # fmt: skip
EXPONENTIAL = Law(
    "exponential", "E + A exp(-k x)", "", _exponential, {"E": LAWS["power-offset"].parameters["E"], "A": _FREE, "k": _RATE},
    (), {},
)  # fmt: skip
BROKEN = Law(
    "broken", "A x^-alpha up to d, then steeper or flatter", "", _once_broken,
    {"A": _FREE, "alpha": _ANY, "change": _ANY, "d": _FREE}, (), {}, min_sizes=4,
)  # fmt: skip
# Laws of the excess by the names that tables use; the first two are the power law.
TRIED = {
    "power law": LAWS["power"],
    "power law and offset": LAWS["power-offset"],
    "logarithmic": LOGARITHMIC,
    "exponential": EXPONENTIAL,
    "broken once": BROKEN,
}
POWER = tuple(TRIED)[:2]


@dataclass(frozen=True)
class Curves:
    """The runs of several curves that have the same sizes and as many runs at each, such as one encoder's questions.

    Attributes
    ----------
    size : (sizes,)
        Training galaxies over their geometric mean.
    runs : (curves, sizes, seeds)
        ln(excess), NaN where a run is missing.
    """

    size: np.ndarray
    runs: np.ndarray

    @cached_property
    def there(self) -> np.ndarray:
        """(sizes, seeds): which runs there are."""
        return np.isfinite(self.runs[0])

    @cached_property
    def count(self) -> np.ndarray:
        """(sizes,): runs."""
        return self.there.sum(1)

    @cached_property
    def mean(self) -> np.ndarray:
        """(curves, sizes): of ln(excess)."""
        return np.nanmean(self.runs, axis=2)

    def fit(self, law: Law) -> "Fitted | None":
        """A law's least squares in ln(excess) over the runs; None where it has more parameters than there are sizes."""
        if len(self.size) < len(law.names):
            return None
        y = np.exp(self.mean)
        start = np.array([_starts(law, self.size, row, self.count) for row in y])  # (curves, starts, parameters)
        each = start.shape[1]
        found = batch_fit(
            law, [self.size], np.repeat(y, each, 0), start.reshape(-1, start.shape[2]), weights=np.sqrt(self.count)
        )
        best = np.argmin(np.nan_to_num(found.cost, nan=np.inf).reshape(-1, each), axis=1)
        parameters = found.parameters.reshape(start.shape)[np.arange(len(best)), best]
        residual = (self.runs - log_loss(law, [self.size], parameters)[:, :, None])[:, self.there]
        aicc = np.array([information(row, len(law.names))[0] for row in residual])
        return Fitted(law, parameters, residual, aicc)

    def part(self, rows: slice) -> "Curves":
        """Some of their sizes."""
        return Curves(self.size[rows], self.runs[:, rows])


@dataclass(frozen=True)
class Fitted:
    """A law's ``parameters`` (curves, parameters), the ``residual`` (curves, runs), and Akaike's corrected criterion."""

    law: Law
    parameters: np.ndarray
    residual: np.ndarray
    aicc: np.ndarray

    @property
    def free(self) -> np.ndarray:
        """(curves, parameters): those that do not lie at a bound of zero."""
        return self.parameters > 0

    def jacobian(self, size: np.ndarray) -> np.ndarray:
        """(curves, sizes, parameters): of ln(excess); zero for a parameter at its bound."""
        return np.where(self.free[:, None], log_gradient(self.law, [size], self.parameters), 0.0)

    def at(self, size: np.ndarray) -> np.ndarray:
        """(curves, sizes): ln(excess)."""
        return log_loss(self.law, [size], self.parameters)


def _line(x, y, weights):
    """Level at x = 0 and slope of a straight line by weighted least squares."""
    design = np.stack([np.ones_like(x), x], 1)
    root = np.sqrt(weights)
    return np.linalg.lstsq(design * root[:, None], y * root, rcond=None)[0]


def _starts(law: Law, x: np.ndarray, y: np.ndarray, count: np.ndarray) -> list:
    """Parameters to begin a fit from; each law is a straight line once some of them are chosen."""
    log_x = np.log(x)
    level, slope = _line(log_x, np.log(y), count)
    if law is TRIED["power law"]:
        return [[np.exp(level), np.clip(-slope, 0, 5)]]
    if law is LOGARITHMIC:
        level, slope = _line(log_x, y, count / y**2)
        return [[max(level, 1e-9), max(-slope, 0)]]
    if law is BROKEN:
        inner = np.sqrt(x[1:-2] * x[2:-1]) if len(x) > 4 else x[1:-1]
        found = []
        for d in np.concatenate([x[1:-1], inner]):
            design = np.stack([np.ones_like(x), -log_x, -np.maximum(log_x - np.log(d), 0)], 1)
            root = np.sqrt(count)
            at, alpha, change = np.linalg.lstsq(design * root[:, None], np.log(y) * root, rcond=None)[0]
            found.append([np.exp(at), np.clip(alpha, -5, 5), np.clip(change, -5, 5), d])
        return found
    starts = []
    for offset in np.array([0.0, 0.3, 0.6, 0.85, 0.97]) * y.min():
        level, slope = _line(log_x if law is TRIED["power law and offset"] else x, np.log(y - offset), count)
        starts.append([offset, np.exp(np.clip(level, -50, 50)), np.clip(-slope, 0, 5)])
    return starts


def verdict_of_laws(aicc: dict[str, float]) -> str:
    """``best``, ``tied`` or ``beaten``: the power law, with and without offset, among the laws tried; else ``""``."""
    power = min(aicc[name] for name in POWER)
    other = min((value for name, value in aicc.items() if name not in POWER), default=np.inf)
    if not np.isfinite(power):
        return ""
    return "best" if power < other - TIED else "tied" if power <= other + TIED else "beaten"


def misfit(curves: Curves, fitted: Fitted, floors: np.ndarray, scatter: np.ndarray, dof: np.ndarray, *, seed: int = 0):
    """Misfit of a power law as a part of the loss: the estimate, its upper 95 % end, and that test's power.

    The misfit is the root mean square over sizes of (law - mean of the runs) / mean of the runs, in losses, less what
    the seeds' scatter is expected to give. Its upper end is the basic bootstrap's: means are drawn again with the
    seeds' scatter (itself drawn, as ``dof`` degrees of freedom know it), and the law is fitted again, linearised
    about its optimum.

    Parameters
    ----------
    curves, fitted : Curves, Fitted
    floors : (curves,)
        Losses of a perfect predictor.
    scatter, dof : (curves,)
        Of ln(excess) of a run about the mean of its size, and the degrees of freedom that it was estimated with.

    Returns
    -------
    estimate, upper, power : (curves,)
        Parts of the loss; and how often the upper end would lie below :data:`MISFIT` if the law held exactly. NaN
        where no size has two runs, so that the scatter is unknown.
    """
    rng, out = np.random.default_rng(seed), np.full((3, len(curves.runs)), np.nan)
    excess, jacobian, root = np.exp(curves.mean), fitted.jacobian(curves.size), np.sqrt(curves.count)
    part = excess / (floors[:, None] + excess)  # from ln(excess) to ln(loss)
    hat = jacobian @ np.linalg.pinv(jacobian * root[:, None]) * root
    leave = part[:, :, None] * (np.eye(len(root)) - hat)  # what a fit leaves of noise
    missed = part * (curves.mean - fitted.at(curves.size))
    for i in np.flatnonzero(dof > 0):
        drawn = scatter[i] * np.sqrt(dof[i] / rng.chisquare(dof[i], (BOOTSTRAP, 1)))
        again = drawn * rng.standard_normal((BOOTSTRAP, len(root))) / root @ leave[i].T
        tries = scatter[i] * rng.standard_normal((TRIES, len(root))) / root @ leave[i].T
        seen = np.vstack([missed[i], tries])
        noise = scatter[i] ** 2 * (leave[i] ** 2 @ (1 / curves.count)).mean()
        squares = (seen**2).mean(1)
        # mean((seen + again)^2) over sizes, without an array of all sums
        redrawn = squares[:, None] + 2 * seen @ again.T / len(root) + (again**2).mean(1)
        upper = squares - noise - np.quantile(redrawn - noise - squares[:, None], 0.05, axis=1)
        best = max(squares[0] - noise, 0.0)
        out[:, i] = np.sqrt(best), np.sqrt(max(upper[0], best)), (upper[1:] < MISFIT**2).mean()
    return out


def held_out(curves: Curves) -> np.ndarray:
    """Which runs at the two largest sizes lie in the 95 % band of the power law fitted without them: (curves, runs).

    The law, with or without offset, is that with the lower criterion on the sizes that it is fitted to; the band is of
    single runs, by the fit's own scatter. No runs where fewer than three sizes are left, or too few runs.
    """
    early, late = curves.part(slice(None, -LEFT_OUT)), curves.part(slice(-LEFT_OUT, None))
    inside, lowest = np.zeros((len(curves.runs), late.there.sum()), bool), np.full(len(curves.runs), np.inf)
    for fit in (early.fit(TRIED[name]) for name in POWER) if len(early.size) > LEFT_OUT else ():
        if fit is None:
            continue
        jacobian, ahead = fit.jacobian(early.size), fit.jacobian(late.size)
        dof = early.count.sum() - fit.free.sum(1)
        sd = np.sqrt((fit.residual**2).sum(1) / np.maximum(dof, 1))
        known = np.linalg.pinv(np.swapaxes(jacobian, 1, 2) @ (early.count[:, None] * jacobian))
        spread = np.sqrt(1 + np.einsum("cij,cjk,cik->ci", ahead, known, ahead))
        half = (stats.t.ppf(0.975, np.maximum(dof, 1)) * sd)[:, None] * spread
        off = np.abs(late.runs - fit.at(late.size)[:, :, None]) <= half[:, :, None]
        better = fit.aicc < lowest
        inside[better], lowest = off[:, late.there][better], np.minimum(lowest, fit.aicc)
    return inside if np.isfinite(lowest).all() else inside[:, :0]


@dataclass(frozen=True)
class Outcome:
    """What the rules make of a claim: ``word`` (supported, refuted or undecided) and ``why``, a sentence or two."""

    word: str
    why: str

    def __str__(self):
        return f"**{self.word}**: {self.why}"


@dataclass(frozen=True)
class Claims:
    """The rules applied to the runs of a study.

    The rules' numbers of galaxies are those of the study's plan. A smaller preset has none so large: its curves are
    taken whole, and its two largest training sets tell of size.
    """

    runs: StudyRuns
    study: PlannedStudy | PretrainingStudy

    @cached_property
    def bound(self) -> float:
        """Change of the excess for ten times the parameters, within which size helps by less."""
        try:
            (file,) = input_files("data/plans/rules.toml")
            return float(tomllib.loads(file.read_text(encoding="utf-8"))["parameters"]["helps_by_less_than"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"data/plans/rules.toml is missing or damaged ({error}): restore it from git.") from None

    @cached_property
    def by_plan(self) -> bool:
        """Whether the runs are those of a plan."""
        return isinstance(self.study, PlannedStudy)

    @property
    def first(self) -> int:
        """Training galaxies from which a curve counts."""
        return 1000 if self.by_plan else self.study.n_train[0]

    @property
    def large(self) -> int:
        """Training galaxies from which the effect of size is measured."""
        return 8000 if self.by_plan else self.study.n_train[-2:][0]

    @cached_property
    def floors(self) -> xr.DataArray:
        """(question): loss of a perfect predictor, the total's first."""
        if self.runs.floors is None:
            raise UserError("The rules are about the loss above a perfect predictor's, which real galaxies do not tell.")
        return _with_total(xr.DataArray(self.runs.floor), self.runs.floors)

    @cached_property
    def excess(self) -> xr.DataArray:
        """(question, encoder, n_train, seed): loss above the floor [nats], ``total`` and the decidable questions."""
        few = [] if not self.by_plan else undecidable_questions()
        excess = _with_total(self.runs.loss, self.runs.questions) - self.floors
        return excess.sel(question=[q for q in excess["question"].values if q not in few])

    @cached_property
    def planned(self) -> list[str]:
        """Encoders that the study's design gives a curve of enough sizes."""
        sizes = pd.DataFrame([(c.encoder, c.n_train) for c, _ in self.study.jobs()], columns=["encoder", "n"])
        many = sizes[sizes.n >= self.first].groupby("encoder", sort=False).n.nunique() >= LEAST_SIZES
        return list(many.index[many])

    @cached_property
    def tested(self) -> list[str]:
        """Those of them whose runs make such a curve now, smallest first."""
        sizes = self._curves.isel(question=0).notnull().any("seed").sum("n_train")
        return [str(name) for name in sizes.encoder.values if sizes.sel(encoder=name) >= LEAST_SIZES]

    @property
    def lacking(self) -> list[str]:
        """Encoders whose curves have too few sizes as yet."""
        return [name for name in self.planned if name not in self.tested]

    @property
    def _curves(self) -> xr.DataArray:
        return self.excess.sel(n_train=slice(self.first, None))

    @cached_property
    def gain(self) -> xr.Dataset:
        """(question, encoder): slope of ln(excess) on ln(galaxies), interval, and ``holm``, the adjusted p-value.

        The totals are a family of tests of their own.
        """
        found = slope_test(self._curves.sel(encoder=self.tested), "n_train", level=1 - FAMILY)
        total, rest = found.p.sel(question=["total"]), found.p.drop_sel(question="total")
        return found.assign(holm=xr.concat([holm(total), holm(rest)], "question"))

    @cached_property
    def gains(self) -> xr.DataArray:
        """(question, encoder): whether the exponent is above zero."""
        return (self.gain.slope < 0) & (self.gain.holm < FAMILY)

    @cached_property
    def scatter(self) -> xr.Dataset:
        """(question): ``sd`` of ln(excess) of a run about the mean of its encoder and size, and its ``dof``."""
        logs = np.log(self._curves)
        over = ["encoder", "n_train", "seed"]
        dof = (logs.count("seed") - 1).clip(0).sum(["encoder", "n_train"])
        squares = ((logs - logs.mean("seed")) ** 2).sum(over)
        return xr.Dataset({"sd": np.sqrt(squares / dof.where(dof > 0)), "dof": dof})

    @cached_property
    def laws(self) -> pd.DataFrame:
        """One row a curve: AICc of each law, ``outcome``, ``misfit`` with its upper end and power, ``held`` and ``runs``.

        ``held`` counts the runs at the two largest sizes within the band fitted without them, ``runs`` all of them.
        """
        parts = []
        for encoder in self.tested:
            runs = self._curves.sel(encoder=encoder).dropna("n_train", how="all").transpose("question", "n_train", "seed")
            n = runs.n_train.values.astype(float)
            curves = Curves(n / np.exp(np.log(n).mean()), np.log(runs.values))
            fits = {name: fit for name, law in TRIED.items() if (fit := curves.fit(law)) is not None}
            part = pd.DataFrame({name: fits[name].aicc if name in fits else np.inf for name in TRIED})
            part["outcome"] = [verdict_of_laws(row) for row in part.to_dict("records")]
            shown = np.array([misfit(curves, fits[name], self.floors.sel(question=runs["question"]).values,
                                     self.scatter.sd.values, self.scatter.dof.values) for name in POWER])  # fmt: skip
            chosen = (part[POWER[1]] < part[POWER[0]]).to_numpy().astype(int)
            part["misfit"], part["upper"], part["power"] = shown[chosen, :, np.arange(len(chosen))].T
            inside = held_out(curves)
            part = part.assign(held=inside.sum(1), runs=inside.shape[1], encoder=encoder, question=runs["question"].values)
            parts.append(part)
        columns = ["question", "encoder", "outcome", *TRIED, "misfit", "upper", "power", "held", "runs"]
        return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)

    @cached_property
    def exponent(self) -> dict:
        """One exponent of the totals for all encoders, see :func:`gzlib.fitting.random_effects`."""
        total = self.gain.sel(question="total")
        half = stats.t.ppf(1 - FAMILY / 2, total.dof)
        return random_effects(-total.slope, (total.high - total.low) / 2 / half)

    @cached_property
    def effect(self) -> xr.Dataset:
        """(question): :func:`gzlib.fitting.encoder_effect` at the large training sets, the total's too."""
        return self._effect(self.excess.sel(n_train=slice(self.large, None)))

    def _effect(self, excess: xr.DataArray) -> xr.Dataset:
        excess = excess.dropna("encoder", how="all")
        at = {"encoder": excess.encoder}
        return encoder_effect(excess, parameters=self.runs.parameters.sel(at), family=self.runs.families.sel(at))

    @cached_property
    def helped(self) -> xr.DataArray:
        """(question): ``helps``, ``helps by less``, ``undecided`` or ``not tested``; false discoveries count questions."""
        return size_verdict(self.effect.drop_sel(question="total"), bound=self.bound)

    @cached_property
    def subjectivity(self) -> xr.DataArray:
        """(question): entropy of volunteers' answers that a galaxy's image leaves open [nats]; none where not measured."""
        measured = question_entropies()
        names = [q for q in self.excess["question"].values if q in measured]
        return xr.DataArray([measured[q]["left"] for q in names], {"question": names}, ["question"])


def _with_total(total: xr.DataArray, questions: xr.DataArray) -> xr.DataArray:
    return xr.concat([total.expand_dims(question=["total"]), questions], "question")


def undecidable_questions() -> list[str]:
    """Questions that the study's test galaxies were asked too rarely, as listed before the first run."""
    return list(_json("data/plans/questions.json", "undecidable", "benchmarks/questions.py --write"))


def question_entropies() -> dict[str, dict]:
    """For each question the entropy ``left`` open by an image and that ``before`` it is seen [nats]."""
    return _json(
        "data/benchmarks/subjectivity.json", "questions", "benchmarks/claims.py --subjectivity --write"
    )


def _json(pattern: str, name: str, script: str):
    try:
        (file,) = input_files(pattern)
        return json.loads(file.read_text(encoding="utf-8"))[name]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{pattern} is missing or damaged ({error}): restore it from git, or run `python {script}`."
        ) from None
