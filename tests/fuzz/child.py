"""The process that is watched: onefs over the lying laboratory. Run by ``tests.fuzz.watched``.

It takes one input a line on standard input, and says on standard output what it is about to do and
what it found. A thread counts in a file that the watching process maps: while the interpreter is
held by one call the count stands still.
"""

from __future__ import annotations

import faulthandler
import json
import mmap
import os
import signal
import struct
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from onefs.access import Access, Deadlines, GivenLogin
from onefs.cli.chosen import forgive
from onefs.credentials import DataCredentials
from onefs.errors import OnefsError
from onefs.http import Transport
from onefs.metadata.tables_child import build_apart
from onefs.metadata.tables_sync import from_server
from onefs.mount import library, logs
from onefs.one import ONE
from onefs.secret import Secret
from onefs.settings import Settings
from onefs.storing import Storing
from tests.fuzz.doing import Place, do
from tests.fuzz.looking import Seen, see
from tests.fuzz.specs import Json

#: seconds between two counts
_BEAT = 0.02
#: seconds that a request of metadata may take, and that bytes may stay away
_DEADLINE = 1.5
#: files up to this size are fetched whole, so that the large one is not
_SMALL_FILE = 1 << 20
#: seconds between two looks whether all is right again
_LOOK_AGAIN = 0.3
#: documented pauses, in seconds, made shorter wherever a module knows them
_PAUSES = {
    "FAILURE_PAUSE": 0.2,
    "FIRST_LOOK": 0.2,
    "LONGEST_LOOK": 0.5,
    "PROBE_PAUSE": 0.2,
    "NEGATIVE_AGE": 0.3,
    "FIRST_DELAY": 0.01,
    "LONGEST_DELAY": 0.2,
    "LONGEST_WISH": 1.0,
    "FIRST_PAUSE_SECONDS": 0.2,
    "LONGEST_PAUSE_SECONDS": 0.5,
    "PROBE_PAUSE_SECONDS": 0.2,
    "SECOND_LOOK": 0.1,
    "LOGIN_PAUSE_SECONDS": 0.2,
}
_PAUSES_OF_ONE = {("onefs.tree.searches", "AGE"): 0.2, ("onefs.tree.sizes", "PAUSE"): 0.2}


class _Failed(Exception):
    """What was found; the message says where."""


def main() -> None:
    """Take inputs until standard input ends."""
    wishes, reports = sys.stdin, os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    library.tune()
    logs.set_up(None, "info")
    warnings.simplefilter("ignore")
    _beat(Path(sys.argv[1]))
    _import_all()
    _shorten_pauses()
    for line in wishes:
        wish = json.loads(line)
        run = _Run(wish, wishes, reports)
        findings = run.findings()
        run.say({"findings": findings})


def _beat(path: Path) -> None:
    file = path.open("r+b")
    shared = mmap.mmap(file.fileno(), 8)

    def count() -> None:
        number = 0
        while True:
            number += 1
            shared[:8] = struct.pack("Q", number)
            time.sleep(_BEAT)

    threading.Thread(target=count, name="fuzz-beat", daemon=True).start()


def _import_all() -> None:
    """Have the parts loaded that are loaded when they are first needed."""
    import onefs.content.reader
    import onefs.metadata.catalogue
    import onefs.one.loading
    import onefs.tree.laboratory  # noqa: F401


def _shorten_pauses() -> None:
    for name, module in list(sys.modules.items()):
        if not name.startswith("onefs."):
            continue
        for constant, seconds in _PAUSES.items():
            if hasattr(module, constant):
                setattr(module, constant, seconds)
    for (name, constant), seconds in _PAUSES_OF_ONE.items():
        setattr(sys.modules[name], constant, seconds)
    # of the cache tables' archive, which waits a minute for a byte as everything else does
    Transport.stream.__kwdefaults__["stall_timeout"] = 1.5


