"""The Alyx client, with the embedded laboratory and with answers that a test sets."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from werkzeug import Request

from onefs.alyx.client import AlyxClient
from onefs.alyx.tokens import FixedToken
from onefs.demo.servers import Servers
from onefs.errors import AlyxCredentials, NotFound, ServerError, Throttled
from onefs.http import Transport
from tests.alyx.conftest import WrittenAlyx

TUTORIAL = "cf264653-2deb-44cb-aa84-89b82507028a"


def client(written: WrittenAlyx, transport: Transport) -> AlyxClient:
    return AlyxClient(transport, written.url, FixedToken("t" * 40), deadline=5.0)


def page(rows: list[Any], count: int | None = None) -> dict[str, Any]:
    return {"count": len(rows) if count is None else count, "next": None, "results": rows}


def names(count: int) -> list[dict[str, str]]:
    return [{"name": f"lab{number:04d}"} for number in range(count)]


def test_the_embedded_laboratory_answers(alyx: AlyxClient, servers: Servers) -> None:
    assert {"mainenlab", "zadorlab"} <= set(alyx.labs())
    assert "clns0730" in alyx.subjects("mainenlab")
    [(session, numbered)] = alyx.sessions("mainenlab", "clns0730")
    assert (session.eid, session.date, session.number, numbered) == (
        TUTORIAL,
        "2018-08-24",
        1,
        True,
    )
    assert alyx.session(TUTORIAL)[0] == session
    assert alyx.sessions_by_ref("clns0730", "2018-08-24", 1) == [(session, True)]
    rows = alyx.datasets(TUTORIAL)
    spikes = next(row for row in rows if row.dataset.name == "spikes.times.npy")
    assert spikes.dataset.size
    assert len(spikes.dataset.md5) == 32
    assert alyx.session_record(TUTORIAL)["subject"] == "clns0730"
    repositories = {found.name: found for found in alyx.repositories()}
    assert repositories["flatiron_mainenlab"].data_url.startswith(servers.data_url)
    assert all(request.method == "GET" for request in servers.requests)


def test_an_unknown_session_or_dataset_is_not_found(alyx: AlyxClient) -> None:
    unknown = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
    with pytest.raises(NotFound, match=unknown):
        alyx.session(unknown)
    with pytest.raises(NotFound):
        alyx.session_record(unknown)
    with pytest.raises(NotFound):  # Alyx answers 400, as in datasets/session_unknown.json
        alyx.datasets(unknown)
    assert alyx.subjects("nolab") == []
    assert alyx.sessions_by_ref("clns0730", "2018-08-25", 1) == []


def test_newer_sessions_are_those_that_were_registered_or_changed_since(
    alyx: AlyxClient,
) -> None:
    """The date of a session does not matter: a session is registered a day after its date."""
    known = alyx.sessions_of_lab("mainenlab")
    last = datetime.fromisoformat(max(session.date for session, _ in known))
    found = alyx.sessions_since("mainenlab", last)
    assert 0 < len(found) < len(known)
    assert all(
        last - datetime.fromisoformat(session.date) <= timedelta(days=1) for session, _ in found
    )
    assert alyx.sessions_since("mainenlab", datetime(2100, 1, 1)) == []
    assert len(alyx.sessions_since("mainenlab", datetime(1900, 1, 1))) == len(known)


def test_newer_sessions_of_an_alyx_without_the_lookup(
    written: WrittenAlyx, transport: Transport
) -> None:
    """If Alyx answers 500 to the query by time, all sessions of the lab are requested."""
    row = {
        "id": "0b1c7a5e-52a4-4a51-9d0e-6f1f7b0c2d01",
        "lab": "labone",
        "subject": "mouse",
        "number": 1,
        "start_time": "2019-03-04T11:22:33",
    }

    def sessions(request: Request) -> tuple[int, Any]:
        if "django" in request.args:
            return 500, {"detail": "Cannot resolve keyword 'auto_datetime'", "status_code": 500}
        return 200, page([row])

    written.answers["/sessions"] = sessions
    written.answer("/labs", 200, page([{"name": "labone"}]))
    found = client(written, transport).sessions_since("labone", datetime(2022, 1, 1))
    assert [session.date for session, _ in found] == ["2019-03-04"]


def test_names_are_compared_with_case(alyx: AlyxClient) -> None:
    """Alyx ignores case in names, so that onefs removes other subjects from the answer."""
    assert alyx.sessions("mainenlab", "CLNS0730") == []


def test_offsets_count_the_rows_received(written: WrittenAlyx, transport: Transport) -> None:
    """The server caps pages at 100 rows for any limit, and the URL in its ``next`` is invalid."""
    rows = names(250)

    def labs(request: Request) -> tuple[int, Any]:
        offset = int(request.args.get("offset", "0"))
        found = page(rows[offset : offset + 100], len(rows))
        return 200, {**found, "next": "http://nowhere.invalid/labs?limit=5"}

    written.answers["/labs"] = labs
    assert client(written, transport).labs() == [row["name"] for row in rows]
    assert len(written.paths) == 3


def test_lost_rows_are_requested_again(written: WrittenAlyx, transport: Transport) -> None:
    """Pages without order repeat and lose rows, although ``count`` is right."""
    rows = names(30)

    def labs(request: Request) -> tuple[int, Any]:
        offset, limit = int(request.args.get("offset", "0")), int(request.args["limit"])
        # each walk gets the rows in another order, in pages of 10 rows
        turn = limit * 11 % 30
        turned = rows[turn:] + rows[:turn]
        start = offset - 5 if offset == 10 else offset
        return 200, page(turned[start : start + 10], 30)

    written.answers["/labs"] = labs
    assert sorted(client(written, transport).labs()) == [row["name"] for row in rows]


def test_rows_that_stay_missing_are_an_error(written: WrittenAlyx, transport: Transport) -> None:
    written.answers["/labs"] = lambda request: (
        200,
        page([] if request.args.get("offset") else names(3), 5),
    )
    with pytest.raises(ServerError, match="3 of 5 rows"):
        client(written, transport).labs()


def test_rows_doubled_by_a_join_count_once(written: WrittenAlyx, transport: Transport) -> None:
    written.answer("/labs", 200, page([*names(3), *names(3)], 6))
    assert client(written, transport).labs() == ["lab0000", "lab0001", "lab0002"]
    assert len(written.paths) == 1


def test_the_first_of_repeated_rows_cost_few_pages(
    written: WrittenAlyx, transport: Transport
) -> None:
    """The server repeats a session for each of its datasets, and ignores ``django=``."""
    rows = [{"id": f"00000000-0000-4000-8000-{n // 50:012d}"} for n in range(1500)]

    def sessions(request: Request) -> tuple[int, Any]:
        offset, limit = int(request.args.get("offset", "0")), int(request.args["limit"])
        return 200, page(rows[offset : offset + limit], len(rows))

    written.answers["/sessions"] = sessions
    found = client(written, transport).select_sessions({"dataset_qc_lte": "PASS"}, 10)
    assert [row["id"] for row in found] == [row["id"] for row in rows[:500:50]]
    assert len(written.paths) == 2


def test_a_bare_list_is_accepted(written: WrittenAlyx, transport: Transport) -> None:
    written.answer("/labs", 200, names(2))
    assert client(written, transport).labs() == ["lab0000", "lab0001"]


@pytest.mark.parametrize("body", [{"detail": "x"}, {"count": 3, "results": [1, 2, 3]}, "null"])
def test_an_answer_without_a_list_is_an_error(
    written: WrittenAlyx, transport: Transport, body: Any
) -> None:
    written.answer("/labs", 200, body)
    with pytest.raises(ServerError):
        client(written, transport).labs()


@pytest.mark.parametrize(
    ("detail", "advice"),
    [
        ("Invalid token.", True),
        ("Authentication credentials were not provided.", True),
        ("You do not have permission to perform this action.", False),
    ],
)
def test_403_is_classified_by_its_detail(
    written: WrittenAlyx, transport: Transport, detail: str, advice: bool
) -> None:
    written.answer("/labs", 403, {"detail": detail, "status_code": 403})
    with pytest.raises(AlyxCredentials) as caught:
        client(written, transport).labs()
    assert detail in str(caught.value)
    assert ("onefs login" in str(caught.value)) is advice


def test_a_500_with_detail_is_not_retried(written: WrittenAlyx, transport: Transport) -> None:
    written.answer("/labs", 200, page(names(1)))
    written.answer("/sessions", 500, {"status_code": 500, "detail": "division by zero"})
    with pytest.raises(ServerError, match="division by zero"):
        client(written, transport).select_sessions({"performance_gte": "50"})
    # the query is sent once; then the simplest query shows whether the database is unavailable
    assert [path.partition("?")[0] for path in written.paths] == ["/sessions", "/labs"]


def test_throttling_is_its_own_error(written: WrittenAlyx, transport: Transport) -> None:
    written.answer("/labs", 429, {"detail": "Expected available in 49 seconds."})
    with pytest.raises(Throttled):
        client(written, transport).labs()


def test_a_renewed_token_is_used(written: WrittenAlyx, transport: Transport) -> None:
    def labs(request: Request) -> tuple[int, Any]:
        if request.headers["Authorization"] == "Token new":
            return 200, page(names(1))
        return 403, {"detail": "Invalid token."}

    class Renewing:
        def current_token(self) -> str:
            return "old"

        def renew(self, refused: str) -> str | None:
            return "new" if refused == "old" else None

    written.answers["/labs"] = labs
    assert AlyxClient(transport, written.url, Renewing()).labs() == ["lab0000"]
