"""Modes and owners: copies can be written and removed, the mount cannot."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.running import Home, run

SESSION = "mainenlab/clns0730/2018-08-24/001"


def modes(folder: Path) -> set[str]:
    """The modes of everything at and below ``folder``."""
    return {stat.filemode(path.stat().st_mode) for path in (folder, *folder.rglob("*"))}


def test_a_copy_can_be_written_and_removed(home: Home) -> None:
    """The README's own ``cp -r``, and what keeps all modes: ``cp -a``."""
    mounted = home.mount("--demo")
    for number, option in enumerate(("-r", "-a")):
        copy = home.root / f"copy{number}"
        run(["cp", option, mounted.path / SESSION, copy])
        assert modes(copy) == {"drwxr-xr-x", "-rw-r--r--"}
        run(["sh", "-c", f"for f in {copy}/*.npy; do echo more >> $f; done; rm -r {copy}"])
        assert not copy.exists()


def test_umask_uid_and_gid(home: Home) -> None:
    mounted = home.mount("--demo", "--umask", "027", "--uid", "1234", ONEFS_GID="5678")
    assert modes(mounted.path / SESSION) == {"drwxr-x---", "-rw-r-----"}
    for path in (mounted.path, *(mounted.path / SESSION).rglob("*")):
        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 5678)


def test_variables_and_profiles_say_it_too(home: Home) -> None:
    mounted = home.mount("--demo", "--umask", "077", ONEFS_UMASK="022")
    assert modes(mounted.path / SESSION) == {"drwx------", "-rw-------"}
    mounted.umount()
    mounted = home.mount("--demo", ONEFS_UMASK="022")
    assert modes(mounted.path / SESSION) == {"drwxr-xr-x", "-rw-r--r--"}


@pytest.mark.parametrize(
    ("flags", "variables", "source"),
    [
        (["--umask", "89"], {}, "--umask: '89' is not a umask"),
        (["--umask", ""], {}, "an argument is empty ('')"),
        (["--uid", "root"], {}, "--uid: 'root' is not the number"),
        (["--gid", "-5"], {}, "--gid: '-5' is not the number"),
        ([], {"ONEFS_UMASK": "rwx"}, "ONEFS_UMASK: 'rwx' is not a umask"),
        ([], {"ONEFS_INODE32": "maybe"}, "ONEFS_INODE32: 'maybe' is neither yes nor no"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(
    home: Home, flags: list[str], variables: dict[str, str], source: str
) -> None:
    said = home.error_of(2, "mount", home.root / "mnt", "--demo", *flags, **variables)
    assert said.startswith(source)
