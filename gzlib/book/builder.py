"""Bring the chapters up to date, run them as an experiment, and render the book."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import webbrowser
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from gzlib import paths
from gzlib.book import chapters as files
from gzlib.book.chapters import (
    book_config,
    book_inputs,
    cell_options,
    check_overrides,
    override,
    read_notebook,
    read_parameters,
    stated_parameters,
    where,
    without_collecting,
    write_notebook,
)
from gzlib.book.execute import execute, fingerprint, labelled, normalise, refusals, stop, terminate
from gzlib.book.html.pages import PAGES, preview
from gzlib.config import PRESETS
from gzlib.errors import UserError, handling
from gzlib.files import check_replaceable, checked_name, mark_folder, marked, remove_folder, replace_file
from gzlib.identity import canonical_json, content_hash

NOT_HERE = "[not in this experiment]"  # a number of a chapter that the experiment did not run


@dataclass
class Built:
    """What a build did: names of the chapters it ran and of those that were fresh; an experiment's first page."""

    ran: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    page: Path | None = None


def build(*, preset=None, only=None, parameters=None, force=False, name=None, project=None, say=print):
    """Run the chapters that are stale; or, with other parameters than the committed ones, run an experiment.

    Without overrides the chapters are updated where they lie, each replaced in one step once it has run, as many at a
    time as there are cores. Any override
    makes an experiment: executed copies, their runs and their pages go to ``experiments/<name>/``. Its pages hold
    numbers of its own chapters alone; in place of any other they say that it is not in the experiment.

    Parameters
    ----------
    preset : {"smoke", "laptop", "paper"}, optional
        How large a study; the chapters' own if it is not given.
    only : str or list of str, optional
        Chapters to build, e.g. ``"02"``; all if not given.
    parameters : dict, optional
        Parameter name to value (or to its text), for every chapter that has the parameter.
    force : bool
        Run fresh chapters as well; an experiment starts from an empty folder, even without curated images.
    name : str, optional
        Name of the experiment; by default made from the overrides and a hash of them.
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
    project = Path(project or paths.project())
    pages = book_inputs(project)
    chapters = _selected([page for page in pages if page.is_notebook], only)
    notebooks = {page: read_notebook(project / page.path) for page in chapters}
    known: dict[str, Any] = {}
    for page, notebook in notebooks.items():
        _refuse_bare_figures(notebook, page.path)
        known |= stated_parameters(notebook, page.path)
    overrides = _overrides(notebooks, preset, parameters, known)
    if overrides or name is not None:
        return _experiment(project, notebooks, overrides, name, force, say)
    built = Built()
    for together in _batches(notebooks):
        stale = []
        for page in together:
            with without_collecting():
                fresh = not force and is_fresh(notebooks[page], page.path, project=project)
            if fresh:
                say(f"fresh {page.stem}")
                built.fresh.append(page.stem)
                normalise(notebooks[page])
                write_notebook(notebooks[page], project / page.path)
            else:
                stale.append(page)
        _update({page: notebooks[page] for page in stale}, project=project, say=say)
        built.ran += [page.stem for page in stale]
    _finish_variables(project, pages, chapters)
    return built


def _batches(notebooks):
    """Chapters in their order, in groups of those that need not wait for each other.

    A chapter that was built before with the same parameters finds what it needs among the stored runs, or waits where
    another one is making it. One that is new comes after those before it, and so does one that reads the whole store.
    """
    batches: list[list[files.Input]] = []
    shared = False
    for page, notebook in notebooks.items():
        own = notebook.metadata.get("gzlib", {})
        free = own.get("parameters") == read_parameters(notebook, page.path) and not own.get("every_run")
        if free and shared:
            batches[-1].append(page)
        else:
            batches.append([page])
        shared = free
    return batches


def _update(notebooks, *, project, say):
    """Run chapters of one batch and replace each once it has run; after a failure no further one starts."""
    at_once, runs = min(len(notebooks), paths.cores()), project / "data" / "runs"

    def update(page, **options):
        executed = _run(notebooks[page], page, project=project, runs=runs, say=say, **options)
        if problems := refusals(executed, page.path, project=project):
            raise UserError("; ".join(problems) + ".")
        write_notebook(executed, project / page.path)

    if at_once <= 1:
        for page in notebooks:
            update(page)
        return
    kernels: list[Any] = []
    failed: BaseException | None = None
    shares = {"workers": max(1, paths.cores() // at_once), "kernels": kernels}
    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(update, page, **shares) for page in notebooks]
        try:
            with handling(partial(stop, kernels)):
                for future in as_completed(futures):
                    with suppress(CancelledError):
                        if error := future.exception():
                            failed = failed or error
                            pool.shutdown(wait=False, cancel_futures=True)
        except BaseException:  # a signal
            pool.shutdown(wait=False, cancel_futures=True)
            while any(future.running() for future in futures):  # the kernel of one may have started meanwhile
                terminate(kernels)
                time.sleep(0.2)
            raise
    if failed:
        raise failed


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
        every_parameter=own.get("every_parameter", False),
        run_folders=run_folders,
        files=own.get("files", []),
        surveys=own.get("surveys", []),
    )


def _selected(chapters, only):
    if not only:
        return chapters
    chosen = []
    for word in [only] if isinstance(only, str) else only:
        found = [c for c in chapters if c.stem.startswith(str(word)) or files.chapter_name(c.stem) == word]
        if not found:
            raise UserError(f"unknown chapter '{word}'; available: {', '.join(c.stem for c in chapters)}.")
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


def _run(notebook, page, *, project, runs, say, surveys=None, **options):
    """Execute, normalise, and record in the notebook what its outputs follow from."""
    say(f"run   {page.stem}")
    start = time.monotonic()
    executed, entries = execute(notebook, page.path, project=project, runs=runs, surveys=surveys, **options)
    own = {
        "parameters": read_parameters(executed, page.path),
        "runs": sorted({entry["key"] for entry in entries if entry["kind"] == "run"}),
        "variables": {entry["name"]: entry["value"] for entry in entries if entry["kind"] == "variable"},
    }
    if any(entry["kind"] == "runs" for entry in entries):
        own["every_run"] = True
    if any(entry["kind"] == "parameters" for entry in entries):
        own["every_parameter"] = True
    if files := sorted({entry["pattern"] for entry in entries if entry["kind"] == "files"}):
        own["files"] = files
    specs = {canonical_json(entry["spec"]): entry["spec"] for entry in entries if entry["kind"] == "survey"}
    if specs:
        own["surveys"] = [specs[text] for text in sorted(specs)]
    own["fingerprint"] = _fingerprint(executed, page.path, own, project, [runs, project / "data" / "runs"])
    executed.metadata["gzlib"] = own
    normalise(executed)
    say(f"done  {page.stem} in {time.monotonic() - start:.0f} s")
    return executed


def _experiment(project, notebooks, overrides, name, force, say):
    folder = _experiment_folder(project, overrides, name, force)
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
    files.write_variables(_experiment_variables(project, folder), folder)
    made = [page.path for page in book_inputs(project) if page.is_notebook and (folder / page.path).is_file()]
    preview(project, folder / "book", experiment=folder, only=made)
    built.page = (folder / "book" / next(iter(notebooks)).path).with_suffix(".html")
    return built


def _experiment_folder(project, overrides, name, force):
    """The experiment's folder, ready for its runs; one that holds another experiment is refused."""
    folder = project / "experiments" / checked_name(_slug(overrides) if name is None else name, "an experiment")
    if force:
        remove_folder(folder, "an experiment", keep=(project,), own=_is_own)
    record, text = folder / "experiment.json", json.dumps({"parameters": overrides}, indent=1, sort_keys=True) + "\n"
    if record.is_file() and record.read_text(encoding="utf-8") != text:
        raise UserError(
            f"Experiment '{folder.name}' has other parameters: choose another name, or --force to replace it."
        )
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    replace_file(record, text)
    return folder


