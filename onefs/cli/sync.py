"""``onefs sync``: fills the catalogue from cache tables, and requests unknown file sizes."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from onefs import public_tables
from onefs.access import Access, Deadlines
from onefs.cache.folder_check import check_usable_as_cache
from onefs.cache.permissions import check_cache_and_state_folders
from onefs.cache_tables.build import BuildResult
from onefs.cache_tables.parquet import check_pyarrow
from onefs.cache_tables.worker import build_in_child
from onefs.catalogue.storage.overlay import OverlayDatabase
from onefs.catalogue.sync import SyncProgress, sync_from_files
from onefs.cli import load_tables
from onefs.cli.open_database import closing_access, log_in
from onefs.cli.options import database_options, folder_options, require_value
from onefs.cli.output import say
from onefs.config.secret import Secret
from onefs.config.settings import Settings
from onefs.databases import ResolvedDatabase, resolve_database
from onefs.errors import NotFound, OnefsError, UsageError
from onefs.lowlevel.progress_display import ProgressDisplay
from onefs.printable import plural

#: the value that ``--sizes`` has if no PATH is given
_ALL_PATHS = "*"


@click.command()
@click.option(
    "--tables",
    type=click.Path(path_type=Path),
    help="Load these tables: sessions.pqt or datasets.pqt, a folder that has both, or cache.zip. "
    "Without this option the server's tables are loaded.",
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
@click.option(
    "--tag",
    metavar="TAG",
    callback=require_value,
    help="Load the tables of this release, beside the database: mounts show it as .tags/TAG.",
)
@database_options
@folder_options
def sync(
    tables: Path | None,
    sizes: str | None,
    tag: str | None,
    **flags: str | None,
) -> None:
    """Fill the catalogue from ONE cache tables, with two requests for a whole database.

    A mount may run meanwhile. The mount shows the new content when the sync is complete. The files
    sessions.pqt and datasets.pqt are written to the cache folder, so that ONE-api can use the cache
    folder and the mount as a cache folder.
    """
    database = resolve_database(flags)
    settings = database.settings
    if not settings.cache_options.trust_cache_dir:
        check_cache_and_state_folders(settings.cache_dir, settings.state_dir)
    check_usable_as_cache(settings.cache_dir, settings.state_dir)
    if tables is not None or sizes is None:
        check_pyarrow()  # before a server is asked; an embedded server needs pyarrow, too
    if tag is not None:
        if tables is not None or sizes is not None:
            raise UsageError(
                "--tag loads the tables of a release alone: leave out the other option"
            )
        load_release(database, tag)
        return
    built = tables is not None and _load_from_files(tables, settings)
    if tables is None or sizes is not None:
        token = partial(log_in, needs_server=True) if tables is None else None
        with closing_access(_open(database, token)) as access:
            if tables is None:
                built = _load_from_server(access, needed=sizes is None)
            if sizes is not None:
                _fetch_sizes(access, database, sizes, built=built)
                return
    _publish_tables(database, overwrite=built)


def _open(database: ResolvedDatabase, token: Callable[[Settings], Secret] | None) -> Access:
    """Open the database, without loading the tables of a public one: the caller does that."""
    if database.settings.public:
        return Access(database.settings, database.database, deadlines=Deadlines.from_environment())
    return database.open(token=token)


def load_release(database: ResolvedDatabase, tag: str) -> None:
    """Load the tables of a release, and print what was loaded.

    Raises NotFound if there is no such release.
    """
    from onefs import releases

    began = time.monotonic()
    token = partial(log_in, needs_server=True)
    with closing_access(_open(database, token)) as access, ProgressDisplay() as progress:
        built = releases.load(access, tag, _TerminalReports(progress))
    if built is None:
        say(f"The release {tag} is loaded already.")
    else:
        _report_loaded(built, began)


def _load_from_files(tables: Path, settings: Settings) -> bool:
    """Load cache tables from files into the catalogue.

    Always return True, because the loaded tables replace the tables that were loaded before.
    """
    began = time.monotonic()
    with ProgressDisplay() as progress:
        built = sync_from_files(
            tables, settings.state_dir, _TerminalReports(progress), build_in_child
        )
    # create the file, because a running mount checks whether it exists
    OverlayDatabase(settings.state_dir / "catalogue.sqlite").close()
    _report_loaded(built, began)
    return True


def _load_from_server(access: Access, *, needed: bool) -> bool:
    """Load the server's cache tables. Return True if the catalogue did not have them yet.

    If the server has no tables, return False. If ``needed`` is true, raise NotFound instead.
    """
    began = time.monotonic()
    try:
        with ProgressDisplay() as progress:
            reports = _TerminalReports(progress)
            if access.settings.public:
                built = public_tables.load_tables(access, reports)
            else:
                built = load_tables.load_from_server(access, partial(_warn, progress), reports)
    except NotFound as error:
        if needed:
            raise
        say(f"{error}; onefs continues with the catalogue", err=True)
        return False
    if built is None:
        say("The server has no newer tables.")
    else:
        _report_loaded(built, began)
    return built is not None


def _warn(progress: ProgressDisplay, text: str) -> None:
    with progress.erased():
        say(f"onefs: {text}", err=True)


def _publish_tables(database: ResolvedDatabase, *, overwrite: bool) -> None:
    """Write the tables in ONE's format to the cache folder, for ONE-api.

    Tables that onefs did not write are never replaced. The same tables are written again only if
    ``overwrite`` is true.
    """
    settings = database.settings
    try:
        done = load_tables.publish(
            settings.state_dir, settings.cache_dir, database.database, overwrite=overwrite
        )
    except UsageError as error:
        say(f"onefs: the tables for ONE-api cannot be written: {error}", err=True)
        return
    if done is not None:
        say(f"ONE-api finds the tables in {settings.cache_dir}, and in a mount.")


def _fetch_sizes(access: Access, database: ResolvedDatabase, path: str, *, built: bool) -> None:
    """Request the unknown sizes below a path. Then write ONE's tables with these sizes.

    ``built`` is true if this command has loaded cache tables. Raises OnefsError if a size could not
    be fetched.
    """
    from onefs.cli import sizes

    try:
        below = "" if path == _ALL_PATHS else sizes.path_in_tree(path, database.settings)
        with ProgressDisplay() as progress:
            outcome = sizes.fetch_sizes(access.catalogue, access.content, below, progress)
    except OnefsError:
        _publish_tables(database, overwrite=built)
        raise
    _publish_tables(database, overwrite=built or outcome.known > 0)
    known = f"{outcome.known:,} {plural(outcome.known, 'size')}"
    say(f"{known} {'was' if outcome.known == 1 else 'were'} fetched from the file servers.")
    if outcome.failures:
        failed = f"{outcome.failed:,} {plural(outcome.failed, 'size')}"
        raise OnefsError(f"{failed} could not be fetched, the first error: {outcome.failures[0]}")


def _report_loaded(built: BuildResult, began: float) -> None:
    seconds = time.monotonic() - began
    sessions = f"{built.sessions:,} {plural(built.sessions, 'session')}"
    datasets = f"{built.datasets:,} {plural(built.datasets, 'dataset')}"
    say(f"{sessions} and {datasets} as of {built.date_created}, loaded in {seconds:.1f} s.")


class _TerminalReports(SyncProgress):
    """Shows the progress of a sync in a progress display."""

    def __init__(self, progress: ProgressDisplay) -> None:
        self._progress = progress

    def report_bytes(self, done: int, total: int) -> None:
        self._progress.show("downloading", done / 1e6, total / 1e6, "MB")

    def report_rows(self, done: int, total: int) -> None:
        self._progress.show("loading", done, total, "datasets")
