-- The index of the store: what is known of the files in a cache folder. PRAGMA user_version is 1.
--
-- A row, not a file's name, says that a file is verified: (size, mtime_ns, inode) must still be
-- those of the file on disk, and (claimed_size, claimed_md5) those that the database claims, or
-- the file is checked again. The index can be lost: files are then verified anew by their hashes.

-- state:   'cached'      size and md5 agree with the database
--          'unverified'  the database has no md5; the size agrees where it has one
--          'bad'         what the server sent contradicts the database; no file is kept, path is
--                        '', and reason says what was wrong. It is not fetched again while the
--                        database claims the same.
-- path:    relative to the cache folder.
-- ours:    1 when onefs downloaded the file, 0 when it was found there: such a file is never
--          moved, overwritten or removed.
-- used_at: seconds since the epoch.
CREATE TABLE IF NOT EXISTS files (
    dataset_id   TEXT PRIMARY KEY,
    path         TEXT NOT NULL,
    size         INTEGER NOT NULL,
    mtime_ns     INTEGER NOT NULL,
    inode        INTEGER NOT NULL,
    claimed_size INTEGER,
    claimed_md5  TEXT NOT NULL,
    state        TEXT NOT NULL,
    reason       TEXT NOT NULL,
    ours         INTEGER NOT NULL,
    used_at      REAL NOT NULL
) WITHOUT ROWID;
