"""``onefs sync``: the catalogue filled in bulk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from onefs.access import Access, Deadlines, GivenLogin
from onefs.adoption import check_may_cache
from onefs.cli import one_tables
from onefs.cli.meter import Meter
from onefs.cli.opening import using
from onefs.cli.options import (
    ask_secret,
    at_terminal,
    database_options,
    folder_options,
    named,
    say,
)
from onefs.errors import NotFound, OnefsError, UsageError
from onefs.metadata.tabled import TabledDatabase
from onefs.metadata.tables_build import Built
from onefs.metadata.tables_child import build_apart
from onefs.metadata.tables_format import check_pyarrow
from onefs.metadata.tables_sync import (
    SYNC_DEADLINE,
    Reports,
    complete,
    from_files,
    from_server,
    learn_types,
)
from onefs.printable import plural
from onefs.settings import Settings
from onefs.sites import Site, decide
from onefs.trust import check_folders

#: what stands for every path of ``--sizes``
_EVERYWHERE = "*"


@click.command()
@click.option(
    "--tables",
    type=click.Path(path_type=Path),
    help="Take these tables: a folder with sessions.pqt and datasets.pqt, one of them, or "
    "cache.zip. Without it the server's are taken.",
)
@click.option(
    "--sizes",
    metavar="[PATH]",
    is_flag=False,
    flag_value=_EVERYWHERE,
    callback=named,
    help="Also ask the file servers for the sizes that the database lacks, below PATH "
    "(lab/subject/..., or a path in a mount) or everywhere.",
)
@database_options
@folder_options
def sync(
    tables: Path | None,
    sizes: str | None,
    **flags: str | None,
) -> None:
    """Fill the catalogue from ONE cache tables: two requests for a whole database.

    A mount may run meanwhile, and shows what is new once it is all there. The cache folder gets
    sessions.pqt and datasets.pqt, with which it, and the mount, are a cache folder for ONE-api.
    """
    site = decide(flags)
    settings = site.settings
    if not settings.storing.trust_cache_dir:
        check_folders(settings.cache_dir, settings.state_dir)
    check_may_cache(settings.cache_dir, settings.state_dir)
    if tables is not None or sizes is None:
        check_pyarrow()  # before a server is asked: an embedded one has no tables without it, too
    built = tables is not None and _load_files(tables, settings)
    if tables is None or sizes is not None:
        with _opened(site, log_in=tables is None) as access:
            if tables is None:
                built = _load_server(access, settings, needed=sizes is None)
            if sizes is not None:
                _ask_sizes(access, site, sizes, built=built)
                return
    _put_tables(site, anew=built)


def _load_files(tables: Path, settings: Settings) -> bool:
    """True: they are new."""
    began = time.monotonic()
    with Meter() as meter:
        built = from_files(tables, settings.state_dir, _Shown(meter), build_apart)
    TabledDatabase(settings.state_dir / "catalogue.sqlite").close()  # what a mount looks for
    _say(built, began)
    return True


def _load_server(access: Access, settings: Settings, *, needed: bool) -> bool:
    """Take the server's tables, and tell whether they are new; that it has none is an error only
    where they are ``needed``."""
    began = time.monotonic()
    alyx = access.alyx.modest(deadline=SYNC_DEADLINE)
    try:
        with Meter() as meter:
            built = from_server(alyx, settings.state_dir, _Shown(meter), build_apart)
    except NotFound as error:
        if needed:
            raise
        say(f"{error}; going on with what is known", err=True)
        return False
    trouble = complete(alyx, access.database)
    if trouble is not None:
        say(f"onefs: labs and subjects are asked for when needed: {trouble}", err=True)
    trouble = learn_types(alyx, access.database)
    if trouble is not None:
        say(f"onefs: offline, types are what was known of names of files: {trouble}", err=True)
    if built is None:
        say("The tables that are there are the server's newest.")
    else:
        _say(built, began)
    return built is not None


def _put_tables(site: Site, *, anew: bool) -> None:
    """ONE's own tables. That the folder has somebody else's is told, and is no failure."""
    settings = site.settings
    try:
        done = one_tables.put(settings.state_dir, settings.cache_dir, site.database, anew=anew)
    except UsageError as error:
        say(f"onefs: no tables for ONE-api: {error}", err=True)
        return
    if done is not None:
        say(f"ONE-api finds them in {settings.cache_dir}, and in a mount.")


def _ask_sizes(access: Access, site: Site, path: str, *, built: bool) -> None:
    """Ask for sizes, and then write ONE's tables, once, with all that is known."""
    from onefs.cli import sizes

    try:
        wanted = "" if path == _EVERYWHERE else sizes.inside_mount(path, site.settings)
        with Meter() as meter:
            outcome = sizes.ask(access.catalogue, access.content, wanted, meter)
    except OnefsError:
        _put_tables(site, anew=built)
        raise
    _put_tables(site, anew=built or outcome.known > 0)
    known = f"{outcome.known:,} {plural(outcome.known, 'size')}"
    say(
        f"{known} {'was' if outcome.known == 1 else 'were'} asked for and "
        f"{'is' if outcome.known == 1 else 'are'} known now."
    )
    if outcome.failures:
        failed = f"{outcome.failed:,} {plural(outcome.failed, 'size')}"
        raise OnefsError(f"{failed} could not be had, the first: {outcome.failures[0]}")


def _say(built: Built, began: float) -> None:
    seconds = time.monotonic() - began
    sessions = f"{built.sessions:,} {plural(built.sessions, 'session')}"
    datasets = f"{built.datasets:,} {plural(built.datasets, 'dataset')}"
    say(f"{sessions} and {datasets} as of {built.date_created}, loaded in {seconds:.1f} s.")


class _Shown(Reports):
    """The reports on a terminal."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def bytes(self, done: int, total: int) -> None:
        self._meter.show("downloading", done / 1e6, total / 1e6, "MB")

    def rows(self, done: int, total: int) -> None:
        self._meter.show("loading", done, total, "datasets")


@contextmanager
def _opened(site: Site, *, log_in: bool) -> Iterator[Access]:
    """The laboratory, with a token where one is needed."""
    from onefs.credentials import CredentialStore
    from onefs.http import Transport
    from onefs.metadata import auth

    limits = Deadlines.of_environment()
    settings, login = site.settings, None
    if (known := site.embedded()) is not None:
        settings, login = known
    elif log_in:
        ask, store = ask_secret if at_terminal() else None, CredentialStore()
        with Transport() as transport:
            token = auth.log_in(transport, settings, store, ask=ask, deadline=limits.metadata)
        if left := auth.unsaved(settings, store, token):
            login = GivenLogin(token=left)
    with using(Access(settings, site.database, login=login, deadlines=limits)) as access:
        yield access
