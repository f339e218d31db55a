"""The cache folder on disk: files, their records, locks, and use of space."""
