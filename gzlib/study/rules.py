"""The paper's claims about galaxies and parameters, decided by the rules that stand in ``data/plans/rules.toml``.

The rules were written before the runs. What they call *excess* is the loss above that of a perfect predictor; a curve
is the total of one encoder or one question with one encoder, on all its runs. Everything here works in ln(excess),
where a power law is a straight line and the scatter of the seeds is alike at all sizes.
"""

import json
import tomllib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from gzlib.errors import UserError
from gzlib.fitting import encoder_effect, holm, random_effects, size_verdict, slope_test
from gzlib.fitting.claims import EXCESS_LAWS, LEFT_OUT, MISFIT, POWER_LAWS, Curves, held_out, misfit, verdict_of_laws
from gzlib.fitting.curves import log_of
from gzlib.identity import file_hash
from gzlib.study.presets import PlannedStudy, PretrainingStudy
from gzlib.study.results import StudyRuns
from gzlib.study.tables import measured, number, share
from gzlib.trace import input_files

FAMILY = 0.05  # error of a family of tests
LEAST_SIZES = 4  # of a curve
GAIN, DESCRIBED, REFUTED = 0.95, 0.80, 0.50  # shares of question curves that the rules of the first claim name
ALIKE = 0.20  # spread of the exponents over their mean, up to which one serves all


@dataclass(frozen=True)
class Outcome:
    """What the rules make of a claim or a part of one.

    Attributes
    ----------
    found : str
        ``supported``, ``refuted`` or ``undecided``, by the runs that there are; or for how many curves it holds.
    why : str
        The numbers, as a sentence or two.
    needs : str
        What is missing before a rule can decide; empty if nothing is.
    """

    found: str
    why: str
    needs: str = ""

    @property
    def word(self) -> str:
        """``found``, or ``undecided`` as long as something is missing."""
        return "undecided" if self.needs else self.found

    @property
    def text(self) -> str:
        """What is missing, and the numbers."""
        if not self.needs:
            return self.why
        so_far = "" if self.found == "undecided" else f" (by these alone it would be {self.found})"
        return f"needs {self.needs}. By the runs so far{so_far}: {self.why}"

    def __str__(self):
        return f"{self.word}: {self.text}"


