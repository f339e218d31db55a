"""``onefs sync``: the catalogue filled in bulk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from onefs.access import Access, Deadlines, GivenLogin
from onefs.cache.folder_check import check_usable_as_cache
from onefs.cache.permissions import check_cache_and_state_folders
from onefs.cache_tables.build import BuildResult
from onefs.cache_tables.parquet import check_pyarrow
from onefs.cache_tables.worker import build_in_child
from onefs.catalogue.storage.overlay import OverlayDatabase
from onefs.catalogue.sync import (
    SYNC_DEADLINE_SECONDS,
    SyncProgress,
    fetch_dataset_types,
    fetch_labs_and_subjects,
    sync_from_files,
    sync_from_server,
)
from onefs.cli import publish_tables
from onefs.cli.options import (
    can_prompt,
    database_options,
    folder_options,
    prompt_secret,
    require_value,
    say,
)
from onefs.cli.progress_line import ProgressLine
from onefs.cli.targets import closing_access
from onefs.config.settings import Settings
from onefs.databases import ResolvedDatabase, resolve_database
from onefs.errors import NotFound, OnefsError, UsageError
from onefs.printable import plural

#: what stands for every path of ``--sizes``
_ALL_PATHS = "*"


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
    flag_value=_ALL_PATHS,
    callback=require_value,
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
    site = resolve_database(flags)
    settings = site.settings
    if not settings.cache_options.trust_cache_dir:
        check_cache_and_state_folders(settings.cache_dir, settings.state_dir)
    check_usable_as_cache(settings.cache_dir, settings.state_dir)
    if tables is not None or sizes is None:
        check_pyarrow()  # before a server is asked: an embedded one has no tables without it, too
    built = tables is not None and _load_from_files(tables, settings)
    if tables is None or sizes is not None:
        with _open_access(site, log_in=tables is None) as access:
            if tables is None:
                built = _load_from_server(access, settings, needed=sizes is None)
            if sizes is not None:
                _fetch_sizes(access, site, sizes, built=built)
                return
    _publish_tables(site, overwrite=built)


def _load_from_files(tables: Path, settings: Settings) -> bool:
    """True: they are new."""
    began = time.monotonic()
    with ProgressLine() as meter:
        built = sync_from_files(tables, settings.state_dir, _TerminalReports(meter), build_in_child)
    OverlayDatabase(settings.state_dir / "catalogue.sqlite").close()  # what a mount looks for
    _report_loaded(built, began)
    return True


def _load_from_server(access: Access, settings: Settings, *, needed: bool) -> bool:
    """Take the server's tables, and tell whether they are new; that it has none is an error only
    where they are ``needed``."""
    began = time.monotonic()
    alyx = access.alyx.low_priority(deadline=SYNC_DEADLINE_SECONDS)
    try:
        with ProgressLine() as meter:
            built = sync_from_server(
                alyx, settings.state_dir, _TerminalReports(meter), build_in_child
            )
    except NotFound as error:
        if needed:
            raise
        say(f"{error}; going on with what is known", err=True)
        return False
    trouble = fetch_labs_and_subjects(alyx, access.database)
    if trouble is not None:
        say(f"onefs: labs and subjects are asked for when needed: {trouble}", err=True)
    trouble = fetch_dataset_types(alyx, access.database)
    if trouble is not None:
        say(f"onefs: offline, types are what was known of names of files: {trouble}", err=True)
    if built is None:
        say("The tables that are there are the server's newest.")
    else:
        _report_loaded(built, began)
    return built is not None


def _publish_tables(site: ResolvedDatabase, *, overwrite: bool) -> None:
    """ONE's own tables. That the folder has somebody else's is told, and is no failure."""
    settings = site.settings
    try:
        done = publish_tables.publish(
            settings.state_dir, settings.cache_dir, site.database, overwrite=overwrite
        )
    except UsageError as error:
        say(f"onefs: no tables for ONE-api: {error}", err=True)
        return
    if done is not None:
        say(f"ONE-api finds them in {settings.cache_dir}, and in a mount.")


def _fetch_sizes(access: Access, site: ResolvedDatabase, path: str, *, built: bool) -> None:
    """Ask for sizes, and then write ONE's tables, once, with all that is known."""
    from onefs.cli import sizes

    try:
        wanted = "" if path == _ALL_PATHS else sizes.path_in_tree(path, site.settings)
        with ProgressLine() as meter:
            outcome = sizes.fetch_sizes(access.catalogue, access.content, wanted, meter)
    except OnefsError:
        _publish_tables(site, overwrite=built)
        raise
    _publish_tables(site, overwrite=built or outcome.known > 0)
    known = f"{outcome.known:,} {plural(outcome.known, 'size')}"
    say(
        f"{known} {'was' if outcome.known == 1 else 'were'} asked for and "
        f"{'is' if outcome.known == 1 else 'are'} known now."
    )
    if outcome.failures:
        failed = f"{outcome.failed:,} {plural(outcome.failed, 'size')}"
        raise OnefsError(f"{failed} could not be had, the first: {outcome.failures[0]}")


def _report_loaded(built: BuildResult, began: float) -> None:
    seconds = time.monotonic() - began
    sessions = f"{built.sessions:,} {plural(built.sessions, 'session')}"
    datasets = f"{built.datasets:,} {plural(built.datasets, 'dataset')}"
    say(f"{sessions} and {datasets} as of {built.date_created}, loaded in {seconds:.1f} s.")


class _TerminalReports(SyncProgress):
    """The reports on a terminal."""

    def __init__(self, meter: ProgressLine) -> None:
        self._line = meter

    def report_bytes(self, done: int, total: int) -> None:
        self._line.show("downloading", done / 1e6, total / 1e6, "MB")

    def report_rows(self, done: int, total: int) -> None:
        self._line.show("loading", done, total, "datasets")


@contextmanager
def _open_access(site: ResolvedDatabase, *, log_in: bool) -> Iterator[Access]:
    """The laboratory, with a token where one is needed."""
    from onefs.alyx import auth
    from onefs.config.credentials import CredentialStore
    from onefs.http import Transport

    limits = Deadlines.from_environment()
    settings, login = site.settings, None
    if (known := site.embedded_login()) is not None:
        settings, login = known
    elif log_in:
        ask, store = prompt_secret if can_prompt() else None, CredentialStore()
        with Transport() as transport:
            token = auth.log_in(transport, settings, store, ask=ask, deadline=limits.metadata)
        if left := auth.unsaved_token(settings, store, token):
            login = GivenLogin(token=left)
    with closing_access(Access(settings, site.database, login=login, deadlines=limits)) as access:
        yield access
