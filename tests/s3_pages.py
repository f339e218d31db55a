"""A long list of keys, as S3 sends it page by page."""

from __future__ import annotations

from urllib.parse import parse_qs, quote_plus, urlsplit

from tests.scripted_server import Script, ScriptedConnection, answer


def page_of(count: int, total: int) -> Script:
    """Return a script that answers with pages of ``count`` of ``total`` keys, as S3 does."""

    def script(talk: ScriptedConnection) -> None:
        query = {k: v[0] for k, v in parse_qs(urlsplit(talk.request.target).query).items()}
        assert query["list-type"] == "2"
        first = int(query.get("continuation-token", "0"))
        last = min(total, first + min(count, int(query["max-keys"])))
        keys = (f"{query['prefix']}{n:06} #+é" for n in range(first, last))
        contents = "".join(
            f"<Contents><Key>{quote_plus(key)}</Key><Size>5</Size></Contents>" for key in keys
        )
        more = last < total
        token = f"<NextContinuationToken>{last}</NextContinuationToken>" if more else ""
        answer(
            (
                '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
                f"<IsTruncated>{str(more).lower()}</IsTruncated><EncodingType>url</EncodingType>"
                f"{token}{contents}</ListBucketResult>"
            ).encode(),
            Content_Type="application/xml",
        )(talk)

    return script
