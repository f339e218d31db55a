"""``onefs get``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import click

from onefs import alf
from onefs.cli.cache import site_options
from onefs.cli.notices import reported
from onefs.cli.options import FAILED, exit_code, say, say_path
from onefs.cli.status import size
from onefs.errors import NotFound, OnefsError
from onefs.metadata.terms import nearest
from onefs.printable import plural
from onefs.tree.views import BY_EID, BY_REF

if TYPE_CHECKING:
    from onefs.access import Access
    from onefs.content.store import Place
    from onefs.model import Dataset, Session

#: sessions that take so long to ask for that the user is told
_MANY = 40
#: seconds after which the command shows what it lists
PLANNING_SECONDS = 1.0


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
    from onefs.cli.opening import access_to, locate, using

    site, patterns = locate(paths, flags)
    unasked: dict[str, OnefsError] = {}
    with using(access_to(site, offline=offline)) as access:
        try:
            found = _listed(access, patterns)
            # where files stand matters to who fetches them, and what types they have to who chooses
            if not offline and (types or not dry_run):
                sessions = _from_tables(access, found, whatever_is_here=bool(types))
                unasked = _complete(access, sessions)
                if len(unasked) < len(sessions):
                    found = _listed(access, patterns)
            wanted = _chosen(access, found, patterns, types)
            if dry_run:
                _say_what(access, wanted)
                return
            code = _fetch(access, wanted, jobs, verbose=verbose)
        finally:
            _tell_unasked(unasked)
    if code:
        click.get_current_context().exit(code)


Found = list[tuple["Dataset", "Place"]]


def _listed(access: Access, patterns: Sequence[str]) -> Found:
    """The datasets at the patterns, each once."""
    from onefs.cli.meter import Meter

    found: dict[str, tuple[Dataset, Place]] = {}
    with Meter(after=PLANNING_SECONDS) as meter:
        for pattern in patterns:
            meter.show(f"listing {pattern}:", len(found), 0, "files so far")
            try:
                for dataset, place in access.tree.datasets(pattern):
                    found.setdefault(dataset.id, (dataset, place))
                    where = "/".join(place[:4])
                    meter.show(f"listing {where}:", len(found), 0, "files so far")
            except NotFound:
                _refuse_unserved(access, (), pattern, ())
                raise
    return list(found.values())


def _from_tables(access: Access, found: Found, *, whatever_is_here: bool) -> list[Session]:
    """The sessions of those datasets that only cache tables know, which do not say what type a
    dataset is or where; without those whose files are here, unless ``whatever_is_here``."""
    unsaid = {
        dataset.eid
        for dataset, _ in found
        if dataset.from_tables and (whatever_is_here or access.content.known_path(dataset) is None)
    }
    return access.database.sessions_of(sorted(unsaid))


def _complete(access: Access, sessions: Sequence[Session]) -> dict[str, OnefsError]:
    """Have Alyx list these sessions; those that it could not be asked for, and why."""
    if len(sessions) >= _MANY:
        say(f"asking Alyx for {len(sessions)} sessions ...", err=True)
    return access.catalogue.complete_all(sessions) if sessions else {}


def _tell_unasked(unasked: Mapping[str, OnefsError]) -> None:
    if unasked:
        count = f"{len(unasked)} {plural(len(unasked), 'session')}"
        say(
            f"onefs: {count} could not be asked for, what the cache tables say of their types and "
            f"places stands: {next(iter(unasked.values()))}",
            err=True,
        )


def _chosen(access: Access, found: Found, patterns: Sequence[str], types: Sequence[str]) -> Found:
    """The datasets that have one of the types, if any are given. Raises NotFound for none."""
    everything = found
    if types:
        typed = access.catalogue.typed([dataset for dataset, _ in found])
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
        every = access.catalogue.typed([dataset for dataset, _ in everything])
        near = nearest(types[0], {each.dataset_type for each in every}) if types else ""
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

    for session in access.database.sessions_of(sorted(eids)):
        refuse_unserved(access.catalogue, session, is_meant, variant)


def _sessions_at(access: Access, folders: Sequence[str]) -> set[str]:
    """The eids of the sessions at a path or pattern; none where they cannot be listed."""
    from onefs.tree.finding import expand

    try:
        paths = list(expand(access.tree, "/".join(folders)))
        return {access.tree.xattrs(path).get("user.onefs.eid", "") for path in paths} - {""}
    except OnefsError:
        return set()


def _say_what(access: Access, wanted: Iterable[tuple[Dataset, Place]]) -> None:
    count, amount, there = 0, 0, 0
    for dataset, place in wanted:
        if access.content.known_path(dataset) is not None:
            there += 1
            continue
        count += 1
        amount += dataset.size or 0
        say_path(access.content.store.final(place))
    say(f"{_files(count)} to fetch, {size(amount)}; {there} there already", err=True)


def _fetch(access: Access, wanted: Found, jobs: int, *, verbose: bool) -> int:
    """Fetch, and report how far it is; the exit code."""
    from onefs.cli.progress import Progress, total
    from onefs.content.prefetch import prefetch

    sizes = {"/".join(place): dataset.size or 0 for dataset, place in wanted}
    names = {dataset.id: "/".join(place) for dataset, place in wanted}
    done = _Outcome(len(wanted))

    def look(progress: Progress) -> None:
        for transfer in access.content.transfers():
            progress.update(transfer.path, transfer.done, transfer.size or 0)

    try:
        with Progress(len(wanted), total(sizes.values()), look) as progress:
            for each in prefetch(access.content, wanted, jobs):
                name = names[each.dataset.id]
                progress.end(name, sizes[name])
                if each.error is not None:
                    done.fail(name, each.error)
                    continue
                progress.say_path(each.path)
                done.there += each.there
                done.fetched += not each.there
    except KeyboardInterrupt:
        here = done.there + done.fetched
        say(
            f"stopped: {here} of {_files(done.wanted)} {'is' if done.wanted == 1 else 'are'} here; "
            "run the same command to go on",
            err=True,
        )
        raise
    done.report(access.content.meter.received, verbose=verbose)
    return _code(list(done.troubles.values()))


@dataclass(slots=True)
class _Outcome:
    """Counts and failures of the files that were asked for."""

    wanted: int
    there: int = 0
    fetched: int = 0
    troubles: dict[str, OnefsError] = field(default_factory=dict)

    def fail(self, name: str, error: OnefsError) -> None:
        """Note a file that could not be had."""
        self.troubles[name] = error
        reported(error)

    def report(self, received: int, *, verbose: bool) -> None:
        """Print the failures, alike ones as one, and the counts."""
        alike: dict[str, list[str]] = {}
        for name, error in self.troubles.items():
            alike.setdefault(_without_name(str(error), name), []).append(name)
        for why, names in alike.items():
            which = names[0] if len(names) == 1 else _files(len(names))
            hint = "" if verbose or len(names) == 1 else "; --verbose names them"
            say(f"onefs: {which}: {why}{hint}", err=True)
            for name in names if verbose and len(names) > 1 else ():
                say(f"  {name}: {self.troubles[name]}", err=True)
        failed = f", {len(self.troubles)} failed" if self.troubles else ""
        say(
            f"{_files(self.fetched)} fetched, {size(received)}; {self.there} there already{failed}",
            err=True,
        )


def _without_name(why: str, name: str) -> str:
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


def _files(count: int) -> str:
    return f"{count} {plural(count, 'file')}"


def _code(troubles: Sequence[OnefsError]) -> int:
    """0 without trouble; the code of all troubles when they have one, else FAILED."""
    codes = {exit_code(trouble) for trouble in troubles}
    return codes.pop() if len(codes) == 1 else FAILED if codes else 0
