"""Quirks of Alyx without another test, and the list of all quirks (tests/data/quirks.tsv).

The server is the embedded server with the recorded rows. ``tests/demo/test_contract.py`` checks
that its answers are as in the recordings. Numbers in brackets are section numbers in quirks.tsv.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from werkzeug import Request

from onefs.alyx.auth import fetch_token
from onefs.alyx.client import AlyxClient
from onefs.alyx.tokens import FixedToken
from onefs.catalogue.catalogue import Catalogue
from onefs.catalogue.storage.database import CatalogueDatabase
from onefs.demo.servers import Servers
from onefs.errors import AlyxCredentials, NotFound, ServerError
from onefs.http import Transport
from tests.alyx.conftest import WrittenAlyx
from tests.alyx.test_auth import replayed
from tests.catalogue.lab_walk import sessions_of, walk
from tests.recorded_laboratory import LOGIN, RecordedSource
from tests.recordings import manifest
from tests.scripted_server import (
    ScriptedConnection,
    ScriptedServer,
    answer,
    answer_json,
)

ROOT = Path(__file__).parents[2]
LIST = ROOT / "tests" / "data" / "quirks.tsv"
#: paths of all requests that onefs sends, including its only POST
READ = re.compile(
    r"/(labs|subjects|sessions|sessions/[0-9a-f-]{36}|datasets|data-repository|auth-token"
    r"|cache/info/|cache\.zip)"
)


@pytest.fixture(scope="module")
def recorded() -> Iterator[Servers]:
    with Servers(RecordedSource(), LOGIN) as running:
        yield running


def catalogue_of(
    servers: Servers, transport: Transport, folder: Path, user: str = LOGIN.username
) -> Catalogue:
    passwords = {LOGIN.username: LOGIN.password, **LOGIN.others}
    token = fetch_token(transport, servers.alyx_url, user, passwords[user])
    alyx = AlyxClient(transport, servers.alyx_url, FixedToken(token))
    return Catalogue(CatalogueDatabase(folder / f"{user}.sqlite"), alyx)


def walked(catalogue: Catalogue) -> dict[str, int]:
    found: dict[str, int] = {}
    for lab in catalogue.labs().value:
        found.update(walk(catalogue, lab))
    return found


def test_a_public_user_sees_all_by_get_alone(
    recorded: Servers, transport: Transport, tmp_path: Path
) -> None:
    """A shared public user such as intbrainlab can only send GET requests.

    Alyx answers 403 to HEAD and OPTIONS (1). HEAD of a list gets a 500 for every user (2).
    """
    own = catalogue_of(recorded, transport, tmp_path)
    everything = walked(own)
    recorded.clear_requests()
    public = catalogue_of(recorded, transport, tmp_path, "intbrainlab")
    assert walked(public) == everything
    methods = [request.method for request in recorded.requests]
    assert methods[0] == "POST"
    assert set(methods[1:]) == {"GET"}
    own.close()
    public.close()


def test_a_walk_sends_no_request_that_writes(
    recorded: Servers, transport: Transport, tmp_path: Path
) -> None:
    """No request changes anything on the server.

    GET /check-protected adds the user to a session (2). The path of a list has no slash at its end
    (2). A session's detail hides datasets and names revisions differently (6). Therefore a
    listing does not request the detail.
    """
    catalogue = catalogue_of(recorded, transport, tmp_path)
    recorded.clear_requests()
    walked(catalogue)
    paths = {urlsplit(request.path).path for request in recorded.requests}
    assert paths == {"/labs", "/subjects", "/sessions", "/datasets", "/data-repository"}
    [session, *_] = sessions_of(catalogue, catalogue.labs().value[0])
    catalogue.record(session)
    for request in recorded.requests:
        assert READ.fullmatch(urlsplit(request.path).path)
    catalogue.close()


def test_only_numbered_sessions_of_real_dates_are_listed(
    recorded: Servers, transport: Transport, tmp_path: Path
) -> None:
    """``number`` may be null (6)."""
    catalogue = catalogue_of(recorded, transport, tmp_path)
    known = [row for row in manifest()["sessions"] if row["number"] is not None]
    assert len(walked(catalogue)) == len(known) == 39
    catalogue.close()


def test_a_login_is_possible_while_throttled(transport: Transport) -> None:
    """Requests to /auth-token are not throttled (1), but all other requests are throttled (2)."""
    with Servers(RecordedSource(), LOGIN, throttle=1) as servers:
        token = fetch_token(transport, servers.alyx_url, LOGIN.username, LOGIN.password)
        alyx = AlyxClient(transport, servers.alyx_url, FixedToken(token), deadline=1.0)
        assert alyx.labs()
        for _ in range(3):
            again = fetch_token(transport, servers.alyx_url, LOGIN.username, LOGIN.password)
            assert again == token  # Alyx sends the same token each time


@pytest.mark.parametrize(
    "name", ["token_empty_password", "token_null_password", "token_missing_password"]
)
def test_a_missing_password_is_refused(transport: Transport, name: str) -> None:
    """Alyx answers 400, with the name of the field as a key and without ``detail`` (1)."""
    with (
        ScriptedServer({"/auth-token": replayed(f"auth/{name}.json")}) as server,
        pytest.raises(AlyxCredentials, match="refuses the password of user 'me'"),
    ):
        fetch_token(transport, server.url, "me", "")


def test_every_request_accepts_json_and_sends_its_token_as_alyx_expects(
    transport: Transport,
) -> None:
    """Alyx answers 406 if JSON is not in ``Accept`` (2).

    Alyx ignores a token that is sent with "Bearer" (1).
    """
    seen: list[Any] = []

    def look(talk: ScriptedConnection) -> None:
        seen.append(talk.request.headers)
        answer_json({"count": 0, "results": []})(talk)

    with ScriptedServer({"/labs": look, "/cache.zip": look, "/auth-token": look}) as server:
        alyx = AlyxClient(transport, server.url, FixedToken("t" * 40))
        assert alyx.labs() == []
        with alyx.cache_zip():
            pass
        with pytest.raises(ServerError):
            fetch_token(transport, server.url, "me", "pw")
    assert [headers.get("authorization") for headers in seen] == ["Token " + "t" * 40] * 2 + [None]
    for headers in seen:
        assert "application/json" in headers["accept"] or headers["accept"] == "*/*"


def test_a_host_name_that_is_not_allowed_is_an_error(transport: Transport) -> None:
    """Django answers 400 with an HTML page (2). This does not mean that a session is unknown."""
    page = answer(b"<h1>Bad Request (400)</h1>", 400, Content_Type="text/html")
    with ScriptedServer({"/labs": page, "/datasets": page}) as server:
        alyx = AlyxClient(transport, server.url, FixedToken("t"))
        with pytest.raises(ServerError, match="400"):
            alyx.labs()
        with pytest.raises(ServerError, match="400"):
            alyx.datasets("cf264653-2deb-44cb-aa84-89b82507028a")


def test_an_unknown_session_is_400_and_not_found(recorded: Servers, transport: Transport) -> None:
    """Alyx's answer to /datasets?session= with an unknown UUID is 400, not an empty list (7)."""
    token = fetch_token(transport, recorded.alyx_url, LOGIN.username, LOGIN.password)
    alyx = AlyxClient(transport, recorded.alyx_url, FixedToken(token))
    with pytest.raises(NotFound):
        alyx.datasets("aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee")


