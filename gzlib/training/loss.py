"""The Dirichlet-multinomial loss of votes, over every question of a schema at once, and other scores of predictions.

Losses are what training minimises; errors, areas under curves, calibration and coverage are what a model is judged by.
"""

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import betabinom, rankdata, t
from torch.autograd.function import once_differentiable

from gzlib.data.schema import Schema
from gzlib.models.heads import LEVELS, split_questions


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
        if concentrations.device.type == "cuda":
            value, gradient = loss.all_terms(concentrations, votes)
        else:
            values, _, _, gradient = loss.terms(concentrations, votes, with_gradient=ctx.needs_input_grad[0])
            value = values.sum()
        ctx.save_for_backward(gradient)
        return value

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

    For one question with votes ``k``, ``n = sum(k)``, and concentrations ``a``, ``A = sum(a)``, the loss is
    ``-log p(k | a) = -lnB(A, n) + sum_i lnB(a_i, k_i)`` with
    ``lnB(a, v) = lgamma(1 + v) + lgamma(a) - lgamma(a + v)`` (Walmsley et al. 2022, arXiv:2102.08414; the form without
    a probabilistic-programming library is Zoobot 2.9's). Questions are independent given the image. Only questions with
    votes are computed, and of their answers only those that got votes: of the paper's 88 questions a galaxy is asked
    about ten. A question without votes counts exactly zero and has exactly zero gradient.

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

    def asked(
        self, concentrations: torch.Tensor, votes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
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
        loss, galaxy, question, _ = self.terms(concentrations.detach(), votes, with_gradient=False)
        return loss, galaxy, question

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

    def all_terms(self, concentrations: torch.Tensor, votes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The sum and its gradient, (n, answers), from every question of every galaxy, asked or not.

        For GPUs, where to look up what was asked takes longer than to compute it all and keeps the device waiting: no
        shape depends on the votes, so that a training step can be captured as a CUDA graph.
        """
        k = votes.to(concentrations.dtype)
        total, n = ((x[:, self.columns] * self.real).sum(2) for x in (concentrations, k))
        count = torch.cat([k, n], 1)
        rising, slope = log_rising(torch.cat([concentrations, total], 1), count)
        of_answer, of_question = (rising - torch.lgamma(1 + count)).split([self.n_answers, self.n_questions], 1)
        slope_of_answer, slope_of_question = slope.split([self.n_answers, self.n_questions], 1)
        gradient = slope_of_question.index_select(1, self.question_of_answer) - slope_of_answer
        return of_question.sum() - of_answer.sum(), gradient


def question_scores(concentrations: torch.Tensor, votes: torch.Tensor, schema: Schema) -> tuple[dict, np.ndarray]:
    """Loss of predictions, (n, answers) each, in total and by question; see :func:`summarise_questions`."""
    found = VoteLoss(schema).asked(concentrations, votes)
    return summarise_questions(*found, len(votes), schema)


def summarise_questions(
    value: torch.Tensor, galaxy: torch.Tensor, question: torch.Tensor, n: int, schema: Schema
) -> tuple[dict, np.ndarray]:
    """What :meth:`VoteLoss.asked` gave of ``n`` galaxies, as means.

    Returns
    -------
    metrics : dict
        ``loss`` in all with its standard error ``loss_se``, and ``questions`` over the galaxies ``asked``.
    per_galaxy : (n,) float64 array
        Summed over questions.
    """
    names = [q.name for q in schema.questions]
    sums = torch.zeros(len(names), dtype=torch.float64).index_add_(0, question, value.double())
    asked = torch.bincount(question, minlength=len(names))
    per_galaxy = torch.zeros(n, dtype=torch.float64).index_add_(0, galaxy, value.double()).numpy()
    mean = (sums / asked.clamp(min=1)).tolist()
    metrics = {
        "loss": float(per_galaxy.mean()),
        "loss_se": float(per_galaxy.std(ddof=1) / n**0.5) if n > 1 else None,
        "questions": {name: m for name, m, k in zip(names, mean, asked.tolist(), strict=True) if k},
        "asked": {name: k for name, k in zip(names, asked.tolist(), strict=True) if k},
    }
    return metrics, per_galaxy


def fraction_error(concentrations, votes: np.ndarray, schema: Schema) -> float:
    """Root mean square error of expected vote fractions, over the answers of all questions that were asked."""
    squares, total = 0.0, 0
    for expected, counts in split_questions(np.asarray(concentrations, float), votes, schema):
        asked = counts.sum(1) > 0
        expected, counts = expected[asked], counts[asked]
        difference = expected / expected.sum(1, keepdims=True) - counts / counts.sum(1, keepdims=True)
        squares, total = squares + float((difference**2).sum()), total + difference.size
    return (squares / total) ** 0.5 if total else float("nan")


def balanced_accuracy(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Mean over the classes that ``truth`` has of the share that was found."""
    return float(np.mean([(predicted[truth == c] == c).mean() for c in np.unique(truth)]))


def area_under_curve(probability: np.ndarray, truth: np.ndarray) -> float | None:
    """Area under the receiver operating characteristic, mean over classes, each against the rest; None for one class.

    Parameters
    ----------
    probability : (n, classes)
    truth : (n,) int
    """
    areas = []
    for number in np.unique(truth):
        inside = truth == number
        n, others = int(inside.sum()), int((~inside).sum())
        if others:
            rank = rankdata(probability[:, number])
            areas.append((rank[inside].sum() - n * (n + 1) / 2) / (n * others))
    return float(np.mean(areas)) if areas else None


BINS = 10  # of a reliability diagram


def reliability(probability: np.ndarray, truth: np.ndarray) -> tuple[list[dict], float]:
    """How often the most probable class is right, by how probable it is said to be.

    Returns
    -------
    bins : list of dict
        ``confidence`` (mean), ``accuracy`` and ``n`` of each bin that is not empty.
    error : float
        Expected calibration error: the mean distance of the two (Guo et al. 2017, arXiv:1706.04599).
    """
    confidence, right = probability.max(1), probability.argmax(1) == truth
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins = [
        {"confidence": float(confidence[here].mean()), "accuracy": float(right[here].mean()), "n": int(here.sum())}
        for here in (place == i for i in range(BINS))
        if here.any()
    ]
    return bins, sum(b["n"] * abs(b["confidence"] - b["accuracy"]) for b in bins) / len(truth)


def class_scores(probability: np.ndarray, truth: np.ndarray) -> dict:
    """What probabilities, (n, classes), are worth: ``n``, ``error``, ``accuracy``, ``balanced_accuracy``, ``auc``,
    ``loss`` (cross-entropy), ``calibration_error``, ``reliability`` and ``confusion`` (rows are the truth).
    """
    predicted, classes = probability.argmax(1), probability.shape[1]
    bins, error = reliability(probability, truth)
    confusion = np.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes)
    accuracy = float((predicted == truth).mean())
    return {
        "n": len(truth),
        "error": 1 - accuracy,
        "accuracy": accuracy,
        "balanced_accuracy": balanced_accuracy(predicted, truth),
        "auc": area_under_curve(probability, truth),
        "loss": float(-np.log(np.maximum(probability[np.arange(len(truth)), truth], 1e-12)).mean()),
        "calibration_error": error,
        "reliability": bins,
        "confusion": confusion.tolist(),
    }


# A prior worth about this many galaxies keeps what few of them say of calibration near "calibrated already".
PRIOR_GALAXIES = 20.0


def fit_temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """What logits, (n, classes), are to be divided by so that their softmax is calibrated (Guo et al. 2017)."""
    x, right = torch.from_numpy(logits).double(), torch.from_numpy(truth)
    if not len(truth):
        return 1.0

    def cost(log_t: float) -> float:
        loss = torch.nn.functional.cross_entropy(x / np.exp(log_t), right, reduction="sum").item()
        return loss + 0.5 * PRIOR_GALAXIES * log_t**2 / 4

    return float(np.exp(minimize_scalar(cost, bounds=(-3.0, 3.0), method="bounded").x))


def fit_scale(concentrations: np.ndarray, votes: np.ndarray) -> float:
    """What the concentrations of one question, (n, answers), are to be multiplied by so that votes are likeliest."""
    asked = votes.sum(1) > 0
    a, k = (torch.from_numpy(np.ascontiguousarray(x[asked])).double() for x in (concentrations, votes))
    if not len(k):
        return 1.0
    total, n = a.sum(1), k.sum(1)

    def cost(log_s: float) -> float:
        s = float(np.exp(log_s))
        rising = torch.lgamma(s * a + k).sub(torch.lgamma(s * a)).sum(1)
        loss = torch.lgamma(s * total + n) - torch.lgamma(s * total) - rising
        return loss.sum().item() + 0.5 * PRIOR_GALAXIES * log_s**2 / 4

    return float(np.exp(minimize_scalar(cost, bounds=(-4.0, 4.0), method="bounded").x))


def vote_ranks(concentrations: np.ndarray, votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Between which two probabilities the votes of each answer lie among those expected of as many volunteers.

    Parameters
    ----------
    concentrations, votes : (n, answers)
        Of one question that was asked each time.

    Returns
    -------
    low, high : (n, answers)
        Of fewer votes than there were, and of no more.
    """
    total, n = concentrations.sum(1, keepdims=True), votes.sum(1, keepdims=True)
    high = betabinom.cdf(votes, n, concentrations, total - concentrations)
    fewer = betabinom.cdf(np.maximum(votes - 1, 0), n, concentrations, total - concentrations)
    return np.where(votes > 0, fewer, 0.0), high


def covered(low: np.ndarray, high: np.ndarray, level) -> np.ndarray:
    """Share of the votes, by answer, that central intervals of a nominal level hold.

    Votes are whole numbers, so an interval's end cuts through one: it counts in proportion (the expectation of the
    randomised probability integral transform).

    Parameters
    ----------
    low, high : (n, answers)
        Of :func:`vote_ranks`.
    level : float or (answers,)
    """
    inside = np.minimum(high, 0.5 + level / 2) - np.maximum(low, 0.5 - level / 2)
    return (np.maximum(inside, 0) / np.maximum(high - low, 1e-300)).mean(0)


def fit_levels(concentrations: np.ndarray, votes: np.ndarray) -> dict[str, list[float]]:
    """Nominal levels of central intervals that hold 50, 80 and 95 % of the votes, for each answer of one question.

    Beta distributions have lighter tails than errors have: no scale alone gets all levels right.
    """
    asked = votes.sum(1) > 0
    low, high = vote_ranks(concentrations[asked], votes[asked])
    n, tried = int(asked.sum()), np.concatenate([np.linspace(0, 0.99, 100), 1 - np.geomspace(0.009, 1e-6, 60), [1.0]])
    found = {}
    for level in LEVELS:
        chosen = np.full(votes.shape[1], level)
        if n:
            shares = np.stack([covered(low, high, value) for value in tried])
            shares = (n * shares + PRIOR_GALAXIES * tried[:, None]) / (n + PRIOR_GALAXIES)
            chosen = np.array([np.interp(level, share, tried) for share in shares.T])
        found[f"{100 * level:g}"] = [round(float(value), 6) for value in chosen]
    return found


def vote_coverage(concentrations: np.ndarray, votes: np.ndarray, schema: Schema, levels: dict) -> dict[str, dict]:
    """Share of votes inside the 50, 80 and 95 % intervals, by question, mean over its answers.

    Parameters
    ----------
    concentrations, votes : (n, answers)
    levels : dict
        For each level the nominal levels of all answers, see :func:`fit_levels`.
    """
    shares = {}
    for question, (some, counts) in zip(schema.questions, split_questions(concentrations, votes, schema), strict=True):
        asked = counts.sum(1) > 0
        if asked.any():
            ranks = vote_ranks(some[asked], counts[asked])
            shares[question.name] = {"n": int(asked.sum())} | {
                name: float(covered(*ranks, np.array(values[question.columns])).mean())
                for name, values in levels.items()
            }
    return shares


ENOUGH = 40  # residuals from which on quantiles of them are taken


def fit_half_widths(residuals: np.ndarray, spread: float) -> dict[str, float]:
    """Half widths of intervals around a predicted number that hold 50, 80 and 95 % of new ones.

    Quantiles of absolute residuals, as split conformal prediction takes them; of few residuals those of a Student's t;
    of none, ``spread`` (the standard deviation of the labels) stands in.
    """
    n, found = len(residuals), {}
    for level in LEVELS:
        place = int(np.ceil((n + 1) * level))
        if n >= ENOUGH and place <= n:
            width = float(np.sort(np.abs(residuals))[place - 1])
        elif n >= 3:
            width = float(t.ppf(0.5 + level / 2, n) * np.sqrt(np.mean(residuals**2)) * np.sqrt(1 + 1 / n))
        else:
            width = float(t.ppf(0.5 + level / 2, 3) * spread)
        found[f"{100 * level:g}"] = width
    return found


def number_scores(prediction: np.ndarray, truth: np.ndarray, half_widths: dict[str, float]) -> dict:
    """What predicted numbers are worth: ``n``, ``error`` (root mean square), ``bias``, ``median_error`` (absolute),
    and ``coverage`` of the intervals.
    """
    difference = np.asarray(prediction, float) - truth
    return {
        "n": len(truth),
        "error": float(np.sqrt(np.mean(difference**2))),
        "bias": float(difference.mean()),
        "median_error": float(np.median(np.abs(difference))),
        "coverage": {name: float((np.abs(difference) <= width).mean()) for name, width in half_widths.items()},
    }
