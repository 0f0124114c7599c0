"""The Dirichlet-multinomial loss of votes, over every question of a schema at once."""

import torch

from gzlib.data.schema import Schema


class VoteLoss:
    """Negative log-likelihood of vote counts under Dirichlet concentrations.

    For one question with votes ``k``, ``n = sum(k)``, and concentrations ``a``, ``A = sum(a)``::

        loss = -log p(k | a) = -lnB(A, n) + sum_i lnB(a_i, k_i)
        lnB(a, v) = lgamma(1 + v) + lgamma(a) - lgamma(a + v)

    (Walmsley et al. 2022, arXiv:2102.08414; the form without a probabilistic-programming library is Zoobot 2.9's).
    Questions are independent given the picture. Only questions that somebody answered are computed: of the paper's 88
    a galaxy is asked about ten. One that nobody answered counts exactly zero and has exactly zero gradient.

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
        self.n_questions = len(columns)
        self.columns = torch.tensor([c + c[:1] * (widest - len(c)) for c in columns], device=device)
        self.real = torch.tensor([[1.0] * len(c) + [0.0] * (widest - len(c)) for c in columns], device=device)
        membership = torch.zeros(len(schema.label_cols), self.n_questions, device=device)
        for q, c in enumerate(columns):
            membership[c, q] = 1.0
        self.membership = membership

    def asked(self, concentrations: torch.Tensor, votes: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Loss of every (galaxy, question) pair that received votes.

        Parameters
        ----------
        concentrations : (n, answers) float32
        votes : (n, answers) int or float, zero where not asked

        Returns
        -------
        loss : (pairs,) float32
        galaxy, question : (pairs,) int64
        """
        votes = votes.to(concentrations.dtype)
        galaxy, question = (votes @ self.membership).nonzero(as_tuple=True)
        columns, real = self.columns[question], self.real[question]
        k = votes[galaxy.unsqueeze(1), columns] * real
        # A padded place gets a = 1, k = 0, which adds lgamma(1) + lgamma(1) - lgamma(1) = 0.
        a = concentrations[galaxy.unsqueeze(1), columns] * real + (1 - real)
        n, total = k.sum(1), (a * real).sum(1)
        answers = torch.lgamma(1 + k) + torch.lgamma(a) - torch.lgamma(a + k)
        question_term = torch.lgamma(1 + n) + torch.lgamma(total) - torch.lgamma(total + n)
        return answers.sum(1) - question_term, galaxy, question

    def __call__(self, concentrations: torch.Tensor, votes: torch.Tensor) -> torch.Tensor:
        """Sum over questions, mean over galaxies: the scalar that is minimised."""
        loss, _, _ = self.asked(concentrations, votes)
        return loss.sum() / len(votes)
