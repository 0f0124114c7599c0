"""Linear probes: what an encoder's frozen features tell without changing them."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from gzlib.data.loader import mix, open_loader
from gzlib.data.schema import Schema
from gzlib.data.survey import open_survey
from gzlib.models.encoders import placed
from gzlib.models.heads import DirichletHead, concentrations
from gzlib.models.weights import load_encoder
from gzlib.training.loss import VoteLoss
from gzlib.training.pretraining import mean_concentrations

# Candidates for the L2 penalty, per feature and mean over galaxies; the range covers 20 to 20,000 labels.
PENALTIES = tuple(10.0 ** np.arange(-5, 1.1, 1.0))
FOLDS = 5
LEAST_SPREAD = 0.3  # of a feature's standard deviation, in units of the mean over features
# How probes of classes are sought: steps and lengths tried in each at most, how flat a line is where it ends, relative
# to where it began, and what is left to gain in the end, relative to the objective.
STEPS, TRIALS, FLAT, PRECISION = 100, 8, 0.3, 1e-7


@functools.lru_cache(maxsize=2)  # a sweep probes the same features at many label counts
def survey_features(encoder_name: str, weights: str, folder: Path, seed: int, device: torch.device) -> np.ndarray:
    """(galaxies, num_features) float32: an encoder's features of every galaxy of a curated survey, plain views.

    ``seed`` matters for random weights only.
    """
    data = open_survey(folder)
    torch.manual_seed(mix(seed, "weights"))
    encoder = load_encoder(encoder_name, weights, size=data.images.shape[1])
    encoder = placed(encoder, device).eval()
    galaxies = data.sizes["galaxy"]
    loader = open_loader(data.images.values, np.zeros(galaxies), np.arange(galaxies), batch_size=256, device=device)
    with torch.no_grad():
        return torch.cat([encoder(images).float().cpu() for images, _ in loader.plain()]).numpy()


class Probe:
    """A linear model on features that were standardised.

    Parameters
    ----------
    mean, std : (num_features,) float32
        Of the features.
    weight, bias : (num_features, outputs) or (num_features,), and (outputs,) or a number
    """

    mean_label, spread_label = 0.0, 1.0

    def __init__(self, mean: torch.Tensor, std: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor):
        self.mean, self.std, self.weight, self.bias = mean, std, weight, bias

    def __call__(self, new: np.ndarray) -> torch.Tensor:
        """(m, num_features) -> (m, outputs) or (m,)."""
        found = ((torch.from_numpy(new) - self.mean) / self.std / new.shape[1] ** 0.5) @ self.weight + self.bias
        if (self.mean_label, self.spread_label) != (0.0, 1.0):
            found = found * self.spread_label + self.mean_label
        return found

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias of the same model on features as they are, in units of the labels' spread."""
        wide = self.weight.double().reshape(len(self.mean), -1)
        weight = wide / (self.std.double() * len(self.mean) ** 0.5)[:, None]
        bias = self.bias.double() - self.mean.double() @ weight
        return weight.float(), bias.float()


def folds(n: int, seed: int) -> np.ndarray:
    """(n,) int: the fold of each label, by chance."""
    return np.random.default_rng(seed).permutation(n) % min(FOLDS, n)


def fit_probe(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    n_classes: int | None,
    seed: int,
    schema: Schema | None = None,
    penalty: float | None = None,
) -> tuple[Probe, float]:
    """A penalised linear model on features; the penalty is chosen by cross-validation within these labels alone.

    Parameters
    ----------
    features : (n, num_features) float32
    labels : (n,) int64 classes, or float targets where ``n_classes`` is None (ridge regression), or (n, answers) votes
    n_classes : int or None
    seed : int
        Of the folds.
    schema : Schema, optional
        Of the votes; the model then gives what :func:`gzlib.models.heads.concentrations` takes.
    penalty : float, optional
        To use this one.

    Returns
    -------
    predict : Probe
        (m, num_features) -> (m, n_classes) logits, or (m,) numbers.
    penalty : float
    """
    how = (n_classes, schema)
    everything = np.ones((1, len(labels)), bool)
    if penalty is not None:
        return next(_solvers(features, labels, everything, (penalty,), *how))(penalty), penalty
    fold = folds(len(labels), seed)
    kept = np.concatenate([fold != np.arange(fold.max() + 1)[:, None], everything])
    solvers, losses = _solvers(features, labels, kept, PENALTIES, *how), np.zeros(len(PENALTIES))
    for some, solve in zip(kept[:-1], solvers, strict=False):
        held = ~some
        if schema is None and n_classes is not None:
            # Of a class not seen, the loss only tells how long the solver went on.
            held &= np.isin(labels, labels[some])
        if held.any():
            new, truth = features[held], labels[held]
            losses += [_loss(solve(penalty)(new), truth, *how) for penalty in PENALTIES]
    penalty = PENALTIES[int(np.argmin(losses))]
    return next(solvers)(penalty), penalty


