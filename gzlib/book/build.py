"""Bring the chapters up to date, or run them as an experiment that leaves them alone."""

import re
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from gzlib import paths
from gzlib.book import variables
from gzlib.book.chapters import book_inputs, cell_options, read_notebook, where, write_notebook
from gzlib.book.execute import execute
from gzlib.book.fingerprint import fingerprint
from gzlib.book.normalise import labelled, normalise, refusals
from gzlib.book.parameters import check_overrides, override, read_parameters
from gzlib.book.readme import write_results
from gzlib.errors import UserError

PRESETS = ("smoke", "laptop", "paper")


@dataclass
class Built:
    """What a build did: names of the chapters it ran and of those that were fresh; an experiment's first page."""

    ran: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    page: Path | None = None


def build(*, preset=None, only=None, parameters=None, force=False, name=None, project=None, say=print):
    """Run the chapters that are stale; or, with other parameters than the committed ones, run an experiment.

    Without overrides the chapters are updated where they lie, each replaced in one step once it has run. Any override
    makes an experiment: executed copies, their runs and their pages go to ``experiments/<name>/``.

    Parameters
    ----------
    preset : {"smoke", "laptop", "paper"}, optional
        How large a study; the chapters' own if it is not given.
    only : str or list of str, optional
        Chapters to build, e.g. ``"02"``; all if not given.
    parameters : dict, optional
        Parameter name to value (or to its text), for every chapter that has the parameter.
    force : bool
        Run fresh chapters as well; an experiment starts from an empty folder, even without curated pictures.
    name : str, optional
        Name of the experiment; by default made from the overrides.
    project : Path, optional
        Root of another checkout.
    say : callable
        Receives one line for each chapter.

    Returns
    -------
    Built

    Raises
    ------
    UserError
        For an unknown preset, chapter or parameter, a value of the wrong type, a figure without caption or
        alternative text, a failing cell, an output that must not be stored, or an unknown variable in prose.
    """
    project = Path(project or paths.ROOT)
    pages = book_inputs(project)
    chapters = _selected([page for page in pages if page.is_notebook], only)
    notebooks = {page: read_notebook(project / page.path) for page in chapters}
    known = {}
    for page, notebook in notebooks.items():
        _refuse_bare_figures(notebook, page.path)
        known |= read_parameters(notebook, page.path)
    overrides = _overrides(notebooks, preset, parameters, known)
    if overrides or name:
        return _experiment(project, notebooks, overrides, name, force, say)
    built = Built()
    for page, notebook in notebooks.items():
        if not force and is_fresh(notebook, page.path, project=project):
            say(f"fresh {page.stem}")
            built.fresh.append(page.stem)
            normalise(notebook)
        else:
            runs = project / "data" / "runs"
            notebook = _run(notebook, page, project=project, runs=runs, say=say)
            if problems := refusals(notebook, page.path, project=project):
                raise UserError("; ".join(problems) + ".")
            built.ran.append(page.stem)
        write_notebook(notebook, project / page.path)
    _finish_variables(project, pages, chapters)
    return built


def is_fresh(notebook, page, *, project):
    """Whether a notebook's stored outputs are complete and follow from code, parameters and runs as they are now."""
    own = notebook.metadata.get("gzlib", {})
    return own.get("fingerprint") == _fingerprint(notebook, page, own, project) and not refusals(notebook, page)


def _fingerprint(notebook, page, own, project, run_folders=None):
    return fingerprint(
        notebook,
        page,
        project=project,
        runs=own.get("runs", []),
        every_run=own.get("every_run", False),
        run_folders=run_folders,
        files=own.get("files", []),
    )


def _selected(chapters, only):
    if not only:
        return chapters
    chosen = []
    for word in [only] if isinstance(only, str) else only:
        found = [c for c in chapters if c.stem.startswith(str(word)) or variables.chapter_name(c.stem) == word]
        if not found:
            raise UserError(f"No chapter is called {word}; the chapters are {', '.join(c.stem for c in chapters)}.")
        chosen += found
    return [chapter for chapter in chapters if chapter in chosen]


def _overrides(notebooks, preset, parameters, known):
    """What the user asks for that differs in kind from the committed chapters; empty means: update those."""
    overrides = check_overrides(dict(parameters or {}), known)
    preset = overrides.pop("preset", preset)
    if preset is None:
        return overrides
    if preset not in PRESETS:
        raise UserError(f"Unknown preset {preset}: choose one of {', '.join(PRESETS)}.")
    committed = {read_parameters(notebook, page.path).get("preset") for page, notebook in notebooks.items()}
    return overrides if committed == {preset} and not overrides else {"preset": preset, **overrides}


