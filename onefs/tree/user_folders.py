"""Folders where ONE-api and IBL's code write files of the user's own: ``histology``, ``cache`` ...

Such code writes below ONE's cache folder, which is the mount. So these names in the root are links
to folders outside of it, one set per user and database. They are not listed. Their folders are
never removed: their files are the user's work.
"""

from __future__ import annotations

import logging
import os
import pwd
import re
import subprocess
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

#: names of IBL's releases: ONE-api stores the cache tables of a release in a folder of that name
_RELEASE_NAME = re.compile(r"20\d\d_Q[1-4]_\w+", re.ASCII)
#: longest time in seconds that reading a link waits for the disk of the user's home
DISK_TIMEOUT_SECONDS = 5.0
_FOLDER_THREADS = 4
_FOLDER_MODE = 0o700
_FAILURE = "the folder %s cannot be made: %s"


def user_folders_root(database: str) -> Path:
    """Return the folder that contains this process's user's folders for a database."""
    return Path(platformdirs.user_data_dir("onefs")) / database


@dataclass(frozen=True, slots=True)
class UserFolderLink(TreeEntry):
    """The link of one name."""

    folders: UserFolders
    name: str

    def node(self) -> Node:
        return Node(NodeKind.LINK, inode_of_path("own", self.name), 0, self.folders.mtime)

    def read_target(self, user: int | None) -> str:
        """Return the folder of a user id, created if possible; None means this process's user."""
        return self.folders.link_target(self.name, os.getuid() if user is None else user)


class UserFolders:
    """The links of one database. Thread-safe.

    There is a link for each of ``names`` and for the names of IBL's releases. ``mtime``, in
    seconds since the epoch, is that of the links.
    """

    def __init__(self, database: str, names: Iterable[str], mtime: float) -> None:
        self.mtime = mtime
        self._database = database
        self._names = frozenset(names)
        self._single_flight: SingleFlight[str] = SingleFlight("onefs-own", _FOLDER_THREADS)

    def close(self) -> None:
        """Wake all waiting readers, with Stopping."""
        self._single_flight.close()

    def child(self, name: str) -> UserFolderLink | None:
        """Return the link of that name; None if there is none."""
        if name in self._names or _RELEASE_NAME.fullmatch(name):
            return UserFolderLink(self, name)
        return None

    def link_target(self, name: str, user: int) -> str:
        """Return the target of a link for a user id.

        Raises NotFound for a user without home folder, DeadlineExceeded if the disk hangs.
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
            raise NotFound(f"user {user} has no home folder for {name}") from error
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
    """Create the folder with that user's rights, so that links of the user's can do no harm."""
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
