"""The mount: FUSE operations over a tree, and the life of the daemon."""
