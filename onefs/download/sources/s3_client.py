"""Sends requests to S3: addresses, signatures, redirects to another region, and error answers."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from urllib.parse import quote, urlencode

from onefs.config.bucket import DEFAULT_REGION, Bucket, is_region
from onefs.config.secret import excerpt
from onefs.config.urls import normalise
from onefs.download.sources.interface import (
    CONNECT_TIMEOUT_SECONDS,
    KeysRefused,
    NoBucket,
)
from onefs.download.sources.s3_signing import Signer
from onefs.errors import DataServerCredentials, OnefsError, ServerError, Throttled
from onefs.http import Stream, Transport, redirect_target, retry_after_seconds

#: characters of a key that are not escaped. S3 escapes all others to check a signature
_KEY_SAFE = "/-._~"
#: names of buckets that can be a part of a host name. With a dot, a certificate does not match
_HOST_LABEL = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
#: largest number of bytes of an error answer that are read
_MAX_ERROR_BYTES = 16 * 1024
_CODE = re.compile(r"<Code>\s*([A-Za-z0-9.]{1,80})\s*</Code>")
_REGION_ELEMENT = re.compile(r"<Region>\s*([a-z0-9-]{1,40})\s*</Region>")
_REGION_IN_HOST = re.compile(r"//(?:[^/]*\.)?s3[.-]([a-z0-9-]+)\.amazonaws\.com")
_MOVED_STATUSES = (301, 302, 303, 307, 308)
#: statuses and codes with which S3 asks to send fewer requests
_THROTTLED_CODES = ("SlowDown", "ServiceUnavailable", "RequestLimitExceeded")
#: codes for keys that are wrong, have expired, or were used with a wrong clock
_KEY_CODES = (
    *("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"),
    "RequestTimeTooSkewed",
)
_ADVICE = {"RequestTimeTooSkewed": "; set the clock of this machine"}


class S3Client:
    """Sends GET requests to buckets over onefs's transport. Thread-safe.

    ``endpoint`` is the URL of another server than Amazon's, or ''. ``environ`` is the environment
    with the user's own keys; the default is that of this process. FlatIron's password is not known
    here, and keys are never sent: only signatures, to the addresses of :func:`object_url`.
    """

    def __init__(
        self, transport: Transport, endpoint: str = "", environ: Mapping[str, str] | None = None
    ) -> None:
        self._transport = transport
        self._endpoint = endpoint
        self._signer = Signer(os.environ if environ is None else environ)
        #: by name of the bucket: the region that a server named
        self._regions: dict[str, str] = {}

    def get(
        self,
        bucket: Bucket,
        key: str,
        stall: float,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        connect_timeout: float = CONNECT_TIMEOUT_SECONDS,
        on_answer: Callable[[], object] = lambda: None,
    ) -> Stream:
        """Return the entered stream of an answer with status 200, 206 or 416.

        The caller must leave the stream. A redirect to another region is followed once, and the
        region is remembered. A redirect to another address is followed without a signature.
        ``on_answer`` is called after each answer, whatever its status. Raises
        DataServerCredentials, Throttled or ServerError for any other answer, and the errors of
        :class:`Stream`. Raises ServerError if no request can be sent for the key.
        """
        label = f"s3://{bucket.name}/{key}"
        if not {".", ".."}.isdisjoint(key.split("/")):  # a URL cannot contain them
            raise ServerError(f"{label}: a key with . or .. cannot be requested", 400)
        known = self._regions.get(bucket.name, "")
        region = first_region = known or bucket.region or DEFAULT_REGION
        target, is_last = "", False
        while True:
            base = "" if known or region != first_region else bucket.url
            is_signed = not (bucket.is_public or target)
            try:
                url = target or object_url(bucket.name, key, region, self._endpoint, query, base)
                signature = self._signer.sign(url, bucket, region, stall) if is_signed else {}
                stream = self._transport.stream(
                    url,
                    headers={**(headers or {}), **signature},
                    connect_timeout=min(connect_timeout, stall / 2),
                    stall_timeout=stall,
                    follow_redirects=bool(target),
                )
                stream.__enter__()
                on_answer()
            except ValueError:  # its text may contain a header
                raise ServerError(
                    f"{label}: no request can be sent for this key, bucket and region", 400
                ) from None
            try:
                if region != first_region and stream.status in (200, 206, 403, 404, 416):
                    self._regions[bucket.name] = region
                if stream.status in (200, 206, 416):
                    return stream
                text = _error_text(stream, stall)
                region, before = _named_region(stream, text) or region, region
                target = "" if region != before else _redirect_of(stream)
                if is_last or not (target or region != before):
                    raise _error_of(stream, text, label)
            except BaseException as error:
                stream.__exit__()
                if is_signed and isinstance(error, KeysRefused):
                    self._signer.note_refusal(bucket)
                raise
            stream.__exit__()
            is_last = True


def endpoint_of(environ: Mapping[str, str]) -> str:
    """Return the URL of the S3 server in ONEFS_S3_ENDPOINT, or '' for Amazon's servers.

    Raises UsageError if the variable has no http or https address.
    """
    text = environ.get("ONEFS_S3_ENDPOINT", "").strip()
    return normalise(text) if text else ""


def object_url(
    bucket: str,
    key: str,
    region: str,
    endpoint: str,
    query: Mapping[str, str] | None = None,
    base: str = "",
) -> str:
    """Return the URL of a key in a bucket, or of the bucket if ``key`` is ''.

    The bucket is a part of the host name (virtual-host style). It is the first part of the path
    (path style) if a host name cannot contain it, and for every ``endpoint`` that is not Amazon's.
    ``base``, if given, is the address of the bucket.
    """
    try:
        raw = key.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raw = key.encode("utf-8", "surrogatepass")
    path = quote(raw, safe=_KEY_SAFE)
    china = ".cn" if region.startswith("cn-") else ""
    amazon = f"s3.{region}.amazonaws.com{china}"
    if base:
        base += "/"
    elif endpoint:
        base = f"{endpoint.rstrip('/')}/{quote(bucket, safe='')}/"
    elif _HOST_LABEL.fullmatch(bucket):
        base = f"https://{bucket}.{amazon}/"
    else:
        base = f"https://{amazon}/{quote(bucket, safe='')}/"
    return base + path + (f"?{urlencode(query, quote_via=quote, safe='')}" if query else "")


def _error_text(stream: Stream, seconds: float) -> str:
    """Return the beginning of an error answer, as much as arrives in ``seconds``.

    Return '' if it cannot be read.
    """
    text, due = b"", time.monotonic() + seconds
    try:
        for chunk in stream.iter_chunks(_MAX_ERROR_BYTES):
            text += chunk
            if len(text) >= _MAX_ERROR_BYTES or time.monotonic() > due:
                break
    except OnefsError:  # the status is known
        pass
    return text[:_MAX_ERROR_BYTES].decode("utf-8", "replace")


def _named_region(stream: Stream, text: str) -> str:
    """Return the region that an error answer names as the region of the bucket, or ''."""
    if stream.status not in (*_MOVED_STATUSES, 400):
        return ""
    header = stream.headers.get("x-amz-bucket-region", "")
    if is_region(header):
        return header
    location = _REGION_IN_HOST.search(stream.headers.get("Location", ""))
    match = _REGION_ELEMENT.search(text) or location
    return match[1] if match is not None else ""


def _redirect_of(stream: Stream) -> str:
    """Return the URL to which an answer redirects, or ''. Raises ServerError for an invalid URL."""
    location = stream.headers.get("Location", "")
    if stream.status not in _MOVED_STATUSES or not location:
        return ""
    return redirect_target(stream.url, location, stream.status)


def _error_of(stream: Stream, text: str, label: str) -> OnefsError:
    """Return the error for an answer that is neither an object nor a redirect."""
    match = _CODE.search(text)
    code = match[1] if match is not None else ""
    shown = excerpt(code) or f"HTTP {stream.status}"
    advice = _ADVICE.get(code, "")
    if code in _KEY_CODES:
        return KeysRefused(f"{label}: S3 refuses the keys ({shown}){advice}")
    if stream.status in (401, 403, 407):
        return DataServerCredentials(
            f"{label}: the file is not in the bucket, or the bucket does not allow access ({shown})"
        )
    is_throttled = stream.status == 503 and code in _THROTTLED_CODES
    if stream.status == 429 or is_throttled:
        seconds = retry_after_seconds(stream.headers.get("Retry-After")) or 0.0
        return Throttled(f"{label}: S3 asks to wait: too many requests ({shown})", seconds)
    if code == "NoSuchBucket":
        return NoBucket(f"{label}: the bucket does not exist ({shown})", stream.status)
    if stream.status in (404, 410):
        return ServerError(f"{label}: the bucket does not have this file ({shown})", stream.status)
    return ServerError(f"{label}: S3 answers with an error ({shown})", stream.status)
