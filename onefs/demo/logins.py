"""Who may log in at an embedded laboratory.

It listens on the loopback interface, where every user of the machine can reach it. The made one
holds nothing of anybody's, and its passwords are published. A folder may be private: its passwords
are random, and kept where only this user reads, for the mounts and commands that are to log in.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from onefs.config.private_files import file_lock, read_json, write_json
from onefs.demo import demo_identity
from onefs.demo.records import Login

#: random bytes of a password
_BYTES = 24


def make_login(data: Path | None, state_dir: Path | None) -> Login:
    """The login that servers of the folder ``data`` (None: of made data) are to ask for.

    That of a folder is the same each time where there is a ``state_dir`` to keep it in: mounts
    share it. Raises UsageError when it cannot be kept there, or is not ours.
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
    """The login of the laboratory that is named ``database``, for who wants to log in there.

    The published one where none is kept, which is the made laboratory's. Raises UsageError for a
    file that is broken or not ours.
    """
    return _read_saved(_file(database, state_dir)) or Login()


def _file(database: str, state_dir: Path) -> Path:
    # in a folder of its own, whose mode is narrowed: that of the state folder is its owner's affair
    return state_dir / "private" / f"{database}.json"


def _read_saved(path: Path) -> Login | None:
    kept = read_json(path)
    words = [kept.get(name) for name in ("password", "data_password")]
    if not all(isinstance(word, str) and word for word in words):
        return None
    return Login(password=str(words[0]), data_password=str(words[1]))


def _random_login() -> Login:
    return Login(
        password=secrets.token_urlsafe(_BYTES), data_password=secrets.token_urlsafe(_BYTES)
    )
