"""The catalogue: what exists, by SQLite and Alyx. Knows no files and no FUSE."""
