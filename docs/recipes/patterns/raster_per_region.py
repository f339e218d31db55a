"""The spikes of each brain region: how many in each second of a minute."""

import numpy as np

from onefs import ONE

one = ONE()
[eid] = one.search(subject="ZFM-01592", date_range=["2020-07-03", "2020-07-03"], number=1)
collection = "alf/probe00/pykilosort"
spikes = one.load_object(eid, "spikes", collection=collection, attribute=["times", "clusters"])
clusters = one.load_object(eid, "clusters", collection=collection, attribute="channels")
regions = one.load_dataset(eid, "channels.brainLocationIds_ccf_2017", collection=collection)
region_of_spike = regions[clusters["channels"]][spikes["clusters"]]
for region in np.unique(region_of_spike):
    counts, _ = np.histogram(spikes["times"][region_of_spike == region], np.arange(61.0))
    print(region, counts.sum(), counts.max())
