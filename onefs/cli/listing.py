"""``onefs list``, ``show`` and ``path``: print names, dataset properties and session folders."""

from __future__ import annotations

import json
from typing import Any

import click

from onefs.cli.one_commands import (
    DatabaseOptions,
    format_table,
    mountpoint_of,
    one_options,
    path_in_whole_tree,
    print_lines,
)
from onefs.cli.output import say_json
from onefs.errors import UsageError
from onefs.printable import printable

_format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="Print a table for people, or JSON for programs.",
)


@click.command(name="list")
@click.argument("session", metavar="[EID|PATH]", required=False)
@click.option(
    "--details", is_flag=True, help="Print a line for each dataset, instead of each type."
)
@click.option(
    "--all", "everything", is_flag=True, help="Print Alyx's whole record of the session, as JSON."
)
@click.option("--users", "what", flag_value="users", help="Print all users of the database.")
@click.option(
    "--subjects", "what", flag_value="subjects", help="Print all subjects of the database."
)
@click.option("--labs", "what", flag_value="labs", help="Print all labs of the database.")
@click.option(
    "--dataset-types",
    "what",
    flag_value="dataset-types",
    help="Print all dataset types of the database.",
)
@_format_option
@one_options
def list_(
    database: DatabaseOptions,
    session: str | None,
    details: bool,
    everything: bool,
    what: str | None,
    form: str,
) -> None:
    """Print the dataset types of a session, or the names that the database knows.

    Name a session by its eid, by its ref (such as 2019-12-10_1_KS023), or by the path of the
    session or of a file in the session.
    """
    if (session is None) == (what is None):
        raise UsageError("give a session, or one of --users, --subjects, --labs, --dataset-types")
    if what is not None and (details or everything):
        raise UsageError(f"--details and --all are for a session, not for --{what}")
    with database.open(*filter(None, [session])) as one:
        session = path_in_whole_tree(session) if session is not None else None
        if session is not None:
            one.renew(session)
        if everything:
            print_lines(json.dumps(one.list(session, "all"), indent=4).splitlines())
        elif details:
            _print_datasets(one.list(session, details=True), form)
        else:
            _print_names(one.list(session, what or "dataset-types"), form)


@click.command()
@click.argument("path")
@_format_option
@one_options
def show(database: DatabaseOptions, path: str, form: str) -> None:
    """Print the properties of the dataset at PATH, without downloading the dataset.

    PATH is in the cache folder or in a mount, or is lab/subject/date/number/... of the tree.
    """
    with database.open(path) as one:
        facts = one.describe(path_in_whole_tree(path))
    if form == "json":
        say_json(facts, 4)
        return
    width = max(map(len, facts))
    facts["shape"] = tuple(facts["shape"]) if "shape" in facts else None
    print_lines(
        [
            f"{name.ljust(width)}  {_format_value(value)}".rstrip()
            for name, value in facts.items()
            if value
        ]
    )


@click.command()
@click.argument("sessions", metavar="EID...", nargs=-1, required=True)
@click.option(
    "--cache", is_flag=True, help="Print the folder in the cache, even if there is a mount."
)
@one_options
def path(database: DatabaseOptions, sessions: tuple[str, ...], cache: bool) -> None:
    """Print the folder of each session.

    The folder is in a mount of the database. If the database is not mounted, the folder is in the
    cache folder.
    """
    with database.open(*sessions) as one:
        if cache and one.mountpoint is not None:
            raise UsageError(
                f"{one.mountpoint} is another user's mount, whose cache cannot be read: leave out "
                "--cache"
            )
        mount = None if cache else mountpoint_of(one)
        print_lines([str(one.path(path_in_whole_tree(session), mount)) for session in sessions])


def _print_names(names: list[str], form: str) -> None:
    print_lines(
        [json.dumps(names, indent=4)] if form == "json" else [printable(name) for name in names]
    )


def _print_datasets(info: Any, form: str) -> None:
    if form == "json":
        rows = [{k: v for k, v in row._asdict().items() if k != "data"} for row in info]
        print_lines([json.dumps(rows, indent=4)])
        return
    header = ["type", "collection", "revision", "bytes", "md5", "path"]
    print_lines(
        format_table(
            [
                [r.dataset_type, r.collection, r.revision, r.size or "?", r.md5, r.local_path]
                for r in info
            ],
            header,
        )
    )


def _format_value(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(printable(str(each)) for each in value) or "()"
    return printable(str(value))
