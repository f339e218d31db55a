"""A user without privileges mounts, reads and unmounts; other users cannot read the mount."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests import rig
from tests.cleanup import processes_below
from tests.cli.commands_table import row
from tests.running import ONEFS, wait_until
from tests.users import CHECKOUT, NO_HOME_UID, OTHER_UID, UID, Machine


def test_without_access_to_the_device_a_sentence_says_so(machine: Machine) -> None:
    machine.run_as(0, "chmod", "600", "/dev/fuse")  # the private one
    try:
        said = machine.onefs("mount", machine.home / "never", "--demo", code=1)
    finally:
        machine.run_as(0, "chmod", "666", "/dev/fuse")
    assert said.startswith("onefs: /dev/fuse cannot be opened by this user")
    assert len(said.splitlines()) == 1


def test_an_ordinary_user_mounts_reads_and_unmounts(machine: Machine) -> None:
    place = machine.home / "ibl"
    machine.run_as(UID, "mkdir", "--mode=755", place)
    machine.onefs("mount", place, "--demo", "--demo-data", machine.folder / "data")
    listed = rig.manifest()
    for each in listed:
        (line,) = machine.run_as(UID, "md5sum", place / each.path).stdout.splitlines()
        assert line.split()[0] == each.md5
    owner = machine.run_as(UID, "stat", "-c", "%u %g %a", place / listed[0].path).stdout
    assert owner.split() == [str(UID), str(UID), "644"]

    # whatever the modes, FUSE shows the mount to no other user, root included
    for other in (OTHER_UID, 0):
        said = machine.run_as(other, "ls", place, code=2).stderr
        assert "Permission denied" in said

    assert str(place) in machine.onefs("status")
    machine.onefs("umount", place)
    assert machine.run_as(UID, "ls", "-A", place).stdout == ""
    wait_until(lambda: processes_below(machine.folder) == [], 5)


def test_an_ordinary_users_copy_can_be_written_and_removed(machine: Machine) -> None:
    """The modes apply to a user without privileges; root may write anywhere."""
    place, copy = machine.home / "copied", machine.home / "copy"
    machine.onefs("mount", place, "--demo", "--demo-data", machine.folder / "data")
    path = place / rig.manifest()[0].path
    machine.run_as(UID, "cp", "-r", path.parent, copy)
    machine.run_as(UID, "sh", "-c", f"echo more >> {copy / path.name} && touch {copy}/new")
    machine.run_as(UID, "rm", "-r", copy)
    assert writes_that_are_not_refused(machine, UID, path) == ""
    machine.onefs("umount", place)


def writes_that_are_not_refused(machine: Machine, uid: int, path: Path) -> str:
    """Which ways to write to ``path``, its folder and beside it do not end with EROFS."""
    files = path, path.parent, path.with_name("new")
    enter = "env", "-C", str(CHECKOUT), sys.executable, "-m", "tests.write_attempts"
    return machine.run_as(uid, *enter, *files).stdout


def test_an_ordinary_user_cannot_show_it_to_others_unless_the_machine_allows_it(
    machine: Machine,
) -> None:
    said = machine.onefs("mount", machine.home / "all", "--demo", "--allow-other", code=1)
    assert "user_allow_other" in said
    assert "Traceback" not in said


def test_after_a_kill_an_ordinary_user_mounts_again(machine: Machine) -> None:
    place = machine.home / "again"
    options = ("--demo", "--demo-data", machine.folder / "data")
    machine.onefs("mount", place, *options)
    path = place / rig.manifest()[0].path
    machine.run_as(UID, "md5sum", path)
    daemon = machine.run_as(UID, "sh", "-c", f"{ONEFS} status --json | grep -o '\"pid\": [0-9]*'")
    machine.run_as(UID, "kill", "-9", daemon.stdout.split()[-1])
    wait_until(lambda: processes_below(machine.folder) == [], 5)
    machine.onefs("mount", place, *options)
    state = machine.run_as(UID, "getfattr", "--only-values", "-n", "user.onefs.state", path)
    assert state.stdout == "cached"
    machine.onefs("umount", place)


def test_each_user_writes_to_a_folder_of_its_own(machine: Machine) -> None:
    """Below a mount of root's that others see: never to root's, or to another user's."""
    place = machine.folder / "written"
    options: list[str | Path] = ["--demo", "--demo-data", machine.folder / "data", "--allow-other"]
    machine.run_as(0, "mkdir", "--mode=755", place)
    machine.run_as(0, ONEFS, "mount", place, *options)
    try:
        led = {}
        for uid, name in ((UID, "mouse"), (OTHER_UID, "rat"), (0, "")):
            machine.run_as(uid, "mkdir", "-p", place / "histology" / "atlas")
            folder = machine.run_as(uid, "readlink", place / "histology").stdout.strip()
            owner = machine.run_as(0, "stat", "-c", "%u %a", folder).stdout
            assert owner.split() == [str(uid), "700"]
            assert not name or Path(folder).is_relative_to(machine.folder / "home" / name)
            led[folder] = uid
        assert len(led) == 3
        machine.run_as(NO_HOME_UID, "ls", f"{place}/histology/", code=2)
        link = machine.folder / "home" / "rat" / ".local" / "share" / "onefs"
        machine.run_as(OTHER_UID, "rm", "-r", link)
        machine.run_as(OTHER_UID, "ln", "-s", machine.folder, link)  # root is not led astray
        before = machine.run_as(0, "ls", machine.folder).stdout
        machine.run_as(OTHER_UID, "mkdir", "-p", place / "cache" / "x", code=1)
        assert machine.run_as(0, "ls", machine.folder).stdout == before
        machine.run_as(OTHER_UID, "rm", link)
    finally:
        machine.run_as(0, ONEFS, "umount", place)


