"""The file servers that a database names, and whether they accept a user and password."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from onefs.alyx.auth import FixedToken
from onefs.alyx.client import AlyxClient
from onefs.config.credentials import DataCredentials
from onefs.config.urls import origin
from onefs.errors import DataServerCredentials, OnefsError
from onefs.http import HostAuth, Transport

#: seconds for each file server to answer
ANSWER_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class FileServer:
    """A file server of the database's repositories, and what it says to a request without login."""

    origin: str
    #: one of its folders
    root: str
    #: why it does not answer; None when it does
    error: OnefsError | None = None

    @property
    def is_protected(self) -> bool:
        """Whether it asks for a user and password."""
        return isinstance(self.error, DataServerCredentials)


def find_file_servers(
    transport: Transport, url: str, token: str, known: Sequence[str]
) -> list[FileServer]:
    """The file servers that the database ``url`` names, each asked for its top folder, no login.

    A host that is ``known`` by https, or that another repository names so, is asked by https.
    Personal and malformed addresses are left out. Raises what listing the database's repositories
    raises.
    """
    named: dict[str, str] = {}
    for repository in AlyxClient(transport, url, FixedToken(token)).repositories():
        if repository.data_url and not repository.personal:
            with suppress(OnefsError):
                named.setdefault(origin(repository.data_url), repository.data_url)
    nothing = HostAuth(None, known, [base for base in named if base.startswith("https:")])
    roots: dict[str, str] = {}
    for address in map(nothing.secure_url, named.values()):
        roots.setdefault(origin(address), address)
    return [
        FileServer(base, root, _connection_error(transport, root, nothing))
        for base, root in roots.items()
    ]


def try_login(transport: Transport, server: FileServer, credentials: DataCredentials) -> None:
    """Send user and password to ``server``. Raises DataServerCredentials when it refuses them."""
    trouble = _connection_error(transport, server.root, HostAuth(credentials, [server.origin]))
    if trouble is not None:
        raise trouble


def _connection_error(transport: Transport, root: str, auth: HostAuth) -> OnefsError | None:
    try:
        with transport.stream(
            root,
            auth=auth,
            connect_timeout=ANSWER_TIMEOUT_SECONDS,
            stall_timeout=ANSWER_TIMEOUT_SECONDS,
        ):
            return None
    except OnefsError as error:
        return error
