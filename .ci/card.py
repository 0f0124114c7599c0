"""Draw ``figures/card.png``, which other sites show beside a link to the book: title, headline, simulated galaxies.

python .ci/card.py

The same project gives the same bytes: galaxies have fixed numbers, and the PNG holds pixels and nothing else.
"""

import io
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import PIL.Image
from matplotlib.figure import Figure

from gzlib import sky
from gzlib.book.chapters import book_config, edition, load_variables
from gzlib.book.execute import strip_png
from gzlib.study.figures import NIGHT, STARLIGHT
from gzlib.study.sheets import contact_sheet

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT, SIDE = 1200, 630, 157  # pixels; those of a galaxy's image
GALAXIES = {"dr5": (0, 3, 10, 15), "gz2": (2, 5, 8, 14), "hubble": (1, 6, 9, 17), "cd": (4, 8, 11, 12)}
COLOURS = 160  # of the palette: noise makes a PNG of galaxies large


def card(root: Path = ROOT) -> bytes:
    """The PNG's bytes."""
    book, variables = book_config(root)["book"], load_variables(root) | edition(root)
    rows = [sky.simulate(name, numbers, seed=0, size=SIDE).images for name, numbers in GALAXIES.items()]
    with mpl.rc_context({"font.family": "DejaVu Sans", "text.color": STARLIGHT}):
        figure = Figure(figsize=(WIDTH / 100, HEIGHT / 100), dpi=100, facecolor=NIGHT)
        sheet = contact_sheet(np.concatenate(rows), 4)
        figure.figimage(sheet, WIDTH - 4 * SIDE, 1)
        words = figure.text
        title = book["title"].replace(" for ", "\nfor ")
        words(0.04, 0.86, title, fontsize=30, fontweight="bold", va="top", linespacing=1.2)
        words(0.04, 0.62, book["subtitle"], fontsize=20, va="top", color="#8ab4f8")
        real = variables["finetuning"]["real_short"].split(":")[0].replace("(", "\n(")
        words(0.04, 0.45, "Pretrained on galaxies: fewer errors\non real galaxies by " + real, fontsize=15, va="top",
              linespacing=1.5)  # fmt: skip
        words(0.04, 0.08, f"gzlib {variables['paper']['version']}", fontsize=13, color="#9aa4b0")
        drawn, file = io.BytesIO(), io.BytesIO()
        figure.savefig(drawn, format="png", facecolor=NIGHT)
    PIL.Image.open(drawn).convert("RGB").quantize(COLOURS, dither=PIL.Image.Dither.NONE).save(
        file, "PNG", optimize=True
    )
    return strip_png(file.getvalue())


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    (ROOT / "figures" / "card.png").write_bytes(card())