MANY_RUNS = 11  # of one encoder, from which a single curve has many runs, in words alone: no part of a rule


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
        """(question): loss of a perfect predictor, the total's first; zero where it is not known."""
        questions = self.runs.questions["question"]
        floors = xr.zeros_like(questions, float) if self.runs.floors is None else self.runs.floors
        return _with_total(xr.DataArray(self.runs.floor or 0.0), floors)

    @property
    def excess_words(self) -> str:
        """What the curves are of."""
        return "loss" if self.runs.floors is None else "loss above the floor"

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
        """Encoders whose curves have too few sizes so far."""
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
        logs = log_of(self._curves)
        over = ["encoder", "n_train", "seed"]
        dof = (logs.count("seed") - 1).clip(0).sum(["encoder", "n_train"])
        squares = ((logs - logs.mean("seed")) ** 2).sum(over)
        return xr.Dataset({"sd": np.sqrt(squares / dof.where(dof > 0)), "dof": dof})

    @cached_property
    def laws(self) -> pd.DataFrame:
        """One row a curve: AICc of each law, ``outcome``, ``misfit``, its ``upper`` end, ``power``, ``held``, ``runs``.

        ``held`` counts the runs at the two largest sizes within the band fitted without them, ``runs`` all of them.
        """
        parts, names = [], self.excess["question"].values
        noise = self.scatter.sd.values, self.scatter.dof.values
        for encoder in self.tested:
            runs = self._curves.sel(encoder=encoder).dropna("n_train", how="all")
            n = runs.n_train.values.astype(float)
            curves = Curves(n / np.exp(np.log(n).mean()), np.log(runs.transpose("question", "n_train", "seed").values))
            fits = {name: fit for name, law in EXCESS_LAWS.items() if (fit := curves.fit(law)) is not None}
            part = pd.DataFrame({name: fits[name].aicc if name in fits else np.inf for name in EXCESS_LAWS})
            part["outcome"] = [
                verdict_of_laws({name: row[name] for name in EXCESS_LAWS}) for row in part.to_dict("records")
            ]
            ends = np.array([misfit(curves, fits[name], self.floors.sel(question=names).values, *noise)
                             for name in POWER_LAWS])  # fmt: skip
            chosen = (part[POWER_LAWS[1]] < part[POWER_LAWS[0]]).to_numpy().astype(int)
            part["misfit"], part["upper"], part["power"] = ends[chosen, :, np.arange(len(chosen))].T
            inside = held_out(curves)
            parts.append(part.assign(held=inside.sum(1), runs=inside.shape[1], encoder=encoder, question=names))
        columns = ["question", "encoder", "outcome", *EXCESS_LAWS, "misfit", "upper", "power", "held", "runs"]
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
        """(question): ``helps``, ``helps by less``, ``undecided`` or ``not tested``."""
        return size_verdict(self.effect.drop_sel(question="total"), bound=self.bound)

    @cached_property
    def subjectivity(self) -> xr.DataArray:
        """(question): entropy of volunteers' answers that a galaxy's image leaves open [nats]."""
        measured = question_entropies() if self.runs.kind == "simulated galaxies" else {}
        names = [q for q in self.excess["question"].values if q in measured]
        return xr.DataArray([measured[q]["left"] for q in names], {"question": names}, ["question"])

    # For figures, tables and prose

    def exponents(self, level: float = 1 - FAMILY) -> xr.Dataset:
        """(question, encoder): ``estimate``, ``low``, ``high`` of the exponent; all encoders where none has a curve."""
        encoders = self.tested or [str(name) for name in self._curves.encoder.values]
        found = slope_test(self._curves.sel(encoder=encoders), "n_train", level=level)
        return xr.Dataset({"estimate": -found.slope, "low": -found.high, "high": -found.low})

    def effects(self) -> xr.Dataset:
        """(question): effect of ten times the parameters with the ends of its interval."""
        found = self.effect.drop_sel(question="total")
        return xr.Dataset({"estimate": found.slope, "low": found.low, "high": found.high})

    def power_of_gain_words(self) -> str:
        """What few runs and the correction for many curves have to do with how many curves fall, in sentences."""
        if not self.tested:
            return ""
        falls, one = (part.drop_sel(question="total") for part in (self.gains, self.gain))
        runs = self._curves.sel(encoder=self.tested, question="total").count(["n_train", "seed"])
        many = (runs >= MANY_RUNS).values
        parts = [share(falls.isel(encoder=np.flatnonzero(chosen)).values) for chosen in (many, ~many) if chosen.any()]
        told = (
            f" with {MANY_RUNS} runs or more, and {parts[1]} of those with fewer"
            if many.any() and not many.all()
            else ""
        )
        alone = (one.slope < 0) & (one.p < FAMILY)
        return (
            f"The test asks much of few runs: {parts[0]} question curves{told} fall. Without the correction for"
            f" {falls.size} curves, {share(alone.values)} would, and the fitted slope is negative on"
            f" {share((one.slope < 0).values)}; by the rule neither count decides."
        )

    def curves_words(self) -> str:
        """Which encoders have curves that the rules can judge, as a sentence."""
        if not self.planned:
            return f"No encoder of this design has {LEAST_SIZES} sizes, so no curve is judged."
        late = f"; {', '.join(self.lacking)} do not yet" if self.lacking else ""
        all_ = len({c.encoder for c, _ in self.study.jobs()})
        return (
            f"The design gives {len(self.planned)} of its {all_} encoders enough sizes for that;"
            f" {len(self.tested)} of them have such curves{late}."
        )

    def checked_words(self) -> str:
        """How often the comparison of laws errs on simulated curves of the plan's design, as a sentence."""
        table = measured("claims").set_index("name").value
        rates = {
            kind: table[[name for name in table.index if name in {f"claims.{what}.{law}" for law in laws}]]
            for kind, what, laws in (
                ("false", "beaten", ("power", "power-offset")),
                ("true", "beaten", ("logarithmic", "exponential")),
                ("held", "held_out", ("power", "power-offset")),
            )
        }
        if not all(len(values) for values in rates.values()):
            return "How often this errs has not been simulated here yet."
        low, high, found, held = (
            number(100 * value, ".0f")
            for value in (rates["false"].min(), rates["false"].max(), rates["true"].min(), rates["held"].min())
        )
        least = "" if found == "100" else "at least "
        names, again = [f"claims.beaten.{law}.falling" for law in ("power", "power-offset", "logarithmic")], ""
        if set(names) <= set(table.index):
            false, true = (number(100 * value, ".0f") for value in (table[names[:2]].max(), table[names[2]]))
            again = (
                " Where seeds differ less on more galaxies, which this comparison does not know, that is at most"
                f" {false} % and, for a logarithm, {true} %; the band then holds more than it says."
            )
        return (
            "On simulated curves with the runs of one encoder of the plan, a power law that made the runs is called"
            f" beaten on {low} to {high} %, one that did not on {least}{found} %; the band for held-out sizes has"
            f" at least {held} % of their runs.{again}"
        )

    def units_words(self) -> str:
        """How many encoders tell the effect of size."""
        total = self.effect.sel(question="total")
        large = self.excess.sel(question="total", n_train=slice(self.large, None)).dropna("encoder", how="all")
        families = len(set(self.runs.families.sel(encoder=large.encoder).values))
        return f"{int(total.encoders)} encoders of {families} famil{'ies' if families > 1 else 'y'}"

    def freedom_words(self) -> str:
        """The degrees of freedom of that, with their verb."""
        dof = int(np.nan_to_num(float(self.effect.sel(question="total")["dof"])))
        return {0: "is not one degree of freedom", 1: "is one degree of freedom"}.get(
            dof, f"are {dof} degrees of freedom"
        )

    def short_power_law(self) -> str:
        """The first claim in a table's cell."""
        if not self.tested:
            return self.curves_words()
        laws = self.laws[self.laws.question != "total"]
        described = laws.outcome.isin(["best", "tied"])
        return (
            f"{self.excess_words} falls for {share(self.gains.sel(question='total'))} totals and"
            f" {share(self.gains.drop_sel(question='total'))} curves of questions; power law best or tied for"
            f" {share(described)}; exponent {number(self.exponent['mean'], '.3f')}"
        )

    def short_parameters(self) -> str:
        """The second claim in a table's cell."""
        count = {word: int((self.helped == word).sum()) for word in ("helps", "helps by less")}
        left = self.helped.size - sum(count.values())
        value, low, high = (number(v, "+.2f") for v in self.correlation)
        return (
            f"{count['helps']} questions helped, {count['helps by less']} changed by less than"
            f" {100 * self.bound:.0f} %, {left}"
            f" undecided; correlation with subjectivity {value} ({low} to {high})"
        )

    def by_campaign(self) -> pd.DataFrame:
        """How many curves of questions fall, and for how many the power law is best, tied, beaten and close."""
        laws = self.laws[self.laws.question != "total"]
        falls = self.gains.to_series().rename("falls").reset_index()
        laws = laws.merge(falls, on=["question", "encoder"])
        laws["campaign"] = [self.runs.schema[q].campaign for q in laws.question]
        groups = laws.groupby("campaign", sort=False)
        table = pd.DataFrame(
            {"questions": groups.question.nunique(), "curves": groups.size(), "fall": groups.falls.sum()}
        )
        for word in ("best", "tied", "beaten"):
            table[word] = (laws.outcome == word).groupby(laws.campaign, sort=False).sum()
        table["misfit below 1 %"] = groups.upper.agg(lambda column: int((column < MISFIT).sum()))
        table["held"] = [
            f"{held:,} of {runs:,}" for held, runs in zip(groups.held.sum(), groups.runs.sum(), strict=True)
        ]
        return table.reset_index()

    def beaten(self) -> pd.DataFrame:
        """Questions whose power law is beaten with some encoder, by which law, and the median lead in AICc."""
        laws = self.laws[(self.laws.question != "total") & (self.laws.outcome == "beaten")]
        others = laws[[name for name in EXCESS_LAWS if name not in POWER_LAWS]]
        laws = laws.assign(law=others.idxmin(axis=1), lead=laws[list(POWER_LAWS)].min(axis=1) - others.min(axis=1))
        groups = laws.groupby("question", sort=False)
        table = pd.DataFrame({"encoders": groups.size(), "lead": groups.lead.median()})
        table.insert(1, "by", groups.law.agg(lambda column: ", ".join(dict.fromkeys(column))))
        return table.sort_values("lead", ascending=False).reset_index()

    def rules_kept(self) -> str:
        """How many runs were made with the rules as they stand, in words."""
        hashes = [record["provenance"].get("rules") for record in self.runs.records]
        if not any(hashes):
            return "These runs are not the plan's: the same rules are applied to them, to show how they work."
        (file,) = input_files("data/plans/rules.toml")
        now = file_hash(file)[:16]
        return f"{share([one == now for one in hashes])} runs keep the hash of these rules, `{now}`, in their records."

    # What is missing

    def _lacks(self, encoders: list[str], what: str) -> str:
        return f"{what} {len(encoders)} more encoder{'s' * (len(encoders) > 1)}" if encoders else ""

    @cached_property
    def absent(self) -> list[str]:
        """Encoders that the design tries at the large training sets, and that have no run there yet."""
        wanted = dict.fromkeys(c.encoder for c, _ in self.study.jobs() if c.n_train >= self.large)
        large = self.excess.sel(question="total", n_train=slice(self.large, None))
        made = set(large.dropna("encoder", how="all").encoder.values)
        return [name for name in wanted if name not in made]

    # The outcomes

    @property
    def power_law(self) -> Outcome:
        """Claim 1: more galaxies give a power-law gain, for every architecture and every question."""
        needs = self._lacks(self.lacking, f"{LEAST_SIZES} sizes from {self.first:,} galaxies on for")
        if not self.tested:
            return Outcome("undecided", f"no encoder has {LEAST_SIZES} sizes from {self.first:,} galaxies on", needs)
        totals, questions = self.gains.sel(question="total").values, self.gains.drop_sel(question="total").values
        laws = self.laws[self.laws.question != "total"].outcome
        count = {word: int((laws == word).sum()) for word in ("best", "tied", "beaten", "")}
        described = (count["best"] + count["tied"]) / len(laws)
        found = "undecided"
        if totals.all() and questions.mean() >= GAIN and described >= DESCRIBED:
            found = "supported"
        if not totals.all() or count["beaten"] > REFUTED * len(laws):
            found = "refuted"
        untested = f", not compared on {count['']}, which have too few runs" if count[""] else ""
        why = (
            f"the {self.excess_words} falls for {share(totals)} totals and {share(questions)} curves of a question"
            f" with an encoder (asked: all, and {100 * GAIN:.0f} %); on the latter the power law is the best of"
            f" {len(EXCESS_LAWS) - 1} laws for {count['best']}, tied for {count['tied']} and beaten for"
            f" {count['beaten']}{untested} (asked: best or tied for {100 * DESCRIBED:.0f} %)"
        )
        return Outcome(found, why, needs)

    @property
    def equivalence(self) -> Outcome:
        """For which curves the power law's misfit is shown to be below one per cent of the loss."""
        known = self.laws.dropna(subset="upper")
        if known.empty:
            return Outcome("undecided", "no curve of enough sizes, or no size with two runs to tell the seeds' scatter")
        parts = {"totals": known.question == "total", "curves of questions": known.question != "total"}
        said = []
        for name, rows in parts.items():
            power, typical = known.power[rows].mean(), 100 * known.misfit[rows].median()
            said.append(f"{share(known.upper[rows] < MISFIT)} {name} (power {number(power, '.2f')}, median misfit"
                        f" {number(typical, '.2f')} %)")  # fmt: skip
        why = f"a misfit below {100 * MISFIT:.0f} % of the loss is shown for {' and '.join(said)}"
        return Outcome(f"holds for {share(known.upper < MISFIT)} curves", why)

    @property
    def held_out(self) -> Outcome:
        """For which curves the law, fitted without the two largest sizes, has all runs there in its band."""
        known = self.laws[self.laws.runs > 0]
        if known.empty:
            return Outcome("undecided", f"no curve has {LEFT_OUT + 3} sizes, two of them to be left out")
        total, rest = (known[known.question == "total"], known[known.question != "total"])
        why = (
            "fitted without the two largest sizes, the 95 % band holds"
            f" {total.held.sum():,} of {total.runs.sum():,} runs there for totals"
            f" and {rest.held.sum():,} of {rest.runs.sum():,} for questions"
        )
        return Outcome(f"holds for {share(known.held == known.runs)} curves", why)

    @property
    def one_exponent(self) -> Outcome:
        """Whether one exponent serves the totals of all encoders."""
        needs = self._lacks(self.lacking, f"{LEAST_SIZES} sizes from {self.first:,} galaxies on for")
        if not self.tested or not np.isfinite((all_ := self.exponent)["mean"]):
            return Outcome("undecided", "fewer than two totals have an exponent", needs)
        limit = ALIKE * all_["mean"]
        found = "supported" if all_["spread_high"] < limit else "refuted" if all_["spread_low"] > limit else "undecided"
        mean, low, high, *_ = (number(all_[name], ".3f") for name in ("mean", "low", "high"))
        why = (
            f"over {all_['estimates']} encoders the exponent of the excess is {mean} ({low} to {high}); encoders differ"
            f" by a standard deviation of {number(all_['spread'], '.3f')} (95 %: {number(all_['spread_low'], '.3f')} to"
            f" {number(all_['spread_high'], '.3f')}; one serves all below {number(limit, '.3f')})"
        )
        return Outcome(found, why, needs)

    @property
    def parameters(self) -> Outcome:
        """Claim 2: parameters help only some questions."""
        needs = self._lacks(self.absent, f"runs with {self.large:,} galaxies or more for")
        if not (self.helped != "not tested").any():
            encoders = int(np.nanmax(self.effect.encoders))
            why = f"{encoders} encoders with runs that large leave no degree of freedom to tell their own scatter by"
            return Outcome("undecided", why, needs)
        count = {word: int((self.helped == word).sum()) for word in ("helps", "helps by less", "undecided")}
        decided = count["helps"] + count["helps by less"]
        enough = count["helps"] and count["helps by less"] and decided >= 0.5 * self.helped.size
        total = self.effect.sel(question="total")
        change, low, high = (number(100 * np.expm1(float(total[n])), "+.1f") for n in ("slope", "low", "high"))
        why = (
            f"of {self.helped.size} questions {count['helps']} are helped, {count['helps by less']} change by less than"
            f" {100 * self.bound:.0f} % of the excess for ten times the parameters, and {count['undecided']} stay"
            f" undecided, with {_degrees(total)}; the total"
            f" changes by {change} % ({low} to {high} %)"
        )
        return Outcome("supported" if enough else "undecided", why, needs)

    @cached_property
    def correlation(self) -> tuple[float, float, float]:
        """Spearman's correlation over questions between the effect of size and subjectivity, and its 95 % interval."""
        slope = self.effect.slope.sel(question=self.subjectivity["question"]).values
        return spearman(slope, self.subjectivity.values)

    @property
    def subjective(self) -> Outcome:
        """Claim 2: those are mostly the subjective questions."""
        needs = self._lacks(self.absent, f"runs with {self.large:,} galaxies or more for")
        if not np.isfinite(self.correlation[0]):
            return Outcome("undecided", "the effect of size or the volunteers' disagreement is not known", needs)
        found = "supported" if self.correlation[2] < 0 else "refuted" if self.correlation[1] > 0 else "undecided"
        value, low, high = (number(v, "+.2f") for v in self.correlation)
        why = (
            f"over {self.subjectivity.size} questions the effect of size and the disagreement of volunteers about one"
            f" image have Spearman’s correlation {value} ({low} to {high}; below zero: subjective questions gain more)"
        )
        return Outcome(found, why, needs)

    @property
    def quarter(self) -> Outcome:
        """Whether size stops helping with a quarter of the galaxies."""
        all_ = max(c.n_train for c, _ in self.study.jobs())
        part = all_ // 4
        slopes = {}
        for n in (part, all_):
            if n in self.excess.n_train.values:
                one = self._effect(self.excess.sel(question="total", n_train=[n]))
                if np.isfinite(one.slope):
                    slopes[n] = one
        needs = " and ".join(f"{n:,} galaxies" for n in (part, all_) if n not in slopes)
        said = []
        for n, one in slopes.items():
            ends = (float(one[name]) for name in ("slope", "inner_low", "inner_high"))
            value, low, high = (number(100 * np.expm1(end), "+.1f") for end in ends)
            said.append(
                f"with {n:,} galaxies ten times the parameters change the total’s excess by {value} % (90 %: {low} to"
                f" {high} %; {int(one.encoders)} encoders)"
            )
        found = "undecided"
        if part in slopes:
            edge = np.log1p(self.bound)
            least, most = float(slopes[part].inner_low), float(slopes[part].inner_high)
            found = "supported" if -edge < least and most < edge else found
            found = "refuted" if most < -edge or least > edge else found
        return Outcome(found, "; ".join(said) or "too few encoders have runs there", needs)

    def table(self) -> pd.DataFrame:
        """Every rule with its outcome, in words."""
        rules = {
            "Power-law gain for every architecture and question": self.power_law,
            "The power law’s misfit is below 1 % of the loss": self.equivalence,
            "The two largest sizes lie where the law says": self.held_out,
            "One exponent serves all architectures": self.one_exponent,
            "Parameters help only some questions": self.parameters,
            "Those are the more subjective ones": self.subjective,
            "Size stops helping with a quarter of the galaxies": self.quarter,
        }
        rows = [[rule, found.word, found.text] for rule, found in rules.items()]
        return pd.DataFrame(rows, columns=["rule", "outcome", "what the runs say"])


