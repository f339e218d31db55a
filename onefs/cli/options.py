"""Options that several commands share, and the callbacks of these options."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import click

from onefs.cli.completion import completer_of, profile_names
from onefs.config.cache_options import ADOPT_VARIABLE
from onefs.errors import UsageError

#: the environment variable for ``--trust-cache-dir``
TRUST_VARIABLE = "ONEFS_TRUST_CACHE_DIR"

F = TypeVar("F", bound=Callable[..., Any])


class Decorator(Protocol):
    """A decorator that adds options to a command."""

    def __call__(self, command: F, /) -> F: ...


def refuse_empty(argument: str) -> None:
    """Raise UsageError for an empty argument, such as a shell variable that is not set."""
    if not argument.strip():
        raise UsageError(
            f"an argument is empty ({argument!r}): was it a shell variable that is not set?"
        )


def require_value(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> str | None:
    """Return the value of an argument or option. Raises UsageError if the value is empty."""
    # an empty value would mean the current folder, or the value in the settings
    if value is not None:
        refuse_empty(value)
    return value


def all_of(*options: Decorator) -> Decorator:
    """Return a decorator that adds these options. The help text shows them in the given order."""

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _value_option(flag: str, help_text: str, **more: Any) -> Decorator:
    """Return an option whose value must not be empty."""
    return click.option(flag, callback=require_value, help=help_text, **more)


def _variable_flag(flag: str, variable: str, help_text: str) -> Decorator:
    """Return a flag that sets an environment variable to 1 while the command runs.

    The code that checks cache and state folders reads this variable.
    """

    def set_variable(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
        if value:
            before = os.environ.get(variable)
            os.environ[variable] = "1"
            context.call_on_close(lambda: _restore_variable(variable, before))

    return click.option(
        flag,
        is_flag=True,
        expose_value=False,
        callback=set_variable,
        help=f"{help_text} [{variable}]",
    )


def _restore_variable(variable: str, before: str | None) -> None:
    os.environ.pop(variable, None)
    if before is not None:
        os.environ[variable] = before


_FOLDER = click.Path(file_okay=False)

#: ``--json``, passed to the command as ``as_json``
json_option: Decorator = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, for programs."
)

#: ``--cache-dir``
cache_dir_option = _value_option(
    "--cache-dir", "Where files are kept: a ONE cache folder. [ONEFS_CACHE_DIR]", type=_FOLDER
)

#: ``--offline``
offline_option: Decorator = click.option(
    "--offline", is_flag=True, help="Ask no server: use only the catalogue and the cache."
)

#: ``--public``, ``--url``, ``--username`` and ``--profile``
database_options = all_of(
    click.option(
        "--public",
        flag_value="yes",
        default=None,
        help="IBL's public database: no account, and no Alyx.",
    ),
    _value_option("--url", "The Alyx server. [ONEFS_URL]", metavar="URL"),
    _value_option("--username", "The Alyx user. [ONEFS_USERNAME]", metavar="NAME"),
    _value_option(
        "--profile",
        "The name of a saved database. [ONEFS_PROFILE]",
        metavar="NAME",
        shell_complete=completer_of(profile_names),
    ),
)

#: ``--trust-cache-dir`` and ``--adopt``, for each command that has ``--cache-dir``
trust_options = all_of(
    _variable_flag(
        "--trust-cache-dir",
        TRUST_VARIABLE,
        "Accept folders that other users may write to, and links in the cache folder.",
    ),
    _variable_flag("--adopt", ADOPT_VARIABLE, "Use a cache folder that already holds other files."),
)

#: ``--cache-dir``, ``--state-dir``, ``--trust-cache-dir`` and ``--adopt``
folder_options = all_of(
    cache_dir_option,
    _value_option(
        "--state-dir",
        "Where the databases are stored, on a local disk. [ONEFS_STATE_DIR]",
        type=_FOLDER,
    ),
    trust_options,
)


def _join_folders(
    _context: click.Context, _parameter: click.Parameter, folders: tuple[str, ...]
) -> str | None:
    """Return folders as one text, as in ONEFS_SOURCE. Raises UsageError for an invalid folder."""
    for folder in folders:
        refuse_empty(folder)
        if ":" in folder:
            raise UsageError(
                f"--source {folder}: a colon separates folders in ONEFS_SOURCE, so that it cannot "
                "be in a name: make a symbolic link to the folder, and name the link"
            )
    return ":".join(folders) or None


#: ``--source``, which may be given several times
source_option: Decorator = click.option(
    "--source",
    multiple=True,
    metavar="DIR",
    callback=_join_folders,
    help="Serve files of this disk in place, instead of downloading them. May be given several "
    "times. [ONEFS_SOURCE]",
)

#: ``--cache-size``, ``--min-free``, ``--small-file`` and ``--strict``. Their values are strings,
#: which ``onefs.config.cache_options`` parses.
storage_options = all_of(
    click.option(
        "--cache-size",
        metavar="SIZE",
        help="Most space for downloaded files, such as 20G; default: no limit. [ONEFS_CACHE_SIZE]",
    ),
    click.option(
        "--min-free",
        metavar="SIZE",
        help="Free space to leave on the cache's disk. [ONEFS_MIN_FREE]",
    ),
    click.option(
        "--small-file",
        metavar="SIZE",
        help="Download files up to this size whole; default 16M. [ONEFS_SMALL_FILE]",
    ),
    click.option(
        "--strict",
        flag_value="yes",
        default=None,
        help="Serve no byte before its whole file is verified. [ONEFS_STRICT]",
    ),
)

#: ``--umask``, ``--uid``, ``--gid`` and ``--inode32``. Their values are strings, which
#: ``onefs.config.file_attributes`` parses.
file_attribute_options = all_of(
    _value_option(
        "--umask",
        "Permission bits to remove from files (0644) and folders (0755). [ONEFS_UMASK]",
        metavar="OCTAL",
    ),
    _value_option("--uid", "The owner of all files; default: you. [ONEFS_UID]", metavar="NUMBER"),
    _value_option("--gid", "The group of all files; default: yours. [ONEFS_GID]", metavar="NUMBER"),
    click.option(
        "--inode32",
        flag_value="yes",
        default=None,
        help="Use inode numbers that 32-bit programs can hold. [ONEFS_INODE32]",
    ),
)
