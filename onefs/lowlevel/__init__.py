"""Small things of the operating system: files, locks, processes, SQLite."""
