"""What is requested at the same time when an object of an unknown session is loaded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from onefs.one import ONE
from tests.laboratories import AlteredLaboratory
from tests.one.conftest import EID, arguments

#: seconds after which a server no longer waits for the other requests
PATIENCE_SECONDS = 20
#: a session whose trials are 12 files
TRIALS, COUNT = "53546cde-72cf-46f7-82ea-dac60bfa31dc", 12


class SlowLaboratory(AlteredLaboratory):
    """Serves no file before ``count`` files were requested."""

    def __init__(self, count: int) -> None:
        super().__init__(SyntheticLaboratory())
        self._all_asked = threading.Barrier(count, timeout=PATIENCE_SECONDS)

    def file(self, path: str) -> Path | bytes | None:
        """See :class:`onefs.demo.records.Source`."""
        self._all_asked.wait()
        content: Path | bytes | None = self._source.file(path)
        return content


def test_all_files_of_an_object_are_requested_at_once() -> None:
    with Servers(SlowLaboratory(COUNT)) as servers, ONE(**arguments(servers)) as one:
        assert len(one.load_object(TRIALS, "trials", download_only=True)) == COUNT


def test_datasets_are_requested_beside_their_session(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, seen = threading.Event(), []

    def held(app: Any) -> Callable[[dict[str, Any], Any], Iterable[bytes]]:
        def application(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
            if environ["PATH_INFO"] == "/datasets":
                asked.set()
            elif f"id={EID}" in environ["QUERY_STRING"]:
                seen.append(asked.wait(PATIENCE_SECONDS))
            answer: Iterable[bytes] = app(environ, start)
            return answer

        return application

    with Servers(SyntheticLaboratory()) as servers:
        servers.stop()
        monkeypatch.setattr(servers, "_alyx_app", held(servers._alyx_app))
        servers.start()
        with ONE(**arguments(servers)) as one:
            assert one.load_object(EID, "wheel", download_only=True)
        asked_for = [each.path for each in servers.requests if each.path.startswith("/datasets")]
    assert seen == [True]
    assert len(asked_for) == 1
