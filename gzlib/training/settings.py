"""Settings from a file or a command line, put into configurations and checked on the way."""

import difflib
import tomllib
import types
from dataclasses import fields, is_dataclass, replace
from typing import get_args, get_origin, get_type_hints

from gzlib.errors import UserError

WORDS = {int: "a whole number", float: "a number", str: "a text in quotes", bool: "true or false"}


def fill(default, values: dict, where: str):
    """A copy of a configuration with some of its fields changed.

    Parameters
    ----------
    default : dataclass instance
        Nested dataclasses are filled from nested tables.
    values : dict
        Field to value.
    where : str
        Where the values stand, for errors: ``plan.toml, [[pretrain]] 2``.

    Raises
    ------
    UserError
        If a field is unknown (the nearest names are given) or its value is of another type.
    """
    hints = get_type_hints(type(default))
    refuse_unknown(values, hints, where)
    changes = {name: _value(value, getattr(default, name), hints[name], name, where) for name, value in values.items()}
    return replace(default, **changes)


def refuse_unknown(values: dict, known, where: str):
    """Refuse keys that are not known, naming those that are spelt nearly so."""
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known)
            quoted = " or ".join(f"'{word}'" for word in near)
            hint = f"did you mean {quoted}?" if near else f"known are {', '.join(known)}."
            raise UserError(f"{where}: unknown key '{name}'; {hint}")


def grid(values: dict, default) -> list[dict]:
    """Every combination of the values that are lists; a field that is itself a list varies as a list of lists."""
    combinations = [{}]
    for name, value in values.items():
        held = getattr(default, name, None)
        if is_dataclass(held) and isinstance(value, dict):
            choices = grid(value, held)
        elif isinstance(value, list) and not (isinstance(held, tuple) and not any(isinstance(v, list) for v in value)):
            choices = value
        else:
            choices = [value]
        combinations = [{**c, name: choice} for c in combinations for choice in choices]
    return combinations


def parse_settings(pairs: list[str]) -> dict:
    """``["recipe.clip=1", "recipe.augment.flip=false"]`` as nested tables; what is no TOML value is a text."""
    settings: dict = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise UserError(f"--set {pair}: write NAME=VALUE, such as recipe.learning_rate=1e-3.")
        *tables, last = name.strip().split(".")
        inner = settings
        for table in tables:
            inner = inner.setdefault(table, {})
            if not isinstance(inner, dict):
                raise UserError(f"--set {pair}: '{table}' is set to a value already.")
        try:
            inner[last] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            inner[last] = text.strip()
    return settings


def _value(value, held, hint, name: str, where: str):
    if is_dataclass(held):
        if not isinstance(value, dict):
            raise UserError(f"{where}: '{name}' must be a table with {', '.join(f.name for f in fields(held))}.")
        return fill(held, value, f"{where}, {name}")
    if isinstance(hint, types.UnionType):  # such as int | None: a value that is given is the int
        hint = next(kind for kind in get_args(hint) if kind is not type(None))
    if get_origin(hint) is tuple:
        kinds = get_args(hint)
        if not isinstance(value, list) or len(value) != len(kinds):
            raise UserError(f"{where}: '{name}' must be a list of {len(kinds)} values, not {value!r}.")
        return tuple(_scalar(v, kind, name, where) for v, kind in zip(value, kinds, strict=True))
    return _scalar(value, hint, name, where)


def _scalar(value, kind: type, name: str, where: str):
    if kind is float and type(value) is int:
        return float(value)
    if kind in WORDS and type(value) is not kind:
        raise UserError(f"{where}: '{name}' must be {WORDS[kind]}, not {value!r}.")
    return value
