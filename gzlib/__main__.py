"""The program ``gzlib``, also ``python -m gzlib``: reads a command line, runs its command, says what was wrong.

The commands are functions in :mod:`gzlib.cli`. Help is printed here as plain text, without boxes and colours, and
without rich, which the library would load for it.
"""

import difflib
import os
import re
import shutil
import signal
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stderr, suppress
from inspect import BoundArguments
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, cast, get_args

from gzlib.errors import EXIT_STATUS, STOP_SIGNALS, Stopped, UserError, handling, sentence, stop_at_once, tell

if TYPE_CHECKING:
    from cyclopts import App, CycloptsError, Group
    from cyclopts.argument import Argument

# What the commands are about, in the order of the work.
ABOUT = {
    "Surveys and runs": "curate verify pretrain finetune sweep runs rerun",
    "Saved models": "predict embed evaluate export push",
    "Learning curves, of any field": "fit forecast plan",
    "The book and its study": "build render preview register",
    "This machine": "bench doctor",
}
WORDS: dict[Any, str] = {int: "N", float: "NUMBER", str: "TEXT", Path: "PATH"}  # for a value of the type
TITLES = {"Parameters": "Options"}  # of the library's groups
WIDEST, COLUMN, NARROW = 100, 26, 14  # of help [characters]: a line, and what stands before options' and commands' text


class Misuse(UserError):
    """A command line that cannot be read."""


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Returns
    -------
    int
        0 if it went well, 1 if some runs of a sweep failed, 2 with one sentence on standard error if the input was
        bad or there was too little memory, 75 if SIGTERM, SIGHUP or Ctrl-C stopped it: the same command resumes.
    """
    if argv is None:
        _open_closed_streams()
    tokens = list(sys.argv[1:] if argv is None else argv)
    with handling(stop_at_once), redirect_stderr(cast(TextIO, _Unfailing(sys.stderr))):
        status = _run(tokens)
    if argv is None and status == EXIT_STATUS:
        for number in STOP_SIGNALS:  # the interpreter's own end, which takes a second, has nothing to tell of another
            if signal.getsignal(number) not in (None, signal.SIG_IGN):
                signal.signal(number, _end)
    return status


def _open_closed_streams() -> None:
    """Open what the shell has closed (``>&-``) on nothing, else the next file to be opened would take its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))


