"""Brain regions, trajectories and channels of the probes of the synthetic laboratory.

Every probe is vertical and at the same place. Coordinates are in micrometres from bregma (x to
the right, y to the front, z up), as in Alyx.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onefs.demo import alyx_rows
from onefs.demo.synthetic import spike_sorting

#: (id, acronym, name, parent) of the regions that the probes cross and of all regions above them
_TREE = (
    (0, "void", "void", None),
    (997, "root", "root", 0),
    (8, "grey", "Basic cell groups and regions", 997),
    (567, "CH", "Cerebrum", 8),
    (688, "CTX", "Cerebral cortex", 567),
    (695, "CTXpl", "Cortical plate", 688),
    (315, "Isocortex", "Isocortex", 695),
    (22, "PTLp", "Posterior parietal association areas", 315),
    (312782546, "VISa", "Anterior area", 22),
    (312782554, "VISa2/3", "Anterior area layer 2/3", 312782546),
    (1089, "HPF", "Hippocampal formation", 695),
    (1080, "HIP", "Hippocampal region", 1089),
    (375, "CA", "Ammon's horn", 1080),
    (382, "CA1", "Field CA1", 375),
    (726, "DG", "Dentate gyrus", 1080),
    (10703, "DG-mo", "Dentate gyrus molecular layer", 726),
    (343, "BS", "Brain stem", 8),
    (1129, "IB", "Interbrain", 343),
    (549, "TH", "Thalamus", 1129),
    (856, "DORpm", "Thalamus polymodal association cortex related", 549),
    (138, "LAT", "Lateral group of the dorsal thalamus", 856),
    (1020, "PO", "Posterior complex of the thalamus", 138),
    (218, "LP", "Lateral posterior nucleus of the thalamus", 138),
)
_IDS = {acronym: key for key, acronym, _, _ in _TREE}
#: (upper end, acronym) of each region that a probe crosses, from the tip up. The upper end is in
#: micrometres above the tip
_CROSSED = ((900.0, "PO"), (1300.0, "LP"), (1700.0, "DG-mo"), (2300.0, "CA1"), (9999.0, "VISa2/3"))
_X, _Y, _TIP, _SURFACE = -2243, -2000, -4200, -200
_SITES = 384
#: of this many adjacent sites on a probe, the first site is a channel in the database
_CHANNEL_STEP = 8
_PROVENANCES = ("Ephys aligned histology track", "Histology track", "Micro-manipulator", "Planned")
ALIGNMENT = "2021-03-01T10:00:00_anne"

Array = NDArray[Any]


def region_at(depth: float) -> str:
    """Return the acronym of the region at ``depth`` micrometres above the tip of a probe."""
    return next(acronym for end, acronym in _CROSSED if depth < end)


def region_ids(depths: Array) -> Array:
    """Return the Allen id of the region at each depth in ``depths``.

    Depths are in micrometres above the tip of a probe.
    """
    return np.array([_IDS[region_at(depth)] for depth in depths])


def coordinates(depths: Array) -> Array:
    """Return the coordinates x, y and z of each recording site, in micrometres from bregma.

    ``depths`` has the depth of each site, in micrometres above the tip of the probe.
    """
    columns = [np.full(len(depths), _X), np.full(len(depths), _Y), _TIP + depths]
    return np.column_stack(columns).astype(np.int64)


def insertion_json() -> dict[str, Any]:
    """Return the value of the column ``json`` in a row of ``/insertions`` (inserted probes).

    The value describes a probe whose track was traced and aligned.
    """
    extended = {
        "tracing_exists": True,
        "alignment_count": 2,
        "alignment_resolved": True,
        "alignment_stored": ALIGNMENT,
    }
    picks = [[_X, _Y, z] for z in (_TIP, _TIP + 1500, _TIP + 3000, _SURFACE)]
    return {"qc": "PASS", "extended_qc": extended, "xyz_picks": picks}


def brain_region_rows() -> list[alyx_rows.Row]:
    """Return the rows of ``/brain-regions``.

    The rows are the regions that the probes cross, and the regions that contain these regions.
    """
    return [
        {
            "id": key,
            "acronym": acronym,
            "name": name,
            "description": None,
            "parent": parent,
            "related_descriptions": [],
        }
        for key, acronym, name, parent in _TREE
    ]


def trajectory_rows(insertions: Sequence[alyx_rows.Row]) -> list[alyx_rows.Row]:
    """Return the rows of ``/trajectories``, which are paths of probes through the brain.

    Each probe has four trajectories. They come from four methods, such as the histology track.
    """
    return [
        _trajectory(insertion, provenance)
        for insertion in insertions
        for provenance in _PROVENANCES
    ]


def _trajectory(insertion: alyx_rows.Row, provenance: str) -> alyx_rows.Row:
    aligned = provenance == _PROVENANCES[0]
    # positions of features in the recording, and positions of the same features on the track, both
    # in metres from the tip
    alignment = {ALIGNMENT: [[-0.02, 0.0, 0.002, 0.02], [-0.02, 0.0, 0.002, 0.02], "PASS"]}
    return {
        "id": alyx_rows.make_id("trajectory", insertion["id"], provenance),
        "probe_insertion": insertion["id"],
        "x": float(_X),
        "y": float(_Y),
        "z": float(_SURFACE),
        "depth": float(_SURFACE - _TIP),
        "theta": 0.0,
        "phi": 180.0,
        "roll": 0.0,
        "provenance": provenance,
        "coordinate_system": "Needles-Allen",
        "datetime": insertion["auto_datetime"],
        "json": alignment if aligned else None,
        "chronic_insertion": None,
    }


def channel_rows(trajectories: Sequence[alyx_rows.Row]) -> list[alyx_rows.Row]:
    """Return the rows of ``/channels`` for each trajectory that is aligned.

    Of every eight recording sites on the probe, one site is a channel.
    """
    sites = spike_sorting.sites(_SITES)[::_CHANNEL_STEP]
    return [
        {
            "id": alyx_rows.make_id("channel", trajectory["id"], str(number)),
            "trajectory_estimate": trajectory["id"],
            "brain_region": _IDS[region_at(axial)],
            "name": "",
            "json": None,
            "axial": float(axial),
            "lateral": float(lateral),
            "x": float(_X),
            "y": float(_Y),
            "z": float(_TIP + axial),
        }
        for trajectory in trajectories
        if trajectory["provenance"] == _PROVENANCES[0]
        for number, (lateral, axial) in enumerate(sites)
    ]
