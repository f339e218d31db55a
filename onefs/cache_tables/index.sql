-- Run this script after all rows are inserted into the tables of schema.sql. Sorting the rows once
-- at the end is faster than keeping them sorted during the inserts.
CREATE INDEX sessions_of_subject ON sessions (lab, subject, date, number);
CREATE INDEX sessions_of_ref ON sessions (subject, date, number);
CREATE INDEX datasets_of_session ON datasets (session);
CREATE TABLE subjects (
    lab      TEXT NOT NULL,
    nickname TEXT NOT NULL,
    PRIMARY KEY (lab, nickname)
) WITHOUT ROWID;
INSERT INTO subjects SELECT DISTINCT lab, subject FROM sessions;
