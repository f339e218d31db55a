"""State that two processes must not share: paused before a fork, and dropped in the child."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from onefs.lowlevel import forking
from onefs.lowlevel.forking import (
    ForkAware,
    close_lock_file,
    hold_lock_file,
    open_lock_file,
    register_fork_aware,
)
from onefs.lowlevel.lazy import Lazy
from onefs.lowlevel.locks import try_lock
from onefs.lowlevel.sqlite_file import SqliteFile
from tests.running import wait_until

# Python warns from 3.12 on about forks in a process with threads, which are tested here
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

SCHEMA = "CREATE TABLE IF NOT EXISTS t (x INTEGER);"


@contextmanager
def child(task: Callable[[], object]) -> Iterator[None]:
    """Run ``task`` in a forked child during the block. It must not return False, and not raise."""
    pid = os.fork()
    if not pid:
        code = 1
        with suppress(BaseException):
            signal.alarm(30)
            code = 2 if task() is False else 0
        os._exit(code)
    try:
        yield
    finally:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == 0


def open_file(path: Path) -> SqliteFile:
    return SqliteFile(path, SCHEMA, 1, "the test file")


def test_rows_of_parent_and_child_both_stay(tmp_path: Path) -> None:
    """If both used one connection, its close in the parent would remove the WAL of the child."""
    file = open_file(tmp_path / "f")
    file.fetch_rows("INSERT INTO t VALUES (1)")
    ours, theirs = os.pipe()

    def add() -> None:
        file.fetch_rows("INSERT INTO t VALUES (2)")
        os.read(ours, 1)  # waits until the parent has closed the file
        file.fetch_rows("INSERT INTO t VALUES (3)")

    with child(add):
        file.fetch_rows("INSERT INTO t VALUES (4)")
        file.close()
        os.write(theirs, b"x")
    for descriptor in (ours, theirs):
        os.close(descriptor)
    assert open_file(tmp_path / "f").fetch_rows("SELECT x FROM t ORDER BY x") == [
        (1,),
        (2,),
        (3,),
        (4,),
    ]


def test_a_fork_among_statements_loses_none(tmp_path: Path) -> None:
    file = open_file(tmp_path / "f")
    end = threading.Event()
    written = [0] * 3

    def write(number: int) -> None:
        while not end.is_set():
            with file.transaction() as connection:
                connection.execute("INSERT INTO t VALUES (0)")
                connection.execute("INSERT INTO t VALUES (0)")
            written[number] += 2

    threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(30):
            with child(lambda: file.fetch_rows("INSERT INTO t VALUES (1)")):
                pass
    finally:
        end.set()
        for thread in threads:
            thread.join()
    assert file.fetch_rows("SELECT x, count(*) FROM t GROUP BY x") == [(0, sum(written)), (1, 30)]
    assert not list(tmp_path.glob("*unusable*"))


def test_a_file_in_long_use_is_left_to_the_parent(tmp_path: Path) -> None:
    file = open_file(tmp_path / "f")
    file.fetch_rows("INSERT INTO t VALUES (1)")
    begun, end = threading.Event(), threading.Event()

    def hold() -> None:
        with file.transaction() as connection:
            connection.execute("INSERT INTO t VALUES (2)")
            begun.set()
            end.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    begun.wait(30)

    def work() -> bool:
        nothing = file.fetch_rows("SELECT x FROM t") == []
        another = open_file(tmp_path / "f")
        another.fetch_rows("INSERT INTO t VALUES (9)")
        gc.collect()
        return nothing and another.fetch_rows("SELECT x FROM t") == [(9,)]

    with child(work):
        pass
    end.set()
    holder.join()
    assert file.fetch_rows("SELECT x FROM t ORDER BY x") == [(1,), (2,)]


def test_a_fork_inside_a_transaction_does_not_break_it(tmp_path: Path) -> None:
    file = open_file(tmp_path / "f")
    with file.transaction() as connection:
        connection.execute("INSERT INTO t VALUES (1)")
        with child(lambda: file.fetch_rows("SELECT x FROM t") == []):
            pass
        connection.execute("INSERT INTO t VALUES (2)")
    assert file.fetch_rows("SELECT x FROM t ORDER BY x") == [(1,), (2,)]


@pytest.mark.parametrize("kind", ["OFD", "flock"])
def test_a_child_neither_holds_nor_frees_the_locks_of_its_parent(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "locks"

    def take(descriptor: int) -> bool:
        if kind == "OFD":
            return try_lock(descriptor, 5)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    ours, theirs = os.pipe()
    mine = open_lock_file(path)
    assert take(mine)

    def wait() -> None:
        os.close(theirs)
        with suppress(OSError):  # the child has already closed the descriptor
            os.fstat(mine)
            raise AssertionError
        close_lock_file(mine)
        os.read(ours, 1)

    with child(wait), hold_lock_file(path) as other:
        assert not take(other)
        close_lock_file(mine)
        wait_until(lambda: take(other))  # the child closes its copy as soon as it runs
        os.close(theirs)
    os.close(ours)


def test_a_number_that_was_given_to_another_file_is_not_closed(tmp_path: Path) -> None:
    """A thread has closed the lock file, but its entry is not removed yet."""
    with (tmp_path / "users").open("w") as file:
        descriptor = open_lock_file(tmp_path / "locks")
        os.close(descriptor)
        os.dup2(file.fileno(), descriptor)
        with child(lambda: os.write(descriptor, b"still here")):
            pass
        close_lock_file(descriptor)
    assert (tmp_path / "users").read_text() == "still here"


def test_a_lazy_value_is_created_again_in_a_child() -> None:
    once = Lazy(lambda: (os.getpid(), threading.Lock()))
    once()[1].acquire()
    with child(lambda: once()[0] == os.getpid() and once()[1].acquire(timeout=5)):
        pass
    assert once()[0] == os.getpid()
    assert once()[1].locked()


def test_a_lazy_value_that_another_thread_is_creating_is_created_by_the_child() -> None:
    begun, end = threading.Event(), threading.Event()
    parent = os.getpid()

    def make() -> int:
        if os.getpid() == parent:
            begun.set()
            end.wait(60)
        return os.getpid()

    once = Lazy(make)
    once.start()
    begun.wait(30)
    with child(lambda: once() == os.getpid()):
        pass
    end.set()
    assert once() == parent


class RecordedMember(ForkAware):
    def __init__(self, trouble: bool = False) -> None:
        self.seen: list[str] = []
        self.trouble = trouble
        register_fork_aware(self)

    def _see(self, what: str) -> None:
        self.seen.append(what)
        if self.trouble:
            raise RuntimeError(what)

    def before_fork(self, end: float) -> None:
        self._see("before")

    def after_fork_in_parent(self) -> None:
        self._see("parent")

    def after_fork_in_child(self) -> None:
        self._see("child")


def test_a_member_that_fails_stops_neither_the_fork_nor_the_others(
    capfd: pytest.CaptureFixture[str],
) -> None:
    members = [RecordedMember(trouble=True), RecordedMember(), RecordedMember(trouble=True)]
    with child(lambda: all(each.seen == ["before", "child"] for each in members)):
        pass
    assert all(each.seen == ["before", "parent"] for each in members)
    assert capfd.readouterr().err == ""


def test_subprocesses_run_no_fork_hooks(tmp_path: Path) -> None:
    member = RecordedMember()
    file = open_file(tmp_path / "f")
    subprocess.run([sys.executable, "-S", "-c", ""], check=True)
    os.posix_spawn("/bin/true", ["true"], {})
    os.wait()
    assert member.seen == []
    # with preexec_fn Python forks, and the parent continues as after any fork
    subprocess.run([sys.executable, "-S", "-c", ""], check=True, preexec_fn=lambda: None)
    assert member.seen == ["before", "parent"]
    assert file.fetch_rows("SELECT x FROM t") == []


def test_a_fork_that_fails_leaves_all_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = open_file(tmp_path / "f")
    code = (
        "import os, resource, sys\n"
        "from pathlib import Path\n"
        "from onefs.lowlevel.sqlite_file import SqliteFile\n"
        f"file = SqliteFile(Path({str(tmp_path / 'f')!r}), {SCHEMA!r}, 1, 'it')\n"
        "os.setuid(65534) if os.getuid() == 0 else None\n"
        "resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))\n"
        "try:\n    pid = os.fork()\n"
        "except OSError:\n    print('failed')\n"
        "else:\n    os._exit(0) if not pid else print('forked')\n"
        "import threading\n"
        "print(file._lock.acquire(blocking=False))\n"
    )
    for path in [tmp_path, *tmp_path.iterdir()]:
        path.chmod(0o777)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["failed", "True"]
    file.close()


def test_a_child_does_not_use_the_connections_of_its_parent(tmp_path: Path) -> None:
    """A connection that the parent closes ends for the server, also while the child lives."""
    from onefs.http import Transport
    from tests.scripted_server import ScriptedServer, answer_json

    ours, theirs = os.pipe()
    with ScriptedServer({"/a": [answer_json(1)]}) as server, Transport() as transport:
        assert transport.get_json(f"{server.url}/a").body == 1
        before = _sockets()

        def wait() -> bool:
            os.close(theirs)
            gone = len(_sockets()) <= len(before) - 2  # the connection, and its handle
            os.read(ours, 1)
            return gone

        with child(wait):
            os.close(theirs)
        assert transport.get_json(f"{server.url}/a").body == 1
    os.close(ours)


def _sockets() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return [each for each in found if each.startswith("socket:")]


def test_the_child_of_a_child_forks_too(tmp_path: Path) -> None:
    file = open_file(tmp_path / "f")

    def generation(left: int) -> None:
        file.fetch_rows("INSERT INTO t VALUES (?)", left)
        if left:
            with child(lambda: generation(left - 1)):
                pass

    generation(4)
    assert len(file.fetch_rows("SELECT x FROM t")) == 5


def test_forks_wait_for_imports_of_onefs(tmp_path: Path) -> None:
    """If a fork did not wait, the child could never import a module that a thread was importing."""
    register_fork_aware(member := RecordedMember())
    (tmp_path / "requests_slow.py").write_text("")
    code = (
        "import os, signal, sys, threading, time, types\n"
        "from onefs.lowlevel.lazy import Lazy\n"
        "once = Lazy(int)\n"
        "begun = threading.Event()\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name != 'onefs.slow': return None\n"
        "        from importlib.machinery import ModuleSpec\n"
        "        return ModuleSpec(name, self)\n"
        "    def create_module(self, spec): return None\n"
        "    def exec_module(self, module):\n"
        "        begun.set(); time.sleep(0.3)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "threading.Thread(target=lambda: __import__('onefs.slow')).start()\n"
        "begun.wait(30)\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    signal.alarm(20)\n"
        "    import onefs.slow\n"
        "    os._exit(0)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=60)
    assert done.returncode == 0
    assert member.seen == []
    assert forking._registered
