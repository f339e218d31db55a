"""All sessions of a project, with the outcome of their quality control."""

from onefs import ONE

one = ONE()
project = "ibl_neuropixel_brainwide_01"
eids, details = one.search(project=project, details=True, query_type="remote")
print(len(eids), "sessions of", len({session["subject"] for session in details}), "subjects")
for outcome in ("NOT_SET", "PASS", "WARNING", "FAIL", "CRITICAL"):
    found = one.alyx.rest("sessions", "list", project=project, qc=outcome)
    print(outcome, len(found))
