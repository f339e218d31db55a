"""The files of a session that has everything that IBL's loaders read.

Tables are in Parquet, as in releases since 2021. Without pyarrow they are left out, and the session
has the older files that they replace.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import numpy as np

from onefs.demo import alyx_rows
from onefs.demo.synthetic import compressed, parquet, spike_sorting, video
from onefs.demo.synthetic.files import Files, standard_files
from onefs.demo.synthetic.plan import SessionKind
from onefs.demo.synthetic.recording import Recording
from onefs.demo.synthetic.seeding import generator
from onefs.demo.synthetic.spike_sorting import Sorting

#: the number of recording sites that each template has
_TEMPLATE_SITES = 16
#: the columns of the table of trials; all other files of trials stay
_TABLE_COLUMNS = (
    "intervals", "goCue_times", "response_times", "choice", "stimOn_times", "contrastLeft",
    "contrastRight", "feedback_times", "feedbackType", "rewardVolume", "probabilityLeft",
    "firstMovement_times",
)  # fmt: skip


def complete_files(recording: Recording) -> Files:
    """Return the files of a session that has everything that IBL's loaders read."""
    files = standard_files(recording)
    if recording.plan.kind is SessionKind.PASSIVE:
        return files | _passive(recording)
    files |= _behaviour(recording) | _cameras(recording) | _raw_recording(recording)
    plan = recording.plan
    for revision in ("", *plan.revisions):
        files |= _sorting(recording, revision)
    # the last probe's sites have no places in the brain: they follow from Alyx's trajectory
    last = plan.sorting_folder(len(plan.probes) - 1)
    for name in ("mlapdv", "brainLocationIds_ccf_2017"):
        del files[f"{last}/channels.{name}.npy"]
    return _with_tables(recording, files) if parquet.is_available() else files


def _behaviour(recording: Recording) -> Files:
    """Return the files of trials and wheel that other sessions do not have."""
    return {
        "alf/_ibl_trials.goCueTrigger_times.npy": lambda: recording.trials.go_cue - 0.0004,
        "alf/_ibl_trials.stimOnTrigger_times.npy": lambda: recording.trials.stim_on - 0.02,
        "alf/_ibl_trials.stimOff_times.npy": lambda: recording.trials.intervals[:, 1] - 0.01,
        "alf/_ibl_trials.quiescencePeriod.npy": lambda: (
            recording.trials.stim_on - recording.trials.intervals[:, 0]
        ),
        "alf/_ibl_wheelMoves.intervals.npy": lambda: np.column_stack(
            [recording.trials.first_movement, recording.trials.response]
        ),
        "alf/_ibl_wheelMoves.peakAmplitude.npy": lambda: 0.35 * recording.trials.choice,
    }


def _cameras(recording: Recording) -> Files:
    """Return times and motion energy of each camera."""
    files: Files = {}
    for camera in video.RATES_HZ:
        files[f"alf/_ibl_{camera}Camera.times.npy"] = partial(_camera_times, recording, camera)
        files[f"alf/{camera}Camera.ROIMotionEnergy.npy"] = partial(
            _of_camera, recording, camera, "motion_energy"
        )
    return files


def _camera_times(recording: Recording, camera: str) -> Any:
    return video.times(camera, recording.eye)


def _of_camera(recording: Recording, camera: str, function: str, seed: str = "") -> Any:
    """Return what a function of :mod:`video` computes for a camera of the session."""
    random = generator(recording.plan.key, camera, seed or function)
    return getattr(video, function)(random, camera, recording.eye)


def _sorting(recording: Recording, revision: str) -> Files:
    """Return the files of the first probe's sorting that other sessions do not have."""
    plan = recording.plan
    probe, folder = plan.probes[0], plan.sorting_folder(0)
    folder += f"/#{revision}#/" if revision else "/"

    def sorting() -> Sorting:
        return recording.sorting(probe, revision)

    files: Files = {
        f"{folder}spikes.samples.npy": lambda: np.round(
            sorting().spike_times * compressed.RATE_HZ
        ).astype(np.int64),
        f"{folder}spikes.templates.npy": lambda: sorting().spike_clusters.astype(np.uint16),
        f"{folder}clusters.amps.npy": lambda: sorting().cluster_amps,
        f"{folder}clusters.uuids.csv": lambda: "uuids\n" + "".join(
            f"{alyx_rows.make_id('cluster', plan.key, probe, revision, str(number))}\n"
            for number in range(len(sorting().cluster_amps))
        ),
    }  # fmt: skip
    if not revision:
        files |= _electrode_sites(recording, probe)
        files[f"{folder}drift.times.npy"] = lambda: np.arange(0.0, recording.duration, 2.0)
        files[f"{folder}drift.um.npy"] = lambda: (
            12.0 * np.sin(2 * np.pi * np.arange(0.0, recording.duration, 2.0) / 700.0)
        )
    return files


def _electrode_sites(recording: Recording, probe: str) -> Files:
    """Return the files with the place of each site, which no sorting changes."""
    from_sorting = standard_files(recording)
    folder = recording.plan.sorting_folder(0)
    names = ("localCoordinates", "mlapdv", "brainLocationIds_ccf_2017")
    return {
        f"alf/{probe}/electrodeSites.{name}.npy": from_sorting[f"{folder}/channels.{name}.npy"]
        for name in names
    }


