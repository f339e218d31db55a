"""Commands load what they need: their modules are counted, since times depend on the machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from onefs.demo.servers import Servers
from tests.laboratories import SMALL
from tests.running import Home, run

pytestmark = pytest.mark.usefixtures("no_coverage")

#: prints what a command says, and on the last line the modules that it has loaded
_SCRIPT = """
import json, sys
from onefs.cli import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    assert not ended.code, ended.code
print(json.dumps(sorted(sys.modules)))
"""
#: libraries that draw, calculate or log in; commands that print a few lines need none
HEAVY = {
    *("numpy", "pandas", "pyarrow", "matplotlib", "rich", "tqdm", "flask", "werkzeug"),
    *("requests", "mfusepy", "keyring"),
}
#: what only requests and databases need
REMOTE = {"urllib3", "ssl", "http.client", "sqlite3"}
#: parts of onefs that status needs none of
PARTS = {"access", "alyx", "blocks", "catalogue", "content", "demo", "download", "http", "one"}


def modules_of(user: Home, *arguments: str | Path) -> set[str]:
    """Return the modules that ``onefs ARGUMENTS`` loads."""
    done = run(
        [sys.executable, "-c", _SCRIPT, *arguments], environment=user.environment, cwd=user.root
    )
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return set(found)


def ours(modules: set[str]) -> set[str]:
    return {name.split(".")[1] for name in modules if name.startswith("onefs.")}


@pytest.fixture
def known(user: Home, servers: Servers) -> Home:
    """A user whose catalogue knows the first file, which is in the cache."""
    user.run("get", SMALL[0])
    servers.clear_requests()
    return user


def test_status_loads_neither_the_database_nor_libraries(user: Home) -> None:
    loaded = modules_of(user, "status")
    assert loaded & (HEAVY | REMOTE) == set()
    assert ours(loaded) & PARTS == set()
    assert len([name for name in loaded if name.startswith("onefs.")]) <= 45


@pytest.mark.usefixtures("fuse")
def test_status_of_a_mount_loads_no_more(user: Home) -> None:
    user.mount()
    loaded = modules_of(user, "status")
    assert loaded & (HEAVY | REMOTE) == set()
    assert ours(loaded) & PARTS == set()


def test_the_options_of_commands_need_no_settings(user: Home) -> None:
    script = "import sys; import onefs.cli.options; print(sorted(sys.modules))"
    done = run([sys.executable, "-c", script], environment=user.environment)
    for name in ("onefs.config.settings", "onefs.databases", "onefs.cache.files"):
        assert f"'{name}'" not in done.stdout


def test_show_of_numbers_does_without_numpy(known: Home) -> None:
    loaded = modules_of(known, "show", SMALL[0])
    assert loaded & HEAVY == set()


def test_search_loads_neither_the_tree_nor_the_content(user: Home) -> None:
    loaded = modules_of(user, "search", "--subject", "mouse.1")
    assert loaded & HEAVY <= {"keyring"}  # where the saved token may be
    assert ours(loaded) & {"blocks", "content", "demo", "download", "mount"} == set()
