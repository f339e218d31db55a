-- The catalogue: the answers of the database (Alyx), and their times.
--
-- This file is the reference of the schema. PRAGMA user_version holds its number (2).
-- Times are seconds since the epoch. Nothing unknown is stored as absent: a listing that was
-- never fetched has no row in `listings`, whatever rows the other tables hold.

-- One row for each fact about the catalogue itself: 'database' (which laboratory this is: its
-- host, or demo-<hash>), 'alyx_url' (where it was last asked), 'search/<name>' (a saved search).
CREATE TABLE IF NOT EXISTS facts (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- When a whole listing was last requested from Alyx. `key` is one of
--   labs | repositories | subjects/<lab> | sessions/<lab>/<subject> | datasets/<eid>
--   session/<eid> (one session, known by its eid alone) | ref/<ref> | record/<eid>
--   news/<lab> (the lab's sessions since its cache tables were made)
-- A listing is replaced whole, in one transaction with the rows it names.
CREATE TABLE IF NOT EXISTS listings (
    key        TEXT PRIMARY KEY,
    fetched_at REAL NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS labs (
    name TEXT PRIMARY KEY
) WITHOUT ROWID;

-- data_url is '' for a repository that serves nothing. personal: 1 for a rig's own disk, 0 for a
-- server; Alyx's null (tape) is stored as 1, since neither can be fetched from.
CREATE TABLE IF NOT EXISTS repositories (
    name     TEXT PRIMARY KEY,
    data_url TEXT NOT NULL,
    personal INTEGER NOT NULL
) WITHOUT ROWID;

-- Two labs may have the same nickname.
CREATE TABLE IF NOT EXISTS subjects (
    lab      TEXT NOT NULL,
    nickname TEXT NOT NULL,
    PRIMARY KEY (lab, nickname)
) WITHOUT ROWID;

-- (lab, subject, date, number) is not unique: Alyx does not enforce it. number is null for
-- base sessions, which have no folder. projects is comma-joined.
CREATE TABLE IF NOT EXISTS sessions (
    eid           TEXT PRIMARY KEY,
    lab           TEXT NOT NULL,
    subject       TEXT NOT NULL,
    date          TEXT NOT NULL,
    number        INTEGER,
    start_time    REAL NOT NULL,
    task_protocol TEXT NOT NULL,
    projects      TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sessions_of_subject ON sessions (lab, subject, date, number);
-- A ref names no lab. Since version 2.
CREATE INDEX IF NOT EXISTS sessions_of_ref ON sessions (subject, date, number);

-- size is null if Alyx lacks it; probed is then the size from the file server, kept for good.
-- md5 is '' if unknown. copies is JSON [[repository, url], ...], all replicas that Alyx claims; a url
-- that starts with its repository's data_url is stored without it, so that it stays valid when the
-- server moves. A dataset without a usable replica is kept but not listed.
CREATE TABLE IF NOT EXISTS datasets (
    id           TEXT PRIMARY KEY,
    eid          TEXT NOT NULL,
    name         TEXT NOT NULL,
    collection   TEXT NOT NULL,
    revision     TEXT NOT NULL,
    dataset_type TEXT NOT NULL,
    size         INTEGER,
    probed       INTEGER,
    md5          TEXT NOT NULL,
    is_default   INTEGER NOT NULL,
    qc           TEXT NOT NULL,
    mtime        REAL NOT NULL,
    copies       TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS datasets_of_session ON datasets (eid);

-- The whole Alyx record of a session, as JSON with sorted keys.
CREATE TABLE IF NOT EXISTS records (
    eid  TEXT PRIMARY KEY,
    body TEXT NOT NULL
) WITHOUT ROWID;

-- Invalidations (`onefs refresh`), since version 2. path is a JSON list of folders from the lab on,
-- [] for everything; a listing there or below that is older than `at` is requested before it is
-- shown.
CREATE TABLE IF NOT EXISTS forced (
    path TEXT PRIMARY KEY,
    at   REAL NOT NULL
) WITHOUT ROWID;

-- Sizes from file servers of datasets that are only in cache tables (cache_tables/schema.sql), kept
-- for good while the hash is the same.
CREATE TABLE IF NOT EXISTS probed_sizes (
    id   TEXT NOT NULL,
    md5  TEXT NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (id, md5)
) WITHOUT ROWID;

-- Answers stored for when the server is unreachable: the rows of a search ('search/<query>') and of a
-- small table ('table/<endpoint>'; those of dataset-types also imply the types of file names).
-- body is JSON. The oldest searches are dropped.
CREATE TABLE IF NOT EXISTS answers (
    key        TEXT PRIMARY KEY,
    fetched_at REAL NOT NULL,
    body       TEXT NOT NULL
) WITHOUT ROWID;