def _raw_recording(recording: Recording) -> Files:
    """Return a short compressed recording of the first probe, and what aligns its clock."""
    probe = recording.plan.probes[0]
    name = f"raw_ephys_data/{probe}/_spikeglx_ephysData_g0_t0.imec0"

    @lru_cache(maxsize=1)
    def recorded() -> tuple[bytes, str]:
        sorting = recording.sorting(probe, "")
        channels = spike_sorting.nearest_channels(sorting, _TEMPLATE_SITES)
        key = recording.plan.key
        waveforms = spike_sorting.templates(generator(key, probe, "waveforms"), sorting, channels)
        voltage = compressed.make_voltage(generator(key, "raw"), sorting, waveforms, channels)
        return compressed.compress(voltage)

    return {
        f"{name}.ap.cbin": lambda: recorded()[0],
        f"{name}.ap.ch": lambda: recorded()[1],
        f"{name}.ap.meta": lambda: compressed.header("19108300000"),
        f"{name}.timestamps.npy": lambda: np.array(
            [[0.0, 0.0], [recording.duration * compressed.RATE_HZ, recording.duration]]
        ),
        f"{name}.sync.npy": lambda: np.column_stack(
            [np.arange(0.05, 0.5, 0.1), np.full(5, 6.0)]
        ),
    }  # fmt: skip


def _passive(recording: Recording) -> Files:
    """Return the stimuli of a passive session: patches, sounds and squares."""
    frames = 120 * 60
    return {
        "alf/_ibl_passiveGabor.table.csv": lambda: (
            ",start,stop,position,contrast,phase\n" + "".join(
                f"{n},{430 + n:.3f},{430.3 + n:.3f},{35 - 70 * (n % 2)}.0,{0.5 ** (n % 5)},0.0\n"
                for n in range(40)
            )
        ),
        "alf/_ibl_passiveStims.table.csv": lambda: (
            ",valveOn,valveOff,toneOn,toneOff,noiseOn,noiseOff\n" + "".join(
                f"{n},{480 + n:.3f},{480.1 + n:.3f},{480.3 + n:.3f},{480.4 + n:.3f},"
                f"{480.5 + n:.3f},{481 + n:.3f}\n"
                for n in range(40)
            )
        ),
        "raw_passive_data/_iblrig_RFMapStim.raw.bin": lambda: (
            generator(recording.plan.key, "squares")
            .choice(np.array([0, 128, 255], np.uint8), (frames, 15, 15), p=[0.02, 0.96, 0.02])
            .tobytes()
        ),
    }  # fmt: skip


def _with_tables(recording: Recording, files: Files) -> Files:
    """Return the files with tables in Parquet, without the files that these replace."""
    plan = recording.plan
    for column in _TABLE_COLUMNS:
        del files[f"alf/_ibl_trials.{column}.npy"]
    files["alf/_ibl_trials.table.pqt"] = lambda: _trials_table(recording)
    files["alf/_ibl_leftCamera.features.pqt"] = lambda: video.features(recording.eye)
    for camera in video.RATES_HZ:
        pose = partial(_of_camera, recording, camera, "pose")
        files[f"alf/_ibl_{camera}Camera.dlc.pqt"] = pose
        if camera != "body":
            files[f"alf/_ibl_{camera}Camera.lightningPose.pqt"] = partial(pose, "lightningPose")
            files[f"alf/lightningaction/_ibl_{camera}Camera.pawstates.pqt"] = partial(
                _of_camera, recording, camera, "paw_states"
            )
    for revision in ("", *plan.revisions):
        folder = plan.sorting_folder(0) + (f"/#{revision}#" if revision else "")
        sorting = partial(recording.sorting, plan.probes[0], revision)
        del files[f"{folder}/clusters.metrics.csv"]
        files[f"{folder}/clusters.metrics.pqt"] = partial(_metrics, recording, sorting)
        files[f"{folder}/passingSpikes.table.pqt"] = partial(_passing_spikes, sorting)
    return files


def _trials_table(recording: Recording) -> bytes:
    trials = recording.trials
    return parquet.table(
        {
            "intervals_0": trials.intervals[:, 0],
            "intervals_1": trials.intervals[:, 1],
            "goCue_times": trials.go_cue,
            "response_times": trials.response,
            "choice": trials.choice.astype(float),
            "stimOn_times": trials.stim_on,
            "contrastLeft": trials.contrast_left,
            "contrastRight": trials.contrast_right,
            "feedback_times": trials.feedback,
            "feedbackType": trials.feedback_type.astype(float),
            "rewardVolume": trials.reward_volume,
            "probabilityLeft": trials.probability_left,
            "firstMovement_times": trials.first_movement,
        }
    )


def _metrics(recording: Recording, make: Any) -> bytes:
    """Return the quality of each cluster, as a table. A label of 1 is a good cluster."""
    sorting: Sorting = make()
    counts = np.bincount(sorting.spike_clusters, minlength=len(sorting.cluster_amps))
    good = np.array(sorting.cluster_labels) == "good"
    return parquet.table(
        {
            "cluster_id": np.arange(len(counts)),
            "amp_median": sorting.cluster_amps,
            "firing_rate": counts / recording.duration,
            "spike_count": counts,
            "ks2_label": sorting.cluster_labels,
            "label": np.where(good, 1.0, 1 / 3),
        }
    )


def _passing_spikes(make: Any) -> bytes:
    """Return the spikes of good clusters, as a table."""
    sorting: Sorting = make()
    good = np.array(sorting.cluster_labels) == "good"
    kept = good[sorting.spike_clusters]
    return parquet.table(
        {
            "times": sorting.spike_times[kept],
            "clusters": sorting.spike_clusters[kept],
            "depths": sorting.spike_depths[kept].astype(np.float32),
            "amps": sorting.spike_amps[kept].astype(np.float32),
        }
    )
