"""The tree of folders, datasets, links and texts. It finds the node of a path, without FUSE."""
