"""What the verbs of ONE share on the command line: options, output, warnings."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from onefs.cli.options import database_options, require_value, say, trust_options
from onefs.errors import UsageError
from onefs.lowlevel.paths import resolved
from onefs.one import ONE, OnefsWarning
from onefs.printable import printable

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class DatabaseOptions:
    """Which database a command is about. Nothing of it is saved."""

    url: str | None
    username: str | None
    profile: str | None
    cache_dir: str | None
    offline: bool

    @contextmanager
    def open(self, *names: str) -> Iterator[ONE]:
        """The database, and our warnings as sentences on standard error.

        ``names`` are what the command is about: one may be a path in a mount of another database.
        """
        with _warnings_as_sentences(), self._open_one(names) as one:
            yield one

    def _open_one(self, names: Sequence[str]) -> ONE:
        flags = {
            "url": self.url,
            "username": self.username,
            "profile": self.profile,
            "cache_dir": self.cache_dir,
        }
        if names and not any(flags.values()):
            from onefs.cli.targets import find_site, open_site, others_mount

            if (site := find_site(names, flags)) is not None:
                access = open_site(site, offline=self.offline)
                return ONE.over(access, site.settings, offline=self.offline)
            if (mounted := others_mount(names)) is not None:
                return ONE.in_mount(mounted, offline=self.offline)
        return ONE(
            base_url=self.url,
            username=self.username,
            profile=self.profile,
            cache_dir=self.cache_dir,
            offline=self.offline,
        )


def one_options(command: F) -> F:
    """``--url --username --profile --cache-dir --offline``, handed over as ``database``; and
    ``--trust-cache-dir`` and ``--adopt``."""

    @wraps(command)
    def handed_over(**options: Any) -> Any:
        names = ("url", "username", "profile", "cache_dir", "offline")
        return command(database=DatabaseOptions(*(options.pop(name) for name in names)), **options)

    made: Any = click.option(
        "--cache-dir",
        type=click.Path(file_okay=False),
        callback=require_value,
        help="Where files are kept: a ONE cache folder. [ONEFS_CACHE_DIR]",
    )(trust_options(handed_over))
    made = click.option(
        "--offline", is_flag=True, help="Ask no server: what is known already must do."
    )(made)
    return database_options(made)  # type: ignore[no-any-return]


def print_lines(lines: Sequence[str]) -> None:
    """Print lines, through a pager when they do not fit on the terminal.

    A program gets them as they are: what is no path has been made :func:`printable` before.
    """
    if not sys.stdout.isatty():
        if lines:
            click.echo("\n".join(lines))
        return
    shown = [printable(part) for line in lines for part in line.split("\n")]
    if len(shown) >= shutil.get_terminal_size().lines:
        click.echo_via_pager("\n".join(shown))
    elif lines:
        click.echo("\n".join(shown))


def format_table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> list[str]:
    """Rows as lines of aligned columns under a header; [] without rows."""
    cells = [header, *([printable(str(cell)) for cell in row] for row in rows)]
    if not rows:
        return []
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def mountpoint_of(one: ONE) -> str | None:
    """Where a database is mounted now, if it can be with everything; None when it is not.

    A mount whose server is away still shows what is known.
    """
    from onefs.mount.mount_registry import STALE, list_mounts

    if one.mountpoint is not None:
        return str(one.mountpoint)
    served = (each for each in list_mounts() if each.url == one.url and each.pid is not None)
    found = [each for each in served if each.status.state != STALE]
    return min(found, key=lambda each: (each.flat, each.as_of)).mountpoint if found else None


def path_in_whole_tree(name: str) -> str:
    """A path in a mount that shows a variant of the tree, as the whole tree has it.

    Other paths, and names of sessions that are no path, are given as they are.
    """
    from onefs.mount.mount_registry import list_mounts

    if "/" not in name and not os.path.lexists(name):
        return name
    try:
        real = resolved(name)
    except UsageError:  # the working directory was deleted, and a path of the tree needs none
        return name
    for each in list_mounts():
        if not each.variant.is_full_tree and Path(real).is_relative_to(each.mountpoint):
            return "/" + each.variant.path_in_full_tree(os.path.relpath(real, each.mountpoint))
    return name


@contextmanager
def _warnings_as_sentences() -> Iterator[None]:
    def show(message: Warning | str, *_: object, **__: object) -> None:
        say(f"onefs: {message}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always", OnefsWarning)
        warnings.showwarning = show
        yield
