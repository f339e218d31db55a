"""Mounts of onefs are unmounted."""

from __future__ import annotations

from pathlib import Path

import pytest

from onefs.errors import UsageError
from onefs.mount.unmount import unmount


def test_only_mounts_of_onefs_are_unmounted(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Nothing is mounted"):
        unmount(str(tmp_path))
    with pytest.raises(UsageError, match="is a mount of proc, not of onefs"):
        unmount("/proc")
