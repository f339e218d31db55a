"""``onefs cache``: list, verify, pin and evict the files in a cache folder. No mount is needed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onefs.cli.options import (
    all_of,
    database_options,
    folder_options,
    json_option,
    offline_option,
)
from onefs.cli.output import exit_if_failed, say, say_json, say_path
from onefs.cli.usage_errors import UsageGroup
from onefs.errors import CacheError, NotFound
from onefs.lowlevel.progress_display import ProgressDisplay
from onefs.printable import format_size, plural

if TYPE_CHECKING:
    from onefs.access import Access
    from onefs.cache.adopt import Adoption
    from onefs.cache.folder import Place
    from onefs.content.admin import CacheItem
    from onefs.model import Dataset

paths_argument = click.argument("paths", metavar="PATH|EID...", nargs=-1, required=True)
optional_paths_argument = click.argument("paths", metavar="[PATH|EID...]", nargs=-1)

#: options that name the database and its folders, for paths that do not imply a database
database_and_folder_options = all_of(database_options, folder_options)
#: ``database_and_folder_options`` and ``--offline``
offline_database_options = all_of(offline_option, database_and_folder_options)


@click.group(cls=UsageGroup)
def cache() -> None:
    """List, verify, pin and evict the files in the cache folder. No mount is needed.

    A PATH is in a mount or in the cache folder, or is lab/subject/... of the tree. Each name in a
    PATH may be a pattern. A folder or an EID means all files below it.
    """


@cache.command()
@json_option
@offline_database_options
def info(as_json: bool, **flags: Any) -> None:
    """Show the size of the cache, and the limits of this size."""
    with _open_access((), flags) as (access, _):
        facts = _describe(access)
    if as_json:
        say_json(facts)
        return
    limit = "no limit" if facts["limit"] is None else f"of {format_size(facts['limit'])}"
    if "limited_by" in facts:
        limit += f" (set by the mount at {facts['limited_by']})"
    states = ", ".join(f"{count} {state}" for state, count in sorted(facts["states"].items()))
    min_free = facts["min_free"]
    reserve = f", {format_size(min_free)} must stay free" if min_free else ""
    disk = f"{format_size(facts['disk_free'])} free of {format_size(facts['disk_bytes'])}"
    say(f"{facts['cache_dir']}  of {facts['database']}")
    say(f"  {format_size(facts['bytes'])} downloaded, {limit}; {states or 'empty'}")
    say(f"  {facts['pinned']} pinned; {facts['others']} not downloaded by onefs")
    say(f"  disk: {disk}{reserve}")


def _describe(access: Access) -> dict[str, Any]:
    """Return what ``onefs cache info --json`` prints. Sizes are in bytes."""
    content = access.content
    items = content.admin.list_items()
    total, free = content.disk_space()
    limits = content.limits
    facts: dict[str, Any] = {
        "cache_dir": str(content.cache_dir),
        "database": content.database,
        "bytes": content.total_bytes(),
        "limit": limits.cache_size,
        "min_free": limits.min_free,
        "disk_bytes": total,
        "disk_free": free,
        "states": dict(Counter(each.state for each in items)),
        "pinned": sum(each.pinned for each in items),
        "others": sum(not each.ours and each.state != "bad" for each in items),
    }
    limited = _limiting_mount(facts["cache_dir"])
    if limited is not None and (limits.cache_size is None or limits.cache_size >= limited[0]):
        facts["limit"], facts["limited_by"] = limited
    return facts


def _limiting_mount(cache_dir: str) -> tuple[int, str] | None:
    """Return the smallest size limit that a running mount sets for a cache folder, in bytes.

    Also return the mount point of this mount. Return None if no running mount has a limit.
    """
    from onefs.mount.mount_registry import list_mounts

    return min(
        (
            (each.cache_limit, each.mountpoint)
            for each in list_mounts()
            if each.cache_limit is not None
            and each.pid is not None
            and os.path.realpath(each.cache_dir) == os.path.realpath(cache_dir)
        ),
        default=None,
    )


@cache.command("list")
@optional_paths_argument
@json_option
@offline_database_options
def list_(paths: tuple[str, ...], as_json: bool, **flags: Any) -> None:
    """List the cached files, with state, size, last use and path."""
    from onefs.cli.cached_datasets import cached_files_at, display_path

    with _open_access(paths, flags) as (access, patterns):
        items = [(item, display_path(access, item)) for item in cached_files_at(access, patterns)]
    if as_json:
        say_json({"files": [{**asdict(item), "path": path} for item, path in items]})
        return
    for item, path in items:
        say(_format_row(item, path))


@cache.command()
@optional_paths_argument
@json_option
@offline_database_options
def verify(paths: tuple[str, ...], as_json: bool, **flags: Any) -> None:
    """Read cached files again, compare them with the database, and remove wrong bytes.

    A wrong file is removed if onefs downloaded the file. In a partial file, only the wrong blocks
    are removed. Removed bytes are fetched again at the next read. Files of a disk (--source) are
    only read. Exit code 1 when a file was wrong.
    """
    from onefs.cli.cached_datasets import cached_files_at
    from onefs.cli.drop_pages import drop_pages

    with _open_access(paths, flags) as (access, patterns):
        results = []
        with ProgressDisplay() as progress:
            progress.show("listing the cache:", 0, 0, "files so far")
            found = cached_files_at(access, patterns, on_disks=True)
            only = {item.dataset_id for item in found}
            progress.expect_files(
                (item.path, item.size if item.state != "partial" else 0)
                for item in found
                if item.state != "bad"
            )
            for checked in access.content.admin.verify(progress.update, only):
                progress.finish(checked.path)
                results.append(checked)
                if checked.reason and not as_json:
                    with progress.erased():
                        say(f"{checked.path}: {checked.reason}")
        wrong = [checked.path for checked in results if checked.good is False]
        for path in wrong:
            drop_pages(access.content.cache_dir, path)
    if as_json:
        say_json({"files": [asdict(each) for each in results]})
    else:
        unproved = sum(checked.good is None for checked in results)
        note = f", {unproved} without a hash to compare" if unproved else ""
        say(
            f"{len(results)} {plural(len(results), 'file')} verified, {len(wrong)} wrong{note}",
            err=True,
        )
    exit_if_failed(wrong)


@cache.command()
@paths_argument
@offline_database_options
def pin(paths: tuple[str, ...], **flags: Any) -> None:
    """Protect the datasets at PATH from eviction. The datasets need not be cached yet."""
    with _open_access(paths, flags, online=True, may_create=True) as (access, patterns):
        count = 0
        for dataset, _ in _find_datasets(access, patterns):
            access.content.admin.pin(dataset.id)
            count += 1
    say(f"{count} {plural(count, 'dataset')} pinned", err=True)


@cache.command()
@paths_argument
@offline_database_options
def unpin(paths: tuple[str, ...], **flags: Any) -> None:
    """Allow the eviction of the datasets at PATH again, after `onefs cache pin`."""
    with _open_access(paths, flags, online=True) as (access, patterns):
        ids = {dataset.id for dataset, _ in _find_datasets(access, patterns)}
        for dataset_id in ids:
            access.content.admin.unpin(dataset_id)
    say(f"{len(ids)} {plural(len(ids), 'dataset')} unpinned", err=True)


@cache.command()
@paths_argument
@offline_database_options
def evict(paths: tuple[str, ...], **flags: Any) -> None:
    """Remove the downloaded bytes of the files at PATH. Pinned files and files being read stay.

    Exit code 1 when a file could not be removed.
    """
    from onefs.cli.cached_datasets import cached_files_at

    with _open_access(paths, flags) as (access, patterns):
        admin = access.content.admin
        chosen = {item.dataset_id for item in cached_files_at(access, patterns)}
        freed, failed = 0, set()
        for dataset_id in sorted(chosen):
            try:
                freed += admin.evict(dataset_id)
            except CacheError as error:
                failed.add(dataset_id)
                say(f"onefs: {error}", err=True)
        for item in admin.list_items():
            if item.dataset_id in chosen - failed and item.on_disk:
                say(f"{item.path}: {_reason_kept(item)}", err=True)
    say(f"freed {format_size(freed)}", err=True)
    exit_if_failed(failed)


@cache.command()
@offline_database_options
def clear(**flags: Any) -> None:
    """Remove all downloaded files. Pinned files and files being read stay.

    Exit code 1 when a file could not be removed.
    """
    failures: list[str] = []
    with _open_access((), flags) as (access, _):
        freed = access.content.admin.clear(failures.append)
        left = access.content.total_bytes()
    for failure in failures:
        say(f"onefs: {failure}", err=True)
    why = "pinned, being read or not removable" if failures else "pinned or being read"
    rest = f"; {format_size(left)} stay ({why})" if left else ""
    say(f"freed {format_size(freed)}{rest}", err=True)
    exit_if_failed(failures)


@cache.command()
@paths_argument
@offline_database_options
def accept(paths: tuple[str, ...], **flags: Any) -> None:
    """Serve the rejected files at PATH, although their bytes contradict the database.

    The files are served until their records in the database change. Prints the paths of the files.
    """
    with _open_access(paths, flags, online=True) as (access, patterns):
        count = 0
        for dataset, place in _find_datasets(access, patterns):
            if access.content.state(dataset)[0] == "bad":
                say_path(access.content.accept(dataset, place))
                count += 1
    if not count:
        raise NotFound(f"no file at {', '.join(paths)} was rejected: there is nothing to accept")


@cache.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@click.option("--trust", is_flag=True, help="Also take files without an md5, if the size is right.")
@click.option("--link", is_flag=True, help="Link to the files instead of copying them.")
@json_option
@offline_database_options
def adopt(folder: str, trust: bool, link: bool, as_json: bool, **flags: Any) -> None:
    """Take the files in the folder DIR into the cache, instead of downloading these files again.

    A file is taken if it matches the database. DIR is a ONE cache folder, or has `lab/subject/...`
    below it. File names may contain the UUIDs of the datasets.
    """
    from onefs.cache.adopt import adopt_folder
    from onefs.cli.dataset_finder import DatasetFinder

    with (
        _open_access((), flags, online=True, may_create=True) as (access, _),
        ProgressDisplay() as progress,
    ):
        progress.expect_files(_list_files(Path(folder), progress))
        finder = DatasetFinder(access, Path(folder))
        adoptions = []
        for each in adopt_folder(
            access.content.store,
            Path(folder),
            finder.find,
            lambda path, done: progress.update(str(path), done),
            copy=not link,
            trust=trust,
        ):
            adoptions.append(each)
            progress.finish(str(each.path))
            if not as_json:
                with progress.erased():
                    say(_format_adoption(each))
    if as_json:
        rows = [
            {"path": str(each.path), "outcome": each.outcome.value, "reason": each.reason}
            for each in adoptions
        ]
        say_json({"files": rows})
        return
    counts = Counter(each.outcome.value for each in adoptions)
    summary = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    say(summary or "no files", err=True)


def _check_cache_dir_exists(flags: dict[str, Any]) -> None:
    """Raise NotFound if ``--cache-dir`` or ONEFS_CACHE_DIR names a folder that does not exist."""
    named = flags.get("cache_dir") or os.environ.get("ONEFS_CACHE_DIR")
    if named and not os.path.isdir(os.path.expanduser(named)):
        raise NotFound(f"there is no cache folder {named}: check --cache-dir (ONEFS_CACHE_DIR)")


@contextmanager
def _open_access(
    arguments: Sequence[str],
    flags: dict[str, Any],
    *,
    online: bool = False,
    may_create: bool = False,
) -> Iterator[tuple[Access, list[str]]]:
    """Open the database that the arguments are in. Yield it, and the arguments as tree patterns.

    - A tree pattern is a path in the tree (``lab/subject/...``), with or without wildcards.
    - ``online`` allows requests to the server, unless ``--offline`` is given.
    - If ``may_create`` is false, raises NotFound for a cache folder that does not exist.

    Raises what ``resolve_arguments`` and ``open_database`` raise.
    """
    from onefs.cli.open_database import closing_access, open_database
    from onefs.cli.targets import resolve_arguments

    if not may_create:
        _check_cache_dir_exists(flags)
    offline = flags.pop("offline") or not online
    database, patterns = resolve_arguments(arguments, flags)
    with closing_access(open_database(database, offline=offline)) as access:
        yield access, patterns


def _find_datasets(access: Access, patterns: Sequence[str]) -> Iterator[tuple[Dataset, Place]]:
    for pattern in patterns:
        yield from access.tree.find_datasets(pattern)


def _format_row(item: CacheItem, path: str) -> str:
    used = datetime.fromtimestamp(item.used_at).strftime("%Y-%m-%d %H:%M") if item.used_at else "-"
    amount = format_size(item.on_disk)
    if item.state == "partial":
        amount = f"{amount} of {format_size(item.size)}"
    marks = ", ".join(
        name
        for name, holds in (("pinned", item.pinned), ("not from onefs", not item.ours))
        if holds
    )
    reason = f"  {item.reason}" if item.reason else ""
    return f"{item.state:<10}  {amount:>22}  {used:<16}  {path}{marks and f'  [{marks}]'}{reason}"


def _reason_kept(item: CacheItem) -> str:
    """Return the reason why a cached file is not evicted."""
    if item.pinned:
        return "the file is pinned: run `onefs cache unpin` first"
    if item.ours:
        return "the file is being read"
    return "onefs does not remove files that it did not download"


def _list_files(folder: Path, progress: ProgressDisplay) -> list[tuple[str, int | None]]:
    """Return the path and the size in bytes of each readable file below a folder."""
    files: list[tuple[str, int | None]] = []
    for path in folder.rglob("*"):
        progress.show(f"listing {folder}:", len(files), 0, "files so far")
        with suppress(OSError):
            if path.is_file():
                files.append((str(path), path.stat().st_size))
    return files


def _format_adoption(adoption: Adoption) -> str:
    reason = f" ({adoption.reason})" if adoption.reason else ""
    return f"{adoption.outcome.value}: {adoption.path}{reason}"
