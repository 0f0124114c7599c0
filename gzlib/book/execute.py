"""Run one notebook with papermill in memory, reduce it to what is worth storing, and say when that is still true.

Stored notebooks hold results only: what changes from run to run is taken out, what must not be there is refused. A
forced re-run on the same machine therefore leaves git with nothing to report.

A chapter's fingerprint covers everything that its outputs were made from.
Hashed are the syntax trees of the chapter's code (the parameters among it) and of every ``gzlib`` module that it
imports, directly or through others; the data files that lie with those modules; the content of the runs that it read;
and what the simulated surveys that it names hold by now. Prose, captions, comments, docstrings, type annotations of
functions, formatting and line ends are not: editing them must not cost a training run.

A name that is imported from a package's public page (``__init__.pyi``) stands for the module that defines it: a
chapter that takes one function of a package does not depend on the others.
"""

import ast
import base64
import json
import logging
import os
import re
import signal
import struct
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, nullcontext, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from gzlib import paths, trace
from gzlib.book.chapters import cell_options, list_parameters, where
from gzlib.config import SurveySpec
from gzlib.errors import NotWritten, UserError, handling, stop_at_once
from gzlib.files import replace_file
from gzlib.identity import canonical_json, canonical_tree, code_hash, content_hash, file_hash, parse, text_hash


def _surveys(project):
    """Where chapters find curated surveys: where this process does if the user said so, else in the project."""
    return paths.SURVEYS if os.environ.get("GZLIB_SURVEYS") else Path(project) / "data" / "surveys"


def execute(notebook, page, *, project, runs, surveys=None, workers=None, kernels=None):
    """Execute a notebook; the one passed in is not changed, and nothing is written to disk.

    The kernel starts in the working directory of the caller, so that relative paths in parameters mean what they
    mean in the shell. What it writes to standard error is passed on as it comes.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
    page : str
        The chapter's name in messages.
    project : Path
        Root of the project: its ``gzlib`` is imported and its data are used.
    runs : Path
        Where new runs are written.
    surveys : Path, optional
        Where curated surveys are kept, if not in the project.
    workers : int, optional
        Where other notebooks run beside this one: processes that its sweeps may take. Each computes with one thread,
        as threads that wait for a busy core would spin.
    kernels : list, optional
        Takes the kernel while it runs, for :func:`stop` in the main thread, the only one that hears signals.

    Returns
    -------
    notebook : nbformat.NotebookNode
        With outputs, as papermill left it.
    entries : list of dict
        What the chapter noted, see :mod:`gzlib.trace`.

    Raises
    ------
    UserError
        If a cell fails, or the kernel dies.
    """
    import papermill
    from jupyter_core.utils import ensure_event_loop
    from papermill.exceptions import PapermillExecutionError

    logging.getLogger("papermill").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="gzlib-build-") as scratch:
        trace_file = Path(scratch) / "trace.jsonl"
        environment = {
            "GZLIB_HOME": str(project),
            "GZLIB_STORE": str(runs),
            "GZLIB_SURVEYS": str(surveys or _surveys(project)),
            trace.VARIABLE: str(trace_file),
            "IPYTHONDIR": scratch,  # no start-up files of the user, no history
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # silences a debugger's warning
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(_import_root(project)), os.environ.get("PYTHONPATH")])),
        }
        if workers is not None:
            one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
            environment |= one | {"GZLIB_WORKERS": os.environ.get("GZLIB_WORKERS") or str(workers)}
        kernels = [] if kernels is None else kernels
        # A thread's own event loop, which nothing else closes.
        loop = nullcontext() if workers is None else closing(ensure_event_loop())
        try:
            with loop, handling(partial(stop, kernels)):
                executed = papermill.execute_notebook(
                    notebook,
                    None,
                    kernel_name="python3",
                    progress_bar=workers is None and sys.stderr.isatty(),
                    stderr_file=sys.stderr,
                    kernel_manager_class=_kernel_manager(environment, kernels),
                )
        except PapermillExecutionError as error:
            place = where(page, notebook.cells[error.cell_index])
            raise UserError(f"{place} failed: {error.ename}: {error.evalue}") from error
        except RuntimeError as error:
            if not str(error).startswith("Kernel died"):  # before it answered, or later
                raise
            raise UserError(
                f"{page}: the kernel died while it ran, possibly out of memory; close other programs and build again."
            ) from error
        return executed, trace.read_trace(trace_file)


