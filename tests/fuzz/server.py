"""The laboratory that is fuzzed: the embedded one, and in front of it a server that lies.

Each request is answered by the embedded laboratory, and the answer is then changed as the faults
of the moment say. Without faults every byte is the laboratory's own.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from onefs.demo import flatiron, rest
from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.http_server import Listener
from onefs.demo.records import Login
from tests.fuzz.bodies import damaged, encoded
from tests.fuzz.specs import Json, text
from tests.scripted_server import (
    Request,
    Script,
    ScriptedConnection,
    ScriptedServer,
)

#: a fault that is to last takes so many answers
ALWAYS = 1_000_000
#: headers that the connection sees to
_OWN = ("connection", "transfer-encoding", "content-length", "keep-alive")
_LONGEST_PIECE = 1 << 20
_TABLES_INFO = "/cache/info/"
#: seconds; deadlines are shorter
_LONGEST_STALL_SECONDS = 10.0
#: what is changed after what else: a body before it is packed, a header when all are there
_ORDER = {"body": 1, "encoding": 2, "header": 3}

#: files of the laboratory, below its labs
FILES = (
    "labone/Subjects/mouse.1/2021-03-04/001/alf/probe00/spikes.times.npy",
    "labone/Subjects/mouse.1/2021-03-04/001/alf/_ibl_trials.choice.npy",
    "labone/Subjects/mouse.1/2021-03-04/001/alf/#2022-01-01#/_ibl_trials.choice.npy",
    "labone/Subjects/mouse.1/2021-03-04/001/notes.md",
    "labone/Subjects/mouse.1/2021-03-04/002/alf/licks.times.npy",
    "labtwo/Subjects/mouse.1/2021-03-05/001/alf/licks.times.npy",
)
#: larger than what is fetched whole, so that it comes in blocks
LARGE = "labone/Subjects/mouse.1/2021-03-04/002/alf/spikes.samples.npy"
#: numbers in the large file: 1.6 MB
_LARGE_NUMBERS = 200_000


@dataclass(frozen=True)
class Answer:
    """What is sent, but for the framing."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass
class Fault:
    """A fault as the input describes it, and how often it has struck."""

    spec: Json
    seen: int = 0

    def strikes(self, server: str, path: str) -> bool:
        """Whether this request is one that it changes; counts it."""
        if self.spec["at"] not in (server, path.strip("/").split("/")[0], "all"):
            return False
        self.seen += 1
        first = self.spec["first"]
        return bool(first < self.seen <= first + self.spec["times"])


@dataclass
class Record:
    """What was done to whom, in one input."""

    #: file paths, and how often bytes came that are not the file's although the status says so
    lies: Counter[str] = field(default_factory=Counter)
    #: whether an answer of Alyx was changed
    alyx: bool = False
    #: whether one about its cache tables was
    tables: bool = False


class _LyingServer(ScriptedServer):
    """One of the two servers, as the client sees it."""

    def __init__(self, owner: LyingLaboratory, name: str) -> None:
        super().__init__({})
        self._owner, self._name = owner, name

    def next_script(self, request: Request) -> Script:
        """See :class:`tests.scripted_server.ScriptedServer`."""
        return lambda talk: self._owner.answer(self._name, talk)


class LyingLaboratory:
    """Both servers of a small laboratory, which lie while there are faults. A context manager."""

    def __init__(self, folder: Path) -> None:
        make_files(folder)
        self.login = Login()
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._right = threading.Event()
        #: cache tables that were lied about are taken anew only when there are newer ones
        self._edition = 0
        self.record = Record()
        self._fronts = {name: _LyingServer(self, name) for name in ("alyx", "data")}
        self._backs = {name: Listener(0) for name in self._fronts}
        source = FolderLaboratory(folder)
        self._apps = {
            "alyx": rest.create_app(source, self.login, data_url=self.data_url),
            "data": flatiron.create_app(source, self.login),
        }

    @property
    def alyx_url(self) -> str:
        """Alyx's address."""
        return self._fronts["alyx"].url

    @property
    def data_url(self) -> str:
        """The file server's address."""
        return self._fronts["data"].url

    def __enter__(self) -> LyingLaboratory:
        for name, back in self._backs.items():
            back.start(self._apps[name])
            self._fronts[name].__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for name, back in self._backs.items():
            self._fronts[name].__exit__()
            back.stop()

    def lie(self, faults: Iterable[Json]) -> None:
        """Answer with these faults from now on, and begin a new record."""
        with self._lock:
            self._faults = [Fault(spec) for spec in faults]
            self._right.clear()
            self.record = Record()

    def stop_lying(self) -> Record:
        """Answer truly from now on, and end what stalls; what was done until now."""
        with self._lock:
            self._faults = []
            self._right.set()
            self._edition += self.record.tables
            return self.record

    def answer(self, name: str, talk: ScriptedConnection) -> None:
        """Answer one request of the client."""
        true = self._ask(name, talk.request)
        path = urlsplit(talk.request.target).path
        with self._lock:
            if path == _TABLES_INFO and true.status == 200 and self._edition:
                true = replace(true, body=_newer(true.body, self._edition))
            faults = [fault.spec for fault in self._faults if fault.strikes(name, path)]
            record = self.record
        sent = true
        for fault in sorted(faults, key=lambda each: _ORDER.get(each["what"], 0)):
            sent = _changed(sent, fault)
        if faults:
            with self._lock:
                record.alyx = record.alyx or name == "alyx"
                record.tables = record.tables or path.startswith("/cache")
                if name == "data":
                    record.lies[path] += _lies(sent, true, faults)
        _send(talk, sent, faults, self._right)

    def _ask(self, name: str, request: Request) -> Answer:
        back = http.client.HTTPConnection("127.0.0.1", self._backs[name].port, timeout=30)
        try:
            back.putrequest(
                request.method, request.target, skip_host=True, skip_accept_encoding=True
            )
            for key, value in request.headers.items():
                back.putheader(key, value.encode("latin-1"))
            back.endheaders(request.body or None)
            found = back.getresponse()
            headers = tuple(
                (key, value) for key, value in found.getheaders() if key.lower() not in _OWN
            )
            return Answer(found.status, found.reason, headers, found.read())
        except (http.client.HTTPException, ValueError):
            return Answer(400, "Bad Request", (), b"")
        finally:
            back.close()


