"""What a shell offers for the value of a flag: names that the catalogue knows; nobody is asked."""

from __future__ import annotations

from collections.abc import Callable

import click

from onefs.config.settings import load_settings_file
from onefs.databases import resolve_database
from onefs.errors import OnefsError
from onefs.printable import printable

#: reads the names for the flags that stand on the line
NameReader = Callable[[dict[str, str | None]], list[str]]
#: as click wants it
Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def completer_of(names: NameReader) -> Completer:
    """Offers those names that begin as typed, in any case; nothing where they cannot be read."""

    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
        flags = {name: context.params.get(name) for name in ("url", "profile", "cache_dir")}
        try:
            found = names(flags)
        except OnefsError:
            return []  # a shell has no place for errors
        begun = [name for name in found if name.casefold().startswith(incomplete.casefold())]
        # a shell prints them as they are, and takes each line for one
        return [name for name in begun if printable(name) == name]

    return complete


def catalogue_values(table: str, column: str) -> NameReader:
    """The values that a column of the catalogue has."""

    def read(flags: dict[str, str | None]) -> list[str]:
        from onefs.catalogue.storage.overlay import OverlayDatabase

        path = resolve_database(flags).settings.state_dir / "catalogue.sqlite"
        if not path.exists():
            return []
        database = OverlayDatabase(path)
        try:
            return database.distinct_values(table, column)
        finally:
            database.close()

    return read


def profile_names(_: dict[str, str | None]) -> list[str]:
    """The names of saved databases."""
    return sorted(load_settings_file().profiles)
