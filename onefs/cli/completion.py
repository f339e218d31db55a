"""Shell completion of option values, from the catalogue and the settings. No server is asked."""

from __future__ import annotations

from collections.abc import Callable

import click

from onefs.errors import OnefsError
from onefs.printable import printable

#: a function from the flags of the command line to the names that the shell may offer
NameReader = Callable[[dict[str, str | None]], list[str]]
#: the type of click's ``shell_complete``
Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def completer_of(names: NameReader) -> Completer:
    """Return a completer that offers the names that begin with the typed text.

    Upper and lower case count as equal. Unprintable names are not offered. If ``names`` raises
    OnefsError, no name is offered.
    """

    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
        flags = {name: context.params.get(name) for name in ("url", "profile", "cache_dir")}
        try:
            known = names(flags)
        except OnefsError:
            return []  # a shell cannot show errors here
        begun = [name for name in known if name.casefold().startswith(incomplete.casefold())]
        # a shell prints names unchanged, and reads each line as one name
        return [name for name in begun if printable(name) == name]

    return complete


def catalogue_values(table: str, column: str) -> NameReader:
    """Return a function that reads the distinct values in a column of a catalogue table."""

    def read(flags: dict[str, str | None]) -> list[str]:
        from onefs.catalogue.storage.overlay import OverlayDatabase
        from onefs.databases import resolve_database

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
    """Return the names of the saved databases, sorted."""
    from onefs.config.settings import load_settings_file

    return sorted(load_settings_file().profiles)
