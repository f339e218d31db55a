"""The register of this user's mounts: what ``onefs status`` and ``onefs umount`` know of each.

One JSON file a mount in the user's state folder, whatever ``--state-dir`` says, so that every
command finds it; where that folder cannot be written, in the mount's own state folder, which
commands look through when ONEFS_STATE_DIR names it. It names the host and its boot, since a home
folder may be shared: records of other hosts are neither shown nor removed. Written by the daemon
only, and atomically.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import platformdirs

from onefs.errors import MountError, reason_of
from onefs.lowlevel.files import replace_file
from onefs.lowlevel.forking import close_lock_file, open_lock_file
from onefs.lowlevel.locks import lock_or_go_on, try_lock
from onefs.lowlevel.mountinfo import read_mounts
from onefs.lowlevel.paths import absolute
from onefs.lowlevel.pids import boot_id
from onefs.mount import kernel_mounts
from onefs.mount.processes import start_ticks_of
from onefs.tree.variant import Variant

READY = "ready"
OFFLINE = "offline"
REFUSED = "refused"
STALE = "stale"
#: mounted, and without a record here: by another user, or with another state folder
FOREIGN = "foreign"

#: extended attribute of a mount's root: its record as of now, without the name of the login
STATUS_XATTR = "user.onefs.status"
#: downloads that are told there: the kernel takes 64 KiB, and a path has at most 4 KiB
_MAX_REPORTED_DOWNLOADS = 12
#: seconds in which a mount tells it
_STATUS_TIMEOUT_SECONDS = 2.0

#: fields that a record of an older onefs lacks
_OPTIONAL_FIELDS = {"as_of", "flat", "version"}


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Download:
    """A file on its way."""

    #: as the tree shows it, without the mount point
    path: str
    #: bytes that are here
    done: int
    #: bytes in all
    size: int
    #: bytes a second
    rate: float


@dataclass(frozen=True, slots=True)
class MountStatus:
    """What changes while a mount runs."""

    #: :data:`READY`, :data:`OFFLINE` when the server cannot be reached, or :data:`REFUSED` when it
    #: refuses the login
    state: str = READY
    cache_bytes: int = 0
    downloads: tuple[Download, ...] = ()
    #: bytes of the last hour, and how many an hour may have; None is no limit
    fetched: int = 0
    fetch_limit: int | None = None
    #: one sentence each on a cache or state folder that was deleted, or whose disk is away
    folders: tuple[str, ...] = ()
    #: one sentence each on what keeps files from being read: a full disk, --max-fetch, a refusal
    troubles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MountInfo:
    """One mount, as ``onefs status`` shows it."""

    mountpoint: str
    #: the daemon; None when it is dead
    pid: int | None
    url: str = ""
    profile: str | None = None
    username: str = ""
    cache_dir: str = ""
    #: where its catalogue is
    state_dir: str = ""
    #: bytes; None is no limit
    cache_limit: int | None = None
    #: seconds since the epoch
    since: float = 0.0
    status: MountStatus = MountStatus()
    log_file: str | None = None
    #: the mount command made the folder, so that umount removes it
    made: bool = False
    #: the day whose revisions it shows; '' for all. A record of an older onefs does not say
    as_of: str = ""
    #: it shows default datasets without their folders; not said by an older onefs either
    flat: bool = False
    #: of the onefs that serves it; '' where a record of an older onefs does not say
    version: str = ""

    @property
    def variant(self) -> Variant:
        """What of the tree it shows."""
        return Variant(self.as_of, self.flat)

    def to_json(self) -> dict[str, Any]:
        """The shape that ``onefs status --json`` promises."""
        fetched = {"fetched": self.status.fetched, "fetch_limit": self.status.fetch_limit}
        return {
            "mountpoint": self.mountpoint,
            "pid": self.pid,
            "url": self.url,
            "profile": self.profile,
            "cache_dir": self.cache_dir,
            "cache_bytes": self.status.cache_bytes,
            "cache_limit": self.cache_limit,
            "state": self.status.state,
            "since": self.since,
            "log_file": self.log_file,
            "version": self.version or None,
            **({"as_of": self.as_of} if self.as_of else {}),
            **({"flat": True} if self.flat else {}),
            **(fetched if self.status.fetch_limit is not None else {}),
            **({"folders": list(self.status.folders)} if self.status.folders else {}),
            **({"troubles": list(self.status.troubles)} if self.status.troubles else {}),
            "downloads": [asdict(download) for download in self.status.downloads],
        }


class MountRecord:
    """The daemon's own entry. Written when it changes, at most once in ``interval`` seconds.

    Raises :class:`MountError` when it cannot be made. Later, a full disk ends no mount: what
    cannot be written is logged once.
    """

    def __init__(self, info: MountInfo, folder: Path | None = None, interval: float = 1.0) -> None:
        self._info = info
        self._interval = interval
        self._written_at = time.monotonic()
        self._is_failure_logged = False
        self._path = _first_usable_path(info.mountpoint, folder, info.state_dir, self._write)

    def update(self, status: MountStatus) -> None:
        """Note what changed. Too early, it does nothing: the next call notes it."""
        if status == self._info.status or time.monotonic() - self._written_at < self._interval:
            return
        self._info = replace(self._info, status=status)
        self._written_at = time.monotonic()
        try:
            self._write()
        except OSError as error:
            if not self._is_failure_logged:
                log.warning("the register of mounts cannot be written: %s", reason_of(error))
            self._is_failure_logged = True

    def remove(self) -> None:
        """Take the entry away, unless another daemon has taken the place over."""
        raw = _load_record(self._path)
        if raw is not None and raw.get("pid") == os.getpid():
            self._path.unlink(missing_ok=True)

    def _write(self, path: Path | None = None) -> None:
        pid = os.getpid()
        raw = {**_host_and_boot(), "started": start_ticks_of(pid), **asdict(self._info)}
        if not self._info.status.folders:  # an older `onefs status` knows no such field
            del raw["status"]["folders"]
        raw["troubles"] = raw["status"].pop("troubles")  # nor this one
        path = path or self._path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, json.dumps(raw, indent=2).encode())


def default_registry_folder() -> Path:
    """Where the register is."""
    return Path(platformdirs.user_state_dir("onefs")) / "mounts"


def _registry_folders(folder: Path | None) -> list[Path]:
    """Where the records are looked for."""
    if folder is not None:
        return [folder]
    state = os.environ.get("ONEFS_STATE_DIR")
    return [default_registry_folder(), *([Path(absolute(state)) / "mounts"] if state else [])]


def _first_usable_path(
    mountpoint: str, folder: Path | None, state_dir: str, use: Callable[[Path], object]
) -> Path:
    """The record's path in the register, or in the mount's own state folder where ``use`` fails
    with the register. Raises MountError."""
    places = [folder or default_registry_folder()]
    if folder is None and state_dir:
        places.append(Path(state_dir) / "mounts")
    trouble: OSError | None = None
    for place in places:
        path = _record_path(mountpoint, place)
        try:
            use(path)
        except OSError as error:
            trouble = trouble or error
        else:
            return path
    why = reason_of(trouble) if trouble is not None else "there is no folder for it"
    raise MountError(
        f"The register of mounts cannot be written ({why}); set XDG_STATE_HOME or ONEFS_STATE_DIR "
        "to a folder of yours."
    ) from trouble


def list_mounts(folder: Path | None = None) -> list[MountInfo]:
    """This user's mounts on this machine, the dead ones too, by mount point.

    Records whose daemon and mount are both gone are removed.
    """
    records: dict[str, Mapping[str, Any]] = {}
    for place in reversed(_registry_folders(folder)):
        records.update(_read_records(place))
    ours = {
        mounted.mountpoint
        for mounted in read_mounts()
        if mounted.is_onefs and mounted.uid in (None, os.getuid())
    }
    return [_info_of_mount(mountpoint, records.get(mountpoint)) for mountpoint in sorted(ours)]


def with_current_status(found: Sequence[MountInfo]) -> list[MountInfo]:
    """The same mounts with what each says of itself now; what its record says where a daemon does
    not answer, or is of an older onefs."""
    running = [each.mountpoint for each in found if each.pid is not None]
    told = {
        place: _decode_status(text)
        for place, text in kernel_mounts.read_root_xattrs(
            running, STATUS_XATTR, _STATUS_TIMEOUT_SECONDS
        ).items()
    }
    return [
        each if (now := told.get(each.mountpoint)) is None else replace(each, status=now.status)
        for each in found
    ]


def mounts_of_other_users() -> list[MountInfo]:
    """What the mounts of other users say of themselves; those that this user may not look into
    are left out. A command finds no folder of theirs to use: there is only the mount."""
    places = {each.mountpoint for each in read_mounts() if each.is_onefs and each.other_owner}
    told = kernel_mounts.read_root_xattrs(sorted(places), STATUS_XATTR, _STATUS_TIMEOUT_SECONDS)
    return [info for text in told.values() if (info := _decode_status(text)) is not None]


def encode_status(info: MountInfo) -> str:
    """The text of :data:`STATUS_XATTR`."""
    few = info.status.downloads[:_MAX_REPORTED_DOWNLOADS]
    return json.dumps(
        asdict(replace(info, username="", status=replace(info.status, downloads=few)))
    )


def _decode_status(text: bytes) -> MountInfo | None:
    """What a mount says of itself; None when it is not understood."""
    try:
        return _parse_info(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError):  # of another version
        return None


def find_record(mountpoint: str, folder: Path | None = None) -> MountInfo | None:
    """The record of ``mountpoint`` (resolved); None without one. Its pid is None when the daemon
    is dead, whoever has that number now."""
    raws = (_load_record(_record_path(mountpoint, place)) for place in _registry_folders(folder))
    raw = next((raw for raw in raws if raw is not None and _is_of_this_host(raw)), None)
    if raw is None:
        return None
    return _parse_info(raw) if _is_daemon_alive(raw) else replace(_parse_info(raw), pid=None)


def remove_record(mountpoint: str, folder: Path | None = None) -> None:
    """Remove the record of a mount that is gone."""
    for place in _registry_folders(folder):
        with suppress(OSError):  # gone already, or in a folder that cannot be written
            _record_path(mountpoint, place).unlink()


@contextmanager
def claim_mountpoint(
    mountpoint: str, folder: Path | None = None, state_dir: str = ""
) -> Iterator[None]:
    """Keep this user's other processes from mounting at ``mountpoint`` (resolved) meanwhile.

    The kernel would put one mount over the other. Raises :class:`MountError` at once when another
    process has claimed it.
    """
    opened: list[int] = []

    def open_in(path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # one file for all places, each with a byte of its own: no file stays for each place
        opened.append(open_lock_file(path.with_name("claims")))

    path = _first_usable_path(mountpoint, folder, state_dir, open_in)
    lock = opened[0]
    try:
        if not lock_or_go_on(lambda: try_lock(lock, int(path.stem[:15], 16))):
            raise MountError(f"Another process is just mounting at {mountpoint}.")
        yield
    finally:
        close_lock_file(lock)


def _read_records(folder: Path) -> dict[str, Mapping[str, Any]]:
    """The records of this machine that are of use, by mount point; the others are removed."""
    records: dict[str, Mapping[str, Any]] = {}
    mounted = {mount.mountpoint for mount in read_mounts()}
    for path in folder.glob("*.json"):
        raw = _load_record(path)
        if raw is None or raw["host"] != socket.gethostname():
            continue
        if raw["mountpoint"] in mounted or _is_daemon_alive(raw):
            records[raw["mountpoint"]] = raw
        else:
            with suppress(OSError):
                path.unlink()
    return records


def _info_of_mount(mountpoint: str, raw: Mapping[str, Any] | None) -> MountInfo:
    if raw is not None and _is_daemon_alive(raw):
        return _parse_info(raw)
    stale = kernel_mounts.is_stale(mountpoint)
    working = READY if raw is not None else FOREIGN
    info = MountInfo(mountpoint, None) if raw is None else _parse_info(raw)
    # nothing comes any more, but what the cache had is still there
    status = replace(info.status, state=STALE if stale else working, downloads=())
    return replace(info, pid=None, status=status)


def _parse_info(raw: Mapping[str, Any]) -> MountInfo:
    fields = {name: raw[name] for name in MountInfo.__dataclass_fields__ if name in raw}
    status = fields["status"]
    downloads = tuple(Download(**download) for download in status["downloads"])
    folders = tuple(status.get("folders", ()))
    troubles = tuple(raw.get("troubles", status.get("troubles", ())))
    lists = {"downloads": downloads, "folders": folders, "troubles": troubles}
    fields["status"] = MountStatus(**{**status, **lists})
    return MountInfo(**fields)


def _host_and_boot() -> dict[str, str]:
    return {"host": socket.gethostname(), "boot": boot_id()}


def _is_of_this_host(raw: Mapping[str, Any]) -> bool:
    return bool(raw["host"] == socket.gethostname())


def _is_daemon_alive(raw: Mapping[str, Any]) -> bool:
    """Whether the daemon that wrote this runs: the same process, not one with its number."""
    return bool(
        raw["boot"] == boot_id() and raw["started"] == start_ticks_of(raw["pid"]) is not None
    )


def _record_path(mountpoint: str, folder: Path) -> Path:
    place = f"{socket.gethostname()}\0{mountpoint}".encode("utf-8", "surrogateescape")
    return folder / f"{hashlib.sha1(place).hexdigest()[:16]}.json"


def _load_record(path: Path) -> dict[str, Any] | None:
    """A record, None when there is none or it is not one of ours."""
    try:
        raw = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    needed = {"host", "boot", "started", *MountInfo.__dataclass_fields__} - _OPTIONAL_FIELDS
    return raw if isinstance(raw, dict) and needed <= raw.keys() else None
