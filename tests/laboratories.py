"""Laboratories for the system tests: servers in this process, and small folders to serve."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onefs.access import Access, Deadlines, GivenLogin
from onefs.config.credentials import DataCredentials
from onefs.config.secret import Secret
from onefs.config.settings import Settings
from onefs.demo import http_server
from onefs.demo.records import DatasetRecord, Login, SessionRecord, Source
from onefs.demo.rest.errors import ApiError
from onefs.demo.servers import Servers
from tests import rig

#: seconds for which a file server can be silent
LONGEST_STALL_SECONDS = 120.0


def account(servers: Servers, token: str = "") -> dict[str, str]:
    """Return the environment of a user of these servers, with a password or with ``token``."""
    login = servers.login
    secret = {"ONEFS_TOKEN": token} if token else {"ONEFS_PASSWORD": login.password}
    return {
        "ONEFS_URL": servers.alyx_url,
        "ONEFS_USERNAME": login.username,
        "ONEFS_DATA_USERNAME": login.data_username,
        "ONEFS_DATA_PASSWORD": login.data_password,
        "ONEFS_DATA_HOSTS": servers.data_url,
        **secret,
    }


def on_same_ports(stopped: Servers, source: Source, login: Login) -> Servers:
    """Return servers on the ports of others that have stopped. Tokens depend on the password."""
    return Servers(source, login, alyx_port=stopped.alyx.port, data_port=stopped.data.port)


def open_laboratory(
    servers: Servers,
    folder: Path,
    *,
    offline: bool = False,
    as_of: str = "",
    data_password: str = "",
    deadline: float = 60.0,
) -> Access:
    """Open a laboratory with the embedded one's login, in folders below ``folder``.

    ``data_password`` replaces the right one for the file server; ``deadline`` is the time for a
    request to Alyx, in seconds: a busy machine answers in that.
    """
    login = servers.login
    secret = Secret(data_password or login.data_password)
    data = DataCredentials(login.data_username, secret, "test")
    settings = Settings(
        url=servers.alyx_url,
        username=login.username,
        profile="",
        cache_dir=folder / "cache",
        state_dir=folder / "state",
        data_url=servers.data_url,
    )
    return Access(
        settings,
        "test",
        login=GivenLogin(login.password, data),
        deadlines=Deadlines(metadata=deadline, stall=5.0),
        offline=offline,
        as_of=as_of,
    )


def data_requests(servers: Servers, holding: str = "") -> list[http_server.AccessRecord]:
    """Return the requests to the file server whose path contains ``holding``."""
    return [each for each in servers.requests if each.server == "data" and holding in each.path]


def downloads(servers: Servers, holding: str = "") -> list[http_server.AccessRecord]:
    """Return the requests that the file server answered with bytes of a file."""
    return [each for each in data_requests(servers, holding) if each.status in (200, 206)]


def alyx_requests(servers: Servers) -> list[http_server.AccessRecord]:
    """Return the GET requests to Alyx."""
    return [each for each in servers.requests if each.server == "alyx" and each.method == "GET"]


#: files of :func:`small_folder` from the lab on, without ``Subjects/``
SMALL = (
    "labone/mouse.1/2021-03-04/001/alf/probe00/spikes.times.npy",
    "labone/mouse.1/2021-03-04/001/alf/probe01/spikes.times.npy",
    "labone/mouse.1/2021-03-04/001/alf/_ibl_trials.choice.npy",
    "labone/mouse.1/2021-03-04/001/alf/#2022-01-01#/_ibl_trials.choice.npy",
    "labone/mouse.1/2021-03-04/001/notes.md",
    "labone/mouse.1/2021-03-04/002/alf/licks.times.npy",
    "labone/mouse.2/2021-03-05/010/alf/licks.times.npy",
    "labtwo/mouse.1/2021-03-04/001/alf/licks.times.npy",
)


def small_folder(folder: Path, size: int = 3000) -> Path:
    """Write an ALF folder of two labs, :data:`SMALL` and the rig's files, of ``size`` values each.

    Contents differ from file to file.
    """
    for path in SMALL:
        lab, rest = path.split("/", 1)
        file = folder / lab / "Subjects" / rest
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".npy":
            seed = int(hashlib.sha1(path.encode()).hexdigest()[:8], 16)
            np.save(file, np.random.default_rng(seed).random(size))
        else:
            file.write_text(f"# Notes of {path}\n")
    shutil.copytree(rig.FILES, folder, dirs_exist_ok=True)
    return folder


def small_file(folder: Path, path: str) -> Path:
    """Return the original of a file of :func:`small_folder`, by its path in the mount."""
    lab, rest = path.split("/", 1)
    return folder / lab / "Subjects" / rest


class AlteredLaboratory:
    """Base class of sources that alter some rows or files of ``source``."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


class FailingDatasets(AlteredLaboratory):
    """A source whose Alyx answers requests for datasets with ``error``, if that is set."""

    error: ApiError | None = None
    #: the only session that fails; '' for all
    only_eid: str = ""

    def datasets(self, eid: str) -> Sequence[DatasetRecord]:
        """See :class:`onefs.demo.records.Source`."""
        if self.error is not None and self.only_eid in ("", eid):
            raise self.error
        found: Sequence[DatasetRecord] = self._source.datasets(eid)
        return found


class StallingLaboratory(AlteredLaboratory):
    """A source whose file server stalls for the files whose path contains ``word``.

    It stalls until :meth:`release`, and again after :meth:`stall`.
    """

    def __init__(self, source: Source, word: str) -> None:
        super().__init__(source)
        self._word = word
        self._flowing = threading.Event()

    def stall(self) -> None:
        """Stop answering."""
        self._flowing.clear()

    def release(self) -> None:
        """Answer again, including the requests that wait."""
        self._flowing.set()

    def file(self, path: str) -> Path | bytes | None:
        """See :class:`onefs.demo.records.Source`."""
        if self._word in path:
            self._flowing.wait(LONGEST_STALL_SECONDS)
        return self._source.file(path)


class TwinSessions(AlteredLaboratory):
    """A source with a second session on the day and number of the session of subject flowers.

    The second one has the higher UUID, and so the mark, and has no datasets.
    """

    first = "4e0b3320-47b7-416e-b842-c34dc9004cf8"
    other = "fe0b3320-47b7-416e-b842-c34dc9004cf8"
    eids = (first, other)

    def __init__(self, source: Source, users: tuple[str, ...] = ("olivier",)) -> None:
        """``users`` are those of the second session."""
        super().__init__(source)
        found = [(each, replace(each, eid=self.other, users=users)) for each in source.sessions()]
        #: the server's order: the latest first
        self._sessions = [
            session for pair in found for session in pair[: 1 + (pair[0].eid == self.first)]
        ]

    def sessions(self) -> Sequence[SessionRecord]:
        """See :class:`onefs.demo.records.Source`."""
        return self._sessions
