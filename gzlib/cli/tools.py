"""The commands for saved models, learning curves of any field, plans of many runs, the book, and this machine.

As in :mod:`gzlib.cli`, a function's signature and docstring are its command line.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import CoercionError, Parameter, Token

from gzlib.cli import CONDUCTED, FILE, FLAT, FOLDER, NAME, SEVERAL, Conducting, Device, Store, app, conducted
from gzlib.config import Aspect, Preset, Split
from gzlib.errors import UserError, tell
from gzlib.files import place_of, replace_file

Model = Annotated[str, Parameter(help="A saved model's folder, or hf_hub:OWNER/NAME.")]
Galaxies = Annotated[
    str, Parameter(help="A folder of images, a catalogue, parquet, a curated survey, or another source.")
]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A file with a row for each galaxy.

    Attributes
    ----------
    out
        The file to write, .csv or .parquet.
    aspect
        What becomes of images that are not square (default: as in training).
    central_fraction
        How much of each side of an image is looked at, around the centre
        (default: as in training).
    limit
        Maximum number of galaxies.
    force
        Replace a file that is there.
    """

    out: Annotated[Path, FILE]
    device: Device = "auto"
    aspect: Aspect | None = None
    central_fraction: float | None = None
    limit: int | None = None
    force: bool = False


@app.command
def predict(model: Model, source: Galaxies, /, *, table: Annotated[Table, FLAT]):
    """Write a saved model's predictions for every galaxy of a source."""
    _write("predict", model, source, table)


@app.command
def embed(model: Model, source: Galaxies, /, *, table: Annotated[Table, FLAT]):
    """Write the features of a saved model's encoder for every galaxy."""
    _write("embed", model, source, table)


def _write(what: Literal["predict", "embed"], model: str, source: str, table: Table):
    from gzlib.data.images import refuse_fraction
    from gzlib.training import load_model
    from gzlib.training.predict import write_table

    if table.central_fraction is not None:  # before the model, which may be downloaded
        refuse_fraction(table.central_fraction)
    how: dict[str, Any] = {
        "aspect": table.aspect,
        "central_fraction": table.central_fraction,
        "limit": table.limit,
        "force": table.force,
    }
    done = write_table(load_model(model, device=table.device), source, table.out, what=what, **how)
    for note in done["notes"]:
        tell(note)
    for id_str, problem in done["problems"][:10]:
        tell(f"not used: {id_str}: {problem}")
    lost = f", {len(done['problems']):,} of them without a usable image (column 'problem')" if done["problems"] else ""
    print(f"{table.out}: {done['galaxies']:,} galaxies{lost}")


@app.command
def evaluate(
    model: Model,
    source: Galaxies,
    /,
    *,
    label: Annotated[str | None, Parameter(metavar="COLUMN")] = None,
    part: Literal["all", "train", "val", "test"] | None = None,
    split: Split | None = None,
    schema: Annotated[str | None, Parameter(metavar="TREE")] = None,
    out: Annotated[Path | None, FILE] = None,
    device: Device = "auto",
):
    """Score a saved model on galaxies with labels.

    Parameters
    ----------
    label
        Column of the labels (default: the model's).
    part
        Which galaxies (default: test of its survey, else all).
    split
        'source' keeps a published test set, 'published' also the validation set.
    schema
        Decision tree of the votes, or a JSON file with one.
    out
        A file for all scores, as JSON.
    """
    from gzlib.training import load_model
    from gzlib.training.evaluation import evaluate, own_spec, told

    if out:  # a name that cannot be is told before all the work
        out = place_of(out)
    loaded = load_model(model, device=device)
    named: dict[str, Any] = {name: value for name, value in (("split", split), ("schema", schema)) if value}
    spec = replace(own_spec(loaded, source), **named)
    found = evaluate(loaded, source, label=label, part=part, spec=spec, progress=True)
    print("\n".join(told(found)))
    if part is None and found["part"] == "all":
        tell(
            "Galaxies of this survey that the model was trained on, if there are any, are scored too; --part test"
            " leaves them out where both surveys are split by the hash of the id."
        )
    if out:
        replace_file(out, json.dumps(found, indent=1) + "\n")


