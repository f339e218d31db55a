"""What all tests share."""

from __future__ import annotations

import os
import sys

import pytest

from onefs.errors import MountError
from onefs.mount import library

#: set by CI, where a machine that cannot mount is a failure
_REQUIRED = "ONEFS_REQUIRE_FUSE"


@pytest.fixture(scope="session")
def fuse() -> None:
    """Skip where nothing can be mounted, or fail where it must be possible."""
    if not sys.platform.startswith("linux"):
        pytest.skip("mounts are for Linux")
    try:
        library.check_fuse()
    except MountError as error:
        if os.environ.get(_REQUIRED) == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))
