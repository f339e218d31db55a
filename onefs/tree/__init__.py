"""The tree of folders, datasets, links and texts: from paths to nodes, independent of FUSE."""
