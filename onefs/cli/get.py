"""``onefs get``."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import click

from onefs.cli.cache import site_options
from onefs.cli.options import FAILED, exit_code
from onefs.cli.status import size
from onefs.errors import NotFound, OnefsError

if TYPE_CHECKING:
    from onefs.access import Access
    from onefs.content.store import Place
    from onefs.model import Dataset

#: sessions that Alyx is asked for at once
_AT_ONCE = 8


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
@click.option("--dry-run", is_flag=True, help="Only say what would be fetched.")
@click.option("--offline", is_flag=True, help="Ask no server: print what is there already.")
@site_options
def get(
    paths: tuple[str, ...],
    types: tuple[str, ...],
    jobs: int,
    dry_run: bool,
    offline: bool,
    **flags: str | None,
) -> None:
    """Download what stands at PATH and below, and verify it; print where each file is.

    A PATH lies in a mount or in the cache folder, or is lab/subject/...; its parts may be
    patterns (quote them). What is there is skipped, what was begun is resumed. Works with and
    without a mount. The exit code is not 0 when a file could not be had.
    """
    from onefs.cli.opening import access_to, locate

    site, patterns = locate(paths, flags)
    access = access_to(site, offline=offline)
    try:
        with _wakes(access):
            wanted = _wanted(access, patterns, types)
            if dry_run:
                _say_what(access, wanted)
                return
            code = _fetch(access, wanted, jobs)
    finally:
        access.close()
    if code:
        click.get_current_context().exit(code)


def _wanted(
    access: Access, patterns: Sequence[str], types: Sequence[str]
) -> list[tuple[Dataset, Place]]:
    """The datasets to fetch, each once. Raises NotFound when there are none."""
    found: dict[str, tuple[Dataset, Place]] = {}
    for pattern in patterns:
        for dataset, place in _listed(access, pattern, typed=bool(types)):
            if not types or any(fnmatchcase(dataset.dataset_type, each) for each in types):
                found.setdefault(dataset.id, (dataset, place))
    if not found:
        kind = f" of type {' or '.join(types)}" if types else ""
        raise NotFound(f"there is no dataset{kind} at {', '.join(patterns)}")
    return list(found.values())


def _listed(access: Access, pattern: str, *, typed: bool) -> list[tuple[Dataset, Place]]:
    """The datasets at a pattern, with their types if they are to be ``typed``.

    Cache tables do not say what type a dataset is or where: Alyx is asked for those that only they
    know, one request for each session, unless their files are here and no type is wanted.
    """
    found = list(access.tree.datasets(pattern))
    unsaid = {
        dataset.eid
        for dataset, _ in found
        if dataset.from_tables and (typed or access.content.known_path(dataset) is None)
    }
    if _completed(access, sorted(unsaid)):
        found = list(access.tree.datasets(pattern))
    if not typed:
        return found
    datasets = access.catalogue.typed([dataset for dataset, _ in found])
    return [(dataset, place) for dataset, (_, place) in zip(datasets, found, strict=True)]


def _completed(access: Access, eids: Sequence[str]) -> bool:
    """Whether Alyx has listed any of these sessions, which only cache tables know."""
    from concurrent.futures import ThreadPoolExecutor

    def completed(eid: str) -> bool:
        try:
            return access.catalogue.completed(access.catalogue.session(eid))
        except NotFound:  # its files will fail, and do not stop the others
            return False

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="onefs-get") as pool:
        return any(list(pool.map(completed, eids)))


def _say_what(access: Access, wanted: Iterable[tuple[Dataset, Place]]) -> None:
    count, amount, there = 0, 0, 0
    for dataset, place in wanted:
        if access.content.known_path(dataset) is not None:
            there += 1
            continue
        count += 1
        amount += dataset.size or 0
        click.echo(access.content.store.final(place))
    click.echo(f"{count} files to fetch, {size(amount)}; {there} there already", err=True)


def _fetch(access: Access, wanted: list[tuple[Dataset, Place]], jobs: int) -> int:
    """Fetch, telling how far it is; the exit code."""
    from onefs.cli.progress import Progress, total
    from onefs.content.prefetch import prefetch

    sizes = {"/".join(place): dataset.size or 0 for dataset, place in wanted}
    names = {dataset.id: "/".join(place) for dataset, place in wanted}
    there, fetched, troubles = 0, 0, list[OnefsError]()

    def look(progress: Progress) -> None:
        for transfer in access.content.transfers():
            progress.update(transfer.path, transfer.done, transfer.size or 0)

    with Progress(len(wanted), total(sizes.values()), look) as progress:
        for each in prefetch(access.content, wanted, jobs):
            name = names[each.dataset.id]
            progress.end(name, sizes[name])
            if each.error is not None:
                troubles.append(each.error)
                progress.say(f"onefs: {name}: {each.error}", err=True)
                continue
            progress.say(str(each.path))
            there += each.there
            fetched += 0 if each.there else sizes[name]
    failed = f", {len(troubles)} failed" if troubles else ""
    count = len(wanted) - there - len(troubles)
    click.echo(f"{count} files fetched, {size(fetched)}; {there} there already{failed}", err=True)
    return _code(troubles)


def _code(troubles: Sequence[OnefsError]) -> int:
    """0 without trouble; the code of all troubles when they have one, else FAILED."""
    codes = {exit_code(trouble) for trouble in troubles}
    return codes.pop() if len(codes) == 1 else FAILED if codes else 0


@contextmanager
def _wakes(access: Access) -> Iterator[None]:
    """Ctrl-C ends downloads that run, instead of waiting for them."""

    def interrupted(*_: Any) -> None:
        # in a thread: the main one may hold any of the locks that this takes
        threading.Thread(target=access.wake, name="onefs-wake").start()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
