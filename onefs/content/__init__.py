"""The store: the bytes of datasets, fetched on demand, verified, kept. Knows no FUSE."""
