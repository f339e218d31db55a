"""The files of the two sessions in the tutorial of ONE, with the names and types used there."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onefs.demo.synthetic import behaviour, spike_sorting
from onefs.demo.synthetic.files import Files, brain_location, eye, trial_files, wheel_and_licks
from onefs.demo.synthetic.recording import Recording
from onefs.demo.synthetic.seeding import generator
from onefs.demo.synthetic.spike_sorting import Sorting

#: the number of recorded sites on each of the two probes
_SITES = 64
_CLUSTERS = 30
_PROBES = ("Neuropixels 3A, left", "Neuropixels 3A, right")

Array = NDArray[Any]


class _TwoProbes:
    """The spike sortings of two probes, joined to one sorting.

    Spikes of both probes are sorted by time. Clusters and channels of the first probe come first.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    @cached_property
    def probes(self) -> list[Sorting]:
        key, events = self._recording.plan.key, self._recording.trials.stim_on
        return [
            spike_sorting.make_sorting(
                generator(key, f"probe{n}"),
                self._recording.duration,
                _CLUSTERS,
                _SITES,
                events,
                1.4,
            )
            for n in range(len(_PROBES))
        ]

    @cached_property
    def order(self) -> Array:
        """Return the indices that sort the spikes of both probes by time."""
        return np.argsort(np.concatenate([p.spike_times for p in self.probes]), kind="stable")

    def spikes(self, field: str, step: int = 0) -> Array:
        """Return a field of the spikes of both probes, sorted by time.

        ``step`` is added to the values of the second probe.
        """
        parts = [getattr(p, field) + n * step for n, p in enumerate(self.probes)]
        merged: Array = np.concatenate(parts)[self.order]
        return merged

    def clusters(self, field: str, step: int = 0) -> Array:
        """Return a field of the clusters of both probes. Clusters of the first probe come first.

        ``step`` is added to the values of the second probe.
        """
        return np.concatenate([getattr(p, field) + n * step for n, p in enumerate(self.probes)])

    def waveforms(self) -> Array:
        """Return the waveform of each cluster on the channels of both probes.

        On the channels of the other probe, the waveform is 0.
        """
        every = np.broadcast_to(np.arange(_SITES), (_CLUSTERS, _SITES))
        key = self._recording.plan.key
        first, second = (
            spike_sorting.templates(generator(key, f"templates{n}"), p, every)
            for n, p in enumerate(self.probes)
        )
        empty = np.zeros_like(first)
        return np.concatenate(
            [np.concatenate([first, empty], axis=2), np.concatenate([empty, second], axis=2)]
        )

    def annotation(self) -> str:
        """Return each cluster's label in the program Phy: 2 for a good unit, otherwise 1."""
        labels = [label for p in self.probes for label in p.cluster_labels]
        return "annotation\n" + "".join("2\n" if label == "good" else "1\n" for label in labels)


def tutorial_files(recording: Recording) -> Files:
    """Return the files of the session clns0730, 2018-08-24: one for each of 29 dataset types."""
    # no file is in a collection, as in the real test database
    return {
        **_channels_and_probes(),
        **_spikes_and_clusters(_TwoProbes(recording)),
        **eye(recording, ""),
        **_piezo(recording),
        "_ibl_wheel.position.npy": lambda: _even_wheel(recording),
        "licks.times.npy": lambda: recording.licks,
        "spontaneous.intervals.npy": lambda: np.array([[0.0, 2.0], [560.0, 600.0]]),
        "notes.md": lambda: (
            "# clns0730, 2018-08-24\n\nTwo probes. The mouse was calm; the wheel was turned "
            "throughout.\nThe last 40 s are without stimulus.\n"
        ),
    }


def flowers_files(recording: Recording) -> Files:
    """Return the files of the session flowers, 2018-07-13: wheel, licks and some of the trials."""
    trials = trial_files(recording)
    kept = ("choice", "contrastLeft", "contrastRight", "feedbackType", "intervals")
    paths = [f"alf/_ibl_trials.{name}.npy" for name in (*kept, "response_times", "stimOn_times")]
    return {**{path: trials[path] for path in paths}, **wheel_and_licks(recording)}


def _channels_and_probes() -> Files:
    count = len(_PROBES) * _SITES
    sites = spike_sorting.sites(_SITES)
    return {
        "channels.brainLocation.tsv": lambda: brain_location(
            np.concatenate([sites[:, 1]] * len(_PROBES))
        ),
        "channels.probe.npy": lambda: np.repeat(np.arange(len(_PROBES)), _SITES),
        "channels.rawRow.npy": lambda: np.tile(np.arange(_SITES), len(_PROBES)),
        "channels.site.npy": lambda: np.tile(np.arange(_SITES), len(_PROBES)),
        "channels.sitePositions.npy": lambda: np.tile(sites, (len(_PROBES), 1)).reshape(count, 2),
        "probes.description.tsv": lambda: "description\n" + "".join(f"{p}\n" for p in _PROBES),
        # entry point and direction of each probe: x and y in mm from bregma, depth in mm, three
        # angles in degrees
        "probes.insertion.npy": lambda: np.array(
            [[-2.2, -2.0, 3.8, 15.0, 0.0, 0.0], [2.1, -2.1, 3.7, 15.0, 180.0, 0.0]]
        ),
        "probes.rawFilename.tsv": lambda: (
            "rawFilename\n"
            + "".join(f"clns0730_2018-08-24_g0_t0.imec{n}.ap.bin\n" for n in range(len(_PROBES)))
        ),
        "probes.sitePositions.npy": lambda: np.stack([sites] * len(_PROBES)),
    }


def _spikes_and_clusters(both: _TwoProbes) -> Files:
    return {
        "clusters._phy_annotation.tsv": both.annotation,
        "clusters.depths.npy": lambda: both.clusters("cluster_depths"),
        "clusters.peakChannel.npy": lambda: both.clusters("cluster_channels", _SITES),
        "clusters.probes.npy": lambda: np.repeat(np.arange(len(_PROBES)), _CLUSTERS),
        "clusters.templateWaveforms.npy": both.waveforms,
        "clusters.waveformDuration.npy": lambda: np.abs(both.clusters("cluster_peak_to_trough")),
        "spikes.amps.npy": lambda: both.spikes("spike_amps"),
        "spikes.clusters.npy": lambda: both.spikes("spike_clusters", _CLUSTERS),
        "spikes.depths.npy": lambda: both.spikes("spike_depths"),
        "spikes.times.npy": lambda: both.spikes("spike_times"),
    }


def _piezo(recording: Recording) -> Files:
    def timestamps() -> Array:
        return np.arange(0.0, recording.duration, 1 / 200)

    return {
        "_ibl_lickPiezo.raw.npy": lambda: behaviour.make_piezo(
            generator(recording.plan.key, "piezo"), timestamps(), recording.licks
        ),
        "_ibl_lickPiezo.timestamps.npy": timestamps,
    }


def _even_wheel(recording: Recording) -> Array:
    """Return the positions of the wheel at 100 samples per second.

    The samples are evenly spaced, because this session has no file with timestamps of the wheel.
    """
    timestamps, position = recording.wheel
    even: Array = np.interp(np.arange(0.0, recording.duration, 0.01), timestamps, position)
    return even
