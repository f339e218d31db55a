"""The size of the log file is limited, and the log file contains the output of libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.terminal_escapes import control_characters_in

CODE = """
import logging, os, sys
from onefs.mount import daemon_log
daemon_log._MAX_LOG_BYTES = 2000
daemon_log.set_up_logging(sys.argv[1], "info")
for number in range(200):
    logging.getLogger("test").info("line %d", number)
    logging.getLogger("test").debug("not this one")
os.write(2, b"printed by a library\\n")
"""


def test_rotation_redirects_standard_error_to_the_new_file(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "onefs.log"
    subprocess.run([sys.executable, "-c", CODE, log], check=True, timeout=60)
    assert sorted(path.name for path in log.parent.iterdir()) == ["onefs.log", "onefs.log.1"]
    assert all(path.stat().st_size < 2200 for path in log.parent.iterdir())
    text = log.read_text()
    assert text.endswith("printed by a library\n")
    assert "INFO test: line 199" in text
    assert "not this one" not in text
    assert log.stat().st_mode & 0o777 == 0o600


def test_secrets_do_not_reach_the_log(tmp_path: Path) -> None:
    log = tmp_path / "onefs.log"
    code = """
import logging, sys
from onefs.mount import daemon_log
from onefs.config.secret import Secret
daemon_log.set_up_logging(sys.argv[1], "info")
token = Secret("0123456789abcdef0123456789abcdef01234567")
try:
    raise RuntimeError(f"sent {token}")
except RuntimeError:
    logging.getLogger("test").exception("Authorization: Token %s", token)
"""
    subprocess.run([sys.executable, "-c", code, log], check=True, timeout=60)
    text = log.read_text()
    assert "RuntimeError: sent ***" in text
    assert "0123456789abcdef" not in text


def test_no_text_can_forge_a_log_record(tmp_path: Path) -> None:
    """Logged messages, tracebacks, warnings and thread exceptions have no control characters."""
    log = tmp_path / "onefs.log"
    code = """
import logging, sys, threading, warnings
from onefs.mount import daemon_log
daemon_log.set_up_logging(sys.argv[1], "info")
evil = "\\x1b]0;t\\x07\\x9b2J\\u202e\\u2028" + "\\r\\n2026-01-01 00:00:00 INFO forged: all is well"
logging.getLogger("test").warning("%s", evil)
try:
    raise RuntimeError(evil)
except RuntimeError:
    logging.getLogger("test").exception("failed")
warnings.warn(evil)
def die():
    raise ValueError(evil)
thread = threading.Thread(target=die)
thread.start()
thread.join()
"""
    subprocess.run([sys.executable, "-c", code, log], check=True, timeout=60)
    text = log.read_text()
    assert control_characters_in(text) == []
    assert text.count("forged") >= 4
    assert [line for line in text.splitlines() if line.startswith("2026-01-01 00:00:00")] == []
    assert "ValueError" in text
