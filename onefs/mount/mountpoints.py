"""Which folders can be a mount point, and which can be used beside it."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from onefs.errors import MountError, UsageError, reason_of
from onefs.lowlevel import paths
from onefs.mount import kernel_mounts, mount_registry

_FUSE_CONF = Path("/etc/fuse.conf")


@dataclass(frozen=True, slots=True)
class PreparedMountpoint:
    """A folder ready to be mounted on."""

    path: str
    #: it did not exist before
    made: bool


def resolve_mountpoint(mountpoint: str | os.PathLike[str]) -> str:
    """The absolute path without links, as the kernel's table of mounts has it.

    A mount point is not looked into, so this does not hang on a mount that does.
    """
    absolute = paths.absolute(mountpoint)
    folder, name = os.path.split(absolute)
    candidate = os.path.join(os.path.realpath(folder), name)
    if kernel_mounts.find_mount(candidate) is not None:
        return candidate
    return os.path.realpath(absolute)


def prepare_mountpoint(mountpoint: str | os.PathLike[str]) -> PreparedMountpoint:
    """Make ``mountpoint`` ready: made (0700) if absent, a dead mount on it taken away.

    Raises :class:`UsageError` when it is in use, not an empty folder, cannot be made, or has a
    name that holds control characters.
    """
    path = resolve_mountpoint(mountpoint)
    _check_characters(path)
    ours = _remove_stale_mount(path)
    try:
        made = _make_folder(path) or ours
        filled = not made and bool(os.listdir(path))
    except OSError as error:
        raise UsageError(f"{path} cannot be the mount point: {reason_of(error, path)}.") from error
    if filled:
        raise UsageError(f"The mount point {path} is not empty: choose an empty or a new folder.")
    if not os.access(path, os.W_OK | os.X_OK):
        raise UsageError(f"The mount point {path} is not yours to write: choose another folder.")
    return PreparedMountpoint(path, made)


def check_outside_mountpoint(
    mountpoint: str | os.PathLike[str], *places: str | os.PathLike[str]
) -> None:
    """Refuse folders and files of ours that lie in the mount, and a mount inside of them.

    The daemon would wait for itself. Raises :class:`UsageError`.
    """
    mount = Path(resolve_mountpoint(mountpoint))
    for place in places:
        real = Path(paths.resolved(place))
        if real.is_relative_to(mount):
            raise UsageError(f"{real} lies inside the mount point {mount}: choose another place.")
        if mount.is_relative_to(real):
            raise UsageError(f"The mount point {mount} lies inside {real}: choose another place.")


def check_allow_other(conf: Path = _FUSE_CONF) -> None:
    """Refuse ``allow_other`` where an ordinary user may not use it. Raises :class:`MountError`."""
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
    """Refuse what no list of mounts shows as it is, and nobody meant to type."""
    if any(unicodedata.category(character) == "Cc" for character in path):
        raise UsageError(
            f"The mount point {path!a} holds a control character, as from a script with the "
            "line ends of Windows: choose another name."
        )


def _remove_stale_mount(path: str) -> bool:
    """Take a dead mount away. Returns whether the folder was made for it."""
    mounted = kernel_mounts.find_mount(path)
    if mounted is None or not mounted.is_onefs:
        return False
    record = mount_registry.find_record(path)
    if not kernel_mounts.is_stale(path):
        raise UsageError(f"{path} is already mounted: onefs umount {path} unmounts it.")
    kernel_mounts.remove_stale_mount(path)
    return record is not None and record.made and not os.listdir(path)


def _make_folder(path: str) -> bool:
    """Make the folder unless there is something. Returns whether it was made."""
    try:
        os.makedirs(path, mode=0o700)
    except FileExistsError:
        return False
    return True
