"""The registry of this user's mounts, used by ``onefs status`` and ``onefs umount``.

Each mount has a record, which is a JSON file. The record is in the user's default state folder (the
folder for onefs's databases and records), and not in the folder given by ``--state-dir``, so that
every command finds the record. If the default folder is not writable, the record is in the mount's
own state folder. Commands search a mount's own state folder only if the environment variable
ONEFS_STATE_DIR contains the path of this folder.

A record contains the host's name and the id of the host's boot, because several hosts may share a
home folder. Records of other hosts are neither shown nor removed. Only the daemon writes the
daemon's record, and each write is atomic.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from onefs.mount.processes import start_ticks_of
from onefs.tree.nodes import XATTR_PREFIX
from onefs.tree.variant import Variant

READY = "ready"
OFFLINE = "offline"
REFUSED = "refused"
STALE = "stale"
#: state of a mount without a record: either another user owns the mount, or the record is in
#: another state folder
FOREIGN = "foreign"
#: the kind of a source that is a disk
DISK = "disk"

#: extended attribute of a mount's root. Its value is the mount's present :class:`MountInfo` as
#: JSON, without the user name of the login.
STATUS_XATTR = f"{XATTR_PREFIX}status"
#: largest number of downloads in the attribute STATUS_XATTR. The kernel limits an attribute to
#: 64 KiB, and the path of a download may have 4 KiB.
_MAX_REPORTED_DOWNLOADS = 12
#: longest time in seconds that reading the attribute STATUS_XATTR may take
_STATUS_TIMEOUT_SECONDS = 2.0

#: fields that are missing in records of older versions of onefs
_OPTIONAL_FIELDS = {"as_of", "flat", "version"}


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Download:
    """A file that is being downloaded."""

    #: the file's path in the tree, without the mount point
    path: str
    #: number of bytes that are cached
    done: int
    #: number of bytes in the whole file
    size: int
    #: speed of the download in bytes per second
    rate: float


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """What a mount has read from a bucket, a file server or a disk since it began."""

    #: ``bucket``, ``server`` or ``disk``
    kind: str
    #: the bucket, or Alyx's repository that is in it; the host; the absolute path of the folder
    name: str
    #: number of bytes that were fetched. The files of a disk are not fetched
    bytes: int = 0
    #: number of files of a disk that were read in place
    files: int = 0
    #: a sentence on why a disk is away; '' if it is there
    away: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the object of this source in ``onefs status --json``."""
        named = {"kind": self.kind, "name": self.name}
        if self.kind == DISK:
            return {**named, "files": self.files, "away": self.away}
        return {**named, "bytes": self.bytes}


@dataclass(frozen=True, slots=True)
class MountStatus:
    """The values of a mount that change while the mount exists."""

    #: :data:`READY`, :data:`OFFLINE` if the server is unreachable, :data:`REFUSED` if a server
    #: refuses the login, :data:`STALE` if the daemon is dead, or :data:`FOREIGN`
    state: str = READY
    cache_bytes: int = 0
    downloads: tuple[Download, ...] = ()
    #: number of bytes downloaded in the last hour, and the limit of this number; None means that
    #: there is no limit
    fetched: int = 0
    fetch_limit: int | None = None
    #: a sentence for each cache folder or state folder that was deleted or whose disk is absent
    folders: tuple[str, ...] = ()
    #: a sentence for each cause that prevents reads of files, such as a full disk, the limit
    #: --max-fetch, or a refused login
    troubles: tuple[str, ...] = ()
    #: all disks, and the buckets and file servers that bytes were fetched from
    sources: tuple[SourceStatus, ...] = ()

    @property
    def disks(self) -> tuple[str, ...]:
        """The folders of the disks."""
        return tuple(each.name for each in self.sources if each.kind == DISK)


