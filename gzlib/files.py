"""Files that are whole or absent, folders that are replaced, and locks that end with their holder, however it ends."""

import glob
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from gzlib.errors import Busy, NotWritten, UserError

if TYPE_CHECKING:
    from filelock import BaseFileLock
    from pydantic import BaseModel

FilePath = str | os.PathLike[str]  # whatever names a file or folder
Own = Callable[[Path, str], bool]  # whether a command made a file: its folder, and its path below that with ``/``


def not_written(path: Path, error: OSError) -> NotWritten:
    """The sentence for an operating system's refusal."""
    reason = error.strerror or str(error)
    if isinstance(error, FileExistsError) and os.path.isfile(error.filename or ""):  # where a folder was to be made
        reason = f"'{error.filename}' is a file, not a folder"
    return NotWritten(f"'{path}' could not be written ({reason}); free space, change rights or choose another folder.")


def place_of(path: FilePath) -> Path:
    """Where a user's path leads, absolute, with a home for ``~``.

    Raises
    ------
    NotWritten
        If there can be no file there: its name is too long or holds a NUL, or there is no such user.
    """
    try:
        place = Path(path).expanduser().absolute()
        os.lstat(place)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        shown = repr(str(path)) if len(str(path)) <= 80 else f"{str(path)[:79]!r}…"
        raise NotWritten(f"{shown} is not a path for a file ({reason}); choose another name.") from None
    return place


def from_home(path: FilePath) -> Path:
    """The path with a home for ``~``; as it is, where there is no such user or it holds a NUL."""
    try:
        return Path(path).expanduser()
    except (RuntimeError, ValueError):
        return Path(path)


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill a temporary file in the same folder, then put it in the file's place in one step.

    Raises
    ------
    NotWritten
        If the operating system refuses; the file's old content stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file, temporary = _spare_file(path)
        with file:
            try:
                write(file)
                file.flush()
                os.fsync(file.fileno())
                if os.name == "nt":  # where an open file can't be moved; elsewhere it stays locked until it is in place
                    file.close()
                os.replace(temporary, path)
            except BaseException:
                with suppress(OSError):  # the first error is the one to tell
                    temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise not_written(path, error) from None


def _spare_file(path: Path) -> tuple[BinaryIO, Path]:
    """A temporary file beside a file, open and empty.

    It is the same one every time, locked by the process that writes it, so that the next process writes over what a
    killed one left. Where another process writes the same file now, or nothing can be locked, it is this process's own.
    """
    own, common = (path.with_name(f".{path.name}.tmp-{number}") for number in (os.getpid(), 0))
    try:
        import fcntl

        descriptor = os.open(common, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except (ImportError, OSError):  # Windows, or a place that takes nothing, which is told next
        return open(own, "wb"), own
    file = os.fdopen(descriptor, "r+b")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.stat(common)):  # else its writer has just moved it into place
            file.truncate()
            return file, common
    except OSError:
        pass
    file.close()
    return open(own, "wb"), own


def replace_file(path: Path, text: str | bytes) -> bool:
    """Put ``text`` in a file in one step; an equal file is not touched. True if the file changed."""
    if place_of(path).is_dir():  # and a name that can't be one is told here
        raise NotWritten(f"'{path}' is a folder; name a file in it.")
    path, content = Path(path), text.encode() if isinstance(text, str) else text
    if path.is_file() and path.read_bytes() == content:
        return False
    write_whole(path, lambda file: file.write(content))
    return True


def read_checked(file: Path, shape: "type[BaseModel]", *, what: str, cure: str) -> dict[str, Any]:
    """The content of a JSON file that has a shape.

    Parameters
    ----------
    file : Path
    shape : pydantic model
        What the code relies on; what else the file holds comes with it.
    what, cure : str
        What the file should be and what to do if it is not, for the sentence.

    Raises
    ------
    UserError
        If the file cannot be read, is not JSON or has another shape; the sentence says where in the file.
    """
    from pydantic_core import from_json  # slow to load, as below; twice as fast as the standard library's

    try:
        content: dict[str, Any] = from_json(file.read_bytes().removeprefix(b"\xef\xbb\xbf"))  # of Windows' editors
    except (OSError, ValueError) as error:
        why = "it is nested too deeply" if "recursion limit" in str(error) else error
        raise UserError(f"'{file}' is damaged ({why}); {cure}.") from None
    if problem := misfit(content, shape):
        raise UserError(f"'{file}' is not {what} ({problem}); {cure}.")
    return content


