"""The behaviour of a mouse: trials, wheel, licks and eye. Times are in seconds, angles in rad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CONTRASTS = np.array([1.0, 0.25, 0.125, 0.0625, 0.0])
#: the longest time in seconds for a response. A trial without a response has no choice
_TIMEOUT_SECONDS = 60.0
#: the movement of the wheel, in rad, that moves the stimulus to the centre or off the screen
_THRESHOLD_RAD = 0.35
#: the number of samples per second while the wheel moves
_WHEEL_RATE_HZ = 250.0

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Trials:
    """The trials of the International Brain Laboratory's task. Arrays have one row per trial."""

    #: 1 for counter-clockwise, -1 for clockwise, 0 for no choice
    choice: Array
    #: NaN in trials with the stimulus on the other side
    contrast_left: Array
    contrast_right: Array
    probability_left: Array
    #: 1 for a reward, -1 for noise
    feedback_type: Array
    #: in microlitres
    reward_volume: Array
    stim_on: Array
    go_cue: Array
    first_movement: Array
    response: Array
    feedback: Array
    #: the start and end of each trial, with shape (trials, 2)
    intervals: Array

    @property
    def correct(self) -> int:
        """Return the number of rewarded trials."""
        return int((self.feedback_type == 1).sum())


def make_trials(random: np.random.Generator, count: int, skill: float, blocks: bool) -> Trials:
    """Return ``count`` simulated trials.

    ``skill`` is a number from 0 to 1. If ``blocks`` is True, the more likely side of the stimulus
    changes from block to block. Otherwise both sides are equally likely.
    """
    probability = _blocks(random, count) if blocks else np.full(count, 0.5)
    left = random.random(count) < probability
    contrast = random.choice(_CONTRASTS, count)
    signed = np.where(left, -contrast, contrast)
    prior = 0.9 * (0.5 - probability)
    drive = 1.0 / (1.0 + np.exp(-(signed * 14.0 * skill + prior * 3.0)))
    lapse = 0.04 + 0.3 * (1.0 - skill)
    goes_right = random.random(count) < lapse / 2 + (1.0 - lapse) * drive
    choice = np.where(goes_right, -1, 1)
    reaction = random.lognormal(np.log(0.24 + 0.35 * (1.0 - contrast) ** 2), 0.45)
    movement = reaction + random.lognormal(np.log(0.16), 0.3, count)
    lazy = random.random(count) < 0.01
    choice[lazy] = 0
    movement[lazy] = _TIMEOUT_SECONDS
    rewarded = (choice == np.where(left, 1, -1)) & ~lazy
    quiet = random.uniform(0.4, 0.9, count)
    rest = np.where(rewarded, 1.0, 2.0) + random.exponential(0.4, count)
    # 50 ms are between the end of one trial and the start of the next
    starts = 5.0 + np.concatenate([[0.0], np.cumsum(quiet + movement + rest + 0.05)[:-1]])
    stim_on = starts + quiet
    response = stim_on + movement
    return Trials(
        choice=choice.astype(np.int8),
        contrast_left=np.where(left, contrast, np.nan),
        contrast_right=np.where(left, np.nan, contrast),
        probability_left=probability,
        feedback_type=np.where(rewarded, 1, -1).astype(np.int8),
        reward_volume=np.where(rewarded, 1.5, 0.0),
        stim_on=stim_on,
        go_cue=stim_on + random.uniform(0.0005, 0.003, count),
        first_movement=stim_on + np.minimum(reaction, movement),
        response=response,
        feedback=response + random.uniform(0.0001, 0.001, count),
        intervals=np.column_stack([starts, response + rest]),
    )


def _blocks(random: np.random.Generator, count: int) -> Array:
    """Return for each trial the probability that the stimulus is on the left.

    After 90 trials with 0.5, blocks of 20 to 100 trials have 0.2 and 0.8 in turn.
    """
    side = float(random.choice([0.2, 0.8]))
    parts = [np.full(90, 0.5)]
    while sum(map(len, parts)) < count:
        length = int(np.clip(random.exponential(60.0), 20, 100))
        parts.append(np.full(length, side))
        side = 1.0 - side
    return np.round(np.concatenate(parts)[:count], 1)


