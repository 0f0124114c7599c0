"""Run one notebook with papermill in memory, and reduce it to what is worth storing.

Stored notebooks hold results only: what changes from run to run is taken out, what must not be there is refused. A
forced re-run on the same machine therefore leaves git with nothing to report.
"""

import base64
import logging
import os
import re
import signal
import struct
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from gzlib import trace
from gzlib.book.chapters import cell_options, where
from gzlib.book.fingerprint import package_folder
from gzlib.errors import UserError, handling, stop_at_once


def execute(notebook, page, *, project, runs, surveys=None):
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
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    logging.getLogger("papermill").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="gzlib-build-") as scratch:
        trace_file = Path(scratch) / "trace.jsonl"
        environment = {
            "GZLIB_HOME": str(project),
            "GZLIB_STORE": str(runs),
            "GZLIB_SURVEYS": str(surveys or os.environ.get("GZLIB_SURVEYS") or Path(project) / "data" / "surveys"),
            trace.VARIABLE: str(trace_file),
            "IPYTHONDIR": scratch,  # no start-up files of the user, no history
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # silences a debugger's warning
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(_import_root(project)), os.environ.get("PYTHONPATH")])),
        }
        kernels: list[Any] = []
        try:
            with handling(partial(_stop, kernels)):
                executed = papermill.execute_notebook(
                    notebook,
                    None,
                    kernel_name="python3",
                    progress_bar=sys.stderr.isatty(),
                    stderr_file=sys.stderr,
                    kernel_manager_class=_kernel_manager(environment, kernels),
                )
        except PapermillExecutionError as error:
            place = where(page, notebook.cells[error.cell_index])
            raise UserError(f"{place} failed: {error.ename}: {error.evalue}") from error
        except DeadKernelError as error:
            raise UserError(f"{page}: the kernel died while it ran, possibly out of memory.") from error
        return executed, trace.read_trace(trace_file)


def _import_root(project):
    return package_folder(project).resolve().parent


def _stop(kernels: list, number: int, frame):
    """Have the kernel stop as after SIGTERM, so that a run in it writes its checkpoint, and end the build."""
    for kernel in kernels:
        if process := getattr(kernel.provisioner, "process", None):
            process.send_signal(signal.SIGTERM)
    stop_at_once(number, frame)


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
    sizes = output.metadata.get("image/png", {})
    output.metadata = type(output)({"image/png": sizes} if sizes else {})
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
