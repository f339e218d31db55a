"""Recipe of ``home.tar.gz``: the home folder of a user of onefs 0.1 (commit 7d1490b).

From the root of this repository::

    git archive 7d1490b | tar x -C OLD
    cp tests/made_before.py OLD/tests/
    PYTHONPATH=OLD .venv/bin/python tests/data/made_by_0.1/make.py OLD tests/data/made_by_0.1

It has a catalogue, a cache and a state folder, and settings; ``tests/made_before.py`` says which
files were read, pinned and accepted. In texts and names, ``@PORT@`` and ``@DATA_PORT@`` stand for
the servers' ports.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from onefs.demo.serve import Servers

from tests import made_before as before
from tests.laboratories import account


def main(old: Path, target: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch, Servers(before.LaboratoryOf01()) as servers:
        home, mount = Path(scratch, "home"), Path(scratch, "mnt")
        home.mkdir()
        found = {name: value for name, value in account(servers).items() if "PASSWORD" in name}
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(old.resolve()),
            "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
            "HOME": str(home),
            **{f"XDG_{name.upper()}_HOME": str(home / name) for name in _FOLDERS},
            "XDG_RUNTIME_DIR": str(home),
            "ONEFS_SMALL_FILE": str(before.SMALL_FILE),
            **found,
        }

        def onefs(*arguments: object) -> None:
            command = [sys.executable, "-c", _ONEFS, *map(str, arguments)]
            subprocess.run(command, env=environment, cwd=scratch, check=True, timeout=120)

        _set_up(servers, onefs)
        onefs("mount", mount)
        try:
            _use(mount / before.SESSION, onefs)
        finally:
            onefs("umount", mount)
        _pack(home, servers, target)


_ONEFS = "from onefs.cli import main; main()"
_FOLDERS = ("config", "cache", "state", "data")


def _set_up(servers: Servers, onefs: Callable[..., None]) -> None:
    login = servers.login
    onefs(
        *("setup", "--url", servers.alyx_url, "--username", login.username),
        *("--data-username", login.data_username, "--profile", "kept", "--default"),
    )


def _use(session: Path, onefs: Callable[..., None]) -> None:
    for kept in (before.COMPLETE, before.PINNED, before.UNVERIFIED, before.WHOLE):
        assert (session / kept.path).read_bytes() == kept.content(), kept.path
    onefs("cache", "pin", session / before.PINNED.path)
    try:
        (session / before.ACCEPTED.path).read_bytes()
    except OSError:
        onefs("cache", "accept", session / before.ACCEPTED.path)
    assert (session / before.ACCEPTED.path).read_bytes() == before.ACCEPTED.content()
    with (session / before.PARTIAL.path).open("rb", buffering=0) as file:
        for block in before.READ_BLOCKS:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            file.seek(block * before.BLOCK)
            file.read(4096)
    (session / ".session.json").read_bytes()


def _pack(home: Path, servers: Servers, target: Path) -> None:
    port = servers.alyx_url.rpartition(":")[2]
    data_port = servers.data_url.rpartition(":")[2]
    for log in home.rglob("*.log*"):
        log.unlink()
    shutil.rmtree(home / "state/onefs/budgets")  # the requests of the last minute
    for path in home.rglob("*.json"):
        text = path.read_text("utf-8")
        path.write_text(text.replace(port, "@PORT@").replace(data_port, "@DATA_PORT@"), "utf-8")
    for path in [*home.rglob(f"*{port}*")]:
        path.rename(path.with_name(path.name.replace(port, "@PORT@")))
    packed = target / "home.tar.gz"
    names = ["--sort=name", "--owner=0", "--group=0", "--sparse", "--format=posix"]
    subprocess.run(["tar", "czf", packed, *names, "-C", home, "."], check=True, timeout=60)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