class _Run:
    """One input."""

    def __init__(self, wish: Json, wishes: TextIO, reports: TextIO) -> None:
        self._wish, self._wishes, self._reports = wish, wishes, reports
        self._input = wish["input"]
        self._folder = Path(wish["folder"])
        self._place: Place | None = None

    def say(self, message: Json) -> None:
        """Tell the watching process."""
        self._reports.write(json.dumps(message) + "\n")
        self._reports.flush()

    def ask(self, message: Json) -> Json:
        """Tell the watching process, and have its answer."""
        self.say(message)
        return json.loads(self._wishes.readline())

    def findings(self) -> list[str]:
        """Run the input: what is wrong, if anything."""
        try:
            self._run()
        except _Failed as failed:
            return [str(failed)]
        except Exception as error:
            return [_described("raised", error)]
        finally:
            with suppress(Exception):
                self._close()
        return []

    def _run(self) -> None:
        self.ask({"at": "open"})
        if not self._input["early"]:
            self._open()
        self.ask({"at": "lie"})
        with suppress(OnefsError):
            self._lied_to()
        record = self.ask({"at": "right"})
        if self._input["reopen"]:
            self._close()
        self._heal(record)
        self.say({"at": "close"})
        self._close()

    def _lied_to(self) -> None:
        if self._place is None:
            self._open()
        place = self._place
        assert place is not None
        if self._wish["harmless"]:
            wrong = _differences(place, self._wish["truth"])
            if wrong:
                raise _Failed(f"harmless: {wrong[0]}")
        for operation in self._input["operations"]:
            self.say({"at": operation["do"]})
            do(operation, place)

    def _heal(self, record: Json) -> None:
        """Wait until everything is right again; raises _Failed when it does not become so."""
        self.say({"at": "heal"})
        truth = self._wish["truth"]
        if truth is None:
            self._open()
            assert self._place is not None
            self.say({"seen": see(self._place.access, self._place.one)})
            return
        if not record["alyx"]:
            spared = set(record["spared"])
            most = {path: seen for path, seen in truth.items() if path not in spared}
            self._until_right(lambda place: _missing(see(place.access, place.one), most), "lasting")
        if record["tables"]:
            self._until_right(_synced, "lasting in sync")
        if record["alyx"] or record["spared"]:
            self._until_right(lambda place: _refreshed(place, truth), "lasting after refresh")

    def _until_right(self, look: Callable[[Place], list[str]], what: str) -> None:
        end = time.monotonic() + self._wish["healing"]
        while wrong := self._heard(look):
            if time.monotonic() > end:
                raise _Failed(f"{what}: {wrong[0]}")
            self.say({"at": "heal"})
            time.sleep(_LOOK_AGAIN)

    def _heard(self, work: Callable[[Place], list[str]]) -> list[str]:
        """What some work gives on an open laboratory, or the error that it ends with."""
        try:
            if self._place is None:
                self._open()
            assert self._place is not None
            return work(self._place)
        except OnefsError as error:
            return [f"error {type(error).__name__}: {error}"]

    def _open(self) -> None:
        login = self._wish["login"]
        data = DataCredentials(login["data_username"], Secret(login["data_password"]), "fuzz")
        settings = Settings(
            url=self._wish["alyx_url"],
            username=login["username"],
            profile="",
            cache_dir=self._folder / "cache",
            state_dir=self._folder / "state",
            data_url=self._wish["data_url"],
            storing=Storing(small_file=_SMALL_FILE),
        )
        access = Access(
            settings,
            "fuzz",
            login=GivenLogin(Secret(login["password"]), data),
            deadlines=Deadlines(_DEADLINE, _DEADLINE),
        )
        self._place = Place(access, ONE.over(access, settings), self._folder)

    def _close(self) -> None:
        place, self._place = self._place, None
        if place is not None:
            place.one.close()


def _missing(seen: Seen, truth: Seen) -> list[str]:
    """What is not as ``truth`` has it; there may be more."""
    return [
        f"{path} is {seen.get(path, 'absent')}, not {truth[path]}"
        for path in truth
        if seen.get(path) != truth[path]
    ]


def _synced(place: Place) -> list[str]:
    """Nothing, after newer tables were taken."""
    from_server(place.access.alyx, place.folder / "state", builder=build_apart)
    return []


def _refreshed(place: Place, truth: Seen) -> list[str]:
    """What differs after ``onefs refresh``, which is repeated: answers may have been under way."""
    place.access.catalogue.want_anew(())
    forgive(place.access, ())
    return _differences(place, truth)


def _differences(place: Place, truth: Seen) -> list[str]:
    """What is not as ``truth`` has it, or should not be there."""
    seen = see(place.access, place.one)
    extra = sorted(seen.keys() - truth.keys())
    return _missing(seen, truth) or [f"{path} should not be there: {seen[path]}" for path in extra]


def _described(what: str, error: BaseException) -> str:
    """An exception with the last place of onefs that it went through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/onefs/" in frame.filename]
    where = f"{Path(ours[-1].filename).name}:{ours[-1].name}" if ours else "the fuzzer"
    return f"{what} {type(error).__name__} in {where}: {str(error)[:200]}"


if __name__ == "__main__":
    main()
