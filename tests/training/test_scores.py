"""Scores of predictions beside values known in other ways, and calibration on data whose truth is known."""

from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from gzlib.data.schema import load_schema, schema_from_records
from gzlib.data.sources import open_source
from gzlib.errors import UserError
from gzlib.training.evaluation import (
    PUBLISHED_CLASSES,
    PUBLISHED_FRACTIONS,
    benchmark_words,
    fraction_benchmark,
    labelled_rows,
    worth_in_volunteers,
)
from gzlib.training.loss import (
    area_under_curve,
    balanced_accuracy,
    covered,
    fit_half_widths,
    fit_levels,
    fit_scale,
    fit_temperature,
    reliability,
    vote_ranks,
)

RNG = np.random.default_rng(0)


def softmax(x):
    grown = np.exp(x - x.max(1, keepdims=True))
    return grown / grown.sum(1, keepdims=True)


@pytest.mark.parametrize(
    ("votes", "held"), [({}, "no votes"), ({"votes": (("galaxy", "answer"), np.ones((2, 2)))}, "votes of 'rings'")]
)
def test_a_survey_without_the_votes_of_a_model_is_told_which(votes, held):
    model = SimpleNamespace(config=SimpleNamespace(head=SimpleNamespace(kind="votes", label="")))
    model.schema = load_schema("gz2")
    survey = xr.Dataset(votes, attrs={"source": "mine", "schema": "rings" if votes else ""})
    some = "smooth-or-featured-gz2_smooth, .*, disk-edge-on-gz2_yes and 26 more"
    with pytest.raises(UserError, match=f"survey of 'mine' has {held}, but none of the vote columns .*: {some}; add"):
        labelled_rows(model, survey, None)


@pytest.mark.parametrize(
    ("kind", "lowest", "says"),
    [
        ("number", -99.0, "-99, which looks like a placeholder"),
        ("number", np.inf, "infinite numbers"),
        ("number", -1.0, None),  # a morphological T type
        ("fraction", -1.0, "-1, which looks like a placeholder"),
    ],
)
def test_placeholders_are_not_scored_as_measurements(kind, lowest, says):
    model = SimpleNamespace(config=SimpleNamespace(head=SimpleNamespace(kind=kind, label="z")))
    survey = xr.Dataset({"z": ("galaxy", [0.1, lowest, np.nan])}, attrs={"source": "mine"})
    if says:
        with pytest.raises(UserError, match=says):
            labelled_rows(model, survey, None)
    else:
        known, values = labelled_rows(model, survey, None)
        assert known.tolist() == [True, True, False] and values[known].tolist() == [0.1, lowest]


def test_accuracy_and_area_are_those_of_scikit_learn():
    probability = softmax(RNG.normal(size=(300, 4)))
    truth = np.where(RNG.random(300) < 0.5, probability.argmax(1), RNG.integers(0, 4, 300))
    assert balanced_accuracy(probability.argmax(1), truth) == pytest.approx(
        balanced_accuracy_score(truth, probability.argmax(1))
    )
    assert area_under_curve(probability, truth) == pytest.approx(roc_auc_score(truth, probability, multi_class="ovr"))
    assert area_under_curve(probability, np.zeros(300, int)) is None


def test_temperature_is_found_and_makes_probabilities_hold():
    logits = RNG.normal(size=(4000, 3)) * 2
    truth = np.array([RNG.choice(3, p=p) for p in softmax(logits)])
    found = fit_temperature(3 * logits, truth)
    assert found == pytest.approx(3, rel=0.1)
    assert reliability(softmax(3 * logits / found), truth)[1] < 0.03 < reliability(softmax(3 * logits), truth)[1]
    assert fit_temperature(logits[:0], truth[:0]) == 1
    assert 0.5 < fit_temperature(20 * logits[:3], truth[:3]) < 5  # three galaxies say little


def dirichlet_votes(n, alpha, volunteers=30):
    fractions = RNG.dirichlet(alpha, n)
    return np.array([RNG.multinomial(volunteers, f) for f in fractions])


def test_concentrations_get_their_scale_and_intervals_their_coverage():
    alpha = np.array([2.0, 5.0, 1.5])
    votes = dirichlet_votes(3000, alpha)
    said = np.tile(alpha * 6, (3000, 1))  # six times too sure
    scale = fit_scale(said, votes)
    assert scale == pytest.approx(1 / 6, rel=0.15)
    levels, fresh = fit_levels(said * scale, votes), dirichlet_votes(3000, alpha)
    ranks, before = vote_ranks(said * scale, fresh), vote_ranks(said, fresh)
    for name, nominal in levels.items():
        np.testing.assert_allclose(covered(*ranks, np.array(nominal)), float(name) / 100, atol=0.03)
        assert covered(*before, float(name) / 100).mean() < float(name) / 100 - 0.1
    assert fit_scale(said, votes * 0) == 1
    assert fit_levels(said, votes * 0)["50"] == [0.5, 0.5, 0.5]


def test_coverage_of_whole_numbers_is_exact_where_the_model_is():
    low, high = vote_ranks(np.tile([2.0, 3.0], (20_000, 1)), dirichlet_votes(20_000, [2.0, 3.0], 7))
    for level in (0.5, 0.8, 0.95):
        np.testing.assert_allclose(covered(low, high, level), level, atol=0.01)


