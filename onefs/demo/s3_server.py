"""The demo's S3 server: one public bucket, without a login. It answers in path style like S3.

GET and HEAD of objects, also of one range, and ListObjectsV2 are answered. Everything else is an
XML error of S3. Each request outside of the bucket is answered with 404, as a request to Alyx is:
there is no Alyx here.
"""

from __future__ import annotations

import base64
import binascii
import heapq
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

from flask import Flask, Response, request

from onefs.demo.bucket import PublicBucket, StoredObject
from onefs.demo.file_responses import ServedFile, open_file, respond
from onefs.demo.flatiron import AnyPath, decoded_path
from onefs.integers import parse_whole_number

#: the name of IBL's public bucket
BUCKET_NAME = "ibl-brain-wide-map-public"
_REGION = "us-east-1"
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_DATE = "2021-07-05T00:00:00.000Z"
#: the largest number of keys and common prefixes in one answer
MAX_KEYS = 1000
_MESSAGES = {
    "AccessDenied": (403, "Access Denied"),
    "InvalidArgument": (400, "The argument is invalid."),
    "InvalidRange": (416, "The requested range is not satisfiable"),
    "MethodNotAllowed": (405, "The specified method is not allowed against this resource."),
    "NoSuchKey": (404, "The specified key does not exist."),
    "NotImplemented": (501, "The request needs a function that is not implemented."),
    "PreconditionFailed": (412, "At least one of the pre-conditions you specified did not hold"),
}  # fmt: skip
_CODES = {412: "PreconditionFailed", 416: "InvalidRange"}
_LIST_PARAMETERS = frozenset(
    ("list-type", "prefix", "delimiter", "max-keys", "continuation-token", "start-after",
     "encoding-type", "fetch-owner")
)  # fmt: skip


def create_app(bucket: PublicBucket, *, rate: int | None = None) -> Flask:
    """Return the server of the bucket as a WSGI application.

    ``rate`` is the limit for each connection in bytes per second. None means no limit.
    """
    app = Flask("onefs.demo.s3_server", static_folder=None)
    app.url_map.merge_slashes = False
    app.url_map.converters["any"] = AnyPath
    methods = ["GET", "HEAD", "PUT", "POST", "DELETE"]

    @app.route("/", defaults={"_path": ""}, methods=methods, provide_automatic_options=False)
    @app.route("/<any:_path>", methods=methods, provide_automatic_options=False)
    def serve(_path: str) -> Response:
        response = _serve(bucket, decoded_path(), rate)
        response.headers["x-amz-request-id"] = "ONEFSDEMO"
        response.headers["x-amz-bucket-region"] = _REGION
        return response

    app.register_error_handler(405, lambda _error: error_response("MethodNotAllowed"))
    return app


def is_bucket_path(path: str) -> bool:
    """Whether the path of a request is inside the bucket."""
    return path.partition("?")[0].split("/")[1:2] == [BUCKET_NAME]


def _serve(bucket: PublicBucket, path: str, rate: int | None) -> Response:
    if not is_bucket_path(path):
        return Response('{"detail": "There is no Alyx here."}', 404, mimetype="application/json")
    if request.method not in ("GET", "HEAD"):
        return error_response("AccessDenied")
    key = path.removeprefix(f"/{BUCKET_NAME}").removeprefix("/")
    if not key:
        return _list_objects(bucket)
    if key in bucket.denied:
        return error_response("AccessDenied", key)
    if "," in request.headers.get("Range", ""):  # S3 ignores several ranges
        del request.environ["HTTP_RANGE"]
    file = open_file(bucket.content(key), key)
    if file is None:
        return error_response("NoSuchKey", key)
    return _respond(file, key, rate)


def _respond(file: ServedFile, key: str, rate: int | None) -> Response:
    try:
        response = respond(file, rate, lambda status: error_response(_CODES[status], key))
    except BaseException:
        file.close()
        raise
    response.call_on_close(file.close)
    return response


def error_response(code: str, key: str = "") -> Response:
    """Return the XML error of S3 with this code."""
    status, message = _MESSAGES[code]
    named = f"<Key>{_text(key)}</Key>" if key else ""
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code>'
        f"<Message>{message}</Message>{named}<RequestId>ONEFSDEMO</RequestId></Error>"
    )
    return Response(body, status, content_type="application/xml")


def _list_objects(bucket: PublicBucket) -> Response:
    """Return one page of ListObjectsV2."""
    given = request.args
    if given.get("list-type") != "2" or not given.keys() <= _LIST_PARAMETERS:
        return error_response("NotImplemented")
    most = parse_whole_number(given.get("max-keys", str(MAX_KEYS)))
    after = _position(given.get("continuation-token"), given.get("start-after", ""))
    encoding = given.get("encoding-type", "")
    if most is None or after is None or encoding not in ("", "url"):
        return error_response("InvalidArgument")
    most = min(most, MAX_KEYS)
    prefix, delimiter = given.get("prefix", ""), given.get("delimiter", "")
    entries = _grouped(bucket, prefix, delimiter, after)
    page = heapq.nsmallest(most + 1, entries, key=lambda name: name.encode())
    is_truncated, page = len(page) > most, page[:most]

    def shown(name: str) -> str:
        # a space is sent as +, as S3 does
        return _text(quote_plus(name, safe="/~") if encoding else name)

    lines = [
        f"<Name>{BUCKET_NAME}</Name>",
        f"<Prefix>{shown(prefix)}</Prefix>",
        *([f"<Delimiter>{shown(delimiter)}</Delimiter>"] if delimiter else ()),
        *([f"<EncodingType>{encoding}</EncodingType>"] if encoding else ()),
        f"<MaxKeys>{most}</MaxKeys><KeyCount>{len(page)}</KeyCount>",
        f"<IsTruncated>{str(is_truncated and most > 0).lower()}</IsTruncated>",
    ]
    if is_truncated and page:
        token = base64.urlsafe_b64encode(page[-1].encode()).decode()
        lines.append(f"<NextContinuationToken>{token}</NextContinuationToken>")
    for name in page:
        item = entries[name]
        if item is None:
            lines.append(f"<CommonPrefixes><Prefix>{shown(name)}</Prefix></CommonPrefixes>")
        else:
            size, etag = item.describe()
            lines.append(
                f"<Contents><Key>{shown(name)}</Key><LastModified>{_DATE}</LastModified>"
                f"<ETag>&quot;{etag}&quot;</ETag><Size>{size}</Size>"
                "<StorageClass>STANDARD</StorageClass></Contents>"
            )
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="{_NAMESPACE}">'
        f"{''.join(lines)}</ListBucketResult>"
    )
    return Response(body, content_type="application/xml")


def _grouped(
    bucket: PublicBucket, prefix: str, delimiter: str, after: str
) -> dict[str, StoredObject | None]:
    """Return the objects by key, and None for each common prefix, that come after ``after``."""
    entries: dict[str, StoredObject | None] = {}
    for item in bucket.objects(prefix):
        name, group = item.key, None
        if delimiter and (end := name.find(delimiter, len(prefix))) >= 0:
            group = name[: end + len(delimiter)]
        if (group or name).encode() > after.encode():
            entries[group or name] = None if group else item
    return entries


def _position(token: str | None, start_after: str) -> str | None:
    """Return the key after which a page begins. Return None for an invalid token."""
    if token is None:
        return start_after
    try:
        return base64.urlsafe_b64decode(token.encode()).decode()
    except (binascii.Error, UnicodeError):
        return None


def _text(text: str) -> str:
    return escape(text.encode("utf-8", "replace").decode())