@app.command
def export(model: Model, /, *, out: Annotated[Path, FOLDER], format: Literal["timm", "onnx"] = "timm"):
    """Write a saved model for timm or as ONNX.

    Parameters
    ----------
    out
        The folder to write.
    format
        What reads it.
    """
    from gzlib.training import load_model
    from gzlib.training.publish import export

    print(export(load_model(model, device="cpu"), out, form=format))


@app.command
def push(model: Model, repository: str, /, *, private: bool = False, figures: bool = False):
    """Upload a saved model to the Hugging Face hub.

    Parameters
    ----------
    repository
        Its name on the hub, OWNER/NAME.
    private
        Visible to its owner alone.
    figures
        With the page of figures, which shows images of galaxies.
    """
    from gzlib.training.publish import push

    print(push(model, repository, private=private, figures=figures))


def _sizes(_: type, tokens: Sequence[Token]) -> tuple[float, ...]:
    """Sizes as tables may have them, 16000, 1.6e4 or 16k."""
    from gzlib.fitting.headings import without_suffix

    out = []
    for token in tokens:
        number, factor = without_suffix(token.value)
        try:
            out.append(float(number) * factor)
        except ValueError:
            raise CoercionError(token=token, target_type=float) from None
    return tuple(out)


@dataclass(frozen=True, kw_only=True)
class Curves:
    """How curves are read and answers given, alike for fits, forecasts and plans.

    Attributes
    ----------
    at
        Forecast at these sizes.
    law
        Trust this law, such as power (default: E + A n^-alpha; forecasts: an ensemble).
    level
        Coverage of the intervals.
    plot
        Draw the curves: .svg, .png, .pdf, or .html, a page of its own.
    json
        Answer as JSON.
    csv
        Answer as CSV.
    size_column
        Which column is the size.
    loss_column
        Which column is the loss.
    accuracy_column
        Which column is the accuracy.
    seed_column
        Which column is the seed.
    curve_column
        A column that distinguishes curves; repeatable.
    ignore
        A column to leave out; repeatable.
    """

    at: Annotated[tuple[float, ...], SEVERAL, Parameter(metavar="SIZE", converter=_sizes)] = ()
    law: Annotated[str | None, NAME] = None
    level: float = 0.95
    plot: Annotated[str | None, FILE] = None
    json: bool = False
    csv: bool = False
    size_column: Annotated[str | None, NAME] = None
    loss_column: Annotated[str | None, NAME] = None
    accuracy_column: Annotated[str | None, NAME] = None
    seed_column: Annotated[str | None, NAME] = None
    curve_column: Annotated[list[str] | None, NAME] = None
    ignore: Annotated[tuple[str, ...], NAME] = ()

    def answer(self, question: str, source: str, **more: Any):
        """Print what there is to say about the curves of a source."""
        from gzlib.fitting.report import answer

        if self.json and self.csv:
            raise UserError("Ask for --json or for --csv, not for both.")
        columns: dict[str, Any] = {
            name: getattr(self, f"{name}_column") for name in ("size", "loss", "accuracy", "seed", "curve")
        }
        form = "json" if self.json else "csv" if self.csv else "text"
        how: dict[str, Any] = {"at": self.at, "law": self.law, "level": self.level, "file": self.plot, "form": form}
        print(answer(question, source, **how, **columns, ignore=self.ignore, **more))


Runs = Annotated[
    str, Parameter(help="A table of runs (CSV, TSV, JSON, parquet) with sizes and losses; - reads standard input.")
]
Answering = Annotated[Curves, FLAT, Parameter(group="Curves and answers")]
AS_READ = Curves()


@app.command
def fit(curves: Runs, /, *, answering: Answering = AS_READ):
    """Fit power laws to learning curves, with intervals and verdicts."""
    answering.answer("fit", curves)


@app.command
def forecast(curves: Runs, /, *, target: float | None = None, answering: Answering = AS_READ):
    """Forecast the loss at larger sizes, or the labels that reach a target, with a band.

    Parameters
    ----------
    target
        Loss or error to reach.
    """
    answering.answer("forecast", curves, target=target)


