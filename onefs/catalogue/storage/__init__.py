"""The catalogue on disk: an SQLite file, read together with cache tables."""