def _run(notebook, page, *, project, runs, say, surveys=None):
    """Execute, normalise, and record in the notebook what its outputs follow from."""
    say(f"run   {page.stem}")
    start = time.monotonic()
    executed, entries = execute(notebook, page.path, project=project, runs=runs, surveys=surveys)
    own = {
        "parameters": read_parameters(executed, page.path),
        "runs": sorted({entry["key"] for entry in entries if entry["kind"] == "run"}),
        "variables": {entry["name"]: entry["value"] for entry in entries if entry["kind"] == "variable"},
    }
    if any(entry["kind"] == "runs" for entry in entries):
        own["every_run"] = True
    if files := sorted({entry["pattern"] for entry in entries if entry["kind"] == "files"}):
        own["files"] = files
    own["fingerprint"] = _fingerprint(executed, page.path, own, project, [runs, project / "data" / "runs"])
    executed.metadata["gzlib"] = own
    normalise(executed)
    say(f"done  {page.stem} in {time.monotonic() - start:.0f} s")
    return executed


def _experiment(project, notebooks, overrides, name, force, say):
    name = name or _slug(overrides)
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise UserError(f"{name!r} is no name for an experiment: use letters, digits, '.', '_' and '-'.")
    folder = project / "experiments" / name
    if force:
        _empty(folder)
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    built = Built()
    for page, notebook in notebooks.items():
        own = read_parameters(notebook, page.path)
        override(notebook, {key: value for key, value in overrides.items() if key in own}, page.path)
        surveys = folder / "surveys" if force else None
        executed = _run(notebook, page, project=project, runs=folder / "runs", surveys=surveys, say=say)
        if problems := refusals(executed, page.path):
            raise UserError("; ".join(problems) + ".")
        write_notebook(executed, folder / page.path)
        built.ran.append(page.stem)
    published = variables.collect({page.stem: read_notebook(folder / page.path) for page in notebooks})
    variables.write(variables.load(project) | published, folder)

    from gzlib.book.preview import preview

    built.page = preview(project, folder / "book", experiment=folder, only=[page.path for page in notebooks])
    return built


def _slug(overrides):
    parts = [str(v) if k == "preset" else f"{k}-{v}" for k, v in overrides.items()]
    return re.sub(r"[^\w.]+", "-", "-".join(parts)).strip("-.")[:80]


def _empty(folder):
    """Take a folder away in one step, then delete it, so that a crash leaves no half-emptied experiment."""
    if folder.exists():
        doomed = Path(tempfile.mkdtemp(prefix=f"{folder.name}.tmp-", dir=folder.parent))
        folder.rename(doomed / folder.name)
        shutil.rmtree(doomed)


def _refuse_bare_figures(notebook, page):
    for cell in notebook.cells:
        if cell.cell_type != "code" or not labelled(cell):
            continue
        options, _ = cell_options(cell)
        needed = ("fig-cap", "fig-alt") if options["label"].startswith("fig-") else ("tbl-cap",)
        missing = [option for option in needed if not str(options.get(option) or "").strip()]
        if missing:
            raise UserError(f"{where(page, cell)}: {options['label']} needs a line '#| {missing[0]}: ...'.")


def _finish_variables(project, pages, built):
    """Collect what all chapters published, and hold the prose to it: of the whole book, or of what was built."""
    notebooks = {page: read_notebook(project / page.path) for page in pages if page.is_notebook}
    published = variables.collect({page.stem: notebook for page, notebook in notebooks.items()})
    variables.write(published, project)
    whole = all(page in built for page in notebooks)
    prose = {page.path: markdown_of(notebook) for page, notebook in notebooks.items() if whole or page in built}
    if whole:
        prose |= {p.path: (project / p.path).read_text(encoding="utf-8") for p in pages if not p.is_notebook}
    variables.refuse_unknown(prose, published)
    write_results(project, {page.stem: notebook for page, notebook in notebooks.items()}, published)


def markdown_of(notebook):
    """The prose of a notebook, captions included."""
    parts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    parts += [
        str(cell_options(cell)[0].get(option, ""))
        for cell in notebook.cells
        if cell.cell_type == "code"
        for option in ("fig-cap", "tbl-cap")
    ]
    return "\n\n".join(parts)
