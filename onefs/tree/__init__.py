"""Names to nodes: the folders, datasets, links and texts that users see. Knows no FUSE."""
