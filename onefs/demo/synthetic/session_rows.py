"""Alyx's rows for the sessions of the synthetic laboratory, and the names of the files."""

from __future__ import annotations

from datetime import datetime, timedelta

from onefs.demo import alyx_rows
from onefs.demo.records import SessionRecord
from onefs.demo.synthetic import histology
from onefs.demo.synthetic.complete import complete_files
from onefs.demo.synthetic.files import Files, encode, standard_files
from onefs.demo.synthetic.plan import FLOWERS, TUTORIAL, SessionKind, SessionPlan
from onefs.demo.synthetic.recording import Recording
from onefs.demo.synthetic.tutorial import flowers_files, tutorial_files

#: the quality control outcomes of sessions and datasets. The first digits of an id select one
QC = ("PASS", "PASS", "PASS", "NOT_SET", "WARNING")
_PROTOCOLS = {
    SessionKind.TUTORIAL: "spontaneous_wheel1.0.0",
    SessionKind.FLOWERS: "_iblrig_tasks_trainingChoiceWorld3.7.5",
    SessionKind.TRAINING: "_iblrig_tasks_trainingChoiceWorld6.4.2",
    SessionKind.BIASED: "_iblrig_tasks_biasedChoiceWorld6.4.2",
    SessionKind.EPHYS: "_iblrig_tasks_ephysChoiceWorld6.4.2",
    SessionKind.PASSIVE: "_iblrig_tasks_passiveChoiceWorld6.4.2",
}
_PROJECTS = {
    SessionKind.TUTORIAL: "ibl_tutorial",
    SessionKind.FLOWERS: "ibl_tutorial",
    SessionKind.TRAINING: "ibl_behaviour_pilot",
    SessionKind.BIASED: "ibl_behaviour_pilot",
    SessionKind.EPHYS: "ibl_neuropixel_brainwide_01",
    SessionKind.PASSIVE: "ibl_neuropixel_brainwide_01",
}


def session_files(plan: SessionPlan) -> Files:
    """Return the files of a planned session: path -> the function that computes the content."""
    recording = Recording(plan)
    if plan is TUTORIAL:
        return tutorial_files(recording)
    if plan is FLOWERS:
        return flowers_files(recording)
    return complete_files(recording) if plan.complete else standard_files(recording)


def encoded_files(plan: SessionPlan) -> dict[str, bytes]:
    """Return the bytes of each file in a planned session, by path inside the session."""
    return {path: encode(make()) for path, make in session_files(plan).items()}


def session_id(plan: SessionPlan) -> str:
    """Return the eid of a planned session."""
    return plan.eid or alyx_rows.make_id("session", plan.key)


def dataset_id(plan: SessionPlan, path: str) -> str:
    """Return the UUID for a file in a planned session."""
    return alyx_rows.make_id("dataset", plan.key, path)


def relative_path(plan: SessionPlan, path: str) -> str:
    """Return a file's path with subject, date and number: ``subject/date/number/...``.

    ``path`` is the path inside the session.
    """
    return f"{plan.subject}/{plan.date}/{plan.number:03d}/{path}"


def public_path(plan: SessionPlan, path: str) -> str:
    """Return a file's path on the file server, without its UUID."""
    return alyx_rows.public_path(plan.lab) + relative_path(plan, path)


def session_row(plan: SessionPlan) -> SessionRecord:
    """Return the row of a planned session."""
    recording = Recording(plan)
    trials = recording.trials if recording.has_task else None
    eid = session_id(plan)
    pick = int(eid[:2], 16)
    start = datetime.fromisoformat(f"{plan.date}T{plan.hour:02d}:{pick % 60:02d}:{pick % 47:02d}")
    if plan is not TUTORIAL:
        start += timedelta(microseconds=int(eid[-5:], 16) % 1_000_000 if pick % 3 else 0)
    end = start + timedelta(seconds=int(recording.duration))
    ephys = bool(plan.probes) or plan is TUTORIAL
    return SessionRecord(
        eid=eid,
        lab=plan.lab,
        subject=plan.subject,
        start_time=start.isoformat(),
        number=plan.number,
        task_protocol=_PROTOCOLS[plan.kind],
        projects=(_PROJECTS[plan.kind],),
        users=plan.users,
        location=f"_iblrig_{plan.lab}_{'ephys' if ephys else 'behavior'}_0",
        procedures=("Ephys recording with acute probe(s)" if ephys else "Behavior training/tasks",),
        end_time=end.isoformat(),
        n_trials=None if trials is None else len(trials.choice),
        n_correct_trials=None if trials is None else trials.correct,
        qc="NOT_SET" if plan is TUTORIAL or plan is FLOWERS else QC[pick % len(QC)],
        extended_qc=None if trials is None else {"behavior": 1, "_task_goCue_delays": 0.99},
        auto_datetime=(end + timedelta(days=1)).isoformat(timespec="microseconds"),
        json={},
        related={"notes": notes(plan, eid)},
    )


def notes(plan: SessionPlan, eid: str) -> list[alyx_rows.Row]:
    """Return the rows of notes on a session, for ``/notes`` and for the session's detail."""
    if len(plan.probes) < 2:
        return []
    return [
        {
            "id": alyx_rows.make_id("note", plan.key),
            "user": plan.users[0],
            "date_time": f"{plan.date}T{plan.hour + 3:02d}:00:00",
            "content_type": "actions.session",
            "object_id": eid,
            "text": f"{plan.probes[1]} was lowered twice",
            "image": None,
            "json": None,
        }
    ]


def insertions(plan: SessionPlan, eid: str) -> list[alyx_rows.Row]:
    """Return the rows of ``/insertions`` for a session, without ``session_info``."""
    return [
        {
            "id": alyx_rows.make_id("insertion", plan.key, probe),
            "session": eid,
            "model": "3B2",
            "name": probe,
            "json": histology.insertion_json(),
            "serial": f"19108300{position:03d}",
            "auto_datetime": f"{plan.date}T23:00:00.000000",
            "chronic_insertion": None,
            "datasets": [
                dataset_id(plan, path)
                for path in session_files(plan)
                if path.startswith(f"alf/{probe}/")
            ],
        }
        for position, probe in enumerate(plan.probes)
    ]
