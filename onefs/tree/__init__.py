"""The tree of folders, datasets, links and texts that a mount shows. Independent of FUSE."""
