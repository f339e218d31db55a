"""The catalogue of labs, subjects, sessions and datasets, from Alyx and from cache tables."""
