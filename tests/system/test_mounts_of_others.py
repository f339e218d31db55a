"""A second user of a machine, with nothing set up, asks another user's ``--allow-other`` mount."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.servers import ServeOptions as DemoOptions
from onefs.demo.servers import Servers, make_source
from tests.cli.commands_table import row
from tests.cli.test_commands_get import LICKS, LicksOnNoServer
from tests.laboratories import account, small_folder
from tests.running import ONEFS
from tests.users import OTHER_UID, UID, Machine

TUTORIAL = "cf264653-2deb-44cb-aa84-89b82507028a"
SESSION = "mainenlab/clns0730/2018-08-24/001"
REF = "2018-08-24_1_clns0730"
#: a session with two revisions of some files
REVISIONS = "e0e972cd-cd41-424d-90b8-c08e5dbe06b5"
_ONE_WORKER = Path(__file__).with_name("one_worker.py")
_SET_UP = """
import sys
from one.api import ONE
url, user, password, mount = sys.argv[1:]
ONE.setup(base_url=url, cache_dir=mount, silent=True, make_default=True)
ONE(base_url=url, username=user, password=password)  # ONE keeps the token
"""
#: the second user's ONE, as JSON: every answer that a test compares
_OURS = """
import json, sys, warnings
import numpy as np
from onefs import ONE
from onefs.one import OnefsWarning
warnings.simplefilter("error", OnefsWarning)
folder, tutorial, revisions = sys.argv[1:]
with ONE(cache_dir=folder) if folder else ONE(silent=True) as one:
    times, clusters = one.load(tutorial, ["spikes.times", "spikes.clusters"])
    chosen = one.load(revisions, collection="alf", dclass_output=True)
    print(json.dumps({
        "repr": repr(one),
        "search": one.search(subject="clns0730"),
        "rows": [row["id"] for row in one.search(subject="clns0730", details=True)[1]],
        "types": one.list(tutorial),
        "labs": one.list(None, "labs"),
        "subjects": one.list(None, "subjects"),
        "paths": sorted(one.list(tutorial, details=True).local_path),
        "path": str(one.path(tutorial)),
        "ref": one.ref(tutorial),
        "eid": one.eid("2018-08-24_1_clns0730"),
        "times": [len(times), float(np.sum(times)), len(clusters)],
        "loaded": sorted(zip(chosen.local_path, chosen.md5)),
        "default": one.load(revisions, ["spikes.times", "clusters.metrics"],
                            download_only=True, dclass_output=True).md5,
        "datasets": one.list_datasets(tutorial),
        "revisions": one.list_revisions(revisions),
        "licks": float(np.sum(one.load_object(tutorial, "licks").times)),
        "frame": one.list_datasets(revisions, details=True).to_json(),
    }))
"""


@dataclass(frozen=True)
class Shared:
    """Root's mount, which others see."""

    machine: Machine
    path: Path
    servers: Servers
    #: the mount's database, for root
    account: list[str]

    def root(self, *arguments: str | Path, code: int = 0) -> str:
        """``onefs ARGUMENTS`` as the user of the mount; its output."""
        return self.machine.run_as(0, "env", *self.account, ONEFS, *arguments, code=code).stdout

    def second(self, *arguments: str | Path, code: int = 0, inside: str | None = None) -> str:
        """``onefs ARGUMENTS`` as the second user, in a folder of the mount; what it said."""
        folder = self.machine.home if inside is None else self.path / inside
        done = self.machine.run_as(UID, "env", "-C", folder, ONEFS, *arguments, code=code)
        return done.stdout + done.stderr

    def refused(self, *arguments: str | Path, inside: str | None = None) -> str:
        """The one sentence with which ``onefs ARGUMENTS`` fails."""
        (line,) = self.second(*arguments, code=2, inside=inside).splitlines()
        assert line.startswith("onefs: ")
        return line.removeprefix("onefs: ")


@contextmanager
def share(machine: Machine, servers: Servers, name: str, *, sync: bool) -> Iterator[Shared]:
    """Mount a laboratory as root, for all users."""
    place = machine.folder / name
    machine.run_as(0, "mkdir", "--mode=755", place)
    given = [f"{name}={value}" for name, value in account(servers).items()]
    made = Shared(machine, place, servers, given)
    if sync:
        made.root("sync")
    made.root("mount", place, "--allow-other")
    try:
        yield made
    finally:
        made.root("umount", place)


@pytest.fixture(scope="module")
def shared(machine: Machine) -> Iterator[Shared]:
    servers = Servers(make_source(DemoOptions()))
    with servers, share(machine, servers, "shared", sync=True) as made:
        yield made


FILE = f"{SESSION}/spikes.times.npy"


