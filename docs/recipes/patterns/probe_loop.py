"""The number of spikes of each probe of a project, one after the other."""

from onefs import ONE

one = ONE()
insertions = one.alyx.rest("insertions", "list", project="ibl_neuropixel_brainwide_01")
for insertion in sorted(insertions, key=lambda row: row["id"])[:6]:
    eid, name = one.pid2eid(insertion["id"])
    collections = one.list_collections(eid, filename="spikes*", collection=f"alf/{name}*")
    times = one.load_dataset(eid, "spikes.times.npy", collection=collections[-1])
    print(insertion["id"], name, len(times))
