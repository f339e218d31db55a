"""Checks and preparation of the mount point and the folders used with it."""

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
    """A folder that is ready to be mounted on."""

    #: absolute, without links
    path: str
    #: whether it was created for the mount
    made: bool


def resolve_mountpoint(mountpoint: str | os.PathLike[str]) -> str:
    """Return the absolute path without links, as in the kernel's table of mounts.

    A mount is not accessed, so that this does not block on a mount whose daemon hangs.
    """
    absolute = paths.absolute(mountpoint)
    folder, name = os.path.split(absolute)
    candidate = os.path.join(os.path.realpath(folder), name)
    if find_mount(candidate) is not None:
        return candidate
    return os.path.realpath(absolute)


def prepare_mountpoint(mountpoint: str | os.PathLike[str]) -> PreparedMountpoint:
    """Create the folder (mode 0700) if it does not exist, and remove a dead mount on it.

    Raises :class:`UsageError` if it is in use, is not an empty folder, cannot be created, or has a
    name with control characters.
    """
    path = resolve_mountpoint(mountpoint)
    _check_characters(path)
    was_ours = _remove_stale_mount(path)
    try:
        made = _make_folder(path) or was_ours
        is_filled = not made and bool(os.listdir(path))
    except OSError as error:
        raise UsageError(f"{path} cannot be the mount point: {reason_of(error, path)}.") from error
    if is_filled:
        raise UsageError(f"The mount point {path} is not empty: choose an empty or a new folder.")
    if not os.access(path, os.W_OK | os.X_OK):
        raise UsageError(f"The mount point {path} is not writable: choose another folder.")
    return PreparedMountpoint(path, made)


def check_outside_mountpoint(
    mountpoint: str | os.PathLike[str], *places: str | os.PathLike[str]
) -> None:
    """Raise :class:`UsageError` if one of the daemon's places is in the mount, or contains it.

    Otherwise, the daemon would wait for itself.
    """
    mount = Path(resolve_mountpoint(mountpoint))
    for place in places:
        real = Path(paths.resolved(place))
        if real.is_relative_to(mount):
            raise UsageError(f"{real} is inside the mount point {mount}: choose another place.")
        if mount.is_relative_to(real):
            raise UsageError(f"The mount point {mount} is inside {real}: choose another place.")


def check_allow_other(conf: Path = _FUSE_CONF) -> None:
    """Raise :class:`MountError` if this user may not use ``allow_other``."""
    if os.geteuid() == 0:
        return
    try:
        lines = conf.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    if "user_allow_other" not in (line.strip() for line in lines):
        raise MountError(
            f"--allow-other needs the line user_allow_other in {conf}, which an administrator "
            "has to add."
        )


def _check_characters(path: str) -> None:
    """Raise :class:`UsageError` for control characters, which lists of mounts do not show."""
    if any(unicodedata.category(character) == "Cc" for character in path):
        raise UsageError(
            f"The mount point {path!a} holds a control character, as from a script with the "
            "line ends of Windows: choose another name."
        )


def _remove_stale_mount(path: str) -> bool:
    """Remove a dead mount. Returns whether its folder was created for it, and is empty.

    Raises :class:`UsageError` if the mount is not dead.
    """
    mounted = find_mount(path)
    if mounted is None or not mounted.is_onefs:
        return False
    record = mount_registry.find_record(path)
    if not mount_probes.is_stale(path):
        raise UsageError(f"{path} is already mounted: onefs umount {path} unmounts it.")
    unmount.remove_stale_mount(path)
    return record is not None and record.made and not os.listdir(path)


def _make_folder(path: str) -> bool:
    """Create the folder unless something exists there. Returns whether it was created."""
    try:
        os.makedirs(path, mode=0o700)
    except FileExistsError:
        return False
    return True