def make_wheel(random: np.random.Generator, trials: Trials) -> tuple[Array, Array]:
    """Return ``(timestamps, position)`` of the wheel, as a rotary encoder measures them.

    There are samples only while the wheel moves.
    """
    begin, end = trials.intervals[0, 0], trials.intervals[-1, 1]
    fidgets = random.uniform(begin, end, 2 * len(trials.choice))
    moved = trials.choice != 0
    onset = np.concatenate([trials.first_movement[moved], fidgets])
    size = np.concatenate(
        [trials.choice[moved] * random.normal(_THRESHOLD_RAD, 0.06, int(moved.sum())),
         random.normal(0.0, 0.05, len(fidgets))]
    )  # fmt: skip
    length = random.uniform(0.15, 0.45, len(onset))
    order = np.argsort(onset)
    onset, size, length = onset[order], size[order], length[order]
    # a movement ends before the next one begins
    length = np.minimum(length, 0.9 * np.diff(onset, append=onset[-1] + 1.0))
    onset, size, length = (x[length > 0.02] for x in (onset, size, length))
    samples = int(0.45 * _WHEEL_RATE_HZ)
    fraction = np.linspace(0.0, 1.0, samples)
    # the movement with the smallest jerk, as in movements of arms and paws
    path = 10 * fraction**3 - 15 * fraction**4 + 6 * fraction**5
    start = np.concatenate([[0.0], np.cumsum(size)[:-1]])
    timestamps = (onset[:, None] + length[:, None] * fraction).ravel()
    position = (start[:, None] + size[:, None] * path).ravel()
    step = 2 * np.pi / 4096
    return timestamps, np.round((position + random.normal(0, step, len(position))) / step) * step


def make_licks(random: np.random.Generator, trials: Trials) -> Array:
    """Return the times of licks: about 7 per second after each reward, and a few at other times."""
    rewards = trials.feedback[trials.feedback_type == 1]
    gaps = random.normal(0.14, 0.02, (len(rewards), 14)).clip(0.06)
    bout = rewards[:, None] + 0.08 + np.cumsum(gaps, axis=1)
    kept = np.arange(14) < random.integers(3, 14, (len(rewards), 1))
    stray = random.uniform(0.0, trials.intervals[-1, 1], len(trials.choice) // 3)
    return np.sort(np.concatenate([bout[kept], stray]))


def make_piezo(random: np.random.Generator, timestamps: Array, licks: Array) -> Array:
    """Return the lick sensor's voltage: noise, and a short oscillation after each lick."""
    last = np.searchsorted(licks, timestamps, side="right") - 1
    since = np.where(last >= 0, timestamps - licks[np.maximum(last, 0)], 9.0)
    ring = 0.7 * np.exp(-since / 0.02) * np.cos(2 * np.pi * 40.0 * since)
    return (ring + random.normal(0.0, 0.03, len(timestamps))).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Eye:
    """The pupil in the images of a camera. Arrays have one row for each frame."""

    timestamps: Array
    #: in square pixels
    area: Array
    blink: Array
    #: in pixels from the centre, with shape (frames, 2)
    position: Array


def make_eye(
    random: np.random.Generator, duration: float, trials: Trials, rate: float = 30.0
) -> Eye:
    """Return the eye at ``rate`` frames per second. The pupil widens after each feedback."""
    frames = int(duration * rate)
    timestamps = 0.4 + np.arange(frames) / rate
    last = np.searchsorted(trials.feedback, timestamps, side="right") - 1
    since = np.where(last >= 0, timestamps - trials.feedback[np.maximum(last, 0)], 99.0)
    arousal = (since / 0.8) * np.exp(1.0 - since / 0.8)
    area = 420.0 + 90.0 * slow_noise(random, frames, 20 * rate) + 60.0 * arousal
    blink = np.zeros(frames, dtype=bool)
    for start in random.integers(0, frames, max(1, int(duration / 12))):
        blink[start : start + int(0.2 * rate)] = True
    area = np.where(blink, 0.3 * area, area) + random.normal(0.0, 4.0, frames)
    xy = np.column_stack([3.0 * slow_noise(random, frames, 4 * rate) for _ in range(2)])
    return Eye(timestamps, area.clip(1.0), blink, xy)


def slow_noise(random: np.random.Generator, count: int, memory: float) -> Array:
    """Return ``count`` values of slow noise, with mean 0 and standard deviation 1.

    Each value is computed from the last ``memory`` random values.
    """
    window = max(1, int(memory))
    noise = np.cumsum(random.normal(0.0, 1.0, count + window))
    smooth = (noise[window:] - noise[:-window]) / np.sqrt(window)
    return np.asarray(smooth)