def _loss(prediction: torch.Tensor, labels: np.ndarray, n_classes: int | None, schema: Schema | None) -> float:
    target = torch.from_numpy(labels)
    if schema is not None:
        return VoteLoss(schema)(concentrations(prediction), target).item()
    if n_classes is None:
        return (prediction - target).square().mean().item()
    return torch.nn.functional.cross_entropy(prediction, target).item()


Solved = tuple[torch.Tensor, torch.Tensor]  # weight and bias


def _solvers(
    features: np.ndarray,
    labels: np.ndarray,
    kept: np.ndarray,
    penalties: tuple[float, ...],
    n_classes: int | None,
    schema: Schema | None,
) -> Iterator[Callable[[float], Probe]]:
    """For each set of galaxies, a row of ``kept`` (sets, n), its probe at each of the penalties."""
    x, target, sets = torch.from_numpy(features), torch.from_numpy(labels), torch.from_numpy(kept)
    if schema is None and n_classes is not None:
        spread = [_mean_and_spread(x[some]) for some in sets]
        for (mean, std), found in zip(spread, _logistic(x, target, n_classes, sets, spread, penalties), strict=True):
            yield functools.partial(_probe, mean, std, dict(zip(penalties, found, strict=True)).__getitem__)
        return
    for some in sets:
        mean, std = _mean_and_spread(x[some])
        own, standard = target[some], (x[some] - mean) / std / x.shape[1] ** 0.5
        solve = _ridge(standard.double(), own.double()) if schema is None else _dirichlet(standard, own, schema)
        yield functools.partial(_probe, mean, std, solve)


def _probe(mean: torch.Tensor, std: torch.Tensor, solve: Callable[[float], Solved], penalty: float) -> Probe:
    return Probe(mean, std, *solve(penalty))