def _experiment_variables(project, folder):
    """Numbers for an experiment's pages: those of the chapters that it ran, at any time, and of no other study."""
    published, shown = files.load_variables(project), dict[str, Any]()
    for page in book_inputs(project):
        if not page.is_notebook:
            continue
        own, name = folder / page.path, files.chapter_name(page.stem)
        if own.is_file():
            shown |= files.collect_variables({page.stem: read_notebook(own)})
        else:
            shown[name] = dict.fromkeys(published.get(name, {}), NOT_HERE)
    return {name: values for name, values in shown.items() if values}


def _slug(overrides):
    """Words for people, and a hash that tells any two sets of parameters apart."""
    ordered = sorted(overrides.items(), key=lambda pair: (pair[0] != "preset", pair[0]))
    parts = [str(v) if k == "preset" else f"{k}-{v}" for k, v in ordered]
    words = re.sub(r"[^\w.]+", "-", "-".join(parts)).strip("-.")[:40].strip("-.")
    return f"{words}-{content_hash([[k, repr(v)] for k, v in sorted(overrides.items())])[:6]}"


# What a build makes in an experiment's folder beside runs, and pages, which have a marker of their own.
_OWN = re.compile(
    r"experiment\.json|_variables\.yml|chapters/[^/]+\.ipynb|runs/\.survey-[0-9a-f]+\.lock"
    r"|surveys/[^/]+/[^/]*\.(npy|parquet|json|csv)|surveys/\..+"
)


