"""Small JSON files of one user: mode 0600 in a folder of mode 0700, replaced as a whole."""

from __future__ import annotations

import json
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from onefs.errors import UsageError, reason_of
from onefs.lowlevel.files import open_private, replace_file
from onefs.lowlevel.forking import close_lock_file, open_lock_file
from onefs.lowlevel.locks import lock_file

#: the longest time to wait for another process that writes the same file
LOCK_TIMEOUT_SECONDS = 10.0

_log = logging.getLogger(__name__)


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in the file ``path``. Return {} if the file does not exist.

    If other users have access to the file, the mode becomes 0600 and a warning is logged. Raises
    UsageError if the file cannot be read, belongs to another user, or does not hold a JSON object.
    """
    try:
        with path.open("rb") as file:
            _restrict_mode(file.fileno(), path)
            data = json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UsageError(f"the file {path} cannot be read: {reason_of(error, path)}") from error
    except ValueError as error:
        raise UsageError(
            f"the file {path} is broken ({error}): mend the file, or move it away and run "
            "`onefs setup`"
        ) from error
    if not isinstance(data, dict):
        raise UsageError(f"the file {path} must hold a JSON object: mend the file, or move it away")
    return data


def write_json(path: Path, data: Any) -> None:
    """Write ``data`` as JSON to the file ``path``. A reader sees the old or the new content.

    Raises UsageError if the file cannot be written.
    """
    text = json.dumps(data, indent=2, sort_keys=True) + "\n"
    try:
        _make_private_folder(path.parent)
        replace_file(path, text.encode(), opener=open_private, durable=True)
    except OSError as error:
        raise _unwritable_error(path, error) from error


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Keep other processes from changing the file ``path`` during the ``with`` block.

    The caller reads and writes the file inside the block. Raises UsageError if another process
    holds the lock for LOCK_TIMEOUT_SECONDS, or if the lock cannot be made.
    """
    try:
        _make_private_folder(path.parent)
        lock = open_lock_file(path.with_name(f".{path.name}.lock"))
    except OSError as error:
        raise _unwritable_error(path, error) from error
    try:
        if not lock_file(lock, LOCK_TIMEOUT_SECONDS):
            raise UsageError(f"the file {path} is locked by another process: try again")
        yield
    finally:
        close_lock_file(lock)


def _unwritable_error(path: Path, error: OSError) -> UsageError:
    reason = reason_of(error, path)
    return UsageError(
        f"the file {path} cannot be written: {reason}; set XDG_CONFIG_HOME to a folder of yours"
    )


def _make_private_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if stat.S_IMODE(folder.stat().st_mode) & 0o077:
        folder.chmod(0o700)


def _restrict_mode(descriptor: int, path: Path) -> None:
    """Remove other users' permissions for an open file, and log a warning if there were any.

    Raises UsageError if the file belongs to another user.
    """
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid():
        raise UsageError(f"the file {path} belongs to another user: move the file away")
    if stat.S_IMODE(status.st_mode) & 0o077:
        _log.warning(
            "the file %s could be read by other users: the mode of the file is now 0600", path
        )
        os.fchmod(descriptor, 0o600)
