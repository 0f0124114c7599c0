"""Command lines go on meaning what they meant; options come from the dataclasses; help and mistakes can be read."""

import json
import re
import shlex
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import get_args

import pytest
from cyclopts import App, MissingArgumentError

from gzlib import cli, paths
from gzlib.__main__ import ABOUT, arguments_of, help_text, main, named, parse
from gzlib.cli.tools import app
from gzlib.config import (
    Augment,
    Conduct,
    FinetuneConfig,
    Objective,
    PretrainConfig,
    Recipe,
    SurveySpec,
    study_recipe,
)
from gzlib.errors import UserError
from gzlib.training.sweeps import jobs_of

# What every command line of the README of version 0.1, and of all texts and examples since, meant to the parser that
# was written by hand: {"usual": options of each command, "lines": what differs from them}.
KNOWN = json.loads((paths.ROOT / "tests" / "command_lines.json").read_text())
COMMANDS = [name for names in ABOUT.values() for name in names.split()]
ALL = [*COMMANDS, *(f"runs {action}" for action in cli.runs)]
DEFAULTS = {"pretrain": cli.PRETRAIN, "finetune": cli.FINETUNE}


def meant(line: str) -> dict:
    """Command and values of a command line, by the names that the options had in version 0.1."""
    command, bound = parse(shlex.split(line))
    name, around = command.__name__, {}
    if name == "_in_store":
        around = {name: bound.arguments[name] for name in ("store", "book") if name in bound.arguments}
        command, bound, _ = cli.runs.parse_args(bound.arguments["tokens"])
        name = f"runs {command.__name__}"
    bound.apply_defaults()
    given = dict(bound.arguments)
    for part, default in (("run", DEFAULTS.get(name)), ("conduct", cli.USUAL), ("survey", cli.SURVEY)):
        if part in given and not isinstance(given[part], Path):
            given = vars(cli.filled(default, given.pop(part))) | given
    for part in [key for key, value in given.items() if is_dataclass(value)]:
        given = vars(given[part]) | given
    given |= {"survey": given["source"]} if name in DEFAULTS else {}
    given |= {"keys": [given["key"], *given["keys"]]} if "keys" in given else {}
    form = "json" if given.get("json") else "csv" if given.get("csv") else "text"
    return {"command": name, "set": given.get("settings"), "form": form} | given | around


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


def written() -> list[str]:
    """Whole command lines in the texts, examples and chapters, without those that leave something out."""
    files = [paths.ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "index.qmd", "Makefile")]
    for pattern in ("chapters/*.ipynb", "examples/*", "data/README.md", "data/plans/*", ".github/**/*.yml", "*.qmd"):
        files += sorted(paths.ROOT.glob(pattern))
    text = "\n".join(file.read_text() for file in files if file.is_file())
    lines = []
    for found in re.findall(rf"gzlib ((?:{'|'.join(COMMANDS)}) [^\n`<|]*)", text):
        line = re.split(r"\s+#|\s{3,}|\\n|\"\$@\"|(?<=\.toml) makes", found)[0].strip()
        line = line.rstrip('",') if line.count('"') % 2 else line
        if "..." not in line and "[" not in line.partition(" -p ")[0] and " " in line:
            lines.append(line)
    return sorted(set(lines))


def test_every_command_line_of_the_texts_can_be_read():
    lines = written()
    assert len(lines) > 40
    for line in lines:
        words = [{"$workers": "2", "$1": "PLAN", "$plan": "PLAN"}.get(word, word) for word in shlex.split(line)]
        parse(words)


def option_names(command: str) -> set[str]:
    return {name for one in named(command.split())[1] for argument in arguments_of(one) for name in argument.names}


def dashed(cls: type, prefix: str = "--", without: str = "") -> set[str]:
    return {prefix + f.name.replace("_", "-") for f in fields(cls) if f.name not in without.split()}


@pytest.mark.parametrize(("command", "config"), [("pretrain", PretrainConfig), ("finetune", FinetuneConfig)])
def test_every_field_of_what_defines_a_run_is_an_option(command, config):
    names = option_names(command)
    assert dashed(config, without="recipe objective") <= names
    assert dashed(SurveySpec, without="source limit seed") | {"--survey"} <= names
    assert dashed(Conduct, without="report live noted") <= names
    for prefix in ("--", "--recipe."):
        assert dashed(Recipe, prefix, without="augment") | dashed(Augment, f"{prefix}augment.") <= names
    assert command == "finetune" or dashed(Objective, "--objective.") <= names
    assert dashed(SurveySpec, without="source") <= option_names("curate")


