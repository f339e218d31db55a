"""The file server as ONE-api's ``AlyxClient`` has it: its settings, and downloads by URL."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

from onefs.config.credentials import data_server_urls
from onefs.errors import OnefsError, UsageError, reason_of
from onefs.lowlevel.files import open_new_file, write_all
from onefs.one.alf_errors import alf_error
from onefs.one.alf_paths import ALFPath
from onefs.one.dataset_listing import session_records
from onefs.one.downloads import download_all
from onefs.one.name_conversions import NameConversions

if TYPE_CHECKING:
    from onefs.access import Access
    from onefs.one.dataset_records import DatasetRecord
    from onefs.one.laboratory_client import LaboratoryClient

#: bytes that are copied or hashed at once
_PIECE_BYTES = 1 << 20


class AlyxParams:
    """ONE-api's settings of a database, without passwords: ``one.alyx._par``."""

    def __init__(self, client: LaboratoryClient) -> None:
        self._client = client
        self.ALYX_URL = client.url
        self.ALYX_LOGIN = client._settings.username
        self.CACHE_DIR = str(client.cache_dir)

    @property
    def HTTP_DATA_SERVER(self) -> str:
        """The address with which the URLs of files begin. May raise the errors of a request."""
        client = self._client
        saved = data_server_urls(client._settings)
        if saved:
            return saved[0]
        if client._mount is not None:
            raise client._mount.queries.unsupported("tell the address of the file server")
        repositories = cast("Access", client._laboratory).catalogue.repositories().value
        return common_address(each.data_url for each in repositories.values() if not each.personal)


def common_address(urls: Iterator[str]) -> str:
    """Return what the URLs of the server with most of ``urls`` begin with, or ''."""
    parsed = [urlsplit(url) for url in urls if url.startswith("http")]
    if not parsed:
        return ""
    [(host, _)] = Counter((each.scheme, each.netloc) for each in parsed).most_common(1)
    paths = [each.path or "/" for each in parsed if (each.scheme, each.netloc) == host]
    return f"{host[0]}://{host[1]}{os.path.commonpath(paths)}".rstrip("/")


def download_urls(
    client: LaboratoryClient,
    url: Any,
    chunks: Sequence[int] | None,
    target_dir: Any,
    *,
    clobber: bool,
    return_md5: bool,
) -> Any:
    """Return what :meth:`.AlyxRest.download_file` returns."""
    is_one = isinstance(url, str)
    urls = [url] if is_one else list(url)
    has_folders = isinstance(target_dir, (list, tuple))
    targets = list(target_dir) if has_folders else [target_dir] * len(urls)
    if len(targets) != len(urls):
        raise UsageError(f"target_dir has {len(targets)} folders for {len(urls)} files")
    paths = UrlDownloads(client, chunks, clobber=clobber).download(urls, targets)
    if not return_md5:
        return paths[0] if is_one else paths
    sums = [_md5_of(path) for path in paths]
    return (paths[0], sums[0]) if is_one else [tuple(paths), tuple(sums)]


