"""The cache folder on disk: the files, their records, the locks, and the disk space in use."""
