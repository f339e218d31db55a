"""The accounts of embedded laboratories.

A laboratory listens on the loopback interface, so that every user of the machine can connect to it.
The synthetic laboratory holds no private data, and its passwords are published. The passwords for a
laboratory from a folder are random, because the folder may hold private data. Mounts and commands
read these passwords from a file that only this user can read.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from onefs.config.private_files import file_lock, read_json, write_json
from onefs.demo import demo_identity
from onefs.demo.records import Login

#: the number of random bytes from which a password is made
_PASSWORD_BYTES = 24


def make_login(data: Path | None, state_dir: Path | None) -> Login:
    """Return the login for the servers of the folder ``data``.

    - If ``data`` is None: the published login of the synthetic laboratory.
    - If ``state_dir`` is given: the login stored there, which all mounts of ``data`` share. A new
      login is created and stored if there is none.
    - Otherwise: a new login at each call.

    Raises UsageError if the login cannot be stored, or if its file belongs to another user.
    """
    if data is None:
        return Login()
    if state_dir is None:
        return _random_login()
    path = _file(demo_identity(data), state_dir)
    with file_lock(path):
        login = _read_saved(path)
        if login is None:
            login = _random_login()
            write_json(path, {"password": login.password, "data_password": login.data_password})
    return login


def saved_login(database: str, state_dir: Path) -> Login:
    """Return the stored login of the laboratory that is named ``database``.

    If no login is stored, return the published login of the synthetic laboratory. Raises UsageError
    if the login's file is invalid or belongs to another user.
    """
    return _read_saved(_file(database, state_dir)) or Login()


def _file(database: str, state_dir: Path) -> Path:
    # in a separate folder, because the folder is made private. The mode of the state folder is
    # not changed
    return state_dir / "private" / f"{database}.json"


def _read_saved(path: Path) -> Login | None:
    saved = read_json(path)
    passwords = [saved.get(name) for name in ("password", "data_password")]
    if not all(isinstance(password, str) and password for password in passwords):
        return None
    return Login(password=str(passwords[0]), data_password=str(passwords[1]))


def _random_login() -> Login:
    return Login(
        password=secrets.token_urlsafe(_PASSWORD_BYTES),
        data_password=secrets.token_urlsafe(_PASSWORD_BYTES),
    )
