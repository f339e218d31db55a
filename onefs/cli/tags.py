"""``onefs tags``: lists the releases of a database."""

from __future__ import annotations

from typing import Any

import click

from onefs.cli.one_commands import format_table, print_lines
from onefs.cli.options import all_of, database_options, folder_options, json_option, offline_option
from onefs.cli.output import say_json


@click.command()
@json_option
@all_of(database_options, folder_options, offline_option)
def tags(as_json: bool, offline: bool, **flags: str | None) -> None:
    """Print the releases of the database, and which of them are loaded.

    A release is the datasets with one tag, as they were published.
    """
    from onefs.cli.open_database import closing_access, open_database
    from onefs.databases import resolve_database
    from onefs.releases import loaded_releases, tags_on_server

    database = resolve_database(flags)
    loaded = loaded_releases(database.settings)
    names = loaded
    if not offline:
        with closing_access(open_database(database, offline=False)) as access:
            names = sorted({*tags_on_server(access), *loaded})
    rows: list[dict[str, Any]] = [{"tag": name, "loaded": name in loaded} for name in names]
    if as_json:
        say_json(rows)
        return
    print_lines(
        format_table(
            [[row["tag"], "yes" if row["loaded"] else ""] for row in rows], ["tag", "loaded"]
        )
    )
