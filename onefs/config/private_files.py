"""Small JSON files that belong to one user: mode 0600 in a 0700 folder, replaced whole."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from onefs.errors import UsageError, reason_of
from onefs.lowlevel.forking import close_lock_file, open_lock_file

#: seconds to wait for another process that writes the same file
LOCK_TIMEOUT_SECONDS = 10.0

_log = logging.getLogger(__name__)


def read_json(path: Path) -> dict[str, Any]:
    """The object in ``path``, {} when there is no such file.

    A mode that lets others read is narrowed, with a warning. Raises UsageError when the file
    cannot be read, is not ours, or does not hold a JSON object.
    """
    try:
        with path.open("rb") as file:
            _restrict_mode(file.fileno(), path)
            data = json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {reason_of(error, path)}") from error
    except ValueError as error:
        raise UsageError(
            f"{path} is broken ({error}): mend it, or move it away and run `onefs setup`"
        ) from error
    if not isinstance(data, dict):
        raise UsageError(f"{path} is broken: it must hold a JSON object; mend it or move it away")
    return data


def write_json(path: Path, data: Any) -> None:
    """Replace ``path`` in one step: a reader sees the old file or the new one, never a part.

    Raises UsageError when the folder cannot be written.
    """
    try:
        _make_private_folder(path.parent)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(data, file, indent=2, sort_keys=True)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(name)
            raise
    except OSError as error:
        raise _unwritable_error(path, error) from error


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Keep other processes from writing ``path`` between our read and our write, where the disk
    has locks.

    Raises UsageError when another one holds it for LOCK_TIMEOUT_SECONDS seconds.
    """
    name = path.with_name(f".{path.name}.lock")
    try:
        _make_private_folder(path.parent)
        descriptor = open_lock_file(name, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise _unwritable_error(path, error) from error
    try:
        _lock(descriptor, path)
        yield
    finally:
        close_lock_file(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    end = time.monotonic() + LOCK_TIMEOUT_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise UsageError(f"{path} is held by another process: try again") from None
            time.sleep(0.02)
        except OSError:  # a network disk without locks: as well as it goes
            return
        else:
            return


def _unwritable_error(path: Path, error: OSError) -> UsageError:
    why = reason_of(error, path)
    return UsageError(f"{path} cannot be written: {why}; set XDG_CONFIG_HOME to a folder of yours")


def _make_private_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if stat.S_IMODE(folder.stat().st_mode) & 0o077:
        folder.chmod(0o700)


def _restrict_mode(descriptor: int, path: Path) -> None:
    """Take the file away from other users' eyes. Raises UsageError when it is not ours."""
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid():
        raise UsageError(f"{path} belongs to another user: move it away")
    if stat.S_IMODE(found.st_mode) & 0o077:
        _log.warning("%s could be read by other users: its mode is now 0600", path)
        os.fchmod(descriptor, 0o600)
