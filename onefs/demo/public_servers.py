"""The embedded laboratory as a public database: an S3 bucket and a file server, without a login.

``onefs demo serve --as-public`` runs them. There is no Alyx: a request for one of its paths is
answered with 404, and recorded with the server ``alyx``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from onefs.demo import flatiron, s3_server
from onefs.demo.bucket import PublicBucket
from onefs.demo.http_server import AccessRecord, Listener, RequestLog, observed, open_log
from onefs.demo.records import Source
from onefs.demo.synthetic import SyntheticLaboratory
from onefs.demo.synthetic.aggregates import bucket_aggregates

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class PublicServers:
    """The two servers of a public database. In a ``with`` block, they run until its end.

    - ``bucket``, ``data``: the listeners; each can be stopped, and started again on the same port
    - all other arguments as for :class:`onefs.demo.servers.Servers`
    """

    def __init__(
        self,
        objects: PublicBucket,
        source: Source,
        *,
        rate: int | None = None,
        latency_ms: float = 0,
        bucket_port: int = 0,
        data_port: int = 0,
        access_log: Path | None = None,
        keep: int = 50_000,
    ) -> None:
        self.objects = objects
        self.bucket = Listener(bucket_port)
        try:
            self.data = Listener(data_port)
            self._log = open_log(access_log)
        except BaseException:
            self.bucket.stop()
            raise
        self._request_log = RequestLog(keep, self._log)
        report, latency = self._request_log.add, latency_ms / 1000
        bucket_app = s3_server.create_app(objects, rate=rate)
        inside = observed(bucket_app, "bucket", report, latency)
        outside = observed(bucket_app, "alyx", report, latency)
        self._bucket_app = _by_path(inside, outside)
        data_app = flatiron.create_app(source, None, rate=rate)
        self._data_app = observed(data_app, "data", report, latency)

    @property
    def bucket_url(self) -> str:
        """The address of the bucket, for the variable ``ONEFS_PUBLIC_BUCKET``."""
        return f"{self.bucket.url}/{s3_server.BUCKET_NAME}"

    @property
    def data_url(self) -> str:
        """The address of the file server's public folder, for ``ONEFS_PUBLIC_DATA``."""
        return f"{self.data.url}/public"

    @property
    def requests(self) -> list[AccessRecord]:
        """Return a new list of the requests in memory, oldest first."""
        return self._request_log.snapshot()

    def clear_requests(self) -> None:
        """Remove the requests from memory. They stay in the access log."""
        self._request_log.clear()

    def requests_to(self, server: str) -> list[AccessRecord]:
        """Return the requests to ``bucket``, ``data`` or ``alyx``, oldest first."""
        return [each for each in self.requests if each.server == server]

    def connection_info(self) -> dict[str, str]:
        """Return the addresses that a client needs."""
        return {"bucket_url": self.bucket_url, "data_url": self.data_url}

    def start(self) -> None:
        """Start both servers. After ``stop`` they start again on the same ports."""
        self.data.start(self._data_app)
        self.bucket.start(self._bucket_app)

    def stop(self) -> None:
        """Close both ports and every connection."""
        self.bucket.stop()
        self.data.stop()

    def __enter__(self) -> PublicServers:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        if self._log is not None:
            self._log.close()


def bucket_files(source: Source) -> Mapping[str, bytes]:
    """Return the objects that only the bucket of a laboratory has, by key."""
    if not isinstance(source, SyntheticLaboratory):
        return {}
    return bucket_aggregates()


def _by_path(inside: WSGIApplication, outside: WSGIApplication) -> WSGIApplication:
    """Return the application that passes requests for the bucket to ``inside``."""

    def choose(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        is_inside = s3_server.is_bucket_path(environ["REQUEST_URI"])
        yield from (inside if is_inside else outside)(environ, start_response)

    return choose
