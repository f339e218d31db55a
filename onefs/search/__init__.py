"""The words of a search, as a query of Alyx and as a query of the catalogue."""