def misfit(content: object, shape: "type[BaseModel]") -> str | None:
    """Where and how a value from outside differs from the shape that a pydantic model gives; None if it does not."""
    from pydantic import ValidationError  # slow to load, and few commands read such files

    try:
        shape.model_validate(content, strict=True)
        return None
    except ValidationError as error:
        first, others = error.errors(include_url=False)[0], error.error_count() - 1
    place = ".".join(map(str, first["loc"]))
    if not place:
        problem = "not a JSON object" if first["type"] == "model_type" else first["msg"].removeprefix("Value error, ")
    elif first["type"] == "missing":
        problem = f"'{place}' is missing"
    else:
        shown = repr(first["input"])
        shown = shown if len(shown) <= 40 else f"{shown[:39]}…"
        problem = f"'{place}' is {shown}: {first['msg'][0].lower()}{first['msg'][1:]}"
    return f"{problem}, and {others} more" if others else problem


NAME = re.compile(r"\w[\w.-]*")
NAME_BYTES = 200  # file systems take 255, and some names get endings


RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # names of devices on Windows


def is_name(text: str) -> bool:
    """Whether a text may name a file or folder on any system: letters, digits, '.', '_' and '-', so no path."""
    if not isinstance(text, str) or not NAME.fullmatch(text) or text.endswith(".") or RESERVED.fullmatch(text):
        return False
    return len(text.encode("utf-8", "replace")) <= NAME_BYTES


def checked_name(text: str, what: str) -> str:
    """The name of a file or folder that a command is to make.

    Raises
    ------
    UserError
        If it is none, as a path is.
    """
    if not is_name(text):
        raise UserError(
            f"{str(text)[:80]!r} is not a name for {what}: use letters, digits, '.', '_' and '-', at most"
            f" {NAME_BYTES} bytes; begin with a letter or digit, end with no '.', and take none that Windows keeps for"
            " devices (CON, NUL, COM1)."
        )
    return text


MARKER = ".gzlib.json"  # in a folder that a command made: what it is, and the SHA-256 of every file in it
NOBODYS = {MARKER, ".DS_Store", "Thumbs.db", "desktop.ini"}  # made by no person


def mark_folder(folder: Path, what: str) -> None:
    """Say in a folder that a command made it, with which files, so that a later command may replace it.

    Parameters
    ----------
    folder : Path
    what : str
        What the folder is; only a folder of the same kind is replaced.
    """
    content = {"what": what, "files": {name: _digest(file) for name, file in _files(folder).items()}}
    replace_file(folder / MARKER, json.dumps(content, indent=0, sort_keys=True) + "\n")


def check_replaceable(folder: Path, what: str, *, keep: tuple[Path | None, ...] = (), own: Own | None = None) -> Path:
    """Refuse a folder that a command may not replace, because something in it may be a user's.

    It may be new, empty, or one that :func:`mark_folder` has marked as of this kind and nothing was added to or
    changed in since. It may not be a root, a home, or a folder that holds the working directory or one to ``keep``.

    Parameters
    ----------
    folder : Path
    what : str
        What the command puts there.
    keep : tuple of Path
        Folders that must not go, such as the project.
    own : callable, optional
        ``own(folder, path below it)`` says of a file whether a command made it; in place of the marker.

    Returns
    -------
    Path
        The folder, absolute, without symbolic links.

    Raises
    ------
    UserError
    """
    try:
        folder = Path(folder).expanduser().resolve()
        kept = [
            Path(folder.anchor),
            Path.home().resolve(),
            Path.cwd(),
            *(Path(place).resolve() for place in keep if place),
        ]
    except (ValueError, OSError, RuntimeError) as error:  # NUL, a loop of links, no such user
        raise UserError(f"{str(folder)!r} is not a path for {what} ({error}); choose another folder.") from None
    if any(place.is_relative_to(folder) for place in kept):
        raise UserError(f"'{folder}' holds more than {what} can take the place of; choose a folder of its own.")
    if not os.path.lexists(folder):
        return folder
    if not folder.is_dir():
        raise UserError(f"'{folder}' is a file; choose a folder for {what}.")
    if os.path.ismount(folder):
        raise UserError(f"'{folder}' is a mounted disk; choose a folder on it for {what}.")
    if foreign := foreign_file(folder, marked(folder, what) if own is None else partial(own, folder)):
        raise UserError(
            f"'{folder}' holds '{foreign}', which was not made or was changed since by this command; move it away, or"
            f" choose another folder for {what}."
        )
    return folder


