-- Every run of a job, from before it begins; times are microseconds since 1970 in UTC.
-- A row that has ended and is not spooled is put in the spool again at the next start.
CREATE TABLE IF NOT EXISTS job_run (
    id           TEXT PRIMARY KEY,
    job          TEXT NOT NULL,
    trigger      TEXT NOT NULL,
    state        TEXT NOT NULL,
    detail       TEXT NOT NULL DEFAULT '',
    repair       TEXT NOT NULL DEFAULT '',
    requested_at INTEGER NOT NULL,
    started_at   INTEGER,
    ended_at     INTEGER,
    spooled      INTEGER NOT NULL DEFAULT 0
);

CREATE INDEX IF NOT EXISTS job_run_by_job ON job_run (job);
CREATE INDEX IF NOT EXISTS job_run_unfinished ON job_run (spooled) WHERE spooled = 0;

-- Up to when a job's slots are dealt with: what was due later than that was missed.
CREATE TABLE IF NOT EXISTS job_slot (
    job        TEXT PRIMARY KEY,
    schedule   TEXT NOT NULL,
    handled_at INTEGER NOT NULL
);
