"""The times of the images of each camera, and how regular they are."""

import numpy as np

from onefs import ONE

one = ONE()
[eid] = one.search(subject="ZFM-01592", date_range=["2020-07-03", "2020-07-03"], number=1)
for name in one.list_datasets(eid, filename="*Camera.times*"):
    times = one.load_dataset(eid, name)
    print(name, len(times), f"{1 / np.median(np.diff(times)):.1f} Hz")