@dataclass(frozen=True, slots=True)
class MountInfo:
    """The values of one mount that ``onefs status`` shows."""

    mountpoint: str
    #: pid of the daemon; None if the daemon is dead, or if the mount has no record
    pid: int | None
    url: str = ""
    profile: str | None = None
    username: str = ""
    cache_dir: str = ""
    #: the folder of the mount's catalogue
    state_dir: str = ""
    #: largest size of the cache in bytes; None means that there is no limit
    cache_limit: int | None = None
    #: time of mounting, in seconds since the epoch
    since: float = 0.0
    status: MountStatus = MountStatus()
    log_file: str | None = None
    #: whether the mount command created the folder of the mount point, so that ``onefs umount``
    #: removes this folder
    made: bool = False
    #: the day whose revisions are shown; '' means that all revisions are shown. Records of older
    #: versions do not have this field.
    as_of: str = ""
    #: whether default datasets are shown without their folders. Records of older versions do not
    #: have this field.
    flat: bool = False
    #: version of the onefs that serves the mount; '' if the record was written by an older version
    version: str = ""

    @property
    def variant(self) -> Variant:
        """The variant of the tree that the mount shows: full, as of a day, or flat."""
        return Variant(self.as_of, self.flat)

    def to_json(self) -> dict[str, Any]:
        """Return the object that ``onefs status --json`` prints for this mount.

        The format is described in docs/COMMANDS.md.
        """
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
            "sources": [each.to_json() for each in self.status.sources],
            "downloads": [asdict(download) for download in self.status.downloads],
        }


class MountRecord:
    """The record of a daemon in the registry, written by the daemon itself.

    The record is written when the status changes, but at most once in ``interval`` seconds. Raises
    :class:`MountError` if the record cannot be created. The error of a later write is only logged.
    """

    def __init__(self, info: MountInfo, folder: Path | None = None, interval: float = 1.0) -> None:
        self._info = info
        self._interval = interval
        self._written_at = time.monotonic()
        self._is_failure_logged = False
        self._path = _first_usable_path(info.mountpoint, folder, info.state_dir, self._write)

    def update(self, status: MountStatus) -> None:
        """Write the record if the status has changed.

        Do nothing if the last write was less than ``interval`` seconds ago: a later call writes the
        status.
        """
        if status == self._info.status or time.monotonic() - self._written_at < self._interval:
            return
        self._info = replace(self._info, status=status)
        self._written_at = time.monotonic()
        try:
            self._write()
        except OSError as error:
            if not self._is_failure_logged:
                log.warning("the registry of mounts cannot be written: %s", reason_of(error))
            self._is_failure_logged = True

    def remove(self) -> None:
        """Remove the record, except if another daemon has replaced the record."""
        # the path depends only on host and mount point, so a later daemon at the same mount point
        # replaces the record
        raw = _load_record(self._path)
        if raw is not None and raw.get("pid") == os.getpid():
            self._path.unlink(missing_ok=True)

    def _write(self, path: Path | None = None) -> None:
        pid = os.getpid()
        raw = {
            "host": os.uname().nodename,
            "boot": boot_id(),
            "started": start_ticks_of(pid),
            **_raw_info(self._info),
        }
        if not self._info.status.folders:
            del raw["status"]["folders"]
        raw["troubles"] = raw["status"].pop("troubles")
        path = path or self._path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, json.dumps(raw, indent=2).encode())


def default_registry_folder() -> Path:
    """Return the default folder of the registry. ONEFS_STATE_DIR does not change this folder."""
    return Path(platformdirs.user_state_dir("onefs")) / "mounts"


def _registry_folders(folder: Path | None) -> list[Path]:
    """Return the folders that are searched for records.

    A record in an earlier folder is used instead of a record in a later folder.
    """
    if folder is not None:
        return [folder]
    state = os.environ.get("ONEFS_STATE_DIR")
    return [default_registry_folder(), *([Path(absolute(state)) / "mounts"] if state else [])]


def _first_usable_path(
    mountpoint: str, folder: Path | None, state_dir: str, use: Callable[[Path], object]
) -> Path:
    """Return the path of a mount's record in the first folder in which ``use`` succeeds.

    ``use`` is called with a path, and raises OSError for failure. Raises MountError if ``use``
    fails in each folder.
    """
    # the registry, then the mount's own state folder
    folders = [folder or default_registry_folder()]
    if folder is None and state_dir:
        folders.append(Path(state_dir) / "mounts")
    failures = []
    for each in folders:
        path = _record_path(mountpoint, each)
        try:
            use(path)
        except OSError as error:
            failures.append(error)
        else:
            return path
    raise MountError(
        f"The registry of mounts cannot be written ({reason_of(failures[0])}); set XDG_STATE_HOME "
        "or ONEFS_STATE_DIR to a folder of yours."
    ) from failures[0]


