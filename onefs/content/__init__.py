"""The content of datasets, which is fetched on demand, verified and cached.

This package does not depend on FUSE.
"""
