"""A program that loads and forks, for ``test_forks``: ``python -m tests.one.forking_program KIND``.

Standard input has ``{"one": arguments of ONE, "eid": ..., "types": [...]}``. An error
is printed as a traceback. No step takes longer than LONGEST seconds.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from onefs.one import ONE
from tests.one.opened import access_of

LONGEST = 90
GIVEN = json.load(sys.stdin) if __name__ == "__main__" else {}
ONES: list[ONE] = []
#: types that are loaded meanwhile
OTHERS = ["clusters.templateWaveforms", "eye.area", "spikes.times"]


def end_after(seconds: int) -> None:
    """If the process still runs after ``seconds``, print the traceback of each thread, and exit."""
    faulthandler.register(signal.SIGALRM, chain=True)
    signal.alarm(seconds)


def make() -> ONE:
    return ONE(**GIVEN["one"])


def length(one: ONE, kind: str) -> int:
    return len(one.load(GIVEN["eid"], kind)[0])


def work(kind: str) -> int:
    """Load in a forked child, with the object that the parent opened.

    The child also reads files that the parent downloads and evicts. Their locks must be free at
    the end.
    """
    ONES[0].load(GIVEN["eid"], OTHERS, download_only=True)
    return length(ONES[0], kind)


def begin(given: dict[str, Any]) -> None:
    """Give a new object to a process that was not forked from a process that loads."""
    end_after(LONGEST)
    GIVEN.update(given)
    ONES[:] = [make()]


@contextmanager
def loading(one: ONE) -> Iterator[None]:
    """Run three threads during the block that load, list and search. None of them may fail."""
    end, troubles = threading.Event(), list[BaseException]()

    def run(number: int) -> None:
        while not end.is_set():
            try:
                for kind in OTHERS:
                    one.load(GIVEN["eid"], kind, download_only=True)
                    keeping = access_of(one).content.admin
                    for kept in keeping.list_items():
                        if kind in kept.path:
                            keeping.evict(kept.dataset_id)
                access_of(one).catalogue.invalidate(())
                one.list(GIVEN["eid"])
                one.search(subject="clns0730")
            except BaseException as error:
                troubles.append(error)
                raise

    threads = [threading.Thread(target=run, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join()
    assert not troubles, troubles


def in_child(task: Callable[[], Any]) -> int:
    """Fork, and return the child's pid. The child exits with status 0 if its task succeeds."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        end_after(LONGEST // 2)
        task()
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(pid: int) -> None:
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def pool_fork(one: ONE) -> None:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(json.dumps(pool.map_async(work, GIVEN["types"]).get(LONGEST / 2)))


def pool_load(one: ONE) -> None:
    with loading(one):
        pool_fork(one)


def executor(one: ONE, how: str) -> None:
    context = multiprocessing.get_context(how)
    with (
        ProcessPoolExecutor(2, mp_context=context, initializer=begin, initargs=(GIVEN,)) as pool,
        loading(one),
    ):
        print(json.dumps(list(pool.map(work, GIVEN["types"], timeout=LONGEST / 2))))


def executor_fork(one: ONE) -> None:
    with loading(one), ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        print(json.dumps(list(pool.map(work, GIVEN["types"], timeout=LONGEST / 2))))


def many(one: ONE) -> None:
    """Fork many times while threads load, one after the other. Some children only exit."""
    with loading(one):
        for number in range(36):
            kind = GIVEN["types"][number % len(GIVEN["types"])]
            ended(in_child(partial(work, kind) if number % 3 else lambda: None))
    print(json.dumps([work(kind) for kind in GIVEN["types"]]))


def at_once(one: ONE) -> None:
    """Fork in several threads at the same time."""
    kinds = GIVEN["types"]
    troubles: list[BaseException] = []

    def run(kind: str) -> None:
        try:
            for _ in range(4):
                ended(in_child(partial(work, kind)))
        except BaseException as error:
            troubles.append(error)

    with loading(one):
        threads = [threading.Thread(target=run, args=(kind,)) for kind in kinds * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not troubles, troubles
    print(json.dumps([work(kind) for kind in kinds]))


def ordinary_exit(one: ONE) -> None:
    """Fork a child that ends like a normal program, and so runs its exit functions."""
    with loading(one):
        for _ in range(6):
            pid = os.fork()
            if not pid:
                end_after(LONGEST // 2)
                work(GIVEN["types"][0])
                sys.exit(0)
            ended(pid)
    print(json.dumps([work(kind) for kind in GIVEN["types"]]))


def parent_first(one: ONE) -> None:
    """Kill the parent while it loads. The child can use the parent's rows and locks."""
    parent = os.getpid()
    out, into = os.pipe()
    if os.fork():  # the process that tests see: it waits for the child of its child
        os.close(into)
        with open(out, "rb") as pipe:
            said = pipe.read()
        sys.stdout.buffer.write(said)
        return
    one = ONES[0]

    def child() -> None:
        middle = os.getppid()
        first = [work(kind) for kind in GIVEN["types"]]
        while os.getppid() == middle:
            time.sleep(0.01)
        content, end = access_of(one).content, time.monotonic() + LONGEST / 4
        content.admin.clear()  # takes the lock of each
        while content.total_bytes() and time.monotonic() < end:
            time.sleep(0.05)  # the last one was being hashed
            content.admin.clear()
        kept = content.total_bytes()
        again = [work(kind) for kind in GIVEN["types"]]
        assert (first, kept) == (again, 0), (first, kept, again)
        os.write(into, json.dumps(again).encode() + b"\n")

    with loading(one):
        time.sleep(0.3)
        in_child(child)
        time.sleep(0.3)
        assert os.getpid() != parent
        os.kill(os.getpid(), signal.SIGKILL)


def local_mode(one: ONE) -> None:
    """Fork while the mode is ``local``. The child searches for garbage before it loads."""
    for kind in GIVEN["types"]:
        length(one, kind)
    one.mode = "local"
    out, into = os.pipe()

    def child() -> None:
        gc.collect()
        lengths = [length(one, kind) for kind in GIVEN["types"]]
        os.write(into, json.dumps(lengths).encode() + b"\n")

    ended(in_child(child))
    os.close(into)
    with open(out, "rb") as pipe:
        sys.stdout.buffer.write(pipe.read())


KINDS: dict[str, Callable[[ONE], None]] = {
    "pool_fork": pool_fork,
    "pool_load": pool_load,
    "executor_spawn": lambda one: executor(one, "spawn"),
    "executor_forkserver": lambda one: executor(one, "forkserver"),
    "executor_fork": executor_fork,
    "local_mode": local_mode,
    "many": many,
    "at_once": at_once,
    "ordinary_exit": ordinary_exit,
    "parent_first": parent_first,
}


def main() -> None:
    warnings.simplefilter("ignore", DeprecationWarning)
    end_after(LONGEST)
    ONES.append(make())
    for kind in GIVEN["types"][:1]:  # threads, connections and databases are there
        work(kind)
    KINDS[sys.argv[1]](ONES[0])
    ONES[0].close()


if __name__ == "__main__":
    main()
