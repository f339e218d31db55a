"""``onefs get``: its arguments, and its messages about files and errors."""

from __future__ import annotations

import os
import re
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE

import pytest

from onefs.access import Access
from onefs.alf import dataset_file
from onefs.cli.output import EXIT_UNREACHABLE
from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.records import DatasetRecord
from onefs.demo.servers import Servers
from onefs.tree.path_patterns import DATASET_PREFIX
from tests.cli.commands_table import row
from tests.cli.terminal import Terminal
from tests.laboratories import (
    SMALL,
    AlteredLaboratory,
    account,
    downloads,
    open_laboratory,
    small_folder,
)
from tests.running import ONEFS, TIMEOUT_SECONDS, Home, Mounted, process
from tests.scripted_server import ScriptedServer, answer_json, stall

#: a file in a session whose ref names no other session
FILE = SMALL[4]
LICKS = SMALL[6]


@pytest.fixture
def home(user: Home) -> Home:
    return user


@pytest.fixture
def mounted(fuse: None, home: Home) -> Mounted:
    return home.mount()


def got(home: Home, *arguments: str | Path) -> set[str]:
    """Return the paths that ``onefs get`` prints, beginning with the lab, without ``Subjects``."""
    lines = home.run("get", *arguments).stdout.splitlines()
    return {"/".join(Path(line).parts[-_depth(line) :]).replace("/Subjects", "") for line in lines}


def _depth(line: str) -> int:
    return len(Path(line).parts) - Path(line).parts.index("Subjects") + 1


@row("onefs get REF/alf/x.npy")
def test_every_name_of_a_dataset_gets_it(home: Home, servers: Servers, mounted: Mounted) -> None:
    lab, subject, day, number, *below = LICKS.split("/")
    ref = f"{day}_{int(number)}_{subject}"
    with closing(open_laboratory(servers, home.root / "looking")) as access:
        ((dataset, _),) = access.tree.find_datasets(LICKS)
        url = servers.data_url + f"/public/{lab}/Subjects/{subject}/{day}/{number}/"
    stem, _, end = dataset_file(dataset).rpartition(".")
    names: list[str | Path] = [
        "/".join((ref, *below)),
        f"{servers.alyx_url}/datasets/{dataset.id}",
        url + "/".join((*below[:-1], f"{stem}.{dataset.id}.{end}")),
        url + "/".join(below),
        url,
        f"{servers.alyx_url}/sessions/{dataset.eid}",
        mounted.path / ".search" / f"subject={subject}",
        f".search/subject={subject}",
        mounted.path / ".by-eid" / dataset.eid,
        dataset.eid,
        ref,
    ]
    for name in names:
        assert got(home, name) == {LICKS}, name
    assert DATASET_PREFIX not in home.run("get", names[1], "--dry-run").stderr


@row("onefs get REF/alf/x.npy")
@pytest.mark.usefixtures("mounted")
def test_sizes_are_asked_for_by_every_name_of_a_session(home: Home, servers: Servers) -> None:
    lab, subject, day, number, *_ = LICKS.split("/")
    with closing(open_laboratory(servers, home.root / "looking")) as access:
        ((dataset, _),) = access.tree.find_datasets(LICKS)
    mount = home.root / "mnt"
    for path in (
        mount / ".by-eid" / dataset.eid,
        Path("mnt") / ".by-eid" / dataset.eid,
        f".by-eid/{dataset.eid}",
        f".by-ref/{day}_{int(number)}_{subject}",
        mount / lab / "Subjects" / subject,
    ):
        assert "sizes were fetched" in home.run("sync", "--sizes", path).stdout


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        (
            "https://example.org/about",
            2,
            "is not the URL of a session, a dataset or a dataset's file",
        ),
        ("https://[x/datasets/", 2, "is not a URL"),
        ("ALYX/datasets/00000000-0000-4000-8000-000000000000", 1, "Alyx has no dataset 0000"),
        ("ALYX/sessions/00000000-0000-4000-8000-000000000000", 1, "0000"),
        ("2021-03-05_10_mouse.2/alf/nope.npy", 1, "nope.npy"),
        (".search/sbject=mouse.2", 1, "did you mean 'subject'?"),
    ],
)
def test_names_without_a_dataset_are_refused(
    home: Home, servers: Servers, name: str, code: int, words: str
) -> None:
    assert words in home.error_of(code, "get", name.replace("ALYX", servers.alyx_url))


@pytest.mark.long  # waits for a server that stalls
@row("onefs get with failing files")
def test_equal_errors_are_printed_once(home: Home, servers: Servers) -> None:
    source = FolderLaboratory(small_folder(home.root / "data"))
    with Servers(source) as servers:
        user = account(servers)
        home.run("get", "lab*", "--dry-run", variables=user)
        servers.data.stop()
        done = home.run("get", "lab*", code=EXIT_UNREACHABLE, variables=user)
        verbose = home.run("get", "lab*", "--verbose", code=EXIT_UNREACHABLE, variables=user)
    *failures, counts = done.stderr.splitlines()
    assert done.stdout == ""
    assert len([line for line in failures if "files: " in line]) == 1, done.stderr
    assert len(failures) == len(set(failures)) <= 2, done.stderr
    assert all(line.startswith("onefs: ") for line in failures)
    assert "--verbose lists the files" in done.stderr
    assert counts.startswith("0 files fetched, 0 B; 0 already cached, ")
    assert all(name in verbose.stderr for name in SMALL[1:])


