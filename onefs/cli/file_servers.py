"""Search for the file servers of a database, and tests of logins with these servers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from onefs.alyx.client import AlyxClient
from onefs.alyx.tokens import FixedToken
from onefs.config.credentials import DataCredentials
from onefs.config.urls import origin
from onefs.errors import DataServerCredentials, OnefsError
from onefs.http import HostAuth, Transport

#: seconds in which a file server must answer
ANSWER_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class FileServer:
    """A file server of the database, and its answer to a request without a login."""

    #: scheme, host and port
    origin: str
    #: URL of one folder on the server
    root: str
    #: the error from a request without a login; None if the request succeeded
    error: OnefsError | None = None

    @property
    def is_protected(self) -> bool:
        """Whether the server asks for a user and password."""
        return isinstance(self.error, DataServerCredentials)


def find_file_servers(
    transport: Transport, url: str, token: str, known: Sequence[str]
) -> list[FileServer]:
    """Return the file servers of the database ``url``, each with its answer to a first request.

    ``known`` are URLs from the settings. Repositories that serve no files and malformed addresses
    are left out. Raises an error such as Unreachable if the repositories cannot be listed.
    """
    named: dict[str, str] = {}
    for repository in AlyxClient(transport, url, FixedToken(token)).repositories():
        if repository.data_url and not repository.personal:
            with suppress(OnefsError):
                named.setdefault(origin(repository.data_url), repository.data_url)
    # https is used if ``known`` or a repository has an https address with the same host
    no_login = HostAuth(None, known, [base for base in named if base.startswith("https:")])
    roots: dict[str, str] = {}
    for address in map(no_login.secure_url, named.values()):
        roots.setdefault(origin(address), address)
    return [
        FileServer(base, root, _connection_error(transport, root, no_login))
        for base, root in roots.items()
    ]


def try_login(transport: Transport, server: FileServer, credentials: DataCredentials) -> None:
    """Check that ``server`` accepts the user and password.

    Raises DataServerCredentials if the server refuses them. Raises another OnefsError if the
    request fails.
    """
    error = _connection_error(transport, server.root, HostAuth(credentials, [server.origin]))
    if error is not None:
        raise error


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
