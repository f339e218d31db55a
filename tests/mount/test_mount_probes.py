"""Requests to mounts that respond, and to mounts that do not respond."""

from __future__ import annotations

import errno
from pathlib import Path

from onefs.mount.mount_probes import probe_mount, resolve_path


def test_a_probe_returns_the_errno_or_none_when_it_is_late(tmp_path: Path) -> None:
    assert probe_mount(str(tmp_path), 20) == 0
    assert probe_mount(str(tmp_path / "nothing"), 20) == errno.ENOENT
    assert probe_mount(str(tmp_path), 0.0) is None


def test_a_real_path_has_a_count_of_the_names_that_do_not_exist(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").touch()
    assert resolve_path(str(tmp_path / "link" / "file"), 30.0) == (
        str(tmp_path / "file"),
        0,
    )
    assert resolve_path(str(tmp_path / "file" / "a"), 30.0) == (
        str(tmp_path / "file" / "a"),
        1,
    )
    odd = tmp_path / "no\udce9 \n" / "b"
    assert resolve_path(str(odd), 30.0) == (str(odd), 2)
