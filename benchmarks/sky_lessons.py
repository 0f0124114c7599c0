"""What ``transfer.py`` teaches an encoder about the simulated sky, and how."""

import numpy as np
import torch
from torch import nn

from gzlib import sky
from gzlib.data.schema import load_schema

SIGHTS = (
    "arms bar ring axis_ratio edge_on disc bulge dust knots clumps texture lopsided merger minor_merger overlap tail"
)
SURVEYS = ("gz2", "dr5", "rings")  # two campaigns with votes; a survey rich in rings, without
MIRRORED = -1  # the winding is the last column of the known structure: a mirror image turns its sign
# What no campaign's question teaches, or only a rare branch, counts more in the loss.
WEIGHT = {"arms": 2.0, "ring": 3.0, "winding": 4.0}


def lessons(galaxies: int, size: int) -> tuple[torch.Tensor, torch.Tensor, list[tuple[slice, torch.Tensor, list]]]:
    """Images, known visible structure (standardised), and for each campaign its rows, votes and questions."""
    pictures, known, votes = [], [], []
    each = galaxies // len(SURVEYS)
    for place, survey in enumerate(SURVEYS):
        make = sky.simulate if survey in sky.CAMPAIGNS else sky.simulate_task
        made = make(survey, range(each), seed=7, size=size)
        truth = made.truth
        sights = truth[[f"visible_{name}" for name in SIGHTS.split()]].to_numpy()
        pitch = truth["visible_arms"] * np.rad2deg(truth["pitch"]) / 20
        colour = truth["colour_old"] * truth["bulge_fraction"] + truth["colour_young"] * truth["disc_fraction"]
        winding = truth["visible_arms"] * truth["handedness"]  # no question asks for it, Galaxy Zoo 1 did
        known.append(np.column_stack([sights, pitch, colour, winding]))
        pictures.append(made.images)
        if made.votes is not None:
            rows = slice(place * each, (place + 1) * each)
            votes.append((rows, torch.from_numpy(made.votes).float(), load_schema(survey).questions))
    known = np.concatenate(known)
    known = (known - known.mean(0)) / known.std(0)
    return torch.from_numpy(np.concatenate(pictures)), torch.from_numpy(known).float(), votes


def varied(pictures: torch.Tensor, known: torch.Tensor, generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch turned, mirrored, zoomed and shifted at random, its colours and sky level altered; targets to match.

    Colours and backgrounds are what tells simulated from real images most easily: an encoder that sees them vary
    can't rest on them.
    """
    n, device = len(pictures), pictures.device

    def between(low, high, *shape):
        return (low + (high - low) * torch.rand((n, *shape), generator=generator)).to(device)

    angle, zoom, mirror = between(0, 2 * np.pi), between(0.75, 1.15), torch.sign(between(-1, 1))
    rows = torch.stack([torch.cos(angle) * zoom * mirror, -torch.sin(angle) * zoom, between(-0.06, 0.06)], 1)
    others = torch.stack([torch.sin(angle) * zoom * mirror, torch.cos(angle) * zoom, between(-0.06, 0.06)], 1)
    x = pictures.permute(0, 3, 1, 2).float() / 255
    grid = nn.functional.affine_grid(torch.stack([rows, others], 1), x.shape, align_corners=False)
    x = nn.functional.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    grey = x.mean(1, keepdim=True)
    x = grey + between(0.2, 1.3, 1, 1, 1) * (x - grey)
    x = x * between(0.75, 1.25, 1, 1, 1) * between(0.88, 1.12, 3, 1, 1) + between(-0.04, 0.06, 1, 1, 1)
    grain = torch.Generator(device).manual_seed(int(torch.randint(1 << 62, (), generator=generator)))
    x = (x + between(0, 0.02, 1, 1, 1) * torch.randn(x.shape, generator=grain, device=device)).clamp(0, 1)
    known = known.clone()
    known[:, MIRRORED] *= mirror
    return x * 2 - 1, known


def pretrain(model, lesson: tuple, images: int, *, rate: float = 6e-4, batch: int = 48, device="cpu") -> int:
    """Train in place on so many images, counting each time that one is shown; how many it were, in whole batches.

    The loss is the mean squared error on the known structure plus the cross-entropy of the votes.
    """
    pictures, known = (part.to(device) for part in lesson[:2])
    votes = [(rows, counts.to(device), questions) for rows, counts, questions in lesson[2]]
    model.to(device)
    width = known.shape[1]
    names = (*SIGHTS.split(), "pitch", "colour", "winding")
    weight = torch.tensor([WEIGHT.get(name, 1.0) for name in names], device=device)
    head = nn.Linear(model.num_features, width + sum(counts.shape[1] for _, counts, _ in votes)).to(device)
    rates = (rate, 3e-3)
    optimiser = torch.optim.AdamW(
        [{"params": part.parameters(), "lr": rate} for part, rate in zip((model, head), rates, strict=True)],
        weight_decay=0.02,
    )
    generator, step = torch.Generator().manual_seed(0), 0
    model.train()
    while (spent := step * batch / images) < 1:
        rows = torch.randint(len(pictures), (batch,), generator=generator).to(device)
        x, wanted = varied(pictures[rows], known[rows], generator)
        out = head(model.forward_head(model.forward_features(x), pre_logits=True))
        loss, offset = (weight * (out[:, :width] - wanted) ** 2).mean(), width
        for part, counts, questions in votes:
            chosen = (rows >= part.start) & (rows < part.stop)
            logits, count = out[chosen, offset : offset + counts.shape[1]], counts[rows[chosen] - part.start]
            for question in questions:
                answer = nn.functional.log_softmax(logits[:, question.columns], 1)
                loss = loss - (count[:, question.columns] * answer).sum() / batch / 40
            offset += counts.shape[1]
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * min(1, step / 50) * (0.5 + 0.5 * np.cos(np.pi * spent))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimiser.step()
        step += 1
    model.cpu().eval()
    return step * batch
