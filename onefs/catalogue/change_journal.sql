-- The journal of changes: what each sync has changed in the cache tables. This file is the reference
-- for the schema. PRAGMA user_version is the version of the schema (1). Times are seconds since the
-- epoch. UUIDs are 16 bytes. Unchanged rows of the tables take no space here.

-- One row for each sync that was compared with the sync before it. The first row has no changes: the
-- journal begins with its tables. `created` is when the tables were made, and `tables` identifies the
-- file that the sync has written.
CREATE TABLE IF NOT EXISTS syncs (
    number  INTEGER PRIMARY KEY,
    created REAL NOT NULL,
    tables  TEXT NOT NULL
);

-- The sessions that a sync has changed, with their columns in the tables. change is added, removed,
-- changed, or '' if only datasets of the session were changed.
CREATE TABLE IF NOT EXISTS sessions (
    sync          INTEGER NOT NULL,
    lab           TEXT NOT NULL,
    subject       TEXT NOT NULL,
    date          TEXT NOT NULL,
    number        INTEGER NOT NULL,
    eid           BLOB NOT NULL,
    change        TEXT NOT NULL,
    task_protocol TEXT NOT NULL,
    projects      TEXT NOT NULL,
    PRIMARY KEY (sync, lab, subject, date, number, eid)
) WITHOUT ROWID;

-- The datasets that a sync has changed. path is null if the dataset was removed, old_path is null if
-- it was added, and neither is null if it was replaced.
CREATE TABLE IF NOT EXISTS datasets (
    sync       INTEGER NOT NULL,
    eid        BLOB NOT NULL,
    id         BLOB NOT NULL,
    path       TEXT,
    size       INTEGER,
    digest     BLOB,
    old_path   TEXT,
    old_size   INTEGER,
    old_digest BLOB
);
CREATE INDEX IF NOT EXISTS datasets_of_session ON datasets (sync, eid);
