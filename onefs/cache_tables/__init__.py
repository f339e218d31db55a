"""ONE's cache tables: convert them to a SQLite file, read this file, and export it as tables."""
