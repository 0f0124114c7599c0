"""Figures made of galaxy pictures, kept small: one sheet for each campaign, and ladders of votes."""

import io
import textwrap

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image

from gzlib.data.sky import contact_sheet, simulate
from gzlib.data.sky.sheets import ladders


def campaign_sheets(images: dict[str, np.ndarray], *, columns: int = 6, across: int = 2):
    """One contact sheet for each title, ``across`` of them beside each other.

    Parameters
    ----------
    images : dict
        Title to pictures, (n, size, size, 3) uint8, the same n for all.
    columns : int
        Pictures in a row of one sheet.
    """
    down = -(-len(images) // across)
    rows = -(-max(len(pictures) for pictures in images.values()) // columns)
    width = 7.6
    height = down * (width / across / columns * rows + 0.24)
    figure, axes = plt.subplots(down, across, figsize=(width, height), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (title, pictures) in zip(axes.flat, images.items(), strict=False):
        axis.imshow(contact_sheet(pictures, columns), interpolation="antialiased")
        axis.set_title(title, fontsize=8, pad=3)
    figure.subplots_adjust(0.004, 0.004, 0.996, 1 - 0.22 / height, wspace=0.015, hspace=0.24 * down / height * 1.1)
    return figure


def vote_ladders(blocks: list[dict[str, tuple[np.ndarray, np.ndarray]]], *, titles: list[str] | None = None):
    """Rows of pictures, the chance of the answer written into each picture; one block of rows beside the other.

    Parameters
    ----------
    blocks : list of dict
        For each block: row title to (pictures (steps, size, size, 3) uint8, chance (steps,)). Rows may differ in
        length; an empty one says so.
    titles : list of str, optional
        One above each block.
    """
    steps = max(len(chance) for block in blocks for _, chance in block.values())
    down, label, width = max(map(len, blocks)), 1.3, 7.6 / len(blocks)
    side, head = (width - label) / steps, 0.22 if titles else 0.0
    height = down * side * 1.03 + head
    figure = plt.figure(figsize=(7.6, height))
    for place, block in enumerate(blocks):
        left = (place * width + label) / 7.6
        for row, (title, (pictures, chance)) in enumerate(block.items()):
            bottom = 1 - (head + (row + 1) * side * 1.03) / height
            axis = figure.add_axes((left, bottom, steps * side / 7.6, side / height))
            axis.set_axis_off()
            axis.text(-0.01, 0.5, title, transform=axis.transAxes, fontsize=6.5, ha="right", va="center")
            if not len(chance):
                axis.text(0.01, 0.5, "too few galaxies are asked", transform=axis.transAxes, fontsize=6.5, va="center")
                continue
            size = pictures.shape[1]
            axis.imshow(contact_sheet(pictures, steps), interpolation="antialiased", aspect="auto")
            for step, value in enumerate(chance):
                axis.text((step + 0.04) * size, 0.05 * size, f"{value:.2f}", color="white", fontsize=5.5, va="top")
        if titles:
            figure.text(left, 1 - 0.16 / height, titles[place], fontsize=8)
    return figure


def simulated_ladders(campaign: str, *, steps: int, size: int = 56) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """One block for :func:`vote_ladders`: every question of a campaign, pictures cut to their central two thirds."""
    rows, margin = {}, size // 4
    for name, (numbers, chance) in ladders(campaign, seed=0, steps=steps, galaxies=2000).items():
        question, answer = name.rsplit("_", 1)
        words = f"{question.rsplit('-', 1)[0]}:".replace("-", " ")
        title = f"{textwrap.fill(words, 20)}\n{answer.replace('-', ' ')}"
        pictures = simulate(campaign, numbers, seed=0, size=size + 2 * margin).images
        rows[title] = pictures[:, margin:-margin, margin:-margin], chance
    return rows


def as_jpeg(figure, *, dpi: int = 110, quality: int = 80) -> Image:
    """A figure as a JPEG picture for the notebook, and the figure closed: noise makes a PNG of galaxies large."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="jpeg", dpi=dpi, pil_kwargs={"quality": quality})
    plt.close(figure)
    return Image(data=buffer.getvalue(), format="jpeg")
