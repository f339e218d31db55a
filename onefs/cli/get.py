"""``onefs get``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import click

from onefs import alf
from onefs.cli.cache import site_options
from onefs.cli.deferred_warnings import suppress_warnings_about
from onefs.cli.options import EXIT_FAILED, exit_code, say, say_path
from onefs.cli.status import format_size
from onefs.errors import NotFound, OnefsError
from onefs.printable import plural
from onefs.search.vocabulary import nearest_name_hint
from onefs.tree.lookup_folders import BY_EID, BY_REF

if TYPE_CHECKING:
    from onefs.access import Access
    from onefs.cache.store import Place
    from onefs.model import Dataset, Session

#: sessions that take so long to ask for that the user is told
_ANNOUNCED_SESSIONS = 40
#: seconds after which the command shows what it lists
PROGRESS_DELAY_SECONDS = 1.0


@click.command()
@click.argument("paths", metavar="PATH|EID|GLOB...", nargs=-1, required=True)
@click.option("--type", "types", metavar="T", multiple=True, help="Only this type; may be a glob.")
@click.option(
    "--jobs",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="Files at once.",
)
@click.option("--verbose", is_flag=True, help="Name each file that failed, and why.")
@click.option("--dry-run", is_flag=True, help="Only say what would be fetched.")
@click.option("--offline", is_flag=True, help="Ask no server: print what is there already.")
@site_options
def get(
    paths: tuple[str, ...],
    types: tuple[str, ...],
    jobs: int,
    verbose: bool,
    dry_run: bool,
    offline: bool,
    **flags: str | None,
) -> None:
    """Download what stands at PATH and below, and verify it; print where each file is.

    A PATH lies in a mount or in the cache folder, or is lab/subject/...; its parts may be
    patterns (quote them). What is there is skipped, what was begun is resumed. Works with and
    without a mount. The exit code is not 0 when a file could not be had.
    """
    from onefs.cli.targets import closing_access, open_site, resolve_arguments

    site, patterns = resolve_arguments(paths, flags)
    unasked: dict[str, OnefsError] = {}
    with closing_access(open_site(site, offline=offline)) as access:
        try:
            found = _list_datasets(access, patterns)
            # where files stand matters to who fetches them, and what types they have to who chooses
            if not offline and (types or not dry_run):
                sessions = _sessions_of_tables_only(access, found, include_cached=bool(types))
                unasked = _complete_sessions(access, sessions)
                if len(unasked) < len(sessions):
                    found = _list_datasets(access, patterns)
            wanted = _select_by_type(access, found, patterns, types)
            if dry_run:
                _print_dry_run(access, wanted)
                return
            code = _download(access, wanted, jobs, verbose=verbose)
        finally:
            _report_incomplete(unasked)
    if code:
        click.get_current_context().exit(code)


DatasetsWithPlaces = list[tuple["Dataset", "Place"]]


def _list_datasets(access: Access, patterns: Sequence[str]) -> DatasetsWithPlaces:
    """The datasets at the patterns, each once."""
    from onefs.cli.progress_line import ProgressLine

    found: dict[str, tuple[Dataset, Place]] = {}
    with ProgressLine(delay_seconds=PROGRESS_DELAY_SECONDS) as meter:
        for pattern in patterns:
            meter.show(f"listing {pattern}:", len(found), 0, "files so far")
            try:
                for dataset, place in access.tree.find_datasets(pattern):
                    found.setdefault(dataset.id, (dataset, place))
                    where = "/".join(place[:4])
                    meter.show(f"listing {where}:", len(found), 0, "files so far")
            except NotFound:
                _refuse_unserved(access, (), pattern, ())
                raise
    return list(found.values())


def _sessions_of_tables_only(
    access: Access, found: DatasetsWithPlaces, *, include_cached: bool
) -> list[Session]:
    """The sessions of those datasets that only cache tables know, which do not say what type a
    dataset is or where; without those whose files are here, unless ``whatever_is_here``."""
    unsaid = {
        dataset.eid
        for dataset, _ in found
        if dataset.from_tables and (include_cached or access.content.cached_path(dataset) is None)
    }
    return access.database.sessions_by_eid(sorted(unsaid))


def _complete_sessions(access: Access, sessions: Sequence[Session]) -> dict[str, OnefsError]:
    """Have Alyx list these sessions; those that it could not be asked for, and why."""
    if len(sessions) >= _ANNOUNCED_SESSIONS:
        say(f"asking Alyx for {len(sessions)} sessions ...", err=True)
    return access.catalogue.fetch_full_listings(sessions) if sessions else {}


def _report_incomplete(unasked: Mapping[str, OnefsError]) -> None:
    if unasked:
        count = f"{len(unasked)} {plural(len(unasked), 'session')}"
        say(
            f"onefs: {count} could not be asked for, what the cache tables say of their types and "
            f"places stands: {next(iter(unasked.values()))}",
            err=True,
        )


def _select_by_type(
    access: Access, found: DatasetsWithPlaces, patterns: Sequence[str], types: Sequence[str]
) -> DatasetsWithPlaces:
    """The datasets that have one of the types, if any are given. Raises NotFound for none."""
    everything = found
    if types:
        typed = access.catalogue.with_types([dataset for dataset, _ in found])
        found = [
            (dataset, place)
            for dataset, (_, place) in zip(typed, found, strict=True)
            if any(fnmatchcase(dataset.dataset_type, each) for each in types)
        ]
    if not found:
        kind = f" of type {' or '.join(types)}" if types else ""
        for pattern in patterns:
            _refuse_unserved(access, everything, pattern, types)
        named = (each.removeprefix(f"{BY_EID}/").removeprefix(f"{BY_REF}/") for each in patterns)
        places = ", ".join(named)
        every = access.catalogue.with_types([dataset for dataset, _ in everything])
        near = nearest_name_hint(types[0], {each.dataset_type for each in every}) if types else ""
        raise NotFound(f"there is no dataset{kind} at {places}{near}")
    return found


def _refuse_unserved(
    access: Access,
    found: Iterable[tuple[Dataset, Place]],
    pattern: str,
    types: Sequence[str],
) -> None:
    """Raise NotFound where what a pattern and the types name is registered, but on no server."""
    from onefs.tree.unserved import refuse_unserved
    from onefs.tree.variant import split_variant

    variant, parts = split_variant([part for part in pattern.split("/") if part not in ("", ".")])
    length = 2 if parts[:1] in ((BY_EID,), (BY_REF,)) else 4
    below = parts[length:]
    eids = {dataset.eid for dataset, _ in found}
    if len(parts) >= length:
        eids |= _sessions_at(access, (*variant.folders, *parts[:length]))

    def is_meant(place: Place, dataset: Dataset) -> bool:
        named = len(place) >= len(below) and all(
            part == wild or fnmatchcase(part, wild)
            for part, wild in zip(place, below, strict=False)
        )
        kind = dataset.dataset_type
        return named and (not types or any(fnmatchcase(kind, each) for each in types))

    for session in access.database.sessions_by_eid(sorted(eids)):
        refuse_unserved(access.catalogue, session, is_meant, variant)


def _sessions_at(access: Access, folders: Sequence[str]) -> set[str]:
    """The eids of the sessions at a path or pattern; none where they cannot be listed."""
    from onefs.tree.path_patterns import expand_pattern

    try:
        paths = list(expand_pattern(access.tree, "/".join(folders)))
    except OnefsError:
        return set()
    eids = set()
    for path in paths:
        with suppress(OnefsError):
            eids.add(access.tree.session_at(path).eid)
    return eids


def _print_dry_run(access: Access, wanted: Iterable[tuple[Dataset, Place]]) -> None:
    count, amount, there = 0, 0, 0
    for dataset, place in wanted:
        if access.content.cached_path(dataset) is not None:
            there += 1
            continue
        count += 1
        amount += dataset.size or 0
        say_path(access.content.store.final_path(place))
    say(
        f"{_format_file_count(count)} to fetch, {format_size(amount)}; {there} there already",
        err=True,
    )


def _download(access: Access, wanted: DatasetsWithPlaces, jobs: int, *, verbose: bool) -> int:
    """Fetch, and report how far it is; the exit code."""
    from onefs.cli.progress_bars import ProgressBars, sum_known
    from onefs.content.bulk import fetch_datasets

    sizes = {"/".join(place): dataset.size or 0 for dataset, place in wanted}
    names = {dataset.id: "/".join(place) for dataset, place in wanted}
    done = _DownloadReport(len(wanted))

    def look(progress: ProgressBars) -> None:
        for transfer in access.content.transfers():
            progress.update(transfer.path, transfer.done_bytes, transfer.size or 0)

    try:
        with ProgressBars(len(wanted), sum_known(sizes.values()), look) as progress:
            for each in fetch_datasets(access.content, wanted, jobs):
                name = names[each.dataset.id]
                progress.finish(name, sizes[name])
                if each.error is not None:
                    done.add_error(name, each.error)
                    continue
                progress.say_path(each.path)
                done.already_cached += each.was_cached
                done.fetched += not each.was_cached
    except KeyboardInterrupt:
        here = done.already_cached + done.fetched
        say(
            f"stopped: {here} of {_format_file_count(done.requested)} "
            f"{'is' if done.requested == 1 else 'are'} here; "
            "run the same command to go on",
            err=True,
        )
        raise
    done.print_summary(access.content.quota.received_bytes, verbose=verbose)
    return _exit_code_of(list(done.errors.values()))


@dataclass(slots=True)
class _DownloadReport:
    """Counts and failures of the files that were asked for."""

    requested: int
    already_cached: int = 0
    fetched: int = 0
    errors: dict[str, OnefsError] = field(default_factory=dict)

    def add_error(self, name: str, error: OnefsError) -> None:
        """Note a file that could not be had."""
        self.errors[name] = error
        suppress_warnings_about(error)

    def print_summary(self, received: int, *, verbose: bool) -> None:
        """Print the failures, alike ones as one, and the counts."""
        alike: dict[str, list[str]] = {}
        for name, error in self.errors.items():
            alike.setdefault(_remove_file_name(str(error), name), []).append(name)
        for why, names in alike.items():
            which = names[0] if len(names) == 1 else _format_file_count(len(names))
            hint = "" if verbose or len(names) == 1 else "; --verbose names them"
            say(f"onefs: {which}: {why}{hint}", err=True)
            for name in names if verbose and len(names) > 1 else ():
                say(f"  {name}: {self.errors[name]}", err=True)
        failed = f", {len(self.errors)} failed" if self.errors else ""
        say(
            f"{_format_file_count(self.fetched)} fetched, {format_size(received)}; "
            f"{self.already_cached} there already{failed}",
            err=True,
        )


def _remove_file_name(why: str, name: str) -> str:
    """An error's sentence without the file that it is about, so that alike ones are equal."""
    file = name.rpartition("/")[2]
    kept: list[str] = []
    for word in why.split(" "):
        last = word.removesuffix(":").rpartition("/")[2]
        # on a file server a name has a UUID
        if file not in (last, *(clean for _, clean in alf.names_with_uuid(last))):
            kept.append(word)
        elif kept[-1:] in (["of"], ["from"]):
            kept.pop()
    return " ".join(kept) or why


def _format_file_count(count: int) -> str:
    return f"{count} {plural(count, 'file')}"


def _exit_code_of(troubles: Sequence[OnefsError]) -> int:
    """0 without trouble; the code of all troubles when they have one, else FAILED."""
    codes = {exit_code(trouble) for trouble in troubles}
    return codes.pop() if len(codes) == 1 else EXIT_FAILED if codes else 0
