"""``onefs mount`` and ``onefs umount``."""

from __future__ import annotations

import os
from pathlib import Path

import click
import platformdirs

from onefs.cli.embedded import DemoOptions
from onefs.cli.options import ask_secret, at_terminal, database_options, folder_options
from onefs.demo import demo_identity
from onefs.errors import DeadlineExceeded, Throttled, Unreachable, UsageError
from onefs.settings import Settings, resolve
from onefs.urls import host_key

#: seconds for a mount to answer: the deadline of its first request, and the embedded servers
READY_TIMEOUT = 60.0


@click.command()
@click.argument("mountpoint", type=click.Path())
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
    foreground: bool,
    allow_other: bool,
    log_level: str,
    **flags: str | None,
) -> None:
    """Show a database as a directory at MOUNTPOINT, which is made if absent.

    Returns when the mount answers; it then runs in the background until `onefs umount`.
    """
    from onefs.cli.mounting import Wish, start

    options = _demo_options(demo, demo_data, demo_rate, demo_latency, flags)
    settings, database = _settings(flags, options)
    if options is None:
        _log_in(settings)
    start(
        Wish(
            mountpoint,
            settings,
            database,
            options,
            foreground=foreground,
            allow_other=allow_other,
            log_level=log_level.upper(),
        ),
        READY_TIMEOUT,
    )


@click.command()
@click.argument("mountpoint", type=click.Path())
def umount(mountpoint: str) -> None:
    """Undo the mount at MOUNTPOINT, and wait until it is gone."""
    from onefs.mount.daemon import stop

    stop(mountpoint)


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
    real = os.path.realpath(data) if data is not None else None
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
    ), database


def _folder(given: str | None, parent: str, name: str) -> Path:
    return Path(given or os.path.join(parent, name)).expanduser().absolute()


def _log_in(settings: Settings) -> None:
    """Have a token before the daemon starts, asking on the terminal where there is one.

    A server that is away is left to the daemon, which may have enough in its catalogue.
    """
    from onefs.access import Deadlines
    from onefs.credentials import CredentialStore
    from onefs.http import Transport
    from onefs.metadata.auth import log_in

    ask = ask_secret if at_terminal() else None
    deadline = Deadlines.of_environment().metadata
    with Transport() as transport:
        try:
            log_in(transport, settings, CredentialStore(), ask=ask, deadline=deadline)
        except (Unreachable, DeadlineExceeded, Throttled):
            if not (settings.state_dir / "catalogue.sqlite").exists():
                raise
