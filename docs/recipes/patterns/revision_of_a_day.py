"""The spikes as they were on a day, and as they are."""

from onefs import ONE

one = ONE()
[eid] = one.search(subject="ZFM-01592", date_range=["2020-07-03", "2020-07-03"], number=1)
for day in ("2021-01-01", None):
    times = one.load_dataset(
        eid, "spikes.times.npy", collection="alf/probe00/pykilosort", revision=day
    )
    print(day or "now", len(times))
