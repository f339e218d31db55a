"""Log-in, opening and closing of the database that a command uses."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from onefs.access import Access, ensure_token
from onefs.cli.prompts import secret_prompt
from onefs.config.secret import Secret
from onefs.config.settings import Settings
from onefs.databases import ResolvedDatabase


def log_in(settings: Settings, *, needs_server: bool = False, check_saved: bool = True) -> Secret:
    """Log in to the database. If a password is needed, ask for it at the terminal.

    Return the token if it could not be saved, otherwise ''. The flags are those of
    :func:`onefs.access.ensure_token`. Raises what this function raises.
    """
    return ensure_token(
        settings, secret_prompt(), needs_server=needs_server, check_saved=check_saved
    )


def open_database(database: ResolvedDatabase, *, offline: bool, check_saved: bool = True) -> Access:
    """Log in to a database and open it.

    If ``offline`` is true, open it without a log-in and without requests. If ``check_saved`` is
    false, a saved token is used without a request, as ``ONE()`` does. Raises what
    :meth:`ResolvedDatabase.open` raises.
    """
    token = partial(log_in, check_saved=check_saved)
    return database.open(token=token, offline=offline)


@contextmanager
def closing_access(access: Access) -> Iterator[Access]:
    """Yield an opened database, and close it at the end of the block.

    Within the block, Ctrl-C ends all waits for a server.
    """

    def interrupted(*_: object) -> None:
        # in a thread, because the main thread may hold a lock that wake_waiters needs
        threading.Thread(target=access.wake_waiters, name="onefs-wake").start()
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, interrupted) if main else None
    try:
        yield access
    finally:
        try:
            access.close()
        finally:
            if main:
                signal.signal(signal.SIGINT, before)
