"""The files for each kind of session: their names, collections and formats."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onefs.demo.synthetic import histology, spike_sorting
from onefs.demo.synthetic.plan import SessionKind
from onefs.demo.synthetic.recording import Recording
from onefs.demo.synthetic.seeding import generator
from onefs.demo.synthetic.spike_sorting import Sorting

Content: TypeAlias = "NDArray[Any] | str | bytes"
#: path inside the session -> the function that computes the file's content
Files = dict[str, Callable[[], Content]]


def encode(content: Content) -> bytes:
    """Return the bytes of a file. Arrays become .npy in version 1.0, text becomes UTF-8."""
    if isinstance(content, bytes):
        return content
    if isinstance(content, str):
        return content.encode()
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(content), (1, 0), allow_pickle=False)
    return buffer.getvalue()


def standard_files(recording: Recording) -> Files:
    """Return the files of a session that is not in ONE's tutorial."""
    plan = recording.plan
    files = wheel_and_licks(recording)
    if recording.has_task:
        files |= trial_files(recording) | _raw_behaviour(recording)
    if plan.kind is SessionKind.PASSIVE:
        files |= _passive(recording)
    if plan.eye:
        files |= eye(recording)
        files["alf/_ibl_leftCamera.times.npy"] = lambda: recording.eye.timestamps
    for index, probe in enumerate(plan.probes):
        for revision in ("", *plan.revisions) if index == 0 else ("",):
            files |= _probe(recording, probe, revision, plan.sorting_folder(index))
    if plan.probes:
        files["alf/probes.description.tsv"] = lambda: (
            "label\tmodel\tserial\n"
            + "".join(f"{probe}\t3B2\t19108300{n:03d}\n" for n, probe in enumerate(plan.probes))
        )
    if plan.raw_megabytes:
        files["raw_ephys_data/probe00/_spikeglx_ephysData.raw.bin"] = lambda: (
            spike_sorting.raw_ephys(generator(plan.key, "raw"), plan.raw_megabytes)
        )
    return files


def eye(recording: Recording, folder: str = "alf/") -> Files:
    """Return the files ``eye.*``, with one row for each frame."""
    return {
        f"{folder}eye.area.npy": lambda: recording.eye.area,
        f"{folder}eye.blink.npy": lambda: recording.eye.blink,
        f"{folder}eye.timestamps.npy": lambda: recording.eye.timestamps,
        f"{folder}eye.xyPos.npy": lambda: recording.eye.position,
    }


def wheel_and_licks(recording: Recording) -> Files:
    """Return the files of wheel positions and of lick times."""
    return {
        "alf/_ibl_wheel.position.npy": lambda: recording.wheel[1],
        "alf/_ibl_wheel.timestamps.npy": lambda: recording.wheel[0],
        "alf/licks.times.npy": lambda: recording.licks,
    }


def trial_files(recording: Recording) -> Files:
    """Return the files ``_ibl_trials.*``, with one row for each trial."""
    return {
        "alf/_ibl_trials.choice.npy": lambda: recording.trials.choice,
        "alf/_ibl_trials.contrastLeft.npy": lambda: recording.trials.contrast_left,
        "alf/_ibl_trials.contrastRight.npy": lambda: recording.trials.contrast_right,
        "alf/_ibl_trials.feedbackType.npy": lambda: recording.trials.feedback_type,
        "alf/_ibl_trials.feedback_times.npy": lambda: recording.trials.feedback,
        "alf/_ibl_trials.firstMovement_times.npy": lambda: recording.trials.first_movement,
        "alf/_ibl_trials.goCue_times.npy": lambda: recording.trials.go_cue,
        "alf/_ibl_trials.intervals.npy": lambda: recording.trials.intervals,
        "alf/_ibl_trials.probabilityLeft.npy": lambda: recording.trials.probability_left,
        "alf/_ibl_trials.response_times.npy": lambda: recording.trials.response,
        "alf/_ibl_trials.rewardVolume.npy": lambda: recording.trials.reward_volume,
        "alf/_ibl_trials.stimOn_times.npy": lambda: recording.trials.stim_on,
    }


def _raw_behaviour(recording: Recording) -> Files:
    folder = "raw_behavior_data/_iblrig_"
    return {
        f"{folder}taskSettings.raw.json": lambda: _settings(recording),
        f"{folder}taskData.raw.jsonable": lambda: _task_data(recording),
        f"{folder}encoderPositions.raw.ssv": lambda: _encoder(recording),
    }


def _settings(recording: Recording) -> str:
    plan = recording.plan
    settings = {
        "CONTRAST_SET": [1.0, 0.25, 0.125, 0.0625, 0.0],
        "NTRIALS": len(recording.trials.choice),
        "PYBPOD_BOARD": f"_iblrig_{plan.lab}_behavior_0",
        "PYBPOD_SUBJECTS": [plan.subject],
        "QUIESCENCE_THRESHOLDS": [-2, 2],
        "REWARD_AMOUNT": 1.5,
        "REWARD_TYPE": "Water 10% Sucrose",
        "SESSION_DATE": plan.date,
        "SESSION_NUMBER": f"{plan.number:03d}",
        "STIM_POSITIONS": [-35, 35],
    }
    return json.dumps(settings, indent=1)


