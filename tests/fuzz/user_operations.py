"""The operations of an input: what a user does while the server lies."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from onefs.access import Access
from onefs.cache_tables.worker import build_in_child
from onefs.catalogue.sync import sync_from_server
from onefs.config.secret import redact
from onefs.errors import OnefsError
from onefs.one import ONE, file_formats
from tests.fuzz.snapshot import read, walk
from tests.fuzz.specs import Json, text, value

#: a walk stops after so many seconds: what is left would meet the same
WALK_SECONDS = 3.0
#: a tree that a lying server describes may be large
_MOST_PATHS = 60
#: what the tree raises for a file that has just become another one
_OURS = (errno.ESTALE,)


@dataclass(frozen=True)
class Place:
    """Where an input's operations happen."""

    access: Access
    one: ONE
    folder: Path


def perform(operation: Json, place: Place) -> str:
    """Do one operation; the sentence of the error that the user is told, '' for none.

    Raises whatever is no error of onefs.
    """
    try:
        _OPERATIONS[operation["do"]](operation, place)
    except OnefsError as error:
        return redact(str(error))  # as every command prints it
    except OSError as error:
        if error.errno not in _OURS:
            raise
        return str(error)
    return ""


def _walk(operation: Json, place: Place) -> None:
    end = time.monotonic() + WALK_SECONDS
    folders, trouble = ["/"], None
    for _ in range(_MOST_PATHS):
        if not folders or time.monotonic() > end:
            break
        try:
            _visit(folders.pop(0), folders, place)
        except OnefsError as error:
            redact(str(error))
            trouble = error
    if trouble is not None:
        raise trouble


def _visit(path: str, folders: list[str], place: Place) -> None:
    tree = place.access.tree
    kind = tree.node(path).kind.value
    if kind == "directory":
        below = tree.children(path)
        folders += [f"{path.rstrip('/')}/{name}" for name, _ in below[:_MOST_PATHS]]
    elif kind == "file":
        read(place.access, path)
    else:
        tree.target(path)


def _path(operation: Json, place: Place) -> None:
    path = "/" + "/".join(text(name).replace("/", "_") for name in operation["path"])
    tree = place.access.tree
    for look in (tree.node, tree.xattrs, tree.children, tree.target):
        try:
            look(path)
        except OnefsError as error:
            redact(str(error))
    read(place.access, path)


def _verb(operation: Json, place: Place) -> None:
    given = [value(each) for each in operation["arguments"]]
    if operation["verb"] == "search":
        found = place.one.search(**{text(n): value(v) for n, v in operation["terms"]})
        given = [found[:1]]
    verb = "list" if operation["verb"] == "search" else operation["verb"]
    getattr(place.one, verb)(*given)


def _load(operation: Json, place: Place) -> None:
    for eid in place.one.search(lab="labone")[:2]:
        place.one.list(eid, "all")
        place.one.load(eid, operation["types"])


def _sync(operation: Json, place: Place) -> None:
    sync_from_server(place.access.alyx, place.folder / "state", builder=build_in_child)
    sum(1 for _ in walk(place.access, depth=4))


def _reader(operation: Json, place: Place) -> None:
    path = place.folder / f"odd{operation['suffix']}"
    body = bytes.fromhex(operation["head"]) + text(operation["body"]).encode("utf-8", "replace")
    path.write_bytes(body)
    try:
        file_formats.read_file(path, mmap=operation["mmap"])
    except file_formats.UnreadableFile:
        return


def _refresh(operation: Json, place: Place) -> None:
    place.access.catalogue.invalidate(())


def _misbehave(operation: Json, place: Place) -> None:
    """What no operation may do: for the tests of the watching process."""
    how = operation["how"]
    if how == "freeze":
        sum(range(10**11))  # one call of C, which keeps the interpreter to itself
    elif how == "memory":
        bytearray(b"x") * (400 << 20)
    elif how == "raised":
        raise LookupError("on purpose")
    elif how == "traceback":
        thread = Thread(target=_misbehave, args=({"how": "raised"}, place))
        thread.start()
        thread.join()
    elif how == "died":
        os._exit(3)


_OPERATIONS: dict[str, Callable[[Json, Place], None]] = {
    "walk": _walk,
    "path": _path,
    "verb": _verb,
    "load": _load,
    "sync": _sync,
    "reader": _reader,
    "refresh": _refresh,
    "misbehave": _misbehave,
}
