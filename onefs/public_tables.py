"""Loading of the cache tables of a public database: they are its catalogue, since it has no Alyx.

A command loads them once, and a mount in the background, again each day if the bucket has newer
ones.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec

from onefs.access import Access
from onefs.cache_tables.build import BuildResult
from onefs.cache_tables.parquet import check_pyarrow
from onefs.cache_tables.worker import build_in_child
from onefs.catalogue.sync import SyncProgress, sync_from_server
from onefs.errors import Busy, OnefsError, Stopping, Unreachable, UsageError

log = logging.getLogger(__name__)

#: seconds between two requests of a mount whether the bucket has newer tables
CHECK_INTERVAL_SECONDS = 86400.0
#: seconds after which a mount tries again: without any tables, and with older ones. Each attempt
#: that has downloaded the archive in vain doubles them, at most to the interval above
RETRY_SECONDS, RETRY_WITH_TABLES_SECONDS = 10.0, 600.0
#: the longest time in seconds that a command waits for tables that another process loads
OTHERS_TIMEOUT_SECONDS = 600.0
#: seconds between two looks whether another process has loaded the tables
_POLL_SECONDS = 0.3
#: the longest time in seconds that the end of a mount waits for the thread
_CLOSE_WAIT_SECONDS = 2.0


def load_tables(access: Access, progress: SyncProgress | None = None) -> BuildResult | None:
    """Load the tables of a public database. Return None if the same tables are already loaded.

    Raises what :func:`onefs.catalogue.sync.sync_from_server` raises, and UsageError if pyarrow is
    not installed.
    """
    if find_spec("pyarrow") is None:  # before anything is downloaded
        check_pyarrow()
    database = access.database  # raises UsageError for the state folder of another database
    server, state_dir = access.without_alyx.tables_server(), access.settings.state_dir
    built = sync_from_server(server, state_dir, progress, build_in_child, sessions_first=True)
    database.tables.check_file_at_next_use()
    return built


def has_tables(access: Access) -> bool:
    """Whether all tables are loaded, and not only the sessions."""
    access.database.tables.check_file_at_next_use()
    return access.database.has_complete_tables()


def ensure_tables(access: Access) -> None:
    """Load the tables if they have never been loaded, or wait while another process does.

    Raises what :func:`load_tables` raises.
    """
    if has_tables(access):
        return
    log.warning("the list of the public database is loaded now, once, for all later commands")
    end = time.monotonic() + OTHERS_TIMEOUT_SECONDS
    while True:
        try:
            load_tables(access)
            return
        except Busy:
            if _wait_for_tables(lambda: has_tables(access), threading.Event()):
                return
            if time.monotonic() > end:
                raise


def _wait_for_tables(has_tables: Callable[[], bool], stop: threading.Event) -> bool:
    """Return whether another process has loaded the tables, within :data:`RETRY_SECONDS`.

    No request is sent meanwhile. Also returns when ``stop`` is set.
    """
    end = time.monotonic() + RETRY_SECONDS
    while not has_tables():
        if time.monotonic() > end or stop.wait(_POLL_SECONDS):
            return False
    return True


class TablesInBackground(SyncProgress):
    """Loads the tables of a mount in the background, at once and then once a day.

    ``publish`` is called after new tables are loaded.
    """

    def __init__(self, access: Access, publish: Callable[[], None]) -> None:
        self._access = access
        self._publish = publish
        self._stop = threading.Event()
        #: set when the first attempt has ended, well or not
        self._first_ended = threading.Event()
        self._error: OnefsError | None = None
        #: whether this attempt has downloaded bytes of the archive, and how many have in vain
        self._has_downloaded, self._wasted_attempts = False, 0
        self._thread = threading.Thread(target=self._run, name="onefs-tables", daemon=True)

    def start(self, wait: float) -> None:
        """Start, and wait at most ``wait`` seconds for the tables, if there are none yet.

        Raises the error of the first attempt if it has failed and there are no tables.
        """
        is_needed = not has_tables(self._access)
        if is_needed:
            check_pyarrow()
            self._access.without_alyx.loading = "it is being loaded"
        self._thread.start()
        if is_needed and self._first_ended.wait(wait) and self._error is not None:
            self.close()
            raise Unreachable(
                f"the list of the public database cannot be loaded: {self._error}"
            ) from self._error

    def close(self) -> None:
        """Load nothing more."""
        self._stop.set()
        self._thread.join(_CLOSE_WAIT_SECONDS)

    def report_bytes(self, done: int, total: int) -> None:
        self._has_downloaded = True

    def report_rows(self, done: int, total: int) -> None:
        if self._access.without_alyx.loading:
            self._access.without_alyx.loading = (
                f"it is being loaded: {done:,} of {total:,} datasets"
            )

    def _run(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            pause = CHECK_INTERVAL_SECONDS
            self._has_downloaded = False
            try:
                built = load_tables(self._access, self)
            except Stopping:
                return
            except Busy:  # another process loads the same tables
                pause = self._wait_for_others()
                continue
            except OnefsError as error:
                pause = self._note_failure(error)
                self._first_ended.set()
                continue
            self._access.without_alyx.loading = ""
            self._error, self._wasted_attempts = None, 0
            self._first_ended.set()
            if built is not None:
                log.info("%d sessions and %d datasets loaded", built.sessions, built.datasets)
                self._publish()

    def _wait_for_others(self) -> float:
        """Wait if there are no tables yet. Return the seconds until the next attempt."""
        if not self._has_tables():
            _wait_for_tables(self._has_tables, self._stop)
            return 0.0
        self._access.without_alyx.loading = ""
        self._first_ended.set()
        log.info(
            "another process loads newer tables: they are requested again in %g s",
            RETRY_WITH_TABLES_SECONDS,
        )
        return RETRY_WITH_TABLES_SECONDS

    def _note_failure(self, error: OnefsError) -> float:
        """Return the seconds until the next attempt."""
        self._wasted_attempts += self._has_downloaded
        pause = RETRY_SECONDS
        if self._has_tables():
            pause = RETRY_WITH_TABLES_SECONDS
            self._access.without_alyx.loading = ""
            log.warning("the mount shows the list that it has, because of an error: %s", error)
        else:
            self._error = error
            self._access.without_alyx.loading = f"it cannot be loaded now: {error}"
            log.warning("the list of the public database cannot be loaded: %s", error)
        pause = float(min(pause * 2 ** min(self._wasted_attempts, 20), CHECK_INTERVAL_SECONDS))
        if isinstance(error, UsageError):  # pyarrow is missing
            pause = CHECK_INTERVAL_SECONDS
        log.info("the list of the public database is requested again in %g s", pause)
        return pause

    def _has_tables(self) -> bool:
        try:
            return has_tables(self._access)
        except OnefsError:  # an error of the disk; the next attempt reports it
            return False
