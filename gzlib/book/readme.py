"""Results outside the chapters: the headline figure as a file, and the README's table."""

import base64
import re
from pathlib import Path

from gzlib.book.chapters import cell_options
from gzlib.book.variables import lookup
from gzlib.errors import UserError
from gzlib.files import replace_file, write_whole

START, END = "<!-- results: written by `python -m gzlib build` -->", "<!-- end of results -->"
HEADLINE = "fig-fits"  # label of the figure that opens the README and the book

# What the table says of each finding: its name, and a sentence with the variables that the chapters publish.
FINDINGS = {
    "More galaxies": (
        "loss falls with data on {power-laws.improving} questions; a doubling beyond the fitted sizes is predicted"
        " to {power-laws.held} % (carrying the last value forward: {power-laws.held_last} %)"
    ),
    "More parameters": "{power-laws.small} to {power-laws.large}: better on {power-laws.helped} questions, worse on"
    " {power-laws.hurt}",
    "ImageNet + galaxies": "{finetuning.mean_linear} % fewer errors than ImageNet alone with linear probes,"
    " {finetuning.mean_full} % with full finetuning, mean over {finetuning.tasks} tasks",
    "Linear or full": "{finetuning.linear_equal} of the galaxy-pretrained comparisons: a linear probe is as good as"
    " full finetuning or better",
}


def write_results(project: Path, notebooks: dict, variables: dict):
    """Bring ``figures/`` and the README's table up to date with the executed chapters."""
    if (image := _stored_png(notebooks, HEADLINE)) is not None:
        file = project / "figures" / f"{HEADLINE.removeprefix('fig-')}.png"
        if not file.is_file() or file.read_bytes() != image:
            write_whole(file, lambda target: target.write(image))
    readme = project / "README.md"
    if readme.is_file() and START in (text := readme.read_text(encoding="utf-8")):
        if END not in text:
            raise UserError(f"README.md opens the results with '{START}' but does not close them with '{END}'.")
        before, rest = text.split(START, 1)
        after = rest.split(END, 1)[1]
        replace_file(readme, f"{before}{START}\n{results_table(variables)}\n{END}{after}")


def results_table(variables: dict) -> str:
    """The findings as a Markdown table; a finding that lacks a variable says that it was not measured."""
    lines = ["| finding | measured here |", "|---|---|"]
    for name, sentence in FINDINGS.items():
        missing = [v for v in re.findall(r"\{([^}]+)\}", sentence) if lookup(v, variables) is None]
        text = re.sub(r"\{([^}]+)\}", lambda match: lookup(match[1], variables), sentence) if not missing else None
        lines.append(f"| {name} | {text or 'not measured'} |")
    return "\n".join(lines)


def _stored_png(notebooks: dict, label: str) -> bytes | None:
    for notebook in notebooks.values():
        for cell in notebook.cells:
            if cell.cell_type == "code" and cell_options(cell)[0].get("label") == label:
                for output in cell.outputs:
                    if "image/png" in output.get("data", {}):
                        return base64.b64decode(output.data["image/png"])
    return None
