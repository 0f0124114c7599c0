"""Numbers in prose: chapters publish them, ``_variables.yml`` keeps them, ``{{< var chapter.name >}}`` shows them."""

import numbers
import re
from pathlib import Path

import yaml

from gzlib import trace
from gzlib.errors import UserError
from gzlib.files import replace_file

FILE = "_variables.yml"
_HEADER = "# Written by `python -m gzlib build` from what the chapters publish; do not edit.\n"
_USE = re.compile(r"\{\{<\s*var\s+([^\s>]+)\s*>\}\}")


def publish(**values):
    """Make values of this chapter available to the prose of every chapter.

    ``publish(alpha="0.21")`` in ``02-pretraining.ipynb`` is shown by ``{{< var pretraining.alpha >}}``.

    Parameters
    ----------
    **values : str or number
        A string is shown as it is (Markdown and math work), a number as Python prints it: format it first.

    Raises
    ------
    UserError
        For any other value.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, str | numbers.Real):
            raise UserError(f"publish({name}=...) takes text or a number, not {value!r}: format it first.")
        trace.note("variable", name=name, value=value if isinstance(value, str) else f"{value}")


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
            "publish them in a code cell (gzlib.book.variables.publish) or correct the name."
        )
