"""The process that is watched: onefs over the lying laboratory. Run by ``tests.fuzz.watcher``.

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
from onefs.cache_tables.worker import build_in_child
from onefs.catalogue.sync import sync_from_server
from onefs.cli.cached_datasets import clear_rejections
from onefs.config.cache_options import CacheOptions
from onefs.config.credentials import DataCredentials
from onefs.config.secret import Secret
from onefs.config.settings import Settings
from onefs.errors import OnefsError
from onefs.http import Transport
from onefs.mount import daemon_log, libfuse
from onefs.one import ONE
from tests.fuzz.snapshot import Snapshot, take_snapshot
from tests.fuzz.specs import Json
from tests.fuzz.user_operations import Place, perform

#: seconds between two counts
_BEAT_SECONDS = 0.02
#: seconds that a request of metadata may take, and that bytes may stay away
_DEADLINE_SECONDS = 1.5
#: files up to this size are fetched whole, so that the large one is not
_SMALL_FILE = 1 << 20
#: seconds between two looks whether all is right again
_LOOK_AGAIN_SECONDS = 0.3
#: documented pauses, in seconds, made shorter wherever a module knows them
_PAUSES = {
    ("onefs.catalogue.ttl", "FAILURE_PAUSE_SECONDS"): 0.2,
    ("onefs.catalogue.availability", "FAILURE_PAUSE_SECONDS"): 0.2,
    ("onefs.catalogue.listing_cache", "FAILURE_PAUSE_SECONDS"): 0.2,
    ("onefs.catalogue.ttl", "NEGATIVE_TTL_SECONDS"): 0.3,
    ("onefs.download.hosts", "FAILURE_TTL_SECONDS"): 0.2,
    ("onefs.download.hosts", "MAX_RETRY_AFTER_SECONDS"): 1.0,
    ("onefs.catalogue.availability", "FIRST_PROBE_PAUSE_SECONDS"): 0.2,
    ("onefs.catalogue.availability", "MAX_PROBE_PAUSE_SECONDS"): 0.5,
    ("onefs.http.retry", "FIRST_DELAY_SECONDS"): 0.01,
    ("onefs.http.retry", "MAX_DELAY_SECONDS"): 0.2,
    ("onefs.cache.mismatches", "FIRST_PAUSE_SECONDS"): 0.2,
    ("onefs.cache.mismatches", "LONGEST_PAUSE_SECONDS"): 0.5,
    ("onefs.download.host_circuits", "PROBE_PAUSE_SECONDS"): 0.2,
    ("onefs.download.whole_file", "MISMATCH_RETRY_SECONDS"): 0.1,
    ("onefs.alyx.tokens", "LOGIN_PAUSE_SECONDS"): 0.2,
    ("onefs.tree.search_cache", "RESULT_TTL_SECONDS"): 0.2,
    ("onefs.tree.size_lookup", "NEGATIVE_TTL_SECONDS"): 0.2,
}


class _Failed(Exception):
    """What was found; the message says where."""


def main() -> None:
    """Take inputs until standard input ends."""
    wishes, reports = sys.stdin, os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    libfuse.tune_process()
    daemon_log.set_up_logging(None, "info")
    warnings.simplefilter("ignore")
    _beat(Path(sys.argv[1]))
    _import_all()
    _shorten_pauses()
    for line in wishes:
        wish = json.loads(line)
        run = _InputRun(wish, wishes, reports)
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
            time.sleep(_BEAT_SECONDS)

    threading.Thread(target=count, name="fuzz-beat", daemon=True).start()


def _import_all() -> None:
    """Have the parts loaded that are loaded when they are first needed."""
    import onefs.catalogue.catalogue
    import onefs.content.content
    import onefs.content.downloads
    import onefs.one.loader
    import onefs.tree.laboratory_tree  # noqa: F401


def _shorten_pauses() -> None:
    for (name, constant), seconds in _PAUSES.items():
        assert hasattr(sys.modules[name], constant), (name, constant)
        setattr(sys.modules[name], constant, seconds)
    # of the cache tables' archive, which waits a minute for a byte as everything else does
    defaults = Transport.stream.__kwdefaults__
    assert defaults is not None
    defaults["stall_timeout"] = 1.5


class _InputRun:
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
            self._run_operations_under_faults()
        record = self.ask({"at": "right"})
        if self._input["reopen"]:
            self._close()
        self._wait_until_healed(record)
        self.say({"at": "close"})
        self._close()

    def _run_operations_under_faults(self) -> None:
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
            perform(operation, place)

    def _wait_until_healed(self, record: Json) -> None:
        """Wait until everything is right again; raises _Failed when it does not become so."""
        self.say({"at": "heal"})
        truth = self._wish["truth"]
        if truth is None:
            self._open()
            assert self._place is not None
            self.say({"seen": take_snapshot(self._place.access, self._place.one)})
            return
        if not record["alyx"]:
            spared = set(record["spared"])
            most = {path: seen for path, seen in truth.items() if path not in spared}
            self._until_right(
                lambda place: _missing(take_snapshot(place.access, place.one), most), "lasting"
            )
        if record["tables"]:
            self._until_right(_synced, "lasting in sync")
        if record["alyx"] or record["spared"]:
            self._until_right(lambda place: _refreshed(place, truth), "lasting after refresh")

    def _until_right(self, look: Callable[[Place], list[str]], what: str) -> None:
        end = time.monotonic() + self._wish["healing"]
        while wrong := self._result_or_error(look):
            if time.monotonic() > end:
                raise _Failed(f"{what}: {wrong[0]}")
            self.say({"at": "heal"})
            time.sleep(_LOOK_AGAIN_SECONDS)

    def _result_or_error(self, work: Callable[[Place], list[str]]) -> list[str]:
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
            cache_options=CacheOptions(small_file=_SMALL_FILE),
        )
        access = Access(
            settings,
            "fuzz",
            login=GivenLogin(Secret(login["password"]), data),
            deadlines=Deadlines(_DEADLINE_SECONDS, _DEADLINE_SECONDS),
        )
        self._place = Place(access, ONE.over(access, settings), self._folder)

    def _close(self) -> None:
        place, self._place = self._place, None
        if place is not None:
            place.one.close()


def _missing(seen: Snapshot, truth: Snapshot) -> list[str]:
    """What is not as ``truth`` has it; there may be more."""
    return [
        f"{path} is {seen.get(path, 'absent')}, not {truth[path]}"
        for path in truth
        if seen.get(path) != truth[path]
    ]


def _synced(place: Place) -> list[str]:
    """Nothing, after newer tables were taken."""
    sync_from_server(place.access.alyx, place.folder / "state", builder=build_in_child)
    return []


def _refreshed(place: Place, truth: Snapshot) -> list[str]:
    """What differs after ``onefs refresh``, which is repeated: answers may have been under way."""
    place.access.catalogue.invalidate(())
    clear_rejections(place.access, ())
    return _differences(place, truth)


def _differences(place: Place, truth: Snapshot) -> list[str]:
    """What is not as ``truth`` has it, or should not be there."""
    seen = take_snapshot(place.access, place.one)
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
