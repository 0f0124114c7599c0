"""Quarto runs this before it renders (``_quarto.yml``, ``pre-render``): stale chapters are executed.

For the article (``_quarto-article.yml``), its chapters are; then they are written as the one text that it includes.

It is a script rather than ``python -m gzlib ...`` because Quarto starts scripts with the Python that it has found or
that ``QUARTO_PYTHON`` names, while a bare ``python`` does not exist on every machine.
"""

import os
import sys
from pathlib import Path


def main():
    from gzlib.book.builder import build
    from gzlib.book.chapters import book_config, book_inputs
    from gzlib.errors import UserError, handling, stop_at_once

    root = Path.cwd()  # Quarto starts its scripts there
    try:
        asked = os.environ.get("QUARTO_PROJECT_INPUT_FILES", "").splitlines()
        names = {Path(os.path.relpath(root / line, root)).as_posix() for line in asked}
        if printed := "article" in os.environ.get("QUARTO_PROFILE", "").split(","):
            names = set(book_config(root, profile="article")["article"])
        chapters = [page.stem for page in book_inputs(root) if page.is_notebook and page.path in names]
        if chapters or not asked:
            with handling(stop_at_once):
                build(only=chapters, project=root)
        if printed:
            from gzlib.book.html.pages import article

            article(root)
    except UserError as error:
        sys.exit(f"gzlib: {error}")


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent)  # the project
    try:
        main()
    except ModuleNotFoundError as error:
        sys.exit(f"gzlib: {sys.executable} has no {error.name}: set QUARTO_PYTHON to the Python that gzlib runs in.")
