"""The command line: each command is a function, whose signature and docstring are its options and its help.

Those for surveys and single runs are here, the others in :mod:`gzlib.cli.tools`; :mod:`gzlib.__main__` reads what is
typed and prints help. What a survey, a run and the way it is carried out consist of is said once, by the dataclasses of
:mod:`gzlib.config`: their fields become options, with their types, choices, defaults and docstrings. Modules are
imported where they are used, so that ``--help`` and a mistyped option answer at once.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_type_hints

# Of the libraries that are well kept, cyclopts hands a mistake over as an object that one sentence can be made from,
# where tyro prints boxes, and loads faster than jsonargparse.
from cyclopts import App, CoercionError, Group, Parameter
from cyclopts.argument import ArgumentCollection

from gzlib.__main__ import main as main  # the entry point
from gzlib.config import (
    BY_ENCODER,
    INSTEAD,
    USUAL,
    Augment,
    Conduct,
    FinetuneConfig,
    PretrainConfig,
    RunConfig,
    SurveySpec,
    changed,
    fill,
    of_its_encoder,
    parse_settings,
)
from gzlib.errors import UserError, tell


def check_values(app: App, commands: tuple[str, ...], arguments: ArgumentCollection):
    """Refuse 1.5 where a whole number is asked for, which the library would round, and one value for a whole recipe.

    Raises
    ------
    CoercionError, UserError
    """
    for argument in arguments:
        for token in argument.tokens:
            if argument.children:
                within = argument.children[0].name
                raise UserError(f"{token.keyword} has no value of its own: set what is in it, such as {within}.")
            a_whole = int in (argument.hint, *get_args(argument.hint))
            if a_whole and not re.fullmatch(r"[-+]?\d+(_\d+)*", token.value):
                raise CoercionError(argument=argument, token=token, target_type=int)


# Flags have no negative form, a later value replaces an earlier one, and no value is read as JSON. What is wrong is
# raised, for gzlib.__main__ to say.
HOW: dict[str, Any] = {
    "config": check_values,
    "default_parameter": Parameter(negative=(), allow_repeating=True, json_list=False, json_dict=False),
    "print_error": False,
    "exit_on_error": False,
    "verbose": False,
    "help_flags": (),
    "version_flags": (),
}
app = App(name="gzlib", help="Scaling laws for galaxy images.", **HOW)
runs = App(name="runs", **HOW)
FOLDER, FILE, NAME, PAIR = (Parameter(metavar=word) for word in ("FOLDER", "FILE", "NAME", "NAME=VALUE"))
RECIPE = Group("Recipe", help="How the optimizer is driven. --clip is recipe.clip in plans and for --set.")
CONDUCT = Group("Running it", help="None of it changes what is found, but for rounding errors.")
SEVERAL, FLAT = Parameter(consume_multiple=(1, None)), Parameter(name="*")


def options(default: Any, *, leave_out: str = "", required: str = "", later: str = "", **how: Parameter) -> Any:
    """A class for the command line to fill in: fields and docstring of a dataclass, defaults of an instance of it.

    The library has defaults from classes alone: it would not see those of an instance, such as finetuning's recipe.

    Parameters
    ----------
    default : dataclass instance
    leave_out, required, later : str
        Names of fields that the command line does not set; or must; or whose default is known later, as is that of
        all fields of a recipe that depends on the encoder. These are None where they are not given.
    **how
        What is said of the fields of these names.
    """
    kinds, made = get_type_hints(type(default)), []
    for f in fields(default):
        if f.name not in leave_out.split():
            value, kind = getattr(default, f.name), kinds[f.name]
            if is_dataclass(value):
                within = [name for name, inner in vars(value).items() if not isinstance(inner, bool | Augment)]
                kind = options(value, later=" ".join(within) if f.name in later.split() else "")
                value = kind()
            elif f.name in later.split():
                how[f.name] = Parameter(show_default=partial(_known, SHOWN.get(f.name, value)))
                kind, value = kind | None, None
            held = field() if f.name in required.split() else field(default_factory=partial(lambda same: same, value))
            made.append((f.name, Annotated[kind, how.get(f.name)], held))
    said = {"__doc__": type(default).__doc__, "__module__": __name__}
    return make_dataclass(type(default).__name__, made, kw_only=True, frozen=True, namespace=said)


def _known(value: Any, _: Any) -> Any:
    return value


def filled(default: Any, given: Any, **more: Any) -> Any:
    """An instance of a dataclass with what the command line gave for it; None is what it did not give.

    Raises
    ------
    UserError
        If the dataclass does not take a value.
    """
    values = {name: value for name, value in vars(given).items() if value is not None}
    nested = {n: filled(getattr(default, n), value) if is_dataclass(value) else value for n, value in values.items()}
    return changed(default, nested | more)


SURVEY, PRETRAIN = SurveySpec(""), PretrainConfig("", 0)
FINETUNE = FinetuneConfig("task", "", 0, weights="imagenet")
# A field of the recipe is named as in plans, --recipe.clip, or shortly, --clip. Some of its flags are usually on.
IN_RUN: dict[str, Any] = {
    "recipe": Parameter(name=("*", "--recipe"), group=RECIPE, negative=None, negative_iterable=()),
    "objective": Parameter(group=RECIPE),
    "weights": Parameter(metavar="WEIGHTS"),
    "label": Parameter(metavar="COLUMN"),
}
IN_SURVEY: dict[str, Any] = {
    "source": Parameter(name="--survey", metavar="SOURCE"),
    "schema": Parameter(metavar="TREE"),
    "match_radius": Parameter(metavar="ARCSEC"),
}
# What help says of settings that the study's recipe has by encoder, or in whose place it has others.
SHOWN: dict[str, str | None] = dict.fromkeys(BY_ENCODER, "the study's, by encoder and n_train")
SHOWN |= dict.fromkeys(INSTEAD.keys() - BY_ENCODER)
CURATED = options(SURVEY, leave_out="source", **IN_SURVEY)()
PRETRAINED = options(PRETRAIN, leave_out="encoder n_train", later="recipe", **IN_RUN)()
FINETUNED = options(FINETUNE, leave_out="encoder n_train", **IN_RUN)()
CONDUCTED = options(USUAL, leave_out="report live noted")()
if TYPE_CHECKING:
    Survey = Any
    Curated = Any
    Pretraining = Any
    Finetuning = Any
    Conducting = Any
else:
    Survey = Annotated[
        options(SURVEY, leave_out="limit seed", required="source", **IN_SURVEY), FLAT, Parameter(group="Survey")
    ]
    Curated = Annotated[type(CURATED), FLAT]
    Pretraining = Annotated[type(PRETRAINED), FLAT]
    Finetuning = Annotated[type(FINETUNED), FLAT]
    Conducting = Annotated[type(CONDUCTED), FLAT, Parameter(group=CONDUCT)]
Store = Annotated[
    Path | None, FOLDER, Parameter(group=CONDUCT, help="Where runs are kept (default: GZLIB_STORE, or ./runs).")
]
Device = Annotated[str, Parameter(help="auto, cpu, cuda or mps.")]
Settings = Annotated[
    tuple[str, ...],
    PAIR,
    Parameter(
        name="--set",
        group=RECIPE,
        help="Any setting by its name in plans, such as recipe.weight_decay=0.1 or recipe.augment.flip=false;"
        " repeatable, and stronger than the options above.",
    ),
]


@app.command
def curate(
    source: str,
    /,
    *,
    out: Annotated[Path | None, FOLDER] = None,
    survey: Curated = CURATED,
    keep_going: bool = False,
    force: bool = False,
):
    """Check, split, resize and pack galaxies into a survey.

    Parameters
    ----------
    source
        sim:N, a folder or catalogue of images, or hub:OWNER/NAME; several with commas.
    out
        The survey's folder (default: one of its own).
    keep_going
        Make the survey although more than 5 % are rejected.
    force
        Curate even if the same input has been curated.
    """
    from gzlib import data
    from gzlib.data.curation import rejected_words

    spec = filled(SURVEY, survey)
    how = {f.name: getattr(spec, f.name) for f in fields(spec) if f.name != "source"}
    folder = data.curate(source, out=out, keep_going=keep_going, force=force, **how)
    report = data.read_report(folder)
    counts = report["counts"]
    print(*report["notes"], sep="\n", end="\n" * bool(report["notes"]))
    if words := rejected_words(report, folder):
        print(words)
    splits = ", ".join(f"{n:,} {name}" for name, n in counts["splits"].items())
    print(f"{folder}: {counts['galaxies']:,} galaxies ({splits}), {counts['rejected']:,} rejected")


@app.command
def verify(survey: Annotated[Path, FOLDER], /):
    """Compare every byte of a curated survey with its checksums.

    Parameters
    ----------
    survey
        A curated survey's folder.
    """
    from gzlib.data import verify_survey

    report = verify_survey(survey)
    print(f"{survey}: {report['counts']['galaxies']:,} galaxies, every byte as it was curated")


@app.command
def pretrain(
    *,
    survey: Survey,
    encoder: Annotated[str | None, NAME] = None,
    n_train: int | None = None,
    run: Pretraining = PRETRAINED,
    settings: Settings = (),
    out: Annotated[Path | None, FOLDER] = None,
    store: Store = None,
    conduct: Conducting = CONDUCTED,
):
    """Train an encoder on a survey's votes.

    Parameters
    ----------
    encoder
        convnext_w<width>, resnet_w<width> or a timm name (default: that of the weights, else convnext_w10).
    n_train
        Training galaxies (default: all).
    out
        Save the model there, for 'predict' and others.
    """
    how = conducted(store, conduct)
    _train(PRETRAIN, run, encoder, "convnext_w10", n_train, settings, survey, how, out)


@app.command
def finetune(
    *,
    survey: Survey,
    encoder: Annotated[str | None, NAME] = None,
    n_train: int | None = None,
    run: Finetuning = FINETUNED,
    settings: Settings = (),
    out: Annotated[Path | None, FOLDER] = None,
    unit: str = "",
    store: Store = None,
    conduct: Conducting = CONDUCTED,
):
    """Train an encoder on a task's labels.

    Parameters
    ----------
    encoder
        convnext_w<width>, resnet_w<width> or a timm name (default: that of the weights, else tf_efficientnet_lite0).
    n_train
        Training galaxies (default: all with a label).
    out
        Save the model there, for 'predict' and others.
    unit
        Unit of a number that is predicted, such as mag; for the saved model.
    """
    how = conducted(store, conduct)
    _train(FINETUNE, run, encoder, "tf_efficientnet_lite0", n_train, settings, survey, how, out, unit)


def conducted(store: Path | None, given: Any) -> Conduct:
    """How runs are carried out, as the command line says, after the store in use is set.

    Raises
    ------
    UserError
    """
    from gzlib.paths import use_store
    from gzlib.progress import logger_name

    use_store(store)
    conduct = filled(USUAL, given)
    logger_name(conduct.log)  # a bad name is told before anything is made
    return conduct


def _train(default, given, encoder, usual, n_train, settings, survey, conduct: Conduct, out: Path | None, unit=""):
    """Make one run, tell what came of it, and save its model where ``--out`` asks for that."""
    from gzlib.data import training_galaxies
    from gzlib.training import run
    from gzlib.training.distributed import is_main, joined, made_once
    from gzlib.training.publish import check_out, save_run

    with joined():
        chosen = _encoder(encoder, given.weights, usual)
        spec, config = filled(SURVEY, survey), configured(default, given, chosen, n_train or 0, settings)
        if n_train is None:  # counted last, since the survey may have to be made for it
            label = config.label if isinstance(config, FinetuneConfig) else None
            n = made_once(lambda: training_galaxies(spec, label))
            config = configured(default, given, chosen, n, settings)
        if out:
            check_out(out)
        full = isinstance(config, PretrainConfig) or config.mode == "full"
        record = run(config, spec, conduct=conduct, need_weights=full)
        _tell_run(record)
        main = is_main()
    if out and main:
        model = save_run(config, spec, record, out, unit=unit, device=conduct.device, report=tell)
        print(f"{out}: {model!r}, calibrated on {model.config.calibration.n:,} galaxies")


def configured(default: RunConfig, given: Any, encoder: str, n_train: int, settings: Sequence[str]) -> RunConfig:
    """The run that a command line asks for: its recipe is that of the encoder, where no option says otherwise.

    Raises
    ------
    UserError
        If a setting is unknown, or a value is not what it takes.
    """
    told = parse_settings(settings)
    named = {name: told.get(name, value) for name, value in (("encoder", encoder), ("n_train", n_train))}
    return fill(filled(of_its_encoder(fill(default, named, "--set"), {}), given), told, "--set")


def _encoder(name: str | None, weights: str, usual: str) -> str:
    """The encoder named, else the one that the weights belong to, else the command's usual one."""
    from gzlib.models import encoder_for
    from gzlib.training import read_run

    if name or weights == "random":
        return name or usual
    record = read_run(weights) if len(weights) == 16 and weights.isalnum() else None
    return record["config"]["encoder"] if record else encoder_for(weights) or usual


