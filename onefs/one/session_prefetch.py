"""Requests for all that Alyx knows about one session, sent at the same time.

A new program that loads from a session needs four listings: the session, the repositories, the
datasets, and the subject's sessions, which decide the name of the session's folder. One after the
other they would take four times as long; so only the last one waits for another, the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar, cast

from onefs.access import Access
from onefs.catalogue.prefetch.batches import datasets_key, sessions_key
from onefs.errors import OnefsError
from onefs.lowlevel.parallel import run_parallel
from onefs.model import Session

T = TypeVar("T")


def prefetch_session(access: Access, eid: str, *, loads: bool) -> None:
    """Request what the catalogue lacks of a session, if its datasets have never been listed.

    ``loads`` is whether files of the session are about to be downloaded: what that needs is made
    ready while Alyx answers.

    Raises the errors of :meth:`Catalogue.any_session`. Other errors are ignored, because the caller
    asks for each listing again.
    """
    catalogue = access.catalogue
    if not catalogue.availability.can_ask() or access.database.fetched_at(datasets_key(eid)):
        return
    prepare = access.prepare_downloads if loads else lambda: None
    ahead = catalogue.request_datasets_ahead(eid)
    others = [catalogue.repositories]
    if ahead is not None:
        session = _first_result(lambda: catalogue.any_session(eid), others, prepare)
        others = []
    else:  # the session is stored: a search has found it, for example
        session = catalogue.any_session(eid)
        if _lacks_datasets_only(access, session):
            return  # there is nothing to request beside what the caller requests
    if session.has_folder:
        siblings = partial(catalogue.sessions, session.lab, session.subject)
        with suppress(OnefsError):
            _first_result(lambda: catalogue.datasets(session, ahead), [siblings, *others])


def _lacks_datasets_only(access: Access, session: Session) -> bool:
    """Whether all that the catalogue lacks of a stored session is its datasets."""
    fetched_at = access.database.fetched_at
    siblings = sessions_key(session.lab, session.subject)
    return bool(fetched_at("repositories") and fetched_at(siblings))


def _first_result(
    wanted: Callable[[], T],
    others: Sequence[Callable[[], object]],
    meanwhile: Callable[[], object] = lambda: None,
) -> T:
    """Make all calls at the same time. Return the result of the first, or raise its error.

    ``meanwhile`` is called in this thread.
    """

    def calls() -> Iterator[Callable[[], Any]]:
        # first, so that their requests are under way while this process reads answers
        yield from others
        yield wanted
        meanwhile()  # all calls have been started

    outcomes = list(run_parallel(lambda call: call(), calls(), len(others) + 1, "onefs-list"))
    return cast("T", next(each for each in outcomes if each.item is wanted).result())
