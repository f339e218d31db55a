"""Alyx's tables of labs, users, dataset types and repositories in the synthetic laboratory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from onefs import alf
from onefs.demo import alyx_rows
from onefs.demo.records import SessionRecord
from onefs.demo.synthetic import aggregates, histology, session_rows
from onefs.demo.synthetic import plan as people
from onefs.demo.synthetic.plan import SessionPlan

_DESCRIPTIONS = {
    "_ibl_wheel.position": "Absolute position of the wheel in radians, increasing means left turn",
    "_ibl_trials.choice": "Which way the mouse turned the wheel: 1 counter-clockwise, -1 clockwise",
    "channels.brainLocationIds_ccf_2017": "Number of the brain region of each channel, CCF 2017",
    "channels.mlapdv": "Coordinates of each channel in micrometres from bregma",
    "clusters.depths": "Depth of each cluster in micrometres from the tip of the probe",
    "clusters.templateWaveforms": "Mean waveform of each cluster: (clusters, samples, channels)",
    "licks.times": "Times of licks in seconds",
    "spikes.amps": "Amplitude of each spike in volts",
    "spikes.clusters": "The cluster that each spike belongs to",
    "spikes.depths": "Depth of each spike in micrometres from the tip of the probe",
    "spikes.times": "Times of spikes in seconds from the start of the recording",
    "unknown": "A file of no registered type",
}


def make_tables(
    plans: Mapping[str, SessionPlan], sessions: Sequence[SessionRecord]
) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Return the rows of each small table. Keys are the names of Alyx's endpoints.

    ``plans`` has the plan of each session, by eid.
    """
    insertions = [row for s in sessions for row in session_rows.insertions(plans[s.eid], s.eid)]
    trajectories = histology.trajectory_rows(insertions)
    paths = {path for plan in plans.values() for path in session_rows.session_files(plan)}
    return {
        "labs": [
            alyx_rows.lab_row(lab.name, lab.institution, lab.address, lab.timezone)
            for lab in people.LABS
        ],
        "subjects": _subjects(sessions),
        "users": _users(),
        "projects": [alyx_rows.project_row(name, users) for name, users in people.PROJECTS.items()],
        "data-repository": [
            *alyx_rows.repository_rows(
                [lab.name for lab in people.LABS], {lab.name: lab.timezone for lab in people.LABS}
            ),
            aggregates.repository_row(),
        ],
        "dataset-types": alyx_rows.dataset_type_rows(
            {
                *(alf.dataset_type(path.rpartition("/")[2]) for path in paths),
                aggregates.known_aggregate().dataset_type,
                "unknown",
            },
            _DESCRIPTIONS,
        ),
        "data-formats": alyx_rows.data_format_rows(),
        "revisions": alyx_rows.revision_rows(
            revision for plan in plans.values() for revision in plan.revisions
        ),
        "tags": [
            alyx_rows.tag_row(people.BEHAVIOUR_TAG, protected=True, public=True),
            alyx_rows.tag_row(people.REPEATED_SITE_TAG, protected=True, public=True),
        ],
        "notes": [row for s in sessions for row in s.related["notes"]],
        "insertions": insertions,
        "trajectories": trajectories,
        "channels": histology.channel_rows(trajectories),
        "brain-regions": histology.brain_region_rows(),
    }


def _subjects(sessions: Sequence[SessionRecord]) -> list[alyx_rows.Row]:
    projects: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for session in sessions:
        projects[session.lab, session.subject].update(session.projects)
    return [
        alyx_rows.subject_row(
            mouse.nickname,
            mouse.lab,
            mouse.responsible,
            projects[mouse.lab, mouse.nickname],
            sex=mouse.sex,
            birth_date=mouse.birth_date,
        )
        for mouse in sorted(people.SUBJECTS, key=attrgetter("nickname"))
    ]


def _users() -> list[alyx_rows.Row]:
    mice = people.SUBJECTS
    return [
        alyx_rows.user_row(
            name,
            sorted({mouse.lab for mouse in mice if mouse.responsible == name}),
            [mouse.nickname for mouse in mice if mouse.responsible == name],
        )
        for name in sorted(people.USERS)
    ]