def _import_root(project):
    return package_folder(project).resolve().parent


def stop(kernels: list, number: int, frame):
    """Have kernels stop as after SIGTERM, so that a run in them writes its checkpoint, and end the build."""
    terminate(kernels)
    stop_at_once(number, frame)


def terminate(kernels: list):
    """Send SIGTERM to kernels; to those that have ended nothing happens."""
    for kernel in kernels:
        if process := getattr(kernel.provisioner, "process", None):
            process.send_signal(signal.SIGTERM)


def _kernel_manager(environment, kernels: list):
    """A kernel manager class for the running interpreter, whatever kernels named python3 are installed.

    Its instances enter themselves into ``kernels``.
    """
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec

    class ThisInterpreter(AsyncKernelManager):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            kernels.append(self)

        @property
        def kernel_spec(self):
            return KernelSpec(
                argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=CRITICAL"],
                display_name="Python 3 (ipykernel)",
                language="python",
                env=environment,
            )

    return ThisInterpreter


_ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]{6,}")
_RANDOM_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){0,3}(-[0-9a-f]{12})?")
_HEADING = re.compile(r"^#+ .*\{#([\w-]+)[^}]*\}\s*$", re.MULTILINE)
_WIDGET = "application/vnd.jupyter.widget-view+json"
_PNG_KEPT = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"sRGB", b"pHYs"}


