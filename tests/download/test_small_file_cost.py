"""The cost of a small file that is not cached: function calls, requests and connections."""

from __future__ import annotations

import socket
import sys
import threading
from collections import Counter
from types import FrameType
from typing import Any

from tests.content.conftest import Open
from tests.content.ranged_file import dataset_of, read_all, some_bytes
from tests.scripted_server import ScriptedServer, answer

#: most function calls, of Python and of C, for one small file that is not cached: about 1,260 when
#: this was written. Path objects, copies of dataclasses and urllib3 took 1,600 more
MAX_CALLS = 1600
#: most system calls of Python for such a file; at each, a thread gives the interpreter lock away
#: and waits for it again: 33 when this was written
MAX_SYSTEM_CALLS = 37
FILES = 20


def test_a_small_file_takes_few_function_calls(open_content: Open) -> None:
    data = some_bytes(30_000)
    names = [f"x.c{number}.npy" for number in range(FILES)]
    with ScriptedServer({f"/{name}": answer(data) for name in names}) as server:
        content = open_content()
        first, *others = (dataset_of(server, data, f"/{name}") for name in names)
        count, system_calls = 0, Counter[str]()

        def count_calls(frame: FrameType, event: str, argument: Any) -> None:
            nonlocal count
            count += event in ("call", "c_call")
            if event == "c_call" and _is_system_call(argument):
                system_calls[argument.__name__] += 1

        def count_in_threads_of_onefs(frame: FrameType, event: str, argument: Any) -> None:
            is_ours = threading.current_thread().name.startswith("onefs-")
            sys.setprofile(count_calls if is_ours else None)

        threading.setprofile(count_in_threads_of_onefs)
        try:
            assert read_all(content, first) == data  # its thread imports modules
            sys.setprofile(count_calls)
            count = 0
            system_calls.clear()
            for dataset in others:
                assert read_all(content, dataset) == data
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
        assert len(server.requests) == FILES
        assert {request.method for request in server.requests} == {"GET"}
        assert server.connections == 1

    assert FILES < count / len(others) <= MAX_CALLS
    assert system_calls.total() / len(others) <= MAX_SYSTEM_CALLS, system_calls


def _is_system_call(function: Any) -> bool:
    if function.__module__ in ("posix", "fcntl"):
        return function.__name__ not in ("fspath", "getpid")
    return isinstance(getattr(function, "__self__", None), socket.socket)
