"""Citations of the whole book, which lead to one page of references if there is one."""

import json
from functools import lru_cache

import pypandoc

from gzlib.book.preview import pandoc
from gzlib.errors import UserError


def known_keys(files):
    """Every key that the bibliography files define."""
    return frozenset().union(*(_keys(file) for file in files))


@lru_cache(maxsize=8)
def _keys(file):
    try:
        items = pypandoc.convert_file(str(file), "csljson", format="bibtex", verify_format=False)
    except RuntimeError as error:
        raise UserError(f"{file} cannot be read as BibTeX: {' '.join(str(error).split())}") from error
    return frozenset(item["id"] for item in json.loads(items))


def cited_keys(blocks):
    """Keys that a page cites."""
    keys = set()

    def collect(kind, content):
        if kind == "Cite":
            keys.update(citation["citationId"] for citation in content[0])

    pandoc.change(blocks, collect)
    return keys


def is_references(blocks):
    """Whether a page is where the references are to stand: it has a Div called ``refs``."""
    return any(map(_is_refs, blocks))


def refer_to(blocks, page):
    """Drop a page's own list of references and let its citations lead to that of another page."""

    def redirect(kind, content):
        if kind == "Link" and content[2][0].startswith("#ref-"):
            return {"t": "Link", "c": [*content[:2], [page + content[2][0], content[2][1]]]}
        return None

    return pandoc.change([block for block in blocks if not _is_refs(block)], redirect)


def _is_refs(block):
    return block["t"] == "Div" and block["c"][0][0] == "refs"
