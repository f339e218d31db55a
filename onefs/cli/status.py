"""``onefs status``: shows the mounts and their state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onefs import __version__
from onefs.cli.options import json_option
from onefs.cli.output import say, say_json
from onefs.config.releases import release_of
from onefs.errors import OnefsError
from onefs.lowlevel.filesystems import network_filesystem_type
from onefs.printable import format_size, plural

if TYPE_CHECKING:
    from onefs.mount.mount_registry import MountInfo, SourceStatus


@click.command()
@json_option
def status(as_json: bool) -> None:
    """Show this user's mounts on this machine, and the readable mounts of other users."""
    from onefs.mount.mount_registry import list_mounts, mounts_of_other_users, with_current_status

    others = mounts_of_other_users()
    mounts = [*with_current_status(list_mounts(probe=True)), *others]
    if as_json:
        rows = [_json_object(each) for each in mounts]
        say_json({"version": __version__, "mounts": rows})
        return
    if not mounts:
        say("Nothing is mounted. `onefs mount MOUNTPOINT` mounts a database.")
    for each in mounts:
        shown = f"  as of {each.as_of}" if each.as_of else ""
        shown += "  flat" if each.flat else ""
        tag = release_of(Path(each.state_dir))
        shown += f"  release {tag}" if tag else ""
        say(f"{each.mountpoint}  {each.status.state}  {each.url}".rstrip() + shown)
        for line in _detail_lines(each, is_other=each in others):
            say(f"  {line}")


def _json_object(mount: MountInfo) -> dict[str, Any]:
    disk = _network_disk_of_state(mount)
    optional = {
        "public": is_public_mount(mount),
        "tag": release_of(Path(mount.state_dir)),
        "state_disk": disk,
    }
    return mount.to_json() | {name: value for name, value in optional.items() if value}


def _detail_lines(mount: MountInfo, *, is_other: bool) -> Iterator[str]:
    """Yield the lines of text about a mount, below its first line.

    ``is_other`` is true if another user has made the mount.
    """
    from onefs.mount.kernel_mounts import other_owner_of
    from onefs.mount.mount_registry import FOREIGN

    status = mount.status
    if status.state == FOREIGN:
        yield "mounted by another user, or recorded in another state folder"
    if is_other:
        yield f"mounted by {other_owner_of(mount.mountpoint)}"
    if not mount.since:  # nothing else is known about the mount
        return
    if is_public_mount(mount):
        yield "public database, no account"
    since = datetime.fromtimestamp(mount.since).strftime("%Y-%m-%d %H:%M")
    cached = _format_part(status.cache_bytes, mount.cache_limit)
    yield f"since {since}, cache {mount.cache_dir}: {cached}"
    if mount.log_file is not None:
        yield f"log {mount.log_file}"
    if mount.pid is not None and mount.version != __version__:
        yield (
            f"served by onefs {mount.version or '(older version)'}, but this command is onefs "
            f"{__version__}: unmount and mount again to use the same version"
        )
    yield from (*status.folders, *status.troubles)
    if disk := _network_disk_of_state(mount):
        yield (
            f"state {mount.state_dir}: slow, because this folder is on a network file system "
            f"({disk})"
        )
    if status.fetch_limit is not None:
        fetched = _format_part(status.fetched, status.fetch_limit)
        is_used_up = status.fetched >= status.fetch_limit
        note = ": the limit is reached, and no file is fetched for now" if is_used_up else ""
        yield f"fetched {fetched} within the hour{note}"
    yield from map(_source_line, status.sources)
    for each in status.downloads:
        done = _format_part(each.done, each.size or None)
        yield f"{each.path}: {done}, {format_size(int(each.rate))}/s"


def _source_line(source: SourceStatus) -> str:
    """Return the line of text about a bucket, a file server or a disk of a mount."""
    from onefs.mount.mount_registry import DISK

    if source.away:
        return source.away
    files = f"{source.files} {plural(source.files, 'file')} read in place"
    read = files if source.kind == DISK else f"{format_size(source.bytes)} fetched"
    return f"{source.kind} {source.name}: {read}"


def is_public_mount(mount: MountInfo) -> bool:
    """Whether a mount shows a public database, for which nobody needs an account."""
    from onefs.config.cache_owner import read_owner
    from onefs.config.public_bucket import is_public_name

    with suppress(OnefsError):
        return is_public_name(read_owner(Path(mount.cache_dir)) or "", mount.url)
    return False


def _format_part(done: int, whole: int | None) -> str:
    return format_size(done) + ("" if whole is None else f" of {format_size(whole)}")


def _network_disk_of_state(mount: MountInfo) -> str:
    """Return the type of the network file system with a mount's state folder.

    Return '' if the state folder is on a local disk or is not known.
    """
    return network_filesystem_type(Path(mount.state_dir)) if mount.state_dir else ""
