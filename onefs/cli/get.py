"""``onefs get``: downloads files and verifies them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import IO, TYPE_CHECKING

import click

from onefs import alf
from onefs.cli.cache import database_and_folder_options
from onefs.cli.deferred_warnings import suppress_warnings_about
from onefs.cli.get_selection import (
    describe_choice,
    describe_paths,
    find_sessions,
    has_qc,
    parse_searches,
    prefetch_sessions,
)
from onefs.cli.options import source_option
from onefs.cli.output import EXIT_FAILED, exit_code, say, say_path
from onefs.errors import NotFound, OnefsError, UsageError
from onefs.lowlevel.progress_display import ProgressDisplay
from onefs.printable import format_size, plural
from onefs.search.vocabulary import QC_OUTCOMES, nearest_name_hint
from onefs.tree.path_patterns import BY_EID, BY_REF

if TYPE_CHECKING:
    from onefs.access import Access
    from onefs.cache.folder import Place
    from onefs.model import Dataset, Session

#: from this number of sessions on, a message says that Alyx is asked, because that takes long
_ANNOUNCED_SESSIONS = 40


@click.command()
@click.argument("paths", metavar="PATH|EID|GLOB...", nargs=-1)
@click.option(
    "--search",
    "searches",
    metavar="QUERY",
    multiple=True,
    help="The sessions of a search, such as 'project=brainwide&lab=cortexlab'.",
)
@click.option(
    "--from-file",
    "list_file",
    type=click.File(errors="surrogateescape"),
    metavar="FILE",
    help="A file with a PATH in each line; - is standard input.",
)
@click.option(
    "--type",
    "types",
    metavar="T",
    multiple=True,
    help="Only datasets of this type, such as spikes.*.",
)
@click.option(
    "--qc",
    type=click.Choice(QC_OUTCOMES, case_sensitive=False),
    metavar="OUTCOME",
    help="Only datasets with this QC or better, and those with NOT_SET.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 64),
    default=8,
    show_default=True,
    help="Most files to download at the same time.",
)
@click.option("--verbose", is_flag=True, help="Name each file that failed, and why.")
@click.option(
    "--dry-run", is_flag=True, help="Print the files that would be fetched, and fetch none."
)
@click.option("--offline", is_flag=True, help="Ask no server: print only cached files.")
@source_option
@database_and_folder_options
def get(
    paths: tuple[str, ...],
    searches: tuple[str, ...],
    list_file: IO[str] | None,
    types: tuple[str, ...],
    qc: str | None,
    jobs: int,
    verbose: bool,
    dry_run: bool,
    offline: bool,
    **flags: str | None,
) -> None:
    """Download and verify the files at PATH and below; print where each file is.

    Sessions can also be chosen by --search, and listed in a file (--from-file). A PATH is in a
    mount or in the cache folder, or is lab/subject/...; its parts may be patterns (quote them).
    Cached files are skipped, interrupted downloads resumed. Works with and without a mount. The
    exit code is not 0 when a file could not be downloaded.
    """
    from onefs.cli.open_database import closing_access, open_database
    from onefs.cli.targets import resolve_arguments
    from onefs.databases import with_disks

    if list_file is not None:
        paths += tuple(line for line in list_file.read().splitlines() if line.strip())
    queries = parse_searches(searches)
    if not paths and not queries:
        raise UsageError(
            "there is nothing to get: give a PATH, --search QUERY, or --from-file with a PATH in "
            "each line"
        )
    database, patterns = resolve_arguments(paths, flags)
    database = with_disks(database, flags)
    failed: dict[str, OnefsError] = {}
    with closing_access(open_database(database, offline=offline)) as access:
        try:
            with ProgressDisplay() as progress:
                patterns += find_sessions(access, queries, progress)
                prefetch_sessions(access, patterns)
                datasets = _list_datasets(access, patterns, progress)
                # a download needs the replicas of files, and a choice by type needs their types
                chosen = bool(types or qc)
                if not offline and (chosen or not dry_run):
                    sessions = _incomplete_sessions(access, datasets, include_cached=chosen)
                    failed = _complete_sessions(access, sessions, progress)
                    if len(failed) < len(sessions):
                        datasets = _list_datasets(access, patterns, progress)
            datasets = _select(access, datasets, patterns, types, qc)
            if dry_run:
                _print_dry_run(access, datasets)
                return
            code = _download(access, datasets, jobs, verbose=verbose)
        finally:
            _report_incomplete(failed)
    if code:
        click.get_current_context().exit(code)


DatasetsWithPlaces = list[tuple["Dataset", "Place"]]


def _list_datasets(
    access: Access, patterns: Sequence[str], progress: ProgressDisplay
) -> DatasetsWithPlaces:
    """Return each dataset at and below the paths that match ``patterns``, with its place.

    Raises NotFound if no path matches a pattern. Raises an error such as Unreachable if a folder
    cannot be listed.
    """
    datasets: dict[str, tuple[Dataset, Place]] = {}
    for pattern in patterns:
        progress.show(f"listing {pattern}:", len(datasets), 0, "files so far")
        try:
            for dataset, place in access.tree.find_datasets(pattern):
                datasets.setdefault(dataset.id, (dataset, place))
                where = "/".join(place[:4])
                progress.show(f"listing {where}:", len(datasets), 0, "files so far")
        except NotFound:
            _refuse_unserved(access, (), pattern, ())
            raise
    return list(datasets.values())


def _incomplete_sessions(
    access: Access, datasets: DatasetsWithPlaces, *, include_cached: bool
) -> list[Session]:
    """Return the sessions whose datasets are known only from cache tables.

    If ``include_cached`` is false, datasets whose files are already downloaded are ignored.
    """
    # the types and replicas of datasets from cache tables are not known
    eids = {
        dataset.eid
        for dataset, _ in datasets
        if dataset.from_tables and (include_cached or access.content.cached_path(dataset) is None)
    }
    return access.database.sessions_by_eid(sorted(eids))


def _complete_sessions(
    access: Access, sessions: Sequence[Session], progress: ProgressDisplay
) -> dict[str, OnefsError]:
    """Fetch the listings of these sessions from Alyx.

    Return the errors of the sessions that could not be fetched, by eid.
    """
    if len(sessions) >= _ANNOUNCED_SESSIONS:
        with progress.erased():
            say(f"asking Alyx for {len(sessions)} sessions ...", err=True)
    return access.catalogue.fetch_full_listings(sessions) if sessions else {}


def _report_incomplete(failed: Mapping[str, OnefsError]) -> None:
    if failed:
        count = f"{len(failed)} {plural(len(failed), 'session')}"
        say(
            f"onefs: {count} could not be requested from Alyx ({next(iter(failed.values()))}): the "
            "dataset types and folders in the cache tables are used",
            err=True,
        )


def _select(
    access: Access,
    datasets: DatasetsWithPlaces,
    patterns: Sequence[str],
    types: Sequence[str],
    qc: str | None,
) -> DatasetsWithPlaces:
    """Return the datasets that have one of the types ``types``, and the QC ``qc`` or better.

    Empty types mean all types. If ``qc`` is None, any QC is right. Raises
    NotFound if no datasets are selected.
    """
    selected, typed = datasets, []
    if types:
        typed = access.catalogue.with_types([dataset for dataset, _ in datasets])
        selected = [
            (dataset, place)
            for dataset, (_, place) in zip(typed, datasets, strict=True)
            if any(fnmatchcase(dataset.dataset_type, each) for each in types)
        ]
    of_types = selected
    if qc is not None:
        selected = [item for item in selected if has_qc(item[0], qc)]
    if not selected:
        if not of_types:
            for pattern in patterns:
                _refuse_unserved(access, datasets, pattern, types)
        known = {each.dataset_type for each in typed}
        hint = nearest_name_hint(types[0], known) if types and not of_types else ""
        raise NotFound(
            f"there is no dataset{describe_choice(types, qc)} at {describe_paths(patterns)}{hint}"
        )
    return selected


def _refuse_unserved(
    access: Access,
    datasets: Iterable[tuple[Dataset, Place]],
    pattern: str,
    types: Sequence[str],
) -> None:
    """Raise NotFound if Alyx lists the wanted datasets, but no file server has them.

    Wanted are datasets of ``types`` at paths that match ``pattern``. Empty ``types`` means all
    types.
    """
    from onefs.tree.unserved import refuse_unserved
    from onefs.tree.variant import split_variant

    variant, parts = split_variant([part for part in pattern.split("/") if part not in ("", ".")])
    length = 2 if parts[:1] in ((BY_EID,), (BY_REF,)) else 4
    below = parts[length:]
    eids = {dataset.eid for dataset, _ in datasets}
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
    """Return the eids of the sessions at a path. ``folders`` are the parts of the path.

    A part may be a pattern. Sessions that cannot be listed are left out.
    """
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


def _print_dry_run(access: Access, datasets: Iterable[tuple[Dataset, Place]]) -> None:
    count, amount, cached = 0, 0, 0
    for dataset, place in datasets:
        content = access.content
        if content.cached_path(dataset) or content.disk_path(dataset, place):
            cached += 1
            continue
        count += 1
        amount += dataset.size or 0
        say_path(access.content.store.final_path(place))
    say(
        f"{_format_file_count(count)} to fetch, {format_size(amount)}; {cached} already cached",
        err=True,
    )


def _download(access: Access, datasets: DatasetsWithPlaces, jobs: int, *, verbose: bool) -> int:
    """Download datasets. Print their paths and a summary. Return the exit code."""
    from onefs.content.bulk import fetch_datasets
    from onefs.lowlevel.memory import keep_free_memory

    keep_free_memory()
    names = {dataset.id: "/".join(place) for dataset, place in datasets}
    report = _DownloadReport(len(datasets))
    try:
        with ProgressDisplay(access.content.transfers) as progress:
            progress.expect_files(("/".join(place), dataset.size) for dataset, place in datasets)
            for each in fetch_datasets(access.content, datasets, jobs):
                name = names[each.dataset.id]
                progress.finish(name)
                if each.error is not None:
                    report.add_error(name, each.error)
                    continue
                with progress.erased():
                    say_path(each.path)
                report.already_cached += each.was_cached
                report.fetched += not each.was_cached
    except KeyboardInterrupt:
        cached = report.already_cached + report.fetched
        say(
            f"stopped: {cached} of {_format_file_count(report.requested)} "
            f"{'is' if report.requested == 1 else 'are'} cached; "
            "run the same command again to continue",
            err=True,
        )
        raise
    report.print_summary(access.content.quota.received_bytes, verbose=verbose)
    codes = {exit_code(error) for error in report.errors.values()}
    return codes.pop() if len(codes) == 1 else EXIT_FAILED if codes else 0


@dataclass(slots=True)
class _DownloadReport:
    """Numbers of requested, cached and fetched files, and the errors by file path."""

    requested: int
    already_cached: int = 0
    fetched: int = 0
    errors: dict[str, OnefsError] = field(default_factory=dict)

    def add_error(self, name: str, error: OnefsError) -> None:
        """Record the error for a file, and drop delayed warnings that repeat this error."""
        self.errors[name] = error
        suppress_warnings_about(error)

    def print_summary(self, received: int, *, verbose: bool) -> None:
        """Print the errors and the counts. Equal errors are printed as one line.

        ``received`` is the number of bytes that were downloaded.
        """
        alike: dict[str, list[str]] = {}
        for name, error in self.errors.items():
            alike.setdefault(_remove_file_name(str(error), name), []).append(name)
        for why, names in alike.items():
            which = names[0] if len(names) == 1 else _format_file_count(len(names))
            hint = "" if verbose or len(names) == 1 else "; --verbose lists the files"
            say(f"onefs: {which}: {why}{hint}", err=True)
            for name in names if verbose and len(names) > 1 else ():
                say(f"  {name}: {self.errors[name]}", err=True)
        failed = f", {len(self.errors)} failed" if self.errors else ""
        say(
            f"{_format_file_count(self.fetched)} fetched, {format_size(received)}; "
            f"{self.already_cached} already cached{failed}",
            err=True,
        )


def _remove_file_name(why: str, name: str) -> str:
    """Remove a file's name from the sentence of its error, and return the sentence.

    Without names, the errors for different files can be equal.
    """
    file = name.rpartition("/")[2]
    kept: list[str] = []
    for word in why.split(" "):
        last = word.removesuffix(":").rpartition("/")[2]
        # file names on a file server contain a UUID
        if file not in (last, *(clean for _, clean in alf.names_with_uuid(last))):
            kept.append(word)
        elif kept[-1:] in (["of"], ["from"]):
            kept.pop()
    return " ".join(kept) or why


def _format_file_count(count: int) -> str:
    return f"{count} {plural(count, 'file')}"
