"""The configuration of a mount's daemon, sent by the command that starts it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from onefs.errors import UsageError


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """The configuration of a daemon. It may contain secrets, so it is sent through a pipe only."""

    #: absolute, without links; an empty folder, see :func:`mountpoints.prepare_mountpoint`
    mountpoint: str
    #: the name that ``df`` and ``mount`` show: ``onefs:<host>``
    fsname: str
    #: the file that the daemon logs to; None means standard error
    log_file: str | None = None
    log_level: str = "INFO"
    allow_other: bool = False
    #: whether the mount command created the folder
    made: bool = False
    #: from here to ``cache_limit``: shown by ``onefs status``
    url: str = ""
    profile: str | None = None
    username: str = ""
    cache_dir: str = ""
    state_dir: str = ""
    #: bytes; None is no limit
    cache_limit: int | None = None
    #: attributes of all files (see ``onefs.config.file_attributes``); without numbers, user and
    #: group are those of the daemon
    umask: int = 0
    uid: int | None = None
    gid: int | None = None
    #: the day whose revisions are shown; '' for all revisions
    as_of: str = ""
    #: whether default datasets are shown without their folders
    flat: bool = False
    #: settings that the tree is built from; opaque here, JSON values only
    settings: dict[str, Any] = field(default_factory=dict, repr=False)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> DaemonConfig:
        """Parse the text of :meth:`to_json`. Raises :class:`UsageError` for any other text."""
        try:
            raw = json.loads(text)
        except ValueError as error:
            raise UsageError("The daemon got no configuration on standard input.") from error
        known = {each.name for each in fields(cls)}
        if not isinstance(raw, dict) or not {"mountpoint", "fsname"} <= raw.keys() <= known:
            raise UsageError("The daemon got a configuration that is not one of onefs.")
        return cls(**raw)
