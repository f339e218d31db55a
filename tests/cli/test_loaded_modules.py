"""Commands load what they need: their modules are counted, since times depend on the machine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from onefs.demo.servers import Servers
from tests.laboratories import SMALL
from tests.running import Home, Mounted, read_errno, run

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
#: what requests need
HTTP = {"urllib3", "ssl", "socket", "http.client", "email", "onefs.http.dialing"}
#: what the catalogue's file needs
SQLITE = {"sqlite3"}
#: what makes folders and files of rows, and reads the records of cached files
TREE = {"onefs.tree.laboratory_tree", "onefs.catalogue.catalogue", "onefs.content.content"}
#: what opens, downloads and evicts files
DOWNLOADS = {
    *("onefs.content.downloads", "onefs.content.handle", "onefs.content.admin"),
    *("onefs.blocks.partial_file", "onefs.blocks.evict", "onefs.download.hosts"),
    *("onefs.download.sources.http", "onefs.download.sources.s3"),
}
#: the folders of the root beside the labs, and what few sessions and no file need
OTHER_FOLDERS = {
    *("onefs.tree.search_folders", "onefs.tree.symlink_views", "onefs.tree.aggregates"),
    *("onefs.tree.sidecars", "onefs.tree.revisions", "onefs.tree.siblings"),
    *("onefs.cache_tables.bucket", "onefs.download.sources.s3_listing", "xml.etree.ElementTree"),
}
#: what selects and loads datasets, and what searches
LOADER = {"onefs.one.loader"}
QUERIES = {"onefs.search.vocabulary", "onefs.search.queries"}
#: the modules that a daemon has loaded, although functions of it import them when they are needed
OF_DAEMONS = SQLITE | TREE | DOWNLOADS | OTHER_FOLDERS | QUERIES
#: what takes long to load: no command loads of it what it may not load
WATCHED = {
    *(HEAVY | HTTP | OF_DAEMONS | LOADER),
    *("asyncio", "multiprocessing", "statistics", "difflib"),
    *("onefs.access", "onefs.config.one_params", "onefs.demo.servers"),
}
#: what a command that asks no server loads for a path of the tree
OF_PATHS = SQLITE | TREE | {"onefs.access"}
#: command, with FILE for a file that is cached and known -> what it may load
MAY_LOAD: dict[str, set[str]] = {
    "--version": set(),
    "--help": set(),
    "status": set(),
    "profile list": set(),
    "cache --help": set(),
    "show --offline FILE": OF_PATHS,
    "show FILE": OF_PATHS,  # fresh, cached, and not in a mount: no request
    "path --offline FILE": OF_PATHS,
    "list --offline FILE": OF_PATHS | LOADER | QUERIES,
    # it also lists the partial files
    "cache list FILE": OF_PATHS | DOWNLOADS | {"onefs.config.one_params"},
    # the hint about a misspelt type
    "get --offline FILE": OF_PATHS | {"onefs.search.vocabulary"},
    # the token is checked first
    "get FILE": OF_PATHS | {"onefs.search.vocabulary"} | HTTP,
    "search --offline --subject mouse.1": SQLITE | QUERIES | {"onefs.access"},
    "search --subject mouse.1": HTTP | SQLITE | QUERIES | {"onefs.access"},
    "list --labs": HTTP | SQLITE | LOADER | QUERIES | {"onefs.access"},
}
#: most modules of onefs that a command loads
MOST_MODULES = {"--help": 15, "status": 45, "show FILE": 180, "search --subject mouse.1": 110}
#: parts of onefs that status needs none of
PARTS = {"access", "alyx", "blocks", "catalogue", "content", "demo", "download", "http", "one"}


#: a ``sitecustomize`` that writes the modules a daemon imports to a file, one a line, as it does so
_RECORDER = """
import os, sys
if "onefs.cli.serve_mount" in sys.orig_argv:
    log = os.open(os.environ["IMPORTS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    def record(event, arguments):
        if event == "import":
            os.write(log, arguments[0].encode() + b"\\n")
    sys.addaudithook(record)
"""


def modules_of(user: Home, *arguments: str | Path) -> set[str]:
    """Return the modules that ``onefs ARGUMENTS`` loads."""
    done = run(
        [sys.executable, "-c", _SCRIPT, *arguments], environment=user.environment, cwd=user.root
    )
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return set(found)


#: prints how often Python searches for garbage while a command runs, and how many objects it would
#: not search and would search when it ends
_COLLECTIONS = """
import gc, sys
from onefs.__main__ import main
before = gc.get_stats()[0]["collections"]
def report():
    print(gc.get_stats()[0]["collections"] - before, gc.get_freeze_count(), len(gc.get_objects()))
freeze = gc.freeze
gc.freeze = lambda: (freeze(), report())
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
"""


def ours(modules: set[str]) -> set[str]:
    return {name.split(".")[1] for name in modules if name.startswith("onefs.")}


@pytest.fixture
def known(user: Home, servers: Servers) -> Home:
    """A user whose catalogue knows the first file, which is in the cache."""
    fetched = user.run("get", SMALL[0]).stdout.strip()
    assert Path(fetched).is_file()
    servers.clear_requests()
    return user


def test_status_loads_neither_the_database_nor_libraries(user: Home) -> None:
    loaded = modules_of(user, "status")
    assert loaded & WATCHED == set()
    assert ours(loaded) & PARTS == set()


@pytest.mark.usefixtures("fuse")
def test_commands_of_a_mount_load_no_more(known: Home) -> None:
    mount = known.mount()
    loaded = modules_of(known, "status")
    assert loaded & WATCHED == set()
    assert ours(loaded) & PARTS == set()
    assert modules_of(known, "show", mount.path / SMALL[0]) & WATCHED <= OF_PATHS
    assert modules_of(known, "show", "--offline", mount.path / SMALL[0]) & WATCHED <= OF_PATHS
    assert modules_of(known, "refresh", mount.path) & WATCHED <= OF_PATHS
    # what writes the log of a daemon needs sockets
    assert modules_of(known, "umount", mount.path) & WATCHED <= {"socket"}


def test_few_searches_for_garbage_while_modules_are_loaded(known: Home) -> None:
    command = [sys.executable, "-c", _COLLECTIONS, "show", SMALL[0]]
    done = run(command, environment=known.environment, cwd=known.root)
    searches, frozen, others = map(int, done.stdout.splitlines()[-1].split())
    assert searches <= 1
    assert frozen > 10_000 > others


def test_the_options_of_commands_need_no_settings(user: Home) -> None:
    script = "import sys; import onefs.cli.options; print(sorted(sys.modules))"
    done = run([sys.executable, "-c", script], environment=user.environment)
    for name in ("onefs.config.settings", "onefs.databases", "onefs.cache.files"):
        assert f"'{name}'" not in done.stdout


@pytest.mark.parametrize("command", MAY_LOAD)
def test_a_command_loads_no_more_than_it_may(known: Home, command: str) -> None:
    arguments = [SMALL[0] if word == "FILE" else word for word in command.split()]
    loaded = modules_of(known, *arguments)
    print(command, sorted(loaded & WATCHED))
    assert loaded & WATCHED <= MAY_LOAD[command]
    of_onefs = [name for name in loaded if name.startswith("onefs.")]
    assert len(of_onefs) <= MOST_MODULES.get(command, len(of_onefs)), sorted(of_onefs)


def test_search_loads_neither_the_tree_nor_the_content(user: Home) -> None:
    loaded = modules_of(user, "search", "--subject", "mouse.1")
    assert loaded & HEAVY <= {"keyring"}  # where the saved token may be
    assert ours(loaded) & {"blocks", "content", "demo", "download", "mount"} == set()


@pytest.mark.usefixtures("fuse")
@pytest.mark.parametrize("options", [(), ("--offline",)])
def test_a_daemon_that_is_ready_loads_nothing_more(known: Home, options: tuple[str, ...]) -> None:
    """No reader waits for an import, and onefs can be updated while a daemon is running."""
    (known.root / "sitecustomize.py").write_text(_RECORDER)
    imports = known.root / "imports"
    mount = known.mount(
        *("--small-file", "1k", *options), PYTHONPATH=str(known.root), IMPORTS=str(imports)
    )
    loaded = imports.read_text().splitlines()
    assert OF_DAEMONS - set(loaded) == set()
    assert ("onefs.http.sender" in loaded) == (not options)  # no request is sent offline
    before = len(loaded)
    _use_all_of(mount, [SMALL[0]] if options else SMALL)
    known.run("refresh", mount.path)
    assert imports.read_text().splitlines()[before:] == []


def _use_all_of(mount: Mounted, files: Iterable[str]) -> None:
    """List, look up, read and search in a mount, also what does not exist."""
    root = mount.path
    for path in files:
        assert (root / path).read_bytes()
        for name in os.listxattr(root / path):
            os.getxattr(root / path, name)
    session = (root / SMALL[0]).parents[2]
    for folder in (root, root / "labone", session, session / "alf"):
        os.listdir(folder)
    for name in (".session.json", ".datasets.tsv", "1", "nothing"):
        read_errno(session / name)
    for name in (".flat/labone", ".as-of/2021-12-31/labone", ".rest", ".by-eid/no", "sessions.pqt"):
        read_errno(root / name)
    for name in ("subject=mouse.1", "subjet=mouse.1", "date_range=2021", "lab=nolab"):
        read_errno(root / ".search" / name)


def test_a_command_imports_no_file_of_the_working_directory(user: Home) -> None:
    for name in ("urllib3", "ssl", "certifi", "email", "sqlite3"):
        (user.root / f"{name}.py").write_text("raise SystemExit(99)")
    fetched = user.run("get", SMALL[0]).stdout.strip()
    assert Path(fetched).is_file()