def _tell_run(record: dict):
    from gzlib import paths
    from gzlib.training import record_words
    from gzlib.training.distributed import is_main

    if is_main():
        stored = (paths.STORE / record["key"] / "run.json").is_file()
        print(f"run {record['key']}: {record_words(record)}{'' if stored else ' (from the book: gzlib runs --book)'}")


@app.command
def rerun(
    key: str,
    /,
    *,
    weights: Annotated[str | None, FILE] = None,
    store: Store = None,
    conduct: Conducting = CONDUCTED,
):
    """Make a recorded run and its weights again.

    Parameters
    ----------
    key
        Key of the run, in the store or among the book's runs.
    weights
        The local file of weights that the run started from, if it did.
    """
    from gzlib.training import rerun
    from gzlib.training.distributed import joined

    how = conducted(store, conduct)
    with joined():
        _tell_run(rerun(key, weights=weights, conduct=how))


@runs.meta.default
def _in_store(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    store: Annotated[Path | None, FOLDER] = None,
    book: bool = False,
):
    """List, show, export, release or remove the runs of a store.

    Parameters
    ----------
    store
        The folder (default: GZLIB_STORE, or ./runs).
    book
        The book's runs instead (they can't be removed here).
    """
    from gzlib import paths

    if not tokens:
        raise UserError(f"name an action: {', '.join(runs)}; 'gzlib runs --help' says what they do")
    action, bound, _ = runs.parse_args(tokens)
    paths.use_store(store)
    if book:
        paths.STORE = paths.project() / "data" / "runs"
    elif store and not paths.STORE.exists():
        raise UserError(f"There is no folder '{store}' with runs; check the path.")
    return action(*bound.args, **bound.kwargs)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Some of a store's runs.

    Attributes
    ----------
    kind
        Runs of this kind alone.
    where
        Runs with this setting alone, such as encoder=resnet_w12; repeatable.
    """

    kind: Literal["pretrain", "finetune"] | None = None
    where: Annotated[tuple[str, ...], PAIR] = ()

    def records(self) -> list[dict]:
        """The runs; damaged ones are told and left out."""
        from gzlib.training import chosen_records

        damaged: list[str] = []
        records = chosen_records(self.kind, self.where, damaged=damaged)
        for sentence in damaged:
            tell(f"gzlib runs: left out: {sentence}")
        return records


EVERY = Chosen()


app.command(runs.meta, name="runs")


@runs.command
def ls(
    *,
    chosen: Annotated[Chosen, FLAT] = EVERY,
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"))] = False,
):
    """One line a run.

    Parameters
    ----------
    quiet
        Keys alone.
    """
    from gzlib import paths
    from gzlib.training import runs_listing, unfinished_runs

    records = chosen.records()
    if quiet:
        print("".join(f"{record['key']}\n" for record in records), end="")
        return
    if unfinished := unfinished_runs():
        print(f"failed or unfinished: {', '.join(unfinished)}")
    print(runs_listing(records) if records else f"no {'such ' if chosen != EVERY else ''}runs in {paths.STORE}")


@runs.command
def export(file: Path, /, *, chosen: Annotated[Chosen, FLAT] = EVERY):
    """All runs as a table.

    Parameters
    ----------
    file
        A file .csv or .nc (netCDF).
    """
    from gzlib.training import export_runs

    records = chosen.records()
    export_runs(records, file)
    print(f"{file}: {len(records)} runs")


@runs.command
def show(key: str, /):
    """The record of one run, as JSON.

    Parameters
    ----------
    key
        The run's key, or the first digits of it.
    """
    from gzlib.training import find_key, read_run

    print(json.dumps(read_run(find_key(key)), indent=1, sort_keys=True))


@runs.command
def release(folder: Path, key: str, /, *keys: str):
    """Write encoders as files to share, with cards.

    Parameters
    ----------
    folder
        Where the weights and their cards are written.
    key
        Key of a pretraining run whose weights are here.
    keys
        Keys of more.
    """
    from gzlib.training import find_key, release

    for file in release([find_key(key) for key in (key, *keys)], folder):
        print(file)


@runs.command
def rm(key: str, /, *keys: str):
    """Delete runs with their weights.

    Parameters
    ----------
    key
        Key of a run.
    keys
        Keys of more.
    """
    from gzlib import paths
    from gzlib.training import remove_runs

    remove_runs([key, *keys])
    print(f"removed from {paths.STORE}: {', '.join(dict.fromkeys([key, *keys]))}")
