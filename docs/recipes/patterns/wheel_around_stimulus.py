"""How far the wheel turns in the half second after each stimulus."""

import numpy as np

from onefs import ONE

one = ONE()
[eid] = one.search(subject="ZFM-01592", date_range=["2020-07-03", "2020-07-03"], number=1)
wheel = one.load_object(eid, "wheel", collection="alf")
trials = one.load_object(eid, "trials", collection="alf")
start = trials["stimOn_times"]
turn = np.interp(start + 0.5, wheel["timestamps"], wheel["position"]) - np.interp(
    start, wheel["timestamps"], wheel["position"]
)
for choice in (-1, 1):
    print(choice, f"{turn[trials['choice'] == choice].mean():.3f} rad")
