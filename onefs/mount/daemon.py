"""A mount in the background: started by a command, answering before the command returns.

The command spawns a new process rather than fork: threads, databases and connections are then
made in the process that uses them. What the daemon is told, secrets included, goes through its
standard input; what becomes of the mount comes back through a pipe.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from onefs import errors
from onefs.errors import MountError, OnefsError, reason_of
from onefs.lowlevel.child_process import child_environment, start_child
from onefs.lowlevel.files import wait_readable
from onefs.mount import (
    daemon_log,
    kernel_mounts,
    mount_registry,
    mountpoints,
)
from onefs.mount.daemon_config import DaemonConfig
from onefs.mount.processes import wait_for_exit
from onefs.mount.serve import Service, ServiceBuilder, serve

__all__ = ["DaemonConfig", "Service", "ServiceBuilder", "run", "serve", "start", "stop"]

#: the daemon has these from its configuration
_SECRET_VARIABLES = ("ONEFS_PASSWORD", "ONEFS_TOKEN", "ONEFS_DATA_PASSWORD")
#: seconds after which the kernel is asked what still holds a mount that was undone
_HOLDER_CHECK_SECONDS = 1.0
#: seconds for a daemon that is given up to end by itself
_TERMINATE_SECONDS = 6.0

log = logging.getLogger(__name__)


def start(config: DaemonConfig, *, module: str, timeout: float) -> int:
    """Start a daemon and return its pid when the mount answers.

    ``module`` is run as ``__main__``; it calls :func:`run`. ``config.log_file`` is required.
    Raises the :class:`OnefsError` that the daemon met, and :class:`MountError` when it died or
    did not answer within ``timeout`` seconds; nothing of it is left then.
    """
    if config.log_file is None:
        raise errors.UsageError("A daemon needs a log file.")
    deadline = time.monotonic() + timeout
    process, answer = _spawn(config, module, Path(config.log_file))
    try:
        with open(answer, "rb") as pipe:
            _send_config(process, config)
            _wait_ready(pipe.fileno(), process, config, deadline)
        _check_responds(config.mountpoint, deadline)
    except BaseException:
        _terminate(process, config.mountpoint)
        raise
    return process.pid


def run(build: ServiceBuilder) -> int:
    """The daemon itself: what the spawned module calls, and its exit code."""
    answer = int(sys.argv[1])
    os.set_inheritable(answer, False)
    try:
        config = DaemonConfig.from_json(sys.stdin.read())
        _detach_stdin()
        daemon_log.set_up_logging(config.log_file, config.log_level)
        faulthandler.enable()
        serve(config, build, on_ready=lambda: _report_outcome(answer, {"ready": True}))
    except OnefsError as error:
        log.error("%s", error)
        _report_outcome(answer, {"error": type(error).__name__, "message": str(error)})
        return 1
    except Exception as error:
        log.exception("the daemon failed in a way that nobody foresaw")
        why = f"{type(error).__name__}: {reason_of(error)}"
        _report_outcome(answer, {"error": "MountError", "message": f"The daemon failed: {why}."})
        return 1
    return 0


def stop(mountpoint: str | os.PathLike[str], timeout: float = 30.0) -> None:
    """Unmount (``onefs umount``): return when mount, daemon, and a folder made for it are gone.

    Raises :class:`onefs.errors.UsageError` when no mount of ours is there,
    :class:`onefs.errors.Busy` naming who uses it, and :class:`MountError` when it takes longer
    than ``timeout`` seconds. A daemon that takes longer leaves neither record nor folder: it may
    have gigabytes to put on a slow disk, and needs neither.
    """
    deadline = time.monotonic() + timeout
    path = mountpoints.resolve_mountpoint(mountpoint)
    record = mount_registry.find_record(path)
    mounted = kernel_mounts.find_mount(path)
    kernel_mounts.unmount(path, timeout=timeout)
    mount_registry.remove_record(path)
    if record is None:
        return
    if record.made:
        with suppress(OSError):  # somebody has put something there: it is theirs
            os.rmdir(path)
    if record.pid is None or wait_for_exit(record.pid, min(timeout, _HOLDER_CHECK_SECONDS)):
        return
    if mounted is not None and (held := kernel_mounts.remaining_mountpoints(mounted)):
        raise MountError(
            f"{path} is unmounted here, but its daemon ({record.pid}) still serves "
            f"{', '.join(held)}: unmount that, too, and it ends."
        )
    if not wait_for_exit(record.pid, deadline - time.monotonic()):
        raise MountError(
            f"{path} is unmounted, but its daemon ({record.pid}) still runs after {timeout:g} s: "
            "it may still be writing to the disk what was downloaded."
        )


def _spawn(
    config: DaemonConfig, module: str, log_file: Path
) -> tuple[subprocess.Popen[bytes], int]:
    try:
        daemon_log.create_log_file(log_file)
    except OSError as error:
        raise MountError(f"The log cannot be written: {reason_of(error)}.") from error
    answer, theirs = os.pipe()
    try:
        with log_file.open("ab") as output:
            process = start_child(
                module,
                str(theirs),
                environment=child_environment(_SECRET_VARIABLES),
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=(theirs,),
            )
    except BaseException:
        os.close(answer)
        raise
    finally:
        os.close(theirs)
    return process, answer


def _send_config(process: subprocess.Popen[bytes], config: DaemonConfig) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin as pipe:  # it died: the other pipe tells
        pipe.write(config.to_json().encode())


def _wait_ready(
    pipe: int, process: subprocess.Popen[bytes], config: DaemonConfig, deadline: float
) -> None:
    message = b""
    while not message.endswith(b"\n"):
        if not wait_readable(pipe, deadline - time.monotonic()):
            raise MountError(f"The mount is not ready in time; its log is {config.log_file}.")
        chunk = os.read(pipe, 65536)
        if not chunk:
            code = process.wait(_TERMINATE_SECONDS)
            raise MountError(f"The daemon died (code {code}); its log is {config.log_file}.")
        message += chunk
    _raise_failure(json.loads(message))


def _raise_failure(message: dict[str, Any]) -> None:
    if "error" not in message:
        return
    kind = getattr(errors, message["error"], MountError)
    raise kind(message["message"])


def _check_responds(mountpoint: str, deadline: float) -> None:
    mounted = kernel_mounts.find_mount(mountpoint)
    answer = kernel_mounts.probe_mount(mountpoint, max(1.0, deadline - time.monotonic()))
    if mounted is None or not mounted.is_onefs or answer != 0:
        raise MountError(f"{mountpoint} was mounted but does not answer.")


def _terminate(process: subprocess.Popen[bytes], mountpoint: str) -> None:
    """End a daemon that is not wanted any more, and what it mounted."""
    process.terminate()
    try:
        process.wait(_TERMINATE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_TERMINATE_SECONDS)
    mounted = kernel_mounts.find_mount(mountpoint)
    if mounted is not None and mounted.is_onefs and kernel_mounts.is_stale(mountpoint):
        kernel_mounts.remove_stale_mount(mountpoint)


def _detach_stdin() -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def _report_outcome(pipe: int, message: dict[str, Any]) -> None:
    """Tell the command, which may have given up, and end the conversation."""
    with suppress(OSError):
        os.write(pipe, json.dumps(message).encode() + b"\n")
        os.close(pipe)
