-- What ONE's cache tables said: written once, whole, by a sync, and only read afterwards. A newer
-- one takes its place by a rename. The catalogue (schema.sql) lies on top of it.
--
-- This file is the reference of the schema. PRAGMA user_version holds its number (1). UUIDs are
-- their 16 bytes. Null stands for what the tables do not say.

-- 'created': when the tables were made, seconds since the epoch, never later than the sync; 1.0
-- for the tables of a release tag, which are a part of the database: whatever else is known wins.
-- 'date_created' and 'origin' (which database): the tables' own words. 'source': the file or server
-- that they came from. 'info': the server's /cache/info/ as JSON, '' for files. 'said': which of
-- default_revision and qc the tables state of every dataset; older ones have neither, or some.
CREATE TABLE facts (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- Numbered sessions only, as in the tables. projects is comma-joined.
CREATE TABLE sessions (
    row           INTEGER PRIMARY KEY,
    eid           BLOB NOT NULL UNIQUE,
    lab           TEXT NOT NULL,
    subject       TEXT NOT NULL,
    date          TEXT NOT NULL,
    number        INTEGER NOT NULL,
    task_protocol TEXT NOT NULL,
    projects      TEXT NOT NULL
);

-- Paths, each kept once (but for a few in very large tables): of datasets below their session, and
-- of folders from the lab on.
CREATE TABLE paths (
    row  INTEGER PRIMARY KEY,
    path TEXT NOT NULL
);

-- Datasets that exist. id is not unique: a dataset may stand at two paths. stored is the session's
-- folder on the file server where it is another than the session row names. digest is the bytes of
-- an md5 or sha1; qc is null for NOT_SET. What is not 'said' stands as the default and as NOT_SET.
CREATE TABLE datasets (
    session    INTEGER NOT NULL,
    id         BLOB NOT NULL,
    path       INTEGER NOT NULL,
    stored     INTEGER,
    size       INTEGER,
    digest     BLOB,
    is_default INTEGER NOT NULL,
    qc         TEXT
);