@row("second user, mount of --allow-other")
@pytest.mark.parametrize("state", ["remote", "cached"])
def test_show_says_what_it_says_to_the_user_of_the_mount(shared: Shared, state: str) -> None:
    path = shared.path / FILE
    if state == "cached":
        shared.machine.run_as(0, "md5sum", path)
    expected = json.loads(shared.root("show", "--format", "json", path))
    assert expected["state"] == state
    said = json.loads(shared.second("show", "--format", "json", path))
    assert said["path"] == str(path)
    assert {**said, "path": expected["path"]} == expected
    for name, inside in (
        ("spikes.times.npy", SESSION),
        ("./spikes.times.npy", SESSION),
        (f"{SESSION}/spikes.times.npy", ""),
        (f"/{shared.path}/.by-eid/{TUTORIAL}/spikes.times.npy", ""),
    ):
        again = json.loads(shared.second("show", "--format", "json", name, inside=inside))
        assert {**again, "state": state} == said  # the first look has read its header


@pytest.mark.long
@row("second user, mount of --allow-other")
def test_list_and_path_say_what_they_say_to_the_user_of_the_mount(shared: Shared) -> None:
    types = shared.root("list", TUTORIAL)
    assert "spikes.times\n" in types
    names = (
        TUTORIAL,
        REF,
        SESSION,
        shared.path / SESSION,
        "mainenlab/Subjects/clns0730/2018-08-24/1",
    )
    for name in names:
        assert shared.second("list", name, inside="mainenlab") == types
        assert shared.second("path", name, inside="mainenlab") == f"{shared.path / SESSION}\n"
    assert shared.second("list", ".", inside=SESSION) == types
    assert shared.second("path", ".", inside=SESSION) == f"{shared.path / SESSION}\n"
    record = json.loads(shared.second("list", "--all", shared.path / SESSION))
    assert record == json.loads(shared.root("list", "--all", TUTORIAL))
    details = json.loads(shared.second("list", "--details", "--format", "json", TUTORIAL))
    expected = json.loads(shared.root("list", "--details", "--format", "json", TUTORIAL))
    for row_, other in zip(details, expected, strict=True):
        assert row_["local_path"] == str(shared.path / SESSION / Path(other["local_path"]).name)
        assert {**row_, "local_path": other["local_path"]} == other
    for what in ("--labs", "--subjects"):
        assert shared.second("list", what) == shared.root("list", what)


@pytest.mark.long
@row("second user, mount of --allow-other")
def test_search_finds_what_the_user_of_the_mount_finds(shared: Shared) -> None:
    """Outside of the mount too, since it is the only one."""
    for terms in (
        ["--subject", "clns0730"],
        ["--lab", "cortexlab", "--limit", "3"],
        ["--limit", "60"],
    ):
        for form in ("eids", "paths", "table", "json"):
            found = shared.second("search", *terms, "--format", form)
            assert found == shared.root("search", *terms, "--format", form)
    asked = ["search", "--user", "olivier", "--date", "2018-08-24", "--details"]
    assert shared.second(*asked, inside=SESSION) == shared.root(*asked)
    assert "no session matches" in shared.second("search", "--subject", "none")


@row("second user, mount of --allow-other")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "--users"], "is root's mount, which cannot list users: run `onefs setup`"),
        (["list", "--dataset-types"], "is root's mount, which cannot list dataset types"),
        (
            ["search", "--subject", "a", "--save", "b"],
            "is root's mount, which cannot save a search",
        ),
        (["search", "--forget", "b"], "is root's mount, which cannot forget a search"),
        (["search", "--limit", "60", "--details"], "sessions are too many to read"),
        (["search", "--subject", "a" * 300], "the search is too long for a folder's name"),
        (["changes", "--since", "2024-05-01"], "another user's mount does not show what has"),
        (["path", "--cache", TUTORIAL], "is another user's mount, whose cache cannot be read"),
        (["get", "./spikes.times.npy"], "is in root's mount at"),
        (["cache", "pin", "./spikes.times.npy"], "is in root's mount at"),
        (["refresh", "./spikes.times.npy"], "is in root's mount at"),
    ],
)
def test_what_the_mount_cannot_answer_is_said_in_a_sentence(
    shared: Shared, arguments: list[str], words: str
) -> None:
    assert words in shared.refused(*arguments, inside=SESSION)


def test_what_the_mount_lacks_is_not_found(shared: Shared) -> None:
    for arguments in (
        ("show", f"{shared.path}/{SESSION}/spikes.none.npy"),
        ("list", f"{shared.path}/mainenlab/clns0730/2018-08-24/002"),
        ("list", TUTORIAL.replace("c", "d")),
        ("path", "2018-08-24_7_clns0730"),
    ):
        (line,) = shared.second(*arguments, code=1).splitlines()
        assert line.startswith("onefs: ")


