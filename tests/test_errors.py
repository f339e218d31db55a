"""Errors that are stored and raised later by many threads at the same time."""

from __future__ import annotations

import ast
import errno
import ssl
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest

from onefs import errors
from onefs.download.hosts import CircuitOpen
from onefs.download.sources.interface import RemoteFileChanged, WrongSize
from onefs.errors import OnefsError, ServerError, Throttled, Unreachable, copy_error, reason_of
from onefs.lowlevel.single_flight import SingleFlight, result_of


def _all_errors(root: type[OnefsError]) -> list[type[OnefsError]]:
    return [root, *(found for each in root.__subclasses__() for found in _all_errors(each))]


@pytest.mark.parametrize("kind", _all_errors(OnefsError))
def test_a_copy_has_the_same_class_and_message(kind: type[OnefsError]) -> None:
    error = kind.__new__(kind)
    error.args = ("what went wrong",)
    copy = copy_error(error)
    assert type(copy) is kind
    assert copy is not error
    assert (str(copy), copy.errno, copy.args) == (str(error), error.errno, error.args)


@pytest.mark.parametrize(
    "error",
    [
        ServerError("no", 503, "detail"),
        Throttled("wait", 7.5),
        WrongSize("wrong", 17),
        RemoteFileChanged("another"),
        CircuitOpen("no answer"),
        errors.NotFound("nothing"),
        OSError(errno.ENOSPC, "full", "/some/file"),
        ssl.SSLCertVerificationError(1, "no"),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "no"),
        KeyError("name"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_copy_has_the_attributes_and_the_cause(error: BaseException) -> None:
    cause = ValueError("below")
    error.__cause__ = cause
    copy = copy_error(error)
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
    assert getattr(copy, "errno", None) == getattr(error, "errno", None)
    assert copy.__cause__ is cause


def _grows(raise_it: Callable[[], object], stored: BaseException) -> int:
    """Return the length of the stored error's traceback after 100 threads have raised the error."""

    def provoke() -> None:
        with pytest.raises(type(stored)):
            raise_it()

    threads = [threading.Thread(target=provoke) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    return len(traceback.extract_tb(stored.__traceback__))


def test_callers_of_one_flight_share_no_traceback() -> None:
    future: Future[int] = Future()
    stored = Unreachable("the server is away")
    future.set_exception(stored)
    assert _grows(lambda: result_of(future), stored) == 0


def test_a_flight_that_fails_keeps_its_traceback() -> None:
    flights: SingleFlight[int] = SingleFlight("test", workers=1)
    release, stored = threading.Event(), Unreachable("the server is away")

    def work() -> int:
        release.wait(10)
        raise stored

    found: list[BaseException] = []

    def provoke() -> None:
        try:
            flights.wait("key", work, 10, "it")
        except Unreachable as error:
            found.append(error)

    threads = [threading.Thread(target=provoke) for _ in range(50)]
    for thread in threads:
        thread.start()
    release.set()
    for thread in threads:
        thread.join(10)
    flights.close()
    assert len(found) == 50
    assert all(len(traceback.extract_tb(error.__traceback__)) < 6 for error in found)
    assert len({id(error) for error in found}) == 50


#: classes in an ``except`` that may catch an OSError of the system, which has the errno in its text
SYSTEM = {"OSError", "PermissionError", "FileNotFoundError", "BlockingIOError", "Exception",
          "NotADirectoryError", "IsADirectoryError", "BaseException"}  # fmt: skip


def system_errors(node: ast.AST) -> list[str]:
    """Return the names that a handler or function gives to errors that the system may raise."""

    def names(kind: ast.AST | None) -> set[str]:
        return {each.id for each in ast.walk(kind) if isinstance(each, ast.Name)} if kind else set()

    if isinstance(node, ast.ExceptHandler):
        return [node.name] if node.name and names(node.type) & SYSTEM else []
    if isinstance(node, ast.FunctionDef):
        arguments = [*node.args.args, *node.args.kwonlyargs]
        return [each.arg for each in arguments if "OSError" in names(each.annotation)]
    return []


def shown_bare(block: ast.AST, error: str) -> list[int]:
    """Return the lines of a block that write an error to a text without ``reason_of``."""

    def is_it(node: ast.AST) -> bool:
        if isinstance(node, ast.Attribute) and node.attr == "strerror":
            node = node.value
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("str", "repr"):
            node = node.args[0]
        return isinstance(node, ast.Name) and node.id == error

    found = []
    for node in ast.walk(block):
        if isinstance(node, ast.FormattedValue) and is_it(node.value):
            found.append(node.lineno)
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name.startswith("log.") or name in ("say", "warn"):
                found += [node.lineno for argument in node.args if is_it(argument)]
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Call) and is_it(node.value):
            found.append(node.lineno)
    return found


def test_messages_include_system_errors_by_one_function_only() -> None:
    wrong = []
    for path in (Path(errors.__file__).parent).rglob("*.py"):
        if path.name == "errors.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            for name in system_errors(node):
                wrong += [f"{path}:{line}" for line in shown_bare(node, name)]
    assert not wrong


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EACCES, "Permission denied"), "Permission denied"),
        (OSError(errno.EACCES, "Permission denied", "/a/b"), "Permission denied: /a/b"),
        (OSError(errno.EACCES, "Permission denied", b"/a"), "Permission denied: /a"),
        (OSError(errno.EACCES, "Permission denied", "/here"), "Permission denied"),
        (OSError(errno.EXDEV, "Cross", "/here", None, "/b"), "Cross: /b"),
        (OSError(errno.EBADF, "Bad file descriptor", 7), "Bad file descriptor"),
        (OSError(errno.ENOENT, "Cannot open. Detail: [errno 2] No"), "Cannot open. Detail: No"),
        (OSError("[Errno 2] Failed to open"), "Failed to open"),
        (ValueError("[Errno -3] x"), "x"),
        (OSError(), "OSError"),
        (Unreachable("no answer"), "no answer"),
    ],
)  # fmt: skip
def test_the_reason_of_an_error_has_no_number(error: Exception, said: str) -> None:
    assert reason_of(error, Path("/here")) == said
