"""The file servers that a database names, and whether they accept a user and password."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from onefs.credentials import DataCredentials
from onefs.errors import DataServerCredentials, OnefsError
from onefs.http import HostAuth, Transport
from onefs.metadata.alyx import Alyx
from onefs.metadata.auth import GivenToken
from onefs.urls import origin

#: seconds for each file server to answer
PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class FileServer:
    """A file server of the database's repositories, and what it says to a request without login."""

    origin: str
    #: one of its folders
    root: str
    #: why it does not answer; None when it does
    trouble: OnefsError | None = None

    @property
    def asks(self) -> bool:
        """Whether it asks for a user and password."""
        return isinstance(self.trouble, DataServerCredentials)


def find_file_servers(
    transport: Transport, url: str, token: str, known: Sequence[str]
) -> list[FileServer]:
    """The file servers that the database ``url`` names, each asked for its top folder, no login.

    A host that is ``known`` by https, or that another repository names so, is asked by https.
    Personal and malformed addresses are left out. Raises what listing the database's repositories
    raises.
    """
    named: dict[str, str] = {}
    for repository in Alyx(transport, url, GivenToken(token)).repositories():
        if repository.data_url and not repository.personal:
            with suppress(OnefsError):
                named.setdefault(origin(repository.data_url), repository.data_url)
    nothing = HostAuth(None, known, [base for base in named if base.startswith("https:")])
    roots: dict[str, str] = {}
    for address in map(nothing.address, named.values()):
        roots.setdefault(origin(address), address)
    return [
        FileServer(base, root, _trouble(transport, root, nothing)) for base, root in roots.items()
    ]


def try_login(transport: Transport, server: FileServer, credentials: DataCredentials) -> None:
    """Send user and password to ``server``. Raises DataServerCredentials when it refuses them."""
    trouble = _trouble(transport, server.root, HostAuth(credentials, [server.origin]))
    if trouble is not None:
        raise trouble


def _trouble(transport: Transport, root: str, auth: HostAuth) -> OnefsError | None:
    try:
        with transport.stream(root, auth=auth, connect_timeout=PATIENCE, stall_timeout=PATIENCE):
            return None
    except OnefsError as error:
        return error
