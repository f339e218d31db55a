"""``onefs status``."""

from __future__ import annotations

import json
from datetime import datetime

import click

from onefs import __version__


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(as_json: bool) -> None:
    """Show the mounts of this user on this machine, and what they are doing."""
    from onefs.mount.records import list_mounts

    found = list_mounts()
    if as_json:
        mounts = [each.to_json() for each in found]
        click.echo(json.dumps({"version": __version__, "mounts": mounts}, indent=2))
        return
    if not found:
        click.echo("Nothing is mounted. `onefs mount MOUNTPOINT` mounts a database.")
    for each in found:
        as_of = f"  as of {each.as_of}" if each.as_of else ""
        click.echo(f"{each.mountpoint}  {each.status.state}  {each.url}".rstrip() + as_of)
        if not each.since:  # a mount of another home folder: its record is there
            continue
        since = datetime.fromtimestamp(each.since).strftime("%Y-%m-%d %H:%M")
        limit = "" if each.cache_limit is None else f" of {size(each.cache_limit)}"
        cached = f"{size(each.status.cache_bytes)}{limit}"
        click.echo(f"  since {since}, cache {each.cache_dir}: {cached}")
        if each.status.fetch_limit is not None:
            full = each.status.fetched >= each.status.fetch_limit
            click.echo(
                f"  fetched {size(each.status.fetched)} of {size(each.status.fetch_limit)} within "
                f"the hour{': no more is fetched for now' if full else ''}"
            )
        for download in each.status.downloads:
            whole = f" of {size(download.size)}" if download.size else ""
            click.echo(
                f"  {download.path}: {size(download.done)}{whole}, {size(int(download.rate))}/s"
            )


def size(count: int) -> str:
    """A number of bytes for people: ``1.5 GiB``."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
