"""``onefs mount`` and ``onefs umount``: mount a database and unmount it."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import platformdirs

from onefs.cli import demo_process
from onefs.cli.completion import completer_of
from onefs.cli.demo_process import DemoOptions
from onefs.cli.options import (
    all_of,
    database_options,
    file_attribute_options,
    folder_options,
    require_value,
    source_option,
    storage_options,
)
from onefs.cli.output import say
from onefs.config.cache_options import resolve_cache_options
from onefs.config.file_attributes import resolve_file_attributes
from onefs.config.settings import Settings, resolve_settings
from onefs.demo import check_not_inside_lab, demo_identity
from onefs.errors import UsageError
from onefs.lowlevel.paths import absolute, resolved
from onefs.qc import QC

#: seconds in which a mount must become ready; longer than the deadline for its first request
READY_TIMEOUT_SECONDS = 60.0
#: additional seconds for loading cache tables, which loads at least 50,000 rows per second
SYNC_TIMEOUT_SECONDS = 1800.0


def _check_as_of(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str:
    """Return the day that ``--as-of`` gives, or '' if the option is not given.

    Raises UsageError for an invalid day.
    """
    from onefs.tree.as_of import is_as_of_day

    if value is not None and not is_as_of_day(value):
        raise UsageError(f"--as-of is {ascii(value)[:80]}: give a day, like 2021-07-05")
    return value or ""


def _check_mountpoint(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Return the mount point. Raises UsageError for a word such as ``help`` or a command's name."""
    from onefs.cli import COMMANDS

    require_value(context, parameter, value)
    if value == "help" or (value in COMMANDS and value != "demo"):
        raise UsageError(
            f"{value} is the name of a command, not a mount point: write ./{value} to mount "
            "at a folder of that name, or run `onefs mount --help`"
        )
    return value


_demo_options = all_of(
    click.option("--demo", is_flag=True, help="Mount the embedded laboratory: no account needed."),
    click.option(
        "--demo-data",
        type=click.Path(),
        help="With --demo: serve this ALF folder (lab/Subjects/subject/date/number/...).",
    ),
    click.option(
        "--demo-rate",
        type=click.IntRange(min=1),
        help="With --demo: bytes a second, per connection.",
    ),
    click.option(
        "--demo-latency", type=click.FloatRange(min=0), help="With --demo: milliseconds a request."
    ),
)

_view_options = all_of(
    click.option(
        "--tag",
        metavar="TAG",
        callback=require_value,
        help="Show this release as it was published, instead of the whole database.",
    ),
    click.option(
        "--as-of",
        metavar="DATE",
        callback=_check_as_of,
        help="Show the last revision that each file had on this day, such as 2021-07-05.",
    ),
    click.option(
        "--flat",
        is_flag=True,
        envvar="ONEFS_FLAT",
        help="Show default datasets in their session's own folder, without collections. "
        "[ONEFS_FLAT]",
    ),
    click.option(
        "--qc",
        metavar="OUTCOME",
        callback=require_value,
        shell_complete=completer_of(lambda _: list(QC.__members__)),
        help="Show only datasets with this QC or a better one, such as WARNING. NOT_SET is the "
        "best. Default: all. [ONEFS_QC]",
    ),
)

_daemon_options = all_of(
    click.option("--foreground", is_flag=True, help="Stay in the terminal; Ctrl-C unmounts."),
    click.option(
        "--allow-other", is_flag=True, help="Let other users of this machine read the mount."
    ),
    click.option(
        "--log-level",
        type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
        default="INFO",
        show_default=True,
        help="The lowest level of messages in the log.",
    ),
)


@click.command()
@click.argument("mountpoint", type=click.Path(), callback=_check_mountpoint)
@_demo_options
@database_options
@folder_options
@storage_options
@source_option
@file_attribute_options
@click.option(
    "--max-fetch",
    metavar="SIZE/h",
    help="Download at most this much in any hour; default: no limit. [ONEFS_MAX_FETCH]",
)
@click.option(
    "--no-siblings",
    flag_value="yes",
    default=None,
    help="Fetch no small files ahead for programs that read a folder's files in order. "
    "[ONEFS_NO_SIBLINGS]",
)
@click.option(
    "--offline",
    is_flag=True,
    help="Ask no server: show the names in the catalogue, read only cached files.",
)
@click.option(
    "--sync",
    is_flag=True,
    help="First fill the catalogue from the server's cache tables, if it has any.",
)
@_view_options
@_daemon_options
def mount(
    mountpoint: str,
    offline: bool,
    sync: bool,
    tag: str | None,
    as_of: str,
    flat: bool,
    foreground: bool,
    allow_other: bool,
    log_level: str,
    **options: Any,
) -> None:
    """Show a database as a directory at MOUNTPOINT, which is created if it does not exist.

    The command returns when the mount is ready. The mount runs in the background. To end the mount,
    run `onefs umount MOUNTPOINT`.
    """
    from onefs.cli.open_database import log_in
    from onefs.cli.start_mount import MountRequest, start

    if sync:
        _check_can_sync(offline=offline)
    demo = _pop_demo_options(options)
    settings, database = _resolve_settings(options, demo)
    if tag is not None:
        settings = _prepare_release(settings, database, tag, is_demo=demo is not None, sync=sync)
        sync = False
    request = MountRequest(
        mountpoint,
        settings,
        database,
        demo,
        foreground=foreground,
        allow_other=allow_other,
        log_level=log_level.upper(),
        offline=offline,
        sync=sync,
        as_of=as_of,
        flat=flat,
        token=log_in(settings) if demo is None and tag is None and not offline else "",
    )
    start(request, _ready_timeout(sync=sync, demo=demo is not None))
    if not (offline or foreground):
        _report_offline(mountpoint, settings)


