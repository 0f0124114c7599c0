"""The rules of the claims, applied to made-up runs whose outcome is known."""

import numpy as np
import pandas as pd
import pytest

from gzlib import paths
from gzlib.fitting import claims
from gzlib.fitting.claims import EXCESS_LAWS, Curves, held_out, misfit, verdict_of_laws
from gzlib.study import Claims, StudyRuns, rules
from gzlib.study.presets import PlannedStudy, pretraining_study
from gzlib.training import per_galaxy

SIZES = np.array([1000, 2000, 4000, 8000, 16000, 32000, 64000])
SCALED = SIZES / np.exp(np.log(SIZES).mean())


def made(excess, *, sd=0.005, seeds=3, curves=1, seed=0, sizes=SCALED):
    """Curves with this excess at each size and this scatter of ln(excess)."""
    noise = sd * np.random.default_rng(seed).standard_normal((curves, len(sizes), seeds))
    return Curves(sizes, np.log(np.asarray(excess))[None, :, None] + noise)


TRUTHS = {
    "power law": 5 * SCALED**-0.15,
    "power law and offset": 1 + 4 * SCALED**-0.4,
    "logarithmic": 5 - 0.9 * np.log(SCALED),
    "exponential": 2 + 3 * np.exp(-1.2 * SCALED),
    "broken once": 5 * SCALED**-0.05 * np.exp(-0.6 * np.maximum(np.log(SCALED / 1.0), 0)),
}


@pytest.mark.parametrize("name", EXCESS_LAWS)
def test_the_law_that_made_the_runs_has_the_lowest_criterion(name):
    curves = made(TRUTHS[name], curves=50)
    aicc = pd.DataFrame({law: curves.fit(EXCESS_LAWS[law]).aicc for law in EXCESS_LAWS})
    assert (aicc.idxmin(axis=1) == name).mean() > 0.6
    beaten = np.mean([verdict_of_laws(row) == "beaten" for row in aicc.to_dict("records")])
    assert beaten < 0.2 if name.startswith("power law") else beaten > 0.8
    fitted = curves.fit(EXCESS_LAWS[name])
    assert fitted.at(SCALED)[0] == pytest.approx(np.log(TRUTHS[name]), abs=0.01)


def test_laws_within_two_of_each_other_are_tied_and_too_few_runs_compare_nothing():
    names = dict.fromkeys(EXCESS_LAWS, 50.0)
    assert verdict_of_laws(names | {"power law": 41, "logarithmic": 42.5}) == "tied"
    assert verdict_of_laws(names | {"power law": 41, "logarithmic": 39.5}) == "tied"
    assert verdict_of_laws(names | {"power law and offset": 41, "logarithmic": 43.5}) == "best"
    assert verdict_of_laws(names | {"power law": 41, "broken once": 38.5}) == "beaten"
    assert verdict_of_laws(dict.fromkeys(EXCESS_LAWS, np.inf)) == ""


def test_a_misfit_is_found_with_its_size_and_no_misfit_is_shown_to_be_small():
    floor, curves = np.full(60, 17.0), 60
    known = np.full(curves, 0.01), np.full(curves, 40.0)
    exact = made(TRUTHS["power law"], sd=0.01, curves=curves)
    estimate, upper, power = misfit(exact, exact.fit(EXCESS_LAWS["power law"]), floor, *known)
    assert np.median(estimate) < 0.001 and (upper < claims.MISFIT).mean() > 0.95 and (power > 0.95).all()
    wave = np.exp(0.1 * np.array([1, -1, 1, -1, 1, -1, 1]))
    off = made(TRUTHS["power law"] * wave, sd=0.01, curves=curves)
    loss = 17 + TRUTHS["power law"] * wave
    fit = off.fit(EXCESS_LAWS["power law"])
    true = np.sqrt(np.mean(((17 + 5 * SCALED**-0.15) / loss - 1) ** 2))
    estimate, upper, _ = misfit(off, fit, floor, *known)
    assert np.median(estimate) == pytest.approx(true, rel=0.1) and (upper > claims.MISFIT).all()
    unknown = misfit(off, fit, floor, np.full(curves, np.nan), np.zeros(curves))
    assert np.isnan(unknown).all()


