"""The Dirichlet-multinomial loss of votes, over every question of a schema at once."""

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from gzlib.data.schema import Schema


def log_rising(x: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``lgamma(x + k) - lgamma(x)``, the logarithm of the rising factorial, and its derivative in ``x``.

    Both come from Stirling's series (Abramowitz & Stegun 1964, 6.1.40 and 6.3.18) at ``x + 2``, two factors of the
    factorial being written out. No pair of large logarithms is subtracted, so that float32 keeps about seven digits of
    the *difference*, which ``lgamma`` does not; and value and derivative share their parts, which makes them several
    times as fast. The series are cut where their error is below 1e-7 for x >= 1, the range of the vote heads.
    Exactly 0 with derivative 0 where k is 0.

    Parameters
    ----------
    x, k : (m,) float
        x above zero, k at least zero.
    """
    y, raised = x + 2, x + k
    both = torch.stack([y, raised + 2])
    inverse = both.reciprocal()
    square = inverse * inverse
    tail = _horner(square, (1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12)).mul_(inverse)
    grown = torch.log1p(k * inverse[0])
    factors = (raised * (raised + 1)).div_(x * (x + 1))
    value = (grown * (y - 0.5)).add_(k * (both[1].log().sub_(1))).add_(tail[1] - tail[0]).sub_(factors.log_())
    slope = _horner(square, (1 / 132, -1 / 240, 1 / 252, -1 / 120, 1 / 12)).mul_(square).add_(inverse, alpha=0.5)
    written_out = (x * raised).reciprocal_().add_(((x + 1) * (raised + 1)).reciprocal_()).mul_(k)
    return value, grown.add_(slope[0]).sub_(slope[1]).add_(written_out)


def _horner(x: torch.Tensor, coefficients: tuple[float, ...]) -> torch.Tensor:
    """A polynomial, highest power first."""
    value = x * coefficients[0]
    for c in coefficients[1:-1]:
        value.add_(c).mul_(x)
    return value.add_(coefficients[-1])


class _Sum(torch.autograd.Function):
    """The loss summed over galaxies and questions; its gradient is found together with it."""

    @staticmethod
    def forward(ctx, concentrations: torch.Tensor, votes: torch.Tensor, loss: "VoteLoss") -> torch.Tensor:
        values, _, _, gradient = loss.terms(concentrations, votes, with_gradient=ctx.needs_input_grad[0])
        ctx.save_for_backward(gradient)
        return values.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, above: torch.Tensor):
        return ctx.saved_tensors[0] * above, None, None


def _where(values: torch.Tensor) -> torch.Tensor:
    """Positions of what is not zero, 1-D; on the CPU by numpy, whose search takes a third of torch's time."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(values.detach().numpy() != 0))
    return values.nonzero().squeeze(1)


class VoteLoss:
    """Negative log-likelihood of vote counts under Dirichlet concentrations.

    For one question with votes ``k``, ``n = sum(k)``, and concentrations ``a``, ``A = sum(a)``::

        loss = -log p(k | a) = -lnB(A, n) + sum_i lnB(a_i, k_i)
        lnB(a, v) = lgamma(1 + v) + lgamma(a) - lgamma(a + v)

    (Walmsley et al. 2022, arXiv:2102.08414; the form without a probabilistic-programming library is Zoobot 2.9's).
    Questions are independent given the picture. Only questions that somebody answered are computed, and of their
    answers only those that got votes: of the paper's 88 questions a galaxy is asked about ten. A question that nobody
    answered counts exactly zero and has exactly zero gradient.

    Parameters
    ----------
    schema : Schema
        Defines which columns belong to which question.
    device : str or torch.device
        Where predictions will lie.
    """

    def __init__(self, schema: Schema, *, device: str | torch.device = "cpu"):
        widest = max(len(q.answers) for q in schema.questions)
        # Every question padded to the widest one by pointing at a column of its own; the mask takes the padding out.
        columns = [list(range(q.columns.start, q.columns.stop)) for q in schema.questions]
        self.n_questions, self.n_answers = len(columns), len(schema.label_cols)
        self.columns = torch.tensor([c + c[:1] * (widest - len(c)) for c in columns], device=device)
        self.real = torch.tensor([[1.0] * len(c) + [0.0] * (widest - len(c)) for c in columns], device=device)
        self.question_of_answer = torch.from_numpy(schema.question_of_answer).to(device)

    def asked(self, concentrations: torch.Tensor, votes: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Loss of every (galaxy, question) pair that received votes, to be read, not differentiated.

        Parameters
        ----------
        concentrations : (n, answers) float32
        votes : (n, answers) int or float, zero where not asked

        Returns
        -------
        loss : (pairs,) float32
        galaxy, question : (pairs,) int64
        """
        return self.terms(concentrations.detach(), votes, with_gradient=False)[:3]

    def __call__(self, concentrations: torch.Tensor, votes: torch.Tensor) -> torch.Tensor:
        """Sum over questions, mean over galaxies: the scalar that is minimised."""
        return _Sum.apply(concentrations, votes, self) / len(votes)

    def terms(self, concentrations: torch.Tensor, votes: torch.Tensor, *, with_gradient: bool):
        """What :meth:`asked` returns, then the gradient of the sum, (n, answers), or None."""
        # One flat axis over (galaxy, answer) and one over (galaxy, question): single indices are several times as fast.
        a, votes = concentrations.reshape(-1), votes.reshape(-1)
        answer = _where(votes)
        k = votes.index_select(0, answer).to(a.dtype)
        galaxy = answer // self.n_answers
        pair = galaxy * self.n_questions + self.question_of_answer.index_select(0, answer - galaxy * self.n_answers)
        sums = a.new_zeros(len(concentrations) * self.n_questions)
        n = sums.index_add(0, pair, k)
        asked = _where(n)
        galaxy = asked // self.n_questions
        question = asked - galaxy * self.n_questions

        columns = (self.columns.index_select(0, question) + (galaxy * self.n_answers).unsqueeze(1)).view(-1)
        real = self.real.index_select(0, question).to(a.dtype)
        total = (a.index_select(0, columns).view(real.shape) * real).sum(1)
        count = torch.cat([k, n.index_select(0, asked)])
        rising, slope = log_rising(torch.cat([a.index_select(0, answer), total]), count)
        orders = torch.lgamma(1 + count)  # in how many orders votes can come that give these counts
        sizes = [len(answer), len(asked)]
        of_answer, of_question = (rising - orders).split(sizes)
        values = of_question - sums.index_add_(0, pair, of_answer).index_select(0, asked)
        if not with_gradient:
            return values, galaxy, question, None
        of_answer, of_question = slope.split(sizes)
        gradient = torch.zeros_like(a).index_add_(0, columns, (real * of_question.unsqueeze(1)).view(-1))
        gradient.index_add_(0, answer, of_answer, alpha=-1)
        return values, galaxy, question, gradient.view(concentrations.shape)