def foreign_file(folder: Path, own: Callable[[str], bool]) -> str | None:
    """The first file below a folder, as a path with ``/``, that is not a command's own; None if all are."""
    return next((name for name, file in _files(folder).items() if file.is_symlink() or not own(name)), None)


def marked(folder: Path, what: str) -> Callable[[str], bool]:
    """Whether a file is as it was when the folder was marked."""
    try:
        content = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        listed = dict(content["files"]) if content["what"] == what else {}
        return lambda name: isinstance(listed.get(name), str) and _digest(folder / name) == listed[name]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return lambda name: False


def _files(folder: Path) -> dict[str, Path]:
    """Everything below a folder that is not a folder, by its path with ``/``; what systems leave in folders aside."""
    found = {}
    for place, folders, names in os.walk(folder, onerror=_cannot_look):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in [*names, *links]:
            if name not in NOBODYS:
                file = Path(place, name)
                found[file.relative_to(folder).as_posix()] = file
    return dict(sorted(found.items()))


def _cannot_look(error: OSError) -> NoReturn:
    raise UserError(f"'{error.filename}' cannot be read ({error.strerror}); choose another folder.") from None


def _digest(file: Path) -> str | None:
    if not file.is_file():  # a pipe would never end
        return None
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def replace_folder(fresh: Path, folder: Path, what: str, *, keep: tuple[Path | None, ...] = ()) -> None:
    """Put a folder that a command has just made in the place of an earlier one; see :func:`check_replaceable`.

    Raises
    ------
    UserError
        If the earlier folder may not be replaced; nothing is changed then.
    NotWritten
        If the operating system refuses.
    """
    mark_folder(fresh, what)
    folder = check_replaceable(folder, what, keep=keep)
    with spare_folder(folder) as spare:
        taken = _take_away(folder, spare / OLD, what)
        try:
            os.replace(fresh, folder)
        except OSError:
            if taken:
                os.rename(spare / OLD, folder)
            raise


def remove_folder(folder: Path, what: str, *, keep: tuple[Path | None, ...] = (), own: Own | None = None) -> None:
    """Delete a folder with what is in it, if :func:`check_replaceable` allows that."""
    folder = check_replaceable(folder, what, keep=keep, own=own)
    if os.path.lexists(folder):
        with spare_folder(folder) as spare:
            _take_away(folder, spare / "removed", what, own)


def _take_away(folder: Path, place: Path, what: str, own: Own | None = None) -> bool:
    """Move a folder, if it exists, to a temporary place in one step, so that a crash leaves no half-emptied folder.

    Looked at again there, so that a file put into it at the last moment comes back with it.
    """
    if not os.path.lexists(folder):
        return False
    os.rename(folder, place)
    try:
        check_replaceable(place, what, own=own)
    except UserError:
        os.rename(place, folder)
        raise
    return True


OLD = "old"  # in a spare folder: the folder that is being replaced


