"""A walk over a whole lab, in the order of ``find``: one folder after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from onefs.catalogue.catalogue import Catalogue
from onefs.demo.servers import Servers
from onefs.model import Session


def sessions_of(catalogue: Catalogue, lab: str) -> Iterator[Session]:
    for subject in catalogue.subjects(lab).value:
        yield from catalogue.sessions(lab, subject).value


def walk(catalogue: Catalogue, lab: str) -> dict[str, int]:
    """List all sessions of a lab. Return the number of datasets of each session, by eid."""
    assert lab in catalogue.labs().value
    return {
        session.eid: len(catalogue.datasets(session).value)
        for session in sessions_of(catalogue, lab)
    }


def asked(servers: Servers) -> Counter[str]:
    """Return the number of requests for each list, by the path of the list."""
    return Counter(request.path.partition("?")[0] for request in servers.requests)
