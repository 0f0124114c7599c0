import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import dirichlet_multinomial

from gzlib.data.schema import load_schema, schema_from_records
from gzlib.training.loss import VoteLoss, log_rising

THREE = schema_from_records("three", [{"question": "q", "answers": ["_a", "_b", "_c"], "asked_after": None}])


def random_votes(schema, n, seed=0):
    """Votes with many questions unasked, and concentrations over their whole range."""
    rng = np.random.default_rng(seed)
    votes = rng.poisson(4, (n, len(schema.label_cols)))
    asked = rng.random((n, len(schema.questions))) < 0.4
    votes *= asked[:, schema.question_of_answer]
    return torch.from_numpy(votes), torch.from_numpy(rng.uniform(1, 101, votes.shape)).float()


@pytest.mark.parametrize("name", ["gz2", "paper"])
def test_agrees_with_scipy(name):
    schema = load_schema(name)
    votes, a = random_votes(schema, 30)
    loss, galaxy, question = VoteLoss(schema).asked(a, votes)
    expected = []
    for g, q in zip(galaxy.tolist(), question.tolist(), strict=True):
        columns = schema.questions[q].columns
        k = votes[g, columns].numpy()
        expected.append(-dirichlet_multinomial.logpmf(k, a[g, columns].double().numpy(), k.sum()))
    assert len(expected) == (schema.question_totals(votes.numpy()) > 0).sum()
    np.testing.assert_allclose(loss.numpy(), expected, rtol=2e-4, atol=2e-4)


def test_agrees_with_an_independent_formula_in_float64():
    """The same probability as a product of Polya-urn draws, without any gamma function."""
    schema = load_schema("dr5")
    votes, a = random_votes(schema, 12, seed=3)
    a = a.double()
    loss = VoteLoss(schema)
    total = 0.0
    for g, question in itertools.product(range(len(votes)), schema.questions):
        k, conc = votes[g, question.columns].tolist(), a[g, question.columns].tolist()
        n, urn = sum(k), sum(conc)
        log_p = math.lgamma(n + 1) - sum(math.lgamma(x + 1) for x in k)
        log_p += sum(math.log(c + j) for c, x in zip(conc, k, strict=True) for j in range(x))
        total -= log_p - sum(math.log(urn + j) for j in range(n))
    assert loss(a, votes).item() == pytest.approx(total / len(votes), rel=1e-9)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-6), (torch.float64, 3e-7)])
def test_rising_factorial_and_its_derivative(dtype, tolerance):
    """Against gamma and digamma functions in float64, over all that a head can predict and volunteers can vote."""
    x = torch.cat([torch.linspace(1, 3, 50), torch.linspace(3, 101, 50), torch.logspace(2, 4, 10)])
    x, k = (t.flatten() for t in torch.meshgrid(x, torch.tensor([0.0, 1, 2, 5, 20, 80, 500]), indexing="ij"))
    true = x.double()
    value, slope = torch.lgamma(true + k) - torch.lgamma(true), torch.digamma(true + k) - torch.digamma(true)
    made, its_slope = log_rising(x.to(dtype), k.to(dtype))
    np.testing.assert_allclose(made, value, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(its_slope, slope, rtol=tolerance, atol=tolerance)
    assert (made[k == 0] == 0).all() and (its_slope[k == 0] == 0).all()


def test_concentrations_below_one_are_no_worse_than_float32():
    x, k = torch.tensor([1e-4, 0.01, 0.3]), torch.tensor([1.0, 7.0, 40.0])
    made, _ = log_rising(x, k)
    np.testing.assert_allclose(made, torch.lgamma(x.double() + k) - torch.lgamma(x.double()), rtol=3e-6)


def test_probabilities_add_up_to_one():
    counts = torch.tensor([k for k in itertools.product(range(6), repeat=3) if sum(k) == 5])
    a = torch.tensor([[1.3, 7.0, 40.0]]).expand(len(counts), -1)
    loss, _, _ = VoteLoss(THREE).asked(a, counts)
    assert torch.exp(-loss).sum().item() == pytest.approx(1, abs=1e-4)


def test_concentration_one_is_uniform_over_count_vectors():
    loss = VoteLoss(THREE)(torch.ones(1, 3), torch.tensor([[2, 3, 5]]))
    assert loss.item() == pytest.approx(math.log(math.comb(12, 2)), rel=1e-5)  # 4.18965


def test_unasked_questions_count_exactly_zero():
    schema = load_schema("paper")
    votes, a = random_votes(schema, 8)
    unasked = (schema.question_totals(votes.numpy()) == 0)[:, schema.question_of_answer]
    a.requires_grad_()
    VoteLoss(schema)(a, votes).backward()
    assert (a.grad[torch.from_numpy(unasked)] == 0).all()
    assert (a.grad[torch.from_numpy(~unasked)] != 0).any()
    nothing = torch.zeros(3, len(schema.label_cols), dtype=torch.int32)
    a = torch.full(nothing.shape, 50.0, requires_grad=True)
    loss = VoteLoss(schema)(a, nothing)
    loss.backward()
    assert loss.item() == 0.0
    assert (a.grad == 0).all()


def test_gradient_against_finite_differences():
    schema = load_schema("gz2")
    votes, a = random_votes(schema, 3)
    loss = VoteLoss(schema)
    assert torch.autograd.gradcheck(lambda x: loss(x, votes), (a.double().requires_grad_(),))
