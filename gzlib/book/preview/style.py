"""One palette for both renderers: the colours of ``styles/light.scss`` and ``styles/dark.scss`` as CSS variables."""

import re

from gzlib.errors import UserError

_DEFINITION = re.compile(r"^\$([\w-]+):\s*(.+?)\s*(?:!default)?;", re.MULTILINE)


def palette(file):
    """The ``$name: value;`` definitions of a Quarto theme file."""
    try:
        return dict(_DEFINITION.findall(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{file} is missing: restore it from git, it holds the colours of the book.") from None


def stylesheet(styles):
    """The preview's whole style sheet: light by default, dark where the system or the reader asks for it."""
    light, dark = (_variables(palette(styles / f"{name}.scss")) for name in ("light", "dark"))
    return (
        f":root {{ color-scheme: light; {light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root:not([data-theme=light]) {{ color-scheme: dark; {dark} }} }}\n"
        f":root[data-theme=dark] {{ color-scheme: dark; {dark} }}\n"
        + (styles / "preview.css").read_text(encoding="utf-8")
    )


def _variables(colours):
    return " ".join(f"--{name}: {value};" for name, value in colours.items())
