"""Start and stop the daemon, which is the process that serves a mount in the background.

The ``onefs mount`` command returns when the mount responds. The command spawns a new process
instead of forking, so that threads, databases and connections are created in the process that uses
them. The daemon reads its configuration, including secrets, from standard input. The daemon reports
through a pipe that the mount is ready, or why mounting failed.
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
    mount_probes,
    mount_registry,
    mountpoints,
    unmount,
)
from onefs.mount.daemon_config import DaemonConfig
from onefs.mount.processes import wait_for_exit
from onefs.mount.serve import Service, ServiceBuilder, serve

__all__ = ["DaemonConfig", "Service", "ServiceBuilder", "run", "serve", "start", "stop"]

#: environment variables that the daemon does not inherit, because the configuration has the values
_SECRET_VARIABLES = (
    *("ONEFS_PASSWORD", "ONEFS_TOKEN", "ONEFS_DATA_PASSWORD"),
    *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"),
)
#: seconds to wait for the daemon's exit before searching for other mount points of the same mount
_HOLDER_CHECK_SECONDS = 1.0
#: seconds that a failed daemon has for its exit after SIGTERM, before it is killed
_TERMINATE_SECONDS = 6.0

log = logging.getLogger(__name__)


def start(config: DaemonConfig, *, module: str, timeout: float) -> int:
    """Start a daemon. Return the daemon's pid when the mount responds.

    - ``config``: the daemon's settings; ``config.log_file`` is required
    - ``module``: the module to run as ``__main__``; it must call :func:`run`
    - ``timeout``: the longest wait for the mount, in seconds

    Raises the :class:`OnefsError` that the daemon reports. Raises :class:`MountError` if the daemon
    died, or if the mount did not respond in time. Before an error is raised, the daemon is ended
    and its mount is removed.
    """
    if config.log_file is None:
        raise errors.UsageError("A daemon needs a log file.")
    deadline = time.monotonic() + timeout
    process, outcome = _spawn(config, module, Path(config.log_file))
    try:
        with open(outcome, "rb") as pipe:
            _send_config(process, config)
            _wait_ready(pipe.fileno(), process, config, deadline)
        _check_responds(config, deadline)
    except BaseException:
        _terminate(process, config.mountpoint)
        raise
    return process.pid


def run(build: ServiceBuilder) -> int:
    """Run the daemon in the spawned process, until the mount ends. Return the exit code.

    The code is 0 after the mount has ended, 1 after an error. The error is logged, and reported to
    the command that started the daemon. ``build`` builds what is mounted.
    """
    outcome = int(sys.argv[1])
    os.set_inheritable(outcome, False)
    try:
        config = DaemonConfig.from_json(sys.stdin.read())
        _detach_stdin()
        daemon_log.set_up_logging(config.log_file, config.log_level)
        faulthandler.enable()
        serve(config, build, on_ready=lambda: _report_outcome(outcome, {"ready": True}))
    except OnefsError as error:
        log.error("%s", error)
        _report_outcome(outcome, {"error": type(error).__name__, "message": str(error)})
        return 1
    except Exception as error:
        log.exception("the daemon failed with an unexpected error")
        why = f"{type(error).__name__}: {reason_of(error)}"
        _report_outcome(outcome, {"error": "MountError", "message": f"The daemon failed: {why}."})
        return 1
    return 0


def stop(mountpoint: str | os.PathLike[str], timeout: float = 30.0) -> None:
    """Unmount ``mountpoint``. Return when the mount and its daemon have ended.

    Removes the mount's record. Also removes the folder ``mountpoint`` if the mount command created
    this folder. Raises one of these errors:

    - :class:`onefs.errors.UsageError`: there is no mount of onefs that this user may unmount
    - :class:`onefs.errors.Busy`: processes use the mount; the message contains their names
    - :class:`MountError`: unmounting fails, or the mount or its daemon still exists after
      ``timeout`` seconds
    - :class:`MountError`: the file system is still mounted at another path
    """
    deadline = time.monotonic() + timeout
    path = mountpoints.resolve_mountpoint(mountpoint)
    record = mount_registry.find_record(path)
    mounted = kernel_mounts.find_mount(path)
    before = {} if mounted is None else kernel_mounts.mounts_of_file_system(mounted)
    unmount.unmount(path, timeout=timeout)
    # Remove record and folder before the wait for the daemon's exit: the daemon no longer needs
    # them, but may still write gigabytes to a slow disk.
    mount_registry.remove_record(path)
    if record is None:
        return
    if record.made:
        with suppress(OSError):  # the folder contains files of the user
            os.rmdir(path)
    if record.pid is None or wait_for_exit(record.pid, min(timeout, _HOLDER_CHECK_SECONDS)):
        return
    # The kernel gives the numbers of file systems and mounts that have ended to new ones. So only
    # mounts that existed before, at the same path, are counted.
    after = {} if mounted is None else kernel_mounts.mounts_of_file_system(mounted)
    if others := [after[key] for key in before if key in after]:
        raise MountError(
            f"the mount point {path} is unmounted here, but its daemon ({record.pid}) still serves "
            f"{', '.join(others)}: unmount these mounts, too, so that the daemon ends."
        )
    if not wait_for_exit(record.pid, deadline - time.monotonic()):
        raise MountError(
            f"the mount point {path} is unmounted, but its daemon ({record.pid}) still runs after "
            f"{timeout:g} s: the daemon may still be writing downloaded files to the disk."
        )


def _spawn(
    config: DaemonConfig, module: str, log_file: Path
) -> tuple[subprocess.Popen[bytes], int]:
    try:
        daemon_log.create_log_file(log_file)
    except OSError as error:
        raise MountError(f"The log cannot be written: {reason_of(error)}.") from error
    outcome, childs_end = os.pipe()
    try:
        with log_file.open("ab") as output:
            process = start_child(
                module,
                str(childs_end),
                environment=child_environment(_SECRET_VARIABLES),
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=(childs_end,),
            )
    except BaseException:
        os.close(outcome)
        raise
    finally:
        os.close(childs_end)
    return process, outcome


def _send_config(process: subprocess.Popen[bytes], config: DaemonConfig) -> None:
    assert process.stdin is not None
    # _wait_ready raises the error if the daemon has died
    with suppress(BrokenPipeError), process.stdin as pipe:
        pipe.write(config.to_json().encode())


def _wait_ready(
    pipe: int, process: subprocess.Popen[bytes], config: DaemonConfig, deadline: float
) -> None:
    message = b""
    while not message.endswith(b"\n"):
        if not wait_readable(pipe, deadline - time.monotonic()):
            raise MountError(f"The mount is not ready in time: see its log {config.log_file}.")
        chunk = os.read(pipe, 65536)
        if not chunk:
            code = process.wait(_TERMINATE_SECONDS)
            raise MountError(f"The daemon died (code {code}): see its log {config.log_file}.")
        message += chunk
    report = json.loads(message)
    if "error" in report:
        raise getattr(errors, report["error"], MountError)(report["message"])


def _check_responds(config: DaemonConfig, deadline: float) -> None:
    mountpoint = config.mountpoint
    mounted = kernel_mounts.find_mount(mountpoint)
    code = mount_probes.probe_mount(mountpoint, max(1.0, deadline - time.monotonic()))
    if mounted is None or not mounted.is_onefs or code != 0:
        raise MountError(f"{mountpoint} was mounted but does not answer: see {config.log_file}.")


def _terminate(process: subprocess.Popen[bytes], mountpoint: str) -> None:
    """End the process of a failed daemon. Then remove the daemon's mount if it still exists."""
    process.terminate()
    try:
        process.wait(_TERMINATE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_TERMINATE_SECONDS)
    mounted = kernel_mounts.find_mount(mountpoint)
    if mounted is not None and mounted.is_onefs and mount_probes.is_stale(mountpoint):
        unmount.remove_stale_mount(mountpoint)


def _detach_stdin() -> None:
    devnull = os.open(os.devnull, os.O_RDONLY)
    os.dup2(devnull, 0)
    os.close(devnull)


def _report_outcome(pipe: int, message: dict[str, Any]) -> None:
    """Send a message to the command that started the daemon, and close the pipe.

    An OSError is ignored, because the command may have ended already.
    """
    with suppress(OSError):
        os.write(pipe, json.dumps(message).encode() + b"\n")
        os.close(pipe)
