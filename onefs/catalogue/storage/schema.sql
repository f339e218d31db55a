-- The catalogue: what the database (Alyx) has said, and when.
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

-- When a whole listing was last taken from Alyx. `key` is one of
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

-- One nickname may stand in two labs.
CREATE TABLE IF NOT EXISTS subjects (
    lab      TEXT NOT NULL,
    nickname TEXT NOT NULL,
    PRIMARY KEY (lab, nickname)
) WITHOUT ROWID;

-- (lab, subject, date, number) is not unique: nothing in Alyx keeps it so. number is null for
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

-- size is null when Alyx does not know it; probed is what the file server said then, kept for
-- good. md5 is '' when unknown. copies is JSON [[repository, url], ...], all records that claim
-- to exist; a url that starts with its repository's data_url is stored without it, so that a
-- server which moves takes its files along. A dataset with no usable copy is kept but not listed.
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

-- What the user wants anew (`onefs refresh`), since version 2. path is a JSON list of folders from
-- the lab on, [] for everything; a listing there or below that is older than `at` is asked for
-- before it is shown.
CREATE TABLE IF NOT EXISTS forced (
    path TEXT PRIMARY KEY,
    at   REAL NOT NULL
) WITHOUT ROWID;

-- Cache tables may lie beneath this file (tables.sql). What a file server said of the size of a
-- dataset that only they know stands here, kept for good while the hash is this one.
CREATE TABLE IF NOT EXISTS probed_sizes (
    id   TEXT NOT NULL,
    md5  TEXT NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (id, md5)
) WITHOUT ROWID;

-- Answers that are kept for when the server is away: what a search found ('search/<query>') and the
-- rows of a small table ('table/<endpoint>'; those of dataset-types tell types from names of files).
-- body is JSON. Searches asked for longest ago are dropped.
CREATE TABLE IF NOT EXISTS answers (
    key        TEXT PRIMARY KEY,
    fetched_at REAL NOT NULL,
    body       TEXT NOT NULL
) WITHOUT ROWID;
