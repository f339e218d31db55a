"""Try every way to write to a file, a folder and a new name; print those that are not EROFS."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

file, folder, new = sys.argv[1:]
ATTEMPTS: dict[str, Callable[[], object]] = {
    "write": lambda: os.open(file, os.O_WRONLY),
    "read and write": lambda: os.open(file, os.O_RDWR),
    "truncate on opening": lambda: os.open(file, os.O_RDONLY | os.O_TRUNC),
    "create": lambda: os.open(new, os.O_CREAT | os.O_WRONLY),
    "temporary": lambda: os.open(folder, os.O_TMPFILE | os.O_RDWR),
    "truncate": lambda: os.truncate(file, 0),
    "unlink": lambda: os.unlink(file),
    "rmdir": lambda: os.rmdir(folder),
    "mkdir": lambda: os.mkdir(new),
    "rename": lambda: os.rename(file, new),
    "link": lambda: os.link(file, new),
    "symlink": lambda: os.symlink(file, new),
    "chmod": lambda: os.chmod(file, 0o600),
    "chmod a folder": lambda: os.chmod(folder, 0o700),
    "chown": lambda: os.chown(file, os.getuid(), os.getgid()),
    "utime": lambda: os.utime(file),
    "utime to a date": lambda: os.utime(file, (1, 1)),
    "setxattr": lambda: os.setxattr(file, "user.x", b""),
    "removexattr": lambda: os.removexattr(file, "user.onefs.eid"),
}
for name, write in ATTEMPTS.items():
    try:
        write()
        print(name, "works")
    except OSError as error:
        if error.errno != errno.EROFS:
            print(name, errno.errorcode.get(error.errno or 0, error))
for path in (file, folder):
    if os.access(path, os.W_OK) or not os.access(path, os.R_OK):
        print("access", path)