def test_a_small_misfit_is_wrongly_declared_as_often_as_the_level_says():
    """At a misfit of just one per cent it is shown to be below in about one of twenty."""
    wave = np.array([1, -1, 1, 0, -1, 1, -1])
    wave = np.exp(0.0497 * wave)
    curves = made(TRUTHS["power law"] * wave, sd=0.02, curves=300)
    clean = made(TRUTHS["power law"] * wave, sd=0.0)
    fit = clean.fit(EXCESS_LAWS["power law"])
    true = misfit(clean, fit, np.array([17.0]), np.array([1e-9]), np.array([40.0]))[0][0]
    assert true == pytest.approx(0.0101, abs=0.0003)
    known = np.full(300, 17.0), np.full(300, 0.02), np.full(300, 40.0)
    _, upper, _ = misfit(curves, curves.fit(EXCESS_LAWS["power law"]), *known)
    assert (upper < claims.MISFIT).mean() < 0.12


def test_runs_that_were_held_out_lie_in_the_band_as_often_as_it_says():
    curves = made(TRUTHS["power law"], sd=0.02, curves=200)
    inside = held_out(curves)
    assert inside.shape == (200, 6) and 0.9 < inside.mean() < 0.99
    bent = TRUTHS["power law"] * np.array([1, 1, 1, 1, 1, 0.7, 0.5])
    assert held_out(made(bent, sd=0.01)).mean() < 0.2
    assert held_out(made(TRUTHS["power law"][:4], sizes=SCALED[:4])).shape == (1, 0)


ENCODERS = {"resnet_w4": 2e4, "resnet_w8": 8e4, "resnet_w16": 3e5, "resnet_w28": 1e6, "resnet_w44": 2.4e6,
            "convnext_w16": 5.7e5, "convnext_w32": 2.2e6, "vit_w64": 3e5, "vit_w128": 1.2e6, "tinynet_e": 7.6e5,
            "tf_efficientnet_lite0": 3.4e6, "resnet_w6": 4.5e4, "resnet_w11": 1.5e5, "resnet_w22": 6e5}  # fmt: skip
HELPED = ("bar-gz2", "disk-edge-on-gz2")
QUESTIONS = (*HELPED, "smooth-or-featured-gz2", "has-spiral-arms-gz2", "bulge-size-gz2", "how-rounded-gz2")


def made_up(*, keep=lambda config: True, flat=False, scatter=0.0):
    """The plan's runs with known losses: power laws, steeper with size for two of six questions."""
    study = pretraining_study("study")
    records = []
    for config, _ in filter(lambda job: keep(job[0]), study.jobs()):
        rng = np.random.default_rng([len(config.encoder), config.n_train, config.seed, *config.encoder.encode()])
        own = np.random.default_rng([*config.encoder.encode()]).standard_normal()
        size, questions = np.log10(ENCODERS[config.encoder] / 1e5), {}
        for q in QUESTIONS:
            fall = 0 if flat else -0.2 * np.log(config.n_train / 1000)
            gain = -0.2 * size if q in HELPED else 0.0
            questions[q] = 1.0 + 0.4 * np.exp(fall + gain + scatter * own + 0.004 * rng.standard_normal())
        records.append(
            {
                "key": f"{config.encoder}-{config.n_train}-{config.seed}",
                "config": {"encoder": config.encoder, "n_train": config.n_train, "seed": config.seed},
                "metrics": {
                    "loss": sum(questions.values()),
                    "n_params": int(ENCODERS[config.encoder]),
                    "questions": questions,
                    "asked": dict.fromkeys(QUESTIONS, 2000),
                    "floor": {"loss": 6.0, "questions": dict.fromkeys(QUESTIONS, 1.0)},
                    "history": {"examples": [1], "val_loss": [1.0]},
                    "schema": "gz2",
                },
                "provenance": {"seconds": 1.0, "rules": "0"},
                "survey": {"source": "sim:gz2:9", "parts": [{"source": "sim:gz2:9", "simulated": True}]},
            }
        )
    return Claims(StudyRuns(records), study)


@pytest.mark.slow
def test_a_complete_study_of_power_laws_supports_the_claims():
    claims = made_up(scatter=0.002)
    assert len(claims.tested) == 11 and claims.lacking == [] and claims.absent == []
    assert claims.curves_words().startswith("The design gives 11 of its 14 encoders enough sizes for that; 11 of them")
    assert claims.power_law.word == "supported" and "11 of 11 totals" in claims.power_law.text
    assert claims.equivalence.word == "holds for 77 of 77 curves"
    assert claims.one_exponent.word == "supported" and claims.exponent["mean"] == pytest.approx(0.2, abs=0.01)
    assert (claims.helped.sel(question=list(HELPED)) == "helps").all()
    assert (claims.helped == "helps by less").sum() == 4
    assert claims.parameters.word == "supported"
    assert float(claims.effect.slope.sel(question="bar-gz2")) == pytest.approx(-0.2, abs=0.02)
    assert claims.table().outcome.tolist()[:2] == ["supported", "holds for 77 of 77 curves"]
    assert claims.rules_kept().startswith("0 of 157 runs keep the hash")
    counts = claims.by_campaign()
    assert counts[["campaign", "questions", "curves", "fall"]].values.tolist() == [["gz2", 6, 66, 66]]
    told = claims.power_of_gain_words()
    assert "66 of 66" in told and "negative on 66 of 66" in told


