"""Small helpers for the operating system: files, locks, processes, SQLite."""
