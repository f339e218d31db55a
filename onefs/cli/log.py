"""``onefs log``: prints the last lines of the log of one mount, or of all mounts of a database."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

import click

from onefs.cli.options import database_options, folder_options, require_value
from onefs.cli.output import say, say_path
from onefs.databases import resolve_database
from onefs.errors import NotFound, UsageError, reason_of


@click.command()
@click.argument("mountpoint", type=click.Path(), callback=require_value, required=False)
@click.option(
    "--lines",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Number of last lines to print.",
)
@click.option("--file", "only_name", is_flag=True, help="Print only the path of the log file.")
@database_options
@folder_options
def log(mountpoint: str | None, lines: int, only_name: bool, **flags: str | None) -> None:
    """Print the end of the log of the mount at MOUNTPOINT.

    Without MOUNTPOINT, print the end of the log that all mounts of the database share.
    """
    path = (
        resolve_database(flags).settings.log_file
        if mountpoint is None
        else _log_file_of(mountpoint)
    )
    if only_name:
        say_path(path)
        return
    try:
        with path.open(errors="surrogateescape") as file:
            last = deque(file, lines)
    except FileNotFoundError:
        raise NotFound(f"there is no log yet: `onefs mount` writes the log file {path}") from None
    except OSError as error:
        raise UsageError(f"the log file {path} cannot be read: {reason_of(error, path)}") from error
    for line in last:
        say(line.rstrip("\n"))


def _log_file_of(mountpoint: str) -> Path:
    """Return the log file of a mount. Raises UsageError if there is no mount or no log file."""
    from onefs.mount.mount_registry import list_mounts

    real = os.path.realpath(mountpoint)
    mount = next((each for each in list_mounts() if each.mountpoint == real), None)
    if mount is None:
        raise UsageError(f"nothing is mounted at {mountpoint}: `onefs status` shows the mounts")
    if mount.log_file is None:
        raise UsageError(
            f"the mount at {mountpoint} has no log file, or its log file is not known: a mount "
            "with --foreground prints its log in the terminal"
        )
    return Path(mount.log_file)
