"""Volunteers: votes walk the tree, follow what can be seen, and imply an exact irreducible loss."""

import json
import runpy
from itertools import product

import numpy as np
import pytest
from scipy.special import gammaln

from gzlib import paths, sky
from gzlib.data.floor import attainable_loss, irreducible_loss
from gzlib.data.schema import load_schema
from gzlib.errors import UserError
from gzlib.sky import volunteers
from gzlib.sky.galaxies import look
from gzlib.sky.population import Draws
from gzlib.sky.volunteers import MOST_VOLUNTEERS, SHARE, asked_after, constants


@pytest.fixture(scope="module")
def crowd():
    """Two thousand galaxies of GZ2 with their chances and votes, without pictures."""
    schema = load_schema("gz2")
    draws, seen = look("gz2", np.arange(2000), seed=11)
    by_kind = volunteers.kind_probabilities(schema, seen)
    size = volunteers.crowd_size("gz2", draws)
    return schema, seen, by_kind, size, volunteers.cast_votes(schema, by_kind, size, draws)


@pytest.mark.parametrize("campaign", sky.CAMPAIGNS)
def test_no_question_gets_more_votes_than_led_to_it(campaign):
    schema = load_schema(campaign)
    draws, seen = look(campaign, np.arange(300), seed=0)
    size = volunteers.crowd_size(campaign, draws)
    votes = volunteers.cast_votes(schema, volunteers.kind_probabilities(schema, seen), size, draws)
    totals = schema.question_totals(votes)
    column = {name: i for i, name in enumerate(schema.label_cols)}
    for position, question in enumerate(schema.questions):
        parents = asked_after(question)
        reached = votes[:, [column[p] for p in parents]].sum(1) if parents else size
        assert np.array_equal(totals[:, position], reached), question.name
        if question.asked_after is not None:
            assert (totals[:, position] <= votes[:, column[question.asked_after]]).all(), question.name
    assert totals[:, 0].min() >= 3 and totals[:, 0].max() <= MOST_VOLUNTEERS


def test_votes_follow_the_true_probabilities(crowd):
    schema, _, by_kind, _, votes = crowd
    chance, totals = volunteers.answer_probabilities(schema, by_kind), schema.question_totals(votes)
    for position, question in enumerate(schema.questions):
        expected = (chance[:, question.columns] * totals[:, position, None]).sum(0)
        variance = (chance * (1 - chance))[:, question.columns] * totals[:, position, None]
        error = np.abs(votes[:, question.columns].sum(0) - expected) / np.sqrt(variance.sum(0) + 1)
        assert error.max() < 4.5, (question.name, error)


def test_votes_depend_on_what_can_be_seen(crowd):
    schema, seen, by_kind, _, _votes = crowd
    chance = volunteers.answer_probabilities(schema, by_kind)
    column = {name: chance[:, i] for i, name in enumerate(schema.label_cols)}
    assert np.corrcoef(seen["arms"], column["has-spiral-arms-gz2_yes"])[0, 1] > 0.7
    assert np.corrcoef(seen["axis_ratio"], column["how-rounded-gz2_round"])[0, 1] > 0.7
    assert np.corrcoef(seen["bar"], column["bar-gz2_yes"])[0, 1] > 0.6


def test_blur_hides_structure_and_moves_votes():
    schema = load_schema("gz2")
    _, seen = look("gz2", np.arange(500), seed=0)
    spiral = seen["arms"] > 0.3
    blurred = seen | {"arms": 0.2 * seen["arms"], "disc": 0.5 * seen["disc"]}
    position = schema.label_cols.index("smooth-or-featured-gz2_featured-or-disk")
    sharp, dull = (volunteers.answer_probabilities(schema, volunteers.kind_probabilities(schema, s))[spiral, position]
                   for s in (seen, blurred))  # fmt: skip
    assert spiral.sum() > 20 and (dull < sharp).all()


def test_volunteers_differ_in_ability(crowd):
    schema, _seen, by_kind, _, _ = crowd
    round_chance = by_kind[schema.questions.index(schema["how-rounded-gz2"])]
    spread = np.abs(round_chance[:, 0, 0] - round_chance[:, -1, 0])
    assert spread.mean() > 0.1 and SHARE.sum() == pytest.approx(1)


def test_dr5_has_few_votes_for_most_galaxies_and_gz2_many_for_all():
    few = volunteers.crowd_size("dr5", Draws("dr5", np.arange(2000), seed=0))
    many = volunteers.crowd_size("gz2", Draws("gz2", np.arange(2000), seed=0))
    assert np.median(few) < 10 and (few > 30).mean() > 0.2
    assert 38 < many.mean() < 46 and many.min() >= 15


def test_irreducible_loss_equals_full_enumeration():
    schema = load_schema("gz2")
    rng = np.random.default_rng(0)
    probabilities = np.concatenate([rng.dirichlet(np.ones(len(q.answers)), 2) for q in schema.questions], axis=1)
    totals = np.zeros((2, len(schema.questions)), int)
    totals[0, 0], totals[1, 0] = 5, 3
    expected = 0.0
    for row, total in enumerate((5, 3)):
        p = probabilities[row, schema.questions[0].columns]
        for k in product(range(total + 1), repeat=3):
            if sum(k) == total:
                log_chance = (
                    gammaln(total + 1)
                    - sum(gammaln(v + 1) for v in k)
                    + sum(v * np.log(q) for v, q in zip(k, p, strict=True))
                )
                expected -= np.exp(log_chance) * log_chance
    result = irreducible_loss(probabilities, totals, schema)
    assert result[schema.questions[0].name] == pytest.approx(expected / 2, rel=1e-9)
    assert result["total"] == pytest.approx(expected / 2, rel=1e-9)