@pytest.mark.long
@row("onefs get: summary")
def test_the_summary_counts_what_this_process_fetched(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    source = FolderLaboratory(small_folder(folder, size=200_000))
    with Servers(source, rate=1_000_000) as servers, Home(tmp_path, **account(servers)) as home:
        command: list[str | Path] = [ONEFS, "get", "labone", "--jobs", "1"]
        with process(command, env=home.environment, stderr=PIPE, stdout=PIPE, text=True) as other:
            done = home.run("get", "labone", "--jobs", "1")
            _, said = other.communicate(timeout=TIMEOUT_SECONDS)
    fetched, there = zip(*(_counts(text) for text in (done.stderr, said)), strict=True)
    # each file was fetched by one of the two commands, or by both in parts
    assert sum(fetched) >= len(downloads_of(servers)) > 0
    assert [a + b for a, b in zip(fetched, there, strict=True)] == [fetched[0] + there[0]] * 2
    assert sum(there) > 0


def downloads_of(servers: Servers) -> set[str]:
    return {each.path for each in downloads(servers)}


def _counts(said: str) -> tuple[int, int]:
    found = re.search(r"(\d+) files? fetched, .*; (\d+) already cached", said)
    assert found is not None, said
    return int(found[1]), int(found[2])


@row("Ctrl-C in onefs get")
def test_ctrl_c_reports_the_number_of_cached_files(tmp_path: Path, environ: dict[str, str]) -> None:
    source = FolderLaboratory(small_folder(tmp_path / "data", size=400_000))
    with Servers(source, rate=200_000) as servers:
        user = {**environ, **account(servers)}
        with Terminal(["get", "labone", "--jobs", "1"], user) as terminal:
            terminal.expect("0 of ")
            terminal.interrupt()
            assert terminal.exit_code() == 130
    *_, last = terminal.shown.rstrip("\n").splitlines()
    assert re.search(
        r"stopped: \d+ of \d+ files are cached; run the same command again to continue$", last
    )
    assert terminal.shown.endswith("\n")


@row("onefs get 'lab/*' with 750 sessions")
def test_a_long_listing_shows_what_is_listed(tmp_path: Path, environ: dict[str, str]) -> None:
    with ScriptedServer({"/labs": [answer_json([]), stall()]}) as alyx:
        user = {**environ, "ONEFS_URL": alyx.url, "ONEFS_TOKEN": "a" * 40}
        with Terminal(["get", "lab/*"], user) as terminal:
            terminal.expect("listing lab/*: 0 files so far")
            terminal.interrupt()
            assert terminal.exit_code() == 130


class LicksOnNoServer(AlteredLaboratory):
    """A laboratory in which the licks files are registered, but are in no repository."""

    def datasets(self, eid: str) -> list[DatasetRecord]:
        """See :class:`onefs.demo.records.Source`."""
        return [
            replace(
                each,
                file_records=tuple(replace(copy, exists=False) for copy in each.file_records),
            )
            if each.name.startswith("licks.")
            else each
            for each in self._source.datasets(eid)
        ]


@row("file registered in Alyx but on no server")
def test_a_file_on_no_server_is_distinguished_from_an_unregistered_one(tmp_path: Path) -> None:
    source = FolderLaboratory(small_folder(tmp_path / "data"))
    with Servers(LicksOnNoServer(source)) as servers, Home(tmp_path, **account(servers)) as home:
        (eid,) = [each.eid for each in source.sessions() if each.subject == "mouse.2"]
        sentence = "licks.times.npy is registered in Alyx, but on no server that can be reached"
        assert sentence in home.error_of(1, "show", LICKS)
        assert sentence in home.error_of(1, "get", eid, "--type", "licks.*")
        for name in (
            LICKS,
            f".by-eid/{eid}/alf/licks.times.npy",
            "2021-03-05_10_mouse.2/alf/licks.times.npy",
            LICKS.replace("licks.", "l*."),
            f".flat/{LICKS.replace('alf/', '')}",
        ):
            assert sentence in home.error_of(1, "get", name), name
        assert "registered" not in home.error_of(1, "get", LICKS.replace("licks", "clicks"))
        other = home.error_of(1, "show", LICKS.replace("licks", "clicks"))
        assert "registered" not in other
        assert "there is no dataset of type" in home.error_of(1, "get", eid, "--type", "clicks.*")


def read(access: Access, path: str) -> str:
    """Return the content of a file in the tree."""
    with closing(access.tree.open(path)[1]) as handle:
        return os.pread(handle.wait_fd(0, handle.size), handle.size, 0).decode()


def test_the_table_of_a_session_has_what_is_on_no_server(tmp_path: Path) -> None:
    """In each variant, the table has the dataset's path there. If a file exists, state is empty."""
    source = FolderLaboratory(small_folder(tmp_path / "data"))
    absent = LICKS.split("/", 4)
    with (
        Servers(LicksOnNoServer(source)) as servers,
        closing(open_laboratory(servers, tmp_path / "looking")) as access,
    ):
        for variant, place in (
            ("", absent[4]),
            (".flat/", absent[4].rpartition("/")[2]),
            (".as-of/2022-01-01/", absent[4]),
        ):
            path = f"/{variant}{'/'.join(absent[:4])}/.datasets.tsv"
            header, *rows = [line.split("\t") for line in read(access, path).splitlines()]
            assert header[-1] == "state"
            assert [(row[0], row[-1]) for row in rows] == [(place, "absent")]
        lines = read(access, f"/{'/'.join(FILE.split('/')[:4])}/.datasets.tsv").splitlines()[1:]
        assert {line.split("\t")[-1] for line in lines} == {""}