@row("second user, mount of --allow-other")
@pytest.mark.parametrize("named", [True, False])
def test_one_of_onefs_loads_in_the_mount_of_another(shared: Shared, named: bool) -> None:
    folder = str(shared.path) if named else ""
    given = [sys.executable, "-c", _OURS, folder, TUTORIAL, REVISIONS]
    said = shared.machine.run_as(UID, *given).stdout
    found: dict[str, Any] = json.loads(said)
    root = shared.machine.run_as(0, "env", *shared.account, *given[:3], "", *given[4:]).stdout
    expected: dict[str, Any] = json.loads(root)
    assert found.pop("repr") == f"<ONE {shared.servers.alyx_url} in {shared.path}, online>"
    assert found["path"] == str(shared.path / SESSION)
    verbs = ("datasets", "revisions", "licks", "frame")  # of ONE-api
    names = ("search", "rows", "types", "labs", "subjects", "ref", "eid", "times", "default")
    for name in (*names, *verbs):
        assert found[name] == expected[name]
    assert [md5 for _, md5 in found["loaded"]] == [md5 for _, md5 in expected["loaded"]]
    assert all(path.startswith(f"{shared.path}/") for path, _ in found["loaded"])


@pytest.mark.long
@row("second user, mount of --allow-other")
@pytest.mark.parametrize("way", ["local", "remote"])
def test_one_api_loads_in_the_mount_of_another(shared: Shared, way: str) -> None:
    """``One(cache_dir=MNT)``: ``.rest`` is the second user's own."""
    pytest.importorskip("one.api")
    login = shared.servers.login
    if way == "remote":
        who = shared.servers.alyx_url, login.username, login.password
        shared.machine.run_as(OTHER_UID, sys.executable, "-c", _SET_UP, *who, shared.path)
    given = json.dumps({"cache": str(shared.path), "eids": [TUTORIAL, REVISIONS]})
    worker = f"echo '{given}' | {sys.executable} {_ONE_WORKER} {way}"
    found = json.loads(shared.machine.run_as(OTHER_UID, "sh", "-c", worker).stdout.splitlines()[-1])
    assert found["mode"] == way
    assert found["search"] == [TUTORIAL]
    assert sorted(found["sessions"]) == sorted([TUTORIAL, REVISIONS])
    assert [line for line in found["told"] if not line.startswith("Multiple revisions")] == []
    folder = shared.machine.run_as(OTHER_UID, "readlink", shared.path / ".rest").stdout.strip()
    owner = shared.machine.run_as(0, "stat", "-c", "%u", folder).stdout.strip()
    assert owner == str(OTHER_UID)
    if way == "remote":
        assert shared.machine.run_as(0, "ls", folder).stdout


@pytest.mark.parametrize(
    ("option", "name"),
    [(["--flat"], "licks.times.npy"), (["--as-of", "2020-12-31"], "alf/probe00/spikes.times.npy")],
)
def test_a_mount_of_one_variant_answers_with_its_own_paths(
    machine: Machine, option: list[str], name: str
) -> None:
    place = machine.folder / "variant"
    machine.run_as(0, "mkdir", "-p", "--mode=755", place)
    machine.run_as(0, ONEFS, "mount", place, "--demo", "--allow-other", *option)
    try:
        folder = place / "cortexlab/KS014/2019-08-29/001"
        said = json.loads(machine.onefs("show", "--format", "json", folder / name))
        assert said["path"] == str(folder / name)
        sum_, _ = machine.run_as(UID, "md5sum", folder / name).stdout.split(maxsplit=1)
        assert said["md5"] == sum_
        assert machine.onefs("path", folder) == f"{folder}\n"
        details: list[str | Path] = ["list", "--details", "--format", "json", folder]
        listed = [Path(each["local_path"]) for each in json.loads(machine.onefs(*details))]
        assert folder / name in listed
        machine.run_as(UID, "ls", *listed)
    finally:
        machine.run_as(0, ONEFS, "umount", place)


@row("file registered in Alyx but on no server")
def test_a_session_with_a_file_on_no_server_is_listed(machine: Machine, tmp_path: Path) -> None:
    source = LicksOnNoServer(FolderLaboratory(small_folder(tmp_path / "data")))
    session, file = LICKS.split("/alf/")
    with Servers(source) as servers, share(machine, servers, "absent", sync=False) as other:
        table = machine.run_as(0, "cat", other.path / session / ".datasets.tsv").stdout
        assert f"alf/{file}" in table
        listed = other.second("list", "--details", "--format", "json", other.path / session)
        assert json.loads(listed) == []  # it was the session's only dataset
