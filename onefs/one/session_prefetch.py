"""Requests for all that Alyx knows about one session, sent at the same time.

A new program that loads from a session needs four listings: the session, the repositories, the
datasets, and the subject's sessions, which decide the name of the session's folder. One after the
other they would take four times as long.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from threading import Thread
from typing import Any, TypeVar, cast

from onefs.access import Access
from onefs.catalogue.prefetch.batches import datasets_key
from onefs.errors import OnefsError
from onefs.lowlevel.parallel import run_parallel

T = TypeVar("T")


def import_in_background(name: str) -> None:
    """Import a module that is needed soon, while the caller waits for answers of servers.

    Does nothing if the module is loaded. The caller imports it as usual, and so gets its errors.
    """

    def load() -> None:
        with suppress(Exception):
            import_module(name)

    if name not in sys.modules:
        Thread(target=load, name="onefs-import", daemon=True).start()


def prefetch_session(access: Access, eid: str) -> None:
    """Request what the catalogue lacks of a session, if its datasets have never been listed.

    Raises the errors of :meth:`Catalogue.any_session`. Other errors are ignored, because the caller
    asks for each listing again.
    """
    catalogue = access.catalogue
    if not catalogue.availability.can_ask() or access.database.fetched_at(datasets_key(eid)):
        return
    session = _first_result(lambda: catalogue.any_session(eid), catalogue.repositories)
    if session.has_folder:
        with suppress(OnefsError):
            _first_result(
                lambda: catalogue.datasets(session),
                lambda: catalogue.sessions(session.lab, session.subject),
            )


def _first_result(wanted: Callable[[], T], other: Callable[[], object]) -> T:
    """Make both calls at the same time. Return the result of the first, or raise its error."""
    calls: list[Callable[[], Any]] = [wanted, other]
    outcomes = list(run_parallel(lambda call: call(), calls, len(calls), "onefs-list"))
    return cast("T", next(each for each in outcomes if each.item is wanted).result())
