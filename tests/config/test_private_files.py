"""The small private files, on disks without locks."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from onefs.config.private_files import file_lock, read_json, write_json
from onefs.demo import demo_identity
from onefs.demo.logins import make_login, saved_login


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make locks fail as on a network disk whose server has no lock service."""

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.usefixtures("without_locks")
def test_a_disk_without_locks_keeps_the_login_of_a_folder(tmp_path: Path) -> None:
    data, state = tmp_path / "data", tmp_path / "state"
    login = make_login(data, state)
    assert make_login(data, state) == login == saved_login(demo_identity(data), state)


@pytest.mark.usefixtures("without_locks")
def test_a_failed_write_on_such_a_disk_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(ZeroDivisionError), file_lock(path):
        write_json(path, {"one": 1 // 0})
    with file_lock(path):
        write_json(path, {"one": 1})
    assert read_json(path) == {"one": 1}
