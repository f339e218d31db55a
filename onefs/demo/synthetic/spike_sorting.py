"""Synthetic spike sortings: spikes, each with its neuron.

Neurons are in layers along a probe, with a slow drift.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: the shortest time in seconds between two spikes of a neuron
REFRACTORY_SECONDS = 0.002
#: the time in seconds between two values of the modulation of the firing rate
_STEP_SECONDS = 0.05
#: the number of samples in a template: 2.7 ms at 30 kHz
_SAMPLES = 82
#: groups of neurons along the probe: (centre in micrometres, standard deviation in micrometres,
#: share of all neurons, mean of the log firing rate before scaling)
_LAYERS = (
    (520.0, 160.0, 0.30, 0.9),
    (1350.0, 90.0, 0.20, 0.2),
    (1980.0, 130.0, 0.15, 1.3),
    (3050.0, 230.0, 0.35, 0.4),
)

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Sorting:
    """The output of a spike sorter. Spikes are sorted by time.

    Times are in seconds, depths in micrometres from the tip of the probe, and amplitudes in volts.
    A cluster's number is the index of its row in the cluster arrays.
    """

    spike_times: Array
    spike_clusters: Array
    spike_depths: Array
    spike_amps: Array
    cluster_depths: Array
    cluster_amps: Array
    cluster_channels: Array
    #: the time from trough to peak in milliseconds, negative if the peak is first
    cluster_peak_to_trough: Array
    #: 'good' (one neuron) or 'mua' (several neurons) for each cluster
    cluster_labels: tuple[str, ...]
    #: in micrometres, with shape (channels, 2)
    site_positions: Array


def sites(channels: int) -> Array:
    """Return the positions of the lowest recording sites of a Neuropixels 1.0 probe.

    ``channels`` is the number of recording sites. Positions are in micrometres.
    """
    index = np.arange(channels)
    x = np.array([43.0, 11.0, 59.0, 27.0])[index % 4]
    return np.column_stack([x, 20.0 * (index // 2) + 20.0])


def make_sorting(
    random: np.random.Generator,
    duration: float,
    clusters: int,
    channels: int,
    events: Array,
    mean_rate: float = 1.0,
) -> Sorting:
    """Return a sorting of ``duration`` seconds whose neurons respond to ``events``.

    ``events`` are times in seconds. ``mean_rate`` multiplies all firing rates.
    """
    positions = sites(channels)
    layer = np.sort(random.choice(len(_LAYERS), clusters, p=[share for *_, share, _ in _LAYERS]))
    scale = positions[-1, 1] / 3840.0
    centre, spread, _, log_rate = (np.array(column)[layer] for column in zip(*_LAYERS, strict=True))
    depths = np.clip(random.normal(centre, spread) * scale, 20.0, positions[-1, 1])
    # log-normal, and different in each layer
    rates = np.clip(mean_rate * random.lognormal(log_rate - 0.9, 1.1), 0.05, 25.0)
    amps = random.lognormal(np.log(1.1e-4), 0.35, clusters)
    good = random.random(clusters) < 0.6
    times, owner = _spikes(random, duration, rates, layer, events)
    drift = 12.0 * np.sin(2 * np.pi * times / 700.0) + 20.0 * times / max(duration, 1.0)
    jitter = random.normal(0.0, np.where(good, 9.0, 28.0)[owner])
    return Sorting(
        spike_times=times,
        spike_clusters=owner.astype(np.int32),
        spike_depths=np.clip(depths[owner] + drift + jitter, 0.0, positions[-1, 1] + 40.0),
        spike_amps=amps[owner] * random.lognormal(0.0, 0.12, len(times)),
        cluster_depths=depths,
        cluster_amps=amps,
        cluster_channels=np.abs(positions[:, 1] - depths[:, None]).argmin(axis=1),
        cluster_peak_to_trough=random.choice([-1.0, 1.0], clusters, p=[0.1, 0.9])
        * random.normal(np.where(random.random(clusters) < 0.25, 0.28, 0.62), 0.07),
        cluster_labels=tuple(np.where(good, "good", "mua").tolist()),
        site_positions=positions,
    )


def _spikes(
    random: np.random.Generator, duration: float, rates: Array, layer: Array, events: Array
) -> tuple[Array, Array]:
    """Return the time and the neuron of each spike, sorted by time."""
    grid = np.arange(0.0, duration + _STEP_SECONDS, _STEP_SECONDS)
    clocks = [np.cumsum(_modulation(random, grid, events)) for _ in _LAYERS]
    all_times, owners = [], []
    # each neuron is a Poisson process with a rate that the neuron's layer modulates
    for cluster, rate in enumerate(rates):
        clock = clocks[layer[cluster]]
        clock = clock * (duration / clock[-1])
        count = random.poisson(rate * duration)
        times = np.sort(np.interp(random.uniform(clock[0], clock[-1], count), clock, grid))
        # leave out a spike that follows another spike of the neuron too soon
        times = times[np.diff(times, prepend=-1.0) >= REFRACTORY_SECONDS]
        all_times.append(times)
        owners.append(np.full(len(times), cluster))
    times, owner = np.concatenate(all_times), np.concatenate(owners)
    order = np.argsort(times, kind="stable")
    return times[order], owner[order]


def _modulation(random: np.random.Generator, grid: Array, events: Array) -> Array:
    """Return a layer's relative firing rate: slow waves, noise and a response to events."""
    phase, period, gain = random.uniform(0, 6.28), random.uniform(40.0, 160.0), random.uniform(0, 3)
    slow = 1.0 + 0.35 * np.sin(2 * np.pi * grid / period + phase)
    noise = np.convolve(random.normal(0.0, 1.0, len(grid)), np.full(20, 1 / 20), mode="same")
    last = np.searchsorted(events, grid, side="right") - 1
    since = np.where(last >= 0, grid - events[np.maximum(last, 0)], np.inf)
    response = gain * np.exp(-since / 0.18) * (since > 0.04)
    return np.maximum(0.05, slow + 0.8 * noise + response)


