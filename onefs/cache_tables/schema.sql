-- The schema of the SQLite file with ONE's cache tables. A sync writes the file once, and then the
-- file is only read. A later sync writes a new file, and replaces the old file by renaming the new
-- one. A listing in the catalogue (catalogue/storage/schema.sql) is used instead of the rows in
-- this file if the listing is newer than these cache tables.
--
-- This script is the reference for the schema. PRAGMA user_version is the number of the schema (1).
-- A UUID is stored as 16 bytes. Null means that the cache tables do not contain the value.

-- The facts, by key:
-- 'created': the time at which the cache tables were made, in seconds since the epoch. It is never
-- later than the sync. It is 1.0 for the tables of a release tag: these contain only a part of the
-- database, so any listing from Alyx must be treated as newer.
-- 'date_created' and 'origin' (the name of the database): the values in the cache tables.
-- 'source': the file or server from which the cache tables came.
-- 'info': the server's answer to /cache/info/ as JSON; '' if the tables came from a file.
-- 'said': the names of those columns, among default_revision and qc, that have a value for every
-- dataset. Older cache tables have only one of these columns, or neither.
CREATE TABLE facts (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- Sessions. Only sessions with a number are stored. The names in projects are separated by commas.
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

-- Paths of datasets, relative to their session's folder, and paths of folders, beginning with the
-- lab. Each path is stored once, except for some paths in very large tables.
CREATE TABLE paths (
    row  INTEGER PRIMARY KEY,
    path TEXT NOT NULL
);

-- Datasets. Only datasets that exist are stored. id is not unique, because a dataset may have two
-- paths. session, path and stored are row numbers. stored is the path of the session's folder on
-- the file server. stored is null if this folder is the one that the session's row describes.
-- digest is an md5 (16 bytes) or a sha1 (20 bytes). qc is null for NOT_SET. A dataset without a
-- value for default_revision is stored as default. A dataset without a value for qc is stored as
-- NOT_SET.
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
