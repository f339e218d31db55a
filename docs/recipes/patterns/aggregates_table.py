"""A table over all sessions of a mouse."""

from onefs import ONE

one = ONE()
table = one.load_aggregate("subjects", "clns0730", "_ibl_subjectSessions.table")
print(len(table), list(table))