def _newer(info: bytes, edition: int) -> bytes:
    """What Alyx says of its cache tables after they were made anew."""
    return json.dumps({**json.loads(info), "date_created": f"2030-01-01 {edition:06}"}).encode()


def make_files(folder: Path) -> None:
    """Write the laboratory's files."""
    for index, path in enumerate((*FILES, LARGE)):
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        numbers = _LARGE_NUMBERS if path == LARGE else 200 + index
        if file.suffix == ".npy":
            np.save(file, np.random.default_rng(index).random(numbers))
        else:
            file.write_text(f"# Notes of {path}\n")


def _lies(sent: Answer, true: Answer, faults: Sequence[Json]) -> int:
    """How bad a lie about a file is: 0 none, 1 what may be a mishap, 2 what is a proof.

    A proof is as many bytes as the file has, and others.
    """
    if sent.status not in (200, 206):
        return 0
    if len(sent.body) == len(true.body) and sent.body != true.body:
        return 2
    changed = replace(sent, reason="") != replace(true, reason="")
    return int(changed or any(fault["what"] == "length" for fault in faults))


def _changed(answer: Answer, fault: Json) -> Answer:
    """The answer with one fault; those of the framing come when it is sent."""
    what = fault["what"]
    if what == "answer":
        headers = [(name, text(value)) for name, value in fault["headers"]]
        body = text(fault["body"]).encode("utf-8", "surrogatepass")
        packing = fault.get("packed", "")
        if packing:
            headers.append(("Content-Encoding", packing))
        body = encoded(body, packing)
        return Answer(fault["status"], text(fault["reason"]), tuple(headers), body)
    if what == "status":
        return replace(answer, status=fault["status"], reason=text(fault["reason"]))
    if what == "header":
        name = fault["name"]
        kept = tuple(each for each in answer.headers if each[0].lower() != name.lower())
        return replace(answer, headers=(*kept, (name, text(fault["value"]))))
    if what == "body":
        return replace(answer, body=damaged(answer.body, fault))
    if what == "encoding":
        said = ("Content-Encoding", fault["says"])
        return replace(
            answer, headers=(*answer.headers, said), body=encoded(answer.body, fault["is"])
        )
    return answer


def _send(
    talk: ScriptedConnection, answer: Answer, faults: Sequence[Json], right: threading.Event
) -> None:
    by_kind = {fault["what"]: fault for fault in faults}
    for interim in by_kind.get("before", {}).get("heads", ()):
        headers = [(name, text(value)) for name, value in interim["headers"]]
        talk.send(_head(interim["status"], text(interim["reason"]), headers))
    frame = by_kind.get("frame", {}).get("frame", "length")
    if frame == "nothing":
        talk.hang_up()
    if frame == "reset":
        talk.reset()
    headers = list(answer.headers)
    body = b"" if talk.request.method == "HEAD" or answer.status in (204, 304) else answer.body
    if frame == "chunked":
        headers.append(("Transfer-Encoding", "chunked"))
    elif frame == "close":
        headers.append(("Connection", "close"))
    elif answer.status >= 200 and answer.status != 204:
        length = by_kind.get("length", {}).get("says", len(answer.body))
        headers.append(("Content-Length", str(length)))
    talk.send(_head(answer.status, answer.reason, headers))
    if frame == "stall":
        right.wait(_LONGEST_STALL_SECONDS)
        talk.hang_up()
    if frame == "trickle":
        for at in range(min(len(body), 64)):
            talk.send(body[at : at + 1])
        body = body[64:]
    for at in range(0, len(body), _LONGEST_PIECE):
        piece = body[at : at + _LONGEST_PIECE]
        talk.send(b"%x\r\n%s\r\n" % (len(piece), piece) if frame == "chunked" else piece)
    if frame == "chunked":
        talk.send(b"0\r\n\r\n")
    if frame == "close" or "length" in by_kind:
        talk.hang_up()


def _head(status: int, reason: str, headers: Sequence[tuple[str, str]]) -> bytes:
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")