def test_all_rows_of_an_old_server_at_once_are_accepted(
    written: WrittenAlyx, transport: Transport
) -> None:
    """No cap before July 2026 (3), so that an answer can have more than 1,000 rows."""
    rows = [{"name": f"lab{number:05d}"} for number in range(2500)]
    written.answer("/labs", 200, {"count": 2500, "next": None, "results": rows})
    assert len(AlyxClient(transport, written.url, FixedToken("t")).labs()) == 2500
    assert len(written.paths) == 1


def test_a_list_of_users_is_sent_as_one_value(written: WrittenAlyx, transport: Transport) -> None:
    """Alyx uses the last value of a repeated parameter (2). Lists are joined by commas instead."""
    written.answer("/sessions", 200, {"count": 0, "next": None, "results": []})
    AlyxClient(transport, written.url, FixedToken("t")).select_sessions({"users": "nate,olivier"})
    assert parse_qs(urlsplit(written.paths[0]).query)["users"] == ["nate,olivier"]
    assert "users=nate,olivier" in written.paths[0]


def test_rows_of_a_server_that_ignores_a_filter_are_filtered(
    written: WrittenAlyx, transport: Transport
) -> None:
    """Alyx ignores unknown filters and sends the whole table (2), so that names are compared."""
    start = "2020-01-01T00:00:00"
    rows: list[dict[str, Any]] = [
        {"id": f"00000000-0000-4000-8000-{n:012d}", "lab": lab, "subject": subject, "number": 1}
        | {"start_time": start}
        for n, (lab, subject) in enumerate([("a", "s"), ("a", "t"), ("b", "s"), ("A", "S")])
    ]
    body = {"count": len(rows), "next": None, "results": rows}
    written.answers["/sessions"] = lambda _: (200, body)
    alyx = AlyxClient(transport, written.url, FixedToken("t"))
    assert [found.eid[-1] for found, _ in alyx.sessions("a", "s")] == ["0"]
    assert [found.eid[-1] for found, _ in alyx.sessions_of_lab("a")] == ["0", "1"]
    assert alyx.session(rows[3]["id"])[0].eid == rows[3]["id"]
    with pytest.raises(NotFound):
        alyx.session("99999999-0000-4000-8000-000000000000")


