"""The catalogue on disk: an SQLite file, and the cache tables laid over it."""
