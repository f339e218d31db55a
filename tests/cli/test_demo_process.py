"""The embedded servers as a child process: each line they write is logged or in an error."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from onefs.cli.demo_process import DemoOptions, DemoProcess
from onefs.errors import MountError
from tests.demo.laboratory_folder import SESSION, put, unreadable_disk
from tests.running import wait_until

#: number of folders whose warnings are more bytes than a pipe can hold
MANY = 600


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with many subjects. Each has a date folder that cannot be listed, and no session."""
    for number in range(MANY):
        name = f"subject-{number:04}-{'x' * 100}"
        (tmp_path / "data" / "lab" / "Subjects" / name / "2020-01-02").mkdir(parents=True)
    for name, value in unreadable_disk(tmp_path / "site", "2020-01-02").items():
        monkeypatch.setenv(name, value)
    return tmp_path / "data"


def test_a_folder_of_many_that_cannot_be_read_is_served(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(data, f"{SESSION}/a.b.npy")
    caplog.set_level(logging.WARNING)
    servers = DemoProcess(DemoOptions(str(data)), str(tmp_path / "state"), timeout=40)
    try:
        assert servers.connection_info["alyx_url"].startswith("http://127.0.0.1:")
        wait_until(lambda: caplog.text.count("is left out") == MANY, what="each warning")
        assert sum(map(len, caplog.messages)) > 65536
    finally:
        servers.close()


@pytest.mark.long
def test_what_servers_wrote_before_a_timeout_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, time\nprint('the disk is slow', file=sys.stderr, flush=True)\n"
        "time.sleep(600)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    caplog.set_level(logging.WARNING)
    with pytest.raises(MountError, match="no answer within 6 s"):
        DemoProcess(DemoOptions(), str(tmp_path / "state"), timeout=6)
    wait_until(lambda: "the disk is slow" in caplog.text, what="the early line")


def test_servers_that_die_say_why_at_the_end(data: Path, tmp_path: Path) -> None:
    with pytest.raises(MountError) as caught:
        DemoProcess(DemoOptions(str(data)), str(tmp_path / "state"), timeout=40)
    lines = str(caught.value).splitlines()
    assert "holds no session" in lines[-1]
    assert len(lines) <= 20
