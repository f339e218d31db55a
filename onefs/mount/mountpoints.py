"""Check and prepare the mount point and the folders that the daemon uses."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from onefs.errors import MountError, UsageError, reason_of
from onefs.lowlevel import paths
from onefs.mount import mount_probes, mount_registry, unmount
from onefs.mount.kernel_mounts import find_mount

_FUSE_CONF = Path("/etc/fuse.conf")


@dataclass(frozen=True, slots=True)
class PreparedMountpoint:
    """A folder on which onefs can mount."""

    #: absolute path without symbolic links
    path: str
    #: whether the folder was created for the mount
    made: bool


def resolve_mountpoint(mountpoint: str | os.PathLike[str]) -> str:
    """Return the absolute path of ``mountpoint`` without symbolic links.

    Does not access a mount at this path, so a mount that hangs does not block the caller.
    """
    # the kernel's table of mounts contains mount points in this form
    absolute = paths.absolute(mountpoint)
    folder, name = os.path.split(absolute)
    candidate = os.path.join(os.path.realpath(folder), name)
    if find_mount(candidate) is not None:
        return candidate
    return os.path.realpath(absolute)


def prepare_mountpoint(mountpoint: str | os.PathLike[str]) -> PreparedMountpoint:
    """Create the folder (mode 0700) if it does not exist, and remove a dead mount at its path.

    Raises :class:`MountError` if a dead mount cannot be removed. Raises :class:`UsageError` in
    these cases:

    - onefs is already mounted at the path
    - the folder cannot be created, or the path is not a folder
    - the folder is not empty or not writable
    - the path contains control characters
    """
    path = resolve_mountpoint(mountpoint)
    _check_characters(path)
    was_ours = _remove_stale_mount(path)
    try:
        made = _make_folder(path) or was_ours
        is_filled = not made and bool(os.listdir(path))
    except OSError as error:
        raise UsageError(
            f"The path {path} cannot be the mount point: {reason_of(error, path)}."
        ) from error
    if is_filled:
        raise UsageError(f"The mount point {path} is not empty: choose an empty or a new folder.")
    if not os.access(path, os.W_OK | os.X_OK):
        raise UsageError(f"The mount point {path} is not writable: choose another folder.")
    return PreparedMountpoint(path, made)


def check_outside_mountpoint(
    mountpoint: str | os.PathLike[str], *places: str | os.PathLike[str]
) -> None:
    """Raise :class:`UsageError` if one of ``places`` is inside or above the mount point.

    ``places`` are paths of the daemon's files and folders.
    """
    # a daemon that accesses its own mount waits for itself forever
    mount = Path(resolve_mountpoint(mountpoint))
    for place in places:
        real = Path(paths.resolved(place))
        if real.is_relative_to(mount):
            raise UsageError(
                f"The path {real}, which onefs needs, is inside the mount point {mount}: choose "
                "another mount point."
            )
        if mount.is_relative_to(real):
            raise UsageError(
                f"The mount point {mount} is inside the folder {real}, which onefs needs: choose "
                "another mount point."
            )


def check_allow_other(conf: Path = _FUSE_CONF) -> None:
    """Raise :class:`MountError` if this user is not allowed to use the option ``allow_other``."""
    if os.geteuid() == 0:
        return
    try:
        lines = conf.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    if "user_allow_other" not in (line.strip() for line in lines):
        raise MountError(
            f"--allow-other needs the line user_allow_other in the file {conf}: an administrator "
            "has to add."
        )


def _check_characters(path: str) -> None:
    """Raise :class:`UsageError` if the path contains control characters.

    Lists of mounts do not show control characters correctly.
    """
    if any(unicodedata.category(character) == "Cc" for character in path):
        raise UsageError(
            f"The mount point {path!a} holds a control character, as from a script with the "
            "line ends of Windows: choose another name."
        )


def _remove_stale_mount(path: str) -> bool:
    """Remove the mount of onefs at ``path`` if the mount's daemon is dead.

    Return True if the folder was created for this mount and is empty. Raises :class:`UsageError` if
    the daemon is alive.
    """
    mounted = find_mount(path)
    if mounted is None or not mounted.is_onefs:
        return False
    record = mount_registry.find_record(path)
    if not mount_probes.is_stale(path):
        raise UsageError(
            f"The mount point {path} is already mounted: run `onefs umount {path}` first."
        )
    unmount.remove_stale_mount(path)
    return record is not None and record.made and not os.listdir(path)


def _make_folder(path: str) -> bool:
    """Create the folder ``path`` and its parents. Return False if ``path`` already exists."""
    try:
        os.makedirs(path, mode=0o700)
    except FileExistsError:
        return False
    return True
