-- The catalogue: what the database (Alyx) has said, and when.
--
-- This file is the reference of the schema. PRAGMA user_version holds its number (1).
-- Times are seconds since the epoch. Nothing unknown is stored as absent: a listing that was
-- never fetched has no row in `listings`, whatever rows the other tables hold.

-- One row for each fact about the catalogue itself: 'database' (which laboratory this is: its
-- host, or demo-<hash>) and 'alyx_url' (where it was last asked).
CREATE TABLE IF NOT EXISTS facts (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- When a whole listing was last taken from Alyx. `key` is one of
--   labs | repositories | subjects/<lab> | sessions/<lab>/<subject> | datasets/<eid>
--   session/<eid> (one session, known by its eid alone) | ref/<ref> | record/<eid>
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

-- What follows is data, one row a table.
PRAGMA user_version = 1;
INSERT INTO facts VALUES ('created', '1700000000.0');
INSERT INTO labs VALUES ('mainenlab');
INSERT INTO repositories VALUES ('flatiron_mainenlab', 'http://h/', 0);
INSERT INTO subjects VALUES ('mainenlab', 'clns0730');
INSERT INTO sessions VALUES ('cf264653-2deb-44cb-aa84-89b82507028a', 'mainenlab', 'clns0730', '2018-08-24', 1, 1535068800.0, '', '');
INSERT INTO datasets VALUES ('18619a05-41c1-4ec1-9aee-e01fc22ca10b', 'cf264653-2deb-44cb-aa84-89b82507028a', 'spikes.times.npy', 'alf', '', 'spikes.times', NULL, 48128, '', 1, 'NOT_SET', 1.0, '[["flatiron_mainenlab", "x.npy"]]');
INSERT INTO records VALUES ('cf264653-2deb-44cb-aa84-89b82507028a', '{}
');
INSERT INTO listings VALUES ('labs', 1700000000.0), ('datasets/cf264653-2deb-44cb-aa84-89b82507028a', 1700000000.0);
