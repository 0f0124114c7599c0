"""Dirichlet-multinomial loss and its gradient, 88 questions, against Zoobot 2.9.0's, on the same votes."""

from functools import cache

import numpy as np
import torch
from harness import need, row
from roofline import device, on_gpu_only, reached, side_by_side

from gzlib import sky
from gzlib.data.schema import Schema, load_schema
from gzlib.training.loss import VoteLoss

BATCH, GOAL, TOLERANCE = 512, 20, 1e-5
# Operations that one (answer or question) term and its derivative need, a logarithm counted as ten: LogRising's own.
OPERATIONS_A_TERM = 90


def rows():
    need(("zoobot", "galaxy_datasets", "lightning"), "The comparison with Zoobot's loss")
    from zoobot.pytorch.training.losses import CustomMultiQuestionLoss, get_dirichlet_neg_log_prob

    schema = load_schema("paper")
    votes = union_votes(schema.name, BATCH)
    predicted = 1 + 100 * torch.rand(votes.shape, generator=torch.Generator().manual_seed(0))
    pairs = {q.name: list(q.answers) for q in schema.questions}
    theirs = CustomMultiQuestionLoss(pairs, get_dirichlet_neg_log_prob, sum_over_questions=True)
    columns = {name: votes[:, i] for i, name in enumerate(schema.label_cols)}
    ours = VoteLoss(schema)

    def loss_and_gradient(loss):
        a = predicted.clone().requires_grad_()
        value = loss(a)
        value.backward()
        return value.item(), a.grad

    tasks = {
        "zoobot": lambda: loss_and_gradient(lambda a: theirs(a, columns).mean()),
        "gzlib": lambda: loss_and_gradient(lambda a: ours(a, votes)),
    }
    (value, gradient), (expected, expected_gradient) = tasks["gzlib"](), tasks["zoobot"]()
    error = max(abs(value / expected - 1), (gradient - expected_gradient).abs().max().item())
    taken = side_by_side(tasks, rounds=6)
    asked = (schema.question_totals(votes.numpy()) > 0).sum()
    answered = int((votes > 0).sum())
    ratio = taken["zoobot"] / taken["gzlib"]
    detail = (
        f"{taken['gzlib'] * 1e3:.3f} ms against {taken['zoobot'] * 1e3:.2f} ms; {BATCH} simulated galaxies, each of one"
        f" campaign, {asked / BATCH:.1f} of {len(schema.questions)} questions and {answered / BATCH:.1f} of"
        f" {len(schema.label_cols)} answers with votes; {torch.get_num_threads()} threads"
    )
    moved, terms = 3 * 4 * predicted.numel(), asked + answered  # read predictions and votes, write the gradient
    return [
        row("loss.ratio", ratio, "x Zoobot", goal=f">= {GOAL}", ok=ratio >= GOAL, detail=detail),
        row(
            "loss.error",
            error,
            "",
            goal=f"<= {TOLERANCE:g}",
            ok=error <= TOLERANCE,
            detail="larger of the loss's relative and the gradient's absolute difference from Zoobot's, float32",
        ),
        reached("loss", taken["gzlib"], moved=moved, operations=terms * OPERATIONS_A_TERM, what="a batch"),
        on_gpu_only("loss.gpu_seconds", "s", lambda: on_gpu(schema, predicted, votes)),
    ]


def on_gpu(schema: Schema, predicted: torch.Tensor, votes: torch.Tensor):
    """Seconds of loss and gradient of one batch, predictions and votes (n, answers) lying on the device."""
    loss, votes = VoteLoss(schema, device=device()), votes.to(device())
    a = predicted.to(device()).requires_grad_()
    taken = side_by_side({"gzlib": lambda: torch.autograd.grad(loss(a, votes), a)})["gzlib"]
    return row("loss.gpu_seconds", taken, "s", detail=f"loss and gradient of {len(votes)} galaxies")


@cache
def union_votes(name: str, n: int) -> torch.Tensor:
    """Votes of simulated galaxies, as many of each campaign, on a union's answers: (n, answers) int32."""
    schema = load_schema(name)
    position = {name: i for i, name in enumerate(schema.label_cols)}
    votes = np.zeros((n, len(position)), np.int32)
    shares = np.array_split(np.random.default_rng(0).permutation(n), len(schema.campaigns))
    for campaign, share in zip(schema.campaigns, shares, strict=True):
        made = sky.simulate(campaign, range(len(share)), seed=1, size=32)
        for column, name in enumerate(load_schema(campaign).label_cols):
            if name in position:
                votes[share, position[name]] = made.votes[:, column]
    return torch.from_numpy(votes)
