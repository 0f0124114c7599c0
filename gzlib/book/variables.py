"""Numbers in prose: chapters publish them, `_variables.yml` keeps them, pages and the README show them."""

import base64
import re
from pathlib import Path

import yaml

from gzlib.book.chapters import cell_options
from gzlib.errors import UserError
from gzlib.files import replace_file, write_whole

FILE = "_variables.yml"
_HEADER = "# Written by `python -m gzlib build` from what the chapters publish; do not edit.\n"
_USE = re.compile(r"\{\{<\s*var\s+([^\s>]+)\s*>\}\}")


def chapter_name(stem):
    """``02-pretraining`` is ``pretraining`` in prose."""
    return re.sub(r"^\d+-", "", stem)


def collect(notebooks):
    """All published values, from executed notebooks.

    Parameters
    ----------
    notebooks : dict
        File stem to notebook.

    Returns
    -------
    dict
        ``{chapter: {name: text}}``
    """
    values = {chapter_name(stem): nb.metadata.get("gzlib", {}).get("variables", {}) for stem, nb in notebooks.items()}
    return {chapter: dict(named) for chapter, named in values.items() if named}


def write(values, folder):
    """Write ``_variables.yml`` in a folder, in one fixed order."""
    text = yaml.safe_dump(values, sort_keys=True, allow_unicode=True, width=10_000) if values else "{}\n"
    return replace_file(Path(folder) / FILE, _HEADER + text)


def load(folder):
    """``_variables.yml`` of a folder; empty if it is not there."""
    file = Path(folder) / FILE
    return (yaml.safe_load(file.read_text(encoding="utf-8")) or {}) if file.exists() else {}


def lookup(name, values):
    """The text of ``chapter.name``, or None."""
    for part in name.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return None if values is None or isinstance(values, dict) else str(values)


def refuse_unknown(prose, values):
    """Refuse prose that names a variable which nobody published.

    Parameters
    ----------
    prose : dict
        Page name to its Markdown text.
    values : dict
        As :func:`collect` returns them.
    """
    missing = [
        f"{name} (in {page})"
        for page, text in prose.items()
        for name in dict.fromkeys(_USE.findall(text))
        if lookup(name, values) is None
    ]
    if missing:
        raise UserError(
            f"The prose names variables that no chapter publishes: {', '.join(missing)}; "
            "publish them in a code cell (gzlib.publish) or correct the name."
        )


START, END = "<!-- results: written by `python -m gzlib build` -->", "<!-- end of results -->"
RESULTS = "_results.md"  # what the README shows between the two, with variables
_FIGURE = re.compile(r"\(figures/([\w-]+)\.png\)")


def write_results(project: Path, notebooks: dict, variables: dict):
    """Bring the README's table and the figures that it shows up to date with the executed chapters."""
    readme = project / "README.md"
    if not readme.is_file():
        return
    text = readme.read_text(encoding="utf-8")
    for name in dict.fromkeys(_FIGURE.findall(text)):
        image, file = _stored_png(notebooks, f"fig-{name}"), project / "figures" / f"{name}.png"
        if image is not None and not (file.is_file() and file.read_bytes() == image):
            write_whole(file, lambda target, image=image: target.write(image))
    if START in text:
        if END not in text:
            raise UserError(f"README.md opens the results with '{START}' but does not close them with '{END}'.")
        before, rest = text.split(START, 1)
        after = rest.split(END, 1)[1]
        table = results_table((project / RESULTS).read_text(encoding="utf-8"), variables)
        replace_file(readme, f"{before}{START}\n{table}\n{END}{after}")


def results_table(template: str, variables: dict) -> str:
    """A Markdown table with its variables filled in; a row that lacks one says that it was not measured."""
    lines = []
    for line in template.strip().splitlines():
        if any(lookup(name, variables) is None for name in _USE.findall(line)):
            line = f"{line[: line.index('|', 1)]}| not measured |"
        lines.append(_USE.sub(lambda match: lookup(match[1], variables), line))
    return "\n".join(lines)


def _stored_png(notebooks: dict, label: str) -> bytes | None:
    for notebook in notebooks.values():
        for cell in notebook.cells:
            if cell.cell_type == "code" and cell_options(cell)[0].get("label") == label:
                for output in cell.outputs:
                    if "image/png" in output.get("data", {}):
                        return base64.b64decode(output.data["image/png"])
    return None
