"""Turn the chapters into the book: with Quarto where it is, with the preview where it is not."""

import os
import re
import shutil
import signal
import subprocess
import sys
import webbrowser
from pathlib import Path

from gzlib import paths
from gzlib.book.chapters import book_config
from gzlib.book.preview import preview
from gzlib.errors import UserError

MINIMUM = (1, 7)
INSTALL_SECONDS = 60


def render(project=None, *, open=False, install=True, say=print):
    """Render the book and say, as the last line, which page to open.

    Parameters
    ----------
    project : Path, optional
        Root of the project.
    open : bool
        Open the page in a browser, too.
    install : bool
        If there is no Quarto, try once to install its PyPI package into the running virtual environment.
    say : callable
        Receives lines of text.

    Returns
    -------
    Path
        The book's first page.

    Raises
    ------
    UserError
        If Quarto fails, or for what :func:`gzlib.book.preview.preview` refuses.
    """
    project = Path(project or paths.ROOT).resolve()
    quarto = find_quarto()
    if not quarto and install and sys.prefix != sys.base_prefix:
        _install_quarto()
        quarto = find_quarto()
    if quarto:
        environment = {**os.environ, "QUARTO_PYTHON": sys.executable}
        if subprocess.run([quarto, "render"], cwd=project, env=environment, check=False).returncode:
            raise UserError("Quarto could not render the book; its message stands above.")
        page = project / book_config(project)["project"].get("output-dir", "_book") / "index.html"
    else:
        say("No Quarto 1.7 or newer here, so this is the preview: the same pages, without search.")
        page = preview(project)
    if open:
        webbrowser.open(page.as_uri())
    say(f"Open {page}")
    return page


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
    # A session of its own, so that the build processes which pip starts end with it.
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        process.wait(INSTALL_SECONDS)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