def _mean_and_spread(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean = x.mean(0)
    std = (x - mean).square_().mean(0).sqrt_()  # several times as fast as torch's own
    # A feature that hardly varies among few galaxies may vary a lot among the others: it is not blown up to match.
    return mean, std.clamp(min=float(LEAST_SPREAD * std.mean()) or 1.0)


def _ridge(x: torch.Tensor, target: torch.Tensor) -> Callable[[float], Solved]:
    """Through the galaxies' Gram matrix, which is the smaller one when labels are few."""
    centred, gram = (target - target.mean())[:, None], x @ x.T

    def solve(penalty: float) -> Solved:
        shifted = gram.clone()
        shifted.diagonal().add_(penalty * len(x))
        dual = torch.cholesky_solve(centred, torch.linalg.cholesky(shifted))[:, 0]
        return (x.T @ dual).float(), target.mean().float()

    return solve


def _dirichlet(x: torch.Tensor, votes: torch.Tensor, schema: Schema) -> Callable[[float], Solved]:
    head, loss = DirichletHead(1, votes.shape[1]), VoteLoss(schema)
    head.start_at(mean_concentrations(votes.numpy(), schema))
    return _minimiser(lambda outputs: loss(concentrations(outputs), votes), x, head.linear.bias.detach())


def _minimiser(
    loss_of: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, start: torch.Tensor
) -> Callable[[float], Solved]:
    """Weight and bias of the linear model on ``x`` with the least loss and penalty; the bias begins at ``start``.

    The best weight is a sum over galaxies of their features, so that with fewer galaxies than features it is sought in
    their span alone: the same steps of the optimizer, in a fraction of the time.
    """
    span = torch.linalg.qr(x.T).Q if len(x) < x.shape[1] else None
    # Narrow products run several times as fast in this order, those of the gradient in the other: see the hook.
    columns = (x if span is None else x @ span).T.contiguous()

    def solve(penalty: float) -> Solved:
        weight = torch.zeros(len(start), len(columns), requires_grad=True)
        bias = start.clone().requires_grad_()
        optimiser = torch.optim.LBFGS(
            [weight, bias], max_iter=100, tolerance_change=1e-7, line_search_fn="strong_wolfe"
        )

        def closure() -> torch.Tensor:
            optimiser.zero_grad()
            product = weight @ columns
            product.register_hook(torch.Tensor.contiguous)  # its product with the columns is ten times as fast
            loss = loss_of(product.T + bias) + 0.5 * penalty * weight.square().sum()
            loss.backward()
            return loss

        optimiser.step(closure)
        found = weight.detach().T.contiguous()
        return (found if span is None else span @ found), bias.detach()

    return solve


# Outputs (sets, penalties, classes, n) -> the mean loss over each set, (sets, penalties) float64, and its gradient.
LossOf = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def _logistic(
    x, target, n_classes: int, kept: torch.Tensor, spread, penalties: tuple[float, ...]
) -> list[list[Solved]]:
    """Of each set and penalty, with cross entropy."""
    share = (kept / kept.sum(1, keepdim=True))[:, None, None]

    def loss_of(outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        own = target.expand(*outputs.shape[:2], 1, -1)
        # Relative to the true class, so that losses near zero keep their digits.
        odds = (outputs - outputs.gather(2, own)).exp_().scatter_(2, own, 0)
        others = odds.sum(2, keepdim=True)
        each = share / (1 + others)
        loss = torch.linalg.vecdot(others.log1p(), share)[:, :, 0].double()
        return loss, odds.mul_(each).scatter_(2, own, -others * each)

    models = _Models(x, kept, *map(torch.stack, zip(*spread, strict=True)))
    return models.solved(_minimise(loss_of, models, n_classes, torch.tensor(penalties, dtype=torch.float32)))


class _Models:
    """Linear models of the same galaxies' features, each scaled as one of several sets of galaxies wants.

    Parameters of the models are (sets, penalties, classes, k + 1), biases last.
    """

    def __init__(self, x: torch.Tensor, kept: torch.Tensor, mean: torch.Tensor, std: torch.Tensor):
        centre, width = x.mean(0), x.shape[1]
        rows, scale = x - centre, 1 / std / width**0.5
        self.span: torch.Tensor | None = None
        self.shift = (mean - centre) * scale  # moves nothing but the biases, in the end
        if 2 * len(x) < width:
            # The best weight is a sum over galaxies of their features: with few it is sought in their span alone.
            rows = rows * scale[:, None]
            self.span = torch.linalg.qr((rows * kept[..., None]).mT).Q
            rows, scale = rows @ self.span, scale.new_ones(1, len(x))
        self.rows = torch.nn.functional.pad(rows, (0, 1), value=1.0)
        self.scale = torch.nn.functional.pad(scale, (0, 1), value=1.0)[:, None, None]
        # Narrow products run several times as fast in this order, those of the gradient in the other.
        self.columns = self.rows.mT.contiguous()
        self.flat = self.rows.ndim - 2  # one product for all sets takes a third of the time of one for each

    def outputs(self, models: torch.Tensor) -> torch.Tensor:
        """(sets, penalties, classes, n)."""
        return ((models * self.scale).flatten(self.flat, 2) @ self.columns).view(*models.shape[:3], -1)

    def gradient(self, slope: torch.Tensor) -> torch.Tensor:
        """Of the models' parameters, from that of their outputs."""
        return (slope.flatten(self.flat, 2) @ self.rows).view(*slope.shape[:3], -1).mul_(self.scale)

    def solved(self, models: torch.Tensor) -> list[list[Solved]]:
        """Weight and bias for standardised features, of each set and penalty."""
        weight, bias = models[..., :-1].mT, models[..., -1]
        if self.span is not None:
            weight = self.span[:, None] @ weight
        bias = bias + (self.shift[:, None, None] @ weight)[:, :, 0]
        return [list(zip(*row, strict=True)) for row in zip(weight.contiguous(), bias, strict=True)]


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vecdot(a.flatten(2), b.flatten(2)).double()


def _minimise(loss_of: LossOf, models: _Models, n_classes: int, penalties: torch.Tensor) -> torch.Tensor:
    """The models with the least loss and penalty, for each set and penalty.

    BFGS for all of them at once, because products of many columns take little more time than those of a few, each with
    its own steps; a penalty leaves when all its sets are done. A line costs two products, however often it is tried.
    """
    k = models.rows.shape[-1]
    now = torch.zeros(len(models.shift), len(penalties), n_classes, k)
    penalty = penalties[:, None, None] * (torch.arange(k) < k - 1)  # of no bias

    def penalised(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (_dot(a, b) - _dot(a[..., -1:], b[..., -1:])) * penalty[:, 0, 0]

    outputs = models.outputs(now)
    value, slope = loss_of(outputs)
    gradient = models.gradient(slope)
    found, left = torch.empty_like(now), torch.arange(len(penalties))
    history, done = _History(now), torch.zeros_like(value, dtype=torch.bool)
    for step in range(STEPS + 1):
        direction = history.direction(gradient)
        along = _dot(gradient, direction)
        if step:
            done |= -along <= PRECISION * value + 1e-9
        leave = done.all(0) | (step == STEPS)
        if leave.any():
            found[:, left[leave]] = now[:, leave]
            stay = ~leave
            if not stay.any():
                break
            left, penalty = left[stay], penalty[stay]
            parts = (now, outputs, gradient, value, direction, along, done)
            now, outputs, gradient, value, direction, along, done = (part[:, stay] for part in parts)
            history.keep(stay)
        length = torch.ones_like(value) if step else 1 / _dot(gradient, gradient).sqrt().clamp(min=1)
        move = models.outputs(direction)
        curve = (0.5 * penalised(now, now), penalised(now, direction), penalised(direction, direction))
        length, outputs, value, slope = _search(loss_of, outputs, move, curve, value, along, length * ~done)
        done |= length == 0
        change = direction.mul_(length[..., None, None].float())
        now, before = now + change, gradient
        gradient = models.gradient(slope).addcmul_(penalty, now)
        history.add(change, gradient - before, before)
    return found


def _search(loss_of: LossOf, outputs, move, curve, value, along, length) -> tuple[torch.Tensor, ...]:
    """How far to go along each line: to where it is nearly flat, below where it began; 0 where no such place is found.

    ``curve`` holds the penalty and its derivatives where the line begins, ``along`` the slope of the objective and
    ``length`` what is tried first, 0 for lines that are not followed. Returns the length, and there the outputs, the
    objective and the slope of the loss by output.
    """
    low, high, slope_low, follow = torch.zeros_like(along), torch.full_like(along, torch.inf), along, length > 0
    for trial in range(TRIALS):
        there = torch.addcmul(outputs, move, length[..., None, None].float())
        loss, slope = loss_of(there)
        new = loss + curve[0] + length * curve[1] + 0.5 * length.square() * curve[2]
        here = _dot(slope, move) + curve[1] + length * curve[2]
        # Near the end, values differ by less than their rounding; slopes still tell.
        less = new <= value + 1e-4 * length * along + 1e-6 * value.abs()
        short = less & (here < FLAT * along)
        open_ = follow & (short | ~less | (here > -FLAT * along))
        if trial == TRIALS - 1 or not open_.any():
            break
        secant = low + (length - low) * slope_low / (slope_low - here)
        high, slope_low = torch.where(short, high, length), torch.where(short, here, slope_low)
        low = torch.where(short, length, low)
        inside = (secant > low + 0.1 * (high - low)) & (secant < high - 0.1 * (high - low))
        between = torch.where(inside, secant, (low + high) / 2)
        beyond = torch.where(secant > 2 * length, secant.clamp(max=10 * length), 2 * length)
        following = low if trial == TRIALS - 2 else torch.where(high.isinf(), beyond, between)
        length = torch.where(open_, following, length)
    return length, there, new, slope


class _History:
    """The inverse Hessian of each model's objective, as its steps so far and changes of the gradient tell (BFGS).

    In the compact form of Byrd, Nocedal & Schnabel (1994, doi:10.1007/BF01582063, theorem 2.2): two passes over what is
    kept, for all models at once.
    """

    def __init__(self, models: torch.Tensor):
        sets, penalties = models.shape[:2]
        self.n, self.scale = 0, torch.ones(sets, penalties, 1, 1, dtype=torch.float64)
        # Steps and changes of the gradient; penalties come first, so that those that stay are together.
        self.kept = torch.empty(penalties, sets, STEPS, 2, models[0, 0].numel())
        self.mixed, self.squares = torch.zeros(2, sets, penalties, STEPS, STEPS, dtype=torch.float64)
        self.before = torch.zeros(sets, penalties, 0, 2, dtype=torch.float64)  # products with the last gradient

    def add(self, step: torch.Tensor, change: torch.Tensor, before: torch.Tensor):
        """A step, the change of the gradient, and the gradient before."""
        product, square = _dot(step, change), _dot(change, change)
        good = product > 1e-10 * square
        if not good.all():  # what tells nothing is left out
            step, change = step * good[..., None, None], change * good[..., None, None]
        self.scale = torch.where(good, product / square, self.scale[..., 0, 0])[..., None, None]
        self.kept[:, :, self.n] = torch.stack([step.flatten(2), change.flatten(2)], 2).transpose(0, 1)
        self.mixed[:, :, self.n, self.n] = torch.where(good, product, 1)
        self.squares[:, :, self.n, self.n] = square * good
        last = torch.stack([_dot(step, before), _dot(change, before)], 2)
        self.before = torch.cat([self.before, last[:, :, None]], 2)
        self.n += 1

    def direction(self, gradient: torch.Tensor) -> torch.Tensor:
        n = self.n
        if not n:
            return -gradient
        kept = self.kept[:, :, :n].flatten(2, 3)
        now = (gradient.flatten(2)[:, :, None].transpose(0, 1) @ kept.mT).transpose(0, 1)  # twice as fast in this order
        now = now.double().reshape(*gradient.shape[:2], n, 2)
        # The last change is the difference of two gradients; products with both are at hand.
        earlier = (now - self.before)[:, :, :-1]
        self.mixed[:, :, : n - 1, n - 1] = earlier[..., 0]
        self.squares[:, :, : n - 1, n - 1] = self.squares[:, :, n - 1, : n - 1] = earlier[..., 1]
        self.before, (steps, changes) = now, now[..., None].unbind(3)
        upper, squares = self.mixed[:, :, :n, :n], self.squares[:, :, :n, :n]
        back = torch.linalg.solve_triangular(upper, steps, upper=True)
        inner = upper.diagonal(dim1=2, dim2=3)[..., None] * back + self.scale * (squares @ back - changes)
        front = torch.linalg.solve_triangular(upper.mT, inner, upper=False)
        shares = torch.stack([-front, self.scale * back], 3).view(*gradient.shape[:2], 1, 2 * n).float()
        found = (shares.transpose(0, 1) @ kept).transpose(0, 1)
        return torch.addcmul(found.reshape(gradient.shape), self.scale.float(), gradient, value=-1)

    def keep(self, stay: torch.Tensor):
        """Forget the penalties that leave."""
        self.scale, self.before = self.scale[:, stay], self.before[:, stay]
        self.mixed, self.squares = self.mixed[:, stay], self.squares[:, stay]
        for new, old in enumerate(stay.nonzero()[:, 0].tolist()):
            if new != old:
                self.kept[new, :, : self.n] = self.kept[old, :, : self.n]
        self.kept = self.kept[: int(stay.sum())]
