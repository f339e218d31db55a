"""Tests that links work at once for sessions that begin while a mount runs."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from onefs.access import Access
from onefs.demo.records import DatasetRecord, SessionRecord
from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from onefs.tree.nodes import NodeKind
from tests.laboratories import AlteredLaboratory, alyx_requests

SUBJECT = "clns0730"
EID = "0d2cf6a1-3b0e-4d2a-9f6b-5a8d1c9e7f10"


class GrowingLaboratory(AlteredLaboratory):
    """A laboratory to which sessions are added while it is served."""

    def __init__(self, source: SyntheticLaboratory) -> None:
        super().__init__(source)
        self._more: list[SessionRecord] = []
        self._sessions = tuple(source.sessions())

    def add(self, subject: str) -> SessionRecord:
        """Add a session to the tutorial's lab, and return it."""
        like = next(each for each in self._source.sessions() if each.subject == SUBJECT)
        new = replace(like, eid=EID, subject=subject, start_time="2026-11-25T10:00:00", number=7)
        self._more = [new]
        self._sessions = (*self._source.sessions(), new)
        return new

    def reset(self) -> None:
        """Remove the added sessions."""
        self._more, self._sessions = [], tuple(self._source.sessions())

    def sessions(self) -> Sequence[SessionRecord]:
        """See :class:`onefs.demo.records.Source`."""
        return self._sessions

    def datasets(self, eid: str) -> Sequence[DatasetRecord]:
        """See :class:`onefs.demo.records.Source`."""
        return () if eid == EID else self._source.datasets(eid)

    def tables(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """See :class:`onefs.demo.records.Source`."""
        tables = dict(self._source.tables())
        known = {row["nickname"] for row in tables["subjects"]}
        [like] = [row for row in tables["subjects"] if row["nickname"] == SUBJECT]
        new = [each.subject for each in self._more if each.subject not in known]
        tables["subjects"] = [*tables["subjects"], *({**like, "nickname": name} for name in new)]
        return tables


@pytest.fixture(scope="module")
def laboratory() -> GrowingLaboratory:
    return GrowingLaboratory(SyntheticLaboratory())


@pytest.fixture(scope="module")
def servers(laboratory: GrowingLaboratory) -> Iterator[Servers]:
    with Servers(laboratory) as running:
        yield running


@pytest.fixture(autouse=True)
def _as_it_was(laboratory: GrowingLaboratory) -> None:
    laboratory.reset()


@pytest.mark.parametrize("subject", [SUBJECT, "newcomer"])
@pytest.mark.parametrize(
    "way", [".by-eid/{eid}", ".by-ref/{ref}", ".search/subject={subject}&number=7/{ref}"]
)
def test_a_link_to_a_new_session_leads_to_it(
    access: Access, servers: Servers, laboratory: GrowingLaboratory, subject: str, way: str
) -> None:
    """The link works even if the subject was listed just before the session was added."""
    for path in ("/", "/mainenlab", f"/mainenlab/{SUBJECT}"):
        access.tree.children(path)
    laboratory.add(subject)
    ref = f"2026-11-25_7_{subject}"
    link = "/" + way.format(eid=EID, ref=ref, subject=subject)
    servers.clear_requests()
    there = posixpath.normpath(posixpath.join(posixpath.dirname(link), access.tree.target(link)))
    assert there == f"/mainenlab/{subject}/2026-11-25/007"
    assert access.tree.node(there).kind is NodeKind.DIRECTORY
    assert access.tree.xattrs(there)["user.onefs.eid"] == EID
    assert subject in [name for name, _ in access.tree.children("/mainenlab")]
    # that of the session, and of a subject whose sessions were never listed
    assert len(alyx_requests(servers)) == (1 if subject == SUBJECT else 2)