def test_irreducible_loss_is_the_mean_loss_of_the_true_multinomial(crowd):
    schema, _, by_kind, _, votes = crowd
    chance, totals = volunteers.answer_probabilities(schema, by_kind), schema.question_totals(votes)
    floor = irreducible_loss(chance, totals, schema)
    for position, question in enumerate(schema.questions):
        k, p = votes[:, question.columns], chance[:, question.columns]
        loss = -(gammaln(totals[:, position] + 1) - gammaln(k + 1).sum(1) + (k * np.log(p)).sum(1))
        assert abs(loss.mean() - floor[question.name]) < 5 * loss.std() / np.sqrt(len(loss)), question.name


def test_irreducible_loss_of_certain_answers_and_of_no_votes_is_zero():
    schema = load_schema("gz2")
    certain = np.concatenate([np.eye(len(q.answers))[:1] for q in schema.questions], axis=1)
    assert irreducible_loss(certain, np.full((1, len(schema.questions)), 40), schema)["total"] == pytest.approx(
        0, abs=1e-6
    )
    unasked = np.full((1, len(schema.label_cols)), np.nan)
    assert irreducible_loss(unasked, np.zeros((1, len(schema.questions)), int), schema)["total"] == 0


def test_irreducible_loss_refuses_mismatched_shapes():
    with pytest.raises(UserError, match="30 answers"):
        irreducible_loss(np.zeros((2, 4)), np.zeros((2, 10), int), load_schema("gz2"))


def test_calibrated_constants_cover_gz2_and_the_first_question_of_decals():
    schema = load_schema("gz2")
    for question in (*schema.questions, load_schema("dr5")["smooth-or-featured-dr5"]):
        known = constants()[question.name]
        assert set(known["offset"]) == {a.lstrip("_") for a in question.answers} and known["gain"] > 0


def test_mean_fractions_of_gz2_stay_near_the_published_votes(crowd):
    """Real means of GZ2 Stripe 82 (19,761 galaxies): smooth .638, featured .292, artifact .070; odd .219."""
    schema, _, by_kind, _, _ = crowd
    mean = volunteers.answer_probabilities(schema, by_kind).mean(0)
    np.testing.assert_allclose(mean[:3], [0.638, 0.292, 0.070], atol=0.05)
    assert abs(mean[schema.label_cols.index("something-odd-gz2_yes")] - 0.219) < 0.05


def test_a_bounded_head_pays_more_than_the_floor_and_little_more(crowd):
    schema, _, by_kind, _, votes = crowd
    chance, totals = volunteers.answer_probabilities(schema, by_kind), schema.question_totals(votes)
    floor = irreducible_loss(chance, totals, schema)
    bounded = attainable_loss(chance, totals, schema)
    unbounded = attainable_loss(chance, totals, schema, low=1e-6, high=1e7)
    for name in floor:
        assert floor[name] < bounded[name] < 1.35 * floor[name], name
        assert unbounded[name] == pytest.approx(floor[name], rel=2e-3), name


def test_reach_is_the_share_of_volunteers_asked(crowd):
    schema, _, by_kind, size, votes = crowd
    asked = schema.question_totals(votes).sum(0) / size.sum()
    np.testing.assert_allclose(volunteers.reach_probabilities(schema, by_kind).mean(0), asked, atol=0.01)


def report():
    return json.loads((paths.ROOT / "data" / "benchmarks" / "sky_votes.json").read_text(encoding="utf-8"))


def test_the_committed_report_covers_every_calibrated_question_and_meets_its_goals():
    assert {record["name"].removeprefix("votes.") for record in report()} == set(constants())
    for record in report():
        assert record["ok"] and record["value"] <= 0.08 and record["detail"]["mean_gap"] <= 0.05, record["name"]
        assert abs(np.subtract(*record["detail"]["entropy"])) < 0.05, record["name"]


@pytest.mark.slow
def test_the_committed_report_is_what_the_present_sky_gives():
    votes = paths.ROOT.parent / "shared" / "data" / "votes"
    if not votes.is_dir():
        pytest.skip(f"the real votes are not in {votes}")
    benchmark = runpy.run_path(str(paths.ROOT / "benchmarks" / "sky_votes.py"))
    for now, then in zip(benchmark["report"](12000, "report"), report(), strict=True):
        assert now["name"] == then["name"] and now["value"] == pytest.approx(then["value"], abs=2e-3), now["name"]
        np.testing.assert_allclose(now["detail"]["simulated"], then["detail"]["simulated"], atol=2e-3)


def test_tails_pass_for_arms_with_some_volunteers():
    schema = load_schema("gz2")
    _, seen = look("gz2", np.arange(300), seed=0)
    position = schema.label_cols.index("has-spiral-arms-gz2_yes")
    without, with_tail = (
        volunteers.answer_probabilities(schema, volunteers.kind_probabilities(schema, seen | {"tail": tail}))
        for tail in (0 * seen["tail"], 0 * seen["tail"] + 0.8)
    )
    assert (with_tail[:, position] > without[:, position]).all()
