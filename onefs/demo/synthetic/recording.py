"""The arrays of one synthetic session. Each array is computed when it is first used."""

from __future__ import annotations

from functools import cached_property, lru_cache

from onefs.demo.synthetic import behaviour, spike_sorting
from onefs.demo.synthetic.plan import SessionKind, SessionPlan
from onefs.demo.synthetic.seeding import generator

#: the duration in seconds of a session without task, such as the tutorial session
SHORT_SESSION_SECONDS = 600.0
_TRIALS = {
    SessionKind.TRAINING: 320,
    SessionKind.BIASED: 420,
    SessionKind.EPHYS: 260,
    SessionKind.FLOWERS: 180,
}


class Recording:
    """The arrays of a planned session. The same plan always gives the same arrays."""

    def __init__(self, plan: SessionPlan) -> None:
        self.plan = plan
        self.sorting = lru_cache(maxsize=None)(self._sorting)

    @property
    def has_task(self) -> bool:
        """Whether the mouse did the task, so that the session has files of trials."""
        return self.plan.kind in _TRIALS

    @cached_property
    def trials(self) -> behaviour.Trials:
        """Return the trials of the session.

        A session without task has trials too, because the wheel, the licks, the pupil and the
        spikes are computed from trials.
        """
        plan = self.plan
        random = generator(plan.key, "trials")
        count = int(_TRIALS.get(plan.kind, 90) * random.uniform(0.85, 1.25))
        blocks = plan.kind in (SessionKind.BIASED, SessionKind.EPHYS)
        return behaviour.make_trials(random, count, plan.skill, blocks)

    @cached_property
    def duration(self) -> float:
        """Return the duration of the session in seconds."""
        return (
            float(self.trials.intervals[-1, 1]) + 10.0 if self.has_task else SHORT_SESSION_SECONDS
        )

    @cached_property
    def wheel(self) -> tuple[behaviour.Array, behaviour.Array]:
        """Return (timestamps, position) of the wheel."""
        return behaviour.make_wheel(generator(self.plan.key, "wheel"), self.trials)

    @cached_property
    def licks(self) -> behaviour.Array:
        """Return the times of licks."""
        licks = behaviour.make_licks(generator(self.plan.key, "licks"), self.trials)
        return licks[licks < self.duration]

    @cached_property
    def eye(self) -> behaviour.Eye:
        """Return position and area of the pupil, for each image of the left camera."""
        return behaviour.make_eye(generator(self.plan.key, "eye"), self.duration, self.trials)

    def _sorting(self, probe: str, revision: str) -> spike_sorting.Sorting:
        """Return one sorting of a probe's spikes. ``revision`` is '' for the first sorting."""
        random = generator(self.plan.key, probe, revision)
        clusters = int(random.integers(28, 44))
        return spike_sorting.make_sorting(random, self.duration, clusters, 384, self.trials.stim_on)
