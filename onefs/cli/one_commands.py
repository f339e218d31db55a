"""Options, output and warnings for the commands that call methods of ONE."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from onefs.cli.options import (
    all_of,
    cache_dir_option,
    database_options,
    offline_option,
    trust_options,
)
from onefs.cli.output import say
from onefs.config.releases import release_of
from onefs.config.settings import resolve_settings
from onefs.errors import UsageError
from onefs.lowlevel.paths import resolved
from onefs.lowlevel.progress_display import terminal_size
from onefs.one.tutorial import TutorialVerbs
from onefs.one.warn import OnefsWarning
from onefs.printable import printable

if TYPE_CHECKING:
    from onefs.mount.mount_registry import MountInfo
    from onefs.one import ONE

Client = TypeVar("Client", bound=TutorialVerbs)
F = TypeVar("F", bound=Callable[..., Any])

_one_options = all_of(database_options, offline_option, cache_dir_option, trust_options)


@dataclass(frozen=True, slots=True)
class DatabaseOptions:
    """The options in one call of a command that select its database, user and cache folder."""

    public: str | None
    url: str | None
    username: str | None
    profile: str | None
    cache_dir: str | None
    offline: bool

    @contextmanager
    def open(self, *names: str) -> Iterator[TutorialVerbs]:
        """Open the database, and print warnings of onefs as sentences on standard error.

        ``names`` are the command's arguments. If no option names a database, a path in a mount or
        cache folder selects the database. Raises what ``ONE()`` raises.
        """
        with _warnings_as_sentences(), self._open(TutorialVerbs, names) as client:
            yield client

    @contextmanager
    def open_one(self) -> Iterator[ONE]:
        """Open the database as :meth:`open` does, for methods that the tutorial does not have."""
        from onefs.one import ONE

        with _warnings_as_sentences(), self._open(ONE, ()) as one:
            yield one

    def _open(self, client: type[Client], names: Sequence[str]) -> Client:
        flags = asdict(self)
        del flags["offline"]
        if names and not any(flags.values()):
            from onefs.cli.open_database import open_database
            from onefs.cli.targets import find_database, others_mount

            if (database := find_database(names, flags)) is not None:
                # as ONE() does: what is known and cached is shown without any request
                access = open_database(database, offline=self.offline, check_saved=False)
                return client.over(access, database.settings, offline=self.offline)
            if (mounted := others_mount(names)) is not None:
                return client.in_mount(mounted, offline=self.offline)
        if flags["public"]:
            resolve_settings(flags)  # refuse flags of other databases
            return client.public(cache_dir=flags["cache_dir"], offline=self.offline)
        del flags["public"]
        return client(base_url=flags.pop("url"), offline=self.offline, **flags)


def one_options(command: F) -> F:
    """Add to a command the options for the database, and the option ``--trust-cache-dir``.

    The command gets the database options as one :class:`DatabaseOptions` argument, ``database``.
    """

    @wraps(command)
    def with_database(**options: Any) -> Any:
        values = {each.name: options.pop(each.name) for each in fields(DatabaseOptions)}
        return command(database=DatabaseOptions(**values), **options)

    return _one_options(with_database)  # type: ignore[return-value]


def print_lines(lines: Sequence[str]) -> None:
    """Print lines. At a terminal on which the lines do not fit, print them through a pager.

    The caller must make all texts except paths :func:`printable`.
    """
    # without a terminal the lines are printed unchanged, so that paths are exact
    if not sys.stdout.isatty():
        if lines:
            click.echo("\n".join(lines))
        return
    shown = [printable(part) for line in lines for part in line.split("\n")]
    if len(shown) >= terminal_size().lines:
        click.echo_via_pager("\n".join(shown))
    elif lines:
        click.echo("\n".join(shown))


def format_table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> list[str]:
    """Return a header line and one line per row, with aligned columns.

    Return [] if there are no rows.
    """
    cells = [header, *([printable(str(cell)) for cell in row] for row in rows)]
    if not rows:
        return []
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def mountpoint_of(one: TutorialVerbs) -> str | None:
    """Return a mount point of the database, or None if the database is not mounted.

    A mount without ``--flat``, ``--as-of`` and ``--tag`` is preferred.
    """
    from onefs.mount.mount_registry import list_mounts

    if one.mountpoint is not None:
        return str(one.mountpoint)
    # mounts whose server is unreachable are included, because they still show the catalogue
    mounts = [each for each in list_mounts() if each.url == one.url and each.pid is not None]
    return min(mounts, key=_view_of).mountpoint if mounts else None


def _view_of(mount: MountInfo) -> tuple[str, bool, str]:
    return release_of(Path(mount.state_dir)), mount.flat, mount.as_of


def path_in_whole_tree(name: str) -> str:
    """Convert a path in a mount with ``--as-of`` or ``--flat`` into a path in the full tree.

    Return other paths, eids, and refs such as 2019-12-10_1_KS023 unchanged.
    """
    from onefs.mount.mount_registry import list_mounts

    if "/" not in name and not os.path.lexists(name):
        return name
    try:
        real = resolved(name)
    except UsageError:  # the working directory was deleted, but paths of the tree do not need it
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
