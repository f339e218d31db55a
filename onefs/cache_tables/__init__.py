"""ONE's cache tables: reading, building an index of them, and writing them."""
