"""What brainbox's loaders make of some probes, as JSON: run by ``test_brainbox.py``.

arguments: local|remote MOUNT URL USER PASSWORD EID:PROBE...
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import numpy as np

warnings.filterwarnings("ignore")

from brainbox.io.one import SessionLoader, SpikeSortingLoader  # noqa: E402
from iblatlas.atlas import AllenAtlas  # noqa: E402
from one.api import ONE, One  # noqa: E402


def _session(one: Any, eid: str) -> dict[str, Any]:
    loader = SessionLoader(one=one, eid=eid)
    loader.load_session_data(pose=False, motion_energy=False, pupil=False, pawstates=False)
    loaded = loader.data_info[loader.data_info["is_loaded"]]
    return {
        "loaded": sorted(loaded["name"]),
        "trials": len(loader.trials),
        "goCue": float(loader.trials["goCue_times"].sum()),
        "wheel": float(np.ptp(loader.wheel["times"])),
        "licks": len(loader.licks),
    }


def _sorting(one: Any, eid: str, probe: str) -> dict[str, Any]:
    loader = SpikeSortingLoader(one=one, eid=eid, pname=probe, atlas=AllenAtlas(mock=True))
    spikes, clusters, channels = loader.load_spike_sorting()
    merged = loader.merge_clusters(spikes, clusters, channels)
    return {
        "collection": loader.collection,
        "revisions": sorted({path.revision or "" for path in loader.files["spikes"]}),
        "spikes": len(spikes["times"]),
        "last": float(spikes["times"][-1]),
        "clusters": len(merged["depths"]),
        "histology": loader.histology,
        "acronyms": sorted(set(merged["acronym"])),
    }


def _by_pid(one: Any, eid: str, probe: str) -> dict[str, Any]:
    """The same by the probe's UUID, which only Alyx knows; and where Alyx has its channels."""
    from brainbox.io.one import _load_channel_locations_traj

    pids, names = one.eid2pid(eid)
    atlas = AllenAtlas(mock=True)
    loader = SpikeSortingLoader(one=one, pid=pids[names.index(probe)], atlas=atlas)
    spikes, _, _ = loader.load_spike_sorting()
    found, source = _load_channel_locations_traj(
        eid, probe=probe, one=one, brain_atlas=atlas, aligned=True, return_source=True
    )
    return {
        "spikes": len(spikes["times"]),
        "version": loader.get_version(),
        "channels": len(found[probe]["x"]),
        "source": source,
    }


def main(way: str, mount: str, url: str, user: str, password: str, *probes: str) -> None:
    """Print what was found of each probe."""
    if way == "local":
        one = One(cache_dir=mount, mode="local")
    else:
        one = ONE(base_url=url, username=user, password=password, cache_dir=mount, silent=True)
    found = {}
    for each in probes:
        eid, _, probe = each.partition(":")
        found[each] = {"session": _session(one, eid), "sorting": _sorting(one, eid, probe)}
        if way == "remote":
            found[each]["by pid"] = _by_pid(one, eid, probe)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
