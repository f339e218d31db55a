"""The voltage around a moment, of a compressed recording."""

import spikeglx

from onefs import ONE

one = ONE()
[eid] = one.search(subject="ZFM-01592", date_range=["2020-07-03", "2020-07-03"], number=1)
files = {
    kind: one.load_dataset(
        eid, f"*.ap.{kind}", collection="raw_ephys_data/probe00", download_only=True
    )
    for kind in ("ch", "meta", "cbin")
}
with spikeglx.Reader(files["cbin"]) as reader:
    voltage = reader[3_000:3_600, : -reader.nsync]
print(voltage.shape, f"{voltage.std() * 1e6:.2f} microvolts")
