"""Folders where ONE-api and IBL's code write the user's own files: ``histology``, ``cache`` ...

This code writes below ONE's cache folder. If a mount is ONE's cache folder, the code cannot write,
because the mount is read-only. So these names in the root are links to folders outside of the
mount. Each user has separate folders for each database. The links are not listed. The folders are
never removed, because the files in them are the user's work.
"""

from __future__ import annotations

import logging
import os
import pwd
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import platformdirs

from onefs.errors import NotFound, reason_of
from onefs.lowlevel.single_flight import SingleFlight
from onefs.tree.entries import TreeEntry
from onefs.tree.nodes import Node, NodeKind, inode_of_path

log = logging.getLogger(__name__)

#: name of an IBL release; ONE-api stores the cache tables of a release in a folder with its name
_RELEASE_NAME = re.compile(r"20\d\d_Q[1-4]_\w+", re.ASCII)
#: longest time in seconds that reading a link waits for the disk of the user's home
DISK_TIMEOUT_SECONDS = 5.0
_FOLDER_THREADS = 4
_FOLDER_MODE = 0o700
_FAILURE = "the folder %s cannot be made: %s"


def user_folders_root(database: str) -> Path:
    """Return the path of the folder that contains all user folders for a database.

    These are the folders of the user of this process.
    """
    return Path(platformdirs.user_data_dir("onefs")) / database


@dataclass(frozen=True, slots=True)
class UserFolderLink(TreeEntry):
    """A link in the root. For each user, the link leads to a folder of that user."""

    folders: UserFolders
    name: str

    def node(self) -> Node:
        return Node(NodeKind.LINK, inode_of_path("own", self.name), 0, self.folders.mtime)

    def read_target(self, user: int | None) -> str:
        """Return the path of the folder for the user id ``user``, the target of this link.

        None means the user of this process. The folder is created if possible. Raises the errors of
        :meth:`UserFolders.link_target`.
        """
        return self.folders.link_target(self.name, os.getuid() if user is None else user)


class UserFolders:
    """The links to users' folders for one database. Thread-safe.

    There is a link for each name in ``names``, and for each possible name of an IBL release, like
    ``2022_Q2_IBL_et_al``. ``mtime`` is the modification time of all links, in seconds since the
    epoch.
    """

    def __init__(self, database: str, names: Iterable[str], mtime: float) -> None:
        self.mtime = mtime
        self._database = database
        self._names = frozenset(names)
        self._single_flight: SingleFlight[str] = SingleFlight("onefs-own", _FOLDER_THREADS)

    def close(self) -> None:
        """Raise Stopping in all threads that wait for a folder."""
        self._single_flight.close()

    def child(self, name: str) -> UserFolderLink | None:
        """Return the link named ``name``. Return None if there is no such link."""
        if name in self._names or _RELEASE_NAME.fullmatch(name):
            return UserFolderLink(self, name)
        return None

    def link_target(self, name: str, user: int) -> str:
        """Return the target that the link ``name`` has for the user id ``user``.

        The target folder is created if possible. Raises NotFound if the user has no home folder.
        Raises DeadlineExceeded if the disk does not answer within :data:`DISK_TIMEOUT_SECONDS`.
        """
        label = f"the folder that {name} leads to"
        make = partial(self._ensure_folder, name, user)
        return self._single_flight.wait((name, user), make, DISK_TIMEOUT_SECONDS, label)

    def _ensure_folder(self, name: str, user: int) -> str:
        if user == os.getuid():
            folder = user_folders_root(self._database) / name
            _make_folder(folder)
            return str(folder)
        try:
            entry = pwd.getpwuid(user)
        except KeyError as error:
            raise NotFound(
                f"user {user} has no home folder, so that the link {name} leads to no folder"
            ) from error
        folder = Path(entry.pw_dir, ".local", "share", "onefs", self._database, name)
        if os.geteuid() == 0:
            _make_folder_as(entry, folder)
        # an ordinary user can neither create nor see folders in another user's home
        return str(folder)


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    try:
        folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as error:
        log.warning(_FAILURE, folder, reason_of(error, folder))


def _make_folder_as(entry: pwd.struct_passwd, folder: Path) -> None:
    """Create the folder with the rights of the user ``entry``, not with root's rights.

    If the folder cannot be created, the error is logged.
    """
    import subprocess  # slow to import, and needed in daemons of root only

    # so a link in the user's home cannot make onefs write where the user may not write
    done = subprocess.run(
        ["mkdir", "-p", "--", str(folder)],
        user=entry.pw_uid,
        group=entry.pw_gid,
        extra_groups=(),
        umask=~_FOLDER_MODE & 0o777,
        cwd="/",
        env={"PATH": os.defpath, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=2 * DISK_TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode:
        log.warning(_FAILURE, folder, done.stderr.strip())