def list_mounts(folder: Path | None = None, *, probe: bool = False) -> list[MountInfo]:
    """Return this user's mounts on this machine, sorted by mount point.

    Mounts whose daemon is dead are included. Removes the records of dead daemons whose mounts no
    longer exist. ``probe`` makes sure that a mount without a known daemon is stale, which takes
    PROBE_SECONDS if a mount hangs; otherwise only the record is read.
    """
    records: dict[str, Mapping[str, Any]] = {}
    for place in reversed(_registry_folders(folder)):
        records.update(_read_records(place))
    ours = {
        mounted.mountpoint
        for mounted in read_mounts()
        if mounted.is_onefs and mounted.uid in (None, os.getuid())
    }
    infos = {each: _recorded_info(each, records.get(each)) for each in sorted(ours)}
    if probe:
        # imported here and below, because few commands need more than the records
        from onefs.mount import mount_probes

        unknown = [each for each, info in infos.items() if info.pid is None]
        for each, stale in mount_probes.are_stale(unknown).items():
            working = READY if each in records else FOREIGN
            status = replace(infos[each].status, state=STALE if stale else working)
            infos[each] = replace(infos[each], status=status)
    return list(infos.values())


def with_current_status(mounts: Sequence[MountInfo]) -> list[MountInfo]:
    """Return the mounts with their present status, which is read from each mount.

    If a mount does not report its status in time, the status in its record is returned.
    """
    # a dead daemon, or a daemon of an older version, reports no status
    current = _read_infos(each.mountpoint for each in mounts if each.pid is not None)
    return [replace(each, status=current.get(each.mountpoint, each).status) for each in mounts]


def mounts_of_other_users() -> list[MountInfo]:
    """Return those mounts of other users that are accessible to this user."""
    places = {each.mountpoint for each in read_mounts() if each.is_onefs and each.other_owner}
    # read from the mounts, because this user cannot read the records of other users
    return list(_read_infos(sorted(places)).values())


def encode_status(info: MountInfo) -> str:
    """Return the value of the attribute :data:`STATUS_XATTR` for a mount."""
    few = info.status.downloads[:_MAX_REPORTED_DOWNLOADS]
    return json.dumps(
        _raw_info(replace(info, username="", status=replace(info.status, downloads=few)))
    )


def _raw_info(info: MountInfo) -> dict[str, Any]:
    """Return the values of a mount for JSON. :func:`_parse_info` reads them."""
    raw = asdict(info)
    # `onefs status` of an older version fails if the status has a field that it does not know
    raw["sources"] = raw["status"].pop("sources")
    return raw


def _read_infos(mountpoints: Iterable[str]) -> dict[str, MountInfo]:
    """Return the values that each mount reports in its attribute :data:`STATUS_XATTR`.

    Mounts that do not respond in time, or report invalid values, are left out.
    """
    from onefs.mount import mount_probes

    infos = {}
    texts = mount_probes.read_root_xattrs(mountpoints, STATUS_XATTR, _STATUS_TIMEOUT_SECONDS)
    for mountpoint, text in texts.items():
        # the daemon may be of another version, whose values are invalid here
        with suppress(ValueError, TypeError, KeyError, AttributeError):
            infos[mountpoint] = _parse_info(json.loads(text))
    return infos


def find_record(mountpoint: str, folder: Path | None = None) -> MountInfo | None:
    """Return the record of ``mountpoint``, an absolute path without symbolic links.

    Return None if there is no record. The record's pid is None if the daemon is dead.
    """
    raws = (_load_record(_record_path(mountpoint, place)) for place in _registry_folders(folder))
    host = os.uname().nodename
    raw = next((raw for raw in raws if raw is not None and raw["host"] == host), None)
    if raw is None:
        return None
    # a dead daemon's pid is dropped, because another process may have this pid now
    return _parse_info(raw) if _is_daemon_alive(raw) else replace(_parse_info(raw), pid=None)


