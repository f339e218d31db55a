"""What a user of ONE-api does who has files in S3, in a process with a home folder of its own.

Usage: ``one_s3_client.py < JSON``; prints the md5 of each file that ONE's boto3 downloads, as JSON.
"""

from __future__ import annotations

import hashlib
import json
import sys

from tests.system.one_client import configure, connect


def main() -> None:
    given = json.load(sys.stdin)
    configure(given)
    client = connect(given, cache_dir=given["cache"])
    digests = {}
    for path in given["paths"]:
        session, _, rest = path.partition("/alf/")
        lab, subject, date, number = session.split("/")
        eid = str(client.path2eid(f"{given['cache']}/{lab}/Subjects/{subject}/{date}/{number}"))
        rows = client.list_datasets(eid, filename=rest, collection="alf", details=True)
        # not load_dataset, which downloads from the file server if this fails
        (file,) = client._download_aws(row for _, row in rows.iterrows())
        digests[path] = hashlib.md5(file.read_bytes()).hexdigest()
    print(json.dumps(digests))


if __name__ == "__main__":
    main()
