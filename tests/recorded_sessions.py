"""The sessions of the recordings.

All 40 rows of the list are recorded, but only 11 details. What the list does not show of the other
29 (users, location, trials, qc ...) is worked out from recorded searches, by two rules:

- a search whose rows are all recorded says exactly which sessions have the value;
- a search of which only the first rows and ``count`` are recorded says that those have it and those
  before the last of them do not (the list is sorted). The rest of ``count`` is filled up from the
  sessions left (``_filled``): sessions with probes first, then in the list's order.

What no search says anything about is left at a neutral value.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any

from onefs.demo.records import SessionRecord
from tests.recordings import bodies, manifest, results

#: percent of correct trials that searches by performance tell apart: search -> trials, correct
_PERFORMANCE = (
    ("performance_integer_division", (300, 300)),
    ("performance_gte", (100, 95)),
    ("performance_lte", (100, 40)),
    ("performance_both", (100, 75)),
)
_NEUTRAL_PERFORMANCE = (100, 85)
#: 499 of 500: the search ``n_trials=500`` finds it, that for 99.7 % does not
_FIVE_HUNDRED = (500, 499)
_RELATED = ("wateradmin_session_related", "probe_insertion", "field_of_view", "notes")
_PLAIN = (
    *("location", "type", "end_time", "narrative", "n_trials", "n_correct_trials", "qc"),
    *("extended_qc", "auto_datetime", "json"),
)


@functools.cache
def session_rows() -> tuple[Mapping[str, Any], ...]:
    """The recorded rows of ``/sessions``, latest first."""
    return tuple(results("sessions/all.json"))


@functools.cache
def session_details() -> Mapping[str, Mapping[str, Any]]:
    """The recorded details by eid."""
    return {
        found["id"]: found
        for group in ("session_detail", "sideeffect")
        for _, found in bodies(group)
        if "data_dataset_session_related" in found
    }


def session_records(*, empty_session: bool = False) -> list[SessionRecord]:
    """All 40 sessions; with ``empty_session`` one of them has 0 trials."""
    reconstructed = _Reconstructed()
    records = []
    for row in session_rows():
        detail = session_details().get(row["id"])
        fields = reconstructed.fields(row) if detail is None else _recorded_fields(detail)
        if empty_session and row["id"] == reconstructed.without_trials:
            fields.update(n_trials=0, n_correct_trials=0)
        records.append(
            SessionRecord(
                eid=row["id"],
                lab=row["lab"],
                subject=row["subject"],
                start_time=row["start_time"],
                number=row["number"],
                task_protocol=row["task_protocol"],
                projects=tuple(row["projects"]),
                **fields,
            )
        )
    return records


def _recorded_fields(detail: Mapping[str, Any]) -> dict[str, Any]:
    parent = detail["parent_session"]
    return {
        **{name: detail[name] for name in _PLAIN},
        "users": tuple(detail["users"]),
        "procedures": tuple(detail["procedures"]),
        "parent_session": parent[-36:] if parent else None,
        "related": {name: detail[name] for name in _RELATED},
    }


class _Reconstructed:
    """The fields of sessions without a recorded detail."""

    def __init__(self) -> None:
        kinds = {session["eid"]: session["kind"] for session in manifest()["sessions"]}
        self._eids = [row["id"] for row in session_rows()]
        self._probed = {eid for eid, kind in kinds.items() if kind.startswith(("eph", "big"))}
        self.without_trials = next(
            eid for eid in self._eids if kinds[eid] == "none" and eid not in session_details()
        )
        self._critical = _all("qc")
        self._not_set = self._filled("qc_not_set", lambda d: d["qc"] == "NOT_SET", self._critical)
        taken = {*self._critical, *self._not_set}
        self._passed = self._filled("qc_pass", lambda d: d["qc"] == "PASS", taken)
        self._tracked = self._filled("extended_qc_str", lambda d: d["extended_qc"] is not None)
        self._high = self._filled(
            "extended_qc_gte", lambda d: (d["extended_qc"] or {}).get("_dlcLeft_pct", 0) >= 0.6
        )
        self._noted = self._filled("json_filter", lambda d: bool(d["json"]))
        unnoted = set(self._eids).difference(self._noted)
        self._messy = self._filled(
            "json_gte", lambda d: (d["json"] or {}).get("POOP_COUNT", 0) >= 30, unnoted
        )
        self._automatic = self._filled("narrative", lambda d: bool(d["narrative"]))

    def _filled(
        self,
        search: str,
        known: Callable[[Mapping[str, Any]], bool],
        excluded: Collection[str] = (),
    ) -> set[str]:
        """Return the sessions that a search with only its first rows recorded must have found."""
        file = f"sessions/{search}.json"
        shown = [row["id"] for row in results(file)]
        found = set(shown) | {eid for eid, detail in session_details().items() if known(detail)}
        last = self._eids.index(shown[-1])
        free = [
            eid
            for eid in self._eids[last + 1 :]
            if eid not in session_details() and eid not in excluded
        ]
        free.sort(key=lambda eid: eid not in self._probed)
        count = dict(bodies("sessions"))[file]["count"]
        return found | set(free[: count - len(found)])

    def fields(self, row: Mapping[str, Any]) -> dict[str, Any]:
        eid = row["id"]
        n_trials, n_correct = self._trials(eid)
        procedure = "Ephys recording with acute probe(s)"
        return {
            "users": self._users(row),
            "location": self._location(row),
            "procedures": (procedure if eid in self._probed else "Behavior training/tasks",),
            "n_trials": n_trials,
            "n_correct_trials": n_correct,
            "qc": self._qc(eid),
            "extended_qc": self._extended_qc(eid),
            "json": self._json(eid),
            "narrative": "auto-generated session" if eid in self._automatic else "",
            "auto_datetime": "2026-11-22T06:10:43.548462",
        }

    def _trials(self, eid: str) -> tuple[int | None, int | None]:
        if eid == self.without_trials:
            return None, None
        if eid in _all("n_trials"):
            return _FIVE_HUNDRED
        for search, trials in _PERFORMANCE:
            if eid in _all(search):
                return trials
        return _NEUTRAL_PERFORMANCE

    def _users(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        eid, found = row["id"], set()
        searched = {"olivier": "users_one", "ines": "users_repeated_param", "Gaelle": "users_three"}
        for name, search in searched.items():
            if eid in _all(search):
                found.add(name)
        # the count over the join: nate and olivier, or one of them and two matching projects
        if eid in _all("users_with_projects_false_positive"):
            matching = sum("i" in project for project in row["projects"])
            if matching * len(found & {"nate", "olivier"}) != 2:
                found.add("nate")
        responsible = {s["nickname"]: s["responsible_user"] for s in results("other/subjects.json")}
        if not found and responsible[row["subject"]] not in (*searched, "nate"):
            found.add(responsible[row["subject"]])
        return tuple(sorted(found))

    def _location(self, row: Mapping[str, Any]) -> str | None:
        if row["id"] in _all("django_isnull"):
            return None
        rig = "behavior"
        if row["id"] in {*_all("location_exact"), *_all("location_case")}:
            rig = "ephys"
        names: list[str] = [found["name"] for found in results("other/locations.json")]
        ours = [name for name in names if row["lab"] in name]
        return next((name for name in ours if rig in name), ours[0])

    def _qc(self, eid: str) -> str:
        if eid in self._critical:
            return "CRITICAL"
        if eid in self._not_set:
            return "NOT_SET"
        return "PASS" if eid in self._passed else "WARNING"

    def _extended_qc(self, eid: str) -> dict[str, Any] | None:
        if eid not in self._tracked:
            return None
        share = 0.61 if eid in self._high else 0.5
        return {"dlcLeft": "PASS", "behavior": 1, "_dlcLeft_pct": share, "_task_goCue_delays": 0.99}

    def _json(self, eid: str) -> dict[str, Any] | None:
        if eid not in self._noted:
            return None
        return {"IS_MOCK": False, "POOP_COUNT": 31 if eid in self._messy else 20}


@functools.cache
def _all(search: str) -> frozenset[str]:
    """Return the sessions that a search has found of which all rows are recorded."""
    return frozenset(row["id"] for row in results(f"sessions/{search}.json"))
