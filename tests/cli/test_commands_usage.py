"""Typing errors in command lines: the error, and the suggestion."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.commands_table import row
from tests.cli.terminal import run
from tests.laboratories import SMALL, small_folder
from tests.running import Home


@row("onefs mout")
@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (["mout"], "there is no command mout: did you mean mount?"),
        (["cache", "inof"], "there is no command inof: did you mean info?"),
        (["demo", "serv"], "there is no command serv: did you mean serve?"),
        (["help"], "there is no command help: run"),
        (["frobnicate"], "there is no command frobnicate; there are mount, "),
        (["--versio"], "there is no option --versio: did you mean --version?"),
        (["mount", "x", "--cache-sise", "3"], "there is no option --cache-sise: did you mean"),
        (["get", "--typ=x"], "there is no option --typ: did you mean --type?"),
        (["mount"], "missing argument 'MOUNTPOINT'"),
        (["umount", "x", "y"], "got unexpected extra argument (y)"),
        (["get", "x", "--jobs", "many"], "invalid value for '--jobs'"),
        (["list", "x", "--format", "tabel"], "invalid value for '--format'"),
        (["cache", "adopt", "/nonexistent\x1b[2J"], "invalid value for 'DIR'"),
        (["search", "--limit"], "option '--limit' requires an argument"),
    ],
)
def test_an_invalid_command_line_is_one_sentence_and_the_usage_line(
    environ: dict[str, str], line: list[str], sentence: str
) -> None:
    done = run(line, environ)
    said, usage = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert said.startswith(f"onefs: {sentence}")
    assert usage.startswith("Usage: ")
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("line", [[], ["cache"], ["demo"]])
def test_a_group_without_a_command_shows_its_help(environ: dict[str, str], line: list[str]) -> None:
    done = run(line, environ)
    assert "Commands:" in done.stdout + done.stderr
    assert "onefs: " not in done.stderr.partition("Options:")[0]


@row("onefs mount help")
@pytest.mark.parametrize("word", ["help", "status", "umount"])
def test_the_name_of_a_command_is_refused_as_a_mount_point(
    environ: dict[str, str], home: Path, word: str
) -> None:
    done = run(["mount", word, "--demo"], environ)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("onefs: ")
    assert f"write ./{word} to mount at a folder of that name" in line
    assert list(home.iterdir()) == []


@pytest.mark.usefixtures("fuse")
def test_a_folder_may_have_the_name_of_a_command(tmp_path: Path) -> None:
    with Home(tmp_path) as home:
        home.run("mount", "./help", "--demo")
        assert os.path.ismount(tmp_path / "help")
        home.run("umount", "./help")


@row("onefs refresh MNT/nope")
@pytest.mark.usefixtures("fuse")
def test_refresh_refuses_a_path_that_does_not_exist(tmp_path: Path) -> None:
    folder = small_folder(tmp_path / "data")
    with Home(tmp_path) as home:
        mounted = home.mount("--demo", "--demo-data", folder)
        session = mounted.path / Path(SMALL[0]).parents[2]
        for path in (mounted.path / "nope", session / "nope", session / "notes.md" / "x"):
            sentence = home.error_of(1, "refresh", path)
            assert sentence.startswith(f"the path {path} did not exist before the refresh")
        for path in (mounted.path, session, session / "notes.md"):
            assert home.run("refresh", path).stderr == ""


@row("onefs cache info --cache-dir TYPO")
@pytest.mark.parametrize(
    "line", [["info"], ["list"], ["verify"], ["clear"], ["evict", "x"], ["unpin", "x"]]
)
def test_cache_commands_create_no_cache_folder(
    environ: dict[str, str], home: Path, line: list[str]
) -> None:
    environ["ONEFS_URL"] = "https://alyx.invalid"
    named = home / "typo"
    for flags, variables in (
        (["--cache-dir", str(named)], {}),
        ([], {"ONEFS_CACHE_DIR": str(named)}),
    ):
        done = run(["cache", *line, *flags], environ, **variables)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"onefs: there is no cache folder {named}")
    assert list(home.iterdir()) == []
