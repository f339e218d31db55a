"""What commands share: options, exit codes, questions, the sentence for an error."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import click

from onefs.cache.folder_check import ADOPT_VARIABLE
from onefs.cli.completion import completer_of, profile_names
from onefs.config.secret import redact
from onefs.errors import (
    CredentialsError,
    DeadlineExceeded,
    NotConfigured,
    OnefsError,
    Throttled,
    Unreachable,
    UsageError,
)
from onefs.printable import printable

#: the variable of ``--trust-cache-dir``
TRUST_VARIABLE = "ONEFS_TRUST_CACHE_DIR"

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_CREDENTIALS = 3
EXIT_UNREACHABLE = 4

_EXIT_CODES: tuple[tuple[tuple[type[OnefsError], ...], int], ...] = (
    ((UsageError, NotConfigured), EXIT_USAGE),
    ((CredentialsError,), EXIT_CREDENTIALS),
    ((Unreachable, DeadlineExceeded, Throttled), EXIT_UNREACHABLE),
)

F = TypeVar("F", bound=Callable[..., Any])


def say(text: object, *, err: bool = False) -> None:
    """Print a text for people on one line, without secrets and control characters."""
    click.echo(printable(redact(str(text))), err=err)


def say_path(path: object) -> None:
    """Print a path: at a terminal as one that can be shown, else as it is, for a program."""
    if sys.stdout.isatty():
        say(path)
    else:
        click.echo(str(path))


def refuse_empty(argument: str) -> None:
    """Raise UsageError for an argument that names nothing: a variable that is not set."""
    if not argument.strip():
        raise UsageError(f"{argument!r} names nothing: is it a variable that is not set?")


def require_value(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> str | None:
    """The callback of an argument or flag that must not be empty: it would stand for the folder
    one is in, or for what settings say."""
    if value is not None:
        refuse_empty(value)
    return value


def database_options(command: F) -> F:
    """``--url``, ``--username`` and ``--profile``."""
    for option in (
        click.option(
            "--profile",
            metavar="NAME",
            callback=require_value,
            help="A saved database. [ONEFS_PROFILE]",
            shell_complete=completer_of(profile_names),
        ),
        click.option(
            "--username",
            metavar="NAME",
            callback=require_value,
            help="The Alyx user. [ONEFS_USERNAME]",
        ),
        click.option(
            "--url", metavar="URL", callback=require_value, help="The Alyx server. [ONEFS_URL]"
        ),
    ):
        command = option(command)
    return command


def _variable_setter(variable: str) -> Callable[[click.Context, click.Parameter, bool], None]:
    """The callback of a flag that sets its variable while the command runs: whatever opens the
    folder looks at it."""

    def called(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
        if value:
            before = os.environ.get(variable)
            os.environ[variable] = "1"
            context.call_on_close(lambda: _restore_variable(variable, before))

    return called


def _restore_variable(variable: str, before: str | None) -> None:
    os.environ.pop(variable, None)
    if before is not None:
        os.environ[variable] = before


def trust_options(command: F) -> F:
    """``--trust-cache-dir`` and ``--adopt``, which go with each ``--cache-dir``."""
    for option in (
        click.option(
            "--adopt",
            is_flag=True,
            expose_value=False,
            callback=_variable_setter(ADOPT_VARIABLE),
            help=f"Keep files in a folder that holds other things, too. [{ADOPT_VARIABLE}]",
        ),
        click.option(
            "--trust-cache-dir",
            is_flag=True,
            expose_value=False,
            callback=_variable_setter(TRUST_VARIABLE),
            help=f"Use folders that others may write to, and links in them. [{TRUST_VARIABLE}]",
        ),
    ):
        command = option(command)
    return command


def folder_options(command: F) -> F:
    """``--cache-dir``, ``--state-dir``, ``--trust-cache-dir`` and ``--adopt``."""
    folder = click.Path(file_okay=False)
    for option in (
        trust_options,
        click.option(
            "--state-dir",
            type=folder,
            callback=require_value,
            help="Where the databases lie, on a local disk. [ONEFS_STATE_DIR]",
        ),
        click.option(
            "--cache-dir",
            type=folder,
            callback=require_value,
            help="Where files are kept: a ONE cache folder. [ONEFS_CACHE_DIR]",
        ),
    ):
        command = option(command)
    return command


def storage_options(command: F) -> F:
    """``--cache-size`` and its kin; their values are texts (see ``onefs.config.cache_options``)."""
    for option in (
        click.option(
            "--strict",
            flag_value="yes",
            default=None,
            help="Serve no byte before its whole file is verified. [ONEFS_STRICT]",
        ),
        click.option(
            "--small-file",
            metavar="SIZE",
            help="Fetch files up to this size whole; default 16M. [ONEFS_SMALL_FILE]",
        ),
        click.option(
            "--min-free",
            metavar="SIZE",
            help="Free space to leave on the cache's disk. [ONEFS_MIN_FREE]",
        ),
        click.option(
            "--cache-size",
            metavar="SIZE",
            help="What downloaded files may take, as 20G; default: no limit. [ONEFS_CACHE_SIZE]",
        ),
    ):
        command = option(command)
    return command


def appearance_options(command: F) -> F:
    """``--umask`` and its kin; their values are texts (see ``onefs.config.file_attributes``)."""
    for option in (
        click.option(
            "--inode32",
            flag_value="yes",
            default=None,
            help="Give out inode numbers that 32-bit programs can hold. [ONEFS_INODE32]",
        ),
        click.option(
            "--gid",
            metavar="NUMBER",
            callback=require_value,
            help="The group of all files; default: yours. [ONEFS_GID]",
        ),
        click.option(
            "--uid",
            metavar="NUMBER",
            callback=require_value,
            help="The owner of all files; default: you. [ONEFS_UID]",
        ),
        click.option(
            "--umask",
            metavar="OCTAL",
            callback=require_value,
            help="Mode bits to take from files (0644) and folders (0755). [ONEFS_UMASK]",
        ),
    ):
        command = option(command)
    return command


def exit_code(error: OnefsError) -> int:
    """1 failed, 2 usage, 3 credentials, 4 server unreachable."""
    return next((code for kinds, code in _EXIT_CODES if isinstance(error, kinds)), EXIT_FAILED)


def report_error(error: OnefsError) -> int:
    """Print the error's sentence on stderr (ONEFS_DEBUG=1: its traceback too); its exit code."""
    if os.environ.get("ONEFS_DEBUG") == "1":
        for part in traceback.format_exception(error):
            for line in part.splitlines():
                say(line, err=True)
    say(f"onefs: {error}", err=True)
    return exit_code(error)


def can_prompt() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin is not None and sys.stdin.isatty()


def prompt(question: str, default: str = "") -> str:
    """An answer in one line; '' only when ``default`` is ''."""
    if printable(default) != default:  # it could not be shown as what it is
        default = ""
    answer: str = click.prompt(
        printable(question),
        default=default,
        show_default=bool(default),
        err=True,
        prompt_suffix=": ",
    )
    return answer.strip()


def prompt_secret(question: str) -> str:
    """An answer that is not shown; '' when nothing is typed."""
    answer: str = click.prompt(
        printable(question),
        default="",
        hide_input=True,
        show_default=False,
        err=True,
        prompt_suffix=": ",
    )
    return answer
