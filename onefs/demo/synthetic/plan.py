"""The labs, users, subjects and sessions of the synthetic laboratory, without the data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from enum import Enum

TUTORIAL_EID = "cf264653-2deb-44cb-aa84-89b82507028a"
FLOWERS_EID = "4e0b3320-47b7-416e-b842-c34dc9004cf8"


class SessionKind(Enum):
    """The kind of a session, which decides the files that the session has."""

    TUTORIAL = "tutorial"
    FLOWERS = "flowers"
    TRAINING = "training"
    BIASED = "biased"
    EPHYS = "ephys"
    PASSIVE = "passive"


@dataclass(frozen=True, slots=True)
class Lab:
    """One lab in the synthetic laboratory."""

    name: str
    institution: str
    address: str
    timezone: str


@dataclass(frozen=True, slots=True)
class Subject:
    """One mouse."""

    nickname: str
    lab: str
    responsible: str
    sex: str
    birth_date: str
    #: the day of the subject's first training session. None for a subject without training
    first: date | None = None
    #: a number from 0 to 3 that decides which probes, revisions and files the sessions have
    story: int = 0


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """The properties of one session, from which the data of the session are computed."""

    eid: str | None
    lab: str
    subject: str
    date: str
    number: int
    hour: int
    kind: SessionKind
    users: tuple[str, ...]
    probes: tuple[str, ...] = ()
    #: the revisions of the first probe's sorting, oldest first
    revisions: tuple[str, ...] = ()
    #: the folder of the first probe's sorting, inside the probe's folder. '' is the probe's folder
    sorter: str = ""
    #: whether the oldest revision is the default, not the newest
    old_default: bool = False
    #: the size in MiB of the raw recording. 0 means no raw recording
    raw_megabytes: int = 0
    eye: bool = False
    #: how well the mouse does the task, from 0 to 1
    skill: float = 0.9
    #: whether the session has all files that IBL's loaders read, such as pose and tables
    complete: bool = False

    @property
    def key(self) -> str:
        """Return ``lab/subject/date/number``, from which ids and random numbers are computed."""
        return f"{self.lab}/{self.subject}/{self.date}/{self.number:03d}"

    def sorting_folder(self, index: int) -> str:
        """Return the collection for the spike sorting of a probe.

        ``index`` is the index of the probe in ``probes``.
        """
        folder = f"alf/{self.probes[index]}"
        return f"{folder}/{self.sorter}" if self.sorter and index == 0 else folder


LABS = (
    Lab("mainenlab", "Champalimaud Centre for the Unknown", "Avenida Brasilia, Lisbon",
        "Europe/Lisbon"),
    Lab("zadorlab", "Cold Spring Harbor Laboratory", "One Bungtown Road, Cold Spring Harbor, NY",
        "America/New_York"),
    Lab("cortexlab", "University College London", "Gower Street, London", "Europe/London"),
    Lab("angelakilab", "New York University", "4 Washington Place, New York, NY",
        "America/New_York"),
)  # fmt: skip

SUBJECTS = (
    Subject("clns0730", "mainenlab", "olivier", "M", "2018-04-11"),
    Subject("flowers", "zadorlab", "test_user", "F", "2018-03-02"),
    Subject("ZM_1897", "mainenlab", "olivier", "M", "2019-01-14", date(2019, 5, 20), 0),
    Subject("ZFM-01592", "mainenlab", "ines", "F", "2020-01-20", date(2020, 6, 8), 1),
    Subject("CSHL045", "zadorlab", "anne", "F", "2019-06-10", date(2019, 10, 7), 2),
    Subject("CSHL_060.b", "zadorlab", "anne", "M", "2019-12-01", date(2020, 3, 9), 1),
    Subject("KS014", "cortexlab", "nate", "F", "2019-03-30", date(2019, 8, 5), 0),
    Subject("KS023", "cortexlab", "nate", "M", "2019-08-12", date(2019, 11, 25), 3),
    Subject("NYU-11", "angelakilab", "valeria", "M", "2019-07-15", date(2019, 12, 2), 2),
    Subject("NYU-37", "angelakilab", "valeria", "F", "2020-05-05", date(2020, 10, 12), 1),
)

USERS = ("olivier", "test_user", "ines", "anne", "nate", "valeria")

#: project -> the users of the project
PROJECTS = {
    "ibl_neuropixel_brainwide_01": ("anne", "nate", "olivier", "valeria"),
    "ibl_behaviour_pilot": ("anne", "ines", "nate", "olivier", "valeria"),
    "ibl_tutorial": ("olivier", "test_user"),
}

BEHAVIOUR_TAG = "2021_Q1_IBL_et_al_Behaviour"
REPEATED_SITE_TAG = "2022_Q2_IBL_et_al_RepeatedSite"

TUTORIAL = SessionPlan(
    TUTORIAL_EID, "mainenlab", "clns0730", "2018-08-24", 1, 14, SessionKind.TUTORIAL,
    ("olivier", "test_user"), eye=True,
)  # fmt: skip
FLOWERS = SessionPlan(
    FLOWERS_EID, "zadorlab", "flowers", "2018-07-13", 1, 11, SessionKind.FLOWERS,
    ("olivier", "test_user"), skill=0.7,
)  # fmt: skip

_ONE, _TWO = ("probe00",), ("probe00", "probe01")
_RESORTED = ("2020-08-31", "2021-07-05")
_NEW_SORTING = ("2024-05-06",)
#: the mouse whose last recording and passive session have all files that IBL's loaders read
_COMPLETE_SUBJECT = "ZFM-01592"


def all_sessions() -> Iterator[SessionPlan]:
    """Yield every session of the laboratory, in no particular order."""
    yield TUTORIAL
    yield FLOWERS
    for subject in SUBJECTS:
        if subject.first is not None:
            yield from _training_sessions(subject, subject.first)


def _training_sessions(subject: Subject, first: date) -> Iterator[SessionPlan]:
    """Yield a mouse's sessions: training, recordings, and a passive session on the last day.

    ``first`` is the day of the first training session.
    """

    def session(
        days: int, number: int, hour: int, kind: SessionKind, **more: object
    ) -> SessionPlan:
        day = first + timedelta(days=days)
        base = (None, subject.lab, subject.nickname, day.isoformat(), number, hour, kind)
        return SessionPlan(*base, (subject.responsible,), **more)  # type: ignore[arg-type]

    story, complete = subject.story, subject.nickname == _COMPLETE_SUBJECT
    yield session(0, 1, 10, SessionKind.TRAINING, skill=0.35)
    yield session(7, 1, 9, SessionKind.TRAINING, skill=0.7)
    yield session(18, 1, 16, SessionKind.BIASED, eye=story == 1)
    yield session(
        24, 1, 11, SessionKind.EPHYS, probes=_ONE, sorter="pykilosort" if story == 1 else "",
        revisions=_RESORTED if story == 0 else _NEW_SORTING if story == 1 else (),
    )  # fmt: skip
    resorted = _RESORTED if story == 3 else _RESORTED[:1] if story == 2 else ()
    resorted, sorter = (_NEW_SORTING, "pykilosort") if complete else (resorted, "")
    yield session(
        25, 1, 11, SessionKind.EPHYS, probes=_TWO, eye=True, complete=complete,
        sorter=sorter, revisions=resorted,
        old_default=story == 3, raw_megabytes=24 if story == 3 else 0,
    )  # fmt: skip
    yield session(
        25, 2, 15, SessionKind.PASSIVE, probes=_ONE if story == 1 else (), complete=complete
    )
