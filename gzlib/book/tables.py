"""Tables of the chapters as Markdown."""


def note_table(text: str) -> str:
    """A sentence as a table of one cell: what a numbered table shows when there is nothing to tabulate."""
    return f"|   |\n|:--|\n| {text} |"
