"""The content of datasets: fetched on demand, verified, cached. Does not know FUSE."""
