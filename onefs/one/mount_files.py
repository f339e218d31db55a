"""Reading of files, links and extended attributes in another user's mount."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onefs import alf
from onefs.alyx.parsing import Row
from onefs.cache.folder import Place
from onefs.errors import (
    Ambiguous,
    BadContent,
    CacheFull,
    CredentialsError,
    DeadlineExceeded,
    MountError,
    NotFound,
    OnefsError,
    ServerError,
    Throttled,
    Unreachable,
    UsageError,
)
from onefs.tree.nodes import XATTR_PREFIX

#: the class of error for each errno from a mount (see ``onefs.errors``)
_ERROR_OF_ERRNO: dict[int, type[OnefsError]] = {
    errno.ENOENT: NotFound,
    errno.ENOTDIR: NotFound,
    errno.ENOTUNIQ: Ambiguous,
    errno.EHOSTUNREACH: Unreachable,
    errno.ETIMEDOUT: DeadlineExceeded,
    errno.EBUSY: Throttled,
    errno.EACCES: CredentialsError,
    errno.ENOSPC: CacheFull,
    errno.ENAMETOOLONG: UsageError,
    errno.ENOTCONN: MountError,
    errno.ECONNABORTED: MountError,
}


class MountFiles:
    """Reads files, links and attributes below the mount point ``root``.

    If a system call fails, methods raise the error for its errno (see ``onefs.errors``). The
    message contains the daemon's reason if there is one.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def text(self, *place: str) -> str:
        """Return the text of a file."""
        path = self.root.joinpath(*place)
        with self.translate_errors(path):
            return os.fsdecode(path.read_bytes())

    def link_target(self, *place: str) -> Place:
        """Return the target of a link such as ``.by-eid/<uuid>``.

        The target is the path of a folder, without the mount point.
        """
        path = self.root.joinpath(*place)
        with self.translate_errors(path):
            return tuple(part for part in os.readlink(path).split("/") if part != "..")

    def folder_names(self, *place: str) -> list[str]:
        """Return the names of the folders in a folder, sorted."""
        path = self.root.joinpath(*place)
        with self.translate_errors(path):
            return sorted(entry.name for entry in os.scandir(path) if entry.is_dir())

    def attribute(self, path: Path, name: str) -> str:
        """Return the attribute ``user.onefs.<name>`` of a file or folder.

        Return '' if there is no such attribute.
        """
        try:
            return os.fsdecode(os.getxattr(path, XATTR_PREFIX + name))
        except OSError as error:
            if error.errno == errno.ENODATA:
                return ""
            raise _translated(path, error) from error

    def session_row(self, place: Place) -> Row:
        """Return a session in the form of a row from Alyx.

        The values are from the path and the extended attributes of the session's folder.
        """
        path = self.root.joinpath(*place)
        ref = alf.parse_ref(self.attribute(path, "ref"))
        return {
            "id": self.attribute(path, "eid"),
            "lab": place[0],
            "subject": ref.subject if ref is not None else place[1],
            "start_time": place[2],
            "number": alf.parse_number_folder(place[3]),
        }

    @contextmanager
    def translate_errors(self, path: Path) -> Iterator[None]:
        """Replace an OSError in the ``with`` block by the error of ``onefs.errors`` for its errno.

        ``path`` is the path in the error message.
        """
        try:
            yield
        except OSError as error:
            raise _translated(path, error) from error


def _translated(path: Path, error: OSError) -> OnefsError:
    kind = _ERROR_OF_ERRNO.get(error.errno or 0, ServerError)
    if kind is ServerError and _attribute_or_empty(path, "state") == "bad":
        kind = BadContent
    return kind(f"{path}: {_attribute_or_empty(path, 'error') or error.strerror}")


def _attribute_or_empty(path: Path, name: str) -> str:
    try:
        return os.fsdecode(os.getxattr(path, XATTR_PREFIX + name))
    except OSError:
        return ""
