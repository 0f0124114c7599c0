"""Run one notebook with papermill, in memory, with this very interpreter, and hear what it has to tell."""

import logging
import os
import sys
import tempfile
from pathlib import Path

from gzlib import trace
from gzlib.book.chapters import where
from gzlib.book.fingerprint import package_folder
from gzlib.errors import UserError


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
            "GZLIB_RUNS": str(runs),
            trace.VARIABLE: str(trace_file),
            "IPYTHONDIR": scratch,  # no start-up files of the user, no history
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # silences a debugger's warning
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(_import_root(project)), os.environ.get("PYTHONPATH")])),
        }
        if surveys:
            environment["GZLIB_SURVEYS"] = str(surveys)
        try:
            executed = papermill.execute_notebook(
                notebook,
                None,
                kernel_name="python3",
                progress_bar=sys.stderr.isatty(),
                stderr_file=sys.stderr,
                kernel_manager_class=_kernel_manager(environment),
            )
        except PapermillExecutionError as error:
            place = where(page, notebook.cells[error.cell_index])
            raise UserError(f"{place} failed: {error.ename}: {error.evalue}") from error
        except DeadKernelError as error:
            raise UserError(f"{page}: its Python died while running, perhaps for want of memory.") from error
        return executed, trace.read(trace_file)


def _import_root(project):
    return package_folder(project).resolve().parent


def _kernel_manager(environment):
    """A kernel manager class for the running interpreter, whatever kernels named python3 are installed."""
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec

    class ThisInterpreter(AsyncKernelManager):
        @property
        def kernel_spec(self):
            return KernelSpec(
                argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=CRITICAL"],
                display_name="Python 3 (ipykernel)",
                language="python",
                env=environment,
            )

    return ThisInterpreter