def test_a_field_that_is_added_is_an_option_with_its_help_and_the_default_of_the_instance():
    @dataclass(frozen=True)
    class Longer(Recipe):
        """As before.

        Attributes
        ----------
        pause : float
            Between epochs [s].
        """

        pause: float = 1.5

    longer = Longer(examples=7, pause=2.5)
    alone = App(**cli.HOW)
    made = cli.options(longer)

    @alone.default
    def train(*, recipe: made = None):
        return cli.filled(longer, recipe)

    (argument,) = [a for a in arguments_of(alone) if a.name == "--recipe.pause"]
    assert argument.parameter.help == "Between epochs [s]." and argument.field_info.default == 2.5
    function, bound, _ = alone.parse_args(["--recipe.pause", "4", "--recipe.augment.zoom", "1", "2"])
    assert function(**bound.kwargs) == replace(longer, pause=4.0, augment=Augment(zoom=(1.0, 2.0)))


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ("--learning-rate 1e-3 --batch-size 16 --examples 640", "learning_rate=1e-3 batch_size=16 examples=640"),
        ("--recipe.clip 1 --weight-decay=0.1", "clip=1 weight_decay=0.1"),
        ("--augment.no-flip --augment.zoom 1 1.5", "augment.flip=false augment.zoom=[1,1.5]"),
        ("--recipe.augment.flip=false --recipe.augment.no-rotate", "augment.flip=false augment.rotate=false"),
        ("--schedule constant --optimizer schedule-free", "schedule='constant' optimizer='schedule-free'"),
        ("--gradient-checkpointing --patience 3", "gradient_checkpointing=true patience=3"),
    ],
)
@pytest.mark.parametrize("command", ["pretrain --survey x", "finetune --survey x --mode full"])
def test_an_option_is_the_setting_of_its_name(command, options, settings):
    from gzlib.config import fill, parse_settings

    values = meant(f"{command} {options}")
    default = replace(cli.FINETUNE, mode="full") if "full" in command else cli.PRETRAIN
    told = fill(default, parse_settings([f"recipe.{s}" for s in settings.split()]), "--set")
    assert values["recipe"] == told.recipe and type(values["recipe"]) is Recipe


def asked_for(line: str) -> PretrainConfig:
    """The run of a command line that begins with ``pretrain``."""
    _, bound = parse(shlex.split(line))
    bound.apply_defaults()
    given = bound.arguments
    return cli.configured(cli.PRETRAIN, given["run"], given["encoder"], given["n_train"], given["settings"])


@pytest.mark.parametrize("encoder", ["resnet_w8", "resnet_w28", "convnext_w10", "vit_w64", "efficientnet_b0"])
@pytest.mark.parametrize("n", [500, 16_000])
def test_one_encoder_has_one_recipe(encoder, n):
    """From the command line, in a plan with and without the study's rule, and in Python; but for what is set."""
    plan = {"survey": {"source": "sim:100"}, "pretrain": [{"encoder": encoder, "n_train": n}]}
    lists = [jobs_of(plan | more, "plan.toml") for more in ({}, {"recipe": {"rule": "study"}})]
    line = f"pretrain --survey sim:100 --encoder {encoder} --n-train {n}"
    found = {asked_for(line), PretrainConfig(encoder, n), *(config for jobs in lists for config, _ in jobs)}
    assert found == {PretrainConfig(encoder, n, recipe=study_recipe(encoder, n))}
    assert (
        asked_for(f"pretrain --survey x --encoder resnet_w4 --n-train 7 --set encoder={encoder} --set n_train={n}")
        in found
    )
    changed = replace(study_recipe(encoder, n), learning_rate=4e-3, batch_size=32)
    assert asked_for(f"{line} --learning-rate 4e-3 --set recipe.batch_size=32").recipe == changed


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--examples 60000", {"examples": 60_000, "epochs": 0.0, "patience": 0, "warmup_examples": 0}),
        ("--set recipe.examples=900", {"examples": 900, "epochs": 0.0, "patience": 0, "warmup_examples": 0}),
        ("--examples 9 --epochs 3", {"examples": 9, "epochs": 3.0, "patience": 0, "warmup_examples": 0}),
        ("--examples 9 --patience 2 --warmup-examples 5", {"examples": 9, "epochs": 0.0, "warmup_examples": 5}),
        ("--patience 3 --set recipe.examples=9", {"examples": 9, "epochs": 0.0, "patience": 3, "warmup_examples": 0}),
        ("--epochs 3", {"epochs": 3.0, "patience": 0, "warmup_examples": 0}),
        ("--evaluations 10", {"evaluations": 10, "spacing": 0.0}),
        ("--warmup 0", {"warmup": 0.0, "warmup_examples": 0}),
        ("--schedule cosine", {"schedule": "cosine", "optimizer": "adamw"}),
        ("--schedule constant", {}),
        ("--average 9", {"average": 9.0, "optimizer": "adamw"}),
        ("--average 0 --optimizer adamw", {"optimizer": "adamw"}),
    ],
)
def test_what_is_set_is_not_overruled_by_the_rest_of_the_recipe(options, expected):
    recipe = asked_for(f"pretrain --survey x --encoder resnet_w8 --n-train 2000 {options}").recipe
    assert recipe == replace(study_recipe("resnet_w8", 2_000), **expected)


