"""What is computed from the videos of a session's three cameras: pose, pupil, motion energy."""

from __future__ import annotations

import numpy as np

from onefs.demo.synthetic import parquet
from onefs.demo.synthetic.behaviour import Array, Eye, slow_noise

#: camera -> images per second. Those of the laboratories are two to ten times as fast
RATES_HZ = {"left": 30.0, "right": 15.0, "body": 5.0}
_FACE = ("nose_tip", "paw_l", "paw_r", "tongue_end_l", "tongue_end_r", "tube_bottom", "tube_top")
#: point at the edge of the pupil -> its place, in radii from the middle
_PUPIL = {
    "pupil_top_r": (0.0, -1.0),
    "pupil_right_r": (1.0, 0.0),
    "pupil_bottom_r": (0.0, 1.0),
    "pupil_left_r": (-1.0, 0.0),
}


def times(camera: str, eye: Eye) -> Array:
    """Return the time of each image of a camera. The left camera records the eye."""
    if camera == "left":
        return eye.timestamps
    end = float(eye.timestamps[-1])
    return np.arange(eye.timestamps[0], end, 1.0 / RATES_HZ[camera])


def pose(random: np.random.Generator, camera: str, eye: Eye) -> bytes:
    """Return the table of tracked points: x, y and likelihood of each, one row for each image."""
    count = len(times(camera, eye))
    columns: dict[str, Array] = {}
    for point in ("tail_start",) if camera == "body" else _FACE:
        place = random.uniform(60.0, 400.0, 2)
        noise = 6.0 * slow_noise(random, 2 * count, RATES_HZ[camera]).reshape(2, count)
        columns |= _columns(point, place[:, None] + noise, _likelihood(random, count))
    if camera == "left":
        radius = np.sqrt(eye.area / np.pi)
        likelihood = np.where(eye.blink, 0.2, 0.99)
        for point, side in _PUPIL.items():
            xy = 200.0 + eye.position.T + np.outer(side, radius)
            columns |= _columns(point, xy, likelihood)
    return parquet.table(columns)


def _likelihood(random: np.random.Generator, count: int) -> Array:
    return np.where(random.random(count) < 0.02, 0.5, 0.99)


def _columns(point: str, xy: Array, likelihood: Array) -> dict[str, Array]:
    x, y = np.round(xy, 1).astype(np.float32)
    return {
        f"{point}_x": x,
        f"{point}_y": y,
        f"{point}_likelihood": likelihood.astype(np.float32),
    }


def features(eye: Eye) -> bytes:
    """Return the table with the diameter of the pupil in pixels, as measured and smoothed."""
    diameter = 2.0 * np.sqrt(eye.area / np.pi)
    smooth = np.convolve(diameter, np.full(15, 1 / 15), mode="same")
    raw = np.where(eye.blink, np.nan, diameter)
    return parquet.table({"pupilDiameter_raw": raw, "pupilDiameter_smooth": smooth})


def motion_energy(random: np.random.Generator, camera: str, eye: Eye) -> Array:
    """Return how much each image differs from the image before, in a part of the picture."""
    energy = np.abs(slow_noise(random, len(times(camera, eye)), RATES_HZ[camera]))
    return (2.0 + 3.0 * energy).astype(np.float32)


def paw_states(random: np.random.Generator, camera: str, eye: Eye) -> bytes:
    """Return the table with the probability of each thing that the paws do."""
    count = len(times(camera, eye))
    moving = 1.0 / (1.0 + np.exp(-3.0 * slow_noise(random, count, RATES_HZ[camera])))
    moving = np.round(moving, 2).astype(np.float32)
    return parquet.table({"still": 1 - moving, "move": moving})