def spearman(x: np.ndarray, y: np.ndarray, *, draws: int = 2000) -> tuple[float, float, float]:
    """Spearman's rank correlation and its 95 % interval by a bootstrap over the pairs; pairs with NaN are left out."""
    known = np.isfinite(x) & np.isfinite(y)
    if known.sum() < 4:
        return np.nan, np.nan, np.nan
    pairs, rng = np.stack([x[known], y[known]], 1), np.random.default_rng(0)
    ranks = stats.rankdata(pairs[rng.integers(0, len(pairs), (draws, len(pairs)))], axis=1)
    away = ranks - ranks.mean(1, keepdims=True)
    drawn = (away[..., 0] * away[..., 1]).sum(1) / np.sqrt((away[..., 0] ** 2).sum(1) * (away[..., 1] ** 2).sum(1))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(stats.spearmanr(*pairs.T).statistic), float(low), float(high)


def _degrees(effect: xr.Dataset) -> str:
    """How many encoders tell the effect of size, in words."""
    dof = int(effect["dof"])
    return f"{int(effect.encoders)} encoders and {dof} degree{'s' * (dof != 1)} of freedom"


def _with_total(total: xr.DataArray, questions: xr.DataArray) -> xr.DataArray:
    return xr.concat([total.expand_dims(question=["total"]), questions], "question")


def undecidable_questions() -> list[str]:
    """Questions that the study's test galaxies were asked too rarely, as listed before the first run."""
    return list(_json("data/plans/questions.json", "undecidable", "benchmarks/questions.py --write"))


def question_entropies() -> dict[str, dict]:
    """For each question the entropy ``left`` open by an image and that ``before`` it is seen [nats]."""
    return _json("data/benchmarks/subjectivity.json", "questions", "benchmarks/claims.py --subjectivity --write")


def _json(pattern: str, name: str, script: str):
    try:
        (file,) = input_files(pattern)
        return json.loads(file.read_text(encoding="utf-8"))[name]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{pattern} is missing or damaged ({error}): restore it from git, or run `python {script}`."
        ) from None
