"""Whether the file servers of a database accept a user and password."""

from __future__ import annotations

from dataclasses import dataclass, replace

from onefs.credentials import DataCredentials
from onefs.errors import DataServerCredentials, OnefsError
from onefs.http import HostAuth, Transport
from onefs.metadata.alyx import Alyx
from onefs.metadata.auth import GivenToken
from onefs.urls import origin

#: seconds for each file server to answer
PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Trial:
    """What the file servers said; each by its origin."""

    #: those that answered with the file server's credentials sent
    accepted: tuple[str, ...] = ()
    #: those that answered without asking who we are
    open: tuple[str, ...] = ()
    refused: tuple[DataServerCredentials, ...] = ()
    #: those that did not answer
    away: tuple[OnefsError, ...] = ()


def try_file_servers(
    transport: Transport, url: str, token: str, credentials: DataCredentials | None
) -> Trial:
    """Ask each file server that the database ``url`` names for its top folder.

    The credentials go to a server only after it has asked for them. Raises what listing the
    database's repositories raises.
    """
    trial = Trial()
    for root in _roots(Alyx(transport, url, GivenToken(token))):
        trial = _add(trial, transport, root, HostAuth(credentials))
    return trial


def _roots(alyx: Alyx) -> list[str]:
    """One served folder for each origin; personal and malformed addresses are left out."""
    roots: dict[str, str] = {}
    for repository in alyx.repositories():
        if repository.data_url and not repository.personal:
            try:
                roots.setdefault(origin(repository.data_url), repository.data_url)
            except OnefsError:
                continue
    return list(roots.values())


def _add(trial: Trial, transport: Transport, root: str, auth: HostAuth) -> Trial:
    known = origin(root)
    try:
        stream = transport.stream(root, auth=auth, connect_timeout=PATIENCE, stall_timeout=PATIENCE)
        with stream:
            asked = auth.header(root) is not None
    except DataServerCredentials as error:
        return replace(trial, refused=(*trial.refused, error))
    except OnefsError as error:
        return replace(trial, away=(*trial.away, error))
    if asked:
        return replace(trial, accepted=(*trial.accepted, known))
    return replace(trial, open=(*trial.open, known))
