"""The sessions of a laboratory as a DataFrame."""

import pandas as pd

from onefs import ONE

one = ONE()
eids, details = one.search(lab="cortexlab", details=True, query_type="remote")
frame = pd.DataFrame([dict(each) for each in details], index=map(str, eids))
print(frame.shape[0], *sorted(frame["subject"].unique()))
print(frame.groupby("task_protocol").size().to_string())
