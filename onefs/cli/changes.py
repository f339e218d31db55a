"""``onefs changes``: prints what was added, replaced and removed since a date."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from onefs.cli.one_commands import DatabaseOptions, one_options
from onefs.cli.options import require_value
from onefs.cli.output import say
from onefs.printable import format_size, printable

if TYPE_CHECKING:
    from onefs.search.changes import Change, Changes

_TABLE_HEADER = f"{'time':19}  {'change':8}  {'what':7}  {'size':>9}  path"


@click.command()
@click.option(
    "--since",
    metavar="DATE",
    required=True,
    callback=require_value,
    help="2024-05-01, or 2024-05-01T20:00 (UTC).",
)
@click.option("--until", metavar="DATE", callback=require_value, help="The end, if not now.")
@click.option(
    "--search",
    "terms",
    metavar="TERMS",
    callback=require_value,
    help="Only sessions that match, as in .search: 'project=...&lab=...'.",
)
@click.option(
    "--from",
    "source",
    type=click.Choice(["syncs", "alyx"]),
    help="Compare the tables of the syncs, or ask Alyx. [syncs if they know, else Alyx]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "tsv", "json"]),
    default="table",
    show_default=True,
    help="What to print about each change.",
)
@one_options
def changes(
    database: DatabaseOptions,
    since: str,
    until: str | None,
    terms: str | None,
    source: str | None,
    form: str,
) -> None:
    """Print the sessions and datasets that were added, replaced or removed since DATE.

    `onefs sync` notes what it changes; Alyx is asked for a DATE that no sync covers. If neither
    knows, this is an error: no output means no change.
    """
    with database.open_one() as one:
        given = {} if terms is None else _parse_terms(terms)
        found = one.changes(since, until, source=source, **given)
        _print_lines({"table": _table, "tsv": _tsv, "json": _json}[form](found))
    unknown = "" if not found.unknown else f"; what was {' or '.join(found.unknown)} is unknown"
    say(
        f"onefs: all changes until {found.known_until} are known ({found.source}){unknown}",
        err=True,
    )


def _parse_terms(text: str) -> dict[str, tuple[str, ...]]:
    from onefs.errors import UsageError
    from onefs.search.vocabulary import parse_text

    query = parse_text(text)
    if query.limit is not None:
        raise UsageError("changes are not limited to the latest sessions: leave out limit=")
    return dict(query.values)


def _print_lines(lines: Iterator[str]) -> None:
    """Print lines as they come, or at a terminal through a pager."""
    if sys.stdout.isatty():
        click.echo_via_pager(f"{printable(line)}\n" for line in lines)
        return
    for line in lines:
        click.echo(line)


def _table(changes: Changes) -> Iterator[str]:
    for number, change in enumerate(changes):
        if number == 0:
            yield _TABLE_HEADER
        size = "" if change.size is None else format_size(change.size)
        moment = change.time[:19] or "-"
        yield (
            f"{moment:19}  {change.change:8}  {change.what:7}  {size:>9}  "
            f"{printable(_path(change))}"
        )


def _tsv(changes: Changes) -> Iterator[str]:
    for number, change in enumerate(changes):
        if number == 0:
            yield "\t".join(change._fields)
        yield "\t".join("" if value is None else printable(str(value)) for value in change)


def _json(changes: Changes) -> Iterator[str]:
    """Yield the lines of one JSON object, without all changes in memory."""
    head = {
        "since": changes.since,
        "known_until": changes.known_until,
        "source": changes.source,
        "unknown": list(changes.unknown),
    }
    yield f'{json.dumps(head)[:-1]}, "changes": ['
    previous = ""
    for change in changes:
        if previous:
            yield f"{previous},"
        previous = json.dumps(change._asdict())
    yield f"{previous}]}}"


def _path(change: Change) -> str:
    number = "" if change.number is None else f"{change.number:03d}"
    parts = (change.lab, change.subject, change.date, number, change.path or change.old_path)
    return "/".join(part for part in parts if part)
