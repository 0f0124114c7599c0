"""Command lines that people have in scripts and notes go on meaning what they meant."""

import json
import re
import shlex
from dataclasses import asdict, fields, is_dataclass, make_dataclass
from pathlib import Path

import pytest
from cyclopts import MissingArgumentError

from gzlib import paths
from gzlib.__main__ import ABOUT, arguments_of, help_text, main, parse
from gzlib.cli import tools, train
from gzlib.config import FINETUNING, Augment, Conduct, FinetuneConfig, Objective, PretrainConfig, Recipe, SurveySpec

# What every command line of the README of version 0.1, and of all texts and examples since, meant to the parser that
# was written by hand: {"usual": options of each command, "lines": what differs from them}.
KNOWN = json.loads((paths.ROOT / "tests" / "command_lines.json").read_text())
COMMANDS = [name for names in ABOUT.values() for name in names.split()]
DEFAULTS = {"pretrain": train.PRETRAIN, "finetune": train.FINETUNE}


def meant(line: str) -> dict:
    """Command and values of a command line, by the names that the options had in version 0.1."""
    command, bound = parse(shlex.split(line))
    around = {}
    if command.__name__ == "_in_store":
        around = {name: bound.arguments[name] for name in ("store", "book") if name in bound.arguments}
        command, bound, _ = train.runs.parse_args(bound.arguments["tokens"])
    name = "runs " * (command.__module__ == "gzlib.cli.train" and command.__name__ in train.runs) + command.__name__
    bound.apply_defaults()
    given = dict(bound.arguments)
    for part, default in (("run", DEFAULTS.get(name)), ("conduct", train.USUAL), ("survey", train.SURVEY)):
        if part in given and not isinstance(given[part], Path):
            given |= {key: value for key, value in vars(train.filled(default, given.pop(part))).items() if key not in given}
    for part in [key for key, value in given.items() if is_dataclass(value)]:
        given |= {key: value for key, value in vars(given[part]).items() if key not in given}
    if name in DEFAULTS or name == "curate":
        given["survey" if name in DEFAULTS else "folder"] = given["source"] if name in DEFAULTS else None
    if name in DEFAULTS:
        given["survey"] = given["source"]
    given["set"] = given.get("settings")
    given["form"] = "json" if given.get("json") else "csv" if given.get("csv") else "text"
    if "keys" in given:
        given["keys"] = [given["key"], *given["keys"]]
    return {"command": name} | given | around


def plain(value):
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


@pytest.mark.parametrize("line", KNOWN["lines"])
def test_a_command_line_means_what_it_meant(line):
    old = KNOWN["lines"][line]
    old = KNOWN["usual"][old["command"]] | old
    if "survey" in old and not old["survey"]:
        with pytest.raises(MissingArgumentError):  # which was told later
            parse(shlex.split(line))
        return
    new = {name: plain(value) for name, value in meant(line).items()}
    if old["command"] in DEFAULTS:  # the recipe's, where none was given
        recipe = asdict(DEFAULTS[old["command"]].recipe)
        old |= {name: recipe[name] for name in ("examples", "batch_size", "learning_rate") if old[name] is None}
    for name, value in old.items():
        assert new.get(name) == value or not (new.get(name) or value or value == 0), name
