"""``onefs status``."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from onefs import __version__
from onefs.cli.options import say
from onefs.lowlevel.filesystems import network_filesystem_type

if TYPE_CHECKING:
    from onefs.mount.mount_registry import MountInfo


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(as_json: bool) -> None:
    """Show the mounts of this user on this machine, and others' that this user may read."""
    from onefs.mount.kernel_mounts import other_owner_of
    from onefs.mount.mount_registry import (
        FOREIGN,
        list_mounts,
        mounts_of_other_users,
        with_current_status,
    )

    others = mounts_of_other_users()
    found = [*with_current_status(list_mounts()), *others]
    if as_json:
        mounts = [
            each.to_json()
            | ({"state_disk": disk} if (disk := _network_disk_of_state(each)) else {})
            for each in found
        ]
        click.echo(json.dumps({"version": __version__, "mounts": mounts}, indent=2))
        return
    if not found:
        say("Nothing is mounted. `onefs mount MOUNTPOINT` mounts a database.")
    for each in found:
        shown = f"  as of {each.as_of}" if each.as_of else ""
        shown += "  flat" if each.flat else ""
        say(f"{each.mountpoint}  {each.status.state}  {each.url}".rstrip() + shown)
        if each.status.state == FOREIGN:
            say("  another user mounted it, or another state folder has its record")
        if each in others:
            say(f"  mounted by {other_owner_of(each.mountpoint)}")
        if not each.since:  # nothing else is known
            continue
        since = datetime.fromtimestamp(each.since).strftime("%Y-%m-%d %H:%M")
        limit = "" if each.cache_limit is None else f" of {format_size(each.cache_limit)}"
        cached = f"{format_size(each.status.cache_bytes)}{limit}"
        say(f"  since {since}, cache {each.cache_dir}: {cached}")
        if each.log_file is not None:
            say(f"  log {each.log_file}")
        if each.pid is not None and each.version != __version__:
            say(
                f"  served by onefs {each.version or 'of an older version'}, this command is "
                f"{__version__}: unmount and mount again to have the same"
            )
        for sentence in (*each.status.folders, *each.status.troubles):
            say(f"  {sentence}")
        disk = _network_disk_of_state(each)
        if disk:
            say(f"  state {each.state_dir}: on a network file system ({disk}), slower")
        if each.status.fetch_limit is not None:
            full = each.status.fetched >= each.status.fetch_limit
            say(
                f"  fetched {format_size(each.status.fetched)} of "
                f"{format_size(each.status.fetch_limit)} within "
                f"the hour{': no more is fetched for now' if full else ''}"
            )
        for download in each.status.downloads:
            whole = f" of {format_size(download.size)}" if download.size else ""
            say(
                f"  {download.path}: {format_size(download.done)}{whole}, "
                f"{format_size(int(download.rate))}/s"
            )


def _network_disk_of_state(mount: MountInfo) -> str:
    """The network file system on which a mount's databases lie; '' for a local disk."""
    return network_filesystem_type(Path(mount.state_dir)) if mount.state_dir else ""


def format_size(count: int) -> str:
    """A number of bytes for people: ``1.5 GiB``."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
