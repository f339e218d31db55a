"""The FUSE mount of a tree: the file operations, the daemon, and the registry of mounts."""
