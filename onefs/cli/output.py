"""Printing of texts, paths, JSON and errors, and exit codes of commands."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sized

import click

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

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_CREDENTIALS = 3
EXIT_UNREACHABLE = 4

_EXIT_CODES: tuple[tuple[tuple[type[OnefsError], ...], int], ...] = (
    ((UsageError, NotConfigured), EXIT_USAGE),
    ((CredentialsError,), EXIT_CREDENTIALS),
    ((Unreachable, DeadlineExceeded, Throttled), EXIT_UNREACHABLE),
)


def say(text: object, *, err: bool = False) -> None:
    """Print a text on one line, for people to read. Secrets and control characters are replaced."""
    click.echo(printable(redact(str(text))), err=err)


def say_path(path: object) -> None:
    """Print a path. At a terminal, replace its control characters; otherwise print it unchanged."""
    if sys.stdout.isatty():
        say(path)
    else:
        click.echo(str(path))


def say_json(value: object, indent: int = 2) -> None:
    """Print a value as JSON, for programs to read."""
    click.echo(json.dumps(value, indent=indent))


def exit_if_failed(failures: Sized) -> None:
    """End the command with EXIT_FAILED if there are failures."""
    if failures:
        click.get_current_context().exit(EXIT_FAILED)


def exit_code(error: OnefsError) -> int:
    """Return the exit code for an error.

    - 2 for wrong usage
    - 3 for missing or refused credentials
    - 4 for an unreachable server
    - 1 for all other errors
    """
    return next((code for kinds, code in _EXIT_CODES if isinstance(error, kinds)), EXIT_FAILED)


def report_error(error: OnefsError) -> int:
    """Print an error on standard error, and return its exit code.

    If ONEFS_DEBUG is 1, print the traceback too.
    """
    if os.environ.get("ONEFS_DEBUG") == "1":
        for part in traceback.format_exception(error):
            for line in part.splitlines():
                say(line, err=True)
    say(f"onefs: {error}", err=True)
    return exit_code(error)