def templates(random: np.random.Generator, sorting: Sorting, channels: Array) -> Array:
    """Return mean waveforms in volts as 4-byte floats, with shape (clusters, samples, channels).

    ``channels`` has shape (clusters, n): the indices of n recording sites for each cluster.
    """
    milliseconds = (np.arange(_SAMPLES) - 28) / 30.0
    width = np.abs(sorting.cluster_peak_to_trough)[:, None]
    trough = -np.exp(-((milliseconds / 0.13) ** 2))
    peak = 0.45 * np.exp(-(((milliseconds - width) / (0.5 * width)) ** 2))
    shape = (trough + peak) * sorting.cluster_amps[:, None]
    home = sorting.site_positions[sorting.cluster_channels][:, None, :]
    distance = np.linalg.norm(sorting.site_positions[channels] - home, axis=2)
    spatial = np.exp(-distance / 38.0)
    wave = shape[:, :, None] * spatial[:, None, :]
    noisy: Array = wave + random.normal(0.0, 4e-7, wave.shape)
    return noisy.astype(np.float32)


def nearest_channels(sorting: Sorting, count: int) -> Array:
    """Return for each cluster the indices of ``count`` recording sites, nearest first.

    These are the recording sites nearest to the cluster's own recording site.
    """
    home = sorting.site_positions[sorting.cluster_channels][:, None, :]
    distance = np.linalg.norm(sorting.site_positions[None] - home, axis=2)
    return np.argsort(distance, axis=1, kind="stable")[:, :count]


def raw_ephys(random: np.random.Generator, megabytes: int, channels: int = 384) -> bytes:
    """Return raw voltage as 2-byte integers, sample by sample: noise and a travelling wave."""
    samples = megabytes * 2**20 // (2 * channels)
    block = 2500
    noise = random.normal(0.0, 12.0, (block, channels))
    wave = 60.0 * np.sin(
        2 * np.pi * (8 * np.arange(block)[:, None] / block + np.arange(channels) / channels)
    )
    one = (noise + wave).astype(np.int16)
    repeated = np.tile(one, (samples // block + 1, 1))[:samples]
    # a random offset for each sample, so that no two blocks are the same
    gain = random.integers(0, 5, (samples, 1), dtype=np.int16)
    return (repeated + gain).tobytes()
