"""``onefs list`` for a session whose server became unreachable after the session was listed."""

from __future__ import annotations

import re
import socket
import sqlite3
from pathlib import Path

import pytest

from onefs.demo.folder_laboratory import FolderLaboratory
from onefs.demo.servers import Servers
from tests.cli.commands_table import row
from tests.laboratories import SMALL, account, small_folder
from tests.running import Home

SESSION = SMALL[0].rpartition("/alf/")[0]
FORMS = ([SESSION], [SESSION, "--details"], [SESSION, "--all"], ["2021-03-05_10_mouse.2"])
STALE_LISTING_NOTICE = (
    r"onefs: the datasets of session \S+ cannot be requested from Alyx now, "
    r"so onefs uses the list of datasets that it fetched on 20\S+ \S+\n"
)


@pytest.mark.long
@row("onefs list with the server away")
@pytest.mark.parametrize("silent", [False, True])
def test_list_says_that_it_is_from_the_catalogue(tmp_path: Path, silent: bool) -> None:
    source = FolderLaboratory(small_folder(tmp_path / "data"))
    with Servers(source) as servers, Home(tmp_path, **account(servers)) as home:
        before = [home.run("list", *form).stdout for form in FORMS]
        servers.stop()
        (catalogue,) = home.state.glob("*/catalogue.sqlite")
        with sqlite3.connect(catalogue) as database:  # make the listing months old
            database.execute("UPDATE listings SET fetched_at = fetched_at - 1e7")
        database.close()
        with socket.socket() as listener:
            if silent:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(("127.0.0.1", int(servers.alyx_url.rpartition(":")[2])))
                listener.listen(50)
            for form, known in zip(FORMS, before, strict=True):
                done = home.run("list", *form, ONEFS_DEADLINE="2")
                assert done.stdout == known
                assert re.fullmatch(STALE_LISTING_NOTICE, done.stderr), done.stderr
            assert home.run("list", SESSION, "--offline").stderr == ""
            other = home.error_of(4, "list", "2021-03-05_11_mouse.2", ONEFS_DEADLINE="2")
            assert "stopped" not in other
