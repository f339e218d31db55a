-- ONE's cache tables: written once by a sync, and only read afterwards. A newer file replaces it by a
-- rename. The catalogue (catalogue/storage/schema.sql) is read on top of it.
--
-- This file is the reference of the schema. PRAGMA user_version holds its number (1). UUIDs are
-- their 16 bytes. Null is a value that the tables do not state.

-- 'created': when the tables were made, seconds since the epoch, never later than the sync; 1.0
-- for the tables of a release tag, which are a part of the database, so that any listing from Alyx
-- is newer. 'date_created' and 'origin' (the database's name): as in the tables. 'source': the file or
-- server that they came from. 'info': the server's /cache/info/ as JSON, '' for files. 'said': the
-- columns among default_revision and qc that the tables state for every dataset; older ones state
-- neither, or one.
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

-- Paths, each stored once (except some in very large tables): of datasets below their session, and
-- of folders from the lab on.
CREATE TABLE paths (
    row  INTEGER PRIMARY KEY,
    path TEXT NOT NULL
);

-- Datasets that exist. id is not unique: a dataset may have two paths. stored is the session's
-- folder on the file server if it is not that of the session's row. digest is the bytes of an md5 or
-- sha1; qc is null for NOT_SET. Columns that are not 'said' are stored as default and as NOT_SET.
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