@pytest.mark.slow
def test_curves_that_do_not_fall_refute_the_first_claim():
    claims = made_up(flat=True)
    assert claims.power_law.word == "refuted" and "0 of 11 totals" in claims.power_law.text


def test_a_study_cut_short_decides_nothing_and_says_what_it_needs():
    claims = made_up(keep=lambda config: config.n_train <= 8000 and config.encoder in ("resnet_w8", "resnet_w16"))
    assert claims.tested == ["resnet_w8", "resnet_w16"] and claims.power_law.found == "supported"
    assert claims.power_law.word == "undecided"
    said = "needs 4 sizes from 1,000 galaxies on for 9 more encoders. By the runs so far (by these alone it would be"
    assert claims.power_law.text.startswith(said)
    assert claims.parameters.word == "undecided" and "no degree of freedom" in claims.parameters.text
    assert claims.quarter.text.startswith("needs 16,000 galaxies and 64,000 galaxies.")
    few = made_up(keep=lambda config: config.n_train < 4000)
    assert few.tested == [] and few.power_law.word == "undecided" and few.laws.empty and few.beaten().empty
    assert few.equivalence.word == few.held_out.word == few.one_exponent.word == "undecided"


def test_encoders_that_scatter_more_than_size_moves_them_are_not_called_helped():
    claims = made_up(scatter=0.5)
    assert (claims.helped == "undecided").all() and claims.parameters.word == "undecided"


def test_the_subjective_rule_reads_the_sign_and_the_interval():
    x = np.linspace(0, 1, 40)
    noise = np.random.default_rng(0).standard_normal(40)
    value, low, high = rules.spearman(-x + 0.1 * noise, x)
    assert value < -0.9 and low < value < high < 0
    value, low, high = rules.spearman(noise, x)
    assert low < 0 < high
    assert np.isnan(rules.spearman(x[:3], x[:3])).all()
    claims = made_up(scatter=0.002)
    object.__setattr__(claims, "correlation", (-0.5, -0.7, -0.2))
    assert claims.subjective.word == "supported"
    object.__setattr__(claims, "correlation", (0.5, 0.2, 0.7))
    assert claims.subjective.word == "refuted"


def test_volunteers_disagreement_is_known_for_every_question_of_the_plan():
    entropies = rules.question_entropies()
    assert len(entropies) == 88 and all(0 < one["left"] < one["before"] for one in entropies.values())
    assert rules.undecidable_questions() == []


def test_campaigns_count_as_in_the_papers_labels_and_the_record_of_each_galaxy_agrees():
    study = pretraining_study("laptop", plan="study", encoders=["resnet_w28"], n_train=[2000], seeds=[0])
    runs = StudyRuns(study.records())
    of = np.repeat(runs.schema.campaigns, 2000)
    shares = {"gz2": 191, "dr12": 82, "dr5": 225, "dr8": 94, "candels": 48, "hubble": 96, "cd": 45, "ukidss": 71}
    shares = pd.Series(shares)
    means = pd.Series(per_galaxy(runs.records[0])).groupby(of).mean()
    assert runs.loss.item() == pytest.approx((means * shares).sum() / shares.sum(), abs=1e-3)
    assert runs.floor < runs.loss.item() and sum(runs.galaxy_weights.values()) > 1


def test_the_plan_shows_stored_runs_and_trains_none(own_store):
    study = pretraining_study("laptop", plan="study")
    assert isinstance(study, PlannedStudy) and len(study.jobs()) == 157 and len(study.encoders) == 14
    assert study.n_train == (500, 1000, 2000, 4000, 8000, 16000, 32000, 64000)
    assert [job[0].seed for job in pretraining_study("laptop", plan="study", seeds=[2]).jobs()] == [2] * 30
    assert len(list(own_store.glob("*"))) == 0 if paths.BOOK_RUNS is None else True
    for changed in ({"source": "sim:gz2:700"}, {"size": 32}):
        assert not isinstance(pretraining_study("laptop", plan="study", n_train=[100], **changed), PlannedStudy)
    assert not isinstance(pretraining_study("smoke", plan="study"), PlannedStudy)
    assert not isinstance(pretraining_study("laptop", plan="none"), PlannedStudy)