class UrlDownloads:
    """Downloads of files by their URLs, through the cache. Serves one call of a method.

    ``target`` is the folder for the files, or None. With ``clobber``, files in it are replaced.
    ``chunks`` is the first byte and the number of bytes, or None for whole files.
    """

    def __init__(
        self, client: LaboratoryClient, chunks: Sequence[int] | None, *, clobber: bool
    ) -> None:
        # a URL of Alyx may lie outside of the release that is shown
        parts = client._view.searched
        access = None if client._mount is not None else cast("Access", parts.laboratory)
        self._laboratory, self._resolver = parts.laboratory, parts.resolver()
        self._names = NameConversions(
            self._laboratory, self._resolver, access, offline=client.offline
        )
        self._clobber, self._offline = clobber, client.offline
        self._range = None if chunks is None else _check_chunks(chunks)

    def download(
        self, urls: Sequence[str], targets: Sequence[str | os.PathLike[str] | None]
    ) -> list[Path]:
        """Return the path of each file. See :meth:`.AlyxRest.download_file`."""
        paths = [self._target(url, target) for url, target in zip(urls, targets, strict=True)]
        # as in ONE-api, nothing is requested for a file that is kept
        wanted = [
            at
            for at, path in enumerate(paths)
            if path is None or self._clobber or not path.exists()
        ]
        records = [self._record(urls[at]) for at in wanted]
        files: list[Path | None] = [None] * len(wanted)
        if self._range is None:
            requested = [(each.dataset, each.place) for each in records]
            found = download_all(self._laboratory.content, requested, offline=self._offline)
            files = [_path_or_error(each) for each in found]
        for at, record, file in zip(wanted, records, files, strict=True):
            path = paths[at]
            if path is None or (file is not None and path.exists() and path.samefile(file)):
                paths[at] = file
            else:
                self._save(path, record, file)
        return [ALFPath(path) for path in paths if path is not None]

    def _target(self, url: str, target: str | os.PathLike[str] | None) -> Path | None:
        """Return the path of the copy, or None if the file in the cache is returned."""
        if target is None and self._range is None:
            return None
        folder = self._laboratory.cache_dir if target is None else Path(target)
        return folder / _path_of_url(url).name

    def _save(self, path: Path, record: DatasetRecord, file: Path | None) -> None:
        """Copy the range of a dataset, or the whole ``file``, to ``path``."""
        pieces = _pieces_of_file(file) if file is not None else self._pieces_of_range(record)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_file(path, pieces)
        except OSError as error:
            raise UsageError(
                f"{path} cannot be written: {reason_of(error, path)}; give another folder as "
                "target_dir"
            ) from error

    def _pieces_of_range(self, record: DatasetRecord) -> Iterator[bytes]:
        first, count = self._range or (0, 0)
        yielded = 0
        for piece in self._laboratory.read_range(record.dataset, record.place, first, count):
            yielded += len(piece)
            yield piece
        if not yielded:
            raise UsageError(f"{record.dataset.name} ends before the byte {first}: check chunks")

    def _record(self, url: str) -> DatasetRecord:
        path = _path_of_url(url)
        found = self._names.dataset(path) or self._names.dataset(path.without_uuid())
        if found is not None:
            session, dataset = found
            hosts = {urlsplit(each.url).netloc for each in dataset.replicas}
            if "://" in url and urlsplit(url).netloc not in hosts:
                raise UsageError(f"{ascii(url)[:200]} is not on the file server of {dataset.name}")
            for record in session_records(self._resolver, session):
                if record.dataset.id == dataset.id:
                    return record
        raise alf_error("object_not_found", f"no file server has a dataset at {ascii(url)[:200]}")


def _md5_of(path: Path) -> str:
    """Return the md5 of a file in hexadecimal digits."""
    digest = hashlib.md5(usedforsecurity=False)
    for piece in _pieces_of_file(path):
        digest.update(piece)
    return digest.hexdigest()


def _path_or_error(found: Path | OnefsError) -> Path:
    if isinstance(found, OnefsError):
        raise found
    return ALFPath(found)


def _check_chunks(chunks: Sequence[int]) -> tuple[int, int]:
    try:
        first, count = (int(each) for each in chunks)
    except (TypeError, ValueError):
        first, count = -1, 0
    if first < 0 or count < 1:
        raise UsageError(
            f"chunks is {ascii(chunks)[:80]}: give the first byte and the number of bytes"
        )
    return first, count


def _path_of_url(url: str) -> ALFPath:
    # '#' begins the name of a revision's folder
    return ALFPath(unquote(urlsplit(url, allow_fragments=False).path) if "://" in url else url)


def _pieces_of_file(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _write_file(path: Path, pieces: Iterator[bytes]) -> None:
    """Write a file under another name, and rename it when it is complete."""
    fresh = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    end = 0
    try:
        with open_new_file(fresh) as descriptor:
            for piece in pieces:
                write_all(descriptor, memoryview(piece), end)
                end += len(piece)
        os.replace(fresh, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(fresh)
        raise
