"""A user of ONE-api whose cache folder is a mount, or onefs's cache folder.

Usage: ``one_worker.py local|remote < JSON`` (``cache``, ``eids``); prints what ONE found, as JSON.
All calls have ONE's default arguments. What ONE itself warns of or logs is told as well.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import warnings
from pathlib import Path, PurePosixPath
from typing import Any

from iblutil.io import hashfile
from one.api import ONE, One

# ONE hashes each file on each load, through a buffer that it fills with zeros first: 256 MiB
hashfile.BUF_SIZE = 1 << 20
#: a revision before all others: the original
FIRST = "0"


class Told(logging.Handler):
    """Keeps what is logged as a warning or worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def load_all(one: Any, eid: str) -> dict[str, Any]:
    """Every dataset of a session, every object, and every collection, by ONE's three verbs."""
    details = one.list_datasets(eid, details=True)
    listed = sorted(one.list_datasets(eid))
    loaded = hashlib.sha1()
    objects = set()
    for path in listed:
        collection, revision, name = parts(path)
        where = {"collection": collection, "revision": revision or FIRST}
        loaded.update(digest(one.load_dataset(eid, name, **where)))
        if name.count(".") > 1:
            objects.add((collection, name.split(".")[0].removeprefix("_ibl_"), revision))
    for collection, name, revision in sorted(objects):
        found = one.load_object(eid, name, collection=collection, revision=revision or FIRST)
        loaded.update(digest(sorted(found)))
    collections = sorted(one.list_collections(eid))
    for collection in collections:
        loaded.update(digest(sorted(one.load_collection(eid, collection))))
    return {
        "datasets": len(listed),
        "bytes": int(details["file_size"].sum()),
        "objects": len(objects),
        "collections": collections,
        "loaded": loaded.hexdigest(),
    }


def parts(path: str) -> tuple[str, str, str]:
    """Collection, revision and name of a path below a session."""
    *folders, name = PurePosixPath(path).parts
    revision = folders.pop().strip("#") if folders and folders[-1].startswith("#") else ""
    return "/".join(folders), revision, name


def digest(value: Any) -> bytes:
    """Bytes that two loads of the same thing agree on."""
    if isinstance(value, Path):
        return hashlib.sha1(value.read_bytes()).digest()
    if hasattr(value, "tobytes"):
        return hashlib.sha1(value.tobytes()).digest()
    if hasattr(value, "to_csv"):
        return hashlib.sha1(value.to_csv().encode()).digest()
    return hashlib.sha1(json.dumps(value, default=str, sort_keys=True).encode()).digest()


def main() -> None:
    """Do what the first argument says."""
    told = Told()
    logging.getLogger().addHandler(told)
    for name in ("one", "ibllib", "one.api"):
        logging.getLogger(name).addHandler(told)
    given = json.loads(sys.stdin.read())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if sys.argv[1] == "local":
            one = One(cache_dir=given["cache"], mode="local")
        else:
            one = ONE(cache_dir=given["cache"])
        found = {
            "mode": one.mode,
            "search": sorted(map(str, one.search(subject="clns0730"))),
            "sessions": {eid: load_all(one, eid) for eid in given["eids"]},
        }
    # pandas tells ONE's authors what they are to change
    told.lines += [str(each.message) for each in caught if each.category is UserWarning]
    print(json.dumps({**found, "told": told.lines}))


if __name__ == "__main__":
    main()
