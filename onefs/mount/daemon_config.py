"""What a mount's daemon is told by the command that starts it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from onefs.errors import UsageError


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """Everything that the daemon knows. It may hold secrets: it travels through a pipe only."""

    #: absolute and resolved, an empty folder (see :func:`onefs.mount.mountpoints.prepare`)
    mountpoint: str
    #: what ``df`` and ``mount`` show: ``onefs:<host>``
    fsname: str
    #: the file that the daemon logs to; None: standard error
    log_file: str | None = None
    log_level: str = "INFO"
    allow_other: bool = False
    #: the mount command made the folder
    made: bool = False
    #: what ``onefs status`` shows of this mount
    url: str = ""
    profile: str | None = None
    username: str = ""
    cache_dir: str = ""
    state_dir: str = ""
    #: bytes; None is no limit
    cache_limit: int | None = None
    #: how files look (see ``onefs.config.file_attributes``); without a number they are of who
    #: mounts
    umask: int = 0
    uid: int | None = None
    gid: int | None = None
    #: the day whose revisions it shows; '' for all
    as_of: str = ""
    #: it shows default datasets without their folders
    flat: bool = False
    #: what the tree is built from; opaque here, JSON values only
    settings: dict[str, Any] = field(default_factory=dict, repr=False)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> DaemonConfig:
        """The reverse of :meth:`to_json`. Raises :class:`UsageError` on anything else."""
        try:
            raw = json.loads(text)
        except ValueError as error:
            raise UsageError("The daemon got no configuration on standard input.") from error
        known = {each.name for each in fields(cls)}
        if not isinstance(raw, dict) or not {"mountpoint", "fsname"} <= raw.keys() <= known:
            raise UsageError("The daemon got a configuration that is not one of onefs.")
        return cls(**raw)
