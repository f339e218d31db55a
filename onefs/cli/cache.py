"""``onefs cache``: what is in a cache folder, and its chores, beside running mounts."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from onefs.cli.options import EXIT_FAILED, database_options, folder_options, say, say_path
from onefs.cli.status import format_size
from onefs.cli.usage_errors import UsageGroup
from onefs.errors import CacheError, NotFound
from onefs.printable import plural

if TYPE_CHECKING:
    from onefs.access import Access
    from onefs.cache.adopt import Adoption
    from onefs.content.admin import CacheItem

F = TypeVar("F", bound=Callable[..., Any])

paths_argument = click.argument("paths", metavar="PATH|EID...", nargs=-1, required=True)
optional_paths_argument = click.argument("paths", metavar="[PATH|EID...]", nargs=-1)
json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")


def site_options(command: F) -> F:
    """Which database and folders, where the paths do not say it."""
    return database_options(folder_options(command))


def offline_site_options(command: F) -> F:
    """The same, and ``--offline``."""
    offline = click.option(
        "--offline", is_flag=True, help="Ask no server: what is known already must do."
    )
    return offline(site_options(command))


@click.group(cls=UsageGroup)
def cache() -> None:
    """Look after the cache folder, while mounts use it or not.

    A PATH lies in a mount or in the cache folder, or is lab/subject/...; its parts may be
    patterns. A folder, or an EID, stands for all that is below it.
    """


@cache.command()
@json_option
@offline_site_options
def info(as_json: bool, **flags: Any) -> None:
    """Show what the cache takes, and its limits."""
    with _open_access((), flags) as (access, _):
        kept = access.content.admin.list_items()
        total, free = access.content.disk_space()
        limits = access.content.limits
        found: dict[str, Any] = {
            "cache_dir": str(access.content.cache_dir),
            "database": access.content.database,
            "bytes": access.content.total_bytes(),
            "limit": limits.cache_size,
            "min_free": limits.min_free,
            "disk_bytes": total,
            "disk_free": free,
            "states": dict(Counter(each.state for each in kept)),
            "pinned": sum(each.pinned for each in kept),
            "others": sum(not each.ours and each.state != "bad" for each in kept),
        }
    limited = _limiting_mount(found["cache_dir"])
    if limited is not None and (limits.cache_size is None or limits.cache_size >= limited[0]):
        found["limit"], found["limited_by"] = limited
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    limit = "no limit" if found["limit"] is None else f"of {format_size(found['limit'])}"
    if "limited_by" in found:
        limit += f" (set by the mount at {found['limited_by']})"
    states = ", ".join(f"{count} {state}" for state, count in sorted(found["states"].items()))
    say(f"{found['cache_dir']}  of {found['database']}")
    say(f"  {format_size(found['bytes'])} downloaded, {limit}; {states or 'empty'}")
    say(f"  {found['pinned']} pinned; {found['others']} not downloaded by onefs")
    reserve = f", {format_size(limits.min_free)} left to others" if limits.min_free else ""
    say(f"  disk: {format_size(free)} free of {format_size(total)}{reserve}")


def _limiting_mount(cache_dir: str) -> tuple[int, str] | None:
    """The smallest limit that a running mount keeps a cache folder to, and its mount point."""
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
@offline_site_options
def list_(paths: tuple[str, ...], as_json: bool, **flags: Any) -> None:
    """List what the cache holds: state, size, last use and path."""
    from onefs.cli.cached_datasets import cached_files_at, display_path

    with _open_access(paths, flags) as (access, patterns):
        found = [(kept, display_path(access, kept)) for kept in cached_files_at(access, patterns)]
    if as_json:
        rows = [{**asdict(kept), "path": path} for kept, path in found]
        click.echo(json.dumps({"files": rows}, indent=2))
        return
    for kept, path in found:
        say(_format_row(kept, path))


@cache.command()
@optional_paths_argument
@json_option
@offline_site_options
def verify(paths: tuple[str, ...], as_json: bool, **flags: Any) -> None:
    """Read cached files again and compare them with the database; repair what is wrong.

    A wrong file of ours is removed and a wrong block struck out, to be fetched again when they are
    read. Exit code 1 when something was wrong.
    """
    from onefs.cli.cached_datasets import cached_files_at
    from onefs.cli.progress_bars import ProgressBars, sum_known

    with _open_access(paths, flags) as (access, patterns):
        chosen = [kept for kept in cached_files_at(access, patterns) if kept.state != "bad"]
        sizes = {kept.path: kept.size if kept.state != "partial" else 0 for kept in chosen}
        only = {kept.dataset_id for kept in chosen}
        results = []
        with ProgressBars(len(chosen), sum_known(sizes.values())) as progress:
            for checked in access.content.admin.verify(
                lambda path, done: progress.update(path, done, sizes.get(path, 0)), only
            ):
                progress.finish(checked.path, sizes.get(checked.path, 0))
                results.append(checked)
                if checked.good is False and not as_json:
                    progress.say(f"{checked.path}: {checked.reason}")
        wrong = [checked.path for checked in results if checked.good is False]
        _drop_pages_of(access, wrong)
    if as_json:
        click.echo(json.dumps({"files": [asdict(each) for each in results]}, indent=2))
    else:
        unproved = sum(checked.good is None for checked in results)
        note = f", {unproved} without a hash to compare" if unproved else ""
        say(f"{len(results)} {plural(len(results), 'file')}, {len(wrong)} wrong{note}", err=True)
    if wrong:
        click.get_current_context().exit(EXIT_FAILED)


@cache.command()
@paths_argument
@offline_site_options
def pin(paths: tuple[str, ...], **flags: Any) -> None:
    """Never evict what is at PATH, nor what will be."""
    with _open_access(paths, flags, online=True, may_create=True) as (access, patterns):
        count = 0
        for pattern in patterns:
            for dataset, _ in access.tree.find_datasets(pattern):
                access.content.admin.pin(dataset.id)
                count += 1
    say(f"{count} {plural(count, 'dataset')} pinned", err=True)


@cache.command()
@paths_argument
@offline_site_options
def unpin(paths: tuple[str, ...], **flags: Any) -> None:
    """Take back `onefs cache pin`."""
    with _open_access(paths, flags, online=True) as (access, patterns):
        found = {d.id for pattern in patterns for d, _ in access.tree.find_datasets(pattern)}
        for dataset_id in found:
            access.content.admin.unpin(dataset_id)
    say(f"{len(found)} {plural(len(found), 'dataset')} unpinned", err=True)


@cache.command()
@paths_argument
@offline_site_options
def evict(paths: tuple[str, ...], **flags: Any) -> None:
    """Remove what was downloaded of PATH. What is pinned or being read stays.

    Exit code 1 when something could not be removed.
    """
    from onefs.cli.cached_datasets import cached_files_at

    with _open_access(paths, flags) as (access, patterns):
        keeping = access.content.admin
        chosen = {kept.dataset_id for kept in cached_files_at(access, patterns)}
        freed, failed = 0, set()
        for dataset_id in sorted(chosen):
            try:
                freed += keeping.evict(dataset_id)
            except CacheError as error:
                failed.add(dataset_id)
                say(f"onefs: {error}", err=True)
        for kept in keeping.list_items():
            if kept.dataset_id in chosen - failed and kept.on_disk:
                say(f"{kept.path}: {_reason_kept(kept)}", err=True)
    say(f"freed {format_size(freed)}", err=True)
    if failed:
        click.get_current_context().exit(EXIT_FAILED)


@cache.command()
@offline_site_options
def clear(**flags: Any) -> None:
    """Remove all that was downloaded. What is pinned or being read stays.

    Exit code 1 when something could not be removed.
    """
    failures: list[str] = []
    with _open_access((), flags) as (access, _):
        freed = access.content.admin.clear(failures.append)
        left = access.content.total_bytes()
    for failure in failures:
        say(f"onefs: {failure}", err=True)
    why = "are pinned, being read or cannot be removed" if failures else "are pinned or being read"
    rest = f"; {format_size(left)} {why}" if left else ""
    say(f"freed {format_size(freed)}{rest}", err=True)
    if failures:
        click.get_current_context().exit(EXIT_FAILED)


@cache.command()
@paths_argument
@offline_site_options
def accept(paths: tuple[str, ...], **flags: Any) -> None:
    """Serve bytes that contradict the database, as they are, from now on.

    Until the database's record changes. Prints where they stand.
    """
    with _open_access(paths, flags, online=True) as (access, patterns):
        count = 0
        for pattern in patterns:
            for dataset, place in access.tree.find_datasets(pattern):
                if access.content.state(dataset)[0] == "bad":
                    say_path(access.content.accept(dataset, place))
                    count += 1
    if not count:
        raise NotFound(f"nothing at {', '.join(paths)} is known to be bad")


@cache.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@click.option("--trust", is_flag=True, help="Take files of the right size without an md5, too.")
@click.option("--link", is_flag=True, help="Link to the files instead of copying them.")
@json_option
@offline_site_options
def adopt(folder: str, trust: bool, link: bool, as_json: bool, **flags: Any) -> None:
    """Take files that were downloaded before, from DIR, when they are what the database says.

    DIR is a ONE cache folder, or has `lab/subject/...` below it; names may hold UUIDs.
    """
    from onefs.cache.adopt import adopt_folder
    from onefs.cli.dataset_finder import DatasetFinder
    from onefs.cli.progress_bars import ProgressBars, sum_known

    sizes = _sizes_below(Path(folder))
    with (
        _open_access((), flags, online=True, may_create=True) as (access, _),
        ProgressBars(len(sizes), sum_known(sizes.values())) as progress,
    ):
        finder = DatasetFinder(access, Path(folder))
        found = []
        for each in adopt_folder(
            access.content.store,
            Path(folder),
            finder.find,
            lambda path, done: progress.update(str(path), done, sizes.get(path, 0)),
            copy=not link,
            trust=trust,
        ):
            found.append(each)
            progress.finish(str(each.path), sizes.get(each.path, 0))
            if not as_json:
                progress.say(_format_adoption(each))
    if as_json:
        rows = [
            {"path": str(e.path), "outcome": e.outcome.value, "reason": e.reason} for e in found
        ]
        click.echo(json.dumps({"files": rows}, indent=2))
        return
    counts = Counter(each.outcome.value for each in found)
    said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    say(said or "no files", err=True)


def _check_cache_dir_exists(flags: dict[str, Any]) -> None:
    """Raise NotFound for a cache folder that was named and does not exist."""
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
    """The database that the arguments are about, and the arguments as patterns of the tree.

    Its server is asked only where the command ``asks``, and without ``--offline``. A cache folder
    that is named must exist, unless the command ``makes`` one.
    """
    from onefs.cli.targets import closing_access, open_site, resolve_arguments

    if not may_create:
        _check_cache_dir_exists(flags)
    wanted = dict(flags)
    offline = wanted.pop("offline") or not online
    site, patterns = resolve_arguments(arguments, wanted)
    with closing_access(open_site(site, offline=offline)) as access:
        yield access, patterns


def _format_row(kept: CacheItem, path: str) -> str:
    used = datetime.fromtimestamp(kept.used_at).strftime("%Y-%m-%d %H:%M") if kept.used_at else "-"
    amount = format_size(kept.on_disk)
    if kept.state == "partial":
        amount = f"{amount} of {format_size(kept.size)}"
    marks = ", ".join(
        name for name, holds in (("pinned", kept.pinned), ("not ours", not kept.ours)) if holds
    )
    reason = f"  {kept.reason}" if kept.reason else ""
    return f"{kept.state:<10}  {amount:>22}  {used:<16}  {path}{marks and f'  [{marks}]'}{reason}"


def _reason_kept(kept: CacheItem) -> str:
    """Why something is still there after it was to go."""
    if kept.pinned:
        return "it is pinned: `onefs cache unpin` it first"
    return "it is being read" if kept.ours else "onefs did not download it, so it stays"


def _sizes_below(folder: Path) -> dict[Path, int]:
    """The files below a folder, as far as they can be seen, and their bytes."""
    found = {}
    for path in folder.rglob("*"):
        with suppress(OSError):
            if path.is_file():
                found[path] = path.stat().st_size
    return found


def _format_adoption(adoption: Adoption) -> str:
    reason = f" ({adoption.reason})" if adoption.reason else ""
    return f"{adoption.outcome.value}: {adoption.path}{reason}"


def _drop_pages_of(access: Access, wrong: list[str]) -> None:
    """Make the kernel forget what mounts of this cache have shown of files that have rotted."""
    from onefs.cli.page_cache import drop_pages

    for path in wrong:
        drop_pages(access.content.cache_dir, path)
