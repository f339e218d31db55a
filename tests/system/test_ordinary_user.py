"""A user without privileges mounts, reads and unmounts; nobody else can look.

The user and a ``/dev/fuse`` that is open to all, as on real machines, exist in a private mount
namespace only: the machine's own are not touched.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import rig
from tests.cli.commands_table import row
from tests.running import ONEFS, clean_environment, process, run, wait_until
from tests.sweeping import inhabitants, sweep

_CHECKOUT = Path(__file__).parents[2]
UID, OTHER_UID, NO_HOME_UID = 45678, 45679, 45680
#: makes the namespace in which everything happens: $1 is a folder for it, $2 and $3 the users,
#: $4 the data; folders that are closed to other users are emptied but for what is needed of them
_PRIVATE = """
set -e
mount -t tmpfs -o mode=755,dev none "$1"
mkdir "$1/home" "$1/home/mouse" "$1/home/rat"
chown "$2:$2" "$1/home/mouse"
chown "$3:$3" "$1/home/rat"
mknod "$1/fuse" c 10 229
chmod 666 "$1/fuse"
mount --bind "$1/fuse" /dev/fuse
{ cat /etc/passwd
  echo "mouse:x:$2:$2::$1/home/mouse:/bin/sh"
  echo "rat:x:$3:$3::$1/home/rat:/bin/sh"; } > "$1/passwd"
mount --bind "$1/passwd" /etc/passwd
cp -r "$4" "$1/data"
chmod -R a+rX "$1/data"
number=0
for path in $NEEDED; do
    number=$((number + 1))
    mkdir "$1/needed$number"
    mount --bind "$path" "$1/needed$number"
done
for path in $CLOSED; do mount -t tmpfs -o mode=755 none "$path"; done
number=0
for path in $NEEDED; do
    number=$((number + 1))
    mkdir -p "$path"
    mount --bind "$1/needed$number" "$path"
done
echo ready
exec sleep 600
"""


@dataclass(frozen=True)
class Machine:
    """The private mount namespace, as seen by its users."""

    pid: int
    folder: Path

    @property
    def home(self) -> Path:
        """The ordinary user's home folder."""
        return self.folder / "home" / "mouse"

    def run_as(
        self, uid: int, *command: str | Path, code: int = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run a program there as a user without any privilege."""
        enter = ["nsenter", f"--mount=/proc/{self.pid}/ns/mnt", "env", "-C", self.home]
        become = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups"]
        whole = [*enter, *become, *command] if uid else [*enter, *command]
        home = self.home if uid == UID else self.folder / "elsewhere" / str(uid)
        return run(whole, environment=clean_environment(home), code=code)

    def onefs(self, *arguments: str | Path, code: int = 0) -> str:
        """``onefs ARGUMENTS`` as the ordinary user; what it said."""
        done = self.run_as(UID, ONEFS, *arguments, code=code)
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    if os.getuid() != 0:
        pytest.skip("only root can become another user; all other tests run as an ordinary one")
    before = _machine_itself()
    folder = Path(tempfile.mkdtemp(prefix="onefs-user-"))
    folder.chmod(0o755)
    command = ["unshare", "--mount", "sh", "-c", _PRIVATE, "sh", folder, str(UID), str(OTHER_UID)]
    closed, needed = _closed_folders()
    environment = os.environ | {"CLOSED": " ".join(closed), "NEEDED": " ".join(needed)}
    with process(
        [*command, rig.FILES], stdout=subprocess.PIPE, text=True, env=environment
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "ready\n"
            yield Machine(holder.pid, folder)
        finally:
            sweep(folder)
    folder.rmdir()  # all that was in it was in the namespace
    assert _machine_itself() == before


def _closed_folders() -> tuple[list[str], list[str]]:
    """Folders that other users cannot enter (``/root``), and what is needed of them."""
    closed, needed = set(), set()
    for text in (sys.base_prefix, sys.prefix, str(_CHECKOUT)):
        path = Path(text).resolve()
        shut = [each for each in reversed(path.parents) if not each.stat().st_mode & stat.S_IXOTH]
        if shut:
            closed.add(str(shut[0]))
            needed.add(str(path))
    return sorted(closed), sorted(needed)


def _machine_itself() -> tuple[int, bytes]:
    return os.stat("/dev/fuse").st_mode, Path("/etc/passwd").read_bytes()


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

    # whatever the modes say, FUSE shows it to nobody else, root included
    for other in (OTHER_UID, 0):
        said = machine.run_as(other, "ls", place, code=2).stderr
        assert "Permission denied" in said

    assert str(place) in machine.onefs("status")
    machine.onefs("umount", place)
    assert machine.run_as(UID, "ls", "-A", place).stdout == ""
    wait_until(lambda: inhabitants(machine.folder) == [], 5)


def test_an_ordinary_users_copy_can_be_written_and_removed(machine: Machine) -> None:
    """Root may write to anything: a user without privileges is who the modes are for."""
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
    tries = [sys.executable, "-m", "tests.write_tries", path, path.parent, path.with_name("new")]
    return machine.run_as(uid, "env", "-C", str(_CHECKOUT), *tries).stdout


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
    wait_until(lambda: inhabitants(machine.folder) == [], 5)
    machine.onefs("mount", place, *options)
    state = machine.run_as(UID, "getfattr", "--only-values", "-n", "user.onefs.state", path)
    assert state.stdout == "cached"
    machine.onefs("umount", place)


def test_each_user_writes_to_a_folder_of_its_own(machine: Machine) -> None:
    """Below a mount of root's that others see: never to root's, or to another user's."""
    place = machine.folder / "written"
    options = ["--demo", "--demo-data", machine.folder / "data", "--allow-other"]
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
    """With ``--allow-other`` the modes decide: everybody may read."""
    place, listed = machine.folder / "shared", rig.manifest()[0]
    options = ["--demo", "--demo-data", machine.folder / "data", "--allow-other"]
    machine.run_as(0, "mkdir", "--mode=755", place)
    machine.run_as(0, ONEFS, "mount", place, *options)
    for uid in (UID, OTHER_UID):
        assert listed.md5 in machine.run_as(uid, "md5sum", place / listed.path).stdout
    for uid in (0, UID):  # the owner of all, and another
        assert writes_that_are_not_refused(machine, uid, place / listed.path) == ""
    machine.run_as(0, ONEFS, "umount", place)


@row("second user, mount of --allow-other")
def test_each_user_has_a_rest_of_its_own(machine: Machine) -> None:
    """Where ONE keeps Alyx's answers: the mount's own folder is closed to other users."""
    place = machine.folder / "rested"
    options = ["--demo", "--demo-data", machine.folder / "data", "--allow-other"]
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
    options = ["--demo", "--demo-data", machine.folder / "data"]
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
    options = ["--demo", "--demo-data", machine.folder / "data", "--allow-other"]
    machine.run_as(0, "mkdir", "--mode=755", place)
    machine.run_as(0, ONEFS, "mount", place, *options, "--uid", str(UID), "--umask", "077")
    assert listed.md5 in machine.run_as(UID, "md5sum", place / listed.path).stdout
    said = machine.run_as(OTHER_UID, "ls", place, code=2).stderr
    assert "Permission denied" in said
    machine.run_as(0, ONEFS, "umount", place)