@app.command
def plan(
    curves: Runs,
    /,
    *,
    target: float,
    cost: float | None = None,
    owned: Annotated[float, Parameter(metavar="LABELS")] = 0,
    risk: Annotated[tuple[float, ...], SEVERAL, Parameter(metavar="P")] = (),
    answering: Answering = AS_READ,
):
    """Say how many labels reach a target, what they cost and which run would tell most.

    Parameters
    ----------
    target
        Loss or error to reach.
    cost
        Cost of one label, in any currency.
    owned
        Labels that already exist.
    risk
        Of missing the target; the number of labels for each is said (default: 0.5 0.2 0.05).
    """
    answering.answer("plan", curves, target=target, cost=cost, owned=owned, risks=risk or None)


@app.command
def sweep(
    plan: Path,
    /,
    *,
    dry_run: bool = False,
    workers: Annotated[int | None, Parameter(metavar="N")] = None,
    scheduler: Annotated[str | None, Parameter(metavar="WHERE")] = None,
    bring_weights: bool = False,
    store: Store = None,
    conduct: Conducting = CONDUCTED,
):
    """Make the runs of a plan that are missing, here or on a cluster.

    Parameters
    ----------
    plan
        A TOML file; see examples/plan.toml.
    dry_run
        List the runs, which are complete, and what all cost.
    workers
        Processes here, one thread each (default: as many as cores).
    scheduler
        Dask workers: local:N processes here, or a running scheduler's address.
    bring_weights
        Fetch the weights from workers that do not share this file system.
    """
    from gzlib.study import preset_jobs
    from gzlib.training import plan_notes, read_plan, sweep, sweep_on

    how = replace(conducted(store, conduct), noted=plan_notes(plan))
    if dry_run:
        return _tell_plan(plan)
    jobs = read_plan(plan, preset=preset_jobs)
    if scheduler:
        records = sweep_on(scheduler, jobs, bring_weights=bring_weights, conduct=how)
    else:
        records = sweep(jobs, workers=workers, conduct=how)
    print(f"{len(records)} of {len(jobs)} runs complete")
    return 0 if len(records) == len(jobs) else 1


def _tell_plan(plan: Path):
    """Which runs of a plan are complete, and what all of them cost; nothing is made or fetched for it."""
    from functools import partial

    import pandas as pd

    from gzlib.study import preset_jobs
    from gzlib.study.cost import plan_words, planned_training
    from gzlib.training import plan_summary, plan_table, read_plan

    jobs = read_plan(plan, preset=partial(preset_jobs, planned=True), planned=planned_training)
    rows = plan_table(jobs)
    table = pd.DataFrame(plan_summary(rows))
    texts = [i for i, name in enumerate(table) if name not in ("runs", "n_train", "seed", "seeds")]
    print(table.to_markdown(index=False, disable_numparse=texts), end="\n\n")
    print("\n".join(plan_words(jobs)), end="\n\n")
    for line in _lacking(jobs):
        tell(line)
    print(", ".join(f"{n} {state}" for state, n in pd.Series([row["state"] for row in rows]).value_counts().items()))


def _lacking(jobs: Sequence[tuple[Any, Any]]) -> list[str]:
    """What runs will be refused for, as far as their surveys are curated already: labels, and training galaxies."""
    from gzlib.data.curation import existing_survey, training_galaxies

    most: dict[Any, int] = {}
    for config, survey in jobs:
        asked = survey, getattr(config, "label", None)
        most[asked] = max(most.get(asked, 0), config.n_train or 0)
    found = []
    for (survey, label), n_train in most.items():
        try:
            known = training_galaxies(survey, label) if existing_survey(survey) else n_train
        except UserError as error:  # no such label, or no such source
            found.append(f"'{survey.source}', {survey.size} px: {error}")
            continue
        if known < n_train:
            of = f" with '{label}'" if label else ""
            found.append(
                f"'{survey.source}', {survey.size} px: a run wants {n_train:,} training galaxies{of}, and there are"
                f" {known:,}; choose fewer or curate more."
            )
    return found


@app.command
def build(
    *,
    preset: Preset | None = None,
    only: Annotated[list[str] | None, Parameter(metavar="NN")] = None,
    p: Annotated[tuple[tuple[str, str], ...], Parameter(name="-p", metavar="NAME VALUE")] = (),
    force: bool = False,
    name: str | None = None,
):
    """Run the chapters that are stale; with other parameters, run an experiment.

    Parameters
    ----------
    preset
        Size of the study.
    only
        A chapter by its number, such as 02; repeatable.
    p
        Set a parameter of the chapters; repeatable.
    force
        Run fresh chapters too; an experiment starts from nothing.
    name
        The experiment's folder below experiments/.
    """
    from gzlib import book

    built = book.build(preset=preset, only=only, parameters=dict(p), force=force, name=name)
    if built.page:
        print(f"Open {built.page}")


