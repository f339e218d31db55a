"""What a user of ONE-api does, in a process with a home folder of its own.

Usage: ``one_client.py http|local|remote|days < JSON``; prints what ONE found, as JSON.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import one.params
from iblutil.io import params as iopar
from one.api import ONE


def configure(given: dict[str, Any]) -> None:
    """The settings that ``ONE.setup`` would ask for."""
    one.params.setup(given["alyx_url"], silent=True, make_default=True, cache_dir=given["cache"])
    name = f"{one.params._PAR_ID_STR}/{one.params._key_from_url(given['alyx_url'])}"
    saved = iopar.read(name)
    saved = saved.set("HTTP_DATA_SERVER", f"{given['data_url']}/public")
    saved = saved.set("HTTP_DATA_SERVER_LOGIN", given["data_username"])
    iopar.write(name, saved.set("HTTP_DATA_SERVER_PWD", given["data_password"]))


def connect(given: dict[str, Any], **options: Any) -> Any:
    """A client of the REST server."""
    return ONE(
        base_url=given["alyx_url"],
        username=given["username"],
        password=given["password"],
        silent=True,
        cache_rest=None,
        **options,
    )


def over_http(given: dict[str, Any]) -> dict[str, Any]:
    """Search, list and load from the two servers; ONE downloads by itself."""
    configure(given)
    client = connect(given, cache_dir=Path(given["cache"]))
    eid = given["eid"]
    found = {
        "search": [str(each) for each in client.search(users="olivier", date="2018-08-24")],
        "types": sorted(client.list_datasets(eid)),
        "collections": sorted(client.list_collections(given["probes"])),
        "revisions": sorted(client.list_revisions(given["probes"])),
    }
    return found | load_all(client, given)


def over_mount(given: dict[str, Any], client: Any) -> dict[str, Any]:
    """List and load with the mount as the cache folder."""
    found = {
        "types": sorted(client.list_datasets(given["eid"])),
        "collections": sorted(client.list_collections(given["probes"])),
        "path": str(client.eid2path(given["eid"])),
        "eid": str(client.path2eid(client.eid2path(given["eid"]))),
    }
    return found | load_all(client, given)


def load_all(client: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Datasets and objects of a plain session, and of one with two probes and a revision."""
    spikes = client.load_object(given["eid"], "spikes")
    probes = [
        client.load_object(given["probes"], "spikes", collection=f"alf/{probe}")
        for probe in ("probe00", "probe01")
    ]
    default, before = (
        client.load_dataset(
            given["probes"], "spikes.times.npy", collection="alf/probe00", revision=revision
        )
        for revision in (None, given["before"])
    )
    return {
        "spikes": {name: summary(values) for name, values in sorted(spikes.items())},
        "probes": [summary(each["times"]) for each in probes],
        "licks": summary(client.load_dataset(given["eid"], "licks.times.npy")),
        "default revision": summary(default),
        "revision before": summary(before),
    }


def over_days(given: dict[str, Any]) -> dict[str, Any]:
    """Of each day what ONE loads when it is told the day, with that day's tree as its cache."""
    found = {}
    for day in given["days"].split():
        folder = Path(given["mount"], ".as-of", day)
        client = ONE(cache_dir=folder, tables_dir=given["tables"], mode="local")
        values = client.load_dataset(
            given["resorted"], "spikes.times.npy", collection="alf/probe00", revision=day
        )
        found[day] = summary(values)
    return found


def summary(values: Any) -> list[float]:
    """Length and sum: what two ways to load the same array must agree on."""
    return [len(values), round(float(np.sum(values)), 3)]


def main() -> None:
    """Do what the first argument says."""
    # ONE warns of a server certificate and of old tables; trouble it raises
    warnings.simplefilter("default")
    given = json.loads(sys.stdin.read())
    way = sys.argv[1]
    if way == "http":
        found = over_http(given)
    elif way == "local":
        client = ONE(cache_dir=given["mount"], tables_dir=given["tables"], mode="local")
        found = over_mount(given, client)
    elif way == "days":
        found = over_days(given)
    else:
        configure(given)
        options = {"cache_dir": Path(given["mount"]), "tables_dir": Path(given["tables"])}
        found = over_mount(given, connect(given, **options))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