def test_help_lists_every_command():
    assert Counter(COMMANDS) == Counter(app)


@pytest.mark.parametrize("command", ALL)
def test_options_have_help_and_names_of_their_own(command):
    _, apps = named(command.split())
    arguments = [argument for one in apps for argument in arguments_of(one)]
    assert max(Counter(name for a in arguments for name in a.names).values(), default=1) == 1
    assert [a.name for a in arguments if not a.parameter.help] == []


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("command", ["", *ALL])
def test_help_is_plain_text_that_fits(command, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    text = help_text(command.split())
    assert text.isprintable() or re.fullmatch(r"[ -~\n]*", text)
    assert max(map(len, text.splitlines())) <= min(columns, 100)
    assert "``" not in text and ":func:" not in text
    for name in option_names(command) if command else ():
        assert name in text or "recipe" in name or "-no-" in name, name


def test_help_says_what_a_field_is_in_which_units_and_its_default():
    text = " ".join(help_text(["pretrain"]).split())
    for said in (
        "--learning-rate NUMBER Of AdamW, after the warm-up. (default: the study's, by encoder and n_train)",
        "--patience N Evaluations without a better validation loss after which the run stops; 0 never stops."
        " (default: 2)",
        "--augment.blur NUMBER Largest standard deviation of a Gaussian blur [px]. (default: 0)",
        "--schedule {cosine,constant} Of the learning rate, after a linear warm-up. (default: constant)",
        "--checkpoint-seconds NUMBER Time between checkpoints [s]. (default: 120)",
    ):
        assert said in text
    assert "--learning-rate NUMBER Of AdamW, after the warm-up. (default: 0.0005)" in " ".join(
        help_text(["finetune"]).split()
    )


WRONG = [
    ("", "gzlib: name a command; 'gzlib --help' lists them"),
    ("forecst x", "gzlib forecst: unknown command 'forecst'; did you mean 'forecast'? (see 'gzlib --help')"),
    ("--verbose", "gzlib: unknown option '--verbose' (see 'gzlib --help')"),
    ("forecast x --taget 3", "unknown option '--taget'; did you mean '--target'? (see 'gzlib forecast --help')"),
    ("--debug fit x --lw=power", "gzlib fit: unknown option '--lw'; did you mean '--law'?"),
    ("fit", "gzlib fit: CURVES is missing: A table of runs"),
    ("fit a b", "gzlib fit: 'b' is one argument too many"),
    ("fit x --at", "gzlib fit: --at needs a value"),
    ("fit x --level high", "gzlib fit: --level 'high' is not a number"),
    ("build -p level", "gzlib build: -p needs 2 values"),
    ("plan x", "gzlib plan: --target is missing: Loss or error to reach"),
    ("pretrain", "gzlib pretrain: --survey is missing: The folder of a curated survey"),
    ("pretrain --surve x", "--survey is missing, or '--surve' is misspelled"),
    ("pretrain --survey x --seed 1.5", "gzlib pretrain: --seed '1.5' is not a whole number"),
    ("pretrain --survey x --seed 0x10", "gzlib pretrain: --seed '0x10' is not a whole number"),
    ("pretrain --survey x --split hsh", "--split 'hsh': choose from hash, source, published; did you mean 'hash'?"),
    ("pretrain --survey x --recipe 3", "gzlib pretrain: --recipe has no value of its own"),
    ("pretrain --survey x --learning-rate -1", "gzlib pretrain: Recipe: 'learning_rate' must be above zero, not -1.0."),
    ("register x --pilot 1 b", "gzlib register: --pilot 'b' is not a whole number"),
    ("runs", "gzlib runs: name an action: ls, export, show, release, rm"),
    ("runs lss", "gzlib runs: unknown action 'lss'; did you mean 'ls'? (see 'gzlib runs --help')"),
    ("runs ls --stor x", "unknown option '--stor'; did you mean '--store'? (see 'gzlib runs ls --help')"),
    ("runs rm", "gzlib runs: KEY is missing: Key of a run (see 'gzlib runs rm --help')"),
]


@pytest.mark.parametrize(("line", "said"), WRONG, ids=[line for line, _ in WRONG])
def test_a_mistake_is_one_sentence_with_the_nearest_that_is_right(line, said, capsys):
    assert main(shlex.split(line)) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err and err.count("\n") == 1


def test_the_version_and_what_help_loads(capsys):
    from gzlib import __version__

    assert main(["--version"]) == 0 and capsys.readouterr().out == f"gzlib {__version__}\n"
    code = "import sys, gzlib; assert 'cyclopts' not in sys.modules; from gzlib.cli import main; main({!r})\n"
    code += "sys.exit(bool({{'rich', 'torch', 'numpy', 'pydantic'}} & {{*sys.modules}}))"
    for words in (["--help"], ["pretrain", "--help"]):
        subprocess.run([sys.executable, "-c", code.format(words)], check=True, capture_output=True)


CURVE = str(paths.ROOT / "examples" / "curve.csv")
RUN = ["--survey", "sim:gz2:160", "--encoder", "resnet_w4"]
REGISTER = ["never", "--source", "sim:gz2:160", "--encoder", "resnet_w4", "--pilot", "40", "--target", "80"]
BESIDE = {  # of each command with options that are numbers, what it needs beside one
    "curate": ["sim:gz2:160"],
    "pretrain": RUN,
    "finetune": RUN,
    "rerun": ["0123456789abcdef"],
    "sweep": ["plan.toml"],
    "predict": ["model", "images", "--out", "p.csv"],
    "embed": ["model", "images", "--out", "p.csv"],
    "fit": [CURVE],
    "forecast": [CURVE],
    "plan": [CURVE, "--target", "0.7"],
    "register": REGISTER,
}


def numbers():
    """Every option of every command that takes a number with a fraction, and how many values it takes."""
    for name in ALL:
        chain = named(name.split())[1]
        for argument in arguments_of(chain[-1]):
            if float in (argument.hint, *get_args(argument.hint)):
                yield name, argument.name, 2 if argument.name == "--augment.zoom" else 1


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(("command", "option", "times"), [*numbers()])
def test_no_option_takes_nan_or_infinity_and_nothing_is_made_first(
    command, option, times, value, tmp_path, monkeypatch, capsys
):
    for place in ("STORE", "SURVEYS", "ROOT"):
        monkeypatch.setattr(paths, place, tmp_path / place.lower())
    assert main([command, *BESIDE[command], option, *[value] * times]) == 2
    told = capsys.readouterr()
    assert value in told.err and told.err.count("\n") == 1 and told.out == "" and not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["0", "-1"])
@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["sweep", str(paths.ROOT / "examples" / "plan.toml"), "--workers"], "Sweep: 'workers' must be above zero"),
        (["bench", "faults", "--kills"], "faults: 'kills' must be above zero"),
    ],
)
def test_no_processes_and_no_kills_are_no_numbers_of_them(command, said, value, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paths, "STORE", tmp_path)
    assert main([*command, value]) == 2
    assert f"{said}, not {value}." in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [-1, -1e-9, float("nan"), float("inf"), "120", None])
def test_a_time_between_checkpoints_that_is_none_is_refused(value):
    with pytest.raises(UserError, match="Conduct: 'checkpoint_seconds' must be"):
        Conduct(checkpoint_seconds=value)
    assert Conduct(checkpoint_seconds=0).checkpoint_seconds == 0