def _prepare_release(
    settings: Settings, database: str, tag: str, *, is_demo: bool, sync: bool
) -> Settings:
    """Return the settings for a mount of a release, whose tables are loaded if they are not yet.

    With ``sync``, look for newer tables too. Raises NotFound if there is no such release, and
    UsageError for the embedded laboratory.
    """
    from onefs.cli.sync import load_release
    from onefs.databases import ResolvedDatabase
    from onefs.releases import loaded_releases, settings_of_release

    if is_demo:
        raise UsageError(
            "--tag needs a server that is running: mount --demo without it, and run `onefs sync "
            "--tag TAG`, which makes .tags/TAG in the mount"
        )
    if sync or tag not in loaded_releases(settings):
        load_release(ResolvedDatabase(settings, database), tag)
    return settings_of_release(settings, tag)


def _check_can_sync(*, offline: bool) -> None:
    """Check that ``--sync`` is possible.

    Raises UsageError if ``--offline`` is given too, or if pyarrow is not installed.
    """
    from onefs.cache_tables.parquet import check_pyarrow

    if offline:
        raise UsageError(
            "--sync needs the server, and --offline forbids requests: leave out one of the two "
            "flags"
        )
    check_pyarrow()


def _report_offline(mountpoint: str, settings: Settings) -> None:
    """Print a message if the mount's server is unreachable.

    The message gives the time at which the catalogue was last filled by the server.
    """
    from onefs.catalogue.storage.database import CatalogueDatabase
    from onefs.mount.mount_registry import OFFLINE, find_record
    from onefs.mount.mountpoints import resolve_mountpoint as real_path

    record = find_record(real_path(mountpoint))
    if record is None or record.status.state != OFFLINE:
        return
    database = CatalogueDatabase(settings.state_dir / "catalogue.sqlite")
    try:
        newest = datetime.fromtimestamp(database.last_fetched_at()).strftime("%Y-%m-%d %H:%M")
    finally:
        database.close()
    say(
        f"onefs: the server {record.url} is unreachable: the mount at {mountpoint} shows the "
        f"catalogue of {newest} until the server answers again",
        err=True,
    )


@click.command()
@click.argument("mountpoint", type=click.Path(), callback=require_value)
def umount(mountpoint: str) -> None:
    """Unmount MOUNTPOINT. The command returns when the mount has ended."""
    from onefs.mount.daemon import stop
    from onefs.mount.mountpoints import resolve_mountpoint

    path = resolve_mountpoint(mountpoint)
    os.chdir("/")  # so that this process does not keep the mount busy
    stop(path)


def _ready_timeout(*, sync: bool, demo: bool) -> float:
    """Return the number of seconds in which the mount must become ready."""
    more = SYNC_TIMEOUT_SECONDS if sync else 0.0
    return READY_TIMEOUT_SECONDS + more + (demo_process.READY_TIMEOUT_SECONDS if demo else 0.0)


def _pop_demo_options(options: dict[str, Any]) -> DemoOptions | None:
    """Remove the options for the embedded laboratory from ``options``, and return them.

    Return None without ``--demo``. Raises UsageError for options that exclude each other, and for a
    missing folder.
    """
    is_demo, data = options.pop("demo"), options.pop("demo_data")
    rate, latency = options.pop("demo_rate"), options.pop("demo_latency")
    if not is_demo:
        for flag, value in (
            ("--demo-data", data),
            ("--demo-rate", rate),
            ("--demo-latency", latency),
        ):
            if value is not None:
                raise UsageError(f"{flag} needs --demo")
        return None
    for name in ("public", "url", "username", "profile"):
        if options[name]:
            raise UsageError(f"--demo has its own server: leave out --{name}")
    if data is not None:
        if not os.path.isdir(data):
            raise UsageError(f"there is no folder {data}: name a folder that holds lab folders")
        check_not_inside_lab(Path(data))
        data = resolved(data)
    return DemoOptions(data=data, rate=rate, latency_ms=latency or 0.0)


def _resolve_settings(
    flags: dict[str, str | None], demo: DemoOptions | None
) -> tuple[Settings, str]:
    """Return the settings for a mount, and the name of the database that the settings describe."""
    if demo is None:
        settings = resolve_settings(flags)
        return settings, settings.database_name
    database = demo_identity(Path(demo.data) if demo.data else None)
    cache_dir = flags["cache_dir"] or os.environ.get("ONEFS_CACHE_DIR")
    state_dir = flags["state_dir"] or os.environ.get("ONEFS_STATE_DIR")
    return Settings(
        url="",
        username="",
        profile="",
        cache_dir=_folder_or_default(cache_dir, platformdirs.user_cache_dir("onefs"), database),
        state_dir=_folder_or_default(state_dir, platformdirs.user_state_dir("onefs"), database),
        cache_options=resolve_cache_options(flags, os.environ, {}),
        file_attributes=resolve_file_attributes(flags, os.environ, {}),
    ), database


def _folder_or_default(folder: str | None, parent: str, name: str) -> Path:
    return Path(absolute(folder or os.path.join(parent, name)))