class _Unfailing:
    """Standard error, where what cannot be written is dropped.

    A terminal that has gone, a reader that has enough or a full disk must not end the work that a line is about.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(EXIT_STATUS)


def _run(tokens: list[str]) -> int:
    ours = _before_dashes(tokens)
    debug = "--debug" in ours
    tokens = [token for token in ours if token != "--debug"] + tokens[len(ours) :]
    name = " ".join(["gzlib", *[token for token in tokens[:1] if not token.startswith("-")]])
    try:
        status = _answer(tokens)
        sys.stdout.flush()  # here, where a closed pipe is told from other errors
        return status
    except Exception as error:
        refusal = _stdout_refuses() if isinstance(error, OSError) and error.filename is None else None
        if isinstance(refusal, BrokenPipeError):
            return 0
        if refusal:
            tell(f"{name}: standard output cannot be written ({refusal.strerror}); what was made is kept.")
            return 2
        said = sentence(error)
        if said is None or (debug and not isinstance(error, Misuse)):
            raise
        tell(f"{name}: {said}")
        return 2
    except (Stopped, KeyboardInterrupt):
        with handling(_unheard):
            tell(f"{name}: stopped; finished work is kept, and the same command resumes from its checkpoint")
        return EXIT_STATUS


def _before_dashes(tokens: list[str]) -> list[str]:
    """What may be an option: all that stands before ``--``."""
    return tokens[: tokens.index("--")] if "--" in tokens else tokens


def _answer(tokens: list[str]) -> int:
    from cyclopts import CycloptsError

    if tokens[:1] == ["--version"]:
        from gzlib import __version__

        print(f"gzlib {__version__}")
        return 0
    if {"--help", "-h"} & {*_before_dashes(tokens)}:
        print(help_text(tokens))
        return 0
    try:
        command, bound = parse(tokens)
        return command(*bound.args, **bound.kwargs) or 0
    except CycloptsError as error:
        chain, apps = named(tokens)
        raise Misuse(f"{misuse(error, apps)} (see '{' '.join(['gzlib', *chain, '--help'])}')") from error


def parse(tokens: list[str]) -> tuple[Callable[..., int | None], BoundArguments]:
    """The function that a command line calls, and its arguments.

    Raises
    ------
    Misuse
        If no command is named.
    CycloptsError
        If the command line has another mistake.
    """
    from gzlib.cli.tools import app

    if not tokens:
        raise Misuse("name a command; 'gzlib --help' lists them")
    if "-" in tokens and "--" not in tokens:  # standard input, which the library takes for an option
        tokens = [*[token for token in tokens if token != "-"], "--", *["-"] * tokens.count("-")]
    return app.parse_args(tokens)[:2]


def misuse(error: "CycloptsError", apps: Sequence["App"]) -> str:
    """What is wrong with a command line that names these commands, and the nearest that is right."""
    import cyclopts

    argument = error.argument
    name = argument.name if argument else ""
    unused = error.unused_tokens or [""]
    known = [one for app in apps for one in arguments_of(app)]
    word = unused[0]
    if isinstance(error, cyclopts.UnknownCommandError) and not word.startswith("-"):
        return f"unknown {'action' if apps else 'command'} '{word}'{_nearest(word, error.app or ())}"
    if isinstance(error, cyclopts.UnknownCommandError | cyclopts.UnknownOptionError):
        if isinstance(error, cyclopts.UnknownOptionError):
            word = error.token.keyword or error.token.value
        word = word.partition("=")[0]
        return f"unknown option '{word}'{_nearest(word, [name for one in known for name in one.names])}"
    if isinstance(error, cyclopts.MissingArgumentError):
        if error.keyword:
            many = argument.token_count()[0] if argument else 1
            return f"{error.keyword} needs {'a value' if many < 2 else f'{many} values'}"
        near = difflib.get_close_matches(name, [token.partition("=")[0] for token in unused], 1)
        said = next((_plain(one.parameter.help) for one in known if one.name == name), "")
        said = said.partition("; ")[0].rstrip(".")
        return f"{name} is missing{f', or {near[0]!r} is misspelled' if near else ''}{f': {said}' if said else ''}"
    if isinstance(error, cyclopts.UnusedCliTokensError):
        return f"'{word}' is one argument too many"
    if isinstance(error, cyclopts.CoercionError) and error.token:
        given = f"{error.token.keyword or name} '{error.token.value}'"
        if choices := argument and argument.get_choices():
            return f"{given}: choose from {', '.join(choices)}{_nearest(error.token.value, choices)}"
        what = {int: "a whole number", float: "a number"}.get(error.target_type or str)
        return f"{given} is not {what}" if what else f"{given} cannot be read"
    return str(error).rstrip(".")


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _stdout_refuses() -> OSError | None:
    """Why standard output takes no more, if so; nothing is left to flush at exit then.

    Its reader, such as head, may have enough, or its disk may be full. If it takes a line, the error that is looked
    into was of some other file or connection, as to a worker of a cluster.
    """
    try:
        print(flush=True)  # a line, since what failed before may have been dropped and a flush alone succeed
    except OSError as refusal:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return refusal
    return None


def _unheard(number: int, frame: FrameType | None) -> None:
    """A handler for signals that ask for what is being done already."""


def help_text(tokens: list[str]) -> str:
    """What ``--help`` prints: of the program, or of the command that is named before it."""
    from gzlib.cli.tools import app

    chain, apps = named(tokens)
    return _help_of_command(chain, apps) if chain else _help_of_program(app)


def named(tokens: list[str]) -> tuple[tuple[str, ...], Sequence["App"]]:
    """The command that a command line names, such as ``runs ls``; and those around it and itself, for the library."""
    from gzlib.cli.tools import app

    chain, apps, _ = app.parse_commands([token for token in tokens if not token.startswith("-")])
    return chain, apps[1:]


def _help_of_program(app: "App") -> str:
    parts = ["usage: gzlib COMMAND ...", app.help]
    for title, names in ABOUT.items():
        parts.append(_section(title, [(name, _summary(app[name])) for name in names.split()], column=NARROW))
    more = {"--help, -h": "Show this, or the options of a command.", "--version": "Show the version."}
    more["--debug"] = "Show the traceback of an error."
    return "\n\n".join([*parts, _section("Options", [*more.items()], column=NARROW)])


def _help_of_command(chain: tuple[str, ...], apps: Sequence["App"]) -> str:
    """Usage, what the command does, and its arguments in groups; its own before those of the command around it."""
    arguments = [argument for app in reversed(apps) for argument in arguments_of(app)]
    actions = {name: _summary(apps[0][name]) for name in apps[0]} if len(chain) == 1 else {}
    places = [_place(a) for a in arguments if a.index is not None]
    needed = [_names(a) for a in arguments if a.index is None and a.required]
    usage = " ".join(["usage: gzlib", *chain, *["ACTION ..."] * bool(actions), *places, *needed, "[OPTIONS]"])
    groups: dict[Group, list[tuple[str, str]]] = {}
    for argument in arguments:
        group, *_ = cast("tuple[Group, ...]", argument.parameter.group)
        groups.setdefault(group, []).append((_names(argument), _help(argument)))
    titled = [(TITLES.get(group.name, group.name), rows, group.help) for group, rows in groups.items()]
    titled.sort(key=lambda section: section[0] != "Arguments")
    parts = [textwrap.fill(usage, _width()), textwrap.fill(_summary(apps[-1]), _width())]
    parts += [_section("Actions", [*actions.items()], column=NARROW)] if actions else []
    return "\n\n".join([*parts, *(_section(*section) for section in titled)])


def arguments_of(app: "App") -> list["Argument"]:
    """The arguments of a command that its help shows."""
    from gzlib.cli import HOW

    if not app.default_command:
        return []
    collection = app.assemble_argument_collection(default_parameter=HOW["default_parameter"], parse_docstring=True)
    return [argument for argument in collection if argument.show]


def _summary(app: "App") -> str:
    command = app.default_command or app.meta.default_command
    return str(command.__doc__).partition("\n")[0]


def _place(argument: "Argument") -> str:
    several = argument.field_info.kind is argument.field_info.VAR_POSITIONAL
    return f"[{argument.name} ...]" if several else argument.name


def _names(argument: "Argument") -> str:
    """``--size N``, ``--quiet, -q`` or ``--augment.flip, --augment.no-flip``; no ``--recipe.clip``."""
    off = argument.negatives if argument.field_info.default is not True else ()
    shown = [name for name in argument.names if name not in off and not name.startswith("--recipe.")]
    return " ".join(filter(None, [", ".join(shown), _value(argument)]))


def _value(argument: "Argument") -> str:
    many, _ = argument.token_count()
    if many == 0 or argument.index is not None:
        return ""
    if not (word := argument.parameter.metavar):
        choices = argument.get_choices()
        kinds = [kind for kind in (argument.hint, *get_args(argument.hint)) if kind in WORDS]
        word = f"{{{','.join(choices)}}}" if choices else " ".join([WORDS[kinds[0]]] * many)
    return word + " ..." * bool(argument.parameter.consume_multiple)


def _help(argument: "Argument") -> str:
    said = _plain(argument.parameter.help)
    default = argument.field_info.default
    if callable(known := argument.parameter.show_default):
        default = known(default)
    if isinstance(default, bool):
        default = "on" if default else None
    elif isinstance(default, tuple):
        default = " ".join(f"{value:g}" for value in default)
    elif isinstance(default, float):
        default = f"{default:g}"
    if default in (argument.field_info.empty, None, "") or "(default: " in said:
        return said
    return f"{said} (default: {default})".strip()


def _plain(docstring: str | None) -> str:
    """Without its markup."""
    said = " ".join((docstring or "").split())
    return re.sub(r"``([^`]*)``", r"\1", re.sub(r":\w+:`~?([^`]*)`", r"\1", said))


def _width() -> int:
    return min(shutil.get_terminal_size().columns, WIDEST)


def _section(title: str, rows: list[tuple[str, str]], said: str = "", column: int = COLUMN) -> str:
    """A title, and two columns below it; a long name stands on a line of its own."""
    width = _width()
    lines = [f"{title}:", *textwrap.wrap(said, width - 2, initial_indent="  ", subsequent_indent="  ")]
    for name, text in rows:
        wrapped = textwrap.wrap(text, width - column, break_on_hyphens=False) or [""]
        if len(name) + 4 > column:
            lines.append(f"  {name}")
        else:
            wrapped[0] = f"  {name}".ljust(column) + wrapped[0]
        lines += [line if line.startswith("  ") else " " * column + line for line in wrapped]
    return "\n".join(line.rstrip() for line in lines)


if __name__ == "__main__":
    sys.exit(main())