@app.command
def render(*, install: bool = False, article: bool = False, open: bool = False):
    """Build, then render the book with Quarto if it is here, else with the preview.

    Parameters
    ----------
    install
        Install Quarto from the package index if there is none.
    article
        Set its first five chapters as a PDF, with Quarto.
    open
        Then show it in a browser, from a server on this machine.
    """
    from gzlib import book

    book.build()
    page = book.render(install=install, article=article)
    if open:
        book.serve(page)


@app.command
def preview(*, out: Annotated[Path | None, FOLDER] = None):
    """Render the book as it stands through pandoc.

    Parameters
    ----------
    out
        The folder for the pages (default: _book).
    """
    from gzlib import book

    print(book.preview(out=out))


@app.command
def register(
    name: str,
    /,
    *,
    run_outcome: bool = False,
    preset: Preset = "laptop",
    plan: str | None = None,
    source: str | None = None,
    encoder: Annotated[tuple[str, ...], NAME] = (),
    pilot: Annotated[tuple[int, ...], SEVERAL] = (),
    target: Annotated[tuple[int, ...], SEVERAL] = (),
    seeds: Annotated[tuple[int, ...], SEVERAL] = (0, 1, 2),
    level: float = 0.95,
):
    """Store a forecast before the runs that it is about exist.

    Parameters
    ----------
    name
        Name of the forecast, stored as data/forecasts/NAME.json.
    run_outcome
        Make the runs that a stored forecast is about.
    preset
        Preset whose recipe the runs have.
    plan
        Forecast the missing runs of a plan in data/plans from those that are made, as 'study'.
    source
        Survey of pilot and outcome, such as sim:24000.
    encoder
        An encoder to train; repeatable.
    pilot
        Training galaxies of the runs to learn from.
    target
        Training galaxies of the runs to forecast.
    seeds
        Seeds of the runs, each with every encoder and size.
    level
        Coverage of the band.
    """
    from gzlib import paths
    from gzlib.study import register_forecast, register_plan
    from gzlib.study import run_outcome as make

    paths.STORE = paths.project() / "data" / "runs"  # a registered forecast is part of the book, and so are its runs
    if run_outcome:
        print(f"{len(make(name))} runs complete")
        return
    study = {"source": source, "encoder": encoder, "pilot": pilot, "target": target}
    absent = [f"--{option}" for option, value in study.items() if not value]
    if plan:
        if len(absent) < len(study):
            raise UserError(f"A plan says itself which runs it has: --plan goes without --{', --'.join(study)}.")
        print(register_plan(name, plan=plan, level=level))
        return
    if absent:
        raise UserError(f"A forecast needs {', '.join(absent)}, too.")
    choice: dict[str, Any] = {"preset": preset, "source": source, "encoders": encoder, "seeds": seeds}
    print(register_forecast(name, pilot=pilot, targets=target, level=level, **choice))


@app.command
def bench(
    what: str,
    /,
    *,
    json: bool = False,
    csv: Path | None = None,
    store: bool = False,
    kills: int | None = None,
    seed: int | None = None,
):
    """Measure this project's figures on this machine.

    Parameters
    ----------
    what
        Which figures; 'list' names them.
    json
        One JSON object a line.
    csv
        Learning curves for 'curves'.
    store
        Keep the figures in data/benchmarks, where the book reads them.
    kills
        How many commands 'faults' kills.
    seed
        Seed of the moments at which 'faults' disturbs them.
    """
    from gzlib import paths

    folder = paths.project() / "benchmarks"
    if str(folder) not in sys.path:  # benchmarks share helpers; last, so that none hides a package
        sys.path.append(str(folder))
    from harness import bench

    return bench(what, as_json=json, csv=csv, store=store, kills=kills, seed=seed)


@app.command
def doctor():
    """Say what this machine has, what is missing, and what to do."""
    from gzlib.paths import doctor

    return doctor()
