"""Where cache tables come from: a folder, a file, an archive, a server."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from onefs.errors import ServerError, UsageError
from onefs.metadata.alyx import Alyx

SESSIONS = "sessions.pqt"
DATASETS = "datasets.pqt"
ARCHIVE = "cache.zip"


class Pair(NamedTuple):
    """The two files of one set of tables."""

    sessions: Path
    datasets: Path


def find(given: Path, work: Path) -> Pair:
    """The tables of a folder, of an archive (unpacked into ``work``), or beside a table.

    Raises UsageError naming what is not there or not a table.
    """
    if given.is_dir():
        archive = given / ARCHIVE
        if not (given / SESSIONS).exists() and archive.exists():
            return unpack(archive, work)
        return _beside(given)
    if not given.exists():
        raise UsageError(f"{given} does not exist: give a folder, a table or an archive")
    if zipfile.is_zipfile(given):
        return unpack(given, work)
    if given.name not in (SESSIONS, DATASETS):
        raise UsageError(
            f"{given} is no cache table of ONE: give a folder with {SESSIONS} and {DATASETS}, one "
            f"of them, or {ARCHIVE}"
        )
    return _beside(given.parent)


def download(alyx: Alyx, target: Path, progress: Callable[[int, int], None]) -> None:
    """Write the server's archive to ``target``, telling how many of how many bytes have come.

    Raises ServerError when it has none after all, and what the transport raises.
    """
    with alyx.cache_zip() as stream, target.open("wb") as file:
        if stream.status != 200:
            raise ServerError(f"{alyx.url}/cache.zip: answer {stream.status}", stream.status)
        done = 0
        for chunk in stream.iter_chunks():
            file.write(chunk)
            done += len(chunk)
            progress(done, stream.length or 0)
    if not zipfile.is_zipfile(target):
        raise ServerError(f"{alyx.url}/cache.zip is no archive")


def unpack(archive: Path, work: Path) -> Pair:
    """The tables of an archive, unpacked into ``work``."""
    found = []
    try:
        with zipfile.ZipFile(archive) as opened:
            for name in (SESSIONS, DATASETS):
                target = work / name
                with opened.open(name) as packed, target.open("wb") as file:
                    shutil.copyfileobj(packed, file, 1 << 20)
                found.append(target)
    except KeyError as error:
        raise UsageError(f"{archive} holds no {SESSIONS} and {DATASETS}") from error
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise UsageError(f"{archive} is damaged: {error}") from error
    return Pair(*found)


def identity(info: dict[str, Any]) -> str:
    """What ``/cache/info/`` says, in one spelling, to tell one set of tables from the next."""
    return json.dumps(info, sort_keys=True)


def _beside(folder: Path) -> Pair:
    pair = Pair(folder / SESSIONS, folder / DATASETS)
    for path in pair:
        if not path.is_file():
            raise UsageError(f"{path} is missing: {SESSIONS} and {DATASETS} belong together")
    return pair
