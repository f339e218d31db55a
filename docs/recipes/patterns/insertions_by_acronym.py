"""The probes that crossed a brain region, and the subjects that had them."""

from onefs import ONE

one = ONE()
insertions = one.alyx.rest("insertions", "list", atlas_acronym="CA1")
subjects = {row["session_info"]["subject"] for row in insertions}
print(len(insertions), *sorted(subjects))
print(len(one.search_insertions(atlas_acronym="CA1", query_type="remote")))
