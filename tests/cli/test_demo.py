"""``onefs demo serve`` as a user runs it."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from onefs.demo import GENERATION, demo_identity

ROOT = Path(__file__).parents[2]
#: the program ``onefs``, whether installed or not
ONEFS = [sys.executable, "-c", "from onefs.cli import main; main()"]


def test_it_serves_and_logs_until_interrupted(tmp_path: Path) -> None:
    log = tmp_path / "access.jsonl"
    process = subprocess.Popen(
        [*ONEFS, "demo", "serve", "--sessions=60", "--datasets=5", "--rate=1000000",
         "--latency=1", f"--access-log={log}"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        login = {key: ready[key] for key in ("username", "password")}
        token = requests.post(f"{ready['alyx_url']}/auth-token", data=login, timeout=60).json()
        answer = requests.get(
            f"{ready['alyx_url']}/sessions?limit=1",
            headers={"Authorization": f"Token {token['token']}"},
            timeout=60,
        )
        assert answer.json()["count"] == 60
        auth = (ready["data_username"], ready["data_password"])
        assert requests.get(f"{ready['data_url']}/public/", auth=auth, timeout=60).ok
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["server"], line["path"]) for line in lines] == [
        ("alyx", "/auth-token"),
        ("alyx", "/sessions?limit=1"),
        ("data", "/public/"),
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data=/nowhere/at/all"], "there is no folder /nowhere/at/all"),
        (["--port=70000"], "70000"),
        (["--rate=0"], "--rate"),
    ],
)
def test_wrong_options_exit_with_2(arguments: list[str], words: str) -> None:
    done = subprocess.run(
        [*ONEFS, "demo", "serve", *arguments],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert words in done.stderr.decode()
    assert b"Traceback" not in done.stderr


@pytest.mark.usefixtures("no_coverage")
def test_its_help_loads_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from onefs.cli import main\n"
        "main(['demo', 'serve', '--help'], standalone_mode=False)\n"
        "print({'numpy', 'flask', 'requests', 'sqlite3', 'mfusepy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=60, check=True
    )
    assert b"--access-log" in done.stdout
    assert done.stdout.decode().splitlines()[-1] == "set()"


def test_a_laboratory_is_named_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    digest = hashlib.sha1(str((tmp_path / "data").resolve()).encode()).hexdigest()[:12]
    assert demo_identity(tmp_path / "data") == f"demo-{digest}-{GENERATION}"
    assert demo_identity(tmp_path / "link") == f"demo-{digest}-{GENERATION}"
    assert demo_identity(None) == f"demo-{hashlib.sha1(b'made').hexdigest()[:12]}-{GENERATION}"