def _is_own(folder, name):
    """Whether a file of an experiment, by its path below the folder, was made by a build."""
    top, _, rest = name.partition("/")
    if top == "runs" and "/" in rest:
        return paths.is_run_file(rest.partition("/")[2])
    if top == "book":
        return marked(folder / top, PAGES)(rest)
    return bool(_OWN.fullmatch(name))


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
    published = files.collect_variables({page.stem: notebook for page, notebook in notebooks.items()})
    published |= files.edition(project)
    files.write_variables(published, project)
    whole = all(page in built for page in notebooks)
    prose = {page.path: markdown_of(notebook) for page, notebook in notebooks.items() if whole or page in built}
    if whole:
        prose |= {p.path: (project / p.path).read_text(encoding="utf-8") for p in pages if not p.is_notebook}
        parts = {f"_{name}.qmd" for text in prose.values() for name in files.INCLUDE.findall(text)}
        prose |= {n: (project / n).read_text(encoding="utf-8") for n in sorted(parts) if (project / n).is_file()}
    files.refuse_unknown_variables(prose, published)
    stems = {page.stem: notebook for page, notebook in notebooks.items()}
    files.write_results(project, stems, published)
    files.write_includes(project, stems, [project / page.path for page in pages if not page.is_notebook])


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


MINIMUM = (1, 7)
INSTALL_SECONDS = 60


def render(project=None, *, install=False, article=False, say=print):
    """Render the book and say, as the last line, which page to open.

    Parameters
    ----------
    project : Path, optional
        Root of the project.
    install : bool
        If there is no Quarto, try once to install its PyPI package into the running virtual environment. Nothing is
        installed without being asked.
    article : bool
        Set the chapters of ``_quarto-article.yml`` as a PDF instead, which takes Quarto.
    say : callable
        Receives lines of text.

    Returns
    -------
    Path
        The book's first page, or the article.

    Raises
    ------
    UserError
        If Quarto fails or is missing for an article, or for what :func:`gzlib.book.html.preview` refuses.
    """
    project = Path(project or paths.project()).resolve()
    quarto = find_quarto()
    if not quarto and install and sys.prefix != sys.base_prefix:
        _install_quarto()
        quarto = find_quarto()
    environment = {**os.environ, "QUARTO_PYTHON": sys.executable}
    if article:
        if not quarto:
            raise UserError("The article is set by Quarto 1.7 or newer, which is not here: get it with --install.")
        command = [quarto, "render", "article.qmd", "--profile", "article", "--to", "typst"]
        if _run_whole(command, cwd=project, env=environment):
            raise UserError("Quarto could not set the article; its message is above.")
        page = project / book_config(project, profile="article")["project"]["output-dir"] / "article.pdf"
    elif quarto:
        # Quarto empties the folder by itself.
        pages = project / book_config(project)["project"].get("output-dir", "_book")
        check_replaceable(pages, PAGES, keep=(project, paths.ROOT))
        if _run_whole([quarto, "render"], cwd=project, env=environment):
            raise UserError("Quarto could not render the book; its message is above.")
        mark_folder(pages, PAGES)
        page = pages / "index.html"
    else:
        say("No Quarto 1.7 or newer here (--install gets it), so this is the preview: the same pages.")
        page = preview(project)
    say(f"Open {page}")
    return page


def serve(page, *, open_page=webbrowser.open, say=print):
    """Show a rendered book through a server of this machine's own until Ctrl-C: Quarto's search works in no file.

    Parameters
    ----------
    page : Path
        The book's first page.
    open_page : callable
        Takes the page's address.
    """
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=page.parent)) as server:
        address = f"http://127.0.0.1:{server.server_port}/{page.name}"
        say(f"Serving {address} until Ctrl-C")
        open_page(address)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def find_quarto():
    """The newest enough Quarto in the running environment or on the path, or None."""
    beside = str(Path(sys.executable).parent)
    quarto = shutil.which("quarto", path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
    if not quarto:
        return None
    try:
        shown = subprocess.run([quarto, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.match(r"(\d+)\.(\d+)", shown.strip())
    return quarto if version and tuple(map(int, version.groups())) >= MINIMUM else None


def _install_quarto():
    """Try the PyPI package, which downloads Quarto itself while it is built; whether it worked, the caller looks."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--retries", "0"]
    command += ["--disable-pip-version-check", f"quarto-cli>={MINIMUM[0]}.{MINIMUM[1]}"]
    with suppress(subprocess.TimeoutExpired):
        _run_whole(command, seconds=INSTALL_SECONDS, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


GRACE_SECONDS = 4.0  # for a program that is told to stop


def _run_whole(command, *, seconds=None, **options) -> int:
    """The status of a program, in a session of its own, so that whatever it started ends with it."""
    process = subprocess.Popen(command, start_new_session=True, **options)
    try:
        return process.wait(seconds)
    except BaseException:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
        raise
