"""Several unprivileged users of one machine, for tests that run as root.

The users and a ``/dev/fuse`` that is open to all, as on real machines, exist in a private mount
namespace only: the machine's own are not touched.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import rig
from tests.cleanup import sweep
from tests.running import ONEFS, clean_environment, process, run

CHECKOUT = Path(__file__).parents[1]
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
        """Run a program in the namespace as a user without privileges."""
        enter = ["nsenter", f"--mount=/proc/{self.pid}/ns/mnt", "env", "-C", str(self.home)]
        become = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups"]
        whole = [*enter, *become, *command] if uid else [*enter, *command]
        own = {UID: self.home, OTHER_UID: self.folder / "home" / "rat"}
        home = own.get(uid, self.folder / "elsewhere" / str(uid))
        return run(whole, environment=clean_environment(home), code=code)

    def onefs(self, *arguments: str | Path, code: int = 0) -> str:
        """Run ``onefs ARGUMENTS`` as the ordinary user, and return its output."""
        done = self.run_as(UID, ONEFS, *arguments, code=code)
        return done.stdout + done.stderr


@contextmanager
def private_machine() -> Iterator[Machine]:
    """Yield a machine with several users; skip the test unless root runs it."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user; all other tests run as an ordinary one")
    before = _machine_itself()
    folder = Path(tempfile.mkdtemp(prefix="onefs-user-"))
    folder.chmod(0o755)
    command: list[str | Path] = ["unshare", "--mount", "sh", "-c", _PRIVATE, "sh"]
    command += [folder, str(UID), str(OTHER_UID), rig.FILES]
    closed, needed = _closed_folders()
    environment = os.environ | {"CLOSED": " ".join(closed), "NEEDED": " ".join(needed)}
    with process(command, stdout=subprocess.PIPE, text=True, env=environment) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "ready\n"
            yield Machine(holder.pid, folder)
        finally:
            sweep(folder)
    folder.rmdir()  # all that was in it was in the namespace
    assert _machine_itself() == before


def _closed_folders() -> tuple[list[str], list[str]]:
    """Return the folders closed to other users (``/root``), with the needed parts of each."""
    closed, needed = set(), set()
    for text in (sys.base_prefix, sys.prefix, str(CHECKOUT)):
        path = Path(text).resolve()
        shut = [each for each in reversed(path.parents) if not each.stat().st_mode & stat.S_IXOTH]
        if shut:
            closed.add(str(shut[0]))
            needed.add(str(path))
    return sorted(closed), sorted(needed)


def _machine_itself() -> tuple[int, bytes]:
    return os.stat("/dev/fuse").st_mode, Path("/etc/passwd").read_bytes()
