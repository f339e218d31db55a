"""Helpers that send short requests to a scripted server."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from onefs.errors import OnefsError
from onefs.http import JsonAnswer, Stream, Transport
from tests.running import BUSY_SECONDS
from tests.scripted_server import Script, ScriptedServer

#: seconds that a busy machine may add to a deadline; scripts that wait, wait twice as long
SLACK = BUSY_SECONDS


def get(
    client: Transport,
    *scripts: Script,
    deadline: float = 5.0,
    headers: dict[str, str] | None = None,
) -> JsonAnswer:
    with ScriptedServer({"/x": list(scripts)}) as server:
        return client.get_json(f"{server.url}/x", deadline=deadline, headers=headers)


def read(stream: Stream) -> bytes:
    with stream:
        return b"".join(stream.iter_chunks())


def timed(action: Callable[[], object], error: type[OnefsError]) -> tuple[float, OnefsError]:
    began = time.monotonic()
    with pytest.raises(error) as caught:
        action()
    return time.monotonic() - began, caught.value
