"""The FUSE mount of a tree: its file operations, its daemon, and the registry of mounts."""
