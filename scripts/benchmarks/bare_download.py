"""The least that fetching verified files costs in Python: one request, an md5 and a file each.

usage: bare.py FOLDER THREADS, with the URLs on standard input

There is no mount, no cache, no lock and no retry in it. It is measured beside the mounts so that
one can tell what all of these cost from what the network, the hash and the disk cost anyway.
"""

from __future__ import annotations

import hashlib
import http.client
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

_PIECE_BYTES = 1 << 20


def fetch(urls: list[str], folder: Path) -> None:
    """Each URL's bytes into a file of its own, hashed on the way."""
    host = urlsplit(urls[0]).netloc
    connection = http.client.HTTPConnection(host, timeout=60)
    piece = memoryview(bytearray(_PIECE_BYTES))
    for url in urls:
        connection.request("GET", urlsplit(url).path)
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise SystemExit(f"{url}: {answer.status}")
        digest = hashlib.md5(usedforsecurity=False)
        with (folder / Path(url).name).open("wb", buffering=0) as file:
            while count := answer.readinto(piece):
                digest.update(piece[:count])
                file.write(piece[:count])
        print(digest.hexdigest(), url)


def main() -> None:
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    urls = sys.stdin.read().split()
    threads = [
        threading.Thread(target=fetch, args=(urls[number::count], folder))
        for number in range(min(count, len(urls)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
