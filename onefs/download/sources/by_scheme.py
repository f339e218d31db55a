"""Chooses the source of a URL by the scheme of the URL."""

from __future__ import annotations

from collections.abc import Mapping

from onefs.config.urls import safe_url
from onefs.download.sources.interface import Body, ByteRequest, Source
from onefs.errors import ServerError


class SourcesByScheme:
    """A :class:`Source` that passes each request to the source for its URL's scheme.

    ``sources`` has a source for each scheme, in lower case. A URL with another scheme raises
    ServerError.
    """

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = dict(sources)

    def open(self, request: ByteRequest) -> Body:
        """Return the body of the answer to ``request``."""
        return self._source_of(request.url).open(request)

    def probe(self, url: str, seconds: float) -> None:
        """Find out whether the source of ``url`` answers within ``seconds``."""
        self._source_of(url).probe(url, seconds)

    def _source_of(self, url: str) -> Source:
        source = self._sources.get(url.partition(":")[0].lower())
        if source is None:
            # status 400, so that there is no retry
            raise ServerError(f"onefs cannot fetch files from addresses like {safe_url(url)}", 400)
        return source
