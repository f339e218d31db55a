"""The trials of a session, and the spikes of one of its probes."""

from onefs import ONE

one = ONE()
[eid] = one.search(subject="ZFM-01592", date_range=["2020-07-03", "2020-07-03"], number=1)
trials = one.load_object(eid, "trials", collection="alf")
spikes = one.load_object(eid, "spikes", collection="alf/probe00/pykilosort")
print(len(trials["choice"]), "trials,", len(spikes["times"]), "spikes")
