-- The catalogue: the answers of the database (Alyx), and the times of these answers.
--
-- This file is the reference for the schema. PRAGMA user_version is the version of the schema (2).
-- Times are seconds since the epoch. Unknown is not stored as absent: a listing that was never
-- fetched has no row in `listings`, even if other tables contain some rows of the listing.

-- One row for each fact about the catalogue itself: 'database' (the laboratory: its host, or
-- demo-<hash>), 'alyx_url' (the URL of the last requests), 'public_database' (the name of a database
-- without an Alyx), 'search/<name>' (a saved search).
CREATE TABLE IF NOT EXISTS facts (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- When a whole listing was last requested from Alyx. `key` is one of
--   labs | repositories | subjects/<lab> | sessions/<lab>/<subject> | datasets/<eid>
--   session/<eid> (one session, requested by its eid) | ref/<ref> | record/<eid>
--   insertions/<eid> (the session's probe insertions) | insertion/<pid> (requested by its pid)
--   news/<lab> (the lab's sessions since the cache tables were made)
-- A listing is replaced as a whole: one transaction replaces its row here and its rows in other
-- tables.
CREATE TABLE IF NOT EXISTS listings (
    key        TEXT PRIMARY KEY,
    fetched_at REAL NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS labs (
    name TEXT PRIMARY KEY
) WITHOUT ROWID;

-- data_url is '' for a repository that serves no files. personal is 1 for a rig's own disk, and 0
-- for a server. Alyx's null (tape) is stored as 1, since no file can be fetched from a rig or from
-- a tape.
CREATE TABLE IF NOT EXISTS repositories (
    name     TEXT PRIMARY KEY,
    data_url TEXT NOT NULL,
    personal INTEGER NOT NULL
) WITHOUT ROWID;

-- Two labs may have subjects with the same nickname.
CREATE TABLE IF NOT EXISTS subjects (
    lab      TEXT NOT NULL,
    nickname TEXT NOT NULL,
    PRIMARY KEY (lab, nickname)
) WITHOUT ROWID;

-- (lab, subject, date, number) is not unique, because Alyx does not enforce this. number is null
-- for base sessions, which have no folder. projects contains names joined by commas.
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
-- For look-ups by ref, because a ref has no lab. Since version 2.
CREATE INDEX IF NOT EXISTS sessions_of_ref ON sessions (subject, date, number);

-- size is null if Alyx lacks the size; probed is then the size from the file server. Both are in
-- bytes. md5 is '' if unknown. copies is JSON [[repository, url], ...], with all replicas that Alyx
-- claims. A url that starts with its repository's data_url is stored without this data_url, so
-- that the url stays valid if the server gets another URL. A dataset without a usable replica is
-- stored but not listed.
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

-- Probe insertions. record is Alyx's whole row, as JSON; fetched_at is the time of its request. The
-- table was added without a new version of the schema: an older onefs ignores it.
CREATE TABLE IF NOT EXISTS insertions (
    id         TEXT PRIMARY KEY,
    eid        TEXT NOT NULL,
    name       TEXT NOT NULL,
    fetched_at REAL NOT NULL,
    record     TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS insertions_of_session ON insertions (eid, name);

-- The whole Alyx record of a session, as JSON with sorted keys.
CREATE TABLE IF NOT EXISTS records (
    eid  TEXT PRIMARY KEY,
    body TEXT NOT NULL
) WITHOUT ROWID;

-- Invalidations (`onefs refresh`), since version 2. path is a JSON list of folders from the lab on,
-- [] for the whole tree. A listing at or below this path that is older than `at` is requested again
-- before it is shown.
CREATE TABLE IF NOT EXISTS forced (
    path TEXT PRIMARY KEY,
    at   REAL NOT NULL
) WITHOUT ROWID;

-- Sizes in bytes from file servers, for datasets that are only in cache tables
-- (cache_tables/schema.sql). A size is used while the dataset has the same hash, and rows are never
-- removed.
CREATE TABLE IF NOT EXISTS probed_sizes (
    id   TEXT NOT NULL,
    md5  TEXT NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (id, md5)
) WITHOUT ROWID;

-- Answers stored for use while the server is unreachable: the rows found by a search
-- ('search/<query>'), and the rows of a small table ('table/<endpoint>'). The rows of dataset-types
-- also give the types of file names. body is JSON. The oldest searches are removed.
CREATE TABLE IF NOT EXISTS answers (
    key        TEXT PRIMARY KEY,
    fetched_at REAL NOT NULL,
    body       TEXT NOT NULL
) WITHOUT ROWID;
