"""The same trials again, without the server."""

from onefs import ONE

one = ONE()
one.load_cache()
[eid] = one.search(subject="ZFM-01592", date_range=["2020-07-03", "2020-07-03"], number=1)
first = one.load_object(eid, "trials", collection="alf")
one = ONE(mode="local")
again = one.load_object(eid, "trials", collection="alf")
print(len(first["choice"]), (first["choice"] == again["choice"]).all())