def test_a_mount_of_an_ordinary_user_leads_others_to_their_own_homes(machine: Machine) -> None:
    """It cannot make anything there: the other user makes the folder once."""
    place, allowed = machine.home / "open", machine.folder / "fuse.conf"
    machine.run_as(0, "sh", "-c", f"echo user_allow_other > {allowed}")
    machine.run_as(0, "mount", "--bind", allowed, "/etc/fuse.conf")
    machine.run_as(UID, "mkdir", "--mode=755", place)
    machine.onefs("mount", place, "--demo", "--allow-other")
    try:
        machine.run_as(OTHER_UID, "mkdir", "-p", place / "dmn" / "x", code=1)
        folder = machine.run_as(OTHER_UID, "readlink", place / "dmn").stdout.strip()
        assert Path(folder).is_relative_to(machine.folder / "home" / "rat")
        machine.run_as(OTHER_UID, "mkdir", "-p", folder)
        machine.run_as(OTHER_UID, "mkdir", "-p", place / "dmn" / "x")
        assert machine.run_as(OTHER_UID, "ls", folder).stdout == "x\n"
    finally:
        machine.onefs("umount", place)
        machine.run_as(0, "umount", "/etc/fuse.conf")


def test_root_can_show_it_to_others(machine: Machine) -> None:
    """With ``--allow-other`` the modes decide: every user may read."""
    place, listed = machine.folder / "shared", rig.manifest()[0]
    options: list[str | Path] = ["--demo", "--demo-data", machine.folder / "data", "--allow-other"]
    machine.run_as(0, "mkdir", "--mode=755", place)
    machine.run_as(0, ONEFS, "mount", place, *options)
    for uid in (UID, OTHER_UID):
        assert listed.md5 in machine.run_as(uid, "md5sum", place / listed.path).stdout
    for uid in (0, UID):  # the owner of all, and another
        assert writes_that_are_not_refused(machine, uid, place / listed.path) == ""
    machine.run_as(0, ONEFS, "umount", place)


@row("second user, mount of --allow-other")
def test_each_user_has_a_rest_of_its_own(machine: Machine) -> None:
    """ONE stores Alyx's answers in the user's own folder. The mount's is closed to other users."""
    place = machine.folder / "rested"
    options: list[str | Path] = ["--demo", "--demo-data", machine.folder / "data", "--allow-other"]
    machine.run_as(0, "mkdir", "--mode=755", place)
    machine.run_as(0, ONEFS, "mount", place, *options)
    try:
        for uid, name in ((UID, "mouse"), (OTHER_UID, "rat")):
            machine.run_as(uid, "touch", place / ".rest" / "answer")
            folder = machine.run_as(uid, "readlink", place / ".rest").stdout.strip()
            assert Path(folder).is_relative_to(machine.folder / "home" / name)
            assert machine.run_as(0, "stat", "-c", "%u %a", folder).stdout.split() == [
                str(uid),
                "700",
            ]
        machine.run_as(0, "touch", place / ".rest" / "answer")
    finally:
        machine.run_as(0, ONEFS, "umount", place)


@row("second user, mount of --allow-other")
def test_a_mount_of_another_user_is_named_as_theirs(machine: Machine) -> None:
    place, hidden = machine.folder / "roots", machine.folder / "hidden"
    options: list[str | Path] = ["--demo", "--demo-data", machine.folder / "data"]
    machine.run_as(0, "mkdir", "--mode=755", place, hidden)
    machine.run_as(0, ONEFS, "mount", place, *options, "--allow-other")
    machine.run_as(0, ONEFS, "mount", hidden, *options)
    try:
        said = machine.onefs("umount", place, code=2)
        assert said == f"onefs: {place} is root's mount: only root can unmount it.\n"
        told = machine.onefs("status")
        assert f"{place}  ready" in told
        assert "  mounted by root\n" in told
        assert str(hidden) not in told
        found = json.loads(machine.onefs("status", "--json"))["mounts"]
        assert [each["mountpoint"] for each in found] == [str(place)]
    finally:
        for each in (place, hidden):
            machine.run_as(0, ONEFS, "umount", each)


def test_a_mount_can_belong_to_one_of_its_users(machine: Machine) -> None:
    place, listed = machine.folder / "theirs", rig.manifest()[0]
    options: list[str | Path] = ["--demo", "--demo-data", machine.folder / "data", "--allow-other"]
    machine.run_as(0, "mkdir", "--mode=755", place)
    machine.run_as(0, ONEFS, "mount", place, *options, "--uid", str(UID), "--umask", "077")
    assert listed.md5 in machine.run_as(UID, "md5sum", place / listed.path).stdout
    said = machine.run_as(OTHER_UID, "ls", place, code=2).stderr
    assert "Permission denied" in said
    machine.run_as(0, ONEFS, "umount", place)
