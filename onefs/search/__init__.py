"""Searches for sessions: the terms of a query, in Alyx and in the catalogue."""
