"""Mount a tree of files with FUSE: file operations, the daemon, and the registry of mounts."""