def _task_data(recording: Recording) -> str:
    trials = recording.trials
    lines = []
    for number in range(len(trials.choice)):
        left = not np.isnan(trials.contrast_left[number])
        contrast = trials.contrast_left[number] if left else trials.contrast_right[number]
        row = {
            "trial_num": number + 1,
            "position": -35 if left else 35,
            "contrast": float(contrast),
            "stim_probability_left": float(trials.probability_left[number]),
            "response_time": round(float(trials.response[number] - trials.stim_on[number]), 4),
            "trial_correct": bool(trials.feedback_type[number] == 1),
            "water_delivered": float(trials.reward_volume[: number + 1].sum()),
        }
        lines.append(json.dumps(row) + "\n")
    return "".join(lines)


def _encoder(recording: Recording) -> str:
    """Return the file of wheel positions in the rotary encoder's format.

    Times are in microseconds. Angles are in degrees, multiplied by 3.1.
    """
    timestamps, position = recording.wheel
    table = np.column_stack([timestamps * 1e6, np.degrees(position) * 6.2 / 2])[::8]
    return "".join(f"Position {int(time)} {angle:.2f} \n" for time, angle in table)


def _passive(recording: Recording) -> Files:
    end = recording.duration
    edges = (0.0, 300.0, 420.0, end)
    return {
        "alf/_ibl_passivePeriods.intervalsTable.csv": lambda: (
            ",passiveProtocol,spontaneousActivity,RFM,taskReplay\n"
            f"start,{edges[0]},{edges[0]},{edges[1]},{edges[2]}\n"
            f"stop,{edges[3]},{edges[1]},{edges[2]},{edges[3]}\n"
        ),
        "alf/_ibl_passiveRFM.times.npy": lambda: np.arange(edges[1], edges[2], 1 / 60),
        "alf/spontaneous.intervals.npy": lambda: np.array([[edges[0], edges[1]]]),
    }


def _probe(recording: Recording, probe: str, revision: str, collection: str) -> Files:
    """Return the files of one spike sorting (spikes, each with its neuron) of a probe.

    If ``revision`` is given, the files of channels and templates are left out.
    """
    folder = f"{collection}/" + (f"#{revision}#/" if revision else "")

    def sorting() -> Sorting:
        return recording.sorting(probe, revision)

    files: Files = {
        f"{folder}spikes.times.npy": lambda: sorting().spike_times,
        f"{folder}spikes.clusters.npy": lambda: sorting().spike_clusters,
        f"{folder}spikes.depths.npy": lambda: sorting().spike_depths,
        f"{folder}spikes.amps.npy": lambda: sorting().spike_amps,
        f"{folder}clusters.depths.npy": lambda: sorting().cluster_depths,
        f"{folder}clusters.channels.npy": lambda: sorting().cluster_channels,
        f"{folder}clusters.peakToTrough.npy": lambda: sorting().cluster_peak_to_trough,
        f"{folder}clusters.metrics.csv": lambda: metrics(sorting(), recording.duration),
    }
    if revision:
        return files
    files[f"{folder}templates.waveforms.npy"] = lambda: spike_sorting.templates(
        generator(recording.plan.key, probe, "waveforms"),
        sorting(),
        spike_sorting.nearest_channels(sorting(), 16),
    )
    files[f"{folder}templates.waveformsChannels.npy"] = lambda: spike_sorting.nearest_channels(
        sorting(), 16
    )
    files[f"{folder}channels.localCoordinates.npy"] = lambda: sorting().site_positions
    files[f"{folder}channels.rawInd.npy"] = lambda: np.arange(len(sorting().site_positions))
    files[f"{folder}channels.mlapdv.npy"] = lambda: histology.coordinates(
        sorting().site_positions[:, 1]
    )
    files[f"{folder}channels.brainLocationIds_ccf_2017.npy"] = lambda: histology.region_ids(
        sorting().site_positions[:, 1]
    )
    return files


def metrics(sorting: Sorting, duration: float) -> str:
    """Return a table of quality measures, with one row for each cluster."""
    counts = np.bincount(sorting.spike_clusters, minlength=len(sorting.cluster_depths))
    rows = [
        f"{cluster},{counts[cluster]},{counts[cluster] / duration:.4f},{amp * 1e6:.2f},{label}\n"
        for cluster, (amp, label) in enumerate(
            zip(sorting.cluster_amps, sorting.cluster_labels, strict=True)
        )
    ]
    return "cluster_id,spike_count,firing_rate,amp_median,label\n" + "".join(rows)


def brain_location(depths: NDArray[Any]) -> str:
    """Return a table with the coordinates and the brain region of each channel.

    Coordinates are those of the Allen atlas, in micrometres. ``depths`` has the depth of each
    channel, in micrometres above the tip of the probe.
    """
    rows = []
    for depth in depths:
        region = histology.region_at(depth)
        rows.append(f"{-2000.0:.1f}\t{-4200.0 + depth:.1f}\t{-2243.1:.1f}\t{region}\n")
    return "ccf_ap\tccf_dv\tccf_lr\tallen_ontology\n" + "".join(rows)