def normalise(notebook):
    """Reduce a notebook, in place, to what is worth keeping in git.

    Kept are the kernel's name, this project's own metadata, cell tags, sources and outputs. Standard error (progress,
    warnings) is for anyone who watches the run, so it is dropped.
    """
    own = notebook.metadata.get("gzlib")
    notebook.metadata = type(notebook)(
        kernelspec={"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        **({"gzlib": own} if own else {}),
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for cell in notebook.cells:
        tags = sorted(cell.metadata.get("tags", []))
        cell.metadata = type(notebook)(tags=tags) if tags else type(notebook)()
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = _outputs(cell.outputs)
    _name_cells(notebook)


def _outputs(outputs):
    kept: list[Any] = []
    for output in outputs:
        if output.output_type == "stream":
            if output.name == "stderr":
                continue
            if kept and kept[-1].output_type == "stream":
                kept[-1].text += output.text
                continue
        elif output.output_type in ("display_data", "execute_result"):
            _plain_result(output)
        kept.append(output)
    return kept


def _plain_result(output):
    output.output_type = "display_data"  # an execute_result must carry its count
    output.pop("execution_count", None)
    output.pop("transient", None)
    sizes = {kind: size for kind, size in output.metadata.items() if kind.startswith("image/") and size}
    output.metadata = type(output)(sizes)
    if len(output.data) > 1:
        output.data.pop("text/plain", None)  # the poor cousin of the image or table beside it
    if "text/markdown" in output.data:
        output.data.pop("text/html", None)  # Quarto would load scripts from elsewhere beside it
        output.data["text/markdown"] = trace.inert(output.data["text/markdown"])
    if "image/png" in output.data:
        png = base64.b64decode(output.data["image/png"])
        output.data["image/png"] = base64.b64encode(strip_png(png)).decode()


def strip_png(png):
    """A PNG without the chunks that say when and by which software it was made; its pixels are untouched."""
    kept, at = png[:8], 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] in _PNG_KEPT:
            kept += png[at : at + length + 12]
        at += length + 12
    return kept


def _name_cells(notebook):
    """Give cells lasting names: the label, the section, or the place after the last cell that has such a name."""
    taken, anchor = set(), "start"
    for cell in notebook.cells:
        own = _own_name(cell)
        if own:
            anchor = own
        current = cell.get("id") or ""
        if own:
            name = own
        elif current and not _RANDOM_ID.fullmatch(current) and current not in taken:
            name = current
        else:
            name = f"{anchor}-{cell.cell_type}"
        number, base = 1, name[:56]
        while (name := base if number == 1 else f"{base}-{number}") in taken:
            number += 1
        taken.add(name)
        cell["id"] = name


def _own_name(cell):
    if cell.cell_type == "raw" and cell.source.startswith("---"):
        return "front-matter"
    if cell.cell_type == "markdown":
        heading = _HEADING.search(cell.source)
        return heading and heading.group(1)
    if "parameters" in cell.metadata.get("tags", []):
        return "parameters"
    label = cell_options(cell)[0].get("label")
    return str(label) if label else None


def refusals(notebook, page, *, project=None):
    """Why an executed notebook may not be stored, as a list of sentences; empty if all is well.

    Refused are errors, figures and tables without output, images without label, progress widgets, memory
    addresses, and paths of this machine (only where ``project`` is given, since an experiment may print the paths
    that its user passed).
    """
    problems = []
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        place = where(page, cell)
        if labelled(cell) and not cell.outputs:
            problems.append(f"{place}: {cell_options(cell)[0]['label']} has no output")
        for output in cell.outputs:
            if output.output_type == "error":
                problems.append(f"{place}: stored {output.ename}: {output.evalue}")
            kinds = output.get("data", {})
            if not labelled(cell) and any(kind.startswith("image/") for kind in kinds):
                problems.append(f"{place}: an image needs '#| label: fig-...' with caption and alternative text")
            if _WIDGET in kinds:
                problems.append(f"{place}: a progress widget cannot be stored; print or write to stderr instead")
            text = _text(output)
            if match := _ADDRESS.search(text):
                problems.append(f"{place}: the output shows a memory address ({match.group()}); show a value instead")
            if project and str(Path(project).resolve()) in text:
                problems.append(f"{place}: the output shows a path of this machine; show it relative to the project")
    return problems


def _text(output):
    if output.output_type == "stream":
        return output.text
    return "\n".join(str(value) for kind, value in output.get("data", {}).items() if kind.startswith("text/"))


def labelled(cell):
    """Whether a code cell makes a numbered figure or table."""
    return str(cell_options(cell)[0].get("label", "")).startswith(("fig-", "tbl-"))


def fingerprint(
    notebook, page, *, project, runs=(), every_run=False, every_parameter=False, run_folders=None, files=(), surveys=()
):
    """Fingerprint of a chapter, equal on every supported Python and operating system.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
    page : str
        The chapter's name in messages.
    project : Path
        Root of the project, whose ``gzlib`` is followed.
    runs : iterable of str
        Keys of the runs that the chapter read.
    every_run : bool
        The chapter read the whole store, so that a new run concerns it too.
    every_parameter : bool
        The chapter lists the parameters of all chapters.
    run_folders : list of Path, optional
        Where runs are looked up, first match wins; by default the project's ``data/runs``.
    files : iterable of str
        Patterns of the other files that the chapter read, see :func:`gzlib.trace.input_files`.
    surveys : iterable of dict
        Specifications of the surveys of generated galaxies that the chapter used or whose runs it read.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    UserError
        If a code cell is not plain Python.
    """
    trees = [(cell, _cell_tree(cell, page)) for cell in notebook.cells if cell.cell_type == "code"]
    modules = imported_modules([tree for _, tree in trees], package_folder(project))
    folders = [Path(folder) for folder in run_folders or [Path(project) / "data" / "runs"]]
    keys = set(runs)
    if every_run:
        keys |= {file.parent.name for folder in folders for file in folder.glob("*/run.json")}
    content = {
        # A trailing semicolon is not syntax, yet it hides a cell's last value.
        "code": [[canonical_tree(tree), cell.source.rstrip().endswith(";")] for cell, tree in trees if tree.body],
        "modules": {name: code_hash(path) for name, path in modules.items()},
        "data": {
            path.relative_to(package_folder(project)).as_posix(): _data_hash(path) for path in data_files(modules)
        },
        "runs": {key: _run_hash(key, folders) for key in keys},
    }
    if every_parameter:
        content["parameters"] = list_parameters(project)
    if files:
        content["files"] = trace.hash_files(Path(project), files)
    if surveys:
        content["surveys"] = _survey_hashes(surveys, _surveys(project))
    return content_hash(content)


def package_folder(project):
    """The ``gzlib`` that chapters of this project import: the project's own, or else the one that is running."""
    own = Path(project) / "gzlib"
    return own if own.is_dir() else paths.PACKAGE


def data_files(modules):
    """Files that lie with modules: all of a folder that is not a package, beside one of the modules; sorted."""
    folders = {
        folder
        for parent in {path.parent for path in modules.values()}
        for folder in parent.iterdir()
        if folder.is_dir() and not (folder / "__init__.py").is_file() and not folder.name.startswith(("_", "."))
    }
    return sorted(file for folder in folders for file in folder.rglob("*") if file.is_file())


def _cell_tree(cell, page):
    try:
        tree = ast.parse(cell.source)
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise UserError(
            f"{page}, cell {cell.get('id')}, line {error.lineno}: {line!r} is not plain Python ({error.msg}); "
            "magics and '!' commands do not belong in a chapter."
        ) from None
    # A cell's leading string is shown as output, so it is not a docstring.
    return ast.Interactive(body=tree.body)


_Pages = Mapping[str, Mapping[str, str]]  # of each package with a public page: name to dotted origin


def imported_modules(trees, package):
    """Modules of the package that the trees import, and those that these import, and so on.

    Imports are found by reading, not by running. A package's ``__init__`` comes with each module in it, unless the
    package has a public page: then only the modules of the names that are imported.

    Returns
    -------
    dict
        Dotted module name to file, sorted by name.
    """
    modules = _modules(package)
    pages = {
        name: _read_page(page.read_bytes(), name)
        for name, file in modules.items()
        if file.name == "__init__.py" and (page := file.with_suffix(".pyi")).is_file()
    }
    found: dict[str, Path] = {}
    waiting: list[tuple[Iterable[_Import], list[str]]] = [(_imports(tree), []) for tree in trees]
    while waiting:
        imports, inside = waiting.pop()
        for name in _imported_names(imports, inside, package.name, pages):
            for depth in range(1, name.count(".") + 2):
                module = ".".join(name.split(".")[:depth])
                if module in modules and module not in found and module not in pages:
                    path = found[module] = modules[module]
                    parts = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
                    waiting.append((_module_imports(path.read_bytes()), parts))
    return dict(sorted(found.items()))


def _modules(package: Path) -> dict[str, Path]:
    """Dotted name to file of all that a package holds; of a module and a package of one name the package counts."""
    found = {}
    for file in sorted(package.rglob("*.py"), key=lambda file: file.name == "__init__.py"):
        parts = file.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


class _Import(NamedTuple):
    """One import statement; ``level`` is None for ``import a.b``, whose names are whole."""

    level: int | None
    module: str
    names: tuple[str, ...]


def _imports(tree) -> Iterator[_Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield _Import(None, "", tuple(alias.name for alias in node.names))
        elif isinstance(node, ast.ImportFrom):
            yield _Import(node.level, node.module or "", tuple(alias.name for alias in node.names))


@lru_cache(maxsize=512)  # most modules are imported by most chapters
def _module_imports(source: bytes) -> tuple[_Import, ...]:
    return tuple(_imports(parse(source)))


def _imported_names(imports: Iterable[_Import], inside: list[str], package: str, pages: _Pages) -> Iterator[str]:
    """Dotted names of the package that may be imported; a name taken from a module counts as a module, too."""
    for level, module, names in imports:
        base = ""
        if level is not None:
            base = ".".join([*(inside[: len(inside) - level + 1] if level else []), *([module] if module else [])])
            names = tuple(f"{base}.{name}" for name in names)
        if base.split(".")[0] == package:
            yield base
        for name in names:
            if name.split(".")[0] == package:
                yield from _defining(name, pages)


def _defining(name: str, pages: _Pages) -> Iterator[str]:
    """Where a public page says that a name comes from; of a whole package, where all its names come from."""
    parent, _, last = name.rpartition(".")
    # A page that names one of its own modules leads to itself.
    while parent and (page := pages.get(parent, {})).get(last, name) != name:
        name = page[last]
        parent, _, last = name.rpartition(".")
    yield name
    for origin in pages.get(name, {}).values():
        yield from _defining(origin, pages)


@lru_cache(maxsize=64)
def _read_page(source: bytes, package_name: str) -> dict[str, str]:
    named: dict[str, str] = {}
    for node in parse(source).body:
        if isinstance(node, ast.ImportFrom):
            origin = ".".join(filter(None, [package_name, node.module]))
            named |= {alias.name: f"{origin}.{alias.name}" for alias in node.names}
    return named


def _data_hash(path):
    """Of a JSON file its content counts, of any other its text."""
    return _json_hash(path.read_bytes()) if path.suffix == ".json" else text_hash(path)


@lru_cache(maxsize=1024)  # most runs and data files are read by several chapters
def _json_hash(data: bytes) -> str:
    return content_hash(json.loads(data))


KEPT = ".fingerprints.json"  # in the folder of surveys


def _survey_hashes(specs, folder):
    """Fingerprint of each simulated survey as this code would make it, by the survey's specification.

    To make one takes torch, and seconds to load it. A fingerprint of the simulated sky follows from the specification
    and the package alone, so it is kept in ``folder`` for as long as no file of the package changes.
    """
    code, file = _package_hash(), Path(folder) / KEPT
    kept: dict[str, str] = {}
    with suppress(OSError, ValueError, KeyError, TypeError):  # none, or not one that was written here
        record = json.loads(file.read_bytes())
        kept = dict(record["surveys"]) if record["package"] == code else {}
    hashes, new = {}, {}
    for spec in specs:
        text = canonical_json(spec)
        if text not in kept:
            hashes[text], certain = _survey_hash(spec)
            if certain and _is_ours(spec):
                new[text] = hashes[text]
        else:
            hashes[text] = kept[text]
    if new:
        with suppress(NotWritten):  # the next build makes them again
            replace_file(file, json.dumps({"package": code, "surveys": kept | new}, indent=1, sort_keys=True) + "\n")
    return hashes


def _is_ours(spec):
    """Whether a survey is the simulated sky's alone, with no file, decision tree or source of the user's."""
    from gzlib.data.sources.registry import has_prefix, split_text

    parts = split_text(spec["source"])
    return spec.get("schema") is None and all(part.startswith("sim:") and has_prefix(part) for part in parts)


def _package_hash():
    """Hash of every file of the running package, comments and all."""
    files = sorted(file for file in paths.PACKAGE.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return content_hash([[file.relative_to(paths.PACKAGE).as_posix(), file_hash(file)] for file in files])


def _survey_hash(spec):
    """The survey's fingerprint, or why there is none; and whether there is one."""
    from gzlib.data import survey_fingerprint  # needs the extra `train`, which rendering executed chapters does without

    try:
        return survey_fingerprint(SurveySpec(**spec)), True
    except (TypeError, UserError) as error:  # another version's specification, or a source that is gone
        return f"unknown: {error}", False


def _run_hash(key, folders):
    file = next((folder / key / "run.json" for folder in folders if (folder / key / "run.json").is_file()), None)
    return _json_hash(file.read_bytes()) if file else "missing"
