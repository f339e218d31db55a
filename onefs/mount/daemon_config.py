"""The configuration of a mount's daemon, sent by the command that starts the daemon."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from onefs.errors import UsageError


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """The configuration of a daemon.

    The configuration may contain secrets, so it is sent only through a pipe.
    """

    #: absolute path of an empty folder, without symbolic links in the path; see
    #: :func:`mountpoints.prepare_mountpoint`
    mountpoint: str
    #: the name that ``df`` and ``mount`` show: ``onefs:<host>``
    fsname: str
    #: path of the daemon's log file; None means that the daemon logs to standard error
    log_file: str | None = None
    log_level: str = "INFO"
    allow_other: bool = False
    #: whether the mount command created the folder of the mount point
    made: bool = False
    #: the fields from ``url`` to ``cache_limit`` are shown by ``onefs status``
    url: str = ""
    profile: str | None = None
    username: str = ""
    cache_dir: str = ""
    state_dir: str = ""
    #: largest size of the cache in bytes; None means that there is no limit
    cache_limit: int | None = None
    #: the permissions, user and group of all files; see ``onefs.config.file_attributes``. If
    #: ``uid`` or ``gid`` is None, the user or group of the daemon is used.
    umask: int = 0
    uid: int | None = None
    gid: int | None = None
    #: the day whose revisions are shown; '' means that all revisions are shown
    as_of: str = ""
    #: whether default datasets are shown without their folders
    flat: bool = False
    #: settings from which the tree is built. They must be JSON values; this module does not use
    #: them.
    settings: dict[str, Any] = field(default_factory=dict, repr=False)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> DaemonConfig:
        """Return the configuration in ``text``, which :meth:`to_json` has written.

        Raises :class:`UsageError` if ``text`` is not JSON with the fields of this class.
        """
        try:
            raw = json.loads(text)
        except ValueError as error:
            raise UsageError(
                "The daemon got no configuration on standard input: use `onefs mount` to start it."
            ) from error
        known = {each.name for each in fields(cls)}
        if not isinstance(raw, dict) or not {"mountpoint", "fsname"} <= raw.keys() <= known:
            raise UsageError(
                "The daemon got a configuration with missing or unknown fields: use `onefs mount` "
                "to start it."
            )
        return cls(**raw)