def test_a_name_that_alyx_strips_is_searched_among_all(
    written: WrittenAlyx, transport: Transport
) -> None:
    """The server strips blanks at both ends of a value (2)."""
    rows = [{"nickname": "x", "lab": " lab "}, {"nickname": "y", "lab": "lab"}]

    def subjects(request: Request) -> tuple[int, Any]:
        lab = request.args.get("lab", "").strip()
        found = [row for row in rows if not lab or row["lab"] == lab]
        return 200, {"count": len(found), "next": None, "results": found}

    written.answers["/subjects"] = subjects
    alyx = AlyxClient(transport, written.url, FixedToken("t"))
    assert alyx.subjects(" lab ") == ["x"]
    assert alyx.subjects("lab") == ["y"]


# -- the list of quirks


def listed() -> list[tuple[str, str, str, str]]:
    """Return section, quirk, word and test of each line.

    A quirk without a test has ``-`` as its word, and a reason instead of the test.
    """
    lines = LIST.read_text("utf-8").splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
    assert all(len(row) == 4 for row in rows), [row for row in rows if len(row) != 4]
    return [(row[0], row[1], row[2], row[3]) for row in rows]


def test_the_list_has_every_section_and_no_quirk_twice() -> None:
    rows = listed()
    assert {row[0] for row in rows} == set("12345678")
    assert len({row[1] for row in rows}) == len(rows) > 70


@pytest.mark.parametrize("row", listed(), ids=lambda row: f"{row[0]}-{row[1][:40]}")
def test_every_quirk_has_a_test_that_names_it(row: tuple[str, str, str, str]) -> None:
    """The test of each quirk exists, and the module of the test contains the word of the quirk."""
    _, quirk, word, test = row
    if word == "-":
        assert len(test) > 10, f"{quirk}: no reason why no client of ours meets it"
        return
    path, _, name = test.partition("::")
    text = (ROOT / path).read_text("utf-8")
    functions = {
        node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)
    }
    assert name in functions
    assert word in text
