"""Quarto's shortcodes ``{{< var name >}}`` and ``{{< meta name >}}``, filled in before Markdown is read."""

import re

from gzlib.book.variables import lookup

_SHORTCODE = re.compile(r"\{\{\{<(?P<escaped>.*?)>\}\}\}|\{\{<\s*(?P<kind>[\w-]+)\s*(?P<name>[^>]*?)\s*>\}\}")


def fill(markdown, *, variables, meta, problems, page):
    """Replace shortcodes; what cannot be replaced is added to ``problems`` and stays as it is.

    Parameters
    ----------
    markdown : str
    variables : dict
        As in ``_variables.yml``.
    meta : dict
        The page's front matter over the book's configuration.
    problems : list of str
    page : str
        For messages.
    """

    def replacement(match):
        kind, name = match["kind"], match["name"]
        if kind is None:
            return "{{<" + match["escaped"] + ">}}"
        if kind == "pagebreak":
            return ""
        value = lookup(name, {"var": variables, "meta": meta}.get(kind, {}))
        if value is None:
            known = kind in ("var", "meta")
            problems.append(f"{page}: {match[0]} " + ("is not defined" if known else "is no shortcode of the preview"))
            return match[0]
        return value

    return _SHORTCODE.sub(replacement, markdown)
