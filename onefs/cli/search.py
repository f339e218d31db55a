"""``onefs search``: finds sessions, and saves searches."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from onefs.cli.completion import Completer, catalogue_values, completer_of
from onefs.cli.one_commands import (
    DatabaseOptions,
    format_table,
    mountpoint_of,
    one_options,
    print_lines,
)
from onefs.cli.output import say
from onefs.errors import UsageError
from onefs.model import Session
from onefs.search.vocabulary import QC_OUTCOMES, VOCABULARY, MultipleValues

if TYPE_CHECKING:
    from onefs.one import ONE

#: search term -> its flags and its help text
_TERM_FLAGS: dict[str, tuple[tuple[str, ...], str]] = {
    "users": (
        ("--user", "--users"),
        "A user of the session; if repeated, the session has all these users.",
    ),
    "date_range": (("--date", "--date-range"), "A day, or FIRST,LAST; FIRST or LAST may be empty."),
    "subject": (("--subject",), "A subject; if repeated, any of these subjects."),
    "lab": (("--lab",), "A lab; if repeated, any of these labs."),
    "dataset_types": (
        ("--dataset-type",),
        "A dataset type; if repeated, the session has all these types.",
    ),
    "location": (("--location",), "A part of the location's name."),
    "number": (("--number",), "The number of the session among those of its day."),
    "performance_gte": (("--performance-gte",), "Lowest percentage of correct trials."),
    "performance_lte": (("--performance-lte",), "Highest percentage of correct trials."),
    "task_protocol": (("--task-protocol",), "A part of the task protocol."),
    "project": (("--project",), "A part of a project's name."),
    "tag": (("--tag",), "A part of the tag of a dataset."),
    "qc": (("--qc",), "The session's QC: NOT_SET, PASS, WARNING, FAIL, CRITICAL."),
    "dataset_names": (
        ("--dataset-name",),
        "A file name; if repeated, the session has all these files.",
    ),
    "dataset_qc_lte": (("--dataset-qc-lte",), "The session has a dataset with this QC or better."),
    "probe": (("--probe",), "The name of a probe insertion."),
    "atlas_acronym": (
        ("--atlas-acronym",),
        "The acronym of a brain region; finds its subregions, too.",
    ),
    "atlas_name": (("--atlas-name",), "A part of a brain region's name."),
    "atlas_id": (("--atlas-id",), "The number of a brain region in the atlas."),
    "django": (("--django",), "A filter in Alyx's own form: field,value[,field,value...]."),
}


#: search term -> completer of its values
_COMPLETIONS: dict[str, Completer] = {
    "subject": completer_of(catalogue_values("sessions", "subject")),
    "lab": completer_of(catalogue_values("sessions", "lab")),
    "task_protocol": completer_of(catalogue_values("sessions", "task_protocol")),
    "dataset_types": completer_of(catalogue_values("datasets", "dataset_type")),
    "dataset_names": completer_of(catalogue_values("datasets", "name")),
    "qc": completer_of(lambda _: list(QC_OUTCOMES)),
    "dataset_qc_lte": completer_of(lambda _: list(QC_OUTCOMES)),
}


def _term_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for name in reversed(_TERM_FLAGS):
        flags, text = _TERM_FLAGS[name]
        several = VOCABULARY[name].multiple_values
        repeated = several in (MultipleValues.ANY, MultipleValues.ALL)
        command = click.option(
            *flags,
            name,
            multiple=repeated,
            metavar="VALUE",
            help=text,
            shell_complete=_COMPLETIONS.get(name),
        )(command)
    return command


@click.command()
@_term_options
@click.option("--limit", metavar="N", help="Print only the N latest sessions.")
@click.option("--details", is_flag=True, help="Print more about each session.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "tsv", "eids", "paths", "pids"]),
    default="table",
    show_default=True,
    help="What to print about each session or insertion.",
)
@click.option(
    "--insertions",
    "of_insertions",
    is_flag=True,
    help="Print the probe insertions of the sessions; pids are their ids.",
)
@click.option("--save", metavar="NAME", help="Save the search; mounts show it as .search/NAME.")
@click.option("--forget", metavar="NAME", help="Delete a saved search, and search nothing.")
@click.option(
    "--terms", "list_terms", is_flag=True, help="Print the search terms, and search nothing."
)
@one_options
def search(
    database: DatabaseOptions,
    limit: str | None,
    details: bool,
    form: str,
    of_insertions: bool,
    save: str | None,
    forget: str | None,
    list_terms: bool,
    **values: Any,
) -> None:
    """Print the sessions that match all terms, the latest first."""
    if list_terms:
        print_lines(list(VOCABULARY))
        return
    if forget is not None:
        with database.open() as one:
            one.forget_search(forget)
        return
    if form == "pids" and not of_insertions:
        raise UsageError("only probe insertions have pids: give --insertions too")
    if of_insertions and details:
        raise UsageError("--details is about sessions: leave out --insertions")
    terms = {name: value for name, value in values.items() if value not in (None, ())}
    if not terms and limit is None:
        raise UsageError("a search needs a term, such as --subject NAME, or --limit N")
    with database.open_one() if of_insertions else database.open() as one:
        if save is not None:
            one.save_search(save, **terms)
        result = one.search_sessions(limit=limit, **terms)
        rows = dict(zip(result.eids, one.records(result) if details else result.rows, strict=True))
        sessions = {session.eid: session for session in result.sessions()}
        insertions = cast("ONE", one).insertion_table(result, **terms) if of_insertions else []
        paths: dict[str, Path] = {}
        if form in ("json", "tsv", "paths"):  # it depends on the other sessions of the subject
            paths = one.folders(result, mountpoint_of(one))
    if not result.eids and not result.hint:
        say("onefs: no session matches all search terms", err=True)
    elif of_insertions and not insertions:
        say("onefs: the sessions that were found have no such probe insertion", err=True)
    if of_insertions:
        from onefs.cli.insertion_lines import format_insertions

        print_lines(format_insertions(form, insertions, paths))
        return
    print_lines(_format_sessions(form, details, rows, sessions, paths))


def _format_sessions(
    form: str,
    details: bool,
    rows: dict[str, Any],
    sessions: dict[str, Session],
    paths: dict[str, Path],
) -> Sequence[str]:
    if form == "eids":
        return list(rows)
    if form == "paths":
        return [str(path) for path in paths.values()]
    if form == "tsv":
        # imported here: the other forms need no module of the tree
        from onefs.tree.tsv import SESSION_COLUMNS, session_cells, tsv_text

        cells = (
            {**session_cells(session), "path": str(paths.get(eid, ""))}
            for eid, session in sessions.items()
        )
        return tsv_text(SESSION_COLUMNS, cells).splitlines()
    if form == "json":
        shown = [
            _json_object(eid, row, sessions.get(eid), paths.get(eid), details)
            for eid, row in rows.items()
        ]
        return [json.dumps(shown, indent=4)]
    header = ["ref", "lab", "eid"]
    if details:
        header += ["start", "task protocol", "projects"]
    return format_table(
        [
            [
                _display_ref(sessions.get(eid), row),
                str(row.get("lab") or ""),
                eid,
                *(_detail_cells(row) if details else ()),
            ]
            for eid, row in rows.items()
        ],
        header,
    )


def _display_ref(session: Session | None, row: dict[str, Any]) -> str:
    """Return a session's ref, such as 2019-12-10_1_KS023.

    If the session has no number, return its start time and subject."""
    return session.ref if session else f"{row.get('start_time')} {row.get('subject')}"


def _detail_cells(row: dict[str, Any]) -> list[str]:
    projects = row.get("projects") or []
    names = ",".join(map(str, projects)) if isinstance(projects, list) else str(projects)
    return [str(row.get("start_time")), str(row.get("task_protocol") or ""), names]


def _json_object(
    eid: str, row: dict[str, Any], session: Session | None, path: Path | None, details: bool
) -> dict[str, Any]:
    """Return a session as a JSON object.

    ``session`` and ``path`` are None for a session without a number.
    """
    shown: dict[str, Any] = {
        "eid": eid,
        "ref": session.ref if session else None,
        "lab": row.get("lab"),
        "subject": row.get("subject"),
        "date": str(row.get("start_time"))[:10],
        "number": row.get("number"),
        "path": str(path) if path else None,
    }
    return {**shown, "details": row} if details else shown
