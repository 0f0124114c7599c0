"""Identity is content: hashes of values, files and source code, which keys and fingerprints are made of.

Versions raised by hand are few and stand here: they say what no hash can, that the same input is treated otherwise.
"""

import ast
import hashlib
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

# Raised when the same configuration comes to mean another training. Enters the key of every run.
TRAINING_VERSION = 2
# Raised when the same input gives another survey. Enters the fingerprint of every survey.
CURATION_VERSION = 1

# Fields of a syntax tree that only some Python versions have, or that carry no meaning.
_SKIPPED = {"type_params", "type_comment", "type_ignores", "kind", "ctx", "returns"}
_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def canonical_json(value: object) -> str:
    """One spelling for one content: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_hash(value: object) -> str:
    """SHA-256 (64 hexadecimal digits) of anything that JSON can hold."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_hash(path: Path) -> str:
    """SHA-256 of a text file; line ends do not count."""
    return hashlib.sha256(Path(path).read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def code_hash(path: Path) -> str:
    """Hash of what a Python file does: comments, docstrings, type annotations of functions and layout do not count."""
    return _code_hash(Path(path).read_bytes())


@lru_cache(maxsize=512)
def _code_hash(source: bytes) -> str:
    return content_hash(canonical_tree(parse(source)))


@lru_cache(maxsize=512)  # a module is read for its hash and for its imports
def parse(source: bytes) -> ast.Module:
    """The syntax tree of Python source, not to be changed."""
    return ast.parse(source)


def canonical_tree(node: object) -> list[Any]:
    """A syntax tree as nested lists of plain values, equal on every supported Python: ``ast.dump`` differs."""
    if isinstance(node, ast.AST):
        fields = [
            [name, canonical_tree(value)]
            for name, value in _fields(node)
            if name not in _SKIPPED and value is not None and value != []
        ]
        return [type(node).__name__, *fields]
    if isinstance(node, list):
        return [canonical_tree(item) for item in node]
    if isinstance(node, bytes):
        return ["bytes", node.hex()]
    return [type(node).__name__, repr(node)] if not isinstance(node, str) else ["str", node]


def _fields(node: ast.AST) -> Iterator[tuple[str, Any]]:
    for name, value in ast.iter_fields(node):
        if name == "annotation" and isinstance(node, ast.arg):
            continue
        if name == "body" and isinstance(node, _WITH_DOCSTRING) and _is_text(value):
            value = value[1:]
        elif name == "values" and isinstance(node, ast.JoinedStr):
            # Python 3.12 cuts the literal parts of an f-string differently than 3.11.
            value = _merge_texts(value)
        yield name, value


def _is_text(body: list[ast.stmt]) -> bool:
    first = body[0] if body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def _merge_texts(parts: list[ast.expr]) -> list[ast.expr]:
    merged: list[Any] = []
    for part in parts:
        if isinstance(part, ast.Constant) and merged and isinstance(merged[-1], ast.Constant):
            before: Any = merged[-1].value  # text, in an f-string
            merged[-1] = ast.Constant(before + part.value)
        elif not (isinstance(part, ast.Constant) and part.value == ""):
            merged.append(part)
    return merged