def remove_record(mountpoint: str, folder: Path | None = None) -> None:
    """Remove the record of the ended mount at ``mountpoint``. Do nothing if there is no record."""
    for each in _registry_folders(folder):
        with suppress(OSError):  # the record does not exist, or the folder is not writable
            _record_path(mountpoint, each).unlink()


@contextmanager
def claim_mountpoint(
    mountpoint: str, folder: Path | None = None, state_dir: str = ""
) -> Iterator[None]:
    """Prevent this user's other processes from mounting at ``mountpoint`` in the ``with`` block.

    Raises :class:`MountError` immediately if another process is mounting there, or if no folder
    of the registry is writable.
    """
    # without a claim, two processes could mount here, and the later mount would hide the earlier
    # one
    opened: list[int] = []

    def open_in(path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # one file for all mount points, so that lock files do not accumulate: the claim of a mount
        # point locks one byte of the file
        opened.append(open_lock_file(path.with_name("claims")))

    path = _first_usable_path(mountpoint, folder, state_dir, open_in)
    lock = opened[0]
    try:
        if not lock_or_go_on(lambda: try_lock(lock, int(path.stem[:15], 16))):
            raise MountError(
                f"Another process is mounting at {mountpoint} at the same time: try again later, "
                "or choose another folder."
            )
        yield
    finally:
        close_lock_file(lock)


def _read_records(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Return the valid records of mounts on this machine, by mount point.

    Delete the records whose daemon is dead and whose mount no longer exists.
    """
    records: dict[str, Mapping[str, Any]] = {}
    mounted = {mount.mountpoint for mount in read_mounts()}
    for path in folder.glob("*.json"):
        raw = _load_record(path)
        if raw is None or raw["host"] != os.uname().nodename:
            continue
        if raw["mountpoint"] in mounted or _is_daemon_alive(raw):
            records[raw["mountpoint"]] = raw
        else:
            with suppress(OSError):
                path.unlink()
    return records


def _recorded_info(mountpoint: str, raw: Mapping[str, Any] | None) -> MountInfo:
    """Return what the record of a mount says. The mount is stale if its daemon is dead."""
    if raw is None:
        return MountInfo(mountpoint, None, status=MountStatus(state=FOREIGN))
    info = _parse_info(raw)
    if _is_daemon_alive(raw):
        return info
    # the downloads have ended, but the files in the cache remain, so ``cache_bytes`` is kept
    return replace(info, pid=None, status=replace(info.status, state=STALE, downloads=()))


def _parse_info(raw: Mapping[str, Any]) -> MountInfo:
    fields = {name: raw[name] for name in MountInfo.__dataclass_fields__ if name in raw}
    status = fields["status"]
    downloads = tuple(Download(**download) for download in status["downloads"])
    folders = tuple(status.get("folders", ()))
    troubles = tuple(raw.get("troubles", status.get("troubles", ())))
    sources = tuple(SourceStatus(**source) for source in raw.get("sources", ()))
    lists = {
        "downloads": downloads,
        "folders": folders,
        "troubles": troubles,
        "sources": sources,
    }
    fields["status"] = MountStatus(**{**status, **lists})
    return MountInfo(**fields)


def _is_daemon_alive(raw: Mapping[str, Any]) -> bool:
    """Whether the daemon that wrote the record is running.

    Return False if the daemon's pid belongs to another process now.
    """
    return bool(
        raw["boot"] == boot_id() and raw["started"] == start_ticks_of(raw["pid"]) is not None
    )


def _record_path(mountpoint: str, folder: Path) -> Path:
    place = f"{os.uname().nodename}\0{mountpoint}".encode("utf-8", "surrogateescape")
    return folder / f"{hashlib.sha1(place).hexdigest()[:16]}.json"


def _load_record(path: Path) -> dict[str, Any] | None:
    """Return the record in the file ``path``, or None if the file does not exist or is invalid."""
    try:
        raw = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    needed = {"host", "boot", "started", *MountInfo.__dataclass_fields__} - _OPTIONAL_FIELDS
    return raw if isinstance(raw, dict) and needed <= raw.keys() else None