@contextmanager
def spare_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside one that is to be made, replaced or removed.

    It is locked, so that what killed processes have left can be told from it, and goes now. If one was killed between
    the two steps of replacing the folder, the old one comes back first.

    Raises
    ------
    NotWritten
        If the operating system refuses, here or to whatever is done with it.
    """
    from filelock import FileLock

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _clear_spares(folder)
        while True:
            spare = Path(tempfile.mkdtemp(prefix=f".{folder.name}.tmp-", dir=folder.parent))
            lock = FileLock(spare / SPARE_LOCK)
            lock.acquire()
            if (spare / SPARE_LOCK).exists():  # else another process has cleared it before it was locked
                break
            lock.release()
        try:
            yield spare
        finally:
            _remove_spare(spare)
            lock.release()
    except OSError as error:
        raise not_written(folder, error) from None


SPARE_LOCK = ".lock"


def _clear_spares(folder: Path):
    for spare in folder.parent.glob(f".{glob.escape(folder.name)}.tmp-*"):
        if not (spare.is_symlink() or (spare / SPARE_LOCK).is_file()):
            with suppress(
                OSError
            ):  # killed before it was locked, or at the last step; one that is being made is made again
                spare.rmdir()
        if spare.is_symlink() or not (spare / SPARE_LOCK).is_file() or is_held(spare / SPARE_LOCK):
            continue
        if (spare / OLD).exists() and not os.path.lexists(folder):
            os.rename(spare / OLD, folder)
        _remove_spare(spare)


def _remove_spare(spare: Path) -> None:
    """Its lock goes last, so that what a killed process leaves is still told from a user's folder."""
    with suppress(OSError):
        for entry in os.scandir(spare):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            elif entry.name != SPARE_LOCK:
                os.unlink(entry.path)
    shutil.rmtree(spare, ignore_errors=True)


POLL_SECONDS = 0.5
REFUSALS = 3  # of a lock whose file does not exist, after which the place takes no files


@contextmanager
def held(path: Path, what: str, *, wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold a lock file while the block runs; the file is gone afterwards.

    The lock is the kernel's (``flock``; on NFS from version 4 the server keeps it), not the file's existence: what a
    killed process leaves behind locks nothing, and the next holder removes it.

    Parameters
    ----------
    path : Path
        The lock file; its folder is made.
    what : str
        What is locked, for the sentence.
    wait : callable, optional
        Wait for the other process, and say so once through this; without it, give up at once.

    Raises
    ------
    Busy
        If another process (or thread) holds the lock and ``wait`` is not given.
    NotWritten
        If the lock file cannot be made.
    """
    from filelock import FileLock  # only locking needs the package

    lock = FileLock(path, blocking=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _acquire(lock, path, what, wait)
    except OSError as error:
        raise not_written(path, error) from None
    try:
        _sign(path)
        yield
    finally:
        with suppress(OSError):  # first removed, then freed: no process can take a lock whose file is about to go
            path.unlink()
        lock.release()


def _acquire(lock: "BaseFileLock", path: Path, what: str, wait: Callable[[str], None] | None) -> None:
    from filelock import Timeout

    told, refused = False, 0
    while True:
        with suppress(Timeout):
            lock.acquire()
            return
        if not path.exists():  # freed at this moment, or the place takes no files
            if (refused := refused + 1) > REFUSALS:
                os.close(os.open(path, os.O_RDWR | os.O_CREAT))  # raises what the system has against it
            time.sleep(0.01)
            continue
        holder = _holder(path)
        if wait is None:
            raise Busy(f"{what} is being made by {holder}.")
        if not told:
            wait(f"{what} is being made by {holder}; waiting for it")
            told = True
        time.sleep(POLL_SECONDS)


def _sign(path: Path) -> None:
    try:
        path.write_text(f"process {os.getpid()} on {socket.gethostname()}")
    except PermissionError:  # Windows lets no process write to a locked file
        pass
    except OSError as error:
        raise not_written(path, error) from None


def is_held(path: Path) -> bool:
    """Whether some process holds the lock now."""
    from filelock import FileLock, Timeout

    if not path.is_file():
        return False
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except (Timeout, OSError):
        return True
    lock.release()
    return False


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace") or "another process"
    except OSError:
        return "another process"
