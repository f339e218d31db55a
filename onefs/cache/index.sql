-- The index of the store: what is known of the files in a cache folder. PRAGMA user_version is 2.
--
-- A row, not a file's name, says that a file is verified: (size, mtime_ns, inode) must still be
-- those of the file on disk, and (claimed_size, claimed_md5) those that the database claims, or
-- the file is checked again. The index can be lost: it is filled again from the records beside the
-- files (see records.py), and where those are lost too the files are verified anew by their hashes.

-- state:   'cached'      size and md5 agree with the database
--          'unverified'  the database has no md5; the size agrees where it has one
--          'accepted'    they contradict the database, and the user has accepted them as they are
--          'bad'         what the server sent contradicts the database, and reason says how. It is
--                        not fetched again while the database claims the same. path is '' or where
--                        the bytes are kept for who wants to accept them.
-- path:    relative to the cache folder.
-- ours:    1 when onefs downloaded the file, 0 when it was found there: such a file is never
--          moved, overwritten or removed.
-- used_at: seconds since the epoch.
-- boot:    '' once the bytes are known to be on the disk; else the boot id of the machine that
--          wrote them: after a power loss they would be checked again.
-- generation: that of the partial file which it grew from (see blocks.py), '' for none; then an @
--          and the file's ctime in ns as it was when its bytes were proved. Another ctime means
--          that it is hashed before it is served. An older onefs writes no @: then it is believed.
-- digest:  of the bytes, where it was computed and the database claims none or another; else ''.
CREATE TABLE IF NOT EXISTS entries (
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
    used_at      REAL NOT NULL,
    boot         TEXT NOT NULL,
    generation   TEXT NOT NULL,
    digest       TEXT NOT NULL
) WITHOUT ROWID;
-- There are few of these, and their sizes are asked for with each listing.
CREATE INDEX IF NOT EXISTS accepted ON entries (state) WHERE state = 'accepted';
