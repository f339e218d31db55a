"""Load a session's spikes through the mount, print what they are, and plot them.

usage: show_spikes.py SESSION_FOLDER PICTURE
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np


def main(session: Path, picture: Path) -> None:
    """Raster of the first 60 s, and the firing rate over depth."""
    times = np.load(session / "spikes.times.npy")
    depths = np.load(session / "spikes.depths.npy")
    clusters = np.load(session / "spikes.clusters.npy")
    print(
        f"{len(times):,} spikes of {len(np.unique(clusters))} clusters in {times[-1]:.0f} s, "
        f"at depths of {depths.min():.0f} to {depths.max():.0f} um"
    )

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (raster, rate) = plt.subplots(1, 2, width_ratios=(4, 1), sharey=True, figsize=(10, 5))
    early = times < 60
    raster.plot(times[early], depths[early], ",k")
    raster.set(xlabel="time (s)", ylabel="depth (um)", title="spikes of the first minute")
    counts, edges = np.histogram(depths, bins=60)
    rate.stairs(counts / times[-1], edges, orientation="horizontal", color="k")
    rate.set(xlabel="spikes a second")
    figure.tight_layout()
    figure.savefig(picture, dpi=100)
    print(f"a picture of them is in {picture}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