@pytest.mark.parametrize("n", [0, 2, 10, 200])
def test_intervals_of_numbers_hold_new_ones(n):
    widths = fit_half_widths(RNG.normal(0, 2, n), spread=2.0)
    fresh = np.abs(RNG.normal(0, 2, 5000))
    for level, width in widths.items():
        assert (fresh <= width).mean() > float(level) / 100 - (0.2 if n < 40 else 0.08)
    assert widths["50"] < widths["80"] < widths["95"]


@pytest.mark.parametrize("k", [3, 12])
def test_a_model_as_good_as_k_volunteers_is_worth_k(k):
    schema = schema_from_records("one", [{"question": "q", "answers": ["_a", "_b", "_c"], "asked_after": None}])
    fractions = RNG.dirichlet([2, 2, 2], 6000)
    votes = np.array([RNG.multinomial(20, f) for f in fractions])
    model = np.array([RNG.multinomial(k, f) for f in fractions]) + 1e-9
    assert worth_in_volunteers(model, votes, schema)["q"] == pytest.approx(k, rel=0.1)
    assert worth_in_volunteers(votes + 0.0, votes, schema)["q"] is None


def test_fractions_are_scored_as_galaxy_zoo_evo_scores_them():
    """By torchmetrics-like arithmetic written out: of each answer, where its question has 20 votes, then the mean."""
    schema = load_schema("gz2+ukidss")  # UKIDSS is not among the public 194 answers
    rng = np.random.default_rng(1)
    votes = rng.integers(0, 12, (400, len(schema.label_cols)))
    concentrations = rng.uniform(1, 20, votes.shape)
    rmse, mad = [], []
    for question in schema.questions:
        k, a = votes[:, question.columns], concentrations[:, question.columns]
        enough = k.sum(1) >= 20
        if not question.name.endswith("-gz2") or not enough.any():
            continue
        for i in range(k.shape[1]):
            error = a[enough, i] / a[enough].sum(1) - k[enough, i] / k[enough].sum(1)
            rmse.append(np.sqrt(np.mean(error**2)))
            mad.append(np.mean(np.abs(error)))
    found = fraction_benchmark(concentrations, votes, schema)
    assert found["answers"] == len(rmse)
    assert found["rmse"] == pytest.approx(np.mean(rmse)) and found["mad"] == pytest.approx(np.mean(mad))
    assert found["mse"] == pytest.approx(np.mean(np.square(rmse)))
    assert fraction_benchmark(concentrations, votes // 12, schema) == {
        "rmse": None, "mad": None, "mse": None, "answers": 0, "n": 0,
    }  # fmt: skip


def test_a_tree_of_ones_own_is_scored_by_all_its_answers():
    records = [{"question": "odd", "answers": ["_yes", "_no"], "asked_after": None}]
    schema, votes = schema_from_records("own", records), np.array([[30, 10], [5, 5], [0, 20]])
    found = fraction_benchmark(np.array([[2.0, 2.0]] * 3), votes, schema)
    assert (found["answers"], found["n"]) == (2, 2)  # ten votes are not enough
    assert found["mad"] == pytest.approx((0.25 + 0.5) / 2)


def test_published_rows_stand_beside_the_same_galaxies_alone():
    of_votes = {"n": 141_000, "part": "test", "fractions": {"rmse": 0.09, "mad": 0.06, "answers": 194}}
    of_classes = {"n": 46_000, "part": "test", "label": "summary", "accuracy": 0.9, "balanced_accuracy": 0.7}
    for found, published in ((of_votes, PUBLISHED_FRACTIONS), (of_classes, PUBLISHED_CLASSES)):
        lines = benchmark_words(found)
        assert len(lines) == 1 + len(published) and "published, ConvNeXt-Base: " in "\n".join(lines)
        for other in (found | {"n": 500}, found | {"part": "all"}):
            assert len(benchmark_words(other)) == 2 and "not shown beside these" in benchmark_words(other)[1]
    assert "RMSE 0.0842, MAD 0.0598" in "\n".join(benchmark_words(of_votes))
    assert "accuracy 0.9302, balanced accuracy 0.8180" in "\n".join(benchmark_words(of_classes))
    assert benchmark_words(of_classes | {"label": "label"}) == []  # other classes are another benchmark


def test_real_votes_give_the_noise_of_their_own_volunteers(real_data):
    """Two halves of real volunteers miss each other by what their numbers let expect, about 0.07 with 42 votes."""
    source = open_source(str(real_data / "real" / "gz2"))
    votes = np.concatenate([batch.votes for batch in source.batches(64, None)]).astype(int)
    schema, rng = load_schema(source.schema), np.random.default_rng(0)
    half = rng.binomial(votes, 0.5)
    concentrations = 1e-9 + half
    keep = np.ones(len(votes), bool)
    for question in schema.questions:
        keep &= (half[:, question.columns].sum(1) > 0) | (votes[:, question.columns].sum(1) < 20)
    found = fraction_benchmark(concentrations[keep], votes[keep], schema)
    assert 25 <= found["answers"] <= 30
    assert 0.03 < found["rmse"] < 0.09 and found["mad"] < found["rmse"]
