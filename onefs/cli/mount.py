"""``onefs mount`` and ``onefs umount``."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import click
import platformdirs

from onefs.appearance import appearance
from onefs.cli import embedded
from onefs.cli.embedded import DemoOptions
from onefs.cli.options import (
    appearance_options,
    database_options,
    folder_options,
    named,
    say,
    storing_options,
)
from onefs.demo import check_level, demo_identity
from onefs.errors import UsageError
from onefs.paths import absolute, resolved
from onefs.settings import Settings, resolve
from onefs.storing import storing
from onefs.urls import host_key

#: seconds for a mount to answer: the deadline of its first request, and more
READY_TIMEOUT = 60.0
#: seconds more for loading cache tables, at 50,000 rows a second or better
SYNC_TIMEOUT = 1800.0


def _day(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str:
    """The day of ``--as-of``, '' without one."""
    from onefs.tree.days import is_as_of

    if value is not None and not is_as_of(value):
        raise UsageError(f"--as-of is {ascii(value)[:80]}: give a day, like 2021-07-05")
    return value or ""


def _mountpoint(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Refuse the name of a command as a mount point: `onefs mount help` asks for help."""
    from onefs.cli import COMMANDS

    named(context, parameter, value)
    if value == "help" or (value in COMMANDS and value != "demo"):
        raise UsageError(
            f"{value} is a word of the command line: write ./{value} if a folder of that name is "
            f"meant, or run `onefs mount --help`"
        )
    return value


@click.command()
@click.argument("mountpoint", type=click.Path(), callback=_mountpoint)
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
@storing_options
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
    callback=_day,
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
    from onefs.cli.mounting import Wish, start
    from onefs.cli.opening import log_in
    from onefs.metadata.tables_format import check_pyarrow

    if sync and offline:
        raise UsageError("--sync asks the server, --offline asks none: leave out one of them")
    if sync:
        check_pyarrow()
    options = _demo_options(demo, demo_data, demo_rate, demo_latency, flags)
    settings, database = _settings(flags, options)
    token = log_in(settings) if options is None and not offline else ""
    start(
        Wish(
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
        _timeout(sync=sync, demo=demo),
    )
    if not (offline or foreground):
        _tell_offline(mountpoint, settings)


def _tell_offline(mountpoint: str, settings: Settings) -> None:
    """Say that a mount has been made while its server is away, and how old what it shows is."""
    from onefs.metadata.database import Database
    from onefs.mount.places import resolve as real_path
    from onefs.mount.records import OFFLINE, find

    record = find(real_path(mountpoint))
    if record is None or record.status.state != OFFLINE:
        return
    database = Database(settings.state_dir / "catalogue.sqlite")
    try:
        newest = datetime.fromtimestamp(database.last_fetched()).strftime("%Y-%m-%d %H:%M")
    finally:
        database.close()
    say(
        f"onefs: {record.url} is away: {mountpoint} shows what was known on {newest}, until it "
        "answers again",
        err=True,
    )


@click.command()
@click.argument("mountpoint", type=click.Path(), callback=named)
def umount(mountpoint: str) -> None:
    """Undo the mount at MOUNTPOINT, and wait until it is gone."""
    from onefs.mount.daemon import stop
    from onefs.mount.places import resolve

    path = resolve(mountpoint)
    os.chdir("/")  # so that this process does not keep the mount busy
    stop(path)


def _timeout(*, sync: bool, demo: bool) -> float:
    """Seconds for the mount to answer; one that fails says so at once."""
    more = SYNC_TIMEOUT if sync else 0.0
    return READY_TIMEOUT + more + (embedded.READY_TIMEOUT if demo else 0.0)


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
        check_level(Path(data))
    real = resolved(data) if data is not None else None
    return DemoOptions(data=real, rate=rate, latency_ms=latency or 0.0)


def _settings(flags: dict[str, str | None], demo: DemoOptions | None) -> tuple[Settings, str]:
    """The settings of a mount, and the name of its laboratory."""
    if demo is None:
        settings = resolve(flags)
        return settings, host_key(settings.url)
    database = demo_identity(Path(demo.data) if demo.data else None)
    cache_dir = flags["cache_dir"] or os.environ.get("ONEFS_CACHE_DIR")
    state_dir = flags["state_dir"] or os.environ.get("ONEFS_STATE_DIR")
    return Settings(
        url="",
        username="",
        profile="",
        cache_dir=_folder(cache_dir, platformdirs.user_cache_dir("onefs"), database),
        state_dir=_folder(state_dir, platformdirs.user_state_dir("onefs"), database),
        storing=storing(flags, os.environ, {}),
        appearance=appearance(flags, os.environ, {}),
    ), database


def _folder(given: str | None, parent: str, name: str) -> Path:
    return Path(absolute(given or os.path.join(parent, name)))
