"""``onefs mount`` and ``onefs umount``."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import click
import platformdirs

from onefs.cli import demo_process
from onefs.cli.demo_process import DemoOptions
from onefs.cli.options import (
    appearance_options,
    database_options,
    folder_options,
    require_value,
    say,
    storage_options,
)
from onefs.config.cache_options import resolve_cache_options
from onefs.config.file_attributes import resolve_file_attributes
from onefs.config.settings import Settings, resolve_settings
from onefs.config.urls import host_key
from onefs.demo import check_not_inside_lab, demo_identity
from onefs.errors import UsageError
from onefs.lowlevel.paths import absolute, resolved

#: seconds for a mount to answer: the deadline of its first request, and more
READY_TIMEOUT_SECONDS = 60.0
#: seconds more for loading cache tables, at 50,000 rows a second or better
SYNC_TIMEOUT_SECONDS = 1800.0


def _check_as_of(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str:
    """The day of ``--as-of``, '' without one."""
    from onefs.tree.as_of import is_as_of_day

    if value is not None and not is_as_of_day(value):
        raise UsageError(f"--as-of is {ascii(value)[:80]}: give a day, like 2021-07-05")
    return value or ""


def _check_mountpoint(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Refuse the name of a command as a mount point: `onefs mount help` asks for help."""
    from onefs.cli import COMMANDS

    require_value(context, parameter, value)
    if value == "help" or (value in COMMANDS and value != "demo"):
        raise UsageError(
            f"{value} is a word of the command line: write ./{value} if a folder of that name is "
            f"meant, or run `onefs mount --help`"
        )
    return value


@click.command()
@click.argument("mountpoint", type=click.Path(), callback=_check_mountpoint)
@click.option("--demo", is_flag=True, help="Mount the embedded laboratory: no account needed.")
@click.option(
    "--demo-data",
    type=click.Path(),
    help="With --demo: serve this ALF folder (lab/Subjects/subject/date/number/...).",
)
@click.option(
    "--demo-rate", type=click.IntRange(min=1), help="With --demo: bytes a second, per connection."
)
@click.option(
    "--demo-latency", type=click.FloatRange(min=0), help="With --demo: milliseconds a request."
)
@database_options
@folder_options
@storage_options
@appearance_options
@click.option(
    "--max-fetch",
    metavar="SIZE/h",
    help="Fetch no more than this in any hour; default: no limit. [ONEFS_MAX_FETCH]",
)
@click.option(
    "--offline", is_flag=True, help="Ask no server: show what is known, read what is cached."
)
@click.option(
    "--sync", is_flag=True, help="First fill the catalogue from the server's cache tables, if any."
)
@click.option(
    "--as-of",
    metavar="DATE",
    callback=_check_as_of,
    help="Show each file as on that day, 2021-07-05: its last revision until then.",
)
@click.option(
    "--flat",
    is_flag=True,
    envvar="ONEFS_FLAT",
    help="Show default datasets in their session's own folder, without collections. [ONEFS_FLAT]",
)
@click.option("--foreground", is_flag=True, help="Stay in the terminal; Ctrl-C unmounts.")
@click.option("--allow-other", is_flag=True, help="Let other users of this machine read it.")
@click.option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    default="INFO",
    show_default=True,
    help="What the log holds.",
)
def mount(
    mountpoint: str,
    demo: bool,
    demo_data: str | None,
    demo_rate: int | None,
    demo_latency: float | None,
    offline: bool,
    sync: bool,
    as_of: str,
    flat: bool,
    foreground: bool,
    allow_other: bool,
    log_level: str,
    **flags: str | None,
) -> None:
    """Show a database as a directory at MOUNTPOINT, which is made if absent.

    Returns when the mount answers; it then runs in the background until `onefs umount`.
    """
    from onefs.cache_tables.parquet import check_pyarrow
    from onefs.cli.start_mount import MountRequest, start
    from onefs.cli.targets import ensure_token

    if sync and offline:
        raise UsageError("--sync asks the server, --offline asks none: leave out one of them")
    if sync:
        check_pyarrow()
    options = _demo_options(demo, demo_data, demo_rate, demo_latency, flags)
    settings, database = _resolve_settings(flags, options)
    token = ensure_token(settings) if options is None and not offline else ""
    start(
        MountRequest(
            mountpoint,
            settings,
            database,
            options,
            foreground=foreground,
            allow_other=allow_other,
            log_level=log_level.upper(),
            offline=offline,
            sync=sync,
            as_of=as_of,
            flat=flat,
            token=token,
        ),
        _ready_timeout(sync=sync, demo=demo),
    )
    if not (offline or foreground):
        _report_offline(mountpoint, settings)


def _report_offline(mountpoint: str, settings: Settings) -> None:
    """Say that a mount has been made while its server is away, and how old what it shows is."""
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
        f"onefs: {record.url} is away: {mountpoint} shows what was known on {newest}, until it "
        "answers again",
        err=True,
    )


@click.command()
@click.argument("mountpoint", type=click.Path(), callback=require_value)
def umount(mountpoint: str) -> None:
    """Undo the mount at MOUNTPOINT, and wait until it is gone."""
    from onefs.mount.daemon import stop
    from onefs.mount.mountpoints import resolve_mountpoint

    path = resolve_mountpoint(mountpoint)
    os.chdir("/")  # so that this process does not keep the mount busy
    stop(path)


def _ready_timeout(*, sync: bool, demo: bool) -> float:
    """Seconds for the mount to answer; one that fails says so at once."""
    more = SYNC_TIMEOUT_SECONDS if sync else 0.0
    return READY_TIMEOUT_SECONDS + more + (demo_process.READY_TIMEOUT_SECONDS if demo else 0.0)


def _demo_options(
    demo: bool,
    data: str | None,
    rate: int | None,
    latency: float | None,
    flags: dict[str, str | None],
) -> DemoOptions | None:
    given = {"--demo-data": data, "--demo-rate": rate, "--demo-latency": latency}
    if not demo:
        for flag, value in given.items():
            if value is not None:
                raise UsageError(f"{flag} goes with --demo")
        return None
    for name in ("url", "username", "profile"):
        if flags[name]:
            raise UsageError(f"--demo has its own server: leave out --{name}")
    if data is not None and not os.path.isdir(data):
        raise UsageError(f"there is no folder {data}: name one that holds lab folders")
    if data is not None:
        check_not_inside_lab(Path(data))
    real = resolved(data) if data is not None else None
    return DemoOptions(data=real, rate=rate, latency_ms=latency or 0.0)


def _resolve_settings(
    flags: dict[str, str | None], demo: DemoOptions | None
) -> tuple[Settings, str]:
    """The settings of a mount, and the name of its laboratory."""
    if demo is None:
        settings = resolve_settings(flags)
        return settings, host_key(settings.url)
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


def _folder_or_default(given: str | None, parent: str, name: str) -> Path:
    return Path(absolute(given or os.path.join(parent, name)))
